using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>The same moments of elements that are computed in float and whose squares stay well inside its range: one pass of float arithmetic.</summary>
/// <remarks>
/// <para>
/// As in Moments.Float.cs: with d = x - c, where c is the mean of eight elements of the column, spread evenly, S the sum of d and Q that of
/// d², the mean is c + S/n and the squared deviations are Q - S²/n, both in double. A column of which S²/n is more than four
/// times that difference, or whose squares left float's range, is summed in double.
/// </para>
/// <para>
/// Order: row i of a tile of 16 goes to sum i mod 4 of four in float, which are widened, added by pairs and added in double, tile by tile: of few rows the rounding of
/// more in float would show. Not in 16 bits: their tiles have 32 rows, and the four are added by pairs in float.
/// </para>
/// <para>
/// Vectors, by twos: the last two of a row reach back over columns of those before them, whose sums come out twice, the same; fewer than 32
/// columns are read with what lies behind them.
/// </para>
/// </remarks>
internal static unsafe partial class ColumnMoments
{
    /// <summary>Fewer rows are summed in double.</summary>
    internal const nint LeastFloatRows = 64;

    /// <summary>Rows that are at most added in float.</summary>
    internal const nint FloatTileRows = 32;

    /// <summary>As <see cref="Of"/>.</summary>
    internal static void OfFloats<T>(T* x, nint stride, nint rows, nint columns, T* end, bool centered, double* work) where T : unmanaged
    {
        nint width = Width(columns);
        double* sums = work + 3 * width, squares = sums + width;
        float* centers = (float*)(squares + width);
        new Span<double>(sums, (int)(2 * width)).Clear();
        new Span<float>(centers, (int)width).Clear();
        if (centered)
            SetCenters(x, stride, rows, columns, centers);
        T* staged = stackalloc T[(int)(columns < Step ? FloatTileRows * Step : 1)];
        nint tileRows = SixteenBits.Is<T>() ? FloatTileRows : FloatTileRows / 2;
        for (nint row = 0; row < rows; row += tileRows)
        {
            nint count = Math.Min(tileRows, rows - row), at = stride;
            T* tile = Staged(x + row * stride, ref at, count, columns, end, staged);
            for (nint slot = 0; slot < columns; slot += Step)
            {
                nint start = StartOf(slot, columns);
                AddTile(tile + start, at, count, centers + start, sums + slot, squares + slot, NextTile(x + row * stride, tileRows, stride, columns, slot));
            }
        }
        double* mask = stackalloc double[(int)Step];
        for (nint slot = 0; slot < columns; slot += Step)
        {
            nint start = StartOf(slot, columns);
            bool exact = true;
            for (nint lane = 0; lane < Step; lane += Vector512<double>.Count)
                exact &= Finish(sums + slot + lane, squares + slot + lane, centers + start + lane, rows, centered, work + start + lane, width, mask + lane);
            if (!exact)
                Redo(x + start, stride, rows, Math.Min(columns, Step), end, centered, mask, work + start, width);
        }
    }

    /// <summary>The first column of two vectors of them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static nint StartOf(nint slot, nint columns) => Math.Max(0, Math.Min(slot, columns - Step));

    /// <summary>Rows of which whole vectors can be loaded: in their place, or copied where they have too few columns.</summary>
    internal static T* Staged<T>(T* x, ref nint stride, nint rows, nint columns, T* end, T* memory) where T : unmanaged
    {
        if (columns >= Step || x + (rows - 1) * stride + Step <= end)
            return x;
        new Span<T>(memory, (int)(rows * Step)).Clear();
        for (nint row = 0; row < rows; row++)
            new Span<T>(x + row * stride, (int)columns).CopyTo(new Span<T>(memory + row * Step, (int)columns));
        stride = Step;
        return memory;
    }

