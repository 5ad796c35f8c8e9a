using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>The backward of groups of floats in which nothing cancels, which is nearly always: element-wise work in float, sums in double.</summary>
/// <remarks>
/// <para>
/// Order: g, g · (x - mean) and g² of element i of a block go to lane i mod 64 of three sums of floats (the last n mod 16
/// elements begin them); blocks of 2048 elements (the last of up to 4095) are widened, folded by halves and added in double. The terms of a
/// parameter's gradient are added in float over four groups at a time, and these sums in double.
/// </para>
/// <para>
/// Error: dx = (g - E[g] - n · E[g · n]) · rstd has eight roundings, each of at most 2^-24 of the largest term. What is left of g must be a good part
/// of it, or the group is done in double: the mean square of g less that of what is taken off is known before anything is written.
/// </para>
/// </remarks>
internal static unsafe partial class RowNorm
{
    /// <summary>Shorter groups cancel more (of two elements almost wholly).</summary>
    private const int LeastFloatLength = 64;

    private const int FloatBlockLength = 2048;

    /// <summary>What dx needs of a group beside its elements.</summary>
    private readonly struct FloatGroup
    {
        internal readonly float Hi, Lo, Rstd, Mean, Product;

        internal FloatGroup(in GroupStatistics group)
        {
            Hi = (float)group.ScaledMean;
            Lo = (float)(group.ScaledMean - Hi + group.ScaledMeanLow);
            Rstd = (float)group.ScaledRstd;
        }

        internal FloatGroup(in FloatGroup group, double mean, double product)
        {
            this = group;
            (Mean, Product) = ((float)mean, (float)product);
        }
    }

    /// <summary>The sums of g, of g · (x - mean) and of g² over some elements.</summary>
    private struct FloatSums
    {
        internal double Sum, Product, Squares;

        internal void AddScaled(in FloatSums terms, double factor)
        {
            Sum += terms.Sum * factor;
            Product += terms.Product * factor;
            Squares += terms.Squares * factor * factor;
        }

        /// <summary>E[g] and E[g · n], as far as the layout's statistics move with the elements. True if at least a quarter of g is left in dx, and no square left float's range.</summary>
        internal readonly bool AreExactInFloat(double rstd, in RowLayout layout, out double mean, out double product)
        {
            double squares = Squares / layout.Length;
            mean = layout.Centered ? Sum / layout.Length : 0;
            product = layout.Scaled ? Product * rstd / layout.Length : 0;
            return squares is >= 1e-30 and <= 1e30 && squares - mean * mean - 2 * product * product >= squares / 4;
        }
    }

    private static bool IsOrdinary(in GroupStatistics group) => group.Scale == 1 && Elements.IsOrdinary<float>(group.ScaledRstd);

    /// <summary>The groups at one place of the period, one after the other; each has a weight for every element.</summary>
    private static void BackwardElementwise(in BackwardWork<float> work, nint place, nint firstPeriod, nint endPeriod, double* weights, double* biases)
    {
        const int Team = 4;
        nint length = work.Layout.Length;
        float* weight = work.Weight == null ? null : work.Weight + place * work.Layout.GroupParameters;
        FloatGroup* team = stackalloc FloatGroup[Team];
        int waiting = 0;
        nint first = 0;
        for (nint period = firstPeriod; period < endPeriod; period++)
        {
            nint g = work.Layout.GroupAt(period, place);
            float* dy = work.Dy + g * length, x = work.X + g * length;
            ref readonly GroupStatistics group = ref work.Statistics[g];
            if (IsOrdinary(in group))
            {
                var floats = new FloatGroup(in group);
                FloatSums sums = Sum(dy, x, weight, length, in floats);
                if (sums.AreExactInFloat(group.ScaledRstd, in work.Layout, out double mean, out double product))
                {
                    if (waiting == 0)
                        first = period;
                    team[waiting++] = new FloatGroup(in floats, mean, product);
                    if (waiting == Team)
                    {
                        WriteTeam(in work, work.Layout.GroupAt(first, place), weight, team, weights, biases);
                        waiting = 0;
                    }
                    continue;
                }
            }
            WriteOneByOne(in work, place, first, weight, team, waiting, weights, biases);
            waiting = 0;
            BackwardInDouble(in work, g, weights, biases);
            AddGradSum(in work, g);
        }
        WriteOneByOne(in work, place, first, weight, team, waiting, weights, biases);
    }

