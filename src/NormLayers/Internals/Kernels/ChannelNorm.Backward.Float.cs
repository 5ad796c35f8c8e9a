using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>The backward of columns of floats in which nothing cancels, as in RowNorm.Backward.Float.cs: dx = (dy · weight - mean - (x - hi) · product) · rstd in float.</summary>
/// <remarks>
/// <para>
/// product is E[g · n] · rstd, and what hi lacks of the mean is in mean. Order: row i of a tile of 32 goes to sum i mod 4 of four in float (with
/// a weight a row, four rows are added by pairs), which are added by pairs, widened and added in double, tile by tile and block by block.
/// </para>
/// <para>A column's path depends on its group alone; where the paths of a strip differ it is written element by element.</para>
/// </remarks>
internal static unsafe partial class ChannelNorm
{
    private const nint TileRows = 32;

    /// <summary>Sums of each column: of g, of g · (x - hi), of g².</summary>
    private const int SumsPerColumn = 3;

    /// <summary>What columns, or lanes, are written with.</summary>
    private readonly struct GradientScale
    {
        internal const int Arrays = 5;

        internal readonly float* Hi, Product, Mean, Rstd, Weight;

        internal GradientScale(float* memory, nint count)
        {
            Hi = memory;
            Product = Hi + count;
            Mean = Product + count;
            Rstd = Mean + count;
            Weight = Rstd + count;
        }
    }

    /// <summary>Whether the squares of some elements of a gradient neither overflowed nor underflowed, or all elements are zero.</summary>
    private static bool AreExact(in RowNorm.FloatSums sums, in GroupStatistics group, nint count)
        => RowNorm.IsOrdinary(in group) && double.IsFinite(sums.Product) && (IsZero(in sums) || sums.Squares / count is >= RowNorm.FloatSums.LeastSquare and <= RowNorm.FloatSums.LargestSquare);

    private static bool IsZero(in RowNorm.FloatSums sums) => sums.Sum == 0 && sums.Product == 0 && sums.Squares == 0;

    /// <summary>E[g] and E[g · n], and whether they are good enough in float.</summary>
    private static bool AreExact(in RowNorm.FloatSums weighted, double rstd, in ChannelLayout layout, out double mean, out double product)
        => weighted.AreExactInFloat(rstd, layout.AsRows(), out mean, out product) || IsZero(in weighted);

    private static bool IsGivenInFloat(double factor) => factor == 0 || Math.Abs(factor) is > 1e-30 and < 1e30;

