using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>The derivative of the lines in RowNorm.cs.</summary>
/// <remarks>
/// <para>
/// With n = (x - mean) · rstd and g = dy · weight: dx = rstd · (g - E[g] - n · E[g · n]), where E is the mean over the group;
/// a weight's gradient is the sum of dy · n over all elements that it multiplied, a bias's the sum of dy. E[g] is left out
/// where the group is not centered, and both where its statistics are given.
/// </para>
/// <para>
/// All of it is computed in double and rounded once, since g - E[g] and n · E[g · n] may cancel. Order: within a group (or one
/// channel's run of it) two vectors of eight doubles take the elements in rising order and are folded by halves, and a last
/// group of fewer than 16 is added one by one. Parameter
/// gradients are summed over blocks of periods whose number depends on the layout alone, and the blocks are added in order,
/// so that blocks may go to different threads without changing a bit.
/// </para>
/// </remarks>
internal static unsafe partial class RowNorm
{
    private const nint MaxBlocks = 64;

    /// <summary>Shorter blocks would spend their time on adding parameter gradients up.</summary>
    private const nint LeastBlockElements = 65536;

    /// <summary>Computes the gradients of all groups; each result is optional.</summary>
    /// <param name="dy">The gradient of the output, contiguous.</param>
    /// <param name="x">The forward's input, contiguous.</param>
    /// <param name="dx">Takes the input's gradient; may be <paramref name="dy"/> itself; a null reference for none.</param>
    /// <param name="layout">The forward's groups.</param>
    /// <param name="statistics">The forward's statistics, one a group.</param>
    /// <param name="weight">The first factor, or a null reference.</param>
    /// <param name="weightSums">Takes the weight's gradient, one a parameter; empty for none.</param>
    /// <param name="biasSums">Takes the bias's gradient, one a parameter; empty for none.</param>
    /// <param name="maxThreads">The most threads, or 0.</param>
    /// <param name="gradSum">What is added to the input's gradient, contiguous and apart from it; a null reference for nothing.</param>
    /// <param name="bias">The first summand, or a null reference; read only for an activated output.</param>
    /// <param name="activated">Whether the forward applied SiLU to its output.</param>
    internal static void Backward<T, TParameter>(ref readonly T dy, ref readonly T x, ref T dx, in RowLayout layout, ReadOnlySpan<GroupStatistics> statistics, ref readonly TParameter weight, Span<double> weightSums, Span<double> biasSums, int maxThreads, ref readonly T gradSum, ref readonly TParameter bias, bool activated = false)
        where T : unmanaged
        where TParameter : unmanaged
    {
        nint periods = layout.Groups / layout.Period, periodElements = layout.Length * (layout.Repeat == 0 ? layout.Period : 1);
        nint leastLength = (LeastBlockElements + periodElements - 1) / periodElements;
        nint blockLength = Math.Max((periods + MaxBlocks - 1) / MaxBlocks, leastLength);
        // Whole teams, whose terms are added up at once.
        if (layout.Run == 1)
            blockLength = (blockLength + Team - 1) / Team * Team;
        nint blocks = (periods + blockLength - 1) / blockLength;
        int threads = Partition.Threads(layout.Groups * layout.Length, maxThreads);
        bool wide = typeof(TParameter) == typeof(float) && layout.Run == 1 && layout.Length >= LeastWideLength && !activated;
        // Fewer groups than threads: the threads share each group.
        bool shared = typeof(TParameter) == typeof(float) && layout.Run > 1 && layout.Length >= Moments.LeastFloatLength && layout.Groups < threads && blockLength == 1 && layout.Repeat == 0 && !activated && Unsafe.IsNullRef(in gradSum);
        int sums = weightSums.Length + biasSums.Length;
        // The only block is added up in its place. Of several, one thread adds each up at once, in a buffer that stays in cache; more threads keep them apart until all are done.
        bool inPlace = shared || wide || blocks == 1;
        using var scratch = new RentedDoubles(inPlace ? 0 : threads == 1 ? sums : sums * blocks);
        if (shared || !inPlace)
        {
            weightSums.Clear();
            biasSums.Clear();
        }
        fixed (T* pdy = &dy, px = &x, pdx = &dx, pGradSum = &gradSum)
        fixed (TParameter* pw = &weight, pb = &bias)
        fixed (GroupStatistics* ps = statistics)
        fixed (double* pScratch = scratch.Span, pWeightSums = weightSums, pBiasSums = biasSums)
        {
            var work = new BackwardWork<T, TParameter>
            {
                Dy = pdy, X = px, Dx = pdx, GradSum = pdx == null ? null : pGradSum, Weight = pw, Bias = pb, Activated = activated, Statistics = ps, Layout = layout, Periods = periods, BlockLength = blockLength, Stride = threads == 1 ? 0 : sums,
                WeightSums = pWeightSums == null || inPlace ? pWeightSums : pScratch, BiasSums = pBiasSums == null || inPlace ? pBiasSums : pScratch + weightSums.Length,
                Stream = Streaming.For<T>(layout.Groups * layout.Length, layout.Length, inPlace: pdx == pdy || pdx == px || pdx == null || (layout.Run > 1 ? layout.Run : layout.Length) % 16 != 0 || (nint)pdx % 64 != 0),
            };
            if (wide)
            {
                BackwardWide(in *(BackwardWork<T, float>*)&work, threads);
                return;
            }
            if (shared)
            {
                BackwardShared(in *(BackwardWork<T, float>*)&work, threads);
                return;
            }
            if (threads > 1 || blocks == 1)
                Partition.Run(blocks * layout.Period, threads, &BackwardBlocks<T, TParameter>, &work);
            for (nint block = 0; block < blocks && blocks > 1; block++)
            {
                if (threads == 1)
                    BackwardBlocks<T, TParameter>(&work, block * layout.Period, (block + 1) * layout.Period);
                ReadOnlySpan<double> blockSums = scratch.Span.Slice((int)(block * work.Stride), sums);
                TensorPrimitives.Add(weightSums, blockSums[..weightSums.Length], weightSums);
                TensorPrimitives.Add(biasSums, blockSums[weightSums.Length..], biasSums);
            }
        }
    }

