using System.Numerics.Tensors;
using Xunit;

namespace NormLayers.Tests.Properties;

/// <summary>No read or write outside the spans: a failure here is not a failed test but the end of the test process.</summary>
public abstract unsafe class GuardPageTests<T> where T : unmanaged
{
    private const int Longest = 130, MostBytes = 2 * 6 * Longest * sizeof(double);

    [Fact]
    public void LayerNorm_AtGuardPages_StaysInside() => Check(n => new NormCase("LayerNorm", 1, 3, n));

    [Fact]
    public void RMSNorm_AtGuardPages_StaysInside() => Check(n => new NormCase("RMSNorm", 1, 3, n));

    [Fact]
    public void GroupNorm_AtGuardPages_StaysInside() => Check(n => new NormCase("GroupNorm", 2, 2, 4, n));

    [Fact]
    public void GroupNorm_OfVectorsAtGuardPages_StaysInside() => Check(n => new NormCase("GroupNorm", 2, 2, 2 * n));

    [Fact]
    public void LocalResponseNorm_AtGuardPages_StaysInside() => Check(n => new NormCase("LocalResponseNorm", 4, 2, 6, n) { Beta = n % 2 == 0 ? 0.75 : 0.6 });

    private static void Check(Func<int, NormCase> make)
    {
        if (!GuardedMemory.IsSupported)
            Assert.Skip("There are no guard pages on this system.");
        using GuardedMemory input = new(MostBytes), output = new(MostBytes), weights = new(MostBytes), biases = new(MostBytes);
        for (int n = 1; n <= Longest; n++)
        {
            foreach (NormCase norm in make(n).WithParameters())
            {
                Operands<T> operands = norm.Make<T>(new Generator((ulong)n));
                T[] expected = norm.Apply(operands);
                foreach (bool atEnd in (ReadOnlySpan<bool>)[true, false])
                {
                    T* x = input.Place<T>(operands.X, atEnd);
                    T* y = output.Place<T>(norm.Count, atEnd);
                    ReadOnlyTensorSpan<T> weight = Parameter(weights, operands.Weight, norm, atEnd), bias = Parameter(biases, operands.Bias, norm, atEnd);
                    norm.Apply(new ReadOnlyTensorSpan<T>(x, norm.Count, norm.Shape), weight, bias, new TensorSpan<T>(y, norm.Count, norm.Shape));
                    Assert.True(expected.AsSpan().SequenceEqual(new Span<T>(y, norm.Count)), $"{norm}");

                    norm.Apply(new ReadOnlyTensorSpan<T>(x, norm.Count, norm.Shape), weight, bias, new TensorSpan<T>(x, norm.Count, norm.Shape));
                    Assert.True(expected.AsSpan().SequenceEqual(new Span<T>(x, norm.Count)), $"{norm}");
                }
            }
        }
    }

    private static ReadOnlyTensorSpan<T> Parameter(GuardedMemory memory, T[]? values, NormCase norm, bool atEnd)
        => values is null ? default : new ReadOnlyTensorSpan<T>(memory.Place<T>(values, atEnd), values.Length, norm.ParameterShape);
}

public sealed class FloatGuardPageTests : GuardPageTests<float>;

public sealed class DoubleGuardPageTests : GuardPageTests<double>;

public sealed class HalfGuardPageTests : GuardPageTests<Half>;

public sealed class BFloat16GuardPageTests : GuardPageTests<BFloat16>;
