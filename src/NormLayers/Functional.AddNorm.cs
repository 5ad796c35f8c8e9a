using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using NormLayers.Internals;
using NormLayers.Internals.Kernels;

namespace NormLayers;

public static partial class Functional
{
    /// <summary>Adds a residual to the input and normalizes the sum over its last dimensions, in one pass over memory; gives both.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (*, normalizedShape), any strides.</param>
    /// <param name="residual">What is added to it; of the input's shape, any strides.</param>
    /// <param name="normalizedShape">The lengths of the last dimensions, which share statistics; at least one.</param>
    /// <param name="weight">Factors of shape normalizedShape, or <c>default</c> for none.</param>
    /// <param name="bias">Summands of shape normalizedShape, or <c>default</c> for none.</param>
    /// <param name="eps">Added to the variance under the root; 1e-5 in PyTorch.</param>
    /// <param name="sum">Takes input + residual; of the input's shape, row-major contiguous; may be the input or the residual itself.</param>
    /// <param name="destination">Takes the normalized sum; of the input's shape, row-major contiguous; may be the input or the residual itself, but not <paramref name="sum"/>.</param>
    /// <param name="statistics">Takes the mean and 1/deviation of each group of the sum, for <see cref="AddLayerNormBackward{T}"/>: exactly as many as there are groups, or empty if they are not wanted.</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <exception cref="ArgumentException"><paramref name="normalizedShape"/> is empty; weight or bias is not of that shape; the input
    /// does not end in it; the residual has another shape than the input; there are more or fewer statistics than groups; or a result has another shape, is not
    /// contiguous, overlaps the other, or overlaps an operand in part.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>
    /// <para>This method effectively computes <c>sum = x + residual</c> and
    /// <c>y = (sum - E[sum]) / sqrt(Var[sum] + eps) * weight + bias</c>, to the bit what an addition and <c>LayerNorm</c> give.</para>
    /// <para>Ba, Kiros and Hinton 2016, https://arxiv.org/abs/1607.06450;
    /// https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.layer_norm.html.</para>
    /// </remarks>
    public static void AddLayerNorm<T>(in ReadOnlyTensorSpan<T> input, in ReadOnlyTensorSpan<T> residual, ReadOnlySpan<nint> normalizedShape, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> bias, double eps, in TensorSpan<T> sum, in TensorSpan<T> destination, Span<GroupStatistics> statistics = default, int maxThreads = 0)
        where T : unmanaged
    {
        Elements.CheckSupported<T>("AddLayerNorm");
        AddForward(input, residual, LayerNormLayout(input, normalizedShape, weight, bias, null), weight, bias, eps, sum, destination, statistics, maxThreads);
    }

