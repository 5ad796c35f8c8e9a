using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>
/// Forward and backward for ordinary floats, in float throughout.
/// </summary>
/// <remarks>
/// What may round: a square and its at most 32 additions, which weigh as much as alpha/size · S does against k, the
/// denominator, a quarter of what the power's own error term rounds (<see cref="QuarterPower{TQuarters}"/>), and the result.
/// <see cref="WindowParameters.FloatLimit"/> says how large the elements may be; positions with larger ones are computed in
/// double, alone, so that none of them changes its neighbours' bits.
/// </remarks>
internal static unsafe partial class WindowNorm
{
    /// <summary>Gradients up to here stay inside float's range in every product.</summary>
    private const float LargestGradient = 1L << 40;

    /// <summary>Normalizes a block of positions.</summary>
    private static void ForwardFloat(float* x, float* y, nint channels, nint run, nint length, in WindowParameters window, ref float scratch)
    {
        switch (window.Quarters)
        {
            case 1:
                Run(new QuarterPower<OneQuarter>(), in window, ref scratch);
                break;
            case 2:
                Run(new QuarterPower<TwoQuarters>(), in window, ref scratch);
                break;
            case 3:
                Run(new QuarterPower<ThreeQuarters>(), in window, ref scratch);
                break;
            default:
                Run(new AnyPower(window.Beta), in window, ref scratch);
                break;
        }

        void Run<TPower>(TPower power, in WindowParameters window, ref float scratch) where TPower : struct, IFloatPower
        {
            var rows = new FloatForwardRows<TPower>(x, y, run, length, in window, power);
            SlidingWindow.Sum(in rows, channels, window.Lower, window.Upper, ref scratch, FloatLanes.RoundUp(length));
        }
    }

    /// <summary>Computes dx for a block of positions.</summary>
    /// <param name="dy">The gradient of the output.</param>
    /// <param name="x">The input.</param>
    /// <param name="dx">The result; may be <paramref name="dy"/>.</param>
    /// <param name="channels">The number of channels.</param>
    /// <param name="run">The positions of one channel.</param>
    /// <param name="length">The positions of the block.</param>
    /// <param name="window">The window and the formula's numbers.</param>
    /// <param name="planes">Room for two rows a channel, as long as the block rounded up.</param>
    /// <param name="scratch">Room for the sliding window.</param>
    private static void BackwardFloat(float* dy, float* x, float* dx, nint channels, nint run, nint length, in WindowParameters window, ref float planes, ref float scratch)
    {
        ref float terms = ref Unsafe.Add(ref planes, channels * FloatLanes.RoundUp(length));
        switch (window.Quarters)
        {
            case 1:
                Run(new QuarterPower<OneQuarter>(), in window, ref planes, ref terms, ref scratch);
                break;
            case 2:
                Run(new QuarterPower<TwoQuarters>(), in window, ref planes, ref terms, ref scratch);
                break;
            case 3:
                Run(new QuarterPower<ThreeQuarters>(), in window, ref planes, ref terms, ref scratch);
                break;
            default:
                Run(new AnyPower(window.Beta), in window, ref planes, ref terms, ref scratch);
                break;
        }
        var gradients = new FloatGradientRows(x, dx, run, length, in window, ref planes, ref terms);
        SlidingWindow.Sum(in gradients, channels, window.BackLower, window.BackUpper, ref scratch, FloatLanes.RoundUp(length));

        void Run<TPower>(TPower power, in WindowParameters window, ref float planes, ref float terms, ref float scratch) where TPower : struct, IFloatPower
        {
            var rows = new FloatTermRows<TPower>(dy, x, run, length, in window, power, ref planes, ref terms);
            SlidingWindow.Sum(in rows, channels, window.Lower, window.Upper, ref scratch, FloatLanes.RoundUp(length));
        }
    }

