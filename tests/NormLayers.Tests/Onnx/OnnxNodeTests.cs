using System.Numerics.Tensors;
using Google.Protobuf;
using NormLayers.IO;
using NormLayers.IO.Onnx;
using NormLayers.Tests.IO;
using Xunit;
using static NormLayers.Tests.Onnx.OnnxModels;

namespace NormLayers.Tests.Onnx;

/// <summary>What a node means in its version of the operators, and what stands for an attribute that is left out.</summary>
public sealed class OnnxNodeTests : IDisposable
{
    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData(15, 1, 1, true)]
    [InlineData(14, 1, 1, true)]
    [InlineData(14, 0, 3, false)]
    [InlineData(13, 0, 3, true)]
    [InlineData(7, 0, 3, true)]
    [InlineData(7, 0, 1, false)]
    [InlineData(6, 0, 1, true)]
    public void BatchNormalization_OfEachVersion_SaysWhetherItTrains(long opset, long mode, int outputs, bool trains)
    {
        NodeProto node = Node("BatchNormalization", "x w w w w", "y m v"[..((2 * outputs) - 1)], Integer("training_mode", mode));
        OnnxNormalization found = Load(Model(Value("x", 2, 1, 3), [node], [Raw("w", [1], 1)], opset));
        Assert.Equal(!trains, found.IsLayer);
    }

    [Fact]
    public void Attributes_LeftOut_AreTheSpecifications()
    {
        Assert.Equal("LocalResponseNorm(3, alpha=0.0001, beta=0.75, k=1.0)", Load(Model(Value("x", 1, 4, 2), [Node("LRN", "x", "y", Integer("size", 3))], [])).Text);

        // Over all but the channels.
        Tensor<float> x = Tensor.Create([1f, 3, 5, 5, 2, 4, 7, 7], [2, 2, 1, 2]);
        float[] y = Tensors.ToArray(Load(Model(Value("x", 2, 2, 1, 2), [Node("MeanVarianceNormalization", "x", "y")], [])).Run(x));
        Assert.Equal([-1.3416408f, 0.4472136f, -1, -1, -0.4472136f, 1.3416408f, 1, 1], y, (a, b) => Math.Abs(a - b) < 1e-5);

        NodeProto skip = Node("SkipLayerNormalization", "x s w", "y");
        skip.Domain = "com.microsoft";
        ModelProto model = Model(Value("x", 1, 2), [skip], [Raw("w", [2], 1, 1), Raw("s", [1, 2], 0, 0)]);
        Assert.Equal([-1f, 1f], Tensors.ToArray(Load(model).Run(Tensor.Create([0, 1e-3f], [1, 2]))), (a, b) => Math.Abs(a - b) < 1e-4);
    }

    [Fact]
    public void Attribute_WithoutAType_IsRead()
    {
        ModelProto model = LayerNorm();
        model.Graph.Node[0].Attribute[0].Type = AttributeProto.Types.AttributeType.Undefined;
        Assert.Equal("LayerNorm((3,), eps=0.001, elementwise_affine=True)", Load(model).Text);
    }

    [Fact]
    public void Opset_UnderItsLongName_IsTheDefaultOne()
    {
        ModelProto model = LayerNorm();
        model.OpsetImport[0].Domain = "ai.onnx";
        Assert.Equal("LayerNorm((3,), eps=0.001, elementwise_affine=True)", Load(model).Text);
    }

    [Fact]
    public void Find_NodesOfOneName_AreToldApartByTheirResults()
    {
        NodeProto first = Node("LRN", "x", "a", Integer("size", 3)), second = Node("LRN", "a", "b", Integer("size", 5)), third = Node("LRN", "b", "n", Integer("size", 7));
        (first.Name, second.Name, third.Name) = ("n", "n", "c");
        OnnxModel model = OnnxModel.Load(folder.Write("m.onnx", Model(Value("x", 1, 4, 2), [first, second, third], []).ToByteArray()));
        // A result goes before names.
        Assert.Equal("c", model.Find("n").Name);
        Assert.Equal(["a"], model.Find("a").Outputs);
        third.Output[0] = "d";
        model = OnnxModel.Load(folder.Write("m.onnx", Model(Value("x", 1, 4, 2), [first, second, third], []).ToByteArray()));
        Assert.Contains("2 normalizations are named 'n'; their results are 'a', 'b'", Assert.Throws<KeyNotFoundException>(() => model.Find("n")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Parameters_OfUnsignedIntegers_AreRead()
    {
        var tensor = new TensorProto { Name = "w", DataType = 12, Dims = { 3 }, Uint64Data = { 1, 2, uint.MaxValue } };
        ModelProto model = LayerNorm();
        model.Graph.Initializer[0] = tensor;
        Assert.Equal([1, 2, uint.MaxValue], Tensors.ToArray(Load(model).Parameters[0].ReadAs<double>()));
    }

    [Fact]
    public void InstanceNormalization_OfTwoDimensions_IsNoLayer()
    {
        OnnxNormalization node = Load(Model(Value("x", 2, 3), [Node("InstanceNormalization", "x w w", "y")], [Raw("w", [3], 1, 1, 1)]));
        Assert.Null(node.Text);
        Assert.Contains("its input of 2 dimensions is one that no PyTorch layer takes", node.Unknown, StringComparison.Ordinal);
    }

    [Fact]
    public void Run_OfWhatTheNodeDoesNotTake_IsRefused()
    {
        Tensor<float> x = Tensor.Create([0f, 0, 3, 4], [2, 2]);
        OnnxNormalization node = Load(Model(Value("x", 2, 2), [Node("LpNormalization", "x", "y", Integer("axis", -3))], []));
        Assert.Contains("normalizes along axis -3, and its input has the shape (2, 2)", Assert.Throws<InvalidDataException>(() => node.Run(x)).Message, StringComparison.Ordinal);
        node = Load(Model(Value("x", 2, 2), [Node("MeanVarianceNormalization", "x", "y", Integers("axes", 1, -1))], []));
        Assert.Contains("takes its statistics over the dimensions (1, -1)", Assert.Throws<InvalidDataException>(() => node.Run(x)).Message, StringComparison.Ordinal);
        node = Load(Model(Value("x", 2, 2), [Node("RMSNormalization", "x w", "y r")], [Raw("w", [2], 1, 1)], opset: 23));
        Assert.Contains("is asked for its result 1, 'r', which is not supported of a RMSNormalization", Assert.Throws<InvalidDataException>(() => node.Run(x)).Message, StringComparison.Ordinal);
        NodeProto skip = Node("SkipLayerNormalization", "x s w", "y");
        skip.Domain = "com.microsoft";
        node = Load(Model(Value("x", 2, 2), [skip], [Raw("w", [2], 1, 1), Raw("s", [3], 1, 1, 1)]));
        Assert.Contains("adds 's' of shape (3,) to its input of shape (2, 2)", Assert.Throws<InvalidDataException>(() => node.Run(x)).Message, StringComparison.Ordinal);

        // Zeros have no norm, and stay zeros.
        node = Load(Model(Value("x", 2, 2), [Node("LpNormalization", "x", "y")], []));
        Assert.Equal([0, 0, 0.6f, 0.8f], Tensors.ToArray(node.Run(x)));
    }

    private OnnxNormalization Load(ModelProto model) => Assert.Single(OnnxModel.Load(folder.Write("model.onnx", model.ToByteArray())).NormalizationNodes);
}
