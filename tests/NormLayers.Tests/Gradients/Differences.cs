using Xunit;

namespace NormLayers.Tests.Gradients;

/// <summary>Derivatives as differences, in double.</summary>
internal static class Differences
{
    // Fourth order: the error h⁴ · f⁽⁵⁾ / 30 and the rounding 2^-53 · f / h are both some 1e-11 here.
    private const double Step = 1.0 / 2048, Tolerance = 2e-8;

    public static double Dot(double[]? a, double[]? b) => a is null || b is null ? 0 : a.Zip(b, (x, y) => x * y).Sum();

    /// <summary>The partial derivatives of a function of some values, which it reads where they are.</summary>
    public static double[] Of(double[] at, Func<double> function)
    {
        var result = new double[at.Length];
        for (int i = 0; i < at.Length; i++)
        {
            double value = at[i];
            result[i] = Derivative(h =>
            {
                at[i] = value + h;
                return [function()];
            })[0];
            at[i] = value;
        }
        return result;
    }

    /// <summary>The derivative at 0 of a function of one number.</summary>
    public static double[] Derivative(Func<double, double[]> function)
    {
        double[] a = function(Step), b = function(-Step), c = function(2 * Step), d = function(-2 * Step);
        return [.. a.Select((_, i) => (8 * (a[i] - b[i]) - (c[i] - d[i])) / (12 * Step))];
    }

    public static void AssertClose(double[] expected, double[] actual, string context = "gradient")
    {
        Assert.Equal(expected.Length, actual.Length);
        double scale = 1 + expected.Select(Math.Abs).DefaultIfEmpty().Max();
        for (int i = 0; i < expected.Length; i++)
        {
            if (!(Math.Abs(expected[i] - actual[i]) <= Tolerance * scale))
                Assert.Fail($"{context}: element {i} is {actual[i]:R}, the difference quotient {expected[i]:R}");
        }
    }
}
