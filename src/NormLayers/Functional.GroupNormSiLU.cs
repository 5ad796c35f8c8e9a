using System.Numerics.Tensors;
using NormLayers.Internals;
using NormLayers.Internals.Kernels;

namespace NormLayers;

public static partial class Functional
{
    /// <summary>Normalizes each sample's channels in groups and applies SiLU, in one pass over memory.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (N, C, *), any strides.</param>
    /// <param name="numGroups">The number of groups that a sample's C channels are cut into; divides C.</param>
    /// <param name="weight">Factors of shape (C), or <c>default</c> for none.</param>
    /// <param name="bias">Summands of shape (C), or <c>default</c> for none.</param>
    /// <param name="eps">Added to the variance under the root; 1e-5 in PyTorch.</param>
    /// <param name="destination">Takes the result; of the input's shape, row-major contiguous; may be the input itself.</param>
    /// <param name="statistics">Takes the mean and 1/deviation of each group, sample by sample, for <see cref="GroupNormSiLUBackward{T}"/>: exactly N · numGroups of them, or empty if they are not wanted.</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="numGroups"/> is zero or negative.</exception>
    /// <exception cref="ArgumentException">The input has fewer than two dimensions, its channels are not divisible by
    /// <paramref name="numGroups"/>, or it is one sample with one value per group; weight or bias is not of shape (C); there are more or fewer statistics
    /// than groups; or the destination has another shape, is not row-major contiguous, or overlaps the input or a parameter in part.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>
    /// <para>This method effectively computes <c>z = (x - E[x]) / sqrt(Var[x] + eps) * weight[c] + bias[c]</c>, as <c>GroupNorm</c> does, and
    /// <c>y = z * sigmoid(z) = z / (1 + exp(-z))</c>, with an error of SiLU itself below two ulp (three for doubles).</para>
    /// <para>Wu and He 2018, https://arxiv.org/abs/1803.08494; Elfwing, Uchibe and Doya 2017, https://arxiv.org/abs/1702.03118;
    /// https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.silu.html.</para>
    /// </remarks>
    public static void GroupNormSiLU<T>(in ReadOnlyTensorSpan<T> input, nint numGroups, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> bias, double eps, in TensorSpan<T> destination, Span<GroupStatistics> statistics = default, int maxThreads = 0)
        where T : unmanaged
    {
        Elements.CheckSupported<T>("GroupNormSiLU");
        RowLayout layout = GroupNormLayout(input, numGroups, weight, bias);
        if (!statistics.IsEmpty)
            CheckStatistics(statistics, layout);
        RowForward(input, layout, weight, bias, eps, destination, statistics, maxThreads, activated: true);
    }

    /// <summary>Normalizes each sample's channels in groups and applies SiLU.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (N, C, *), any strides.</param>
    /// <param name="numGroups">The number of groups that a sample's C channels are cut into; divides C.</param>
    /// <param name="weight">Factors of shape (C), or null for none.</param>
    /// <param name="bias">Summands of shape (C), or null for none.</param>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <returns>A new row-major tensor of the input's shape.</returns>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="numGroups"/> is zero or negative.</exception>
    /// <exception cref="ArgumentException">The input has fewer than two dimensions, its channels are not divisible by
    /// <paramref name="numGroups"/>, or it is one sample with one value per group; or weight or bias is not of shape (C).</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public static Tensor<T> GroupNormSiLU<T>(Tensor<T> input, nint numGroups, Tensor<T>? weight = null, Tensor<T>? bias = null, double eps = 1e-5)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(input);
        Tensor<T> result = Tensor.CreateFromShapeUninitialized<T>(input.Lengths);
        GroupNormSiLU(input.AsReadOnlyTensorSpan(), numGroups, OrNone(weight), OrNone(bias), eps, result.AsTensorSpan());
        return result;
    }

    /// <summary>The gradients of <c>GroupNormSiLU</c>. Each result is optional: <c>default</c> for one that is not wanted.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="gradOutput">The gradient of the output, any strides.</param>
    /// <param name="input">The forward's input, of shape (N, C, *), any strides.</param>
    /// <param name="numGroups">The number of groups that a sample's C channels are cut into.</param>
    /// <param name="statistics">What the forward saved, one a group.</param>
    /// <param name="weight">The forward's weight, or <c>default</c> for none.</param>
    /// <param name="bias">The forward's bias, or <c>default</c> for none.</param>
    /// <param name="gradInput">Overwritten with the gradient of the input; row-major contiguous; may be <paramref name="gradOutput"/> itself.</param>
    /// <param name="gradWeight">The gradient of the weight is <b>added</b> to it; of shape (C).</param>
    /// <param name="gradBias">The gradient of the bias is <b>added</b> to it; of shape (C).</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="numGroups"/> is zero or negative.</exception>
    /// <exception cref="ArgumentException">A shape does not fit, the number of statistics is not that of the groups, or a result is not contiguous or overlaps an operand in part.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>With z the normalized input as in the forward, which is computed again, and <c>s = sigmoid(z)</c>, this method effectively computes
    /// <c>dz = dy * s * (1 + z * (1 - s))</c> and the gradients that <c>GroupNormBackward</c> gives for it.</remarks>
    public static void GroupNormSiLUBackward<T>(in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, nint numGroups, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> bias, in TensorSpan<T> gradInput, in TensorSpan<T> gradWeight, in TensorSpan<T> gradBias, int maxThreads = 0)
        where T : unmanaged
    {
        Elements.CheckSupported<T>("GroupNormSiLU");
        RowLayout layout = GroupNormLayout(input, numGroups, weight, bias);
        CheckApart(bias, gradInput, nameof(bias), nameof(gradInput));
        CheckApart(bias, gradWeight, nameof(bias), nameof(gradWeight));
        CheckApart(bias, gradBias, nameof(bias), nameof(gradBias));
        RowBackward(gradOutput, input, layout, statistics, weight, gradInput, gradWeight, gradBias, maxThreads: maxThreads, bias: bias, activated: true);
    }
}
