using System.Numerics;
using System.Numerics.Tensors;
using NormLayers.Tests.Golden;
using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests.Gradients;

/// <summary>Passes that keep the output instead of the input.</summary>
public abstract class OutputPassTests<T> where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const double MostUlps = 64;

    private static readonly NormCase[] cases =
    [
        new("LayerNorm", 1, 5, 37) { Weight = true, Bias = true },
        new("LayerNorm", 2, 3, 7, 11) { Weight = true },
        new("LayerNorm", 1, 9, 64),
        new("RMSNorm", 1, 5, 37) { Weight = true },
        new("GroupNorm", 2, 3, 6, 5, 7) { Weight = true, Bias = true },
        new("GroupNorm", 3, 4, 12) { Weight = true, Bias = true },
        new("GroupNorm", 1, 2, 5, 33),
    ];

    [Fact]
    public void Backward_FromTheOutput_IsCloseToThatFromTheInput()
    {
        foreach (NormCase norm in cases)
        {
            foreach (double offset in (double[])[0, 100])
            {
                var generator = new Generator(1);
                (NormLayer<T> layer, Tensor<T> x) = Make(norm, generator, offset);
                Tensor<T> dy = Tensor.Create(generator.Values<T>(norm.Count), norm.Shape);
                layer.Forward(x, out ForwardPass<T> input);
                layer.Forward(x, out ForwardPass<T> output, PassMemory.Output);
                Assert.NotSame(input.Kept, output.Kept);

                double[][] expected = Gradients(layer, dy, input), actual = Gradients(layer, dy, output);
                int length = norm.Count / norm.Groups();
                for (int start = 0; start < norm.Count; start += length)
                    AssertClose($"{norm} input", expected[0][start..(start + length)], actual[0][start..(start + length)]);
                for (int p = 1; p < expected.Length; p++)
                    AssertClose($"{norm} parameter {p}", expected[p], actual[p]);
            }
        }
    }

    [Fact]
    public void Backward_AfterTheInputWasOverwritten_GivesTheSameBits()
    {
        foreach (NormCase norm in cases)
        {
            var generator = new Generator(2);
            (NormLayer<T> layer, Tensor<T> x) = Make(norm, generator, 0);
            Tensor<T> dy = Tensor.Create(generator.Values<T>(norm.Count), norm.Shape);
            layer.Forward(x, out ForwardPass<T> pass, PassMemory.Output);
            double[][] expected = Gradients(layer, dy, pass);
            x.Fill(T.NaN);
            Assert.Equal(expected, Gradients(layer, dy, pass));
        }
    }

    [Fact]
    public void OtherDerivatives_FromTheOutput_AreCloseToThoseFromTheInput()
    {
        foreach (NormCase norm in cases)
        {
            var generator = new Generator(3);
            (NormLayer<T> layer, Tensor<T> x) = Make(norm, generator, 0);
            Tensor<T> dy = Tensor.Create(generator.Values<T>(norm.Count), norm.Shape), v = Tensor.Create(generator.Values<T>(norm.Count), norm.Shape);
            layer.Forward(x, out ForwardPass<T> input);
            layer.Forward(x, out ForwardPass<T> output, PassMemory.Output);
            AssertClose($"{norm} jvp", Wide(layer.Jvp(input, v)), Wide(layer.Jvp(output, v)));
            (Tensor<T> gradOutput, Tensor<T> gradInput) = layer.DoubleBackward(dy, input, v);
            (Tensor<T> otherGradOutput, Tensor<T> otherGradInput) = layer.DoubleBackward(dy, output, v);
            AssertClose($"{norm} gradOutput", Wide(gradOutput), Wide(otherGradOutput));
            AssertClose($"{norm} input", Wide(gradInput), Wide(otherGradInput));
        }
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(0, 1)]
    [InlineData(1e-38, 0)]
    [InlineData(1e-3, 4)]
    [InlineData(-1e-3, -4)]
    [InlineData(double.NaN, 0)]
    public void Output_BesideAWeightThatIsTooSmall_IsRefused(double weight, double bias)
    {
        // Doubles reach further down.
        weight = typeof(T) == typeof(double) && weight == 1e-38 ? 1e-300 : weight;
        var layer = new LayerNorm<T>(4);
        Tensor<T> x = Tensor.Create(new Generator(4).Values<T>(8), [2, 4]);
        layer.Forward(x, out ForwardPass<T> before, PassMemory.Output);
        layer.Weight!.Value[2] = T.CreateTruncating(weight);
        layer.Bias!.Value[2] = T.CreateTruncating(bias);

        Assert.Contains("weight element 2 is", Assert.Throws<InvalidOperationException>(() => layer.Forward(x, out _, PassMemory.Output)).Message, StringComparison.Ordinal);
        Assert.Contains("weight element 2 is", Assert.Throws<InvalidOperationException>(() => layer.Backward(x, before)).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidOperationException>(() => layer.Jvp(before, x));
        Assert.Throws<InvalidOperationException>(() => layer.DoubleBackward(x, before, x));
        Assert.All(layer.Parameters, parameter => Assert.All(Tensors.ToArray(parameter.Grad), value => Assert.Equal(T.Zero, value)));
        layer.Forward(x, out ForwardPass<T> kept);
        layer.Backward(x, kept);
    }

    [Fact]
    public void Output_BesideTheLeastWeight_IsKept()
    {
        var layer = new LayerNorm<T>(4);
        layer.Weight!.Value[2] = T.CreateTruncating(typeof(T) == typeof(double) ? 1e-280 : 1.1e-30);
        layer.Weight.Value[1] = T.CreateChecked(0.5);
        layer.Bias!.Value[1] = T.CreateChecked(-512);
        Tensor<T> x = Tensor.Create(new Generator(4).Values<T>(8), [2, 4]);
        layer.Forward(x, out ForwardPass<T> pass, PassMemory.Output);
        layer.Backward(x, pass);
    }

    [Fact]
    public void Output_OfLocalResponseNorm_IsRefused()
    {
        var layer = new LocalResponseNorm<T>(2);
        InvalidOperationException refusal = Assert.Throws<InvalidOperationException>(() => layer.Forward(Tensor.Create(new T[6], [1, 2, 3]), out _, PassMemory.Output));
        Assert.Contains("The input cannot be recovered from the output of LocalResponseNorm(2, alpha=0.0001, beta=0.75, k=1.0)", refusal.Message, StringComparison.Ordinal);
    }

    /// <summary>A layer whose biases are at most ten times its weights.</summary>
    private static (NormLayer<T> Layer, Tensor<T> Input) Make(NormCase norm, Generator generator, double offset)
    {
        Operands<T> operands = norm.Make<T>(generator, 1, offset);
        for (int i = 0; i < operands.Bias?.Length; i++)
            operands.Bias[i] *= T.Abs(operands.Weight![i]) * T.CreateChecked(2.5);
        return (norm.MakeLayer(operands), Tensor.Create(operands.X, norm.Shape));
    }

    private static double[][] Gradients(NormLayer<T> layer, Tensor<T> dy, ForwardPass<T> pass)
    {
        layer.ZeroGrad();
        return [Wide(layer.Backward(dy, pass)), .. layer.Parameters.Select(parameter => Wide(parameter.Grad))];
    }

    private static double[] Wide(Tensor<T> tensor) => GradientRun.Widen(Tensors.ToArray(tensor));

    private static void AssertClose(string context, double[] expected, double[] actual)
    {
        double largest = expected.Max(Math.Abs);
        for (int i = 0; i < expected.Length; i++)
        {
            double distance = Ulp.Distance<T>(actual[i], expected[i], largest);
            if (!(distance <= MostUlps))
                Assert.Fail($"{context}: element {i} is {actual[i]:R} from the output, {expected[i]:R} from the input: {distance:G4} ulp at the largest, allowed {MostUlps}");
        }
    }
}

public sealed class FloatOutputPassTests : OutputPassTests<float>;

public sealed class DoubleOutputPassTests : OutputPassTests<double>;
