using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace NormLayers.Internals.Kernels;

/// <summary>The backward of groups of fewer than 64 floats, or of 128 where each element has a weight, sixteen at once.</summary>
/// <remarks>
/// <para>
/// Order: element i of a group goes to lane i mod 16 of its sums, which are folded by halves; a parameter's terms are added in the order of the groups, those of
/// sixteen in float and then in double. Nothing but these terms depends on which groups are at hand together, and that the layout decides.
/// </para>
/// <para>Error: as in RowNorm.Backward.Float.cs; a group of which much cancels is done in double and rounded once.</para>
/// </remarks>
internal static unsafe partial class RowNorm
{
    /// <summary>Whether folding the sums of sixteen groups together saves more than it costs to tell them apart: measured.</summary>
    private static bool IsShort(in RowLayout layout) => layout.Length < (layout.Run == 1 ? 2 * Moments.LeastFloatLength : Moments.LeastFloatLength);

    /// <summary>The groups at one place of the period: their input gradients, and their terms of the parameters' gradients.</summary>
    [SkipLocalsInit]
    private static void BackwardShort<T>(in BackwardWork<T, float> work, nint place, nint firstPeriod, nint endPeriod, Span<double> weightSums, Span<double> biasSums) where T : unmanaged
    {
        int length = (int)work.Layout.Length, run = (int)work.Layout.Run, tile = length * Lanes + Lanes, terms = (length + Lanes - 1) & -Lanes;
        float* dy = stackalloc float[tile], x = stackalloc float[tile], result = stackalloc float[tile], weights = stackalloc float[length + Lanes];
        float* scales = stackalloc float[5 * Lanes];
        double* weightTerms = stackalloc double[terms], biasTerms = stackalloc double[terms], moments = stackalloc double[4 * Lanes];
        new Span<double>(weightTerms, terms).Clear();
        new Span<double>(biasTerms, terms).Clear();
        new Span<double>(moments, 4 * Lanes).Clear();
        SpreadParameters(work.Weight, in work.Layout, work.Layout.GroupAt(0, place), 1, 1, weights);
        nint stride = work.Layout.PeriodStride * length;
        bool whole = length % Lanes == 0, apart = work.Dx != work.Dy && work.Dx != work.X && stride == length;
        for (nint period = firstPeriod; period < endPeriod; period += Lanes)
        {
            int lanes = (int)Math.Min(Lanes, endPeriod - period);
            nint first = work.Layout.GroupAt(period, place), left = (work.Layout.Groups - first) * length - (lanes - 1) * stride;
            LoadStatistics(work.Statistics + first, work.Layout.PeriodStride, lanes, moments);
            bool direct = typeof(T) == typeof(float) && work.Dx != null && work.GradSum == null && (whole || (apart && (endPeriod - period - lanes) * length >= Lanes));
            var rows = new ShortRows { Length = length, Lanes = lanes, Weights = weights, Y = direct ? (float*)(work.Dx + first * length) : result, YStride = direct ? stride : length };
            rows.X = RowsOf(work.X + first * length, stride, lanes, length, left, x, out rows.XStride);
            if (work.Activated)
            {
                // The gradient of what SiLU was applied to, which is made again.
                for (int lane = 0; lane < lanes; lane++)
                {
                    nint g = first + lane * work.Layout.PeriodStride;
                    Normalize(in work, g, dy + lane * length);
                    SiLUBackward(work.Dy + g * length, dy + lane * length, length);
                }
                Vector512<float>.Zero.Store(dy + lanes * length);
                rows.Dy = dy;
                rows.DyStride = length;
            }
            else
                rows.Dy = RowsOf(work.Dy + first * length, stride, lanes, length, left, dy, out rows.DyStride);
            SumRows(ref rows, in work.Layout, moments, scales);
            WriteRows(in rows, scales, weightTerms, biasTerms, direct && whole ? work.Stream : default);
            for (int lane = 0; rows.Left != 0; lane++, rows.Left >>= 1)
            {
                if ((rows.Left & 1) != 0)
                    WriteInDouble(in rows, lane, in work.Layout, in work.Statistics[first + lane * work.Layout.PeriodStride], weightTerms, biasTerms);
            }
            if (work.Dx == null)
                continue;
            if (work.GradSum != null)
                AddRows(RowsOf(work.GradSum + first * length, stride, lanes, length, left, x, out nint summandStride), summandStride, in rows);
            if (!direct)
                StoreRows(result, length, lanes, stride, work.Dx + first * length);
        }
        AddRuns(weightTerms, run, weightSums);
        AddRuns(biasTerms, run, biasSums);

        static void AddRuns(double* terms, int run, Span<double> sums)
        {
            for (int i = 0; i < sums.Length * run; i++)
                sums[i / run] += terms[i];
        }
    }

