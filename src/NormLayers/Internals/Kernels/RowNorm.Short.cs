using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace NormLayers.Internals.Kernels;

/// <summary>Groups of fewer than 64 floats, sixteen at once.</summary>
/// <remarks>
/// <para>
/// Order: element i of a group goes to lane i mod 8 of a vector of doubles, which is folded by halves. Nothing depends on which groups are at hand together.
/// </para>
/// <para>
/// Error: the sums are of d = x - x[0] and d² in double, and n · E[d]² is taken off. Since x[0] is itself one of the n values, that costs at most
/// six bits of 53.
/// </para>
/// </remarks>
internal static unsafe partial class RowNorm
{
    private const int Lanes = 16, TileLength = (Moments.LeastFloatLength - 1) * Lanes;

    /// <summary>How far ahead of the writing short rows are asked for.</summary>
    private const int PrefetchedElements = 2048;

    [SkipLocalsInit]
    private static void ForwardShort<T>(in ForwardWork<T, float> work, nint start, nint end) where T : unmanaged
    {
        int length = (int)work.Layout.Length;
        // Vectors are loaded and stored beyond the end of a row.
        float* tile = stackalloc float[TileLength + Lanes], result = stackalloc float[TileLength + Lanes], weights = stackalloc float[TileLength + Lanes], biases = stackalloc float[TileLength + Lanes];
        float* scales = stackalloc float[3 * Lanes];
        double* moments = stackalloc double[4 * Lanes];
        // With one period every group has the same parameters.
        bool same = work.Layout.Period == 1, whole = length % Lanes == 0;
        Streaming stream = typeof(T) == typeof(float) && whole && (nint)work.Y % 64 == 0 ? work.Stream : default;
        for (nint g = start; g < end; g += Lanes)
        {
            int lanes = (int)Math.Min(Lanes, end - g);
            if (g == start || !same)
            {
                SpreadParameters(work.Weight, in work.Layout, g, same ? 1 : lanes, 1, weights);
                SpreadParameters(work.Bias, in work.Layout, g, same ? 1 : lanes, -0f, biases);
            }
            T* x = work.X + g * length, y = work.Y + g * length;
            // A vector may reach into the next rows, which are written later, unless they are other threads' or still to be read.
            bool direct = typeof(T) == typeof(float) && (whole || (work.X != work.Y && (end - g - lanes) * length >= Lanes));
            var rows = new ShortRows { Length = length, Lanes = lanes, Y = direct ? (float*)y : result, YStride = length, Weights = weights, Biases = biases, ParameterStride = same ? 0 : length, Activated = work.Activated };
            rows.X = RowsOf(x, length, lanes, length, (work.Layout.Groups - g - lanes + 1) * length, tile, out rows.XStride);
            if (work.Layout.Statistic == RowStatistic.Given)
                LoadStatistics(work.Statistics + g, 1, lanes, moments);
            else
                LaneMoments(in rows, work.Layout.Centered, work.Eps, moments);
            for (int lane = 0; lane < lanes && work.Statistics != null && work.Layout.Statistic != RowStatistic.Given; lane++)
                work.Statistics[g + lane] = LaneStatistics(in work, moments, lane);
            rows.Left = SetScales(moments, scales, out bool needsLo) & ((1u << lanes) - 1);
            if (needsLo)
                ApplyRows<MeanInTwo>(in rows, scales, stream);
            else
                ApplyRows<MeanInOne>(in rows, scales, stream);
            for (int lane = 0; rows.Left != 0; lane++, rows.Left >>= 1)
            {
                if ((rows.Left & 1) != 0)
                    ApplyInDouble(work.Layout.Statistic == RowStatistic.Given ? work.Statistics[g + lane] : LaneStatistics(in work, moments, lane), x + lane * length, in work, g + lane, rows.Y + lane * length);
            }
            if (!direct)
                StoreRows(result, length, lanes, length, y);
        }
        if (stream.Wanted)
            Streaming.Fence();
    }

