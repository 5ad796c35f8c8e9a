using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>Groups of fewer than 64 floats, sixteen at once.</summary>
/// <remarks>
/// <para>
/// Order: element i of a group goes to lane i mod 8 of a vector of doubles, which is folded by halves. Nothing depends on which groups are at hand together.
/// </para>
/// <para>
/// Error: the sums are of d = x - x[0] and d² in double, and n · E[d]² is taken off. Since x[0] is itself one of the n values, that costs at most
/// six bits of 53.
/// </para>
/// </remarks>
internal static unsafe partial class RowNorm
{
    private const int Lanes = 16, TileLength = (Moments.LeastFloatLength - 1) * Lanes;

    [SkipLocalsInit]
    private static void ForwardShort<T>(in ForwardWork<T, float> work, nint start, nint end) where T : unmanaged
    {
        int length = (int)work.Layout.Length;
        // What a vector stores beyond its row is overwritten by the next one.
        float* tile = stackalloc float[TileLength], rows = stackalloc float[TileLength], his = stackalloc float[TileLength + Lanes], los = stackalloc float[TileLength + Lanes], rstds = stackalloc float[TileLength + Lanes];
        float* weights = stackalloc float[TileLength + Lanes], biases = stackalloc float[TileLength + Lanes];
        double* moments = stackalloc double[4 * Lanes];
        var parts = new ShortParts { His = his, Los = los, Rstds = rstds, Weights = work.Weight == null ? null : weights, Biases = work.Bias == null ? null : biases, Activated = work.Activated };
        // With one period every group has the same parameters.
        bool same = work.Layout.Period == 1;
        for (nint g = start; g < end; g += Lanes)
        {
            int lanes = (int)Math.Min(Lanes, end - g);
            T* x = work.X + g * length, y = work.Y + g * length;
            if (g == start || !same)
            {
                SpreadParameters(work.Weight, in work.Layout, g, same ? Lanes : lanes, weights);
                SpreadParameters(work.Bias, in work.Layout, g, same ? Lanes : lanes, biases);
            }
            if (work.Layout.Statistic == RowStatistic.Given)
            {
                for (int lane = 0; lane < Lanes; lane++)
                {
                    ref readonly GroupStatistics group = ref work.Statistics[g + Math.Min(lane, lanes - 1)];
                    (moments[lane], moments[Lanes + lane], moments[3 * Lanes + lane]) = (group.ScaledMean, group.ScaledMeanLow, group.ScaledRstd);
                }
            }
            else
            {
                LaneMoments(FloatsOf(x, lanes * length, work.Layout.Groups * length - g * length, tile), length, lanes, work.Layout.Centered, work.Eps, moments);
                for (int lane = 0; lane < lanes && work.Statistics != null; lane++)
                    work.Statistics[g + lane] = LaneStatistics(in work, moments, lane);
            }
            Spread(moments, length, ref parts);
            // The output may be the input.
            uint extraordinary = 0;
            for (int lane = 0; lane < lanes; lane++)
            {
                if (Elements.IsOrdinary<float>(moments[3 * Lanes + lane]))
                    continue;
                extraordinary |= 1u << lane;
                ApplyInDouble(work.Layout.Statistic == RowStatistic.Given ? work.Statistics[g + lane] : LaneStatistics(in work, moments, lane), x + lane * length, in work, g + lane, rows + lane * length);
            }
            ApplyShort(x, y, lanes * length, in parts);
            for (int lane = 0; extraordinary != 0; lane++, extraordinary >>= 1)
            {
                for (int i = lane * length; (extraordinary & 1) != 0 && i < (lane + 1) * length; i++)
                    y[i] = Elements.FromDouble<T>(rows[i]);
            }
        }
    }

    /// <summary>What each element of the groups at hand is normalized with, at the element's place.</summary>
    private struct ShortParts
    {
        internal float* His, Los, Rstds, Weights, Biases;
        internal bool NeedsLo, Activated;
    }

    /// <summary>Normalizes elements by the formula of RowNorm.Float.cs. Groups whose 1/deviation is too small or too large for float have to be overwritten.</summary>
    private static void ApplyShort<T>(T* x, T* y, int count, in ShortParts parts) where T : unmanaged
    {
        int i = 0;
        for (; i <= count - Lanes; i += Lanes)
            Elements.StoreFloats(Of(Elements.LoadFloats(x, i), i, in parts), y, i);
        if (i == count)
            return;
        T* few = stackalloc T[Lanes];
        new Span<T>(x + i, count - i).CopyTo(new Span<T>(few, Lanes));
        Elements.StoreFloats(Of(Elements.LoadFloats(few, 0), i, in parts), few, 0);
        new Span<T>(few, count - i).CopyTo(new Span<T>(y + i, count - i));

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static Vector512<float> Of(Vector512<float> x, int i, in ShortParts parts)
        {
            Vector512<float> v = x - Vector512.Load(parts.His + i);
            if (parts.NeedsLo)
                v -= Vector512.Load(parts.Los + i);
            v *= Vector512.Load(parts.Rstds + i);
            if (parts.Weights != null)
                v *= Vector512.Load(parts.Weights + i);
            if (parts.Biases != null)
                v += Vector512.Load(parts.Biases + i);
            return parts.Activated ? VectorMath.SiLU(v) : v;
        }
    }

