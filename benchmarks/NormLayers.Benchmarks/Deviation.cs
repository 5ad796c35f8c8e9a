namespace NormLayers.Benchmarks;

/// <summary>How far the worst element of a result is from the reference.</summary>
/// <param name="Result">Which result: y, dx, dweight, dbias.</param>
/// <param name="Index">The element's index in row-major order.</param>
/// <param name="Actual">Its value.</param>
/// <param name="Expected">Its value in double.</param>
/// <param name="Ulps">The distance in floats' units in the last place at the magnitude that the bound names.</param>
/// <param name="Allowed">The bound.</param>
internal readonly record struct Deviation(string Result, nint Index, double Actual, double Expected, double Ulps, double Allowed)
{
    private const double LeastNormal = 1.1754943508222875e-38, Epsilon = 1.0 / (1 << 23);
    private const ulong ExponentBits = 0x7FF0_0000_0000_0000;

    // Negated, so that a NaN is wrong.
    public bool IsWrong => !(Ulps <= Allowed);

    public bool IsWorseThan(in Deviation other) => !(Ulps / Allowed <= other.Ulps / other.Allowed) && !double.IsNaN(other.Ulps);

    public override string ToString() => $"{Result}[{Index}] is {Actual:G9}, expected {Expected:G9}: {Ulps:G3} ulp, allowed {Allowed:G3}";

    /// <summary>The start of the search for a result's worst element.</summary>
    public static Deviation None(string result, double allowed) => new(result, -1, 0, 0, 0, allowed);

    /// <summary>The worse of this and an element's.</summary>
    public Deviation With(nint index, double actual, double expected, double magnitude)
    {
        double ulps = Math.Abs(actual - expected) / Ulp(magnitude);
        return ulps <= Ulps ? this : Worst(this, this with { Index = index, Actual = actual, Expected = expected, Ulps = ulps });
    }

    public static Deviation Worst(in Deviation a, in Deviation b) => b.IsWorseThan(a) ? b : a;

    /// <summary>The spacing of floats at a magnitude: its power of two, cut out of its bits.</summary>
    private static double Ulp(double magnitude)
        => Math.Max(BitConverter.UInt64BitsToDouble(BitConverter.DoubleToUInt64Bits(magnitude) & ExponentBits), LeastNormal) * Epsilon;
}
