using System.Numerics;
using NormLayers.Tests.Golden;
using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests.Gradients;

/// <summary>A gradient from its formula with the sum of the magnitudes of the terms that make it, at which its error is measured.</summary>
internal readonly record struct Exact(double Value, double Magnitude);

/// <summary>The backward passes from their formulas: plain loops in double over row-major arrays.</summary>
internal static class GradientReference
{
    public static (Exact[] Input, Exact[] Weight, Exact[] Bias) Backward<T>(NormCase norm, Operands<T> operands, T[] gradOutput) where T : INumberBase<T>
    {
        double[] x = GradientRun.Widen(operands.X), dy = GradientRun.Widen(gradOutput);
        return norm.IsWindow ? (Window(norm, x, dy), [], []) : Rows(norm, x, dy, operands.Weight is { } weight ? GradientRun.Widen(weight) : null);
    }

    /// <summary>Throws unless a result is the exact value up to the error of the sums in double, and for float of the eight roundings of element-wise work.</summary>
    public static void AssertNear<T>(Exact[] expected, T[] actual, string context) where T : INumberBase<T>
    {
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++)
        {
            double value = double.CreateTruncating(actual[i]);
            double terms = typeof(T) == typeof(float) ? 3 * Ulp.Of<T>(expected[i].Magnitude) : 64 * Ulp.Of<double>(expected[i].Magnitude);
            double allowed = 0.51 * Ulp.Of<T>(expected[i].Value) + terms;
            if (!(Math.Abs(value - expected[i].Value) <= allowed))
                Assert.Fail($"{context}: element {i} is {value:R}, expected {expected[i].Value:R} within {allowed:G3}");
        }
    }

    private static (Exact[] Input, Exact[] Weight, Exact[] Bias) Rows(NormCase norm, double[] x, double[] dy, double[]? weight)
    {
        var dx = new Exact[x.Length];
        var dWeight = new Exact[norm.Parameters()];
        var dBias = new Exact[norm.Parameters()];
        int groups = norm.Groups(), length = groups == 0 ? 0 : x.Length / groups;
        for (int start = 0; start < groups * length; start += length)
        {
            double mean = 0, low = 0, variance = 0;
            for (int i = start; i < start + length; i++)
                mean += (x[i] - x[start]) / length;
            mean += x[start];
            // What the rounding of the mean left shows in the values close to it.
            for (int i = start; i < start + length; i++)
                low += (x[i] - mean) / length;
            for (int i = start; i < start + length; i++)
                variance += (x[i] - mean - low) * (x[i] - mean - low) / length;
            if (norm.Name == "RMSNorm")
            {
                (mean, low, variance) = (0, 0, 0);
                for (int i = start; i < start + length; i++)
                    variance += x[i] * x[i] / length;
            }
            double rstd = 1 / Math.Sqrt(variance + norm.Eps);

            double meanG = 0, meanProduct = 0, sizeG = 0, sizeProduct = 0;
            for (int i = start; i < start + length; i++)
            {
                int p = norm.ParameterOf(i);
                double n = (x[i] - mean - low) * rstd, g = dy[i] * (weight?[p] ?? 1);
                meanG += norm.Name == "RMSNorm" ? 0 : g / length;
                meanProduct += g * n / length;
                sizeG += Math.Abs(g) / length;
                sizeProduct += Math.Abs(g * n) / length;
                // A value close to the mean has the rounding of larger deviations in it.
                dWeight[p] = new Exact(dWeight[p].Value + dy[i] * n, dWeight[p].Magnitude + Math.Abs(dy[i]) * Math.Max(Math.Abs(n), 0.125));
                dBias[p] = new Exact(dBias[p].Value + dy[i], dBias[p].Magnitude + Math.Abs(dy[i]));
            }
            for (int i = start; i < start + length; i++)
            {
                double n = (x[i] - mean - low) * rstd, g = dy[i] * (weight?[norm.ParameterOf(i)] ?? 1);
                dx[i] = new Exact(rstd * (g - meanG - n * meanProduct), rstd * (Math.Abs(g) + sizeG + Math.Abs(n) * sizeProduct));
            }
        }
        return (dx, dWeight, dBias);
    }

    private static Exact[] Window(NormCase norm, double[] x, double[] dy)
    {
        int channels = (int)norm.Shape[1], run = (int)NormCase.Product(norm.Shape.AsSpan(2)), size = norm.Number;
        var dx = new Exact[x.Length];
        for (int c = 0; c < x.Length; c++)
        {
            // Output c sees the channels of its window: its derivative goes to each of them.
            int channel = c / run % channels, column = c - channel * run;
            int first = Math.Max(0, channel - size / 2), last = Math.Min(channels - 1, channel + (size - 1) / 2);
            double sum = 0;
            for (int j = first; j <= last; j++)
                sum += x[column + j * run] * x[column + j * run];
            double d = norm.K + norm.Alpha / size * sum, power = Math.Pow(d, -norm.Beta);
            Add(c, dy[c] * power);
            for (int j = first; j <= last; j++)
                Add(column + j * run, -2 * norm.Alpha * norm.Beta / size * x[column + j * run] * dy[c] * x[c] * power / d);
        }
        return dx;

        void Add(int i, double term) => dx[i] = new Exact(dx[i].Value + term, dx[i].Magnitude + Math.Abs(term));
    }
}
