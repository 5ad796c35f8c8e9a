using System.Numerics;
using System.Numerics.Tensors;
using NormLayers.Tests.Golden;
using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests.Gradients;

/// <summary>What one layer and its passes give together: used twice, from many threads, by another layer, and refused where they do not fit.</summary>
public abstract class PassTests<T> where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private static readonly NormCase[] cases =
    [
        new("LayerNorm", 1, 5, 37) { Weight = true, Bias = true },
        new("RMSNorm", 1, 5, 37) { Weight = true },
        new("GroupNorm", 2, 3, 4, 21) { Weight = true, Bias = true },
        new("LocalResponseNorm", 4, 2, 5, 19) { Alpha = 0.5 },
    ];

    [Fact]
    public void Layer_UsedTwiceBeforeItsBackwards_SumsBothInEitherOrder()
    {
        foreach (NormCase norm in cases)
        {
            Run[] alone = [Make(norm, 1), Make(norm, 2)];
            Assert.NotEqual(alone[0].Expected, alone[1].Expected);
            foreach (int first in (int[])[0, 1])
            {
                NormLayer<T> layer = Layer(norm);
                ForwardPass<T>[] passes = Array.ConvertAll(alone, run =>
                {
                    layer.Forward(run.Input, out ForwardPass<T> pass);
                    return pass;
                });
                foreach (int i in (int[])[first, 1 - first])
                    Assert.Equal(alone[i].Expected, Tensors.ToArray(layer.Backward(alone[i].GradOutput, passes[i])));
                AssertSums(alone, layer, 2);
            }
        }
    }

    [Fact]
    public void Layer_CalledByManyThreads_SumsAllGradients()
    {
        // One row of many parameters: adding them takes as long as the rest, so that threads meet there.
        foreach (NormCase norm in cases.Append(new NormCase("LayerNorm", 1, 1, 20_000) { Weight = true, Bias = true }))
        {
            Run[] runs = [.. Enumerable.Range(0, 40).Select(i => Make(norm, (ulong)i))];
            NormLayer<T> layer = Layer(norm);
            var wrong = new bool[8];
            Thread[] threads = [.. Enumerable.Range(0, wrong.Length).Select(t => new Thread(() =>
            {
                for (int i = t; i < runs.Length; i += wrong.Length)
                {
                    layer.Forward(runs[i].Input, out ForwardPass<T> pass);
                    wrong[t] |= !runs[i].Expected.AsSpan().SequenceEqual(Tensors.ToArray(layer.Backward(runs[i].GradOutput, pass)));
                }
            }))];
            Array.ForEach(threads, thread => thread.Start());
            Array.ForEach(threads, thread => thread.Join());
            Assert.DoesNotContain(true, wrong);
            AssertSums(runs, layer, 40);
        }
    }

    [Fact]
    public void Layer_CalledByManyThreadsInOrder_GivesTheSameBits()
    {
        foreach (NormCase norm in cases)
        {
            Run[] runs = [.. Enumerable.Range(0, 12).Select(i => Make(norm, (ulong)i))];
            T[][] expected = Gradients(Layer(norm), runs, thread => thread());
            T[][] actual = Gradients(Layer(norm), runs, thread =>
            {
                var other = new Thread(() => thread());
                other.Start();
                other.Join();
            });
            Assert.Equal(expected, actual);
        }

        static T[][] Gradients(NormLayer<T> layer, Run[] runs, Action<Action> call)
        {
            foreach (Run run in runs)
            {
                call(() =>
                {
                    layer.Forward(run.Input, out ForwardPass<T> pass);
                    layer.Backward(run.GradOutput, pass);
                });
            }
            return [.. layer.Parameters.Select(parameter => Tensors.ToArray(parameter.Grad))];
        }
    }

    [Fact]
    public void Pass_UsedByAnotherLayerOfTheSameConfiguration_GivesTheSameBits()
    {
        foreach (NormCase norm in cases)
        {
            Run run = Make(norm, 3);
            Layer(norm).Forward(run.Input, out ForwardPass<T> pass);
            NormLayer<T> other = Layer(norm);
            Assert.Equal(run.Expected, Tensors.ToArray(other.Backward(run.GradOutput, pass)));
            AssertSums([run], other, 1);
        }
    }

    [Fact]
    public void Pass_OfAnotherGeometry_IsRefused()
    {
        Tensor<T> x = Tensor.Create(new Generator(4).Values<T>(24), [2, 4, 3]);
        Refuse(new GroupNorm<T>(2, 4), new GroupNorm<T>(4, 4), "Expected a pass of GroupNorm(2, 4, eps=1e-05, affine=True), got one of a layer that groups [2, 4, 3] otherwise.");
        Refuse(new LayerNorm<T>(3), new LayerNorm<T>([4, 3]), "Expected a pass of LayerNorm((3,), eps=1e-05, elementwise_affine=True), got one of a layer that groups [2, 4, 3] otherwise.");
        Refuse(new LayerNorm<T>(3), new RMSNorm<T>(3), "groups [2, 4, 3] otherwise.");
        Refuse(new RMSNorm<T>(3), new LayerNorm<T>(3), "Expected a pass of RMSNorm((3,)");
        Refuse(new LayerNorm<T>(3), new LocalResponseNorm<T>(2), "Expected a pass of LayerNorm((3,)");
        Refuse(new LocalResponseNorm<T>(2), new GroupNorm<T>(4, 4), "Expected a pass of LocalResponseNorm(2, alpha=0.0001, beta=0.75, k=1.0), got one of a layer with statistics.");

        void Refuse(NormLayer<T> layer, NormLayer<T> other, string message)
        {
            other.Forward(x, out ForwardPass<T> pass);
            Assert.Contains(message, Assert.Throws<ArgumentException>("pass", () => layer.Backward(x, pass)).Message, StringComparison.Ordinal);
            Assert.Throws<ArgumentException>("pass", () => layer.Jvp(pass, x));
            // Also where there is nothing to compute.
            Assert.Throws<ArgumentException>("pass", () => layer.Jvp(pass, null));
            Assert.Throws<ArgumentException>("pass", () => layer.DoubleBackward(x, pass, null));
            Assert.Throws<ArgumentException>("pass", () => layer.Backward(x.AsReadOnlyTensorSpan(), pass, default));
            Assert.Throws<ArgumentException>("pass", () => layer.DoubleBackward(x, pass, x));
            Assert.All(layer.Parameters, parameter => Assert.All(Tensors.ToArray(parameter.Grad), value => Assert.Equal(T.Zero, value)));
        }
    }

    [Fact]
    public void GradOutput_OfAnotherShape_IsRefused()
    {
        foreach (NormCase norm in cases)
        {
            NormLayer<T> layer = Layer(norm);
            layer.Forward(Make(norm, 5).Input, out ForwardPass<T> pass);
            Tensor<T> wrong = Tensor.Create(new T[norm.Count], [norm.Count]);
            Assert.Contains($", got [{norm.Count}].", Assert.Throws<ArgumentException>("gradOutput", () => layer.Backward(wrong, pass)).Message, StringComparison.Ordinal);
            Assert.Throws<ArgumentException>("gradOutput", () => layer.Backward(default, pass, default));
            Assert.Throws<ArgumentException>("gradOutput", () => layer.DoubleBackward(wrong, pass, null));
            Assert.Throws<ArgumentNullException>("gradOutput", () => layer.Backward(null!, pass));
            Assert.Throws<ArgumentNullException>("pass", () => layer.Backward(wrong, null!));
        }
    }

    [Fact]
    public void CrossMapBackward_WithoutAResult_StillChecks()
    {
        var layer = new CrossMapLRN2d<T>(3);
        layer.Forward(Tensor.Create(new T[8], [1, 2, 2, 2]), out ForwardPass<T> pass);
        Assert.Throws<ArgumentException>("gradOutput", () => layer.Backward(Tensor.Create(new T[8], [8]).AsReadOnlyTensorSpan(), pass, default));
        Assert.Throws<ArgumentOutOfRangeException>("size", () => new CrossMapLRN2d<T>(1).Backward(Tensor.Create(new T[8], [1, 2, 2, 2]).AsReadOnlyTensorSpan(), pass, default));
    }

    [Fact]
    public void Tangents_OfParametersThatDoNotFit_AreRefused()
    {
        var layer = new LayerNorm<T>(3, bias: false);
        Tensor<T> x = Tensor.Create(new T[6], [2, 3]), three = Tensor.Create(new T[3], [3]), two = Tensor.Create(new T[2], [2]);
        layer.Forward(x, out ForwardPass<T> pass);
        Assert.Contains("Expected weightTangent of shape [3], got [2].", Assert.Throws<ArgumentException>("weightTangent", () => layer.Jvp(pass, x, two)).Message, StringComparison.Ordinal);
        Assert.Contains("Expected no biasTangent: the layer has no such parameter.", Assert.Throws<ArgumentException>("biasTangent", () => layer.Jvp(pass, x, three, three)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>("gradGradWeight", () => layer.DoubleBackward(x, pass, x, two));
        Assert.Throws<ArgumentException>("gradGradBias", () => layer.DoubleBackward(x, pass, x, three, three));
        Assert.Throws<ArgumentException>("inputTangent", () => layer.Jvp(pass, three));

        var window = new LocalResponseNorm<T>(3);
        Tensor<T> image = Tensor.Create(new T[6], [1, 2, 3]);
        window.Forward(image, out pass);
        Assert.Throws<ArgumentException>("weightTangent", () => window.Jvp(pass, image, three));
        Assert.Throws<ArgumentException>("biasTangent", () => window.Jvp(pass, image, null, three));
        Assert.Throws<ArgumentException>("gradGradWeight", () => window.DoubleBackward(image, pass, image, three));
        Assert.Throws<ArgumentException>("gradGradBias", () => window.DoubleBackward(image, pass, image, null, three));
    }

    private static NormLayer<T> Layer(NormCase norm) => norm.MakeLayer(norm.Make<T>(new Generator(99)));

    /// <summary>An input and an output gradient, and what they give on the layer alone.</summary>
    private static Run Make(NormCase norm, ulong seed)
    {
        var generator = new Generator(seed);
        T[] x = generator.Values<T>(norm.Count), dy = generator.Values<T>(norm.Count);
        Gradients<T> alone = norm.Backward(norm.Make<T>(new Generator(99)) with { X = x }, dy);
        return new Run(Tensor.Create(x, norm.Shape), Tensor.Create(dy, norm.Shape), alone.Input!, [.. new[] { alone.Weight, alone.Bias }.OfType<T[]>()]);
    }

    private static void AssertSums(Run[] runs, NormLayer<T> layer, double ulps)
    {
        for (int p = 0; p < layer.Parameters.Count; p++)
        {
            T[] actual = Tensors.ToArray(layer.Parameters[p].Grad);
            for (int i = 0; i < actual.Length; i++)
            {
                double[] terms = [.. runs.Select(run => double.CreateTruncating(run.ExpectedParameters[p][i]))];
                Assert.True(Ulp.Distance<T>(double.CreateTruncating(actual[i]), terms.Sum(), terms.Sum(Math.Abs)) <= ulps, $"{layer} {layer.Parameters[p].Name} {i}");
            }
        }
    }

    private sealed record Run(Tensor<T> Input, Tensor<T> GradOutput, T[] Expected, T[][] ExpectedParameters);
}

public sealed class FloatPassTests : PassTests<float>;

public sealed class DoublePassTests : PassTests<double>;
