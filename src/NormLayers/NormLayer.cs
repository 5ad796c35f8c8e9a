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
            "RMSNorm" => RMSNorm<T>.FromCall(call),
            "GroupNorm" => GroupNorm<T>.FromCall(call),
            "InstanceNorm1d" or "LazyInstanceNorm1d" => InstanceNorm1d<T>.FromCall(call),
            "InstanceNorm2d" or "LazyInstanceNorm2d" => InstanceNorm2d<T>.FromCall(call),
            "InstanceNorm3d" or "LazyInstanceNorm3d" => InstanceNorm3d<T>.FromCall(call),
            "BatchNorm1d" or "LazyBatchNorm1d" => BatchNorm1d<T>.FromCall(call),
            "BatchNorm2d" or "LazyBatchNorm2d" => BatchNorm2d<T>.FromCall(call),
            "BatchNorm3d" or "LazyBatchNorm3d" => BatchNorm3d<T>.FromCall(call),
            "SyncBatchNorm" => SyncBatchNorm<T>.FromCall(call),
            "LocalResponseNorm" => LocalResponseNorm<T>.FromCall(call),
            "CrossMapLRN2d" => CrossMapLRN2d<T>.FromCall(call),
            _ => throw new FormatException($"Unknown layer '{call.Name}'; known are LayerNorm, RMSNorm, GroupNorm, InstanceNorm1d to 3d and BatchNorm1d to 3d and their Lazy forms, SyncBatchNorm, LocalResponseNorm and CrossMapLRN2d."),
        };
    }
}

