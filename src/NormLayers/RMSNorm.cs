using System.Numerics.Tensors;
using NormLayers.Internals;
using NormLayers.Internals.Kernels;

namespace NormLayers;

/// <summary>
/// Root mean square layer normalization: <c>y = x / sqrt(E[x²] + eps) * weight</c>, the mean square taken over the last
/// dimensions of the input.
/// </summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
/// <remarks>
/// <para>Shapes: input and output (*, normalizedShape). The same in training and evaluation. The rules are those of PyTorch 2.8 and later.</para>
/// <para>Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467; https://docs.pytorch.org/docs/stable/generated/torch.nn.RMSNorm.html.</para>
/// </remarks>
/// <example><code>
/// var norm = new RMSNorm&lt;float&gt;(768, eps: 1e-6);
/// Tensor&lt;float&gt; y = norm.Forward(x);            // x of shape (..., 768)
/// </code></example>
public sealed class RMSNorm<T> : AffineNormLayer<T> where T : unmanaged
{
    private readonly nint[] normalizedShape;
    private PythonNumber? printedEps;

    /// <summary>Makes a layer over the last dimension.</summary>
    /// <param name="normalizedShape">The length of the last dimension.</param>
    /// <param name="eps">Added to the mean square under the root; null for the machine epsilon of the type computed in: 2^-23 for <see cref="float"/>, 2^-52 for <see cref="double"/>.</param>
    /// <param name="elementwiseAffine">Whether the layer has a weight (ones at first).</param>
    /// <param name="axis">The first of the normalized dimensions in the input, negative ones counted from the end: 1 to normalize (N, C, H, W) over C. Null, as in PyTorch, for the last ones.</param>
    /// <exception cref="ArgumentOutOfRangeException">The length is negative.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public RMSNorm(nint normalizedShape, double? eps = null, bool elementwiseAffine = true, int? axis = null)
        : this([normalizedShape], eps, elementwiseAffine, axis)
    {
    }

    /// <summary>Makes a layer over the last dimensions.</summary>
    /// <param name="normalizedShape">The lengths of the last dimensions. An empty shape is accepted, as in PyTorch, and refused by Forward.</param>
    /// <param name="eps">Added to the mean square under the root; null for the machine epsilon of the type computed in: 2^-23 for <see cref="float"/>, 2^-52 for <see cref="double"/>.</param>
    /// <param name="elementwiseAffine">Whether the layer has a weight (ones at first).</param>
    /// <param name="axis">The first of the normalized dimensions in the input, negative ones counted from the end: 1 to normalize (N, C, H, W) over C. Null, as in PyTorch, for the last ones.</param>
    /// <exception cref="ArgumentOutOfRangeException">A length is negative, or the weight would have more elements than an array can hold.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public RMSNorm(ReadOnlySpan<nint> normalizedShape, double? eps = null, bool elementwiseAffine = true, int? axis = null)
        : base("RMSNorm", eps ?? Elements.MachineEpsilon<T>())
    {
        Layout.CheckNormalizedShape(normalizedShape, elementwiseAffine);
        this.normalizedShape = normalizedShape.ToArray();
        Axis = axis;
        (printedEps, ElementwiseAffine) = (eps is { } number ? (PythonNumber)number : null, elementwiseAffine);
        if (elementwiseAffine)
            Weight = new Parameter<T>("weight", normalizedShape, Elements.FromDouble<T>(1));
    }

    /// <summary>The lengths of the dimensions that share statistics.</summary>
    public ReadOnlySpan<nint> NormalizedShape => normalizedShape;

    /// <summary>The first of the normalized dimensions in the input; null for the last ones.</summary>
    public int? Axis { get; }

    /// <summary>Whether the layer has a weight.</summary>
    public bool ElementwiseAffine { get; }

    /// <inheritdoc/>
    public override string ToString()
        => $"RMSNorm({PythonText.Tuple(normalizedShape)}, eps={printedEps?.ToString() ?? PythonText.None}, elementwise_affine={PythonText.Bool(ElementwiseAffine)}{(Axis is { } axis ? $", axis={axis}" : "")})";

    private protected override RowLayout LayoutOf(ReadOnlySpan<nint> input) => Functional.Dimensions<T>(input, normalizedShape, default, default, RowStatistic.MeanSquare, Axis);

    internal static RMSNorm<T> FromCall(PythonCall call)
    {
        PythonArguments arguments = call.Bind("RMSNorm", "normalized_shape", "eps", "elementwise_affine", "device", "dtype", "axis");
        CheckFactory(arguments);
        PythonNumber? eps = arguments.OptionalFloat("eps", null);
        return new RMSNorm<T>(arguments.Shape("normalized_shape"), eps?.Value, arguments.Bool("elementwise_affine", true), arguments.OptionalInt("axis")) { printedEps = eps };
    }
}
