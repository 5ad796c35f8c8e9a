using System.Runtime.CompilerServices;

namespace NormLayers.Internals.Kernels;

/// <summary>d^-beta in float, for 32 ordinary positive d at once: see <see cref="WindowParameters.FloatLimit"/> for how far they may lie.</summary>
internal interface IFloatPower
{
    /// <summary>x · (d + low)^-beta, where low is what rounding d left, within an ulp or so; a zero keeps its sign.</summary>
    FloatLanes Times(FloatLanes x, FloatLanes d, FloatLanes low);
}

/// <summary>How many quarters a power is, as a type, so that each has its own code.</summary>
internal interface IQuarters
{
    static abstract int Count { get; }

    /// <summary>The bits of the guess at 1, where (magic - Count · bits / 4) errs least.</summary>
    static abstract int Magic { get; }

    /// <summary>a and b, so that (1 - e)^(-1/4) = 1 + a·e + b·e² within 2^-11 for every e that the guess leaves.</summary>
    static abstract (float A, float B) Coefficients { get; }
}

internal readonly struct OneQuarter : IQuarters
{
    public static int Count => 1;

    public static int Magic => 0x4F5810C0;

    public static (float A, float B) Coefficients => (0.25059183f, 0.15713543f);
}

internal readonly struct TwoQuarters : IQuarters
{
    public static int Count => 2;

    public static int Magic => 0x5F36FF50;

    public static (float A, float B) Coefficients => (0.25072515f, 0.15731283f);
}

internal readonly struct ThreeQuarters : IQuarters
{
    public static int Count => 3;

    public static int Magic => 0x6F146740;

    public static (float A, float B) Coefficients => (0.25116062f, 0.15797172f);
}

/// <summary>
/// d^(-q/4) for q = 1, 2, 3 without roots or divisions.
/// </summary>
/// <remarks>
/// A float's bits are nearly its logarithm, so bits · -q/4 are nearly the power's. From that guess z with its error
/// e = 1 - d^q z⁴, at most 0.18, z·(1 - e)^(-1/4) by its series is right to 2^-10.5, and cut to 12 bits; from there again to
/// below float's precision. What rounding adds to e counts a quarter, and z², like the halves of x times z, is exact, since
/// z has 12 bits.
/// </remarks>
internal readonly struct QuarterPower<TQuarters> : IFloatPower where TQuarters : struct, IQuarters
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public FloatLanes Times(FloatLanes x, FloatLanes d, FloatLanes low)
    {
        FloatLanes z = Approximate(d).UpperHalf();
        FloatLanes e = Error(z, d, out FloatLanes slope) - low * slope;
        FloatLanes upper = x.UpperHalf(), high = upper * z, rest = (x - upper) * z;
        return (high + (rest + (high + rest) * Series(e, 0.25f, 0.15625f))).WithSignOf(x);
    }

    /// <summary>d^(-q/4) to 2^-11.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static FloatLanes Approximate(FloatLanes d)
    {
        FloatLanes z = d.GuessPower(TQuarters.Count, TQuarters.Magic);
        (float a, float b) = TQuarters.Coefficients;
        return z + z * Series(Error(z, d, out _), a, b);
    }

    /// <summary>1 - d^q z⁴, and minus its derivative by d, which is q/d where the error is small.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static FloatLanes Error(FloatLanes z, FloatLanes d, out FloatLanes slope)
    {
        FloatLanes square = z * z, root = TQuarters.Count >= 2 ? square * d : square, product = root * root;
        slope = TQuarters.Count == 2 ? root * (square + square) : TQuarters.Count == 1 ? product : product * 3;
        return 1 - (TQuarters.Count == 2 ? product : product * d);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static FloatLanes Series(FloatLanes e, float a, float b) => e * (e * b + a);
}

/// <summary>
/// d^-beta = 2^(-beta · log2 d) for any beta.
/// </summary>
/// <remarks>
/// log2 d = e + l, with l from a polynomial in m - 1 for the significand m in [sqrt(1/2), sqrt 2). -beta has a part of 14 bits,
/// whose product with e is exact, and a rest, so that -beta · log2 d, less the nearest integer n, keeps its digits behind the
/// point whatever stands before it; low counts as -beta · low / d. The polynomials are minimax fits of log2(1 + f) / f and (2^r - 1) / r, to 2^-27 and 2^-29 in
/// the logarithm and in the power. n must be within float's exponents.
/// </remarks>
internal readonly struct AnyPower : IFloatPower
{
    /// <summary>Adding and taking away rounds to an integer, which then stands in the low bits of the sum.</summary>
    private const float IntegerMagic = 12582912;

    private readonly float exponent, upper, lower;

    internal AnyPower(double beta)
    {
        exponent = (float)-beta;
        upper = BitConverter.Int32BitsToSingle(BitConverter.SingleToInt32Bits(exponent) & -1 << 10);
        lower = (float)(-beta - upper);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public FloatLanes Times(FloatLanes x, FloatLanes d, FloatLanes low)
    {
        (FloatLanes power, FloatLanes correction) = Split(d);
        FloatLanes scaled = x * power, rest = scaled * correction;
        return (scaled + (rest + (scaled + rest) * (low / d * exponent))).WithSignOf(x);
    }

    /// <summary>d^-beta = Power · (1 + Correction), where Power is a power of two.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private (FloatLanes Power, FloatLanes Correction) Split(FloatLanes d)
    {
        (FloatLanes e, FloatLanes m) = d.Parts();
        FloatLanes f = m - 1;
        FloatLanes l = f * 0.12541133f - 0.21030313f;
        l = l * f + 0.21737971f;
        l = l * f - 0.23851948f;
        l = l * f + 0.28765664f;
        l = l * f - 0.3607212f;
        l = l * f + 0.48092253f;
        l = l * f - 0.7213471f;
        l = (l * f + 1.4426949f) * f;

        FloatLanes whole = e * upper, part = l * exponent;
        FloatLanes shifted = (whole + part) + IntegerMagic;
        FloatLanes r = (whole - (shifted - IntegerMagic)) + (part + e * lower);

        FloatLanes p = r * 0.000154758985f + 0.001340028349f;
        p = p * r + 0.009618005408f;
        p = p * r + 0.055503277416f;
        p = p * r + 0.240226513325f;
        p = (p * r + 0.693147206289f) * r;
        // The integer is in the low bits, above it the magic's, which the shift drops.
        return (shifted.PowerOfTwo(), p);
    }
}
