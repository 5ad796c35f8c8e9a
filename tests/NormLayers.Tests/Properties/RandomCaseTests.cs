using System.Globalization;
using System.Numerics;
using System.Numerics.Tensors;
using Xunit;

namespace NormLayers.Tests.Properties;

/// <summary>
/// Random layers, shapes, strides and values against the formula. The seed is fixed so that a run is repeatable; the
/// environment variable NORMLAYERS_SEED sets another.
/// </summary>
public abstract class RandomCaseTests<T> where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const int Cases = 500;

    private static readonly ulong seed =
        ulong.TryParse(Environment.GetEnvironmentVariable("NORMLAYERS_SEED"), CultureInfo.InvariantCulture, out ulong given) ? given : 20260101;

    [Fact]
    public void Output_OfAnyCase_IsWithinBound()
    {
        for (ulong i = 0; i < Cases; i++)
        {
            // Each case has its own seed, so that a failing one can be looked at alone.
            var generator = new Generator(seed + i);
            NormCase norm = AnyCase(generator);
            double scale = Math.Pow(10, generator.Below(9) - 4), offset = generator.Pick(0.0, 0, 1, -100, 12345, 1e6);
            Operands<T> operands = norm.Make<T>(generator, scale, offset);
            Tensor<T> input = Strided(operands.X, norm.Shape, generator);
            Tensor<T>? weight = operands.Weight is { } w ? Strided(w, norm.ParameterShape, generator) : null;
            Tensor<T>? bias = operands.Bias is { } b ? Strided(b, norm.ParameterShape, generator) : null;
            string context = $"(NORMLAYERS_SEED={seed}, case {i}: scale {scale}, offset {offset}, strides [{string.Join(", ", input.Strides.ToArray())}])";
            T[] output;
            try
            {
                output = norm.Apply(input, weight, bias);
            }
            catch (Exception exception)
            {
                throw new InvalidOperationException($"{norm} {context} threw", exception);
            }
            norm.AssertNear(operands, output, context);
        }
    }

    private static NormCase AnyCase(Generator generator)
    {
        string name = generator.Pick("LayerNorm", "RMSNorm", "GroupNorm", "LocalResponseNorm");
        int least = name == "LocalResponseNorm" ? 3 : 2, rank = least + generator.Below(7 - least);
        var shape = new nint[rank];
        for (int d = 0; d < rank; d++)
            shape[d] = generator.Below(20) == 0 ? 0 : generator.Below(4) == 0 ? 1 : 1 + generator.Below(rank < 4 ? 40 : 7);
        int number = 1 + generator.Below(name is "LayerNorm" or "RMSNorm" ? rank : 12);
        if (name == "GroupNorm")
        {
            number = 1 + generator.Below(5);
            shape[1] = number * generator.Below(6);
            // One sample with one value per group is refused; two such samples are not.
            if (shape[0] == 1)
                shape[0] = 2;
        }
        return new NormCase(name, number, shape)
        {
            Weight = generator.Flip(),
            Bias = generator.Flip() && name != "RMSNorm",
            Eps = generator.Pick(1e-5, 1e-3, 0.1),
            Alpha = generator.Pick(1e-4, 0.1, 1, 3),
            Beta = generator.Pick(0.75, 0.75, 0.5, 1, 0.25, 1.5, 0.6, 2.3),
            K = generator.Pick(1.0, 1, 2, 0.5),
        };
    }

    private static Tensor<T> Strided(T[] values, nint[] shape, Generator generator)
    {
        var strides = new nint[shape.Length];
        int[] order = generator.Flip() ? [.. Enumerable.Range(0, shape.Length).Reverse()] : generator.Permutation(shape.Length);
        int gap = generator.Below(2);
        nint next = 1 + gap;
        foreach (int d in order)
        {
            strides[d] = next;
            next = next * Math.Max(1, shape[d]) + gap;
        }
        return Tensors.WithStrides(Tensor.Create(values, shape), strides);
    }
}

public sealed class FloatRandomCaseTests : RandomCaseTests<float>;

public sealed class DoubleRandomCaseTests : RandomCaseTests<double>;
