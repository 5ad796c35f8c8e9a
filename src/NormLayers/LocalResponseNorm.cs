using System.Numerics.Tensors;
using NormLayers.Internals;

namespace NormLayers;

/// <summary>
/// Local response normalization: <c>y[c] = x[c] / (k + alpha / size * sum of x[j]²)^beta</c> with j from <c>c - size / 2</c>
/// to <c>c + (size - 1) / 2</c> inside the channels.
/// </summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
/// <remarks>
/// <para>Shapes: input and output (N, C, *) with at least three dimensions. No parameters. The same in training and evaluation.</para>
/// <para>An even window reaches one channel further down than up, as PyTorch's code does (its page draws it symmetric, and
/// ONNX's leans the other way: <see cref="LrnWindow.Onnx"/>, which is printed as <c>window='onnx'</c>). The sum is divided by size even where fewer channels are inside.</para>
/// <para>Krizhevsky, Sutskever and Hinton 2012; https://docs.pytorch.org/docs/stable/generated/torch.nn.LocalResponseNorm.html.</para>
/// </remarks>
/// <example><code>
/// var norm = new LocalResponseNorm&lt;float&gt;(size: 5);
/// Tensor&lt;float&gt; y = norm.Forward(x);            // x of shape (N, C, H, W)
/// </code></example>
public sealed class LocalResponseNorm<T> : NormLayer<T> where T : unmanaged
{
    private PythonNumber printedAlpha, printedBeta, printedK;

    /// <summary>Makes a layer. As in PyTorch nothing is refused here; Forward refuses a size below 1.</summary>
    /// <param name="size">The number of channels in a window.</param>
    /// <param name="alpha">The factor of the mean square.</param>
    /// <param name="beta">The exponent.</param>
    /// <param name="k">The summand.</param>
    /// <param name="window">Which way an even window leans: PyTorch's, or ONNX's mirror image.</param>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public LocalResponseNorm(nint size, double alpha = 1e-4, double beta = 0.75, double k = 1, LrnWindow window = LrnWindow.PyTorch)
        : base("LocalResponseNorm")
    {
        (Size, Alpha, Beta, K, Window) = (size, alpha, beta, k, window);
        (printedAlpha, printedBeta, printedK) = (alpha, beta, k);
    }

    /// <summary>The number of channels in a window.</summary>
    public nint Size { get; }

    /// <summary>The factor of the mean square.</summary>
    public double Alpha { get; }

    /// <summary>The exponent.</summary>
    public double Beta { get; }

    /// <summary>The summand.</summary>
    public double K { get; }

    /// <summary>Which way an even window leans.</summary>
    public LrnWindow Window { get; }

    /// <inheritdoc/>
    public override void Forward(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> destination) => ForwardOf(input, destination);

    internal override void ForwardOf<TInput>(in ReadOnlyTensorSpan<TInput> input, in TensorSpan<TInput> destination)
        => Functional.LocalResponseNorm(input, Size, Alpha, Beta, K, destination, MaxThreads, Window);

    /// <inheritdoc/>
    public override IReadOnlyList<Parameter<T>> Parameters => [];

    /// <inheritdoc/>
    public override Tensor<T> Forward(Tensor<T> input, out ForwardPass<T> pass, PassMemory keep = PassMemory.Input) => ForwardOf(input, out pass, keep);

    internal override Tensor<TInput> ForwardOf<TInput>(Tensor<TInput> input, out ForwardPass<TInput> pass, PassMemory keep)
    {
        ArgumentNullException.ThrowIfNull(input);
        if (keep == PassMemory.Output)
            throw new InvalidOperationException($"The input cannot be recovered from the output of {this}: keep the input (PassMemory.Input).");
        Tensor<TInput> output = Tensor.CreateFromShapeUninitialized<TInput>(input.Lengths);
        ForwardOf(input.AsReadOnlyTensorSpan(), output.AsTensorSpan());
        pass = new ForwardPass<TInput>(input, keep, default, []);
        return output;
    }

    /// <inheritdoc/>
    public override void Backward(in ReadOnlyTensorSpan<T> gradOutput, ForwardPass<T> pass, in TensorSpan<T> gradInput) => BackwardOf(gradOutput, pass, gradInput);

