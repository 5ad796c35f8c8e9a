using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>The channels geometry: groups that are columns of memory, or neighbouring columns, or runs of memory far apart.</summary>
/// <remarks>
/// <para>
/// A block's columns are taken in strips, small enough where that is possible that the strip is still in cache when it is read the
/// second time. Rows are cut into at most 32 blocks, whose moments are merged in order; then a group's columns are merged in
/// order. The cut of the rows depends on their number alone, and a strip's width changes no column: nothing depends on threads.
/// </para>
/// <para>
/// Where a row's part of a group is 16 elements and more with one weight (BatchNorm of contiguous (N, C, S)), each such run has its
/// moments summed by <see cref="Moments"/>, and these are merged from the first row to the last.
/// </para>
/// <para>y is as in <see cref="RowNorm"/>: ((x - hi) - lo) · rstd · weight + bias, or the same in double at the ends of the range.</para>
/// </remarks>
internal static unsafe partial class ChannelNorm
{
    private const nint MostRowBlocks = 32, LeastBlockRows = 1024;

    /// <summary>Where nothing is read twice, the elements that are asked for in advance: two pages of floats.</summary>
    private const nint GivenAhead = 2048;

    /// <summary>Normalizes all groups.</summary>
    /// <param name="x">The first element of the input, contiguous.</param>
    /// <param name="y">The first element of the output, contiguous; may be <paramref name="x"/> itself.</param>
    /// <param name="layout">The groups, at least one.</param>
    /// <param name="weight">The first factor, or a null reference.</param>
    /// <param name="bias">The first summand, or a null reference.</param>
    /// <param name="eps">Added to the variance.</param>
    /// <param name="statistics">Takes each group's statistics, block by block, unless it is empty; has them where the layout's are given.</param>
    /// <param name="maxThreads">The most threads, or 0.</param>
    internal static void Forward<T, TCompute>(ref readonly T x, ref T y, in ChannelLayout layout, ref readonly TCompute weight, ref readonly TCompute bias, double eps, Span<GroupStatistics> statistics, int maxThreads)
        where T : unmanaged
        where TCompute : unmanaged, IFloatingPointIeee754<TCompute>
    {
        int threads = Partition.Threads(layout.Count, maxThreads);
        fixed (T* px = &x, py = &y)
        fixed (TCompute* pw = &weight, pb = &bias)
        fixed (GroupStatistics* ps = statistics)
        {
            var work = new ForwardWork<T, TCompute>
            {
                X = px, Y = py, Weight = pw, Bias = pb, Statistics = ps, Layout = layout, Eps = eps, Threads = 1,
                StripColumns = layout.InRuns ? RunStrip<T>(layout, threads) : layout.StripColumns(sizeof(T)),
            };
            // Nothing is read twice: in the order of memory.
            if (work.Given && layout.Rows >= threads)
                work.StripColumns = layout.Columns;
            work.Strips = (layout.Columns + work.StripColumns - 1) / work.StripColumns;
            // In place the line is in the cache already.
            if (px != py)
                work.Stream = Streaming.For<T>(layout.Count, work.Given ? GivenAhead : work.Strips == 1 ? layout.Rows * layout.Columns : work.StripColumns);
            if (layout.Outer * work.Strips >= threads)
            {
                Partition.Run(layout.Outer * work.Strips, threads, &ForwardStrips<T, TCompute>, &work);
                return;
            }
            // Fewer strips than threads: the threads share each.
            work.Threads = threads;
            ForwardStrips<T, TCompute>(&work, 0, layout.Outer * work.Strips);
        }
    }

    private struct ForwardWork<T, TCompute>
        where T : unmanaged
        where TCompute : unmanaged, IFloatingPointIeee754<TCompute>
    {
        internal T* X, Y;
        internal TCompute* Weight, Bias;
        internal GroupStatistics* Statistics;
        internal ChannelLayout Layout;
        internal double Eps;
        internal int Threads;
        internal nint StripColumns, Strips;
        internal Streaming Stream;

        internal readonly bool Given => Layout.Statistic == RowStatistic.Given;

        internal readonly T* End => X + Layout.Count;

        internal readonly TCompute WeightOf(nint parameter) => Weight == null ? TCompute.One : Weight[parameter];

        // Minus zero, since it changes no number, not even zero.
        internal readonly TCompute BiasOf(nint parameter) => Bias == null ? TCompute.NegativeZero : Bias[parameter];
    }

