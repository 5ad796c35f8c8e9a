using System.Buffers;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>The numbers of a local response normalization, and the window that they mean for a number of channels.</summary>
internal readonly struct WindowParameters
{
    /// <summary>Channels below and above the centre that the window reaches; never further than there are channels.</summary>
    internal readonly nint Lower, Upper;

    /// <summary>alpha / size.</summary>
    internal readonly double Scale;

    internal readonly double Beta, K;

    internal WindowParameters(nint size, double alpha, double beta, double k, nint channels)
    {
        Lower = Math.Min(size / 2, channels - 1);
        Upper = Math.Min((size - 1) / 2, channels - 1);
        (Scale, Beta, K) = (alpha / size, beta, k);
    }

    /// <summary>The channels that a window covers.</summary>
    internal nint Width => Lower + 1 + Upper;
}

/// <summary>
/// The window geometry: y = x / (k + alpha/size · S)^beta, where S sums the squares of the channels in a window that slides
/// over the channels of one position.
/// </summary>
/// <remarks>
/// <para>
/// Memory: a block of up to 256 neighbouring positions is taken down all channels, so that each channel's part of it is one
/// to two contiguous kilobytes. Lanes are positions; no two lanes ever mix.
/// </para>
/// <para>
/// Order: the channels, starting Lower below the first, are cut into chunks of the window's width. A window is then the end
/// of one chunk and the beginning of the next: a suffix sum (added from the chunk's end downwards) plus a prefix sum (added
/// upwards), two additions per element whatever the size, and nothing is ever subtracted, so no error and no NaN outlives its
/// window (van Herk 1992).
/// </para>
/// <para>
/// Arithmetic in double, rounded once at the end: 0.51 ulp for float. Powers that are multiples of a quarter come from
/// square roots and products, others from <see cref="VectorMath"/>.
/// </para>
/// </remarks>
internal static class WindowNorm
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
    [SkipLocalsInit]
    internal static void Forward<T>(ref readonly T x, ref T y, nint samples, nint channels, nint run, in WindowParameters window) where T : unmanaged
    {
        int blockLength = (int)Math.Min(BlockLength, (run + Elements.Step - 1) / Elements.Step * Elements.Step);
        nint scratchLength = (window.Width + 1) * blockLength;
        double[]? rented = scratchLength <= 4096 ? null : ArrayPool<double>.Shared.Rent(checked((int)scratchLength));
        Span<double> scratch = rented ?? stackalloc double[4096];
        ref double sums = ref MemoryMarshal.GetReference(scratch);

        for (nint sample = 0; sample < samples; sample++)
        {
            for (nint start = 0; start < run; start += blockLength)
            {
                nint offset = sample * channels * run + start;
                nint length = Math.Min(blockLength, run - start);
                ref T xBlock = ref Unsafe.Add(ref Unsafe.AsRef(in x), offset);
                ref T yBlock = ref Unsafe.Add(ref y, offset);
                if (typeof(T) == typeof(double) && !IsOrdinary(in xBlock, channels, run, length, window.K))
                    ForwardScaled(in xBlock, ref yBlock, channels, run, length, in window);
                else
                    ForwardBlock(in xBlock, ref yBlock, channels, run, length, in window, ref sums, blockLength);
            }
        }
        if (rented is not null)
            ArrayPool<double>.Shared.Return(rented);
    }

    /// <summary>One block of positions, all channels. <paramref name="sums"/> holds Width rows of squares or suffix sums, and one row of prefix sums.</summary>
    private static void ForwardBlock<T>(ref readonly T x, ref T y, nint channels, nint run, nint length, in WindowParameters window, ref double sums, nint stride) where T : unmanaged
    {
        nint width = window.Width;
        ref double prefix = ref Unsafe.Add(ref sums, width * stride);
        for (nint j = 0; j < width - 1; j++)
            StoreSquares(in x, j - window.Lower, channels, run, length, ref Unsafe.Add(ref sums, j * stride));

        for (nint chunk = 0; chunk < channels; chunk += width)
        {
            // The chunk's squares but the last are there from the previous prefix sums: in place, their channels may be overwritten by now.
            StoreSquares(in x, chunk + window.Upper, channels, run, length, ref Unsafe.Add(ref sums, (width - 1) * stride));
            for (nint j = width - 2; j >= 0; j--)
                AddRow(ref Unsafe.Add(ref sums, j * stride), in Unsafe.Add(ref sums, (j + 1) * stride), length);
            MemoryMarshal.CreateSpan(ref prefix, (int)stride).Clear();

            for (nint r = 0; r < width && chunk + r < channels; r++)
            {
                if (r > 0)
                {
                    ref double squares = ref Unsafe.Add(ref sums, (r - 1) * stride);
                    StoreSquares(in x, chunk + r + window.Upper, channels, run, length, ref squares);
                    AddRow(ref prefix, in squares, length);
                }
                nint channel = (chunk + r) * run;
                Divide(in Unsafe.Add(ref Unsafe.AsRef(in x), channel), ref Unsafe.Add(ref y, channel), length, in Unsafe.Add(ref sums, r * stride), in prefix, in window);
            }
        }
    }

    private static void StoreSquares<T>(ref readonly T x, nint channel, nint channels, nint run, nint length, ref double squares) where T : unmanaged
    {
        if (channel < 0 || channel >= channels)
        {
            MemoryMarshal.CreateSpan(ref squares, (int)RoundUp(length)).Clear();
            return;
        }
        for (nint i = 0; i < length; i += Elements.Step)
        {
            (Vector512<double> a, Vector512<double> b) = Load(in x, channel * run + i, length - i);
            (a * a).StoreUnsafe(ref squares, (nuint)i);
            (b * b).StoreUnsafe(ref squares, (nuint)i + 8);
        }
    }

    private static void AddRow(ref double sum, ref readonly double row, nint length)
    {
        for (nint i = 0; i < length; i += Vector512<double>.Count)
            (Vector512.LoadUnsafe(in sum, (nuint)i) + Vector512.LoadUnsafe(in row, (nuint)i)).StoreUnsafe(ref sum, (nuint)i);
    }

    private static void Divide<T>(ref readonly T x, ref T y, nint length, ref readonly double suffix, ref readonly double prefix, in WindowParameters window) where T : unmanaged
    {
        Vector512<double> scale = Vector512.Create(window.Scale), k = Vector512.Create(window.K);
        double quarters = window.Beta * 4;
        bool roots = quarters is >= 0 and <= 16 && Math.Floor(quarters) == quarters;
        for (nint i = 0; i < length; i += Elements.Step)
        {
            Vector512<double> a = (Vector512.LoadUnsafe(in suffix, (nuint)i) + Vector512.LoadUnsafe(in prefix, (nuint)i)) * scale + k;
            Vector512<double> b = (Vector512.LoadUnsafe(in suffix, (nuint)i + 8) + Vector512.LoadUnsafe(in prefix, (nuint)i + 8)) * scale + k;
            (Vector512<double> lower, Vector512<double> upper) = Load(in x, i, length - i);
            lower /= roots ? QuarterPower(a, (int)quarters) : VectorMath.Pow(a, window.Beta);
            upper /= roots ? QuarterPower(b, (int)quarters) : VectorMath.Pow(b, window.Beta);
            Store(lower, upper, ref y, i, length - i);
        }
    }

    /// <summary>d^(quarters/4).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<double> QuarterPower(Vector512<double> d, int quarters)
    {
        Vector512<double> power = Vector512<double>.One;
        for (int whole = quarters >> 2; whole > 0; whole--)
            power *= d;
        if ((quarters & 3) == 0)
            return power;
        Vector512<double> root = Vector512.Sqrt(d);
        if ((quarters & 2) != 0)
            power *= root;
        return (quarters & 1) != 0 ? power * Vector512.Sqrt(root) : power;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector512<double> Lower, Vector512<double> Upper) Load<T>(ref readonly T x, nint offset, nint remaining) where T : unmanaged
        => remaining >= Elements.Step ? Elements.Widen(in x, offset) : Elements.WidenTail(in x, offset, remaining, 0);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store<T>(Vector512<double> lower, Vector512<double> upper, ref T y, nint offset, nint remaining) where T : unmanaged
    {
        if (remaining >= Elements.Step)
            Elements.Narrow(lower, upper, ref y, offset);
        else
            Elements.NarrowTail(lower, upper, ref y, offset, remaining);
    }

    private static nint RoundUp(nint length) => (length + Elements.Step - 1) / Elements.Step * Elements.Step;

    /// <summary>Whether no square in the block overflows, nor all that matter underflow. NaN and infinity count as ordinary: their arithmetic is IEEE's.</summary>
    private static bool IsOrdinary<T>(ref readonly T x, nint channels, nint run, nint length, double k) where T : unmanaged
    {
        Vector512<double> least = Vector512.Create(k == 0 ? SmallestOrdinary : 0);
        for (nint c = 0; c < channels; c++)
        {
            for (nint i = 0; i < length; i += Elements.Step)
            {
                (Vector512<double> a, Vector512<double> b) = Load(in x, c * run + i, length - i);
                if ((Extreme(a, least) | Extreme(b, least)) != Vector512<double>.Zero)
                    return false;
            }
        }
        return true;

        static Vector512<double> Extreme(Vector512<double> value, Vector512<double> least)
        {
            Vector512<double> magnitude = Vector512.Abs(value);
            return (Vector512.GreaterThan(magnitude, Vector512.Create(LargestOrdinary)) & Vector512.LessThanOrEqual(magnitude, Vector512.Create(double.MaxValue)))
                | (Vector512.LessThan(magnitude, least) & Vector512.GreaterThan(magnitude, Vector512<double>.Zero));
        }
    }

    /// <summary>
    /// The same for a block with doubles whose squares leave the range: each window is divided by a power of two first, which
    /// then goes into the logarithm of the power function. Rare, so it is scalar and adds each window up anew.
    /// </summary>
    private static void ForwardScaled<T>(ref readonly T x, ref T y, nint channels, nint run, nint length, in WindowParameters window) where T : unmanaged
    {
        double[] column = ArrayPool<double>.Shared.Rent(checked((int)channels));
        for (nint i = 0; i < length; i++)
        {
            for (nint c = 0; c < channels; c++)
                column[c] = Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in x), c * run + i));
            for (nint c = 0; c < channels; c++)
            {
                int first = (int)Math.Max(0, c - window.Lower), last = (int)Math.Min(channels - 1, c + window.Upper);
                Unsafe.Add(ref y, c * run + i) = Elements.FromDouble<T>(DivideScaled(column[c], column.AsSpan(first, last + 1 - first), in window));
            }
        }
        ArrayPool<double>.Shared.Return(column);
    }

    private static double DivideScaled(double x, ReadOnlySpan<double> values, in WindowParameters window)
    {
        double largest = 0;
        foreach (double value in values)
            largest = Math.Max(largest, Math.Abs(value));
        bool scalable = largest is > LargestOrdinary and <= double.MaxValue || (window.K == 0 && largest is < SmallestOrdinary and > 0);
        int exponent = scalable ? Math.ILogB(largest) : 0;
        double sum = 0;
        foreach (double value in values)
        {
            double scaled = Math.ScaleB(value, -exponent);
            sum += scaled * scaled;
        }
        double d = window.Scale == 0 ? window.K : window.Scale * sum + Math.ScaleB(window.K, -2 * exponent);
        double magnitude = Math.Abs(d);
        if (!scalable || window.Scale == 0 || !(magnitude is >= 2.2250738585072014e-308 and <= double.MaxValue))
            return x / VectorMath.Pow(Vector512.Create(d), window.Beta)[0];
        (double significand, double power) = VectorMath.PowParts(magnitude, window.Beta, 2.0 * exponent);
        if (d < 0)
            significand *= VectorMath.Pow(Vector512.Create(-1.0), window.Beta)[0];
        return Math.ScaleB(Math.ScaleB(x, -exponent) / significand, (int)(exponent - power));
    }
}
