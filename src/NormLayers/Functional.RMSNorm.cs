using System.Numerics.Tensors;
using NormLayers.Internals;
using NormLayers.Internals.Kernels;

namespace NormLayers;

public static partial class Functional
{
    /// <summary>Divides by the root mean square over the last dimensions of the input.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (*, normalizedShape) or, with an axis, (*, normalizedShape, *).</param>
    /// <param name="normalizedShape">The lengths of the dimensions that share statistics, at least one: the input's last ones, or those from <paramref name="axis"/> on.</param>
    /// <param name="weight">Factors of shape normalizedShape, or <c>default</c> for none.</param>
    /// <param name="eps">Added to the mean square under the root; null for the machine epsilon of the type computed in: 2^-23 for <see cref="float"/>, 2^-52 for <see cref="double"/>.</param>
    /// <param name="destination">Takes the result; of the input's shape, row-major contiguous; over the channels also channels-last.</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <param name="axis">The first of the dimensions that share statistics, negative ones counted from the end; null, as in PyTorch, for the last ones.</param>
    /// <exception cref="ArgumentException"><paramref name="normalizedShape"/> is empty; the weight is not of that shape; the
    /// input does not end in it; or the destination has another shape, is not contiguous, or overlaps the input or the weight in part.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>
    /// <para>This method effectively computes <c>y = x / sqrt(E[x²] + eps) * weight</c> with the mean square of each group of
    /// the last <c>normalizedShape.Length</c> dimensions.</para>
    /// <para>A NaN makes its whole group NaN; an infinity gives NaN in its own place and 0 in the others. A group of zeros gives zeros (NaN if eps is 0).</para>
    /// <para>Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467;
    /// https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.rms_norm.html, with the rules of PyTorch 2.8 and later.</para>
    /// </remarks>
    public static void RMSNorm<T>(in ReadOnlyTensorSpan<T> input, ReadOnlySpan<nint> normalizedShape, in ReadOnlyTensorSpan<T> weight, double? eps, in TensorSpan<T> destination, int maxThreads = 0, int? axis = null)
        where T : unmanaged
    {
        RowForward<T, T>(input, RMSNormLayout(input, normalizedShape, weight, axis), weight, default, eps ?? Elements.MachineEpsilon<T>(), destination, [], maxThreads);
    }

    /// <summary>The same, and saves what <c>RMSNormBackward</c> needs besides the input.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (*, normalizedShape) or, with an axis, (*, normalizedShape, *).</param>
    /// <param name="normalizedShape">The lengths of the dimensions that share statistics, at least one: the input's last ones, or those from <paramref name="axis"/> on.</param>
    /// <param name="weight">Factors of shape normalizedShape, or <c>default</c> for none.</param>
    /// <param name="eps">Added to the mean square under the root; null for the machine epsilon, as above.</param>
    /// <param name="destination">Takes the result; of the input's shape, row-major contiguous; over the channels also channels-last.</param>
    /// <param name="statistics">Takes 1/sqrt(E[x²] + eps) of each group, in row-major order of the leading dimensions: exactly as many as there are groups, none for an empty input.</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <param name="axis">The first of the dimensions that share statistics, negative ones counted from the end; null, as in PyTorch, for the last ones.</param>
    /// <exception cref="ArgumentException">As above, or there are more or fewer statistics than groups.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public static void RMSNorm<T>(in ReadOnlyTensorSpan<T> input, ReadOnlySpan<nint> normalizedShape, in ReadOnlyTensorSpan<T> weight, double? eps, in TensorSpan<T> destination, Span<GroupStatistics> statistics, int maxThreads = 0, int? axis = null)
        where T : unmanaged
    {
        RowLayout layout = RMSNormLayout(input, normalizedShape, weight, axis);
        CheckStatistics(statistics, layout);
        RowForward<T, T>(input, layout, weight, default, eps ?? Elements.MachineEpsilon<T>(), destination, statistics, maxThreads);
    }

