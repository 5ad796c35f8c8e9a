using System.Diagnostics;
using System.Numerics.Tensors;
using NormLayers.Internals;
using NormLayers.Internals.Kernels;

namespace NormLayers;

/// <summary>
/// Instance normalization: <c>y = (x - E[x]) / sqrt(Var[x] + eps) * weight[c] + bias[c]</c>, the mean and the biased variance
/// taken over each sample's channel; or, in evaluation mode with tracking, the running ones of the channel.
/// </summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
/// <remarks>
/// <para>In training mode with tracking the running mean and variance move by the momentum towards the average over the batch
/// of each channel's mean and unbiased variance; an empty batch leaves them alone. A momentum of null is 0 here, and
/// <c>num_batches_tracked</c> is never counted, as in PyTorch.</para>
/// <para>Ulyanov, Vedaldi and Lempitsky 2016, https://arxiv.org/abs/1607.08022.</para>
/// </remarks>
public abstract class InstanceNorm<T> : RunningNormLayer<T> where T : unmanaged
{
    private readonly int spatialDimensions;

    private protected InstanceNorm(int spatialDimensions, in RunningArguments arguments)
        : base($"InstanceNorm{spatialDimensions}d", arguments)
        => this.spatialDimensions = spatialDimensions;

    /// <summary>Whether the layer as it is normalizes with the running statistics.</summary>
    private bool UsesRunning => TrackRunningStats && !Training;

    private protected override RowLayout LayoutOf(ReadOnlySpan<nint> input)
    {
        int dimension = ChannelDimension(input);
        CheckInitialized();
        if ((Affine || TrackRunningStats) && input[dimension] != NumFeatures)
            throw new ArgumentException($"Expected {NumFeatures} channels in dimension {dimension} of the input, got shape {Layout.Text(input)}.", nameof(input));
        return Functional.InstanceNormLayout(input, dimension, RowStatistic.MeanAndVarianceOrZero);
    }

    private protected override RowLayout ForwardLayoutOf(ReadOnlySpan<nint> input)
    {
        int dimension = ChannelDimension(input);
        nint channels = input[dimension];
        Prepare(input);
        RowLayout layout = LayoutOf(input);
        if (channels != NumFeatures)
            Trace.TraceWarning($"{this}: the input of shape {Layout.Text(input)} has {channels} channels in dimension {dimension}; the number of features is not used without affine and tracking.");
        return UsesRunning ? layout with { Statistic = RowStatistic.Given } : layout;
    }

    private protected override void Normalize<TInput>(in ReadOnlyTensorSpan<TInput> input, in RowLayout layout, in TensorSpan<TInput> destination, Span<GroupStatistics> statistics)
        => Functional.InstanceForward(input, layout, RunningMean is null ? default : RunningMean.AsTensorSpan(), RunningVar is null ? default : RunningVar.AsTensorSpan(),
            Functional.OrNone(Weight?.Value), Functional.OrNone(Bias?.Value), Momentum ?? 0, Eps, destination, statistics, Gate, MaxThreads);

    /// <summary>A pass may be of either mode, whatever the mode is now.</summary>
    private protected override bool Makes(in RowLayout own, in RowLayout pass)
        => own == pass || (own with { Statistic = RowStatistic.Given }) == pass;

    private protected sealed override nint ForwardChannels(ReadOnlySpan<nint> input)
    {
        int dimension = ChannelDimension(input);
        if (!UsesRunning)
            Functional.CheckSpatial(input, dimension);
        return input[dimension];
    }

    private int ChannelDimension(ReadOnlySpan<nint> input)
    {
        int dimension = input.Length - spatialDimensions - 1;
        return dimension is 0 or 1 ? dimension
            : throw new ArgumentException($"Expected an input of {spatialDimensions + 1} dimensions (C, ...) or {spatialDimensions + 2} (N, C, ...), got shape {Layout.Text(input)}.", nameof(input));
    }
}

/// <summary>Instance normalization of sequences: <see cref="InstanceNorm{T}"/> for inputs of shape (N, C, L) or (C, L).</summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
/// <remarks>https://docs.pytorch.org/docs/stable/generated/torch.nn.InstanceNorm1d.html</remarks>
/// <example><code>
/// var norm = new InstanceNorm1d&lt;float&gt;(numFeatures: 3);
/// Tensor&lt;float&gt; y = norm.Forward(x);            // x of shape (N, 3, L)
/// </code></example>
public class InstanceNorm1d<T> : InstanceNorm<T> where T : unmanaged
{
    /// <summary>Makes a layer.</summary>
    /// <param name="numFeatures">The number of channels. Without affine and tracking another number in an input is only warned of (<see cref="Trace"/>), as in PyTorch.</param>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <param name="momentum">The share of a new statistic in a running one; null for 0.</param>
    /// <param name="affine">Whether the layer has a weight (ones at first) and a bias (zeros at first), one value per channel.</param>
    /// <param name="trackRunningStats">Whether the layer has running statistics, tracked in training mode and used in evaluation mode.</param>
    /// <exception cref="ArgumentOutOfRangeException">numFeatures is negative or more than an array can hold.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public InstanceNorm1d(nint numFeatures, double eps = 1e-5, double? momentum = 0.1, bool affine = false, bool trackRunningStats = false)
        : this(RunningArguments.Of(numFeatures, eps, momentum, affine, trackRunningStats))
    {
    }

