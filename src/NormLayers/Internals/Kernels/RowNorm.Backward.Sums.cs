using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>The sums of the backward in float, over blocks of a group: see RowNorm.Backward.Float.cs for their order.</summary>
internal static unsafe partial class RowNorm
{
    /// <summary>The sums of g, of g · (x - mean) and of g² over some elements; the last over a quarter of them, and no more than that of all.</summary>
    internal struct FloatSums
    {
        internal const double LeastSquare = 1e-30, LargestSquare = 1e30;

        internal double Sum, Product, Squares;

        internal void AddScaled(in FloatSums terms, double factor)
        {
            Sum += terms.Sum * factor;
            Product += terms.Product * factor;
            Squares += terms.Squares * factor * factor;
        }

        /// <summary>E[g] and E[g · n], as far as the layout's statistics move with the elements. True if at least a quarter of g is left in dx, and no square left float's range.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        internal readonly bool AreExactInFloat(double rstd, nint length, RowStatistic statistic, out double mean, out double product)
        {
            double share = 1.0 / length, squares = Squares * share;
            mean = statistic.IsCentered() ? Sum * share : 0;
            product = statistic.IsScaled() ? Product * rstd * share : 0;
            return AreExactInFloat(squares, mean, product);
        }

        /// <summary>The same for a mean square.</summary>
        internal static bool AreExactInFloat(double squares, double mean, double product)
            => squares is >= LeastSquare and <= LargestSquare && squares - mean * mean - 2 * product * product >= squares / 4;

        /// <summary>The same in each lane.</summary>
        internal static Vector512<double> AreExactInFloat(Vector512<double> squares, Vector512<double> mean, Vector512<double> product)
            => Vector512.GreaterThanOrEqual(squares, Vector512.Create(LeastSquare)) & Vector512.LessThanOrEqual(squares, Vector512.Create(LargestSquare))
                & Vector512.GreaterThanOrEqual(squares - mean * mean - (product + product) * product, squares * 0.25);
    }

    /// <summary>The sums over neighbouring elements, with a weight for each, in the order of pairs or their own, or none.</summary>
    internal static ref FloatSums Sum<TGradient, T>(TGradient* dy, T* x, float* weight, nint length, in GroupStatistics group, ref FloatSums sums, bool paired = false, nint ahead = Streaming.AheadBytes)
        where TGradient : unmanaged
        where T : unmanaged
    {
        nint blocks = Moments.FloatBlocks(length);
        SumBlock(dy, x, weight, Moments.FloatBlockEnd(0, length), in group, ref sums, paired, ahead);
        FloatSums blockSums = default;
        for (nint block = 1; block < blocks; block++)
        {
            nint start = block * Moments.BlockLength;
            SumBlock(dy + start, x + start, weight == null ? null : weight + start, Moments.FloatBlockEnd(block, length) - start, in group, ref blockSums, paired, ahead);
            sums.AddScaled(in blockSums, 1);
        }
        return ref sums;
    }

    private static void SumBlock<TGradient, T>(TGradient* dy, T* x, float* weight, nint n, in GroupStatistics group, ref FloatSums sums, bool paired = false, nint ahead = Streaming.AheadBytes)
        where TGradient : unmanaged
        where T : unmanaged
    {
        float hi = Elements.ToSingle(group.ScaledMean);
        if (n < Vector512<float>.Count)
            SumShort(dy, x, n, hi, ref sums);
        else if (weight == null)
            SumBlock<TGradient, T, Unweighted>(dy, x, null, n, hi, ref sums, ahead);
        else if (paired)
            SumBlock<TGradient, T, WeightedInPairs>(dy, x, weight, n, hi, ref sums, ahead);
        else
            SumBlock<TGradient, T, Weighted>(dy, x, weight, n, hi, ref sums, ahead);
        sums.Product -= (group.ScaledMean - Elements.ToDouble(hi) + group.ScaledMeanLow) * sums.Sum;
    }

    /// <summary>The sum of g², of all elements: where what is known of a quarter of them does not tell.</summary>
    internal static double SumOfSquares<T>(T* dy, float* weight, nint n) where T : unmanaged
    {
        double sum = 0;
        for (nint start = 0; start < n; start += Moments.BlockLength)
        {
            Vector512<float> squares = default;
            nint i = start, end = Math.Min(start + Moments.BlockLength, n);
            for (; i <= end - 16; i += 16)
            {
                Vector512<float> g = weight == null ? Elements.LoadFloats(dy, i) : Weighted.Load(dy, weight, i);
                squares += g * g;
            }
            sum += Moments.Fold(squares);
            for (; i < end; i++)
            {
                double g = Elements.ToDouble(dy[i]) * (weight == null ? 1 : weight[i]);
                sum += g * g;
            }
        }
        return sum;
    }

