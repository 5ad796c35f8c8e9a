using System.Runtime.Intrinsics;
using NormLayers.Internals.Kernels;
using NormLayers.Tests.Golden;
using Xunit;

namespace NormLayers.Tests.Properties;

/// <summary>The powers in float against the platform's in double.</summary>
public sealed class FloatPowerTests
{
    [Fact]
    public void QuarterPowers_OfAnyOrdinaryNumber_AgreeWithMathPow()
    {
        Check(new QuarterPower<OneQuarter>(), 0.25, 1.5);
        Check(new QuarterPower<TwoQuarters>(), 0.5, 1.5);
        Check(new QuarterPower<ThreeQuarters>(), 0.75, 1.5);
    }

    /// <summary>The last place of a Half has 8192 of float's; results of 16 bits are within 0.51 of it.</summary>
    [Fact]
    public void ShortQuarterPowers_OfAnyOrdinaryNumber_AreFarWithinAHalfsPrecision()
    {
        Check(new ShortQuarterPower<OneQuarter>(), 0.25, 6);
        Check(new ShortQuarterPower<TwoQuarters>(), 0.5, 6);
        Check(new ShortQuarterPower<ThreeQuarters>(), 0.75, 6);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(0.6)]
    [InlineData(0.75)]
    [InlineData(1)]
    [InlineData(-1)]
    [InlineData(1e-5)]
    [InlineData(-0.3)]
    public void AnyPower_OfAnyOrdinaryNumber_AgreesWithMathPow(double beta) => Check(new AnyPower(beta), beta, 2);

    private static void Check<TPower>(TPower power, double beta, double allowed) where TPower : struct, IFloatPower<TPower>
    {
        var generator = new Generator(1);
        double worst = 0;
        float[] d = new float[Vector512<float>.Count], low = new float[Vector512<float>.Count], x = new float[Vector512<float>.Count], result = new float[Vector512<float>.Count];
        for (int round = 0; round < 40_000; round++)
        {
            for (int i = 0; i < d.Length; i++)
            {
                // Three in four between 1/8 and 8, the others from 2^-16 to 2^64; low is less than half an ulp.
                d[i] = MathF.ScaleB(1 + generator.Below(1 << 23) / (float)(1 << 23), generator.Below(4) > 0 ? generator.Below(6) - 3 : generator.Below(80) - 16);
                low[i] = (float)(generator.Value<double>() / 8 * Ulp.Of<float>(d[i]));
                x[i] = generator.Value<float>();
            }
            Vector512<float> denominator = Vector512.Create(d);
            (Vector512<float> first, Vector512<float> second) = power.Begin(denominator);
            power.Finish(Vector512.Create(x), denominator, Vector512.Create(low), first, second).CopyTo(result);
            for (int i = 0; i < d.Length; i++)
            {
                double expected = x[i] * Math.Pow((double)d[i] + low[i], -beta);
                worst = Math.Max(worst, Ulp.Distance<float>(result[i], expected, expected));
            }
        }
        TestContext.Current.TestOutputHelper!.WriteLine($"beta {beta}: {worst:F2} ulp");
        Assert.True(worst <= allowed, $"beta {beta}: x · d^-beta is wrong by {worst:F2} ulp");
    }
}