    /// <summary>Up to sixteen rows of floats, their results, and the parameters of each element of a row.</summary>
    private struct ShortRows
    {
        internal float* X, Dy, Y, Weights, Biases;
        internal nint XStride, DyStride, YStride, ParameterStride;
        internal int Length, Lanes;

        /// <summary>The rows that have to be done in double, a bit for each.</summary>
        internal uint Left;
        internal bool Activated;
    }

    /// <summary>Normalizes elements by the formula of RowNorm.Float.cs.</summary>
    /// <remarks>What a vector stores beyond its row is overwritten: the ends of rows come first, and rows in their order.</remarks>
    private static void ApplyRows<TMean>(in ShortRows rows, float* scales, Streaming stream) where TMean : struct, IMean
    {
        for (nint i = (rows.Length - 1) & -Lanes; i >= 0; i -= Lanes)
        {
            float* x = rows.X + i, y = rows.Y + i, weights = rows.Weights + i, biases = rows.Biases + i;
            for (int lane = 0; lane < rows.Lanes; lane++, x += rows.XStride, y += rows.YStride, weights += rows.ParameterStride, biases += rows.ParameterStride)
            {
                Streaming.Prefetch(in *x, PrefetchedElements);
                if ((rows.Left >> lane & 1) != 0)
                    continue;
                Vector512<float> v = TMean.Without(Vector512.Load(x), Vector512.Create(scales[lane]), Vector512.Create(scales[Lanes + lane])) * Vector512.Create(scales[2 * Lanes + lane]);
                v = v * Vector512.Load(weights) + Vector512.Load(biases);
                stream.StoreAligned(rows.Activated ? VectorMath.SiLU<float, float>(v) : v, y);
            }
        }
    }

    /// <summary>Mean in two parts and 1/deviation of sixteen groups, as floats. Returned: a bit for each that has to be done in double.</summary>
    private static uint SetScales(double* moments, float* scales, out bool needsLo)
    {
        Vector512<double> rstd0 = Vector512.Load(moments + 3 * Lanes), rstd1 = Vector512.Load(moments + 3 * Lanes + 8);
        (Vector512<double> lo0, Vector512<double> lo1) = SplitMeans(moments, scales);
        Vector512<float> lo = Vector512.Narrow(LowOf(lo0, rstd0), LowOf(lo1, rstd1));
        lo.Store(scales + Lanes);
        Vector512.Narrow(rstd0, rstd1).Store(scales + 2 * Lanes);
        // Taking off zero changes nothing.
        needsLo = !Vector512.EqualsAll(lo, Vector512<float>.Zero);
        return ~OrdinaryLanes(rstd0, rstd1);

        static Vector512<double> LowOf(Vector512<double> low, Vector512<double> rstd)
            => Vector512.ConditionalSelect(Vector512.GreaterThan(Vector512.Abs(low) * rstd, Vector512.Create(LeastLow)), low, Vector512<double>.Zero);
    }

    /// <summary>Stores the upper parts of sixteen means as floats, and returns what these lack.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector512<double> Lower, Vector512<double> Upper) SplitMeans(double* moments, float* scales)
    {
        Vector512<double> mean0 = Vector512.Load(moments), mean1 = Vector512.Load(moments + 8);
        Vector512<float> hi = Vector512.Narrow(mean0, mean1);
        hi.Store(scales);
        (Vector512<double> hi0, Vector512<double> hi1) = Vector512.Widen(hi);
        return ((mean0 - hi0) + Vector512.Load(moments + Lanes), (mean1 - hi1) + Vector512.Load(moments + Lanes + 8));
    }

