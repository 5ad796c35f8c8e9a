using System.Globalization;
using System.Numerics.Tensors;
using Google.Protobuf;

namespace NormLayers.IO.Onnx;

/// <summary>Writes a layer as an ONNX model of one node, in an old operator set that has its operator and that engines still take.</summary>
internal static unsafe class OnnxExport
{
    private const string Input = "input";
    private const string Output = "output";

    // Protobuf's limit of 2^31 - 1, less room for what is not parameters.
    private const long MostBytes = int.MaxValue - (1 << 16);

    public static void Save<T>(NormLayer<T> layer, string path, string prefix, bool overwrite)
        where T : unmanaged
    {
        ModelProto model = Model(layer, prefix);
        int length = model.CalculateSize();
        using NewFile file = NewFile.Create(path, length, overwrite);
        model.WriteTo(new Span<byte>(file.Start, length));
        file.Commit();
    }

    private static ModelProto Model<T>(NormLayer<T> layer, string prefix)
        where T : unmanaged
    {
        // An IR version as old as the operator set, so that an old engine that has the operator takes the file; but 4 at
        // least: before, each initializer had to be an input of the graph too.
        (NodeProto node, long opset, long ir, nint[] shape) = layer switch
        {
            // The operators normalize all dimensions from an axis on, so that channels before positions would need transposes.
            LayerNorm<T> { Axis: { } axis } norm when axis != -norm.NormalizedShape.Length => throw NotLast(axis, norm.NormalizedShape.Length),
            RMSNorm<T> { Axis: { } axis } norm when axis != -norm.NormalizedShape.Length => throw NotLast(axis, norm.NormalizedShape.Length),
            LayerNorm<T> norm => (Node("LayerNormalization", ("axis", -norm.NormalizedShape.Length), ("epsilon", norm.Eps)), 17L, 8L, norm.NormalizedShape.ToArray()),
            RMSNorm<T> norm => (Node("RMSNormalization", ("axis", -norm.NormalizedShape.Length), ("epsilon", norm.Eps)), 23, 11, norm.NormalizedShape.ToArray()),
            GroupNorm<T> norm => (Node("GroupNormalization", ("num_groups", (int)norm.NumGroups), ("epsilon", norm.Eps)), 21, 10, [norm.NumChannels]),
            // Without running statistics evaluation takes the batch's too, which the operator does in its training form alone.
            BatchNorm<T> { TrackRunningStats: false } => throw new NotSupportedException($"{layer} cannot be exported: it has no running statistics."),
            // With running statistics, instance normalization is the same function.
            RunningNormLayer<T> { TrackRunningStats: true } norm => (Node("BatchNormalization", ("epsilon", norm.Eps)), 15, 8, [norm.NumFeatures]),
            // BFloat16 came late to this one operator.
            RunningNormLayer<T> norm when typeof(T) == typeof(BFloat16) => (Node("InstanceNormalization", ("epsilon", norm.Eps)), 22, 10, [norm.NumFeatures]),
            RunningNormLayer<T> norm => (Node("InstanceNormalization", ("epsilon", norm.Eps)), 9, 4, [norm.NumFeatures]),
            LocalResponseNorm<T> { Window: LrnWindow.PyTorch, Size: var size } when size % 2 == 0 => throw new NotSupportedException(
                $"{layer} cannot be exported: ONNX's LRN with an even size leans to higher channels, PyTorch's to lower ones (window='onnx' is ONNX's)."),
            LocalResponseNorm<T> norm => (Node("LRN", ("size", (int)norm.Size), ("alpha", norm.Alpha), ("beta", norm.Beta), ("bias", norm.K)), 13, 7, []),
            _ => throw new NotSupportedException($"{layer} cannot be exported; ONNX operators are written for LayerNorm, RMSNorm, GroupNorm, BatchNorm, InstanceNorm and LocalResponseNorm."),
        };
        int parameters = layer is RMSNorm<T> ? 1 : layer is RunningNormLayer<T> { TrackRunningStats: true } ? 4 : 2;
        if (!Shapes.TryCount(shape, parameters * sizeof(T), out long count) || count * parameters * sizeof(T) > MostBytes)
            throw new NotSupportedException($"{layer} cannot be exported: its {parameters} parameters have more than the {MostBytes} bytes that an ONNX file holds.");
        var graph = new GraphProto { Name = layer.Name, Node = { node }, Input = { Value<T>(Input) }, Output = { Value<T>(Output) } };
        // A shape of another rank would shut inputs out that the layer takes; one that is left out stands for any.
        if (layer is RunningNormLayer<T> { NumFeatures: var channels } && DimensionsOf(layer) is { } dimensions)
        {
            foreach (ValueInfoProto value in graph.Input.Concat(graph.Output))
                value.Type.TensorType.Shape = new TensorShapeProto { Dim = { dimensions.Select(name => name == "C" ? new TensorShapeProto.Types.Dimension { DimValue = channels } : new TensorShapeProto.Types.Dimension { DimParam = name }) } };
        }
        node.Name = prefix.TrimEnd('.');
        node.Input.Add(Input);
        node.Output.Add(Output);
        if (shape.Length > 0)
        {
            // The operators' scale and bias are not optional.
            Add("weight", Parameter("weight") ?? Filled<T>(shape, 1));
            if (layer is not RMSNorm<T>)
                Add("bias", Parameter("bias") ?? Filled<T>(shape, 0));
            if (layer is RunningNormLayer<T> { RunningMean: { } mean, RunningVar: { } variance })
            {
                Add("running_mean", mean);
                Add("running_var", variance);
            }
        }
        return new ModelProto
        {
            IrVersion = ir,
            ProducerName = "NormLayers",
            OpsetImport = { new OperatorSetIdProto { Version = opset } },
            Graph = graph,
        };

        NotSupportedException NotLast(int axis, int dimensions) => new(
            $"{layer} cannot be exported: ONNX normalizes the last dimensions, and axis={axis} is others; accepted are axis={-dimensions} and none.");

        void Add(string name, Tensor<T> value)
        {
            node.Input.Add(prefix + name);
            graph.Initializer.Add(Constant(prefix + name, value));
        }

        Tensor<T>? Parameter(string name) => layer.Parameters.FirstOrDefault(parameter => parameter.Name == name)?.Value;
    }

