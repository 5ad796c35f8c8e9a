using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>The numbers of a local response normalization, and the window that they mean for a number of channels.</summary>
internal readonly struct WindowParameters
{
    private const double LeastScale = 1e-30, LeastK = 1.0 / 65536, LeastLimit = 1024;

    /// <summary>A power multiplies the roundings of the denominator: with this one, windows of 32 channels and a denominator far above k they come to 6.7 ulp.</summary>
    private const double MostBeta = 1;

    /// <summary>The widest window that is summed in float.</summary>
    private const int MostChannels = 32;

    /// <summary>Channels below and above the centre that the window reaches; never further than there are channels.</summary>
    internal readonly nint Lower, Upper;

    /// <summary>The reach of the backward's window: of the transposed window, but for CrossMapLRN2d.</summary>
    internal readonly nint BackLower, BackUpper;

    /// <summary>Whether the square of the first channel stays in the sums of all that come after its window: CrossMapLRN2d.</summary>
    internal readonly bool KeepsFirst;

    /// <summary>alpha / size.</summary>
    internal readonly double Scale;

    internal readonly double Beta, K;

    /// <summary>4 · beta where that is an integer from 0 to 16, otherwise -1.</summary>
    internal readonly int Quarters;

    /// <summary>
    /// The largest |x| up to which floats, and elements of 16 bits, are ordinary: their squares and sums, denominators and powers stay well inside
    /// float's range, and nothing cancels. 0 where there are none: with k = 0, negative numbers, a window too wide for sums in float, or
    /// CrossMapLRN2d's windows.
    /// </summary>
    internal readonly float FloatLimit;

    internal WindowParameters(nint size, double alpha, double beta, double k, LrnWindow window, nint channels)
        : this(size, alpha, beta, k)
    {
        nint more = Math.Min(size / 2, channels - 1), less = Math.Min((size - 1) / 2, channels - 1);
        (Lower, Upper) = window == LrnWindow.Onnx ? (less, more) : (more, less);
        (BackLower, BackUpper) = (Upper, Lower);

        double largest = Math.ScaleB(1, (int)Math.Min(64, 100 / Math.Abs(beta)));
        double limit = Math.Min(1 << 30, Math.Sqrt(largest / 2 / alpha));
        bool ordinary = alpha >= 0 && Math.Abs(beta) <= MostBeta && (Scale == 0 || Scale >= LeastScale) && k >= Math.Max(LeastK, 1 / largest) && k <= largest / 2;
        FloatLimit = ordinary && limit >= LeastLimit && Lower + Upper < MostChannels ? (float)limit : 0;
    }

    /// <summary>The windows of CrossMapLRN2d, as PyTorch has them.</summary>
    internal WindowParameters(nint size, double alpha, double beta, double k, nint channels)
        : this(size, alpha, beta, k)
    {
        Lower = Upper = Math.Min((size - 1) / 2, channels - 1);
        // PyTorch lays the terms of its backward one channel too far: size 3 has {c-2, c-1, c}.
        BackLower = Math.Min((size + 1) / 2, channels - 1);
        BackUpper = Math.Clamp(size - 1 - (size + 1) / 2, 0, channels - 1);
        KeepsFirst = true;
    }

    private WindowParameters(nint size, double alpha, double beta, double k)
    {
        (Scale, Beta, K) = (alpha / size, beta, k);
        Quarters = beta is >= 0 and <= 4 && Math.Floor(beta * 4) == beta * 4 ? (int)(beta * 4) : -1;
    }

    /// <summary>d^beta: from square roots and products where beta is a multiple of a quarter up to 4.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal Vector512<double> Power(Vector512<double> d)
    {
        if (Quarters < 0)
            return VectorMath.Pow(d, Beta);
        Vector512<double> power = Vector512<double>.One;
        for (int whole = Quarters >> 2; whole > 0; whole--)
            power *= d;
        if ((Quarters & 3) == 0)
            return power;
        Vector512<double> root = Vector512.Sqrt(d);
        if ((Quarters & 2) != 0)
            power *= root;
        return (Quarters & 1) != 0 ? power * Vector512.Sqrt(root) : power;
    }
}

/// <summary>
/// The window geometry: y = x / (k + alpha/size · S)^beta, where S sums the squares of the channels in a window that slides
/// over the channels of one position.
/// </summary>
/// <remarks>
/// <para>
/// Memory: a block of up to 256 neighbouring positions is taken down all channels, so that each channel's part of it is one
/// to two contiguous kilobytes. The sums are <see cref="SlidingWindow"/>'s.
/// </para>
/// <para>
/// Arithmetic in double, rounded once at the end, but for floats and 16 bits where float does (WindowNorm.Float.cs). Powers that are multiples
/// of a quarter come from square roots and products, others from <see cref="VectorMath"/>.
/// </para>
/// </remarks>
internal static unsafe partial class WindowNorm
{
    private const int BlockLength = 256;

