using System.Numerics.Tensors;
using System.Text.RegularExpressions;

namespace NormLayers.IO;

/// <summary>A normalization layer in a checkpoint: its parameters, and what their names and shapes tell of it.</summary>
/// <remarks>
/// Names and shapes never tell epsilon, and often not the type: a weight alone may be an RMSNorm's or a LayerNorm's, and a weight
/// and a bias of one dimension a LayerNorm's, GroupNorm's or InstanceNorm's. <see cref="Types"/> lists what it may be; nothing is guessed.
/// </remarks>
public sealed partial class CheckpointLayer : ModelLayer
{
    private readonly string path;
    private readonly ParameterNames names;

    private CheckpointLayer(string path, string name, ParameterNames names, IReadOnlyList<ModelParameter> parameters, IReadOnlyList<string> types)
        : base(name, parameters)
        => (this.path, this.names, Types) = (path, names, types);

    /// <summary>The framework whose names the parameters have: <c>PyTorch</c>, <c>Keras</c>, <c>Paddle</c> or <c>Flax</c>.</summary>
    public string Framework => names.Framework;

    /// <summary>The types that it may be, such as <c>LayerNorm</c>, the dimensions of BatchNorm and InstanceNorm left out; one where the file tells.</summary>
    public IReadOnlyList<string> Types { get; }

    /// <summary>The epsilon that the framework gives the type where the model does not say otherwise: the file does not hold it.
    /// Null where the type is not known or its default is no practice (RMSNorm, for which models choose 1e-5 or 1e-6).</summary>
    public double? DefaultEps => Types is [var type] ? StandardEps(type) : null;

    /// <inheritdoc/>
    public override string Kind => $"{string.Join(" or ", Types)} ({Framework})";

    /// <inheritdoc/>
    public override string? Text => Types is ["LayerNorm"] ? Describe("LayerNorm", DefaultEps!.Value, null, null) : null;

    /// <inheritdoc/>
    public override string? Unknown
    {
        get
        {
            string eps = DefaultEps is { } standard ? $"eps ({Framework}'s default is {Python(standard)})" : "eps";
            return Types switch
            {
                { Count: > 1 } => $"which of {string.Join(", ", Types)} it is, and {eps}{(Types.Contains("GroupNorm") ? ", and a GroupNorm's number of groups" : "")}",
                ["GroupNorm"] => $"the number of groups, and {eps}",
                ["BatchNorm"] or ["InstanceNorm"] => $"1d, 2d or 3d, which the input's dimensions tell, and {eps}",
                _ => eps,
            };
        }
    }

    /// <summary>Makes the layer with its parameters, in evaluation mode.</summary>
    /// <typeparam name="T">The element type: <see cref="float"/> or <see cref="double"/>.</typeparam>
    /// <param name="inputRank">The input's number of dimensions, which BatchNorm and InstanceNorm have in their names.</param>
    /// <param name="type">Which of <see cref="Types"/> it is; needed where there is more than one.</param>
    /// <param name="eps">Epsilon, which the file does not hold; null for <see cref="DefaultEps"/> or the type's.</param>
    /// <param name="numGroups">A GroupNorm's number of groups, which the file does not hold.</param>
    /// <returns>The layer.</returns>
    /// <exception cref="ArgumentException">The type, epsilon or number of groups is needed and null, does not fit the parameters, or the rank is one that the layer does not take.</exception>
    /// <exception cref="InvalidDataException">A parameter cannot be read.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <exception cref="ObjectDisposedException">The checkpoint was disposed.</exception>
    public NormLayer<T> ToLayer<T>(int inputRank, string? type = null, double? eps = null, nint? numGroups = null)
        where T : unmanaged
    {
        if (type is null && Types.Count > 1)
            throw new ArgumentException($"{Where}: its names and shapes do not tell whether it is {string.Join(", ", Types.SkipLast(1))} or {Types[^1]}; which is needed.", nameof(type));
        if (type is not null && !Types.Contains(type))
            throw new ArgumentException($"{Where}: cannot be '{type}'; with these parameters it may be {string.Join(", ", Types)}.", nameof(type));
        type ??= Types[0];
        double epsilon = eps ?? StandardEps(type) ?? throw new ArgumentException($"{Where}: the file does not hold the eps of a {type}, and models choose several; it is needed.", nameof(eps));
        if ((type == "GroupNorm") != (numGroups is not null))
            throw new ArgumentException($"{Where}: {(type == "GroupNorm" ? "the file does not hold the number of groups of a GroupNorm; it is needed." : $"a {type} has no number of groups, got {numGroups}.")}", nameof(numGroups));
        int? spatial = inputRank switch { 2 => type == "BatchNorm" ? 1 : null, 3 => 1, 4 => 2, 5 => 3, _ => null };
        if (type is "BatchNorm" or "InstanceNorm" && spatial is null)
            throw new ArgumentException($"{Where}: a {type} takes inputs of {(type == "BatchNorm" ? 2 : 3)} to 5 dimensions, got {inputRank}.", nameof(inputRank));

        bool bias = Parameters.Any(parameter => parameter.Role == "bias");
        string text = Describe(type, epsilon, numGroups, spatial);
        NormLayer<T> layer = NormLayer.Parse<T>(type == "LayerNorm" && !bias ? $"{text[..^1]}, bias=False)" : text);
        layer.LoadStateDict(State<T>());
        layer.Eval();
        return layer;
    }

