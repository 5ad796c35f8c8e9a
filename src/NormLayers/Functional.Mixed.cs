using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using NormLayers.Internals;
using NormLayers.Internals.Kernels;

namespace NormLayers;

// The functions on 16-bit tensors with parameters of float, which is the one mixture that PyTorch accepts. Where both forms
// fit (no parameters are given), the form of one type is meant.
public static partial class Functional
{
    /// <summary>Normalizes over the last dimensions of a 16-bit input, with weight and bias in <see cref="float"/>.</summary>
    /// <typeparam name="T"><see cref="Half"/> or <see cref="BFloat16"/>, the type of input and destination.</typeparam>
    /// <inheritdoc cref="LayerNorm{T}(in ReadOnlyTensorSpan{T}, ReadOnlySpan{nint}, in ReadOnlyTensorSpan{T}, in ReadOnlyTensorSpan{T}, double, in TensorSpan{T}, int, int?)"/>
    [OverloadResolutionPriority(-1)]
    public static void LayerNorm<T>(in ReadOnlyTensorSpan<T> input, ReadOnlySpan<nint> normalizedShape, in ReadOnlyTensorSpan<float> weight, in ReadOnlyTensorSpan<float> bias, double eps, in TensorSpan<T> destination, int maxThreads = 0, int? axis = null)
        where T : unmanaged
        => RowForward(input, LayerNormLayout(input, normalizedShape, weight, bias, axis), weight, bias, eps, destination, [], maxThreads);

    /// <summary>The same, and saves what the backward needs besides the input.</summary>
    /// <typeparam name="T"><see cref="Half"/> or <see cref="BFloat16"/>, the type of input and destination.</typeparam>
    /// <inheritdoc cref="LayerNorm{T}(in ReadOnlyTensorSpan{T}, ReadOnlySpan{nint}, in ReadOnlyTensorSpan{T}, in ReadOnlyTensorSpan{T}, double, in TensorSpan{T}, Span{GroupStatistics}, int, int?)"/>
    [OverloadResolutionPriority(-1)]
    public static void LayerNorm<T>(in ReadOnlyTensorSpan<T> input, ReadOnlySpan<nint> normalizedShape, in ReadOnlyTensorSpan<float> weight, in ReadOnlyTensorSpan<float> bias, double eps, in TensorSpan<T> destination, Span<GroupStatistics> statistics, int maxThreads = 0, int? axis = null)
        where T : unmanaged
    {
        RowLayout layout = LayerNormLayout(input, normalizedShape, weight, bias, axis);
        CheckStatistics(statistics, layout);
        RowForward(input, layout, weight, bias, eps, destination, statistics, maxThreads);
    }