    /// <summary>A bit for each 1/deviation with which products of floats stay in range.</summary>
    private static uint OrdinaryLanes(Vector512<double> rstd0, Vector512<double> rstd1)
    {
        return Of(rstd0) | Of(rstd1) << 8;

        static uint Of(Vector512<double> rstd)
            => (uint)(Vector512.GreaterThan(rstd, Vector512.Create(Elements.LeastFloatRstd)) & Vector512.LessThan(rstd, Vector512.Create(Elements.LargestFloatRstd))).ExtractMostSignificantBits();
    }

    /// <summary>The moments of groups that lie so far apart, in the order of <see cref="LaneMoments"/>.</summary>
    private static void LoadStatistics(GroupStatistics* groups, nint stride, int lanes, double* moments)
    {
        for (int lane = 0; lane < lanes; lane++, groups += stride)
            (moments[lane], moments[Lanes + lane], moments[2 * Lanes + lane], moments[3 * Lanes + lane]) = (groups->ScaledMean, groups->ScaledMeanLow, groups->ScaledVariance, groups->ScaledRstd);
    }

    /// <summary>The parameters of some groups to the places of their elements.</summary>
    private static void SpreadParameters(float* parameters, in RowLayout layout, nint group, int lanes, float absent, float* destination)
    {
        int count = (int)layout.GroupParameters, run = (int)layout.Run;
        for (int lane = 0; lane < lanes; lane++, destination += count * run)
        {
            if (parameters == null)
            {
                Fill(absent, count * run, destination);
                continue;
            }
            float* first = parameters + layout.FirstParameter(group + lane);
            if (run == 1)
                new Span<float>(first, count).CopyTo(new Span<float>(destination, count));
            for (int p = 0; p < count && run > 1; p++)
                Fill(first[p], run, destination + p * run);
        }
        // What lies beyond is computed with too.
        Vector512<float>.Zero.Store(destination);

        static void Fill(float value, int length, float* destination)
        {
            for (int i = 0; i < length; i += Lanes)
                Vector512.Create(value).Store(destination + i);
        }
    }

    /// <summary>A group at the ends of float's range, or with NaN.</summary>
    private static void ApplyInDouble<T>(in GroupStatistics group, T* x, in ForwardWork<T, float> work, nint g, float* y) where T : unmanaged
    {
        int length = (int)work.Layout.Length;
        var apply = new FloatApply<T, float>(in work) { Exact = group };
        apply.MoveTo(in work, g);
        apply.X = x;
        apply.Y = y;
        apply.Scale.Set(in group);
        Apply(in apply, 0, length);
        if (work.Activated)
            SiLU(y, y, length, default);
    }

    private static GroupStatistics LaneStatistics<T>(in ForwardWork<T, float> work, double* moments, int lane) where T : unmanaged
        => new(new Moments(moments[lane], moments[Lanes + lane], moments[2 * Lanes + lane]), work.Eps, zeroDeviation: work.Layout.Statistic == RowStatistic.MeanAndVarianceOrZero);

    /// <summary>Rows as floats, behind each of which a vector may be loaded: where they are, if so many elements may be read from the last row's first on, or a copy without gaps.</summary>
    private static float* RowsOf<T>(T* source, nint stride, int lanes, int length, nint left, float* copy, out nint rowStride) where T : unmanaged
    {
        rowStride = stride;
        if (typeof(T) == typeof(float) && left >= ((length + Lanes - 1) & -Lanes))
            return (float*)source;
        rowStride = length;
        if (stride == length)
            (length, lanes) = (length * lanes, 1);
        for (int lane = 0; lane < lanes; lane++)
        {
            if (typeof(T) == typeof(float))
                new Span<float>(source + lane * stride, length).CopyTo(new Span<float>(copy + lane * length, length));
            else
                SixteenBits.Widen(source + lane * stride, copy + lane * length, length);
        }
        Vector512<float>.Zero.Store(copy + lanes * length);
        return copy;
    }

