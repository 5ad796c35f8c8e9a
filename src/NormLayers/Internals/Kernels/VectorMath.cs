using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>
/// Our own power and logistic functions: the platform's exponentials differ from machine to machine in their last bits.
/// </summary>
/// <remarks>
/// x^p = 2^(p · log2 x). The logarithm is log2 x = e + log2 m with m in [sqrt(1/2), sqrt 2), where
/// ln m = 2 atanh s, s = (m - 1) / (m + 1), by its Taylor series to s^25; s, the logarithm and the product with p are kept in
/// two doubles (products by Dekker's splitting, as there is no FMA here), since p · log2 x may have ten bits before the point.
/// Then 2^r for |r| at most 1/2 is its Taylor series to r^13. Error: within 2 ulp
/// of the platform's for |p| up to 4, and |p|/64 ulp more beyond. All lanes are independent.
/// </remarks>
internal static class VectorMath
{
    /// <summary>Adding and taking away rounds to an integer, which then stands in the low bits of the sum.</summary>
    private const double IntegerMagic = 6755399441055744;

    // 1 / (2k + 3) for k = 0..11: ln m = 2s + 2s·s²·(1/3 + s²/5 + ...).
    private static ReadOnlySpan<double> AtanhCoefficients =>
        [1 / 3.0, 1 / 5.0, 1 / 7.0, 1 / 9.0, 1 / 11.0, 1 / 13.0, 1 / 15.0, 1 / 17.0, 1 / 19.0, 1 / 21.0, 1 / 23.0, 1 / 25.0];

    // (ln 2)^k / k!
    private static ReadOnlySpan<double> Exp2Coefficients =>
    [
        1, 0.6931471805599453, 0.2402265069591007, 0.05550410866482158, 0.009618129107628477, 0.0013333558146428443,
        0.0001540353039338161, 1.5252733804059841e-05, 1.321548679014431e-06, 1.01780860092397e-07, 7.054911620801123e-09,
        4.4455382718708116e-10, 2.5678435993488206e-11, 1.3691488853904128e-12,
    ];

    // 1 / k! from k = 2 on: (e^r - 1 - r) / r².
    private static ReadOnlySpan<double> ExpCoefficients =>
        [1 / 2.0, 1 / 6.0, 1 / 24.0, 1 / 120.0, 1 / 720.0, 1 / 5040.0, 1 / 40320.0, 1 / 362880.0, 1 / 3628800.0, 1 / 39916800.0, 1 / 479001600.0, 1 / 6227020800.0];

    /// <summary>x^power in each lane, with IEEE 754's values for zero, negative, infinite and NaN x.</summary>
    internal static Vector512<double> Pow(Vector512<double> x, double power)
    {
        Vector512<double> ordinary = Vector512.GreaterThanOrEqual(x, Vector512.Create(2.2250738585072014e-308)) & Vector512.LessThanOrEqual(x, Vector512.Create(double.MaxValue));
        Vector512<double> safe = Vector512.ConditionalSelect(ordinary, x, Vector512<double>.One);
        Vector512<double> result = PowOrdinary(safe, power);
        if (Vector512.EqualsAll(ordinary.AsInt64(), Vector512<long>.AllBitsSet))
            return result;
        for (int lane = 0; lane < Vector512<double>.Count; lane++)
        {
            if (ordinary.AsInt64()[lane] == 0)
                result = result.WithElement(lane, PowSpecial(x[lane], power));
        }
        return result;
    }

    /// <summary>
    /// (x · 2^shift)^power = Significand · 2^Exponent, for a positive normal x; the significand is in [1/2, 2], the exponent integral.
    /// </summary>
    internal static (double Significand, double Exponent) PowParts(double x, double power, double shift)
    {
        (Vector512<double> significand, Vector512<double> exponent) = PowParts(Vector512.Create(x), power, shift);
        return (significand[0], exponent[0]);
    }

    /// <summary>z · σ(z) in each lane, with σ(z) = 1 / (1 + e^-z): within 2 ulp of floats, 3 of doubles, and 2^-18 of what will be rounded to 16 bits.</summary>
    internal static Vector512<T> SiLU<T, TResult>(Vector512<T> z)
        where T : unmanaged
        where TResult : unmanaged
    {
        if (typeof(T) == typeof(double))
        {
            Vector512<double> denominator = Logistic(z.AsDouble(), out Vector512<double> scale, out _);
            return (z.AsDouble() / denominator * scale).As<double, T>();
        }
        Vector512<float> v = z.AsSingle(), y = SiLUInRange<TResult>(v);
        if (!AreInRange(v))
            y = Vector512.ConditionalSelect(IsInRange(v), y, v / Logistic(v, out Vector512<float> s, out _) * s);
        return y.As<float, T>();
    }

