using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using NormLayers.Internals;
using NormLayers.Internals.Kernels;

namespace NormLayers;

/// <summary>
/// Local response normalization across channels as PyTorch's old layer of that name computes it:
/// <c>y[c] = x[c] / (k + alpha / size * S[c])^beta</c>, S the sum of x[j]² over j from <c>c - (size - 1) / 2</c> to
/// <c>c + (size - 1) / 2</c>, and of x[0]² too wherever that window has left channel 0 behind.
/// </summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
/// <remarks>
/// <para>Shapes: input and output (N, C, H, W). No parameters. Kept for models that were trained with it; otherwise use <see cref="LocalResponseNorm{T}"/>.</para>
/// <para>PyTorch's running sum never takes out channel 0, and its backward sums <c>dy[j] * y[j] / d[j]</c> over j from <c>c - (size + 1) / 2</c>
/// to <c>c + (size - 1) - (size + 1) / 2</c>: it is not the derivative of the forward. Both are reproduced. PyTorch adds and subtracts
/// in the element type; here each sum is added in double, without the cancellation.</para>
/// <para>https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossMapLRN2d.html</para>
/// </remarks>
public sealed class CrossMapLRN2d<T> : NormLayer<T> where T : unmanaged
{
    private PythonNumber printedAlpha, printedBeta, printedK;

    /// <summary>Makes a layer. As in PyTorch nothing is refused here; Forward refuses a size below 1, and Backward one below 2.</summary>
    /// <param name="size">The number that the sum is divided by; the window has <c>2 * ((size - 1) / 2) + 1</c> channels.</param>
    /// <param name="alpha">The factor of the mean square.</param>
    /// <param name="beta">The exponent.</param>
    /// <param name="k">The summand.</param>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public CrossMapLRN2d(nint size, double alpha = 1e-4, double beta = 0.75, double k = 1)
        : base("CrossMapLRN2d")
    {
        (Size, Alpha, Beta, K) = (size, alpha, beta, k);
        // PyTorch's default k is an int, and prints as one.
        (printedAlpha, printedBeta, printedK) = (alpha, beta, k == 1 ? PythonNumber.FromInteger(1) : k);
    }

    /// <summary>The number that the sum is divided by.</summary>
    public nint Size { get; }

    /// <summary>The factor of the mean square.</summary>
    public double Alpha { get; }

    /// <summary>The exponent.</summary>
    public double Beta { get; }

    /// <summary>The summand.</summary>
    public double K { get; }

    /// <inheritdoc/>
    public override IReadOnlyList<Parameter<T>> Parameters => [];

    /// <inheritdoc/>
    public override void Forward(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> destination) => ForwardOf(input, destination);

    internal override void ForwardOf<TInput>(in ReadOnlyTensorSpan<TInput> input, in TensorSpan<TInput> destination)
    {
        CheckInput(input.Lengths, leastSize: 1);
        Layout.CheckDestination(input, destination, nameof(destination));
        if (input.FlattenedLength == 0)
            return;
        (nint samples, nint channels, nint run, WindowParameters window) = Window(input.Lengths);
        WindowNorm.Forward(in Layout.Contiguous(input, destination), ref TensorMarshal.GetReference(destination), samples, channels, run, in window, MaxThreads);
    }

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
    /// <exception cref="ArgumentOutOfRangeException">The size is below 2, for which PyTorch has no backward.</exception>
    public override void Backward(in ReadOnlyTensorSpan<T> gradOutput, ForwardPass<T> pass, in TensorSpan<T> gradInput) => BackwardOf(gradOutput, pass, gradInput);