    private static void ColumnsInFloat<T>(ref BackwardStrip<T, float> strip) where T : unmanaged
    {
        ref readonly ChannelLayout layout = ref strip.Layout;
        nint width = strip.Width, blocks = RowBlocks(layout.Rows, out strip.BlockRows), perBlock = SumsPerColumn * width, rowSums = layout.Axis == ParameterAxis.Row ? 2 * layout.Rows : 0;
        strip.Stream = strip.Work->Stream;
        strip.Lanes = LanesOf(in layout, strip.Columns, strip.Columns == layout.Columns, strip.Dx, ref strip.Stream);
        nint lanes = strip.Lanes.Count, scaleDoubles = GradientScale.Arrays * width / 2;
        using var memory = new RentedDoubles(blocks * perBlock + rowSums + scaleDoubles + GradientScale.Arrays * lanes / 2 + width / 8 + 8);
        fixed (double* first = memory.Span)
        fixed (BackwardStrip<T, float>* state = &strip)
        {
            strip.Memory = (double*)(((nint)first + 63) & ~63);
            strip.RowSums = strip.Memory + blocks * perBlock;
            new Span<double>(strip.Memory, (int)(blocks * perBlock + rowSums)).Clear();
            strip.Scale = new GradientScale((float*)(strip.RowSums + rowSums), width);
            strip.LaneScale = new GradientScale((float*)(strip.RowSums + rowSums + scaleDoubles), lanes);
            strip.Exact = (byte*)(strip.LaneScale.Weight + lanes);
            bool isGivenInFloat = FillGradient(in strip);
            strip.Reversed = strip.Columns * layout.Rows * sizeof(T) > ChannelLayout.CacheBytes;
            if (layout.Axis == ParameterAxis.Row)
                SumRowsInFloat(in strip);
            else
                Partition.Run(blocks, strip.Work->Threads, &SumColumnsInFloat<T>, state);
            for (nint block = 1; block < blocks && layout.Axis != ParameterAxis.Row; block++)
            {
                for (nint j = 0; j < perBlock; j += Vector512<double>.Count)
                    (Vector512.Load(strip.Memory + j) + Vector512.Load(strip.Memory + block * perBlock + j)).Store(strip.Memory + j);
            }
            nint exact = layout.Axis == ParameterAxis.Row ? SetRowMeansInFloat(in strip) : SetMeansInFloat(in strip);
            for (nint row = 0; row < rowSums / 2 && exact == strip.Columns; row++)
            {
                strip.Biases[row] += strip.RowSums[2 * row];
                strip.Weights[row] += strip.RowSums[2 * row + 1];
            }
            if (exact != strip.Columns)
            {
                byte* mixed = exact == 0 ? null : strip.Exact;
                BackwardStrip<T, float> rest = strip;
                rest.Exact = mixed;
                if (!layout.Scaled)
                    rest.Dx = null;
                ColumnsInDouble(ref rest);
            }
            if (strip.Dx == null || (layout.Scaled && exact != strip.Columns))
                return;
            if (layout.Scaled || isGivenInFloat)
            {
                BeginWriting(ref strip);
                Partition.Run((strip.RowCount + strip.ChunkRows - 1) / strip.ChunkRows, strip.Work->Threads, &WriteChunks<T>, state);
            }
            else
                WriteGiven(in strip);
        }
    }

    /// <summary>What of a column's scale is known before the sums. True if the statistics are given and the gradient of the input may be made in float.</summary>
    private static bool FillGradient<T>(ref readonly BackwardStrip<T, float> strip) where T : unmanaged
    {
        ref readonly ChannelLayout layout = ref strip.Layout;
        GradientScale scale = strip.Scale;
        new Span<float>(scale.Hi, (int)(GradientScale.Arrays * strip.Width)).Clear();
        bool isGivenInFloat = !layout.Scaled;
        nint j = 0;
        for (GroupStatistics* group = strip.Statistics; j < strip.Columns; group++)
        {
            float hi = (float)group->ScaledMean, lo = (float)(group->ScaledMean - hi + group->ScaledMeanLow), rstd = (float)group->ScaledRstd;
            for (nint end = j + layout.GroupColumns; j < end; j++)
                // The lower part of the mean, until the mean of the gradient takes its place.
                (scale.Hi[j], scale.Mean[j], scale.Rstd[j]) = (hi, lo, rstd);
        }
        for (j = 0; j < strip.Columns && layout.Axis != ParameterAxis.Row; j++)
        {
            double weight = strip.Work->WeightOf(strip.Parameter(0, j)), factor = weight * strip.Statistics[j / layout.GroupColumns].ScaledRstd;
            isGivenInFloat &= IsGivenInFloat(factor);
            scale.Weight[j] = (float)(layout.Scaled ? weight : factor);
        }
        return isGivenInFloat;
    }

