using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>d^-beta in float, for ordinary positive d: see <see cref="WindowParameters.FloatLimit"/> for how far they may lie.</summary>
/// <remarks>
/// In two steps, each for a row of its own: in one, the chain of dependent operations is so long that the processor's window
/// holds too few of them to keep its units busy.
/// </remarks>
internal interface IFloatPower<TSelf> where TSelf : struct, IFloatPower<TSelf>
{
    /// <summary>The power for a beta.</summary>
    static abstract TSelf Create(double beta);

    /// <summary>Whether the first step leaves two numbers, and not only the first.</summary>
    static abstract bool HasSecond { get; }

    /// <summary>The first step, which needs d alone.</summary>
    (Vector512<float> First, Vector512<float> Second) Begin(Vector512<float> d);

    /// <summary>x · (d + low)^-beta, where low is what rounding d left, within an ulp or so; a zero keeps its sign.</summary>
    Vector512<float> Finish(Vector512<float> x, Vector512<float> d, Vector512<float> low, Vector512<float> first, Vector512<float> second);
}

/// <summary>How many quarters a power is, as a type, so that each has its own code.</summary>
internal interface IQuarters
{
    static abstract int Count { get; }

    /// <summary>The bits of the guess at 1, where (magic - Count · bits / 4) errs least.</summary>
    static abstract int Magic { get; }

    /// <summary>a, b and c, so that p^(-1/4) = a + b·p + c·p² within 2^-12 for every p = d^q z⁴ that the guess leaves.</summary>
    static abstract (float A, float B, float C) Coefficients { get; }
}

internal readonly struct OneQuarter : IQuarters
{
    public static int Count => 1;

    public static int Magic => 0x4F5810C0;

    public static (float A, float B, float C) Coefficients => (1.4094288f, -0.56751764f, 0.15808406f);
}

internal readonly struct TwoQuarters : IQuarters
{
    public static int Count => 2;

    public static int Magic => 0x5F36FF50;

    public static (float A, float B, float C) Coefficients => (1.4102248f, -0.5688584f, 0.15862605f);
}

