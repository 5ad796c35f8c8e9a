using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>The affine of columns, in the type that they are computed in: four rows at a time share what is loaded for their columns.</summary>
/// <remarks>
/// y is as in <see cref="RowNorm"/>: ((x - hi) - lo) · rstd · weight + bias, lo being zero where it would not show; at the ends of the range the same in double.
/// Element by element: neither the vectors nor the place in memory can change a bit.
/// </remarks>
internal static unsafe partial class ChannelNorm
{
    /// <summary>Short rows are joined to stretches of at least so many elements, and of whole vectors if that takes no more than so many.</summary>
    private const nint LeastPeriod = 256, MostPeriod = 4096;

    /// <summary>Elements of rows that are handled in their order where the order of all others is the reverse.</summary>
    private const nint ChunkLength = 16384;

    /// <summary>How a row, or some joined rows, are cut into vectors: one that covers what lies in front of the first line, whole lines, and one at the end, which reaches back.</summary>
    private readonly struct Lanes
    {
        /// <summary>The elements, those of them in front of the first line, and the columns after which they begin again.</summary>
        internal readonly nint Length, Head, Columns;

        /// <summary>Whether rows follow each other without a gap and are cut into stretches from the first whole line on.</summary>
        internal readonly bool Joined;

        /// <summary>The elements of joined rows before that line, which is also where in a row the first stretch begins (modulo its columns).</summary>
        internal readonly nint Before;

        /// <summary>The elements of a vector; of a 16-bit type twice as many as floats, those of even index before those of odd.</summary>
        internal readonly nint Step;

        internal Lanes(nint columns, nint rows, bool joined, nint before, nint head, nint step)
            => (Length, Head, Columns, Before, Joined, Step) = (columns * rows, head, columns, before, joined, step);

        internal RowsAhead<T> RowsAhead<T>(T* next, nint stride) where T : unmanaged => Joined ? new(next, Step, 4 * Step) : new(next + Head, stride, Step);

        internal bool HasTail => (Length - Head) % Step != 0;

        /// <summary>The lanes of all vectors.</summary>
        internal nint Count => Length < Step ? Step : ((Head > 0 ? 1 : 0) + (Length - Head + Step - 1) / Step) * Step;

        /// <summary>The column of a lane.</summary>
        internal nint ColumnOf(nint lane)
        {
            nint vector = lane & ~(Step - 1), start = Head == 0 ? vector : vector == 0 ? 0 : vector - Step + Head, within = lane - vector;
            nint element = Math.Max(0, Math.Min(start, Length - Step)) + (Step == 2 * Elements.Step ? (2 * within & Step - 1) + within / Elements.Step : within);
            return (Math.Min(element, Length - 1) + Before) % Columns;
        }
    }

    /// <summary>How to go through the rows of a strip.</summary>
    private static Lanes LanesOf<T>(in ChannelLayout layout, nint columns, bool whole, T* result, ref Streaming stream) where T : unmanaged
    {
        nint step = Vector512<byte>.Count / sizeof(T), alignment = step / Math.Min(step, columns & -columns), joined = (LeastPeriod + columns - 1) / columns;
        joined = (joined + alignment - 1) / alignment * alignment;
        if (whole && layout.Axis != ParameterAxis.Row && joined * columns <= MostPeriod && layout.Rows >= joined)
        {
            nint before = stream.Wanted ? Streaming.Head(ref *result, joined * columns) : 0;
            return new Lanes(columns, joined, true, before, 0, step);
        }
        if (layout.Columns % step != 0 || columns < step)
            stream = default;
        return new Lanes(columns, 1, false, 0, stream.Wanted ? Streaming.Head(ref *result, columns) : 0, step);
    }