    private static void ForwardStrips<T, TCompute>(void* state, nint start, nint end)
        where T : unmanaged
        where TCompute : unmanaged, IFloatingPointIeee754<TCompute>
    {
        ref readonly ForwardWork<T, TCompute> work = ref *(ForwardWork<T, TCompute>*)state;
        ref readonly ChannelLayout layout = ref work.Layout;
        for (nint unit = start; unit < end; unit++)
        {
            nint outer = unit / work.Strips, column = unit % work.Strips * work.StripColumns, columns = Math.Min(work.StripColumns, layout.Columns - column);
            nint groups = columns / layout.GroupColumns, first = outer * layout.BlockGroups + column / layout.GroupColumns;
            nint scaleDoubles = layout.InRuns ? 0 : ColumnScale<TCompute>.Arrays * ColumnMoments.Width(columns) * sizeof(TCompute) / sizeof(double);
            using var scratch = new RentedDoubles(scaleDoubles + (work.Statistics == null ? groups * sizeof(GroupStatistics) / sizeof(double) : 0));
            fixed (double* pScratch = scratch.Span)
            {
                GroupStatistics* statistics = work.Statistics == null ? (GroupStatistics*)(pScratch + scaleDoubles) : work.Statistics + first;
                var strip = new Strip<T, TCompute>
                {
                    Work = (ForwardWork<T, TCompute>*)state, Statistics = statistics, Column = column, Columns = columns,
                    X = work.X + outer * layout.Rows * layout.Columns + column,
                    Y = work.Y + outer * layout.Rows * layout.Columns + column,
                    Scale = new ColumnScale<TCompute>((TCompute*)pScratch, ColumnMoments.Width(columns)),
                    Stream = work.Stream, Reversed = !work.Given && columns * layout.Rows * sizeof(T) > ChannelLayout.CacheBytes,
                };
                if (layout.InRuns)
                {
                    if (strip.Reversed)
                        strip.Stream = strip.Stream.WithAhead(-layout.Columns);
                    if (!work.Given)
                        RunStatistics(ref strip);
                    Partition.Run(layout.Rows, work.Threads, &ApplyRuns<T, TCompute>, &strip);
                }
                else
                {
                    if (work.Given || !ColumnStatistics(ref strip))
                        strip.Ordinary = FillScale(in strip);
                    ApplyColumns(ref strip);
                }
            }
        }
    }

    /// <summary>Some columns of one block.</summary>
    private struct Strip<T, TCompute>
        where T : unmanaged
        where TCompute : unmanaged, IFloatingPointIeee754<TCompute>
    {
        internal ForwardWork<T, TCompute>* Work;
        internal T* X, Y;
        internal GroupStatistics* Statistics;
        internal nint Column, Columns;

        /// <summary>The statistics of row blocks.</summary>
        internal double* Memory;
        internal nint BlockRows, MemoryPerBlock;

        /// <summary>Rows, or stretches of joined rows, and the elements from one to the next.</summary>
        internal nint RowCount, RowStride, ChunkRows;
        internal Lanes Lanes;

        /// <summary>What each column is normalized with, and whether all may be in the type that it is in.</summary>
        internal ColumnScale<TCompute> Scale, LaneScale;
        internal bool Ordinary;
        internal Streaming Stream;

        /// <summary>Whether the strip does not stay in the cache: then what was read last, and may still be there, is written first.</summary>
        internal bool Reversed;

        internal readonly ref readonly ChannelLayout Layout => ref Work->Layout;
    }