    /// <summary>Normalizes over the last dimensions of a 16-bit input, with weight and bias in <see cref="float"/>.</summary>
    /// <typeparam name="T"><see cref="Half"/> or <see cref="BFloat16"/>, the type of input and result.</typeparam>
    /// <inheritdoc cref="LayerNorm{T}(Tensor{T}, ReadOnlySpan{nint}, Tensor{T}, Tensor{T}, double, int?)"/>
    [OverloadResolutionPriority(-1)]
    public static Tensor<T> LayerNorm<T>(Tensor<T> input, ReadOnlySpan<nint> normalizedShape, Tensor<float>? weight, Tensor<float>? bias = null, double eps = 1e-5, int? axis = null)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(input);
        Tensor<T> result = Layout.ResultLike(input.AsReadOnlyTensorSpan(), LayerNormLayout(input.AsReadOnlyTensorSpan(), normalizedShape, OrNone(weight), OrNone(bias), axis));
        LayerNorm(input.AsReadOnlyTensorSpan(), normalizedShape, OrNone(weight), OrNone(bias), eps, result.AsTensorSpan(), axis: axis);
        return result;
    }

    /// <summary>The gradients of a <c>LayerNorm</c> of 16-bit elements with parameters in <see cref="float"/>, whose gradients are <see cref="float"/> too.</summary>
    /// <typeparam name="T"><see cref="Half"/> or <see cref="BFloat16"/>, the type of input and output.</typeparam>
    /// <inheritdoc cref="LayerNormBackward{T}(in ReadOnlyTensorSpan{T}, in ReadOnlyTensorSpan{T}, ReadOnlySpan{nint}, ReadOnlySpan{GroupStatistics}, in ReadOnlyTensorSpan{T}, in TensorSpan{T}, in TensorSpan{T}, in TensorSpan{T}, int, int?)"/>
    [OverloadResolutionPriority(-1)]
    public static void LayerNormBackward<T>(in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, ReadOnlySpan<nint> normalizedShape, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<float> weight, in TensorSpan<T> gradInput, in TensorSpan<float> gradWeight, in TensorSpan<float> gradBias, int maxThreads = 0, int? axis = null)
        where T : unmanaged
    {
        RowLayout layout = LayerNormLayout<T, float>(input, normalizedShape, weight, default, axis);
        RowBackward(gradOutput, input, layout, statistics, weight, gradInput, gradWeight, gradBias, maxThreads: maxThreads);
    }

    /// <summary>Divides by the root mean square of the last dimensions of a 16-bit input, with a weight in <see cref="float"/>.</summary>
    /// <typeparam name="T"><see cref="Half"/> or <see cref="BFloat16"/>, the type of input and destination.</typeparam>
    /// <inheritdoc cref="RMSNorm{T}(in ReadOnlyTensorSpan{T}, ReadOnlySpan{nint}, in ReadOnlyTensorSpan{T}, double?, in TensorSpan{T}, int, int?)"/>
    [OverloadResolutionPriority(-1)]
    public static void RMSNorm<T>(in ReadOnlyTensorSpan<T> input, ReadOnlySpan<nint> normalizedShape, in ReadOnlyTensorSpan<float> weight, double? eps, in TensorSpan<T> destination, int maxThreads = 0, int? axis = null)
        where T : unmanaged
        => RowForward(input, RMSNormLayout(input, normalizedShape, weight, axis), weight, default, eps ?? Elements.MachineEpsilon<T>(), destination, [], maxThreads);

    /// <summary>The same, and saves what the backward needs besides the input.</summary>
    /// <typeparam name="T"><see cref="Half"/> or <see cref="BFloat16"/>, the type of input and destination.</typeparam>
    /// <inheritdoc cref="RMSNorm{T}(in ReadOnlyTensorSpan{T}, ReadOnlySpan{nint}, in ReadOnlyTensorSpan{T}, double?, in TensorSpan{T}, Span{GroupStatistics}, int, int?)"/>
    [OverloadResolutionPriority(-1)]
    public static void RMSNorm<T>(in ReadOnlyTensorSpan<T> input, ReadOnlySpan<nint> normalizedShape, in ReadOnlyTensorSpan<float> weight, double? eps, in TensorSpan<T> destination, Span<GroupStatistics> statistics, int maxThreads = 0, int? axis = null)
        where T : unmanaged
    {
        RowLayout layout = RMSNormLayout(input, normalizedShape, weight, axis);
        CheckStatistics(statistics, layout);
        RowForward(input, layout, weight, default, eps ?? Elements.MachineEpsilon<T>(), destination, statistics, maxThreads);
    }

    /// <summary>Divides by the root mean square of the last dimensions of a 16-bit input, with a weight in <see cref="float"/>.</summary>
    /// <typeparam name="T"><see cref="Half"/> or <see cref="BFloat16"/>, the type of input and result.</typeparam>
    /// <inheritdoc cref="RMSNorm{T}(Tensor{T}, ReadOnlySpan{nint}, Tensor{T}, double?, int?)"/>
    [OverloadResolutionPriority(-1)]
    public static Tensor<T> RMSNorm<T>(Tensor<T> input, ReadOnlySpan<nint> normalizedShape, Tensor<float>? weight, double? eps = null, int? axis = null)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(input);
        Tensor<T> result = Layout.ResultLike(input.AsReadOnlyTensorSpan(), RMSNormLayout(input.AsReadOnlyTensorSpan(), normalizedShape, OrNone(weight), axis));
        RMSNorm(input.AsReadOnlyTensorSpan(), normalizedShape, OrNone(weight), eps, result.AsTensorSpan(), axis: axis);
        return result;
    }

    /// <summary>The gradients of an <c>RMSNorm</c> of 16-bit elements with a weight in <see cref="float"/>, whose gradient is <see cref="float"/> too.</summary>
    /// <typeparam name="T"><see cref="Half"/> or <see cref="BFloat16"/>, the type of input and output.</typeparam>
    /// <inheritdoc cref="RMSNormBackward{T}(in ReadOnlyTensorSpan{T}, in ReadOnlyTensorSpan{T}, ReadOnlySpan{nint}, ReadOnlySpan{GroupStatistics}, in ReadOnlyTensorSpan{T}, in TensorSpan{T}, in TensorSpan{T}, int, int?)"/>
    [OverloadResolutionPriority(-1)]
    public static void RMSNormBackward<T>(in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, ReadOnlySpan<nint> normalizedShape, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<float> weight, in TensorSpan<T> gradInput, in TensorSpan<float> gradWeight, int maxThreads = 0, int? axis = null)
        where T : unmanaged
        => RowBackward(gradOutput, input, RMSNormLayout(input, normalizedShape, weight, axis), statistics, weight, gradInput, gradWeight, default, maxThreads: maxThreads);

    /// <summary>Normalizes each sample's channels in groups: a 16-bit input, with weight and bias in <see cref="float"/>.</summary>
    /// <typeparam name="T"><see cref="Half"/> or <see cref="BFloat16"/>, the type of input and destination.</typeparam>
    /// <inheritdoc cref="GroupNorm{T}(in ReadOnlyTensorSpan{T}, nint, in ReadOnlyTensorSpan{T}, in ReadOnlyTensorSpan{T}, double, in TensorSpan{T}, int)"/>
    [OverloadResolutionPriority(-1)]
    public static void GroupNorm<T>(in ReadOnlyTensorSpan<T> input, nint numGroups, in ReadOnlyTensorSpan<float> weight, in ReadOnlyTensorSpan<float> bias, double eps, in TensorSpan<T> destination, int maxThreads = 0)
        where T : unmanaged
        => RowForward(input, GroupNormLayout(input, numGroups, weight, bias), weight, bias, eps, destination, [], maxThreads);

    /// <summary>The same, and saves what the backward needs besides the input.</summary>
    /// <typeparam name="T"><see cref="Half"/> or <see cref="BFloat16"/>, the type of input and destination.</typeparam>
    /// <inheritdoc cref="GroupNorm{T}(in ReadOnlyTensorSpan{T}, nint, in ReadOnlyTensorSpan{T}, in ReadOnlyTensorSpan{T}, double, in TensorSpan{T}, Span{GroupStatistics}, int)"/>
    [OverloadResolutionPriority(-1)]
    public static void GroupNorm<T>(in ReadOnlyTensorSpan<T> input, nint numGroups, in ReadOnlyTensorSpan<float> weight, in ReadOnlyTensorSpan<float> bias, double eps, in TensorSpan<T> destination, Span<GroupStatistics> statistics, int maxThreads = 0)
        where T : unmanaged
    {
        RowLayout layout = GroupNormLayout(input, numGroups, weight, bias);
        CheckStatistics(statistics, layout);
        RowForward(input, layout, weight, bias, eps, destination, statistics, maxThreads);
    }

    /// <summary>Normalizes each sample's channels in groups: a 16-bit input, with weight and bias in <see cref="float"/>.</summary>
    /// <typeparam name="T"><see cref="Half"/> or <see cref="BFloat16"/>, the type of input and result.</typeparam>
    /// <inheritdoc cref="GroupNorm{T}(Tensor{T}, nint, Tensor{T}, Tensor{T}, double)"/>
    [OverloadResolutionPriority(-1)]
    public static Tensor<T> GroupNorm<T>(Tensor<T> input, nint numGroups, Tensor<float>? weight, Tensor<float>? bias = null, double eps = 1e-5)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(input);
        Tensor<T> result = Layout.ResultLike(input.AsReadOnlyTensorSpan(), GroupNormLayout(input.AsReadOnlyTensorSpan(), numGroups, OrNone(weight), OrNone(bias)));
        GroupNorm(input.AsReadOnlyTensorSpan(), numGroups, OrNone(weight), OrNone(bias), eps, result.AsTensorSpan());
        return result;
    }

    /// <summary>The gradients of a <c>GroupNorm</c> of 16-bit elements with parameters in <see cref="float"/>, whose gradients are <see cref="float"/> too.</summary>
    /// <typeparam name="T"><see cref="Half"/> or <see cref="BFloat16"/>, the type of input and output.</typeparam>
    /// <inheritdoc cref="GroupNormBackward{T}(in ReadOnlyTensorSpan{T}, in ReadOnlyTensorSpan{T}, nint, ReadOnlySpan{GroupStatistics}, in ReadOnlyTensorSpan{T}, in TensorSpan{T}, in TensorSpan{T}, in TensorSpan{T}, int)"/>
    [OverloadResolutionPriority(-1)]
    public static void GroupNormBackward<T>(in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, nint numGroups, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<float> weight, in TensorSpan<T> gradInput, in TensorSpan<float> gradWeight, in TensorSpan<float> gradBias, int maxThreads = 0)
        where T : unmanaged
    {
        RowLayout layout = GroupNormLayout<T, float>(input, numGroups, weight, default);
        RowBackward(gradOutput, input, layout, statistics, weight, gradInput, gradWeight, gradBias, maxThreads: maxThreads);
    }
}
