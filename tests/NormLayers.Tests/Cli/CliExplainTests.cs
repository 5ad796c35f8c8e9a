using System.Numerics.Tensors;
using System.Xml.Linq;
using NormLayers.Cli;
using Xunit;

namespace NormLayers.Tests.CommandLine;

public sealed class CliExplainTests : Sandbox
{
    /// <summary>A layer of every kind that is known, with an input's shape.</summary>
    public static TheoryData<string, string> Layers => new()
    {
        { "LayerNorm(5)", "5" },
        { "LayerNorm(5)", "2,5" },
        { "LayerNorm(5)", "2,3,5" },
        { "LayerNorm([3, 5])", "2,3,5" },
        { "LayerNorm([3, 2, 2])", "2,3,2,2" },
        { "LayerNorm([2, 2])", "2,3,2,2" },
        { "LayerNorm([2, 3, 5])", "2,3,5" },
        { "LayerNorm(3, axis=1)", "2,3,2,2" },
        { "LayerNorm([2, 3], axis=0)", "2,3,4" },
        { "LayerNorm(5, axis=-1)", "2,3,5" },
        { "GroupNorm(3, 6)", "2,6" },
        { "GroupNorm(1, 4)", "2,4,3" },
        { "GroupNorm(3, 6)", "2,6,2,2" },
        { "GroupNorm(4, 4)", "1,4,2,1,2,2" },
        { "RMSNorm(5)", "2,5" },
        { "RMSNorm([3, 2, 2])", "2,3,2,2" },
        { "RMSNorm([3, 2], axis=-3)", "2,3,2,2" },
        { "BatchNorm1d(3)", "4,3" },
        { "BatchNorm1d(3)", "2,3,4" },
        { "BatchNorm2d(3)", "2,3,2,2" },
        { "BatchNorm3d(2)", "2,2,2,1,2" },
        { "SyncBatchNorm(2)", "2,2,2,1,1,2" },
        { "InstanceNorm1d(3)", "2,3,4" },
        { "InstanceNorm1d(3)", "3,4" },
        { "InstanceNorm2d(3, affine=True)", "2,3,2,2" },
        { "InstanceNorm2d(3)", "3,2,2" },
        { "InstanceNorm3d(2, track_running_stats=True)", "2,2,2,1,2" },
        { "CrossMapLRN2d(3, alpha=1)", "2,6,2,1" },
        { "CrossMapLRN2d(4, alpha=1)", "1,5,2,2" },
        { "LocalResponseNorm(4, alpha=1, window='onnx')", "1,6,2" },
        { "LocalResponseNorm(4, alpha=1, window='onnx')", "1,2,2" },
        { "LocalResponseNorm(3, alpha=1)", "2,6,2" },
        { "LocalResponseNorm(2, alpha=1)", "2,6,2,2" },
        { "LocalResponseNorm(9, alpha=1)", "2,4,2" },
        { "LocalResponseNorm(1, alpha=1)", "1,4,2,2,2" },
    };

