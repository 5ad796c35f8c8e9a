using System.Numerics.Tensors;
using NormLayers.Internals.Kernels;

namespace NormLayers;

public static partial class Functional
{
    /// <summary>The gradients of <c>GroupNorm</c>. Each result is optional: <c>default</c> for one that is not wanted.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="gradOutput">The gradient of the output, any strides.</param>
    /// <param name="input">The forward's input, of shape (N, C, *), any strides.</param>
    /// <param name="numGroups">The number of groups that a sample's C channels are cut into.</param>
    /// <param name="statistics">What the forward saved, one a group.</param>
    /// <param name="weight">The forward's weight, or <c>default</c> for none.</param>
    /// <param name="gradInput">Overwritten with the gradient of the input; row-major contiguous; may be <paramref name="gradOutput"/> itself.</param>
    /// <param name="gradWeight">The gradient of the weight is <b>added</b> to it; of shape (C).</param>
    /// <param name="gradBias">The gradient of the bias is <b>added</b> to it; of shape (C).</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <exception cref="ArgumentException">A shape does not fit, the number of statistics is not that of the groups, or a result is not contiguous or overlaps an operand in part.</exception>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="numGroups"/> is zero or negative.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>
    /// <para>With <c>n = (x - E[x]) * rstd</c> and <c>g = dy * weight</c> this method effectively computes
    /// <c>dx = rstd * (g - E[g] - n * E[g * n])</c>, <c>dweight += sum of dy * n</c> and <c>dbias += sum of dy</c>, all sums in double.
    /// The gradient of a weight is exactly 0 over constant groups.</para>
    /// </remarks>
    public static void GroupNormBackward<T>(in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, nint numGroups, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<T> weight, in TensorSpan<T> gradInput, in TensorSpan<T> gradWeight, in TensorSpan<T> gradBias, int maxThreads = 0)
        where T : unmanaged
    {
        RowLayout layout = GroupNormLayout<T, T>(input, numGroups, weight, default);
        RowBackward(gradOutput, input, layout, statistics, weight, gradInput, gradWeight, gradBias, maxThreads: maxThreads);
    }

    /// <summary>The Jacobian-vector product of <c>GroupNorm</c>: how the output moves when its inputs move along tangents.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The forward's input, of shape (N, C, *), any strides.</param>
    /// <param name="numGroups">The number of groups that a sample's C channels are cut into.</param>
    /// <param name="statistics">What the forward saved, one a group.</param>
    /// <param name="weight">The forward's weight, or <c>default</c> for none.</param>
    /// <param name="inputTangent">The input's tangent, or <c>default</c> for zero.</param>
    /// <param name="weightTangent">The weight's tangent, or <c>default</c> for zero.</param>
    /// <param name="biasTangent">The bias's tangent, or <c>default</c> for zero.</param>
    /// <param name="destination">Takes the output's tangent; of the input's shape, row-major contiguous; may be the input or its tangent itself.</param>
    /// <exception cref="ArgumentException">A shape does not fit, the number of statistics is not that of the groups, or the destination is not contiguous or overlaps an operand in part.</exception>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="numGroups"/> is zero or negative.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>This method effectively computes <c>rstd * (t - E[t] - n * E[t * n]) * weight + n * tweight + tbias</c> with <c>n = (x - E[x]) * rstd</c>.</remarks>
    public static void GroupNormJvp<T>(in ReadOnlyTensorSpan<T> input, nint numGroups, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> inputTangent, in ReadOnlyTensorSpan<T> weightTangent, in ReadOnlyTensorSpan<T> biasTangent, in TensorSpan<T> destination)
        where T : unmanaged
    {
        RowLayout layout = GroupNormLayout<T, T>(input, numGroups, weight, default);
        RowJvp(input, layout, statistics, weight, inputTangent, weightTangent, biasTangent, destination);
    }

    /// <summary>The gradients of <c>GroupNormBackward</c> for given cotangents of its results (double backward, as gradient penalties need it).</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="gradOutput">The backward's gradient of the output, any strides.</param>
    /// <param name="input">The forward's input, of shape (N, C, *), any strides.</param>
    /// <param name="numGroups">The number of groups that a sample's C channels are cut into.</param>
    /// <param name="statistics">What the forward saved, one a group.</param>
    /// <param name="weight">The forward's weight, or <c>default</c> for none.</param>
    /// <param name="gradGradInput">The cotangent of the backward's gradInput, or <c>default</c> for zero.</param>
    /// <param name="gradGradWeight">The cotangent of its gradWeight, or <c>default</c> for zero.</param>
    /// <param name="gradGradBias">The cotangent of its gradBias, or <c>default</c> for zero.</param>
    /// <param name="gradGradOutput">Overwritten with the gradient with respect to gradOutput; <c>default</c> if not wanted; apart from the operands.</param>
    /// <param name="gradInput">Overwritten with the gradient with respect to the input; <c>default</c> if not wanted; apart from the operands.</param>
    /// <param name="gradWeight">The gradient with respect to the weight is <b>added</b> to it; <c>default</c> if not wanted; of shape (C).</param>
    /// <exception cref="ArgumentException">A shape does not fit, the number of statistics is not that of the groups, or a result is not contiguous or overlaps an operand.</exception>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="numGroups"/> is zero or negative.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public static void GroupNormDoubleBackward<T>(in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, nint numGroups, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> gradGradInput, in ReadOnlyTensorSpan<T> gradGradWeight, in ReadOnlyTensorSpan<T> gradGradBias, in TensorSpan<T> gradGradOutput, in TensorSpan<T> gradInput, in TensorSpan<T> gradWeight)
        where T : unmanaged
    {
        RowLayout layout = GroupNormLayout<T, T>(input, numGroups, weight, default);
        RowDoubleBackward(gradOutput, input, layout, statistics, weight, gradGradInput, gradGradWeight, gradGradBias, gradGradOutput, gradInput, gradWeight);
    }
}