    // Where squares of doubles stay clear of overflow, and, with k = 0, of underflow.
    private const double LargestOrdinary = 1e145, SmallestOrdinary = 1e-145;

    /// <summary>Normalizes contiguous (samples, channels, run), none of them zero.</summary>
    /// <param name="x">The first element of the input.</param>
    /// <param name="y">The first element of the output; may be <paramref name="x"/> itself.</param>
    /// <param name="samples">The number of samples.</param>
    /// <param name="channels">The number of channels.</param>
    /// <param name="run">The positions of one channel of one sample.</param>
    /// <param name="window">The window and the formula's numbers.</param>
    /// <param name="maxThreads">The most threads, or 0.</param>
    internal static void Forward<T>(ref readonly T x, ref T y, nint samples, nint channels, nint run, in WindowParameters window, int maxThreads) where T : unmanaged
    {
        fixed (T* px = &x, py = &y)
        {
            var work = new ForwardWork<T> { X = px, Y = py, Channels = channels, Run = run, Window = window };
            int threads = Partition.Threads(samples * channels * run, maxThreads);
            if (InFloat<T>(in window))
                RunInFloat(new FloatWork<T> { X = px, Y = py, Samples = samples, Channels = channels, Run = run, Window = window }, threads);
            else
                Partition.Run(samples * work.BlocksPerSample, threads, &ForwardBlocks<T>, &work);
        }
    }

    private struct ForwardWork<T> where T : unmanaged
    {
        internal T* X, Y;
        internal nint Channels, Run;
        internal WindowParameters Window;

        internal readonly nint Stride => Math.Min(BlockLength, RoundUp(Run));

        internal readonly nint BlocksPerSample => (Run + Stride - 1) / Stride;
    }

    [SkipLocalsInit]
    private static void ForwardBlocks<T>(void* state, nint first, nint end) where T : unmanaged
    {
        const int StackLength = 4096;
        ref readonly ForwardWork<T> work = ref *(ForwardWork<T>*)state;
        nint channels = work.Channels, run = work.Run, stride = work.Stride;
        nint scratchLength = SlidingWindow.ScratchLength(work.Window.Lower, work.Window.Upper, stride);
        using var rented = new RentedDoubles(scratchLength <= StackLength ? 0 : scratchLength);
        Span<double> scratch = scratchLength <= StackLength ? stackalloc double[StackLength] : rented.Span;

        for (nint block = first; block < end; block++)
        {
            nint start = block % work.BlocksPerSample * stride, offset = block / work.BlocksPerSample * channels * run + start;
            nint length = Math.Min(stride, run - start);
            ForwardBlock(work.X + offset, work.Y + offset, channels, run, length, in work.Window, ref MemoryMarshal.GetReference(scratch));
        }
    }

    private static void ForwardBlock<T>(T* x, T* y, nint channels, nint run, nint length, in WindowParameters window, ref double scratch) where T : unmanaged
    {
        if (IsExtreme(in *x, channels, run, length, in window))
        {
            // Position by position, so that only those are computed in another way that must be.
            if (length == 1)
                ForwardExtreme(x, y, channels, run, in window, ref scratch);
            for (nint i = 0; length > 1 && i < length; i++)
                ForwardBlock(x + i, y + i, channels, run, 1, in window, ref scratch);
        }
        else
            ForwardOrdinary(x, y, channels, run, length, in window, ref scratch);
    }

    private static void ForwardOrdinary<T>(T* x, T* y, nint channels, nint run, nint length, in WindowParameters window, ref double scratch) where T : unmanaged
    {
        var rows = new ForwardRows<T>(ref *x, ref *y, run, length, in window);
        if (window.KeepsFirst)
            SumKeepingFirst(rows, channels, in window, ref scratch, RoundUp(length));
        else
            SlidingWindow.Sum(in rows, channels, window.Lower, window.Upper, ref scratch, RoundUp(length));
    }

    private static void SumKeepingFirst<T>(ForwardRows<T> rows, nint channels, in WindowParameters window, ref double scratch, nint stride) where T : unmanaged
    {
        using var rented = new RentedDoubles(2 * stride);
        ref double first = ref MemoryMarshal.GetReference(rented.Span);
        // Before the output may overwrite it.
        rows.ReadTerms(0, ref first);
        var keeping = new KeepingRows<T>(rows, ref first, stride, window.Lower);
        SlidingWindow.Sum(in keeping, channels, window.Lower, window.Upper, ref scratch, stride);
    }

