using System.Numerics;
using System.Numerics.Tensors;
using Xunit;

namespace NormLayers.Tests.Properties;

/// <summary>What LayerNorm and GroupNorm give at the edges: constants, single elements, NaN, offsets, tiny numbers, zeros.</summary>
public abstract class RowSemanticsTests<T> where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private static readonly T[] constants = Array.ConvertAll([3333.3, 1e6, -0.1, 1e-30, 12345.678, 0], T.CreateTruncating);

    [Fact]
    public void ConstantRow_OfAnyLength_GivesExactlyTheBias()
    {
        foreach (T constant in constants)
        {
            foreach (int n in (ReadOnlySpan<int>)[1, 2, 3, 7, 16, 17, 33, 100, 2048, 2049, 10_000])
            {
                NormCase rows = new("LayerNorm", 1, 2, n) { Weight = true, Bias = true }, groups = new("GroupNorm", 1, 2, 3, n) { Weight = true, Bias = true };
                Operands<T> operands = Constant(rows, constant);
                Assert.Equal([.. operands.Bias!, .. operands.Bias!], rows.Apply(operands));

                operands = Constant(groups, constant);
                Assert.Equal(Enumerable.Range(0, groups.Count).Select(i => operands.Bias![i / n % 3]), groups.Apply(operands));
            }
        }
    }

    [Fact]
    public void SingleElement_PerGroup_GivesExactlyTheBias()
    {
        NormCase rows = new("LayerNorm", 1, 4, 1) { Weight = true, Bias = true }, groups = new("GroupNorm", 5, 2, 5) { Weight = true, Bias = true };
        Operands<T> operands = rows.Make<T>(new Generator(1), 1e10);
        Assert.All(rows.Apply(operands), y => Assert.Equal(operands.Bias![0], y));
        operands = groups.Make<T>(new Generator(1), 1e10);
        Assert.Equal([.. operands.Bias!, .. operands.Bias!], groups.Apply(operands));
    }

    [Fact]
    public void ConstantRow_WithEpsZero_GivesNaN()
    {
        foreach (NormCase norm in new NormCase[] { new("LayerNorm", 1, 2, 9) { Eps = 0 }, new("GroupNorm", 2, 2, 4, 5) { Eps = 0, Weight = true, Bias = true } })
            Assert.All(norm.Apply(Constant(norm, T.One)), y => Assert.True(T.IsNaN(y)));
    }

    [Fact]
    public void NonFinite_InOneGroup_MakesThatGroupNaNAndNoOther()
    {
        foreach (NormCase norm in new NormCase[] { new("LayerNorm", 1, 5, 37), new("LayerNorm", 1, 3, 5000) { Weight = true }, new("GroupNorm", 3, 2, 6, 11) { Bias = true }, new("GroupNorm", 2, 3, 34) })
        {
            int length = norm.Count / (norm.Name == "LayerNorm" ? (int)norm.Shape[0] : (int)norm.Shape[0] * norm.Number);
            Operands<T> operands = norm.Make<T>(new Generator(2));
            T[] clean = norm.Apply(operands);
            foreach (T poison in (ReadOnlySpan<T>)[T.NaN, T.PositiveInfinity, T.NegativeInfinity])
            {
                foreach (int place in (ReadOnlySpan<int>)[0, length - 1, length, length + length / 2, norm.Count - 1])
                {
                    T[] x = [.. operands.X];
                    x[place] = poison;
                    T[] y = norm.Apply(operands with { X = x });
                    for (int i = 0; i < y.Length; i++)
                        Assert.True(i / length == place / length ? T.IsNaN(y[i]) : y[i] == clean[i], $"{norm}: {poison} at {place} gave {y[i]} at {i}");
                }
            }
        }
    }

    [Theory]
    [InlineData(1e6)]
    [InlineData(1e8)]
    [InlineData(-1e6)]
    public void Offset_OfARow_CostsNoAccuracy(double offset)
    {
        foreach (NormCase norm in new NormCase[] { new("LayerNorm", 1, 3, 777) { Weight = true, Bias = true }, new("LayerNorm", 1, 2, 9000), new("GroupNorm", 2, 2, 4, 301) { Weight = true } })
        {
            // The formula is evaluated for the rounded inputs: only the layer's own error is measured.
            Operands<T> operands = norm.Make<T>(new Generator(3), 100, offset);
            norm.AssertNear(operands, norm.Apply(operands), $"at offset {offset}");
        }
    }

    [Fact]
    public void Outlier_AmongZeros_CostsNoAccuracy()
    {
        // The first element is one of the eight about whose mean floats are summed.
        foreach (int length in (ReadOnlySpan<int>)[64, 1000, 2500, 4000, 4095, 6000, 20_000])
        {
            NormCase norm = new("LayerNorm", 1, 2, length) { Eps = 0 };
            var x = new T[norm.Count];
            (x[0], x[length]) = (T.CreateTruncating(1.005), T.CreateTruncating(-1.415));
            var operands = new Operands<T>(x, null, null);
            norm.AssertNear(operands, norm.Apply(operands), "with one element that is not zero");
        }
    }

    [Fact]
    public void Outliers_FarOffTheOthers_CostNoAccuracy()
    {
        // Of transformers' activations a few of thousands are so large: the others' squares must not be lost beside theirs.
        foreach (NormCase norm in new NormCase[] { new("LayerNorm", 1, 3, 512), new("LayerNorm", 1, 3, 4095), new("RMSNorm", 1, 3, 4096), new("LayerNorm", 1, 2, 5000), new("RMSNorm", 1, 2, 9000), new("GroupNorm", 1, 2, 4, 700) })
        {
            int groups = (int)norm.Shape[0] * (norm.Name == "GroupNorm" ? norm.Number : 1), length = (int)norm.Count / groups;
            for (int exponent = 4; exponent <= 16; exponent++)
            {
                foreach (int outliers in (ReadOnlySpan<int>)[1, 3])
                {
                    Operands<T> operands = norm.Make<T>(new Generator((ulong)exponent), 1, 0);
                    for (int i = 0; i < outliers * groups; i++)
                        operands.X[i / outliers * length + (i % outliers * 131 + 77)] = T.CreateTruncating(Math.ScaleB(1 + 0.01 * i, exponent));
                    norm.AssertNear(operands, norm.Apply(operands), $"with {outliers} of 2^{exponent}");
                }
            }
        }
    }

    [Fact]
    public void Values_OfAnyScale_AreWithinBound()
    {
        int most = typeof(T) == typeof(float) ? 36 : 150;
        for (int exponent = -most; exponent <= most; exponent += 2)
        {
            foreach (double eps in (ReadOnlySpan<double>)[0, 1e-5])
            {
                NormCase norm = new("LayerNorm", 1, 2, 45) { Eps = eps, Weight = true, Bias = true };
                Operands<T> operands = norm.Make<T>(new Generator(4), Math.Pow(10, exponent));
                norm.AssertNear(operands, norm.Apply(operands), $"at scale 1e{exponent}");
            }
        }
    }

    [Fact]
    public void Subnormals_WithEpsZero_AreNormalizedExactly()
    {
        T least = T.Epsilon;
        var norm = new NormCase("LayerNorm", 1, 2, 4) { Eps = 0 };
        T[] y = norm.Apply(new Operands<T>([least, -least, least, -least, least * (T.One + T.One), T.Zero, T.Zero, least * (T.One + T.One)], null, null));
        Assert.Equal([T.One, -T.One, T.One, -T.One, T.One, -T.One, -T.One, T.One], y);
    }

    [Fact]
    public void Zeros_OfBothSigns_GiveTheBias()
    {
        var norm = new NormCase("LayerNorm", 1, 1, 4);
        Assert.All(norm.Apply(new Operands<T>([T.Zero, T.NegativeZero, T.NegativeZero, T.Zero], null, null)), y => Assert.Equal(T.Zero, y));
        norm = norm with { Bias = true };
        Assert.Equal([T.NegativeOne, T.One, T.One, T.One], norm.Apply(new Operands<T>([T.NegativeZero, T.Zero, T.Zero, T.Zero], null, [T.NegativeOne, T.One, T.One, T.One])));
    }

    [Fact]
    public void NegativeEps_BeyondTheVariance_GivesNaN()
    {
        var norm = new NormCase("LayerNorm", 1, 1, 9) { Eps = -1000 };
        Assert.All(norm.Apply(norm.Make<T>(new Generator(5))), y => Assert.True(T.IsNaN(y)));
    }

    [Fact]
    public void GroupNorm_OfOneChannelAGroup_GivesLayerNormsBits()
    {
        Operands<T> operands = new NormCase("GroupNorm", 6, 3, 6, 41).Make<T>(new Generator(6));
        Assert.Equal(new NormCase("LayerNorm", 1, 3, 6, 41).Apply(operands), new NormCase("GroupNorm", 6, 3, 6, 41).Apply(operands));
    }

    [Fact]
    public void GroupNorm_OfOneGroup_GivesLayerNormsBits()
    {
        Operands<T> operands = new NormCase("GroupNorm", 1, 3, 6, 7, 5).Make<T>(new Generator(7));
        Assert.Equal(new NormCase("LayerNorm", 3, 3, 6, 7, 5).Apply(operands), new NormCase("GroupNorm", 1, 3, 6, 7, 5).Apply(operands));

        // With an affine the parameters must be spread over the positions for LayerNorm.
        NormCase group = new("GroupNorm", 1, 3, 6, 35) { Weight = true, Bias = true }, layer = new("LayerNorm", 2, 3, 6, 35) { Weight = true, Bias = true };
        operands = group.Make<T>(new Generator(8));
        T[] Spread(T[] values) => [.. Enumerable.Range(0, 6 * 35).Select(i => values[i / 35])];
        Assert.Equal(layer.Apply(operands with { Weight = Spread(operands.Weight!), Bias = Spread(operands.Bias!) }), group.Apply(operands));
    }

    private static Operands<T> Constant(NormCase norm, T value)
    {
        Operands<T> operands = norm.Make<T>(new Generator(9));
        Array.Fill(operands.X, value);
        return operands;
    }
}

public sealed class FloatRowSemanticsTests : RowSemanticsTests<float>
{
    [Fact]
    public void LargeGroup_OfMillionsAtAnOffset_IsWithinBound()
    {
        NormCase norm = new("LayerNorm", 1, 1, 5_000_003);
        Operands<float> operands = norm.Make<float>(new Generator(10), offset: 10_000);
        norm.AssertNear(operands, norm.Apply(operands));
        norm = new NormCase("GroupNorm", 1, 1, 1, 5_000_003);
        Assert.Equal(new NormCase("LayerNorm", 1, 1, 5_000_003).Apply(operands), norm.Apply(operands));
    }
}

public sealed class DoubleRowSemanticsTests : RowSemanticsTests<double>;
