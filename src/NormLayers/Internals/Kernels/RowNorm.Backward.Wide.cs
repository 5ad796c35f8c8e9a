namespace NormLayers.Internals.Kernels;

/// <summary>The backward of groups so long that threads share them, and of those too long for the second-level cache, which have a weight for each element.</summary>
/// <remarks>
/// Of the latter up to 32 groups are summed one after the other, and then written block by block, all of them: a block's weights and terms stay in the first-level cache. Blocks may go to any
/// thread. The order of additions is that of RowNorm.Backward.Float.cs.
/// </remarks>
internal static unsafe partial class RowNorm
{
    /// <summary>From here on four groups exceed the second-level cache, in which shorter ones are found again when they are written.</summary>
    private const nint LeastWideLength = 32768;

    private struct WideBatch<T> where T : unmanaged
    {
        internal const int MostGroups = Team * MostTeams;

        internal BackwardWork<T, float> Work;
        internal nint Place, FirstPeriod;
        internal int Groups;

        /// <summary>The groups for which float will do, a bit for each.</summary>
        internal uint InFloat;
        internal FloatSums* Sums;
        internal FloatGroup* Scales;
        internal float* Weight;
        internal double* Weights, Biases;
    }

    private static void BackwardWide<T>(in BackwardWork<T, float> work, int threads) where T : unmanaged
    {
        nint length = work.Layout.Length, blocks = Moments.FloatBlocks(length), most = Math.Min(work.Periods, WideBatch<T>.MostGroups);
        FloatGroup* scales = stackalloc FloatGroup[WideBatch<T>.MostGroups];
        using var memory = new RentedDoubles(most * blocks * sizeof(FloatSums) / sizeof(double));
        fixed (double* sums = memory.Span)
        {
            var batch = new WideBatch<T> { Work = work, Sums = (FloatSums*)sums, Scales = scales };
            for (batch.Place = 0; batch.Place < work.Layout.Period; batch.Place++)
            {
                nint first = batch.Place * work.Layout.GroupParameters;
                batch.Weight = work.Weight == null ? null : work.Weight + first;
                batch.Weights = work.WeightSums == null ? null : work.WeightSums + first;
                batch.Biases = work.BiasSums == null ? null : work.BiasSums + first;
                for (batch.FirstPeriod = 0; batch.FirstPeriod < work.Periods; batch.FirstPeriod += most)
                {
                    batch.Groups = (int)Math.Min(most, work.Periods - batch.FirstPeriod);
                    Partition.Run(batch.Groups * blocks, threads, &SumWide<T>, &batch);
                    SetScales(ref batch);
                    Partition.Run(blocks, threads, &WriteWide<T>, &batch);
                    for (int i = 0; i < batch.Groups; i++)
                    {
                        if ((batch.InFloat >> i & 1) != 0)
                            continue;
                        nint g = work.Layout.GroupAt(batch.FirstPeriod + i, batch.Place);
                        BackwardInDouble(in work, g, batch.Weights, batch.Biases);
                        AddGradSum(in work, g);
                    }
                }
            }
        }
        if (work.Stream.Wanted)
            Streaming.Fence();
    }

    private static void SumWide<T>(void* state, nint start, nint end) where T : unmanaged
    {
        ref readonly WideBatch<T> batch = ref *(WideBatch<T>*)state;
        nint length = batch.Work.Layout.Length, blocks = Moments.FloatBlocks(length);
        for (nint part = start; part < end; part++)
        {
            nint block = part % blocks, first = block * Moments.BlockLength, g = batch.Work.Layout.GroupAt(batch.FirstPeriod + part / blocks, batch.Place), at = g * length + first;
            SumBlock(batch.Work.Dy + at, batch.Work.X + at, batch.Weight == null ? null : batch.Weight + first, Moments.FloatBlockEnd(block, length) - first, in batch.Work.Statistics[g], ref batch.Sums[part]);
        }
    }

    private static void SetScales<T>(ref WideBatch<T> batch) where T : unmanaged
    {
        nint length = batch.Work.Layout.Length, blocks = Moments.FloatBlocks(length);
        batch.InFloat = 0;
        for (int i = 0; i < batch.Groups; i++)
        {
            nint g = batch.Work.Layout.GroupAt(batch.FirstPeriod + i, batch.Place);
            ref readonly GroupStatistics group = ref batch.Work.Statistics[g];
            FloatSums total = default;
            for (nint block = 0; block < blocks; block++)
                total.AddScaled(in batch.Sums[i * blocks + block], 1);
            if (!IsOrdinary(in group)
                || (!total.AreExactInFloat(group.ScaledRstd, length, batch.Work.Layout.Statistic, out double mean, out double product)
                    && !FloatSums.AreExactInFloat(SumOfSquares(batch.Work.Dy + g * length, batch.Weight, length) / length, mean, product)))
                continue;
            batch.InFloat |= 1u << i;
            batch.Scales[i].Set<T>(in group, mean, product, ofTerms: true);
        }
    }

