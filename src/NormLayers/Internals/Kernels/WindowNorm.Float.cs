using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>
/// Forward and backward for ordinary elements of float and of the 16-bit types, in float throughout.
/// </summary>
/// <remarks>
/// <para>
/// A strip of positions is taken up the channels row by row, and each row goes through a few short loops whose intermediate
/// rows stay in the first-level cache: squares, denominators and the first half of the power, the second half. The backward's
/// second window runs right behind the first.
/// </para>
/// <para>
/// The loops over a row are compiled with all optimizations at once: the code that the runtime would start with is fifty
/// times slower.
/// </para>
/// <para>
/// What may round: a square and its at most 32 additions, which weigh as much as alpha/size · S does against k, the
/// denominator, a quarter of what the power's own error term rounds (<see cref="QuarterPower{TQuarters}"/>), and the result.
/// <see cref="WindowParameters.FloatLimit"/> says how large the elements may be; positions with larger ones are computed in
/// double, alone, so that none of them changes its neighbours' bits.
/// </para>
/// <para>
/// Rows of scratch are whole vectors. The last vector of a strip holds its last 16 positions, some of which the one before it
/// has as well: both come to the same bits.
/// </para>
/// </remarks>
internal static unsafe partial class WindowNorm
{
    /// <summary>Gradients up to here stay inside float's range in every product.</summary>
    private const float LargestGradient = 1L << 40;

    /// <summary>The scratch of a strip, in floats, as long as that leaves it 32 positions: long rows count for more than the first-level cache.</summary>
    private const nint StripScratch = 14336;

    private const nint LongestStrip = 1024;

    private const int Lanes = 16;

    /// <summary>Whether ordinary elements of a type are computed in float.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool InFloat<T>(in WindowParameters window) where T : unmanaged => typeof(T) != typeof(double) && window.FloatLimit > 0;

    /// <summary>How the positions of a channel are cut into strips, of nearly the same length, and how long a row of scratch is.</summary>
    private readonly struct Strips
    {
        private readonly nint run;

        internal Strips(nint run, nint rows)
        {
            this.run = run;
            nint longest = Math.Clamp(StripScratch / rows, 2 * Lanes, LongestStrip);
            Count = (run + longest - 1) / longest;
            Stride = RoundUp((run + Count - 1) / Count) + Lanes;
        }

        internal nint Count { get; }

        internal nint Stride { get; }

        /// <summary>The first position of a strip; a whole number of vectors.</summary>
        internal nint Start(nint strip) => strip == Count ? run : strip * run / Count & -Lanes;
    }

    private static nint ForwardRowCount<TPower>(in WindowParameters window) where TPower : struct, IFloatPower<TPower>
        => FloatWindow.Rows(window.Lower, window.Upper) + (TPower.HasSecond ? 3 : 2);

    private static nint BackwardRowCount<TPower>(in WindowParameters window) where TPower : struct, IFloatPower<TPower>
        => ForwardRowCount<TPower>(in window) + FloatWindow.Rows(window.BackLower, window.BackUpper) + window.BackUpper + 1;

    /// <summary>Normalizes a strip of at least 16 positions.</summary>
    /// <returns>The bits of the largest square.</returns>
    private static int ForwardStrip<T, TPower>(T* x, T* y, nint channels, nint run, nint length, in WindowParameters window, TPower power, float* scratch)
        where T : unmanaged where TPower : struct, IFloatPower<TPower>
    {
        nint stride = RoundUp(length);
        var squares = new FloatWindow(scratch, channels, window.Lower, window.Upper, stride);
        var denominators = new Denominators<TPower>(scratch + FloatWindow.Rows(window.Lower, window.Upper) * stride, stride, in window);
        Vector512<int> largest = default;
        for (nint c = -window.Upper; c < channels; c++)
        {
            nint next = squares.Next(c);
            if (next < channels)
                Square(x + next * run, squares.Row(next), length, run, ref largest);
            if (c < 0)
                continue;
            denominators.Begin(squares.At(c), power);
            denominators.Divide(x + c * run, y + c * run, length, run, power);
        }
        return Largest(largest);
    }

    /// <summary>Computes dx for a strip of at least 16 positions; dx may be dy.</summary>
    /// <returns>The bits of the largest square of x and of the largest gradient.</returns>
    private static (int Square, int Gradient) BackwardStrip<T, TPower>(T* dy, T* x, T* dx, nint channels, nint run, nint length, in WindowParameters window, TPower power, float* scratch)
        where T : unmanaged where TPower : struct, IFloatPower<TPower>
    {
        nint stride = RoundUp(length), kept = window.BackUpper + 1;
        var squares = new FloatWindow(scratch, channels, window.Lower, window.Upper, stride);
        scratch += FloatWindow.Rows(window.Lower, window.Upper) * stride;
        var terms = new FloatWindow(scratch, channels, window.BackLower, window.BackUpper, stride);
        scratch += FloatWindow.Rows(window.BackLower, window.BackUpper) * stride;
        float* products = scratch;
        var denominators = new Denominators<TPower>(scratch + kept * stride, stride, in window);
        var factor = new SplitFactor(2 * window.Scale * window.Beta);
        Vector512<int> largest = default, largestGradient = default;
        for (nint c = -window.Upper; c < channels + window.BackUpper; c++)
        {
            nint next = squares.Next(c);
            if (next < channels)
                Square(x + next * run, squares.Row(next), length, run, ref largest);
            if (c >= 0 && c < channels)
            {
                denominators.Begin(squares.At(c), power);
                denominators.MakeTerms(dy + c * run, x + c * run, products + c % kept * stride, terms.Row(c), length, run, power, ref largestGradient);
            }
            nint done = c - window.BackUpper;
            if (done >= 0)
                WriteGradients(x + done * run, products + done % kept * stride, terms.At(done), dx + done * run, length, run, factor);
        }
        return (Largest(largest), Largest(largestGradient));
    }

