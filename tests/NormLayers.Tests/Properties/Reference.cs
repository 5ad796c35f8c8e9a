namespace NormLayers.Tests.Properties;

/// <summary>The layers from their formulas: plain loops over row-major arrays, in double, two passes.</summary>
internal static class Reference
{
    public static double[] LayerNorm(double[] x, int length, double[]? weight, double[]? bias, double eps)
    {
        var y = new double[x.Length];
        for (int row = 0; row < x.Length; row += length)
        {
            (double mean, double low, double rstd) = Statistics(x.AsSpan(row, length), eps);
            for (int i = 0; i < length; i++)
                y[row + i] = (x[row + i] - mean - low) * rstd * (weight?[i] ?? 1) + (bias?[i] ?? 0);
        }
        return y;
    }

    public static double[] RMSNorm(double[] x, int length, double[]? weight, double eps)
    {
        var y = new double[x.Length];
        for (int row = 0; row < x.Length; row += length)
        {
            double squares = 0, rest = 0;
            foreach (double value in x.AsSpan(row, length))
                Add(value * value, ref squares, ref rest);
            double rstd = 1 / Math.Sqrt((squares + rest) / length + eps);
            for (int i = 0; i < length; i++)
                y[row + i] = x[row + i] * rstd * (weight?[i] ?? 1);
        }
        return y;
    }

    public static double[] GroupNorm(double[] x, int samples, int channels, int run, int groups, double[]? weight, double[]? bias, double eps)
    {
        var y = new double[x.Length];
        int length = channels / groups * run;
        for (int group = 0; group < samples * groups && length > 0; group++)
        {
            (double mean, double low, double rstd) = Statistics(x.AsSpan(group * length, length), eps);
            for (int i = group * length; i < (group + 1) * length; i++)
            {
                int channel = i / run % channels;
                y[i] = (x[i] - mean - low) * rstd * (weight?[channel] ?? 1) + (bias?[channel] ?? 0);
            }
        }
        return y;
    }

    public static double[] LocalResponseNorm(double[] x, int samples, int channels, int run, int size, double alpha, double beta, double k)
    {
        var y = new double[x.Length];
        for (int sample = 0; sample < samples; sample++)
        {
            for (int c = 0; c < channels; c++)
            {
                int first = Math.Max(0, c - size / 2), last = Math.Min(channels - 1, c + (size - 1) / 2);
                for (int position = 0; position < run; position++)
                {
                    double sum = 0;
                    for (int j = first; j <= last; j++)
                    {
                        double neighbour = x[(sample * channels + j) * run + position];
                        sum += neighbour * neighbour;
                    }
                    int i = (sample * channels + c) * run + position;
                    y[i] = x[i] / Math.Pow(k + alpha / size * sum, beta);
                }
            }
        }
        return y;
    }

    /// <summary>The mean in two parts and 1 / sqrt(variance + eps). Compensated sums, so that it can judge double results too.</summary>
    private static (double Mean, double Low, double Rstd) Statistics(ReadOnlySpan<double> x, double eps)
    {
        double sum = 0, rest = 0;
        foreach (double value in x)
            Add(value, ref sum, ref rest);
        double mean = (sum + rest) / x.Length;
        // sum - mean * n is exact with a fused multiply-add, up to its last rounding.
        double low = (Math.FusedMultiplyAdd(-mean, x.Length, sum) + rest) / x.Length;

        double squares = 0, squaresRest = 0;
        foreach (double value in x)
        {
            double deviation = value - mean - low;
            Add(deviation * deviation, ref squares, ref squaresRest);
        }
        return (mean, low, 1 / Math.Sqrt((squares + squaresRest) / x.Length + eps));
    }

    private static void Add(double term, ref double sum, ref double rest)
    {
        double total = sum + term;
        rest += Math.Abs(sum) >= Math.Abs(term) ? (sum - total) + term : (term - total) + sum;
        sum = total;
    }
}
