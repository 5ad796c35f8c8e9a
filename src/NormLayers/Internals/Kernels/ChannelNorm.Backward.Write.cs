using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>The element-wise half of the columns' backward in float, four rows at a time, cut into vectors as the forward is.</summary>
internal static unsafe partial class ChannelNorm
{
    /// <summary>The gradient of the input where its statistics are given and some factors are at the ends of the range.</summary>
    private static void WriteGiven<T>(ref readonly BackwardStrip<T, float> strip) where T : unmanaged
    {
        ref readonly ChannelLayout layout = ref strip.Layout;
        for (nint row = 0; row < layout.Rows; row++)
        {
            for (nint j = 0; j < strip.Columns; j++)
                WriteScaled(strip.Dy + row * layout.Columns + j, strip.Dx + row * layout.Columns + j, 1, strip.Work->WeightOf(strip.Parameter(0, j)), strip.Statistics[j / layout.GroupColumns].Rstd, default);
        }
    }

    /// <summary>Makes ready for the gradient of the input, all columns in float.</summary>
    private static void BeginWriting<T>(ref BackwardStrip<T, float> strip) where T : unmanaged
    {
        ref readonly ChannelLayout layout = ref strip.Layout;
        FillLanes(in strip);
        strip.RowStride = layout.Columns;
        strip.RowCount = layout.Rows;
        if (strip.Lanes.Joined)
        {
            nint first = strip.Lanes.Before;
            strip.RowStride = strip.Lanes.Length;
            strip.RowCount = (layout.Rows * layout.Columns - first) / strip.RowStride;
            WriteScalars(in strip, 0, first);
            WriteScalars(in strip, first + strip.RowCount * strip.RowStride, layout.Rows * layout.Columns);
        }
        strip.ChunkRows = Math.Max(4, ChunkLength / strip.Lanes.Length & ~3);
        strip.Stream = strip.Stream.WithAhead(strip.Reversed ? -strip.ChunkRows * strip.RowStride : strip.Columns);
    }

    private static void FillLanes<T>(ref readonly BackwardStrip<T, float> strip) where T : unmanaged
    {
        Expand(strip.Scale.Hi, strip.LaneScale.Hi, in strip.Lanes);
        Expand(strip.Scale.Product, strip.LaneScale.Product, in strip.Lanes);
        Expand(strip.Scale.Mean, strip.LaneScale.Mean, in strip.Lanes);
        Expand(strip.Scale.Rstd, strip.LaneScale.Rstd, in strip.Lanes);
        Expand(strip.Scale.Weight, strip.LaneScale.Weight, in strip.Lanes);
    }

    /// <summary>From one value a column to one a lane.</summary>
    private static void Expand<TCompute>(TCompute* columns, TCompute* lanes, in Lanes order) where TCompute : unmanaged
    {
        for (nint vector = 0; vector < order.Count; vector += order.Step)
        {
            nint column = order.ColumnOf(vector);
            if (column + order.Step <= order.Columns)
            {
                if (order.Step == Vector512<TCompute>.Count)
                {
                    Vector512.Load(columns + column).Store(lanes + vector);
                    continue;
                }
                (Vector512<float> even, Vector512<float> odd) = Elements.LoadInPairsOf<Half>((float*)columns + column);
                even.Store((float*)lanes + vector);
                odd.Store((float*)lanes + vector + Elements.Step);
                continue;
            }
            for (nint lane = vector; lane < vector + order.Step; lane++)
                lanes[lane] = columns[order.ColumnOf(lane)];
        }
    }

