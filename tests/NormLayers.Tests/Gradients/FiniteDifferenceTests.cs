using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests.Gradients;

/// <summary>First and second derivatives against differences of the functions that they are derivatives of, in double.</summary>
public sealed class FiniteDifferenceTests
{
    // Fourth order: the error h⁴ · f⁽⁵⁾ / 30 and the rounding 2^-53 · f / h are both some 1e-11 here.
    private const double Step = 1.0 / 2048, Tolerance = 2e-8;

    public static TheoryData<string> Names => ["LayerNorm", "RMSNorm", "GroupNorm", "LocalResponseNorm"];

    [Theory]
    [MemberData(nameof(Names))]
    public void Backward_OfEveryGeometry_IsTheDerivativeOfForward(string name)
    {
        foreach (NormCase norm in GradientCases.Of(name))
        {
            var generator = new Generator(21);
            Operands<double> operands = norm.Make<double>(generator), full = Full(norm, operands);
            double[] dy = generator.Values<double>(norm.Count);
            Gradients<double> actual = norm.Backward(operands, dy);
            NormCase affine = norm.IsWindow ? norm : norm with { Weight = true, Bias = norm.TakesBias };
            double loss() => Dot(dy, affine.Apply(full));

            AssertClose($"{norm} input", Differences(full.X, loss), actual.Input!);
            if (norm.IsWindow)
                continue;
            AssertClose($"{norm} weight", Differences(full.Weight!, loss), actual.Weight!);
            if (norm.TakesBias)
                AssertClose($"{norm} bias", Differences(full.Bias!, loss), actual.Bias!);
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Jvp_OfEveryGeometry_IsTheDerivativeAlongTheTangents(string name)
    {
        foreach (NormCase norm in GradientCases.Of(name))
        {
            var generator = new Generator(22);
            Operands<double> operands = norm.Make<double>(generator), full = Full(norm, operands);
            double[] t = generator.Values<double>(norm.Count);
            double[]? tWeight = Like(full.Weight, generator), tBias = Like(full.Bias, generator);
            foreach (int tangents in (int[])[1, 2, 4, 7])
            {
                double[]? tx = (tangents & 1) != 0 ? t : null, tw = (tangents & 2) != 0 ? tWeight : null, tb = (tangents & 4) != 0 ? tBias : null;
                double[] actual = norm.Jvp(operands, tx, tw, tb);
                AssertClose($"{norm} tangents {tangents}", Derivative(h => norm.Apply(new Operands<double>(Moved(full.X, tx, h)!, Moved(full.Weight, tw, h), Moved(full.Bias, tb, h)))), actual);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void DoubleBackward_OfEveryGeometry_IsTheDerivativeOfBackward(string name)
    {
        foreach (NormCase norm in GradientCases.Of(name).Where(norm => norm.Count <= 60))
        {
            var generator = new Generator(23);
            Operands<double> operands = norm.Make<double>(generator), full = Full(norm, operands);
            double[] dy = generator.Values<double>(norm.Count), v = generator.Values<double>(norm.Count);
            double[]? vWeight = Like(full.Weight, generator), vBias = Like(full.Bias, generator);
            // Each cotangent alone, and all together.
            foreach (int cotangents in norm.IsWindow ? (int[])[1] : [1, 2, 4, 7])
            {
                double[]? vx = (cotangents & 1) != 0 ? v : null, vw = (cotangents & 2) != 0 ? vWeight : null, vb = (cotangents & 4) != 0 ? vBias : null;
                double loss()
                {
                    Gradients<double> gradients = norm.Backward(full, dy);
                    return Dot(vx, gradients.Input) + Dot(vw, gradients.Weight) + Dot(vb, gradients.Bias);
                }
                (double[] gradOutput, double[] input, double[]? weight) = norm.DoubleBackward(operands, dy, vx, vw, vb);
                AssertClose($"{norm} cotangents {cotangents} input", Differences(full.X, loss), input);
                AssertClose($"{norm} cotangents {cotangents} gradOutput", Differences(dy, loss), gradOutput);
                if (!norm.IsWindow)
                    AssertClose($"{norm} cotangents {cotangents} weight", Differences(full.Weight!, loss), weight!);
            }
        }
    }

    /// <summary>The operands with the ones and zeros written out that a missing weight and bias stand for; their derivatives exist all the same.</summary>
    private static Operands<double> Full(NormCase norm, Operands<double> operands)
    {
        if (norm.IsWindow)
            return operands;
        double[] ones = [.. Enumerable.Repeat(1.0, norm.Parameters())];
        return new Operands<double>([.. operands.X], operands.Weight ?? ones, norm.TakesBias ? operands.Bias ?? new double[norm.Parameters()] : null);
    }

    private static double[]? Like(double[]? values, Generator generator) => values is null ? null : generator.Values<double>(values.Length);

    private static double[]? Moved(double[]? values, double[]? direction, double step)
        => values is null || direction is null ? values : [.. values.Zip(direction, (value, along) => value + step * along)];

    private static double Dot(double[]? a, double[]? b) => a is null || b is null ? 0 : a.Zip(b, (x, y) => x * y).Sum();

    private static double[] Differences(double[] at, Func<double> function)
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

    private static double[] Derivative(Func<double, double[]> function)
    {
        double[] a = function(Step), b = function(-Step), c = function(2 * Step), d = function(-2 * Step);
        return [.. a.Select((_, i) => (8 * (a[i] - b[i]) - (c[i] - d[i])) / (12 * Step))];
    }

    private static void AssertClose(string context, double[] expected, double[] actual)
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
