using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>The forward of groups with a weight for each element, the sums of one group taken while another is written.</summary>
/// <remarks>
/// Memory is read and written at an even pace, arithmetic and stores overlap, and what follows a group's sums (a fold, a root, two divisions) has the
/// time of a whole group to be done. The sums are those of Moments.Float.cs and the results those of RowNorm.Float.cs, operation by operation.
/// </remarks>
internal static unsafe partial class RowNorm
{
    /// <summary>How many groups the sums are ahead: with one, the loop would begin by waiting for the last sums.</summary>
    private const nint Lag = 2;

    /// <summary>Two groups of more, and their parameters, are too much for a second-level cache of 1 MB that holds what is asked for ahead, too: measured.</summary>
    private const nint MostPipelinedBytes = 16384;

    /// <summary>Up to so many parameters, and for so many groups, they are copied to where lines begin.</summary>
    private const int MostAlignedLength = 4096, LeastAlignedGroups = 8;

    private static bool IsPipelined<T>(in ForwardWork<T, float> work) where T : unmanaged
        => work.Layout.Run == 1 && work.Layout.Length * sizeof(T) <= MostPipelinedBytes && work.GroupThreads == 1 && !work.Activated && work.Layout.Statistic != RowStatistic.Given;

    /// <summary>Whether residuals are added in the same loop: whole vectors, and where the sum is streamed whole lines.</summary>
    private static bool IsPipelinedSum<T, TParameter>(in ForwardWork<T, TParameter> work)
        where T : unmanaged
        where TParameter : unmanaged
        => typeof(TParameter) == typeof(float) && work.Layout.Length >= Moments.LeastFloatLength && work.Layout.Length % 16 == 0 && work.Layout.Length * sizeof(T) <= MostPipelinedBytes && work.GroupThreads == 1
            && (!work.StreamSum.Wanted || (work.Layout.Length * sizeof(T) % 64 == 0 && (nint)work.Sum % 64 == 0));

    private static void ForwardPipelined<T, TCenter>(in ForwardWork<T, float> work, nint start, nint end)
        where T : unmanaged
        where TCenter : struct, Moments.ICenter
    {
        if (work.Residual == null)
            ForwardPipelined<T, TCenter, GivenElements>(in work, start, end);
        else if (work.StreamSum.Wanted)
            ForwardPipelined<T, TCenter, StreamedSums>(in work, start, end);
        else
            ForwardPipelined<T, TCenter, Sums>(in work, start, end);
    }

    private static void ForwardPipelined<T, TCenter, TSource>(in ForwardWork<T, float> work, nint start, nint end)
        where T : unmanaged
        where TCenter : struct, Moments.ICenter
        where TSource : struct, ISource
    {
        if (work.Weight == null && work.Bias == null)
            ForwardPipelined<T, TCenter, TSource, Absent, Absent, Paired>(in work, start, end);
        else if (work.Paired)
            ForwardPipelined<T, TCenter, TSource, Paired>(in work, start, end);
        else
            ForwardPipelined<T, TCenter, TSource, Natural>(in work, start, end);
    }

    private static void ForwardPipelined<T, TCenter, TSource, TOrder>(in ForwardWork<T, float> work, nint start, nint end)
        where T : unmanaged
        where TCenter : struct, Moments.ICenter
        where TSource : struct, ISource
        where TOrder : struct, IOrder
    {
        if (work.Bias == null)
            ForwardPipelined<T, TCenter, TSource, Each, Absent, TOrder>(in work, start, end);
        else if (work.Weight == null)
            ForwardPipelined<T, TCenter, TSource, Absent, Each, TOrder>(in work, start, end);
        else
            ForwardPipelined<T, TCenter, TSource, Each, Each, TOrder>(in work, start, end);
    }

