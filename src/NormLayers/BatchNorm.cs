using System.Buffers;
using System.Numerics.Tensors;
using NormLayers.Internals;
using NormLayers.Internals.Kernels;

namespace NormLayers;

/// <summary>
/// Batch normalization: <c>y = (x - E[x]) / sqrt(Var[x] + eps) * weight[c] + bias[c]</c>, in training with the mean and the biased
/// variance of each channel over the batch and all positions, in evaluation with the running ones.
/// </summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
/// <remarks>
/// <para>Shapes: input and output (N, C, *) with C = numFeatures; <see cref="BatchNorm1d{T}"/> takes (N, C) and (N, C, L),
/// <see cref="BatchNorm2d{T}"/> (N, C, H, W), <see cref="BatchNorm3d{T}"/> (N, C, D, H, W). The result of a channels-last input is channels-last.</para>
/// <para>A layer without running statistics uses the batch's in evaluation too. An input that is refused changes nothing, and is not counted.</para>
/// <para>Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167; https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html.</para>
/// </remarks>
public abstract class BatchNorm<T> : RunningNormLayer<T> where T : unmanaged
{
    private protected BatchNorm(string name, in RunningArguments arguments)
        : base(name, arguments)
    {
    }

    /// <summary>Whether the layer as it is normalizes with the batch's statistics.</summary>
    private bool UsesBatch => Training || RunningMean is null;

    /// <inheritdoc/>
    public sealed override void Forward(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> destination) => ForwardOf(input, destination);

    internal sealed override void ForwardOf<TInput>(in ReadOnlyTensorSpan<TInput> input, in TensorSpan<TInput> destination)
    {
        RowLayout layout = ForwardLayoutOf(input.Lengths);
        GroupStatistics[] rented = ArrayPool<GroupStatistics>.Shared.Rent((int)layout.Groups);
        try
        {
            Apply(input, layout, destination, rented.AsSpan(0, (int)layout.Groups));
        }
        finally
        {
            ArrayPool<GroupStatistics>.Shared.Return(rented);
        }
    }

    /// <inheritdoc/>
    public sealed override Tensor<T> Forward(Tensor<T> input, out ForwardPass<T> pass, PassMemory keep = PassMemory.Input) => ForwardOf(input, out pass, keep);

    internal sealed override Tensor<TInput> ForwardOf<TInput>(Tensor<TInput> input, out ForwardPass<TInput> pass, PassMemory keep)
    {
        ArgumentNullException.ThrowIfNull(input);
        RowLayout layout = ForwardLayoutOf(input.Lengths);
        if (keep == PassMemory.Output)
            CheckRecoverable<TInput>();
        Tensor<TInput> output = Layout.ResultLike(input.AsReadOnlyTensorSpan(), layout);
        var statistics = new GroupStatistics[layout.Groups];
        Apply(input.AsReadOnlyTensorSpan(), layout, output.AsTensorSpan(), statistics);
        pass = new ForwardPass<TInput>(keep == PassMemory.Output ? output : input, keep, layout, statistics);
        return output;
    }

    /// <summary>Throws unless the layer takes inputs of a rank.</summary>
    private protected abstract void CheckRank(ReadOnlySpan<nint> input);

    private protected static void ThrowRank(ReadOnlySpan<nint> input, string accepted)
        => throw new ArgumentException($"Expected an input of shape {accepted}, got {input.Length} dimensions: {Layout.Text(input)}.", nameof(input));

    private protected sealed override RowLayout LayoutOf(ReadOnlySpan<nint> input)
    {
        CheckRank(input);
        CheckInitialized();
        if ((RunningMean is not null || Weight is not null) && input[1] != NumFeatures)
            throw new ArgumentException($"Expected an input of {NumFeatures} channels (numFeatures), got {input[1]} in shape {Layout.Text(input)}.", nameof(input));
        return Functional.BatchNormLayout(input, Functional.OrNothing(RunningMean), Functional.OrNothing(RunningVar), Functional.OrNone(Weight?.Value), default, UsesBatch);
    }

    private protected sealed override RowLayout ForwardLayoutOf(ReadOnlySpan<nint> input)
    {
        Prepare(input);
        return LayoutOf(input);
    }

    private protected sealed override nint ForwardChannels(ReadOnlySpan<nint> input)
    {
        CheckRank(input);
        if (Training || !TrackRunningStats)
            Functional.CheckBatchCount(input);
        return input[1];
    }

    /// <summary>A pass keeps the mode that it was made in.</summary>
    private protected sealed override bool Makes(in RowLayout own, in RowLayout pass)
        => own == (own.Statistic == pass.Statistic ? pass : (pass.Strided with { Statistic = own.Statistic }).AsRows());

    private void Apply<TInput>(in ReadOnlyTensorSpan<TInput> input, in RowLayout layout, in TensorSpan<TInput> destination, Span<GroupStatistics> statistics) where TInput : unmanaged
    {
        if (RunningMean is not null)
        {
            Functional.CheckApart<T, TInput>(RunningMean.AsReadOnlyTensorSpan(), destination, "runningMean", nameof(destination));
            Functional.CheckApart<T, TInput>(RunningVar!.AsReadOnlyTensorSpan(), destination, "runningVar", nameof(destination));
        }
        if (layout.Statistic == RowStatistic.Given)
            Functional.GivenStatistics<T>(RunningMean!, RunningVar!, Eps, statistics);
        Functional.RowForward(input, layout, Functional.OrNone(Weight?.Value), Functional.OrNone(Bias?.Value), Eps, destination, statistics, MaxThreads);
        if (!Training || RunningMean is null)
            return;
        lock (Gate)
        {
            ref long count = ref NumBatchesTracked!.AsTensorSpan()[[0]];
            count++;
            Functional.TrackBatch<T>(RunningMean, RunningVar!, layout, statistics, Momentum ?? 1.0 / count);
        }
    }
}

