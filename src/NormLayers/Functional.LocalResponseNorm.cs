using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using NormLayers.Internals;
using NormLayers.Internals.Kernels;

namespace NormLayers;

public static partial class Functional
{
    /// <summary>Divides each element by a power of the sum of squares of its neighbouring channels.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (N, C, *) and at least three dimensions.</param>
    /// <param name="size">The number of channels in a window, at least 1; may exceed C.</param>
    /// <param name="alpha">The factor of the mean square; 1e-4 in PyTorch.</param>
    /// <param name="beta">The exponent; 0.75 in PyTorch.</param>
    /// <param name="k">The summand; 1 in PyTorch.</param>
    /// <param name="destination">Takes the result; of the input's shape, row-major contiguous.</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <param name="window">Which way an even window leans: PyTorch's, or ONNX's mirror image.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="size"/> is zero or negative.</exception>
    /// <exception cref="ArgumentException">The input has fewer than three dimensions; or the destination has another shape, is
    /// not contiguous, or overlaps the input in part.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>
    /// <para>This method effectively computes <c>y[c] = x[c] / (k + alpha / size * sum of x[j]²)^beta</c> with j from
    /// <c>c - size / 2</c> to <c>c + (size - 1) / 2</c> inside the channels: an even window reaches one channel further down
    /// than up, as PyTorch's does (<see cref="LrnWindow.Onnx"/> is the mirror image), and the sum is divided by <paramref name="size"/> even where
    /// fewer channels are inside.</para>
    /// <para>A NaN spreads to the channels whose window covers it; an infinity gives NaN in its own place and 0 in those.</para>
    /// <para>Krizhevsky, Sutskever and Hinton 2012 (with alpha not divided by the size);
    /// https://docs.pytorch.org/docs/stable/generated/torch.nn.LocalResponseNorm.html.</para>
    /// </remarks>
    public static void LocalResponseNorm<T>(in ReadOnlyTensorSpan<T> input, nint size, double alpha, double beta, double k, in TensorSpan<T> destination, int maxThreads = 0, LrnWindow window = LrnWindow.PyTorch)
        where T : unmanaged
    {
        Elements.CheckSupported<T>("LocalResponseNorm");
        CheckWindow(input, size);
        Layout.CheckDestination(input, destination, nameof(destination));
        if (input.FlattenedLength != 0)
            ApplyWindow(in Layout.Contiguous(input, destination), size, alpha, beta, k, destination, maxThreads, window);
    }

    /// <summary>The same for 64-bit integers, which PyTorch also accepts (and divides as integers): each is rounded to <see cref="float"/> first.</summary>
    /// <param name="input">The input, of shape (N, C, *) and at least three dimensions.</param>
    /// <param name="size">The number of channels in a window, at least 1; may exceed C.</param>
    /// <param name="alpha">The factor of the mean square; 1e-4 in PyTorch.</param>
    /// <param name="beta">The exponent; 0.75 in PyTorch.</param>
    /// <param name="k">The summand; 1 in PyTorch.</param>
    /// <param name="destination">Takes the result; of the input's shape, row-major contiguous, apart from the input's memory.</param>
    /// <param name="window">Which way an even window leans: PyTorch's, or ONNX's mirror image.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="size"/> is zero or negative.</exception>
    /// <exception cref="ArgumentException">The input has fewer than three dimensions; or the destination has another shape, is
    /// not contiguous, or overlaps the input.</exception>
    public static void LocalResponseNorm(in ReadOnlyTensorSpan<long> input, nint size, double alpha, double beta, double k, in TensorSpan<float> destination, LrnWindow window = LrnWindow.PyTorch)
    {
        CheckWindow(input, size);
        Layout.CheckDestination(input, destination, nameof(destination));
        if (input.FlattenedLength == 0)
            return;
        ref float y = ref TensorMarshal.GetReference(destination);
        nint i = 0;
        foreach (long value in input)
            Unsafe.Add(ref y, i++) = value;
        ApplyWindow(in y, size, alpha, beta, k, destination, maxThreads: 0, window);
    }

    /// <summary>Divides each element by a power of the sum of squares of its neighbouring channels.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (N, C, *) and at least three dimensions, any strides.</param>
    /// <param name="size">The number of channels in a window, at least 1; may exceed C.</param>
    /// <param name="alpha">The factor of the mean square.</param>
    /// <param name="beta">The exponent.</param>
    /// <param name="k">The summand.</param>
    /// <param name="window">Which way an even window leans: PyTorch's, or ONNX's mirror image.</param>
    /// <returns>A new row-major tensor of the input's shape.</returns>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="size"/> is zero or negative.</exception>
    /// <exception cref="ArgumentException">The input has fewer than three dimensions.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public static Tensor<T> LocalResponseNorm<T>(Tensor<T> input, nint size, double alpha = 1e-4, double beta = 0.75, double k = 1, LrnWindow window = LrnWindow.PyTorch)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(input);
        Tensor<T> result = Tensor.CreateFromShapeUninitialized<T>(input.Lengths);
        LocalResponseNorm(input.AsReadOnlyTensorSpan(), size, alpha, beta, k, result.AsTensorSpan(), window: window);
        return result;
    }

    private static void ApplyWindow<T>(ref readonly T x, nint size, double alpha, double beta, double k, in TensorSpan<T> destination, int maxThreads, LrnWindow window)
        where T : unmanaged
    {
        nint channels = destination.Lengths[1];
        var parameters = new WindowParameters(size, alpha, beta, k, window, channels);
        WindowNorm.Forward(in x, ref TensorMarshal.GetReference(destination), destination.Lengths[0], channels, Layout.Product(destination.Lengths[2..]), in parameters, maxThreads);
    }

    private static void CheckWindow<T>(in ReadOnlyTensorSpan<T> input, nint size)
    {
        if (input.Rank < 3)
            throw new ArgumentException($"Expected an input of at least 3 dimensions (N, C, *), got shape {Layout.Text(input.Lengths)}.", nameof(input));
        if (size <= 0)
            throw new ArgumentOutOfRangeException(nameof(size), size, "Expected a window of at least one channel.");
    }
}
