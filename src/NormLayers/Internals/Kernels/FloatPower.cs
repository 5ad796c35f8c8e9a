using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>Powers of d = k + t in float, for ordinary positive d: see <see cref="WindowParameters.FloatLimit"/> for how far they may lie.</summary>
internal interface IFloatPower<TSelf> where TSelf : struct, IFloatPower<TSelf>
{
    /// <summary>The power for a beta.</summary>
    static abstract TSelf Create(double beta);

    /// <summary>x · (k + t)^-beta; a zero keeps its sign.</summary>
    FloatPair Multiply(FloatPair x, FloatPair t, FloatPair k);
}

/// <summary>How many quarters a power is, as a type, so that each has its own code.</summary>
internal interface IQuarters
{
    static abstract int Count { get; }

    /// <summary>((1 - e)^(-Count/4) - 1) / e for -0.165 &lt;= e &lt;= 0.16, so that the power has 2^-27.9: minimax, as all of these.</summary>
    static abstract FloatPair LongSeries(FloatPair e, FloatPair square);

    /// <summary>p^(-Count/4) for 0.875 &lt;= p &lt;= 1.122, to 2^-19.8.</summary>
    static abstract FloatPair ShortSeries(FloatPair p, FloatPair square);
}

internal readonly struct OneQuarter : IQuarters
{
    public static int Count => 1;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatPair LongSeries(FloatPair e, FloatPair square)
        => ((square * 0.06775129f + (e * 0.07377329f + 0.08081941f)) * square + (e * 0.09516966f + 0.11718846f)) * square + (e * 0.1562502f + 0.25f);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatPair ShortSeries(FloatPair p, FloatPair square)
        => (square * 0.09779721f + (p * -0.50992537f + 1.0992222f)) * square + (p * -1.3098514f + 1.6227573f);
}

internal readonly struct TwoQuarters : IQuarters
{
    public static int Count => 2;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatPair LongSeries(FloatPair e, FloatPair square)
        => ((square * 0.22464158f + (e * 0.23574884f + 0.24572913f)) * square + (e * 0.27328202f + 0.31250295f)) * square + (e * 0.3750007f + 0.5f);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatPair ShortSeries(FloatPair p, FloatPair square)
        => (square * 0.28109366f + (p * -1.4415934f + 3.0131612f)) * square + (p * -3.3258986f + 2.4732373f);
}

internal readonly struct ThreeQuarters : IQuarters
{
    public static int Count => 3;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatPair LongSeries(FloatPair e, FloatPair square)
        => ((square * 0.5313427f + (e * 0.5383301f + 0.5349333f)) * square + (e * 0.5635836f + 0.60156894f)) * square + (e * 0.65625167f + 0.75f);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatPair ShortSeries(FloatPair p, FloatPair square)
        => (square * 0.5802049f + (p * -2.9326732f + 5.972927f)) * square + (p * -6.218615f + 3.5981565f);
}

/// <summary>
/// d^(-q/4) for q = 1, 2, 3 without roots or divisions.
/// </summary>
/// <remarks>
/// A float's bits are nearly its logarithm, so a quarter of them, taken from those of 1, are nearly d^(-1/4)'s. From that guess w and its
/// error e = 1 - d·w⁴ follows w^q · (1 - e)^(-q/4), by a polynomial. w is cut to 6 bits, so that w⁴ is exact, and e = (1 - k·w⁴) - t·w⁴ has no
/// more error than t had, nor d's rounding, where k is a power of two. x times w^q is made in two parts, of which that of x's upper bits is exact,
/// so that all that is rounded at full size is the result.
/// </remarks>
internal readonly struct QuarterPower<TQuarters> : IFloatPower<QuarterPower<TQuarters>> where TQuarters : struct, IQuarters
{
    public static QuarterPower<TQuarters> Create(double beta) => default;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public FloatPair Multiply(FloatPair x, FloatPair t, FloatPair k)
    {
        FloatPair d = t + k, w = new(Guess(d.A, 0x4F598000, -1 << 18), Guess(d.B, 0x4F598000, -1 << 18));
        FloatPair square = w * w, fourth = square * square, e = (1 - k * fourth) - t * fourth, power = Power(w, square);
        FloatPair upper = new(Upper(x.A), Upper(x.B)), high = upper * power, low = (x - upper) * power;
        FloatPair result = high + (low + (high + low) * (e * TQuarters.LongSeries(e, e * e)));
        return new(Vector512.CopySign(result.A, x.A), Vector512.CopySign(result.B, x.B));
    }

    /// <summary>The upper 6 bits of the significand.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Upper(Vector512<float> value) => (value.AsInt32() & Vector512.Create(-1 << 18)).AsSingle();

    /// <summary>The float whose bits are magic less a quarter of d's, cut by a mask.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<float> Guess(Vector512<float> d, int magic, int mask) => ((Vector512.Create(magic) - Vector512.ShiftRightLogical(d.AsInt32(), 2)) & Vector512.Create(mask)).AsSingle();

    /// <summary>w^q.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static FloatPair Power(FloatPair w, FloatPair square) => TQuarters.Count == 1 ? w : TQuarters.Count == 2 ? square : square * w;
}