    /// <summary>From the sums the gradients of the parameters of columns in float, and what is taken off their gradients; the number of these columns.</summary>
    private static nint SetMeansInFloat<T>(ref readonly BackwardStrip<T, float> strip) where T : unmanaged
    {
        ref readonly ChannelLayout layout = ref strip.Layout;
        nint width = strip.Width, count = 0;
        double* sums = strip.Memory;
        GradientScale scale = strip.Scale;
        for (nint first = 0; first < strip.Columns; first += layout.GroupColumns)
        {
            ref readonly GroupStatistics group = ref strip.Statistics[first / layout.GroupColumns];
            double lo = group.ScaledMean - scale.Hi[first] + group.ScaledMeanLow;
            RowNorm.FloatSums weighted = default;
            bool exact = true;
            for (nint j = first; j < first + layout.GroupColumns; j++)
            {
                var column = new RowNorm.FloatSums { Sum = sums[j], Product = sums[width + j] - lo * sums[j], Squares = sums[2 * width + j] };
                exact &= AreExact(in column, in group, layout.Rows);
                weighted.AddScaled(in column, scale.Weight[j]);
                sums[width + j] = column.Product;
            }
            exact &= AreExact(in weighted, group.ScaledRstd, in layout, out double mean, out double product) || !layout.Scaled;
            product *= group.ScaledRstd;
            for (nint j = first; j < first + layout.GroupColumns; j++)
            {
                strip.Exact[j] = exact ? (byte)1 : (byte)0;
                (scale.Mean[j], scale.Product[j]) = ((float)(mean - lo * product), (float)product);
                if (!exact)
                    continue;
                nint parameter = layout.Axis == ParameterAxis.Column ? j : j / layout.GroupColumns;
                strip.Weights[parameter] += sums[width + j] * group.ScaledRstd;
                strip.Biases[parameter] += sums[j];
            }
            count += exact ? layout.GroupColumns : 0;
        }
        return count;
    }

    /// <summary>The same where the parameters belong to rows, and the products are of normalized values already.</summary>
    private static nint SetRowMeansInFloat<T>(ref readonly BackwardStrip<T, float> strip) where T : unmanaged
    {
        nint width = strip.Width, count = 0;
        double* sums = strip.Memory, mask = stackalloc double[Vector512<double>.Count];
        GradientScale scale = strip.Scale;
        Vector512<double> length = Vector512.Create((double)strip.Layout.Length);
        for (nint j = 0; j < strip.Columns; j += Vector512<double>.Count)
        {
            Vector512<double> mean = strip.Layout.Centered ? Vector512.Load(sums + j) / length : default, product = Vector512.Load(sums + width + j) / length, squares = Vector512.Load(sums + 2 * width + j) / length;
            Vector512<double> rstd = Widen(scale.Rstd + j), lo = Widen(scale.Mean + j);
            // As AreExact.
            Vector512<double> ordinary = Vector512.GreaterThan(rstd, Vector512.Create(Elements.LeastFloatRstd)) & Vector512.LessThan(rstd, Vector512.Create(Elements.LargestFloatRstd));
            Vector512<double> inRange = RowNorm.FloatSums.AreExactInFloat(squares, mean, product);
            Vector512<double> zero = Vector512.Equals(squares, default) & Vector512.Equals(Vector512.Load(sums + j), default) & Vector512.Equals(product, default);
            (ordinary & (inRange | zero)).Store(mask);
            product *= rstd;
            Store(product, scale.Product + j);
            Store(mean - lo * product, scale.Mean + j);
            for (nint k = 0; k < Vector512<double>.Count && j + k < strip.Columns; k++)
            {
                byte exact = (byte)(BitConverter.DoubleToInt64Bits(mask[k]) & 1);
                strip.Exact[j + k] = exact;
                count += exact;
            }
        }
        return count;

        static Vector512<double> Widen(float* source) => Vector512.WidenLower(Vector256.Load(source).ToVector512Unsafe());

        static void Store(Vector512<double> value, float* destination) => Vector256.Narrow(value.GetLower(), value.GetUpper()).Store(destination);
    }

