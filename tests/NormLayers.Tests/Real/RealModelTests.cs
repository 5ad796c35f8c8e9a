using System.Numerics.Tensors;
using System.Text.Json;
using NormLayers.IO;
using Xunit;

namespace NormLayers.Tests.Real;

/// <summary>Layers of pretrained models, on the activations that reached them, against what ONNX Runtime gave.</summary>
public sealed class RealModelTests
{
    /// <summary>PP-OCRv4's are in the repository; the other models lie in a shared folder beside it on the developers' machines.</summary>
    [Theory]
    [InlineData("examples/data/ppocr-v4-rec", 5)]
    [InlineData("../shared/real/gtcrn", 2)]
    [InlineData("../shared/real/openface-stem", 1)]
    [InlineData("../shared/real/openface-conv1-lrn", 1)]
    [InlineData("../shared/real/style-candy", 2)]
    public void Forward_NodesOfAModel_AgreeWithTheEngine(string folder, int expected)
    {
        string path = Path.Combine(Repository.Root, folder);
        Assert.SkipUnless(Directory.Exists(path), $"{folder} is not on this machine");

        using JsonDocument manifest = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(path, "manifest.json")));
        int compared = 0;
        foreach (JsonElement node in manifest.RootElement.GetProperty("nodes").EnumerateArray())
        {
            if (Run(path, node) is not { } actual)
                continue;
            compared++;
            float[] engine = Tensors.ToArray(Read(path, node, "y"));
            double largest = node.GetProperty("y_abs_max").GetDouble();
            // The engine's own distance from the formula, and four units in the last place of the largest output for ours.
            double tolerance = node.GetProperty("y_vs_float64_formula_max_abs").GetDouble() + 4 * Golden.Ulp.Of<float>(largest);
            double worst = Tensors.ToArray(actual).Zip(engine, (a, b) => Math.Abs((double)a - b)).Max();
            Assert.True(worst <= tolerance, $"{node.GetProperty("node")}: differs by {worst:G4}, tolerance {tolerance:G4}");
        }
        Assert.Equal(expected, compared);
    }

    /// <summary>The node's output, or null where its operator is another layer's.</summary>
    private static Tensor<float>? Run(string folder, JsonElement node)
    {
        JsonElement attributes = node.GetProperty("attributes");
        double Number(string name) => attributes.GetProperty(name).GetDouble();
        switch (node.GetProperty("operator").GetString())
        {
            case "LayerNormalization":
                Tensor<float> weight = Read(folder, node, "scale");
                return Functional.LayerNorm(Read(folder, node, "x"), weight.Lengths, weight, Read(folder, node, "bias"), Number("epsilon"));
            case "GroupNormalization":
                return Functional.GroupNorm(Read(folder, node, "x"), (nint)Number("num_groups"), Read(folder, node, "scale"), Read(folder, node, "bias"), Number("epsilon"));
            case "LRN":
                // An odd size: ONNX's window and PyTorch's are the same.
                return Functional.LocalResponseNorm(Read(folder, node, "x"), (nint)Number("size"), Number("alpha"), Number("beta"), Number("bias_k"));
            default:
                return null;
        }
    }

    private static Tensor<float> Read(string folder, JsonElement node, string name)
    {
        using var file = NpyFile.Open(Path.Combine(folder, node.GetProperty("files").GetProperty(name).GetString()!));
        return file.Read<float>();
    }
}
