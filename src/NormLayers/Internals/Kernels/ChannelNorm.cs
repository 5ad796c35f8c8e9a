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

    /// <summary>Where a whole row is handled at once and is short, rows are joined to stretches of at least so many elements.</summary>
    private const nint LeastPeriod = 256;

    /// <summary>Where nothing is read twice, the elements that are asked for in advance: two pages of floats.</summary>
    private const nint GivenAhead = 2048;

    private const nint MostAlignedColumns = 64;

    /// <summary>Normalizes all groups.</summary>
    /// <param name="x">The first element of the input, contiguous.</param>
    /// <param name="y">The first element of the output, contiguous; may be <paramref name="x"/> itself.</param>
    /// <param name="layout">The groups, at least one.</param>
    /// <param name="weight">The first factor, or a null reference.</param>
    /// <param name="bias">The first summand, or a null reference.</param>
    /// <param name="eps">Added to the variance.</param>
    /// <param name="statistics">Takes each group's statistics, block by block, unless it is empty; has them where the layout's are given.</param>
    /// <param name="maxThreads">The most threads, or 0.</param>
    internal static void Forward<T>(ref readonly T x, ref T y, in ChannelLayout layout, ref readonly T weight, ref readonly T bias, double eps, Span<GroupStatistics> statistics, int maxThreads)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        int threads = Partition.Threads(layout.Count, maxThreads);
        fixed (T* px = &x, py = &y, pw = &weight, pb = &bias)
        fixed (GroupStatistics* ps = statistics)
        {
            var work = new ForwardWork<T>
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
                Partition.Run(layout.Outer * work.Strips, threads, &ForwardStrips<T>, &work);
                return;
            }
            // Fewer strips than threads: the threads share each.
            work.Threads = threads;
            ForwardStrips<T>(&work, 0, layout.Outer * work.Strips);
        }
    }

    private struct ForwardWork<T> where T : unmanaged
    {
        internal T* X, Y, Weight, Bias;
        internal GroupStatistics* Statistics;
        internal ChannelLayout Layout;
        internal double Eps;
        internal int Threads;
        internal nint StripColumns, Strips;
        internal Streaming Stream;

        internal readonly bool Given => Layout.Statistic == RowStatistic.Given;

        internal readonly T* End => X + Layout.Count;

        internal readonly T WeightOf(nint parameter) => Weight == null ? Elements.FromDouble<T>(1) : Weight[parameter];

        // Minus zero, since it changes no number, not even zero.
        internal readonly T BiasOf(nint parameter) => Bias == null ? Elements.FromDouble<T>(-0.0) : Bias[parameter];
    }

    private static void ForwardStrips<T>(void* state, nint start, nint end) where T : unmanaged, IFloatingPointIeee754<T>
    {
        ref readonly ForwardWork<T> work = ref *(ForwardWork<T>*)state;
        ref readonly ChannelLayout layout = ref work.Layout;
        for (nint unit = start; unit < end; unit++)
        {
            nint outer = unit / work.Strips, column = unit % work.Strips * work.StripColumns, columns = Math.Min(work.StripColumns, layout.Columns - column);
            nint groups = columns / layout.GroupColumns, first = outer * layout.BlockGroups + column / layout.GroupColumns;
            using var scratch = new RentedDoubles(work.Statistics == null ? groups * sizeof(GroupStatistics) / sizeof(double) : 0);
            fixed (double* pScratch = scratch.Span)
            {
                GroupStatistics* statistics = work.Statistics == null ? (GroupStatistics*)pScratch : work.Statistics + first;
                var strip = new Strip<T>
                {
                    Work = (ForwardWork<T>*)state, Statistics = statistics, Column = column, Columns = columns,
                    X = work.X + outer * layout.Rows * layout.Columns + column,
                    Y = work.Y + outer * layout.Rows * layout.Columns + column,
                };
                if (layout.InRuns)
                {
                    if (!work.Given)
                        RunStatistics(ref strip);
                    Partition.Run(layout.Rows, work.Threads, &ApplyRuns<T>, &strip);
                }
                else
                {
                    if (!work.Given)
                        ColumnStatistics(ref strip);
                    ApplyColumns(ref strip);
                }
            }
        }
    }

    /// <summary>Some columns of one block.</summary>
    private struct Strip<T> where T : unmanaged
    {
        internal ForwardWork<T>* Work;
        internal T* X, Y;
        internal GroupStatistics* Statistics;
        internal nint Column, Columns;

        /// <summary>The statistics of row blocks; later the parameters of columns.</summary>
        internal double* Memory;
        internal nint BlockRows, MemoryPerBlock;

        /// <summary>After so many elements the parameters of columns begin again.</summary>
        internal nint Period;

        internal readonly ref readonly ChannelLayout Layout => ref Work->Layout;
    }

    private static void ColumnStatistics<T>(ref Strip<T> strip) where T : unmanaged
    {
        ref readonly ChannelLayout layout = ref strip.Layout;
        nint width = ColumnMoments.Width(strip.Columns), blocks = RowBlocks(layout.Rows, out strip.BlockRows);
        strip.MemoryPerBlock = ColumnMoments.WorkPerColumn * width;
        using var memory = new RentedDoubles(blocks * strip.MemoryPerBlock);
        fixed (double* moments = memory.Span)
        fixed (Strip<T>* state = &strip)
        {
            strip.Memory = moments;
            Partition.Run(blocks, strip.Work->Threads, &OfRowBlocks<T>, state);
            for (nint block = 1; block < blocks; block++)
                ColumnMoments.Merge(moments, moments + block * strip.MemoryPerBlock, width, block * strip.BlockRows, Math.Min(strip.BlockRows, layout.Rows - block * strip.BlockRows));

            nint j = 0;
            for (nint g = 0; g < strip.Columns / layout.GroupColumns; g++)
            {
                var mean = DoubleDouble.Sum(moments[j], moments[width + j]);
                double squares = moments[2 * width + j++];
                for (nint k = 1; k < layout.GroupColumns; k++, j++)
                    Moments.Merge(ref mean, ref squares, k * layout.Rows, DoubleDouble.Sum(moments[j], moments[width + j]), moments[2 * width + j], layout.Rows);
                strip.Statistics[g] = StatisticsOf(in strip, g, mean, squares);
            }
        }
    }

    /// <summary>How many blocks the rows are cut into; a function of their number alone.</summary>
    private static nint RowBlocks(nint rows, out nint blockRows)
    {
        const nint Tile = ColumnMoments.TileRows;
        blockRows = (Math.Max(LeastBlockRows, (rows + MostRowBlocks - 1) / MostRowBlocks) + Tile - 1) / Tile * Tile;
        return (rows + blockRows - 1) / blockRows;
    }

    private static void OfRowBlocks<T>(void* state, nint start, nint end) where T : unmanaged
    {
        ref readonly Strip<T> strip = ref *(Strip<T>*)state;
        nint stride = strip.Layout.Columns;
        for (nint block = start; block < end; block++)
        {
            nint row = block * strip.BlockRows;
            ColumnMoments.Of(strip.X + row * stride, stride, Math.Min(strip.BlockRows, strip.Layout.Rows - row), strip.Columns, strip.Work->End, strip.Layout.Centered, strip.Memory + block * strip.MemoryPerBlock);
        }
    }

    /// <summary>The statistics of a strip's group. Doubles whose squares may have left double's range are gathered and summed again.</summary>
    private static GroupStatistics StatisticsOf<T>(ref readonly Strip<T> strip, nint group, DoubleDouble mean, double squares) where T : unmanaged
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
    private static double NonFiniteSum<T>(ref readonly Strip<T> strip, nint group) where T : unmanaged
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

    private static void ApplyColumns<T>(ref Strip<T> strip) where T : unmanaged, IFloatingPointIeee754<T>
    {
        ref readonly ChannelLayout layout = ref strip.Layout;
        // Whole short rows are joined: the same columns follow each other again and again.
        bool joined = strip.Columns == layout.Columns && layout.Axis != ParameterAxis.Row;
        strip.Period = joined ? JoinedPeriod(strip.Columns) : strip.Columns;
        using var memory = new RentedDoubles(5 * strip.Period);
        fixed (double* parameters = memory.Span)
        fixed (Strip<T>* state = &strip)
        {
            strip.Memory = parameters;
            bool ordinary = new ColumnScale<T>(in strip).Fill(in strip);
            delegate*<void*, nint, nint, void> body = !ordinary ? &ApplyMixedRows<T> : joined ? &ApplyJoined<T> : &ApplyRows<T>;
            Partition.Run(layout.Rows, strip.Work->Threads, body, state);
        }
    }

    /// <summary>A multiple of the columns; of narrow ones so many that it is also one of the vectors that are stored past the caches.</summary>
    private static nint JoinedPeriod(nint columns)
    {
        nint rows = (LeastPeriod + columns - 1) / columns, alignment = Elements.Step / Math.Min(Elements.Step, columns & -columns);
        return columns * (columns <= MostAlignedColumns ? (rows + alignment - 1) / alignment * alignment : rows);
    }

    /// <summary>What each column of a strip is normalized with: five arrays, one after the other.</summary>
    private readonly struct ColumnScale<T> where T : unmanaged, IFloatingPointIeee754<T>
    {
        internal readonly T* Hi, Lo, Rstd, Weight, Bias;

        internal ColumnScale(ref readonly Strip<T> strip)
        {
            Hi = (T*)strip.Memory;
            Lo = Hi + strip.Period;
            Rstd = Lo + strip.Period;
            Weight = Rstd + strip.Period;
            Bias = Weight + strip.Period;
        }

        /// <summary>Fills the arrays; tells whether all groups' arithmetic may run in the element type.</summary>
        internal bool Fill(ref readonly Strip<T> strip)
        {
            ref readonly ChannelLayout layout = ref strip.Layout;
            bool ordinary = true;
            nint j = 0, parameter = layout.Axis == ParameterAxis.Group ? strip.Column / layout.GroupColumns : strip.Column;
            for (nint g = 0; j < strip.Columns; g++)
            {
                var group = new GroupScale<T>(in strip.Statistics[g]);
                ordinary &= group.Ordinary;
                for (nint k = 0; k < layout.GroupColumns; k++, j++)
                {
                    (Hi[j], Lo[j], Rstd[j]) = (group.Hi, group.Lo, group.Rstd);
                    if (layout.Axis != ParameterAxis.Row)
                        (Weight[j], Bias[j]) = (strip.Work->WeightOf(parameter), strip.Work->BiasOf(parameter));
                    if (layout.Axis == ParameterAxis.Column)
                        parameter++;
                }
                if (layout.Axis == ParameterAxis.Group)
                    parameter++;
            }
            for (; j < strip.Period; j++)
                (Hi[j], Lo[j], Rstd[j], Weight[j], Bias[j]) = (Hi[j - strip.Columns], Lo[j - strip.Columns], Rstd[j - strip.Columns], Weight[j - strip.Columns], Bias[j - strip.Columns]);
            return ordinary;
        }
    }

    private static void ApplyJoined<T>(void* state, nint start, nint end) where T : unmanaged, IFloatingPointIeee754<T>
    {
        ref readonly Strip<T> strip = ref *(Strip<T>*)state;
        var scale = new ColumnScale<T>(in strip);
        for (nint i = start * strip.Columns; i < end * strip.Columns; i += strip.Period)
            ApplyRow<T, OfColumn<T>>(strip.X + i, strip.Y + i, Math.Min(strip.Period, end * strip.Columns - i), scale.Hi, scale.Lo, scale.Rstd, scale.Weight, scale.Bias, strip.Work->Stream);
        Fence(in strip);
    }

    private static void ApplyRows<T>(void* state, nint start, nint end) where T : unmanaged, IFloatingPointIeee754<T>
    {
        ref readonly Strip<T> strip = ref *(Strip<T>*)state;
        ApplyRows(in strip, start, end, 0, strip.Columns);
        Fence(in strip);
    }

    private static void ApplyRows<T>(ref readonly Strip<T> strip, nint start, nint end, nint column, nint columns) where T : unmanaged, IFloatingPointIeee754<T>
    {
        var scale = new ColumnScale<T>(in strip);
        T* hi = scale.Hi + column, lo = scale.Lo + column, rstd = scale.Rstd + column;
        for (nint row = start; row < end; row++)
        {
            nint at = row * strip.Layout.Columns + column;
            if (strip.Layout.Axis == ParameterAxis.Row)
            {
                T weight = strip.Work->WeightOf(row), bias = strip.Work->BiasOf(row);
                ApplyRow<T, OfRow<T>>(strip.X + at, strip.Y + at, columns, hi, lo, rstd, &weight, &bias, strip.Work->Stream);
            }
            else
                ApplyRow<T, OfColumn<T>>(strip.X + at, strip.Y + at, columns, hi, lo, rstd, scale.Weight + column, scale.Bias + column, strip.Work->Stream);
        }
    }

    /// <summary>Where some groups are at the ends of the range: stretches of ordinary columns, and of others in double.</summary>
    private static void ApplyMixedRows<T>(void* state, nint start, nint end) where T : unmanaged, IFloatingPointIeee754<T>
    {
        ref readonly Strip<T> strip = ref *(Strip<T>*)state;
        nint groupColumns = strip.Layout.GroupColumns;
        for (nint j = 0; j < strip.Columns;)
        {
            nint g = j / groupColumns;
            bool ordinary = new GroupScale<T>(in strip.Statistics[g]).Ordinary;
            while (++g < strip.Columns / groupColumns && new GroupScale<T>(in strip.Statistics[g]).Ordinary == ordinary)
            {
            }
            nint columns = g * groupColumns - j;
            if (ordinary)
                ApplyRows(in strip, start, end, j, columns);
            else
                ApplyInDouble(in strip, start, end, j, columns);
            j += columns;
        }
        Fence(in strip);
    }

    private static void ApplyInDouble<T>(ref readonly Strip<T> strip, nint start, nint end, nint column, nint columns) where T : unmanaged, IFloatingPointIeee754<T>
    {
        ref readonly ChannelLayout layout = ref strip.Layout;
        for (nint row = start; row < end; row++)
        {
            for (nint j = column; j < column + columns; j++)
            {
                nint parameter = layout.Axis == ParameterAxis.Row ? row : (strip.Column + j) / (layout.Axis == ParameterAxis.Column ? 1 : layout.GroupColumns);
                double v = strip.Statistics[j / layout.GroupColumns].Normalize(Elements.ToDouble(strip.X[row * layout.Columns + j]));
                v = v * Elements.ToDouble(strip.Work->WeightOf(parameter)) + Elements.ToDouble(strip.Work->BiasOf(parameter));
                // One NaN for all machines, as in the rows geometry.
                strip.Y[row * layout.Columns + j] = double.IsNaN(v) ? T.NaN : Elements.FromDouble<T>(v);
            }
        }
    }

    private static void Fence<T>(ref readonly Strip<T> strip) where T : unmanaged
    {
        if (strip.Work->Stream.Wanted)
            Streaming.Fence();
    }

    private static void ApplyRow<T, TParameter>(T* x, T* y, nint columns, T* hi, T* lo, T* rstd, T* weight, T* bias, Streaming stream)
        where T : unmanaged, IFloatingPointIeee754<T>
        where TParameter : struct, IParameter<T>
    {
        nint i = stream.Wanted ? Streaming.Head(ref *y, columns) : 0;
        nint vectors = (columns - i) & ~(nint)(Vector512<T>.Count - 1);
        for (nint tail = i + vectors; tail < columns; tail++)
            ApplyOne<T, TParameter>(x, y, tail, hi, lo, rstd, weight, bias);
        for (nint head = 0; head < i; head++)
            ApplyOne<T, TParameter>(x, y, head, hi, lo, rstd, weight, bias);
        if (stream.Wanted)
            StreamVectors<T, TParameter>(x + i, y + i, vectors, hi + i, lo + i, rstd + i, TParameter.Move(weight, i), TParameter.Move(bias, i), stream.Ahead);
        else
            ApplyVectors<T, TParameter>(x, y, vectors, hi, lo, rstd, weight, bias);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void ApplyOne<T, TParameter>(T* x, T* y, nint i, T* hi, T* lo, T* rstd, T* weight, T* bias)
        where T : unmanaged, IFloatingPointIeee754<T>
        where TParameter : struct, IParameter<T>
        => y[i] = (x[i] - hi[i] - lo[i]) * rstd[i] * *TParameter.Move(weight, i) + *TParameter.Move(bias, i);

    private static void ApplyVectors<T, TParameter>(T* x, T* y, nint columns, T* hi, T* lo, T* rstd, T* weight, T* bias)
        where T : unmanaged, IFloatingPointIeee754<T>
        where TParameter : struct, IParameter<T>
    {
        for (nint i = 0; i < columns; i += Vector512<T>.Count)
            Apply<T, TParameter>(x, i, hi, lo, rstd, weight, bias).Store(y + i);
    }

    private static void StreamVectors<T, TParameter>(T* x, T* y, nint columns, T* hi, T* lo, T* rstd, T* weight, T* bias, nint ahead)
        where T : unmanaged, IFloatingPointIeee754<T>
        where TParameter : struct, IParameter<T>
    {
        for (nint i = 0; i < columns; i += Vector512<T>.Count)
        {
            Vector512<T> v = Apply<T, TParameter>(x, i, hi, lo, rstd, weight, bias);
            // What is read after this strip, while this one is written.
            Streaming.Prefetch(in *x, i + ahead);
            Streaming.Store(v, ref *y, i);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<T> Apply<T, TParameter>(T* x, nint i, T* hi, T* lo, T* rstd, T* weight, T* bias)
        where T : unmanaged, IFloatingPointIeee754<T>
        where TParameter : struct, IParameter<T>
        => (Vector512.Load(x + i) - Vector512.Load(hi + i) - Vector512.Load(lo + i)) * Vector512.Load(rstd + i) * TParameter.Load(weight, i) + TParameter.Load(bias, i);

    /// <summary>A weight or a bias: one for each column, or the row's.</summary>
    private interface IParameter<T> where T : unmanaged
    {
        static abstract T* Move(T* parameter, nint columns);

        static abstract Vector512<T> Load(T* parameter, nint column);
    }

    private readonly struct OfColumn<T> : IParameter<T> where T : unmanaged
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T* Move(T* parameter, nint columns) => parameter + columns;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<T> Load(T* parameter, nint column) => Vector512.Load(parameter + column);
    }

    private readonly struct OfRow<T> : IParameter<T> where T : unmanaged
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static T* Move(T* parameter, nint columns) => parameter;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<T> Load(T* parameter, nint column) => Vector512.Create(*parameter);
    }
}
