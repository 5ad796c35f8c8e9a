using System.Numerics.Tensors;
using NormLayers.Internals;
using NormLayers.Internals.Kernels;

namespace NormLayers;

public static partial class Functional
{
    /// <summary>Normalizes each sample's channels in groups.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (N, C, *).</param>
    /// <param name="numGroups">The number of groups that a sample's C channels are cut into; divides C.</param>
    /// <param name="weight">Factors of shape (C), or <c>default</c> for none.</param>
    /// <param name="bias">Summands of shape (C), or <c>default</c> for none.</param>
    /// <param name="eps">Added to the variance under the root; 1e-5 in PyTorch.</param>
    /// <param name="destination">Takes the result; of the input's shape, row-major contiguous or channels-last.</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="numGroups"/> is zero or negative.</exception>
    /// <exception cref="ArgumentException">The input has fewer than two dimensions, its channels are not divisible by
    /// <paramref name="numGroups"/>, or it is one sample with one value per group; weight or bias is not of shape (C); or the
    /// destination has another shape, is not contiguous, or overlaps the input or a parameter in part.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>
    /// <para>This method effectively computes <c>y = (x - E[x]) / sqrt(Var[x] + eps) * weight[c] + bias[c]</c> with the mean and
    /// the biased variance of each sample's group of C / numGroups channels and all their positions.</para>
    /// <para>A NaN or an infinity makes its whole group NaN. A constant group gives exactly the bias (NaN if eps is 0).</para>
    /// <para>Wu and He 2018, https://arxiv.org/abs/1803.08494;
    /// https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.group_norm.html.</para>
    /// </remarks>
    public static void GroupNorm<T>(in ReadOnlyTensorSpan<T> input, nint numGroups, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> bias, double eps, in TensorSpan<T> destination, int maxThreads = 0)
        where T : unmanaged
    {
        RowForward(input, GroupNormLayout(input, numGroups, weight, bias), weight, bias, eps, destination, [], maxThreads);
    }

    /// <summary>The same, and saves what <c>GroupNormBackward</c> needs besides the input.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (N, C, *).</param>
    /// <param name="numGroups">The number of groups that a sample's C channels are cut into; divides C.</param>
    /// <param name="weight">Factors of shape (C), or <c>default</c> for none.</param>
    /// <param name="bias">Summands of shape (C), or <c>default</c> for none.</param>
    /// <param name="eps">Added to the variance under the root; 1e-5 in PyTorch.</param>
    /// <param name="destination">Takes the result; of the input's shape, row-major contiguous or channels-last.</param>
    /// <param name="statistics">Takes the mean and 1/deviation of each group, sample by sample: exactly N · numGroups of them, none for an empty input.</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="numGroups"/> is zero or negative.</exception>
    /// <exception cref="ArgumentException">As above, or there are more or fewer statistics than groups.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public static void GroupNorm<T>(in ReadOnlyTensorSpan<T> input, nint numGroups, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> bias, double eps, in TensorSpan<T> destination, Span<GroupStatistics> statistics, int maxThreads = 0)
        where T : unmanaged
    {
        RowLayout layout = GroupNormLayout(input, numGroups, weight, bias);
        CheckStatistics(statistics, layout);
        RowForward(input, layout, weight, bias, eps, destination, statistics, maxThreads);
    }

    /// <summary>Normalizes each sample's channels in groups.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (N, C, *), any strides.</param>
    /// <param name="numGroups">The number of groups that a sample's C channels are cut into; divides C.</param>
    /// <param name="weight">Factors of shape (C), or null for none.</param>
    /// <param name="bias">Summands of shape (C), or null for none.</param>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <returns>A new tensor of the input's shape: channels-last where the input is, else row-major.</returns>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="numGroups"/> is zero or negative.</exception>
    /// <exception cref="ArgumentException">The input has fewer than two dimensions, its channels are not divisible by
    /// <paramref name="numGroups"/>, or it is one sample with one value per group; or weight or bias is not of shape (C).</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public static Tensor<T> GroupNorm<T>(Tensor<T> input, nint numGroups, Tensor<T>? weight = null, Tensor<T>? bias = null, double eps = 1e-5)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(input);
        Tensor<T> result = Layout.ResultLike(input.AsReadOnlyTensorSpan(), GroupNormLayout(input.AsReadOnlyTensorSpan(), numGroups, OrNone(weight), OrNone(bias)));
        GroupNorm(input.AsReadOnlyTensorSpan(), numGroups, OrNone(weight), OrNone(bias), eps, result.AsTensorSpan());
        return result;
    }

    private static RowLayout GroupNormLayout<T, TParameter>(in ReadOnlyTensorSpan<T> input, nint numGroups, in ReadOnlyTensorSpan<TParameter> weight, in ReadOnlyTensorSpan<TParameter> bias)
    {
        Elements.CheckSupported<T, TParameter>("GroupNorm");
        return GroupNormLayout(input.Lengths, numGroups, weight, bias);
    }

    internal static RowLayout GroupNormLayout<TParameter>(ReadOnlySpan<nint> input, nint numGroups, in ReadOnlyTensorSpan<TParameter> weight, in ReadOnlyTensorSpan<TParameter> bias)
    {
        if (input.Length < 2)
            throw new ArgumentException($"Expected an input of at least 2 dimensions (N, C, *), got shape {Layout.Text(input)}.", nameof(input));
        if (numGroups <= 0)
            throw new ArgumentOutOfRangeException(nameof(numGroups), numGroups, "Expected at least one group.");
        nint samples = input[0], channels = input[1];
        if (channels % numGroups != 0)
            throw new ArgumentException($"Expected a number of channels that is divisible by the number of groups {numGroups}, got {channels} in shape {Layout.Text(input)}.", nameof(input));
        nint run = Layout.Product(input[2..]), groupChannels = channels / numGroups;
        if (samples == 1 && groupChannels * run == 1)
            throw new ArgumentException($"Expected more than one value per group, got one: {numGroups} groups in shape {Layout.Text(input)}.", nameof(input));
        CheckChannelParameter(weight, channels, nameof(weight));
        CheckChannelParameter(bias, channels, nameof(bias));
        return new RowLayout(groupChannels * run == 0 ? 0 : samples * numGroups, groupChannels, run, numGroups);
    }

    private static void CheckChannelParameter<T>(in ReadOnlyTensorSpan<T> parameter, nint channels, string name)
    {
        if (parameter.Rank != 0 && (parameter.Rank != 1 || parameter.Lengths[0] != channels))
            throw new ArgumentException($"Expected {name} of shape [{channels}], one value per channel of the input, got shape {Layout.Text(parameter.Lengths)}.", name);
    }
}
