using System.Numerics.Tensors;
using Xunit;

namespace NormLayers.Tests.Properties;

/// <summary>Float's sums down columns, against the formula in double: so many columns that a rare one of much rounding is among them.</summary>
public sealed class ChannelAccuracyTests
{
    [Fact]
    public void LayerNorm_OverChannelsOfManyPositions_IsWithinFourUlp()
    {
        const int Channels = 96, Positions = 25_000;
        var random = new Random(1);
        float[] x = new float[Channels * Positions], weight = new float[Channels], y = new float[x.Length];
        for (int i = 0; i < x.Length; i++)
            x[i] = (float)(random.NextDouble() + random.NextDouble() + random.NextDouble() - 1);
        for (int c = 0; c < Channels; c++)
            weight[c] = 0.5f + (float)random.NextDouble() / 2;
        nint[] shape = [1, Channels, Positions], normalized = [Channels];

        Functional.LayerNorm(new ReadOnlyTensorSpan<float>(x, shape), normalized, new ReadOnlyTensorSpan<float>(weight, normalized), default, 1e-5, new TensorSpan<float>(y, shape), axis: 1);

        double worst = 0;
        for (int p = 0; p < Positions; p++)
        {
            double mean = 0, variance = 0;
            for (int c = 0; c < Channels; c++)
                mean += (double)x[c * Positions + p] / Channels;
            for (int c = 0; c < Channels; c++)
                variance += (x[c * Positions + p] - mean) * (x[c * Positions + p] - mean) / Channels;
            for (int c = 0; c < Channels; c++)
            {
                double expected = (x[c * Positions + p] - mean) / Math.Sqrt(variance + 1e-5) * weight[c], ulp = Math.ScaleB(1, Math.ILogB(Math.Max(Math.Abs(expected), weight[c])) - 23);
                worst = Math.Max(worst, Math.Abs(y[c * Positions + p] - expected) / ulp);
            }
        }
        Assert.True(worst <= 4, $"y is wrong by {worst:F2} ulp at the larger of |y| and |weight|.");
    }
}
