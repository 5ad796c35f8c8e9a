using System.Numerics.Tensors;
using NormLayers.Internals;
using NormLayers.Internals.Kernels;

namespace NormLayers;

/// <summary>
/// The normalizations as functions without state, over memory that the caller owns (<c>torch.nn.functional</c>). The span
/// forms allocate nothing; the <see cref="Tensor{T}"/> forms allocate their result.
/// </summary>
/// <remarks>
/// In every span form the input may have any strides and the destination must be row-major contiguous, or channels-last where that is said. The destination may be
/// the input itself (both contiguous, starting at the same place); any other overlap is refused. A <c>default</c> weight or
/// bias means none. More than some 130,000 elements are shared among the threads of the pool, which changes no bit.
/// </remarks>
public static partial class Functional
{
    /// <summary>Normalizes over the last dimensions of the input.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (*, normalizedShape) or, with an axis, (*, normalizedShape, *).</param>
    /// <param name="normalizedShape">The lengths of the dimensions that share statistics, at least one: the input's last ones, or those from <paramref name="axis"/> on.</param>
    /// <param name="weight">Factors of shape normalizedShape, or <c>default</c> for none.</param>
    /// <param name="bias">Summands of shape normalizedShape, or <c>default</c> for none.</param>
    /// <param name="eps">Added to the variance under the root; 1e-5 in PyTorch.</param>
    /// <param name="destination">Takes the result; of the input's shape, row-major contiguous; over the channels also channels-last.</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <param name="axis">The first of the dimensions that share statistics, negative ones counted from the end; null, as in PyTorch, for the last ones.</param>
    /// <exception cref="ArgumentException"><paramref name="normalizedShape"/> is empty; weight or bias is not of that shape; the
    /// input does not end in it, or has other lengths from <paramref name="axis"/> on; or the destination has another shape, is not contiguous, or overlaps the input or a parameter in part.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>
    /// <para>This method effectively computes <c>y = (x - E[x]) / sqrt(Var[x] + eps) * weight + bias</c> with the mean and the
    /// biased variance of each group of the last <c>normalizedShape.Length</c> dimensions.</para>
    /// <para>A NaN or an infinity makes its whole group NaN. A constant group gives exactly the bias (NaN if eps is 0).</para>
    /// <para>Ba, Kiros and Hinton 2016, https://arxiv.org/abs/1607.06450;
    /// https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.layer_norm.html.</para>
    /// </remarks>
    public static void LayerNorm<T>(in ReadOnlyTensorSpan<T> input, ReadOnlySpan<nint> normalizedShape, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> bias, double eps, in TensorSpan<T> destination, int maxThreads = 0, int? axis = null)
        where T : unmanaged
    {
        RowForward(input, LayerNormLayout(input, normalizedShape, weight, bias, axis), weight, bias, eps, destination, [], maxThreads);
    }

    /// <summary>The same, and saves what <c>LayerNormBackward</c> needs besides the input.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (*, normalizedShape) or, with an axis, (*, normalizedShape, *).</param>
    /// <param name="normalizedShape">The lengths of the dimensions that share statistics, at least one: the input's last ones, or those from <paramref name="axis"/> on.</param>
    /// <param name="weight">Factors of shape normalizedShape, or <c>default</c> for none.</param>
    /// <param name="bias">Summands of shape normalizedShape, or <c>default</c> for none.</param>
    /// <param name="eps">Added to the variance under the root; 1e-5 in PyTorch.</param>
    /// <param name="destination">Takes the result; of the input's shape, row-major contiguous; over the channels also channels-last.</param>
    /// <param name="statistics">Takes the mean and 1/deviation of each group, in row-major order of the leading dimensions: exactly as many as there are groups, none for an empty input.</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <param name="axis">The first of the dimensions that share statistics, negative ones counted from the end; null, as in PyTorch, for the last ones.</param>
    /// <exception cref="ArgumentException">As above, or there are more or fewer statistics than groups.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public static void LayerNorm<T>(in ReadOnlyTensorSpan<T> input, ReadOnlySpan<nint> normalizedShape, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> bias, double eps, in TensorSpan<T> destination, Span<GroupStatistics> statistics, int maxThreads = 0, int? axis = null)
        where T : unmanaged
    {
        RowLayout layout = LayerNormLayout(input, normalizedShape, weight, bias, axis);
        CheckStatistics(statistics, layout);
        RowForward(input, layout, weight, bias, eps, destination, statistics, maxThreads);
    }

