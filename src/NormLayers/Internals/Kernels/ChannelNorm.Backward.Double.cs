using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>The backward of columns in double: of doubles, and of what float was not good enough for; rounded once.</summary>
/// <remarks>Order: a column's sums take its rows in rising order, in blocks as the statistics do where a strip is one of few.</remarks>
internal static unsafe partial class ChannelNorm
{
    /// <summary>All columns; or of a strip in which some are written in float, only the others.</summary>
    private static void ColumnsInDouble<T, TParameter>(ref BackwardStrip<T, TParameter> strip)
        where T : unmanaged
        where TParameter : unmanaged
    {
        ref readonly ChannelLayout layout = ref strip.Layout;
        nint width = strip.Width, blocks = RowBlocks(layout.Rows, out strip.BlockRows);
        // A row's sums belong to one thread.
        int threads = layout.Axis == ParameterAxis.Row ? 1 : strip.Work->Threads;
        using var memory = new RentedDoubles((2 * blocks + BackwardWorkPerColumn) * width);
        fixed (double* pMemory = memory.Span)
        fixed (BackwardStrip<T, TParameter>* state = &strip)
        {
            strip.Memory = pMemory;
            strip.Constants = pMemory + 2 * blocks * width;
            SetConstants(in strip);
            Partition.Run(blocks, threads, layout.Axis == ParameterAxis.Row ? &SumRowBlocks<T, TParameter> : &SumColumnBlocks<T, TParameter>, state);
            for (nint block = 1; block < blocks; block++)
                TensorPrimitives.Add(memory.Span[..(int)(2 * width)], memory.Span.Slice((int)(2 * block * width), (int)(2 * width)), memory.Span[..(int)(2 * width)]);
            SetMeans(in strip);
            if (strip.Dx != null)
                Partition.Run(layout.Rows, strip.Work->Threads, strip.Exact == null ? &WriteRows<T, TParameter> : &WriteMixedRows<T, TParameter>, state);
        }
    }

    /// <summary>Where some columns are written in float and some are not, one element after the other.</summary>
    private static void WriteMixedRows<T, TParameter>(void* state, nint start, nint end)
        where T : unmanaged
        where TParameter : unmanaged
    {
        ref readonly BackwardStrip<T, TParameter> strip = ref *(BackwardStrip<T, TParameter>*)state;
        nint width = strip.Width;
        double* constants = strip.Constants;
        for (nint row = start; row < end; row++)
        {
            float weight = strip.Layout.Axis == ParameterAxis.Row ? (float)strip.Work->WeightOf(row) : 0;
            for (nint j = 0; j < strip.Columns; j++)
            {
                nint at = row * strip.Layout.Columns + j;
                if (strip.Exact[j] != 0)
                    WriteScalar(strip.Dy + at, strip.X + at, strip.Dx + at, j, in strip.Scale, strip.Layout.Axis == ParameterAxis.Row ? weight : strip.Scale.Weight[j], strip.Layout.Scaled);
                else
                    strip.Dx[at] = Elements.FromDouble<T>(InDouble(in strip, at, j, constants[5 * width + j] * (strip.Layout.Axis == ParameterAxis.Row ? strip.Work->WeightOf(row) : 1), constants[6 * width + j], constants[7 * width + j]));
            }
        }
    }

    private static double InDouble<T, TParameter>(ref readonly BackwardStrip<T, TParameter> strip, nint at, nint column, double weight, double mean, double product)
        where T : unmanaged
        where TParameter : unmanaged
    {
        ref readonly GroupStatistics group = ref strip.Statistics[column / strip.Layout.GroupColumns];
        double g = Elements.ToDouble(strip.Dy[at]) * weight;
        // Statistics that are given do not move with the input, which then may be infinite.
        double n = strip.Layout.Scaled ? group.Normalize(Elements.ToDouble(strip.X[at])) * product : 0;
        return (g - mean - n) * group.Rstd;
    }