    /// <summary>Divides by the root mean square over the last dimensions of the input.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (*, normalizedShape) or, with an axis, (*, normalizedShape, *), any strides.</param>
    /// <param name="normalizedShape">The lengths of the dimensions that share statistics, at least one: the input's last ones, or those from <paramref name="axis"/> on.</param>
    /// <param name="weight">Factors of shape normalizedShape, or null for none.</param>
    /// <param name="eps">Added to the mean square under the root; null for the machine epsilon, as above.</param>
    /// <param name="axis">The first of the dimensions that share statistics, negative ones counted from the end; null, as in PyTorch, for the last ones.</param>
    /// <returns>A new tensor of the input's shape: row-major, or over the channels channels-last where the input is.</returns>
    /// <exception cref="ArgumentException"><paramref name="normalizedShape"/> is empty; the weight is not of that shape; or the input does not end in it.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public static Tensor<T> RMSNorm<T>(Tensor<T> input, ReadOnlySpan<nint> normalizedShape, Tensor<T>? weight = null, double? eps = null, int? axis = null)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(input);
        Tensor<T> result = Layout.ResultLike(input.AsReadOnlyTensorSpan(), RMSNormLayout(input.AsReadOnlyTensorSpan(), normalizedShape, OrNone(weight), axis));
        RMSNorm(input.AsReadOnlyTensorSpan(), normalizedShape, OrNone(weight), eps, result.AsTensorSpan(), axis: axis);
        return result;
    }

    /// <summary>The gradients of <c>RMSNorm</c>. Each result is optional: <c>default</c> for one that is not wanted.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="gradOutput">The gradient of the output, any strides.</param>
    /// <param name="input">The forward's input, of shape (*, normalizedShape), any strides.</param>
    /// <param name="normalizedShape">The lengths of the dimensions that share statistics.</param>
    /// <param name="statistics">What the forward saved, one a group.</param>
    /// <param name="weight">The forward's weight, or <c>default</c> for none.</param>
    /// <param name="gradInput">Overwritten with the gradient of the input; row-major contiguous; may be <paramref name="gradOutput"/> itself.</param>
    /// <param name="gradWeight">The gradient of the weight is <b>added</b> to it; of shape normalizedShape.</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <param name="axis">The first of the dimensions that share statistics, negative ones counted from the end; null, as in PyTorch, for the last ones.</param>
    /// <exception cref="ArgumentException">A shape does not fit, the number of statistics is not that of the groups, or a result is not contiguous or overlaps an operand in part.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>
    /// With <c>n = x * rstd</c> and <c>g = dy * weight</c> this method effectively computes
    /// <c>dx = rstd * (g - n * E[g * n])</c> and <c>dweight += sum of dy * n</c>, all sums in double.
    /// </remarks>
    public static void RMSNormBackward<T>(in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, ReadOnlySpan<nint> normalizedShape, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<T> weight, in TensorSpan<T> gradInput, in TensorSpan<T> gradWeight, int maxThreads = 0, int? axis = null)
        where T : unmanaged
    {
        RowLayout layout = RMSNormLayout(input, normalizedShape, weight, axis);
        RowBackward<T, T, T>(gradOutput, input, layout, statistics, weight, gradInput, gradWeight, default, maxThreads: maxThreads);
    }

    /// <summary>The Jacobian-vector product of <c>RMSNorm</c>: how the output moves when its inputs move along tangents.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The forward's input, of shape (*, normalizedShape), any strides.</param>
    /// <param name="normalizedShape">The lengths of the dimensions that share statistics.</param>
    /// <param name="statistics">What the forward saved, one a group.</param>
    /// <param name="weight">The forward's weight, or <c>default</c> for none.</param>
    /// <param name="inputTangent">The input's tangent, or <c>default</c> for zero.</param>
    /// <param name="weightTangent">The weight's tangent, or <c>default</c> for zero.</param>
    /// <param name="destination">Takes the output's tangent; of the input's shape, row-major contiguous; may be the input or its tangent itself.</param>
    /// <param name="axis">The first of the dimensions that share statistics, negative ones counted from the end; null, as in PyTorch, for the last ones.</param>
    /// <exception cref="ArgumentException">A shape does not fit, the number of statistics is not that of the groups, or the destination is not contiguous or overlaps an operand in part.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>This method effectively computes <c>rstd * (t - n * E[t * n]) * weight + n * tweight</c> with <c>n = x * rstd</c>.</remarks>
    public static void RMSNormJvp<T>(in ReadOnlyTensorSpan<T> input, ReadOnlySpan<nint> normalizedShape, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> inputTangent, in ReadOnlyTensorSpan<T> weightTangent, in TensorSpan<T> destination, int? axis = null)
        where T : unmanaged
    {
        RowLayout layout = RMSNormLayout(input, normalizedShape, weight, axis);
        RowJvp(input, layout, statistics, weight, inputTangent, weightTangent, default, destination);
    }

    /// <summary>The gradients of <c>RMSNormBackward</c> for given cotangents of its results (double backward, as gradient penalties need it).</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="gradOutput">The backward's gradient of the output, any strides.</param>
    /// <param name="input">The forward's input, of shape (*, normalizedShape), any strides.</param>
    /// <param name="normalizedShape">The lengths of the dimensions that share statistics.</param>
    /// <param name="statistics">What the forward saved, one a group.</param>
    /// <param name="weight">The forward's weight, or <c>default</c> for none.</param>
    /// <param name="gradGradInput">The cotangent of the backward's gradInput, or <c>default</c> for zero.</param>
    /// <param name="gradGradWeight">The cotangent of its gradWeight, or <c>default</c> for zero.</param>
    /// <param name="gradGradOutput">Overwritten with the gradient with respect to gradOutput; <c>default</c> if not wanted; apart from the operands.</param>
    /// <param name="gradInput">Overwritten with the gradient with respect to the input; <c>default</c> if not wanted; apart from the operands.</param>
    /// <param name="gradWeight">The gradient with respect to the weight is <b>added</b> to it; <c>default</c> if not wanted; of shape normalizedShape.</param>
    /// <param name="axis">The first of the dimensions that share statistics, negative ones counted from the end; null, as in PyTorch, for the last ones.</param>
    /// <exception cref="ArgumentException">A shape does not fit, the number of statistics is not that of the groups, or a result is not contiguous or overlaps an operand.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public static void RMSNormDoubleBackward<T>(in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, ReadOnlySpan<nint> normalizedShape, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> gradGradInput, in ReadOnlyTensorSpan<T> gradGradWeight, in TensorSpan<T> gradGradOutput, in TensorSpan<T> gradInput, in TensorSpan<T> gradWeight, int? axis = null)
        where T : unmanaged
    {
        RowLayout layout = RMSNormLayout(input, normalizedShape, weight, axis);
        RowDoubleBackward(gradOutput, input, layout, statistics, weight, gradGradInput, gradGradWeight, default, gradGradOutput, gradInput, gradWeight);
    }

    private static RowLayout RMSNormLayout<T, TParameter>(in ReadOnlyTensorSpan<T> input, ReadOnlySpan<nint> normalizedShape, in ReadOnlyTensorSpan<TParameter> weight, int? axis)
    {
        Elements.CheckSupported<T, TParameter>("RMSNorm");
        return Dimensions(input.Lengths, normalizedShape, weight, default, RowStatistic.MeanSquare, axis);
    }
}
