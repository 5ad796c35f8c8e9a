using System.Numerics.Tensors;
using System.Text.RegularExpressions;
using Xunit;

namespace NormLayers.Tests;

/// <summary>The examples that docs/layers works out by hand, and what the pages show and link.</summary>
public sealed partial class DocumentationTests
{
    private static readonly double[] Row = [1, 2, 3, 6];

    [Fact]
    public void LayerNorm_RowOfTheDocs_GivesItsNumbers()
    {
        var norm = new LayerNorm<double>(4, eps: 0);
        Tensor<double> y = norm.Forward(Tensor.Create(Row, [1, 4]), out ForwardPass<double> pass);
        AssertRounded([-1.0690, -0.5345, 0, 1.6036], y);
        AssertRounded([0.2482, -0.2100, -0.1336, 0.0955], norm.Backward(Tensor.Create([1.0, 0, 0, 0], [1, 4]), pass));
        AssertRounded([-1.0690, 0, 0, 0], norm.Weight!.Grad);
        AssertRounded([1, 0, 0, 0], norm.Bias!.Grad);
    }

    [Fact]
    public void RMSNorm_RowOfTheDocs_GivesItsNumbers()
    {
        var norm = new RMSNorm<double>(4, eps: 0);
        AssertRounded([0.2828, 0.5657, 0.8485, 1.6971], norm.Forward(Tensor.Create(Row, [1, 4]), out ForwardPass<double> pass));
        AssertRounded([0.2772, -0.0113, -0.0170, -0.0339], norm.Backward(Tensor.Create([1.0, 0, 0, 0], [1, 4]), pass));
        AssertRounded([0.2828, 0, 0, 0], norm.Weight!.Grad);
    }

    [Fact]
    public void GroupNorm_SampleOfTheDocs_GivesItsNumbers()
    {
        Tensor<double> x = Tensor.Create(Row, [1, 2, 2]);
        var norm = new GroupNorm<double>(1, 2, eps: 0);
        AssertRounded([-1.0690, -0.5345, 0, 1.6036], norm.Forward(x, out ForwardPass<double> pass));
        AssertRounded([0.2482, -0.2100, -0.1336, 0.0955], norm.Backward(Tensor.Create([1.0, 0, 0, 0], [1, 2, 2]), pass));
        AssertRounded([-1.0690, 0], norm.Weight!.Grad);
        AssertRounded([1, 0], norm.Bias!.Grad);
        AssertRounded([-1, 1, -1, 1], new GroupNorm<double>(2, 2, eps: 0).Forward(x));
    }

    [Fact]
    public void FusedForms_RowsOfTheDocs_GiveTheirNumbers()
    {
        (Tensor<double> sum, Tensor<double> y) = Functional.AddLayerNorm(Tensor.Create([1.0, 2], [1, 2]), Tensor.Create([0.0, 1], [1, 2]), [2], eps: 0);
        AssertRounded([1, 3], sum);
        AssertRounded([-1, 1], y);
        AssertRounded([0, 3], Functional.AdaptiveLayerNorm(sum, [2], Tensor.Create([0.0, 1], [1, 2]), Tensor.Create([1.0, 1], [1, 2]), eps: 0));
        AssertRounded([-0.2689, 0.7311], Functional.GroupNormSiLU(sum.Reshape([1, 1, 2]), 1, eps: 0));
    }

    [Fact]
    public void BatchNorm_ChannelOfTheDocs_GivesItsNumbers()
    {
        var norm = new BatchNorm1d<double>(1, eps: 0);
        Tensor<double> x = Tensor.Create(Row, [4, 1]);
        AssertRounded([-1.0690, -0.5345, 0, 1.6036], norm.Forward(x, out ForwardPass<double> pass));
        AssertRounded([0.3], norm.RunningMean!);
        AssertRounded([1.3667], norm.RunningVar!);
        AssertRounded([0.2482, -0.2100, -0.1336, 0.0955], norm.Backward(Tensor.Create([1.0, 0, 0, 0], [4, 1]), pass));
        AssertRounded([-1.0690], norm.Weight!.Grad);
        AssertRounded([1], norm.Bias!.Grad);
        norm.Eval();
        AssertRounded([0.5988, 1.4542, 2.3096, 4.8758], norm.Forward(x, out pass));
        AssertRounded([0.8554, 0, 0, 0], norm.Backward(Tensor.Create([1.0, 0, 0, 0], [4, 1]), pass));
    }

    [Fact]
    public void LayerNorm_OverTheChannelsOfTheDocs_GivesItsNumbers()
    {
        Tensor<double> x = Tensor.Create([1.0, 10, 2, 20, 3, 30, 6, 60], [1, 4, 2]);
        AssertRounded([-1.0690, -1.0690, -0.5345, -0.5345, 0, 0, 1.6036, 1.6036], new LayerNorm<double>(4, eps: 0, axis: 1).Forward(x));
    }