    [SkipLocalsInit]
    private static void ForwardPipelined<T, TCenter, TSource, TWeight, TBias, TOrder>(in ForwardWork<T, float> groups, nint start, nint end)
        where T : unmanaged
        where TCenter : struct, Moments.ICenter
        where TSource : struct, ISource
        where TWeight : struct, IParameter
        where TBias : struct, IParameter
        where TOrder : struct, IOrder
    {
        ForwardWork<T, float> work = groups;
        // A load across the boundary of two lines costs two; the parameters are loaded with every group.
        float* parameters = stackalloc float[2 * MostAlignedLength + 16];
        if (!work.Paired && work.Layout.Parameters <= MostAlignedLength && end - start >= LeastAlignedGroups)
        {
            parameters = (float*)(((nint)parameters + 63) & ~63);
            work.Weight = Copy(work.Weight, parameters, work.Layout.Parameters);
            work.Bias = Copy(work.Bias, parameters + MostAlignedLength, work.Layout.Parameters);
        }
        nint length = work.Layout.Length, blocks = Moments.FloatBlocks(length);
        Streaming stream = work.Stream;
        FloatScale* scales = stackalloc FloatScale[2];
        // Sums that are streamed are read again from here: two rows, since a row is written in the place of the one that is read.
        T* kept = null;
        if (TSource.Streams)
        {
            byte* memory = stackalloc byte[(int)(Lag * length * sizeof(T)) + 64];
            kept = (T*)(((nint)memory + 63) & ~63);
        }
        for (nint g = start; g < Math.Min(start + Lag, end); g++)
        {
            AddRow<T, TSource>(ref work, in groups, kept, g);
            SetScale(in work, g, ref scales[g & 1]);
        }
        PendingSums<T, TCenter> pending = default;
        var apply = new FloatApply<T, T>(in work);
        for (nint g = start; g < end; g++)
        {
            ref FloatScale scale = ref scales[g & 1], next = ref scales[g + 1 & 1];
            if (g + Lag >= end || double.IsNaN(scale.Rstd))
            {
                if (g > start && g + 1 < end)
                {
                    SetRows<T, TSource>(ref work, kept, g + 1);
                    pending.SetScale(in work, g + 1, ref next);
                }
                pending.X = null;
                SetRows<T, TSource>(ref work, kept, g);
                apply.MoveTo(in work, g);
                apply.Scale.Take(in scale);
                if (double.IsNaN(scale.Rstd))
                    apply.Exact = StatisticsOf(in work, g);
                Apply(in apply, 0, length);
                if (g + Lag < end)
                    AddRow<T, TSource>(ref work, in groups, kept, g + Lag);
                continue;
            }
            SetRows<T, TSource>(ref work, kept, g + Lag);
            T* pendingRow = work.X + (g + Lag) * length, ahead = groups.X + (g + Lag) * length, residual = groups.Residual + (g + Lag) * length, total = groups.Sum + (g + Lag) * length;
            SetRows<T, TSource>(ref work, kept, g);
            T* x = work.X + g * length, y = work.Y + g * length;
            SetRows<T, TSource>(ref work, kept, g + 1);
            nint first = work.Layout.FirstParameter(g), from = 0;
            float* weight = work.Weight + first, bias = work.Bias + first;
            float hi = scale.Hi, lo = Elements.ToSingle(scale.Lo), rstd = Elements.ToSingle(scale.Rstd);
            bool needsLo = scale.NeedsLo<T>();
            for (nint block = 0; block < blocks; block++)
            {
                nint n = Moments.FloatBlockEnd(block, length) - from;
                float center = TCenter.IsMean ? TSource.CenterOf(ahead + from, residual + from, n) : 0;
                double squares = needsLo
                    ? ApplyAndSum<T, TCenter, TSource, MeanInTwo, TWeight, TBias, TOrder>(x + from, y + from, n, weight + from, bias + from, hi, lo, rstd, stream, ahead + from, residual + from, total + from, center, out double sum)
                    : TCenter.IsMean
                        ? ApplyAndSum<T, TCenter, TSource, MeanInOne, TWeight, TBias, TOrder>(x + from, y + from, n, weight + from, bias + from, hi, lo, rstd, stream, ahead + from, residual + from, total + from, center, out sum)
                        : ApplyAndSum<T, TCenter, TSource, NoMean, TWeight, TBias, TOrder>(x + from, y + from, n, weight + from, bias + from, hi, lo, rstd, stream, ahead + from, residual + from, total + from, center, out sum);
                // What the sums of a loop mean is worked out behind the next one, when their folds have long been done.
                if (block > 0)
                    pending.Merge();
                else if (g > start)
                    pending.SetScale(in work, g + 1, ref next);
                pending.Set(pendingRow + from, from, n, center, sum, squares);
                from += n;
            }
        }
    }

