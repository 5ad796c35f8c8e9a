using System.Buffers;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace NormLayers.Internals.Kernels;

/// <summary>The 16-bit types: their elements are widened to float, go through the kernels of float, and are rounded once.</summary>
/// <remarks>
/// <para>
/// Rows: some groups at a time, or pieces of a group that is too long, so that their floats stay in the caches next to the
/// processor and memory sees the 16-bit elements alone. What is staged together, and the order of sums over it, depends on the
/// layout alone. Columns: all elements at once, in rented memory.
/// </para>
/// <para>The floats' own error, a few 2^-24 beside the 2^-12 or 2^-9 of the rounding, leaves 0.51 ulp.</para>
/// </remarks>
internal static unsafe class StagedNorm
{
    /// <summary>Short groups are staged together, 16 KB of floats at a time; longer ones up to 64 KB whole; then in pieces of this length.</summary>
    private const nint BatchLength = 4096, StageLength = 16384;

    /// <summary>Parameter gradients are summed over this many blocks of batches at most, as in <see cref="RowNorm"/>.</summary>
    private const nint MaxBlocks = 64;

    /// <summary>Normalizes all groups; see <see cref="RowNorm"/>.</summary>
    internal static void Forward<T>(ref readonly T x, ref T y, in RowLayout layout, ref readonly float weight, ref readonly float bias, double eps, Span<GroupStatistics> statistics, int maxThreads) where T : unmanaged
    {
        fixed (T* px = &x, py = &y)
        fixed (float* pw = &weight, pb = &bias)
        fixed (GroupStatistics* ps = statistics)
        {
            if (layout.IsStrided)
            {
                using var floats = new Floats(layout.Strided.Count);
                Convert(px, floats.First, layout.Strided.Count, widen: true, maxThreads);
                ChannelNorm.Forward(in *floats.First, ref *floats.First, layout.Strided, in weight, in bias, eps, statistics, maxThreads);
                Convert(py, floats.First, layout.Strided.Count, widen: false, maxThreads);
                return;
            }
            int threads = Partition.Threads(layout.Groups * layout.Length, maxThreads);
            var work = new ForwardWork<T>
            {
                X = px, Y = py, Weight = pw, Bias = pb, Statistics = ps, Layout = layout, Eps = eps, GroupThreads = 1, Batch = BatchGroups(layout),
                Stream = Streaming.For<T>(layout.Groups * layout.Length, layout.Length, inPlace: px == py).Wanted,
            };
            if (layout.Length <= StageLength)
            {
                Partition.Run((layout.Groups + work.Batch - 1) / work.Batch, threads, &ForwardBatches<T>, &work);
                return;
            }
            if (layout.Groups >= threads)
            {
                Partition.Run(layout.Groups, threads, &ForwardLong<T>, &work);
                return;
            }
            // Fewer groups than threads: the threads share each group.
            work.GroupThreads = threads;
            ForwardLong<T>(&work, 0, layout.Groups);
        }
    }

    private struct ForwardWork<T> where T : unmanaged
    {
        internal T* X, Y;
        internal float* Weight, Bias;
        internal GroupStatistics* Statistics;
        internal RowLayout Layout;
        internal double Eps;
        internal nint Batch;
        internal int GroupThreads;
        internal bool Stream;
    }

    /// <summary>How many groups are staged together: whole periods, so that all begin with the first parameter; else one.</summary>
    private static nint BatchGroups(in RowLayout layout) => Math.Max(1, BatchLength / (layout.Period * layout.Length) * layout.Period);

    /// <summary>The layout of a batch that begins with the first parameter, or is one group, whose first parameter is moved there.</summary>
    private static RowLayout BatchLayout(in RowLayout layout, nint groups) => layout with { Groups = groups, Period = groups == 1 ? 1 : layout.Period };

    private static void ForwardBatches<T>(void* state, nint start, nint end) where T : unmanaged
    {
        ref readonly ForwardWork<T> work = ref *(ForwardWork<T>*)state;
        nint length = work.Layout.Length;
        using var floats = new Floats(work.Batch * length);
        for (nint batch = start; batch < end; batch++)
        {
            nint g = batch * work.Batch, groups = Math.Min(work.Batch, work.Layout.Groups - g), first = work.Layout.FirstParameter(g);
            SixteenBits.Widen(work.X + g * length, floats.First, groups * length);
            RowNorm.Forward(in *floats.First, ref *floats.First, BatchLayout(work.Layout, groups), in *Offset(work.Weight, first), in *Offset(work.Bias, first), work.Eps,
                work.Statistics == null ? [] : new Span<GroupStatistics>(work.Statistics + g, (int)groups), 1, ref Unsafe.NullRef<float>(), ref Unsafe.NullRef<float>());
            SixteenBits.Narrow(floats.First, work.Y + g * length, groups * length, work.Stream);
        }
        if (work.Stream)
            Streaming.Fence();
    }

