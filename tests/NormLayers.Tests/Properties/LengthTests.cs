using Xunit;

namespace NormLayers.Tests.Properties;

/// <summary>Every length from 0 to 257, past all the vector widths and tails, against the formula.</summary>
public abstract class LengthTests<T> where T : unmanaged
{
    private const int Longest = 257;

    [Fact]
    public void LayerNorm_EveryLength_IsWithinBound() => Check(n => new NormCase("LayerNorm", 1, 3, n));

    [Fact]
    public void LayerNorm_EveryLengthOfTwoDimensions_IsWithinBound() => Check(n => new NormCase("LayerNorm", 2, 3, 2, n));

    [Fact]
    public void RMSNorm_EveryLength_IsWithinBound() => Check(n => new NormCase("RMSNorm", 1, 3, n));

    [Fact]
    public void GroupNorm_EveryRun_IsWithinBound() => Check(n => new NormCase("GroupNorm", 3, 2, 6, n));

    [Fact]
    public void GroupNorm_EveryChannelCountOfVectors_IsWithinBound() => Check(n => new NormCase("GroupNorm", 3, 2, 3 * n));

    [Fact]
    public void LocalResponseNorm_EveryRunAndSize_IsWithinBound()
    {
        for (int size = 1; size <= 9; size++)
            Check(n => new NormCase("LocalResponseNorm", size, 2, 7, n) { Alpha = 0.5 });
    }

    [Fact]
    public void LocalResponseNorm_EveryChannelCountAndSize_IsWithinBound()
    {
        for (int size = 1; size <= 9; size++)
        {
            for (int channels = 1; channels <= 33; channels++)
                CheckOne(new NormCase("LocalResponseNorm", size, 2, channels, 3) { Alpha = 0.5 }, (ulong)channels);
        }
    }

    [Fact]
    public void Rows_OfSeveralBlocks_AreWithinBound()
    {
        foreach (int n in new[] { 2047, 2048, 2049, 4095, 4096, 4097, 6151, 10_007 })
        {
            CheckOne(new NormCase("LayerNorm", 1, 2, n) { Weight = true, Bias = true }, (ulong)n);
            CheckOne(new NormCase("RMSNorm", 1, 2, n) { Weight = true }, (ulong)n);
            CheckOne(new NormCase("GroupNorm", 1, 2, 3, n) { Weight = true, Bias = true }, (ulong)n);
            CheckOne(new NormCase("LocalResponseNorm", 3, 1, 5, n), (ulong)n);
        }
    }

    private static void Check(Func<int, NormCase> make)
    {
        for (int n = 0; n <= Longest; n++)
        {
            foreach (NormCase norm in make(n).WithParameters())
                CheckOne(norm, (ulong)n);
        }
    }

    private static void CheckOne(NormCase norm, ulong seed)
    {
        Operands<T> operands = norm.Make<T>(new Generator(seed), offset: 0.75);
        norm.AssertNear(operands, norm.Apply(operands));
    }
}

public sealed class FloatLengthTests : LengthTests<float>;

public sealed class DoubleLengthTests : LengthTests<double>;

public sealed class HalfLengthTests : LengthTests<Half>;

public sealed class BFloat16LengthTests : LengthTests<BFloat16>;