    /// <summary>Makes a group's elements those that are to be normalized.</summary>
    private static void SetRows<T, TSource>(ref ForwardWork<T, float> work, T* kept, nint g)
        where T : unmanaged
        where TSource : struct, ISource
    {
        if (TSource.Streams)
            work.X = kept + (g & 1) * work.Layout.Length - g * work.Layout.Length;
        else if (TSource.Adds)
            work.X = work.Sum;
    }

    private static void AddRow<T, TSource>(ref ForwardWork<T, float> work, in ForwardWork<T, float> groups, T* kept, nint g)
        where T : unmanaged
        where TSource : struct, ISource
    {
        SetRows<T, TSource>(ref work, kept, g);
        nint length = work.Layout.Length, first = g * length;
        if (TSource.Streams)
            AddApart(new AddWork<T> { X = groups.X + first, Residual = groups.Residual + first, Sum = groups.Sum + first, Ahead = length }, work.X + first, length);
        else if (TSource.Adds)
            Add(groups.X + first, groups.Residual + first, groups.Sum + first, length, length);
    }

    private static float* Copy(float* source, float* destination, nint length)
    {
        if (source == null)
            return null;
        new Span<float>(source, (int)length).CopyTo(new Span<float>(destination, (int)length));
        return destination;
    }

    /// <summary>The sums over a block, and the moments of its group's blocks before it.</summary>
    private struct PendingSums<T, TCenter>
        where T : unmanaged
        where TCenter : struct, Moments.ICenter
    {
        internal T* X;
        private nint start, length;
        private float center;
        private double sum, squares, mean, deviations;

        internal void Set(T* x, nint start, nint length, float center, double sum, double squares)
        {
            X = x;
            this.start = start;
            this.length = length;
            this.center = center;
            this.sum = sum;
            this.squares = squares;
        }

        internal void Merge()
        {
            double blockSquares = squares, blockMean = Moments.MeanOfBlock<T, TCenter>(X, length, center, sum, ref blockSquares);
            if (start == 0)
                (mean, deviations) = (blockMean, blockSquares);
            else
                Moments.MergeFloats(ref mean, ref deviations, start, blockMean, blockSquares, length);
        }

        /// <summary>The scale of the group whose last block this is; where there is none, from its elements.</summary>
        internal void SetScale(in ForwardWork<T, float> work, nint g, ref FloatScale scale)
        {
            if (X == null)
            {
                RowNorm.SetScale(in work, g, ref scale);
                return;
            }
            Merge();
            RowNorm.SetScale(in work, g, mean, deviations / work.Layout.Length, ref scale);
        }
    }

