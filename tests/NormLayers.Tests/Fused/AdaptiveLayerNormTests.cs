using System.Numerics;
using System.Numerics.Tensors;
using NormLayers.Tests.Gradients;
using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests.Fused;

/// <summary>LayerNorm with each sample's scale and shift, against LayerNorm and three operations.</summary>
public sealed class AdaptiveLayerNormTests
{
    /// <summary>Samples, rows of a sample, and the length of a row; the last is streamed and summed in blocks.</summary>
    public static TheoryData<int, int, int> Shapes => new()
    {
        { 1, 1, 5 }, { 3, 1, 7 }, { 3, 21, 7 }, { 2, 5, 63 }, { 4, 1, 64 }, { 3, 6, 129 }, { 2, 40, 1000 }, { 2, 1, 70_001 }, { 3, 700, 1031 },
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public void AdaptiveLayerNorm_OfFloats_GivesTheBitsOfTheComposition(int samples, int rows, int length) => Check<float>(samples, rows, length);

    [Theory]
    [MemberData(nameof(Shapes))]
    public void AdaptiveLayerNorm_OfDoubles_GivesTheBitsOfTheComposition(int samples, int rows, int length) => Check<double>(samples, rows, length);

    [Fact]
    public void AdaptiveLayerNormBackward_InDouble_IsTheDerivative()
    {
        var generator = new Generator(6);
        nint[] shape = [2, 3, 5];
        double[] x = generator.Values<double>(30), scale = generator.Values<double>(10), shift = generator.Values<double>(10), dy = generator.Values<double>(30);
        double loss() => Differences.Dot(dy, Tensors.ToArray(Functional.AdaptiveLayerNorm(Tensor.Create(x, shape), [5], Tensor.Create(scale, [2, 5]), Tensor.Create(shift, [2, 5]))));
        var statistics = new GroupStatistics[6];
        double[] dx = new double[30], dscale = new double[10], dshift = new double[10];
        Functional.AdaptiveLayerNorm(Span(x, shape), [5], Span(scale, [2, 5]), Span(shift, [2, 5]), 1e-5, new TensorSpan<double>(dx, shape), statistics);
        Functional.AdaptiveLayerNormBackward(Span(dy, shape), Span(x, shape), [5], statistics, Span(scale, [2, 5]), new TensorSpan<double>(dx, shape), new TensorSpan<double>(dscale, [2, 5]), new TensorSpan<double>(dshift, [2, 5]));
        Differences.AssertClose(Differences.Of(x, loss), dx);
        Differences.AssertClose(Differences.Of(scale, loss), dscale);
        Differences.AssertClose(Differences.Of(shift, loss), dshift);
    }

    [Fact]
    public void AdaptiveLayerNorm_OverSeveralDimensionsOrStridedOperands_GivesTheBitsOfTheFlatOnes()
    {
        var generator = new Generator(7);
        float[] x = generator.Values<float>(120), scale = generator.Values<float>(40), shift = generator.Values<float>(40);
        float[] flat = Tensors.ToArray(Functional.AdaptiveLayerNorm(Tensor.Create(x, [2, 3, 20]), [20], Tensor.Create(scale, [2, 20]), Tensor.Create(shift, [2, 20])));
        Tensor<float> input = Tensor.Create(x, [2, 3, 4, 5]), s = Tensor.Create(scale, [2, 4, 5]), t = Tensor.Create(shift, [2, 4, 5]);
        Assert.Equal(flat, Tensors.ToArray(Functional.AdaptiveLayerNorm(input, [4, 5], s, t)));
        Assert.Equal(flat, Tensors.ToArray(Functional.AdaptiveLayerNorm(Tensors.WithStrides(input, [60, 1, 15, 3]), [4, 5], Tensors.WithStrides(s, [1, 2, 8]), Tensors.WithStrides(t, [30, 6, 1]))));
    }

    [Fact]
    public void AdaptiveLayerNorm_OfBadOperands_IsRefused()
    {
        static Tensor<float> Zeros(params nint[] shape) => Tensor.CreateFromShape<float>(shape);
        static string Refusal(Action call) => Assert.ThrowsAny<ArgumentException>(call).Message;
        Assert.Contains("Expected scale of shape [2, 5], the samples of the input and the normalized shape, got shape [5].", Refusal(() => Functional.AdaptiveLayerNorm(Zeros(2, 3, 5), [5], Zeros(5), Zeros(2, 5))));
        Assert.Contains("Expected shift of shape [2, 5], the samples of the input and the normalized shape, got shape [3, 5].", Refusal(() => Functional.AdaptiveLayerNorm(Zeros(2, 3, 5), [5], Zeros(2, 5), Zeros(3, 5))));
        Assert.Contains("Expected an input with a dimension of samples before the normalized shape [2, 5], got shape [2, 5].", Refusal(() => Functional.AdaptiveLayerNorm(Zeros(2, 5), [2, 5], Zeros(2, 5), Zeros(2, 5))));
        Assert.Contains("Expected gradScale of the scale's shape [2, 5], got shape [10].", Refusal(() => Functional.AdaptiveLayerNormBackward(Zeros(2, 3, 5).AsReadOnlyTensorSpan(), Zeros(2, 3, 5).AsReadOnlyTensorSpan(), [5], new GroupStatistics[6],
            Zeros(2, 5).AsReadOnlyTensorSpan(), default, Zeros(10).AsTensorSpan(), default)));
        Assert.Contains("Expected gradShift of the scale's shape [2, 5], got shape [10].", Refusal(() => Functional.AdaptiveLayerNormBackward(Zeros(2, 3, 5).AsReadOnlyTensorSpan(), Zeros(2, 3, 5).AsReadOnlyTensorSpan(), [5], new GroupStatistics[6],
            Zeros(2, 5).AsReadOnlyTensorSpan(), default, default, Zeros(10).AsTensorSpan())));
    }

    [Fact]
    public void AdaptiveLayerNorm_OfResultsOverOperands_IsRefused()
    {
        RefuseOverlaps<float>();
        RefuseOverlaps<Half>();
    }

    private static void RefuseOverlaps<T>() where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        // One memory: input at 0, scale at 16, shift at 24, results from 32 on; in the backward gradOutput lies where the shift does.
        T[] memory = [.. Enumerable.Range(1, 72).Select(T.CreateChecked)], before = [.. memory];
        Refused("destination", "The destination may not overlap the scale.", () => Forward(10));
        Refused("destination", "The destination may not overlap the", () => Forward(26));
        Refused("gradInput", "The gradInput may not overlap the scale.", () => Backward(10, 48, 56));
        Refused("gradScale", "The gradScale may not overlap the scale.", () => Backward(32, 16, 56));
        Refused("gradShift", "The gradShift may not overlap the scale.", () => Backward(32, 48, 19));

        TensorSpan<T> At(int start, params nint[] shape) => new(memory, start, shape, []);
        void Forward(int destination) => Functional.AdaptiveLayerNorm(At(0, 2, 2, 2), [2], At(16, 2, 2), At(24, 2, 2), 1e-5, At(destination, 2, 2, 2));
        void Backward(int gradInput, int gradScale, int gradShift)
            => Functional.AdaptiveLayerNormBackward(At(24, 2, 2, 2), At(0, 2, 2, 2), [2], new GroupStatistics[4], At(16, 2, 2), At(gradInput, 2, 2, 2), At(gradScale, 2, 2), At(gradShift, 2, 2));
        void Refused(string parameter, string message, Action call)
        {
            Assert.Contains(message, Assert.Throws<ArgumentException>(parameter, call).Message, StringComparison.Ordinal);
            Assert.Equal(before, memory);
        }
    }