    /// <summary>The rows with the first channel's squares added to the sums of all channels above <paramref name="last"/>.</summary>
    private readonly ref struct KeepingRows<T>(ForwardRows<T> rows, ref double first, nint stride, nint last) : IWindowRows<double> where T : unmanaged
    {
        private readonly ForwardRows<T> rows = rows;
        private readonly ref double first = ref first;

        public void ReadTerms(nint channel, ref double row) => rows.ReadTerms(channel, ref row);

        public void WriteSums(nint channel, ref readonly double suffix, ref readonly double prefix)
        {
            if (channel <= last)
            {
                rows.WriteSums(channel, in suffix, in prefix);
                return;
            }
            ref double sum = ref Unsafe.Add(ref first, stride);
            for (nint i = 0; i < stride; i += Vector512<double>.Count)
                (Vector512.LoadUnsafe(in suffix, (nuint)i) + Vector512.LoadUnsafe(in first, (nuint)i)).StoreUnsafe(ref sum, (nuint)i);
            rows.WriteSums(channel, in sum, in prefix);
        }
    }

    /// <summary>A block of positions: squares of x in, x / (k + scale · sum)^beta out.</summary>
    private readonly ref struct ForwardRows<T>(ref T x, ref T y, nint run, nint length, ref readonly WindowParameters window) : IWindowRows<double> where T : unmanaged
    {
        private readonly ref T x = ref x;
        private readonly ref T y = ref y;
        private readonly ref readonly WindowParameters window = ref window;

        public void ReadTerms(nint channel, ref double row) => StoreProducts(in x, in x, channel * run, length, ref row);

        public void WriteSums(nint channel, ref readonly double suffix, ref readonly double prefix)
        {
            Vector512<double> scale = Vector512.Create(window.Scale), k = Vector512.Create(window.K);
            for (nint i = 0; i < length; i += Elements.Step)
            {
                Vector512<double> a = (Vector512.LoadUnsafe(in suffix, (nuint)i) + Vector512.LoadUnsafe(in prefix, (nuint)i)) * scale + k;
                Vector512<double> b = (Vector512.LoadUnsafe(in suffix, (nuint)i + 8) + Vector512.LoadUnsafe(in prefix, (nuint)i + 8)) * scale + k;
                nint at = channel * run + i, count = Math.Min(length - i, Elements.Step);
                (Vector512<double> lower, Vector512<double> upper) = Elements.Load(in x, at, count);
                Elements.Store(lower / window.Power(a), upper / window.Power(b), ref y, at, count);
            }
        }
    }

    /// <summary>Writes the products of two runs of elements, and zeros up to the next multiple of 16.</summary>
    private static void StoreProducts<T>(ref readonly T a, ref readonly T b, nint offset, nint length, ref double row) where T : unmanaged
    {
        for (nint i = 0; i < length; i += Elements.Step)
        {
            nint count = Math.Min(length - i, Elements.Step);
            (Vector512<double> a0, Vector512<double> a1) = Elements.Load(in a, offset + i, count);
            (Vector512<double> b0, Vector512<double> b1) = Elements.Load(in b, offset + i, count);
            (a0 * b0).StoreUnsafe(ref row, (nuint)i);
            (a1 * b1).StoreUnsafe(ref row, (nuint)i + 8);
        }
    }

    private static nint RoundUp(nint length) => (length + Elements.Step - 1) / Elements.Step * Elements.Step;

    /// <summary>Whether a square in the block overflows double, or underflows where that matters. NaN and infinity are not extreme: their arithmetic is IEEE's.</summary>
    private static bool IsExtreme<T>(ref readonly T x, nint channels, nint run, nint length, in WindowParameters window) where T : unmanaged
    {
        // CrossMapLRN2d follows IEEE arithmetic there, as PyTorch does.
        if (typeof(T) != typeof(double) || window.KeepsFirst)
            return false;
        Vector512<double> least = Vector512.Create(window.K == 0 ? SmallestOrdinary : 0);
        for (nint c = 0; c < channels; c++)
        {
            for (nint i = 0; i < length; i += Elements.Step)
            {
                (Vector512<double> a, Vector512<double> b) = Elements.Load(in x, c * run + i, Math.Min(length - i, Elements.Step));
                if ((Extreme(a, least) | Extreme(b, least)) != Vector512<double>.Zero)
                    return true;
            }
        }
        return false;

        static Vector512<double> Extreme(Vector512<double> value, Vector512<double> least)
        {
            Vector512<double> magnitude = Vector512.Abs(value);
            return (Vector512.GreaterThan(magnitude, Vector512.Create(LargestOrdinary)) & Vector512.LessThanOrEqual(magnitude, Vector512.Create(double.MaxValue)))
                | (Vector512.LessThan(magnitude, least) & Vector512.GreaterThan(magnitude, Vector512<double>.Zero));
        }
    }

