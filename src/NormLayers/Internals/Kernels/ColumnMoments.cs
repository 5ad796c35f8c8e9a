using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>Mean and sum of squared deviations of every column of a block of rows: the channels geometry's counterpart of <see cref="Moments"/>.</summary>
/// <remarks>
/// <para>
/// Geometry: rows of neighbouring columns, any distance apart; a lane is a column, so that no sum crosses lanes and a column's bits
/// depend on its own elements alone. Rows are cut into tiles of 64 from the first row on.
/// </para>
/// <para>
/// Order: a tile's rows in rising order; tiles are merged from first to last (Chan, Golub and LeVeque 1983).
/// </para>
/// <para>
/// Error: a tile sums d = x - shift and d² in double, shift being the tile's first row, and takes n · E[d]² off. Because shift is
/// itself one of the n values, E[d]² is at most n times the variance: six bits of 53 at worst, far past what a float shows, and a
/// constant column has its mean exactly and no variance. For double the tile is summed once more about its mean, and that sum is
/// compensated.
/// </para>
/// </remarks>
internal static unsafe partial class ColumnMoments
{
    /// <summary>Doubles of working memory for each column.</summary>
    internal const int WorkPerColumn = 7;

    internal const nint TileRows = 64;

    /// <summary>Rows that are added to a column's sums at once, from registers: as many streams of memory as processors follow well.</summary>
    private const nint GroupRows = 8;

    /// <summary>Columns that are summed at once where they are computed in float: two vectors, which are one of a 16-bit type.</summary>
    internal const nint Step = 2 * Elements.Step;

    /// <summary>Columns rounded up to a multiple of that, the stride of all arrays below.</summary>
    internal static nint Width(nint columns) => (columns + Step - 1) & ~(Step - 1);

    /// <summary>The moments of a block's columns: means, their low parts and sums of squares, each <see cref="Width"/> doubles, at the beginning of the working memory.</summary>
    /// <param name="x">The first element.</param>
    /// <param name="stride">The elements from one row to the next.</param>
    /// <param name="rows">The number of rows, at least 1.</param>
    /// <param name="columns">The number of columns, at least 1.</param>
    /// <param name="end">The end of readable memory: behind a row's last column lies something else, which is read where it is there and not used.</param>
    /// <param name="centered">Whether to take the mean off; else it is zero and the sums are of x².</param>
    /// <param name="work"><see cref="WorkPerColumn"/> times <see cref="Width"/> doubles.</param>
    internal static void Of<T>(T* x, nint stride, nint rows, nint columns, T* end, bool centered, double* work) where T : unmanaged
    {
        nint width = Width(columns);
        double* tile = work + 3 * width;
        for (nint row = 0; row < rows; row += TileRows)
        {
            nint length = Math.Min(TileRows, rows - row);
            OfTile(x + row * stride, stride, length, columns, end, centered, row == 0 ? work : tile, tile + 3 * width);
            if (row > 0)
                Merge(work, tile, width, row, length);
        }
    }

    /// <summary>Adds the moments of <paramref name="length"/> rows to those of the <paramref name="count"/> rows before them.</summary>
    internal static void Merge(double* moments, double* added, nint width, nint count, nint length)
    {
        double total = count + length;
        Vector512<double> share = Vector512.Create(length / total), between = Vector512.Create((double)count * length / total);
        for (nint j = 0; j < width; j += Vector512<double>.Count)
        {
            Vector512<double> mean = Vector512.Load(moments + j), low = Vector512.Load(moments + width + j);
            Vector512<double> delta = (Vector512.Load(added + j) - mean) + (Vector512.Load(added + width + j) - low);
            (Vector512.Load(moments + 2 * width + j) + (Vector512.Load(added + 2 * width + j) + delta * delta * between)).Store(moments + 2 * width + j);
            (mean, low) = Sum(mean, low + delta * share);
            mean.Store(moments + j);
            low.Store(moments + width + j);
        }
    }

    private static void OfTile<T>(T* x, nint stride, nint rows, nint columns, T* end, bool centered, double* moments, double* rest) where T : unmanaged
    {
        nint width = Width(columns);
        double* sums = moments + width, squares = moments + 2 * width;
        new Span<double>(moments, (int)width).Clear();
        for (nint j = 0; j < columns && centered; j++)
            moments[j] = Elements.ToDouble(x[j]);
        AddTile(x, stride, rows, columns, end, moments, sums, squares, rest);
        if (!centered)
        {
            new Span<double>(sums, (int)width).Clear();
            return;
        }
        if (typeof(T) == typeof(double))
        {
            Center(moments, width, rows, rest);
            AddTile(x, stride, rows, columns, end, moments, sums, squares, rest);
        }
        Finish<T>(moments, width, rows, rest);
    }

    /// <summary>Moves the shift to the mean.</summary>
    private static void Center(double* moments, nint width, nint rows, double* rest)
    {
        Vector512<double> count = Vector512.Create((double)rows);
        for (nint j = 0; j < width; j += Vector512<double>.Count)
            (Vector512.Load(moments + j) + (Vector512.Load(moments + width + j) + Vector512.Load(rest + j)) / count).Store(moments + j);
    }

