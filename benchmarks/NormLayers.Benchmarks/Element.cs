using System.Runtime.CompilerServices;

namespace NormLayers.Benchmarks;

/// <summary>The numbers that elements stand for.</summary>
internal static class Element
{
    public static double ToDouble<T>(T element) where T : unmanaged
    {
        if (typeof(T) == typeof(float))
            return Unsafe.BitCast<T, float>(element);
        return typeof(T) == typeof(Half) ? (double)Unsafe.BitCast<T, Half>(element) : (double)Unsafe.BitCast<T, BFloat16>(element);
    }

    public static T From<T>(float value) where T : unmanaged
    {
        if (typeof(T) == typeof(float))
            return Unsafe.BitCast<float, T>(value);
        return typeof(T) == typeof(Half) ? Unsafe.BitCast<Half, T>((Half)value) : Unsafe.BitCast<BFloat16, T>((BFloat16)value);
    }
}

/// <summary>The grid of an element type.</summary>
/// <param name="LeastNormal">The smallest number with all its digits.</param>
/// <param name="Epsilon">The spacing at 1.</param>
internal readonly record struct Precision(double LeastNormal, double Epsilon)
{
    private const ulong ExponentBits = 0x7FF0_0000_0000_0000;

    public static Precision Float { get; } = new(1.1754943508222875e-38, 1.0 / (1 << 23));

    public static Precision Of<T>() where T : unmanaged
    {
        if (typeof(T) == typeof(float))
            return Float;
        return typeof(T) == typeof(Half) ? new Precision(1.0 / (1 << 14), 1.0 / (1 << 10)) : new Precision(Float.LeastNormal, 1.0 / (1 << 7));
    }

    /// <summary>The spacing at a magnitude: its power of two, cut out of its bits.</summary>
    public double Ulp(double magnitude)
        => Math.Max(BitConverter.UInt64BitsToDouble(BitConverter.DoubleToUInt64Bits(magnitude) & ExponentBits), LeastNormal) * Epsilon;
}
