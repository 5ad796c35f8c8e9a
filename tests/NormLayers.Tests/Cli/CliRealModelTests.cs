using Xunit;

namespace NormLayers.Tests.CommandLine;

/// <summary>The LayerNorms of a pretrained text recognizer, on the activations that reached them, against ONNX Runtime.</summary>
public sealed class CliRealModelTests : Sandbox
{
    [Theory]
    [InlineData("05", "layer_norm_43", "1e-05")]
    [InlineData("06", "layer_norm_44", "1e-05")]
    [InlineData("07", "layer_norm_45", "1e-05")]
    [InlineData("08", "layer_norm_46", "1e-05")]
    [InlineData("09", "layer_norm_47", "1e-06")]
    public void Run_TextRecognizer_AgreesWithTheEngine(string node, string prefix, string eps)
    {
        string Data(string name) => Path.Combine(Repository.Root, "examples", "data", "ppocr-v4-rec", name);
        float[] expected = Read<float>(Data($"{node}_layer_y.npy"));

        Succeed(
            "run", $"LayerNorm(120, eps={eps})", "--input", Data($"{node}_layer_x.npy"),
            "--weights", Data("parameters.safetensors"), "--prefix", prefix, "--output", File("y.npy"));

        float[] actual = Read<float>(File("y.npy"));
        Assert.Equal(expected.Length, actual.Length);
        float largest = expected.Max(MathF.Abs);
        Assert.All(expected.Zip(actual), pair => Assert.True(MathF.Abs(pair.First - pair.Second) <= 1e-5f * largest, $"{pair}"));

        Succeed(
            "run", $"LayerNorm(120, eps={eps})", "--input", Data($"{node}_layer_x.npy"),
            "--weight", Data($"{node}_layer_scale.npy"), "--bias", Data($"{node}_layer_bias.npy"), "--output", File("z.npy"));
        Assert.Equal(System.IO.File.ReadAllBytes(File("y.npy")), System.IO.File.ReadAllBytes(File("z.npy")));
    }
}
