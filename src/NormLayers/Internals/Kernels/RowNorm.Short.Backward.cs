using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace NormLayers.Internals.Kernels;

/// <summary>The backward of groups of fewer than 64 floats, sixteen at once: each has a lane of its own, and the sums run down a transposed tile.</summary>
/// <remarks>
/// <para>
/// Order: a group's elements in rising order; a parameter's terms go to the lane of their group, from eight tiles in float and then in double, and the
/// sixteen lanes are folded by halves when all groups of a block are done. Nothing depends on which groups share a tile.
/// </para>
/// <para>
/// Error: as in RowNorm.Backward.Float.cs; where much of g cancels, which groups of fewer than 24 do too often to try anything else, all of it is in double and rounded once.
/// </para>
/// </remarks>
internal static unsafe partial class RowNorm
{
    /// <summary>In shorter groups so much cancels, so often, that float would be tried in vain.</summary>
    private const int LeastShortFloatLength = 24;

    /// <summary>The tiles whose terms of the parameters' gradients are added up in float.</summary>
    private const int MostTiles = 8;

    /// <summary>The groups at one place of the period: their input gradients, and their terms of the parameters' gradients.</summary>
    [SkipLocalsInit]
    private static void BackwardShort<T>(in BackwardWork<T, float> work, nint place, nint firstPeriod, nint endPeriod, Span<double> weightSums, Span<double> biasSums) where T : unmanaged
    {
        int length = (int)work.Layout.Length, parameters = (int)work.Layout.GroupParameters;
        float* dy = stackalloc float[TileLength], x = stackalloc float[TileLength], exact = stackalloc float[2 * TileLength], weights = stackalloc float[TileLength], rows = stackalloc float[TileLength];
        float* floatWeightTerms = stackalloc float[TileLength], floatBiasTerms = stackalloc float[TileLength];
        double* weightTerms = stackalloc double[TileLength], biasTerms = stackalloc double[TileLength], moments = stackalloc double[3 * Lanes];
        bool inFloat = length >= LeastShortFloatLength;
        int tiles = 0;
        new Span<double>(weightTerms, parameters * Lanes).Clear();
        new Span<double>(biasTerms, parameters * Lanes).Clear();
        GatherWeights(work.Weight, in work.Layout, work.Layout.GroupAt(0, place), weights);
        nint stride = work.Layout.PeriodStride * length;
        for (nint period = firstPeriod; period < endPeriod; period += Lanes)
        {
            int lanes = (int)Math.Min(Lanes, endPeriod - period);
            nint first = work.Layout.GroupAt(period, place);
            // A lane without a group is all zeros, and so adds nothing to the sums.
            if (lanes < Lanes)
            {
                new Span<float>(dy, length * Lanes).Clear();
                new Span<float>(x, length * Lanes).Clear();
            }
            new Span<double>(moments, 3 * Lanes).Clear();
            for (int lane = 0; lane < lanes; lane++)
            {
                ref readonly GroupStatistics group = ref work.Statistics[first + lane * work.Layout.PeriodStride];
                (moments[lane], moments[Lanes + lane], moments[2 * Lanes + lane]) = (group.ScaledMean, group.ScaledMeanLow, group.ScaledRstd);
            }
            Gather(work.X + first * length, stride, lanes, length, x, rows);
            if (work.Activated)
            {
                // The gradient of what SiLU was applied to, which is made again.
                for (int lane = 0; lane < lanes; lane++)
                {
                    nint g = first + lane * work.Layout.PeriodStride;
                    Normalize(in work, g, rows + lane * length);
                    SiLUBackward(work.Dy + g * length, rows + lane * length, length);
                }
                Gather(rows, length, lanes, length, dy);
            }
            else
                Gather(work.Dy + first * length, stride, lanes, length, dy, rows);
            if (inFloat && tiles == 0)
            {
                new Span<float>(floatWeightTerms, parameters * Lanes).Clear();
                new Span<float>(floatBiasTerms, parameters * Lanes).Clear();
            }
            if (!inFloat)
                BackwardLanes(dy, x, length, in work.Layout, moments, weights, weightTerms, biasTerms);
            else if (!BackwardLanesInFloat(dy, x, exact, length, in work.Layout, moments, weights, floatWeightTerms, floatBiasTerms, out Vector512<float> left))
            {
                BackwardLanes(exact, exact + length * Lanes, length, in work.Layout, moments, weights, weightTerms, biasTerms);
                for (int i = 0; i < length * Lanes; i += Lanes)
                    Vector512.ConditionalSelect(left, Vector512.Load(exact + i), Vector512.Load(dy + i)).Store(dy + i);
            }
            if (inFloat && (++tiles == MostTiles || period + Lanes >= endPeriod))
            {
                for (int i = 0; i < parameters * Lanes; i += Lanes)
                {
                    AddTo(weightTerms + i, Vector512.Load(floatWeightTerms + i));
                    AddTo(biasTerms + i, Vector512.Load(floatBiasTerms + i));
                }
                tiles = 0;
            }
            if (work.Dx != null)
                Scatter(dy, length, lanes, stride, work.Dx + first * length, rows);
            for (int lane = 0; lane < lanes; lane++)
                AddGradSum(in work, first + lane * work.Layout.PeriodStride);
        }
        for (int p = 0; p < weightSums.Length; p++)
            weightSums[p] = Moments.Fold(Vector512.Load(weightTerms + p * Lanes) + Vector512.Load(weightTerms + p * Lanes + 8));
        for (int p = 0; p < biasSums.Length; p++)
            biasSums[p] = Moments.Fold(Vector512.Load(biasTerms + p * Lanes) + Vector512.Load(biasTerms + p * Lanes + 8));
    }