    /// <summary>Adds to the results, which have no gaps between them.</summary>
    private static void AddRows(float* summands, nint stride, in ShortRows rows)
    {
        for (int lane = 0; lane < rows.Lanes; lane++)
        {
            var row = new Span<float>(rows.Y + lane * rows.Length, rows.Length);
            TensorPrimitives.Add(row, new ReadOnlySpan<float>(summands + lane * stride, rows.Length), row);
        }
    }

    /// <summary>What dx needs of each group beside its elements, as floats: the mean in two parts, 1/deviation, E[g] and E[g · n]. Notes the groups that have to be done in double.</summary>
    [SkipLocalsInit]
    private static void SumRows(ref ShortRows rows, in RowLayout layout, double* moments, float* scales)
    {
        Vector512<double> rstd0 = Vector512.Load(moments + 3 * Lanes), rstd1 = Vector512.Load(moments + 3 * Lanes + 8);
        (Vector512<double> lo0, Vector512<double> lo1) = SplitMeans(moments, scales);
        Vector512.Narrow(lo0, lo1).Store(scales + Lanes);
        Vector512.Narrow(rstd0, rstd1).Store(scales + 2 * Lanes);

        float* sums = stackalloc float[Lanes * Lanes], products = stackalloc float[Lanes * Lanes], squares = stackalloc float[Lanes * Lanes];
        float* dy = rows.Dy, x = rows.X;
        int length = rows.Length, whole = length & -Lanes;
        Vector512<float> counted = Vector512.LessThan(Vector512<float>.Indices, Vector512.Create((float)(length & (Lanes - 1))));
        for (int lane = 0; lane < rows.Lanes; lane++, dy += rows.DyStride, x += rows.XStride)
        {
            Vector512<float> from = Vector512.Create(scales[lane]), s = default, p = default, q = default;
            for (int i = 0; i < whole; i += Lanes)
            {
                Vector512<float> g = Vector512.Load(dy + i) * Vector512.Load(rows.Weights + i);
                s += g;
                p += g * (Vector512.Load(x + i) - from);
                q += g * g;
            }
            if (whole < length)
            {
                Vector512<float> g = (Vector512.Load(dy + whole) * Vector512.Load(rows.Weights + whole)) & counted;
                s += g;
                p += g * ((Vector512.Load(x + whole) - from) & counted);
                q += g * g;
            }
            s.Store(sums + Lanes * lane);
            p.Store(products + Lanes * lane);
            q.Store(squares + Lanes * lane);
        }
        (Vector512<double> s0, Vector512<double> s1) = Vector512.Widen(FoldSixteen(sums));
        (Vector512<double> p0, Vector512<double> p1) = Vector512.Widen(FoldSixteen(products));
        (Vector512<double> q0, Vector512<double> q1) = Vector512.Widen(FoldSixteen(squares));
        uint inFloat = AreInFloat(ref s0, ref p0, q0, lo0, rstd0, Vector512.Load(moments + 2 * Lanes), in layout)
            | AreInFloat(ref s1, ref p1, q1, lo1, rstd1, Vector512.Load(moments + 2 * Lanes + 8), in layout) << 8;
        Vector512.Narrow(s0, s1).Store(scales + 3 * Lanes);
        Vector512.Narrow(p0, p1).Store(scales + 4 * Lanes);
        rows.Left = ~(inFloat & OrdinaryLanes(rstd0, rstd1)) & ((1u << rows.Lanes) - 1);

        static uint AreInFloat(ref Vector512<double> sum, ref Vector512<double> product, Vector512<double> squares, Vector512<double> lo, Vector512<double> rstd, Vector512<double> variance, in RowLayout layout)
        {
            Vector512<double> share = Vector512.Create(1.0 / layout.Length);
            Vector512<double> hasDigits = Vector512.GreaterThanOrEqual(variance, Vector512.Create(Moments.LeastFloatVariance)) | Vector512.Equals(variance, Vector512<double>.Zero);
            // Beside statistics that are given, elements that are not finite.
            if (!layout.Scaled)
                hasDigits &= Vector512.LessThan(Vector512.Abs(product), Vector512.Create(double.PositiveInfinity));
            product = layout.Scaled ? (product - lo * sum) * rstd * share : default;
            sum = layout.Centered ? sum * share : default;
            return (uint)(FloatSums.AreExactInFloat(squares * share, sum, product) & hasDigits).ExtractMostSignificantBits();
        }
    }

