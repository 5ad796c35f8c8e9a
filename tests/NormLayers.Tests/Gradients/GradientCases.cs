using NormLayers.Tests.Properties;

namespace NormLayers.Tests.Gradients;

/// <summary>Small cases of every geometry, for checks that cost many evaluations each.</summary>
internal static class GradientCases
{
    private const int MostElements = 120;

    public static IEnumerable<NormCase> Of(string name) => name switch
    {
        "LayerNorm" => LayerNorms(),
        // The same shapes, without a bias.
        "RMSNorm" => LayerNorms().Select(norm => norm with { Name = "RMSNorm", Bias = false }),
        "GroupNorm" => GroupNorms(),
        _ => LocalResponseNorms(),
    };

    // A large eps keeps the higher derivatives of small groups in bounds, which is what limits a finite difference.
    private static IEnumerable<NormCase> LayerNorms()
    {
        var generator = new Generator(11);
        for (int round = 0; round < 40; round++)
        {
            int rank = 2 + round % 5;
            nint[] shape = Shape(rank, [], generator);
            var norm = new NormCase("LayerNorm", 1 + generator.Below(rank), shape) { Eps = 0.1 };
            yield return Affine(norm, round);
        }
        yield return new NormCase("LayerNorm", 1, 3, 37) { Weight = true, Bias = true };
        yield return new NormCase("LayerNorm", 3, 2, 5, 3, 4) { Weight = true };
    }

    private static IEnumerable<NormCase> GroupNorms()
    {
        var generator = new Generator(12);
        int round = 0;
        foreach (int channels in (int[])[1, 2, 3, 4, 6])
        {
            for (int groups = 1; groups <= channels; groups++)
            {
                for (int rank = 2; channels % groups == 0 && rank <= 6; rank++, round++)
                {
                    var norm = new NormCase("GroupNorm", groups, Shape(rank, [2, channels], generator)) { Eps = 0.1 };
                    yield return Affine(norm, round);
                }
            }
        }
        yield return new NormCase("GroupNorm", 2, 1, 4, 19) { Weight = true, Bias = true };
    }

    private static IEnumerable<NormCase> LocalResponseNorms()
    {
        var generator = new Generator(13);
        int round = 0;
        foreach (double beta in (double[])[0.75, 0.5, 1, 0.6, 2.3, -0.5])
        {
            for (int size = 1; size <= 7; size++, round++)
            {
                nint[] shape = Shape(3 + round % 4, [1 + round % 2, 1 + generator.Below(9)], generator);
                yield return new NormCase("LocalResponseNorm", size, shape) { Beta = beta, Alpha = 0.5, K = 1 + round % 3 / 2 };
            }
        }
    }

    /// <summary>One of no parameters, a weight, and both.</summary>
    private static NormCase Affine(NormCase norm, int round) => norm with { Weight = round % 3 > 0, Bias = round % 3 > 1 };

    private static nint[] Shape(int rank, nint[] first, Generator generator)
    {
        while (true)
        {
            var shape = new nint[rank];
            for (int d = 0; d < rank; d++)
                shape[d] = d < first.Length ? first[d] : generator.Pick(1, 2, 3, 5, 7);
            if (NormCase.Product(shape) <= MostElements)
                return shape;
        }
    }
}