    /// <summary>Groups longer than a stage: their statistics from the 16-bit elements, then piece by piece with these given.</summary>
    private static void ForwardLong<T>(void* state, nint start, nint end) where T : unmanaged
    {
        ref readonly ForwardWork<T> work = ref *(ForwardWork<T>*)state;
        ref readonly RowLayout layout = ref work.Layout;
        for (nint g = start; g < end; g++)
        {
            T* x = work.X + g * layout.Length;
            GroupStatistics group = layout.Statistic == RowStatistic.Given ? work.Statistics[g] : new GroupStatistics(
                layout.Statistic == RowStatistic.MeanSquare ? Moments.OfSquares(in *x, layout.Length, work.GroupThreads) : Moments.Of(in *x, layout.Length, work.GroupThreads),
                work.Eps, zeroDeviation: layout.Statistic == RowStatistic.MeanAndVarianceOrZero);
            if (work.Statistics != null)
                work.Statistics[g] = group;
            nint first = layout.FirstParameter(g);
            ForwardWork<T> pieces = work;
            pieces.X = x;
            pieces.Y = work.Y + g * layout.Length;
            pieces.Weight = Offset(work.Weight, first);
            pieces.Bias = Offset(work.Bias, first);
            pieces.Statistics = &group;
            Partition.Run(Pieces(layout), work.GroupThreads, &ForwardPieces<T>, &pieces);
        }
    }

    private static void ForwardPieces<T>(void* state, nint start, nint end) where T : unmanaged
    {
        ref readonly ForwardWork<T> work = ref *(ForwardWork<T>*)state;
        using var floats = new Floats(StageLength);
        for (nint piece = start; piece < end; piece++)
        {
            (nint at, nint length) = Piece(piece, work.Layout);
            nint run = Math.Min(work.Layout.Run, length), p = at / work.Layout.Run;
            SixteenBits.Widen(work.X + at, floats.First, length);
            RowNorm.Forward(in *floats.First, ref *floats.First, new RowLayout(1, length / run, run, 1, RowStatistic.Given), in *Offset(work.Weight, p), in *Offset(work.Bias, p), work.Eps,
                new Span<GroupStatistics>(work.Statistics, 1), 1, ref Unsafe.NullRef<float>(), ref Unsafe.NullRef<float>());
            SixteenBits.Narrow(floats.First, work.Y + at, length, work.Stream);
        }
        if (work.Stream)
            Streaming.Fence();
    }

    /// <summary>A long group's pieces: as many whole runs as fit, or parts of one run.</summary>
    private static nint Pieces(in RowLayout layout)
    {
        nint unit = Math.Min(layout.Run, StageLength), perRun = (layout.Run + unit - 1) / unit, runs = StageLength / unit;
        return perRun > 1 ? layout.GroupParameters * perRun : (layout.GroupParameters + runs - 1) / runs;
    }

    private static (nint At, nint Length) Piece(nint piece, in RowLayout layout)
    {
        if (layout.Run <= StageLength)
        {
            nint runs = StageLength / layout.Run * layout.Run;
            return (piece * runs, Math.Min(runs, layout.Length - piece * runs));
        }
        nint perRun = (layout.Run + StageLength - 1) / StageLength, part = piece % perRun * StageLength;
        return (piece / perRun * layout.Run + part, Math.Min(StageLength, layout.Run - part));
    }

