using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>The statistics of floats whose squares stay well inside float's range, which is nearly always: sums in double, squares in float.</summary>
/// <remarks>
/// <para>
/// Order: the last n mod 16 elements of a block begin the sums; then element i goes to lane i mod 32 of the doubles that add x,
/// and to lane i mod 64 of the floats that add (x - hi)², hi being the mean rounded to float; these are widened to double
/// and all are folded by halves.
/// </para>
/// <para>
/// Error: floats sum exactly in double but for a few 2^-53, and a constant block's mean is exact. A lane adds at most 32
/// squares, and the roundings of the 64 lanes average out: the deviation is good to a few tenths of 2^-24. What hi lacks of
/// the mean is known, and its square taken off.
/// </para>
/// </remarks>
internal readonly unsafe partial struct Moments
{
    /// <summary>Gradients of shorter groups cancel (of two elements almost wholly) and need 1/deviation to more digits.</summary>
    private const int LeastFloatLength = 64;

    private const double LeastFloatVariance = 1e-28, LargestFloatVariance = 1e30;

    /// <summary>Whether sums of squares in float neither overflowed nor underflowed. A sum of zero is no underflow where floats are too coarse to differ by so little.</summary>
    private bool IsExactInFloat => AreExactInFloat(Mean, Variance);

    private static bool AreExactInFloat(double mean, double variance)
        => variance is >= LeastFloatVariance and <= LargestFloatVariance || (variance == 0 && Math.Abs(mean) is > 1e-14 and < float.MaxValue);

    /// <summary>The moments of at least 64 floats, in scalars; false if they have to be summed in double.</summary>
    internal static bool TryOfFloats(ref readonly float x, nint n, out double mean, out double variance)
    {
        mean = OfFloatBlock(in x, Math.Min(n, BlockLength), out double squares);
        for (nint start = BlockLength; start < n; start += BlockLength)
        {
            nint length = Math.Min(n - start, BlockLength);
            double blockMean = OfFloatBlock(in Unsafe.Add(ref Unsafe.AsRef(in x), start), length, out double blockSquares);
            MergeFloats(ref mean, ref squares, start, blockMean, blockSquares, length);
        }
        variance = squares / n;
        return AreExactInFloat(mean, variance);
    }

    private static Moments OfFloats(ref readonly float x, nint n, int threads)
    {
        double mean, variance;
        if (threads == 1)
        {
            TryOfFloats(in x, n, out mean, out variance);
            return new Moments(mean, 0, variance);
        }
        nint count = (n + BlockLength - 1) / BlockLength;
        using var memory = new RentedDoubles(2 * count);
        fixed (float* first = &x)
        fixed (double* results = memory.Span)
        {
            var work = new FloatBlockWork { X = first, Length = n, Results = results };
            Partition.Run(count, threads, &OfFloatBlocks, &work);
            (mean, double squares) = (results[0], results[1]);
            for (nint i = 1; i < count; i++)
                MergeFloats(ref mean, ref squares, i * BlockLength, results[2 * i], results[2 * i + 1], Math.Min(n - i * BlockLength, BlockLength));
            variance = squares / n;
        }
        return new Moments(mean, 0, variance);
    }

    private struct FloatBlockWork
    {
        internal float* X;
        internal nint Length;
        internal double* Results;
    }

    private static void OfFloatBlocks(void* state, nint start, nint end)
    {
        ref readonly FloatBlockWork work = ref *(FloatBlockWork*)state;
        for (nint i = start; i < end; i++)
            work.Results[2 * i] = OfFloatBlock(in work.X[i * BlockLength], Math.Min(work.Length - i * BlockLength, BlockLength), out work.Results[2 * i + 1]);
    }

    /// <summary>As <see cref="Merge"/>, with a mean that one double holds: of floats it is good to 2^-29 of their own last place.</summary>
    private static void MergeFloats(ref double mean, ref double squares, nint count, double blockMean, double blockSquares, nint length)
    {
        double total = count + length, delta = blockMean - mean;
        squares += blockSquares + delta * delta * (count * (length / total));
        mean += delta * (length / total);
    }

    private static double OfFloatBlock(ref readonly float x, nint n, out double squares)
    {
        (Vector512<double> a0, Vector512<double> a1) = Vector512.Widen(TailDeviations(in x, n, Vector512<float>.Zero));
        Vector512<double> a2 = default, a3 = default;
        nint i = 0;
        for (; i <= n - 32; i += 32)
        {
            (Vector512<double> x0, Vector512<double> x1) = Vector512.Widen(Vector512.LoadUnsafe(in x, (nuint)i));
            (Vector512<double> x2, Vector512<double> x3) = Vector512.Widen(Vector512.LoadUnsafe(in x, (nuint)i + 16));
            a0 += x0;
            a1 += x1;
            a2 += x2;
            a3 += x3;
        }
        if (i <= n - 16)
        {
            (Vector512<double> x0, Vector512<double> x1) = Vector512.Widen(Vector512.LoadUnsafe(in x, (nuint)i));
            a0 += x0;
            a1 += x1;
        }
        double mean = Fold((a0 + a1) + (a2 + a3)) / n;

        float hi = (float)mean;
        Vector512<float> from = Vector512.Create(hi);
        Vector512<float> tail = TailDeviations(in x, n, from);
        Vector512<float> q0 = tail * tail, q1 = default, q2 = default, q3 = default;
        for (i = 0; i <= n - 64; i += 64)
        {
            Vector512<float> d0 = Vector512.LoadUnsafe(in x, (nuint)i) - from;
            Vector512<float> d1 = Vector512.LoadUnsafe(in x, (nuint)i + 16) - from;
            Vector512<float> d2 = Vector512.LoadUnsafe(in x, (nuint)i + 32) - from;
            Vector512<float> d3 = Vector512.LoadUnsafe(in x, (nuint)i + 48) - from;
            // The next block, while this one is read from the first-level cache.
            Streaming.Prefetch(in x, i + BlockLength);
            Streaming.Prefetch(in x, i + BlockLength + 16);
            Streaming.Prefetch(in x, i + BlockLength + 32);
            Streaming.Prefetch(in x, i + BlockLength + 48);
            q0 += d0 * d0;
            q1 += d1 * d1;
            q2 += d2 * d2;
            q3 += d3 * d3;
        }
        for (; i <= n - 16; i += 16)
        {
            Vector512<float> d0 = Vector512.LoadUnsafe(in x, (nuint)i) - from;
            q0 += d0 * d0;
        }
        double low = mean - hi;
        squares = Fold((q0 + q1) + (q2 + q3)) - low * low * n;
        return mean;
    }

    /// <summary>The deviations of the last n mod 16 elements, and zeros.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> TailDeviations(ref readonly float x, nint n, Vector512<float> from)
    {
        nint tail = n & 15;
        if (tail == 0)
            return default;
        // The last sixteen, of which the first have been counted; only a last block of fewer than sixteen has to be copied together.
        Vector512<float> last = n >= 16 ? Vector512.LoadUnsafe(in x, (nuint)(n - 16)) : LoadLast(in x, n);
        Vector512<float> counted = Vector512.LessThan(Vector512<float>.Indices, Vector512.Create((float)(16 - tail)));
        return Vector512.AndNot(last - from, counted);
    }

    /// <summary>Fewer than sixteen floats in the last lanes of a vector.</summary>
    private static Vector512<float> LoadLast(ref readonly float x, nint n)
    {
        Vector512<float> lanes = default;
        ref float lane = ref Unsafe.Add(ref Unsafe.As<Vector512<float>, float>(ref lanes), 16 - n);
        for (nint i = 0; i < n; i++)
            Unsafe.Add(ref lane, i) = Unsafe.Add(ref Unsafe.AsRef(in x), i);
        return lanes;
    }
}
