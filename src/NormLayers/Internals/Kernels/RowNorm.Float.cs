using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

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

    /// <summary>Up to here lo · rstd does not show.</summary>
    private const double LeastLow = 1.0 / (1 << 26);

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

        /// <summary>Whether leaving lo out would show.</summary>
        internal readonly bool NeedsLo => Math.Abs(Lo) * Rstd > LeastLow;
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
        using var memory = new RentedDoubles(CanBePaired(in work, end - start) ? work.Layout.Length + 8 : 0);
        fixed (double* first = memory.Span)
        {
            if (first != null)
                Pair(ref work, (float*)(((nint)first + 63) & ~63));
            ForwardInOrder(in work, start, end);
        }
    }

    /// <summary>Whether it pays to bring the parameters into the order in which 16-bit elements are taken with fewer steps.</summary>
    private static bool CanBePaired<T>(in ForwardWork<T, float> work, nint groups) where T : unmanaged
        => sizeof(T) == 2 && work.Layout.Run == 1 && work.Layout.Period == 1 && work.Layout.Length % 64 == 0 && !work.Activated && work.GroupThreads == 1
            && groups >= LeastAlignedGroups && (!work.Stream.Wanted || (nint)work.Y % 32 == 0) && (work.Weight != null || work.Bias != null);

    private static void Pair<T>(ref ForwardWork<T, float> work, float* memory) where T : unmanaged
    {
        work.Weight = Paired(work.Weight, memory, work.Layout.Length);
        work.Bias = Paired(work.Bias, memory + work.Layout.Length, work.Layout.Length);
        work.Paired = true;

        static float* Paired(float* source, float* destination, nint length)
        {
            if (source == null)
                return null;
            for (nint i = 0; i < length; i++)
                destination[InPairs(i)] = source[i];
            return destination;
        }
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

    private static void Apply<T>(void* state, nint start, nint end) where T : unmanaged
    {
        ref readonly FloatApply<T, T> work = ref *(FloatApply<T, T>*)state;
        if (work.Activated)
            ApplyActivated(in work, start, end);
        else
            Apply(in work, start, end);
    }

    private static void Apply<T, TResult>(in FloatApply<T, TResult> work, nint start, nint end)
        where T : unmanaged
        where TResult : unmanaged
    {
        if (work.Run == 1)
        {
            ApplyElements(in work, start, end - start);
            return;
        }
        nint p = start / work.Run, runEnd = (p + 1) * work.Run;
        for (nint i = start; i < end; p++, runEnd += work.Run)
        {
            nint length = Math.Min(runEnd, end) - i;
            float weight = work.Weight == null ? 1 : work.Weight[p], bias = work.Bias == null ? -0f : work.Bias[p];
            if (double.IsNaN(work.Scale.Rstd))
                ApplyInDouble(in work, i, length, p, 0);
            else if (work.Scale.NeedsLo)
                ApplyRun<T, TResult, MeanInTwo>(work.X + i, work.Y + i, length, weight, bias, work.Scale.Hi, Elements.ToSingle(work.Scale.Lo), Elements.ToSingle(work.Scale.Rstd), work.Stream);
            else
                ApplyRun<T, TResult, MeanInOne>(work.X + i, work.Y + i, length, weight, bias, work.Scale.Hi, Elements.ToSingle(work.Scale.Lo), Elements.ToSingle(work.Scale.Rstd), work.Stream);
            i += length;
        }
    }

    private static void ApplyElements<T, TResult>(in FloatApply<T, TResult> work, nint start, nint length)
        where T : unmanaged
        where TResult : unmanaged
    {
        if (double.IsNaN(work.Scale.Rstd))
            ApplyInDouble(in work, start, length, start, 1);
        else if (work.Scale.NeedsLo)
            ApplyElements<T, TResult, MeanInTwo>(in work, start, length);
        else if (work.Scale.Hi != 0)
            ApplyElements<T, TResult, MeanInOne>(in work, start, length);
        else
            ApplyElements<T, TResult, NoMean>(in work, start, length);
    }

    private static void ApplyElements<T, TResult, TMean>(in FloatApply<T, TResult> work, nint start, nint length)
        where T : unmanaged
        where TResult : unmanaged
        where TMean : struct, IMean
    {
        if (work.Paired)
            ApplyElements<T, TResult, TMean, Paired>(in work, start, length);
        else
            ApplyElements<T, TResult, TMean, Natural>(in work, start, length);
    }

    private static void ApplyElements<T, TResult, TMean, TOrder>(in FloatApply<T, TResult> work, nint start, nint length)
        where T : unmanaged
        where TResult : unmanaged
        where TMean : struct, IMean
        where TOrder : struct, IOrder
    {
        T* x = work.X + start;
        TResult* y = work.Y + start;
        float* weight = work.Weight == null ? null : work.Weight + start, bias = work.Bias == null ? null : work.Bias + start;
        float hi = work.Scale.Hi, lo = Elements.ToSingle(work.Scale.Lo), rstd = Elements.ToSingle(work.Scale.Rstd);
        if (weight == null && bias == null)
            Apply<T, TResult, TMean, Absent, Absent, TOrder>(x, y, length, weight, bias, hi, lo, rstd, work.Stream);
        else if (weight == null)
            Apply<T, TResult, TMean, Absent, Each, TOrder>(x, y, length, weight, bias, hi, lo, rstd, work.Stream);
        else if (bias == null)
            Apply<T, TResult, TMean, Each, Absent, TOrder>(x, y, length, weight, bias, hi, lo, rstd, work.Stream);
        else
            Apply<T, TResult, TMean, Each, Each, TOrder>(x, y, length, weight, bias, hi, lo, rstd, work.Stream);
    }

    private static void Apply<T, TResult, TMean, TWeight, TBias, TOrder>(T* x, TResult* y, nint length, float* weight, float* bias, float hi, float lo, float rstd, Streaming stream)
        where T : unmanaged
        where TResult : unmanaged
        where TMean : struct, IMean
        where TWeight : struct, IParameter
        where TBias : struct, IParameter
        where TOrder : struct, IOrder
    {
        if (length < Vector512<float>.Count)
        {
            ApplyFew<T, TResult, TMean, TWeight, TBias, TOrder>(x, y, (int)length, weight, bias, hi, lo, rstd);
            return;
        }
        Vector512<float> his = Vector512.Create(hi), los = Vector512.Create(lo), rstds = Vector512.Create(rstd);
        // The last vector may overlap the one before it, and in place its elements are needed as they were.
        nint end = length - Vector512<float>.Count, i = 0;
        Vector512<float> last = Of(x, end, weight, bias, his, los, rstds);
        if (stream.Wanted)
        {
            i = Streaming.Head(ref *y, length);
            if (i > 0)
                Elements.StoreFloats(Of(x, 0, weight, bias, his, los, rstds), y, 0);
        }
        for (; i <= length - 64; i += 64)
        {
            Streaming.Prefetch(in *x, i + stream.Ahead);
            Streaming.Prefetch(in *x, i + stream.Ahead + 16);
            Streaming.Prefetch(in *x, i + stream.Ahead + 32);
            Streaming.Prefetch(in *x, i + stream.Ahead + 48);
            ApplyPairs<T, TResult, TMean, TWeight, TBias, TOrder>(x, y, i, weight, bias, his, los, rstds, stream);
            ApplyPairs<T, TResult, TMean, TWeight, TBias, TOrder>(x, y, i + 32, weight, bias, his, los, rstds, stream);
        }
        for (; i <= end; i += Vector512<float>.Count)
            stream.StoreFloats(Of(x, i, weight, bias, his, los, rstds), y, i);
        if (i < length)
            Elements.StoreFloats(last, y, end);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static Vector512<float> Of(T* x, nint i, float* weight, float* bias, Vector512<float> his, Vector512<float> los, Vector512<float> rstds)
            => TBias.Plus(TWeight.Times(TMean.Without(Elements.LoadFloats(x, i), his, los) * rstds, weight, i), bias, i);
    }

    /// <summary>Fewer than 16 elements, the end of what a thread was given: copied to where a vector may be loaded.</summary>
    [SkipLocalsInit]
    private static void ApplyFew<T, TResult, TMean, TWeight, TBias, TOrder>(T* x, TResult* y, int length, float* weight, float* bias, float hi, float lo, float rstd)
        where T : unmanaged
        where TResult : unmanaged
        where TMean : struct, IMean
        where TWeight : struct, IParameter
        where TBias : struct, IParameter
        where TOrder : struct, IOrder
    {
        T* xs = stackalloc T[16];
        TResult* ys = stackalloc TResult[16];
        float* weights = stackalloc float[16], biases = stackalloc float[16];
        new Span<T>(x, length).CopyTo(new Span<T>(xs, 16));
        if (weight != null)
            new Span<float>(weight, length).CopyTo(new Span<float>(weights, 16));
        if (bias != null)
            new Span<float>(bias, length).CopyTo(new Span<float>(biases, 16));
        Apply<T, TResult, TMean, TWeight, TBias, TOrder>(xs, ys, 16, weights, biases, hi, lo, rstd, default);
        new Span<TResult>(ys, length).CopyTo(new Span<TResult>(y, length));
    }

    /// <summary>Normalizes 32 elements, in an order in which the parameters are too.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void ApplyPairs<T, TResult, TMean, TWeight, TBias, TOrder>(T* x, TResult* y, nint i, float* weight, float* bias, Vector512<float> his, Vector512<float> los, Vector512<float> rstds, Streaming stream)
        where T : unmanaged
        where TResult : unmanaged
        where TMean : struct, IMean
        where TWeight : struct, IParameter
        where TBias : struct, IParameter
        where TOrder : struct, IOrder
    {
        (Vector512<float> a, Vector512<float> b) = TOrder.IsPaired ? Elements.LoadPairs(x, i) : (Elements.LoadFloats(x, i), Elements.LoadFloats(x, i + 16));
        a = TBias.Plus(TWeight.Times(TMean.Without(a, his, los) * rstds, weight, i), bias, i);
        b = TBias.Plus(TWeight.Times(TMean.Without(b, his, los) * rstds, weight, i + 16), bias, i + 16);
        if (TOrder.IsPaired)
        {
            stream.StorePairs(a, b, y, i);
            return;
        }
        stream.StoreFloats(a, y, i);
        stream.StoreFloats(b, y, i + 16);
    }

    /// <summary>The same operations with one weight and one bias for the run.</summary>
    internal static void ApplyRun<T, TResult, TMean>(T* x, TResult* y, nint length, float weight, float bias, float hi, float lo, float rstd, Streaming stream)
        where T : unmanaged
        where TResult : unmanaged
        where TMean : struct, IMean
    {
        if (length < Vector512<float>.Count)
        {
            ApplyFewOfRun<T, TResult, TMean>(x, y, (int)length, weight, bias, hi, lo, rstd);
            return;
        }
        Vector512<float> his = Vector512.Create(hi), los = Vector512.Create(lo), rstds = Vector512.Create(rstd), weights = Vector512.Create(weight), biases = Vector512.Create(bias);
        nint end = length - Vector512<float>.Count, i = 0;
        Vector512<float> last = Of(x, end, weights, biases, his, los, rstds);
        if (stream.Wanted)
        {
            i = Streaming.Head(ref *y, length);
            if (i > 0)
                Elements.StoreFloats(Of(x, 0, weights, biases, his, los, rstds), y, 0);
        }
        for (; i <= length - 64; i += 64)
        {
            Streaming.Prefetch(in *x, i + stream.Ahead);
            Streaming.Prefetch(in *x, i + stream.Ahead + 16);
            Streaming.Prefetch(in *x, i + stream.Ahead + 32);
            Streaming.Prefetch(in *x, i + stream.Ahead + 48);
            OfPairs(x, y, i, weights, biases, his, los, rstds, stream);
            OfPairs(x, y, i + 32, weights, biases, his, los, rstds, stream);
        }
        for (; i <= end; i += Vector512<float>.Count)
            stream.StoreFloats(Of(x, i, weights, biases, his, los, rstds), y, i);
        if (i < length)
            Elements.StoreFloats(last, y, end);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static Vector512<float> Of(T* x, nint i, Vector512<float> weights, Vector512<float> biases, Vector512<float> his, Vector512<float> los, Vector512<float> rstds)
            => TMean.Without(Elements.LoadFloats(x, i), his, los) * rstds * weights + biases;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static void OfPairs(T* x, TResult* y, nint i, Vector512<float> weights, Vector512<float> biases, Vector512<float> his, Vector512<float> los, Vector512<float> rstds, Streaming stream)
        {
            if (sizeof(T) != sizeof(TResult))
            {
                stream.StoreFloats(Of(x, i, weights, biases, his, los, rstds), y, i);
                stream.StoreFloats(Of(x, i + 16, weights, biases, his, los, rstds), y, i + 16);
                return;
            }
            (Vector512<float> a, Vector512<float> b) = Elements.LoadPairs(x, i);
            stream.StorePairs(TMean.Without(a, his, los) * rstds * weights + biases, TMean.Without(b, his, los) * rstds * weights + biases, y, i);
        }
    }

    [SkipLocalsInit]
    private static void ApplyFewOfRun<T, TResult, TMean>(T* x, TResult* y, int length, float weight, float bias, float hi, float lo, float rstd)
        where T : unmanaged
        where TResult : unmanaged
        where TMean : struct, IMean
    {
        T* xs = stackalloc T[16];
        TResult* ys = stackalloc TResult[16];
        new Span<T>(x, length).CopyTo(new Span<T>(xs, 16));
        ApplyRun<T, TResult, TMean>(xs, ys, 16, weight, bias, hi, lo, rstd, default);
        new Span<TResult>(ys, length).CopyTo(new Span<TResult>(y, length));
    }

    /// <summary>The same formula in double on scaled values, for groups at the ends of float's range and for NaN.</summary>
    private static void ApplyInDouble<T, TResult>(in FloatApply<T, TResult> work, nint start, nint length, nint parameter, nint parameterStride)
        where T : unmanaged
        where TResult : unmanaged
    {
        for (nint i = 0; i < length; i++)
        {
            double v = work.Exact.Normalize(Elements.ToDouble(work.X[start + i]));
            nint p = parameter + i * parameterStride;
            if (work.Paired)
                p = InPairs(p);
            if (work.Weight != null)
                v *= work.Weight[p];
            if (work.Bias != null)
                v += work.Bias[p];
            // One NaN for all machines: its sign, and whose payload an operation passes on, is up to the processor.
            work.Y[start + i] = Elements.FromDouble<TResult>(double.IsNaN(v) ? double.NaN : v);
        }
    }

    /// <summary>What is taken off an element: nothing, the mean's upper part, or both parts.</summary>
    internal interface IMean
    {
        static abstract Vector512<float> Without(Vector512<float> x, Vector512<float> hi, Vector512<float> lo);
    }

    private readonly struct NoMean : IMean
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Without(Vector512<float> x, Vector512<float> hi, Vector512<float> lo) => x;
    }

    internal readonly struct MeanInOne : IMean
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Without(Vector512<float> x, Vector512<float> hi, Vector512<float> lo) => x - hi;
    }

    internal readonly struct MeanInTwo : IMean
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Without(Vector512<float> x, Vector512<float> hi, Vector512<float> lo) => x - hi - lo;
    }

    /// <summary>A weight or a bias: none, or one for each element.</summary>
    private interface IParameter
    {
        static abstract Vector512<float> Times(Vector512<float> v, float* parameter, nint i);

        static abstract Vector512<float> Plus(Vector512<float> v, float* parameter, nint i);
    }

    private readonly struct Absent : IParameter
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Times(Vector512<float> v, float* parameter, nint i) => v;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Plus(Vector512<float> v, float* parameter, nint i) => v;
    }

    private readonly struct Each : IParameter
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Times(Vector512<float> v, float* parameter, nint i) => v * Vector512.Load(parameter + i);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Plus(Vector512<float> v, float* parameter, nint i) => v + Vector512.Load(parameter + i);
    }

    /// <summary>The order in which elements are taken: their own, or that of <see cref="Elements.LoadPairs"/>, which for floats is the same.</summary>
    private interface IOrder
    {
        static abstract bool IsPaired { get; }
    }

    private readonly struct Natural : IOrder
    {
        public static bool IsPaired => false;
    }

    private readonly struct Paired : IOrder
    {
        public static bool IsPaired => true;
    }
}
