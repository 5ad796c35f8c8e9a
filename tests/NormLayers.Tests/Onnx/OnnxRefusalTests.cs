using System.Numerics.Tensors;
using Google.Protobuf;
using NormLayers.IO;
using NormLayers.IO.Onnx;
using NormLayers.Tests.IO;
using Xunit;
using static NormLayers.Tests.Onnx.OnnxModels;

namespace NormLayers.Tests.Onnx;

/// <summary>Files that are not sound: one line each, and no memory beyond what the file has.</summary>
public sealed class OnnxRefusalTests : IDisposable
{
    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    public static TheoryData<string, string> Unsound => new()
    {
        { "empty", "is empty" },
        { "text", "is not an ONNX model" },
        { "nothing", "has no graph" },
        { "no opset", "imports no version" },
        { "opset 0", "imports version 0 of the default operator set; accepted are 1 and later" },
        { "many dimensions", "has 65 dimensions; accepted are at most 64" },
        { "two elements to fill with", "tensor 'w': is filled with 2 elements; accepted is one" },
        { "no output", "is a LayerNormalization without an output" },
        { "statistics of positions", "has spatial 0, statistics of each position" },
        { "short raw data", "has 8 bytes of data, and float32 of shape (3,) needs 12" },
        { "short typed data", "has 2 elements, and the shape (3,) needs 3" },
        { "huge shape", "has 12 bytes of data, and float32 of shape (1000000000000,) needs 4000000000000" },
        { "uncountable shape", "more bytes than can be counted" },
        { "negative length", "has a dimension of length -3" },
        { "missing value", "reads 'w', which nothing in the graph gives" },
        { "cycle", "which only a later node gives: the nodes form a cycle or are out of order" },
        { "given twice", "gives 'y', which something else gives already" },
        { "two initializers", "has two initializers named 'w'" },
        { "no scale", "is a LayerNormalization with 1 inputs; accepted are at least 2" },
        { "no groups", "has num_groups 0" },
        { "no size", "has size 0" },
        { "p of 3", "has p 3; accepted are 1 and 2" },
        { "huge groups", "has num_groups 1099511627776; accepted are 1 to 2147483647" },
        { "huge size", "has size 1099511627776; accepted are 1 to 2147483647" },
        { "epsilon that is no number", "has epsilon NaN; accepted are finite numbers" },
        { "infinite epsilon", "has epsilon -Infinity; accepted are finite numbers" },
        { "momentum that is no number", "has momentum NaN; accepted are finite numbers" },
        { "whole epsilon", "has an attribute epsilon of type Int; accepted is Float" },
        { "fractional axis", "has an attribute axis of type Float; accepted is Int" },
    };