    private static void WriteOneByOne(in BackwardWork<float> work, nint place, nint first, float* weight, FloatGroup* groups, int count, double* weights, double* biases)
    {
        nint length = work.Layout.Length;
        for (int i = 0; i < count; i++)
        {
            nint start = work.Layout.GroupAt(first + i, place) * length;
            WriteElementwise(work.Dy + start, work.X + start, work.Dx == null ? null : work.Dx + start, work.GradSum == null ? null : work.GradSum + start, length, weight, in groups[i], weights, biases, work.Stream);
        }
    }

    /// <summary>One group whose runs of elements share a weight.</summary>
    private static void BackwardRuns(in BackwardWork<float> work, nint g, double* weights, double* biases)
    {
        ref readonly GroupStatistics group = ref work.Statistics[g];
        if (!IsOrdinary(in group))
        {
            BackwardInDouble(in work, g, weights, biases);
            return;
        }
        nint run = work.Layout.Run, count = work.Layout.GroupParameters;
        var part = new GroupPart(in work, g);
        FloatSums sums = default;
        for (nint p = 0; p < count; p++)
        {
            FloatSums runSums = Sum(part.Dy + p * run, part.X + p * run, null, run, in part.Group);
            sums.AddScaled(in runSums, part.WeightOf(p));
            AddRun(in runSums, in group, p, weights, biases);
        }
        if (part.Dx == null)
            return;
        if (!sums.AreExactInFloat(group.ScaledRstd, in work.Layout, out double mean, out double product))
        {
            BackwardInDouble(in work, g, null, null);
            return;
        }
        part.Group = new FloatGroup(in part.Group, mean, product);
        WriteRuns(&part, 0, count);
    }

    private static void BackwardInDouble(in BackwardWork<float> work, nint g, double* weights, double* biases)
    {
        int count = (int)work.Layout.GroupParameters;
        BackwardGroup(in *work.Dy, in *work.X, ref *work.Dx, g, in work.Layout, in work.Statistics[g], in *work.Weight,
            weights == null ? [] : new Span<double>(weights, count), biases == null ? [] : new Span<double>(biases, count));
    }

    private static void AddRun(in FloatSums sums, in GroupStatistics group, nint p, double* weights, double* biases)
    {
        if (weights != null)
            weights[p] += sums.Product * group.ScaledRstd;
        if (biases != null)
            biases[p] += sums.Sum;
    }

    /// <summary>One group, whose blocks or runs any number of threads may take.</summary>
    private struct GroupPart
    {
        internal readonly float* Dy, X, Dx, Weight;
        internal readonly nint Length, Run;
        internal readonly Streaming Stream;
        internal FloatGroup Group;
        internal FloatSums* Sums;
        internal double* Weights, Biases;

        internal GroupPart(in BackwardWork<float> work, nint g)
        {
            (Length, Run, Stream) = (work.Layout.Length, work.Layout.Run, work.Stream);
            Dy = work.Dy + g * Length;
            X = work.X + g * Length;
            Dx = work.Dx == null ? null : work.Dx + g * Length;
            Weight = work.Weight == null ? null : work.Weight + work.Layout.FirstParameter(g);
            Group = new FloatGroup(in work.Statistics[g]);
        }

        internal readonly float WeightOf(nint p) => Weight == null ? 1 : Weight[p];
    }

