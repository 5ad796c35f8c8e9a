using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests.Gradients;

/// <summary>The bits of gradients against those of bits.tsv.</summary>
public sealed class GradientBitsTests
{
    [Fact]
    public void Gradients_OfEveryCase_HaveTheStoredBits()
        => StoredBits.Check("Gradients", [.. Rows<float>("float"), .. Rows<double>("double"), .. Rows<Half>("half"), .. Rows<BFloat16>("bfloat16")]);

    private static IEnumerable<(string Name, string Hash)> Rows<T>(string type) where T : unmanaged
    {
        foreach ((NormCase norm, double scale, double offset) in Cases(typeof(T) != typeof(double)))
        {
            // The ends of float's range are not in Half's.
            if (typeof(T) == typeof(Half) && (scale != 1 || offset > 10_000))
                continue;
            var generator = new Generator((ulong)norm.Count);
            Operands<T> operands = norm.Make<T>(generator, scale, offset);
            T[] dy = generator.Values<T>(norm.Count), v = generator.Values<T>(norm.Count);
            Gradients<T> first = norm.Backward(operands, dy);
            string place = FormattableString.Invariant($"{type} {norm} * {scale} + {offset}");
            yield return ($"{place} backward", StoredBits.Hash(first.Input, first.Weight, first.Bias));
            // Two sums of squares may leave double where one does not.
            if (scale is > 1e100 or < 1e-100)
                continue;
            (T[] gradOutput, T[] input, T[]? weight) = norm.DoubleBackward(operands, dy, v, first.Weight, first.Bias);
            yield return ($"{place} second order", StoredBits.Hash(norm.Jvp(operands, v, first.Weight, first.Bias), gradOutput, input, weight));
        }
    }

    /// <summary>Scales are powers of two, so that they cost no rounding.</summary>
    private static IEnumerable<(NormCase Norm, double Scale, double Offset)> Cases(bool single)
    {
        double huge = Math.ScaleB(1, single ? 100 : 900), tiny = Math.ScaleB(1, single ? -90 : -600);
        NormCase Affine(string name, int number, params nint[] shape) => new(name, number, shape) { Weight = true, Bias = true };

        yield return (Affine("LayerNorm", 1, 3, 1), 1, 0);
        yield return (Affine("LayerNorm", 1, 5, 7), 1, 0);
        yield return (new NormCase("LayerNorm", 1, 5, 37), 1, 0);
        yield return (new NormCase("LayerNorm", 2, 3, 11, 13) { Weight = true, Eps = 0.1 }, 1, 1000);
        yield return (Affine("LayerNorm", 1, 2, 6151), 1, 1_000_000);
        yield return (Affine("LayerNorm", 1, 64, 19), 1, 0);
        yield return (Affine("LayerNorm", 1, 65, 19), 1, 0);
        yield return (Affine("LayerNorm", 1, 333, 33), 1, 0);
        yield return (Affine("LayerNorm", 1, 3, 61), tiny, 0);
        yield return (Affine("LayerNorm", 1, 3, 67), huge, 0);

        yield return (new NormCase("RMSNorm", 1, 5, 7) { Weight = true }, 1, 0);
        yield return (new NormCase("RMSNorm", 1, 333, 33) { Weight = true }, 1, 0);
        yield return (new NormCase("RMSNorm", 2, 3, 11, 13), 1, 1000);
        yield return (new NormCase("RMSNorm", 1, 2, 6151) { Weight = true }, 1, 0);
        yield return (new NormCase("RMSNorm", 1, 3, 61) { Weight = true }, tiny, 0);
        yield return (new NormCase("RMSNorm", 1, 3, 67) { Weight = true }, huge, 0);

        yield return (Affine("GroupNorm", 3, 2, 6, 5), 1, 0);
        yield return (Affine("GroupNorm", 2, 3, 10), 1, 3);
        yield return (new NormCase("GroupNorm", 1, 2, 3, 4, 7), 1, 0);
        yield return (Affine("GroupNorm", 2, 1, 6, 2053), 1, 10_000);
        yield return (Affine("GroupNorm", 2, 130, 4, 9), 1, 0);
        yield return (Affine("GroupNorm", 4, 259, 8), 1, 0);
        yield return (Affine("GroupNorm", 2, 2, 4, 31) with { Eps = 0 }, tiny, 0);
        yield return (Affine("GroupNorm", 2, 2, 4, 33), huge, 0);

        yield return (new NormCase("LocalResponseNorm", 5, 2, 9, 17), 1, 0);
        yield return (new NormCase("LocalResponseNorm", 4, 2, 9, 300) { Alpha = 0.5, Beta = 0.5 }, 1, 2);
        yield return (new NormCase("LocalResponseNorm", 3, 1, 33, 3) { Alpha = 2, Beta = 1, K = 0.25 }, 1, 0);
        yield return (new NormCase("LocalResponseNorm", 9, 2, 5, 41) { Alpha = 1, Beta = 0.6 }, 1, 0);
        yield return (new NormCase("LocalResponseNorm", 2, 1, 7, 5003) { Alpha = 1, Beta = 2.3, K = 2 }, 1, 0);
        yield return (new NormCase("LocalResponseNorm", 3, 1, 1100, 20) { Alpha = 1, Beta = -0.5 }, 1, 0);
        yield return (new NormCase("LocalResponseNorm", 3, 1, 7, 43) { Alpha = 1, K = 0 }, tiny, 0);
        yield return (new NormCase("LocalResponseNorm", 3, 1, 7, 47) { Alpha = 1, Beta = 0.25 }, single ? Math.ScaleB(1, 60) : huge, 0);
    }
}