    /// <summary>The names of a batch's dimensions where the layer fixes their number; null where it takes several.</summary>
    private static string[]? DimensionsOf<T>(NormLayer<T> layer)
        where T : unmanaged
        => layer switch
        {
            InstanceNorm1d<T> => ["N", "C", "L"],
            BatchNorm2d<T> or InstanceNorm2d<T> => ["N", "C", "H", "W"],
            BatchNorm3d<T> or InstanceNorm3d<T> => ["N", "C", "D", "H", "W"],
            _ => null,
        };

    private static NodeProto Node(string operation, params ReadOnlySpan<(string Name, object Value)> attributes)
    {
        var node = new NodeProto { OpType = operation };
        foreach ((string name, object value) in attributes)
        {
            // ONNX's attributes are float32; a value that it rounds is one thing, one that it loses another.
            if (value is double real && real != 0 && (float)real is 0 or float.PositiveInfinity or float.NegativeInfinity)
                throw new NotSupportedException($"A {operation} with {name} {real.ToString(CultureInfo.InvariantCulture)} cannot be exported: ONNX has it as a float32, in which this is {(float)real}.");
            node.Attribute.Add(value is int number
                ? new AttributeProto { Name = name, Type = AttributeProto.Types.AttributeType.Int, I = number }
                : new AttributeProto { Name = name, Type = AttributeProto.Types.AttributeType.Float, F = (float)(double)value });
        }
        return node;
    }

    private static int DataType<T>()
        where T : unmanaged
        => ElementTypes.Of<T>() switch { ElementType.Float32 => 1, ElementType.Float16 => 10, ElementType.BFloat16 => 16, _ => 11 };

    private static ValueInfoProto Value<T>(string name)
        where T : unmanaged
        => new() { Name = name, Type = new TypeProto { TensorType = new TypeProto.Types.Tensor { ElemType = DataType<T>() } } };

    private static TensorProto Constant<T>(string name, Tensor<T> value)
        where T : unmanaged
    {
        var bytes = new byte[checked((int)value.FlattenedLength * sizeof(T))];
        fixed (T* source = value)
        fixed (byte* destination = bytes)
            StridedCopy.ToRowMajor<T, T>((byte*)source, value.Lengths, value.Strides, !BitConverter.IsLittleEndian, (T*)destination);
        var proto = new TensorProto { Name = name, DataType = DataType<T>(), RawData = UnsafeByteOperations.UnsafeWrap(bytes) };
        foreach (nint length in value.Lengths)
            proto.Dims.Add(length);
        return proto;
    }

    private static Tensor<T> Filled<T>(nint[] shape, float value)
        where T : unmanaged
    {
        Span<T> converted = stackalloc T[1];
        ElementConversion.Convert<float, T>([value], converted);
        Tensor<T> result = Tensor.CreateFromShapeUninitialized<T>(shape);
        result.Fill(converted[0]);
        return result;
    }
}