    /// <summary>
    /// As <see cref="BackwardLanes"/>, for the lanes in which float will do: a good part of g is left, and nothing is out of range (see RowNorm.Backward.Float.cs).
    /// False if there are others: they count for nothing, and their elements are alone in a copy, behind which are those of x.
    /// </summary>
    private static bool BackwardLanesInFloat(float* dy, float* x, float* copy, int length, in RowLayout layout, double* moments, float* weights, float* weightTerms, float* biasTerms, out Vector512<float> left)
    {
        Vector512<double> mean0 = Vector512.Load(moments), mean1 = Vector512.Load(moments + 8), rstd0 = Vector512.Load(moments + 2 * Lanes), rstd1 = Vector512.Load(moments + 2 * Lanes + 8);
        Vector512<float> hi = Vector512.Narrow(mean0, mean1), rstd = Vector512.Narrow(rstd0, rstd1), s = default, p = default, q = default;
        (Vector512<double> hi0, Vector512<double> hi1) = Vector512.Widen(hi);
        Vector512<double> lo0 = (mean0 - hi0) + Vector512.Load(moments + Lanes), lo1 = (mean1 - hi1) + Vector512.Load(moments + Lanes + 8);
        int run = (int)layout.Run;
        for (int i = 0, parameter = 0, toGo = run; i < length; i++)
        {
            Vector512<float> g = Vector512.Load(dy + i * Lanes) * Vector512.Load(weights + parameter);
            s += g;
            p += g * (Vector512.Load(x + i * Lanes) - hi);
            q += g * g;
            if (--toGo == 0)
                (toGo, parameter) = (run, parameter + Lanes);
        }
        (Vector512<double> s0, Vector512<double> s1) = Vector512.Widen(s);
        (Vector512<double> p0, Vector512<double> p1) = Vector512.Widen(p);
        (Vector512<double> q0, Vector512<double> q1) = Vector512.Widen(q);
        Vector512<double> in0 = AreInFloat(ref s0, p0, q0, lo0, rstd0, length, in layout, out p0), in1 = AreInFloat(ref s1, p1, q1, lo1, rstd1, length, in layout, out p1);
        Vector512<float> lo = Vector512.Narrow(lo0, lo1), mean = Vector512.Narrow(s0, s1), product = Vector512.Narrow(p0, p1);
        left = ~Vector512.Narrow(in0.AsInt64(), in1.AsInt64()).AsSingle();
        bool all = Vector512.EqualsAll(left.AsInt32(), Vector512<int>.Zero);
        if (!all)
        {
            (hi, lo, rstd, mean, product) = (Vector512.AndNot(hi, left), Vector512.AndNot(lo, left), Vector512.AndNot(rstd, left), Vector512.AndNot(mean, left), Vector512.AndNot(product, left));
            for (int i = 0; i < length * Lanes; i += Lanes)
            {
                Part(dy + i, copy + i, left);
                Part(x + i, copy + length * Lanes + i, left);
            }
        }
        for (int i = 0, parameter = 0, toGo = run; i < length; i++)
        {
            Vector512<float> g = Vector512.Load(dy + i * Lanes), n = (Vector512.Load(x + i * Lanes) - hi - lo) * rstd;
            (Vector512.Load(weightTerms + parameter) + g * n).Store(weightTerms + parameter);
            (Vector512.Load(biasTerms + parameter) + g).Store(biasTerms + parameter);
            ((g * Vector512.Load(weights + parameter) - mean - n * product) * rstd).Store(dy + i * Lanes);
            if (--toGo == 0)
                (toGo, parameter) = (run, parameter + Lanes);
        }
        return all;

        static void Part(float* source, float* copy, Vector512<float> left)
        {
            Vector512<float> v = Vector512.Load(source);
            (v & left).Store(copy);
            Vector512.AndNot(v, left).Store(source);
        }

        static Vector512<double> AreInFloat(ref Vector512<double> sum, Vector512<double> products, Vector512<double> squares, Vector512<double> lo, Vector512<double> rstd, int length, in RowLayout layout, out Vector512<double> product)
        {
            Vector512<double> share = Vector512.Create(1.0 / length);
            product = layout.Scaled ? (products - lo * sum) * rstd * share : default;
            sum = layout.Centered ? sum * share : default;
            return FloatSums.AreExactInFloat(squares * share, sum, product)
                & Vector512.GreaterThan(rstd, Vector512.Create(Elements.LeastFloatRstd)) & Vector512.LessThan(rstd, Vector512.Create(Elements.LargestFloatRstd));
        }
    }

