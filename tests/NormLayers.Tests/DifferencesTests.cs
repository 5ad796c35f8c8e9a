using System.Numerics.Tensors;
using System.Reflection;
using System.Text.RegularExpressions;
using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests;

/// <summary>docs/differences-from-pytorch.md: the tests that it names, and those of its differences that no other class holds.</summary>
public sealed partial class DifferencesTests
{
    [Fact]
    public void Page_EachDifference_NamesTestsThatThereAre()
    {
        HashSet<string> tests = [.. typeof(DifferencesTests).Assembly.GetTypes().SelectMany(type => type.GetMethods())
            .Where(method => method.GetCustomAttribute<FactAttribute>() is not null).Select(method => method.Name)];
        string page = File.ReadAllText(Path.Combine(Repository.Root, "docs", "differences-from-pytorch.md"));
        Assert.Equal([], TestName().Matches(page).Select(match => match.Value).Where(name => !tests.Contains(name)));
        string[] rows = [.. page.Split('\n').Where(line => line.StartsWith("| ", StringComparison.Ordinal) && !line.StartsWith("| here ", StringComparison.Ordinal))];
        Assert.True(rows.Length >= 25, $"only {rows.Length} rows");
        Assert.All(rows, row => Assert.Matches(TestName(), row[row.TrimEnd(' ', '|').LastIndexOf('|')..]));
    }

    [Fact]
    public void NaN_OfAnyBits_BecomesTheNaNOfItsType()
    {
        foreach (string text in new[] { "LayerNorm([4, 3])", "RMSNorm([4, 3])", "GroupNorm(2, 4)", "InstanceNorm1d(4)", "BatchNorm1d(4)" })
        {
            float[] x = new Generator(1).Values<float>(24);
            x[5] = BitConverter.Int32BitsToSingle(0x7FC12345);
            float[] y = Tensors.ToArray(NormLayer.Parse(text).Forward(Tensor.Create(x, [2, 4, 3])));
            Assert.True(float.IsNaN(y[5]));
            Assert.All(y.Where(float.IsNaN), value => Assert.Equal(BitConverter.SingleToInt32Bits(float.NaN), BitConverter.SingleToInt32Bits(value)));
        }
    }

    [Fact]
    public void GroupNormBackward_WithoutAWeight_GivesTheBiasGradient()
    {
        Tensor<double> x = Tensor.Create(new Generator(2).Values<double>(24), [2, 4, 3]), dy = Tensor.Create([.. Enumerable.Range(0, 24).Select(i => (double)i)], [2, 4, 3]);
        var norm = new GroupNorm<double>(2, 4, affine: false);
        norm.Forward(x, out ForwardPass<double> pass);
        Tensor<double> dx = Tensor.CreateFromShape<double>([2, 4, 3]), biasGradient = Tensor.CreateFromShape<double>([4]);
        Functional.GroupNormBackward(dy.AsReadOnlyTensorSpan(), x.AsReadOnlyTensorSpan(), 2, pass.Statistics, default, dx.AsTensorSpan(), default, biasGradient.AsTensorSpan());
        Assert.Equal(Tensors.ToArray(norm.Backward(dy, pass)), Tensors.ToArray(dx));
        // 0 + 1 + 2 of the first sample and 12 + 13 + 14 of the second; for each further channel 18 more.
        Assert.Equal([42, 60, 78, 96], Tensors.ToArray(biasGradient));
    }

    [Fact]
    public void LocalResponseNorm_OfIntegers_IsThatOfTheirFloats()
    {
        Tensor<float> y = Tensor.CreateFromShape<float>([1, 3, 1]), x = Tensor.Create([1f, 2, 3], [1, 3, 1]);
        Functional.LocalResponseNorm(Tensor.Create([1L, 2, 3], [1, 3, 1]).AsReadOnlyTensorSpan(), 2, 1, 1, 1, y.AsTensorSpan());
        Assert.Equal(Tensors.ToArray(Functional.LocalResponseNorm(x, 2, 1, 1, 1)), Tensors.ToArray(y));
        // PyTorch divides the sum 1 by 2 as an integer, and gives 1.
        Assert.Equal(1 / 1.5f, y[0, 0, 0]);
    }

    [Fact]
    public void EmptyInput_ThatDoesNotFit_IsRefused()
    {
        Assert.Throws<ArgumentException>("input", () => new BatchNorm1d<float>(3).Forward(Tensor.Create(Array.Empty<float>(), [0, 2])));
        Assert.Throws<ArgumentException>("input", () => new InstanceNorm1d<float>(3, affine: true).Forward(Tensor.Create(Array.Empty<float>(), [0, 2, 4])));
        Assert.Throws<ArgumentOutOfRangeException>("size", () => new LocalResponseNorm<float>(0).Forward(Tensor.Create(Array.Empty<float>(), [0, 2, 4])));
    }

    [Theory]
    [InlineData("LayerNorm((6,), eps=1e-05, elementwise_affine=True, axis=1)")]
    [InlineData("RMSNorm((6, 5), eps=None, elementwise_affine=True, axis=-3)")]
    public void Axis_OfALayer_IsPrintedAndReadBack(string text) => Assert.Equal(text, NormLayer.Parse(text).ToString());

    [GeneratedRegex(@"(?<=`)[A-Z][A-Za-z0-9]*_[A-Za-z0-9]+_[A-Za-z0-9]+(?=`)")]
    private static partial Regex TestName();
}
