using System.Globalization;
using System.Numerics.Tensors;
using NormLayers.IO.Onnx;

namespace NormLayers.IO;

/// <summary>A normalization in an ONNX model: one operator, or several that write one out.</summary>
/// <remarks>
/// Epsilon and the other attributes are float32 in the file and read as the shortest decimal that gives them: 1e-05, not
/// 9.99999975e-06. https://onnx.ai/onnx/operators/ describes each operator.
/// </remarks>
public sealed partial class OnnxNormalization : ModelLayer
{
    private static readonly string[] Roles = ["weight", "bias", "running_mean", "running_var"];

    private readonly NormalizationNode node;

    internal OnnxNormalization(NormalizationNode node)
        : base(node.Name, FindParameters(node))
    {
        this.node = node;
        Inputs = [.. node.Inputs.Concat(node.Added).Select(name => name ?? "")];
        Outputs = [.. node.Outputs.Select(name => name ?? "")];
    }

    /// <summary>The operator, such as <c>LayerNormalization</c>; where it is written out, the one that the operators amount to.</summary>
    public string Operator => node.Operator;

    /// <summary>Whether the graph writes the normalization out in simpler operators.</summary>
    public bool IsWrittenOut => node.IsWrittenOut;

    /// <summary>The names of the values that go in: the input, scale, bias, mean and variance, and what a Skip operator adds; empty where there is none.</summary>
    public IReadOnlyList<string> Inputs { get; }

    /// <summary>The names of the results, the normalized value first; empty for one that the node leaves out.</summary>
    public IReadOnlyList<string> Outputs { get; }

    /// <inheritdoc/>
    public override string Kind => IsWrittenOut ? $"{Operator}, written out" : Operator;

    /// <inheritdoc/>
    public override string? Text => Told.Text;

    /// <inheritdoc/>
    public override string? Unknown => Told.Unknown;

    private protected override string? Fault => Told.Fault;

    /// <summary>The layer as the file tells it, what it leaves open, and what in it cannot be: that is this node's fault, not the file's others'.</summary>
    private (string? Text, string? Unknown, string? Fault) Told
    {
        get
        {
            try
            {
                string? text = Describe(StaticShape, out string? unknown);
                return (text, unknown, null);
            }
            catch (InvalidDataException fault)
            {
                return (null, null, fault.Message[(node.Graph.Path.Length + ": ".Length)..].TrimEnd('.'));
            }
        }
    }

    /// <summary>Makes the layer with its parameters, in evaluation mode.</summary>
    /// <typeparam name="T">The element type: <see cref="float"/> or <see cref="double"/>.</typeparam>
    /// <param name="inputShape">The input's shape, for what the file leaves open; empty where it is not known.</param>
    /// <returns>A layer that gives the node's first result.</returns>
    /// <exception cref="NotSupportedException">The node is no layer (<see cref="Run{T}(IReadOnlyDictionary{string, Tensor{T}})"/> runs it), or <typeparamref name="T"/> is not supported.</exception>
    /// <exception cref="InvalidDataException">A parameter is not in the file, cannot be read or is not of a shape that the node accepts; or the input's shape does not fit.</exception>
    public NormLayer<T> ToLayer<T>(ReadOnlySpan<nint> inputShape = default)
        where T : unmanaged
    {
        if (!inputShape.IsEmpty)
            return ToLayer([.. inputShape.ToArray().Select(length => (long?)length)], Stored<T>);
        RequireStoredLengths(StaticShape);
        return ToLayer(StaticShape, Stored<T>);
    }

    /// <summary>Whether the node is a layer of PyTorch's, which ToLayer makes; else only Run runs it.</summary>
    public bool IsLayer => node.Added.Length == 0 && !node.Training
        && node.Operator is not ("MeanVarianceNormalization" or "LpNormalization") && OverLastAxes(StaticShape?.Length);

    private long?[]? StaticShape => node.Graph.Shape(node.Inputs[0]!);

    private static List<ModelParameter> FindParameters(NormalizationNode node)
    {
        var parameters = new List<ModelParameter>();
        for (int i = 1; i < node.Inputs.Length; i++)
        {
            if (node.Inputs[i] is { } name && node.Graph.Constant(name) is { } tensor)
                parameters.Add(new OnnxParameter(Roles[i - 1], name, tensor));
        }
        return parameters;
    }

    private string Where => $"{node.Graph.Path}: node {Refusal.Quote(Name)}";

    private bool HasScale => node.Inputs.Length > 1 && node.Inputs[1] is not null;

    private bool HasBias => node.Inputs.Length > 2 && node.Inputs[2] is not null;

    private Tensor<T> Stored<T>(int index)
        where T : unmanaged
    {
        string name = node.Inputs[index]!;
        return node.Graph.Constant(name)?.ReadAs<T>()
            ?? throw Refusal.Of(Where, $"has its {Roles[index - 1]} {Refusal.Quote(name)} not in the file: it is computed or handed in when the model runs, and has to be given.");
    }