    /// <summary>The same for floats in range, and quickly.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<float> SiLUInRange<TResult>(Vector512<float> z) where TResult : unmanaged
    {
        if (SixteenBits.Is<TResult>())
        {
            (Vector512<float> fall, Vector512<float> rise) = ShortExponential(z);
            return z * fall / (fall + rise);
        }
        (Vector512<float> power, Vector512<float> more) = Exponential(z);
        // In this order the sum is nearly that of one rounding.
        return z / ((Vector512<float>.One + more) + power);
    }

    /// <summary>dy · σ(z) · (1 + z · (1 - σ(z))) in each lane.</summary>
    internal static Vector512<T> SiLUGradient<T, TResult>(Vector512<T> dy, Vector512<T> z)
        where T : unmanaged
        where TResult : unmanaged
    {
        if (typeof(T) == typeof(double))
        {
            Vector512<double> denominator = Logistic(z.AsDouble(), out Vector512<double> scale, out Vector512<double> exponential);
            return (dy.AsDouble() * (scale / denominator) * (Vector512<double>.One + z.AsDouble() * Share(exponential, denominator))).As<double, T>();
        }
        Vector512<float> g = dy.AsSingle(), v = z.AsSingle(), gradient = SiLUGradientInRange<TResult>(g, v);
        if (!AreInRange(v))
        {
            Vector512<float> d = Logistic(v, out Vector512<float> s, out Vector512<float> e);
            gradient = Vector512.ConditionalSelect(IsInRange(v), gradient, g * (s / d) * (Vector512<float>.One + v * Share(e, d)));
        }
        return gradient.As<float, T>();

        // 1 - σ, which is 1 where e^-z is beyond all range.
        static Vector512<TFloat> Share<TFloat>(Vector512<TFloat> exponential, Vector512<TFloat> denominator)
            => Vector512.ConditionalSelect(Vector512.IsPositiveInfinity(denominator), Vector512<TFloat>.One, exponential / denominator);
    }

    /// <summary>The same for floats in range, and quickly.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<float> SiLUGradientInRange<TResult>(Vector512<float> dy, Vector512<float> z) where TResult : unmanaged
    {
        if (SixteenBits.Is<TResult>())
        {
            (Vector512<float> fall, Vector512<float> rise) = ShortExponential(z);
            Vector512<float> inverse = Vector512<float>.One / (fall + rise);
            return dy * (fall * inverse) * (Vector512<float>.One + z * (rise * inverse));
        }
        (Vector512<float> power, Vector512<float> more) = Exponential(z);
        Vector512<float> e = power + more, sigmoid = Vector512<float>.One / (Vector512<float>.One + e);
        return dy * sigmoid * (Vector512<float>.One + z * (e * sigmoid));
    }

    /// <summary>Up to here in both directions e^-z is far inside of float's range.</summary>
    private const float MostInRange = 80;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static bool AreInRange(Vector512<float> z) => Vector512.LessThanOrEqualAll(Vector512.Abs(z), Vector512.Create(MostInRange));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> IsInRange(Vector512<float> z) => Vector512.LessThanOrEqual(Vector512.Abs(z), Vector512.Create(MostInRange));

    /// <summary>e^-z in two parts, the first a power of two, for |z| up to 80.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector512<float> Power, Vector512<float> More) Exponential(Vector512<float> z)
    {
        // -z = n · ln 2 + r: ln 2 is in two parts, of which n times the first is exact. The low bits of the sum are those of 2^n's exponent.
        Vector512<float> magic = Vector512.Create(12582912f + 127), shifted = z * -1.44269504f + magic, n = shifted - magic;
        Vector512<float> r = (n * -0.693359375f - z) + n * 2.12194440e-4f;
        // (e^r - 1) / r, with the least largest error of e^r: 2^-28 of it.
        Vector512<float> q = r * 1.3814599e-3f + Vector512.Create(8.3687166e-3f);
        q = q * r + Vector512.Create(4.1668389e-2f);
        q = q * r + Vector512.Create(1.6666521e-1f);
        q = q * r + Vector512.Create(4.9999994e-1f);
        q = q * r + Vector512<float>.One;
        Vector512<float> power = Vector512.ShiftLeft(shifted.AsInt32(), 23).AsSingle();
        return (power, q * r * power);
    }

    /// <summary>Two numbers whose quotient More / Less is e^-z within 2^-19, for |z| up to 80.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector512<float> Less, Vector512<float> More) ShortExponential(Vector512<float> z)
    {
        // -z = (n + f) · ln 2, and 2^f = (even + odd) / (even - odd), nearly: the least largest error is 2^-21.
        Vector512<float> magic = Vector512.Create(12582912f), t = z * -1.44269504f, shifted = t + magic, f = t - (shifted - magic);
        Vector512<float> even = f * f + Vector512.Create(25.039108f), odd = f * 8.677839f;
        return (even - odd, ((even + odd).AsInt32() + Vector512.ShiftLeft(shifted.AsInt32(), 23)).AsSingle());
    }