    /// <summary>Rows of floats without gaps to where they belong.</summary>
    private static void StoreRows<T>(float* rows, int length, int lanes, nint stride, T* destination) where T : unmanaged
    {
        if (stride == length)
            (length, lanes) = (length * lanes, 1);
        for (int lane = 0; lane < lanes; lane++)
        {
            if (typeof(T) == typeof(float))
                new Span<float>(rows + lane * length, length).CopyTo(new Span<float>(destination + lane * stride, length));
            else
                SixteenBits.Narrow(rows + lane * length, destination + lane * stride, length, stream: false);
        }
    }

    /// <summary>Mean, its low part, variance and 1/deviation of every group.</summary>
    [SkipLocalsInit]
    private static void LaneMoments(in ShortRows rows, bool centered, double eps, double* moments)
    {
        double* sums = stackalloc double[8 * Lanes], squares = stackalloc double[8 * Lanes];
        float* x = rows.X;
        int length = rows.Length, whole = length & -8;
        Vector512<double> counted = Vector512.LessThan(Vector512<double>.Indices, Vector512.Create((double)(length & 7)));
        for (int lane = 0; lane < rows.Lanes; lane++, x += rows.XStride)
        {
            Vector512<double> from = centered ? Elements.Broadcast(x) : default, sum = default, square = default;
            for (int i = 0; i < whole; i += 8)
            {
                Vector512<double> d = Elements.LoadDoubles(x + i) - from;
                sum += d;
                square += d * d;
            }
            if (whole < length)
            {
                Vector512<double> d = (Elements.LoadDoubles(x + whole) - from) & counted;
                sum += d;
                square += d * d;
            }
            moments[lane] = from.ToScalar();
            sum.Store(sums + 8 * lane);
            square.Store(squares + 8 * lane);
        }
        for (int half = 0; half < rows.Lanes; half += 8)
            StoreMoments(FoldEight(sums + 8 * half), FoldEight(squares + 8 * half), Vector512.Load(moments + half), length, centered, eps, moments + half);
    }

    /// <summary>The sums of eight vectors, each folded by halves.</summary>
    private static Vector512<double> FoldEight(double* vectors)
    {
        if (!Avx512F.IsSupported)
        {
            Vector512<double> sums = default;
            for (int i = 0; i < 8; i++)
                ((double*)&sums)[i] = Moments.Fold(Vector512.Load(vectors + 8 * i));
            return sums;
        }
        Vector512<double> even = FoldFour(vectors), odd = FoldFour(vectors + 8);
        return Avx512F.UnpackLow(even, odd) + Avx512F.UnpackHigh(even, odd);

        // Two sums of every second vector.
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static Vector512<double> FoldFour(double* vectors)
            => FoldPairs(FoldPair(Vector512.Load(vectors), Vector512.Load(vectors + 16)), FoldPair(Vector512.Load(vectors + 32), Vector512.Load(vectors + 48)));

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static Vector512<double> FoldPair(Vector512<double> a, Vector512<double> b) => Avx512F.Shuffle4x128(a, b, 0x44) + Avx512F.Shuffle4x128(a, b, 0xEE);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static Vector512<double> FoldPairs(Vector512<double> ab, Vector512<double> cd) => Avx512F.Shuffle4x128(ab, cd, 0x88) + Avx512F.Shuffle4x128(ab, cd, 0xDD);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreMoments(Vector512<double> sum, Vector512<double> squares, Vector512<double> from, int length, bool centered, double eps, double* moments)
    {
        // Divisions are what most of the time would go into.
        Vector512<double> share = Vector512.Create(1.0 / length), deviation = sum * share, mean = default, low = default;
        if (centered)
        {
            mean = from + deviation;
            Vector512<double> part = mean - from;
            low = (from - (mean - part)) + (deviation - part);
            squares -= sum * deviation;
        }
        Vector512<double> variance = squares * share;
        mean.Store(moments);
        low.Store(moments + Lanes);
        variance.Store(moments + 2 * Lanes);
        (Vector512<double>.One / Vector512.Sqrt(variance + Vector512.Create(eps))).Store(moments + 3 * Lanes);
    }
}