    /// <summary>The layer itself says what shares statistics: an output moves with the inputs of its group or window, and with no other.</summary>
    [Theory]
    [MemberData(nameof(Layers))]
    public void Group_EachInput_MovesTheOutputWhereItIsInTheGroup(string text, string shapeText)
    {
        long[] shape = Array.ConvertAll(shapeText.Split(','), long.Parse);
        nint[] lengths = Array.ConvertAll(shape, length => (nint)length);
        NormLayer<float> layer = NormLayer.Parse(text);
        Explanation explanation = Explanation.Of(layer, shape);
        var values = new float[shape.Aggregate(1L, (product, length) => product * length)];
        for (int i = 0; i < values.Length; i++)
            values[i] = MathF.Sin(i * i) + 2;
        // The first element's group; of windows the first that is whole, where there is one.
        long watched = (explanation.Center ?? 0) * shape.Skip(2).Aggregate(1L, (product, length) => product * length);
        float before = Tensors.ToArray(layer.Forward(Tensor.Create(values, lengths)))[watched];

        long inGroup = 0;
        for (int moved = 0; moved < values.Length; moved++)
        {
            float[] changed = [.. values];
            changed[moved] += 8;
            bool moves = before != Tensors.ToArray(layer.Forward(Tensor.Create(changed, lengths)))[watched];
            (long flat, bool expected) = (moved, true);
            for (int axis = shape.Length - 1; axis >= 0; axis--)
            {
                (flat, long index) = Math.DivRem(flat, shape[axis]);
                expected &= index < explanation.Group[axis];
            }
            Assert.True(moves == expected, $"element {moved}");
            inGroup += expected ? 1 : 0;
        }
        Assert.Equal(explanation.Center is null ? values.Length : values.Length * inGroup, explanation.Groups(shape) * inGroup);
        Assert.Equal(shape.Length, explanation.Dimensions.Length);
        Assert.Contains("\u25a0", Succeed("explain", text, "--shape", shapeText).Output, StringComparison.Ordinal);
    }

    /// <summary>Every layer of the library has a case; a lazy one becomes the plain one with its first input.</summary>
    [Fact]
    public void Layers_OfTheLibrary_AreAmongTheCases()
    {
        IEnumerable<string> layers = typeof(NormLayer).Assembly.GetExportedTypes()
            .Where(type => type.IsSubclassOf(typeof(NormLayer)) && !type.IsAbstract && !type.Name.StartsWith("Lazy", StringComparison.Ordinal))
            .Select(type => type.Name.Split('`')[0]);
        Assert.Equal(layers.Order(), Layers.Select(row => row.Data.Item1.Split('(')[0]).Distinct().Order());
    }

    [Fact]
    public void Explain_GroupNorm_SaysAllOfIt()
    {
        string[] lines = Succeed("explain", "nn.GroupNorm(3, 6)", "--shape", "20,6,10,10").Output.Split(Environment.NewLine);
        Assert.Equal(
            [
                "layer       GroupNorm(3, 6, eps=1e-05, affine=True)",
                "formula     y = (x - E[x]) / sqrt(Var[x] + eps) * weight[c] + bias[c]",
                "input       (20, 6, 10, 10) as (N, C, H, W): 12,000 elements",
                "together    each sample's groups of 2 channels, with all positions",
                "groups      60, each of 200 elements",
                "statistics  mean and biased variance, eps 1e-05 under the root",
                "affine      weight and bias, one value per channel: 12 parameters",
                "bytes       forward reads 48,000 and writes 48,000; backward reads 96,000 and writes 48,000",
                "PyTorch     torch.nn.GroupNorm(3, 6, eps=1e-05, affine=True); functional.group_norm",
                "ONNX        GroupNormalization (opset 21): num_groups=3, epsilon=1e-05; scale = weight, bias = bias (opset 18 has one of each per group instead)",
            ],
            lines[..10]);
    }

