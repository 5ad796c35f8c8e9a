namespace NormLayers.Benchmarks;

/// <summary>LocalResponseNorm from its formula: plain loops in double, samples shared among the processors.</summary>
internal static unsafe class WindowReference<T> where T : unmanaged
{
    public static Deviation Forward(WindowGeometry geometry, OperandSet<T> set)
    {
        var bound = new Bound(2, Precision.Of<T>());
        return Over(geometry, "y", (start, worst) =>
        {
            T* x = set.Reads[0].Address + start, y = set.Writes[0].Address + start;
            double[] denominators = Denominators(geometry, x);
            for (nint i = 0; i < denominators.Length; i++)
            {
                double expected = Element.ToDouble(x[i]) / Math.Pow(denominators[i], geometry.Beta), actual = Element.ToDouble(y[i]);
                worst = worst.With(start + i, actual, expected, bound.Share(actual, expected, expected));
            }
            return worst;
        });
    }

    /// <summary>At the largest magnitude of a sample's gradients.</summary>
    public static Deviation Backward(WindowGeometry geometry, OperandSet<T> set)
    {
        var bound = new Bound(8, Precision.Of<T>());
        return Over(geometry, "dx", (start, worst) =>
        {
            T* x = set.Reads[0].Address + start, dy = set.Reads[1].Address + start, dx = set.Writes[0].Address + start;
            double[] denominators = Denominators(geometry, x);
            double[] powers = [.. denominators.Select(d => Math.Pow(d, -geometry.Beta))];
            var terms = new double[powers.Length];
            for (nint i = 0; i < terms.Length; i++)
                terms[i] = Element.ToDouble(dy[i]) * Element.ToDouble(x[i]) * powers[i] / denominators[i];

            // The channels whose window holds this one: the window's mirror image.
            double[] sums = WindowSums(geometry, terms, (geometry.Size - 1) / 2, geometry.Size / 2);
            double factor = 2 * geometry.Alpha * geometry.Beta / geometry.Size, largest = 0;
            for (nint i = 0; i < sums.Length; i++)
            {
                sums[i] = Element.ToDouble(dy[i]) * powers[i] - factor * Element.ToDouble(x[i]) * sums[i];
                largest = Math.Max(largest, Math.Abs(sums[i]));
            }
            for (nint i = 0; i < sums.Length; i++)
            {
                double actual = Element.ToDouble(dx[i]);
                worst = worst.With(start + i, actual, sums[i], bound.Share(actual, sums[i], largest));
            }
            return worst;
        });
    }

    private static double[] Denominators(WindowGeometry geometry, T* x)
    {
        var squares = new double[geometry.Channels * geometry.Run];
        for (nint i = 0; i < squares.Length; i++)
            squares[i] = Element.ToDouble(x[i]) * Element.ToDouble(x[i]);
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

    /// <summary>The worst element of all samples, each of which is given by its first element's index.</summary>
    private static Deviation Over(WindowGeometry geometry, string result, Func<nint, Deviation, Deviation> sample)
    {
        Deviation worst = Deviation.None(result);
        var gate = new Lock();
        Parts.Run(geometry.Samples, (first, end) =>
        {
            Deviation own = worst;
            for (nint i = first; i < end; i++)
                own = sample(i * geometry.Channels * geometry.Run, own);
            lock (gate)
                worst = Deviation.Worst(worst, own);
        });
        return worst;
    }
}