    private static void ApplyColumns<T, TCompute>(ref Strip<T, TCompute> strip)
        where T : unmanaged
        where TCompute : unmanaged, IFloatingPointIeee754<TCompute>
    {
        ref readonly ChannelLayout layout = ref strip.Layout;
        if (!strip.Ordinary)
        {
            fixed (Strip<T, TCompute>* state = &strip)
                Partition.Run(layout.Rows, strip.Work->Threads, &ApplyMixedRows<T, TCompute>, state);
            return;
        }
        strip.Lanes = LanesOf(in layout, strip.Columns, strip.Columns == layout.Columns, strip.Y, ref strip.Stream);
        nint lanes = strip.Lanes.Count;
        using var memory = new RentedDoubles(ColumnScale<TCompute>.Arrays * lanes + 8);
        fixed (double* parameters = memory.Span)
        fixed (Strip<T, TCompute>* state = &strip)
        {
            strip.LaneScale = new ColumnScale<TCompute>((TCompute*)(((nint)parameters + 63) & ~63), lanes);
            Expand(strip.Scale.Hi, strip.LaneScale.Hi, in strip.Lanes);
            Expand(strip.Scale.Lo, strip.LaneScale.Lo, in strip.Lanes);
            Expand(strip.Scale.Rstd, strip.LaneScale.Rstd, in strip.Lanes);
            if (layout.Axis != ParameterAxis.Row)
            {
                Expand(strip.Scale.Weight, strip.LaneScale.Weight, in strip.Lanes);
                Expand(strip.Scale.Bias, strip.LaneScale.Bias, in strip.Lanes);
            }
            if (!strip.Lanes.Joined)
            {
                strip.RowCount = layout.Rows;
                strip.RowStride = layout.Columns;
            }
            else
            {
                nint first = strip.Lanes.Before;
                strip.RowStride = strip.Lanes.Length;
                strip.RowCount = (layout.Rows * layout.Columns - first) / strip.RowStride;
                ApplyScalars(in strip, 0, first);
                ApplyScalars(in strip, first + strip.RowCount * strip.RowStride, layout.Rows * layout.Columns);
                strip.X += first;
                strip.Y += first;
            }
            strip.ChunkRows = Math.Max(4, ChunkLength / strip.Lanes.Length & ~3);
            if (strip.Reversed)
                strip.Stream = strip.Stream.WithAhead(-strip.ChunkRows * strip.RowStride);
            Partition.Run((strip.RowCount + strip.ChunkRows - 1) / strip.ChunkRows, strip.Work->Threads, &ApplyChunks<T, TCompute>, state);
        }
    }

    private static bool IsOrdinary<TCompute>(in GroupStatistics group) => group.Scale == 1 && Elements.IsOrdinary<TCompute>(group.ScaledRstd);

    /// <summary>What each column is normalized with; tells whether all groups' arithmetic may run in the element type.</summary>
    private static bool FillScale<T, TCompute>(ref readonly Strip<T, TCompute> strip)
        where T : unmanaged
        where TCompute : unmanaged, IFloatingPointIeee754<TCompute>
    {
        ref readonly ChannelLayout layout = ref strip.Layout;
        ColumnScale<TCompute> scale = strip.Scale;
        nint j = 0, parameter = layout.Axis == ParameterAxis.Group ? strip.Column / layout.GroupColumns : strip.Column;
        bool ordinary = true;
        for (nint g = 0; j < strip.Columns; g++)
        {
            var group = new GroupScale<TCompute>(in strip.Statistics[g]);
            ordinary &= group.Ordinary;
            for (nint k = 0; k < layout.GroupColumns; k++, j++)
            {
                (scale.Hi[j], scale.Lo[j], scale.Rstd[j]) = (group.Hi, group.Lo, group.Rstd);
                if (layout.Axis != ParameterAxis.Row)
                    (scale.Weight[j], scale.Bias[j]) = (strip.Work->WeightOf(parameter), strip.Work->BiasOf(parameter));
                if (layout.Axis == ParameterAxis.Column)
                    parameter++;
            }
            if (layout.Axis == ParameterAxis.Group)
                parameter++;
        }
        return ordinary;
    }

    /// <summary>What columns, or lanes, are normalized with.</summary>
    private readonly struct ColumnScale<TCompute> where TCompute : unmanaged
    {
        internal const int Arrays = 5;

        internal readonly TCompute* Hi, Lo, Rstd, Weight, Bias;

        internal ColumnScale(TCompute* memory, nint count)
        {
            Hi = memory;
            Lo = Hi + count;
            Rstd = Lo + count;
            Weight = Rstd + count;
            Bias = Weight + count;
        }
    }

