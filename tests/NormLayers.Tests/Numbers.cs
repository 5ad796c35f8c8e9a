using System.Runtime.CompilerServices;

namespace NormLayers.Tests;

/// <summary>The four element types as doubles and back, by the conversions of .NET and of BFloat16: not by those that the kernels have.</summary>
internal static class Numbers
{
    public static double ToDouble<T>(T value) where T : unmanaged
        => typeof(T) == typeof(float) ? Unsafe.BitCast<T, float>(value)
            : typeof(T) == typeof(double) ? Unsafe.BitCast<T, double>(value)
            : typeof(T) == typeof(Half) ? (double)Unsafe.BitCast<T, Half>(value)
            : typeof(T) == typeof(BFloat16) ? (double)Unsafe.BitCast<T, BFloat16>(value)
            : throw new NotSupportedException(typeof(T).Name);

    /// <summary>The nearest element, rounded once.</summary>
    public static T FromDouble<T>(double value) where T : unmanaged
        => typeof(T) == typeof(float) ? Unsafe.BitCast<float, T>((float)value)
            : typeof(T) == typeof(double) ? Unsafe.BitCast<double, T>(value)
            : typeof(T) == typeof(Half) ? Unsafe.BitCast<Half, T>((Half)value)
            : typeof(T) == typeof(BFloat16) ? Unsafe.BitCast<BFloat16, T>((BFloat16)value)
            : throw new NotSupportedException(typeof(T).Name);

    public static double[] ToDoubles<T>(T[] values) where T : unmanaged => Array.ConvertAll(values, ToDouble);

    /// <summary>Whether the type has 16 bits.</summary>
    public static bool IsShort<T>() => typeof(T) == typeof(Half) || typeof(T) == typeof(BFloat16);
}
