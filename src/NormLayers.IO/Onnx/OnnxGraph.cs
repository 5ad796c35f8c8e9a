namespace NormLayers.IO.Onnx;

/// <summary>
/// A graph by the names of its values: who makes and who reads each, which are constants, and what is known of shapes
/// without running anything. Checked on construction: each name is given once, and before it is read, so there is no cycle.
/// </summary>
internal sealed class OnnxGraph
{
    // Chains of reshapes and casts are short; a hostile file's may be as long as the file.
    private const int DeepestChain = 64;

    private readonly string path;
    private readonly OnnxGraph? outer;
    private readonly Dictionary<string, NodeProto> producers = [];
    private readonly Dictionary<string, List<NodeProto>> consumers = [];
    private readonly Dictionary<string, OnnxTensor> constants = [];
    private readonly Dictionary<string, ValueInfoProto> declared = [];
    private readonly HashSet<string> inputs = [];

    // Kept, because a value may be reached along as many paths as there are sums of its sums, or be asked for by every node.
    private readonly Dictionary<string, OnnxTensor> made = [];
    private readonly Dictionary<string, long?[]?> shapes = [];
    private readonly Dictionary<string, long?[]?> integers = [];

    private OnnxGraph(string path, GraphProto proto, OnnxGraph? outer, long opset)
    {
        (this.path, this.outer, Proto, Opset) = (path, outer, proto, opset);
        foreach (TensorProto initializer in proto.Initializer)
        {
            if (!constants.TryAdd(initializer.Name, OnnxTensor.Of(path, initializer)))
                throw Refusal.Of(path, $"has two initializers named {Refusal.Quote(initializer.Name)}.");
        }
        foreach (ValueInfoProto value in proto.Input)
        {
            if (!inputs.Add(value.Name))
                throw Refusal.Of(path, $"has two inputs named {Refusal.Quote(value.Name)}.");
        }
        foreach (ValueInfoProto value in proto.Input.Concat(proto.Output).Concat(proto.ValueInfo))
            declared[value.Name] = value;
        AddNodes();
    }

    public GraphProto Proto { get; }

    /// <summary>The version of the default operator set.</summary>
    public long Opset { get; }

    public string Path => path;

    /// <summary>The graph of a model and the graphs within its nodes (the branches of If, the bodies of Loop and Scan), the outermost first.</summary>
    public static List<OnnxGraph> All(string path, GraphProto proto, long opset)
    {
        var graphs = new List<OnnxGraph> { new(path, proto, null, opset) };
        for (int i = 0; i < graphs.Count; i++)
        {
            foreach (NodeProto node in graphs[i].Proto.Node)
            {
                foreach (AttributeProto attribute in node.Attribute)
                {
                    if (attribute.G is not null)
                        graphs.Add(new OnnxGraph(path, attribute.G, graphs[i], opset));
                }
            }
        }
        return graphs;
    }

    public NodeProto? Producer(string value) => producers.TryGetValue(value, out NodeProto? node) ? node : outer?.Producer(value);

    public IReadOnlyList<NodeProto> Consumers(string value) => consumers.TryGetValue(value, out List<NodeProto>? nodes) ? nodes : [];

    /// <summary>Whether a value is handed in from outside when the model runs.</summary>
    public bool IsInput(string value) => (inputs.Contains(value) && !constants.ContainsKey(value)) || (outer?.IsInput(value) ?? false);

    /// <summary>The constant of a name: an initializer, or what a Constant, ConstantOfShape or Identity node makes of constants.</summary>
    public OnnxTensor? Constant(string value) => Constant(value, 0);

    /// <summary>What is known of a value's shape: null where not even its rank is, null elements where a length is not.</summary>
    public long?[]? Shape(string value) => Shape(value, 0);

    /// <summary>The elements of a small vector of integers, such as axes or a shape; null where their number is unknown.</summary>
    public long?[]? Integers(string value) => Integers(value, 0);

    private void AddNodes()
    {
        var later = new HashSet<string>(Proto.Node.SelectMany(node => node.Output));
        foreach (NodeProto node in Proto.Node)
        {
            foreach (string input in node.Input)
            {
                if (input.Length == 0)
                    continue;
                if (!IsKnown(input))
                {
                    throw Refusal.Of(path, $"node {Describe(node)} reads {Refusal.Quote(input)}, "
                        + (later.Contains(input) ? "which only a later node gives: the nodes form a cycle or are out of order." : "which nothing in the graph gives."));
                }
                if (!consumers.TryGetValue(input, out List<NodeProto>? readers))
                    consumers.Add(input, readers = []);
                if (readers.Count == 0 || readers[^1] != node)
                    readers.Add(node);
            }
            foreach (string output in node.Output)
            {
                if (output.Length > 0 && (constants.ContainsKey(output) || inputs.Contains(output) || !producers.TryAdd(output, node)))
                    throw Refusal.Of(path, $"node {Describe(node)} gives {Refusal.Quote(output)}, which something else gives already.");
            }
        }
    }

