namespace NormLayers;

/// <summary>A <see cref="BatchNorm1d{T}"/> that takes its number of channels from its first input or state dict, and prints as the plain layer from then on.</summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
/// <remarks>https://docs.pytorch.org/docs/stable/generated/torch.nn.LazyBatchNorm1d.html</remarks>
public sealed class LazyBatchNorm1d<T> : BatchNorm1d<T> where T : unmanaged
{
    /// <summary>Makes a layer without parameters yet.</summary>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <param name="momentum">The share of a batch's statistics in the new running ones; null for the average of all batches.</param>
    /// <param name="affine">Whether the layer will have a weight (ones at first) and a bias (zeros at first).</param>
    /// <param name="trackRunningStats">Whether it will have running statistics.</param>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public LazyBatchNorm1d(double eps = 1e-5, double? momentum = 0.1, bool affine = true, bool trackRunningStats = true)
        : this(RunningArguments.Of(numFeatures: null, eps, momentum, affine, trackRunningStats))
    {
    }

    internal LazyBatchNorm1d(in RunningArguments arguments)
        : base(arguments)
    {
    }
}

/// <summary>A <see cref="BatchNorm2d{T}"/> that takes its number of channels from its first input or state dict, and prints as the plain layer from then on.</summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
/// <remarks>https://docs.pytorch.org/docs/stable/generated/torch.nn.LazyBatchNorm2d.html</remarks>
public sealed class LazyBatchNorm2d<T> : BatchNorm2d<T> where T : unmanaged
{
    /// <summary>Makes a layer without parameters yet.</summary>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <param name="momentum">The share of a batch's statistics in the new running ones; null for the average of all batches.</param>
    /// <param name="affine">Whether the layer will have a weight (ones at first) and a bias (zeros at first).</param>
    /// <param name="trackRunningStats">Whether it will have running statistics.</param>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public LazyBatchNorm2d(double eps = 1e-5, double? momentum = 0.1, bool affine = true, bool trackRunningStats = true)
        : this(RunningArguments.Of(numFeatures: null, eps, momentum, affine, trackRunningStats))
    {
    }

    internal LazyBatchNorm2d(in RunningArguments arguments)
        : base(arguments)
    {
    }
}

/// <summary>A <see cref="BatchNorm3d{T}"/> that takes its number of channels from its first input or state dict, and prints as the plain layer from then on.</summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
/// <remarks>https://docs.pytorch.org/docs/stable/generated/torch.nn.LazyBatchNorm3d.html</remarks>
public sealed class LazyBatchNorm3d<T> : BatchNorm3d<T> where T : unmanaged
{
    /// <summary>Makes a layer without parameters yet.</summary>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <param name="momentum">The share of a batch's statistics in the new running ones; null for the average of all batches.</param>
    /// <param name="affine">Whether the layer will have a weight (ones at first) and a bias (zeros at first).</param>
    /// <param name="trackRunningStats">Whether it will have running statistics.</param>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public LazyBatchNorm3d(double eps = 1e-5, double? momentum = 0.1, bool affine = true, bool trackRunningStats = true)
        : this(RunningArguments.Of(numFeatures: null, eps, momentum, affine, trackRunningStats))
    {
    }

    internal LazyBatchNorm3d(in RunningArguments arguments)
        : base(arguments)
    {
    }
}