    /// <summary>Mean and 1/deviation of sixteen groups to the places of their elements.</summary>
    private static void Spread(double* moments, int length, ref ShortParts parts)
    {
        Vector512<double> rstd0 = Vector512.Load(moments + 3 * Lanes), rstd1 = Vector512.Load(moments + 3 * Lanes + 8), mean0 = Vector512.Load(moments), mean1 = Vector512.Load(moments + 8);
        Vector512<float> hi = Vector512.Narrow(mean0, mean1), rstd = Vector512.Narrow(rstd0, rstd1);
        (Vector512<double> hi0, Vector512<double> hi1) = Vector512.Widen(hi);
        Vector512<float> lo = Vector512.Narrow(LowOf((mean0 - hi0) + Vector512.Load(moments + Lanes), rstd0), LowOf((mean1 - hi1) + Vector512.Load(moments + Lanes + 8), rstd1));
        // Taking off zero changes nothing.
        parts.NeedsLo = !Vector512.EqualsAll(lo, Vector512<float>.Zero);
        Spread(hi, length, parts.His);
        Spread(rstd, length, parts.Rstds);
        if (parts.NeedsLo)
            Spread(lo, length, parts.Los);

        static Vector512<double> LowOf(Vector512<double> low, Vector512<double> rstd)
            => Vector512.ConditionalSelect(Vector512.GreaterThan(Vector512.Abs(low) * rstd, Vector512.Create(LeastLow)), low, Vector512<double>.Zero);

        static void Spread(Vector512<float> values, int length, float* destination)
        {
            float* lanes = (float*)&values;
            for (int lane = 0; lane < Lanes; lane++, destination += length)
                Fill(lanes[lane], length, destination);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Fill(float value, int length, float* destination)
    {
        Vector512<float> v = Vector512.Create(value);
        for (int i = 0; i < length; i += Lanes)
            v.Store(destination + i);
    }

    /// <summary>The parameters of some groups to the places of their elements.</summary>
    private static void SpreadParameters(float* parameters, in RowLayout layout, nint group, int lanes, float* destination)
    {
        int count = (int)layout.GroupParameters, run = (int)layout.Run;
        for (int lane = 0; lane < lanes && parameters != null; lane++)
        {
            float* first = parameters + layout.FirstParameter(layout.Period == 1 ? group : group + lane);
            if (run == 1)
                new Span<float>(first, count).CopyTo(new Span<float>(destination, count));
            for (int p = 0; p < count && run > 1; p++)
                Fill(first[p], run, destination + p * run);
            destination += count * run;
        }
    }

    /// <summary>A group at the ends of float's range, or with NaN.</summary>
    private static void ApplyInDouble<T>(in GroupStatistics group, T* x, in ForwardWork<T, float> work, nint g, float* y) where T : unmanaged
    {
        int length = (int)work.Layout.Length;
        var apply = new FloatApply<T, float>(in work) { Exact = group };
        apply.MoveTo(in work, g);
        apply.X = x;
        apply.Y = y;
        apply.Scale.Set(in group);
        Apply(in apply, 0, length);
        if (work.Activated)
            SiLU(y, y, length, default);
    }

    private static GroupStatistics LaneStatistics<T>(in ForwardWork<T, float> work, double* moments, int lane) where T : unmanaged
        => new(new Moments(moments[lane], moments[Lanes + lane], moments[2 * Lanes + lane]), work.Eps, zeroDeviation: work.Layout.Statistic == RowStatistic.MeanAndVarianceOrZero);

    /// <summary>Elements as floats, behind which a vector may be loaded: where they are, or a copy.</summary>
    private static float* FloatsOf<T>(T* x, int count, nint left, float* copy) where T : unmanaged
    {
        if (typeof(T) != typeof(float))
            SixteenBits.Widen(x, copy, count);
        else if (left < count + Lanes)
            new Span<float>(x, count).CopyTo(new Span<float>(copy, count));
        else
            return (float*)x;
        return copy;
    }

    /// <summary>Mean, its low part, variance and 1/deviation of every group.</summary>
    private static void LaneMoments(float* x, int length, int lanes, bool centered, double eps, double* moments)
    {
        double* sums = stackalloc double[2 * Lanes], squares = sums + Lanes;
        Vector512<double> counted = Vector512.LessThan(Vector512<double>.Indices, Vector512.Create((double)(length & 7)));
        for (int lane = 0; lane < lanes; lane++, x += length)
        {
            // Not by a scalar conversion: its register would have to wait for the sums of the lane before.
            Vector512<double> from = centered ? Vector512.Create(Elements.LoadDoubles(x).ToScalar()) : default, sum = default, square = default;
            int i = 0;
            for (; i <= length - 8; i += 8)
            {
                Vector512<double> d = Elements.LoadDoubles(x + i) - from;
                sum += d;
                square += d * d;
            }
            if (i < length)
            {
                Vector512<double> d = (Elements.LoadDoubles(x + i) - from) & counted;
                sum += d;
                square += d * d;
            }
            moments[lane] = from.ToScalar();
            sums[lane] = Moments.Fold(sum);
            squares[lane] = Moments.Fold(square);
        }
        for (int half = 0; half < lanes; half += 8)
            StoreMoments(Vector512.Load(sums + half), Vector512.Load(squares + half), Vector512.Load(moments + half), length, centered, eps, moments + half);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreMoments(Vector512<double> sum, Vector512<double> squares, Vector512<double> from, int length, bool centered, double eps, double* moments)
    {
        // Divisions are what most of the time would go into.
        Vector512<double> share = Vector512.Create(1.0 / length), deviation = sum * share, mean = default, low = default;
        if (centered)
        {
            mean = from + deviation;
            Vector512<double> part = mean - from;
            low = (from - (mean - part)) + (deviation - part);
            squares -= sum * deviation;
        }
        Vector512<double> variance = squares * share;
        mean.Store(moments);
        low.Store(moments + Lanes);
        variance.Store(moments + 2 * Lanes);
        (Vector512<double>.One / Vector512.Sqrt(variance + Vector512.Create(eps))).Store(moments + 3 * Lanes);
    }
}