    /// <summary>Adds a tile's terms of the parameters' gradients up, and overwrites dy with dx.</summary>
    private static void BackwardLanes(float* dy, float* x, int length, in RowLayout layout, double* moments, float* weights, double* weightTerms, double* biasTerms)
    {
        Vector512<double> mean0 = Vector512.Load(moments), mean1 = Vector512.Load(moments + 8), low0 = Vector512.Load(moments + Lanes), low1 = Vector512.Load(moments + Lanes + 8);
        Vector512<double> rstd0 = Vector512.Load(moments + 2 * Lanes), rstd1 = Vector512.Load(moments + 2 * Lanes + 8);
        Vector512<double> s0 = default, s1 = default, p0 = default, p1 = default;
        int run = (int)layout.Run;
        for (int i = 0, parameter = 0, left = run; i < length; i++)
        {
            (Vector512<double> g0, Vector512<double> g1) = Vector512.Widen(Vector512.Load(dy + i * Lanes));
            (Vector512<double> n0, Vector512<double> n1) = Vector512.Widen(Vector512.Load(x + i * Lanes));
            (n0, n1) = ((n0 - mean0 - low0) * rstd0, (n1 - mean1 - low1) * rstd1);
            (Vector512.Load(weightTerms + parameter) + g0 * n0).Store(weightTerms + parameter);
            (Vector512.Load(weightTerms + parameter + 8) + g1 * n1).Store(weightTerms + parameter + 8);
            (Vector512.Load(biasTerms + parameter) + g0).Store(biasTerms + parameter);
            (Vector512.Load(biasTerms + parameter + 8) + g1).Store(biasTerms + parameter + 8);
            (Vector512<double> w0, Vector512<double> w1) = Vector512.Widen(Vector512.Load(weights + parameter));
            (g0, g1) = (g0 * w0, g1 * w1);
            s0 += g0;
            s1 += g1;
            p0 += g0 * n0;
            p1 += g1 * n1;
            if (--left == 0)
                (left, parameter) = (run, parameter + Lanes);
        }
        Vector512<double> count = Vector512.Create((double)length);
        (s0, s1) = layout.Centered ? (s0 / count, s1 / count) : default;
        (p0, p1) = layout.Scaled ? (p0 / count, p1 / count) : default;
        for (int i = 0, parameter = 0, left = run; i < length; i++)
        {
            (Vector512<double> g0, Vector512<double> g1) = Vector512.Widen(Vector512.Load(dy + i * Lanes));
            (Vector512<double> n0, Vector512<double> n1) = Vector512.Widen(Vector512.Load(x + i * Lanes));
            (n0, n1) = ((n0 - mean0 - low0) * rstd0, (n1 - mean1 - low1) * rstd1);
            (Vector512<double> w0, Vector512<double> w1) = Vector512.Widen(Vector512.Load(weights + parameter));
            Vector512.Narrow((g0 * w0 - s0 - n0 * p0) * rstd0, (g1 * w1 - s1 - n1 * p1) * rstd1).Store(dy + i * Lanes);
            if (--left == 0)
                (left, parameter) = (run, parameter + Lanes);
        }
    }