    /// <summary>Normalizes over the last dimensions of the input.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (*, normalizedShape) or, with an axis, (*, normalizedShape, *), any strides.</param>
    /// <param name="normalizedShape">The lengths of the dimensions that share statistics, at least one: the input's last ones, or those from <paramref name="axis"/> on.</param>
    /// <param name="weight">Factors of shape normalizedShape, or null for none.</param>
    /// <param name="bias">Summands of shape normalizedShape, or null for none.</param>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <param name="axis">The first of the dimensions that share statistics, negative ones counted from the end; null, as in PyTorch, for the last ones.</param>
    /// <returns>A new tensor of the input's shape: row-major, or over the channels channels-last where the input is.</returns>
    /// <exception cref="ArgumentException"><paramref name="normalizedShape"/> is empty; weight or bias is not of that shape; or the input does not end in it.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public static Tensor<T> LayerNorm<T>(Tensor<T> input, ReadOnlySpan<nint> normalizedShape, Tensor<T>? weight = null, Tensor<T>? bias = null, double eps = 1e-5, int? axis = null)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(input);
        Tensor<T> result = Layout.ResultLike(input.AsReadOnlyTensorSpan(), LayerNormLayout(input.AsReadOnlyTensorSpan(), normalizedShape, OrNone(weight), OrNone(bias), axis));
        LayerNorm(input.AsReadOnlyTensorSpan(), normalizedShape, OrNone(weight), OrNone(bias), eps, result.AsTensorSpan(), axis: axis);
        return result;
    }

    private static RowLayout LayerNormLayout<T, TParameter>(in ReadOnlyTensorSpan<T> input, ReadOnlySpan<nint> normalizedShape, in ReadOnlyTensorSpan<TParameter> weight, in ReadOnlyTensorSpan<TParameter> bias, int? axis)
    {
        Elements.CheckSupported<T, TParameter>("LayerNorm");
        return Dimensions(input.Lengths, normalizedShape, weight, bias, RowStatistic.MeanAndVariance, axis);
    }

    /// <summary>Groups over neighbouring dimensions of an input, the last ones where no axis is given, with a parameter for each of a group's elements.</summary>
    internal static RowLayout Dimensions<T>(ReadOnlySpan<nint> input, ReadOnlySpan<nint> normalizedShape, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> bias, RowStatistic statistic, int? axis)
    {
        if (normalizedShape.Length == 0)
            throw new ArgumentException("Expected at least one dimension to normalize over, got [].", nameof(normalizedShape));
        CheckNormalizedParameter(weight, normalizedShape, nameof(weight));
        CheckNormalizedParameter(bias, normalizedShape, nameof(bias));
        nint length = Layout.Product(normalizedShape);
        if (axis is null)
        {
            if (input.Length < normalizedShape.Length || !input[^normalizedShape.Length..].SequenceEqual(normalizedShape))
                throw new ArgumentException($"Expected an input whose last dimensions are {Layout.Text(normalizedShape)} (the normalized shape), got shape {Layout.Text(input)}.", nameof(input));
            return new RowLayout(length == 0 ? 0 : Layout.Product(input) / length, length, 1, 1, statistic);
        }
        int first = axis.Value < 0 ? input.Length + axis.Value : axis.Value, behind = first + normalizedShape.Length;
        if (first < 0 || behind > input.Length || !input[first..behind].SequenceEqual(normalizedShape))
            throw new ArgumentException($"Expected an input whose dimensions from axis {axis} on are {Layout.Text(normalizedShape)} (the normalized shape), got shape {Layout.Text(input)}.", nameof(input));
        nint outer = Layout.Product(input[..first]), inner = Layout.Product(input[behind..]);
        return inner == 1 ? new RowLayout(length == 0 ? 0 : outer, length, 1, 1, statistic)
            : new ChannelLayout(outer, length, inner, 1, ParameterAxis.Row, statistic).AsRows();
    }

    private static void CheckNormalizedParameter<T>(in ReadOnlyTensorSpan<T> parameter, ReadOnlySpan<nint> normalizedShape, string name)
    {
        if (parameter.Rank != 0 && !parameter.Lengths.SequenceEqual(normalizedShape))
            throw new ArgumentException($"Expected {name} of the normalized shape {Layout.Text(normalizedShape)}, got shape {Layout.Text(parameter.Lengths)}.", name);
    }
}