    /// <summary>The statistics of a strip's groups; true if what its columns are normalized with has been filled in, too.</summary>
    private static bool ColumnStatistics<T, TCompute>(ref Strip<T, TCompute> strip)
        where T : unmanaged
        where TCompute : unmanaged, IFloatingPointIeee754<TCompute>
    {
        ref readonly ChannelLayout layout = ref strip.Layout;
        nint width = ColumnMoments.Width(strip.Columns), blocks = RowBlocks(layout.Rows, out strip.BlockRows);
        strip.MemoryPerBlock = ColumnMoments.WorkPerColumn * width;
        using var memory = new RentedDoubles(blocks * strip.MemoryPerBlock);
        fixed (double* moments = memory.Span)
        fixed (Strip<T, TCompute>* state = &strip)
        {
            strip.Memory = moments;
            Partition.Run(blocks, strip.Work->Threads, &OfRowBlocks<T, TCompute>, state);
            for (nint block = 1; block < blocks; block++)
                ColumnMoments.Merge(moments, moments + block * strip.MemoryPerBlock, width, block * strip.BlockRows, Math.Min(strip.BlockRows, layout.Rows - block * strip.BlockRows));

            if (typeof(TCompute) == typeof(float) && layout.GroupColumns == 1 && TryFillScale(ref Unsafe.As<Strip<T, TCompute>, Strip<T, float>>(ref strip), moments, width))
                return true;
            nint j = 0;
            for (nint g = 0; g < strip.Columns / layout.GroupColumns; g++)
            {
                if (typeof(T) != typeof(double))
                {
                    (double floatMean, double floatSquares) = (moments[j] + moments[width + j], moments[2 * width + j]);
                    for (nint k = 1; k < layout.GroupColumns; k++)
                        Moments.MergeFloats(ref floatMean, ref floatSquares, k * layout.Rows, moments[j + k] + moments[width + j + k], moments[2 * width + j + k], layout.Rows);
                    strip.Statistics[g] = StatisticsOf(in strip, g, floatMean, floatSquares);
                    j += layout.GroupColumns;
                    continue;
                }
                var mean = DoubleDouble.Sum(moments[j], moments[width + j]);
                double squares = moments[2 * width + j++];
                for (nint k = 1; k < layout.GroupColumns; k++, j++)
                    Moments.Merge(ref mean, ref squares, k * layout.Rows, DoubleDouble.Sum(moments[j], moments[width + j]), moments[2 * width + j], layout.Rows);
                strip.Statistics[g] = StatisticsOf(in strip, g, mean, squares);
            }
        }
        return false;
    }

    /// <summary>From moments of groups of one column what they are normalized with, and their statistics where they are wanted; false if one is not ordinary.</summary>
    private static bool TryFillScale<T>(ref Strip<T, float> strip, double* moments, nint width) where T : unmanaged
    {
        Vector512<double> count = Vector512.Create((double)strip.Layout.Length), eps = Vector512.Create(strip.Work->Eps), ordinary = Vector512<double>.AllBitsSet;
        for (nint j = 0; j < strip.Columns; j += Vector512<double>.Count)
        {
            Vector512<double> mean = Vector512.Load(moments + j), low = Vector512.Load(moments + width + j), variance = Vector512.Load(moments + 2 * width + j) / count;
            Vector512<double> rstd = Vector512<double>.One / Vector512.Sqrt(variance + eps), inRange = Vector512.GreaterThan(rstd, Vector512.Create(Elements.LeastFloatRstd)) & Vector512.LessThan(rstd, Vector512.Create(Elements.LargestFloatRstd));
            // Behind the last column is nothing.
            ordinary &= inRange | Vector512.GreaterThanOrEqual(Vector512<double>.Indices, Vector512.Create((double)(strip.Columns - j)));
            Vector256<float> hi = Narrow(mean);
            hi.Store(strip.Scale.Hi + j);
            Narrow(mean - Vector512.WidenLower(hi.ToVector512Unsafe()) + low).Store(strip.Scale.Lo + j);
            Narrow(rstd).Store(strip.Scale.Rstd + j);
            if (strip.Work->Statistics == null)
                continue;
            variance.Store(moments + 3 * width + j);
            rstd.Store(moments + 4 * width + j);
        }
        strip.Ordinary = Vector512.EqualsAll(ordinary.AsInt64(), Vector512<long>.AllBitsSet);
        if (!strip.Ordinary)
            return false;
        for (nint j = 0; j < strip.Columns && strip.Work->Statistics != null; j++)
            strip.Statistics[j] = new GroupStatistics(moments[j], moments[width + j], moments[3 * width + j], moments[4 * width + j]);
        if (strip.Layout.Axis != ParameterAxis.Row)
        {
            for (nint j = 0; j < strip.Columns; j++)
                (strip.Scale.Weight[j], strip.Scale.Bias[j]) = (strip.Work->WeightOf(strip.Column + j), strip.Work->BiasOf(strip.Column + j));
        }
        return true;

        static Vector256<float> Narrow(Vector512<double> value) => Vector256.Narrow(value.GetLower(), value.GetUpper());
    }

