using System.Numerics;
using System.Numerics.Tensors;
using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests.Gradients;

/// <summary>Where the operands of a backward lie changes no bit, and nothing beside them is read or written.</summary>
public abstract unsafe class GradientMemoryTests<T> where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const int Longest = 67;

    [Fact]
    public void Gradients_AtEveryOffsetInMemory_HaveTheSameBits()
    {
        NormCase[] cases =
        [
            new("LayerNorm", 1, 4, 77) { Weight = true, Bias = true },
            new("LayerNorm", 2, 70, 2, 9),
            new("GroupNorm", 2, 3, 4, 37) { Weight = true, Bias = true },
            new("GroupNorm", 3, 2, 9) { Weight = true, Bias = true },
            new("LocalResponseNorm", 5, 2, 7, 37),
            new("LocalResponseNorm", 4, 1, 5, 301) { Alpha = 0.5, Beta = 0.6 },
        ];
        foreach (NormCase norm in cases)
        {
            var generator = new Generator(1);
            Operands<T> operands = norm.Make<T>(generator);
            T[] dy = generator.Values<T>(norm.Count);
            Gradients<T> expected = norm.Backward(operands, dy);
            GroupStatistics[] statistics = norm.Statistics(operands);
            for (int offset = 0; offset <= 16; offset++)
            {
                // Different offsets for each operand, so that none is aligned as another.
                int behind = 16 - offset, third = offset * 3 % 17, fifth = offset * 5 % 17;
                int parameters = norm.IsWindow ? 0 : norm.Parameters();
                T[] dx = new T[norm.Count + 16], dWeight = new T[parameters + 16], dBias = new T[parameters + 16];
                norm.Backward(new ReadOnlyTensorSpan<T>(Moved(dy, third), third, norm.Shape, []), new ReadOnlyTensorSpan<T>(Moved(operands.X, offset), offset, norm.Shape, []), statistics,
                    operands.Weight is null ? default : new ReadOnlyTensorSpan<T>(Moved(operands.Weight, fifth), fifth, norm.ParameterShape, []),
                    new TensorSpan<T>(dx, behind, norm.Shape, []), Result(dWeight, fifth), Result(dBias, offset));
                Assert.True(expected.Input!.AsSpan().SequenceEqual(dx.AsSpan(behind, norm.Count)), $"{norm} at offset {offset}");
                if (norm.IsWindow)
                    continue;
                Assert.True(expected.Weight!.AsSpan().SequenceEqual(dWeight.AsSpan(fifth, parameters)), $"{norm} weight at offset {offset}");
                Assert.True(expected.Bias!.AsSpan().SequenceEqual(dBias.AsSpan(offset, parameters)), $"{norm} bias at offset {offset}");
            }

            TensorSpan<T> Result(T[] memory, int start) => norm.IsWindow ? default : new TensorSpan<T>(memory, start, norm.ParameterShape, []);
        }

        static T[] Moved(T[] values, int offset) => [.. new T[offset], .. values];
    }

    [Fact]
    public void LayerNorm_AtGuardPages_StaysInside() => CheckGuarded(n => new NormCase("LayerNorm", 1, 3, n));

    [Fact]
    public void GroupNorm_AtGuardPages_StaysInside() => CheckGuarded(n => new NormCase("GroupNorm", 2, 2, 4, n));

    [Fact]
    public void GroupNorm_OfVectorsAtGuardPages_StaysInside() => CheckGuarded(n => new NormCase("GroupNorm", 2, 2, 2 * n));

    [Fact]
    public void LocalResponseNorm_AtGuardPages_StaysInside() => CheckGuarded(n => new NormCase("LocalResponseNorm", 4, 2, 6, n) { Beta = n % 2 == 0 ? 0.75 : 0.6 });

    private static void CheckGuarded(Func<int, NormCase> make)
    {
        if (!GuardedMemory.IsSupported)
            Assert.Skip("There are no guard pages on this system.");
        const int MostBytes = 2 * 6 * Longest * sizeof(double);
        using GuardedMemory input = new(MostBytes), gradient = new(MostBytes), tangent = new(MostBytes), output = new(MostBytes), second = new(MostBytes), weights = new(MostBytes), weightSums = new(MostBytes), biasSums = new(MostBytes);
        for (int n = 1; n <= Longest; n++)
        {
            NormCase norm = make(n) with { Weight = n % 3 != 0, Bias = true };
            norm = norm.IsWindow ? norm with { Weight = false, Bias = false } : norm;
            var generator = new Generator((ulong)n);
            Operands<T> operands = norm.Make<T>(generator);
            T[] values = generator.Values<T>(norm.Count), directions = generator.Values<T>(norm.Count);
            Gradients<T> expected = norm.Backward(operands, values);
            (T[] gradGradOutput, T[] gradInput, _) = norm.DoubleBackward(operands, values, directions);
            GroupStatistics[] statistics = norm.Statistics(operands);
            foreach (bool atEnd in (ReadOnlySpan<bool>)[true, false])
            {
                var x = new ReadOnlyTensorSpan<T>(input.Place<T>(operands.X, atEnd), norm.Count, norm.Shape);
                var dy = new TensorSpan<T>(gradient.Place<T>(values, atEnd), norm.Count, norm.Shape);
                var v = new ReadOnlyTensorSpan<T>(tangent.Place<T>(directions, atEnd), norm.Count, norm.Shape);
                T* result = output.Place<T>(norm.Count, atEnd), other = second.Place<T>(norm.Count, atEnd);
                TensorSpan<T> dx = new(result, norm.Count, norm.Shape), dx2 = new(other, norm.Count, norm.Shape);
                ReadOnlyTensorSpan<T> weight = operands.Weight is null ? default : new ReadOnlyTensorSpan<T>(weights.Place<T>(operands.Weight, atEnd), operands.Weight.Length, norm.ParameterShape);
                TensorSpan<T> dWeight = Zeros(weightSums, norm, atEnd), dBias = Zeros(biasSums, norm, atEnd);

                if (norm.Name == "LayerNorm")
                    Functional.LayerNormDoubleBackward(dy, x, norm.ParameterShape, statistics, weight, v, default, default, dx, dx2, dWeight);
                else if (norm.Name == "GroupNorm")
                    Functional.GroupNormDoubleBackward(dy, x, norm.Number, statistics, weight, v, default, default, dx, dx2, dWeight);
                else
                    Functional.LocalResponseNormDoubleBackward(dy, x, norm.Number, norm.Alpha, norm.Beta, norm.K, v, dx, dx2);
                Assert.Equal(gradGradOutput, new Span<T>(result, norm.Count));
                Assert.Equal(gradInput, new Span<T>(other, norm.Count));

                dWeight.Clear();
                norm.Backward(dy, x, statistics, weight, dx, dWeight, dBias);
                Assert.Equal(expected.Input!, new Span<T>(result, norm.Count));
                norm.Backward(dy, x, statistics, weight, dy, default, default);
                Assert.Equal(expected.Input!, new Span<T>(gradient.Place<T>(norm.Count, atEnd), norm.Count));
                if (norm.IsWindow)
                    continue;
                Assert.Equal(expected.Weight!, new Span<T>(weightSums.Place<T>(norm.Parameters(), atEnd), norm.Parameters()));
                Assert.Equal(expected.Bias!, new Span<T>(biasSums.Place<T>(norm.Parameters(), atEnd), norm.Parameters()));
            }
        }
    }

    private static TensorSpan<T> Zeros(GuardedMemory memory, NormCase norm, bool atEnd)
        => norm.IsWindow ? default : new TensorSpan<T>(memory.Place<T>(new T[norm.Parameters()], atEnd), norm.Parameters(), norm.ParameterShape);
}

public sealed class FloatGradientMemoryTests : GradientMemoryTests<float>;

public sealed class DoubleGradientMemoryTests : GradientMemoryTests<double>;
