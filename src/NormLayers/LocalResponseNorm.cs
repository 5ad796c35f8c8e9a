using System.Numerics.Tensors;
using NormLayers.Internals;

namespace NormLayers;

/// <summary>
/// Local response normalization: <c>y[c] = x[c] / (k + alpha / size * sum of x[j]²)^beta</c> with j from <c>c - size / 2</c>
/// to <c>c + (size - 1) / 2</c> inside the channels.
/// </summary>
/// <typeparam name="T">The element type: <see cref="float"/> or <see cref="double"/>.</typeparam>
/// <remarks>
/// <para>Shapes: input and output (N, C, *) with at least three dimensions. No parameters. The same in training and evaluation.</para>
/// <para>An even window reaches one channel further down than up, as PyTorch's code does (its page draws it symmetric, and
/// ONNX's leans the other way). The sum is divided by size even where fewer channels are inside.</para>
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
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public LocalResponseNorm(nint size, double alpha = 1e-4, double beta = 0.75, double k = 1)
        : base("LocalResponseNorm")
    {
        (Size, Alpha, Beta, K) = (size, alpha, beta, k);
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

    /// <inheritdoc/>
    public override void Forward(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> destination)
        => Functional.LocalResponseNorm(input, Size, Alpha, Beta, K, destination);

    /// <inheritdoc/>
    public override string ToString()
        => $"LocalResponseNorm({Size}, alpha={printedAlpha}, beta={printedBeta}, k={printedK})";

    internal static LocalResponseNorm<T> FromCall(PythonCall call)
    {
        PythonArguments arguments = call.Bind("LocalResponseNorm", "size", "alpha", "beta", "k");
        PythonNumber alpha = arguments.Float("alpha", 1e-4), beta = arguments.Float("beta", 0.75), k = arguments.Float("k", 1);
        return new LocalResponseNorm<T>(arguments.Int("size"), alpha, beta, k) { printedAlpha = alpha, printedBeta = beta, printedK = k };
    }
}