    /// <summary>Single elements of joined rows, before the first whole line and after the last whole stretch.</summary>
    private static void ApplyScalars<T, TCompute>(ref readonly Strip<T, TCompute> strip, nint start, nint end)
        where T : unmanaged
        where TCompute : unmanaged, IFloatingPointIeee754<TCompute>
    {
        for (nint i = start; i < end; i++)
        {
            nint column = i % strip.Columns;
            ApplyScalar(strip.X + i, strip.Y + i, column, in strip.Scale, strip.Scale.Weight[column], strip.Scale.Bias[column]);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void ApplyScalar<T, TCompute>(T* x, T* y, nint column, in ColumnScale<TCompute> scale, TCompute weight, TCompute bias)
        where T : unmanaged
        where TCompute : unmanaged, IFloatingPointIeee754<TCompute>
        => *y = Elements.FromDouble<T>(Elements.ToDouble((Elements.FromDouble<TCompute>(Elements.ToDouble(*x)) - scale.Hi[column] - scale.Lo[column]) * scale.Rstd[column] * weight + bias));

    private static void ApplyChunks<T, TCompute>(void* state, nint start, nint end)
        where T : unmanaged
        where TCompute : unmanaged, IFloatingPointIeee754<TCompute>
    {
        ref readonly Strip<T, TCompute> strip = ref *(Strip<T, TCompute>*)state;
        nint chunks = (strip.RowCount + strip.ChunkRows - 1) / strip.ChunkRows;
        for (nint i = start; i < end; i++)
        {
            nint chunk = strip.Reversed ? chunks - 1 - i : i, row = chunk * strip.ChunkRows, rows = Math.Min(strip.ChunkRows, strip.RowCount - row);
            if (strip.Layout.Axis == ParameterAxis.Row)
                ApplyRows<T, TCompute, OfRow>(in strip, row, rows);
            else
                ApplyRows<T, TCompute, OfColumn>(in strip, row, rows);
        }
        Fence(in strip);
    }

    private static void Fence<T, TCompute>(ref readonly Strip<T, TCompute> strip)
        where T : unmanaged
        where TCompute : unmanaged, IFloatingPointIeee754<TCompute>
    {
        if (strip.Work->Stream.Wanted)
            Streaming.Fence();
    }

    private static void ApplyRows<T, TCompute, TAxis>(ref readonly Strip<T, TCompute> strip, nint first, nint rows)
        where T : unmanaged
        where TCompute : unmanaged, IFloatingPointIeee754<TCompute>
        where TAxis : struct, IAxis
    {
        nint stride = strip.RowStride, length = strip.Lanes.Length, head = strip.Lanes.Head, step = Vector512<byte>.Count / sizeof(T), last = strip.Lanes.Count - step;
        bool hasTail = strip.Lanes.HasTail;
        T* x = strip.X + first * stride, y = strip.Y + first * stride;
        ColumnScale<TCompute> scale = strip.LaneScale;
        Streaming stream = strip.Stream;
        if (length < step)
        {
            for (nint row = 0; row < rows; row++)
            {
                for (nint j = 0; j < length; j++)
                    ApplyScalar(x + row * stride + j, y + row * stride + j, j, in strip.Scale, TAxis.IsRow ? strip.Work->WeightOf(first + row) : strip.Scale.Weight[j], TAxis.IsRow ? strip.Work->BiasOf(first + row) : strip.Scale.Bias[j]);
            }
            return;
        }
        for (nint row = 0; row < rows; row += 4, x += 4 * stride, y += 4 * stride)
        {
            // Rows that are not there are the last one again.
            nint left = rows - row - 1, r1 = Math.Min(1, left) * stride, r2 = Math.Min(2, left) * stride, r3 = Math.Min(3, left) * stride;
            Vector512<TCompute> w0 = default, w1 = default, w2 = default, w3 = default, b0 = default, b1 = default, b2 = default, b3 = default;
            if (TAxis.IsRow)
            {
                nint r = first + row;
                (w0, w1, w2, w3) = (Vector512.Create(strip.Work->WeightOf(r)), Vector512.Create(strip.Work->WeightOf(r + Math.Min(1, left))), Vector512.Create(strip.Work->WeightOf(r + Math.Min(2, left))), Vector512.Create(strip.Work->WeightOf(r + Math.Min(3, left))));
                (b0, b1, b2, b3) = (Vector512.Create(strip.Work->BiasOf(r)), Vector512.Create(strip.Work->BiasOf(r + Math.Min(1, left))), Vector512.Create(strip.Work->BiasOf(r + Math.Min(2, left))), Vector512.Create(strip.Work->BiasOf(r + Math.Min(3, left))));
            }
            Vector512<byte> last0 = default, last1 = default, last2 = default, last3 = default;
            if (hasTail)
            {
                nint at = length - step;
                last0 = OfOnce(x + at, last, in scale, w0, b0);
                last1 = OfOnce(x + at + r1, last, in scale, w1, b1);
                last2 = OfOnce(x + at + r2, last, in scale, w2, b2);
                last3 = OfOnce(x + at + r3, last, in scale, w3, b3);
            }
            RowsAhead<T> ahead = strip.Lanes.RowsAhead(x + stream.Ahead, stride);
            nint lane = 0;
            if (head > 0)
            {
                Store(OfOnce(x, 0, in scale, w0, b0), y, default);
                Store(OfOnce(x + r1, 0, in scale, w1, b1), y + r1, default);
                Store(OfOnce(x + r2, 0, in scale, w2, b2), y + r2, default);
                Store(OfOnce(x + r3, 0, in scale, w3, b3), y + r3, default);
                lane = step;
            }
            for (nint i = head; i <= length - step; i += step, lane += step)
            {
                T* element = x + i, result = y + i;
                ahead.Prefetch(1);
                Vector512<byte> y0 = Of(element, lane, in scale, w0, b0), y1 = Of(element + r1, lane, in scale, w1, b1);
                Vector512<byte> y2 = Of(element + r2, lane, in scale, w2, b2), y3 = Of(element + r3, lane, in scale, w3, b3);
                Store(y0, result, stream);
                Store(y1, result + r1, stream);
                Store(y2, result + r2, stream);
                Store(y3, result + r3, stream);
            }
            if (hasTail)
            {
                nint at = length - step;
                Store(last0, y + at, default);
                Store(last1, y + at + r1, default);
                Store(last2, y + at + r2, default);
                Store(last3, y + at + r3, default);
            }
        }

        // Only the loop's own are inlined: the JIT gives up where a method grows too large, in the loop as well.
        [MethodImpl(MethodImplOptions.NoInlining)]
        static Vector512<byte> OfOnce(T* x, nint lane, in ColumnScale<TCompute> scale, Vector512<TCompute> weight, Vector512<TCompute> bias) => Of(x, lane, in scale, weight, bias);

        // A vector of results in the type that they are stored in.
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static Vector512<byte> Of(T* x, nint lane, in ColumnScale<TCompute> scale, Vector512<TCompute> weight, Vector512<TCompute> bias)
        {
            if (typeof(TCompute) == typeof(double))
                return Affine(Vector512.Load((double*)x).As<double, TCompute>(), lane, in scale, weight, bias).AsByte();
            if (typeof(T) == typeof(float))
                return Affine(Vector512.Load((float*)x).As<float, TCompute>(), lane, in scale, weight, bias).AsByte();
            (Vector512<float> even, Vector512<float> odd) = SixteenBits.WidenPairs(x);
            return SixteenBits.NarrowPairs<T>(Affine(even.As<float, TCompute>(), lane, in scale, weight, bias).AsSingle(), Affine(odd.As<float, TCompute>(), lane + Elements.Step, in scale, weight, bias).AsSingle()).AsByte();
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static Vector512<TCompute> Affine(Vector512<TCompute> x, nint lane, in ColumnScale<TCompute> scale, Vector512<TCompute> weight, Vector512<TCompute> bias)
        {
            Vector512<TCompute> normalized = (x - Vector512.Load(scale.Hi + lane) - Vector512.Load(scale.Lo + lane)) * Vector512.Load(scale.Rstd + lane);
            return TAxis.IsRow ? normalized * weight + bias : normalized * Vector512.Load(scale.Weight + lane) + Vector512.Load(scale.Bias + lane);
        }
    }

    /// <summary>Where some groups are at the ends of the range: those in double, lane by lane.</summary>
    private static void ApplyMixedRows<T, TCompute>(void* state, nint start, nint end)
        where T : unmanaged
        where TCompute : unmanaged, IFloatingPointIeee754<TCompute>
    {
        ref readonly Strip<T, TCompute> strip = ref *(Strip<T, TCompute>*)state;
        ref readonly ChannelLayout layout = ref strip.Layout;
        for (nint row = start; row < end; row++)
        {
            for (nint j = 0; j < strip.Columns; j++)
            {
                nint parameter = layout.Axis == ParameterAxis.Row ? row : (strip.Column + j) / (layout.Axis == ParameterAxis.Column ? 1 : layout.GroupColumns);
                TCompute weight = strip.Work->WeightOf(parameter), bias = strip.Work->BiasOf(parameter);
                T* x = strip.X + row * layout.Columns + j, y = strip.Y + row * layout.Columns + j;
                ref readonly GroupStatistics group = ref strip.Statistics[j / layout.GroupColumns];
                if (IsOrdinary<TCompute>(in group))
                    ApplyScalar(x, y, j, in strip.Scale, weight, bias);
                else
                    *y = InDouble<T>(in group, Elements.ToDouble(*x), Elements.ToDouble(weight), Elements.ToDouble(bias));
            }
        }
    }

    private static T InDouble<T>(in GroupStatistics group, double x, double weight, double bias) where T : unmanaged
    {
        double v = group.Normalize(x) * weight + bias;
        // One NaN for all machines, as in the rows geometry.
        return Elements.FromDouble<T>(double.IsNaN(v) ? double.NaN : v);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store<T>(Vector512<byte> value, T* y, Streaming stream) where T : unmanaged
    {
        if (!stream.Wanted)
            value.Store((byte*)y);
        else if (sizeof(T) != 2)
            Streaming.Store(value, ref *(byte*)y, 0);
        else
            Streaming.StoreHalves(value.AsUInt32(), (uint*)y);
    }

    /// <summary>What a weight and a bias belong to.</summary>
    private interface IAxis
    {
        static abstract bool IsRow { get; }
    }

    private readonly struct OfColumn : IAxis
    {
        public static bool IsRow => false;
    }

    private readonly struct OfRow : IAxis
    {
        public static bool IsRow => true;
    }
}
