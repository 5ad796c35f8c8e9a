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
    internal readonly double ScaledMean, ScaledMeanLow, ScaledVariance, ScaledRstd, Scale;

    internal GroupStatistics(in Moments moments, double eps, bool zeroDeviation = false)
    {
        (ScaledMean, ScaledMeanLow, ScaledVariance, Scale) = (moments.Mean, moments.MeanLow, moments.Variance, moments.Scale);
        ScaledRstd = zeroDeviation && eps == 0 && moments.Variance == 0 ? 0 : moments.ReciprocalDeviation(eps);
    }

    /// <summary>Statistics that are given: no element has a part in them.</summary>
    internal GroupStatistics(double mean, double variance, double eps)
        => (ScaledMean, ScaledVariance, ScaledRstd, Scale) = (mean, variance, 1 / Math.Sqrt(variance + eps), 1);

    /// <summary>Statistics of values that are not scaled.</summary>
    internal GroupStatistics(double mean, double meanLow, double variance, double rstd)
        => (ScaledMean, ScaledMeanLow, ScaledVariance, ScaledRstd, Scale) = (mean, meanLow, variance, rstd, 1);

    private GroupStatistics(double variance, double rstd) => (ScaledVariance, ScaledRstd, Scale) = (variance, rstd, 1);

    /// <summary>E[x]; 0 in RMSNorm.</summary>
    public double Mean => (ScaledMean + ScaledMeanLow) / Scale;

    /// <summary>Var[x], biased; E[x²] in RMSNorm.</summary>
    public double Variance => ScaledVariance / Scale / Scale;

    /// <summary>1 / sqrt(Var[x] + eps), with the biased variance; 1 / sqrt(E[x²] + eps) in RMSNorm.</summary>
    public double Rstd => ScaledRstd * Scale;

    /// <summary>The statistics of the same values less their mean.</summary>
    internal GroupStatistics Centered => new(Variance, Rstd);

    /// <summary>(x - mean) · rstd.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal double Normalize(double x) => (x * Scale - ScaledMean - ScaledMeanLow) * ScaledRstd;
}