    /// <summary>Adds a residual to the input and normalizes the sum over its last dimensions; gives both.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (*, normalizedShape), any strides.</param>
    /// <param name="residual">What is added to it; of the input's shape, any strides.</param>
    /// <param name="normalizedShape">The lengths of the last dimensions, which share statistics; at least one.</param>
    /// <param name="weight">Factors of shape normalizedShape, or null for none.</param>
    /// <param name="bias">Summands of shape normalizedShape, or null for none.</param>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <returns>Two new row-major tensors of the input's shape: input + residual, and the normalized sum.</returns>
    /// <exception cref="ArgumentException"><paramref name="normalizedShape"/> is empty; weight or bias is not of that shape; the input does not end in it; or the residual has another shape than the input.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public static (Tensor<T> Sum, Tensor<T> Output) AddLayerNorm<T>(Tensor<T> input, Tensor<T> residual, ReadOnlySpan<nint> normalizedShape, Tensor<T>? weight = null, Tensor<T>? bias = null, double eps = 1e-5)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(residual);
        Tensor<T> sum = Tensor.CreateFromShapeUninitialized<T>(input.Lengths), output = Tensor.CreateFromShapeUninitialized<T>(input.Lengths);
        AddLayerNorm(input.AsReadOnlyTensorSpan(), residual.AsReadOnlyTensorSpan(), normalizedShape, OrNone(weight), OrNone(bias), eps, sum.AsTensorSpan(), output.AsTensorSpan());
        return (sum, output);
    }

    /// <summary>The gradients of <c>AddLayerNorm</c>. Each result is optional: <c>default</c> for one that is not wanted.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="gradOutput">The gradient of the normalized sum, any strides.</param>
    /// <param name="gradSum">The gradient of the sum from elsewhere (the residual stream), any strides; <c>default</c> for none.</param>
    /// <param name="sum">The sum that the forward gave, of shape (*, normalizedShape), any strides.</param>
    /// <param name="normalizedShape">The lengths of the dimensions that share statistics.</param>
    /// <param name="statistics">What the forward saved, one a group.</param>
    /// <param name="weight">The forward's weight, or <c>default</c> for none.</param>
    /// <param name="gradInput">Overwritten with the gradient of the input, which is that of the residual too; row-major contiguous; may be <paramref name="gradOutput"/> itself.</param>
    /// <param name="gradWeight">The gradient of the weight is <b>added</b> to it; of shape normalizedShape.</param>
    /// <param name="gradBias">The gradient of the bias is <b>added</b> to it; of shape normalizedShape.</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <exception cref="ArgumentException">A shape does not fit, the number of statistics is not that of the groups, a result is not contiguous, overlaps an operand in part, or <paramref name="gradInput"/> overlaps <paramref name="gradSum"/>.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>With <c>n = (sum - E[sum]) * rstd</c> and <c>g = dy * weight</c> this method effectively computes
    /// <c>dx = rstd * (g - E[g] - n * E[g * n]) + dsum</c>, <c>dweight += sum of dy * n</c> and <c>dbias += sum of dy</c>, to the bit what
    /// <c>LayerNormBackward</c> and an addition give; of 16 bits, whose sum is mostly rounded once, to the rounding of the first of these.</remarks>
    public static void AddLayerNormBackward<T>(in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> gradSum, in ReadOnlyTensorSpan<T> sum, ReadOnlySpan<nint> normalizedShape, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<T> weight, in TensorSpan<T> gradInput, in TensorSpan<T> gradWeight, in TensorSpan<T> gradBias, int maxThreads = 0)
        where T : unmanaged
    {
        Elements.CheckSupported<T>("AddLayerNorm");
        AddBackward(gradOutput, gradSum, sum, LayerNormLayout(sum, normalizedShape, weight, default, null), statistics, weight, gradInput, gradWeight, gradBias, maxThreads);
    }

    /// <summary>Adds a residual to the input and divides the sum by its root mean square over the last dimensions, in one pass over memory; gives both.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (*, normalizedShape), any strides.</param>
    /// <param name="residual">What is added to it; of the input's shape, any strides.</param>
    /// <param name="normalizedShape">The lengths of the last dimensions, which share statistics; at least one.</param>
    /// <param name="weight">Factors of shape normalizedShape, or <c>default</c> for none.</param>
    /// <param name="eps">Added to the mean square under the root; null, as in PyTorch, for the machine epsilon of the type computed in: 2^-23, or 2^-52 for <see cref="double"/>.</param>
    /// <param name="sum">Takes input + residual; of the input's shape, row-major contiguous; may be the input or the residual itself.</param>
    /// <param name="destination">Takes the normalized sum; of the input's shape, row-major contiguous; may be the input or the residual itself, but not <paramref name="sum"/>.</param>
    /// <param name="statistics">Takes 1/sqrt(E[sum²] + eps) of each group, for <see cref="AddRMSNormBackward{T}"/>: exactly as many as there are groups, or empty if they are not wanted.</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <exception cref="ArgumentException"><paramref name="normalizedShape"/> is empty; the weight is not of that shape; the input
    /// does not end in it; the residual has another shape than the input; there are more or fewer statistics than groups; or a result has another shape, is not
    /// contiguous, overlaps the other, or overlaps an operand in part.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>
    /// <para>This method effectively computes <c>sum = x + residual</c> and <c>y = sum / sqrt(E[sum²] + eps) * weight</c>, to the bit
    /// what an addition and <c>RMSNorm</c> give.</para>
    /// <para>Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467;
    /// https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.rms_norm.html.</para>
    /// </remarks>
    public static void AddRMSNorm<T>(in ReadOnlyTensorSpan<T> input, in ReadOnlyTensorSpan<T> residual, ReadOnlySpan<nint> normalizedShape, in ReadOnlyTensorSpan<T> weight, double? eps, in TensorSpan<T> sum, in TensorSpan<T> destination, Span<GroupStatistics> statistics = default, int maxThreads = 0)
        where T : unmanaged
    {
        Elements.CheckSupported<T>("AddRMSNorm");
        AddForward(input, residual, RMSNormLayout(input, normalizedShape, weight, null), weight, default, eps ?? Elements.MachineEpsilon<T>(), sum, destination, statistics, maxThreads);
    }

    /// <summary>Adds a residual to the input and divides the sum by its root mean square over the last dimensions; gives both.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (*, normalizedShape), any strides.</param>
    /// <param name="residual">What is added to it; of the input's shape, any strides.</param>
    /// <param name="normalizedShape">The lengths of the last dimensions, which share statistics; at least one.</param>
    /// <param name="weight">Factors of shape normalizedShape, or null for none.</param>
    /// <param name="eps">Added to the mean square under the root; null for the machine epsilon, as above.</param>
    /// <returns>Two new row-major tensors of the input's shape: input + residual, and the normalized sum.</returns>
    /// <exception cref="ArgumentException"><paramref name="normalizedShape"/> is empty; the weight is not of that shape; the input does not end in it; or the residual has another shape than the input.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public static (Tensor<T> Sum, Tensor<T> Output) AddRMSNorm<T>(Tensor<T> input, Tensor<T> residual, ReadOnlySpan<nint> normalizedShape, Tensor<T>? weight = null, double? eps = null)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(residual);
        Tensor<T> sum = Tensor.CreateFromShapeUninitialized<T>(input.Lengths), output = Tensor.CreateFromShapeUninitialized<T>(input.Lengths);
        AddRMSNorm(input.AsReadOnlyTensorSpan(), residual.AsReadOnlyTensorSpan(), normalizedShape, OrNone(weight), eps, sum.AsTensorSpan(), output.AsTensorSpan());
        return (sum, output);
    }

    /// <summary>The gradients of <c>AddRMSNorm</c>. Each result is optional: <c>default</c> for one that is not wanted.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="gradOutput">The gradient of the normalized sum, any strides.</param>
    /// <param name="gradSum">The gradient of the sum from elsewhere (the residual stream), any strides; <c>default</c> for none.</param>
    /// <param name="sum">The sum that the forward gave, of shape (*, normalizedShape), any strides.</param>
    /// <param name="normalizedShape">The lengths of the dimensions that share statistics.</param>
    /// <param name="statistics">What the forward saved, one a group.</param>
    /// <param name="weight">The forward's weight, or <c>default</c> for none.</param>
    /// <param name="gradInput">Overwritten with the gradient of the input, which is that of the residual too; row-major contiguous; may be <paramref name="gradOutput"/> itself.</param>
    /// <param name="gradWeight">The gradient of the weight is <b>added</b> to it; of shape normalizedShape.</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <exception cref="ArgumentException">A shape does not fit, the number of statistics is not that of the groups, a result is not contiguous, overlaps an operand in part, or <paramref name="gradInput"/> overlaps <paramref name="gradSum"/>.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>With <c>n = sum * rstd</c> and <c>g = dy * weight</c> this method effectively computes
    /// <c>dx = rstd * (g - n * E[g * n]) + dsum</c> and <c>dweight += sum of dy * n</c>, to the bit what
    /// <c>RMSNormBackward</c> and an addition give; of 16 bits, whose sum is mostly rounded once, to the rounding of the first of these.</remarks>
    public static void AddRMSNormBackward<T>(in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> gradSum, in ReadOnlyTensorSpan<T> sum, ReadOnlySpan<nint> normalizedShape, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<T> weight, in TensorSpan<T> gradInput, in TensorSpan<T> gradWeight, int maxThreads = 0)
        where T : unmanaged
    {
        Elements.CheckSupported<T>("AddRMSNorm");
        AddBackward(gradOutput, gradSum, sum, RMSNormLayout(sum, normalizedShape, weight, null), statistics, weight, gradInput, gradWeight, default, maxThreads);
    }

    private static void AddForward<T>(in ReadOnlyTensorSpan<T> input, in ReadOnlyTensorSpan<T> residual, in RowLayout layout, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> bias, double eps, in TensorSpan<T> sum, in TensorSpan<T> destination, Span<GroupStatistics> statistics, int maxThreads)
        where T : unmanaged
    {
        CheckLike(residual, input, nameof(residual));
        if (!statistics.IsEmpty)
            CheckStatistics(statistics, layout);
        CheckResult(input, residual, weight, bias, sum, nameof(sum));
        CheckResult(input, residual, weight, bias, destination, nameof(destination));
        CheckApart<T, T>(sum, destination, nameof(sum), nameof(destination));
        if (layout.Groups == 0)
            return;
        using var x = new ContiguousOperand<T>(input);
        using var r = new ContiguousOperand<T>(residual);
        ref T s = ref TensorMarshal.GetReference(sum), y = ref TensorMarshal.GetReference(destination);
        if (typeof(T) == typeof(double))
        {
            using ComputeOperand<T, double> w = new(weight), b = new(bias);
            RowNorm.Forward(in x.Reference, ref y, layout, in w.Reference, in b.Reference, eps, statistics, maxThreads, in r.Reference, ref s);
        }
        else
        {
            using ComputeOperand<T, float> w = new(weight), b = new(bias);
            RowNorm.Forward(in x.Reference, ref y, layout, in w.Reference, in b.Reference, eps, statistics, maxThreads, in r.Reference, ref s);
        }

        static void CheckResult(in ReadOnlyTensorSpan<T> input, in ReadOnlyTensorSpan<T> residual, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> bias, in TensorSpan<T> result, string name)
        {
            Layout.CheckDestination(input, result, name);
            Layout.CheckDestination(residual, result, name);
            CheckApart(weight, result, nameof(weight), name);
            CheckApart(bias, result, nameof(bias), name);
        }
    }

    private static void AddBackward<T>(in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> gradSum, in ReadOnlyTensorSpan<T> sum, in RowLayout layout, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<T> weight, in TensorSpan<T> gradInput, in TensorSpan<T> gradWeight, in TensorSpan<T> gradBias, int maxThreads)
        where T : unmanaged
    {
        CheckLikeOrNone(gradSum, sum, nameof(gradSum));
        CheckApart(gradSum, gradInput, nameof(gradSum), nameof(gradInput));
        CheckApart(gradSum, gradWeight, nameof(gradSum), nameof(gradWeight));
        CheckApart(gradSum, gradBias, nameof(gradSum), nameof(gradBias));
        RowBackward(gradOutput, sum, layout, statistics, weight, gradInput, gradWeight, gradBias, maxThreads: maxThreads, gradSum: gradSum);
    }
}
