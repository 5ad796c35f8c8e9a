using System.Numerics;
using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests.Gradients;

/// <summary>Every length against the plain reference, so that each vector tail and block boundary is met, and every choice of results.</summary>
public abstract class PlainReferenceTests<T> where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const int Longest = 257;

    [Fact]
    public void LayerNorm_OfEveryLength_AgreesWithTheFormula() => CheckAll(n => new NormCase("LayerNorm", 1, 3, n), 0, Longest);

    [Fact]
    public void RMSNorm_OfEveryLength_AgreesWithTheFormula() => CheckAll(n => new NormCase("RMSNorm", 1, 3, n), 0, Longest);

    [Fact]
    public void GroupNorm_OfEveryRun_AgreesWithTheFormula() => CheckAll(n => new NormCase("GroupNorm", 2, 2, 4, n), 0, Longest);

    [Fact]
    public void GroupNorm_OfVectorsOfEveryLength_AgreesWithTheFormula() => CheckAll(n => new NormCase("GroupNorm", 2, 2, 2 * n), 1, Longest);

    [Fact]
    public void Rows_OfMoreThanOneBlock_AgreeWithTheFormula()
    {
        // Parameter gradients are summed in at most 64 blocks: one row a block, then two, the last block short.
        foreach (int rows in (int[])[63, 64, 65, 127, 129, 200])
        {
            Check(new NormCase("LayerNorm", 1, rows, 19) { Weight = true, Bias = true });
            Check(new NormCase("GroupNorm", 3, rows, 6, 3) { Weight = true, Bias = true });
            Check(new NormCase("GroupNorm", 2, rows, 6) { Weight = true });
        }
    }

    [Fact]
    public void Gradients_OfWhichMuchIsTakenOff_AgreeWithTheFormula()
    {
        // A fifth of dy's squares is its mean's, which a quarter of the elements does not tell, and nine tenths, which is done in double.
        foreach (double mean in (double[])[0.5, 3])
        {
            foreach (int length in (int[])[10, 31, 100, 128, 300, 1000, 5000, 33000])
                Check(new NormCase("LayerNorm", 1, 6, length) { Weight = true, Bias = true }, mean);
            Check(new NormCase("GroupNorm", 2, 3, 4, 100) { Weight = true, Bias = true }, mean);
            Check(new NormCase("GroupNorm", 4, 3, 4, 1000), mean);
            Check(new NormCase("GroupNorm", 1, 1, 4, 5000) { Weight = true }, mean);
        }
    }

    [Fact]
    public void Rows_TooLongForTheCaches_AgreeWithTheFormula()
    {
        // Written block by block, four rows side by side and the others alone, up to 32 rows at once.
        foreach (int rows in (int[])[1, 3, 4, 6, 37])
        {
            Check(new NormCase("LayerNorm", 1, rows, 32768) { Weight = true, Bias = true });
            Check(new NormCase("RMSNorm", 1, rows, 34819) { Weight = true });
        }
    }

    [Fact]
    public void LocalResponseNorm_OfEveryNumberOfChannels_AgreesWithTheFormula()
    {
        foreach (int size in (int[])[1, 2, 3, 5, 8, 40])
        {
            for (int channels = 1; channels <= 33; channels++)
                Check(Window(size, 2, channels, 5));
        }
    }

    [Fact]
    public void LocalResponseNorm_OfEveryRun_AgreesWithTheFormula()
    {
        for (int run = 1; run <= 40; run++)
        {
            Check(Window(3, 2, 5, run));
            Check(Window(4, 2, 5, run) with { Beta = 0.6 });
        }
    }

    [Fact]
    public void LocalResponseNorm_OfSeveralBlocks_AgreesWithTheFormula()
    {
        // Blocks of 256 positions, and with many channels of fewer.
        Check(Window(5, 2, 7, 600));
        Check(Window(4, 1, 9, 257));
        Check(Window(3, 1, 300, 70));
        Check(Window(3, 1, 1500, 20));
    }

    private static NormCase Window(int size, params nint[] shape) => new("LocalResponseNorm", size, shape) { Alpha = 0.5, K = 2 };

    private static void CheckAll(Func<int, NormCase> make, int from, int to)
    {
        for (int n = from; n <= to; n++)
        {
            foreach (NormCase norm in make(n).WithParameters())
                Check(norm);
        }
    }

    private static void Check(NormCase norm, double gradientMean = 0)
    {
        var generator = new Generator((ulong)norm.Count);
        Operands<T> operands = norm.Make<T>(generator);
        T[] dy = [.. generator.Values<T>(norm.Count).Select(value => value + T.CreateTruncating(gradientMean))];
        (Exact[] input, Exact[] weight, Exact[] bias) = GradientReference.Backward(norm, operands, dy);
        Gradients<T> actual = norm.Backward(operands, dy);
        GradientReference.AssertNear(input, actual.Input!, $"{norm} input");
        if (norm.IsWindow)
            return;
        GradientReference.AssertNear(weight, actual.Weight!, $"{norm} weight");
        if (norm.TakesBias)
            GradientReference.AssertNear(bias, actual.Bias!, $"{norm} bias");

        for (int wanted = 0; wanted < 7; wanted++)
        {
            Gradients<T> some = norm.Backward(operands, dy, (wanted & 1) != 0, (wanted & 2) != 0, (wanted & 4) != 0);
            Assert.True(Same(some.Input, actual.Input) && Same(some.Weight, actual.Weight) && Same(some.Bias, actual.Bias), $"{norm}: results {wanted} alone");
        }
    }

    private static bool Same(T[]? some, T[]? all) => some is null || some.AsSpan().SequenceEqual(all);
}

public sealed class FloatPlainReferenceTests : PlainReferenceTests<float>;

public sealed class DoublePlainReferenceTests : PlainReferenceTests<double>;
