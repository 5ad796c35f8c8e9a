using System.Numerics.Tensors;
using NormLayers.Tests.Golden;
using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests;

/// <summary>Layers of float on inputs of 16 bits.</summary>
public abstract class MixedPrecisionTests<T> where T : unmanaged
{
    private static readonly (string Text, nint[] Shape)[] cases =
    [
        ("LayerNorm(77)", [5, 77]),
        ("LayerNorm((3, 29), bias=False)", [4, 3, 29]),
        ("LayerNorm(5003)", [3, 5003]),
        ("GroupNorm(3, 6)", [2, 6, 41]),
        ("GroupNorm(2, 4)", [2, 4, 67, 61]),
        ("GroupNorm(2, 4, affine=False)", [3, 4, 5]),
        ("LocalResponseNorm(3)", [2, 5, 37]),
        ("RMSNorm(77)", [5, 77]),
        ("InstanceNorm2d(4, affine=True)", [3, 4, 7, 9]),
        ("BatchNorm1d(6)", [5, 6, 11]),
        ("LayerNorm(20011)", [3, 20011]),
        ("GroupNorm(2, 6)", [2, 6, 83, 89]),
        ("LayerNorm(128)", [9, 128]),
        ("RMSNorm(192)", [11, 192]),
    ];

    [Fact]
    public void Forward_OfSixteenBits_IsTheFloatResultRoundedOnce()
    {
        foreach ((string text, nint[] shape) in cases)
        {
            (NormLayer<float> layer, Tensor<T> x, Tensor<float> floats) = Make(text, shape);
            Tensor<T> y = layer.Forward(x);
            Assert.True(y.Lengths.SequenceEqual(shape));
            float[] expected = Tensors.ToArray(layer.Forward(floats));
            AssertRounded(expected, y, text);

            Tensor<T> trained = layer.Forward(x, out ForwardPass<T> pass);
            Assert.Equal(Tensors.ToArray(y), Tensors.ToArray(trained));
            Assert.Same(x, pass.Kept);

            var place = new TensorSpan<T>(Tensors.ToArray(x), shape);
            layer.Forward(place.AsReadOnlyTensorSpan(), place);
            var inPlace = new T[x.FlattenedLength];
            place.FlattenTo(inPlace);
            Assert.Equal(Tensors.ToArray(y), inPlace);
        }
    }

    [Fact]
    public void Forward_OfALazyLayer_GivesItItsChannels()
    {
        var layer = new LazyBatchNorm1d<float>();
        layer.Forward(Tensor.Create(new Generator(1).Values<T>(12), [4, 3]));
        Assert.Equal(3, layer.NumFeatures);
    }

    [Fact]
    public void Statistics_OfAnotherNumber_AreRefused()
    {
        Tensor<T> x = Tensor.Create(new Generator(1).Values<T>(24), [2, 4, 3]), y = Tensor.CreateFromShape<T>([2, 4, 3]);
        Tensor<float> three = Tensor.Create([1f, 2, 3]), four = Tensor.Create([1f, 2, 3, 4]);
        foreach (int number in new[] { 0, 1, 9 })
        {
            Assert.Throws<ArgumentException>("statistics", () => Functional.LayerNorm(x.AsReadOnlyTensorSpan(), [3], three.AsReadOnlyTensorSpan(), default, 1e-5, y.AsTensorSpan(), new GroupStatistics[number]));
            Assert.Throws<ArgumentException>("statistics", () => Functional.RMSNorm(x.AsReadOnlyTensorSpan(), [3], three.AsReadOnlyTensorSpan(), 1e-5, y.AsTensorSpan(), new GroupStatistics[number]));
            Assert.Throws<ArgumentException>("statistics", () => Functional.GroupNorm(x.AsReadOnlyTensorSpan(), 2, four.AsReadOnlyTensorSpan(), default, 1e-5, y.AsTensorSpan(), new GroupStatistics[number]));
        }
    }

    [Fact]
    public void Backward_OfSixteenBits_HasTheFloatGradientsOfTheParameters()
    {
        foreach ((string text, nint[] shape) in cases)
        {
            (NormLayer<float> layer, Tensor<T> x, Tensor<float> floats) = Make(text, shape);
            T[] dy = new Generator(2).Values<T>((int)x.FlattenedLength);
            Tensor<float> floatDy = Tensor.Create(Array.ConvertAll(dy, value => (float)Numbers.ToDouble(value)), shape);
            layer.Forward(x, out ForwardPass<T> pass);
            layer.Forward(floats, out ForwardPass<float> floatPass);

            Tensor<T> dx = layer.Backward(Tensor.Create(dy, shape), pass);
            float[][] gradients = [.. layer.Parameters.Select(parameter => Tensors.ToArray(parameter.Grad))];
            layer.ZeroGrad();
            float[] expected = Tensors.ToArray(layer.Backward(floatDy, floatPass));

            AssertRounded(expected, dx, text);
            for (int p = 0; p < gradients.Length; p++)
                AssertSame(Tensors.ToArray(layer.Parameters[p].Grad), gradients[p], $"{text} {layer.Parameters[p].Name}");
        }
    }

