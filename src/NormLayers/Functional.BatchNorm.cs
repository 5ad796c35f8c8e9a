using System.Buffers;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using NormLayers.Internals;
using NormLayers.Internals.Kernels;

namespace NormLayers;

public static partial class Functional
{
    /// <summary>Normalizes each channel over the batch and all positions, or with running statistics.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (N, C, *).</param>
    /// <param name="runningMean">The running mean of shape (C), or <c>default</c> for none. Read in evaluation, changed in training.</param>
    /// <param name="runningVar">The running variance of shape (C), or <c>default</c> for none. Read in evaluation, changed in training.</param>
    /// <param name="weight">Factors of shape (C), or <c>default</c> for none.</param>
    /// <param name="bias">Summands of shape (C), or <c>default</c> for none.</param>
    /// <param name="training">Whether to normalize with the batch's statistics and to track them, or with the running ones.</param>
    /// <param name="momentum">The share of the batch's statistics in the new running ones; 0.1 in PyTorch.</param>
    /// <param name="eps">Added to the variance under the root; 1e-5 in PyTorch.</param>
    /// <param name="destination">Takes the result; of the input's shape, row-major contiguous or channels-last.</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <exception cref="ArgumentException">The input has fewer than two dimensions, or in training one value per channel; a running
    /// statistic is missing in evaluation, or it, weight or bias is not of shape (C); or the destination has another shape, is
    /// neither contiguous nor channels-last, or overlaps the input or a parameter in part.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>
    /// <para>This method effectively computes <c>y = (x - mean) / sqrt(var + eps) * weight[c] + bias[c]</c>, in training with the
    /// mean and the <b>biased</b> variance of the channel, while <c>running = (1 - momentum) * running + momentum * statistic</c>
    /// with the <b>unbiased</b> variance; an empty input leaves the running statistics as they are.</para>
    /// <para>In training a NaN or an infinity makes its whole channel NaN, and a constant channel gives exactly the bias, also where eps is 0.</para>
    /// <para>Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167;
    /// https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.batch_norm.html.</para>
    /// </remarks>
    public static void BatchNorm<T>(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> runningMean, in TensorSpan<T> runningVar, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> bias, bool training, double momentum, double eps, in TensorSpan<T> destination, int maxThreads = 0)
        where T : unmanaged
    {
        RowLayout layout = BatchNormLayout(input.Lengths, runningMean, runningVar, weight, bias, training);
        GroupStatistics[] rented = ArrayPool<GroupStatistics>.Shared.Rent((int)layout.Groups);
        try
        {
            BatchNorm(input, runningMean, runningVar, weight, bias, layout, momentum, eps, destination, rented.AsSpan(0, (int)layout.Groups), maxThreads);
        }
        finally
        {
            ArrayPool<GroupStatistics>.Shared.Return(rented);
        }
    }

    /// <summary>The same, and saves what <see cref="BatchNormBackward{T}"/> needs besides the input.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (N, C, *).</param>
    /// <param name="runningMean">The running mean of shape (C), or <c>default</c> for none.</param>
    /// <param name="runningVar">The running variance of shape (C), or <c>default</c> for none.</param>
    /// <param name="weight">Factors of shape (C), or <c>default</c> for none.</param>
    /// <param name="bias">Summands of shape (C), or <c>default</c> for none.</param>
    /// <param name="training">Whether to normalize with the batch's statistics and to track them, or with the running ones.</param>
    /// <param name="momentum">The share of the batch's statistics in the new running ones.</param>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <param name="destination">Takes the result; of the input's shape, row-major contiguous or channels-last.</param>
    /// <param name="statistics">Takes the mean and 1/deviation of each channel that were used: exactly C, none for an empty input.</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <exception cref="ArgumentException">As above, or there are more or fewer statistics than channels.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public static void BatchNorm<T>(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> runningMean, in TensorSpan<T> runningVar, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> bias, bool training, double momentum, double eps, in TensorSpan<T> destination, Span<GroupStatistics> statistics, int maxThreads = 0)
        where T : unmanaged
    {
        RowLayout layout = BatchNormLayout(input.Lengths, runningMean, runningVar, weight, bias, training);
        CheckStatistics(statistics, layout);
        BatchNorm(input, runningMean, runningVar, weight, bias, layout, momentum, eps, destination, statistics, maxThreads);
    }

