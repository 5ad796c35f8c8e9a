namespace NormLayers.Benchmarks;

/// <summary>A tensor of samples, channels and positions, and the window over the channels.</summary>
internal sealed record WindowGeometry(nint Samples, nint Channels, nint Run, int Size, double Alpha, double Beta, double K);

/// <summary>LocalResponseNorm from its formula: plain loops in double, samples shared among the processors.</summary>
internal static unsafe class WindowReference
{
    public static Deviation Forward(WindowOperation operation, BufferSet set)
        => Over(operation.Geometry, "y", 2, (geometry, sample, worst) =>
        {
            nint start = sample * geometry.Channels * geometry.Run;
            double[] denominators = Denominators(geometry, set.X + start);
            for (nint i = 0; i < denominators.Length; i++)
            {
                double expected = set.X[start + i] / Math.Pow(denominators[i], geometry.Beta);
                worst = worst.With(start + i, set.Y[start + i], expected, Math.Abs(expected));
            }
            return worst;
        });

    /// <summary>At the largest magnitude of a sample's gradients.</summary>
    public static Deviation Backward(WindowOperation operation, BufferSet set)
        => Over(operation.Geometry, "dx", 8, (geometry, sample, worst) =>
        {
            nint start = sample * geometry.Channels * geometry.Run;
            float* x = set.X + start, dy = set.GradOutput + start;
            double[] denominators = Denominators(geometry, x);
            double[] powers = [.. denominators.Select(d => Math.Pow(d, -geometry.Beta))];
            var terms = new double[powers.Length];
            for (nint i = 0; i < terms.Length; i++)
                terms[i] = dy[i] * (double)x[i] * powers[i] / denominators[i];

            // The channels whose window holds this one: the window's mirror image.
            double[] sums = WindowSums(geometry, terms, (geometry.Size - 1) / 2, geometry.Size / 2);
            double factor = 2 * geometry.Alpha * geometry.Beta / geometry.Size, largest = 0;
            for (nint i = 0; i < sums.Length; i++)
            {
                sums[i] = dy[i] * powers[i] - factor * x[i] * sums[i];
                largest = Math.Max(largest, Math.Abs(sums[i]));
            }
            for (nint i = 0; i < sums.Length; i++)
                worst = worst.With(start + i, set.GradInput[start + i], sums[i], largest);
            return worst;
        });

    private static double[] Denominators(WindowGeometry geometry, float* x)
    {
        var squares = new double[geometry.Channels * geometry.Run];
        for (nint i = 0; i < squares.Length; i++)
            squares[i] = x[i] * (double)x[i];
        double[] sums = WindowSums(geometry, squares, geometry.Size / 2, (geometry.Size - 1) / 2);
        for (nint i = 0; i < sums.Length; i++)
            sums[i] = geometry.K + geometry.Alpha / geometry.Size * sums[i];
        return sums;
    }

    private static double[] WindowSums(WindowGeometry geometry, double[] values, int below, int above)
    {
        var sums = new double[values.Length];
        for (nint channel = 0; channel < geometry.Channels; channel++)
        {
            nint last = Math.Min(geometry.Channels - 1, channel + above);
            for (nint neighbour = Math.Max(0, channel - below); neighbour <= last; neighbour++)
            {
                for (nint r = 0; r < geometry.Run; r++)
                    sums[channel * geometry.Run + r] += values[neighbour * geometry.Run + r];
            }
        }
        return sums;
    }

    private static Deviation Over(WindowGeometry geometry, string result, double allowed, Func<WindowGeometry, nint, Deviation, Deviation> sample)
    {
        Deviation worst = Deviation.None(result, allowed);
        var gate = new Lock();
        Parts.Run(geometry.Samples, (first, end) =>
        {
            Deviation own = worst;
            for (nint i = first; i < end; i++)
                own = sample(geometry, i, own);
            lock (gate)
                worst = Deviation.Worst(worst, own);
        });
        return worst;
    }
}