    /// <summary>hi, lo and rstd of the normalized value, 1/deviation itself, weight, and (later) the two means, for each column.</summary>
    private static void SetConstants<T, TParameter>(ref readonly BackwardStrip<T, TParameter> strip)
        where T : unmanaged
        where TParameter : unmanaged
    {
        nint width = strip.Width;
        new Span<double>(strip.Constants, (int)(BackwardWorkPerColumn * width)).Clear();
        nint j = 0, parameter = strip.Parameter(0, 0);
        ParameterAxis axis = strip.Layout.Axis;
        for (nint g = 0; j < strip.Columns; g++)
        {
            ref readonly GroupStatistics group = ref strip.Statistics[g];
            double rstd = group.Rstd;
            for (nint k = 0; k < strip.Layout.GroupColumns; k++, j++)
            {
                double* c = strip.Constants + j;
                (c[0], c[width], c[2 * width], c[3 * width], c[4 * width]) = (group.Scale, group.ScaledMean, group.ScaledMeanLow, group.ScaledRstd, rstd);
                c[5 * width] = axis == ParameterAxis.Row ? 1 : strip.Work->WeightOf(parameter);
                if (axis == ParameterAxis.Column)
                    parameter++;
            }
            if (axis == ParameterAxis.Group)
                parameter++;
        }
    }

    /// <summary>From a strip's sums the gradients of its parameters, and each group's E[g] and E[g · n].</summary>
    private static void SetMeans<T, TParameter>(ref readonly BackwardStrip<T, TParameter> strip)
        where T : unmanaged
        where TParameter : unmanaged
    {
        ref readonly ChannelLayout layout = ref strip.Layout;
        nint width = strip.Width;
        double* sums = strip.Memory, products = sums + width, weights = strip.Constants + 5 * width;
        for (nint first = 0; first < strip.Columns; first += layout.GroupColumns)
        {
            double sum = 0, product = 0;
            for (nint j = first; j < first + layout.GroupColumns; j++)
            {
                sum += sums[j] * weights[j];
                product += products[j] * weights[j];
                if (layout.Axis == ParameterAxis.Row || (strip.Exact != null && strip.Exact[j] != 0))
                    continue;
                nint parameter = layout.Axis == ParameterAxis.Column ? j : j / layout.GroupColumns;
                strip.Weights[parameter] += products[j];
                strip.Biases[parameter] += sums[j];
            }
            double mean = layout.Centered ? sum / layout.Length : 0, meanProduct = layout.Scaled ? product / layout.Length : 0;
            for (nint j = first; j < first + layout.GroupColumns; j++)
                (strip.Constants[6 * width + j], strip.Constants[7 * width + j]) = (mean, meanProduct);
        }
    }

    private static void SumColumnBlocks<T, TParameter>(void* state, nint start, nint end)
        where T : unmanaged
        where TParameter : unmanaged
    {
        ref readonly BackwardStrip<T, TParameter> strip = ref *(BackwardStrip<T, TParameter>*)state;
        nint stride = strip.Layout.Columns, width = strip.Width, vectors = strip.Columns & ~(Elements.Step - 1);
        for (nint block = start; block < end; block++)
        {
            double* sums = strip.Memory + 2 * block * width;
            new Span<double>(sums, (int)(2 * width)).Clear();
            nint last = Math.Min((block + 1) * strip.BlockRows, strip.Layout.Rows);
            for (nint row = block * strip.BlockRows; row < last; row += RowsAtOnce)
            {
                nint rows = Math.Min(RowsAtOnce, last - row), at = row * stride;
                SumColumns(strip.Dy + at, strip.X + at, stride, rows, vectors, strip.Constants, sums, width);
                for (nint j = vectors; j < strip.Columns; j++)
                    SumColumn(strip.Dy + at + j, strip.X + at + j, stride, rows, in strip.Statistics[j / strip.Layout.GroupColumns], ref sums[j], ref sums[width + j]);
            }
        }
    }

    private const nint RowsAtOnce = 8;

