using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace NormLayers.IO;

/// <summary>
/// Any stored number to a floating-point number with one rounding, ties to even. Each source goes through a double that
/// holds it exactly, or, where a 64-bit integer does not fit, rounded to odd: then the second rounding gives the result
/// of a single one, because a double has more than two bits more than the three narrower types.
/// </summary>
internal static class ElementConversion
{
    public static void Convert<TSource, TResult>(ReadOnlySpan<TSource> source, Span<TResult> destination)
        where TSource : unmanaged
        where TResult : unmanaged
    {
        if (typeof(TSource) == typeof(TResult))
        {
            MemoryMarshal.Cast<TSource, TResult>(source).CopyTo(destination);
            return;
        }
        if (typeof(TSource) == typeof(Half) && typeof(TResult) == typeof(float))
        {
            TensorPrimitives.ConvertToSingle(MemoryMarshal.Cast<TSource, Half>(source), MemoryMarshal.Cast<TResult, float>(destination));
            return;
        }
        for (int i = 0; i < source.Length; i++)
            destination[i] = Convert<TSource, TResult>(source[i]);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TResult Convert<TSource, TResult>(TSource value)
        where TSource : unmanaged
        where TResult : unmanaged
    {
        if (typeof(TResult) == typeof(double))
            return Unsafe.BitCast<double, TResult>(ToNearest(value));
        double exact = ToOdd(value);
        if (typeof(TResult) == typeof(float))
            return Unsafe.BitCast<float, TResult>((float)exact);
        if (typeof(TResult) == typeof(Half))
            return Unsafe.BitCast<Half, TResult>((Half)exact);
        return Unsafe.BitCast<BFloat16, TResult>((BFloat16)exact);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static double ToNearest<TSource>(TSource value)
        where TSource : unmanaged
    {
        if (typeof(TSource) == typeof(long))
            return Unsafe.BitCast<TSource, long>(value);
        if (typeof(TSource) == typeof(ulong))
        {
            // Halved with a sticky bit: adding 2^64 to a negative conversion would round twice.
            ulong word = Unsafe.BitCast<TSource, ulong>(value);
            return word <= long.MaxValue ? (long)word : 2.0 * (long)((word >> 1) | (word & 1));
        }
        return Exactly(value);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static double ToOdd<TSource>(TSource value)
        where TSource : unmanaged
    {
        if (typeof(TSource) == typeof(long))
        {
            long word = Unsafe.BitCast<TSource, long>(value);
            return word < 0 ? -ToOdd(unchecked(0UL - (ulong)word)) : ToOdd((ulong)word);
        }
        if (typeof(TSource) == typeof(ulong))
            return ToOdd(Unsafe.BitCast<TSource, ulong>(value));
        return Exactly(value);
    }

    private static double ToOdd(ulong word)
        => word < 1UL << 53 ? (long)word : 2048.0 * ((long)(word >> 11) | ((word & 0x7FF) != 0 ? 1L : 0L));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static double Exactly<TSource>(TSource value)
        where TSource : unmanaged
    {
        if (typeof(TSource) == typeof(float)) return Unsafe.BitCast<TSource, float>(value);
        if (typeof(TSource) == typeof(double)) return Unsafe.BitCast<TSource, double>(value);
        if (typeof(TSource) == typeof(Half)) return (double)Unsafe.BitCast<TSource, Half>(value);
        if (typeof(TSource) == typeof(BFloat16)) return (double)Unsafe.BitCast<TSource, BFloat16>(value);
        if (typeof(TSource) == typeof(int)) return Unsafe.BitCast<TSource, int>(value);
        if (typeof(TSource) == typeof(uint)) return Unsafe.BitCast<TSource, uint>(value);
        if (typeof(TSource) == typeof(short)) return Unsafe.BitCast<TSource, short>(value);
        if (typeof(TSource) == typeof(ushort)) return Unsafe.BitCast<TSource, ushort>(value);
        if (typeof(TSource) == typeof(sbyte)) return Unsafe.BitCast<TSource, sbyte>(value);
        return Unsafe.BitCast<TSource, byte>(value);
    }
}