    internal static CheckpointLayer? Recognize(SafetensorsFile file, string prefix, ParameterNames names, List<(string Last, TensorInfo Info)> group)
    {
        var parameters = new SortedList<int, CheckpointParameter>();
        foreach ((string last, TensorInfo info) in group)
        {
            if (names.Role(last) is not { } role || !parameters.TryAdd(Array.IndexOf(Order, role), new CheckpointParameter(file, role, info)))
                return null;
        }
        CheckpointParameter? Get(string role) => parameters.GetValueOrDefault(Array.IndexOf(Order, role));
        CheckpointParameter? weight = Get("weight"), bias = Get("bias"), mean = Get("running_mean"), variance = Get("running_var");
        nint[]? shape = (weight ?? mean)?.Lengths;
        bool sameShapes = shape is { Length: > 0 } && new[] { bias, mean, variance }.All(other => other is null || other.Lengths.SequenceEqual(shape));
        if (!sameShapes || (mean is null) != (variance is null))
            return null;

        string[] types = TypesOf(prefix, shape!, weight is not null, bias is not null, mean is not null);
        return types.Length == 0 ? null : new CheckpointLayer(file.Path, prefix, names, [.. parameters.Values], types);
    }

    private static readonly string[] Order = ["weight", "bias", "running_mean", "running_var", ParameterNames.BatchCounter];

    /// <summary>What parameters of these kinds can belong to, narrowed by what the name spells out.</summary>
    private static string[] TypesOf(string prefix, nint[] shape, bool weight, bool bias, bool running)
    {
        // InstanceNorm with running statistics has the same parameters, and in evaluation mode it is the same function.
        if (running)
            return shape.Length == 1 && weight == bias ? ["BatchNorm"] : [];
        if (shape.Length > 1)
            return bias ? ["LayerNorm"] : [];
        // One value alone is a PReLU's or a scale: a group of one element has nothing to normalize.
        if (shape[0] <= 1 && !bias)
            return [];
        string last = prefix[(prefix.AsSpan().LastIndexOfAny('.', '/') + 1)..];
        if (bias)
        {
            return LayerName().IsMatch(last) ? ["LayerNorm"] : GroupName().IsMatch(last) ? ["GroupNorm"] : InstanceName().IsMatch(last) ? ["InstanceNorm"]
                : ["LayerNorm", "GroupNorm", "InstanceNorm"];
        }
        // "input_layernorm" is the name of Llama's RMSNorm, so that only "rms" tells.
        return RmsName().IsMatch(last) ? ["RMSNorm"] : ["LayerNorm", "RMSNorm"];
    }

    [GeneratedRegex("layer_?norm|^ln(\\d*|\\w)$|^ln_|_ln$", RegexOptions.IgnoreCase)]
    private static partial Regex LayerName();

    [GeneratedRegex("group_?norm|^gn_?\\d*$", RegexOptions.IgnoreCase)]
    private static partial Regex GroupName();

    [GeneratedRegex("instance_?norm", RegexOptions.IgnoreCase)]
    private static partial Regex InstanceName();

    [GeneratedRegex("rms", RegexOptions.IgnoreCase)]
    private static partial Regex RmsName();

    private double? StandardEps(string type) => (Framework, type) switch
    {
        (_, "RMSNorm") => null,
        ("Keras", _) => 1e-3,
        ("Flax", not "BatchNorm") => 1e-6,
        _ => 1e-5,
    };

    private string Where => $"{path}: layer {Refusal.Quote(Name)}";

    private string Describe(string type, double eps, nint? groups, int? spatial)
    {
        nint[] shape = Parameters[0].Lengths;
        string affine = Parameters[0].Role == "weight" ? "True" : "False";
        return type switch
        {
            "LayerNorm" or "RMSNorm" => $"{type}({Shapes.Format(shape)}, eps={Python(eps)}, elementwise_affine=True)",
            "GroupNorm" => $"GroupNorm({groups}, {shape[0]}, eps={Python(eps)}, affine=True)",
            _ => $"{type}{spatial}d({shape[0]}, eps={Python(eps)}, momentum=0.1, affine={affine}, track_running_stats={(type == "BatchNorm" ? "True" : "False")})",
        };
    }

    private StateDict State<T>()
        where T : unmanaged
    {
        var state = new StateDict();
        foreach (ModelParameter parameter in Parameters)
        {
            if (parameter is CheckpointParameter { Role: ParameterNames.BatchCounter } counter)
                state.Add(counter.Role, counter.ReadCounter());
            else
                state.Add(parameter.Role, parameter.ReadAs<T>());
        }
        return state;
    }

    private sealed class CheckpointParameter(SafetensorsFile file, string role, TensorInfo info)
        : ModelParameter(role, info.Name, info.Lengths)
    {
        public override string TypeName => info.ElementType?.TorchName() ?? info.Dtype;

        public override Tensor<T> ReadAs<T>() => file.ReadAs<T>(Name);

        public Tensor<long> ReadCounter() => info.ElementType == ElementType.Int64 ? file.Read<long>(Name)
            : throw Refusal.Of(file.Path, $"tensor {Refusal.Quote(Name)} is {TypeName}; accepted is int64.");
    }
}
