using System.Numerics.Tensors;
using NormLayers.Internals;
using NormLayers.Internals.Kernels;

namespace NormLayers;

/// <summary>
/// Layer normalization: <c>y = (x - E[x]) / sqrt(Var[x] + eps) * weight + bias</c>, the mean and the biased variance taken
/// over the last dimensions of the input.
/// </summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
/// <remarks>
/// <para>Shapes: input and output (*, normalizedShape). The same in training and evaluation.</para>
/// <para>Ba, Kiros and Hinton 2016, https://arxiv.org/abs/1607.06450; https://docs.pytorch.org/docs/stable/generated/torch.nn.LayerNorm.html.</para>
/// </remarks>
/// <example><code>
/// var norm = new LayerNorm&lt;float&gt;(768);
/// Tensor&lt;float&gt; y = norm.Forward(x);            // x of shape (..., 768)
/// </code></example>
public sealed class LayerNorm<T> : AffineNormLayer<T> where T : unmanaged
{
    private readonly nint[] normalizedShape;
    private PythonNumber printedEps;

    /// <summary>Makes a layer over the last dimension.</summary>
    /// <param name="normalizedShape">The length of the last dimension.</param>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <param name="elementwiseAffine">Whether the layer has a weight (ones at first).</param>
    /// <param name="bias">Whether it also has a bias (zeros at first); without a weight it has none.</param>
    /// <param name="axis">The first of the normalized dimensions in the input, negative ones counted from the end: 1 to normalize (N, C, H, W) over C. Null, as in PyTorch, for the last ones.</param>
    /// <exception cref="ArgumentOutOfRangeException">The length is negative.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public LayerNorm(nint normalizedShape, double eps = 1e-5, bool elementwiseAffine = true, bool bias = true, int? axis = null)
        : this([normalizedShape], eps, elementwiseAffine, bias, axis)
    {
    }

    /// <summary>Makes a layer over the last dimensions.</summary>
    /// <param name="normalizedShape">The lengths of the last dimensions. An empty shape is accepted, as in PyTorch, and refused by Forward.</param>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <param name="elementwiseAffine">Whether the layer has a weight (ones at first).</param>
    /// <param name="bias">Whether it also has a bias (zeros at first); without a weight it has none.</param>
    /// <param name="axis">The first of the normalized dimensions in the input, negative ones counted from the end: 1 to normalize (N, C, H, W) over C. Null, as in PyTorch, for the last ones.</param>
    /// <exception cref="ArgumentOutOfRangeException">A length is negative, or the parameters would have more elements than an array can hold.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public LayerNorm(ReadOnlySpan<nint> normalizedShape, double eps = 1e-5, bool elementwiseAffine = true, bool bias = true, int? axis = null)
        : base("LayerNorm", eps)
    {
        Layout.CheckNormalizedShape(normalizedShape, elementwiseAffine);
        this.normalizedShape = normalizedShape.ToArray();
        Axis = axis;
        (printedEps, ElementwiseAffine) = (eps, elementwiseAffine);
        if (elementwiseAffine)
        {
            Weight = new Parameter<T>("weight", normalizedShape, Elements.FromDouble<T>(1));
            Bias = bias ? new Parameter<T>("bias", normalizedShape, Elements.FromDouble<T>(0)) : null;
        }
    }

    /// <summary>The lengths of the dimensions that share statistics.</summary>
    public ReadOnlySpan<nint> NormalizedShape => normalizedShape;

    /// <summary>The first of the normalized dimensions in the input; null for the last ones.</summary>
    public int? Axis { get; }

    /// <summary>Whether the layer has a weight, and a bias unless it was made without.</summary>
    public bool ElementwiseAffine { get; }

    /// <inheritdoc/>
    public override string ToString()
        => $"LayerNorm({PythonText.Tuple(normalizedShape)}, eps={printedEps}, elementwise_affine={PythonText.Bool(ElementwiseAffine)}{(Axis is { } axis ? $", axis={axis}" : "")})";

    private protected override RowLayout LayoutOf(ReadOnlySpan<nint> input) => Functional.Dimensions<T>(input, normalizedShape, default, default, RowStatistic.MeanAndVariance, Axis);

    internal static LayerNorm<T> FromCall(PythonCall call)
    {
        PythonArguments arguments = call.Bind("LayerNorm", "normalized_shape", "eps", "elementwise_affine", "bias", "device", "dtype", "axis");
        CheckFactory(arguments);
        PythonNumber eps = arguments.Float("eps", 1e-5);
        return new LayerNorm<T>(arguments.Shape("normalized_shape"), eps, arguments.Bool("elementwise_affine", true), arguments.Bool("bias", true), arguments.OptionalInt("axis")) { printedEps = eps };
    }
}
