using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>Groups whose part of a row is a run of memory: a channel of contiguous (N, C, S), one run of S elements a sample. Each run goes through the kernels of the rows.</summary>
internal static unsafe partial class ChannelNorm
{
    /// <summary>Neighbouring groups are read together up to so many bytes a row.</summary>
    private const nint RunStripBytes = 4096;

    /// <summary>Up to here a run is asked for while the one before it is summed.</summary>
    private const nint MostRunAheadBytes = 128 << 10;

    private static nint RunStrip<T>(in ChannelLayout layout, int threads) where T : unmanaged
        => Math.Max(1, Math.Min(layout.BlockGroups / threads, RunStripBytes / (layout.GroupColumns * sizeof(T)))) * layout.GroupColumns;

    /// <summary>How far ahead of a run's sums: to the next row's run, which lies far behind it, unless that would be long gone from the cache.</summary>
    private static nint RunAheadBytes<T>(in ChannelLayout layout) where T : unmanaged
        => layout.GroupColumns * sizeof(T) <= MostRunAheadBytes ? layout.Columns * sizeof(T) : Streaming.AheadBytes;

    private static void RunStatistics<T, TCompute>(ref Strip<T, TCompute> strip)
        where T : unmanaged
        where TCompute : unmanaged, IFloatingPointIeee754<TCompute>
    {
        ref readonly ChannelLayout layout = ref strip.Layout;
        nint groups = strip.Columns / layout.GroupColumns;
        int threads = Partition.Threads(layout.GroupColumns, strip.Work->Threads);
        if (typeof(T) != typeof(double) && layout.GroupColumns >= Moments.LeastFloatLength)
        {
            FloatRunStatistics(ref strip, threads);
            return;
        }
        using var memory = new RentedDoubles(groups * sizeof(RunMoments) / sizeof(double));
        memory.Span.Clear();
        fixed (double* pMemory = memory.Span)
        {
            var moments = (RunMoments*)pMemory;
            for (nint row = 0; row < layout.Rows; row++)
            {
                for (nint g = 0; g < groups; g++)
                    AddRun(in strip, row, g, threads, ref moments[g]);
            }
            for (nint g = 0; g < groups; g++)
                strip.Statistics[g] = StatisticsOf(in strip, g, moments[g].Mean, moments[g].Squares);
        }
    }

    private static void AddRun<T, TCompute>(ref readonly Strip<T, TCompute> strip, nint row, nint g, int threads, ref RunMoments moments)
        where T : unmanaged
        where TCompute : unmanaged, IFloatingPointIeee754<TCompute>
    {
        nint length = strip.Layout.GroupColumns;
        Moments run = Moments.Of(in strip.X[row * strip.Layout.Columns + g * length], length, threads);
        // A scaled run (doubles at the ends of the range): the whole group must be scaled alike.
        Moments.Merge(ref moments.Mean, ref moments.Squares, row * length, DoubleDouble.Sum(run.Mean, run.MeanLow), run.Scale == 1 ? run.Variance * length : double.NaN, length);
    }

    /// <summary>The same where float is good enough for each run, which is nearly always; a group with another run is summed again.</summary>
    private static void FloatRunStatistics<T, TCompute>(ref Strip<T, TCompute> strip, int threads)
        where T : unmanaged
        where TCompute : unmanaged, IFloatingPointIeee754<TCompute>
    {
        ref readonly ChannelLayout layout = ref strip.Layout;
        nint groups = strip.Columns / layout.GroupColumns, length = layout.GroupColumns, ahead = RunAheadBytes<T>(in layout);
        using var memory = new RentedDoubles(2 * groups);
        memory.Span.Clear();
        fixed (double* means = memory.Span)
        {
            double* squares = means + groups;
            for (nint row = 0; row < layout.Rows; row++)
            {
                for (nint g = 0; g < groups; g++)
                {
                    T* x = strip.X + row * layout.Columns + g * length;
                    bool exact = layout.Centered ? Moments.TryOfFloats<T, Moments.AboutMean>(x, length, threads, out double mean, out double variance, ahead) : Moments.TryOfFloats<T, Moments.AboutZero>(x, length, threads, out mean, out variance, ahead);
                    Moments.MergeFloats(ref means[g], ref squares[g], row * length, mean, exact ? variance * length : double.NaN, length);
                }
            }
            for (nint g = 0; g < groups; g++)
            {
                RunMoments moments = new() { Mean = means[g], Squares = squares[g] };
                for (nint row = 0; row < layout.Rows && double.IsNaN(squares[g]); row++)
                    AddRun(in strip, row, g, threads, ref moments);
                strip.Statistics[g] = StatisticsOf(in strip, g, moments.Mean, moments.Squares);
            }
        }
    }