    internal override void BackwardOf<TInput>(in ReadOnlyTensorSpan<TInput> gradOutput, ForwardPass<TInput> pass, in TensorSpan<TInput> gradInput)
    {
        ReadOnlyTensorSpan<TInput> input = InputOf(pass);
        Functional.CheckLike(gradOutput, input, nameof(gradOutput));
        if (gradInput.Rank != 0)
            Functional.LocalResponseNormBackward(gradOutput, input, Size, Alpha, Beta, K, gradInput, MaxThreads, Window);
    }

    /// <inheritdoc/>
    public override Tensor<T> Jvp(ForwardPass<T> pass, Tensor<T>? inputTangent, Tensor<T>? weightTangent = null, Tensor<T>? biasTangent = null)
    {
        ReadOnlyTensorSpan<T> input = InputOf(pass);
        CheckNoParameters(weightTangent, nameof(weightTangent));
        CheckNoParameters(biasTangent, nameof(biasTangent));
        Tensor<T> result = Tensor.CreateFromShape<T>(input.Lengths);
        if (inputTangent is not null)
            Functional.LocalResponseNormJvp(input, Size, Alpha, Beta, K, inputTangent.AsReadOnlyTensorSpan(), result.AsTensorSpan(), Window);
        return result;
    }

    /// <inheritdoc/>
    public override SecondOrderGradients<T> DoubleBackward(Tensor<T> gradOutput, ForwardPass<T> pass, Tensor<T>? gradGradInput, Tensor<T>? gradGradWeight = null, Tensor<T>? gradGradBias = null)
    {
        ArgumentNullException.ThrowIfNull(gradOutput);
        ReadOnlyTensorSpan<T> input = InputOf(pass);
        Functional.CheckLike(gradOutput.AsReadOnlyTensorSpan(), input, nameof(gradOutput));
        CheckNoParameters(gradGradWeight, nameof(gradGradWeight));
        CheckNoParameters(gradGradBias, nameof(gradGradBias));
        var result = new SecondOrderGradients<T>(Tensor.CreateFromShape<T>(input.Lengths), Tensor.CreateFromShape<T>(input.Lengths));
        if (gradGradInput is not null)
            Functional.LocalResponseNormDoubleBackward(gradOutput.AsReadOnlyTensorSpan(), input, Size, Alpha, Beta, K, gradGradInput.AsReadOnlyTensorSpan(), result.GradOutput.AsTensorSpan(), result.Input.AsTensorSpan(), Window);
        return result;
    }

    /// <inheritdoc/>
    public override string ToString()
        => $"LocalResponseNorm({Size}, alpha={printedAlpha}, beta={printedBeta}, k={printedK}{(Window == LrnWindow.Onnx ? ", window='onnx'" : "")})";

    private ReadOnlyTensorSpan<TInput> InputOf<TInput>(ForwardPass<TInput> pass) where TInput : unmanaged
    {
        ArgumentNullException.ThrowIfNull(pass);
        if (pass.Layout != default || pass.Kept.Rank < 3)
            throw new ArgumentException($"Expected a pass of {this}, got one of a layer with statistics.", nameof(pass));
        return pass.Kept.AsReadOnlyTensorSpan();
    }

    private static void CheckNoParameters(Tensor<T>? tangent, string name)
    {
        if (tangent is not null)
            throw new ArgumentException($"Expected no {name}: the layer has no such parameter.", name);
    }

    internal static LocalResponseNorm<T> FromCall(PythonCall call)
    {
        PythonArguments arguments = call.Bind("LocalResponseNorm", "size", "alpha", "beta", "k", "window");
        PythonNumber alpha = arguments.Float("alpha", 1e-4), beta = arguments.Float("beta", 0.75), k = arguments.Float("k", 1);
        LrnWindow window = arguments.Find("window") switch
        {
            null => LrnWindow.PyTorch,
            { Kind: PythonKind.String, Text: "onnx" } => LrnWindow.Onnx,
            { Kind: PythonKind.String, Text: "pytorch" } => LrnWindow.PyTorch,
            { } other => throw new FormatException($"LocalResponseNorm: 'window' expects 'pytorch' or 'onnx', got {other}."),
        };
        return new LocalResponseNorm<T>(arguments.Int("size"), alpha, beta, k, window) { printedAlpha = alpha, printedBeta = beta, printedK = k };
    }
}