    /// <summary>Computes the gradients of all groups; see <see cref="RowNorm"/>.</summary>
    internal static void Backward<T>(ref readonly T dy, ref readonly T x, ref T dx, in RowLayout layout, ReadOnlySpan<GroupStatistics> statistics, ref readonly float weight, Span<double> weightSums, Span<double> biasSums, int maxThreads) where T : unmanaged
    {
        fixed (T* pdy = &dy, px = &x, pdx = &dx)
        fixed (float* pw = &weight)
        fixed (GroupStatistics* ps = statistics)
        {
            if (layout.IsStrided)
            {
                nint count = layout.Strided.Count;
                using Floats gradients = new(count), inputs = new(count);
                Convert(pdy, gradients.First, count, widen: true, maxThreads);
                Convert(px, inputs.First, count, widen: true, maxThreads);
                ChannelNorm.Backward(in *gradients.First, in *inputs.First, ref *(pdx == null ? null : gradients.First), layout.Strided, statistics, in weight, weightSums, biasSums, maxThreads);
                if (pdx != null)
                    Convert(pdx, gradients.First, count, widen: false, maxThreads);
                return;
            }
            nint batch = layout.Length <= StageLength ? BatchGroups(layout) : 1, batches = (layout.Groups + batch - 1) / batch;
            nint blockLength = (batches + MaxBlocks - 1) / MaxBlocks, blocks = (batches + blockLength - 1) / blockLength;
            int threads = Partition.Threads(layout.Groups * layout.Length, maxThreads), sums = weightSums.Length + biasSums.Length;
            weightSums.Clear();
            biasSums.Clear();
            // One thread adds each block up at once, in a buffer that stays in cache; several keep the blocks apart until all are done.
            using var scratch = new RentedDoubles(threads == 1 ? sums : sums * blocks);
            fixed (double* pSums = scratch.Span)
            {
                var work = new BackwardWork<T>
                {
                    Dy = pdy, X = px, Dx = pdx, Weight = pw, Statistics = ps, Sums = pSums, Layout = layout, Batch = batch, Batches = batches, BlockLength = blockLength,
                    WeightSums = weightSums.Length, BiasSums = biasSums.Length, Stride = threads == 1 ? 0 : sums,
                    Stream = Streaming.For<T>(layout.Groups * layout.Length, layout.Length, inPlace: pdx == pdy || pdx == px || pdx == null).Wanted,
                };
                if (threads > 1)
                    Partition.Run(blocks, threads, &BackwardBlocks<T>, &work);
                for (nint block = 0; block < blocks; block++)
                {
                    if (threads == 1)
                        BackwardBlocks<T>(&work, block, block + 1);
                    ReadOnlySpan<double> blockSums = scratch.Span.Slice((int)(block * work.Stride), sums);
                    TensorPrimitives.Add(weightSums, blockSums[..weightSums.Length], weightSums);
                    TensorPrimitives.Add(biasSums, blockSums[weightSums.Length..], biasSums);
                }
            }
        }
    }

    private struct BackwardWork<T> where T : unmanaged
    {
        internal T* Dy, X, Dx;
        internal float* Weight;
        internal GroupStatistics* Statistics;
        internal double* Sums;
        internal RowLayout Layout;
        internal nint Batch, Batches, BlockLength, Stride;
        internal int WeightSums, BiasSums;
        internal bool Stream;
    }

    private static void BackwardBlocks<T>(void* state, nint start, nint end) where T : unmanaged
    {
        ref readonly BackwardWork<T> work = ref *(BackwardWork<T>*)state;
        nint stage = work.Layout.Length <= StageLength ? work.Batch * work.Layout.Length : StageLength;
        using Floats gradients = new(stage), inputs = new(stage);
        using var batchSums = new RentedDoubles(work.WeightSums + work.BiasSums);
        for (nint block = start; block < end; block++)
        {
            var weightSums = new Span<double>(work.Sums + block * work.Stride, work.WeightSums);
            var biasSums = new Span<double>(work.Sums + block * work.Stride + work.WeightSums, work.BiasSums);
            weightSums.Clear();
            biasSums.Clear();
            for (nint batch = block * work.BlockLength; batch < Math.Min((block + 1) * work.BlockLength, work.Batches); batch++)
            {
                nint g = batch * work.Batch, groups = Math.Min(work.Batch, work.Layout.Groups - g), first = work.Layout.FirstParameter(g);
                RowLayout layout = BatchLayout(work.Layout, groups);
                Span<double> weights = weightSums.IsEmpty ? [] : weightSums.Slice((int)first, (int)layout.Parameters), biases = biasSums.IsEmpty ? [] : biasSums.Slice((int)first, (int)layout.Parameters);
                if (layout.Length > StageLength)
                {
                    BackwardLong(in work, g, gradients.First, inputs.First, Offset(work.Weight, first), weights, biases);
                    continue;
                }
                nint at = g * layout.Length, length = groups * layout.Length;
                Span<double> batchWeights = batchSums.Span[..weights.Length], batchBiases = batchSums.Span.Slice(weights.Length, biases.Length);
                SixteenBits.Widen(work.Dy + at, gradients.First, length);
                SixteenBits.Widen(work.X + at, inputs.First, length);
                RowNorm.Backward(in *gradients.First, in *inputs.First, ref *(work.Dx == null ? null : gradients.First), layout, new ReadOnlySpan<GroupStatistics>(work.Statistics + g, (int)groups),
                    in *Offset(work.Weight, first), batchWeights, batchBiases, 1, ref Unsafe.NullRef<float>(), ref Unsafe.NullRef<float>());
                if (work.Dx != null)
                    SixteenBits.Narrow(gradients.First, work.Dx + at, length, work.Stream);
                TensorPrimitives.Add(weights, batchWeights, weights);
                TensorPrimitives.Add(biases, batchBiases, biases);
            }
        }
        if (work.Stream)
            Streaming.Fence();
    }

