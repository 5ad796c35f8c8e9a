namespace NormLayers;

/// <summary>An <see cref="InstanceNorm1d{T}"/> that takes its number of channels from its first input or state dict, and prints as the plain layer from then on.</summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
/// <remarks>
/// An unbatched input gives its first dimension, where PyTorch takes the second and refuses the input.
/// https://docs.pytorch.org/docs/stable/generated/torch.nn.LazyInstanceNorm1d.html
/// </remarks>
public sealed class LazyInstanceNorm1d<T> : InstanceNorm1d<T> where T : unmanaged
{
    /// <summary>Makes a layer without parameters yet. Unlike <see cref="InstanceNorm1d{T}"/> it has an affine and running statistics by default, as in PyTorch.</summary>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <param name="momentum">The share of a new statistic in a running one; null for 0.</param>
    /// <param name="affine">Whether the layer will have a weight (ones at first) and a bias (zeros at first), one value per channel.</param>
    /// <param name="trackRunningStats">Whether the layer will have running statistics, tracked in training mode and used in evaluation mode.</param>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public LazyInstanceNorm1d(double eps = 1e-5, double? momentum = 0.1, bool affine = true, bool trackRunningStats = true)
        : this(RunningArguments.Of(numFeatures: null, eps, momentum, affine, trackRunningStats))
    {
    }

    internal LazyInstanceNorm1d(in RunningArguments arguments)
        : base(arguments)
    {
    }
}

/// <summary>An <see cref="InstanceNorm2d{T}"/> that takes its number of channels from its first input or state dict, and prints as the plain layer from then on.</summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
/// <remarks>
/// An unbatched input gives its first dimension, where PyTorch takes the second and refuses the input.
/// https://docs.pytorch.org/docs/stable/generated/torch.nn.LazyInstanceNorm2d.html
/// </remarks>
public sealed class LazyInstanceNorm2d<T> : InstanceNorm2d<T> where T : unmanaged
{
    /// <summary>Makes a layer without parameters yet. Unlike <see cref="InstanceNorm2d{T}"/> it has an affine and running statistics by default, as in PyTorch.</summary>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <param name="momentum">The share of a new statistic in a running one; null for 0.</param>
    /// <param name="affine">Whether the layer will have a weight (ones at first) and a bias (zeros at first), one value per channel.</param>
    /// <param name="trackRunningStats">Whether the layer will have running statistics, tracked in training mode and used in evaluation mode.</param>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public LazyInstanceNorm2d(double eps = 1e-5, double? momentum = 0.1, bool affine = true, bool trackRunningStats = true)
        : this(RunningArguments.Of(numFeatures: null, eps, momentum, affine, trackRunningStats))
    {
    }

    internal LazyInstanceNorm2d(in RunningArguments arguments)
        : base(arguments)
    {
    }
}

/// <summary>An <see cref="InstanceNorm3d{T}"/> that takes its number of channels from its first input or state dict, and prints as the plain layer from then on.</summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
/// <remarks>
/// An unbatched input gives its first dimension, where PyTorch takes the second and refuses the input.
/// https://docs.pytorch.org/docs/stable/generated/torch.nn.LazyInstanceNorm3d.html
/// </remarks>
public sealed class LazyInstanceNorm3d<T> : InstanceNorm3d<T> where T : unmanaged
{
    /// <summary>Makes a layer without parameters yet. Unlike <see cref="InstanceNorm3d{T}"/> it has an affine and running statistics by default, as in PyTorch.</summary>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <param name="momentum">The share of a new statistic in a running one; null for 0.</param>
    /// <param name="affine">Whether the layer will have a weight (ones at first) and a bias (zeros at first), one value per channel.</param>
    /// <param name="trackRunningStats">Whether the layer will have running statistics, tracked in training mode and used in evaluation mode.</param>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public LazyInstanceNorm3d(double eps = 1e-5, double? momentum = 0.1, bool affine = true, bool trackRunningStats = true)
        : this(RunningArguments.Of(numFeatures: null, eps, momentum, affine, trackRunningStats))
    {
    }

    internal LazyInstanceNorm3d(in RunningArguments arguments)
        : base(arguments)
    {
    }
}