    private static void SumColumnsInFloat<T>(void* state, nint start, nint end) where T : unmanaged
    {
        ref readonly BackwardStrip<T, float> strip = ref *(BackwardStrip<T, float>*)state;
        nint width = strip.Width, columns = strip.Columns;
        T* endOfX = strip.Work->X + strip.Layout.Count, endOfDy = strip.Work->Dy + strip.Layout.Count;
        T* staged = stackalloc T[(int)(columns < Elements.Step ? 2 * TileRows * Elements.Step : 1)];
        // The last vector reaches back; its lanes are added up at their own place and moved to their columns in the end.
        for (nint block = start; block < end; block++)
        {
            double* sums = strip.Memory + block * SumsPerColumn * width;
            nint last = Math.Min((block + 1) * strip.BlockRows, strip.Layout.Rows);
            for (nint row = block * strip.BlockRows; row < last; row += TileRows)
            {
                nint rows = Math.Min(TileRows, last - row), dyStride = strip.Layout.Columns, xStride = dyStride;
                T* dy = strip.Dy + row * dyStride, x = strip.X + row * xStride;
                if (columns < Elements.Step)
                {
                    dy = ColumnMoments.Staged(dy, ref dyStride, rows, columns, endOfDy, staged);
                    x = ColumnMoments.Staged(x, ref xStride, rows, columns, endOfX, staged + TileRows * Elements.Step);
                }
                nint slot = 0;
                for (; sizeof(T) == 2 && slot <= columns - 2 * Elements.Step; slot += 2 * Elements.Step)
                    SumPairs(dy + slot, dyStride, x + slot, xStride, rows, strip.Scale.Hi + slot, sums + slot, width);
                for (; slot < columns; slot += Elements.Step)
                {
                    nint at = ColumnMoments.StartOf(slot, columns);
                    SumTile(dy + at, dyStride, x + at, xStride, rows, Vector512.Load(strip.Scale.Hi + at), sums + slot, width);
                }
            }
            if (columns >= Elements.Step && columns < width)
            {
                nint tail = columns & ~(Elements.Step - 1), at = columns - Elements.Step;
                for (nint k = 0; k < SumsPerColumn; k++)
                    new Span<double>(sums + k * width + tail, Elements.Step).CopyTo(new Span<double>(sums + k * width + at, Elements.Step));
            }
        }
    }

