using System.Numerics;
using System.Numerics.Tensors;
using NormLayers.Tests.Golden;
using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests.Gradients;

/// <summary>Input gradients are overwritten, parameter gradients are added to; and neither minds where its operands lie.</summary>
public abstract class AccumulationTests<T> where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private static readonly NormCase[] cases =
    [
        new("LayerNorm", 1, 5, 37) { Weight = true, Bias = true },
        new("LayerNorm", 2, 2, 3, 4, 5) { Weight = true, Bias = true },
        new("GroupNorm", 2, 3, 6, 5, 7) { Weight = true, Bias = true },
        new("GroupNorm", 3, 4, 6) { Weight = true, Bias = true },
        new("LocalResponseNorm", 4, 2, 5, 3, 7) { Alpha = 0.5 },
        new("LocalResponseNorm", 3, 2, 7, 19) { Alpha = 0.5, Beta = 0.6 },
    ];

    private static IEnumerable<NormCase> Rows => cases.Where(norm => !norm.IsWindow);

    [Fact]
    public void Grad_OfANewLayer_IsZero()
    {
        foreach (NormCase norm in Rows)
        {
            foreach (Parameter<T> parameter in norm.MakeLayer(norm.Make<T>(new Generator(1))).Parameters)
            {
                Assert.Equal(norm.ParameterShape, parameter.Grad.Lengths);
                Assert.All(Tensors.ToArray(parameter.Grad), value => Assert.Equal(T.Zero, value));
                Assert.Same(parameter.Grad, parameter.Grad);
            }
        }
    }

    [Fact]
    public void Backward_Twice_DoublesTheParameterGradients()
    {
        foreach (NormCase norm in Rows)
        {
            (NormLayer<T> layer, Tensor<T> dy, ForwardPass<T> pass) = Start(norm);
            T[] first = Tensors.ToArray(layer.Backward(dy, pass));
            T[][] once = [.. layer.Parameters.Select(parameter => Tensors.ToArray(parameter.Grad))];
            Assert.Equal(2, once.Length);
            Assert.Equal(first, Tensors.ToArray(layer.Backward(dy, pass)));
            for (int p = 0; p < 2; p++)
                Assert.Equal(Array.ConvertAll(once[p], value => value + value), Tensors.ToArray(layer.Parameters[p].Grad));
        }
    }

    [Fact]
    public void ZeroGrad_BetweenBackwards_BeginsAnew()
    {
        foreach (NormCase norm in Rows)
        {
            (NormLayer<T> layer, Tensor<T> dy, ForwardPass<T> pass) = Start(norm);
            layer.ZeroGrad();
            layer.Backward(dy, pass);
            T[][] once = [.. layer.Parameters.Select(parameter => Tensors.ToArray(parameter.Grad))];
            layer.ZeroGrad();
            Assert.All(layer.Parameters, parameter => Assert.All(Tensors.ToArray(parameter.Grad), value => Assert.Equal(T.Zero, value)));
            layer.Backward(dy, pass);
            for (int p = 0; p < 2; p++)
                Assert.Equal(once[p], Tensors.ToArray(layer.Parameters[p].Grad));
        }
    }

    [Fact]
    public void Backward_WithoutGradInput_AddsTheSameParameterGradients()
    {
        foreach (NormCase norm in cases)
        {
            (NormLayer<T> layer, Tensor<T> dy, ForwardPass<T> pass) = Start(norm);
            layer.Backward(dy, pass);
            T[][] expected = [.. layer.Parameters.Select(parameter => Tensors.ToArray(parameter.Grad))];
            layer.ZeroGrad();
            layer.Backward(dy.AsReadOnlyTensorSpan(), pass, default);
            for (int p = 0; p < expected.Length; p++)
                Assert.Equal(expected[p], Tensors.ToArray(layer.Parameters[p].Grad));
        }
    }

    [Fact]
    public void FunctionalBackward_OverNonZeroResults_OverwritesTheInputsAndAddsToTheParameters()
    {
        foreach (NormCase norm in cases)
        {
            var generator = new Generator(2);
            Operands<T> operands = norm.Make<T>(generator);
            T[] dy = generator.Values<T>(norm.Count);
            Gradients<T> expected = norm.Backward(operands, dy);
            T[] dx = [.. Enumerable.Repeat(T.NaN, norm.Count)];
            T[]? dWeight = expected.Weight is null ? null : generator.Values<T>(norm.Parameters()), dBias = dWeight is null ? null : [.. dWeight];
            T[]? before = dWeight is null ? null : [.. dWeight];
            norm.Backward(norm.Whole(dy), norm.Whole(operands.X), norm.Statistics(operands), norm.Span(operands.Weight), norm.WholeResult(dx), norm.ParameterResult(dWeight), norm.ParameterResult(dBias));

            Assert.Equal(expected.Input!, dx);
            AssertAdded(before, expected.Weight, dWeight);
            AssertAdded(before, expected.Bias, dBias);
        }

        static void AssertAdded(T[]? before, T[]? sums, T[]? after)
        {
            for (int i = 0; i < before?.Length; i++)
            {
                double start = double.CreateTruncating(before[i]), sum = double.CreateTruncating(sums![i]);
                Assert.True(Ulp.Distance<T>(double.CreateTruncating(after![i]), start + sum, Math.Max(Math.Abs(start), Math.Abs(sum))) <= 2);
            }
        }
    }

    [Fact]
    public void Backward_InPlaceOfGradOutput_GivesTheSameBits()
    {
        foreach (NormCase norm in cases)
        {
            var generator = new Generator(3);
            Operands<T> operands = norm.Make<T>(generator);
            T[] dy = generator.Values<T>(norm.Count);
            Gradients<T> expected = norm.Backward(operands, dy);
            T[]? dWeight = expected.Weight is null ? null : new T[norm.Parameters()], dBias = dWeight is null ? null : new T[norm.Parameters()];
            norm.Backward(norm.Whole(dy), norm.Whole(operands.X), norm.Statistics(operands), norm.Span(operands.Weight), norm.WholeResult(dy), norm.ParameterResult(dWeight), norm.ParameterResult(dBias));
            Assert.Equal(expected.Input!, dy);
            Assert.Equal(expected.Weight, dWeight);
            Assert.Equal(expected.Bias, dBias);
        }
    }

    [Fact]
    public void Derivatives_OfStridedTensors_HaveTheBitsOfTheirCopies()
    {
        var generator = new Generator(4);
        for (int round = 0; round < 60; round++)
        {
            NormCase norm = cases[round % cases.Length];
            Operands<T> operands = norm.Make<T>(generator);
            Tensor<T> x = Tensor.Create(operands.X, norm.Shape), dy = Tensor.Create(generator.Values<T>(norm.Count), norm.Shape), v = Tensor.Create(generator.Values<T>(norm.Count), norm.Shape);
            T[][] expected = Derivatives(norm.MakeLayer(operands), x, dy, v);
            T[][] actual = Derivatives(norm.MakeLayer(operands), Strided(x, generator), Strided(dy, generator), Strided(v, generator));
            for (int i = 0; i < expected.Length; i++)
                Assert.True(expected[i].AsSpan().SequenceEqual(actual[i]), $"{norm}: result {i}");
        }
    }

    private static T[][] Derivatives(NormLayer<T> layer, Tensor<T> x, Tensor<T> dy, Tensor<T> v)
    {
        layer.Forward(x, out ForwardPass<T> pass);
        Tensor<T> dx = layer.Backward(dy, pass);
        SecondOrderGradients<T> second = layer.DoubleBackward(dy, pass, v);
        return [Tensors.ToArray(dx), Tensors.ToArray(layer.Jvp(pass, v)), Tensors.ToArray(second.GradOutput), Tensors.ToArray(second.Input), .. layer.Parameters.Select(parameter => Tensors.ToArray(parameter.Grad))];
    }

    /// <summary>The values with the dimensions in any order in memory, and gaps between them.</summary>
    private static Tensor<T> Strided(Tensor<T> tensor, Generator generator)
    {
        var strides = new nint[tensor.Rank];
        nint next = 1 + generator.Below(3);
        foreach (int d in generator.Permutation(tensor.Rank))
        {
            strides[d] = next;
            next = next * tensor.Lengths[d] + generator.Below(3);
        }
        return Tensors.WithStrides(tensor, strides);
    }

    private static (NormLayer<T> Layer, Tensor<T> GradOutput, ForwardPass<T> Pass) Start(NormCase norm)
    {
        var generator = new Generator(5);
        Operands<T> operands = norm.Make<T>(generator);
        NormLayer<T> layer = norm.MakeLayer(operands);
        layer.Forward(Tensor.Create(operands.X, norm.Shape), out ForwardPass<T> pass);
        return (layer, Tensor.Create(generator.Values<T>(norm.Count), norm.Shape), pass);
    }
}

public sealed class FloatAccumulationTests : AccumulationTests<float>;

public sealed class DoubleAccumulationTests : AccumulationTests<double>;