    /// <summary>What to ask for in advance while some columns of a tile are summed: as much of the next tile.</summary>
    internal static RowsAhead<T> NextTile<T>(T* tile, nint rows, nint stride, nint columns, nint slot) where T : unmanaged
    {
        T* next = tile + rows * stride;
        return stride == columns ? new RowsAhead<T>(next + slot * rows, Step, 4 * Step) : new RowsAhead<T>(next + slot, stride, 4 * stride);
    }

    private static void SetCenters<T>(T* x, nint stride, nint rows, nint columns, float* centers) where T : unmanaged
    {
        nint step = (rows >> 3) * stride;
        if (columns < Elements.Step)
        {
            for (nint j = 0; j < columns; j++)
            {
                float a = At(x + j) + At(x + j + step), b = At(x + j + 2 * step) + At(x + j + 3 * step), c = At(x + j + 4 * step) + At(x + j + 5 * step), d = At(x + j + 6 * step) + At(x + j + 7 * step);
                centers[j] = ((a + b) + (c + d)) * 0.125f;
            }
            return;
        }
        for (nint slot = 0; slot < columns; slot += Elements.Step)
        {
            nint start = Math.Min(slot, columns - Elements.Step);
            T* first = x + start;
            Vector512<float> a = Elements.LoadFloats(first, 0) + Elements.LoadFloats(first, step), b = Elements.LoadFloats(first, 2 * step) + Elements.LoadFloats(first, 3 * step);
            Vector512<float> c = Elements.LoadFloats(first, 4 * step) + Elements.LoadFloats(first, 5 * step), d = Elements.LoadFloats(first, 6 * step) + Elements.LoadFloats(first, 7 * step);
            (((a + b) + (c + d)) * 0.125f).Store(centers + start);
        }

        static float At(T* element) => Elements.ToFloat(*element);
    }

    private static void AddTile<T>(T* x, nint stride, nint rows, float* centers, double* sums, double* squares, RowsAhead<T> ahead) where T : unmanaged
    {
        (Vector512<float> centerA, Vector512<float> centerB) = Elements.LoadInPairsOf<T>(centers);
        Vector512<float> s0 = default, s1 = default, s2 = default, s3 = default, q0 = default, q1 = default, q2 = default, q3 = default;
        Vector512<float> t0 = default, t1 = default, t2 = default, t3 = default, r0 = default, r1 = default, r2 = default, r3 = default;
        nint row = 0;
        for (; row <= rows - 4; row += 4)
        {
            ahead.Prefetch(sizeof(T) / 2);
            Add(x, centerA, centerB, ref s0, ref t0, ref q0, ref r0);
            Add(x + stride, centerA, centerB, ref s1, ref t1, ref q1, ref r1);
            Add(x + 2 * stride, centerA, centerB, ref s2, ref t2, ref q2, ref r2);
            Add(x + 3 * stride, centerA, centerB, ref s3, ref t3, ref q3, ref r3);
            x += 4 * stride;
        }
        for (; row < rows; row++, x += stride)
            Add(x, centerA, centerB, ref s0, ref t0, ref q0, ref r0);
        if (SixteenBits.Is<T>())
        {
            AddPairs<T>(sums, (s0 + s1) + (s2 + s3), (t0 + t1) + (t2 + t3));
            AddPairs<T>(squares, (q0 + q1) + (q2 + q3), (r0 + r1) + (r2 + r3));
            return;
        }
        AddFour(sums, s0, s1, s2, s3);
        AddFour(sums + Elements.Step, t0, t1, t2, t3);
        AddFour(squares, q0, q1, q2, q3);
        AddFour(squares + Elements.Step, r0, r1, r2, r3);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static void Add(T* x, Vector512<float> centerA, Vector512<float> centerB, ref Vector512<float> s, ref Vector512<float> t, ref Vector512<float> q, ref Vector512<float> r)
        {
            (Vector512<float> a, Vector512<float> b) = Elements.LoadPairs(x, 0);
            (a, b) = (a - centerA, b - centerB);
            s += a;
            t += b;
            q += a * a;
            r += b * b;
        }
    }

