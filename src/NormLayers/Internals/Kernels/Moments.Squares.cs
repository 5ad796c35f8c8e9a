using System.Buffers;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>The mean square of a run of memory, for groups that are not centered.</summary>
/// <remarks>
/// <para>
/// Order: where float does, as the squares about a center that is zero (Moments.Float.cs). Else in double: blocks of 2048, of which the last n mod 32 elements begin the
/// sum, one by one; then element i's square goes to lane i mod 32; lanes are folded by halves, and blocks added from first to last.
/// </para>
/// <para>
/// Error: all terms are positive, so nothing cancels, and in double the sum is exact but for a few 2^-53. Doubles whose squares leave double's range are scaled by a power of two first.
/// </para>
/// </remarks>
internal readonly unsafe partial struct Moments
{
    private const int SquaresStep = 2 * Elements.Step;

    /// <summary>The mean square of <paramref name="n"/> > 0 elements in the place of the variance, and a mean of zero.</summary>
    /// <param name="x">The first element.</param>
    /// <param name="n">The number of elements, at least 1.</param>
    /// <param name="threads">The number of threads to spread the blocks over.</param>
    internal static Moments OfSquares<T>(ref readonly T x, nint n, int threads) where T : unmanaged
    {
        if (typeof(T) != typeof(double) && n >= LeastFloatLength)
        {
            fixed (T* first = &x)
            {
                if (TryOfFloats<T, AboutZero>(first, n, threads, out _, out double mean))
                    return new Moments(0, 0, mean);
            }
        }
        double square = SumOfSquares(in x, n, threads) / n;
        return typeof(T) != typeof(double) || square is >= 1e-250 and <= double.MaxValue ? new Moments(0, 0, square) : OfScaledSquares(in x, n, square);
    }

    private static double SumOfSquares<T>(ref readonly T x, nint n, int threads) where T : unmanaged
    {
        double sum = 0;
        if (threads == 1)
        {
            for (nint start = 0; start < n; start += BlockLength)
                sum += SquaresOfBlock(in Unsafe.Add(ref Unsafe.AsRef(in x), start), Math.Min(n - start, BlockLength));
            return sum;
        }
        nint count = (n + BlockLength - 1) / BlockLength;
        double[] blocks = ArrayPool<double>.Shared.Rent(checked((int)count));
        fixed (T* first = &x)
        fixed (double* results = blocks)
        {
            var work = new SquaresWork<T> { X = first, Length = n, Results = results };
            Partition.Run(count, threads, &SquaresOfBlocks<T>, &work);
            for (nint i = 0; i < count; i++)
                sum += results[i];
        }
        ArrayPool<double>.Shared.Return(blocks);
        return sum;
    }

    private struct SquaresWork<T> where T : unmanaged
    {
        internal T* X;
        internal nint Length;
        internal double* Results;
    }

    private static void SquaresOfBlocks<T>(void* state, nint start, nint end) where T : unmanaged
    {
        ref readonly SquaresWork<T> work = ref *(SquaresWork<T>*)state;
        for (nint i = start; i < end; i++)
            work.Results[i] = SquaresOfBlock(in work.X[i * BlockLength], Math.Min(work.Length - i * BlockLength, BlockLength));
    }

    private static double SquaresOfBlock<T>(ref readonly T x, nint n) where T : unmanaged
    {
        nint whole = n - n % SquaresStep;
        double tail = 0;
        for (nint i = whole; i < n; i++)
        {
            double value = Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in x), i));
            tail += value * value;
        }
        return tail + SquaresInDouble(in x, whole);
    }

    private static double SquaresInDouble<T>(ref readonly T x, nint n) where T : unmanaged
    {
        Vector512<double> q0 = default, q1 = default, q2 = default, q3 = default;
        for (nint i = 0; i < n; i += 2 * Elements.Step)
        {
            (Vector512<double> x0, Vector512<double> x1) = Elements.Widen(in x, i);
            (Vector512<double> x2, Vector512<double> x3) = Elements.Widen(in x, i + Elements.Step);
            q0 += x0 * x0;
            q1 += x1 * x1;
            q2 += x2 * x2;
            q3 += x3 * x3;
        }
        return Fold((q0 + q1) + (q2 + q3));
    }

    private static Moments OfScaledSquares<T>(ref readonly T x, nint n, double unscaled) where T : unmanaged
    {
        double largest = LargestMagnitude(in x, n);
        // Zeros; or NaN and infinities, whose arithmetic is IEEE's.
        if (largest == 0 || !double.IsFinite(largest))
            return new Moments(0, 0, unscaled);
        double scale = ScaleFor(largest), sum = 0;
        for (nint i = 0; i < n; i++)
        {
            double value = Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in x), i)) * scale;
            sum += value * value;
        }
        return new Moments(0, 0, sum / n, scale);
    }
}