    /// <summary>All groups, one after the other, each shared among the threads: where there are fewer groups than threads. The bits are those of one thread.</summary>
    private static void BackwardShared(in BackwardWork<float> work, int threads)
    {
        nint run = work.Layout.Run, parts = run == 1 ? FloatBlocks(work.Layout.Length) : work.Layout.GroupParameters;
        using var memory = new RentedDoubles(parts * sizeof(FloatSums) / sizeof(double));
        fixed (double* sums = memory.Span)
        {
            for (nint g = 0; g < work.Layout.Groups; g++)
            {
                nint first = work.Layout.FirstParameter(g);
                double* weights = work.WeightSums == null ? null : work.WeightSums + first, biases = work.BiasSums == null ? null : work.BiasSums + first;
                if (!IsOrdinary(in work.Statistics[g]))
                {
                    BackwardInDouble(in work, g, weights, biases);
                    continue;
                }
                var part = new GroupPart(in work, g) { Sums = (FloatSums*)sums, Weights = weights, Biases = biases };
                Partition.Run(parts, threads, run == 1 ? &SumBlocks : &SumRuns, &part);
                FloatSums total = default;
                for (nint p = 0; p < parts; p++)
                {
                    total.AddScaled(in part.Sums[p], run == 1 ? 1 : part.WeightOf(p));
                    if (run != 1)
                        AddRun(in part.Sums[p], in work.Statistics[g], p, weights, biases);
                }
                if (total.AreExactInFloat(work.Statistics[g].ScaledRstd, in work.Layout, out double mean, out double product))
                {
                    part.Group = new FloatGroup(in part.Group, mean, product);
                    if (run == 1 || part.Dx != null)
                        Partition.Run(parts, threads, run == 1 ? &WriteBlocks : &WriteRuns, &part);
                }
                else if (run == 1 || part.Dx != null)
                    BackwardInDouble(in work, g, run == 1 ? weights : null, run == 1 ? biases : null);
            }
        }
        if (work.Stream.Wanted)
            Streaming.Fence();
    }

    /// <summary>The blocks of a group: of 2048, the last of up to 4095.</summary>
    private static nint FloatBlocks(nint length) => Math.Max(1, length / FloatBlockLength);

    private static nint FloatBlockEnd(nint block, nint length) => block == FloatBlocks(length) - 1 ? length : (block + 1) * FloatBlockLength;

    private static void SumBlocks(void* state, nint start, nint end)
    {
        ref readonly GroupPart part = ref *(GroupPart*)state;
        for (nint block = start; block < end; block++)
        {
            nint first = block * FloatBlockLength;
            part.Sums[block] = Sum(part.Dy + first, part.X + first, part.Weight == null ? null : part.Weight + first, FloatBlockEnd(block, part.Length) - first, in part.Group);
        }
    }

    private static void SumRuns(void* state, nint start, nint end)
    {
        ref readonly GroupPart part = ref *(GroupPart*)state;
        for (nint p = start; p < end; p++)
            part.Sums[p] = Sum(part.Dy + p * part.Run, part.X + p * part.Run, null, part.Run, in part.Group);
    }

    private static void WriteBlocks(void* state, nint start, nint end)
    {
        ref readonly GroupPart part = ref *(GroupPart*)state;
        nint first = start * FloatBlockLength;
        WriteElementwise(part.Dy + first, part.X + first, part.Dx == null ? null : part.Dx + first, null, FloatBlockEnd(end - 1, part.Length) - first, part.Weight == null ? null : part.Weight + first, in part.Group,
            part.Weights == null ? null : part.Weights + first, part.Biases == null ? null : part.Biases + first, part.Stream);
    }

    private static void WriteRuns(void* state, nint start, nint end)
    {
        ref readonly GroupPart part = ref *(GroupPart*)state;
        for (nint p = start; p < end; p++)
            WriteRun(part.Dy + p * part.Run, part.X + p * part.Run, part.Dx + p * part.Run, part.Run, part.WeightOf(p), in part.Group, part.Stream);
    }

