namespace NormLayers.Internals.Kernels;

/// <summary>The forward of groups of at least 64 elements that are computed in float: floats, and 16-bit elements on their way through registers.</summary>
/// <remarks>
/// <para>
/// y = ((x - hi) - lo) · rstd · weight + bias, each operation rounded by itself, where hi + lo is the mean in two parts: the offset
/// of a group costs no digits. lo is left out where lo · rstd is at most 2^-26, which costs less than the rounding it saves.
/// Element by element, so neither the vector width nor the place in memory can change a bit; whether lo is taken off depends on the group alone.
/// </para>
/// <para>
/// Error: six roundings, less than 4 ulp at the largest of |y|, |weight|, |bias| and |weight · n|, n being the
/// normalized value. Where 1/deviation is so large or small that products could leave float's range, the group is computed in double.
/// </para>
/// <para>
/// The sums over a group that fits the first-level cache beside the next one are taken before the group in front of it is written:
/// what folds them, a root and a division then wait for nobody.
/// </para>
/// </remarks>
internal static unsafe partial class RowNorm
{
    /// <summary>The longest group whose sums are taken one group ahead.</summary>
    private const nint MostAheadLength = 8192;

    /// <summary>From here on even groups that begin off a line are streamed.</summary>
    private const nint LeastPartedLength = 512;

    /// <summary>Up to here lo · rstd does not show, in floats, in what is rounded to 16 bits, or in float terms of 16-bit elements.</summary>
    private const double LeastLow = 1.0 / (1 << 26), LeastLowOfSixteenBits = 1.0 / (1 << 20), LeastLowOfTerms = 1.0 / (1 << 24);

    /// <summary>What a group's elements are normalized with; 1/deviation is NaN where it has to be done in double.</summary>
    /// <remarks>It is set field by field, and never copied between groups: a copy loads more at once than was stored, and waits until that is in the cache.</remarks>
    internal struct FloatScale
    {
        internal double Lo, Rstd;
        internal float Hi;

        internal FloatScale(in GroupStatistics group) => Set(in group);

        internal void Set(in GroupStatistics group) => Set(group.ScaledMean, group.ScaledMeanLow, group.ScaledRstd);

        internal void Set(double mean, double meanLow, double rstd)
        {
            Hi = Elements.ToSingle(mean);
            Lo = mean - Elements.ToDouble(Hi) + meanLow;
            Rstd = Elements.IsOrdinary<float>(rstd) ? rstd : double.NaN;
        }

        /// <summary>The forward's scale, from the statistics that it saved: without the lower part of the mean, where that was found afterwards.</summary>
        internal void SetOfForward(in GroupStatistics group, nint length)
        {
            bool inFloat = length >= Moments.LeastFloatLength && Moments.AreExactInFloat(group.ScaledMean, group.Variance);
            Set(group.ScaledMean, inFloat ? 0 : group.ScaledMeanLow, group.ScaledRstd);
        }

        internal void Take(in FloatScale other)
        {
            Lo = other.Lo;
            Rstd = other.Rstd;
            Hi = other.Hi;
        }

        /// <summary>Whether leaving lo out would show in a result; or in terms of the weight's gradient, which near the mean are small, and so is what may be wrong with them.</summary>
        internal readonly bool NeedsLo<T>(bool ofTerms = false) where T : unmanaged
            => Math.Abs(Lo) * Rstd > (SixteenBits.Is<T>() ? (ofTerms ? LeastLowOfTerms : LeastLowOfSixteenBits) : ofTerms ? 0 : LeastLow);
    }

    private struct FloatApply<T, TResult>
        where T : unmanaged
        where TResult : unmanaged
    {
        internal T* X;
        internal TResult* Y;
        internal float* Weight, Bias;
        internal nint Run;
        internal Streaming Stream;
        internal FloatScale Scale;

        /// <summary>The group's statistics; set only where the scale is NaN.</summary>
        internal GroupStatistics Exact;
        internal bool Activated, Paired;

        internal FloatApply(in ForwardWork<T, float> work)
        {
            Run = work.Weight == null && work.Bias == null && work.Layout.Run != 1 ? work.Layout.Length : work.Layout.Run;
            Stream = work.Stream;
            Activated = work.Activated;
            Paired = work.Paired;
        }

        internal void MoveTo(in ForwardWork<T, float> work, nint g)
        {
            nint first = work.Layout.FirstParameter(g);
            X = work.X + g * work.Layout.Length;
            Y = (TResult*)(work.Y + g * work.Layout.Length);
            Weight = work.Weight == null ? null : work.Weight + first;
            Bias = work.Bias == null ? null : work.Bias + first;
        }
    }

    private static void ForwardFloats<T>(in ForwardWork<T, float> groups, nint start, nint end) where T : unmanaged
    {
        ForwardWork<T, float> work = groups;
        nint first = work.Layout.FirstParameter(start), count = CanBePaired(in work, end - start) ? work.Layout.FirstParameter(end - 1) + work.Layout.Length - first : 0;
        using var memory = new RentedDoubles(count == 0 ? 0 : count + 8);
        fixed (double* paired = memory.Span)
        {
            if (count > 0)
                Pair(ref work, first, count, (float*)(((nint)paired + 63) & ~63));
            ForwardInOrder(in work, start, end);
        }
    }