/// <summary>Batch normalization of (N, C) or (N, C, L): see <see cref="BatchNorm{T}"/>.</summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
/// <remarks>https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html</remarks>
public class BatchNorm1d<T> : BatchNorm<T> where T : unmanaged
{
    /// <summary>Makes a layer.</summary>
    /// <param name="numFeatures">The number of channels.</param>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <param name="momentum">The share of a batch's statistics in the new running ones; null for the average of all batches.</param>
    /// <param name="affine">Whether the layer has a weight (ones at first) and a bias (zeros at first).</param>
    /// <param name="trackRunningStats">Whether it has running statistics.</param>
    /// <exception cref="ArgumentOutOfRangeException">numFeatures is negative or more than an array can hold.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public BatchNorm1d(nint numFeatures, double eps = 1e-5, double? momentum = 0.1, bool affine = true, bool trackRunningStats = true)
        : this(RunningArguments.Of(numFeatures, eps, momentum, affine, trackRunningStats))
    {
    }

    private protected BatchNorm1d(in RunningArguments arguments)
        : base("BatchNorm1d", arguments)
    {
    }

    internal static BatchNorm1d<T> FromCall(PythonCall call)
    {
        RunningArguments arguments = ArgumentsOf(call, "BatchNorm1d", affine: true, trackRunningStats: true);
        return arguments.NumFeatures is null ? new LazyBatchNorm1d<T>(arguments) : new BatchNorm1d<T>(arguments);
    }

    private protected override void CheckRank(ReadOnlySpan<nint> input)
    {
        if (input.Length is not (2 or 3))
            ThrowRank(input, "(N, C) or (N, C, L)");
    }
}

/// <summary>Batch normalization of (N, C, H, W): see <see cref="BatchNorm{T}"/>.</summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
/// <remarks>https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html</remarks>
/// <example><code>
/// var norm = new BatchNorm2d&lt;float&gt;(64);
/// Tensor&lt;float&gt; y = norm.Forward(x);            // training: x of shape (N, 64, H, W); the running statistics move
/// norm.Eval();
/// y = norm.Forward(x);                          // evaluation: with the running statistics
/// </code></example>
public class BatchNorm2d<T> : BatchNorm<T> where T : unmanaged
{
    /// <summary>Makes a layer.</summary>
    /// <param name="numFeatures">The number of channels.</param>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <param name="momentum">The share of a batch's statistics in the new running ones; null for the average of all batches.</param>
    /// <param name="affine">Whether the layer has a weight (ones at first) and a bias (zeros at first).</param>
    /// <param name="trackRunningStats">Whether it has running statistics.</param>
    /// <exception cref="ArgumentOutOfRangeException">numFeatures is negative or more than an array can hold.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public BatchNorm2d(nint numFeatures, double eps = 1e-5, double? momentum = 0.1, bool affine = true, bool trackRunningStats = true)
        : this(RunningArguments.Of(numFeatures, eps, momentum, affine, trackRunningStats))
    {
    }

    private protected BatchNorm2d(in RunningArguments arguments)
        : base("BatchNorm2d", arguments)
    {
    }

    internal static BatchNorm2d<T> FromCall(PythonCall call)
    {
        RunningArguments arguments = ArgumentsOf(call, "BatchNorm2d", affine: true, trackRunningStats: true);
        return arguments.NumFeatures is null ? new LazyBatchNorm2d<T>(arguments) : new BatchNorm2d<T>(arguments);
    }

    private protected override void CheckRank(ReadOnlySpan<nint> input)
    {
        if (input.Length != 4)
            ThrowRank(input, "(N, C, H, W)");
    }
}

/// <summary>Batch normalization of (N, C, D, H, W): see <see cref="BatchNorm{T}"/>.</summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
/// <remarks>https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm3d.html</remarks>
public class BatchNorm3d<T> : BatchNorm<T> where T : unmanaged
{
    /// <summary>Makes a layer.</summary>
    /// <param name="numFeatures">The number of channels.</param>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <param name="momentum">The share of a batch's statistics in the new running ones; null for the average of all batches.</param>
    /// <param name="affine">Whether the layer has a weight (ones at first) and a bias (zeros at first).</param>
    /// <param name="trackRunningStats">Whether it has running statistics.</param>
    /// <exception cref="ArgumentOutOfRangeException">numFeatures is negative or more than an array can hold.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public BatchNorm3d(nint numFeatures, double eps = 1e-5, double? momentum = 0.1, bool affine = true, bool trackRunningStats = true)
        : this(RunningArguments.Of(numFeatures, eps, momentum, affine, trackRunningStats))
    {
    }

    private protected BatchNorm3d(in RunningArguments arguments)
        : base("BatchNorm3d", arguments)
    {
    }

    internal static BatchNorm3d<T> FromCall(PythonCall call)
    {
        RunningArguments arguments = ArgumentsOf(call, "BatchNorm3d", affine: true, trackRunningStats: true);
        return arguments.NumFeatures is null ? new LazyBatchNorm3d<T>(arguments) : new BatchNorm3d<T>(arguments);
    }

    private protected override void CheckRank(ReadOnlySpan<nint> input)
    {
        if (input.Length != 5)
            ThrowRank(input, "(N, C, D, H, W)");
    }
}
