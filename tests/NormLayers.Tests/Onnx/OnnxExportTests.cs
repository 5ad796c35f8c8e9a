using System.Numerics.Tensors;
using NormLayers.IO;
using NormLayers.IO.Onnx;
using NormLayers.Tests.IO;
using Xunit;

namespace NormLayers.Tests.Onnx;

/// <summary>Models that a layer is saved as: what another reader of the format needs to be in them.</summary>
public sealed class OnnxExportTests : IDisposable
{
    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    public static TheoryData<string> Layers =>
    [
        "LayerNorm((3,))", "LayerNorm((3,), elementwise_affine=False)", "LayerNorm((3,), bias=False)", "RMSNorm((3,), eps=1e-6)", "GroupNorm(1, 3)", "GroupNorm(3, 3, affine=False)",
        "InstanceNorm1d(3, affine=True)", "InstanceNorm2d(3)", "InstanceNorm2d(3, track_running_stats=True)", "BatchNorm1d(3)", "BatchNorm2d(3, affine=False)", "LocalResponseNorm(3)",
    ];

    [Theory]
    [MemberData(nameof(Layers))]
    public void Save_AnyElementType_WritesParametersOfThatType(string text)
    {
        Check<float>(text, 1, 4);
        Check<double>(text, 11, 8);
        Check<Half>(text, 10, 2);
        Check<BFloat16>(text, 16, 2);
    }

    [Theory]
    [MemberData(nameof(Layers))]
    public void Save_AnyLayer_InitializersThatAreNoInputsHaveAnIrVersionThatAllowsIt(string text) => Assert.InRange(Saved(NormLayer.Parse(text)).IrVersion, 4, 11);

    [Theory]
    [InlineData("BatchNorm2d(3)", "N 3 H W")]
    [InlineData("BatchNorm3d(3)", "N 3 D H W")]
    [InlineData("InstanceNorm1d(3)", "N 3 L")]
    [InlineData("InstanceNorm2d(3, affine=True, track_running_stats=True)", "N 3 H W")]
    [InlineData("InstanceNorm3d(3)", "N 3 D H W")]
    [InlineData("BatchNorm1d(3)", null)]
    [InlineData("SyncBatchNorm(3)", null)]
    [InlineData("GroupNorm(1, 3)", null)]
    [InlineData("LayerNorm(3)", null)]
    public void Save_LayerOfOneRank_DeclaresItsDimensions(string text, string? dimensions)
    {
        GraphProto graph = Saved(NormLayer.Parse(text)).Graph;
        Assert.All(graph.Input.Concat(graph.Output), value => Assert.Equal(
            dimensions,
            value.Type.TensorType.Shape is { } shape ? string.Join(' ', shape.Dim.Select(dim => dim.HasDimValue ? $"{dim.DimValue}" : dim.DimParam)) : null));
        if (dimensions is not null)
            Assert.NotNull(OnnxModel.Load(folder["layer.onnx"]).Find("output").Text);
    }

    [Theory]
    [InlineData("LayerNorm(3, eps=1e-60)", "epsilon 1E-60")]
    [InlineData("GroupNorm(1, 3, eps=1e60)", "epsilon 1E+60")]
    [InlineData("LocalResponseNorm(3, alpha=1e-60)", "alpha 1E-60")]
    public void Save_AttributeThatAFloat32DoesNotHold_IsRefusedAndNothingWritten(string text, string what)
    {
        NormLayer<double> layer = NormLayer.Parse<double>(text);
        Assert.Contains(what, Assert.Throws<NotSupportedException>(() => layer.Save(folder["layer.onnx"])).Message, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFiles(folder.Path));
    }

    [Fact]
    public void Save_ParametersOfMoreThanTwoGigabytes_IsRefused()
        => Assert.Contains(
            "that an ONNX file holds",
            Assert.Throws<NotSupportedException>(() => NormLayer.Parse<double>("LayerNorm((134217728,), elementwise_affine=False)").Save(folder["layer.onnx"])).Message,
            StringComparison.Ordinal);

    [Theory]
    [InlineData("layer.onnx")]
    [InlineData("layer.safetensors")]
    public void Save_PrefixWithHalfOfASurrogatePair_IsRefusedAndNothingWritten(string name)
    {
        Assert.Equal("prefix", Assert.Throws<ArgumentException>(() => NormLayer.Parse("LayerNorm(3)").Save(folder[name], "a\ud800")).ParamName);
        Assert.Empty(Directory.GetFiles(folder.Path));
    }

    private ModelProto Check<T>(string text, int type, int size)
        where T : unmanaged
    {
        NormLayer<T> layer = NormLayer.Parse<T>(text);
        ModelProto model = Saved(layer);
        Assert.All(model.Graph.Input.Concat(model.Graph.Output), value => Assert.Equal(type, value.Type.TensorType.ElemType));
        Assert.All(model.Graph.Initializer, tensor => Assert.Equal((type, 3 * size), (tensor.DataType, tensor.RawData.Length)));
        foreach (ModelParameter parameter in OnnxModel.Load(folder["layer.onnx"]).Find("output").Parameters)
            Assert.Equal(parameter.Role is "weight" or "running_var" ? [1f, 1f, 1f] : [0f, 0f, 0f], Tensors.ToArray(parameter.ReadAs<float>()));
        return model;
    }

    private ModelProto Saved<T>(NormLayer<T> layer)
        where T : unmanaged
    {
        layer.Save(folder["layer.onnx"], overwrite: true);
        return ModelProto.Parser.ParseFrom(File.ReadAllBytes(folder["layer.onnx"]));
    }
}