    /// <summary>The sums over neighbouring elements, with a weight for each, or none.</summary>
    private static FloatSums Sum(float* dy, float* x, float* weight, nint length, in FloatGroup group)
    {
        FloatSums sums = default;
        nint blocks = FloatBlocks(length);
        for (nint block = 0; block < blocks; block++)
        {
            nint start = block * FloatBlockLength, n = FloatBlockEnd(block, length) - start;
            if (n < Vector512<float>.Count)
                SumShort(dy + start, x + start, weight == null ? null : weight + start, n, in group, ref sums);
            else if (weight == null)
                SumBlock<Unweighted>(dy + start, x + start, null, n, in group, ref sums);
            else
                SumBlock<Weighted>(dy + start, x + start, weight + start, n, in group, ref sums);
        }
        return sums;
    }

    private static void SumShort(float* dy, float* x, float* weight, nint n, in FloatGroup group, ref FloatSums sums)
    {
        for (nint i = 0; i < n; i++)
        {
            float g = weight == null ? dy[i] : dy[i] * weight[i];
            sums.Sum += g;
            sums.Product += (double)g * (x[i] - group.Hi - group.Lo);
            sums.Squares += (double)g * g;
        }
    }

    private static void SumBlock<TWeight>(float* dy, float* x, float* weight, nint n, in FloatGroup group, ref FloatSums sums) where TWeight : struct, IWeighting
    {
        Vector512<float> hi = Vector512.Create(group.Hi), lo = Vector512.Create(group.Lo);
        nint tail = n & 15;
        Vector512<float> g = Vector512.AndNot(TWeight.Load(dy, weight, n - 16), Vector512.LessThan(Vector512<float>.Indices, Vector512.Create((float)(16 - tail))));
        if (tail == 0)
            g = default;
        Vector512<float> s0 = g, p0 = g * (Vector512.Load(x + n - 16) - hi - lo), q0 = g * g;
        Vector512<float> s1 = default, s2 = default, s3 = default, p1 = default, p2 = default, p3 = default, q1 = default, q2 = default, q3 = default;
        nint i = 0;
        for (; i <= n - 64; i += 64)
        {
            Vector512<float> g0 = TWeight.Load(dy, weight, i), g1 = TWeight.Load(dy, weight, i + 16), g2 = TWeight.Load(dy, weight, i + 32), g3 = TWeight.Load(dy, weight, i + 48);
            s0 += g0;
            s1 += g1;
            s2 += g2;
            s3 += g3;
            p0 += g0 * (Vector512.Load(x + i) - hi - lo);
            p1 += g1 * (Vector512.Load(x + i + 16) - hi - lo);
            p2 += g2 * (Vector512.Load(x + i + 32) - hi - lo);
            p3 += g3 * (Vector512.Load(x + i + 48) - hi - lo);
            q0 += g0 * g0;
            q1 += g1 * g1;
            q2 += g2 * g2;
            q3 += g3 * g3;
        }
        for (; i <= n - 16; i += 16)
        {
            Vector512<float> g0 = TWeight.Load(dy, weight, i);
            s0 += g0;
            p0 += g0 * (Vector512.Load(x + i) - hi - lo);
            q0 += g0 * g0;
        }
        sums.Sum += Moments.Fold((s0 + s1) + (s2 + s3));
        sums.Product += Moments.Fold((p0 + p1) + (p2 + p3));
        sums.Squares += Moments.Fold((q0 + q1) + (q2 + q3));
    }

    /// <summary>dx of a group whose elements have each a weight, and its terms of the parameters' gradients.</summary>
    private static void WriteElementwise(float* dy, float* x, float* dx, float* gradSum, nint n, float* weight, in FloatGroup group, double* weights, double* biases, Streaming stream)
    {
        nint whole = n & ~15;
        for (nint i = whole; i < n; i++)
        {
            float term = WriteOne(dy, x, dx, gradSum, i, weight == null ? 1 : weight[i], in group, out float gradient);
            AddOne(weights, biases, i, term, gradient);
        }
        Vector512<float> hi = Vector512.Create(group.Hi), lo = Vector512.Create(group.Lo), rstd = Vector512.Create(group.Rstd), mean = Vector512.Create(group.Mean), product = Vector512.Create(group.Product);
        Vector512<float> w = Vector512<float>.One;
        for (nint i = 0; i < whole; i += 16)
        {
            if (weight != null)
                w = Vector512.Load(weight + i);
            Vector512<float> gradient = Vector512.Load(dy + i), normalized = (Vector512.Load(x + i) - hi - lo) * rstd;
            if (weights != null)
                AddTo(weights + i, gradient * normalized);
            if (biases != null)
                AddTo(biases + i, gradient);
            if (dx != null)
                stream.StoreAligned(Plus((gradient * w - mean - normalized * product) * rstd, gradSum, i), dx + i);
        }
    }