    /// <summary>Normalizes each channel over the batch and all positions, or with running statistics.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (N, C, *), any strides.</param>
    /// <param name="runningMean">The running mean of shape (C), or null for none. Read in evaluation, changed in training.</param>
    /// <param name="runningVar">The running variance of shape (C), or null for none. Read in evaluation, changed in training.</param>
    /// <param name="weight">Factors of shape (C), or null for none.</param>
    /// <param name="bias">Summands of shape (C), or null for none.</param>
    /// <param name="training">Whether to normalize with the batch's statistics and to track them, or with the running ones.</param>
    /// <param name="momentum">The share of the batch's statistics in the new running ones.</param>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <returns>A new tensor of the input's shape: channels-last where the input is, else row-major.</returns>
    /// <exception cref="ArgumentException">The input has fewer than two dimensions, or in training one value per channel; a running
    /// statistic is missing in evaluation; or it, weight or bias is not of shape (C).</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public static Tensor<T> BatchNorm<T>(Tensor<T> input, Tensor<T>? runningMean, Tensor<T>? runningVar, Tensor<T>? weight = null, Tensor<T>? bias = null, bool training = false, double momentum = 0.1, double eps = 1e-5)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(input);
        TensorSpan<T> mean = OrNothing(runningMean), variance = OrNothing(runningVar);
        RowLayout layout = BatchNormLayout(input.Lengths, mean, variance, OrNone(weight), OrNone(bias), training);
        Tensor<T> result = Layout.ResultLike(input.AsReadOnlyTensorSpan(), layout);
        BatchNorm(input.AsReadOnlyTensorSpan(), mean, variance, OrNone(weight), OrNone(bias), layout, momentum, eps, result.AsTensorSpan(), new GroupStatistics[layout.Groups], 0);
        return result;
    }

    /// <summary>Checks a call and cuts its input into channels; <paramref name="training"/> as in PyTorch's function.</summary>
    internal static RowLayout BatchNormLayout<T>(ReadOnlySpan<nint> input, in TensorSpan<T> runningMean, in TensorSpan<T> runningVar, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> bias, bool training)
    {
        CheckBatch<T>(input);
        nint channels = input[1];
        if (training)
            CheckBatchCount(input);
        CheckRunning(runningMean, channels, nameof(runningMean));
        CheckRunning(runningVar, channels, nameof(runningVar));
        if (!training && runningMean.Rank == 0)
            throw new ArgumentException($"Expected a {nameof(runningMean)} in evaluation, got none.", nameof(runningMean));
        if (!training && runningVar.Rank == 0)
            throw new ArgumentException($"Expected a {nameof(runningVar)} in evaluation, got none.", nameof(runningVar));
        CheckChannelParameter(weight, channels, nameof(weight));
        CheckChannelParameter(bias, channels, nameof(bias));
        return ChannelsOf(input, training ? RowStatistic.MeanAndVarianceOrZero : RowStatistic.Given);
    }

    private static void CheckBatch<T>(ReadOnlySpan<nint> input)
    {
        Elements.CheckSupported<T>("BatchNorm");
        if (input.Length < 2)
            throw new ArgumentException($"Expected an input of at least 2 dimensions (N, C, *), got shape {Layout.Text(input)}.", nameof(input));
    }

    internal static void CheckBatchCount(ReadOnlySpan<nint> input)
    {
        if (input[0] * Layout.Product(input[2..]) == 1)
            throw new ArgumentException($"Expected more than one value per channel in training, got one: shape {Layout.Text(input)}.", nameof(input));
    }

    /// <summary>A group for each channel of a shape (N, C, *).</summary>
    internal static RowLayout ChannelsOf(ReadOnlySpan<nint> lengths, RowStatistic statistic)
    {
        nint positions = Layout.Product(lengths[2..]);
        // Without positions there are still the channels' parameters.
        return (positions == 0 ? new ChannelLayout(1, 0, lengths[1], 1, ParameterAxis.Group, statistic)
            : new ChannelLayout(1, lengths[0], lengths[1] * positions, positions, ParameterAxis.Group, statistic)).AsRows();
    }

    private static void BatchNorm<T>(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> runningMean, in TensorSpan<T> runningVar, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> bias, in RowLayout layout, double momentum, double eps, in TensorSpan<T> destination, Span<GroupStatistics> statistics, int maxThreads)
        where T : unmanaged
    {
        CheckApart(runningMean.AsReadOnlyTensorSpan(), destination, nameof(runningMean), nameof(destination));
        CheckApart(runningVar.AsReadOnlyTensorSpan(), destination, nameof(runningVar), nameof(destination));
        if (layout.Statistic == RowStatistic.Given)
            GivenStatistics<T>(runningMean, runningVar, eps, statistics);
        RowForward(input, layout, weight, bias, eps, destination, statistics, maxThreads);
        if (layout.Statistic != RowStatistic.Given)
            TrackBatch(runningMean, runningVar, layout, statistics, momentum);
    }

    /// <summary>The statistics that running ones stand for.</summary>
    internal static void GivenStatistics<T>(in ReadOnlyTensorSpan<T> runningMean, in ReadOnlyTensorSpan<T> runningVar, double eps, Span<GroupStatistics> statistics) where T : unmanaged
    {
        if (statistics.IsEmpty)
            return;
        ref T mean = ref Unsafe.AsRef(in TensorMarshal.GetReference(runningMean)), variance = ref Unsafe.AsRef(in TensorMarshal.GetReference(runningVar));
        for (int c = 0; c < statistics.Length; c++)
            statistics[c] = new GroupStatistics(Elements.ToDouble(Unsafe.Add(ref mean, c)), Elements.ToDouble(Unsafe.Add(ref variance, c)), eps);
    }

    /// <summary>Takes the statistics of a batch into the running ones that there are. An empty batch has none.</summary>
    internal static void TrackBatch<T>(in TensorSpan<T> runningMean, in TensorSpan<T> runningVar, in RowLayout layout, ReadOnlySpan<GroupStatistics> statistics, double momentum) where T : unmanaged
    {
        if (statistics.IsEmpty || (runningMean.Rank == 0 && runningVar.Rank == 0))
            return;
        using var memory = new RentedDoubles(statistics.Length);
        Span<double> values = memory.Span;
        if (runningMean.Rank != 0)
        {
            for (int c = 0; c < values.Length; c++)
                values[c] = statistics[c].Mean;
            UpdateRunning(runningMean, values, momentum);
        }
        if (runningVar.Rank != 0)
        {
            for (int c = 0; c < values.Length; c++)
                values[c] = statistics[c].Variance * Unbiased(layout.Length);
            UpdateRunning(runningVar, values, momentum);
        }
    }

    internal static TensorSpan<T> OrNothing<T>(Tensor<T>? tensor) => tensor is null ? default : tensor.AsTensorSpan();
}