    /// <summary>The gradients of a group that is longer than a stage: the sums over its pieces first, and then, reading them again, dx.</summary>
    private static void BackwardLong<T>(in BackwardWork<T> work, nint g, float* dy, float* x, float* weight, Span<double> weights, Span<double> biases) where T : unmanaged
    {
        ref readonly RowLayout layout = ref work.Layout;
        ref readonly GroupStatistics group = ref work.Statistics[g];
        nint start = g * layout.Length;
        double sum = 0, product = 0;
        for (nint i = 0, length; i < layout.Length; i += length)
        {
            length = Widen(in work, start, i, dy, x);
            int p = (int)(i / layout.Run);
            if (layout.Run == 1)
            {
                (double pieceSum, double pieceProduct) = RowNorm.SumElements(in *dy, in *x, length, in group, in *Offset(weight, i),
                    weights.IsEmpty ? [] : weights.Slice(p, (int)length), biases.IsEmpty ? [] : biases.Slice(p, (int)length));
                (sum, product) = (sum + pieceSum, product + pieceProduct);
                continue;
            }
            (double runSum, double runProduct) = RowNorm.SumElements(in *dy, in *x, length, in group, in Unsafe.NullRef<float>(), [], []);
            double w = weight == null ? 1 : weight[p];
            (sum, product) = (sum + runSum * w, product + runProduct * w);
            if (!weights.IsEmpty)
                weights[p] += runProduct;
            if (!biases.IsEmpty)
                biases[p] += runSum;
        }
        if (work.Dx == null)
            return;
        double mean = layout.Centered ? sum / layout.Length : 0, meanProduct = layout.Scaled ? product / layout.Length : 0;
        bool each = layout.Run == 1 && weight != null;
        for (nint i = 0, length; i < layout.Length; i += length)
        {
            length = Widen(in work, start, i, dy, x);
            RowNorm.WriteElements(in *dy, in *x, ref *dy, length, in group, mean, meanProduct, in *(each ? weight + i : null), each || weight == null ? 1 : weight[i / layout.Run]);
            SixteenBits.Narrow(dy, work.Dx + start + i, length, work.Stream);
        }
    }

    /// <summary>Widens the elements of a group from i on, as far as a stage and one parameter's run go, and returns how many.</summary>
    private static nint Widen<T>(in BackwardWork<T> work, nint start, nint i, float* dy, float* x) where T : unmanaged
    {
        nint run = work.Layout.Run, length = Math.Min(StageLength, (run == 1 ? work.Layout.Length : (i / run + 1) * run) - i);
        SixteenBits.Widen(work.Dy + start + i, dy, length);
        SixteenBits.Widen(work.X + start + i, x, length);
        return length;
    }

    /// <summary>Moves a pointer, and leaves null alone.</summary>
    private static float* Offset(float* parameter, nint elements) => parameter == null ? null : parameter + elements;

    private struct ConvertWork<T> where T : unmanaged
    {
        internal T* Elements;
        internal float* Floats;
        internal nint Length;
        internal bool Widen;
    }

    /// <summary>Widens or rounds all elements.</summary>
    private static void Convert<T>(T* elements, float* floats, nint length, bool widen, int maxThreads) where T : unmanaged
    {
        var work = new ConvertWork<T> { Elements = elements, Floats = floats, Length = length, Widen = widen };
        Partition.Run((length + StageLength - 1) / StageLength, Partition.Threads(length, maxThreads), &ConvertParts<T>, &work);
    }

    private static void ConvertParts<T>(void* state, nint start, nint end) where T : unmanaged
    {
        ref readonly ConvertWork<T> work = ref *(ConvertWork<T>*)state;
        nint first = start * StageLength, length = Math.Min(end * StageLength, work.Length) - first;
        if (work.Widen)
            SixteenBits.Widen(work.Elements + first, work.Floats + first, length);
        else
            SixteenBits.Narrow(work.Floats + first, work.Elements + first, length, stream: false);
    }

    /// <summary>Rented memory for floats, held in place.</summary>
    private readonly ref struct Floats
    {
        private readonly float[] array;
        private readonly GCHandle handle;

        internal Floats(nint length)
        {
            array = ArrayPool<float>.Shared.Rent(checked((int)length));
            handle = GCHandle.Alloc(array, GCHandleType.Pinned);
            First = (float*)handle.AddrOfPinnedObject();
        }

        internal float* First { get; }

        public void Dispose()
        {
            handle.Free();
            ArrayPool<float>.Shared.Return(array);
        }
    }
}