    [Theory]
    [InlineData("LayerNorm(120)", "1,40,120", "together", "the last dimension, of 120 elements, at each place of the dimensions before")]
    [InlineData("LayerNorm([6, 10])", "6,10", "together", "the whole input")]
    [InlineData("LayerNorm([6, 10])", "3,6,10", "ONNX", "LayerNormalization (opset 17): axis=-2, epsilon=1e-05; Scale = weight, B = bias")]
    [InlineData("LayerNorm(4, bias=False)", "3,4", "PyTorch", "torch.nn.LayerNorm((4,), eps=1e-05, elementwise_affine=True, bias=False); functional.layer_norm")]
    [InlineData("LayerNorm(4, bias=False)", "3,4", "affine", "weight, one value per element of a group: 4 parameters")]
    [InlineData("LayerNorm(4, elementwise_affine=False)", "3,4", "affine", "none")]
    [InlineData("RMSNorm(4)", "3,4", "ONNX", "RMSNormalization (opset 23): axis=-1, epsilon=1.1920928955078125e-07; scale = weight")]
    [InlineData("RMSNorm(4)", "3,4", "PyTorch", "torch.nn.RMSNorm((4,), eps=None, elementwise_affine=True); functional.rms_norm")]
    [InlineData("LayerNorm(6, bias=False, axis=1)", "2,6,8,8", "together", "the dimension 1, of 6 elements, at each place of the others")]
    [InlineData("LayerNorm(6, bias=False, axis=1)", "2,6,8,8", "input", "(2, 6, 8, 8) as (N, C, H, W): 768 elements")]
    [InlineData("LayerNorm(6, bias=False, axis=1)", "2,6,8,8", "PyTorch", "torch.nn.LayerNorm((6,), eps=1e-05, elementwise_affine=True, bias=False); functional.layer_norm, with these dimensions transposed to the end and back")]
    [InlineData("RMSNorm([6, 8], axis=1)", "2,6,8,8", "together", "the 2 dimensions from 1 on, (6, 8), at each place of the others")]
    [InlineData("RMSNorm([6, 8], axis=1)", "2,6,8,8", "ONNX", "RMSNormalization (opset 23): axis=-2, epsilon=1.1920928955078125e-07; scale = weight, between two Transposes")]
    [InlineData("LayerNorm(8, axis=3)", "2,6,8,8", "PyTorch", "torch.nn.LayerNorm((8,), eps=1e-05, elementwise_affine=True); functional.layer_norm")]
    [InlineData("LocalResponseNorm(4, window='onnx')", "1,96,55,55", "PyTorch", "torch.nn.LocalResponseNorm(4, alpha=0.0001, beta=0.75, k=1.0); functional.local_response_norm takes another window of an even size")]
    [InlineData("BatchNorm2d(3)", "8,3,5,5", "together", "each channel over the batch, with all positions")]
    [InlineData("BatchNorm2d(3)", "8,3,5,5", "groups", "3, each of 200 elements")]
    [InlineData("BatchNorm2d(3, affine=False)", "8,3,5,5", "ONNX", "BatchNormalization (opset 15), for evaluation mode: epsilon=1e-05; scale = ones, B = zeros, input_mean = running_mean, input_var = running_var")]
    [InlineData("InstanceNorm2d(3)", "8,3,5,5", "together", "each channel of each sample, with all positions")]
    [InlineData("InstanceNorm2d(3)", "8,3,5,5", "ONNX", "InstanceNormalization (opset 6): epsilon=1e-05; scale = ones, B = zeros")]
    [InlineData("LazyInstanceNorm2d()", "8,3,5,5", "affine", "weight and bias, one value per channel: 6 parameters")]
    [InlineData("InstanceNorm2d(3)", "3,5,5", "input", "(3, 5, 5) as (C, H, W): 75 elements")]
    [InlineData("LocalResponseNorm(4, window='onnx')", "1,96,55,55", "ONNX", "LRN (opset 13): size=4, alpha=0.0001, beta=0.75, bias=1")]
    [InlineData("CrossMapLRN2d(5)", "1,96,55,55", "ONNX", "none: LRN leaves channel 0 out where it is not in the window")]
    [InlineData("LocalResponseNorm(5)", "1,96,55,55", "together", "around each element, the window from channel c - 2 to c + 2 at its position; what is outside counts as zero")]
    [InlineData("LocalResponseNorm(5)", "1,96,55,55", "windows", "290,400, each of up to 5 elements")]
    [InlineData("LocalResponseNorm(4)", "1,96,55,55", "ONNX", "LRN (opset 13): size=4, alpha=0.0001, beta=0.75, bias=1; not the same: of an even size ONNX takes the window from c - 1 to c + 2")]
    [InlineData("LayerNorm(4)", "1000000000000,4", "bytes", "forward reads 16,000,000,000,000 and writes 16,000,000,000,000; backward reads 32,000,000,000,000 and writes 16,000,000,000,000")]
    public void Explain_Line_Says(string layer, string shape, string label, string expected)
        => Assert.Contains($"{label.PadRight(12)}{expected}", Succeed("explain", layer, "--shape", shape).Output.Split(Environment.NewLine));