    /// <summary>As <see cref="WriteElementwise"/> for four groups, a period apart, whose terms are added up before they go to the parameters' gradients.</summary>
    private static void WriteTeam(in BackwardWork<float> work, nint g, float* weight, FloatGroup* groups, double* weights, double* biases)
    {
        nint n = work.Layout.Length, stride = work.Layout.PeriodStride * n, whole = n & ~15;
        float* dy = work.Dy + g * n, x = work.X + g * n, dx = work.Dx == null ? null : work.Dx + g * n, gradSum = work.GradSum == null ? null : work.GradSum + g * n;
        for (nint i = whole; i < n; i++)
        {
            float w0 = weight == null ? 1 : weight[i];
            float term0 = WriteOne(dy, x, dx, gradSum, i, w0, in groups[0], out float gradient0), term1 = WriteOne(dy, x, dx, gradSum, i + stride, w0, in groups[1], out float gradient1);
            float term2 = WriteOne(dy, x, dx, gradSum, i + 2 * stride, w0, in groups[2], out float gradient2), term3 = WriteOne(dy, x, dx, gradSum, i + 3 * stride, w0, in groups[3], out float gradient3);
            AddOne(weights, biases, i, (term0 + term1) + (term2 + term3), (gradient0 + gradient1) + (gradient2 + gradient3));
        }
        Vector512<float> hi0 = Vector512.Create(groups[0].Hi), lo0 = Vector512.Create(groups[0].Lo), rstd0 = Vector512.Create(groups[0].Rstd), mean0 = Vector512.Create(groups[0].Mean), product0 = Vector512.Create(groups[0].Product);
        Vector512<float> hi1 = Vector512.Create(groups[1].Hi), lo1 = Vector512.Create(groups[1].Lo), rstd1 = Vector512.Create(groups[1].Rstd), mean1 = Vector512.Create(groups[1].Mean), product1 = Vector512.Create(groups[1].Product);
        Vector512<float> hi2 = Vector512.Create(groups[2].Hi), lo2 = Vector512.Create(groups[2].Lo), rstd2 = Vector512.Create(groups[2].Rstd), mean2 = Vector512.Create(groups[2].Mean), product2 = Vector512.Create(groups[2].Product);
        Vector512<float> hi3 = Vector512.Create(groups[3].Hi), lo3 = Vector512.Create(groups[3].Lo), rstd3 = Vector512.Create(groups[3].Rstd), mean3 = Vector512.Create(groups[3].Mean), product3 = Vector512.Create(groups[3].Product);
        Vector512<float> w = Vector512<float>.One;
        Streaming stream = work.Stream;
        for (nint i = 0; i < whole; i += 16)
        {
            if (weight != null)
                w = Vector512.Load(weight + i);
            // The next team's lines, of which the sums will be taken.
            Streaming.Prefetch(in *dy, i + 4 * stride);
            Streaming.Prefetch(in *dy, i + 5 * stride);
            Streaming.Prefetch(in *dy, i + 6 * stride);
            Streaming.Prefetch(in *dy, i + 7 * stride);
            Streaming.Prefetch(in *x, i + 4 * stride);
            Streaming.Prefetch(in *x, i + 5 * stride);
            Streaming.Prefetch(in *x, i + 6 * stride);
            Streaming.Prefetch(in *x, i + 7 * stride);
            Vector512<float> g0 = Vector512.Load(dy + i), g1 = Vector512.Load(dy + i + stride), g2 = Vector512.Load(dy + i + 2 * stride), g3 = Vector512.Load(dy + i + 3 * stride);
            Vector512<float> n0 = (Vector512.Load(x + i) - hi0 - lo0) * rstd0, n1 = (Vector512.Load(x + i + stride) - hi1 - lo1) * rstd1;
            Vector512<float> n2 = (Vector512.Load(x + i + 2 * stride) - hi2 - lo2) * rstd2, n3 = (Vector512.Load(x + i + 3 * stride) - hi3 - lo3) * rstd3;
            if (weights != null)
                AddTo(weights + i, (g0 * n0 + g1 * n1) + (g2 * n2 + g3 * n3));
            if (biases != null)
                AddTo(biases + i, (g0 + g1) + (g2 + g3));
            if (dx != null)
            {
                stream.StoreAligned(Plus((g0 * w - mean0 - n0 * product0) * rstd0, gradSum, i), dx + i);
                stream.StoreAligned(Plus((g1 * w - mean1 - n1 * product1) * rstd1, gradSum, i + stride), dx + i + stride);
                stream.StoreAligned(Plus((g2 * w - mean2 - n2 * product2) * rstd2, gradSum, i + 2 * stride), dx + i + 2 * stride);
                stream.StoreAligned(Plus((g3 * w - mean3 - n3 * product3) * rstd3, gradSum, i + 3 * stride), dx + i + 3 * stride);
            }
        }
    }

