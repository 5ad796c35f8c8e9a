using System.Numerics.Tensors;
using System.Runtime.CompilerServices;

namespace NormLayers.Internals.Kernels;

/// <summary>The derivative of the lines in ChannelNorm.cs; the formula is RowNorm's.</summary>
/// <remarks>
/// Gradients of parameters are summed over at most 64 blocks of outer blocks, then over these and their strips in order, and the columns of a
/// group are added in order. All of these cuts depend on the shape alone.
/// </remarks>
internal static unsafe partial class ChannelNorm
{
    private const nint MostOuterBlocks = 64;

    /// <summary>Doubles of working memory for each column: the constants of the normalized value, 1/deviation, weight and two means.</summary>
    private const nint BackwardWorkPerColumn = 8;

    /// <summary>Computes the gradients of all groups; each result is optional.</summary>
    /// <param name="dy">The gradient of the output, contiguous.</param>
    /// <param name="x">The forward's input, contiguous.</param>
    /// <param name="dx">Takes the input's gradient; may be <paramref name="dy"/> itself; a null reference for none.</param>
    /// <param name="layout">The forward's groups, at least one.</param>
    /// <param name="statistics">The forward's statistics, one a group.</param>
    /// <param name="weight">The first factor, or a null reference.</param>
    /// <param name="weightSums">Takes the weight's gradient, one a parameter; empty for none.</param>
    /// <param name="biasSums">Takes the bias's gradient, one a parameter; empty for none.</param>
    /// <param name="maxThreads">The most threads, or 0.</param>
    internal static void Backward<T, TParameter>(ref readonly T dy, ref readonly T x, ref T dx, in ChannelLayout layout, ReadOnlySpan<GroupStatistics> statistics, ref readonly TParameter weight, Span<double> weightSums, Span<double> biasSums, int maxThreads)
        where T : unmanaged
        where TParameter : unmanaged
    {
        weightSums.Clear();
        biasSums.Clear();
        int threads = Partition.Threads(layout.Count, maxThreads);
        nint blockLength = (layout.Outer + MostOuterBlocks - 1) / MostOuterBlocks, blocks = (layout.Outer + blockLength - 1) / blockLength;
        // Sums over a row are cut at the strips, which therefore may not depend on the threads.
        nint stripColumns = layout.InRuns ? RunStrip<T>(layout, threads) : layout.StripColumns(sizeof(T)), strips = (layout.Columns + stripColumns - 1) / stripColumns;
        nint perUnit = layout.Axis switch { ParameterAxis.Row => layout.Rows, ParameterAxis.Column => stripColumns, _ => stripColumns / layout.GroupColumns };
        using var sums = new RentedDoubles(blocks * strips * 2 * perUnit);
        fixed (T* pdy = &dy, px = &x, pdx = &dx)
        fixed (TParameter* pw = &weight)
        fixed (GroupStatistics* ps = statistics)
        fixed (double* pSums = sums.Span)
        {
            var work = new BackwardWork<T, TParameter>
            {
                Dy = pdy, X = px, Dx = pdx, Weight = pw, Statistics = ps, Layout = layout, StripColumns = stripColumns, Strips = strips,
                Sums = pSums, SumsPerUnit = perUnit, OuterPerBlock = blockLength, Threads = 1,
                Stream = pdx == null || pdx == pdy ? default : Streaming.For<T>(layout.Count, stripColumns),
            };
            if (blocks * strips >= threads)
                Partition.Run(blocks * strips, threads, &BackwardUnits<T, TParameter>, &work);
            else
            {
                work.Threads = threads;
                BackwardUnits<T, TParameter>(&work, 0, blocks * strips);
            }
            for (nint unit = 0; unit < blocks * strips; unit++)
            {
                nint column = unit % strips * stripColumns, columns = Math.Min(stripColumns, layout.Columns - column);
                (nint first, nint count) = layout.Axis switch
                {
                    ParameterAxis.Row => (0, layout.Rows),
                    ParameterAxis.Column => (column, columns),
                    _ => (column / layout.GroupColumns, columns / layout.GroupColumns),
                };
                Add(weightSums, new ReadOnlySpan<double>(pSums + unit * 2 * perUnit, (int)count), first);
                Add(biasSums, new ReadOnlySpan<double>(pSums + (unit * 2 + 1) * perUnit, (int)count), first);
            }
        }

        static void Add(Span<double> all, ReadOnlySpan<double> terms, nint first)
        {
            if (all.IsEmpty)
                return;
            Span<double> sums = all.Slice((int)first, terms.Length);
            TensorPrimitives.Add(sums, terms, sums);
        }
    }