    [Fact]
    public void Explain_Picture_HasTheGroupInFront()
    {
        string[] lines = Succeed("explain", "GroupNorm(3, 6)", "--shape", "3,6,3,1").Output.Split(Environment.NewLine);
        Assert.Equal(
            [
                "                · · · · · ·  N = 3",
                "              · · · · · · ·",
                "            ■ ■ □ □ □ □ · ·",
                "H x W = 3   ■ ■ □ □ □ □ ·",
                "            ■ ■ □ □ □ □",
                "            C = 6",
                "",
                "■ share statistics",
                "",
            ],
            lines[11..]);
    }

    [Fact]
    public void Explain_PictureOfWindow_HasItsElement()
        => Assert.Contains("            ■ ◆ ■ □ □ □", Succeed("explain", "LocalResponseNorm(3)", "--shape", "1,6,2,2").Output.Split(Environment.NewLine));

    [Theory]
    [InlineData("LayerNorm(4, axis=2)", true)]
    [InlineData("LayerNorm([3, 4], axis=1)", true)]
    [InlineData("LayerNorm(3, axis=1)", false)]
    [InlineData("LayerNorm(5)", false)]
    [InlineData("LayerNorm([4, 5])", false)]
    public void Explain_PictureOfScatteredPositions_SaysSo(string layer, bool scattered)
        => Assert.Equal(scattered, Succeed("explain", layer, "--shape", "2,3,4,5").Output.Contains(": those of the group are drawn first", StringComparison.Ordinal));

    [Fact]
    public void Svg_Marks_AreTheFacesThatAreSeen()
    {
        Result result = Succeed("explain", "GroupNorm(3, 6)", "--shape", "4,6,5,1", "--svg", File("g.svg"));
        Assert.Contains(File("g.svg"), result.Output, StringComparison.Ordinal);
        Assert.Equal(["g.svg"], Files());
        XElement svg = XDocument.Load(File("g.svg")).Root!;
        XNamespace space = "http://www.w3.org/2000/svg";
        string[] fills = [.. svg.Descendants(space + "polygon").Select(face => face.Attribute("fill")!.Value)];
        // The block is 4 by 6 by 5 cubes; the marked group is 1 by 2 by 5.
        Assert.Equal((4 * 6) + (5 * (4 + 6)), fills.Length);
        Assert.Equal(2, fills.Count(fill => fill == "#8ec5ff"));
        Assert.Equal(10, fills.Count(fill => fill == "#4c9be8"));
        Assert.Equal(5, fills.Count(fill => fill == "#2f78c4"));
        string[] texts = [.. svg.Elements(space + "text").Select(text => text.Value)];
        Assert.Contains("GroupNorm(3, 6, eps=1e-05, affine=True)", texts);
        Assert.Contains("Input (4, 6, 5, 1): 12 groups of 10 elements", texts);
        Assert.Contains("C = 6", texts);
        Assert.Contains("N = 4", texts);
        Assert.Contains("H x W = 5", texts);
    }

    [Fact]
    public void Svg_Window_MarksItsElement()
    {
        Succeed("explain", "LocalResponseNorm(3)", "--shape", "1,6,2,2", "--svg", File("w.svg"));
        string[] fills = [.. XDocument.Load(File("w.svg")).Descendants().Where(part => part.Name.LocalName == "polygon").Select(face => face.Attribute("fill")!.Value)];
        Assert.Equal(1, fills.Count(fill => fill == "#ffd08a"));
        Assert.Equal(2, fills.Count(fill => fill == "#8ec5ff"));
    }

