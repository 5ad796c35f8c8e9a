using System.Numerics.Tensors;
using NormLayers.Internals;

namespace NormLayers;

/// <summary>
/// Layers of <see cref="float"/> on inputs of 16 bits: the result has the input's type, the parameters, the statistics and the
/// parameters' gradients stay <see cref="float"/> or wider.
/// </summary>
/// <remarks>
/// What PyTorch calls mixed dtypes: <c>LayerNorm(10)(x.bfloat16())</c>. As there, no other mixture is accepted. Computed in
/// <see cref="float"/> or wider and rounded once.
/// </remarks>
/// <example><code>
/// var norm = new LayerNorm&lt;float&gt;(768);
/// Tensor&lt;BFloat16&gt; y = norm.Forward(x);         // x of BFloat16, shape (..., 768)
/// </code></example>
public static class MixedPrecision
{
    /// <summary>Applies the layer.</summary>
    /// <typeparam name="T"><see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="layer">The layer.</param>
    /// <param name="input">The input, any strides.</param>
    /// <returns>A new tensor of the input's shape and type: row-major, or channels-last where the input is and the layer walks it so.</returns>
    /// <exception cref="ArgumentException">The layer does not accept the input's shape.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is another type.</exception>
    public static Tensor<T> Forward<T>(this NormLayer<float> layer, Tensor<T> input) where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(input);
        Check<T>(layer).Prepare(input.Lengths);
        Tensor<T> result = layer.ResultLike(input);
        layer.Forward(input.AsReadOnlyTensorSpan(), result.AsTensorSpan());
        return result;
    }

    /// <summary>Applies the layer; allocates nothing.</summary>
    /// <typeparam name="T"><see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="layer">The layer.</param>
    /// <param name="input">The input, any strides.</param>
    /// <param name="destination">Takes the result; of the input's shape, row-major contiguous, or channels-last where the layer walks it so. May be the input itself.</param>
    /// <exception cref="ArgumentException">The layer does not accept the input's shape; or the destination has another shape, is not
    /// contiguous, or overlaps the input in part, or a parameter or a running statistic.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is another type.</exception>
    public static void Forward<T>(this NormLayer<float> layer, in ReadOnlyTensorSpan<T> input, in TensorSpan<T> destination) where T : unmanaged
        => Check<T>(layer).ForwardOf(input, destination);

    /// <summary>Applies the layer and keeps what its backward needs.</summary>
    /// <typeparam name="T"><see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="layer">The layer.</param>
    /// <param name="input">The input, any strides. The pass keeps it: do not change it before the backward.</param>
    /// <param name="pass">What the backward needs.</param>
    /// <param name="keep">Whether the pass keeps the input or the output.</param>
    /// <returns>A new tensor of the input's shape and type: row-major, or channels-last where the input is and the layer walks it so.</returns>
    /// <exception cref="ArgumentException">The layer does not accept the input's shape.</exception>
    /// <exception cref="InvalidOperationException">The output was to be kept, but the normalized value cannot be recovered from it.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is another type.</exception>
    public static Tensor<T> Forward<T>(this NormLayer<float> layer, Tensor<T> input, out ForwardPass<T> pass, PassMemory keep = PassMemory.Input) where T : unmanaged
        => Check<T>(layer).ForwardOf(input, out pass, keep);

    /// <summary>Computes the gradient of the input, and <b>adds</b> the gradients of the parameters, in <see cref="float"/>, to their <see cref="Parameter{T}.Grad"/>.</summary>
    /// <typeparam name="T"><see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="layer">The layer.</param>
    /// <param name="gradOutput">The gradient of the output, any strides.</param>
    /// <param name="pass">The forward pass.</param>
    /// <returns>The gradient of the input, a new tensor in the order of the result.</returns>
    /// <exception cref="ArgumentException">The gradient is not of the output's shape, or the pass is another layer's.</exception>
    /// <exception cref="InvalidOperationException">The pass kept the output, and a weight has since become zero or small beside its bias.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is another type.</exception>
    public static Tensor<T> Backward<T>(this NormLayer<float> layer, Tensor<T> gradOutput, ForwardPass<T> pass) where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(gradOutput);
        ArgumentNullException.ThrowIfNull(pass);
        Tensor<T> result = Check<T>(layer).ResultLike(pass.Kept);
        layer.Backward(gradOutput.AsReadOnlyTensorSpan(), pass, result.AsTensorSpan());
        return result;
    }

    /// <summary>Computes the gradient of the input, and <b>adds</b> the gradients of the parameters, in <see cref="float"/>, to their <see cref="Parameter{T}.Grad"/>.</summary>
    /// <typeparam name="T"><see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="layer">The layer.</param>
    /// <param name="gradOutput">The gradient of the output, any strides.</param>
    /// <param name="pass">The forward pass.</param>
    /// <param name="gradInput">Overwritten with the gradient of the input; row-major contiguous, or channels-last where the layer walks it so; may be <paramref name="gradOutput"/> itself; <c>default</c> if it is not wanted.</param>
    /// <exception cref="ArgumentException">A shape does not fit, the pass is another layer's, or the result is not contiguous or overlaps an operand in part.</exception>
    /// <exception cref="InvalidOperationException">The pass kept the output, and a weight has since become zero or small beside its bias.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is another type.</exception>
    public static void Backward<T>(this NormLayer<float> layer, in ReadOnlyTensorSpan<T> gradOutput, ForwardPass<T> pass, in TensorSpan<T> gradInput) where T : unmanaged
        => Check<T>(layer).BackwardOf(gradOutput, pass, gradInput);

    private static NormLayer<float> Check<T>(NormLayer<float> layer)
    {
        ArgumentNullException.ThrowIfNull(layer);
        Elements.CheckSupported<T, float>(layer.Name);
        return layer;
    }
}
