using System.Numerics.Tensors;
using Xunit;

namespace NormLayers.Tests.Properties;

/// <summary>Inputs large enough to be shared among threads: any number of threads gives the bits of one.</summary>
public abstract class ThreadTests<T> where T : unmanaged
{
    [Theory]
    [InlineData("LayerNorm(300)", 1000, 300)]
    [InlineData("LayerNorm(17)", 20011, 17)]
    [InlineData("LayerNorm(400003)", 1, 400003)] // one row for all threads
    [InlineData("LayerNorm(150001)", 3, 150001)]
    [InlineData("LayerNorm(33003)", 37, 33003)] // rows written block by block, 32 at once
    [InlineData("RMSNorm(300, eps=1e-6)", 1000, 300)]
    [InlineData("RMSNorm(400003, eps=1e-6)", 1, 400003)]
    [InlineData("GroupNorm(32, 64)", 1, 64, 73, 73)]
    [InlineData("GroupNorm(1, 6)", 1, 6, 251, 241)] // one group, whose channels end inside the threads' parts
    [InlineData("GroupNorm(1, 4)", 1, 4, 800, 800)] // 10 MB, streamed
    [InlineData("GroupNorm(3, 6)", 40, 6, 41, 43)]
    [InlineData("LocalResponseNorm(5)", 3, 40, 53, 59)]
    [InlineData("LocalResponseNorm(4, alpha=0.5, beta=0.6)", 2, 20, 5000)]
    public void Results_OnAnyNumberOfThreads_AreTheSameBits(string text, params int[] lengths)
    {
        nint[] shape = [.. lengths.Select(length => (nint)length)];
        int count = lengths.Aggregate(1, (product, length) => product * length);
        var generator = new Generator(7);
        Tensor<T> x = Tensor.Create(generator.Values<T>(count), shape), dy = Tensor.Create(generator.Values<T>(count), shape);
        T[][] expected = Run(text, x, dy, threads: 1);
        foreach (int threads in (int[])[2, 3, 7, 0])
        {
            T[][] actual = Run(text, x, dy, threads);
            for (int i = 0; i < expected.Length; i++)
                Assert.True(expected[i].AsSpan().SequenceEqual(actual[i]), $"{text} result {i} differs on {threads} threads");
        }
    }

    [Fact]
    public void MaxThreads_OfNegativeNumber_IsRefused()
        => Assert.Throws<ArgumentOutOfRangeException>(() => new LayerNorm<T>(3).MaxThreads = -1);

    /// <summary>The output, the input's gradient and the parameters' gradients.</summary>
    private static T[][] Run(string text, Tensor<T> x, Tensor<T> dy, int threads)
    {
        NormLayer<T> layer = NormLayer.Parse<T>(text);
        layer.MaxThreads = threads;
        Tensor<T> y = layer.Forward(x, out ForwardPass<T> pass);
        Tensor<T> dx = layer.Backward(dy, pass);
        return [Tensors.ToArray(y), Tensors.ToArray(layer.Forward(x)), Tensors.ToArray(dx), .. layer.Parameters.Select(parameter => Tensors.ToArray(parameter.Grad))];
    }
}

public sealed class FloatThreadTests : ThreadTests<float>;

public sealed class DoubleThreadTests : ThreadTests<double>;

public sealed class HalfThreadTests : ThreadTests<Half>;

public sealed class BFloat16ThreadTests : ThreadTests<BFloat16>;
