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

    /// <summary>The last place of a Half has 8192 of float's, and results of 16 bits are within 0.51 of it: 82 of float's beside the half for rounding.</summary>
    [Fact]
    public void ShortQuarterPowers_OfAnyOrdinaryNumber_AreFarWithinAHalfsPrecision()
    {
        Check(new ShortQuarterPower<OneQuarter>(), 0.25, 32);
        Check(new ShortQuarterPower<TwoQuarters>(), 0.5, 32);
        Check(new ShortQuarterPower<ThreeQuarters>(), 0.75, 32);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(0.6)]
    [InlineData(0.75)]
    [InlineData(1)]
    [InlineData(-1)]
    [InlineData(1e-5)]
    [InlineData(-0.3)]
    public void AnyPower_OfAnyOrdinaryNumber_AgreesWithMathPow(double beta) => Check(new AnyPower(beta), beta, 2.25);

    private static unsafe void Check<TPower>(TPower power, double beta, double allowed) where TPower : struct, IFloatPower<TPower>
    {
        var generator = new Generator(1);
        double worst = 0;
        float[] k = new float[FloatPair.Count], t = new float[FloatPair.Count], x = new float[FloatPair.Count], result = new float[FloatPair.Count];
        for (int round = 0; round < 20_000; round++)
        {
            for (int i = 0; i < k.Length; i++)
            {
                // d = k + t, three in four between 1/8 and 8, the others from 2^-16 to 2^64; t is less than half an ulp, or between 2^-8 and 2^7 times k.
                k[i] = MathF.ScaleB(1 + generator.Below(1 << 23) / (float)(1 << 23), generator.Below(4) > 0 ? generator.Below(6) - 3 : generator.Below(80) - 16);
                t[i] = i % 2 == 0 ? (float)(generator.Value<double>() / 8 * Ulp.Of<float>(k[i])) : MathF.ScaleB(k[i] * (1 + generator.Below(1 << 23) / (float)(1 << 23)), generator.Below(15) - 8);
                x[i] = generator.Value<float>();
            }
            fixed (float* pk = k, pt = t, px = x, py = result)
                power.Multiply(FloatPair.Load(px), FloatPair.Load(pt), FloatPair.Load(pk)).Store(py);
            for (int i = 0; i < k.Length; i++)
            {
                double expected = x[i] * Math.Pow((double)k[i] + t[i], -beta);
                worst = Math.Max(worst, Ulp.Distance<float>(result[i], expected, expected));
            }
        }
        TestContext.Current.TestOutputHelper!.WriteLine($"beta {beta}: {worst:F2} ulp");
        Assert.True(worst <= allowed, $"beta {beta}: x · d^-beta is wrong by {worst:F2} ulp");
    }
}