    private static void WriteScalars<T>(ref readonly BackwardStrip<T, float> strip, nint start, nint end) where T : unmanaged
    {
        for (nint i = start; i < end; i++)
            WriteScalar(strip.Dy + i, strip.X + i, strip.Dx + i, i % strip.Columns, in strip.Scale, strip.Scale.Weight[i % strip.Columns], strip.Layout.Scaled);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteScalar<T>(T* dy, T* x, T* dx, nint column, in GradientScale scale, float weight, bool scaled) where T : unmanaged
    {
        float g = (float)Elements.ToDouble(*dy) * weight;
        *dx = Elements.FromDouble<T>(scaled ? (g - scale.Mean[column] - ((float)Elements.ToDouble(*x) - scale.Hi[column]) * scale.Product[column]) * scale.Rstd[column] : g);
    }

    private static void WriteChunks<T>(void* state, nint start, nint end) where T : unmanaged
    {
        ref readonly BackwardStrip<T, float> strip = ref *(BackwardStrip<T, float>*)state;
        nint chunks = (strip.RowCount + strip.ChunkRows - 1) / strip.ChunkRows;
        for (nint i = start; i < end; i++)
        {
            nint row = (strip.Reversed ? chunks - 1 - i : i) * strip.ChunkRows, rows = Math.Min(strip.ChunkRows, strip.RowCount - row);
            WriteRows(in strip, row, rows);
        }
        if (strip.Stream.Wanted)
            Streaming.Fence();
    }

    private static void WriteRows<T>(ref readonly BackwardStrip<T, float> strip, nint first, nint rows) where T : unmanaged
    {
        if (!strip.Layout.Scaled)
            WriteRows<T, OfColumn, GivenGradient>(in strip, first, rows);
        else if (strip.Layout.Axis == ParameterAxis.Row)
            WriteRows<T, OfRow, FullGradient>(in strip, first, rows);
        else
            WriteRows<T, OfColumn, FullGradient>(in strip, first, rows);
    }

    private static void WriteRows<T, TAxis, TGradient>(ref readonly BackwardStrip<T, float> strip, nint first, nint rows)
        where T : unmanaged
        where TAxis : struct, IAxis
        where TGradient : struct, IGradient
    {
        nint stride = strip.RowStride, length = strip.Lanes.Length, head = strip.Lanes.Head, step = strip.Lanes.Step, last = strip.Lanes.Count - step;
        bool hasTail = strip.Lanes.HasTail;
        nint start = strip.Lanes.Before + first * stride;
        T* dy = strip.Dy + start, x = strip.X + start, dx = strip.Dx + start;
        GradientScale scale = strip.LaneScale;
        Streaming stream = strip.Stream;
        if (length < step)
        {
            for (nint row = 0; row < rows; row++)
            {
                for (nint j = 0; j < length; j++)
                    WriteScalar(dy + row * stride + j, x + row * stride + j, dx + row * stride + j, j, in strip.Scale, TAxis.IsRow ? (float)strip.Work->WeightOf(first + row) : strip.Scale.Weight[j], strip.Layout.Scaled);
            }
            return;
        }
        for (nint row = 0; row < rows; row += 4, dy += 4 * stride, x += 4 * stride, dx += 4 * stride)
        {
            // Rows that are not there are the last one again.
            nint left = rows - row - 1, r1 = Math.Min(1, left) * stride, r2 = Math.Min(2, left) * stride, r3 = Math.Min(3, left) * stride;
            Vector512<float> w0 = default, w1 = default, w2 = default, w3 = default;
            if (TAxis.IsRow)
            {
                nint r = first + row;
                (w0, w1) = (Vector512.Create((float)strip.Work->WeightOf(r)), Vector512.Create((float)strip.Work->WeightOf(r + Math.Min(1, left))));
                (w2, w3) = (Vector512.Create((float)strip.Work->WeightOf(r + Math.Min(2, left))), Vector512.Create((float)strip.Work->WeightOf(r + Math.Min(3, left))));
            }
            Vector512<byte> last0 = default, last1 = default, last2 = default, last3 = default;
            RowsAhead<T> dyAhead = strip.Lanes.RowsAhead(dy + stream.Ahead, stride), xAhead = strip.Lanes.RowsAhead(x + stream.Ahead, stride);
            nint tail = length - step, lane = 0;
            if (hasTail)
            {
                last0 = OfOnce(dy + tail, x + tail, last, in scale, w0);
                last1 = OfOnce(dy + tail + r1, x + tail + r1, last, in scale, w1);
                last2 = OfOnce(dy + tail + r2, x + tail + r2, last, in scale, w2);
                last3 = OfOnce(dy + tail + r3, x + tail + r3, last, in scale, w3);
            }
            if (head > 0)
            {
                Store(OfOnce(dy, x, 0, in scale, w0), dx, default);
                Store(OfOnce(dy + r1, x + r1, 0, in scale, w1), dx + r1, default);
                Store(OfOnce(dy + r2, x + r2, 0, in scale, w2), dx + r2, default);
                Store(OfOnce(dy + r3, x + r3, 0, in scale, w3), dx + r3, default);
                lane = step;
            }
            for (nint i = head; i <= tail; i += step, lane += step)
            {
                T* gradient = dy + i, input = x + i, result = dx + i;
                dyAhead.Prefetch(1);
                if (TGradient.IsFull)
                    xAhead.Prefetch(1);
                Vector512<byte> d0 = Of(gradient, input, lane, in scale, w0), d1 = Of(gradient + r1, input + r1, lane, in scale, w1);
                Vector512<byte> d2 = Of(gradient + r2, input + r2, lane, in scale, w2), d3 = Of(gradient + r3, input + r3, lane, in scale, w3);
                Store(d0, result, stream);
                Store(d1, result + r1, stream);
                Store(d2, result + r2, stream);
                Store(d3, result + r3, stream);
            }
            if (hasTail)
            {
                Store(last0, dx + tail, default);
                Store(last1, dx + tail + r1, default);
                Store(last2, dx + tail + r2, default);
                Store(last3, dx + tail + r3, default);
            }
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        static Vector512<byte> OfOnce(T* dy, T* x, nint lane, in GradientScale scale, Vector512<float> weight) => Of(dy, x, lane, in scale, weight);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static Vector512<byte> Of(T* dy, T* x, nint lane, in GradientScale scale, Vector512<float> weight)
        {
            if (typeof(T) == typeof(float))
                return Gradient(Vector512.Load((float*)dy), TGradient.IsFull ? Vector512.Load((float*)x) : default, lane, in scale, weight).AsByte();
            (Vector512<float> even, Vector512<float> odd) = SixteenBits.WidenPairs(dy);
            (Vector512<float> evenX, Vector512<float> oddX) = TGradient.IsFull ? SixteenBits.WidenPairs(x) : default;
            return SixteenBits.NarrowPairs<T>(Gradient(even, evenX, lane, in scale, weight), Gradient(odd, oddX, lane + Elements.Step, in scale, weight)).AsByte();
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static Vector512<float> Gradient(Vector512<float> dy, Vector512<float> x, nint lane, in GradientScale scale, Vector512<float> weight)
        {
            Vector512<float> g = dy * (TAxis.IsRow ? weight : Vector512.Load(scale.Weight + lane));
            return TGradient.IsFull ? (g - Vector512.Load(scale.Mean + lane) - (x - Vector512.Load(scale.Hi + lane)) * Vector512.Load(scale.Product + lane)) * Vector512.Load(scale.Rstd + lane) : g;
        }
    }

    /// <summary>Whether the statistics move with the input; else its gradient is dy times one factor.</summary>
    private interface IGradient
    {
        static abstract bool IsFull { get; }
    }

    private readonly struct FullGradient : IGradient
    {
        public static bool IsFull => true;
    }

    private readonly struct GivenGradient : IGradient
    {
        public static bool IsFull => false;
    }
}
