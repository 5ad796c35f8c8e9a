using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>The statistics of elements that are computed in float and whose squares stay well inside its range, which is nearly always: one pass of float arithmetic.</summary>
/// <remarks>
/// <para>
/// A block's elements are taken relative to a center c, the mean of eight of them: d = x - c. With S the sum of d and Q that of d²,
/// the block's mean is c + S/n and its squared deviations are Q - S²/n, both in double. Where S²/n is more than four times that
/// difference, c was far off the mean (an outlier among the eight), and the block is summed again, in double; so it is where a lane shows
/// that the others' squares would be lost beside an element's.
/// </para>
/// <para>
/// Order: the last n mod 16 elements of a block begin the sums; then element i goes to lane i mod 64 of four vectors (of 16-bit
/// elements, the even ones of 32 to one vector and the odd ones to the next), which are added by pairs, widened to double and folded by halves. Blocks have 2048 elements, the last up to 4095, and are merged in
/// order with their means in double. The cut depends on the number of elements alone.
/// </para>
/// <para>
/// Error: a lane adds at most 64 terms of the size of the deviation, not of the mean, and the roundings of the 64 lanes average
/// out: the mean is good to a few hundredths of 2^-24 of the deviation whatever the offset (where floats are so coarse
/// that d has few digits, its sums are exact), the deviation to a few tenths of 2^-24. Equal elements have d = 0, and so their mean exactly.
/// </para>
/// </remarks>
internal readonly unsafe partial struct Moments
{
    /// <summary>Shorter groups cancel more in the backward (of two elements almost wholly) and need 1/deviation to more digits.</summary>
    internal const int LeastFloatLength = 64;

    /// <summary>What the squares of a group are taken about: its mean, or zero, where the mean square takes the place of the variance.</summary>
    internal interface ICenter
    {
        static abstract bool IsMean { get; }
    }

    internal readonly struct AboutMean : ICenter
    {
        public static bool IsMean => true;
    }

    internal readonly struct AboutZero : ICenter
    {
        public static bool IsMean => false;
    }

    /// <summary>From so many elements on a lane has eight and more, whose roundings beside an outlier's square could all go one way.</summary>
    private const nint LeastLosingLength = 512;

    internal const double LeastFloatVariance = 1e-28, LargestFloatVariance = 1e30;

    /// <summary>Whether sums of squares in float neither overflowed nor underflowed. A sum of zero is no underflow where floats are too coarse to differ by so little.</summary>
    internal static bool AreExactInFloat(double mean, double variance)
        => variance is >= LeastFloatVariance and <= LargestFloatVariance || (variance == 0 && Math.Abs(mean) is > 1e-14 and < float.MaxValue);

    /// <summary>The blocks of a group: of 2048, the last of up to 4095.</summary>
    internal static nint FloatBlocks(nint length) => Math.Max(1, length / BlockLength);

    internal static nint FloatBlockEnd(nint block, nint length) => block == FloatBlocks(length) - 1 ? length : (block + 1) * BlockLength;

    /// <summary>The moments of at least 64 elements, in scalars; false if they have to be summed in double.</summary>
    internal static bool TryOfFloats<T, TCenter>(T* x, nint n, out double mean, out double variance, nint ahead = Streaming.AheadBytes)
        where T : unmanaged
        where TCenter : struct, ICenter
    {
        nint blocks = FloatBlocks(n);
        mean = OfFloatBlock<T, TCenter>(x, FloatBlockEnd(0, n), out double squares, ahead);
        for (nint block = 1; block < blocks; block++)
        {
            nint start = block * BlockLength, length = FloatBlockEnd(block, n) - start;
            double blockMean = OfFloatBlock<T, TCenter>(x + start, length, out double blockSquares, ahead);
            MergeFloats(ref mean, ref squares, start, blockMean, blockSquares, length);
        }
        variance = squares / n;
        return AreExactInFloat(mean, variance);
    }

    /// <summary>The same with the blocks spread over threads.</summary>
    internal static bool TryOfFloats<T, TCenter>(T* x, nint n, int threads, out double mean, out double variance, nint ahead = Streaming.AheadBytes)
        where T : unmanaged
        where TCenter : struct, ICenter
    {
        nint blocks = FloatBlocks(n);
        if (threads == 1 || blocks == 1)
            return TryOfFloats<T, TCenter>(x, n, out mean, out variance, ahead);
        using var memory = new RentedDoubles(2 * blocks);
        fixed (double* results = memory.Span)
        {
            var work = new FloatBlockWork<T> { X = x, Length = n, Results = results };
            Partition.Run(blocks, threads, &OfFloatBlocks<T, TCenter>, &work);
            (mean, double squares) = (results[0], results[1]);
            for (nint block = 1; block < blocks; block++)
                MergeFloats(ref mean, ref squares, block * BlockLength, results[2 * block], results[2 * block + 1], FloatBlockEnd(block, n) - block * BlockLength);
            variance = squares / n;
        }
        return AreExactInFloat(mean, variance);
    }

    private struct FloatBlockWork<T> where T : unmanaged
    {
        internal T* X;
        internal nint Length;
        internal double* Results;
    }

    private static void OfFloatBlocks<T, TCenter>(void* state, nint start, nint end)
        where T : unmanaged
        where TCenter : struct, ICenter
    {
        ref readonly FloatBlockWork<T> work = ref *(FloatBlockWork<T>*)state;
        for (nint block = start; block < end; block++)
        {
            nint first = block * BlockLength;
            work.Results[2 * block] = OfFloatBlock<T, TCenter>(work.X + first, FloatBlockEnd(block, work.Length) - first, out work.Results[2 * block + 1]);
        }
    }

    /// <summary>As <see cref="Merge"/>, with a mean that one double holds: of floats it is good to 2^-29 of their own last place.</summary>
    internal static void MergeFloats(ref double mean, ref double squares, nint count, double blockMean, double blockSquares, nint length)
    {
        double total = count + length, delta = blockMean - mean;
        squares += blockSquares + delta * delta * (count * (length / total));
        mean += delta * (length / total);
    }

    private static double OfFloatBlock<T, TCenter>(T* x, nint n, out double squares, nint ahead = Streaming.AheadBytes)
        where T : unmanaged
        where TCenter : struct, ICenter
    {
        float center = TCenter.IsMean ? CenterOf(x, n) : 0;
        squares = SumsAbout<T, TCenter>(x, n, center, out double sum, ahead);
        return MeanOfBlock<T, TCenter>(x, n, center, sum, ref squares);
    }

    /// <summary>A block's mean, and its squared deviations in the place of the squares about the center.</summary>
    internal static double MeanOfBlock<T, TCenter>(T* x, nint n, float center, double sum, ref double squares)
        where T : unmanaged
        where TCenter : struct, ICenter
    {
        if (!TCenter.IsMean)
        {
            if (squares < 0)
                squares = SquaresOfBlock(in *x, n);
            return 0;
        }
        double shift = sum / n;
        // Always true of squares below zero, which say that some were lost.
        if (sum * shift > 4 * (squares - sum * shift))
        {
            (DoubleDouble mean, squares) = OfBlock(in *x, n);
            return mean.High;
        }
        squares -= sum * shift;
        return Elements.ToDouble(center) + shift;
    }

    /// <summary>The mean of eight elements, spread evenly. Of equal ones it is their value, exactly.</summary>
    internal static float CenterOf<T>(T* x, nint n) where T : unmanaged
    {
        nint step = n >> 3;
        float a = At(x) + At(x + step), b = At(x + 2 * step) + At(x + 3 * step), c = At(x + 4 * step) + At(x + 5 * step), d = At(x + 6 * step) + At(x + 7 * step);
        return ((a + b) + (c + d)) * 0.125f;

        static float At(T* element) => Elements.ToFloat(*element);
    }

    /// <summary>The sums of x - center and, returned, of its square.</summary>
    internal static double SumsAbout<T, TCenter>(T* x, nint n, float center, out double sum, nint ahead = Streaming.AheadBytes)
        where T : unmanaged
        where TCenter : struct, ICenter
    {
        Vector512<float> from = Vector512.Create(center), s0 = default, s1 = default, s2 = default, s3 = default;
        if ((n & 15) != 0)
            s0 = TailAbout(x, n, from);
        Vector512<float> q0 = s0 * s0, q1 = default, q2 = default, q3 = default;
        nint i = 0;
        for (; i <= n - 64; i += 64)
        {
            Streaming.PrefetchFour(x, i, ahead / sizeof(T));
            (Vector512<float> d0, Vector512<float> d1) = Elements.LoadPairs(x, i);
            (Vector512<float> d2, Vector512<float> d3) = Elements.LoadPairs(x, i + 32);
            if (TCenter.IsMean)
                (d0, d1, d2, d3) = (d0 - from, d1 - from, d2 - from, d3 - from);
            if (TCenter.IsMean)
            {
                s0 += d0;
                s1 += d1;
                s2 += d2;
                s3 += d3;
            }
            q0 += d0 * d0;
            q1 += d1 * d1;
            q2 += d2 * d2;
            q3 += d3 * d3;
        }
        for (; i <= n - 16; i += 16)
        {
            Vector512<float> d0 = Elements.LoadFloats(x, i);
            if (TCenter.IsMean)
            {
                d0 -= from;
                s0 += d0;
            }
            q0 += d0 * d0;
        }
        sum = Fold((s0 + s1) + (s2 + s3));
        return FoldSquares<T>((q0 + q1) + (q2 + q3), n);
    }

    /// <summary>The sum of the lanes of squares, or minus it where an element was so large that its lane has lost the squares of others: less than 2^-19 of its own, which a lane without it tells.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static double FoldSquares<T>(Vector512<float> lanes, nint n) where T : unmanaged
    {
        double sum = Fold(lanes);
        // Few terms lose little, and 16 bits show none of it.
        if (sizeof(T) == 2 || n < LeastLosingLength)
            return sum;
        // Lanes of zeros have nothing to lose.
        Vector512<float> few = Vector512.Create((float)(sum * (n * (1.0 / Vector512<float>.Count / (1 << 19)))));
        return (Vector512.LessThan(lanes, few) & Vector512.GreaterThan(lanes, Vector512<float>.Zero)).ExtractMostSignificantBits() == 0 ? sum : -sum;
    }

    /// <summary>The last n mod 16 of at least 16 elements less the center, and zeros.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<float> TailAbout<T>(T* x, nint n, Vector512<float> center) where T : unmanaged
    {
        Vector512<float> counted = Vector512.LessThan(Vector512<float>.Indices, Vector512.Create((float)(16 - (n & 15))));
        return Vector512.AndNot(Elements.LoadFloats(x, n - 16) - center, counted);
    }

    /// <summary>The same moments, and what the mean of sums in float lacks of the mean of sums in double as its lower part.</summary>
    internal Moments WithMeanOf<T>(T* x, nint n, int threads) where T : unmanaged
    {
        if (typeof(T) == typeof(double) || n < LeastFloatLength || MeanLow != 0 || !AreExactInFloat(Mean, Variance))
            return this;
        nint blocks = FloatBlocks(n);
        using var memory = new RentedDoubles(threads == 1 ? 0 : blocks);
        fixed (double* sums = memory.Span)
        {
            var work = new FloatBlockWork<T> { X = x, Length = n, Results = sums };
            if (threads > 1)
                Partition.Run(blocks, threads, &SumBlocks<T>, &work);
            double sum = 0;
            for (nint block = 0; block < blocks; block++)
                sum += threads > 1 ? sums[block] : SumOfBlock(in work, block);
            return new Moments(Mean, sum / n - Mean, Variance);
        }
    }

    private static void SumBlocks<T>(void* state, nint start, nint end) where T : unmanaged
    {
        ref readonly FloatBlockWork<T> work = ref *(FloatBlockWork<T>*)state;
        for (nint block = start; block < end; block++)
            work.Results[block] = SumOfBlock(in work, block);
    }

    private static double SumOfBlock<T>(in FloatBlockWork<T> work, nint block) where T : unmanaged
    {
        nint first = block * BlockLength;
        return SumOfDeviations(in work.X[first], FloatBlockEnd(block, work.Length) - first, 0);
    }
}
