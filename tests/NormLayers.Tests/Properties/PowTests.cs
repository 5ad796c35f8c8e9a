using System.Runtime.Intrinsics;
using NormLayers.Internals.Kernels;
using NormLayers.Tests.Golden;
using Xunit;

namespace NormLayers.Tests.Properties;

/// <summary>Our power function against the platform's, which is good to about an ulp.</summary>
public sealed class PowTests
{
    // The logarithm is good to some 2^-58, which a power of hundreds multiplies; a layer's beta is of the order of 1.
    [Fact]
    public void Pow_OfAnyPositiveNumber_AgreesWithMathPow()
    {
        var generator = new Generator(1);
        double worst = 0, worstLarge = 0;
        for (int i = 0; i < 200_000; i += 8)
        {
            var x = new double[8];
            for (int lane = 0; lane < 8; lane++)
            {
                // One in four near 1, where the logarithm is small; else any positive bit pattern, subnormals included.
                double any = BitConverter.UInt64BitsToDouble(generator.Next() >> 1);
                x[lane] = generator.Below(4) == 0 ? 1 + generator.Value<double>() / 8 : double.IsFinite(any) ? any : 1.5;
                if (generator.Below(50) == 0)
                    x[lane] = BitConverter.UInt64BitsToDouble(generator.Next() >> (12 + generator.Below(50)));
            }
            double power = generator.Below(4) switch
            {
                0 => generator.Pick(0.75, 0.6, 2.3, -0.75, 0.5, 1, -1, 1.0 / 3),
                1 => generator.Value<double>(),
                2 => generator.Value<double>() * 1e-6,
                _ => generator.Value<double>() * 300,
            };
            Vector512<double> actual = VectorMath.Pow(Vector512.Create(x.AsSpan()), power);
            for (int lane = 0; lane < 8; lane++)
            {
                double expected = Math.Pow(x[lane], power), distance = Ulp.Distance<double>(actual[lane], expected, expected);
                // At the very end of the range the two may differ in which of them overflows.
                if (double.IsInfinity(actual[lane]) != double.IsInfinity(expected) && Math.Min(Math.Abs(actual[lane]), expected) > 1.7976931348623e308)
                    distance = 0;
                bool large = Math.Abs(power) > 4;
                worst = Math.Max(worst, large ? 0 : distance);
                worstLarge = Math.Max(worstLarge, large ? distance : 0);
                Assert.True(distance <= 2 + (large ? Math.Abs(power) / 64 : 0), $"Pow({x[lane]:R}, {power:R}) gave {actual[lane]:R}, Math.Pow {expected:R}: {distance:G3} ulp");
            }
        }
        TestContext.Current.TestOutputHelper!.WriteLine($"Largest distance: {worst:G3} ulp for |power| up to 4, {worstLarge:G3} ulp up to 1200");
    }

    [Fact]
    public void Pow_OfSpecialNumbers_GivesMathPowsValues()
    {
        double[] numbers = [0, double.PositiveInfinity, double.NegativeInfinity, double.NaN, 1, -1, -2, -0.5, double.Epsilon, -double.Epsilon, double.MaxValue, double.MinValue, 2.2250738585072014e-308];
        foreach (double x in numbers)
        {
            foreach (double power in (ReadOnlySpan<double>)[0, 1, -1, 2, -2, 3, 0.5, -0.5, 0.75, 2.3, -2.3, 1e3, -1e3, 1e15, -1e15])
                AssertPow(x, power);
        }
    }

    [Theory]
    [InlineData(2)]
    [InlineData(4)]
    [InlineData(-2)]
    [InlineData(0.6)]
    public void Pow_OfNegativeZeroToEvenOrFractionalPowers_GivesMathPowsValues(double power) => AssertPow(-0.0, power);

    [Theory]
    [InlineData(5)]
    [InlineData(1)]
    [InlineData(-1)]
    public void Pow_OfNegativeZeroToOddPowers_GivesMathPowsValues(double power) => AssertPow(-0.0, power);

    [Fact]
    public void Pow_BeyondTheRange_OverflowsAndUnderflows()
    {
        foreach (double power in (ReadOnlySpan<double>)[2000, 1e6, 1e9, 1e12, 1e15])
        {
            foreach (double x in (ReadOnlySpan<double>)[0.3, 0.5, 0.9, 1.1, 2, 3.3, 1e300, 1e-300])
            {
                AssertPow(x, power);
                AssertPow(x, -power);
            }
        }
    }

    [Fact]
    public void Pow_OfOneSpecialLane_LeavesTheOthersAlone()
    {
        for (int special = 0; special < 8; special++)
        {
            double[] x = [0.1, 0.7, 1.3, 2, 5, 77, 1e10, 1e-10];
            x[special] = double.NaN;
            Vector512<double> actual = VectorMath.Pow(Vector512.Create(x.AsSpan()), 0.6);
            for (int lane = 0; lane < 8; lane++)
                Assert.Equal(VectorMath.Pow(Vector512.Create(x[lane]), 0.6)[0], actual[lane]);
            Assert.True(double.IsNaN(actual[special]));
        }
    }

    private static void AssertPow(double x, double power)
    {
        double expected = Math.Pow(x, power), actual = VectorMath.Pow(Vector512.Create(x), power)[0];
        Assert.True(Ulp.Distance<double>(actual, expected, expected) <= 2 && (double.IsNaN(expected) || double.IsNegative(actual) == double.IsNegative(expected)),
            $"Pow({x:R}, {power:R}) gave {actual:R}, Math.Pow {expected:R}");
    }
}