    /// <summary>How many blocks the rows are cut into; a function of their number alone.</summary>
    private static nint RowBlocks(nint rows, out nint blockRows)
    {
        const nint Tile = ColumnMoments.TileRows;
        blockRows = (Math.Max(LeastBlockRows, (rows + MostRowBlocks - 1) / MostRowBlocks) + Tile - 1) / Tile * Tile;
        return (rows + blockRows - 1) / blockRows;
    }

    private static void OfRowBlocks<T, TCompute>(void* state, nint start, nint end)
        where T : unmanaged
        where TCompute : unmanaged, IFloatingPointIeee754<TCompute>
    {
        ref readonly Strip<T, TCompute> strip = ref *(Strip<T, TCompute>*)state;
        nint stride = strip.Layout.Columns;
        for (nint block = start; block < end; block++)
        {
            nint row = block * strip.BlockRows;
            nint rows = Math.Min(strip.BlockRows, strip.Layout.Rows - row);
            double* memory = strip.Memory + block * strip.MemoryPerBlock;
            if (typeof(T) == typeof(double) || strip.Layout.Rows < ColumnMoments.LeastFloatRows)
                ColumnMoments.Of(strip.X + row * stride, stride, rows, strip.Columns, strip.Work->End, strip.Layout.Centered, memory);
            else
                ColumnMoments.OfFloats(strip.X + row * stride, stride, rows, strip.Columns, strip.Work->End, strip.Layout.Centered, memory);
        }
    }

    /// <summary>The statistics of a strip's group. Doubles whose squares may have left double's range are gathered and summed again.</summary>
    private static GroupStatistics StatisticsOf<T, TCompute>(ref readonly Strip<T, TCompute> strip, nint group, DoubleDouble mean, double squares)
        where T : unmanaged
        where TCompute : unmanaged, IFloatingPointIeee754<TCompute>
    {
        ref readonly ChannelLayout layout = ref strip.Layout;
        double variance = squares / layout.Length;
        if (double.IsNaN(variance) && NonFiniteSum(in strip, group) is var sum && !double.IsFinite(sum))
            return new GroupStatistics(new Moments(layout.Centered ? sum : 0, 0, double.NaN), strip.Work->Eps);
        bool zero = layout.Statistic == RowStatistic.MeanAndVarianceOrZero;
        if (typeof(T) != typeof(double) || variance is >= 1e-250 and <= double.MaxValue || (variance == 0 && Math.Abs(mean.High) > 1e-100))
            return new GroupStatistics(new Moments(mean.High, mean.Low, variance), strip.Work->Eps, zero);
        using var gathered = new RentedDoubles(layout.Length);
        for (nint row = 0; row < layout.Rows; row++)
            new ReadOnlySpan<double>(strip.X + row * layout.Columns + group * layout.GroupColumns, (int)layout.GroupColumns).CopyTo(gathered.Span[(int)(row * layout.GroupColumns)..]);
        ref readonly double first = ref gathered.Span[0];
        return new GroupStatistics(layout.Centered ? Moments.Of(in first, layout.Length, 1) : Moments.OfSquares(in first, layout.Length, 1), strip.Work->Eps, zero);
    }

    /// <summary>The sum of what is infinite or NaN in a group: the mean of all of it, which running statistics take in.</summary>
    private static double NonFiniteSum<T, TCompute>(ref readonly Strip<T, TCompute> strip, nint group)
        where T : unmanaged
        where TCompute : unmanaged, IFloatingPointIeee754<TCompute>
    {
        ref readonly ChannelLayout layout = ref strip.Layout;
        double sum = 0;
        for (nint row = 0; row < layout.Rows; row++)
        {
            for (nint j = group * layout.GroupColumns; j < (group + 1) * layout.GroupColumns; j++)
            {
                double value = Elements.ToDouble(strip.X[row * layout.Columns + j]);
                sum += double.IsFinite(value) ? 0 : value;
            }
        }
        return sum;
    }
}