    private static void WriteWide<T>(void* state, nint start, nint end) where T : unmanaged
    {
        ref readonly WideBatch<T> batch = ref *(WideBatch<T>*)state;
        nint length = batch.Work.Layout.Length, stride = batch.Work.Layout.PeriodStride * length;
        using var memory = new RentedDoubles(ParameterTerms.Doubles(2 * Moments.BlockLength));
        fixed (double* terms = memory.Span)
        {
            for (nint block = start; block < end; block++)
            {
                nint first = block * Moments.BlockLength, count = Moments.FloatBlockEnd(block, length) - first;
                double* weights = batch.Weights == null ? null : batch.Weights + first, biases = batch.Biases == null ? null : batch.Biases + first;
                if (batch.FirstPeriod == 0)
                {
                    new Span<double>(weights, weights == null ? 0 : (int)count).Clear();
                    new Span<double>(biases, biases == null ? 0 : (int)count).Clear();
                }
                var parameters = new ParameterTerms(terms, count, weights, biases, paired: false);
                for (int i = 0; i < batch.Groups;)
                {
                    nint g = batch.Work.Layout.GroupAt(batch.FirstPeriod + i, batch.Place);
                    uint inFloat = batch.InFloat >> i & 15;
                    if (inFloat == 15)
                    {
                        // The next team's block, or the first team's next one.
                        nint ahead = i + 2 * Team <= batch.Groups ? Team * stride : Moments.BlockLength - i * stride;
                        WriteTeam(in batch.Work, g, first, count, ahead, batch.Weight, batch.Scales + i, ref parameters);
                        i += Team;
                        continue;
                    }
                    if ((inFloat & 1) != 0)
                        WriteElementwise(in batch.Work, g, first, count, batch.Weight, in batch.Scales[i], weights, biases);
                    i++;
                }
                parameters.Deliver();
            }
        }
    }

    /// <summary>All groups, one after the other, the runs of each shared among the threads: where there are fewer groups than threads. The bits are those of one thread.</summary>
    private static void BackwardShared<T>(in BackwardWork<T, float> work, int threads) where T : unmanaged
    {
        nint count = work.Layout.GroupParameters;
        using var memory = new RentedDoubles(count * sizeof(FloatSums) / sizeof(double));
        fixed (double* sums = memory.Span)
        {
            var part = new GroupPart<T, T>(in work) { Sums = (FloatSums*)sums };
            for (nint g = 0; g < work.Layout.Groups; g++)
            {
                nint first = work.Layout.FirstParameter(g);
                double* weights = work.WeightSums == null ? null : work.WeightSums + first, biases = work.BiasSums == null ? null : work.BiasSums + first;
                if (!IsOrdinary(in work.Statistics[g]))
                {
                    BackwardInDouble(in work, g, weights, biases);
                    continue;
                }
                part.MoveTo(in work, g, work.Dy + g * work.Layout.Length);
                Partition.Run(count, threads, &SumRuns<T>, &part);
                FloatSums total = default;
                for (nint p = 0; p < count; p++)
                {
                    total.AddScaled(in part.Sums[p], part.WeightOf(p));
                    AddRun(in part.Sums[p], in part, p, weights, biases);
                }
                if (part.Dx == null)
                    continue;
                if ((total.AreExactInFloat(work.Statistics[g].ScaledRstd, work.Layout.Length, work.Layout.Statistic, out double mean, out double product) || FloatSums.AreExactInFloat(part.MeanSquare(), mean, product))
                    && (work.Layout.Scaled || double.IsFinite(total.Product)))
                {
                    part.Group.Set<T>(in work.Statistics[g], mean, product, ofTerms: false);
                    Partition.Run(count, threads, &WriteRuns<T>, &part);
                }
                else
                    BackwardInDouble(in work, g, null, null);
            }
        }
        if (work.Stream.Wanted)
            Streaming.Fence();
    }

    private static void SumRuns<T>(void* state, nint start, nint end) where T : unmanaged
    {
        ref readonly GroupPart<T, T> part = ref *(GroupPart<T, T>*)state;
        for (nint p = start; p < end; p++)
            Sum(part.Dy + p * part.Run, part.X + p * part.Run, null, part.Run, in *part.Statistics, ref part.Sums[p]);
    }

    private static void WriteRuns<T>(void* state, nint start, nint end) where T : unmanaged => WriteRuns(in *(GroupPart<T, T>*)state, start, end);
}
