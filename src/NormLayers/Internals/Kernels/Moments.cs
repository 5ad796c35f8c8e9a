using System.Buffers;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>
/// Mean and variance of a run of memory: the one place where the statistics of every layer are summed.
/// </summary>
/// <remarks>
/// <para>Geometry: n contiguous elements, cut into blocks of 2048 from the first element on; the cut depends on n alone.</para>
/// <para>
/// Order: a last group of fewer than 16 elements begins the sums of the upper two of four vectors of eight doubles; then
/// element i of a block goes to lane i mod 32, in rising order; lanes are folded by halves; blocks are merged from first to last.
/// All of it is IEEE addition and multiplication in double, so the bits are the same on every machine.
/// </para>
/// <para>
/// Error: each block is read twice (from the first-level cache the second time). The first pass sums x - x[0], so a constant
/// block has its mean exactly; the second sums d = x - mean and d², and its sum of d corrects the mean and the sum of squares
/// (Chan, Golub and LeVeque 1983), so that the variance is good to a few 2^-53 whatever the offset. The mean is kept in two
/// parts, Mean + MeanLow, because one double cannot hold the mean of doubles to the precision of their deviations.
/// </para>
/// </remarks>
internal readonly unsafe partial struct Moments
{
    internal const int BlockLength = 2048;

    /// <summary>The mean of x · Scale, rounded to double.</summary>
    internal readonly double Mean;

    /// <summary>What the rounding of <see cref="Mean"/> left: the mean is Mean + MeanLow.</summary>
    internal readonly double MeanLow;

    /// <summary>The biased variance of x · Scale.</summary>
    internal readonly double Variance;

    /// <summary>A power of two: 1 but for doubles whose squares leave the range of double.</summary>
    internal readonly double Scale;

    internal Moments(double mean, double meanLow, double variance, double scale = 1)
        => (Mean, MeanLow, Variance, Scale) = (mean, meanLow, variance, scale);

    /// <summary>1/sqrt(variance + eps) for the values x · Scale.</summary>
    internal double ReciprocalDeviation(double eps)
    {
        double scaledEps = eps * Scale * Scale;
        return double.IsInfinity(scaledEps) ? 1 / Math.Sqrt(eps) / Scale : 1 / Math.Sqrt(Variance + scaledEps);
    }

    /// <summary>The moments of <paramref name="n"/> > 0 elements. NaN where an element is NaN or infinite.</summary>
    /// <param name="x">The first element.</param>
    /// <param name="n">The number of elements, at least 1.</param>
    /// <param name="threads">The number of threads to spread the blocks over.</param>
    internal static Moments Of<T>(ref readonly T x, nint n, int threads) where T : unmanaged
    {
        if (typeof(T) != typeof(double) && n >= LeastFloatLength)
        {
            fixed (T* first = &x)
            {
                if (TryOfFloats<T, AboutMean>(first, n, threads, out double mean, out double variance))
                    return new Moments(mean, 0, variance);
            }
        }
        Moments moments = OfBlocks(in x, n, threads);
        // Squares of floats fit double with room to spare; those of doubles may not.
        return typeof(T) != typeof(double) || moments.Variance is >= 1e-250 and <= double.MaxValue ? moments : OfScaled(in x, n, moments);
    }

    private static Moments OfBlocks<T>(ref readonly T x, nint n, int threads) where T : unmanaged
    {
        DoubleDouble mean = default;
        double squares = 0;
        if (threads == 1)
        {
            for (nint start = 0; start < n; start += BlockLength)
            {
                (DoubleDouble blockMean, double blockSquares) = OfBlock(in Unsafe.Add(ref Unsafe.AsRef(in x), start), Math.Min(n - start, BlockLength));
                Merge(ref mean, ref squares, start, blockMean, blockSquares, Math.Min(n - start, BlockLength));
            }
            return new Moments(mean.High, mean.Low, squares / n);
        }

        nint count = (n + BlockLength - 1) / BlockLength;
        BlockMoments[] blocks = ArrayPool<BlockMoments>.Shared.Rent(checked((int)count));
        fixed (T* first = &x)
        fixed (BlockMoments* results = blocks)
        {
            var work = new BlockWork<T> { X = first, Length = n, Results = results };
            Partition.Run(count, threads, &OfBlocks<T>, &work);
            for (nint i = 0; i < count; i++)
                Merge(ref mean, ref squares, i * BlockLength, results[i].Mean, results[i].Squares, Math.Min(n - i * BlockLength, BlockLength));
        }
        ArrayPool<BlockMoments>.Shared.Return(blocks);
        return new Moments(mean.High, mean.Low, squares / n);
    }

    private struct BlockMoments
    {
        internal DoubleDouble Mean;
        internal double Squares;
    }

    private struct BlockWork<T> where T : unmanaged
    {
        internal T* X;
        internal nint Length;
        internal BlockMoments* Results;
    }

    private static void OfBlocks<T>(void* state, nint start, nint end) where T : unmanaged
    {
        ref readonly BlockWork<T> work = ref *(BlockWork<T>*)state;
        for (nint i = start; i < end; i++)
            (work.Results[i].Mean, work.Results[i].Squares) = OfBlock(in work.X[i * BlockLength], Math.Min(work.Length - i * BlockLength, BlockLength));
    }

    /// <summary>Adds a block of <paramref name="length"/> elements to the moments of the <paramref name="count"/> before it.</summary>
    internal static void Merge(ref DoubleDouble mean, ref double squares, nint count, DoubleDouble blockMean, double blockSquares, nint length)
    {
        if (count == 0)
        {
            (mean, squares) = (blockMean, blockSquares);
            return;
        }
        nint total = count + length;
        DoubleDouble delta = blockMean - mean;
        squares += blockSquares + delta.High * delta.High * ((double)count * length / total);
        mean += delta * length / total;
    }

    private static (DoubleDouble Mean, double Squares) OfBlock<T>(ref readonly T x, nint n) where T : unmanaged
    {
        double first = Elements.ToDouble(x);
        double mean = first + SumOfDeviations(in x, n, first) / n;
        (double sum, double squares) = SumsOfDeviations(in x, n, mean);
        double low = sum / n;
        return (DoubleDouble.Sum(mean, low), squares - sum * low);
    }

    private static double SumOfDeviations<T>(ref readonly T x, nint n, double shift) where T : unmanaged
    {
        Vector512<double> from = Vector512.Create(shift);
        Vector512<double> a0 = default, a1 = default;
        (Vector512<double> a2, Vector512<double> a3) = TailDeviations(in x, n, shift);
        nint i = 0;
        for (; i <= n - 2 * Elements.Step; i += 2 * Elements.Step)
        {
            (Vector512<double> x0, Vector512<double> x1) = Elements.Widen(in x, i);
            (Vector512<double> x2, Vector512<double> x3) = Elements.Widen(in x, i + Elements.Step);
            a0 += x0 - from;
            a1 += x1 - from;
            a2 += x2 - from;
            a3 += x3 - from;
        }
        if (i <= n - Elements.Step)
        {
            (Vector512<double> x0, Vector512<double> x1) = Elements.Widen(in x, i);
            a0 += x0 - from;
            a1 += x1 - from;
        }
        return Fold((a0 + a1) + (a2 + a3));
    }

    /// <summary>The sums of x - shift and of its square. The first is compensated for double, where the rounding of each difference and sum would show in values near the mean.</summary>
    private static (double Sum, double Squares) SumsOfDeviations<T>(ref readonly T x, nint n, double shift) where T : unmanaged
    {
        Vector512<double> from = Vector512.Create(shift);
        Vector512<double> a0 = default, a1 = default, q0 = default, q1 = default, rest0 = default, rest1 = default;
        (Vector512<double> a2, Vector512<double> a3) = TailDeviations(in x, n, shift);
        Vector512<double> q2 = a2 * a2, q3 = a3 * a3;
        nint i = 0;
        for (; i <= n - 2 * Elements.Step; i += 2 * Elements.Step)
        {
            (Vector512<double> x0, Vector512<double> x1) = Elements.Widen(in x, i);
            (Vector512<double> x2, Vector512<double> x3) = Elements.Widen(in x, i + Elements.Step);
            Add(x0, from, ref a0, ref rest0, ref q0);
            Add(x1, from, ref a1, ref rest1, ref q1);
            Add(x2, from, ref a2, ref rest0, ref q2);
            Add(x3, from, ref a3, ref rest1, ref q3);
        }
        if (i <= n - Elements.Step)
        {
            (Vector512<double> x0, Vector512<double> x1) = Elements.Widen(in x, i);
            Add(x0, from, ref a0, ref rest0, ref q0);
            Add(x1, from, ref a1, ref rest1, ref q1);
        }
        double squares = Fold((q0 + q1) + (q2 + q3));
        if (typeof(T) != typeof(double))
            return (Fold((a0 + a1) + (a2 + a3)), squares);
        DoubleDouble sum = TailRounding(in x, n, shift) + Fold(rest0 + rest1);
        for (int lane = 0; lane < Vector512<double>.Count; lane++)
            sum += DoubleDouble.Sum(a0[lane], a1[lane]) + DoubleDouble.Sum(a2[lane], a3[lane]);
        return (sum.High, squares);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static void Add(Vector512<double> value, Vector512<double> from, ref Vector512<double> sum, ref Vector512<double> rest, ref Vector512<double> squares)
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
    }

    /// <summary>The deviations of the last n mod 16 elements, and zeros. Taken before the loops: a call behind them would have their sums spilled in every round.</summary>
    private static (Vector512<double> Lower, Vector512<double> Upper) TailDeviations<T>(ref readonly T x, nint n, double shift) where T : unmanaged
    {
        nint tail = n % Elements.Step;
        if (tail == 0)
            return default;
        Vector512<double> from = Vector512.Create(shift);
        if (n < Elements.Step)
        {
            (Vector512<double> x0, Vector512<double> x1) = Elements.WidenTail(in x, 0, n, shift);
            return (x0 - from, x1 - from);
        }
        // The last sixteen elements, of which the first have been counted.
        (Vector512<double> lower, Vector512<double> upper) = Elements.Widen(in x, n - Elements.Step);
        Vector512<double> first = Vector512.Create((double)(Elements.Step - tail)), index = Vector512<double>.Indices;
        return (Vector512.AndNot(lower - from, Vector512.LessThan(index, first)), Vector512.AndNot(upper - from, Vector512.LessThan(index, first - Vector512.Create(8.0))));
    }

    /// <summary>What the rounding of the last n mod 16 deviations left.</summary>
    private static double TailRounding<T>(ref readonly T x, nint n, double shift) where T : unmanaged
    {
        double sum = 0;
        for (nint i = n - n % Elements.Step; i < n; i++)
            sum += DoubleDouble.Sum(Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in x), i)), -shift).Low;
        return sum;
    }

    /// <summary>The sum of the lanes, by halves.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static double Fold(Vector512<double> lanes)
    {
        Vector256<double> half = lanes.GetLower() + lanes.GetUpper();
        Vector128<double> quarter = half.GetLower() + half.GetUpper();
        return quarter[0] + quarter[1];
    }

    /// <summary>The sum of the lanes as doubles, by halves.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static double Fold(Vector512<float> lanes)
    {
        (Vector512<double> lower, Vector512<double> upper) = Vector512.Widen(lanes);
        return Fold(lower + upper);
    }

    /// <summary>The same moments of values times a power of two, which is exact, so that their squares stay in range. Rare, so it is plain scalar code.</summary>
    private static Moments OfScaled<T>(ref readonly T x, nint n, Moments unscaled) where T : unmanaged
    {
        double largest = LargestMagnitude(in x, n);
        // A variance of zero beside larger values is no underflow: the values are all the same.
        if (largest == 0 || (unscaled.Variance == 0 && largest > 1e-100))
            return unscaled;
        if (!double.IsFinite(largest))
            return new Moments(double.NaN, double.NaN, double.NaN);

        double scale = ScaleFor(largest);
        DoubleDouble sum = 0, squares = 0;
        for (nint i = 0; i < n; i++)
            sum += Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in x), i)) * scale;
        DoubleDouble mean = sum / n;
        for (nint i = 0; i < n; i++)
        {
            DoubleDouble deviation = Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in x), i)) * scale - mean;
            squares += deviation * deviation;
        }
        return new Moments(mean.High, mean.Low, (squares / n).High, scale);
    }

    /// <summary>The largest magnitude of the elements; NaN where one of them is.</summary>
    private static double LargestMagnitude<T>(ref readonly T x, nint n) where T : unmanaged
    {
        double largest = 0;
        for (nint i = 0; i < n; i++)
            largest = Math.Max(largest, Math.Abs(Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in x), i))));
        return largest;
    }

    /// <summary>
    /// The power of two for values of a largest magnitude: one more than the exponent, so that differences of two scaled values
    /// stay within [-1, 1]; no more than 2^1000, so that it is a double.
    /// </summary>
    private static double ScaleFor(double largest) => Math.ScaleB(1, Math.Min(-(Math.ILogB(largest) + 2), 1000));
}