/// <summary>A normalization layer: parameters and a forward pass.</summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
/// <remarks>A layer holds its parameters, its buffers and its mode, and nothing else: any number of threads may call it at once, as long as none changes a parameter or the mode.</remarks>
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
    public abstract IReadOnlyList<Parameter<T>> Parameters { get; }

    /// <summary>The most threads of the pool that one forward or backward uses; 0, the default, for as many as there are processors. Small inputs use one. No result depends on it.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The number is negative.</exception>
    public int MaxThreads
    {
        get;
        set
        {
            ArgumentOutOfRangeException.ThrowIfNegative(value);
            field = value;
        }
    }

    /// <summary>Whether the layer is in training mode, as new layers are. Only layers with running statistics read it.</summary>
    public bool Training { get; private set; } = true;

    /// <summary>Sets the training mode: layers with running statistics take the batch's statistics and track them.</summary>
    /// <param name="mode">False for evaluation mode, as <see cref="Eval"/>.</param>
    public void Train(bool mode = true) => Training = mode;

    /// <summary>Sets the evaluation mode: layers with running statistics use these and leave them as they are.</summary>
    public void Eval() => Train(false);

    /// <summary>Applies the layer.</summary>
    /// <param name="input">The input, any strides.</param>
    /// <returns>A new tensor of the input's shape: row-major, or channels-last where the input is and the layer walks it so.</returns>
    /// <exception cref="ArgumentException">The layer does not accept the input's shape.</exception>
    public Tensor<T> Forward(Tensor<T> input)
    {
        ArgumentNullException.ThrowIfNull(input);
        Prepare(input.Lengths);
        Tensor<T> result = ResultLike(input);
        Forward(input.AsReadOnlyTensorSpan(), result.AsTensorSpan());
        return result;
    }

    /// <summary>Applies the layer; allocates nothing.</summary>
    /// <param name="input">The input, any strides.</param>
    /// <param name="destination">Takes the result; of the input's shape, row-major contiguous, or channels-last where the layer walks it so. May be the input itself.</param>
    /// <exception cref="ArgumentException">The layer does not accept the input's shape; or the destination has another shape, is not
    /// contiguous, or overlaps the input in part, or a parameter or a running statistic.</exception>
    public abstract void Forward(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> destination);

    /// <summary>Applies the layer and keeps what its backward needs.</summary>
    /// <param name="input">The input, any strides. The pass keeps it: do not change it before the backward.</param>
    /// <param name="pass">What <see cref="Backward(Tensor{T}, ForwardPass{T})"/> needs.</param>
    /// <param name="keep">Whether the pass keeps the input or the output.</param>
    /// <returns>A new tensor of the input's shape: row-major, or channels-last where the input is and the layer walks it so.</returns>
    /// <exception cref="ArgumentException">The layer does not accept the input's shape.</exception>
    /// <exception cref="InvalidOperationException">The output was to be kept, but the normalized value cannot be recovered from it: a weight is zero or small beside its bias, or the layer has no normalized value.</exception>
    public abstract Tensor<T> Forward(Tensor<T> input, out ForwardPass<T> pass, PassMemory keep = PassMemory.Input);

    /// <summary>Computes the gradient of the input, and <b>adds</b> the gradients of the parameters to their <see cref="Parameter{T}.Grad"/>.</summary>
    /// <param name="gradOutput">The gradient of the output, any strides.</param>
    /// <param name="pass">The forward pass.</param>
    /// <returns>The gradient of the input, a new tensor in the order of the result.</returns>
    /// <exception cref="ArgumentException">The gradient is not of the output's shape, or the pass is another layer's.</exception>
    /// <exception cref="InvalidOperationException">The pass kept the output, and a weight has since become zero or small beside its bias.</exception>
    /// <remarks>Several threads may call it at once. Sums of gradients depend, in their last bits, on the order of the calls alone.</remarks>
    public Tensor<T> Backward(Tensor<T> gradOutput, ForwardPass<T> pass)
    {
        ArgumentNullException.ThrowIfNull(gradOutput);
        ArgumentNullException.ThrowIfNull(pass);
        Tensor<T> result = ResultLike(pass.Kept);
        Backward(gradOutput.AsReadOnlyTensorSpan(), pass, result.AsTensorSpan());
        return result;
    }

    /// <summary>Computes the gradient of the input, and <b>adds</b> the gradients of the parameters to their <see cref="Parameter{T}.Grad"/>.</summary>
    /// <param name="gradOutput">The gradient of the output, any strides.</param>
    /// <param name="pass">The forward pass.</param>
    /// <param name="gradInput">Overwritten with the gradient of the input; row-major contiguous, or channels-last where the layer walks it so; may be <paramref name="gradOutput"/> itself; <c>default</c> if it is not wanted.</param>
    /// <exception cref="ArgumentException">A shape does not fit, the pass is another layer's, or the result is not contiguous or overlaps an operand in part.</exception>
    /// <exception cref="InvalidOperationException">The pass kept the output, and a weight has since become zero or small beside its bias.</exception>
    public abstract void Backward(in ReadOnlyTensorSpan<T> gradOutput, ForwardPass<T> pass, in TensorSpan<T> gradInput);

    // The same three for any input that the layer's parameters can be mixed with: see MixedPrecision.
    internal abstract void ForwardOf<TInput>(in ReadOnlyTensorSpan<TInput> input, in TensorSpan<TInput> destination) where TInput : unmanaged;

    internal abstract Tensor<TInput> ForwardOf<TInput>(Tensor<TInput> input, out ForwardPass<TInput> pass, PassMemory keep) where TInput : unmanaged;

    internal abstract void BackwardOf<TInput>(in ReadOnlyTensorSpan<TInput> gradOutput, ForwardPass<TInput> pass, in TensorSpan<TInput> gradInput) where TInput : unmanaged;

    /// <summary>The Jacobian-vector product: how the output moves when the input and the parameters move along tangents (forward mode).</summary>
    /// <param name="pass">The forward pass.</param>
    /// <param name="inputTangent">The input's tangent, or null for zero.</param>
    /// <param name="weightTangent">The weight's tangent, or null for zero.</param>
    /// <param name="biasTangent">The bias's tangent, or null for zero.</param>
    /// <returns>The output's tangent, a new row-major tensor.</returns>
    /// <exception cref="ArgumentException">A shape does not fit, the layer has no such parameter, or the pass is another layer's.</exception>
    /// <exception cref="InvalidOperationException">The pass kept the output, and a weight has since become zero or small beside its bias.</exception>
    public abstract Tensor<T> Jvp(ForwardPass<T> pass, Tensor<T>? inputTangent, Tensor<T>? weightTangent = null, Tensor<T>? biasTangent = null);

    /// <summary>The gradients of <see cref="Backward(Tensor{T}, ForwardPass{T})"/> for given cotangents of its results; the weight's is <b>added</b> to its <see cref="Parameter{T}.Grad"/>.</summary>
    /// <param name="gradOutput">The gradient of the output that the backward was given.</param>
    /// <param name="pass">The forward pass.</param>
    /// <param name="gradGradInput">The cotangent of the gradient of the input, or null for zero.</param>
    /// <param name="gradGradWeight">The cotangent of the gradient of the weight, or null for zero.</param>
    /// <param name="gradGradBias">The cotangent of the gradient of the bias, or null for zero.</param>
    /// <returns>The gradients with respect to the gradient of the output and the input, new row-major tensors.</returns>
    /// <exception cref="ArgumentException">A shape does not fit, the layer has no such parameter, or the pass is another layer's.</exception>
    /// <exception cref="InvalidOperationException">The pass kept the output, and a weight has since become zero or small beside its bias.</exception>
    public abstract SecondOrderGradients<T> DoubleBackward(Tensor<T> gradOutput, ForwardPass<T> pass, Tensor<T>? gradGradInput, Tensor<T>? gradGradWeight = null, Tensor<T>? gradGradBias = null);

    /// <summary>Sets every parameter's gradient to zero.</summary>
    public virtual void ZeroGrad()
    {
        foreach (Parameter<T> parameter in Parameters)
            parameter.ZeroGrad();
    }

    /// <summary>The parameters and then the buffers (running statistics) under PyTorch's names. The tensors are the layer's own, not copies.</summary>
    /// <returns>A new state dict.</returns>
    /// <exception cref="InvalidOperationException">The layer is lazy and has no parameters yet.</exception>
    public StateDict StateDict()
    {
        var state = new StateDict();
        foreach ((string name, Tensor<T> value) in State())
            state.Add(name, value);
        if (BatchCounter is { } counter)
            state.Add(BatchCounterName, counter);
        return state;
    }

    /// <summary>Copies a state dict into the parameters and buffers, strictly: all names and shapes must fit, or nothing is loaded.</summary>
    /// <param name="state">The state, its element types <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>; each value is rounded to <typeparamref name="T"/> as PyTorch does.
    /// <c>num_batches_tracked</c> is of <see cref="long"/>; where a layer has it and the state has not, it keeps its value, as in PyTorch for states that carry no version.</param>
    /// <exception cref="StateDictException">Keys are missing or unexpected, or sizes or types differ; it lists them all.</exception>
    public virtual void LoadStateDict(StateDict state)
    {
        ArgumentNullException.ThrowIfNull(state);
        var missing = new List<string>();
        var mismatches = new List<string>();
        var unexpected = new List<string>(state.Keys);
        var copies = new List<(Tensor<T> Source, Tensor<T> Target)>();
        foreach ((string name, Tensor<T> target) in State())
        {
            if (!state.TryGetValue(name, out IReadOnlyTensor? tensor))
            {
                missing.Add(name);
                continue;
            }
            unexpected.Remove(name);
            if (!tensor.Lengths.SequenceEqual(target.Lengths))
                mismatches.Add($"size mismatch for {name}: expected shape {Layout.Text(target.Lengths)}, got {Layout.Text(tensor.Lengths)}");
            else if (TensorConversion.ToElements<T>(tensor) is { } converted)
                copies.Add((converted, target));
            else
                mismatches.Add($"type mismatch for {name}: expected floating-point elements, got {ElementName(tensor)}");
        }
        Tensor<long>? count = null;
        if (BatchCounter is not null && state.TryGetValue(BatchCounterName, out IReadOnlyTensor? counter))
        {
            unexpected.Remove(BatchCounterName);
            count = counter as Tensor<long>;
            if (counter.FlattenedLength != 1 || counter.Rank != 1)
                mismatches.Add($"size mismatch for {BatchCounterName}: expected a scalar (shape [] or [1]), got {Layout.Text(counter.Lengths)}");
            else if (count is null)
                mismatches.Add($"type mismatch for {BatchCounterName}: expected Int64, got {ElementName(counter)}");
        }
        if (missing.Count + mismatches.Count + unexpected.Count > 0)
            throw new StateDictException(ToString()!, missing, unexpected, mismatches);
        foreach ((Tensor<T> source, Tensor<T> target) in copies)
            source.CopyTo(target);
        count?.CopyTo(BatchCounter!);

        static string ElementName(IReadOnlyTensor tensor) => tensor.GetType().GenericTypeArguments[0].Name;
    }

    /// <summary>Lets a lazy layer take its parameters from its first input; does nothing to any other.</summary>
    internal virtual void Prepare(ReadOnlySpan<nint> input)
    {
    }

    /// <summary>What a state dict holds of the element type, in PyTorch's order: parameters before buffers.</summary>
    private protected virtual IEnumerable<(string Name, Tensor<T> Value)> State() => Parameters.Select(static parameter => (parameter.Name, parameter.Value));

    /// <summary>The buffer <c>num_batches_tracked</c>, of shape [1], which a state dict holds last; null where the layer has none.</summary>
    private protected virtual Tensor<long>? BatchCounter => null;

    private const string BatchCounterName = "num_batches_tracked";

    /// <summary>A new tensor for a result of a tensor's shape: row-major, unless the layer keeps another order.</summary>
    internal virtual Tensor<TInput> ResultLike<TInput>(Tensor<TInput> tensor) where TInput : unmanaged => Tensor.CreateFromShapeUninitialized<TInput>(tensor.Lengths);

    /// <summary>Throws unless a Python call's device and dtype are what this layer is.</summary>
    private protected static void CheckFactory(PythonArguments arguments)
    {
        if (arguments.Find("device") is { Kind: not PythonKind.None } device && device.Text != "cpu")
            throw new FormatException($"The device must be None or 'cpu', got '{device.Text}'.");
        string[] names = typeof(T) == typeof(Half) ? ["torch.float16", "torch.half"] : typeof(T) == typeof(BFloat16) ? ["torch.bfloat16"]
            : typeof(T) == typeof(float) ? ["torch.float32", "torch.float"] : ["torch.float64", "torch.double"];
        if (arguments.Find("dtype") is { Kind: not PythonKind.None } dtype && !names.Contains(dtype.Text))
            throw new FormatException($"The dtype must be None or {names[0]} for a layer of {typeof(T).Name}, got '{dtype.Text}'.");
    }

    /// <summary>Prints the layer as PyTorch does.</summary>
    /// <returns>The text of <c>print(layer)</c> in Python; <see cref="NormLayer.Parse(string)"/> reads it back.</returns>
    public abstract override string ToString();
}