    private bool IsKnown(string value)
        => producers.ContainsKey(value) || constants.ContainsKey(value) || inputs.Contains(value) || (outer?.IsKnown(value) ?? false);

    private static string Describe(NodeProto node) => $"{Refusal.Quote(node.Name)} ({Refusal.Quote(node.OpType)[1..^1]})";

    private OnnxTensor? Constant(string value, int depth)
    {
        if (constants.TryGetValue(value, out OnnxTensor? tensor) || made.TryGetValue(value, out tensor))
            return tensor;
        if (depth > DeepestChain || Producer(value) is not { } node)
            return outer?.Constant(value, depth);
        switch (node.OpType)
        {
            case "Identity" when node.Input.Count == 1:
                return Constant(node.Input[0], depth + 1);
            case "Constant" when ConstantValue(node) is { } proto:
                return made[value] = OnnxTensor.Of(path, proto);
            case "ConstantOfShape" when node.Input.Count == 1 && Integers(node.Input[0], depth + 1) is { } shape && !shape.Contains(null):
                TensorProto fill = node.Find("value")?.T ?? new TensorProto { DataType = 1, FloatData = { 0 } };
                return OnnxTensor.Filled(path, value, fill, [.. shape.Select(length => length!.Value)]);
            default:
                return null;
        }
    }

    private static TensorProto? ConstantValue(NodeProto node)
    {
        foreach (AttributeProto attribute in node.Attribute)
        {
            switch (attribute.Name)
            {
                case "value": return attribute.T;
                case "value_float": return new TensorProto { DataType = 1, FloatData = { attribute.F } };
                case "value_floats": return new TensorProto { DataType = 1, Dims = { attribute.Floats.Count }, FloatData = { attribute.Floats } };
                case "value_int": return new TensorProto { DataType = 7, Int64Data = { attribute.I } };
                case "value_ints": return new TensorProto { DataType = 7, Dims = { attribute.Ints.Count }, Int64Data = { attribute.Ints } };
                default: break;
            }
        }
        return null;
    }

    private long?[]? Shape(string value, int depth)
    {
        if (!shapes.TryGetValue(value, out long?[]? shape))
            // Longer ones are no tensor's, and a declared one would be copied for each sum that has it.
            shapes[value] = shape = FindShape(value, depth) is { Length: <= Shapes.MaxRank } found ? found : null;
        return shape;
    }

    private long?[]? FindShape(string value, int depth)
    {
        if (depth > DeepestChain)
            return null;
        if (declared.TryGetValue(value, out ValueInfoProto? info) && info.Type?.TensorType?.Shape is { } shape)
            return [.. shape.Dim.Select(dim => dim.HasDimValue && dim.DimValue >= 0 ? dim.DimValue : (long?)null)];
        if (Constant(value, depth) is { } constant)
            return [.. constant.Shape.Select(length => (long?)length)];
        if (Producer(value) is not { Input.Count: > 0 } node)
            return outer?.Shape(value, depth);
        switch (node.OpType)
        {
            // Their result has their first input's shape.
            case "Relu" or "LeakyRelu" or "PRelu" or "Sigmoid" or "Tanh" or "Cast" or "Identity" or "Dropout" or "Clip" or "Sqrt" or "Reciprocal"
                or "BatchNormalization" or "InstanceNormalization" or "LRN" or "LayerNormalization" or "GroupNormalization" or "RMSNormalization":
                return Shape(node.Input[0], depth + 1);
            case "Add" or "Sub" or "Mul" or "Div" when node.Input.Count == 2:
                // The rank of the wider one; lengths are not followed through broadcasts.
                return (Shape(node.Input[0], depth + 1), Shape(node.Input[1], depth + 1)) is ({ } a, { } b) ? new long?[Math.Max(a.Length, b.Length)] : null;
            case "Conv" or "ConvTranspose" when node.Input.Count > 1 && Shape(node.Input[1], depth + 1) is { Length: > 1 } weight:
                var result = new long?[weight.Length];
                result[1] = node.OpType == "Conv" ? weight[0] : weight[1] * node.Integer("group", 1);
                return result;
            case "MaxPool" or "AveragePool" or "GlobalAveragePool" or "Pad":
                return Shape(node.Input[0], depth + 1) is { Length: > 1 } pooled ? [null, node.OpType == "Pad" ? null : pooled[1], .. new long?[pooled.Length - 2]] : null;
            case "Transpose" when node.Integers("perm") is { } perm && Shape(node.Input[0], depth + 1) is { } source && source.Length == perm.Length:
                return [.. perm.Select(axis => axis >= 0 && axis < source.Length ? source[axis] : null)];
            case "Flatten":
                return [node.Integer("axis", 1) == 0 ? 1 : null, null];
            case "Unsqueeze" when (node.Input.Count > 1 ? Integers(node.Input[1], depth + 1) : node.Integers("axes")?.Select(axis => (long?)axis).ToArray()) is { Length: <= Shapes.MaxRank } added:
                return Shape(node.Input[0], depth + 1) is { } kept ? Unsqueezed(kept, added) : null;
            case "Reshape" when (node.Input.Count > 1 ? Integers(node.Input[1], depth + 1) : node.Integers("shape")?.Select(length => (long?)length).ToArray()) is { } target:
                return Reshaped(target, Shape(node.Input[0], depth + 1));
            default:
                return null;
        }
    }

