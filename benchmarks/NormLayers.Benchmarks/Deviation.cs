namespace NormLayers.Benchmarks;

/// <summary>How far a result may be from the reference.</summary>
/// <param name="Ulps">Floats' units in the last place at a magnitude that the caller names.</param>
/// <param name="Element">The elements: those of 16 bits have besides <see cref="Rounding"/> of their own units, at the expected value.</param>
internal readonly record struct Bound(double Ulps, Precision Element)
{
    private const double Rounding = 0.51;

    /// <summary>The distance as a share of what is allowed.</summary>
    public double Share(double actual, double expected, double magnitude)
    {
        double allowed = Ulps * Precision.Float.Ulp(magnitude);
        if (Element != Precision.Float)
            allowed += Rounding * Element.Ulp(expected);
        return Math.Abs(actual - expected) / allowed;
    }
}

/// <summary>The element of a result that is furthest from the reference.</summary>
/// <param name="Result">Which result: y, sum, dx, dweight, dbias.</param>
/// <param name="Index">The element's index in row-major order.</param>
/// <param name="Actual">Its value.</param>
/// <param name="Expected">Its value in double.</param>
/// <param name="Share">The distance as a share of what is allowed.</param>
internal readonly record struct Deviation(string Result, nint Index, double Actual, double Expected, double Share)
{
    // Negated, so that a NaN is wrong.
    public bool IsWrong => !(Share <= 1);

    public override string ToString() => $"{Result}[{Index}] is {Actual:G9}, expected {Expected:G9}: {Share:P0} of the bound";

    /// <summary>The start of the search for a result's worst element.</summary>
    public static Deviation None(string result) => new(result, -1, 0, 0, 0);

    /// <summary>The worse of this and an element's.</summary>
    public Deviation With(nint index, double actual, double expected, double share)
        => share <= Share ? this : Worst(this, this with { Index = index, Actual = actual, Expected = expected, Share = share });

    public static Deviation Worst(in Deviation a, in Deviation b) => !(b.Share <= a.Share) && !double.IsNaN(a.Share) ? b : a;
}
