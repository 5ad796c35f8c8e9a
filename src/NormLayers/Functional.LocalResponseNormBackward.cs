using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using NormLayers.Internals;
using NormLayers.Internals.Kernels;

namespace NormLayers;

public static partial class Functional
{
    /// <summary>The gradient of <c>LocalResponseNorm</c> with respect to its input.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="gradOutput">The gradient of the output, any strides.</param>
    /// <param name="input">The forward's input, of shape (N, C, *), any strides.</param>
    /// <param name="size">The number of channels in a window, at least 1.</param>
    /// <param name="alpha">The factor of the mean square.</param>
    /// <param name="beta">The exponent.</param>
    /// <param name="k">The summand.</param>
    /// <param name="gradInput">Overwritten with the gradient of the input; row-major contiguous; may be <paramref name="gradOutput"/> itself.</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <param name="window">Which way an even window leans: PyTorch's, or ONNX's mirror image.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="size"/> is zero or negative.</exception>
    /// <exception cref="ArgumentException">A shape does not fit, or the result is not contiguous or overlaps an operand in part.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>
    /// With <c>d = k + alpha / size * sum of x²</c> this method effectively computes
    /// <c>dx[i] = dy[i] * d[i]^-beta - 2 * alpha * beta / size * x[i] * sum of dy[c] * x[c] * d[c]^(-beta - 1)</c> over the channels c
    /// whose window holds i: from <c>i - (size - 1) / 2</c> to <c>i + size / 2</c> (<see cref="LrnWindow.Onnx"/>: from <c>i - size / 2</c> to <c>i + (size - 1) / 2</c>).
    /// </remarks>
    public static void LocalResponseNormBackward<T>(in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, nint size, double alpha, double beta, double k, in TensorSpan<T> gradInput, int maxThreads = 0, LrnWindow window = LrnWindow.PyTorch)
        where T : unmanaged
    {
        Elements.CheckSupported<T>("LocalResponseNorm");
        CheckWindow(input, size);
        CheckGradients(gradOutput, input, gradInput);
        if (input.FlattenedLength == 0)
            return;
        using var dy = new ContiguousOperand<T>(gradOutput);
        using var x = new ContiguousOperand<T>(input);
        (nint samples, nint channels, nint run, WindowParameters parameters) = Window(input, size, alpha, beta, k, window);
        WindowNorm.Backward(in dy.Reference, in x.Reference, ref TensorMarshal.GetReference(gradInput), samples, channels, run, in parameters, maxThreads);
    }

    /// <summary>The Jacobian-vector product of <c>LocalResponseNorm</c>: how the output moves when the input moves along a tangent.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The forward's input, of shape (N, C, *), any strides.</param>
    /// <param name="size">The number of channels in a window, at least 1.</param>
    /// <param name="alpha">The factor of the mean square.</param>
    /// <param name="beta">The exponent.</param>
    /// <param name="k">The summand.</param>
    /// <param name="inputTangent">The input's tangent, any strides.</param>
    /// <param name="destination">Takes the output's tangent; of the input's shape, row-major contiguous; may be <paramref name="inputTangent"/> itself.</param>
    /// <param name="window">Which way an even window leans: PyTorch's, or ONNX's mirror image.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="size"/> is zero or negative.</exception>
    /// <exception cref="ArgumentException">A shape does not fit, or the destination is not contiguous or overlaps an operand in part.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public static void LocalResponseNormJvp<T>(in ReadOnlyTensorSpan<T> input, nint size, double alpha, double beta, double k, in ReadOnlyTensorSpan<T> inputTangent, in TensorSpan<T> destination, LrnWindow window = LrnWindow.PyTorch)
        where T : unmanaged
    {
        Elements.CheckSupported<T>("LocalResponseNorm");
        CheckWindow(input, size);
        CheckLike(inputTangent, input, nameof(inputTangent));
        CheckGradient(destination, inputTangent, input, nameof(destination));
        if (input.FlattenedLength == 0)
            return;
        using var dx = new ContiguousOperand<T>(inputTangent);
        using var x = new ContiguousOperand<T>(input);
        (nint samples, nint channels, nint run, WindowParameters parameters) = Window(input, size, alpha, beta, k, window);
        WindowNorm.Jvp(in dx.Reference, in x.Reference, ref TensorMarshal.GetReference(destination), samples, channels, run, in parameters);
    }

    /// <summary>The gradients of <see cref="LocalResponseNormBackward{T}"/> for a given cotangent of its result.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="gradOutput">The backward's gradient of the output, any strides.</param>
    /// <param name="input">The forward's input, of shape (N, C, *), any strides.</param>
    /// <param name="size">The number of channels in a window, at least 1.</param>
    /// <param name="alpha">The factor of the mean square.</param>
    /// <param name="beta">The exponent.</param>
    /// <param name="k">The summand.</param>
    /// <param name="gradGradInput">The cotangent of the backward's gradInput, any strides.</param>
    /// <param name="gradGradOutput">Overwritten with the gradient with respect to gradOutput; <c>default</c> if not wanted; apart from the operands.</param>
    /// <param name="gradInput">Overwritten with the gradient with respect to the input; <c>default</c> if not wanted; apart from the operands.</param>
    /// <param name="window">Which way an even window leans: PyTorch's, or ONNX's mirror image.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="size"/> is zero or negative.</exception>
    /// <exception cref="ArgumentException">A shape does not fit, or a result is not contiguous or overlaps an operand.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>Unlike the first derivatives, these follow IEEE arithmetic where squares of doubles leave the range of double.</remarks>
    public static void LocalResponseNormDoubleBackward<T>(in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, nint size, double alpha, double beta, double k, in ReadOnlyTensorSpan<T> gradGradInput, in TensorSpan<T> gradGradOutput, in TensorSpan<T> gradInput, LrnWindow window = LrnWindow.PyTorch)
        where T : unmanaged
    {
        Elements.CheckSupported<T>("LocalResponseNorm");
        CheckWindow(input, size);
        CheckLike(gradOutput, input, nameof(gradOutput));
        CheckLike(gradGradInput, input, nameof(gradGradInput));
        CheckSecondGradients(gradGradOutput, gradInput, gradOutput, input, gradGradInput);
        if (input.FlattenedLength == 0)
            return;
        using var dy = new ContiguousOperand<T>(gradOutput);
        using var x = new ContiguousOperand<T>(input);
        using var v = new ContiguousOperand<T>(gradGradInput);
        (nint samples, nint channels, nint run, WindowParameters parameters) = Window(input, size, alpha, beta, k, window);
        WindowNorm.DoubleBackward(in dy.Reference, in x.Reference, in v.Reference, ref OrNull(gradGradOutput), ref OrNull(gradInput), samples, channels, run, in parameters);
    }

    private static (nint Samples, nint Channels, nint Run, WindowParameters Window) Window<T>(in ReadOnlyTensorSpan<T> input, nint size, double alpha, double beta, double k, LrnWindow window)
        => (input.Lengths[0], input.Lengths[1], Layout.Product(input.Lengths[2..]), new WindowParameters(size, alpha, beta, k, window, input.Lengths[1]));
}