    /// <summary>Whether it pays to bring the parameters into the order in which 16-bit elements are taken with fewer steps.</summary>
    private static bool CanBePaired<T>(in ForwardWork<T, float> work, nint groups) where T : unmanaged
        => sizeof(T) == 2 && work.Layout.Run == 1 && (work.Layout.Period == 1 || work.Layout.Repeat >= LeastAlignedGroups) && work.Layout.Length % 64 == 0 && !work.Activated && work.GroupThreads == 1
            && groups >= LeastAlignedGroups && (!work.Stream.Wanted || (nint)work.Y % 32 == 0) && (work.Weight != null || work.Bias != null);

    private static void Pair<T>(ref ForwardWork<T, float> work, nint first, nint count, float* memory) where T : unmanaged
    {
        work.Weight = Pair(work.Weight, memory - first, first, count);
        work.Bias = Pair(work.Bias, memory + count - first, first, count);
        work.Paired = true;
    }

    private static float* Pair(float* source, float* destination, nint first, nint count)
    {
        if (source == null)
            return null;
        for (nint i = first; i < first + count; i++)
            destination[InPairs(i)] = source[i];
        return destination;
    }

    /// <summary>Where an element's parameter is: of 32, first those of even index, then those of odd.</summary>
    private static nint InPairs(nint i) => (i & ~31) + ((i & 1) << 4) + ((i & 31) >> 1);

    private static void ForwardInOrder<T>(in ForwardWork<T, float> work, nint start, nint end) where T : unmanaged
    {
        if (IsPipelined(in work) && work.Layout.Statistic == RowStatistic.MeanSquare)
            ForwardPipelined<T, Moments.AboutZero>(in work, start, end);
        else if (IsPipelined(in work))
            ForwardPipelined<T, Moments.AboutMean>(in work, start, end);
        else
            ForwardOneByOne(in work, start, end);
        if (work.Stream.Wanted)
            Streaming.Fence();
    }

    private static void ForwardOneByOne<T>(in ForwardWork<T, float> work, nint start, nint end) where T : unmanaged
    {
        nint length = work.Layout.Length;
        bool ahead = length <= MostAheadLength && work.GroupThreads == 1;
        FloatScale next = default;
        SetScale(in work, start, ref next);
        var apply = new FloatApply<T, T>(in work);
        if (ahead)
            apply.Stream = work.Stream.WithAhead(2 * work.Stream.Ahead);
        for (nint g = start; g < end; g++)
        {
            apply.MoveTo(in work, g);
            apply.Scale.Take(in next);
            if (double.IsNaN(next.Rstd))
                apply.Exact = StatisticsOf(in work, g);
            if (ahead && g + 1 < end)
                SetScale(in work, g + 1, ref next);
            Partition.Run(length, work.GroupThreads, &Apply<T>, &apply);
            if (!ahead && g + 1 < end)
                SetScale(in work, g + 1, ref next);
        }
    }

    private static void SetScale<T>(in ForwardWork<T, float> work, nint g, ref FloatScale scale) where T : unmanaged
    {
        T* x = work.X + g * work.Layout.Length;
        // Nearly always, and without a structure between the sums and what waits for them.
        if (work.GroupThreads == 1 && work.Layout.Statistic == RowStatistic.MeanSquare && Moments.TryOfFloats<T, Moments.AboutZero>(x, work.Layout.Length, out double mean, out double variance))
            SetScale(in work, g, mean, variance, ref scale);
        else if (work.GroupThreads == 1 && work.Layout.Centered && Moments.TryOfFloats<T, Moments.AboutMean>(x, work.Layout.Length, out mean, out variance))
            SetScale(in work, g, mean, variance, ref scale);
        else
            scale.Set(StatisticsOf(in work, g));
    }

    /// <summary>The scale of a group with these moments, if float was good enough for them.</summary>
    private static void SetScale<T>(in ForwardWork<T, float> work, nint g, double mean, double variance, ref FloatScale scale) where T : unmanaged
    {
        if (!Moments.AreExactInFloat(mean, variance))
        {
            scale.Set(StatisticsOf(in work, g));
            return;
        }
        if (work.Statistics != null)
            Save(in work, g, new Moments(mean, 0, variance));
        scale.Set(mean, 0, 1 / Math.Sqrt(variance + work.Eps));
    }

    /// <summary>Saves a group's statistics, with a mean that is good enough for values near it, as the weight's gradient needs them.</summary>
    private static void Save<T, TParameter>(in ForwardWork<T, TParameter> work, nint g, in Moments moments)
        where T : unmanaged
        where TParameter : unmanaged
    {
        nint length = work.Layout.Length;
        work.Statistics[g] = new GroupStatistics(work.Layout.Centered ? moments.WithMeanOf(work.X + g * length, length, work.GroupThreads) : moments, work.Eps, zeroDeviation: work.Layout.Statistic == RowStatistic.MeanAndVarianceOrZero);
    }
}