    /// <summary>dx of neighbouring elements that share a weight.</summary>
    private static void WriteRun(float* dy, float* x, float* dx, nint n, float weight, in FloatGroup group, Streaming stream)
    {
        nint whole = n & ~15;
        for (nint i = whole; i < n; i++)
            WriteOne(dy, x, dx, null, i, weight, in group, out _);
        Vector512<float> hi = Vector512.Create(group.Hi), lo = Vector512.Create(group.Lo), rstd = Vector512.Create(group.Rstd), mean = Vector512.Create(group.Mean), product = Vector512.Create(group.Product);
        Vector512<float> w = Vector512.Create(weight);
        for (nint i = 0; i < whole; i += 16)
        {
            Vector512<float> normalized = (Vector512.Load(x + i) - hi - lo) * rstd, v = (Vector512.Load(dy + i) * w - mean - normalized * product) * rstd;
            Streaming.Prefetch(in *dy, i + stream.Ahead);
            Streaming.Prefetch(in *x, i + stream.Ahead);
            stream.StoreAligned(v, dx + i);
        }
    }

    private static float WriteOne(float* dy, float* x, float* dx, float* gradSum, nint i, float weight, in FloatGroup group, out float gradient)
    {
        gradient = dy[i];
        float normalized = (x[i] - group.Hi - group.Lo) * group.Rstd, term = gradient * normalized;
        if (dx != null)
        {
            float v = (gradient * weight - group.Mean - normalized * group.Product) * group.Rstd;
            dx[i] = gradSum == null ? v : v + gradSum[i];
        }
        return term;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Plus(Vector512<float> v, float* summand, nint i) => summand == null ? v : v + Vector512.Load(summand + i);

    private static void AddOne(double* weights, double* biases, nint i, float term, float gradient)
    {
        if (weights != null)
            weights[i] += term;
        if (biases != null)
            biases[i] += gradient;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddTo(double* sums, Vector512<float> terms)
    {
        (Vector512<double> lower, Vector512<double> upper) = Vector512.Widen(terms);
        (Vector512.Load(sums) + lower).Store(sums);
        (Vector512.Load(sums + 8) + upper).Store(sums + 8);
    }

    /// <summary>g = dy, or dy · weight.</summary>
    private interface IWeighting
    {
        static abstract Vector512<float> Load(float* dy, float* weight, nint i);
    }

    private readonly struct Unweighted : IWeighting
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Load(float* dy, float* weight, nint i) => Vector512.Load(dy + i);
    }

    private readonly struct Weighted : IWeighting
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Load(float* dy, float* weight, nint i) => Vector512.Load(dy + i) * Vector512.Load(weight + i);
    }
}