    /// <summary>The sums of 32 columns of a 16-bit type, which is widened with fewer steps than twice 16.</summary>
    private static void SumPairs<T>(T* dy, nint dyStride, T* x, nint xStride, nint rows, float* hi, double* sums, nint width) where T : unmanaged
    {
        (Vector512<float> hiA, Vector512<float> hiB) = Elements.LoadInPairsOf<T>(hi);
        Vector512<float> s0 = default, s1 = default, s2 = default, s3 = default, p0 = default, p1 = default, p2 = default, p3 = default, q0 = default, q1 = default;
        Vector512<float> t0 = default, t1 = default, t2 = default, t3 = default, r0 = default, r1 = default, r2 = default, r3 = default, u0 = default, u1 = default;
        nint row = 0;
        for (; row <= rows - 4; row += 4)
        {
            Streaming.PrefetchRows(dy, TileRows * dyStride, dyStride);
            Streaming.PrefetchRows(x, TileRows * xStride, xStride);
            Add(dy, x, hiA, hiB, ref s0, ref t0, ref p0, ref r0, ref q0, ref u0);
            Add(dy + dyStride, x + xStride, hiA, hiB, ref s1, ref t1, ref p1, ref r1, ref q1, ref u1);
            Add(dy + 2 * dyStride, x + 2 * xStride, hiA, hiB, ref s2, ref t2, ref p2, ref r2, ref q0, ref u0);
            Add(dy + 3 * dyStride, x + 3 * xStride, hiA, hiB, ref s3, ref t3, ref p3, ref r3, ref q1, ref u1);
            dy += 4 * dyStride;
            x += 4 * xStride;
        }
        for (; row < rows; row++, dy += dyStride, x += xStride)
            Add(dy, x, hiA, hiB, ref s0, ref t0, ref p0, ref r0, ref q0, ref u0);
        AddPairs(sums, (s0 + s1) + (s2 + s3), (t0 + t1) + (t2 + t3));
        AddPairs(sums + width, (p0 + p1) + (p2 + p3), (r0 + r1) + (r2 + r3));
        AddPairs(sums + 2 * width, q0 + q1, u0 + u1);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static void Add(T* dy, T* x, Vector512<float> hiA, Vector512<float> hiB, ref Vector512<float> s, ref Vector512<float> t, ref Vector512<float> p, ref Vector512<float> r, ref Vector512<float> q, ref Vector512<float> u)
        {
            (Vector512<float> a, Vector512<float> b) = Elements.LoadPairs(dy, 0);
            (Vector512<float> xa, Vector512<float> xb) = Elements.LoadPairs(x, 0);
            s += a;
            t += b;
            p += a * (xa - hiA);
            r += b * (xb - hiB);
            q += a * a;
            u += b * b;
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static void AddPairs(double* sums, Vector512<float> a, Vector512<float> b)
        {
            (a, b) = Elements.FromPairsOf<T>(a, b);
            ColumnMoments.AddTo(sums, a);
            ColumnMoments.AddTo(sums + Elements.Step, b);
        }
    }

    private static void SumTile<T>(T* dy, nint dyStride, T* x, nint xStride, nint rows, Vector512<float> hi, double* sums, nint width) where T : unmanaged
    {
        Vector512<float> s0 = default, s1 = default, s2 = default, s3 = default, p0 = default, p1 = default, p2 = default, p3 = default, q0 = default, q1 = default;
        nint row = 0;
        for (; row <= rows - 4; row += 4)
        {
            Streaming.PrefetchRows(dy, TileRows * dyStride, dyStride);
            Streaming.PrefetchRows(x, TileRows * xStride, xStride);
            Vector512<float> g0 = Elements.LoadFloats(dy, 0), g1 = Elements.LoadFloats(dy, dyStride), g2 = Elements.LoadFloats(dy, 2 * dyStride), g3 = Elements.LoadFloats(dy, 3 * dyStride);
            s0 += g0;
            s1 += g1;
            s2 += g2;
            s3 += g3;
            p0 += g0 * (Elements.LoadFloats(x, 0) - hi);
            p1 += g1 * (Elements.LoadFloats(x, xStride) - hi);
            p2 += g2 * (Elements.LoadFloats(x, 2 * xStride) - hi);
            p3 += g3 * (Elements.LoadFloats(x, 3 * xStride) - hi);
            q0 += g0 * g0;
            q1 += g1 * g1;
            q0 += g2 * g2;
            q1 += g3 * g3;
            dy += 4 * dyStride;
            x += 4 * xStride;
        }
        for (; row < rows; row++, dy += dyStride, x += xStride)
        {
            Vector512<float> g = Elements.LoadFloats(dy, 0);
            s0 += g;
            p0 += g * (Elements.LoadFloats(x, 0) - hi);
            q0 += g * g;
        }
        ColumnMoments.AddTo(sums, (s0 + s1) + (s2 + s3));
        ColumnMoments.AddTo(sums + width, (p0 + p1) + (p2 + p3));
        ColumnMoments.AddTo(sums + 2 * width, q0 + q1);
    }

    /// <summary>With a weight a row: the sums of columns are of dy · weight and its product with the normalized value, and the row's are across the strip, without the weight.</summary>
    private static void SumRowsInFloat<T>(ref readonly BackwardStrip<T, float> strip) where T : unmanaged
    {
        nint width = strip.Width, columns = strip.Columns, whole = columns & ~(Elements.Step - 1), stride = strip.Layout.Columns, rows = strip.Layout.Rows;
        T* staged = stackalloc T[8 * Elements.Step];
        using var memory = new RentedDoubles(SumsPerColumn * width / 2 + 8);
        fixed (double* first = memory.Span)
        {
            float* sums = (float*)(((nint)first + 63) & ~63);
            for (nint tile = 0; tile < rows; tile += TileRows)
            {
                new Span<float>(sums, (int)(SumsPerColumn * width)).Clear();
                nint end = Math.Min(tile + TileRows, rows);
                for (nint row = tile; row < end; row += 4)
                {
                    int count = (int)Math.Min(4, end - row);
                    T* dy = strip.Dy + row * stride, x = strip.X + row * stride;
                    SumFour(in strip, row, count, dy, x, stride, 0, whole, sums);
                    if (whole == columns)
                        continue;
                    // Zeros behind the last columns, which add nothing to the sums of the rows.
                    new Span<T>(staged, 8 * Elements.Step).Clear();
                    for (nint r = 0; r < count; r++)
                    {
                        new Span<T>(dy + r * stride + whole, (int)(columns - whole)).CopyTo(new Span<T>(staged + r * Elements.Step, Elements.Step));
                        new Span<T>(x + r * stride + whole, (int)(columns - whole)).CopyTo(new Span<T>(staged + (4 + r) * Elements.Step, Elements.Step));
                    }
                    SumFour(in strip, row, count, staged, staged + 4 * Elements.Step, Elements.Step, whole, width, sums);
                }
                for (nint j = 0; j < SumsPerColumn * width; j += Elements.Step)
                    ColumnMoments.AddTo(strip.Memory + j, Vector512.Load(sums + j));
            }
        }
    }

    /// <summary>Up to four rows of the columns from one to another; the pointers are to the first of these columns.</summary>
    private static void SumFour<T>(ref readonly BackwardStrip<T, float> strip, nint row, int count, T* dy, T* x, nint stride, nint start, nint end, float* sums) where T : unmanaged
    {
        nint width = strip.Width, r1 = count > 1 ? stride : 0, r2 = count > 2 ? 2 * stride : r1, r3 = count > 3 ? 3 * stride : r2;
        float* hi = strip.Scale.Hi, lo = strip.Scale.Mean, rstd = strip.Scale.Rstd;
        // A row that is not there is another one again, with a weight of zero.
        Vector512<float> w0 = Weight(in strip, row, 0, count), w1 = Weight(in strip, row, 1, count), w2 = Weight(in strip, row, 2, count), w3 = Weight(in strip, row, 3, count);
        Vector512<float> s0 = default, s1 = default, s2 = default, s3 = default, p0 = default, p1 = default, p2 = default, p3 = default;
        for (nint j = start; j < end; j += Elements.Step, dy += Elements.Step, x += Elements.Step)
        {
            Streaming.PrefetchRows(dy, 4 * stride, stride);
            Streaming.PrefetchRows(x, 4 * stride, stride);
            Vector512<float> his = Vector512.Load(hi + j), los = Vector512.Load(lo + j), rstds = Vector512.Load(rstd + j);
            Vector512<float> g0 = Elements.LoadFloats(dy, 0), g1 = Elements.LoadFloats(dy, r1), g2 = Elements.LoadFloats(dy, r2), g3 = Elements.LoadFloats(dy, r3);
            Vector512<float> t0 = g0 * ((Elements.LoadFloats(x, 0) - his - los) * rstds), t1 = g1 * ((Elements.LoadFloats(x, r1) - his - los) * rstds);
            Vector512<float> t2 = g2 * ((Elements.LoadFloats(x, r2) - his - los) * rstds), t3 = g3 * ((Elements.LoadFloats(x, r3) - his - los) * rstds);
            s0 += g0;
            s1 += g1;
            s2 += g2;
            s3 += g3;
            p0 += t0;
            p1 += t1;
            p2 += t2;
            p3 += t3;
            (g0, g1, g2, g3) = (g0 * w0, g1 * w1, g2 * w2, g3 * w3);
            (Vector512.Load(sums + j) + ((g0 + g1) + (g2 + g3))).Store(sums + j);
            (Vector512.Load(sums + width + j) + ((t0 * w0 + t1 * w1) + (t2 * w2 + t3 * w3))).Store(sums + width + j);
            (Vector512.Load(sums + 2 * width + j) + ((g0 * g0 + g1 * g1) + (g2 * g2 + g3 * g3))).Store(sums + 2 * width + j);
        }
        double* rows = strip.RowSums + 2 * row;
        AddRow(rows, 0, count, s0, p0);
        AddRow(rows, 1, count, s1, p1);
        AddRow(rows, 2, count, s2, p2);
        AddRow(rows, 3, count, s3, p3);

        static Vector512<float> Weight(ref readonly BackwardStrip<T, float> strip, nint row, int i, int count) => Vector512.Create(i < count ? (float)strip.Work->WeightOf(row + i) : 0);

        static void AddRow(double* rows, int i, int count, Vector512<float> sum, Vector512<float> product)
        {
            if (i >= count)
                return;
            rows[2 * i] += Moments.Fold(sum);
            rows[2 * i + 1] += Moments.Fold(product);
        }
    }
}