    private static long?[] Reshaped(long?[] target, long?[]? source)
        => [.. target.Select((length, axis) => length == 0 ? (source is not null && axis < source.Length ? source[axis] : null) : length < 0 ? null : length)];

    private static long?[]? Unsqueezed(long?[] shape, long?[] added)
    {
        int rank = shape.Length + added.Length;
        var result = new long?[rank];
        foreach (long? axis in added)
        {
            if (axis is not { } at || at < -rank || at >= rank || result[(int)(at < 0 ? at + rank : at)] == 1)
                return null;
            result[(int)(at < 0 ? at + rank : at)] = 1;
        }
        for (int i = 0, from = 0; i < rank; i++)
        {
            if (result[i] is null)
                result[i] = shape[from++];
        }
        return result;
    }

    private long?[]? Integers(string value, int depth)
    {
        if (!integers.TryGetValue(value, out long?[]? elements))
            integers[value] = elements = FindIntegers(value, depth);
        return elements;
    }

    private long?[]? FindIntegers(string value, int depth)
    {
        if (depth > DeepestChain)
            return null;
        if (Constant(value, depth)?.Integers() is { } constant)
            return [.. constant.Select(element => (long?)element)];
        if (Producer(value) is not { Input.Count: > 0 } node)
            return null;
        long?[]? first = node.OpType is "Shape" ? Shape(node.Input[0], depth + 1) : Integers(node.Input[0], depth + 1);
        if (first is null)
            return null;
        switch (node.OpType)
        {
            case "Identity" or "Cast" or "Unsqueeze" or "Squeeze":
                return first;
            case "Neg":
                return [.. first.Select(element => -element)];
            case "Size" when Producer(node.Input[0])?.OpType == "Shape":
                return [first.Length];
            case "Shape":
                return first[Range(node.Integer("start", 0), node.Integer("end", first.Length), first.Length)];
            case "Concat":
                var all = new List<long?>();
                foreach (string input in node.Input)
                {
                    if (Integers(input, depth + 1) is not { } part || all.Count + part.Length > Shapes.MaxRank)
                        return null;
                    all.AddRange(part);
                }
                return [.. all];
            case "Add" or "Sub" or "Mul" or "Div" when node.Input.Count == 2 && Integers(node.Input[1], depth + 1) is { } second && first.Length == second.Length:
                return [.. first.Zip(second, (a, b) => Combine(node.OpType, a, b))];
            case "Range" when node.Input.Count == 3 && Integers(node.Input[1], depth + 1) is [{ } limit] && Integers(node.Input[2], depth + 1) is [1]
                && first is [{ } start] && limit - start is >= 0 and <= Shapes.MaxRank:
                return [.. Enumerable.Range(0, (int)(limit - start)).Select(i => (long?)(start + i))];
            default:
                return null;
        }
    }

    private static long? Combine(string operation, long? a, long? b) => operation switch
    {
        "Add" => unchecked(a + b),
        "Sub" => unchecked(a - b),
        "Mul" => unchecked(a * b),
        // The smallest number over -1 is the one division that overflows.
        _ => b is 0 or -1 ? null : a / b,
    };

    private static Range Range(long start, long end, int length)
    {
        long from = Math.Clamp(start < 0 ? start + length : start, 0, length), to = Math.Clamp(end < 0 ? end + length : end, from, length);
        return (int)from..(int)to;
    }
}

/// <summary>Attributes by name, with the operator's defaults.</summary>
internal static class NodeAttributes
{
    public static AttributeProto? Find(this NodeProto node, string name)
    {
        foreach (AttributeProto attribute in node.Attribute)
        {
            if (attribute.Name == name)
                return attribute;
        }
        return null;
    }

    public static double Number(this NodeProto node, string name, double standard) => node.Find(name) is { } attribute ? OnnxTensor.Decimal(attribute.F) : standard;

    public static long Integer(this NodeProto node, string name, long standard) => node.Find(name) is { } attribute ? attribute.I : standard;

    public static long[]? Integers(this NodeProto node, string name) => node.Find(name) is { } attribute ? [.. attribute.Ints] : null;

    /// <summary>The name of an input, or null where the node leaves it out.</summary>
    public static string? InputOrNull(this NodeProto node, int index) => index < node.Input.Count && node.Input[index].Length > 0 ? node.Input[index] : null;

    public static string? OutputOrNull(this NodeProto node, int index) => index < node.Output.Count && node.Output[index].Length > 0 ? node.Output[index] : null;
}
