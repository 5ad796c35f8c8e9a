using System.Numerics.Tensors;
using NormLayers.Internals;
using NormLayers.Internals.Kernels;

namespace NormLayers;

public static partial class Functional
{
    /// <summary>The gradients of <c>BatchNorm</c>. Each result is optional: <c>default</c> for one that is not wanted.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="gradOutput">The gradient of the output, any strides.</param>
    /// <param name="input">The forward's input, of shape (N, C, *), any strides.</param>
    /// <param name="statistics">What the forward saved, one a channel.</param>
    /// <param name="weight">The forward's weight, or <c>default</c> for none.</param>
    /// <param name="training">Whether the forward used the batch's statistics, which move with the input, or running ones.</param>
    /// <param name="gradInput">Overwritten with the gradient of the input; row-major contiguous or channels-last; may be <paramref name="gradOutput"/> itself.</param>
    /// <param name="gradWeight">The gradient of the weight is <b>added</b> to it; of shape (C).</param>
    /// <param name="gradBias">The gradient of the bias is <b>added</b> to it; of shape (C).</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <exception cref="ArgumentException">A shape does not fit, the number of statistics is not that of the channels, or a result is neither contiguous nor channels-last or overlaps an operand in part.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>
    /// <para>With <c>n = (x - mean) * rstd</c> and <c>g = dy * weight</c> this method effectively computes in training
    /// <c>dx = rstd * (g - E[g] - n * E[g * n])</c>, in evaluation <c>dx = rstd * g</c>, and in both
    /// <c>dweight += sum of dy * n</c> and <c>dbias += sum of dy</c>, all sums in double.</para>
    /// </remarks>
    public static void BatchNormBackward<T>(in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<T> weight, bool training, in TensorSpan<T> gradInput, in TensorSpan<T> gradWeight, in TensorSpan<T> gradBias, int maxThreads = 0)
        where T : unmanaged
        => RowBackward(gradOutput, input, BatchNormGradientLayout(input, weight, training), statistics, weight, gradInput, gradWeight, gradBias, maxThreads: maxThreads);

    /// <summary>The Jacobian-vector product of <c>BatchNorm</c>: how the output moves when its inputs move along tangents.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The forward's input, of shape (N, C, *), any strides.</param>
    /// <param name="statistics">What the forward saved, one a channel.</param>
    /// <param name="weight">The forward's weight, or <c>default</c> for none.</param>
    /// <param name="training">Whether the forward used the batch's statistics.</param>
    /// <param name="inputTangent">The input's tangent, or <c>default</c> for zero.</param>
    /// <param name="weightTangent">The weight's tangent, or <c>default</c> for zero.</param>
    /// <param name="biasTangent">The bias's tangent, or <c>default</c> for zero.</param>
    /// <param name="destination">Takes the output's tangent; of the input's shape, row-major contiguous; may be the input or its tangent itself.</param>
    /// <exception cref="ArgumentException">A shape does not fit, the number of statistics is not that of the channels, or the destination is not contiguous or overlaps an operand in part.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>This method effectively computes <c>rstd * (t - E[t] - n * E[t * n]) * weight + n * tweight + tbias</c>, in evaluation without the two means.</remarks>
    public static void BatchNormJvp<T>(in ReadOnlyTensorSpan<T> input, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<T> weight, bool training, in ReadOnlyTensorSpan<T> inputTangent, in ReadOnlyTensorSpan<T> weightTangent, in ReadOnlyTensorSpan<T> biasTangent, in TensorSpan<T> destination)
        where T : unmanaged
        => RowJvp(input, BatchNormGradientLayout(input, weight, training), statistics, weight, inputTangent, weightTangent, biasTangent, destination);

    /// <summary>The gradients of <see cref="BatchNormBackward{T}"/> for given cotangents of its results (double backward, as gradient penalties need it).</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="gradOutput">The backward's gradient of the output, any strides.</param>
    /// <param name="input">The forward's input, of shape (N, C, *), any strides.</param>
    /// <param name="statistics">What the forward saved, one a channel.</param>
    /// <param name="weight">The forward's weight, or <c>default</c> for none.</param>
    /// <param name="training">Whether the forward used the batch's statistics.</param>
    /// <param name="gradGradInput">The cotangent of the backward's gradInput, or <c>default</c> for zero.</param>
    /// <param name="gradGradWeight">The cotangent of its gradWeight, or <c>default</c> for zero.</param>
    /// <param name="gradGradBias">The cotangent of its gradBias, or <c>default</c> for zero.</param>
    /// <param name="gradGradOutput">Overwritten with the gradient with respect to gradOutput; row-major contiguous; <c>default</c> if not wanted; apart from the operands.</param>
    /// <param name="gradInput">Overwritten with the gradient with respect to the input; row-major contiguous; <c>default</c> if not wanted; apart from the operands.</param>
    /// <param name="gradWeight">The gradient with respect to the weight is <b>added</b> to it; <c>default</c> if not wanted; of shape (C).</param>
    /// <exception cref="ArgumentException">A shape does not fit, the number of statistics is not that of the channels, or a result is not contiguous or overlaps an operand.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public static void BatchNormDoubleBackward<T>(in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<T> weight, bool training, in ReadOnlyTensorSpan<T> gradGradInput, in ReadOnlyTensorSpan<T> gradGradWeight, in ReadOnlyTensorSpan<T> gradGradBias, in TensorSpan<T> gradGradOutput, in TensorSpan<T> gradInput, in TensorSpan<T> gradWeight)
        where T : unmanaged
        => RowDoubleBackward(gradOutput, input, BatchNormGradientLayout(input, weight, training), statistics, weight, gradGradInput, gradGradWeight, gradGradBias, gradGradOutput, gradInput, gradWeight);

    private static RowLayout BatchNormGradientLayout<T>(in ReadOnlyTensorSpan<T> input, in ReadOnlyTensorSpan<T> weight, bool training)
    {
        CheckBatch<T>(input.Lengths);
        CheckChannelParameter(weight, input.Lengths[1], nameof(weight));
        return ChannelsOf(input.Lengths, training ? RowStatistic.MeanAndVarianceOrZero : RowStatistic.Given);
    }
}
