using System.Numerics.Tensors;
using NormLayers.Internals;

namespace NormLayers;

/// <summary>What all layers have in common, whatever their element type: a printed form, and its reader.</summary>
public abstract class NormLayer
{
    private protected NormLayer()
    {
    }

    /// <summary>Makes a layer of <see cref="float"/>, PyTorch's default, from its printed form or its Python constructor call.</summary>
    /// <param name="text">For instance <c>LayerNorm((5, 10, 10), eps=1e-05, elementwise_affine=True)</c> or <c>nn.GroupNorm(3, num_channels=6)</c>.</param>
    /// <returns>A new layer with its initial parameters.</returns>
    /// <exception cref="FormatException">The text is not a call, names no known layer, or its arguments do not fit that layer.</exception>
    /// <exception cref="ArgumentException">The layer refuses the values of its arguments.</exception>
    public static NormLayer<float> Parse(string text) => Parse<float>(text);

    /// <summary>Makes a layer from its printed form or its Python constructor call.</summary>
    /// <typeparam name="T">The element type of the layer.</typeparam>
    /// <param name="text">For instance <c>LayerNorm((5, 10, 10), eps=1e-05, elementwise_affine=True)</c> or <c>nn.GroupNorm(3, num_channels=6)</c>.</param>
    /// <returns>A new layer with its initial parameters.</returns>
    /// <exception cref="FormatException">The text is not a call, names no known layer, or its arguments do not fit that layer.</exception>
    /// <exception cref="ArgumentException">The layer refuses the values of its arguments.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public static NormLayer<T> Parse<T>(string text) where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(text);
        PythonCall call = PythonCall.Parse(text);
        return call.Name switch
        {
            "LayerNorm" => LayerNorm<T>.FromCall(call),
            "GroupNorm" => GroupNorm<T>.FromCall(call),
            "LocalResponseNorm" => LocalResponseNorm<T>.FromCall(call),
            _ => throw new FormatException($"Unknown layer '{call.Name}'; known are LayerNorm, GroupNorm and LocalResponseNorm."),
        };
    }
}

/// <summary>A normalization layer: parameters and a forward pass.</summary>
/// <typeparam name="T">The element type: <see cref="float"/> or <see cref="double"/>.</typeparam>
/// <remarks>A layer holds its parameters and nothing else: any number of threads may call it at once, as long as none changes a parameter.</remarks>
public abstract class NormLayer<T> : NormLayer where T : unmanaged
{
    private protected NormLayer(string name)
    {
        Elements.CheckSupported<T>(name);
        Name = name;
    }

    /// <summary>The layer's name in PyTorch, for instance <c>LayerNorm</c>.</summary>
    public string Name { get; }

    /// <summary>The learnable parameters, in PyTorch's order: the weight, then the bias, each where the layer has it.</summary>
    public IReadOnlyList<Parameter<T>> Parameters { get; private protected init; } = [];

    /// <summary>Applies the layer.</summary>
    /// <param name="input">The input, any strides.</param>
    /// <returns>A new row-major tensor of the input's shape.</returns>
    /// <exception cref="ArgumentException">The layer does not accept the input's shape.</exception>
    public Tensor<T> Forward(Tensor<T> input)
    {
        ArgumentNullException.ThrowIfNull(input);
        Tensor<T> result = Tensor.CreateFromShapeUninitialized<T>(input.Lengths);
        Forward(input.AsReadOnlyTensorSpan(), result.AsTensorSpan());
        return result;
    }

    /// <summary>Applies the layer; allocates nothing.</summary>
    /// <param name="input">The input, any strides.</param>
    /// <param name="destination">Takes the result; of the input's shape, row-major contiguous. May be the input itself.</param>
    /// <exception cref="ArgumentException">The layer does not accept the input's shape; or the destination has another shape, is not
    /// contiguous, or overlaps the input or a parameter in part.</exception>
    public abstract void Forward(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> destination);

    /// <summary>Sets every parameter's gradient to zero.</summary>
    public void ZeroGrad()
    {
        foreach (Parameter<T> parameter in Parameters)
            parameter.ZeroGrad();
    }

    /// <summary>The parameters under PyTorch's names. The tensors are the layer's own, not copies.</summary>
    /// <returns>A new state dict.</returns>
    public StateDict StateDict()
    {
        var state = new StateDict();
        foreach (Parameter<T> parameter in Parameters)
            state.Add(parameter.Name, parameter.Value);
        return state;
    }

    /// <summary>Copies a state dict into the parameters, strictly: all names and shapes must fit, or nothing is loaded.</summary>
    /// <param name="state">The state, its element types <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>; each value is rounded to <typeparamref name="T"/> as PyTorch does.</param>
    /// <exception cref="StateDictException">Keys are missing or unexpected, or sizes or types differ; it lists them all.</exception>
    public void LoadStateDict(StateDict state)
    {
        ArgumentNullException.ThrowIfNull(state);
        var missing = new List<string>();
        var mismatches = new List<string>();
        var unexpected = new List<string>(state.Keys);
        var sources = new List<Tensor<T>>();
        foreach (Parameter<T> parameter in Parameters)
        {
            if (!state.TryGetValue(parameter.Name, out IReadOnlyTensor? tensor))
            {
                missing.Add(parameter.Name);
                continue;
            }
            unexpected.Remove(parameter.Name);
            if (!tensor.Lengths.SequenceEqual(parameter.Value.Lengths))
                mismatches.Add($"size mismatch for {parameter.Name}: expected shape {Layout.Text(parameter.Value.Lengths)}, got {Layout.Text(tensor.Lengths)}");
            else if (TensorConversion.ToElements<T>(tensor) is { } converted)
                sources.Add(converted);
            else
                mismatches.Add($"type mismatch for {parameter.Name}: expected floating-point elements, got {tensor.GetType().GenericTypeArguments[0].Name}");
        }
        if (missing.Count + mismatches.Count + unexpected.Count > 0)
            throw new StateDictException(ToString()!, missing, unexpected, mismatches);
        for (int i = 0; i < sources.Count; i++)
            sources[i].CopyTo(Parameters[i].Value);
    }

    /// <summary>Throws unless a Python call's device and dtype are what this layer is.</summary>
    private protected static void CheckFactory(PythonArguments arguments)
    {
        if (arguments.Find("device") is { Kind: not PythonKind.None } device && device.Text != "cpu")
            throw new FormatException($"The device must be None or 'cpu', got '{device.Text}'.");
        string[] names = typeof(T) == typeof(float) ? ["torch.float32", "torch.float"] : ["torch.float64", "torch.double"];
        if (arguments.Find("dtype") is { Kind: not PythonKind.None } dtype && !names.Contains(dtype.Text))
            throw new FormatException($"The dtype must be None or {names[0]} for a layer of {typeof(T).Name}, got '{dtype.Text}'.");
    }

    /// <summary>Prints the layer as PyTorch does.</summary>
    /// <returns>The text of <c>print(layer)</c> in Python; <see cref="NormLayer.Parse(string)"/> reads it back.</returns>
    public abstract override string ToString();
}