    /// <summary>
    /// With E = <paramref name="exponential"/> and S = <paramref name="scale"/>, σ = S / D and 1 - σ = E / D, where D, the result,
    /// is S + E. S is 1, or for large -z the power of two that keeps E in range.
    /// </summary>
    /// <remarks>
    /// e^-z = 2^n · e^r with |r| at most ln 2 / 2; e^r - 1 is a polynomial that is added to 1 + 2^n in one rounding.
    /// -z is cut off where e^-z no longer counts; at -∞ D is infinite.
    /// </remarks>
    private static Vector512<float> Logistic(Vector512<float> z, out Vector512<float> scale, out Vector512<float> exponential)
    {
        // Comparisons, and no Min or Max: a NaN goes through.
        Vector512<float> w = Vector512.ConditionalSelect(Vector512.GreaterThan(z, Vector512.Create(87f)), Vector512.Create(-87f), -z), magic = Vector512.Create(12582912f);
        Vector512<float> n = (w * 1.44269504f + magic) - magic;
        n = Vector512.ConditionalSelect(Vector512.GreaterThan(n, Vector512.Create(180f)), Vector512.Create(180f), n);
        // ln 2 in two parts, of which n times the first is exact.
        Vector512<float> r = (w - n * 0.693359375f) - n * -2.12194440e-4f;
        // The coefficients of Cephes' expf: the least largest error for (e^r - 1 - r) / r².
        Vector512<float> q = r * 1.9875691500e-4f + Vector512.Create(1.3981999507e-3f);
        q = q * r + Vector512.Create(8.3334519073e-3f);
        q = q * r + Vector512.Create(4.1665795894e-2f);
        q = q * r + Vector512.Create(1.6666665459e-1f);
        q = q * r + Vector512.Create(5.0000001201e-1f);
        Vector512<float> p = r + r * r * q, h = Vector512.ConditionalSelect(Vector512.GreaterThan(n, Vector512.Create(60f)), n - Vector512.Create(60f), Vector512<float>.Zero);
        scale = PowerOfTwo(-h);
        Vector512<float> power = PowerOfTwo(n - h), rest = p * power;
        exponential = power + rest;
        return (scale + power) + rest;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static Vector512<float> PowerOfTwo(Vector512<float> integer)
        {
            Vector512<int> value = (integer + Vector512.Create(12582912f)).AsInt32() - Vector512.Create(BitConverter.SingleToInt32Bits(12582912f));
            return Vector512.ShiftLeft(value + Vector512.Create(127), 23).AsSingle();
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<double> Logistic(Vector512<double> z, out Vector512<double> scale, out Vector512<double> exponential)
    {
        Vector512<double> w = Vector512.ConditionalSelect(Vector512.GreaterThan(z, Vector512.Create(708.0)), Vector512.Create(-708.0), -z);
        Vector512<double> n = Round(w * 1.4426950408889634);
        n = Vector512.ConditionalSelect(Vector512.GreaterThan(n, Vector512.Create(1200.0)), Vector512.Create(1200.0), n);
        Vector512<double> r = (w - n * 0.6931471803691238) - n * 1.9082149292705877e-10;
        Vector512<double> p = r + r * r * Horner(r, ExpCoefficients), h = Vector512.ConditionalSelect(Vector512.GreaterThan(n, Vector512.Create(500.0)), n - Vector512.Create(500.0), Vector512<double>.Zero);
        scale = PowerOfTwo(-h);
        Vector512<double> power = PowerOfTwo(n - h), rest = p * power;
        exponential = power + rest;
        return (scale + power) + rest;
    }

    private static Vector512<double> PowOrdinary(Vector512<double> x, double power)
    {
        (Vector512<double> significand, Vector512<double> exponent) = PowParts(x, power, 0);
        // In two factors, so that results beyond 2^±1022 overflow, or round into the subnormals once.
        exponent = Vector512.Min(Vector512.Max(exponent, Vector512.Create(-2040.0)), Vector512.Create(2040.0));
        Vector512<double> half = Round(exponent * 0.5);
        return significand * PowerOfTwo(half) * PowerOfTwo(exponent - half);
    }

    private static (Vector512<double> Significand, Vector512<double> Exponent) PowParts(Vector512<double> x, double power, double shift)
    {
        // Subtracting the bits of sqrt(1/2) puts m into [sqrt(1/2), sqrt(2)).
        Vector512<long> bits = x.AsInt64();
        Vector512<long> exponentBits = Vector512.ShiftRightLogical(bits - Vector512.Create(0x3FE6A09E667F3BCD) + Vector512.Create(0x4000000000000000), 52) - Vector512.Create(0x400L);
        Vector512<double> m = (bits - Vector512.ShiftLeft(exponentBits, 52)).AsDouble();
        Vector512<double> e = (exponentBits + Vector512.Create(BitConverter.DoubleToInt64Bits(IntegerMagic))).AsDouble() - Vector512.Create(IntegerMagic) + Vector512.Create(shift);

        // s = f / t, and what rounding it and t = m + 1 left.
        Vector512<double> f = m - Vector512<double>.One;
        Vector512<double> t = m + Vector512<double>.One;
        Vector512<double> tLow = m - (t - Vector512<double>.One);
        Vector512<double> s = f / t;
        (Vector512<double> st, Vector512<double> stLow) = TwoProduct(s, t);
        Vector512<double> sLow = ((f - st) - stLow - s * tLow) / t;

        Vector512<double> z = s * s;
        Vector512<double> series = Horner(z, AtanhCoefficients);
        Vector512<double> ln = s + s;
        Vector512<double> lnLow = ln * z * series + (sLow + sLow);

        Vector512<double> log2OfE = Vector512.Create(1.4426950408889634);
        (Vector512<double> log, Vector512<double> logLow) = TwoProduct(ln, log2OfE);
        logLow += ln * 2.0355273740931033e-17 + lnLow * log2OfE;
        Vector512<double> sum = e + log;
        logLow += log - (sum - e);
        // The series makes logLow as much as a hundredth of log: times a large power that would leave the range of 2^r's series.
        (sum, logLow) = (sum + logLow, logLow - ((sum + logLow) - sum));

        (Vector512<double> u, Vector512<double> uLow) = TwoProduct(sum, Vector512.Create(power));
        uLow += logLow * power;
        u = Vector512.Min(Vector512.Max(u, Vector512.Create(-1e6)), Vector512.Create(1e6));
        uLow = Vector512.Min(Vector512.Max(uLow, Vector512.Create(-1.0)), Vector512.Create(1.0));
        Vector512<double> n = Round(u);
        return (Horner((u - n) + uLow, Exp2Coefficients), n);
    }

    private static double PowSpecial(double x, double power)
    {
        if (power == 0)
            return 1;
        if (double.IsNaN(x) || double.IsNaN(power))
            return double.NaN;
        if (double.IsPositiveInfinity(x))
            return power > 0 ? double.PositiveInfinity : 0;
        bool odd = Math.Floor(power) == power && Math.Abs(power) < 9007199254740992 && ((long)power & 1) != 0;
        if (x == 0)
            return (power > 0 ? 0 : double.PositiveInfinity) * (odd ? Math.CopySign(1, x) : 1);
        if (x > 0)
        {
            (double significand, double exponent) = PowParts(x * 18014398509481984, power, -54);
            return Math.ScaleB(significand, (int)exponent);
        }
        bool infinite = double.IsNegativeInfinity(x);
        if (Math.Floor(power) != power)
            return infinite ? (power > 0 ? double.PositiveInfinity : 0) : double.NaN;
        double magnitude = Pow(Vector512.Create(-x), power)[0];
        return odd ? -magnitude : magnitude;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<double> Round(Vector512<double> x) => (x + Vector512.Create(IntegerMagic)) - Vector512.Create(IntegerMagic);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<double> PowerOfTwo(Vector512<double> integer)
    {
        Vector512<long> value = (integer + Vector512.Create(IntegerMagic)).AsInt64() - Vector512.Create(BitConverter.DoubleToInt64Bits(IntegerMagic));
        return Vector512.ShiftLeft(value + Vector512.Create(1023L), 52).AsDouble();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<double> Horner(Vector512<double> x, ReadOnlySpan<double> coefficients)
    {
        Vector512<double> sum = Vector512.Create(coefficients[^1]);
        for (int k = coefficients.Length - 2; k >= 0; k--)
            sum = sum * x + Vector512.Create(coefficients[k]);
        return sum;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector512<double> Product, Vector512<double> Error) TwoProduct(Vector512<double> a, Vector512<double> b)
    {
        Vector512<double> product = a * b;
        (Vector512<double> aHigh, Vector512<double> aLow) = Split(a);
        (Vector512<double> bHigh, Vector512<double> bLow) = Split(b);
        return (product, aLow * bLow - (((product - aHigh * bHigh) - aLow * bHigh) - aHigh * bLow));

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static (Vector512<double> High, Vector512<double> Low) Split(Vector512<double> value)
        {
            Vector512<double> spread = value * 134217729;
            Vector512<double> high = spread - (spread - value);
            return (high, value - high);
        }
    }
}
