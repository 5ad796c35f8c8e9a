using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>
/// Forward and backward for ordinary elements of float and of the 16-bit types, in float throughout.
/// </summary>
/// <remarks>
/// <para>
/// A strip of positions is taken up the channels row by row. One loop squares the row that a window is about to reach, adds it to the sums,
/// and divides; its intermediate rows stay in the first-level cache. The backward's second window runs right behind the first.
/// </para>
/// <para>
/// The loops over a row are compiled with all optimizations at once: the code that the runtime would start with is fifty
/// times slower.
/// </para>
/// <para>
/// What may round: a square and its at most 32 additions, which weigh as much as alpha/size · S does against k, the
/// error of the power (<see cref="QuarterPower{TQuarters}"/>), and the result.
/// <see cref="WindowParameters.FloatLimit"/> says how large the elements may be; positions with larger ones are computed in
/// double, alone, so that none of them changes its neighbours' bits.
/// </para>
/// <para>
/// Rows of scratch are whole pairs of vectors, of 16 bits in the order of <see cref="Elements.LoadPairs"/>. The last pair of a strip holds its last
/// 32 positions, some of which the one before it has as well: both come to the same bits.
/// </para>
/// </remarks>
internal static unsafe partial class WindowNorm
{
    /// <summary>Gradients up to here stay inside float's range in every product.</summary>
    private const float LargestGradient = 1L << 40;

