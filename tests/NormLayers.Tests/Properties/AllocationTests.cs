using System.Diagnostics;
using System.Numerics;
using System.Numerics.Tensors;
using System.Reflection;
using Xunit;

namespace NormLayers.Tests.Properties;

/// <summary>The span forms allocate nothing once they have run.</summary>
public abstract class AllocationTests<T> where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    // Without optimization the runtime makes an object for each constant table that the power function opens.
    private static readonly bool isOptimized =
        typeof(Functional).Assembly.GetCustomAttribute<DebuggableAttribute>() is not { IsJITOptimizerDisabled: true };

    [Fact]
    public void Layers_OnDenseSpans_AllocateNothing()
    {
        foreach (nint[] shape in (nint[][])[[4, 6], [4, 6, 5], [2, 6, 5, 7], [2, 6, 3, 4, 5]])
        {
            Check(new NormCase("LayerNorm", 1, shape) { Weight = true, Bias = true });
            Check(new NormCase("LayerNorm", shape.Length - 1, shape) { Weight = true, Bias = true });
            Check(new NormCase("RMSNorm", 1, shape) { Weight = true });
            Check(new NormCase("GroupNorm", 3, shape) { Weight = true, Bias = true });
            if (shape.Length > 2)
            {
                Check(new NormCase("LocalResponseNorm", 3, shape));
                if (isOptimized)
                    Check(new NormCase("LocalResponseNorm", 3, shape) { Beta = 0.6 });
            }
        }
    }

    [Fact]
    public void LocalResponseNorm_WithARentedWindow_AllocatesNothing()
        => Check(new NormCase("LocalResponseNorm", 33, 1, 40, 300));

    [Fact]
    public void LayerNormBackward_OnDenseSpans_AllocatesNothing()
    {
        nint[] shape = [6, 50];
        T[] values = new Generator(1).Values<T>(300), result = new T[300], gradients = new T[100];
        var statistics = new GroupStatistics[6];
        long allocated = long.MaxValue;
        // As below: the runtime may allocate once, and the pool of scratch memory in the first round.
        for (int round = 0; round < 10 && allocated > 0; round++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int run = 0; run < 100; run++)
            {
                var x = new ReadOnlyTensorSpan<T>(values, shape);
                Functional.LayerNorm(x, [50], default, default, 1e-5, new TensorSpan<T>(result, shape), statistics);
                Functional.LayerNormBackward(x, x, [50], statistics, default, new TensorSpan<T>(result, shape),
                    new TensorSpan<T>(gradients.AsSpan(0, 50)), new TensorSpan<T>(gradients.AsSpan(50)));
            }
            allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        }
        Assert.True(allocated == 0, $"every 100 backwards allocated, the last {allocated} bytes");
    }

    private static void Check(NormCase norm)
    {
        Operands<T> operands = norm.Make<T>(new Generator(1));
        NormLayer<T> layer = norm.MakeLayer(operands);
        var x = new ReadOnlyTensorSpan<T>(operands.X, norm.Shape);
        var y = new TensorSpan<T>(new T[norm.Count], norm.Shape);
        ReadOnlyTensorSpan<T> weight = norm.Span(operands.Weight), bias = norm.Span(operands.Bias);
        long allocated = long.MaxValue;
        // The runtime allocates a little on any thread when it recompiles a method; a call that allocates does so in every round.
        for (int round = 0; round < 10 && allocated > 0; round++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int run = 0; run < 100; run++)
            {
                layer.Forward(x, y);
                norm.Apply(x, weight, bias, y);
            }
            allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        }
        Assert.True(allocated == 0, $"{norm}: every 200 calls allocated, the last {allocated} bytes");
    }
}

public sealed class FloatAllocationTests : AllocationTests<float>;

public sealed class DoubleAllocationTests : AllocationTests<double>;