    [Fact]
    public void LocalResponseNorm_PositionOfTheDocs_GivesItsNumbers()
    {
        var norm = new LocalResponseNorm<double>(2, alpha: 1, beta: 0.5, k: 0);
        AssertRounded([1.4142, 1.1314, 0], norm.Forward(Tensor.Create([3.0, 4, 0], [1, 3, 1]), out ForwardPass<double> pass));
        AssertRounded([-0.1358, 0.1018, 0.3536], norm.Backward(Tensor.Create([1.0, 1, 1], [1, 3, 1]), pass));
    }

    [Fact]
    public void InstanceNorm_ChannelOfTheDocs_GivesItsNumbers()
    {
        var norm = new InstanceNorm1d<double>(1, eps: 0, trackRunningStats: true);
        Tensor<double> x = Tensor.Create([1.0, 2, 6], [1, 1, 3]), dy = Tensor.Create([1.0, 0, 0], [1, 1, 3]);
        AssertRounded([-0.9258, -0.4629, 1.3887], norm.Forward(x, out ForwardPass<double> pass));
        AssertRounded([0.1763, -0.2204, 0.0441], norm.Backward(dy, pass));
        AssertRounded([0.3], norm.RunningMean!);
        AssertRounded([1.6], norm.RunningVar!);
        norm.Eval();
        AssertRounded([0.5534, 1.3440, 4.5062], norm.Forward(x, out pass));
        AssertRounded([0.7906, 0, 0], norm.Backward(dy, pass));
    }

    [Fact]
    public void CrossMapLRN2d_PositionOfTheDocs_GivesItsNumbers()
    {
        var norm = new CrossMapLRN2d<double>(3, alpha: 3, beta: 1, k: 1);
        AssertRounded([0.1667, 0.1333, 0.2], norm.Forward(Tensor.Create([1.0, 2, 3], [1, 3, 1, 1]), out ForwardPass<double> pass));
        AssertRounded([0.1111, -0.08, -0.2333], norm.Backward(Tensor.Create([1.0, 1, 1], [1, 3, 1, 1]), pass));
    }

    [Fact]
    public void Normalize_VectorOfTheDocs_GivesItsNumbers()
    {
        Tensor<double> x = Tensor.Create([3.0, 4], [1, 2]), dx = Tensor.Create(new double[2], [1, 2]);
        AssertRounded([0.6, 0.8], Functional.Normalize(x));
        AssertRounded([0.4286, 0.5714], Functional.Normalize(x, p: 1, dim: -1));
        AssertRounded([0.75, 1], Functional.Normalize(x, double.PositiveInfinity));
        Functional.NormalizeBackward(Tensor.Create([1.0, 0], [1, 2]).AsReadOnlyTensorSpan(), x.AsReadOnlyTensorSpan(), 2, 1, 1e-12, dx.AsTensorSpan());
        AssertRounded([0.128, -0.096], dx);
    }

    /// <summary>The page shows what the gate runs: the example, without the lines that make it a file-based app.</summary>
    [Theory]
    [InlineData("migrating-from-torchsharp.md", "from-torchsharp.cs")]
    [InlineData("model-files.md", "model-files.cs")]
    public void Page_Code_IsTheExample(string file, string exampleFile)
    {
        string page = File.ReadAllText(Path.Combine(Repository.Root, "docs", file)).ReplaceLineEndings("\n");
        string example = string.Join('\n', File.ReadAllLines(Path.Combine(Repository.Root, "examples", exampleFile)).Where(line => !line.StartsWith('#')));
        Assert.Contains($"```csharp\n{example}\n```\n", page, StringComparison.Ordinal);
    }

    [Fact]
    public void Links_OfEveryPage_LeadToFilesThatThereAre()
    {
        string[] pages = [Path.Combine(Repository.Root, "README.md"), .. Directory.GetFiles(Path.Combine(Repository.Root, "docs"), "*.md", SearchOption.AllDirectories)];
        string[] broken = [.. pages.SelectMany(page => Link().Matches(File.ReadAllText(page)).Select(link => Path.Combine(Path.GetDirectoryName(page)!, link.Groups[1].Value)))
            .Where(target => !Path.Exists(target))];
        Assert.Equal([], broken);
    }

    /// <summary>A link of Markdown to a file, without the place in it.</summary>
    [GeneratedRegex(@"\]\((?!https?:|#)([^)#\s]+)")]
    private static partial Regex Link();

    private static void AssertRounded(double[] expected, Tensor<double> actual)
        => Assert.Equal(expected, Tensors.ToArray(actual).Select(value => Math.Round(value, 4) + 0.0));
}
