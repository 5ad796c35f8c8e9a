using System.Runtime.InteropServices;
using Google.Protobuf;
using NormLayers.IO.Onnx;

namespace NormLayers.Tests.Onnx;

/// <summary>Small models, node by node.</summary>
internal static class OnnxModels
{
    public static NodeProto Node(string operation, string inputs, string outputs, params AttributeProto[] attributes)
        => new() { OpType = operation, Name = "", Input = { inputs.Split(' ') }, Output = { outputs.Split(' ') }, Attribute = { attributes } };

    public static AttributeProto Number(string name, float value) => new() { Name = name, F = value, Type = AttributeProto.Types.AttributeType.Float };

    public static AttributeProto Integer(string name, long value) => new() { Name = name, I = value, Type = AttributeProto.Types.AttributeType.Int };

    public static AttributeProto Integers(string name, params long[] values) => new() { Name = name, Ints = { values }, Type = AttributeProto.Types.AttributeType.Ints };

    public static TensorProto Raw(string name, long[] dims, params float[] values)
        => new() { Name = name, DataType = 1, Dims = { dims }, RawData = ByteString.CopyFrom(MemoryMarshal.AsBytes(values.AsSpan())) };

    public static TensorProto Typed(string name, long[] dims, params float[] values) => new() { Name = name, DataType = 1, Dims = { dims }, FloatData = { values } };

    public static TensorProto Int64s(string name, params long[] values) => new() { Name = name, DataType = 7, Dims = { values.Length }, Int64Data = { values } };

    public static ValueInfoProto Value(string name, params long[] lengths)
        => new() { Name = name, Type = new TypeProto { TensorType = new TypeProto.Types.Tensor { ElemType = 1, Shape = new TensorShapeProto { Dim = { lengths.Select(length => new TensorShapeProto.Types.Dimension { DimValue = length }) } } } } };

    /// <summary>A model whose input is <c>x</c>; its opset is 17 unless said.</summary>
    public static ModelProto Model(ValueInfoProto x, NodeProto[] nodes, TensorProto[] initializers, long opset = 17)
        => new() { IrVersion = 8, OpsetImport = { new OperatorSetIdProto { Version = opset } }, Graph = new GraphProto { Name = "g", Input = { x }, Node = { nodes }, Initializer = { initializers } } };

    /// <summary>One LayerNormalization over the last three values, with raw parameters.</summary>
    public static ModelProto LayerNorm() => Model(
        Value("x", 2, 3), [Node("LayerNormalization", "x w b", "y", Number("epsilon", 1e-3f))], [Raw("w", [3], 1, 2, 3), Raw("b", [3], 0, 0.5f, -1)]);
}