/// <summary>The same to 2^-19.8, for results that are rounded to 16 bits.</summary>
internal readonly struct ShortQuarterPower<TQuarters> : IFloatPower<ShortQuarterPower<TQuarters>> where TQuarters : struct, IQuarters
{
    public static ShortQuarterPower<TQuarters> Create(double beta) => default;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public FloatPair Multiply(FloatPair x, FloatPair t, FloatPair k)
    {
        FloatPair d = t + k, w = new(QuarterPower<TQuarters>.Guess(d.A, 0x4F580000, -1), QuarterPower<TQuarters>.Guess(d.B, 0x4F580000, -1));
        FloatPair square = w * w, p = square * d * square;
        return x * QuarterPower<TQuarters>.Power(w, square) * TQuarters.ShortSeries(p, p * p);
    }
}

/// <summary>
/// d^-beta = 2^(-beta · log2 d) for any beta.
/// </summary>
/// <remarks>
/// log2 d = e + l, with l from a polynomial in m - 1 for the significand m in [sqrt(1/2), sqrt 2). -beta has a part of 14 bits,
/// whose product with e is exact, and a rest, so that -beta · log2 d, less the nearest integer n, keeps its digits behind the
/// point whatever stands before it; what rounding d leaves, within an ulp or so, counts as -beta · low / d (Dekker 1971). The polynomials are minimax fits of log2(1 + f) / f and (2^r - 1) / r, to 2^-27 and 2^-29 in
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

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public FloatPair Multiply(FloatPair x, FloatPair t, FloatPair k)
    {
        FloatPair d = t + k, low = t - (d - k);
        Vector512<int> wholeA = Exponent(d.A), wholeB = Exponent(d.B);
        FloatPair e = new(Vector512.ConvertToSingle(wholeA), Vector512.ConvertToSingle(wholeB)), f = new FloatPair(Divide(d.A, wholeA), Divide(d.B, wholeB)) - 1;
        FloatPair l = ((f * 0.12541133f - 0.21030313f) * f + 0.21737971f) * f - 0.23851948f;
        l = ((l * f + 0.28765664f) * f - 0.3607212f) * f + 0.48092253f;
        l = ((l * f - 0.7213471f) * f + 1.4426949f) * f;

        // Minus beta · log2 d as an integer, in the low bits of the sum, below the magic's, and the rest.
        FloatPair product = e * upper, part = l * exponent, sum = (product + part) + IntegerMagic, rest = (product - (sum - IntegerMagic)) + (part + e * lower);
        FloatPair p = ((rest * 0.000154758985f + 0.001340028349f) * rest + 0.009618005408f) * rest + 0.055503277416f;
        p = ((p * rest + 0.240226513325f) * rest + 0.693147206289f) * rest;
        FloatPair scaled = x * new FloatPair(PowerOfTwo(sum.A), PowerOfTwo(sum.B)), correction = scaled * p;
        FloatPair result = scaled + (correction + (scaled + correction) * (low * new FloatPair(Reciprocal(d.A), Reciprocal(d.B)) * exponent));
        return new(Vector512.CopySign(result.A, x.A), Vector512.CopySign(result.B, x.B));
    }

    /// <summary>The exponent that leaves a significand from sqrt(1/2) on: subtracting the bits of that puts it where it should be.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<int> Exponent(Vector512<float> d) => Vector512.ShiftRightArithmetic(d.AsInt32() - Vector512.Create(0x3F3504F3), 23);

    /// <summary>d / 2^exponent.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Divide(Vector512<float> d, Vector512<int> exponent) => (d.AsInt32() - Vector512.ShiftLeft(exponent, 23)).AsSingle();

    /// <summary>2^n for n in the low bits, above which are the magic's, which the shift drops.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> PowerOfTwo(Vector512<float> n) => Vector512.ShiftLeft(n.AsInt32() + Vector512.Create(127), 23).AsSingle();

    /// <summary>1/d within an eighth.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Reciprocal(Vector512<float> d) => (Vector512.Create(0x7EF311C7) - d.AsInt32()).AsSingle();
}