    private struct BackwardWork<T, TParameter>
        where T : unmanaged
        where TParameter : unmanaged
    {
        internal T* Dy, X, Dx;
        internal TParameter* Weight;
        internal GroupStatistics* Statistics;
        internal ChannelLayout Layout;
        internal Streaming Stream;
        internal double* Sums;
        internal nint StripColumns, Strips, SumsPerUnit, OuterPerBlock;
        internal int Threads;

        internal readonly double WeightOf(nint parameter) => Weight == null ? 1 : Elements.ToDouble(Weight[parameter]);
    }

    /// <summary>Some columns of one outer block, in the backward.</summary>
    private struct BackwardStrip<T, TParameter>
        where T : unmanaged
        where TParameter : unmanaged
    {
        internal BackwardWork<T, TParameter>* Work;
        internal T* Dy, X, Dx;
        internal GroupStatistics* Statistics;
        internal nint Column, Columns, BlockRows;

        /// <summary>For each row block a sum of dy and one of dy · n per column; behind all of them the constants of the columns.</summary>
        internal double* Memory;
        internal double* Constants;

        /// <summary>For each row a sum of dy and one of dy · n.</summary>
        internal double* RowSums;

        /// <summary>Of each column, whether it is computed in float; null where none is.</summary>
        internal byte* Exact;

        /// <summary>What the columns in float are written with: of each column, and of each lane of the vectors that go through the rows.</summary>
        internal GradientScale Scale, LaneScale;
        internal Lanes Lanes;
        internal nint RowCount, RowStride, ChunkRows;
        internal Streaming Stream;
        internal bool Reversed;

        /// <summary>The gradients of the unit's weights, and of its biases.</summary>
        internal double* Weights, Biases;

        internal readonly ref readonly ChannelLayout Layout => ref Work->Layout;

        internal readonly nint Width => ColumnMoments.Width(Columns);

        internal readonly nint Parameter(nint row, nint column) => Layout.Axis switch
        {
            ParameterAxis.Row => row,
            ParameterAxis.Column => Column + column,
            _ => (Column + column) / Layout.GroupColumns,
        };
    }

    /// <summary>A range of units, each a strip of the columns of one block of outer blocks.</summary>
    private static void BackwardUnits<T, TParameter>(void* state, nint start, nint end)
        where T : unmanaged
        where TParameter : unmanaged
    {
        ref readonly BackwardWork<T, TParameter> work = ref *(BackwardWork<T, TParameter>*)state;
        ref readonly ChannelLayout layout = ref work.Layout;
        for (nint unit = start; unit < end; unit++)
        {
            nint block = unit / work.Strips, column = unit % work.Strips * work.StripColumns, columns = Math.Min(work.StripColumns, layout.Columns - column);
            double* sums = work.Sums + unit * 2 * work.SumsPerUnit;
            new Span<double>(sums, (int)(2 * work.SumsPerUnit)).Clear();
            for (nint outer = block * work.OuterPerBlock; outer < Math.Min((block + 1) * work.OuterPerBlock, layout.Outer); outer++)
            {
                nint at = outer * layout.Rows * layout.Columns + column;
                var strip = new BackwardStrip<T, TParameter>
                {
                    Work = (BackwardWork<T, TParameter>*)state, Dy = work.Dy + at, X = work.X + at, Dx = work.Dx == null ? null : work.Dx + at,
                    Statistics = work.Statistics + outer * layout.BlockGroups + column / layout.GroupColumns,
                    Column = column, Columns = columns, Weights = sums, Biases = sums + work.SumsPerUnit,
                };
                if (layout.InRuns)
                    Partition.Run(columns / layout.GroupColumns, work.Threads, &BackwardRuns<T, TParameter>, &strip);
                else
                    BackwardColumns(ref strip);
            }
        }
    }

    private static void BackwardColumns<T, TParameter>(ref BackwardStrip<T, TParameter> strip)
        where T : unmanaged
        where TParameter : unmanaged
    {
        ref readonly ChannelLayout layout = ref strip.Layout;
        if (typeof(T) == typeof(double) || layout.Length < Moments.LeastFloatLength || (layout.Axis == ParameterAxis.Row && !layout.Scaled))
            ColumnsInDouble(ref strip);
        else
            ColumnsInFloat(ref Unsafe.As<BackwardStrip<T, TParameter>, BackwardStrip<T, float>>(ref strip));
    }
}