    private static void SumColumns<T>(T* dy, T* x, nint stride, nint rows, nint columns, double* constants, double* sums, nint width) where T : unmanaged
    {
        for (nint j = 0; j < columns; j += Elements.Step)
        {
            var n0 = new Normalizer(constants, j, width);
            var n1 = new Normalizer(constants, j + 8, width);
            Vector512<double> s0 = Vector512.Load(sums + j), s1 = Vector512.Load(sums + j + 8), p0 = Vector512.Load(sums + width + j), p1 = Vector512.Load(sums + width + j + 8);
            nint at = j;
            for (nint row = 0; row < rows; row++, at += stride)
            {
                (Vector512<double> g0, Vector512<double> g1) = Elements.Widen(in *dy, at);
                (Vector512<double> x0, Vector512<double> x1) = Elements.Widen(in *x, at);
                Streaming.Prefetch(in *dy, at + RowsAtOnce * stride);
                Streaming.Prefetch(in *x, at + RowsAtOnce * stride);
                s0 += g0;
                s1 += g1;
                p0 += g0 * n0.Of<T>(x0);
                p1 += g1 * n1.Of<T>(x1);
            }
            s0.Store(sums + j);
            s1.Store(sums + j + 8);
            p0.Store(sums + width + j);
            p1.Store(sums + width + j + 8);
        }
    }

    private static void SumColumn<T>(T* dy, T* x, nint stride, nint rows, in GroupStatistics group, ref double sum, ref double product) where T : unmanaged
    {
        for (nint row = 0; row < rows; row++)
        {
            double g = Elements.ToDouble(dy[row * stride]);
            sum += g;
            product += g * group.Normalize(Elements.ToDouble(x[row * stride]));
        }
    }

    /// <summary>The constants of eight columns' normalized values.</summary>
    private readonly struct Normalizer
    {
        private readonly Vector512<double> scale, hi, lo, rstd;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        internal Normalizer(double* constants, nint column, nint width)
        {
            scale = Vector512.Load(constants + column);
            hi = Vector512.Load(constants + width + column);
            lo = Vector512.Load(constants + 2 * width + column);
            rstd = Vector512.Load(constants + 3 * width + column);
        }

        // Only groups of doubles are ever scaled.
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        internal Vector512<double> Of<T>(Vector512<double> x) => ((typeof(T) == typeof(double) ? x * scale : x) - hi - lo) * rstd;
    }

    /// <summary>With a weight a row: a column's sums are of dy · weight, and the row's are across the strip.</summary>
    private static void SumRowBlocks<T, TParameter>(void* state, nint start, nint end)
        where T : unmanaged
        where TParameter : unmanaged
    {
        ref readonly BackwardStrip<T, TParameter> strip = ref *(BackwardStrip<T, TParameter>*)state;
        nint stride = strip.Layout.Columns, width = strip.Width, vectors = strip.Columns & ~(Elements.Step - 1);
        for (nint block = start; block < end; block++)
        {
            double* sums = strip.Memory + 2 * block * width;
            new Span<double>(sums, (int)(2 * width)).Clear();
            for (nint row = block * strip.BlockRows; row < Math.Min((block + 1) * strip.BlockRows, strip.Layout.Rows); row++)
            {
                double weight = strip.Work->WeightOf(row);
                (double rowSum, double rowProduct) = SumRow(strip.Dy + row * stride, strip.X + row * stride, vectors, weight, strip.Constants, sums, width, stride);
                for (nint j = vectors; j < strip.Columns; j++)
                {
                    double g = Elements.ToDouble(strip.Dy[row * stride + j]), product = g * strip.Statistics[j].Normalize(Elements.ToDouble(strip.X[row * stride + j]));
                    sums[j] += g * weight;
                    sums[width + j] += product * weight;
                    rowSum += g;
                    rowProduct += product;
                }
                strip.Biases[row] += rowSum;
                strip.Weights[row] += rowProduct;
            }
        }
    }