    /// <summary>Rows whose parameters are brought into another order; the odd ones are done in double, from there.</summary>
    [Fact]
    public void Forward_OfRowsBesideOnesOutOfRange_HasTheirBits()
    {
        (NormLayer<float> layer, Tensor<T> x, _) = Make("LayerNorm(128)", [9, 128]);
        T[] expected = Tensors.ToArray(layer.Forward(x)), values = Tensors.ToArray(x);
        values[4 * 128 + 3] = Numbers.FromDouble<T>(double.NaN);
        values[6 * 128 + 70] = Numbers.FromDouble<T>(double.NegativeInfinity);
        values.AsSpan(7 * 128, 128).Clear();
        // Normalized in double too, but finite: only a BFloat16 can be so large.
        double scale = typeof(T) == typeof(BFloat16) ? Math.ScaleB(1, 80) : 1;
        for (int i = 2 * 128; i < 3 * 128; i++)
            values[i] = Numbers.FromDouble<T>(Numbers.ToDouble(values[i]) * scale);
        T[] actual = Tensors.ToArray(layer.Forward(Tensor.Create(values, [9, 128]))), bias = [.. Tensors.ToArray(layer.Parameters[1].Value).Select(value => Numbers.FromDouble<T>(value))];
        for (int row = 0; row < 9; row++)
        {
            T[] found = actual[(row * 128)..((row + 1) * 128)];
            if (row == 2)
            {
                double[] wide = Array.ConvertAll(values[(2 * 128)..(3 * 128)], Numbers.ToDouble);
                Tensor<double>[] parameters = [.. layer.Parameters.Select(parameter => Tensor.Create(Array.ConvertAll(Tensors.ToArray(parameter.Value), value => (double)value), [128]))];
                double[] exact = Tensors.ToArray(Functional.LayerNorm(Tensor.Create(wide, [1, 128]), [128], parameters[0], parameters[1]));
                AssertRounded(Array.ConvertAll(exact, value => (float)value), Tensor.Create(found, [1, 128]), "the large row");
            }
            else if (row is 4 or 6)
                Assert.All(found, value => Assert.True(double.IsNaN(Numbers.ToDouble(value))));
            else
                Assert.Equal(row == 7 ? bias : expected[(row * 128)..((row + 1) * 128)], found);
        }
    }

    /// <summary>From 8 MB on a result is streamed, which asks for alignment.</summary>
    [Fact]
    public void Forward_StreamedToEveryAlignment_HasTheSameBits()
    {
        foreach ((int rows, int length) in new[] { (33_000, 128), (61, 70_001), (4200, 1001) })
        {
            T[] x = new Generator(9).Values<T>(rows * length);
            T[]? expected = null;
            foreach (int offset in new[] { 0, 1, 8, 15, 16, 31 })
            {
                var memory = new T[x.Length + 32];
                Functional.LayerNorm(new ReadOnlyTensorSpan<T>(x, [rows, length]), [length], default, default, 1e-5, new TensorSpan<T>(memory.AsSpan(offset, x.Length), [rows, length]));
                expected ??= memory[..x.Length];
                Assert.True(expected.AsSpan().SequenceEqual(memory.AsSpan(offset, x.Length)), $"rows of {length} at offset {offset}");
                Assert.True(memory.AsSpan(offset + x.Length).IndexOfAnyExcept(default(T)) < 0);
            }
        }
    }

