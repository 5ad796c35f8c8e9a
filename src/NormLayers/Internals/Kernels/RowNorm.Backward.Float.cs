using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>The backward of groups of floats in which nothing cancels, which is nearly always: element-wise work in float, sums in double.</summary>
/// <remarks>
/// <para>
/// Order: g and g · (x - hi) of element i of a block go to lane i mod 64 of sums of floats, of 16-bit elements in the order of pairs (the last n mod 16 elements begin
/// them); blocks (Moments.FloatBlocks) are widened, folded by halves and added in double, where what hi lacks of the mean is taken off. The terms of a
/// parameter's gradient are added in float over four groups at a time and eight such teams, and these sums in double.
/// </para>
/// <para>
/// Error: dx = (g - E[g] - n · E[g · n]) · rstd has eight roundings, each of at most 2^-24 of the largest term. What is left of g must be a good part
/// of it, or the group is done in double: the mean square of g less that of what is taken off is known before anything is written.
/// </para>
/// </remarks>
internal static unsafe partial class RowNorm
{
    /// <summary>What dx needs of a group beside its elements.</summary>
    internal struct FloatGroup
    {
        internal float Hi, Lo, Rstd, Mean, Product;

        internal void Set<T>(in GroupStatistics group, double mean, double product, bool ofTerms) where T : unmanaged
        {
            var scale = new FloatScale(in group);
            Hi = scale.Hi;
            Lo = scale.NeedsLo<T>(ofTerms) ? Elements.ToSingle(scale.Lo) : 0;
            Rstd = Elements.ToSingle(scale.Rstd);
            Mean = Elements.ToSingle(mean);
            Product = Elements.ToSingle(product);
        }

        internal readonly float Normalize(float x) => (x - Hi - Lo) * Rstd;

        /// <summary>dx of an element with this dy, weight and normalized value.</summary>
        internal readonly float GradientOf(float dy, float weight, float normalized) => (dy * weight - Mean - normalized * Product) * Rstd;
    }

    /// <summary>Whether products of a group's elements stay in range, and its deviations have all of float's digits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static bool IsOrdinary(in GroupStatistics group)
        => group.Scale == 1 && Elements.IsOrdinary<float>(group.ScaledRstd) && group.ScaledVariance is 0 or >= Moments.LeastFloatVariance;

    /// <summary>The groups at one place of the period, one after the other; each has a weight for every element.</summary>
    private static void BackwardElementwise<T>(in BackwardWork<T, float> work, nint place, nint firstPeriod, nint endPeriod, double* weights, double* biases) where T : unmanaged
    {
        nint length = work.Layout.Length;
        float* weight = work.Weight == null ? null : work.Weight + place * work.Layout.GroupParameters;
        FloatGroup* team = stackalloc FloatGroup[Team];
        bool teams = endPeriod - firstPeriod >= Team, paired = teams && sizeof(T) == 2 && length % 64 == 0;
        nint doubles = teams ? ParameterTerms.Doubles(length) : 0;
        using var memory = new RentedDoubles(doubles + (paired && weight != null ? length / 2 : 0));
        fixed (double* terms = memory.Span)
        {
            var parameters = new ParameterTerms(terms, length, weights, biases, paired);
            float* teamWeight = weight;
            if (paired && weight != null)
                Pair(weight, teamWeight = (float*)(terms + doubles), 0, length);
            FloatSums sums = default;
            int waiting = 0;
            nint first = 0;
            for (nint period = firstPeriod; period < endPeriod; period++)
            {
                nint g = work.Layout.GroupAt(period, place);
                ref readonly GroupStatistics group = ref work.Statistics[g];
                T* dy = work.Dy + g * length;
                if (IsOrdinary(in group) && (Sum(dy, work.X + g * length, teamWeight, length, in group, ref sums, paired).AreExactInFloat(group.ScaledRstd, length, work.Layout.Statistic, out double mean, out double product)
                    || FloatSums.AreExactInFloat(SumOfSquares(dy, weight, length) / length, mean, product)))
                {
                    if (waiting == 0)
                        first = period;
                    team[waiting++].Set<T>(in group, mean, product, ofTerms: true);
                    if (waiting == Team)
                    {
                        // The next team's lines, of which the sums will be taken; of 16 bits those beyond what the sums themselves ask for, since summing them takes less time than reading.
                        WriteTeam(in work, work.Layout.GroupAt(first, place), 0, length, Team * work.Layout.PeriodStride * length + (sizeof(T) == 2 ? Streaming.AheadBytes / sizeof(T) : 0), teamWeight, team, ref parameters);
                        waiting = 0;
                    }
                    continue;
                }
                WriteOneByOne(in work, place, first, weight, team, waiting, weights, biases);
                waiting = 0;
                BackwardInDouble(in work, g, weights, biases);
                AddGradSum(in work, g);
            }
            parameters.Deliver();
            WriteOneByOne(in work, place, first, weight, team, waiting, weights, biases);
        }
    }

    private static void WriteOneByOne<T>(in BackwardWork<T, float> work, nint place, nint first, float* weight, FloatGroup* groups, int count, double* weights, double* biases) where T : unmanaged
    {
        for (int i = 0; i < count; i++)
            WriteElementwise(in work, work.Layout.GroupAt(first + i, place), 0, work.Layout.Length, weight, in groups[i], weights, biases);
    }

