using System.Numerics;
using Xunit;

namespace NormLayers.Tests.Properties;

/// <summary>What LocalResponseNorm gives at the edges: where windows reach, what NaN, infinity and zero do, and every beta.</summary>
public abstract class WindowSemanticsTests<T> where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const int Channels = 11, Run = 19;

    [Fact]
    public void NaN_InOneChannel_ReachesTheWindowsThatCoverIt()
        => Poison(T.NaN, (own, _, y, covered) => own || covered ? T.IsNaN(y) : T.IsFinite(y));

    [Fact]
    public void Infinity_InOneChannel_IsNaNThereAndZeroInTheWindowsThatCoverIt()
    {
        Poison(T.PositiveInfinity, (own, clean, y, covered) => own ? T.IsNaN(y) : covered ? T.IsZero(y) : y == clean);
        Poison(T.NegativeInfinity, (own, clean, y, covered) => own ? T.IsNaN(y) : covered ? T.IsZero(y) : y == clean);
    }

    [Fact]
    public void ExtremeElement_InOneChannel_ChangesOnlyTheWindowsThatCoverIt()
        => Poison(T.CreateChecked(typeof(T) == typeof(float) ? 1e30 : 1e200), (own, clean, y, covered) => own || covered ? T.IsFinite(y) && y != clean : y == clean);

    [Fact]
    public void AlphaZero_BesideNaNAndInfinity_IsNaNInTheWindowsThatCoverThem()
    {
        NormCase norm = new("LocalResponseNorm", 3, 1, 5, 1) { Alpha = 0, Beta = 0.5, K = 4 };
        T two = T.CreateChecked(2), extreme = T.CreateChecked(typeof(T) == typeof(float) ? 1e30 : 1e200);
        foreach (T poison in (ReadOnlySpan<T>)[T.NaN, T.PositiveInfinity, T.NegativeInfinity])
        {
            foreach (T other in (ReadOnlySpan<T>)[two, extreme])
                Assert.Equal([T.NaN, T.NaN, T.NaN, other / two, T.One], norm.Apply(new Operands<T>([T.One, poison, other, other, two], null, null)));
        }
    }

    [Fact]
    public void Window_OfEvenSize_LeansDown()
    {
        // Only channel 2 is large. A window of 4 around c is c - 2 to c + 1, so channels 1 to 4 see it.
        NormCase norm = new("LocalResponseNorm", 4, 1, 7, 1) { Alpha = 4, Beta = 1, K = 0 };
        T[] x = [.. Enumerable.Repeat(T.One, 7)];
        x[2] = T.CreateChecked(10);
        double[] sums = [2, 102, 103, 103, 103, 4, 3];
        T[] y = norm.Apply(new Operands<T>(x, null, null));
        for (int c = 0; c < 7; c++)
            Assert.Equal(T.CreateTruncating(double.CreateChecked(x[c]) / sums[c]), y[c]);
    }

    [Fact]
    public void Window_BeyondTheChannels_StillDividesBySize()
    {
        NormCase norm = new("LocalResponseNorm", 100, 2, 3, 5) { Alpha = 100, Beta = 1, K = 2 };
        T[] y = norm.Apply(new Operands<T>([.. Enumerable.Repeat(T.One, 30)], null, null));
        Assert.All(y, value => Assert.Equal(T.CreateTruncating(1 / 5.0), value));
        Operands<T> operands = norm.Make<T>(new Generator(1));
        norm.AssertNear(operands, norm.Apply(operands));
    }

    [Fact]
    public void Window_OfOneChannel_SeesOnlyItself()
    {
        NormCase norm = new("LocalResponseNorm", 1, 1, 4, 1) { Alpha = 1, Beta = 1, K = 0 };
        Assert.Equal(Array.ConvertAll([0.5, 0.25, -0.125, 1], T.CreateChecked), norm.Apply(new Operands<T>(Array.ConvertAll([2.0, 4, -8, 1], T.CreateChecked), null, null)));
    }

    [Fact]
    public void AllZero_WithKZero_GivesNaN()
    {
        foreach (double beta in (ReadOnlySpan<double>)[0.75, 0.5, 1, 0.6])
        {
            NormCase norm = new("LocalResponseNorm", 3, 1, 5, 3) { K = 0, Beta = beta };
            T[] x = new T[15];
            x[12] = T.One;
            T[] y = norm.Apply(new Operands<T>(x, null, null));
            for (int i = 0; i < 9; i++)
                Assert.True(T.IsNaN(y[i]), $"beta {beta}, element {i}");
            Assert.True(T.IsNaN(y[10]) && T.IsFinite(y[12]), $"beta {beta}");
            Assert.Equal(T.Zero, y[9]);
        }
    }

    [Fact]
    public void NegativeBase_WithAFractionalBeta_GivesNaN()
    {
        foreach (double beta in (ReadOnlySpan<double>)[0.75, 0.5, 0.6])
        {
            NormCase norm = new("LocalResponseNorm", 3, 1, 5, 3) { K = -1, Beta = beta };
            Assert.All(norm.Apply(norm.Make<T>(new Generator(2))), y => Assert.True(T.IsNaN(y)));
        }
    }

    [Fact]
    public void BetaZero_GivesTheInput()
    {
        NormCase norm = new("LocalResponseNorm", 3, 2, 5, 33) { Beta = 0 };
        Operands<T> operands = norm.Make<T>(new Generator(3));
        Assert.Equal(operands.X, norm.Apply(operands));
    }

    [Fact]
    public void Beta_OfAnyKind_AgreesWithMathPow()
    {
        foreach (double beta in (ReadOnlySpan<double>)[0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3.75, 4, 4.25, 7, 0.1, 0.6, 0.7499, 2.3, -0.75, -1, -0.3, 12.7])
        {
            foreach (double alpha in (ReadOnlySpan<double>)[1e-4, 0, 2])
            {
                NormCase norm = new("LocalResponseNorm", 5, 2, 8, 37) { Beta = beta, Alpha = alpha, K = 1.7 };
                Operands<T> operands = norm.Make<T>(new Generator(4));
                norm.AssertNear(operands, norm.Apply(operands));
            }
        }
    }

    [Fact]
    public void Zeros_KeepTheirSign()
    {
        T[] y = new NormCase("LocalResponseNorm", 3, 1, 3, 1).Apply(new Operands<T>([T.NegativeZero, T.One, T.Zero], null, null));
        Assert.True(T.IsZero(y[0]) && T.IsNegative(y[0]));
        Assert.True(T.IsZero(y[2]) && T.IsPositive(y[2]));
    }

    [Fact]
    public void Subnormals_ComeThrough()
    {
        T[] x = [T.Epsilon, -T.Epsilon, T.Epsilon * (T.One + T.One + T.One), T.One];
        Assert.Equal(x.AsSpan(0, 3), new NormCase("LocalResponseNorm", 1, 1, 4, 1).Apply(new Operands<T>(x, null, null)).AsSpan(0, 3));
    }

    [Fact]
    public void Values_OfAnyScale_AreWithinBound()
    {
        int most = typeof(T) == typeof(float) ? 37 : 140;
        for (int exponent = -most; exponent <= most; exponent++)
        {
            foreach (double k in (ReadOnlySpan<double>)[0, 1])
            {
                NormCase norm = new("LocalResponseNorm", 3, 1, 5, 7) { K = k, Beta = exponent % 2 == 0 ? 0.75 : 0.6, Alpha = 1 };
                Operands<T> operands = norm.Make<T>(new Generator(5), Math.Pow(10, exponent));
                norm.AssertNear(operands, norm.Apply(operands), $"at scale 1e{exponent}");
            }
        }
    }

    /// <summary>Puts a value at one place after another, for every size, and asks of each element whether it is as it should be.</summary>
    private static void Poison(T poison, Func<bool, T, T, bool, bool> isRight)
    {
        for (int size = 1; size <= 13; size++)
        {
            NormCase norm = new("LocalResponseNorm", size, 1, Channels, Run);
            Operands<T> operands = norm.Make<T>(new Generator(6));
            T[] clean = norm.Apply(operands);
            for (int channel = 0; channel < Channels; channel++)
            {
                int position = channel * 5 % Run;
                T[] x = [.. operands.X];
                x[channel * Run + position] = poison;
                T[] y = norm.Apply(operands with { X = x });
                for (int i = 0; i < y.Length; i++)
                {
                    int c = i / Run;
                    bool covered = i % Run == position && channel >= c - size / 2 && channel <= c + (size - 1) / 2;
                    bool right = i % Run == position ? isRight(c == channel, clean[i], y[i], covered) : y[i] == clean[i];
                    Assert.True(right, $"size {size}, {poison} at channel {channel}: {y[i]} at channel {c}");
                }
            }
        }
    }
}

public sealed class FloatWindowSemanticsTests : WindowSemanticsTests<float>;

public sealed class DoubleWindowSemanticsTests : WindowSemanticsTests<double>;