    private struct RunMoments
    {
        internal DoubleDouble Mean;
        internal double Squares;
    }

    private static void ApplyRuns<T, TCompute>(void* state, nint start, nint end)
        where T : unmanaged
        where TCompute : unmanaged, IFloatingPointIeee754<TCompute>
    {
        ref readonly Strip<T, TCompute> strip = ref *(Strip<T, TCompute>*)state;
        nint length = strip.Layout.GroupColumns, groups = strip.Columns / length, parameter = strip.Column / length;
        for (nint i = start; i < end; i++)
        {
            nint row = strip.Reversed ? strip.Layout.Rows - 1 - i : i;
            for (nint g = 0; g < groups; g++)
            {
                T* x = strip.X + row * strip.Layout.Columns + g * length, y = strip.Y + row * strip.Layout.Columns + g * length;
                TCompute weight = strip.Work->WeightOf(parameter + g), bias = strip.Work->BiasOf(parameter + g);
                if (typeof(TCompute) == typeof(float))
                    ApplyRun(x, y, length, Unsafe.BitCast<TCompute, float>(weight), Unsafe.BitCast<TCompute, float>(bias), in strip.Statistics[g], strip.Stream);
                else
                    new GroupScale<TCompute>(in strip.Statistics[g]).ApplyScalar(in *(TCompute*)x, ref *(TCompute*)y, length, weight, bias, strip.Stream);
            }
        }
        Fence(in strip);
    }

    private static void ApplyRun<T>(T* x, T* y, nint length, float weight, float bias, in GroupStatistics group, Streaming stream) where T : unmanaged
    {
        var scale = new RowNorm.FloatScale(in group);
        if (double.IsNaN(scale.Rstd))
        {
            for (nint i = 0; i < length; i++)
                y[i] = InDouble<T>(in group, Elements.ToDouble(x[i]), weight, bias);
        }
        else if (scale.NeedsLo<T>())
            RowNorm.ApplyRun<T, T, RowNorm.MeanInTwo>(x, y, length, weight, bias, scale.Hi, (float)scale.Lo, (float)scale.Rstd, stream);
        else
            RowNorm.ApplyRun<T, T, RowNorm.MeanInOne>(x, y, length, weight, bias, scale.Hi, 0, (float)scale.Rstd, stream);
    }

    /// <summary>Neighbouring groups in runs, each run summed and written as RowNorm does.</summary>
    private static void BackwardRuns<T, TParameter>(void* state, nint start, nint end)
        where T : unmanaged
        where TParameter : unmanaged
    {
        ref readonly BackwardStrip<T, TParameter> strip = ref *(BackwardStrip<T, TParameter>*)state;
        ref readonly ChannelLayout layout = ref strip.Layout;
        if (typeof(T) != typeof(double) && layout.Length >= Moments.LeastFloatLength)
        {
            RunsInFloat(in *(BackwardStrip<T, float>*)state, start, end);
            return;
        }
        nint length = layout.GroupColumns;
        using var memory = new RentedDoubles(2 * (end - start));
        Span<double> sums = memory.Span[..(int)(end - start)], products = memory.Span[(int)(end - start)..];
        memory.Span.Clear();
        for (nint row = 0; row < layout.Rows; row++)
        {
            for (nint g = start; g < end; g++)
            {
                nint at = row * layout.Columns + g * length;
                (double sum, double product) = RowNorm.SumElements(in strip.Dy[at], in strip.X[at], length, in strip.Statistics[g], in Unsafe.NullRef<T>(), [], []);
                sums[(int)(g - start)] += sum;
                products[(int)(g - start)] += product;
            }
        }
        for (nint g = start; g < end; g++)
        {
            strip.Weights[g] += products[(int)(g - start)];
            strip.Biases[g] += sums[(int)(g - start)];
        }
        if (strip.Dx == null)
            return;
        for (nint row = 0; row < layout.Rows; row++)
        {
            for (nint g = start; g < end; g++)
            {
                nint at = row * layout.Columns + g * length;
                double weight = strip.Work->WeightOf(strip.Parameter(0, g * length));
                double mean = layout.Centered ? sums[(int)(g - start)] * weight / layout.Length : 0, meanProduct = layout.Scaled ? products[(int)(g - start)] * weight / layout.Length : 0;
                if (layout.Scaled)
                    RowNorm.WriteElements(in strip.Dy[at], in strip.X[at], ref strip.Dx[at], length, in strip.Statistics[g], mean, meanProduct, in Unsafe.NullRef<T>(), weight);
                else
                    WriteScaled(strip.Dy + at, strip.Dx + at, length, weight, strip.Statistics[g].Rstd);
            }
        }
    }