internal readonly struct ThreeQuarters : IQuarters
{
    public static int Count => 3;

    public static int Magic => 0x6F146740;

    public static (float A, float B, float C) Coefficients => (1.411676f, -0.5707542f, 0.1590658f);
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
internal readonly struct QuarterPower<TQuarters> : IFloatPower<QuarterPower<TQuarters>> where TQuarters : struct, IQuarters
{
    public static QuarterPower<TQuarters> Create(double beta) => default;

    public static bool HasSecond => false;

    /// <summary>d^(-q/4) to 2^-10.5, in 12 bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public (Vector512<float> First, Vector512<float> Second) Begin(Vector512<float> d) => (UpperHalf(Approximate(d)), default);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<float> Finish(Vector512<float> x, Vector512<float> d, Vector512<float> low, Vector512<float> first, Vector512<float> second)
    {
        Vector512<float> e = (Vector512<float>.One - Power(first, d, out Vector512<float> slope)) - low * slope;
        Vector512<float> upper = UpperHalf(x), high = upper * first, lower = (x - upper) * first;
        return Vector512.CopySign(high + (lower + (high + lower) * e * (e * Vector512.Create(0.15625f) + Vector512.Create(0.25f))), x);
    }

    /// <summary>d^(-q/4) to 2^-12.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<float> Approximate(Vector512<float> d)
    {
        Vector512<float> z = Guess(d.AsInt32()), p = Power(z, d, out _);
        (float a, float b, float c) = TQuarters.Coefficients;
        return z * (p * (p * Vector512.Create(c) + Vector512.Create(b)) + Vector512.Create(a));
    }

    /// <summary>The float whose bits are magic - bits · q / 4.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Guess(Vector512<int> bits) => TQuarters.Count switch
    {
        1 => (Vector512.Create(TQuarters.Magic) - Vector512.ShiftRightLogical(bits, 2)).AsSingle(),
        2 => (Vector512.Create(TQuarters.Magic) - Vector512.ShiftRightLogical(bits, 1)).AsSingle(),
        _ => (Vector512.ShiftRightLogical(bits, 2) - bits + Vector512.Create(TQuarters.Magic)).AsSingle(),
    };

    /// <summary>d^q z⁴, and its derivative by d, which is q/d where z is near.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<float> Power(Vector512<float> z, Vector512<float> d, out Vector512<float> slope)
    {
        Vector512<float> square = z * z, root = TQuarters.Count >= 2 ? square * d : square, product = root * root;
        slope = TQuarters.Count == 2 ? root * (square + square) : TQuarters.Count == 1 ? product : product * Vector512.Create(3f);
        return TQuarters.Count == 2 ? product : product * d;
    }

    /// <summary>The upper 12 of the significand's 24 bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> UpperHalf(Vector512<float> value) => (value.AsInt32() & Vector512.Create(-1 << 12)).AsSingle();
}

/// <summary>The same to 2^-21, for results that are rounded to 16 bits: the second step is of first order, and not around 12 bits.</summary>
internal readonly struct ShortQuarterPower<TQuarters> : IFloatPower<ShortQuarterPower<TQuarters>> where TQuarters : struct, IQuarters
{
    public static ShortQuarterPower<TQuarters> Create(double beta) => default;

    public static bool HasSecond => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public (Vector512<float> First, Vector512<float> Second) Begin(Vector512<float> d) => (QuarterPower<TQuarters>.Approximate(d), default);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<float> Finish(Vector512<float> x, Vector512<float> d, Vector512<float> low, Vector512<float> first, Vector512<float> second)
        => x * (first * (Vector512.Create(1.25f) - QuarterPower<TQuarters>.Power(first, d, out _) * Vector512.Create(0.25f)));
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
internal readonly struct AnyPower : IFloatPower<AnyPower>
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

    public static AnyPower Create(double beta) => new(beta);

    public static bool HasSecond => true;

    /// <summary>-beta · log2 d as an integer, in the low bits below the magic's, and the rest.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public (Vector512<float> First, Vector512<float> Second) Begin(Vector512<float> d)
    {
        // Subtracting the bits of sqrt(1/2) puts m where it should be.
        Vector512<int> whole = Vector512.ShiftRightArithmetic(d.AsInt32() - Vector512.Create(0x3F3504F3), 23);
        Vector512<float> e = Vector512.ConvertToSingle(whole), f = (d.AsInt32() - Vector512.ShiftLeft(whole, 23)).AsSingle() - Vector512<float>.One;
        Vector512<float> l = f * Vector512.Create(0.12541133f) - Vector512.Create(0.21030313f);
        l = l * f + Vector512.Create(0.21737971f);
        l = l * f - Vector512.Create(0.23851948f);
        l = l * f + Vector512.Create(0.28765664f);
        l = l * f - Vector512.Create(0.3607212f);
        l = l * f + Vector512.Create(0.48092253f);
        l = l * f - Vector512.Create(0.7213471f);
        l = (l * f + Vector512.Create(1.4426949f)) * f;

        Vector512<float> product = e * Vector512.Create(upper), part = l * Vector512.Create(exponent), magic = Vector512.Create(IntegerMagic);
        Vector512<float> shifted = (product + part) + magic;
        return (shifted, (product - (shifted - magic)) + (part + e * Vector512.Create(lower)));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<float> Finish(Vector512<float> x, Vector512<float> d, Vector512<float> low, Vector512<float> first, Vector512<float> second)
    {
        Vector512<float> p = second * Vector512.Create(0.000154758985f) + Vector512.Create(0.001340028349f);
        p = p * second + Vector512.Create(0.009618005408f);
        p = p * second + Vector512.Create(0.055503277416f);
        p = p * second + Vector512.Create(0.240226513325f);
        p = (p * second + Vector512.Create(0.693147206289f)) * second;
        // The integer is in the low bits, above it the magic's, which the shift drops.
        Vector512<float> scaled = x * Vector512.ShiftLeft(first.AsInt32() + Vector512.Create(127), 23).AsSingle(), correction = scaled * p;
        return Vector512.CopySign(scaled + (correction + (scaled + correction) * (low * Reciprocal(d) * Vector512.Create(exponent))), x);
    }

    /// <summary>1/d within an eighth.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Reciprocal(Vector512<float> d) => (Vector512.Create(0x7EF311C7) - d.AsInt32()).AsSingle();
}
