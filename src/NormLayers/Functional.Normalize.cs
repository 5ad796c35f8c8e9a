using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using NormLayers.Internals;
using NormLayers.Internals.Kernels;

namespace NormLayers;

public static partial class Functional
{
    /// <summary>Divides by the p-norm along one dimension.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, any shape and strides.</param>
    /// <param name="p">The exponent of the norm: 2 in PyTorch; 1, any other number, 0 for the count of elements that are not zero, infinity for the largest magnitude and -infinity for the smallest.</param>
    /// <param name="dim">The dimension; negative from the last one; 1 in PyTorch.</param>
    /// <param name="eps">The least divisor; 1e-12 in PyTorch.</param>
    /// <param name="destination">Takes the result; of the input's shape, row-major contiguous.</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <exception cref="ArgumentOutOfRangeException">The input has no such dimension, or <paramref name="p"/> is NaN.</exception>
    /// <exception cref="ArgumentException">The destination has another shape, is not contiguous, or overlaps the input in part.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>
    /// <para>This method effectively computes <c>y = x / max((sum of |x|^p)^(1/p), eps)</c>, the sum along <paramref name="dim"/>.</para>
    /// <para>A NaN makes all elements along its dimension NaN (but itself alone for p = 0). Zeros stay zeros.</para>
    /// <para>https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.normalize.html</para>
    /// </remarks>
    public static void Normalize<T>(in ReadOnlyTensorSpan<T> input, double p, int dim, double eps, in TensorSpan<T> destination, int maxThreads = 0)
        where T : unmanaged
    {
        LpNorm.Parameters parameters = LpParameters(input, p, dim, eps);
        Layout.CheckDestination(input, destination, nameof(destination));
        if (input.FlattenedLength != 0)
            LpNorm.Forward(in Layout.Contiguous(input, destination), ref TensorMarshal.GetReference(destination), in parameters, maxThreads);
    }

    /// <summary>Divides by the p-norm along one dimension.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, any shape and strides.</param>
    /// <param name="p">The exponent of the norm, as above.</param>
    /// <param name="dim">The dimension; negative from the last one.</param>
    /// <param name="eps">The least divisor.</param>
    /// <returns>A new row-major tensor of the input's shape.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The input has no such dimension, or <paramref name="p"/> is NaN.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public static Tensor<T> Normalize<T>(Tensor<T> input, double p = 2, int dim = 1, double eps = 1e-12)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(input);
        Tensor<T> result = Tensor.CreateFromShapeUninitialized<T>(input.Lengths);
        Normalize(input.AsReadOnlyTensorSpan(), p, dim, eps, result.AsTensorSpan());
        return result;
    }

    /// <summary>The gradient of <c>Normalize</c> with respect to its input.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="gradOutput">The gradient of the output, any strides.</param>
    /// <param name="input">The forward's input, any shape and strides.</param>
    /// <param name="p">The exponent of the norm.</param>
    /// <param name="dim">The dimension; negative from the last one.</param>
    /// <param name="eps">The least divisor.</param>
    /// <param name="gradInput">Overwritten with the gradient of the input; row-major contiguous; may be <paramref name="gradOutput"/> itself.</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <exception cref="ArgumentOutOfRangeException">The input has no such dimension, or <paramref name="p"/> is NaN.</exception>
    /// <exception cref="ArgumentException">A shape does not fit, or the result is not contiguous or overlaps an operand in part.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>
    /// With <c>d = max(norm, eps)</c> this method effectively computes <c>dx = (dy - (sum of dy * x) / d * D) / d</c>, where D is the norm's
    /// derivative <c>sign(x) * |x|^(p-1) * norm^(1-p)</c>; sign(x) divided among the largest (smallest) for p = infinity (-infinity), as
    /// in PyTorch; and 0 for p = 0, for x = 0, and where the norm is less than eps.
    /// </remarks>
    public static void NormalizeBackward<T>(in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, double p, int dim, double eps, in TensorSpan<T> gradInput, int maxThreads = 0)
        where T : unmanaged
    {
        LpNorm.Parameters parameters = LpParameters(input, p, dim, eps);
        CheckGradients(gradOutput, input, gradInput);
        if (input.FlattenedLength == 0)
            return;
        using var dy = new ContiguousOperand<T>(gradOutput);
        using var x = new ContiguousOperand<T>(input);
        LpNorm.Backward(in dy.Reference, in x.Reference, ref TensorMarshal.GetReference(gradInput), in parameters, maxThreads);
    }

    private static LpNorm.Parameters LpParameters<T>(in ReadOnlyTensorSpan<T> input, double p, int dim, double eps)
    {
        Elements.CheckSupported<T>("Normalize");
        if (double.IsNaN(p))
            throw new ArgumentOutOfRangeException(nameof(p), p, "Expected a number or an infinity as the exponent.");
        int rank = input.Rank, dimension = dim < 0 ? dim + rank : dim;
        if (dimension < 0 || dimension >= rank)
            throw new ArgumentOutOfRangeException(nameof(dim), dim, $"Expected a dimension from {-rank} to {rank - 1} of the input's shape {Layout.Text(input.Lengths)}.");
        return new LpNorm.Parameters(Layout.Product(input.Lengths[..dimension]), input.Lengths[dimension], Layout.Product(input.Lengths[(dimension + 1)..]), p, eps);
    }
}