    [Theory]
    [MemberData(nameof(Unsound))]
    public void Load_UnsoundFile_OneLineWithTheReason(string what, string reason)
    {
        string path = folder.Write("model.onnx", Bytes(what));
        var refused = Assert.Throws<InvalidDataException>(() => OnnxModel.Load(path));
        Assert.StartsWith(path + ":", refused.Message, StringComparison.Ordinal);
        Assert.Contains(reason, refused.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', refused.Message);
    }

    [Theory]
    [InlineData("../secret", "0", null, "accepted are files in the model's own folder")]
    [InlineData("data.bin\0", "0", null, "accepted are files in the model's own folder")]
    [InlineData("/etc/passwd", "0", null, "accepted are files in the model's own folder")]
    [InlineData("absent.bin", "0", null, "there is no such file beside the model")]
    [InlineData("data.bin", "8", null, "at byte 8, 12 bytes of them; the file has 16")]
    [InlineData("data.bin", "9223372036854775807", null, "the file has 16")]
    [InlineData("data.bin", "-1", null, "offset '-1'; accepted are whole numbers")]
    [InlineData("data.bin", "0", "16", "has 16 bytes of external data, and float32 of shape (3,) needs 12")]
    [InlineData("", "0", null, "external data without a location")]
    public void Parameters_ExternalDataThatIsNotThere_OneLine(string location, string offset, string? length, string reason)
    {
        string path = folder.Write("model.onnx", External(location, offset, length).ToByteArray());
        folder.Write("data.bin", new byte[16]);
        OnnxNormalization node = Assert.Single(OnnxModel.Load(path).NormalizationNodes);
        Assert.Contains(reason, Assert.Throws<InvalidDataException>(() => node.Parameters[0].ReadAs<float>()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Parameters_ExternalData_AreReadAtTheirOffset()
    {
        byte[] data = new byte[16];
        BitConverter.TryWriteBytes(data.AsSpan(4), 1.5f);
        folder.Write("data.bin", data);
        string path = folder.Write("model.onnx", External("data.bin", "4", "12").ToByteArray());
        Assert.Equal([1.5f, 0, 0], Tensors.ToArray(OnnxModel.Load(path).NormalizationNodes[0].Parameters[0].ReadAs<float>()));
    }

    [Fact]
    public void Parameters_OneElementFilledToAHugeShape_IsRefusedWhenRead()
    {
        ModelProto model = Model(Value("x", 2, 3), [Node("ConstantOfShape", "shape", "w"), Node("LayerNormalization", "x w", "y")], [Int64s("shape", 1L << 40)]);
        OnnxNormalization node = Assert.Single(OnnxModel.Load(folder.Write("model.onnx", model.ToByteArray())).NormalizationNodes);
        Assert.Contains("is one element filled to the shape (1099511627776,)", Assert.Throws<InvalidDataException>(() => node.FindProblems()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Load_SumsOfSumsOfSums_TakesNoExponentialTime()
    {
        NodeProto[] nodes = [.. Enumerable.Range(0, 200).Select(i => Node("Add", i == 0 ? "x x" : $"v{i - 1} v{i - 1}", $"v{i}")), Node("InstanceNormalization", "v199 w w", "y")];
        ModelProto model = Model(new ValueInfoProto { Name = "x" }, nodes, [Raw("w", [1], 1)]);
        Assert.Null(OnnxModel.Load(folder.Write("model.onnx", model.ToByteArray())).NormalizationNodes[0].Text);
    }

    [Fact]
    public void Load_HugeDeclaredShapes_AllocatesNoMoreThanTheFileAsksFor()
    {
        ModelProto model = LayerNorm();
        model.Graph.Input[0] = Value("x", long.MaxValue, long.MaxValue, 3);
        string path = folder.Write("model.onnx", model.ToByteArray());
        _ = OnnxModel.Load(path);
        long before = GC.GetAllocatedBytesForCurrentThread();
        OnnxNormalization node = OnnxModel.Load(path).NormalizationNodes[0];
        _ = (node.Text, node.FindProblems());
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 100_000);
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(-2, 1)]
    [InlineData(0, 1)]
    [InlineData(3, 0)]
    [InlineData(-2147483647, 0)]
    [InlineData(long.MinValue, 0)]
    public void Load_WrittenOutMeanVarianceOfFlattenedRows_IsFoundWhereItsAxesAreKnown(long axis, int count)
    {
        ModelProto model = Model(
            Value("x", 2, 3, 4),
            [
                Node("Flatten", "x", "rows", Integer("axis", axis)), Node("ReduceMean", "rows", "mean", Integers("axes", 1)), Node("Sub", "rows mean", "d"), Node("Mul", "d d", "square"),
                Node("ReduceMean", "square", "variance", Integers("axes", 1)), Node("Sqrt", "variance", "root"), Node("Add", "root eps", "deviation"), Node("Div", "d deviation", "q"), Node("Reshape", "q shape", "y"),
            ],
            [Raw("eps", [], 1e-9f), Int64s("shape", 2, 3, 4)],
            opset: 13);
        IReadOnlyList<OnnxNormalization> found = OnnxModel.Load(folder.Write("model.onnx", model.ToByteArray())).NormalizationNodes;
        Assert.Equal(count, found.Count);
        Tensor<float> x = Tensor.Create<float>([.. Enumerable.Range(0, 24).Select(i => (float)(i * i))], [2, 3, 4]);
        foreach (OnnxNormalization node in found)
            Assert.Equal(Tensors.ToArray(NormLayer.Parse(axis == 0 ? "LayerNorm((2, 3, 4), eps=0, elementwise_affine=False)" : "LayerNorm((3, 4), eps=0, elementwise_affine=False)").Forward(x)), Tensors.ToArray(node.Run(x)), (a, b) => Math.Abs(a - b) < 1e-5);
    }

    [Fact]
    public void ToLayer_MomentumFarFromZeroAndOne_IsPyTorchsToo()
    {
        ModelProto model = Model(Value("x", 2, 3), [Node("BatchNormalization", "x w w w w", "y", Number("momentum", 1e30f))], [Raw("w", [3], 1, 2, 3)], opset: 15);
        OnnxNormalization node = Assert.Single(OnnxModel.Load(folder.Write("model.onnx", model.ToByteArray())).NormalizationNodes);
        Assert.Equal(node.Text, node.ToLayer<float>().ToString());
    }

    [Fact]
    public void Text_DeclaredShapeOfManyDimensions_IsNotCopiedForEachSum()
    {
        NodeProto[] nodes = [.. Enumerable.Range(0, 100).SelectMany(i => new[] { Node("Add", "x x", $"v{i}"), Node("InstanceNormalization", $"v{i} w w", $"y{i}") })];
        string path = folder.Write("model.onnx", Model(Value("x", new long[20_000]), nodes, [Raw("w", [1], 1)]).ToByteArray());
        OnnxModel model = OnnxModel.Load(path);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.All(model.NormalizationNodes, node => Assert.Null(node.Text));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 5_000_000);
    }

    [Fact]
    public void Load_ManyRootsOfOneMeanOrConstant_TakesNoTimeOrMemoryThatGrowsWithBoth()
    {
        const int Many = 20_000;
        var values = new AttributeProto { Name = "value_floats", Floats = { new float[Many] }, Type = AttributeProto.Types.AttributeType.Floats };
        NodeProto[] nodes =
        [
            new NodeProto { OpType = "Constant", Output = { "c" }, Attribute = { values } }, Node("Mul", "x x", "square"), Node("ReduceMean", "square", "mean", Integers("axes", new long[Many])),
            .. Enumerable.Range(0, 200).SelectMany(i => new[] { Node("Sqrt", "mean", $"a{i}"), Node("Sqrt", "c", $"b{i}") }),
        ];
        string path = folder.Write("model.onnx", Model(Value("x", 2, 3), nodes, [], opset: 13).ToByteArray());
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Empty(OnnxModel.Load(path).NormalizationNodes);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 5_000_000);
    }

    [Theory]
    [InlineData("LayerNormalization", 1L << 28, 17)]
    [InlineData("LayerNormalization", 1L << 40, 17)]
    [InlineData("LayerNormalization", long.MaxValue, 17)]
    [InlineData("GroupNormalization", 1L << 40, 18)]
    public void ToLayer_OneElementBroadcastToAHugeDeclaredShape_IsRefused(string operation, long length, long opset)
    {
        AttributeProto[] attributes = operation == "GroupNormalization" ? [Integer("num_groups", 1)] : [];
        ModelProto model = Model(Value("x", 2, length), [Node(operation, "x w w", "y", attributes)], [Raw("w", [1], 1)], opset);
        OnnxNormalization node = Assert.Single(OnnxModel.Load(folder.Write("model.onnx", model.ToByteArray())).NormalizationNodes);
        Assert.Contains("accepted are at most 1048576 elements that are not in the file", Assert.Throws<InvalidDataException>(() => node.ToLayer<float>()).Message, StringComparison.Ordinal);
        Assert.Equal([2, 8], node.ToLayer<float>([2, 8]).Forward(Tensor.CreateFromShape<float>([2, 8])).Lengths.ToArray().Select(i => (int)i));
    }

    [Fact]
    public void Load_CutAtEveryByte_IsRefusedOrWhole()
    {
        byte[] whole = LayerNorm().ToByteArray();
        Assert.Single(OnnxModel.Load(folder.Write("model.onnx", whole)).NormalizationNodes);
        for (int length = 0; length < whole.Length; length++)
        {
            string path = folder.Write("cut.onnx", whole[..length]);
            // The graph comes before the operator set: no shorter file is a model.
            Assert.StartsWith(path, Assert.Throws<InvalidDataException>(() => OnnxModel.Load(path)).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Load_DamagedBytes_AreReadOrRefused()
    {
        byte[] whole = LayerNorm().ToByteArray();
        var random = new Random(20);
        (int read, int refused) = (0, 0);
        for (int round = 0; round < 3000; round++)
        {
            byte[] bytes = [.. whole];
            for (int flips = random.Next(1, 4); flips > 0; flips--)
                bytes[random.Next(bytes.Length)] ^= (byte)(1 << random.Next(8));
            string path = folder.Write("fuzz.onnx", bytes);
            try
            {
                foreach (OnnxNormalization node in OnnxModel.Load(path).NormalizationNodes)
                    _ = (node.Text, node.Unknown, node.FindProblems(), node.Run(new Dictionary<string, Tensor<float>> { [node.Inputs[0]] = Tensor.Create<float>([1, 2, 3, 4, 5, 7], [2, 3]) }));
                read++;
            }
            catch (Exception known) when (known is InvalidDataException or ArgumentException or NotSupportedException)
            {
                Assert.DoesNotContain('\n', known.Message);
                refused++;
            }
        }
        Assert.True(read > 300 && refused > 300, $"{read} read, {refused} refused");
    }

    private static byte[] Bytes(string what)
    {
        ModelProto model = LayerNorm();
        GraphProto graph = model.Graph;
        switch (what)
        {
            case "empty": return [];
            case "text": return "this is no model"u8.ToArray();
            case "nothing": return new ModelProto { IrVersion = 8 }.ToByteArray();
            case "no opset": model.OpsetImport.Clear(); break;
            case "opset 0": model.OpsetImport[0].Version = 0; break;
            case "many dimensions": graph.Initializer[0] = Raw("w", [.. Enumerable.Repeat(1L, 65)], 1); break;
            case "two elements to fill with":
                graph.Initializer[0] = Int64s("shape", 3);
                graph.Node.Insert(0, Node("ConstantOfShape", "shape", "w", new AttributeProto { Name = "value", T = Raw("v", [2], 1, 2), Type = AttributeProto.Types.AttributeType.Tensor }));
                break;
            case "no output": graph.Node[0].Output[0] = ""; break;
            case "statistics of positions":
                graph.Node[0] = Node("BatchNormalization", "x w w w w", "y", Integer("spatial", 0));
                model.OpsetImport[0].Version = 8;
                break;
            case "short raw data": graph.Initializer[0] = Raw("w", [3], 1, 2); break;
            case "short typed data": graph.Initializer[0] = Typed("w", [3], 1, 2); break;
            case "huge shape": graph.Initializer[0] = Raw("w", [1_000_000_000_000], 1, 2, 3); break;
            case "uncountable shape": graph.Initializer[0] = Raw("w", [long.MaxValue, long.MaxValue], 1, 2, 3); break;
            case "negative length": graph.Initializer[0] = Raw("w", [-3], 1, 2, 3); break;
            case "missing value": graph.Initializer.RemoveAt(0); break;
            case "cycle": graph.Node.Insert(0, Node("Add", "x y", "z")); break;
            case "given twice": graph.Node.Add(Node("Relu", "x", "y")); break;
            case "two initializers": graph.Initializer.Add(Raw("w", [1], 1)); break;
            case "no scale": graph.Node[0] = Node("LayerNormalization", "x", "y"); break;
            case "no groups": graph.Node[0] = Node("GroupNormalization", "x w b", "y"); break;
            case "no size": graph.Node[0] = Node("LRN", "x", "y"); break;
            case "p of 3": graph.Node[0] = Node("LpNormalization", "x", "y", Integer("p", 3)); break;
            case "huge groups": graph.Node[0] = Node("GroupNormalization", "x w b", "y", Integer("num_groups", 1L << 40)); break;
            case "huge size": graph.Node[0] = Node("LRN", "x", "y", Integer("size", 1L << 40)); break;
            case "epsilon that is no number": graph.Node[0].Attribute[0] = Number("epsilon", float.NaN); break;
            case "infinite epsilon": graph.Node[0].Attribute[0] = Number("epsilon", float.NegativeInfinity); break;
            case "momentum that is no number": graph.Node[0] = Node("BatchNormalization", "x w w w w", "y", Number("momentum", float.NaN)); break;
            case "whole epsilon": graph.Node[0].Attribute[0] = Integer("epsilon", 1); break;
            case "fractional axis": graph.Node[0].Attribute.Add(Number("axis", -1)); break;
            default: throw new ArgumentException(what);
        }
        return model.ToByteArray();
    }

    private static ModelProto External(string location, string offset, string? length)
    {
        var tensor = new TensorProto { Name = "w", DataType = 1, Dims = { 3 }, DataLocation = TensorProto.Types.DataLocation.External };
        tensor.ExternalData.Add(new StringStringEntryProto { Key = "location", Value = location });
        tensor.ExternalData.Add(new StringStringEntryProto { Key = "offset", Value = offset });
        if (length is not null)
            tensor.ExternalData.Add(new StringStringEntryProto { Key = "length", Value = length });
        ModelProto model = LayerNorm();
        model.Graph.Initializer[0] = tensor;
        return model;
    }
}
