using System.Runtime.CompilerServices;

namespace NormLayers.Internals;

/// <summary>
/// A number as the unevaluated sum of two doubles, 106 bits, for the few places where double itself is not enough. Dekker
/// 1971 and Knuth: no fused multiply-add, so the bits are the same on every machine. Values must stay below 1e290.
/// </summary>
internal readonly struct DoubleDouble
{
    internal readonly double High, Low;

    private DoubleDouble(double high, double low) => (High, Low) = (high, low);

    public static implicit operator DoubleDouble(double value) => new(value, 0);

    /// <summary>a + b, exactly.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static DoubleDouble Sum(double a, double b)
    {
        double sum = a + b;
        double bPart = sum - a;
        return new DoubleDouble(sum, (a - (sum - bPart)) + (b - bPart));
    }

    /// <summary>a · b, exactly.</summary>
    internal static DoubleDouble Product(double a, double b)
    {
        double product = a * b;
        (double aHigh, double aLow) = Split(a);
        (double bHigh, double bLow) = Split(b);
        return new DoubleDouble(product, aLow * bLow - (((product - aHigh * bHigh) - aLow * bHigh) - aHigh * bLow));

        static (double High, double Low) Split(double value)
        {
            double spread = value * 134217729;
            double high = spread - (spread - value);
            return (high, value - high);
        }
    }

    public static DoubleDouble operator +(DoubleDouble a, DoubleDouble b)
    {
        DoubleDouble sum = Sum(a.High, b.High);
        return Sum(sum.High, sum.Low + (a.Low + b.Low));
    }

    public static DoubleDouble operator -(DoubleDouble a) => new(-a.High, -a.Low);

    public static DoubleDouble operator -(DoubleDouble a, DoubleDouble b) => a + -b;

    public static DoubleDouble operator *(DoubleDouble a, DoubleDouble b)
    {
        DoubleDouble product = Product(a.High, b.High);
        return Sum(product.High, product.Low + (a.High * b.Low + a.Low * b.High));
    }

    public static DoubleDouble operator /(DoubleDouble a, DoubleDouble b)
    {
        double first = a.High / b.High;
        DoubleDouble rest = a - b * first;
        double second = rest.High / b.High;
        rest -= b * second;
        return Sum(first, second) + rest.High / b.High;
    }

    /// <summary>The square root of a positive number.</summary>
    internal static DoubleDouble Sqrt(DoubleDouble a)
    {
        double root = Math.Sqrt(a.High);
        return Sum(root, (a - Product(root, root)).High / (2 * root));
    }
}