    internal override void BackwardOf<TInput>(in ReadOnlyTensorSpan<TInput> gradOutput, ForwardPass<TInput> pass, in TensorSpan<TInput> gradInput)
    {
        ArgumentNullException.ThrowIfNull(pass);
        if (pass.Layout != default || pass.Kept.Rank != 4)
            throw new ArgumentException($"Expected a pass of {this}, got one of another layer.", nameof(pass));
        ReadOnlyTensorSpan<TInput> input = pass.Kept.AsReadOnlyTensorSpan();
        CheckInput(input.Lengths, leastSize: 2);
        Functional.CheckLike(gradOutput, input, nameof(gradOutput));
        if (gradInput.Rank == 0)
            return;
        Functional.CheckGradients(gradOutput, input, gradInput);
        if (input.FlattenedLength == 0)
            return;
        using var dy = new ContiguousOperand<TInput>(gradOutput);
        using var x = new ContiguousOperand<TInput>(input);
        (nint samples, nint channels, nint run, WindowParameters window) = Window(input.Lengths);
        WindowNorm.Backward(in dy.Reference, in x.Reference, ref TensorMarshal.GetReference(gradInput), samples, channels, run, in window, MaxThreads);
    }

    /// <summary>Not supported, as in PyTorch: the layer's backward is not the derivative of its forward.</summary>
    /// <param name="pass">The forward pass.</param>
    /// <param name="inputTangent">The input's tangent.</param>
    /// <param name="weightTangent">No such parameter.</param>
    /// <param name="biasTangent">No such parameter.</param>
    /// <returns>Nothing.</returns>
    /// <exception cref="NotSupportedException">Always.</exception>
    public override Tensor<T> Jvp(ForwardPass<T> pass, Tensor<T>? inputTangent, Tensor<T>? weightTangent = null, Tensor<T>? biasTangent = null)
        => throw new NotSupportedException($"{this} has no Jacobian-vector product, as in PyTorch; LocalResponseNorm has.");

    /// <summary>Not supported, as in PyTorch: the layer's backward is not the derivative of its forward.</summary>
    /// <param name="gradOutput">The gradient of the output.</param>
    /// <param name="pass">The forward pass.</param>
    /// <param name="gradGradInput">The cotangent of the gradient of the input.</param>
    /// <param name="gradGradWeight">No such parameter.</param>
    /// <param name="gradGradBias">No such parameter.</param>
    /// <returns>Nothing.</returns>
    /// <exception cref="NotSupportedException">Always.</exception>
    public override SecondOrderGradients<T> DoubleBackward(Tensor<T> gradOutput, ForwardPass<T> pass, Tensor<T>? gradGradInput, Tensor<T>? gradGradWeight = null, Tensor<T>? gradGradBias = null)
        => throw new NotSupportedException($"{this} has no double backward, as in PyTorch; LocalResponseNorm has.");

    /// <inheritdoc/>
    public override string ToString() => $"CrossMapLRN2d({Size}, alpha={printedAlpha}, beta={printedBeta}, k={printedK})";

    private void CheckInput(ReadOnlySpan<nint> input, nint leastSize)
    {
        if (input.Length != 4)
            throw new ArgumentException($"Expected an input of 4 dimensions (N, C, H, W), got shape {Layout.Text(input)}.", nameof(input));
        ArgumentOutOfRangeException.ThrowIfLessThan(Size, leastSize, "size");
    }

    private (nint Samples, nint Channels, nint Run, WindowParameters Window) Window(ReadOnlySpan<nint> input)
        => (input[0], input[1], Layout.Product(input[2..]), new WindowParameters(Size, Alpha, Beta, K, input[1]));

    internal static CrossMapLRN2d<T> FromCall(PythonCall call)
    {
        PythonArguments arguments = call.Bind("CrossMapLRN2d", "size", "alpha", "beta", "k");
        PythonNumber alpha = arguments.Float("alpha", 1e-4), beta = arguments.Float("beta", 0.75), k = arguments.Float("k", PythonNumber.FromInteger(1));
        return new CrossMapLRN2d<T>(arguments.Int("size"), alpha, beta, k) { printedAlpha = alpha, printedBeta = beta, printedK = k };
    }
}
