using System.Numerics.Tensors;
using System.Text.Json;
using NormLayers.IO;
using Xunit;

namespace NormLayers.Tests.Real;

/// <summary>Pretrained models' own files: every normalization that was recorded is found in them, and run from them against what the engine gave.</summary>
public sealed class ModelFileTests
{
    private static string Folder(string name)
    {
        string folder = Path.Combine(Repository.Root, "../shared/real", name);
        Assert.SkipUnless(Directory.Exists(folder), $"../shared/real/{name} is not on this machine");
        return folder;
    }

    [Theory]
    [InlineData("ppocr-v4-rec", "model.onnx", 11, 5, 10)]
    [InlineData("gtcrn", "model.onnx", 15, 4, 5)]
    [InlineData("style-candy", "model.onnx", 15, 0, 3)]
    [InlineData("openface-stem", "model.onnx", 5, 0, 2)]
    [InlineData("ppocr-v4-rec", "blocks_fused.onnx", 5, 0, 5)]
    public void Onnx_RecordedNodes_AreFoundAndAgreeWithTheEngine(string name, string file, int nodes, int writtenOut, int expected)
    {
        string folder = Folder(name);
        OnnxModel model = OnnxModel.Load(Path.Combine(folder, file));
        Assert.Equal(nodes, model.NormalizationNodes.Count);
        Assert.Equal(writtenOut, model.NormalizationNodes.Count(node => node.IsWrittenOut));
        Assert.All(model.NormalizationNodes, node => Assert.Empty(node.FindProblems()));

        int compared = 0;
        foreach (JsonElement entry in Entries(folder))
        {
            if (!entry.TryGetProperty("graph_tensors", out JsonElement tensors) || tensors.GetProperty("output").GetString() is not { } output
                || !model.NormalizationNodes.Any(known => known.Outputs[0] == output))
                continue;
            compared++;
            OnnxNormalization node = model.Find(output);
            Assert.Equal(entry.GetProperty("operator").GetString(), node.Operator);
            Assert.Equal(tensors.GetProperty("input").GetString(), node.Inputs[0]);
            Assert.Equal(tensors.GetProperty("parameters").EnumerateArray().Select(parameter => parameter.GetString()), node.Parameters.Select(parameter => parameter.Name));
            Assert.NotNull(node.Text);
            AssertAgrees(folder, entry, node.Run(Read(folder, entry, "x")));
            AssertAgrees(folder, entry, node.ToLayer<float>().Forward(Read(folder, entry, "x")));
        }
        Assert.Equal(expected, compared);
    }

    [Fact]
    public void Checkpoint_Stories_ElevenRmsNormsOnceTheirTypeIsSaid()
    {
        string folder = Folder("stories260k");
        using Checkpoint checkpoint = Checkpoint.Open(Path.Combine(folder, "model.safetensors"));
        Assert.Equal(11, checkpoint.Layers.Count);
        Assert.All(checkpoint.Layers, layer => Assert.Equal(["LayerNorm", "RMSNorm"], layer.Types));
        int compared = 0;
        foreach (JsonElement entry in Entries(folder))
        {
            compared++;
            string parameter = entry.GetProperty("graph_tensors").GetProperty("parameters")[0].GetString()!;
            NormLayer<float> layer = checkpoint.Find(parameter[..^".weight".Length]).ToLayer<float>(3, "RMSNorm", entry.GetProperty("attributes").GetProperty("epsilon").GetDouble());
            AssertAgrees(folder, entry, layer.Forward(Read(folder, entry, "x")));
        }
        Assert.Equal(4, compared);
    }