    private static void Check<T>(int samples, int rows, int length) where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var generator = new Generator((ulong)(samples + rows + length));
        nint[] shape = [samples, rows, length], parameters = [samples, length];
        int sample = rows * length;
        T[] x = generator.Values<T>(samples * sample), scale = generator.Values<T>(samples * length), shift = generator.Values<T>(samples * length), dy = generator.Values<T>(x.Length);
        T[] y = new T[x.Length], dx = new T[x.Length], dscale = new T[scale.Length], dshift = new T[scale.Length];
        var statistics = new GroupStatistics[samples * rows];
        Functional.LayerNorm(Span(x, shape), [length], default, default, 1e-6, new TensorSpan<T>(y, shape), statistics);
        for (int i = 0; i < y.Length; i++)
        {
            int parameter = i / sample * length + i % length;
            y[i] = y[i] * (T.One + scale[parameter]) + shift[parameter];
        }
        T[] weight = [.. scale.Select(value => T.One + value)];
        for (int n = 0; n < samples; n++)
        {
            // A sample by itself: its gradients must not depend on its batch.
            Functional.LayerNormBackward(new ReadOnlyTensorSpan<T>(dy.AsSpan(n * sample, sample), [rows, length]), new ReadOnlyTensorSpan<T>(x.AsSpan(n * sample, sample), [rows, length]), [length], statistics.AsSpan(n * rows, rows),
                new ReadOnlyTensorSpan<T>(weight.AsSpan(n * length, length)), new TensorSpan<T>(dx.AsSpan(n * sample, sample), [rows, length]), new TensorSpan<T>(dscale.AsSpan(n * length, length)), new TensorSpan<T>(dshift.AsSpan(n * length, length)));
        }
        for (int threads = 1; threads <= 2; threads++)
        {
            T[] actual = new T[x.Length], inPlace = [.. x];
            var actualStatistics = new GroupStatistics[statistics.Length];
            Functional.AdaptiveLayerNorm(Span(x, shape), [length], Span(scale, parameters), Span(shift, parameters), 1e-6, new TensorSpan<T>(actual, shape), actualStatistics, threads);
            Functional.AdaptiveLayerNorm(Span(inPlace, shape), [length], Span(scale, parameters), Span(shift, parameters), 1e-6, new TensorSpan<T>(inPlace, shape), maxThreads: threads);
            Assert.Equal(StoredBits.Hash(y), StoredBits.Hash(actual));
            Assert.Equal(StoredBits.Hash(y), StoredBits.Hash(inPlace));

            T[] actualDx = new T[x.Length], actualScale = new T[scale.Length], actualShift = new T[scale.Length];
            Functional.AdaptiveLayerNormBackward(Span(dy, shape), Span(x, shape), [length], actualStatistics, Span(scale, parameters), new TensorSpan<T>(actualDx, shape), new TensorSpan<T>(actualScale, parameters), new TensorSpan<T>(actualShift, parameters), threads);
            Assert.Equal(StoredBits.Hash(dx, dscale, dshift), StoredBits.Hash(actualDx, actualScale, actualShift));
        }
    }

    private static ReadOnlyTensorSpan<T> Span<T>(T[] values, nint[] shape) => new(values, shape);
}