    private NormLayer<T> ToLayer<T>(long?[]? shape, Func<int, Tensor<T>> parameter)
        where T : unmanaged
    {
        if (Describe(shape, out string? unknown) is not { } text)
            throw new NotSupportedException($"{Where}: {unknown}");
        Dictionary<string, Tensor<T>> state = State(shape, parameter);
        // The printed form does not say that there is a weight without a bias.
        NormLayer<T> layer = NormLayer.Parse<T>(HasScale && !HasBias && text.StartsWith("LayerNorm", StringComparison.Ordinal) ? $"{text[..^1]}, bias=False)" : text);
        var dictionary = new StateDict();
        foreach ((string name, Tensor<T> value) in state)
            dictionary.Add(name, value);
        layer.LoadStateDict(dictionary);
        layer.Eval();
        return layer;
    }

    /// <summary>The layer's printed form for an input of a shape, or what is missing to it.</summary>
    private string? Describe(long?[]? shape, out string? unknown)
    {
        string affine = HasScale ? "True" : "False", eps = Python(node.Epsilon);
        (string? text, unknown) = Operator switch
        {
            _ when node.Added.Length > 0 => (null, "adds its inputs before it normalizes, which no PyTorch layer does"),
            "LayerNormalization" or "RMSNormalization" or "SimplifiedLayerNormalization" when !OverLastAxes(shape?.Length) => (null, $"takes its statistics over the dimensions {Shapes.Format([.. node.Axes!.Select(axis => (nint)axis)])}, which are not the last ones as far as the file tells"),
            "LayerNormalization" => NormalizedShape(shape) is { } lengths ? ($"LayerNorm({Shapes.Format(lengths)}, eps={eps}, elementwise_affine={affine})", null) : (null, NoShape),
            "RMSNormalization" or "SimplifiedLayerNormalization" => NormalizedShape(shape) is { } lengths ? ($"RMSNorm({Shapes.Format(lengths)}, eps={eps}, elementwise_affine={affine})", (string?)null) : (null, NoShape),
            "GroupNormalization" => Channels(shape) is { } channels ? ($"GroupNorm({node.Groups}, {channels}, eps={eps}, affine={affine})", null) : (null, "the number of channels is not in the file"),
            "InstanceNormalization" => (Channels(shape), Spatial(shape)) is ({ } channels, { } spatial)
                ? ($"InstanceNorm{spatial}d({channels}, eps={eps}, momentum=0.1, affine=True, track_running_stats=False)", null) : (null, NoRank(shape)),
            "BatchNormalization" when node.Training => (null, "is in training form: it normalizes with the batch's statistics and gives running ones"),
            "BatchNormalization" => (Channels(shape), Spatial(shape)) is ({ } channels, { } spatial)
                ? ($"BatchNorm{spatial}d({channels}, eps={eps}, momentum={Python(Math.Abs(node.Momentum) <= 1 ? (double)(1 - (decimal)node.Momentum) : 1 - node.Momentum)}, affine=True, track_running_stats=True)", null) : (null, NoRank(shape)),
            // An even window leans to higher channels, PyTorch's to lower ones; an odd one is the same.
            "LRN" => ($"LocalResponseNorm({node.Size}, alpha={Python(node.Alpha)}, beta={Python(node.Beta)}, k={Python(node.K)}{(node.Size % 2 == 0 ? ", window='onnx'" : "")})", null),
            _ => (null, "is no layer of PyTorch's"),
        };
        return text;
    }

    private const string NoShape = "the lengths of the normalized dimensions are not in the file";

    private static string NoRank(long?[]? shape)
        => shape is null ? "the number of dimensions of its input is not in the file (1d, 2d or 3d)" : $"its input of {shape.Length} dimensions is one that no PyTorch layer takes";

    /// <summary>Whether the dimensions that share statistics are the last ones; with an unknown rank only axes counted from the end can be.</summary>
    private bool OverLastAxes(int? rank) => node.Axes is not { } axes || FromStart(axes, rank ?? 0).Select((axis, i) => axis == (rank ?? 0) - axes.Length + i).All(last => last);

    private static long[] FromStart(long[] axes, int rank) => [.. axes.Select(axis => axis < 0 ? axis + rank : axis).Order()];

    /// <summary>The lengths that share statistics: of the input where they are known, else of the scale.</summary>
    private nint[]? NormalizedShape(long?[]? shape)
    {
        nint[]? scale = HasScale ? node.Graph.Constant(node.Inputs[1]!)?.Shape ?? Known(node.Graph.Shape(node.Inputs[1]!)) : null;
        if (shape is not null)
        {
            if (First(shape.Length) is not (>= 0 and var first) || first >= shape.Length)
                throw Refusal.Of(Where, $"normalizes from axis {node.Axis}, and its input has {shape.Length} dimensions.");
            if (Known(shape[(int)first..]) is { } known)
                return known;
            return scale is not null && scale.Length == shape.Length - first ? scale : null;
        }
        long count = node.Axes?.Length ?? (node.Axis < 0 ? -node.Axis : scale?.Length ?? 0);
        return scale is not null && scale.Length == count ? scale : null;
    }

