using System.Numerics;
using System.Numerics.Tensors;
using Xunit;

namespace NormLayers.Tests.Properties;

/// <summary>The windows that are not PyTorch's LocalResponseNorm: ONNX's, and CrossMapLRN2d's.</summary>
public abstract class WindowChoiceTests<T> where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private static readonly nint[] shape = [2, 7, 3, 5];

    [Fact]
    public void OnnxWindow_OfEverySize_IsPyTorchsWithTheChannelsReversed()
    {
        var generator = new Generator(17);
        T[] x = generator.Values<T>(210), dy = generator.Values<T>(210), v = generator.Values<T>(210);
        for (int size = 1; size <= 9; size++)
        {
            T[][] onnx = Run(new LocalResponseNorm<T>(size, 0.5, window: LrnWindow.Onnx), x, dy, v);
            T[][] reversed = Run(new LocalResponseNorm<T>(size, 0.5), Reversed(x), Reversed(dy), Reversed(v));
            T[] function = Tensors.ToArray(Functional.LocalResponseNorm(Tensor.Create(x, shape), size, 0.5, window: LrnWindow.Onnx));
            Assert.Equal(onnx[0], function);
            for (int i = 0; i < onnx.Length; i++)
                AssertClose(Reversed(reversed[i]), onnx[i], $"size {size} result {i}");
            if (size % 2 == 0)
                Assert.NotEqual(Tensors.ToArray(new LocalResponseNorm<T>(size, 0.5).Forward(Tensor.Create(x, shape))), onnx[0]);
        }
    }

    [Fact]
    public void OnnxWindow_OfSizeTwo_IsTheChannelAndTheOneAbove()
    {
        // Mean squares over {c, c + 1}: 25/2, 16/2, 0.
        Tensor<T> y = new LocalResponseNorm<T>(2, alpha: 1, beta: 1, k: 1, window: LrnWindow.Onnx).Forward(Tensor.Create([T.CreateChecked(3), T.CreateChecked(4), T.Zero], [1, 3, 1]));
        Assert.Equal([3 / 13.5, 4 / 9.0, 0], Tensors.ToArray(y).Select(double.CreateChecked), (a, b) => Math.Abs(a - b) < 1e-6);
    }

    [Fact]
    public void CrossMap_OfManyChannels_IsTheFormula()
    {
        var generator = new Generator(19);
        foreach ((int size, int channels, int run) in new[] { (1, 5, 7), (2, 5, 7), (3, 9, 20), (4, 9, 17), (5, 33, 300), (40, 9, 3), (7, 1, 5) })
        {
            T[] x = generator.Values<T>(2 * channels * run);
            nint[] lengths = [2, channels, 1, run];
            T[] y = Tensors.ToArray(new CrossMapLRN2d<T>(size, alpha: 0.5, beta: 0.75, k: 2).Forward(Tensor.Create(x, lengths)));
            T[] inPlace = [.. x];
            new CrossMapLRN2d<T>(size, alpha: 0.5, beta: 0.75, k: 2).Forward(new ReadOnlyTensorSpan<T>(inPlace, lengths), new TensorSpan<T>(inPlace, lengths));
            Assert.Equal(y, inPlace);
            var expected = new T[x.Length];
            for (int i = 0; i < x.Length; i++)
            {
                int c = i / run % channels, column = i - c * run, reach = (size - 1) / 2;
                double sum = 0;
                for (int j = Math.Max(0, c - reach); j <= Math.Min(channels - 1, c + reach); j++)
                    sum += Square(x[column + j * run]);
                if (c > reach)
                    sum += Square(x[column]);
                expected[i] = T.CreateTruncating(double.CreateTruncating(x[i]) / Math.Pow(2 + 0.5 / size * sum, 0.75));
            }
            AssertClose(expected, y, $"size {size} of {channels} channels");
        }

        static double Square(T value) => double.CreateTruncating(value) * double.CreateTruncating(value);
    }

    [Fact]
    public void CrossMap_OfWhatHasNoFiniteSquare_IsZeroAsPyTorchs()
    {
        if (typeof(T) == typeof(double))
            Assert.All(Tensors.ToArray(new CrossMapLRN2d<T>(3).Forward(Tensor.Create([T.CreateChecked(1e200), T.CreateChecked(1e200)], [1, 2, 1, 1]))), value => Assert.Equal(T.Zero, value));
    }

    [Fact]
    public void CrossMap_OfWhatItDoesNotTake_IsRefused()
    {
        Tensor<T> x = Tensor.Create(new T[8], [1, 2, 2, 2]);
        Assert.Throws<ArgumentOutOfRangeException>("size", () => new CrossMapLRN2d<T>(0).Forward(x));
        Assert.Contains("4 dimensions", Assert.Throws<ArgumentException>("input", () => new CrossMapLRN2d<T>(3).Forward(Tensor.Create(new T[8], [2, 2, 2]))).Message, StringComparison.Ordinal);
        var one = new CrossMapLRN2d<T>(1);
        one.Forward(x, out ForwardPass<T> pass);
        Assert.Throws<ArgumentOutOfRangeException>("size", () => one.Backward(x, pass));
        Assert.Throws<NotSupportedException>(() => one.Jvp(pass, x));
        Assert.Throws<NotSupportedException>(() => one.DoubleBackward(x, pass, x));
        new LayerNorm<T>(2).Forward(x, out ForwardPass<T> other);
        Assert.Throws<ArgumentException>("pass", () => new CrossMapLRN2d<T>(3).Backward(x, other));
    }

    private static T[][] Run(LocalResponseNorm<T> layer, T[] x, T[] dy, T[] v)
    {
        Tensor<T> y = layer.Forward(Tensor.Create(x, shape), out ForwardPass<T> pass), gradOutput = Tensor.Create(dy, shape), direction = Tensor.Create(v, shape);
        SecondOrderGradients<T> second = layer.DoubleBackward(gradOutput, pass, direction);
        return [Tensors.ToArray(y), Tensors.ToArray(layer.Backward(gradOutput, pass)), Tensors.ToArray(layer.Jvp(pass, direction)), Tensors.ToArray(second.GradOutput), Tensors.ToArray(second.Input)];
    }

    private static T[] Reversed(T[] values)
    {
        var result = new T[values.Length];
        for (int i = 0; i < values.Length; i++)
        {
            int run = 15, channel = i / run % 7;
            result[i] = values[i + (6 - 2 * channel) * run];
        }
        return result;
    }

    /// <summary>The order of a sum is turned over too: equal up to the rounding of what it is computed in.</summary>
    private static void AssertClose(T[] expected, T[] actual, string context)
    {
        double tolerance = typeof(T) == typeof(float) ? 5e-7 : 1e-14;
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++)
        {
            double distance = Math.Abs(double.CreateTruncating(expected[i]) - double.CreateTruncating(actual[i]));
            Assert.True(distance <= tolerance * (1 + Math.Abs(double.CreateTruncating(expected[i]))), $"{context} element {i}: {actual[i]}, expected {expected[i]}");
        }
    }
}

public sealed class FloatWindowChoiceTests : WindowChoiceTests<float>;

public sealed class DoubleWindowChoiceTests : WindowChoiceTests<double>;