    /// <summary>The groups at one place of the period; their runs of elements share a weight.</summary>
    private static void BackwardRuns<T>(in BackwardWork<T, float> work, nint place, nint firstPeriod, nint endPeriod, double* weights, double* biases) where T : unmanaged
    {
        var part = new GroupPart<T, T>(in work);
        for (nint period = firstPeriod; period < endPeriod; period++)
        {
            nint g = work.Layout.GroupAt(period, place);
            part.MoveTo(in work, g, work.Dy + g * work.Layout.Length);
            if (!IsOrdinary(in work.Statistics[g]))
                BackwardInDouble(in work, g, weights, biases);
            else if (!TryBackwardRuns(in work.Layout, ref part, weights, biases))
                BackwardInDouble(in work, g, null, null);
        }
    }

    /// <summary>False if dx has to be made in double; the parameters have what the group adds to their gradients.</summary>
    private static bool TryBackwardRuns<TGradient, T>(in RowLayout layout, ref GroupPart<TGradient, T> part, double* weights, double* biases)
        where TGradient : unmanaged
        where T : unmanaged
    {
        ref readonly GroupStatistics group = ref *part.Statistics;
        nint run = layout.Run, count = layout.GroupParameters;
        FloatSums sums = default, runSums = default;
        for (nint p = 0; p < count; p++)
        {
            if (part.Activated != null)
                MakeGradient(in *part.Activated, part.GradOutput, (float*)part.Dy, p);
            Sum(part.Dy + p * run, part.X + p * run, null, run, in group, ref runSums);
            sums.AddScaled(in runSums, part.WeightOf(p));
            AddRun(in runSums, in part, p, weights, biases);
        }
        if (part.Dx == null)
            return true;
        if (!sums.AreExactInFloat(group.ScaledRstd, layout.Length, layout.Statistic, out double mean, out double product) && !FloatSums.AreExactInFloat(part.MeanSquare(), mean, product))
            return false;
        // The statistics are given, and the elements are not finite.
        if (!layout.Scaled && !double.IsFinite(sums.Product))
            return false;
        part.Group.Set<T>(in group, mean, product, ofTerms: false);
        WriteRuns(in part, 0, count);
        return true;
    }

    private static void BackwardInDouble<T>(in BackwardWork<T, float> work, nint g, double* weights, double* biases) where T : unmanaged
    {
        int count = (int)work.Layout.GroupParameters;
        BackwardGroup(in *work.Dy, in *work.X, ref *work.Dx, g, in work.Layout, in work.Statistics[g], in *work.Weight,
            weights == null ? [] : new Span<double>(weights, count), biases == null ? [] : new Span<double>(biases, count));
    }

    /// <summary>A run's terms of the parameters' gradients; those of a product that left float's range, as it may before it is divided by the deviation, in double.</summary>
    private static void AddRun<TGradient, T>(in FloatSums sums, in GroupPart<TGradient, T> part, nint p, double* weights, double* biases)
        where TGradient : unmanaged
        where T : unmanaged
    {
        if (weights != null)
            weights[p] += double.IsFinite(sums.Product) ? sums.Product * part.Statistics->ScaledRstd : part.Product(p);
        if (biases != null)
            biases[p] += sums.Sum;
    }

    /// <summary>One group, whose runs any number of threads may take.</summary>
    /// <remarks>Where SiLU follows, its gradient is made first: in float, whatever the elements are.</remarks>
    private struct GroupPart<TGradient, T>
        where TGradient : unmanaged
        where T : unmanaged
    {
        internal readonly nint Length, Run;
        internal readonly Streaming Stream;
        internal TGradient* Dy;
        internal T* X, Dx, GradOutput;

        /// <summary>What SiLU was applied to.</summary>
        internal FloatApply<T, float>* Activated;
        internal float* Weight;
        internal GroupStatistics* Statistics;
        internal FloatGroup Group;
        internal FloatSums* Sums;

        internal GroupPart(in BackwardWork<T, float> work) => (Length, Run, Stream) = (work.Layout.Length, work.Layout.Run, work.Stream);

        internal void MoveTo(in BackwardWork<T, float> work, nint g, TGradient* dy)
        {
            Dy = dy;
            GradOutput = work.Dy + g * Length;
            X = work.X + g * Length;
            Dx = work.Dx == null ? null : work.Dx + g * Length;
            Weight = work.Weight == null ? null : work.Weight + work.Layout.FirstParameter(g);
            Statistics = work.Statistics + g;
        }

        internal readonly float WeightOf(nint p) => Weight == null ? 1 : Weight[p];

        /// <summary>The sum of dy · n over a run. Rare, so scalar.</summary>
        internal readonly double Product(nint p)
        {
            double sum = 0;
            for (nint i = p * Run; i < (p + 1) * Run; i++)
                sum += Elements.ToDouble(Dy[i]) * Statistics->Normalize(Elements.ToDouble(X[i]));
            return sum;
        }

        /// <summary>E[g²].</summary>
        internal readonly double MeanSquare()
        {
            double sum = 0;
            for (nint p = 0; p < Length / Run; p++)
            {
                double weight = WeightOf(p);
                sum += SumOfSquares(Dy + p * Run, null, Run) * weight * weight;
            }
            return sum / Length;
        }
    }

    private static void WriteRuns<TGradient, T>(in GroupPart<TGradient, T> part, nint start, nint end)
        where TGradient : unmanaged
        where T : unmanaged
    {
        for (nint p = start; p < end; p++)
        {
            TGradient* dy = part.Dy + p * part.Run;
            T* x = part.X + p * part.Run, dx = part.Dx + p * part.Run;
            if (part.Group.Lo != 0)
                WriteRun<TGradient, T, MeanInTwo>(dy, x, dx, part.Run, part.WeightOf(p), in part.Group, part.Stream);
            else
                WriteRun<TGradient, T, MeanInOne>(dy, x, dx, part.Run, part.WeightOf(p), in part.Group, part.Stream);
        }
    }
}