    /// <summary>dx = dy · weight · rstd, where the statistics are given: x has no part in it.</summary>
    private static void WriteScaled<T>(T* dy, T* dx, nint length, double weight, double rstd) where T : unmanaged
    {
        Vector512<double> weights = Vector512.Create(weight), rstds = Vector512.Create(rstd);
        nint i = 0;
        for (; i <= length - Elements.Step; i += Elements.Step)
        {
            (Vector512<double> g0, Vector512<double> g1) = Elements.Widen(in *dy, i);
            Elements.Narrow(g0 * weights * rstds, g1 * weights * rstds, ref *dx, i);
        }
        for (; i < length; i++)
            dx[i] = Elements.FromDouble<T>(Elements.ToDouble(dy[i]) * weight * rstd);
    }

    private struct RunGradient
    {
        internal RowNorm.FloatSums Sums;
        internal double Mean, Product;
        internal bool InFloat;
    }

    private static void RunsInFloat<T>(ref readonly BackwardStrip<T, float> strip, nint start, nint end) where T : unmanaged
    {
        ref readonly ChannelLayout layout = ref strip.Layout;
        nint length = layout.GroupColumns, count = end - start, ahead = RunAheadBytes<T>(in layout);
        Streaming stream = strip.Work->Stream;
        // What does not stay in the cache is written from the end on, which was read last.
        bool reversed = layout.Rows * length * sizeof(T) > ChannelLayout.CacheBytes;
        // Where the statistics are given, nothing has to wait for the sums.
        bool fused = !layout.Scaled && strip.Dx != null && strip.Dx != strip.Dy;
        stream = stream.WithAhead(reversed ? -layout.Columns : count * length);
        using var memory = new RentedDoubles(count * ((sizeof(RunGradient) + sizeof(double) - 1) / sizeof(double)));
        memory.Span.Clear();
        fixed (double* first = memory.Span)
        {
            var groups = (RunGradient*)first;
            RowNorm.FloatSums run = default;
            for (nint row = 0; row < layout.Rows; row++)
            {
                for (nint g = 0; g < count; g++)
                {
                    nint at = row * layout.Columns + (start + g) * length;
                    RowNorm.Sum(strip.Dy + at, strip.X + at, null, length, in strip.Statistics[start + g], ref run, ahead: ahead);
                    groups[g].Sums.AddScaled(in run, 1);
                    if (fused)
                        WriteRun(in strip, row, start + g, in groups[g], stream.WithAhead(0));
                }
            }
            for (nint g = 0; g < count; g++)
                SetMeans(in strip, start + g, ref groups[g]);
            for (nint i = 0; i < layout.Rows && strip.Dx != null && !fused; i++)
            {
                for (nint g = 0; g < count; g++)
                    WriteRun(in strip, reversed ? layout.Rows - 1 - i : i, start + g, in groups[g], stream);
            }
        }
        if (stream.Wanted)
            Streaming.Fence();
    }