    /// <summary>dx and the terms of the parameters' gradients; the ends of rows first, as in <see cref="ApplyRows"/>.</summary>
    private static void WriteRows(in ShortRows rows, float* scales, double* weightTerms, double* biasTerms, Streaming stream)
    {
        for (nint i = (rows.Length - 1) & -Lanes; i >= 0; i -= Lanes)
        {
            Vector512<float> w = Vector512.Load(rows.Weights + i), weightSum = default, biasSum = default;
            float* dy = rows.Dy + i, x = rows.X + i, dx = rows.Y + i;
            for (int lane = 0; lane < rows.Lanes; lane++, dy += rows.DyStride, x += rows.XStride, dx += rows.YStride)
            {
                Streaming.Prefetch(in *dy, PrefetchedElements);
                Streaming.Prefetch(in *x, PrefetchedElements);
                if ((rows.Left >> lane & 1) != 0)
                    continue;
                Vector512<float> g = Vector512.Load(dy), rstd = Vector512.Create(scales[2 * Lanes + lane]);
                Vector512<float> n = (Vector512.Load(x) - Vector512.Create(scales[lane]) - Vector512.Create(scales[Lanes + lane])) * rstd;
                weightSum += g * n;
                biasSum += g;
                stream.StoreAligned((g * w - Vector512.Create(scales[3 * Lanes + lane]) - n * Vector512.Create(scales[4 * Lanes + lane])) * rstd, dx);
            }
            AddTo(weightTerms + i, weightSum);
            AddTo(biasTerms + i, biasSum);
        }
    }

    /// <summary>The same for one group in double, rounded once.</summary>
    private static void WriteInDouble(in ShortRows rows, int lane, in RowLayout layout, in GroupStatistics group, double* weightTerms, double* biasTerms)
    {
        float* dy = rows.Dy + lane * rows.DyStride, x = rows.X + lane * rows.XStride, dx = rows.Y + lane * rows.YStride;
        Vector512<double> mean = Vector512.Create(group.ScaledMean), low = Vector512.Create(group.ScaledMeanLow), rstd = Vector512.Create(group.ScaledRstd), s = default, p = default;
        for (int i = 0; i < rows.Length; i += 8)
        {
            Vector512<double> counted = CountedOf(i, in rows), g = Elements.LoadDoubles(dy + i) & counted, n = (Elements.LoadDoubles(x + i) - mean - low) * rstd & counted;
            (Vector512.Load(weightTerms + i) + g * n).Store(weightTerms + i);
            (Vector512.Load(biasTerms + i) + g).Store(biasTerms + i);
            g *= Elements.LoadDoubles(rows.Weights + i);
            s += g;
            p += g * n;
        }
        Vector512<double> sum = Vector512.Create(layout.Centered ? Moments.Fold(s) / rows.Length : 0), product = Vector512.Create(layout.Scaled ? Moments.Fold(p) / rows.Length : 0);
        for (int i = 0; i < rows.Length; i += 8)
        {
            Vector512<double> n = layout.Scaled ? (Elements.LoadDoubles(x + i) - mean - low) * rstd : default, v = (Elements.LoadDoubles(dy + i) * Elements.LoadDoubles(rows.Weights + i) - sum - n * product) * rstd;
            Vector256<float> rounded = Vector512.Narrow(v, v).GetLower();
            new Span<float>(&rounded, Math.Min(8, rows.Length - i)).CopyTo(new Span<float>(dx + i, 8));
        }

        static Vector512<double> CountedOf(int i, in ShortRows rows) => Vector512.LessThan(Vector512<double>.Indices, Vector512.Create((double)(rows.Length - i)));
    }

    /// <summary>The sums of sixteen vectors, each folded by halves.</summary>
    private static Vector512<float> FoldSixteen(float* vectors)
    {
        if (!Avx512F.IsSupported)
        {
            Vector512<float> sums = default;
            for (int i = 0; i < Lanes; i++)
                ((float*)&sums)[i] = Fold(Vector512.Load(vectors + Lanes * i));
            return sums;
        }
        Vector512<float> even = FoldPairs(FoldFour(vectors), FoldFour(vectors + Lanes)), odd = FoldPairs(FoldFour(vectors + 2 * Lanes), FoldFour(vectors + 3 * Lanes));
        return Avx512F.Shuffle(even, odd, 0x88) + Avx512F.Shuffle(even, odd, 0xDD);

        // Four sums of every fourth vector.
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static Vector512<float> FoldFour(float* vectors)
        {
            Vector512<float> ab = FoldPair(Vector512.Load(vectors), Vector512.Load(vectors + 4 * Lanes)), cd = FoldPair(Vector512.Load(vectors + 8 * Lanes), Vector512.Load(vectors + 12 * Lanes));
            return Avx512F.Shuffle4x128(ab, cd, 0x88) + Avx512F.Shuffle4x128(ab, cd, 0xDD);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static Vector512<float> FoldPair(Vector512<float> a, Vector512<float> b) => Avx512F.Shuffle4x128(a, b, 0x44) + Avx512F.Shuffle4x128(a, b, 0xEE);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static Vector512<float> FoldPairs(Vector512<float> a, Vector512<float> b)
            => Avx512F.UnpackLow(a.AsDouble(), b.AsDouble()).AsSingle() + Avx512F.UnpackHigh(a.AsDouble(), b.AsDouble()).AsSingle();

        static float Fold(Vector512<float> lanes)
        {
            Vector256<float> half = lanes.GetLower() + lanes.GetUpper();
            Vector128<float> quarter = half.GetLower() + half.GetUpper();
            return (quarter[0] + quarter[2]) + (quarter[1] + quarter[3]);
        }
    }
}