    [Fact]
    public void Svg_Exists_NeedsForce()
    {
        System.IO.File.WriteAllText(File("g.svg"), "old");
        string[] args = ["explain", "GroupNorm(3, 6)", "--shape", "4,6", "--svg", File("g.svg")];
        Assert.Equal($"normlayers: {File("g.svg")}: exists already; pass --force to replace it.", Refuse(args));
        Succeed([.. args, "--force"]);
        Assert.Equal(["g.svg"], Files());
        Assert.StartsWith("<?xml", System.IO.File.ReadAllText(File("g.svg")), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("GroupNorm(3, 6)", "4", "at least 2 dimensions (N, C, *), got shape [4]")]
    [InlineData("GroupNorm(3, 6)", "4,5,5", "divisible by the number of groups 3, got 5")]
    [InlineData("GroupNorm(3, 6)", "4,9,5", "Expected weight of shape [9]")]
    [InlineData("LayerNorm(4)", "4,5", "last dimensions are [4] (the normalized shape), got shape [4, 5]")]
    [InlineData("BatchNorm2d(3)", "4,5,5,5", "Expected an input of 3 channels (numFeatures), got 5")]
    [InlineData("BatchNorm2d(3)", "4,3,5", "Expected an input of shape (N, C, H, W), got 3 dimensions")]
    [InlineData("BatchNorm1d(3)", "1,3", "one")]
    [InlineData("LocalResponseNorm(0)", "4,5,5", "at least one channel")]
    [InlineData("LocalResponseNorm(2)", "4,5", "at least 3 dimensions (N, C, *), got shape [4, 5]")]
    [InlineData("GroupNorm(3, 6)", "4,x", "--shape is '4,x'; lengths of one or more")]
    [InlineData("GroupNorm(3, 6)", "4,0", "--shape is '4,0'; lengths of one or more")]
    [InlineData("GroupNorm(3, 6)", "4,-6", "--shape is '4,-6'; lengths of one or more")]
    [InlineData("GroupNorm(3, 6)", "9999999999999999999,6", "lengths of one or more")]
    [InlineData("GroupNorm(3, 6)", "4000000000000000000,6", "as many elements as can be counted")]
    [InlineData("NoNorm(3)", "4,6", "Unknown layer 'NoNorm'")]
    public void Explain_Unfit_IsRefusedInTheLayersWords(string layer, string shape, string reason)
        => Assert.Contains(reason, Refuse("explain", layer, "--shape", shape), StringComparison.Ordinal);

    [Fact]
    public void Shape_AsPythonPrintsIt_IsRead()
    {
        Assert.Contains("(2, 5) as", Succeed("explain", "LayerNorm(5)", "--shape", "(2, 5)").Output, StringComparison.Ordinal);
        Assert.Contains("(5,) as (E,)", Succeed("explain", "LayerNorm(5)", "--shape", "[5]").Output, StringComparison.Ordinal);
        Assert.Contains("(5,) as (E,)", Succeed("explain", "LayerNorm(5)", "--shape", "(5,)").Output, StringComparison.Ordinal);
    }

    /// <summary>Whatever the lengths, a picture stays small, shows some of the group, and not all of the axis where the group is not all.</summary>
    [Fact]
    public void Axis_AnyLengths_ShowsTheGroupAndWhatIsNot()
    {
        for (long length = 1; length <= 200; length++)
        {
            for (long group = 1; group <= length; group++)
            {
                if (length % group != 0)
                    continue;
                var axis = new Block.Axis("C", length, group, center: null);
                int marked = Enumerable.Range(0, axis.Cubes).Count(axis.IsMarked);
                Assert.InRange(axis.Cubes, 1, 8);
                Assert.InRange(marked, 1, axis.Cubes);
                // A group too large to be shown whole is one of few numbers without divisors, and the note says what is drawn.
                Assert.True(group == length == (marked == axis.Cubes), $"{group} of {length}: {marked} of {axis.Cubes}");
                Assert.True(length <= 8 || axis.Note.Length > 0);
            }
        }
    }
}