    [Fact]
    public void Backward_FromTheOutput_RecoversTheInput()
    {
        (NormLayer<float> layer, Tensor<T> x, _) = Make("GroupNorm(3, 6)", [2, 6, 41]);
        foreach (Parameter<float> parameter in layer.Parameters)
            parameter.Value.Fill(parameter.Name == "weight" ? 2 : 0.5f);
        Tensor<T> dy = Tensor.Create(new Generator(3).Values<T>(2 * 6 * 41), [2, 6, 41]);
        layer.Forward(x, out ForwardPass<T> fromInput);
        layer.Forward(x, out ForwardPass<T> fromOutput, PassMemory.Output);
        double[] expected = Numbers.ToDoubles(Tensors.ToArray(layer.Backward(dy, fromInput))), actual = Numbers.ToDoubles(Tensors.ToArray(layer.Backward(dy, fromOutput)));
        double tolerance = (typeof(T) == typeof(Half) ? 0.004 : 0.03) * expected.Max(Math.Abs);
        for (int i = 0; i < expected.Length; i++)
            Assert.Equal(expected[i], actual[i], tolerance);

        layer.Parameters[1].Value.Fill(9);
        Assert.Contains("bias of 9", Assert.Throws<InvalidOperationException>(() => layer.Forward(x, out ForwardPass<T> _, PassMemory.Output)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Functional_WithParametersOfFloat_GivesTheLayersBits()
    {
        (NormLayer<float> layer, Tensor<T> x, _) = Make("LayerNorm(77)", [5, 77]);
        var norm = (LayerNorm<float>)layer;
        T[] expected = Tensors.ToArray(layer.Forward(x));
        Assert.Equal(expected, Tensors.ToArray(Functional.LayerNorm(x, [77], norm.Weight!.Value, norm.Bias!.Value)));

        (NormLayer<float> groups, Tensor<T> gx, _) = Make("GroupNorm(3, 6)", [2, 6, 41]);
        var group = (GroupNorm<float>)groups;
        Tensor<T> dy = Tensor.Create(new Generator(3).Values<T>(2 * 6 * 41), [2, 6, 41]), dx = Tensor.CreateFromShape<T>([2, 6, 41]), y = Tensor.CreateFromShape<T>([2, 6, 41]);
        var statistics = new GroupStatistics[6];
        Tensor<float> gradWeight = Tensor.CreateFromShape<float>([6]), gradBias = Tensor.CreateFromShape<float>([6]);
        Functional.GroupNorm(gx.AsReadOnlyTensorSpan(), 3, group.Weight!.Value.AsReadOnlyTensorSpan(), group.Bias!.Value.AsReadOnlyTensorSpan(), 1e-5, y.AsTensorSpan(), statistics);
        Functional.GroupNormBackward(dy.AsReadOnlyTensorSpan(), gx.AsReadOnlyTensorSpan(), 3, statistics, group.Weight.Value.AsReadOnlyTensorSpan(), dx.AsTensorSpan(), gradWeight.AsTensorSpan(), gradBias.AsTensorSpan());
        Assert.Equal(Tensors.ToArray(groups.Forward(gx, out ForwardPass<T> pass)), Tensors.ToArray(y));
        Assert.Equal(Tensors.ToArray(groups.Backward(dy, pass)), Tensors.ToArray(dx));
        Assert.Equal(Tensors.ToArray(group.Weight.Grad), Tensors.ToArray(gradWeight));
        Assert.Equal(Tensors.ToArray(group.Bias.Grad), Tensors.ToArray(gradBias));
    }

    [Fact]
    public void Forward_OfFloatLayerOnDouble_IsRefused()
    {
        NotSupportedException refusal = Assert.Throws<NotSupportedException>(() => new LayerNorm<float>(3).Forward(Tensor.CreateFromShape<double>([2, 3])));
        Assert.Contains("LayerNorm is not implemented for elements of type Double with parameters of type Single", refusal.Message, StringComparison.Ordinal);
    }

    /// <summary>A layer with random parameters, an input, and the same input in float.</summary>
    private static (NormLayer<float> Layer, Tensor<T> X, Tensor<float> Floats) Make(string text, nint[] shape)
    {
        var generator = new Generator(1);
        NormLayer<float> layer = NormLayer.Parse(text);
        foreach (Parameter<float> parameter in layer.Parameters)
            Tensor.Create(generator.Values<float>((int)parameter.Value.FlattenedLength), parameter.Value.Lengths).CopyTo(parameter.Value);
        T[] x = generator.Values<T>((int)NormCase.Product(shape), offset: 1);
        return (layer, Tensor.Create(x, shape), Tensor.Create(Array.ConvertAll(x, value => (float)Numbers.ToDouble(value)), shape));
    }

    /// <summary>Within 0.51 ulp of the float result, at 1 for those that cancel: long groups take other sums than in float.</summary>
    private static void AssertRounded(float[] expected, Tensor<T> actual, string context)
    {
        T[] values = Tensors.ToArray(actual);
        for (int i = 0; i < expected.Length; i++)
            Assert.True(Ulp.Distance<T>(Numbers.ToDouble(values[i]), expected[i], Math.Max(1, Math.Abs(expected[i]))) <= 0.51, $"{context} {i}: {values[i]}, expected {expected[i]:R}");
    }

    /// <summary>Equal but for the order of sums in groups that are staged in pieces.</summary>
    private static void AssertSame(float[] expected, float[] actual, string context)
    {
        double scale = expected.Max(Math.Abs);
        for (int i = 0; i < expected.Length; i++)
            Assert.True(Math.Abs(expected[i] - actual[i]) <= 1e-6 * scale, $"{context} {i}: {actual[i]:R}, expected {expected[i]:R}");
    }
}

public sealed class HalfMixedPrecisionTests : MixedPrecisionTests<Half>;

public sealed class BFloat16MixedPrecisionTests : MixedPrecisionTests<BFloat16>;