    [Fact]
    public void Checkpoint_TextRecognizer_PaddleNamesGiveTheLayersOfTheManifest()
    {
        string folder = Folder("ppocr-v4-rec");
        using Checkpoint checkpoint = Checkpoint.Open(Path.Combine(folder, "parameters.safetensors"));
        Assert.Equal(6, checkpoint.Layers.Count(layer => layer.Types is ["BatchNorm"]));
        Assert.Equal(5, checkpoint.Layers.Count(layer => layer.Types is ["LayerNorm"]));
        foreach (JsonElement entry in Entries(folder))
        {
            string parameter = entry.GetProperty("graph_tensors").GetProperty("parameters")[0].GetString()!;
            Tensor<float> x = Read(folder, entry, "x");
            NormLayer<float> layer = checkpoint.Find(parameter[..^".w_0".Length]).ToLayer<float>(x.Rank, eps: entry.GetProperty("attributes").GetProperty("epsilon").GetDouble());
            AssertAgrees(folder, entry, layer.Forward(x));
        }
    }

    [Fact]
    public void Checkpoint_SpeechEnhancer_LayersByTheirNamesAndShapes()
    {
        using Checkpoint checkpoint = Checkpoint.Open(Path.Combine(Folder("gtcrn"), "checkpoint_vctk.safetensors"));
        Assert.Equal(22, checkpoint.Layers.Count(layer => layer.Types is ["BatchNorm"]));
        Assert.Equal(
            ["dpgrnn1.inter_ln", "dpgrnn1.intra_ln", "dpgrnn2.inter_ln", "dpgrnn2.intra_ln"],
            checkpoint.Layers.Where(layer => layer.Types is ["LayerNorm"]).Select(layer => layer.Name).Order());
        Assert.Equal("LayerNorm((33, 16), eps=1e-05, elementwise_affine=True)", checkpoint.Find("dpgrnn1.intra_ln").Text);
        Assert.Equal("BatchNorm2d(16, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)", checkpoint.Find("encoder.en_convs.0.bn").ToLayer<float>(4).ToString());
    }

    [Theory]
    [InlineData("light_bvlc_alexnet.onnx", "LRN", 2, 0)]
    [InlineData("light_resnet50.onnx", "BatchNormalization", 53, 212)]
    public void Onnx_WholeNetworks_HaveTheirCounts(string file, string operation, int count, int parameters)
    {
        string path = Path.Combine(Repository.Root, "../shared/onnx-light", file);
        Assert.SkipUnless(File.Exists(path), "../shared/onnx-light is not on this machine");
        OnnxModel model = OnnxModel.Load(path);
        Assert.Equal(count, model.NormalizationNodes.Count);
        Assert.All(model.NormalizationNodes, node => Assert.Equal(operation, node.Operator));
        Assert.Equal(parameters, model.NormalizationNodes.Sum(node => node.Parameters.Count));
    }

    private static List<JsonElement> Entries(string folder)
    {
        using JsonDocument manifest = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "manifest.json")));
        return [.. manifest.RootElement.GetProperty("nodes").EnumerateArray().Select(node => node.Clone())];
    }

    private static void AssertAgrees(string folder, JsonElement entry, Tensor<float> actual)
    {
        // The engine's own distance from the formula, and four units in the last place of the largest output for ours.
        double tolerance = entry.GetProperty("y_vs_float64_formula_max_abs").GetDouble() + 4 * Golden.Ulp.Of<float>(entry.GetProperty("y_abs_max").GetDouble());
        Tensor<float> engine = Read(folder, entry, "y");
        Assert.Equal(engine.Lengths.ToArray(), actual.Lengths.ToArray());
        double worst = Tensors.ToArray(actual).Zip(Tensors.ToArray(engine), (a, b) => Math.Abs((double)a - b)).Max();
        Assert.True(worst <= tolerance, $"differs by {worst:G4}, tolerance {tolerance:G4}");
    }

    private static Tensor<float> Read(string folder, JsonElement entry, string name)
    {
        using var file = NpyFile.Open(Path.Combine(folder, entry.GetProperty("files").GetProperty(name).GetString()!));
        return file.Read<float>();
    }
}