    private struct BackwardWork<T, TParameter>
        where T : unmanaged
        where TParameter : unmanaged
    {
        internal T* Dy, X, Dx, GradSum;
        internal TParameter* Weight, Bias;
        internal GroupStatistics* Statistics;
        internal double* WeightSums, BiasSums;
        internal RowLayout Layout;
        internal nint Periods, BlockLength, Stride;
        internal Streaming Stream;
        internal bool Activated;
    }

    /// <summary>A range of units, each the groups at one place of the period in one block of periods: no two units share a parameter of a block.</summary>
    private static void BackwardBlocks<T, TParameter>(void* state, nint start, nint end)
        where T : unmanaged
        where TParameter : unmanaged
    {
        ref readonly BackwardWork<T, TParameter> work = ref *(BackwardWork<T, TParameter>*)state;
        for (nint unit = start; unit < end; unit++)
        {
            nint block = unit / work.Layout.Period, place = unit % work.Layout.Period, first = place * work.Layout.GroupParameters;
            int count = (int)work.Layout.GroupParameters;
            double* weightSums = work.WeightSums == null ? null : work.WeightSums + block * work.Stride + first;
            double* biasSums = work.BiasSums == null ? null : work.BiasSums + block * work.Stride + first;
            Span<double> weights = weightSums == null ? [] : new Span<double>(weightSums, count), biases = biasSums == null ? [] : new Span<double>(biasSums, count);
            weights.Clear();
            biases.Clear();
            nint firstPeriod = block * work.BlockLength, endPeriod = Math.Min(firstPeriod + work.BlockLength, work.Periods);
            if (work.Activated && (typeof(TParameter) == typeof(double) || !IsShort(in work.Layout)))
            {
                BackwardActivated(in work, place, firstPeriod, endPeriod, weightSums, biasSums);
                continue;
            }
            if (typeof(TParameter) == typeof(float))
            {
                ref readonly BackwardWork<T, float> floats = ref *(BackwardWork<T, float>*)state;
                if (IsShort(in work.Layout))
                {
                    BackwardShort(in floats, place, firstPeriod, endPeriod, weights, biases);
                    continue;
                }
                if (work.Layout.Run == 1)
                {
                    BackwardElementwise(in floats, place, firstPeriod, endPeriod, weightSums, biasSums);
                    continue;
                }
                BackwardRuns(in floats, place, firstPeriod, endPeriod, weightSums, biasSums);
                continue;
            }
            for (nint period = firstPeriod; period < endPeriod; period++)
            {
                nint g = work.Layout.GroupAt(period, place);
                BackwardGroup(in *work.Dy, in *work.X, ref *work.Dx, g, in work.Layout, in work.Statistics[g], in *work.Weight, weights, biases);
                AddGradSum(in work, g);
            }
        }
        if (work.Stream.Wanted)
            Streaming.Fence();
    }

