using NormLayers.Internals;

namespace NormLayers;

/// <summary>
/// Batch normalization of (N, C, *) with any number of dimensions, under the name that PyTorch gives it in models trained by several processes: see
/// <see cref="BatchNorm{T}"/>, of which it has the formula, the state and the gradients.
/// </summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
/// <remarks>
/// In PyTorch the processes of a group share the statistics of their batches; one process alone, and every process in evaluation, does what BatchNorm does.
/// Here there is one process, whose threads share a batch already.
/// <para>https://docs.pytorch.org/docs/stable/generated/torch.nn.SyncBatchNorm.html</para>
/// </remarks>
public sealed class SyncBatchNorm<T> : BatchNorm<T> where T : unmanaged
{
    /// <summary>Makes a layer.</summary>
    /// <param name="numFeatures">The number of channels.</param>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <param name="momentum">The share of a batch's statistics in the new running ones; null for the average of all batches.</param>
    /// <param name="affine">Whether the layer has a weight (ones at first) and a bias (zeros at first).</param>
    /// <param name="trackRunningStats">Whether it has running statistics.</param>
    /// <exception cref="ArgumentOutOfRangeException">numFeatures is negative or more than an array can hold.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public SyncBatchNorm(nint numFeatures, double eps = 1e-5, double? momentum = 0.1, bool affine = true, bool trackRunningStats = true)
        : this(RunningArguments.Of(numFeatures, eps, momentum, affine, trackRunningStats))
    {
    }

    private SyncBatchNorm(in RunningArguments arguments)
        : base("SyncBatchNorm", arguments)
    {
    }

    internal static SyncBatchNorm<T> FromCall(PythonCall call) => new(ArgumentsOf(call, "SyncBatchNorm", affine: true, trackRunningStats: true, processGroup: true));

    private protected override void CheckRank(ReadOnlySpan<nint> input)
    {
        if (input.Length < 2)
            ThrowRank(input, "(N, C, ...)");
        if (input[1] == 0)
            throw new ArgumentException($"Expected an input of at least one channel, got shape {Layout.Text(input)}.", nameof(input));
    }
}