    /// <summary>From a group's sums the gradients of its parameters, and what is taken off its gradient; from sums in double if those in float were not good enough.</summary>
    private static void SetMeans<T>(ref readonly BackwardStrip<T, float> strip, nint g, ref RunGradient group) where T : unmanaged
    {
        ref readonly ChannelLayout layout = ref strip.Layout;
        ref readonly GroupStatistics statistics = ref strip.Statistics[g];
        double weight = strip.Work->WeightOf(strip.Parameter(0, g * layout.GroupColumns)), sum = group.Sums.Sum, product = group.Sums.Product * statistics.ScaledRstd;
        RowNorm.FloatSums scaled = default;
        scaled.AddScaled(in group.Sums, weight);
        group.InFloat = AreExact(in group.Sums, in statistics, layout.Length) && (AreExact(in scaled, statistics.ScaledRstd, in layout, out group.Mean, out group.Product)
            || RowNorm.FloatSums.AreExactInFloat(MeanSquare(in strip, g) * weight * weight, group.Mean, group.Product));
        if (!group.InFloat)
        {
            (sum, product) = (0, 0);
            for (nint row = 0; row < layout.Rows; row++)
            {
                nint at = row * layout.Columns + g * layout.GroupColumns;
                (double runSum, double runProduct) = RowNorm.SumElements(in strip.Dy[at], in strip.X[at], layout.GroupColumns, in statistics, in Unsafe.NullRef<T>(), [], []);
                sum += runSum;
                product += runProduct;
            }
            group.Mean = layout.Centered ? sum * weight / layout.Length : 0;
            group.Product = layout.Scaled ? product * weight / layout.Length : 0;
        }
        strip.Weights[g] += product;
        strip.Biases[g] += sum;
    }

    /// <summary>E[dy²] of a group: where what is known of a quarter of its elements does not tell.</summary>
    private static double MeanSquare<T>(ref readonly BackwardStrip<T, float> strip, nint g) where T : unmanaged
    {
        double sum = 0;
        for (nint row = 0; row < strip.Layout.Rows; row++)
            sum += RowNorm.SumOfSquares(strip.Dy + row * strip.Layout.Columns + g * strip.Layout.GroupColumns, null, strip.Layout.GroupColumns);
        return sum / strip.Layout.Length;
    }

    private static void WriteRun<T>(ref readonly BackwardStrip<T, float> strip, nint row, nint g, ref readonly RunGradient group, Streaming stream) where T : unmanaged
    {
        ref readonly ChannelLayout layout = ref strip.Layout;
        ref readonly GroupStatistics statistics = ref strip.Statistics[g];
        nint length = layout.GroupColumns, at = row * layout.Columns + g * length;
        T* dy = strip.Dy + at, x = strip.X + at, dx = strip.Dx + at;
        double weight = strip.Work->WeightOf(strip.Parameter(0, g * length));
        if (!layout.Scaled)
        {
            WriteScaled(dy, dx, length, weight, statistics.Rstd, stream);
            return;
        }
        if (!group.InFloat)
        {
            RowNorm.WriteElements(in *dy, in *x, ref *dx, length, in statistics, group.Mean, group.Product, in Unsafe.NullRef<T>(), weight);
            return;
        }
        RowNorm.FloatGroup part = default;
        part.Set<T>(in statistics, group.Mean, group.Product, ofTerms: false);
        nint head = stream.Wanted ? Streaming.Head(ref *dx, length) : 0;
        if (head > 0)
        {
            // The elements in front of the first whole line, with some behind it that come out again.
            RowNorm.WriteRun<T, T, RowNorm.MeanInTwo>(dy, x, dx, Elements.Step, (float)weight, in part, default);
            dy += head;
            x += head;
            dx += head;
            length -= head;
        }
        if (part.Lo != 0)
            RowNorm.WriteRun<T, T, RowNorm.MeanInTwo>(dy, x, dx, length, (float)weight, in part, stream);
        else
            RowNorm.WriteRun<T, T, RowNorm.MeanInOne>(dy, x, dx, length, (float)weight, in part, stream);
    }

    /// <summary>As in double, with one factor, if that is well inside float's range.</summary>
    private static void WriteScaled<T>(T* dy, T* dx, nint length, double weight, double rstd, Streaming stream) where T : unmanaged
    {
        if (!IsGivenInFloat(weight * rstd))
        {
            WriteScaled(dy, dx, length, weight, rstd);
            return;
        }
        float factor = (float)(weight * rstd);
        Vector512<float> factors = Vector512.Create(factor);
        nint i = 0, head = stream.Wanted ? Streaming.Head(ref *dx, length) : 0;
        for (; i < head; i++)
            dx[i] = Elements.FromDouble<T>((float)Elements.ToDouble(dy[i]) * factor);
        for (; i <= length - Vector512<float>.Count; i += Vector512<float>.Count)
            stream.StoreFloats(Elements.LoadFloats(dy, i) * factors, dx, i);
        for (; i < length; i++)
            dx[i] = Elements.FromDouble<T>((float)Elements.ToDouble(dy[i]) * factor);
    }
}