    /// <summary>Rows of memory to lanes; of 16-bit elements by way of rows of floats.</summary>
    private static void Gather<T>(T* source, nint stride, int lanes, int length, float* tile, float* rows) where T : unmanaged
    {
        if (typeof(T) == typeof(float))
        {
            Gather((float*)source, stride, lanes, length, tile);
            return;
        }
        for (int lane = 0; lane < lanes; lane++)
            SixteenBits.Widen(source + lane * stride, rows + lane * length, length);
        Gather(rows, length, lanes, length, tile);
    }

    private static void Scatter<T>(float* tile, int length, int lanes, nint stride, T* destination, float* rows) where T : unmanaged
    {
        if (typeof(T) == typeof(float))
        {
            Scatter(tile, length, lanes, stride, (float*)destination);
            return;
        }
        Scatter(tile, length, lanes, length, rows);
        for (int lane = 0; lane < lanes; lane++)
            SixteenBits.Narrow(rows + lane * length, destination + lane * stride, length, stream: false);
    }

    /// <summary>Rows of floats to lanes.</summary>
    private static void Gather(float* rows, nint stride, int lanes, int length, float* tile)
    {
        int lane = 0;
        for (; Sse.IsSupported && lane <= lanes - 4; lane += 4)
        {
            float* row = rows + lane * stride;
            int i = 0;
            for (; i <= length - 4; i += 4)
                Transpose(row + i, stride, tile + i * Lanes + lane, Lanes);
            for (; i < length; i++)
                (tile[i * Lanes + lane], tile[i * Lanes + lane + 1], tile[i * Lanes + lane + 2], tile[i * Lanes + lane + 3]) = (row[i], row[i + stride], row[i + 2 * stride], row[i + 3 * stride]);
        }
        for (; lane < lanes; lane++)
        {
            for (int i = 0; i < length; i++)
                tile[i * Lanes + lane] = rows[lane * stride + i];
        }
    }

    private static void Scatter(float* tile, int length, int lanes, nint stride, float* rows)
    {
        int lane = 0;
        for (; Sse.IsSupported && lane <= lanes - 4; lane += 4)
        {
            float* row = rows + lane * stride;
            int i = 0;
            for (; i <= length - 4; i += 4)
                Transpose(tile + i * Lanes + lane, Lanes, row + i, stride);
            for (; i < length; i++)
                (row[i], row[i + stride], row[i + 2 * stride], row[i + 3 * stride]) = (tile[i * Lanes + lane], tile[i * Lanes + lane + 1], tile[i * Lanes + lane + 2], tile[i * Lanes + lane + 3]);
        }
        for (; lane < lanes; lane++)
        {
            for (int i = 0; i < length; i++)
                rows[lane * stride + i] = tile[i * Lanes + lane];
        }
    }

    /// <summary>Four rows of four elements to four columns.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Transpose(float* source, nint sourceStride, float* destination, nint destinationStride)
    {
        Vector128<float> r0 = Vector128.Load(source), r1 = Vector128.Load(source + sourceStride), r2 = Vector128.Load(source + 2 * sourceStride), r3 = Vector128.Load(source + 3 * sourceStride);
        Vector128<float> low01 = Sse.UnpackLow(r0, r1), high01 = Sse.UnpackHigh(r0, r1), low23 = Sse.UnpackLow(r2, r3), high23 = Sse.UnpackHigh(r2, r3);
        Sse.MoveLowToHigh(low01, low23).Store(destination);
        Sse.MoveHighToLow(low23, low01).Store(destination + destinationStride);
        Sse.MoveLowToHigh(high01, high23).Store(destination + 2 * destinationStride);
        Sse.MoveHighToLow(high23, high01).Store(destination + 3 * destinationStride);
    }

    /// <summary>A group's weights, the same in every lane.</summary>
    private static void GatherWeights(float* weights, in RowLayout layout, nint group, float* tile)
    {
        float* first = weights == null ? null : weights + layout.FirstParameter(group);
        for (int p = 0; p < (int)layout.GroupParameters; p++)
            Vector512.Create(first == null ? 1 : first[p]).Store(tile + p * Lanes);
    }
}
