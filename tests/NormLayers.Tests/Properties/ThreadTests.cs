using System.Numerics.Tensors;
using NormLayers.Internals;
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

/// <summary>Work that throws, as it does where there is no memory for its scratch.</summary>
public sealed unsafe class PartitionTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Run_OfWorkThatThrowsOnOneThread_ThrowsWhenTheOthersAreDone(bool onCaller)
    {
        var state = new Shared { Caller = Environment.CurrentManagedThreadId, OnCaller = onCaller };
        string? message = null;
        try
        {
            Partition.Run(2, 2, &Work, &state);
        }
        catch (InvalidOperationException exception)
        {
            message = exception.Message;
        }
        Assert.Equal("no memory", message);
        Assert.Equal((2, 0), (state.Begun, state.Running));

        // The pool and the items that were used are as good as before.
        nint sum = 0;
        for (int i = 0; i < 100; i++)
            Partition.Run(8, 2, &Add, &sum);
        Assert.Equal(800, sum);
    }

    [Fact]
    public void Run_OnMoreThreadsThanItHasItems_DoesAllOfTheWork()
    {
        nint sum = 0;
        Partition.Run(1000, 200, &Add, &sum);
        Assert.Equal(1000, sum);
        Assert.Equal((1, 3, 200), (Partition.Threads(1, 3), Partition.Threads(nint.MaxValue, 3), Partition.Threads(nint.MaxValue, 200)));
    }

    private struct Shared
    {
        internal int Caller, Begun, Running;
        internal bool OnCaller;
    }

    private static void Work(void* state, nint start, nint end)
    {
        ref Shared shared = ref *(Shared*)state;
        Interlocked.Increment(ref shared.Running);
        Interlocked.Increment(ref shared.Begun);
        var clock = System.Diagnostics.Stopwatch.StartNew();
        while (Volatile.Read(ref shared.Begun) < 2 && clock.Elapsed.TotalSeconds < 30)
            Thread.Yield();
        bool throws = Environment.CurrentManagedThreadId == shared.Caller == shared.OnCaller;
        if (!throws)
            Thread.Sleep(50);
        Interlocked.Decrement(ref shared.Running);
        if (throws)
            throw new InvalidOperationException("no memory");
    }

    private static void Add(void* state, nint start, nint end) => Interlocked.Add(ref *(long*)state, end - start);
}