    /// <summary>The scratch of a strip, in floats, as long as that leaves it 64 positions: it stays in the first-level cache beside the rows of the tensors.</summary>
    private const nint StripScratch = 9216;

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
            nint longest = Math.Max(StripScratch / rows, 2 * FloatPair.Count);
            Count = (run + longest - 1) / longest;
            Stride = WindowNorm.Stride((run + Count - 1) / Count + FloatPair.Count);
        }

        internal nint Count { get; }

        internal nint Stride { get; }

        /// <summary>The first position of a strip; a whole number of vectors.</summary>
        internal nint Start(nint strip) => strip == Count ? run : strip * run / Count & -FloatPair.Count;
    }

    private static nint ForwardRowCount(in WindowParameters window) => FloatWindow.Rows(window.Lower, window.Upper);

    private static nint BackwardRowCount(in WindowParameters window)
        => ForwardRowCount(in window) + FloatWindow.Rows(window.BackLower, window.BackUpper) + window.BackUpper + 1;

    /// <summary>Normalizes a strip of at least 32 positions.</summary>
    /// <returns>The bits of a sum of squares that no square exceeds.</returns>
    private static uint ForwardStrip<T, TPower>(T* x, T* y, nint channels, nint run, nint length, in WindowParameters window, TPower power, float* scratch)
        where T : unmanaged where TPower : struct, IFloatPower<TPower>
    {
        var squares = new FloatWindow(scratch, channels, window.Lower, window.Upper, length);
        var denominator = new FloatDenominator<TPower>(power, in window);
        T* end = stackalloc T[FloatPair.Count];
        for (nint c = 0; c < squares.Next(0) && c < channels; c++)
            Square(x + c * run, squares.Row(c), length, run);
        for (nint c = 0; c < channels; c++)
        {
            T* next = NextSquares(x, ref squares, c, channels, run, length);
            Divide(x + c * run, next, y + c * run, end, squares.At(c), length, run, denominator);
        }
        return squares.Largest();
    }

    /// <summary>Computes dx for a strip of at least 32 positions; dx may be dy.</summary>
    /// <returns>The bits of a sum of squares of x that no square exceeds, and of the largest gradient.</returns>
    private static (uint Square, uint Gradient) BackwardStrip<T, TPower>(T* dy, T* x, T* dx, nint channels, nint run, nint length, in WindowParameters window, TPower power, float* scratch)
        where T : unmanaged where TPower : struct, IFloatPower<TPower>
    {
        nint stride = Stride(length), kept = window.BackUpper + 1;
        var squares = new FloatWindow(scratch, channels, window.Lower, window.Upper, length);
        scratch += FloatWindow.Rows(window.Lower, window.Upper) * stride;
        var terms = new FloatWindow(scratch, channels, window.BackLower, window.BackUpper, length);
        float* products = scratch + FloatWindow.Rows(window.BackLower, window.BackUpper) * stride;
        var denominator = new FloatDenominator<TPower>(power, in window);
        var factor = new SplitFactor(2 * window.Scale * window.Beta);
        Vector512<uint> largest = default;
        for (nint c = 0; c < squares.Next(0) && c < channels; c++)
            Square(x + c * run, squares.Row(c), length, run);
        for (nint c = 0; c < channels + window.BackUpper; c++)
        {
            if (c < channels)
            {
                T* next = NextSquares(x, ref squares, c, channels, run, length);
                MakeTerms(dy + c * run, x + c * run, next, products + c % kept * stride, terms.Row(c), squares.At(c), length, run, denominator, ref largest);
            }
            nint done = c - window.BackUpper;
            if (done >= 0)
                WriteGradients(x + done * run, products + done % kept * stride, terms.At(done), dx + done * run, length, run, factor);
        }
        return (squares.Largest(), Largest(largest));
    }

    /// <summary>Where the row is whose squares are to be made as the sums around a channel are taken; null if there is none, or they are made here.</summary>
    private static T* NextSquares<T>(T* x, ref FloatWindow squares, nint channel, nint channels, nint run, nint length) where T : unmanaged
    {
        nint next = squares.Next(channel);
        if (next >= channels)
            return null;
        // A row that is its own next one may be overwritten.
        if (!squares.IsFirst(channel) && next != channel)
            return x + next * run;
        Square(x + next * run, squares.Row(next), length, run);
        return null;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Square<T>(T* x, float* squares, nint length, nint run) where T : unmanaged
    {
        for (nint i = 0; i < length; i += FloatPair.Count)
        {
            nint at = Math.Min(i, length - FloatPair.Count);
            Streaming.PrefetchTwo(x, at, run);
            FloatPair value = FloatPair.Load(x, at);
            (value * value).Store(squares + i);
        }
    }

    /// <summary>Writes x · d^-beta.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Divide<T, TPower>(T* x, T* next, T* y, T* end, FloatWindow.Sums sums, nint length, nint run, FloatDenominator<TPower> denominator) where T : unmanaged where TPower : struct, IFloatPower<TPower>
    {
        // Where y is x, the last vectors' part that those before have as well is gone by then.
        new Span<T>(x + length - FloatPair.Count, FloatPair.Count).CopyTo(new Span<T>(end, FloatPair.Count));
        FloatPair scale = denominator.Scale, k = denominator.K;
        for (nint i = 0; i < length; i += FloatPair.Count)
        {
            nint at = Math.Min(i, length - FloatPair.Count);
            Streaming.PrefetchTwo(y, at, run);
            FloatPair t = TakeSums(sums, next, at, i, run) * scale;
            denominator.Power.Multiply(FloatPair.Load(at == i ? x + i : end, 0), t, k).Store(y, at);
        }
    }

    /// <summary>Writes the products dy · d^-beta and the terms dy · d^-beta · x / d.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void MakeTerms<T, TPower>(T* dy, T* x, T* next, float* products, float* terms, FloatWindow.Sums sums, nint length, nint run, FloatDenominator<TPower> denominator, ref Vector512<uint> largest)
        where T : unmanaged where TPower : struct, IFloatPower<TPower>
    {
        Vector512<uint> most = largest;
        FloatPair scale = denominator.Scale, k = denominator.K;
        for (nint i = 0; i < length; i += FloatPair.Count)
        {
            nint at = Math.Min(i, length - FloatPair.Count);
            Streaming.PrefetchTwo(dy, at, run);
            FloatPair t = TakeSums(sums, next, at, i, run) * scale, g = FloatPair.Load(dy, at);
            // Without their signs, and NaN above all.
            most = Vector512.Max(most, Vector512.Max(Vector512.ShiftLeft(g.A.AsUInt32(), 1), Vector512.ShiftLeft(g.B.AsUInt32(), 1)));
            FloatPair product = denominator.Power.Multiply(g, t, k);
            product.Store(products + i);
            // The quotient need not wait for the power.
            (product * (FloatPair.Load(x, at) / (t + k))).Store(terms + i);
        }
        largest = most;
    }

    /// <summary>32 of the sums, with the squares of the next row if there is one.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static FloatPair TakeSums<T>(FloatWindow.Sums sums, T* next, nint at, nint i, nint run) where T : unmanaged
    {
        if (next == null)
            return sums.Take(i);
        Streaming.PrefetchTwo(next, at, run);
        FloatPair value = FloatPair.Load(next, at);
        return sums.Take(value * value, i);
    }

    /// <summary>Writes dy · p - 2 · scale · beta · x · sum.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void WriteGradients<T>(T* x, float* products, FloatWindow.Sums sums, T* dx, nint length, nint run, SplitFactor factor) where T : unmanaged
    {
        FloatPair value = factor.Value, low = factor.Low;
        for (nint i = 0; i < length; i += FloatPair.Count)
        {
            nint at = Math.Min(i, length - FloatPair.Count);
            Streaming.PrefetchTwo(dx, at, run);
            FloatPair sum = FloatPair.Load(x, at) * sums.Take(i);
            (FloatPair.Load(products + i) - sum * low - sum * value).Store(dx, at);
        }
    }

    /// <summary>A factor, and what rounding it leaves: an error that every element would share.</summary>
    private readonly struct SplitFactor(double factor)
    {
        internal readonly float Value = (float)factor, Low = (float)(factor - (float)factor);
    }

    /// <summary>The denominators d = k + scale · S of sums S, and their power.</summary>
    private readonly struct FloatDenominator<TPower>(TPower power, in WindowParameters window) where TPower : struct, IFloatPower<TPower>
    {
        internal readonly TPower Power = power;
        internal readonly float Scale = (float)window.Scale, K = (float)window.K;
    }

    internal static uint Largest(Vector512<uint> values)
    {
        uint largest = 0;
        for (int i = 0; i < Vector512<uint>.Count; i++)
            largest = Math.Max(largest, values[i]);
        return largest;
    }

    /// <summary>The distance of rows of scratch: not near 4 KB, since what is read there would wait for what was just stored a row further.</summary>
    internal static nint Stride(nint positions)
    {
        nint length = WholeSteps(positions), near = (length + 64) % 1024;
        return near < 128 ? length + 128 - near : length;
    }

    internal static nint WholeSteps(nint length) => (length + FloatPair.Count - 1) & -FloatPair.Count;
}
