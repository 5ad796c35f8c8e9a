using System.Numerics;
using NormLayers.Tests.Golden;
using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests.Gradients;

/// <summary>What the gradient of LocalResponseNorm is at the edges.</summary>
public abstract class WindowGradientSemanticsTests<T> where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    [Fact]
    public void BetaZero_GivesTheGradientOfTheOutput()
    {
        var norm = new NormCase("LocalResponseNorm", 3, 2, 5, 33) { Beta = 0, Alpha = 0.5 };
        var generator = new Generator(1);
        Operands<T> operands = norm.Make<T>(generator);
        T[] dy = generator.Values<T>(norm.Count);
        Assert.Equal(dy, norm.Backward(operands, dy).Input!);
        Assert.Equal(dy, norm.Jvp(operands, dy));
    }

    [Fact]
    public void BetaZero_WhereTheDenominatorIsZeroOrNotFinite_GivesTheGradientOfTheOutput()
    {
        var norm = new NormCase("LocalResponseNorm", 3, 2, 5, 33) { Beta = 0, Alpha = 0.5, K = 0 };
        var generator = new Generator(1);
        Operands<T> operands = norm.Make<T>(generator);
        Array.Clear(operands.X, 0, 5 * 33);
        int[] places = [5 * 33 + 2 * 33 + 7, 5 * 33 + 4 * 33 + 20];
        (operands.X[places[0]], operands.X[places[1]]) = (T.PositiveInfinity, T.NaN);
        T[] dy = generator.Values<T>(norm.Count), dx = norm.Backward(operands, dy).Input!, tangent = norm.Jvp(operands, dy);
        for (int i = 0; i < norm.Count; i++)
        {
            // As in PyTorch, whose square has a gradient of 0 times x.
            T expected = places.Contains(i) ? T.NaN : dy[i];
            Assert.Equal(expected, dx[i]);
            Assert.Equal(expected, tangent[i]);
        }
    }

    [Fact]
    public void AlphaZero_DividesByAPowerOfK()
    {
        var norm = new NormCase("LocalResponseNorm", 3, 2, 5, 33) { Alpha = 0, Beta = 0.5, K = 4 };
        var generator = new Generator(2);
        Operands<T> operands = norm.Make<T>(generator);
        T[] dy = generator.Values<T>(norm.Count), half = Array.ConvertAll(dy, value => value / T.CreateChecked(2));
        Assert.Equal(half, norm.Backward(operands, dy).Input!);
        // Its square overflows.
        operands.X[40] = T.CreateChecked(typeof(T) == typeof(float) ? 1e30 : 1e200);
        Assert.Equal(half, norm.Backward(operands, dy).Input!);
        Assert.Equal(half, norm.Jvp(operands, dy));
    }

    [Fact]
    public void GradientOfOneOutput_ReachesTheChannelsOfItsWindowOnly()
    {
        // A window of 4 around channel 4 is channels 2 to 5: the transposed windows of an even size lean up.
        for (int size = 1; size <= 9; size++)
        {
            var norm = new NormCase("LocalResponseNorm", size, 1, 9, 3) { Alpha = 0.5 };
            Operands<T> operands = norm.Make<T>(new Generator(3));
            T[] dy = new T[norm.Count];
            dy[4 * 3 + 1] = T.One;
            T[] dx = norm.Backward(operands, dy).Input!;
            for (int i = 0; i < norm.Count; i++)
            {
                bool reached = i % 3 == 1 && i / 3 >= 4 - size / 2 && i / 3 <= 4 + (size - 1) / 2;
                Assert.True(reached != T.IsZero(dx[i]), $"size {size}, channel {i / 3}, position {i % 3}: {dx[i]}");
            }
        }
    }

    [Fact]
    public void NaN_InOneChannel_ReachesTheGradientsThatItTouches()
    {
        for (int size = 1; size <= 6; size++)
        {
            var norm = new NormCase("LocalResponseNorm", size, 2, 9, 19) { Alpha = 0.5 };
            var generator = new Generator(4);
            Operands<T> operands = norm.Make<T>(generator);
            T[] dy = generator.Values<T>(norm.Count), clean = norm.Backward(operands, dy).Input!;
            int channel = 4, position = 7;
            T[] badDy = [.. dy], badX = [.. operands.X];
            badDy[channel * 19 + position] = badX[channel * 19 + position] = T.NaN;
            T[] fromDy = norm.Backward(operands, badDy).Input!, fromX = norm.Backward(operands with { X = badX }, dy).Input!;
            for (int i = 0; i < norm.Count; i++)
            {
                int c = i / 19;
                bool here = i % 19 == position && c < 9;
                bool sent = here && c >= channel - size / 2 && c <= channel + (size - 1) / 2;
                // x in a window spoils its output, and that the gradients of all the window's channels.
                bool near = here && Math.Abs(c - channel) <= size - 1;
                Assert.True(sent ? T.IsNaN(fromDy[i]) : fromDy[i] == clean[i], $"size {size}: gradOutput, {c}");
                Assert.True(near ? T.IsNaN(fromX[i]) : fromX[i] == clean[i], $"size {size}: input, {c}");
            }
        }
    }

    [Fact]
    public void ExtremeElement_InOneChannel_ChangesOnlyTheGradientsItReaches()
    {
        T extreme = T.CreateChecked(typeof(T) == typeof(float) ? 1e30 : 1e200);
        for (int size = 1; size <= 6; size++)
        {
            var norm = new NormCase("LocalResponseNorm", size, 1, 13, 19) { Alpha = 0.5 };
            var generator = new Generator(4);
            Operands<T> operands = norm.Make<T>(generator);
            T[] dy = generator.Values<T>(norm.Count), clean = norm.Backward(operands, dy).Input!;
            T[] largeDy = [.. dy], largeX = [.. operands.X];
            largeDy[6 * 19 + 7] = largeX[6 * 19 + 7] = extreme;
            T[] fromDy = norm.Backward(operands, largeDy).Input!, fromX = norm.Backward(operands with { X = largeX }, dy).Input!;
            for (int i = 0; i < norm.Count; i++)
            {
                bool near = i % 19 == 7 && Math.Abs(i / 19 - 6) <= size - 1;
                Assert.True(near ? T.IsFinite(fromDy[i]) : fromDy[i] == clean[i], $"size {size}: gradOutput, {i / 19}");
                Assert.True(near ? T.IsFinite(fromX[i]) : fromX[i] == clean[i], $"size {size}: input, {i / 19}");
            }
        }
    }
}