    private static double ApplyAndSum<T, TCenter, TSource, TMean, TWeight, TBias, TOrder>(T* x, T* y, nint n, float* weight, float* bias, float hi, float lo, float rstd, Streaming stream, T* next, T* residual, T* total, float center, out double sum)
        where T : unmanaged
        where TCenter : struct, Moments.ICenter
        where TSource : struct, ISource
        where TMean : struct, IMean
        where TWeight : struct, IParameter
        where TBias : struct, IParameter
        where TOrder : struct, IOrder
    {
        Vector512<float> his = Vector512.Create(hi), los = Vector512.Create(lo), rstds = Vector512.Create(rstd);
        Vector512<float> from = Vector512.Create(center), s0 = default, s1 = default, s2 = default, s3 = default;
        if ((n & 15) != 0)
            s0 = Moments.TailAbout(next, n, from);
        Vector512<float> q0 = s0 * s0, q1 = default, q2 = default, q3 = default;
        Vector512<float> last = Of(x, n - 16, weight, bias, his, los, rstds);
        // Results are written from the first whole line on if they are streamed, sums taken from the first element.
        nint head = 0, i = 0;
        if (stream.Wanted)
        {
            head = Streaming.Head(ref *y, n);
            if (head > 0)
                Elements.StoreFloats(Of(x, 0, weight, bias, his, los, rstds), y, 0);
        }
        for (; i <= n - 64 - head; i += 64)
        {
            ApplyPairs<T, T, TMean, TWeight, TBias, TOrder>(x, y, i + head, weight, bias, his, los, rstds, stream);
            ApplyPairs<T, T, TMean, TWeight, TBias, TOrder>(x, y, i + head + 32, weight, bias, his, los, rstds, stream);
            TSource.Prefetch(next, residual, i);
            (Vector512<float> d0, Vector512<float> d1) = TSource.LoadPairs(next, residual, total, x, i);
            (Vector512<float> d2, Vector512<float> d3) = TSource.LoadPairs(next, residual, total, x, i + 32);
            if (TCenter.IsMean)
            {
                (d0, d1, d2, d3) = (d0 - from, d1 - from, d2 - from, d3 - from);
                s0 += d0;
                s1 += d1;
                s2 += d2;
                s3 += d3;
            }
            q0 += d0 * d0;
            q1 += d1 * d1;
            q2 += d2 * d2;
            q3 += d3 * d3;
        }
        // Before another row's elements take their place.
        nint written = i + head;
        for (; written <= n - 16; written += 16)
            stream.StoreFloats(Of(x, written, weight, bias, his, los, rstds), y, written);
        if (written < n)
            Elements.StoreFloats(last, y, n - 16);
        if (i <= n - 64)
        {
            (Vector512<float> d0, Vector512<float> d1) = TSource.LoadPairs(next, residual, total, x, i);
            (Vector512<float> d2, Vector512<float> d3) = TSource.LoadPairs(next, residual, total, x, i + 32);
            if (TCenter.IsMean)
            {
                (d0, d1, d2, d3) = (d0 - from, d1 - from, d2 - from, d3 - from);
                s0 += d0;
                s1 += d1;
                s2 += d2;
                s3 += d3;
            }
            q0 += d0 * d0;
            q1 += d1 * d1;
            q2 += d2 * d2;
            q3 += d3 * d3;
            i += 64;
        }
        for (; i <= n - 16; i += 16)
        {
            Vector512<float> d0 = TSource.Load(next, residual, total, x, i);
            if (TCenter.IsMean)
            {
                d0 -= from;
                s0 += d0;
            }
            q0 += d0 * d0;
        }
        sum = Moments.Fold((s0 + s1) + (s2 + s3));
        return Moments.FoldSquares<T>((q0 + q1) + (q2 + q3), n);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static Vector512<float> Of(T* x, nint i, float* weight, float* bias, Vector512<float> his, Vector512<float> los, Vector512<float> rstds)
            => TBias.Plus(TWeight.Times(TMean.Without(Elements.LoadFloats(x, i), his, los) * rstds, weight, i), bias, i);
    }

    /// <summary>Where the elements come from whose sums are taken.</summary>
    private interface ISource
    {
        static abstract bool Adds { get; }

        static abstract bool Streams { get; }

        static abstract float CenterOf<T>(T* next, T* residual, nint n) where T : unmanaged;

        static abstract void Prefetch<T>(T* next, T* residual, nint i) where T : unmanaged;

        static abstract (Vector512<float> A, Vector512<float> B) LoadPairs<T>(T* next, T* residual, T* sum, T* copy, nint i) where T : unmanaged;

        static abstract Vector512<float> Load<T>(T* next, T* residual, T* sum, T* copy, nint i) where T : unmanaged;
    }

    private readonly struct GivenElements : ISource
    {
        public static bool Adds => false;

        public static bool Streams => false;

        public static float CenterOf<T>(T* next, T* residual, nint n) where T : unmanaged => Moments.CenterOf(next, n);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Prefetch<T>(T* next, T* residual, nint i) where T : unmanaged => Streaming.PrefetchFour(next, i);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static (Vector512<float> A, Vector512<float> B) LoadPairs<T>(T* next, T* residual, T* sum, T* copy, nint i) where T : unmanaged => Elements.LoadPairs(next, i);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Load<T>(T* next, T* residual, T* sum, T* copy, nint i) where T : unmanaged => Elements.LoadFloats(next, i);
    }
}