    private long First(int rank) => node.Axes is { } axes ? rank - axes.Length : node.Axis < 0 ? node.Axis + rank : node.Axis;

    private static nint[]? Known(long?[]? shape) => shape is null || shape.Contains(null) ? null : [.. shape.Select(length => (nint)length!.Value)];

    private nint? Channels(long?[]? shape)
    {
        if (HasScale && !node.ScalePerGroup && node.Graph.Constant(node.Inputs[1]!) is { } scale)
            return (nint)scale.Count;
        return shape is [_, { } channels, ..] ? (nint)channels : null;
    }

    private int? Spatial(long?[]? shape) => shape?.Length switch
    {
        2 when Operator == "BatchNormalization" => 1,
        3 => 1,
        4 => 2,
        5 => 3,
        _ => null,
    };

    /// <summary>Refuses a declared shape that one value of the file would be broadcast to without bound: the declaration costs it nothing.</summary>
    private void RequireStoredLengths(long?[]? shape)
    {
        if (!HasScale || node.Graph.Constant(node.Inputs[1]!) is not { } scale || Describe(shape, out _) is null)
            return;
        nint[] lengths = Operator is "LayerNormalization" or "RMSNormalization" or "SimplifiedLayerNormalization" ? NormalizedShape(shape)! : [Channels(shape)!.Value];
        if (!Shapes.TryCount(lengths, sizeof(double), out long count) || (count > OnnxTensor.MostFilled && count != scale.Count))
            throw Refusal.Of(Where, $"has the weight {Refusal.Quote(node.Inputs[1])} of shape {Shapes.Format(scale.Shape)}, and the shape {Shapes.Format(lengths)} is declared for it; accepted are at most {OnnxTensor.MostFilled} elements that are not in the file.");
    }

    /// <summary>The layer's state dict for an input of a shape: ONNX's parameters broadcast, PyTorch's do not.</summary>
    private Dictionary<string, Tensor<T>> State<T>(long?[]? shape, Func<int, Tensor<T>> parameter)
        where T : unmanaged
    {
        var state = new Dictionary<string, Tensor<T>>();
        if (!HasScale)
            return state;
        bool perElement = Operator is "LayerNormalization" or "RMSNormalization" or "SimplifiedLayerNormalization";
        nint[] lengths = perElement ? NormalizedShape(shape)! : [Channels(shape)!.Value];
        for (int i = 1; i < node.Inputs.Length; i++)
        {
            if (node.Inputs[i] is not null)
                state.Add(Roles[i - 1], Fit(parameter(i), lengths, i, perElement));
        }
        if (Operator == "GroupNormalization" && !HasBias)
            state.Add("bias", Tensor.CreateFromShape<T>(lengths));
        return state;
    }

    private Tensor<T> Fit<T>(Tensor<T> parameter, nint[] lengths, int index, bool perElement)
        where T : unmanaged
    {
        nint count = parameter.FlattenedLength;
        if (perElement)
        {
            if (Broadcasts(parameter.Lengths, lengths))
                return parameter.Lengths.SequenceEqual(lengths) ? parameter : Dense(Tensor.Broadcast<T>(parameter.Rank > lengths.Length ? parameter.Reshape(parameter.Lengths[^lengths.Length..]) : parameter, lengths));
        }
        else if (count == lengths[0] && !node.ScalePerGroup)
        {
            return parameter.Rank == 1 ? parameter : parameter.Reshape([count]);
        }
        else if (node.ScalePerGroup && count == (nint)node.Groups && lengths[0] % count == 0)
        {
            nint each = lengths[0] / count;
            return Dense(Tensor.Broadcast<T>(parameter.Reshape([count, 1]), [count, each])).Reshape(lengths);
        }
        string accepted = node.ScalePerGroup ? $"one value per group, {node.Groups}, for channels that the groups divide, not {lengths[0]}" : $"the shape {Shapes.Format(lengths)}";
        throw Refusal.Of(Where, $"has the {Roles[index - 1]} {Refusal.Quote(node.Inputs[index])} of shape {Shapes.Format(parameter.Lengths)}; accepted is {accepted}.");
    }

    private static bool Broadcasts(ReadOnlySpan<nint> from, ReadOnlySpan<nint> to)
    {
        for (int i = 1; i <= from.Length; i++)
        {
            if (from[^i] != 1 && (i > to.Length || from[^i] != to[^i]))
                return false;
        }
        return true;
    }

    private static unsafe Tensor<T> Dense<T>(Tensor<T> view)
        where T : unmanaged
    {
        Tensor<T> result = Tensor.CreateFromShapeUninitialized<T>(view.Lengths);
        fixed (T* source = view, destination = result)
            StridedCopy.ToRowMajor<T, T>((byte*)source, view.Lengths, view.Strides, swapBytes: false, destination);
        return result;
    }

    private sealed class OnnxParameter(string role, string name, OnnxTensor tensor)
        : ModelParameter(role, name, tensor.Shape)
    {
        public override string TypeName => tensor.TypeName;

        public override Tensor<T> ReadAs<T>() => tensor.ReadAs<T>();
    }
}