    /// <summary>A run of fewer than 16 elements.</summary>
    private static void SumShort<TGradient, T>(TGradient* dy, T* x, nint n, float hi, ref FloatSums sums)
        where TGradient : unmanaged
        where T : unmanaged
    {
        sums = default;
        for (nint i = 0; i < n; i++)
        {
            double g = Elements.ToDouble(dy[i]);
            sums.Sum += g;
            sums.Product += g * (Elements.ToDouble(x[i]) - hi);
            sums.Squares += g * g;
        }
    }

    private static void SumBlock<TGradient, T, TWeight>(TGradient* dy, T* x, float* weight, nint n, float mean, ref FloatSums sums, nint ahead)
        where TGradient : unmanaged
        where T : unmanaged
        where TWeight : struct, IWeighting
    {
        Vector512<float> hi = Vector512.Create(mean), s0 = default;
        if ((n & 15) != 0)
            s0 = Vector512.AndNot(TWeight.Load(dy, weight, n - 16), CountedOf(n));
        Vector512<float> p0 = s0 * (Elements.LoadFloats(x, n - 16) - hi), squares = s0 * s0;
        Vector512<float> s1 = default, s2 = default, s3 = default, p1 = default, p2 = default, p3 = default;
        nint i = 0;
        for (; i <= n - 64; i += 64)
        {
            Streaming.PrefetchFour(dy, i, ahead / sizeof(TGradient));
            Streaming.PrefetchFour(x, i, ahead / sizeof(T));
            (Vector512<float> g0, Vector512<float> g1) = TWeight.LoadPairs<TGradient, T>(dy, weight, i);
            (Vector512<float> g2, Vector512<float> g3) = TWeight.LoadPairs<TGradient, T>(dy, weight, i + 32);
            (Vector512<float> d0, Vector512<float> d1) = Elements.LoadPairs(x, i);
            (Vector512<float> d2, Vector512<float> d3) = Elements.LoadPairs(x, i + 32);
            s0 += g0;
            s1 += g1;
            s2 += g2;
            s3 += g3;
            p0 += g0 * (d0 - hi);
            p1 += g1 * (d1 - hi);
            p2 += g2 * (d2 - hi);
            p3 += g3 * (d3 - hi);
            squares += g0 * g0;
        }
        for (; i <= n - 16; i += 16)
        {
            Vector512<float> g0 = TWeight.Load(dy, weight, i);
            s0 += g0;
            p0 += g0 * (Elements.LoadFloats(x, i) - hi);
            squares += g0 * g0;
        }
        sums.Sum = Moments.Fold((s0 + s1) + (s2 + s3));
        sums.Product = Moments.Fold((p0 + p1) + (p2 + p3));
        sums.Squares = Moments.Fold(squares);
    }

    /// <summary>The lanes of the last 16 elements that belong to a whole vector before them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> CountedOf(nint n) => Vector512.LessThan(Vector512<float>.Indices, Vector512.Create((float)(16 - (n & 15))));

    /// <summary>g = dy, or dy · weight.</summary>
    private interface IWeighting
    {
        static abstract Vector512<float> Load<T>(T* dy, float* weight, nint i) where T : unmanaged;

        static abstract (Vector512<float> A, Vector512<float> B) LoadPairs<TGradient, T>(TGradient* dy, float* weight, nint i)
            where TGradient : unmanaged
            where T : unmanaged;
    }

    private readonly struct Unweighted : IWeighting
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Load<T>(T* dy, float* weight, nint i) where T : unmanaged => Elements.LoadFloats(dy, i);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static (Vector512<float> A, Vector512<float> B) LoadPairs<TGradient, T>(TGradient* dy, float* weight, nint i)
            where TGradient : unmanaged
            where T : unmanaged
            => Elements.LoadAsPairsOf<TGradient, T>(dy, i);
    }

    private readonly struct Weighted : IWeighting
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Load<T>(T* dy, float* weight, nint i) where T : unmanaged => Elements.LoadFloats(dy, i) * Vector512.Load(weight + i);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static (Vector512<float> A, Vector512<float> B) LoadPairs<TGradient, T>(TGradient* dy, float* weight, nint i)
            where TGradient : unmanaged
            where T : unmanaged
        {
            (Vector512<float> a, Vector512<float> b) = Elements.LoadAsPairsOf<TGradient, T>(dy, i);
            (Vector512<float> wa, Vector512<float> wb) = Elements.LoadInPairsOf<T>(weight + i);
            return (a * wa, b * wb);
        }
    }

    /// <summary>The same where the weights are in the order of pairs, and all elements are taken in it.</summary>
    private readonly struct WeightedInPairs : IWeighting
    {
        public static Vector512<float> Load<T>(T* dy, float* weight, nint i) where T : unmanaged => throw new UnreachableException();

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static (Vector512<float> A, Vector512<float> B) LoadPairs<TGradient, T>(TGradient* dy, float* weight, nint i)
            where TGradient : unmanaged
            where T : unmanaged
        {
            (Vector512<float> a, Vector512<float> b) = Elements.LoadAsPairsOf<TGradient, T>(dy, i);
            return (a * Vector512.Load(weight + i), b * Vector512.Load(weight + i + 16));
        }
    }
}
