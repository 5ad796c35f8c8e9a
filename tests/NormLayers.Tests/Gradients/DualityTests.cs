using System.Numerics;
using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests.Gradients;

/// <summary>What ties the derivatives to one another: Backward is the transpose of Jvp, and DoubleBackward holds Jvp within it.</summary>
public abstract class DualityTests<T> where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    [Theory]
    [InlineData("LayerNorm")]
    [InlineData("RMSNorm")]
    [InlineData("GroupNorm")]
    [InlineData("LocalResponseNorm")]
    public void Backward_AndJvp_AreTransposes(string name)
    {
        double tolerance = typeof(T) == typeof(float) ? 2e-7 : 1e-14;
        foreach (NormCase norm in GradientCases.Of(name))
        {
            var generator = new Generator(31);
            Operands<T> operands = norm.Make<T>(generator);
            T[] dy = generator.Values<T>(norm.Count), t = generator.Values<T>(norm.Count);
            T[]? tWeight = norm.IsWindow ? null : generator.Values<T>(norm.Parameters()), tBias = !norm.TakesBias ? null : generator.Values<T>(norm.Parameters());

            (double forward, double size) = Dot(dy, norm.Jvp(operands, t, tWeight, tBias));
            Gradients<T> gradients = norm.Backward(operands, dy);
            double backward = 0;
            foreach ((double value, double magnitude) in new[] { Dot(gradients.Input, t), Dot(gradients.Weight, tWeight), Dot(gradients.Bias, tBias) })
                (backward, size) = (backward + value, size + magnitude);
            Assert.True(Math.Abs(forward - backward) <= tolerance * size, $"{norm}: {forward:R} forward, {backward:R} backward");
        }
    }

    [Theory]
    [InlineData("LayerNorm")]
    [InlineData("RMSNorm")]
    [InlineData("GroupNorm")]
    [InlineData("LocalResponseNorm")]
    public void DoubleBackward_GradientOfGradOutput_IsTheJvpOfTheCotangents(string name)
    {
        foreach (NormCase norm in GradientCases.Of(name))
        {
            var generator = new Generator(32);
            Operands<T> operands = norm.Make<T>(generator);
            T[] dy = generator.Values<T>(norm.Count), v = generator.Values<T>(norm.Count);
            T[]? vWeight = norm.IsWindow ? null : generator.Values<T>(norm.Parameters()), vBias = !norm.TakesBias ? null : generator.Values<T>(norm.Parameters());
            Assert.True(norm.Jvp(operands, v, vWeight, vBias).AsSpan().SequenceEqual(norm.DoubleBackward(operands, dy, v, vWeight, vBias).GradOutput), norm.ToString());
            if (!norm.IsWindow)
                Assert.True(norm.Jvp(operands, null, vWeight).AsSpan().SequenceEqual(norm.DoubleBackward(operands, dy, null, vWeight).GradOutput), norm.ToString());
        }
    }

    private static (double Sum, double Size) Dot(T[]? a, T[]? b)
    {
        if (a is null || b is null)
            return default;
        double[] products = [.. GradientRun.Widen(a).Zip(GradientRun.Widen(b), (x, y) => x * y)];
        return (products.Sum(), products.Sum(Math.Abs));
    }
}

public sealed class FloatDualityTests : DualityTests<float>;

public sealed class DoubleDualityTests : DualityTests<double>;