    /// <summary>Writes squares, and the largest of their bits, which compare as they do.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Square<T>(T* x, float* squares, nint length, nint run, ref Vector512<int> largest) where T : unmanaged
    {
        Vector512<int> most = largest;
        for (nint i = 0; i < length; i += Lanes)
        {
            nint at = Math.Min(i, length - Lanes);
            Streaming.Prefetch(in *x, at + run);
            Vector512<float> value = Elements.LoadFloats(x, at), square = value * value;
            most = Vector512.Max(most, square.AsInt32());
            square.Store(squares + i);
        }
        largest = most;
    }

    /// <summary>Writes dy · p - 2 · scale · beta · x · sum.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void WriteGradients<T>(T* x, float* products, FloatWindow.Sums sums, T* dx, nint length, nint run, SplitFactor factor) where T : unmanaged
    {
        Vector512<float> value = Vector512.Create(factor.Value), low = Vector512.Create(factor.Low);
        for (nint i = 0; i < length; i += Lanes)
        {
            nint at = Math.Min(i, length - Lanes);
            Streaming.Prefetch(in *dx, at + run);
            Vector512<float> sum = Elements.LoadFloats(x, at) * sums.Take(i);
            Elements.StoreFloats(Vector512.Load(products + i) - sum * low - sum * value, dx, at);
        }
    }

    /// <summary>A factor, and what rounding it leaves: an error that every element would share.</summary>
    private readonly struct SplitFactor(double factor)
    {
        internal readonly float Value = (float)factor, Low = (float)(factor - (float)factor);
    }

    /// <summary>The denominators k + scale · S of a row, and what the first step of the power makes of them.</summary>
    private readonly struct Denominators<TPower>(float* scratch, nint stride, in WindowParameters window) where TPower : struct, IFloatPower<TPower>
    {
        private readonly float scale = (float)window.Scale, k = (float)window.K;
        private readonly float* scaled = scratch, first = scratch + stride, rest = scratch + 2 * stride;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        internal void Begin(FloatWindow.Sums sums, TPower power)
        {
            Vector512<float> factor = Vector512.Create(scale), summand = Vector512.Create(k);
            float* term = scaled, one = first, other = rest;
            for (nint i = 0; i < stride; i += Lanes)
            {
                Vector512<float> t = sums.Take(i) * factor;
                (Vector512<float> a, Vector512<float> b) = power.Begin(t + summand);
                t.Store(term + i);
                a.Store(one + i);
                if (TPower.HasSecond)
                    b.Store(other + i);
            }
        }

        /// <summary>Writes x · d^-beta.</summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        internal void Divide<T>(T* x, T* y, nint length, nint run, TPower power) where T : unmanaged
        {
            float* term = scaled, one = first, other = rest;
            Vector512<float> summand = Vector512.Create(k);
            // Where y is x, the last vector's part that the one before it has as well is gone by then.
            nint last = RoundUp(length) - Lanes;
            Vector512<float> end = Finish(Elements.LoadFloats(x, length - Lanes), summand, term, one, other, last, power).Value;
            for (nint i = 0; i < last; i += Lanes)
            {
                Streaming.Prefetch(in *y, i + run);
                Elements.StoreFloats(Finish(Elements.LoadFloats(x, i), summand, term, one, other, i, power).Value, y, i);
            }
            Elements.StoreFloats(end, y, length - Lanes);
        }

        /// <summary>Writes the products dy · d^-beta and the terms dy · d^-beta · x / d.</summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        internal void MakeTerms<T>(T* dy, T* x, float* products, float* terms, nint length, nint run, TPower power, ref Vector512<int> largest) where T : unmanaged
        {
            float* term = scaled, one = first, other = rest;
            Vector512<float> summand = Vector512.Create(k);
            Vector512<int> most = largest;
            for (nint i = 0; i < length; i += Lanes)
            {
                nint at = Math.Min(i, length - Lanes);
                Streaming.Prefetch(in *dy, at + run);
                Vector512<float> g = Elements.LoadFloats(dy, at);
                most = Vector512.Max(most, g.AsInt32() & Vector512.Create(int.MaxValue));
                (Vector512<float> product, Vector512<float> d) = Finish(g, summand, term, one, other, i, power);
                product.Store(products + i);
                // The quotient need not wait for the power.
                (product * (Elements.LoadFloats(x, at) / d)).Store(terms + i);
            }
            largest = most;
        }

        /// <summary>value · d^-beta, and d, with what rounding it leaves carried into the power (Dekker 1971; only nearly so where scale · S is more than k).</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static (Vector512<float> Value, Vector512<float> D) Finish(Vector512<float> value, Vector512<float> k, float* scaled, float* first, float* rest, nint i, TPower power)
        {
            Vector512<float> t = Vector512.Load(scaled + i), d = t + k, low = t - (d - k);
            return (power.Finish(value, d, low, Vector512.Load(first + i), TPower.HasSecond ? Vector512.Load(rest + i) : default), d);
        }
    }

    private static int Largest(Vector512<int> values)
    {
        int largest = 0;
        for (int i = 0; i < Vector512<int>.Count; i++)
            largest = Math.Max(largest, values[i]);
        return largest;
    }
}
