using System.Runtime.CompilerServices;
using NormLayers.Internals.Kernels;

namespace NormLayers;

/// <summary>The mean and the reciprocal standard deviation of one group of elements, as a forward pass saves them for its backward.</summary>
/// <remarks>
/// PyTorch's <c>native_layer_norm</c> and <c>native_group_norm</c> return the same two as tensors. Here the mean is kept in two
/// doubles and, for groups whose squares leave the range of double, in a scaled form, so that a backward loses nothing.
/// </remarks>
public readonly struct GroupStatistics
{
    internal readonly double ScaledMean, ScaledMeanLow, ScaledRstd, Scale;

    internal GroupStatistics(in Moments moments, double eps)
    {
        (ScaledMean, ScaledMeanLow, Scale) = (moments.Mean, moments.MeanLow, moments.Scale);
        ScaledRstd = moments.ReciprocalDeviation(eps);
    }

    private GroupStatistics(double rstd) => (ScaledRstd, Scale) = (rstd, 1);

    /// <summary>E[x].</summary>
    public double Mean => (ScaledMean + ScaledMeanLow) / Scale;

    /// <summary>1 / sqrt(Var[x] + eps), with the biased variance.</summary>
    public double Rstd => ScaledRstd * Scale;

    /// <summary>The statistics of the same values less their mean.</summary>
    internal GroupStatistics Centered => new(Rstd);

    /// <summary>(x - mean) · rstd.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal double Normalize(double x) => (x * Scale - ScaledMean - ScaledMeanLow) * ScaledRstd;
}