    private static (double Sum, double Product) SumRow<T>(T* dy, T* x, nint columns, double weight, double* constants, double* sums, nint width, nint ahead) where T : unmanaged
    {
        Vector512<double> weights = Vector512.Create(weight), s0 = default, s1 = default, p0 = default, p1 = default;
        for (nint j = 0; j < columns; j += Elements.Step)
        {
            (Vector512<double> g0, Vector512<double> g1) = Elements.Widen(in *dy, j);
            (Vector512<double> x0, Vector512<double> x1) = Elements.Widen(in *x, j);
            Streaming.Prefetch(in *dy, j + ahead);
            Streaming.Prefetch(in *x, j + ahead);
            x0 = g0 * new Normalizer(constants, j, width).Of<T>(x0);
            x1 = g1 * new Normalizer(constants, j + 8, width).Of<T>(x1);
            s0 += g0;
            s1 += g1;
            p0 += x0;
            p1 += x1;
            (Vector512.Load(sums + j) + g0 * weights).Store(sums + j);
            (Vector512.Load(sums + j + 8) + g1 * weights).Store(sums + j + 8);
            (Vector512.Load(sums + width + j) + x0 * weights).Store(sums + width + j);
            (Vector512.Load(sums + width + j + 8) + x1 * weights).Store(sums + width + j + 8);
        }
        return (Moments.Fold(s0 + s1), Moments.Fold(p0 + p1));
    }

    private static void WriteRows<T, TParameter>(void* state, nint start, nint end)
        where T : unmanaged
        where TParameter : unmanaged
    {
        ref readonly BackwardStrip<T, TParameter> strip = ref *(BackwardStrip<T, TParameter>*)state;
        ref readonly ChannelLayout layout = ref strip.Layout;
        nint width = strip.Width, vectors = strip.Columns & ~(Elements.Step - 1);
        double* means = strip.Constants + 6 * width, products = means + width, weights = strip.Constants + 5 * width;
        for (nint row = start; row < end; row++)
        {
            nint at = row * layout.Columns;
            double weight = layout.Axis == ParameterAxis.Row ? strip.Work->WeightOf(row) : 1;
            for (nint j = vectors; j < strip.Columns; j++)
                strip.Dx[at + j] = Elements.FromDouble<T>(InDouble(in strip, at + j, j, weights[j] * weight, means[j], products[j]));
            if (layout.Scaled)
                WriteVectors(strip.Dy + at, strip.X + at, strip.Dx + at, vectors, weight, strip.Constants, width);
            else
                WriteScaled(strip.Dy + at, strip.Dx + at, vectors, weight, strip.Constants, width);
        }
    }

    private static void WriteVectors<T>(T* dy, T* x, T* dx, nint columns, double weight, double* constants, nint width) where T : unmanaged
    {
        Vector512<double> rowWeight = Vector512.Create(weight);
        for (nint j = 0; j < columns; j += Elements.Step)
        {
            (Vector512<double> g0, Vector512<double> g1) = Elements.Widen(in *dy, j);
            (Vector512<double> x0, Vector512<double> x1) = Elements.Widen(in *x, j);
            Elements.Narrow(Gradient(g0, x0, j), Gradient(g1, x1, j + 8), ref *dx, j);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        Vector512<double> Gradient(Vector512<double> g, Vector512<double> x, nint j)
            => (g * (Vector512.Load(constants + 5 * width + j) * rowWeight) - Vector512.Load(constants + 6 * width + j) - new Normalizer(constants, j, width).Of<T>(x) * Vector512.Load(constants + 7 * width + j)) * Vector512.Load(constants + 4 * width + j);
    }

    private static void WriteScaled<T>(T* dy, T* dx, nint columns, double weight, double* constants, nint width) where T : unmanaged
    {
        Vector512<double> rowWeight = Vector512.Create(weight);
        for (nint j = 0; j < columns; j += Elements.Step)
        {
            (Vector512<double> g0, Vector512<double> g1) = Elements.Widen(in *dy, j);
            Elements.Narrow(
                g0 * (Vector512.Load(constants + 5 * width + j) * rowWeight) * Vector512.Load(constants + 4 * width + j),
                g1 * (Vector512.Load(constants + 5 * width + j + 8) * rowWeight) * Vector512.Load(constants + 4 * width + j + 8), ref *dx, j);
        }
    }
}