    /// <summary>Squares of x in, x · (k + scale · sum)^-beta out.</summary>
    private readonly struct FloatForwardRows<TPower>(float* x, float* y, nint run, nint length, in WindowParameters window, TPower power) : IWindowRows<float> where TPower : struct, IFloatPower
    {
        private readonly FloatDenominator denominator = new(in window);

        public void ReadTerms(nint channel, ref float row) => StoreSquares(x + channel * run, length, ref row);

        public void WriteSums(nint channel, ref readonly float suffix, ref readonly float prefix)
        {
            float* from = x + channel * run, to = y + channel * run;
            FloatDenominator d = denominator;
            TPower p = power;
            nint i = 0;
            for (; i <= length - FloatLanes.Count; i += FloatLanes.Count)
                d.At(in suffix, in prefix, i).Divide(FloatLanes.Load(in *from, i), p).Store(ref *to, i);
            if (i < length)
                WriteTail(from + i, to + i, length - i, in suffix, in prefix, i, d, p);
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        private static void WriteTail(float* from, float* to, nint count, ref readonly float suffix, ref readonly float prefix, nint i, FloatDenominator d, TPower p)
            => StoreTail(d.At(in suffix, in prefix, i).Divide(LoadTail(from, count), p), to, count);
    }

    /// <summary>Squares of x in; dy · p and the terms dy · p · x / d out, each to its plane.</summary>
    private readonly ref struct FloatTermRows<TPower>(float* dy, float* x, nint run, nint length, in WindowParameters window, TPower power, ref float products, ref float terms)
        : IWindowRows<float> where TPower : struct, IFloatPower
    {
        private readonly FloatDenominator denominator = new(in window);
        private readonly ref float products = ref products;
        private readonly ref float terms = ref terms;

        public void ReadTerms(nint channel, ref float row) => StoreSquares(x + channel * run, length, ref row);

        public void WriteSums(nint channel, ref readonly float suffix, ref readonly float prefix)
        {
            float* g = dy + channel * run, from = x + channel * run;
            ref float product = ref Unsafe.Add(ref products, channel * FloatLanes.RoundUp(length)), term = ref Unsafe.Add(ref terms, channel * FloatLanes.RoundUp(length));
            FloatDenominator d = denominator;
            TPower p = power;
            nint i = 0;
            for (; i <= length - FloatLanes.Count; i += FloatLanes.Count)
                Write(FloatLanes.Load(in *g, i), FloatLanes.Load(in *from, i), d.At(in suffix, in prefix, i), p, ref product, ref term, i);
            if (i < length)
                WriteTail(g + i, from + i, length - i, d.At(in suffix, in prefix, i), p, ref product, ref term, i);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static void Write(FloatLanes g, FloatLanes x, CompensatedLanes d, TPower p, ref float product, ref float term, nint i)
        {
            FloatLanes gp = d.Divide(g, p);
            gp.Store(ref product, i);
            (gp * x / d.Value).Store(ref term, i);
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        private static void WriteTail(float* g, float* x, nint count, CompensatedLanes d, TPower p, ref float product, ref float term, nint i)
            => Write(LoadTail(g, count), LoadTail(x, count), d, p, ref product, ref term, i);
    }

    /// <summary>Terms in; dy · p - 2 · scale · beta · x · sum out.</summary>
    private readonly ref struct FloatGradientRows(float* x, float* dx, nint run, nint length, in WindowParameters window, ref float products, ref float terms) : IWindowRows<float>
    {
        private readonly SplitFactor factor = new(2 * window.Scale * window.Beta);
        private readonly ref float products = ref products;
        private readonly ref float terms = ref terms;

        public void ReadTerms(nint channel, ref float row)
        {
            int stride = (int)FloatLanes.RoundUp(length);
            MemoryMarshal.CreateReadOnlySpan(in Unsafe.Add(ref terms, channel * stride), stride).CopyTo(MemoryMarshal.CreateSpan(ref row, stride));
        }

        public void WriteSums(nint channel, ref readonly float suffix, ref readonly float prefix)
        {
            float* from = x + channel * run, to = dx + channel * run;
            ref float product = ref Unsafe.Add(ref products, channel * FloatLanes.RoundUp(length));
            SplitFactor f = factor;
            nint i = 0;
            for (; i <= length - FloatLanes.Count; i += FloatLanes.Count)
                Gradient(FloatLanes.Load(in *from, i), f, in product, in suffix, in prefix, i).Store(ref *to, i);
            if (i < length)
                WriteTail(from + i, to + i, length - i, f, in product, in suffix, in prefix, i);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static FloatLanes Gradient(FloatLanes x, SplitFactor factor, ref readonly float product, ref readonly float suffix, ref readonly float prefix, nint i)
        {
            FloatLanes sum = FloatLanes.Load(in suffix, i) + FloatLanes.Load(in prefix, i);
            return FloatLanes.Load(in product, i) - x * factor.Low * sum - x * factor.Value * sum;
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        private static void WriteTail(float* from, float* to, nint count, SplitFactor factor, ref readonly float product, ref readonly float suffix, ref readonly float prefix, nint i)
            => StoreTail(Gradient(LoadTail(from, count), factor, in product, in suffix, in prefix, i), to, count);
    }

    /// <summary>A factor, and what rounding it leaves: an error that every element would share.</summary>
    private readonly struct SplitFactor(double factor)
    {
        internal readonly float Value = (float)factor, Low = (float)(factor - (float)factor);
    }

    /// <summary>k + scale · sum.</summary>
    private readonly struct FloatDenominator(in WindowParameters window)
    {
        private readonly float scale = (float)window.Scale, k = (float)window.K;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        internal CompensatedLanes At(ref readonly float suffix, ref readonly float prefix, nint i)
        {
            FloatLanes term = (FloatLanes.Load(in suffix, i) + FloatLanes.Load(in prefix, i)) * scale;
            FloatLanes d = term + k;
            return new(d, term - (d - k));
        }
    }

    /// <summary>Denominators, and what rounding them leaves (Dekker 1971; only nearly so where they are less than half k).</summary>
    private readonly record struct CompensatedLanes(FloatLanes Value, FloatLanes Low)
    {
        /// <summary>x / this^beta.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        internal FloatLanes Divide<TPower>(FloatLanes x, TPower power) where TPower : struct, IFloatPower => power.Times(x, Value, Low);
    }

    /// <summary>Whether a block has a magnitude above a limit, infinity too. NaN may count as such; alone, in a single position, it does not.</summary>
    private static bool IsLarger(float* x, nint channels, nint run, nint length, float limit)
    {
        for (nint c = 0; c < channels; c++, x += run)
        {
            // A scalar tail, and first: a call after the loop would keep its maximum in memory.
            nint i = length & -Vector512<float>.Count;
            for (nint j = i; j < length; j++)
            {
                if (Math.Abs(x[j]) > limit)
                    return true;
            }
            // Magnitudes compare as their bits do.
            Vector512<int> largest = default;
            for (i -= Vector512<float>.Count; i >= 0; i -= Vector512<float>.Count)
                largest = Vector512.Max(largest, Vector512.Load((int*)(x + i)) & Vector512.Create(int.MaxValue));
            if (Vector512.GreaterThanAny(largest, Vector512.Create(limit).AsInt32()))
                return true;
        }
        return false;
    }

    /// <summary>Writes squares, and zeros up to the next multiple of 32.</summary>
    private static void StoreSquares(float* x, nint length, ref float row)
    {
        nint i = 0;
        for (; i <= length - FloatLanes.Count; i += FloatLanes.Count)
            Square(FloatLanes.Load(in *x, i)).Store(ref row, i);
        if (i < length)
            StoreTailSquares(x + i, length - i, ref row, i);

        [MethodImpl(MethodImplOptions.NoInlining)]
        static void StoreTailSquares(float* x, nint count, ref float row, nint i) => Square(LoadTail(x, count)).Store(ref row, i);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static FloatLanes Square(FloatLanes value) => value * value;
    }

    /// <summary>Loads fewer than 32 elements, and zeros after them.</summary>
    private static FloatLanes LoadTail(float* source, nint count)
    {
        FloatLanes value = default;
        Buffer.MemoryCopy(source, &value, sizeof(FloatLanes), count * sizeof(float));
        return value;
    }

    private static void StoreTail(FloatLanes value, float* destination, nint count)
        => Buffer.MemoryCopy(&value, destination, count * sizeof(float), count * sizeof(float));
}