    /// <summary>Adds 32 floats in the order of pairs to as many doubles.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void AddPairs<T>(double* sums, Vector512<float> a, Vector512<float> b) where T : unmanaged
    {
        (a, b) = Elements.FromPairsOf<T>(a, b);
        AddTo(sums, a);
        AddTo(sums + Elements.Step, b);
    }

    /// <summary>Adds four times 16 floats to doubles, as doubles.</summary>
    private static void AddFour(double* sums, Vector512<float> a, Vector512<float> b, Vector512<float> c, Vector512<float> d)
    {
        (Vector512<double> a0, Vector512<double> a1) = Vector512.Widen(a);
        (Vector512<double> b0, Vector512<double> b1) = Vector512.Widen(b);
        (Vector512<double> c0, Vector512<double> c1) = Vector512.Widen(c);
        (Vector512<double> d0, Vector512<double> d1) = Vector512.Widen(d);
        (Vector512.Load(sums) + ((a0 + b0) + (c0 + d0))).Store(sums);
        (Vector512.Load(sums + 8) + ((a1 + b1) + (c1 + d1))).Store(sums + 8);
    }

    /// <summary>Adds 16 floats to as many doubles.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void AddTo(double* sums, Vector512<float> terms)
    {
        (Vector512<double> lower, Vector512<double> upper) = Vector512.Widen(terms);
        (Vector512.Load(sums) + lower).Store(sums);
        (Vector512.Load(sums + 8) + upper).Store(sums + 8);
    }

    /// <summary>From sums about centers to mean, its low part and squares about the mean of eight columns; the mask is zero, and the result false, where one of them has to be summed in double.</summary>
    private static bool Finish(double* sums, double* squares, float* centers, nint rows, bool centered, double* moments, nint width, double* mask)
    {
        Vector512<double> count = Vector512.Create((double)rows), sum = Vector512.Load(sums), square = Vector512.Load(squares), mean = default, bad = default;
        if (centered)
        {
            Vector512<double> shift = sum / count, between = sum * shift;
            mean = Vector512.WidenLower(Vector256.Load(centers).ToVector512Unsafe()) + shift;
            square -= between;
            bad = Vector512.GreaterThan(between, square * 4);
        }
        mean.Store(moments);
        Vector512<double>.Zero.Store(moments + width);
        square.Store(moments + 2 * width);
        Vector512<double> variance = square / count, magnitude = Vector512.Abs(mean);
        // As Moments.AreExactInFloat.
        Vector512<double> exact = (Vector512.GreaterThanOrEqual(variance, Vector512.Create(Moments.LeastFloatVariance)) & Vector512.LessThanOrEqual(variance, Vector512.Create(Moments.LargestFloatVariance)))
            | (Vector512.Equals(variance, default) & Vector512.GreaterThan(magnitude, Vector512.Create(1e-14)) & Vector512.LessThan(magnitude, Vector512.Create((double)float.MaxValue)));
        exact = Vector512.AndNot(exact, bad);
        exact.Store(mask);
        return Vector512.EqualsAll(exact.AsInt64(), Vector512<long>.AllBitsSet);
    }

    /// <summary>Sums up to 32 columns in double, and takes over those that float was not good enough for.</summary>
    private static void Redo<T>(T* x, nint stride, nint rows, nint columns, T* end, bool centered, double* exact, double* moments, nint width) where T : unmanaged
    {
        double* again = stackalloc double[(int)(WorkPerColumn * Step)];
        Of(x, stride, rows, columns, end, centered, again);
        for (nint j = 0; j < columns; j++)
        {
            if (BitConverter.DoubleToInt64Bits(exact[j]) == 0)
                (moments[j], moments[width + j], moments[2 * width + j]) = (again[j], again[Step + j], again[2 * Step + j]);
        }
    }
}