    /// <summary>
    /// The same for a position with extreme elements: in double, and where squares leave double's range each window is divided by a
    /// power of two first, which then goes into the logarithm of the power function. Windows without an extreme element keep the
    /// result, and the bits, that they have in other company. Rare, so it is scalar and adds each window up anew.
    /// </summary>
    private static void ForwardExtreme<T>(T* x, T* y, nint channels, nint run, in WindowParameters window, ref double scratch) where T : unmanaged
    {
        using var rented = new RentedDoubles(channels);
        Span<double> column = rented.Span;
        ReadColumn(x, run, column);
        ForwardOrdinary(x, y, channels, run, 1, in window, ref scratch);
        WriteExtreme(column, y, run, in window);
    }

    private static void ReadColumn<T>(T* x, nint run, Span<double> column) where T : unmanaged
    {
        for (int c = 0; c < column.Length; c++)
            column[c] = Elements.ToDouble(x[c * run]);
    }

    /// <summary>Writes those results of a position that see an extreme element.</summary>
    private static void WriteExtreme<T>(ReadOnlySpan<double> column, T* y, nint run, in WindowParameters window) where T : unmanaged
    {
        for (int c = 0; c < column.Length; c++)
        {
            if (HasExtreme<T>(column, c - window.Lower, c + window.Upper, in window, window.FloatLimit))
                y[c * run] = Elements.FromDouble<T>(new ScaledDenominator(column, c, in window).Divide(column[c]));
        }
    }

    /// <summary>Whether one of the channels from first to last, as far as they exist, has an element that is extreme for its type: where the arithmetic is in float, one above a limit.</summary>
    private static bool HasExtreme<T>(ReadOnlySpan<double> column, nint first, nint last, in WindowParameters window, float floatLimit) where T : unmanaged
    {
        double least = typeof(T) != typeof(double) || window.K != 0 ? 0 : SmallestOrdinary, most = typeof(T) != typeof(double) ? floatLimit : LargestOrdinary;
        foreach (double value in column[(int)Math.Max(first, 0)..(int)Math.Min(last + 1, column.Length)])
        {
            double magnitude = Math.Abs(value);
            if (magnitude > most || (magnitude < least && magnitude > 0))
                return true;
        }
        return false;
    }

    /// <summary>The denominator of one window as significand · 2^exponent, and the sum d = k + scale · S that it is a power of as Sum · 4^-Shift.</summary>
    private readonly ref struct ScaledDenominator
    {
        private readonly double significand, exponent, sum;
        private readonly int shift;

        internal ScaledDenominator(ReadOnlySpan<double> column, nint channel, in WindowParameters window)
        {
            int first = (int)Math.Max(0, channel - window.Lower), last = (int)Math.Min(column.Length - 1, channel + window.Upper);
            double largest = 0;
            foreach (double value in column[first..(last + 1)])
                largest = Math.Max(largest, Math.Abs(value));
            bool extreme = largest is > LargestOrdinary and <= double.MaxValue || (window.K == 0 && largest is < SmallestOrdinary and > 0);
            shift = extreme && window.Scale != 0 ? -Math.ILogB(largest) : 0;
            double squares = 0;
            foreach (double value in column[first..(last + 1)])
            {
                double scaled = Math.ScaleB(value, shift);
                squares += scaled * scaled;
            }
            // Squares that overflow count nothing without a scale; NaN and infinity do.
            sum = (window.Scale == 0 && double.IsFinite(largest) ? 0 : window.Scale * squares) + Math.ScaleB(window.K, 2 * shift);
            if (shift == 0 || !(Math.Abs(sum) is >= 2.2250738585072014e-308 and <= double.MaxValue))
            {
                significand = window.Power(Vector512.Create(sum))[0];
                return;
            }
            (significand, exponent) = VectorMath.PowParts(Math.Abs(sum), window.Beta, -2.0 * shift);
            if (sum < 0)
                significand *= VectorMath.Pow(Vector512.Create(-1.0), window.Beta)[0];
        }

        /// <summary>x / d^beta.</summary>
        internal double Divide(double x)
        {
            if (exponent == 0 || x == 0 || !double.IsFinite(x))
                return x / significand;
            // x may be a gradient, of another magnitude than the window: its own exponent is what leaves it all its digits.
            int own = Math.ILogB(x);
            return Math.ScaleB(Math.ScaleB(x, -own) / significand, (int)(own - Math.Clamp(exponent, -5000, 5000)));
        }

        /// <summary>a · b / d, for values of the window.</summary>
        internal double Ratio(double a, double b) => Math.ScaleB(a, shift) * Math.ScaleB(b, shift) / sum;
    }
}
