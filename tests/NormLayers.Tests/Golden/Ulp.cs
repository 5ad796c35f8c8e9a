namespace NormLayers.Tests.Golden;

/// <summary>Distances between a computed value and the true one in units in the last place of an element type.</summary>
internal static class Ulp
{
    /// <summary>The spacing of a type's numbers at a magnitude.</summary>
    public static double Of<T>(double magnitude)
    {
        (int bits, int least) = typeof(T) == typeof(Half) ? (10, -14) : typeof(T) == typeof(BFloat16) ? (7, -126) : typeof(T) == typeof(float) ? (23, -126) : (52, -1022);
        int exponent = magnitude == 0 ? least : Math.Max(Math.ILogB(magnitude), least);
        return Math.ScaleB(1, exponent - bits);
    }

    /// <summary>|actual - expected| in ulps at a magnitude; 0 where both are NaN or round to the same infinity, infinite where only one is.</summary>
    public static double Distance<T>(double actual, double expected, double magnitude) where T : unmanaged
    {
        if (double.IsNaN(actual) || double.IsNaN(expected))
            return double.IsNaN(actual) && double.IsNaN(expected) ? 0 : double.PositiveInfinity;
        if (!double.IsFinite(actual) || !double.IsFinite(expected))
            return actual == Numbers.ToDouble(Numbers.FromDouble<T>(expected)) ? 0 : double.PositiveInfinity;
        return Math.Abs(actual - expected) / Of<T>(magnitude);
    }
}