    /// <summary>Recovers the input less its mean from the output: (y - bias) / weight / rstd.</summary>
    internal static void RecoverCentered<T, TParameter>(ref readonly T y, ref T centered, in RowLayout layout, ReadOnlySpan<GroupStatistics> statistics, ref readonly TParameter weight, ref readonly TParameter bias, Span<GroupStatistics> centeredStatistics)
        where T : unmanaged
        where TParameter : unmanaged
    {
        for (nint g = 0; g < layout.Groups; g++)
        {
            ref readonly GroupStatistics group = ref statistics[(int)g];
            centeredStatistics[(int)g] = group.Centered;
            nint start = g * layout.Length, first = layout.FirstParameter(g);
            for (nint i = 0; i < layout.Length; i++)
            {
                nint p = first + i / layout.Run;
                double normalized = (At(in y, start + i, 0) - At(in bias, p, 0)) / At(in weight, p, 1);
                Unsafe.Add(ref centered, start + i) = Elements.FromDouble<T>(group.Rstd == 0 ? 0 : normalized / group.Rstd);
            }
        }
    }

    private static void BackwardGroup<T, TParameter>(ref readonly T dy, ref readonly T x, ref T dx, nint g, in RowLayout layout, in GroupStatistics group, ref readonly TParameter weight, Span<double> weights, Span<double> biases)
        where T : unmanaged
        where TParameter : unmanaged
    {
        nint start = g * layout.Length, count = layout.GroupParameters, first = layout.FirstParameter(g);
        ref T gradient = ref Unsafe.Add(ref Unsafe.AsRef(in dy), start);
        ref T input = ref Unsafe.Add(ref Unsafe.AsRef(in x), start);
        double sum = 0, product = 0;
        if (layout.Run == 1)
        {
            (sum, product) = SumElements(in gradient, in input, layout.Length, in group, in Offset(in weight, first), weights, biases);
        }
        else
        {
            for (nint p = 0; p < count; p++)
            {
                (double runSum, double runProduct) = SumElements(in Unsafe.Add(ref gradient, p * layout.Run), in Unsafe.Add(ref input, p * layout.Run), layout.Run, in group, in Unsafe.NullRef<TParameter>(), [], []);
                double w = Unsafe.IsNullRef(in weight) ? 1 : Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in weight), first + p));
                sum += runSum * w;
                product += runProduct * w;
                if (!weights.IsEmpty)
                    weights[(int)p] += runProduct;
                if (!biases.IsEmpty)
                    biases[(int)p] += runSum;
            }
        }
        if (Unsafe.IsNullRef(in dx))
            return;

        ref T result = ref Unsafe.Add(ref dx, start);
        if (!layout.Scaled && !double.IsFinite(product))
        {
            // Statistics that are given do not move with the input, which then may be infinite or NaN.
            for (nint i = 0; i < layout.Length; i++)
                Unsafe.Add(ref result, i) = Elements.FromDouble<T>(Elements.ToDouble(Unsafe.Add(ref gradient, i)) * At(in weight, first + i / layout.Run, 1) * group.Rstd);
            return;
        }
        double mean = layout.Centered ? sum / layout.Length : 0, meanProduct = layout.Scaled ? product / layout.Length : 0;
        if (layout.Run == 1)
        {
            WriteElements(in gradient, in input, ref result, layout.Length, in group, mean, meanProduct, in Offset(in weight, first), 1);
            return;
        }
        for (nint p = 0; p < count; p++)
        {
            nint at = p * layout.Run;
            double w = Unsafe.IsNullRef(in weight) ? 1 : Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in weight), first + p));
            WriteElements(in Unsafe.Add(ref gradient, at), in Unsafe.Add(ref input, at), ref Unsafe.Add(ref result, at), layout.Run, in group, mean, meanProduct, in Unsafe.NullRef<TParameter>(), w);
        }
    }

    /// <summary>The sums of g and of g · n over neighbouring elements; dy · n and dy are also added to the element-wise sums that are wanted.</summary>
    internal static (double Sum, double Product) SumElements<T, TParameter>(ref readonly T dy, ref readonly T x, nint length, in GroupStatistics group, ref readonly TParameter weight, Span<double> weightSums, Span<double> biasSums)
        where T : unmanaged
        where TParameter : unmanaged
    {
        Vector512<double> s0 = default, s1 = default, p0 = default, p1 = default;
        Vector512<double> scale = Vector512.Create(group.Scale), hi = Vector512.Create(group.ScaledMean), lo = Vector512.Create(group.ScaledMeanLow), rstd = Vector512.Create(group.ScaledRstd);
        ref double weights = ref MemoryMarshal.GetReference(weightSums), biases = ref MemoryMarshal.GetReference(biasSums);
        nint i = 0;
        for (; i <= length - Elements.Step; i += Elements.Step)
        {
            (Vector512<double> g0, Vector512<double> g1) = Elements.Widen(in dy, i);
            (Vector512<double> n0, Vector512<double> n1) = Elements.Widen(in x, i);
            (n0, n1) = ((n0 * scale - hi - lo) * rstd, (n1 * scale - hi - lo) * rstd);
            if (!Unsafe.IsNullRef(ref weights))
                AddTo(ref weights, i, g0 * n0, g1 * n1);
            if (!Unsafe.IsNullRef(ref biases))
                AddTo(ref biases, i, g0, g1);
            if (!Unsafe.IsNullRef(in weight))
            {
                (Vector512<double> w0, Vector512<double> w1) = Elements.Widen(in weight, i);
                (g0, g1) = (g0 * w0, g1 * w1);
            }
            s0 += g0;
            s1 += g1;
            p0 += g0 * n0;
            p1 += g1 * n1;
        }
        double sum = Moments.Fold(s0 + s1), product = Moments.Fold(p0 + p1);
        for (; i < length; i++)
        {
            double g = Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in dy), i)), n = group.Normalize(Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in x), i)));
            if (!Unsafe.IsNullRef(ref weights))
                Unsafe.Add(ref weights, i) += g * n;
            if (!Unsafe.IsNullRef(ref biases))
                Unsafe.Add(ref biases, i) += g;
            if (!Unsafe.IsNullRef(in weight))
                g *= Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in weight), i));
            sum += g;
            product += g * n;
        }
        return (sum, product);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static void AddTo(ref double sums, nint offset, Vector512<double> lower, Vector512<double> upper)
        {
            (Vector512.LoadUnsafe(in sums, (nuint)offset) + lower).StoreUnsafe(ref sums, (nuint)offset);
            (Vector512.LoadUnsafe(in sums, (nuint)offset + 8) + upper).StoreUnsafe(ref sums, (nuint)offset + 8);
        }
    }

    /// <summary>dx = (dy · weight - mean - n · meanProduct) · rstd, with a weight for each element or one for all.</summary>
    internal static void WriteElements<T, TParameter>(ref readonly T dy, ref readonly T x, ref T dx, nint length, in GroupStatistics group, double mean, double meanProduct, ref readonly TParameter weight, double runWeight)
        where T : unmanaged
        where TParameter : unmanaged
    {
        Vector512<double> means = Vector512.Create(mean), products = Vector512.Create(meanProduct), trueRstd = Vector512.Create(group.Rstd);
        Vector512<double> scale = Vector512.Create(group.Scale), hi = Vector512.Create(group.ScaledMean), lo = Vector512.Create(group.ScaledMeanLow), rstd = Vector512.Create(group.ScaledRstd);
        Vector512<double> w0 = Vector512.Create(runWeight), w1 = w0;
        nint i = 0;
        for (; i <= length - Elements.Step; i += Elements.Step)
        {
            (Vector512<double> g0, Vector512<double> g1) = Elements.Widen(in dy, i);
            (Vector512<double> n0, Vector512<double> n1) = Elements.Widen(in x, i);
            (n0, n1) = ((n0 * scale - hi - lo) * rstd, (n1 * scale - hi - lo) * rstd);
            if (!Unsafe.IsNullRef(in weight))
                (w0, w1) = Elements.Widen(in weight, i);
            Elements.Narrow((g0 * w0 - means - n0 * products) * trueRstd, (g1 * w1 - means - n1 * products) * trueRstd, ref dx, i);
        }
        for (; i < length; i++)
        {
            double g = Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in dy), i)), n = group.Normalize(Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in x), i)));
            double w = Unsafe.IsNullRef(in weight) ? runWeight : Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in weight), i));
            Unsafe.Add(ref dx, i) = Elements.FromDouble<T>((g * w - mean - n * meanProduct) * group.Rstd);
        }
    }
}
