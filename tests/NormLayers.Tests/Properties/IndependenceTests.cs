using System.Numerics.Tensors;
using Xunit;

namespace NormLayers.Tests.Properties;

/// <summary>What a result may not depend on: its place in memory, the batch around it, the thread and the run.</summary>
public abstract class IndependenceTests<T> where T : unmanaged
{
    private static readonly NormCase[] cases =
    [
        new("LayerNorm", 1, 4, 77) { Weight = true, Bias = true },
        new("LayerNorm", 2, 3, 5, 29),
        new("LayerNorm", 1, 2, 5003) { Weight = true, Bias = true },
        new("RMSNorm", 1, 4, 77) { Weight = true },
        new("RMSNorm", 1, 2, 5003) { Weight = true },
        new("GroupNorm", 2, 3, 4, 37) { Weight = true, Bias = true },
        new("GroupNorm", 3, 2, 9) { Weight = true, Bias = true },
        new("GroupNorm", 2, 2, 6, 1009),
        new("LocalResponseNorm", 5, 2, 7, 37),
        new("LocalResponseNorm", 4, 2, 5, 301) { Alpha = 0.5, Beta = 0.6 },
    ];

    [Fact]
    public void Output_AtEveryOffsetInMemory_HasTheSameBits()
    {
        foreach (NormCase norm in cases)
        {
            Operands<T> operands = norm.Make<T>(new Generator(1));
            T[] expected = norm.Apply(operands);
            for (int offset = 0; offset <= 16; offset++)
            {
                T[] x = [.. new T[offset], .. operands.X], y = new T[norm.Count + 16];
                // Different offsets for each operand, so that none is aligned as another.
                int behind = 16 - offset;
                norm.Apply(new ReadOnlyTensorSpan<T>(x, offset, norm.Shape, []), Moved(norm, operands.Weight, offset * 3 % 17),
                    Moved(norm, operands.Bias, offset * 5 % 17), new TensorSpan<T>(y, behind, norm.Shape, []));
                Assert.True(expected.AsSpan().SequenceEqual(y.AsSpan(behind, norm.Count)), $"{norm} at offset {offset}");
            }
        }
    }

    [Fact]
    public void Output_OfASampleInEveryBatch_HasTheSameBits()
    {
        foreach (NormCase norm in cases)
        {
            NormCase alone = norm with { Shape = [1, .. norm.Shape.AsSpan(1)] };
            Operands<T> sample = alone.Make<T>(new Generator(2));
            T[] expected = alone.Apply(sample);
            foreach (int batch in (ReadOnlySpan<int>)[2, 5, 64])
            {
                foreach (int position in (ReadOnlySpan<int>)[0, batch / 2, batch - 1])
                {
                    NormCase together = norm with { Shape = [batch, .. norm.Shape.AsSpan(1)] };
                    T[] x = new Generator(3).Values<T>(together.Count);
                    sample.X.CopyTo(x, position * alone.Count);
                    T[] actual = together.Apply(sample with { X = x });
                    Assert.True(expected.AsSpan().SequenceEqual(actual.AsSpan(position * alone.Count, alone.Count)), $"{norm}: {position} of {batch}");
                }
            }
        }
    }

    [Fact]
    public void Layer_CalledByManyThreads_GivesTheSameBits()
    {
        foreach (NormCase norm in cases)
        {
            Operands<T> operands = norm.Make<T>(new Generator(4));
            NormLayer<T> layer = norm.MakeLayer(operands);
            Tensor<T>[] inputs = [.. Enumerable.Range(0, 4).Select(i => Tensor.Create(i == 0 ? operands.X : new Generator((ulong)i).Values<T>(norm.Count), norm.Shape))];
            T[][] expected = Array.ConvertAll(inputs, input => Tensors.ToArray(layer.Forward(input)));
            Assert.Equal(norm.Apply(operands), expected[0]);

            var wrong = new bool[8];
            Thread[] threads = [.. Enumerable.Range(0, wrong.Length).Select(t => new Thread(() =>
            {
                for (int round = 0; round < 12; round++)
                    wrong[t] |= !expected[(t + round) % 4].AsSpan().SequenceEqual(Tensors.ToArray(layer.Forward(inputs[(t + round) % 4])));
            }))];
            Array.ForEach(threads, thread => thread.Start());
            Array.ForEach(threads, thread => thread.Join());
            Assert.True(!wrong.Contains(true), norm.ToString());
        }
    }

    [Fact]
    public void Output_OfEveryRun_HasTheSameBits()
    {
        // More runs than the 30 after which the runtime compiles a method anew.
        foreach (NormCase norm in cases)
        {
            Operands<T> operands = norm.Make<T>(new Generator(5));
            T[] expected = norm.Apply(operands);
            for (int run = 0; run < 100; run++)
                Assert.True(expected.AsSpan().SequenceEqual(norm.Apply(operands)), $"{norm}: run {run}");
        }
    }

    private static ReadOnlyTensorSpan<T> Moved(NormCase norm, T[]? values, int offset)
        => values is null ? default : new ReadOnlyTensorSpan<T>(new T[offset].Concat(values).ToArray(), offset, norm.ParameterShape, []);
}

public sealed class FloatIndependenceTests : IndependenceTests<float>;

public sealed class DoubleIndependenceTests : IndependenceTests<double>;

public sealed class HalfIndependenceTests : IndependenceTests<Half>;

public sealed class BFloat16IndependenceTests : IndependenceTests<BFloat16>;