    /// <summary>From shift, sums and squares about it to mean, its low part and squares about the mean, in place.</summary>
    private static void Finish<T>(double* moments, nint width, nint rows, double* rest) where T : unmanaged
    {
        Vector512<double> count = Vector512.Create((double)rows);
        for (nint j = 0; j < width; j += Vector512<double>.Count)
        {
            Vector512<double> sum = Vector512.Load(moments + width + j);
            if (typeof(T) == typeof(double))
                sum += Vector512.Load(rest + j);
            Vector512<double> deviation = sum / count;
            (Vector512.Load(moments + 2 * width + j) - sum * deviation).Store(moments + 2 * width + j);
            (Vector512<double> mean, Vector512<double> low) = Sum(Vector512.Load(moments + j), deviation);
            mean.Store(moments + j);
            low.Store(moments + width + j);
        }
    }

    private static void AddTile<T>(T* x, nint stride, nint rows, nint columns, T* end, double* shift, double* sums, double* squares, double* rest) where T : unmanaged
    {
        nint width = Width(columns), vectors = (columns + Elements.Step - 1) & ~(Elements.Step - 1);
        new Span<double>(sums, (int)width).Clear();
        new Span<double>(squares, (int)width).Clear();
        if (typeof(T) == typeof(double))
            new Span<double>(rest, (int)width).Clear();
        for (nint row = 0; row < rows; row += GroupRows)
        {
            nint count = Math.Min(GroupRows, rows - row);
            T* first = x + row * stride;
            bool whole = first + (count - 1) * stride + vectors <= end;
            AddRows(first, stride, count, whole ? vectors : columns & ~(Elements.Step - 1), shift, sums, squares, rest);
            if (whole)
                continue;
            for (nint j = columns & ~(Elements.Step - 1); j < columns; j++)
                AddColumn(first + j, stride, count, shift[j], ref sums[j], ref squares[j], ref rest[j]);
        }
    }

    private static void AddRows<T>(T* x, nint stride, nint rows, nint columns, double* shift, double* sums, double* squares, double* rest) where T : unmanaged
    {
        for (nint j = 0; j < columns; j += Elements.Step)
        {
            Vector512<double> from0 = Vector512.Load(shift + j), from1 = Vector512.Load(shift + j + 8);
            Vector512<double> s0 = Vector512.Load(sums + j), s1 = Vector512.Load(sums + j + 8), q0 = Vector512.Load(squares + j), q1 = Vector512.Load(squares + j + 8);
            Vector512<double> r0 = default, r1 = default;
            if (typeof(T) == typeof(double))
                (r0, r1) = (Vector512.Load(rest + j), Vector512.Load(rest + j + 8));
            T* element = x + j;
            for (nint row = 0; row < rows; row++)
            {
                (Vector512<double> x0, Vector512<double> x1) = Elements.Widen(in *element, 0);
                Streaming.Prefetch(in *element, GroupRows * stride);
                Add<T>(x0, from0, ref s0, ref r0, ref q0);
                Add<T>(x1, from1, ref s1, ref r1, ref q1);
                element += stride;
            }
            s0.Store(sums + j);
            s1.Store(sums + j + 8);
            q0.Store(squares + j);
            q1.Store(squares + j + 8);
            if (typeof(T) == typeof(double))
            {
                r0.Store(rest + j);
                r1.Store(rest + j + 8);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Add<T>(Vector512<double> value, Vector512<double> from, ref Vector512<double> sum, ref Vector512<double> rest, ref Vector512<double> squares)
    {
        Vector512<double> deviation = value - from;
        squares += deviation * deviation;
        Vector512<double> before = sum;
        sum += deviation;
        if (typeof(T) == typeof(double))
        {
            Vector512<double> valuePart = deviation + from, added = sum - before;
            rest += (value - valuePart) + (valuePart - deviation - from) + ((before - (sum - added)) + (deviation - added));
        }
    }

    /// <summary>The same, operation for operation, for one column at the end of memory.</summary>
    private static void AddColumn<T>(T* x, nint stride, nint rows, double from, ref double sum, ref double squares, ref double rest) where T : unmanaged
    {
        for (nint row = 0; row < rows; row++)
        {
            double value = Elements.ToDouble(x[row * stride]), deviation = value - from, before = sum;
            squares += deviation * deviation;
            sum += deviation;
            if (typeof(T) == typeof(double))
            {
                double valuePart = deviation + from, added = sum - before;
                rest += (value - valuePart) + (valuePart - deviation - from) + ((before - (sum - added)) + (deviation - added));
            }
        }
    }

    /// <summary>a + b, exactly.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector512<double> High, Vector512<double> Low) Sum(Vector512<double> a, Vector512<double> b)
    {
        Vector512<double> sum = a + b, part = sum - a;
        return (sum, (a - (sum - part)) + (b - part));
    }
}