public sealed class FloatWindowGradientSemanticsTests : WindowGradientSemanticsTests<float>;

public sealed class DoubleWindowGradientSemanticsTests : WindowGradientSemanticsTests<double>
{
    /// <summary>
    /// With x scaled by c and k by c², d scales by c² and dx by c^-2beta: so a gradient whose squares leave the range of double
    /// is known from one whose squares do not. Powers of two that c^-2beta keeps exact.
    /// </summary>
    [Theory]
    [InlineData(660, 0, 0.75, 0)]
    [InlineData(660, 0, 0.625, 0)]
    [InlineData(-660, 0, 0.75, 0)]
    [InlineData(-660, 0, 0.625, 0)]
    [InlineData(500, 1, 0.75, 0)]
    [InlineData(500, 2, 0.625, 0)]
    [InlineData(660, 0, 0.25, -400)]
    [InlineData(1000, 0, 0.25, -500)]
    [InlineData(1000, 0, -0.5, -500)]
    [InlineData(660, 0, -0.5, 0)]
    [InlineData(660, 0, 0.25, 500)]
    public void Derivatives_OfExtremeInputs_AreThoseOfOrdinaryOnesScaled(int exponent, double k, double beta, int gradientExponent)
    {
        // 0.625 goes through the power function, and unlike 0.6 it is a double.
        foreach (int size in (int[])[1, 3, 4])
        {
            var norm = new NormCase("LocalResponseNorm", size, 2, 7, 9) { Alpha = 0.5, Beta = beta, K = k };
            var generator = new Generator(5);
            Operands<double> operands = norm.Make<double>(generator);
            double[] dy = generator.Values<double>(norm.Count), smallDy = Array.ConvertAll(dy, value => Math.ScaleB(value, gradientExponent));
            NormCase extreme = norm with { K = Math.ScaleB(k, 2 * exponent) };
            Operands<double> far = operands with { X = Array.ConvertAll(operands.X, value => Math.ScaleB(value, exponent)) };
            double power = -2 * beta * exponent + gradientExponent;
            Assert.Equal(Math.Round(power), power, 6);

            AssertScaled(norm.Backward(operands, dy).Input!, extreme.Backward(far, smallDy).Input!);
            AssertScaled(norm.Jvp(operands, dy), extreme.Jvp(far, smallDy));

            void AssertScaled(double[] near, double[] scaled)
            {
                double largest = near.Max(Math.Abs);
                for (int i = 0; i < near.Length; i++)
                {
                    double actual = Math.ScaleB(scaled[i], -(int)Math.Round(power));
                    Assert.True(Ulp.Distance<double>(actual, near[i], largest) <= 32, $"{norm}, 2^{exponent}, element {i}: {actual:R}, expected {near[i]:R}");
                }
            }
        }
    }
}
