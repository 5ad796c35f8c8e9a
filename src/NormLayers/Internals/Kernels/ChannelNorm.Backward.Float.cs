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
    private const nint TileRows = ColumnMoments.FloatTileRows;

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
        => weighted.AreExactInFloat(rstd, layout.Length, layout.Statistic, out mean, out product) || IsZero(in weighted);

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
            // Where the statistics are given, nothing has to wait for the sums.
            bool fused = isGivenInFloat && strip.Dx != null && strip.Dx != strip.Dy;
            strip.Reversed = !fused && strip.Columns * layout.Rows * sizeof(T) > ChannelLayout.CacheBytes;
            if (fused)
                BeginWriting(ref strip);
            if (layout.Axis == ParameterAxis.Row)
                SumRowsInFloat(in strip);
            else
                Partition.Run(blocks, strip.Work->Threads, fused ? &SumAndWriteBlocks<T> : &SumColumnsInFloat<T>, state);
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
            if (strip.Dx == null || fused || (layout.Scaled && exact != strip.Columns))
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
        nint width = strip.Width, columns = strip.Columns, stride = strip.Layout.Columns;
        T* endOfX = strip.Work->X + strip.Layout.Count, endOfDy = strip.Work->Dy + strip.Layout.Count;
        T* staged = stackalloc T[(int)(columns < ColumnMoments.Step ? 2 * TileRows * ColumnMoments.Step : 1)];
        // The last vectors reach back; their lanes are added up at their own place and moved to their columns in the end.
        for (nint block = start; block < end; block++)
        {
            double* sums = strip.Memory + block * SumsPerColumn * width;
            nint last = Math.Min((block + 1) * strip.BlockRows, strip.Layout.Rows);
            for (nint row = block * strip.BlockRows; row < last; row += TileRows)
            {
                nint rows = Math.Min(TileRows, last - row), dyStride = stride, xStride = stride;
                T* dy = ColumnMoments.Staged(strip.Dy + row * stride, ref dyStride, rows, columns, endOfDy, staged);
                T* x = ColumnMoments.Staged(strip.X + row * stride, ref xStride, rows, columns, endOfX, staged + TileRows * ColumnMoments.Step);
                for (nint slot = 0; slot < columns; slot += ColumnMoments.Step)
                {
                    nint at = ColumnMoments.StartOf(slot, columns);
                    SumTile(dy + at, dyStride, x + at, xStride, rows, strip.Scale.Hi + at, sums + slot, width, ColumnMoments.NextTile(strip.Dy + row * stride, TileRows, stride, columns, slot), ColumnMoments.NextTile(strip.X + row * stride, TileRows, stride, columns, slot));
                }
            }
            if (columns >= ColumnMoments.Step && columns < width)
            {
                nint tail = width - ColumnMoments.Step, at = columns - ColumnMoments.Step;
                for (nint k = 0; k < SumsPerColumn; k++)
                    new Span<double>(sums + k * width + tail, (int)ColumnMoments.Step).CopyTo(new Span<double>(sums + k * width + at, (int)ColumnMoments.Step));
            }
        }
    }

    /// <summary>The same, each block followed by the gradient of the input in the chunks that begin there.</summary>
    private static void SumAndWriteBlocks<T>(void* state, nint start, nint end) where T : unmanaged
    {
        ref readonly BackwardStrip<T, float> strip = ref *(BackwardStrip<T, float>*)state;
        nint chunks = (strip.RowCount + strip.ChunkRows - 1) / strip.ChunkRows, chunkRows = strip.ChunkRows * strip.Lanes.Length / strip.Columns;
        for (nint block = start; block < end; block++)
        {
            SumColumnsInFloat<T>(state, block, block + 1);
            nint next = Math.Min((block + 1) * strip.BlockRows, strip.Layout.Rows);
            WriteChunks<T>(state, ChunkFrom(block * strip.BlockRows), next == strip.Layout.Rows ? chunks : ChunkFrom(next));
        }

        nint ChunkFrom(nint row) => Math.Min((row + chunkRows - 1) / chunkRows, chunks);
    }

    private static void SumTile<T>(T* dy, nint dyStride, T* x, nint xStride, nint rows, float* hi, double* sums, nint width, RowsAhead<T> dyAhead, RowsAhead<T> xAhead) where T : unmanaged
    {
        (Vector512<float> hiA, Vector512<float> hiB) = Elements.LoadInPairsOf<T>(hi);
        Vector512<float> s0 = default, s1 = default, s2 = default, s3 = default, p0 = default, p1 = default, p2 = default, p3 = default, q0 = default, q1 = default;
        Vector512<float> t0 = default, t1 = default, t2 = default, t3 = default, r0 = default, r1 = default, r2 = default, r3 = default, u0 = default, u1 = default;
        nint row = 0;
        for (; row <= rows - 4; row += 4)
        {
            dyAhead.Prefetch(sizeof(T) / 2);
            xAhead.Prefetch(sizeof(T) / 2);
            Add(dy, x, hiA, hiB, ref s0, ref t0, ref p0, ref r0, ref q0, ref u0);
            Add(dy + dyStride, x + xStride, hiA, hiB, ref s1, ref t1, ref p1, ref r1, ref q1, ref u1);
            Add(dy + 2 * dyStride, x + 2 * xStride, hiA, hiB, ref s2, ref t2, ref p2, ref r2, ref q0, ref u0);
            Add(dy + 3 * dyStride, x + 3 * xStride, hiA, hiB, ref s3, ref t3, ref p3, ref r3, ref q1, ref u1);
            dy += 4 * dyStride;
            x += 4 * xStride;
        }
        for (; row < rows; row++, dy += dyStride, x += xStride)
            Add(dy, x, hiA, hiB, ref s0, ref t0, ref p0, ref r0, ref q0, ref u0);
        ColumnMoments.AddPairs<T>(sums, (s0 + s1) + (s2 + s3), (t0 + t1) + (t2 + t3));
        ColumnMoments.AddPairs<T>(sums + width, (p0 + p1) + (p2 + p3), (r0 + r1) + (r2 + r3));
        ColumnMoments.AddPairs<T>(sums + 2 * width, q0 + q1, u0 + u1);

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
    }

    /// <summary>With a weight a row: the sums of columns are of dy · weight and its product with the normalized value, and the row's are across the strip, without the weight.</summary>
    private static void SumRowsInFloat<T>(ref readonly BackwardStrip<T, float> strip) where T : unmanaged
    {
        const nint Step = ColumnMoments.Step;
        nint width = strip.Width, columns = strip.Columns, whole = columns & ~(Step - 1), stride = strip.Layout.Columns, rows = strip.Layout.Rows;
        T* staged = stackalloc T[(int)(8 * Step)];
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
                    new Span<T>(staged, (int)(8 * Step)).Clear();
                    for (nint r = 0; r < count; r++)
                    {
                        new Span<T>(dy + r * stride + whole, (int)(columns - whole)).CopyTo(new Span<T>(staged + r * Step, (int)Step));
                        new Span<T>(x + r * stride + whole, (int)(columns - whole)).CopyTo(new Span<T>(staged + (4 + r) * Step, (int)Step));
                    }
                    SumFour(in strip, row, count, staged, staged + 4 * Step, Step, whole, width, sums);
                }
                for (nint j = 0; j < SumsPerColumn * width; j += Step)
                    ColumnMoments.AddPairs<T>(strip.Memory + j, Vector512.Load(sums + j), Vector512.Load(sums + j + Elements.Step));
            }
        }
    }

    /// <summary>Up to four rows of the columns from one to another; the pointers are to the first of these columns. The sums of columns are in the order of pairs.</summary>
    private static void SumFour<T>(ref readonly BackwardStrip<T, float> strip, nint row, int count, T* dy, T* x, nint stride, nint start, nint end, float* sums) where T : unmanaged
    {
        nint width = strip.Width, r1 = count > 1 ? stride : 0, r2 = count > 2 ? 2 * stride : r1, r3 = count > 3 ? 3 * stride : r2;
        float* hi = strip.Scale.Hi, lo = strip.Scale.Mean, rstd = strip.Scale.Rstd;
        // A row that is not there is another one again, with a weight of zero.
        Vector512<float> w0 = Weight(in strip, row, 0, count), w1 = Weight(in strip, row, 1, count), w2 = Weight(in strip, row, 2, count), w3 = Weight(in strip, row, 3, count);
        Vector512<float> s0 = default, s1 = default, s2 = default, s3 = default, p0 = default, p1 = default, p2 = default, p3 = default;
        for (nint j = start; j < end; j += ColumnMoments.Step, dy += ColumnMoments.Step, x += ColumnMoments.Step)
        {
            Streaming.PrefetchRows(dy, 4 * stride, stride);
            Streaming.PrefetchRows(x, 4 * stride, stride);
            if (sizeof(T) == 4)
            {
                Streaming.PrefetchRows(dy, 4 * stride + Elements.Step, stride);
                Streaming.PrefetchRows(x, 4 * stride + Elements.Step, stride);
            }
            (Vector512<float> his, Vector512<float> otherHis) = Elements.LoadInPairsOf<T>(hi + j);
            (Vector512<float> los, Vector512<float> otherLos) = Elements.LoadInPairsOf<T>(lo + j);
            (Vector512<float> rstds, Vector512<float> otherRstds) = Elements.LoadInPairsOf<T>(rstd + j);
            (Vector512<float> g0, Vector512<float> h0) = Elements.LoadPairs(dy, 0);
            (Vector512<float> g1, Vector512<float> h1) = Elements.LoadPairs(dy, r1);
            (Vector512<float> g2, Vector512<float> h2) = Elements.LoadPairs(dy, r2);
            (Vector512<float> g3, Vector512<float> h3) = Elements.LoadPairs(dy, r3);
            (Vector512<float> t0, Vector512<float> u0) = Elements.LoadPairs(x, 0);
            (Vector512<float> t1, Vector512<float> u1) = Elements.LoadPairs(x, r1);
            (Vector512<float> t2, Vector512<float> u2) = Elements.LoadPairs(x, r2);
            (Vector512<float> t3, Vector512<float> u3) = Elements.LoadPairs(x, r3);
            (t0, t1) = (g0 * ((t0 - his - los) * rstds), g1 * ((t1 - his - los) * rstds));
            (t2, t3) = (g2 * ((t2 - his - los) * rstds), g3 * ((t3 - his - los) * rstds));
            AddToColumns(sums + j, width, g0 * w0, g1 * w1, g2 * w2, g3 * w3, (t0 * w0 + t1 * w1) + (t2 * w2 + t3 * w3));
            (u0, u1) = (h0 * ((u0 - otherHis - otherLos) * otherRstds), h1 * ((u1 - otherHis - otherLos) * otherRstds));
            (u2, u3) = (h2 * ((u2 - otherHis - otherLos) * otherRstds), h3 * ((u3 - otherHis - otherLos) * otherRstds));
            AddToColumns(sums + j + Elements.Step, width, h0 * w0, h1 * w1, h2 * w2, h3 * w3, (u0 * w0 + u1 * w1) + (u2 * w2 + u3 * w3));
            s0 = s0 + g0 + h0;
            s1 = s1 + g1 + h1;
            s2 = s2 + g2 + h2;
            s3 = s3 + g3 + h3;
            p0 = p0 + t0 + u0;
            p1 = p1 + t1 + u1;
            p2 = p2 + t2 + u2;
            p3 = p3 + t3 + u3;
        }
        double* rows = strip.RowSums + 2 * row;
        AddRow(rows, 0, count, s0, p0);
        AddRow(rows, 1, count, s1, p1);
        AddRow(rows, 2, count, s2, p2);
        AddRow(rows, 3, count, s3, p3);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static void AddToColumns(float* sums, nint width, Vector512<float> g0, Vector512<float> g1, Vector512<float> g2, Vector512<float> g3, Vector512<float> products)
        {
            (Vector512.Load(sums) + ((g0 + g1) + (g2 + g3))).Store(sums);
            (Vector512.Load(sums + width) + products).Store(sums + width);
            (Vector512.Load(sums + 2 * width) + ((g0 * g0 + g1 * g1) + (g2 * g2 + g3 * g3))).Store(sums + 2 * width);
        }

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