    private protected InstanceNorm1d(in RunningArguments arguments)
        : base(1, arguments)
    {
    }

    internal static InstanceNorm1d<T> FromCall(PythonCall call)
    {
        RunningArguments arguments = ArgumentsOf(call, "InstanceNorm1d", affine: false, trackRunningStats: false);
        return arguments.NumFeatures is null ? new LazyInstanceNorm1d<T>(arguments) : new InstanceNorm1d<T>(arguments);
    }
}

/// <summary>Instance normalization of images: <see cref="InstanceNorm{T}"/> for inputs of shape (N, C, H, W) or (C, H, W).</summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
/// <remarks>https://docs.pytorch.org/docs/stable/generated/torch.nn.InstanceNorm2d.html</remarks>
/// <example><code>
/// var norm = new InstanceNorm2d&lt;float&gt;(numFeatures: 3);
/// Tensor&lt;float&gt; y = norm.Forward(x);            // x of shape (N, 3, H, W)
/// </code></example>
public class InstanceNorm2d<T> : InstanceNorm<T> where T : unmanaged
{
    /// <summary>Makes a layer.</summary>
    /// <param name="numFeatures">The number of channels. Without affine and tracking another number in an input is only warned of (<see cref="Trace"/>), as in PyTorch.</param>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <param name="momentum">The share of a new statistic in a running one; null for 0.</param>
    /// <param name="affine">Whether the layer has a weight (ones at first) and a bias (zeros at first), one value per channel.</param>
    /// <param name="trackRunningStats">Whether the layer has running statistics, tracked in training mode and used in evaluation mode.</param>
    /// <exception cref="ArgumentOutOfRangeException">numFeatures is negative or more than an array can hold.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public InstanceNorm2d(nint numFeatures, double eps = 1e-5, double? momentum = 0.1, bool affine = false, bool trackRunningStats = false)
        : this(RunningArguments.Of(numFeatures, eps, momentum, affine, trackRunningStats))
    {
    }

    private protected InstanceNorm2d(in RunningArguments arguments)
        : base(2, arguments)
    {
    }

    internal static InstanceNorm2d<T> FromCall(PythonCall call)
    {
        RunningArguments arguments = ArgumentsOf(call, "InstanceNorm2d", affine: false, trackRunningStats: false);
        return arguments.NumFeatures is null ? new LazyInstanceNorm2d<T>(arguments) : new InstanceNorm2d<T>(arguments);
    }
}

/// <summary>Instance normalization of volumes: <see cref="InstanceNorm{T}"/> for inputs of shape (N, C, D, H, W) or (C, D, H, W).</summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
/// <remarks>https://docs.pytorch.org/docs/stable/generated/torch.nn.InstanceNorm3d.html</remarks>
/// <example><code>
/// var norm = new InstanceNorm3d&lt;float&gt;(numFeatures: 3);
/// Tensor&lt;float&gt; y = norm.Forward(x);            // x of shape (N, 3, D, H, W)
/// </code></example>
public class InstanceNorm3d<T> : InstanceNorm<T> where T : unmanaged
{
    /// <summary>Makes a layer.</summary>
    /// <param name="numFeatures">The number of channels. Without affine and tracking another number in an input is only warned of (<see cref="Trace"/>), as in PyTorch.</param>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <param name="momentum">The share of a new statistic in a running one; null for 0.</param>
    /// <param name="affine">Whether the layer has a weight (ones at first) and a bias (zeros at first), one value per channel.</param>
    /// <param name="trackRunningStats">Whether the layer has running statistics, tracked in training mode and used in evaluation mode.</param>
    /// <exception cref="ArgumentOutOfRangeException">numFeatures is negative or more than an array can hold.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public InstanceNorm3d(nint numFeatures, double eps = 1e-5, double? momentum = 0.1, bool affine = false, bool trackRunningStats = false)
        : this(RunningArguments.Of(numFeatures, eps, momentum, affine, trackRunningStats))
    {
    }

    private protected InstanceNorm3d(in RunningArguments arguments)
        : base(3, arguments)
    {
    }

    internal static InstanceNorm3d<T> FromCall(PythonCall call)
    {
        RunningArguments arguments = ArgumentsOf(call, "InstanceNorm3d", affine: false, trackRunningStats: false);
        return arguments.NumFeatures is null ? new LazyInstanceNorm3d<T>(arguments) : new InstanceNorm3d<T>(arguments);
    }
}
