using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests.Gradients;

/// <summary>First and second derivatives against differences of the functions that they are derivatives of, in double.</summary>
public sealed class FiniteDifferenceTests
{
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
            double loss() => Differences.Dot(dy, affine.Apply(full));

            Differences.AssertClose(Differences.Of(full.X, loss), actual.Input!, $"{norm} input");
            if (norm.IsWindow)
                continue;
            Differences.AssertClose(Differences.Of(full.Weight!, loss), actual.Weight!, $"{norm} weight");
            if (norm.TakesBias)
                Differences.AssertClose(Differences.Of(full.Bias!, loss), actual.Bias!, $"{norm} bias");
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
                Differences.AssertClose(Differences.Derivative(h => norm.Apply(new Operands<double>(Moved(full.X, tx, h)!, Moved(full.Weight, tw, h), Moved(full.Bias, tb, h)))), actual, $"{norm} tangents {tangents}");
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
                    return Differences.Dot(vx, gradients.Input) + Differences.Dot(vw, gradients.Weight) + Differences.Dot(vb, gradients.Bias);
                }
                (double[] gradOutput, double[] input, double[]? weight) = norm.DoubleBackward(operands, dy, vx, vw, vb);
                Differences.AssertClose(Differences.Of(full.X, loss), input, $"{norm} cotangents {cotangents} input");
                Differences.AssertClose(Differences.Of(dy, loss), gradOutput, $"{norm} cotangents {cotangents} gradOutput");
                if (!norm.IsWindow)
                    Differences.AssertClose(Differences.Of(full.Weight!, loss), weight!, $"{norm} cotangents {cotangents} weight");
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
}
