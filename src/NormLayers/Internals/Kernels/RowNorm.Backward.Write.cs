using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>The backward's element-wise half in float: dx = (dy · weight - mean - n · product) · rstd, and the terms of the parameters' gradients.</summary>
/// <remarks>The last vector of a group may overlap the one before it; it is computed first, since dx may lie on dy.</remarks>
internal static unsafe partial class RowNorm
{
    /// <summary>The groups that are written side by side, and how many such teams add their terms up in float.</summary>
    private const int Team = 4, MostTeams = 8;

    /// <summary>The parameters' gradients: terms of some teams in float, and all others in double.</summary>
    private struct ParameterTerms
    {
        internal readonly float* WeightTerms, BiasTerms;
        private readonly double* weights, biases;
        private readonly nint length;
        private int teams;

        /// <summary>Whether the floats, and the team's weights, are in the order of pairs.</summary>
        internal readonly bool Paired;

        /// <summary>Two rows of floats that begin with a line.</summary>
        internal static nint Doubles(nint length) => (length + 15 & ~15) + 8;

        internal ParameterTerms(double* memory, nint length, double* weights, double* biases, bool paired)
        {
            Paired = paired;
            this.weights = weights;
            this.biases = biases;
            this.length = length;
            float* first = (float*)(((nint)memory + 63) & ~63);
            WeightTerms = weights == null ? null : first;
            BiasTerms = biases == null ? null : first + (length + 15 & ~15);
        }

        /// <summary>Before a team adds its terms; the first finds zeros.</summary>
        internal void Begin()
        {
            if (teams == MostTeams)
                Deliver();
            if (teams++ == 0)
            {
                if (WeightTerms != null)
                    new Span<float>(WeightTerms, (int)length).Clear();
                if (BiasTerms != null)
                    new Span<float>(BiasTerms, (int)length).Clear();
            }
        }

        internal void Deliver()
        {
            if (teams == 0)
                return;
            AddAll(WeightTerms, weights);
            AddAll(BiasTerms, biases);
            teams = 0;
        }

        private readonly void AddAll(float* terms, double* sums)
        {
            if (terms == null)
                return;
            nint i = 0;
            for (; Paired && i < length; i += 32)
            {
                (Vector512<float> a, Vector512<float> b) = Elements.FromPairsOf<BFloat16>(Vector512.Load(terms + i), Vector512.Load(terms + i + 16));
                AddTo(sums + i, a);
                AddTo(sums + i + 16, b);
            }
            for (; i <= length - 16; i += 16)
                AddTo(sums + i, Vector512.Load(terms + i));
            for (; i < length; i++)
                sums[i] += terms[i];
        }
    }

    /// <summary>dx of some elements of a group that has a weight for each, and their terms of the parameters' gradients.</summary>
    private static void WriteElementwise<T>(in BackwardWork<T, float> work, nint g, nint start, nint n, float* weight, in FloatGroup group, double* weights, double* biases) where T : unmanaged
    {
        nint at = g * work.Layout.Length + start;
        T* dy = work.Dy + at, x = work.X + at, dx = work.Dx == null ? null : work.Dx + at, gradSum = work.GradSum == null ? null : work.GradSum + at;
        weight = weight == null ? null : weight + start;
        Streaming stream = work.Stream;
        Vector512<float> hi = Vector512.Create(group.Hi), lo = Vector512.Create(group.Lo), rstd = Vector512.Create(group.Rstd), mean = Vector512.Create(group.Mean), product = Vector512.Create(group.Product);
        Vector512<float> w = Vector512<float>.One, last = default;
        if ((n & 15) != 0)
        {
            nint i = n - 16;
            Vector512<float> counted = CountedOf(n), gradient = Elements.LoadFloats(dy, i), normalized = (Elements.LoadFloats(x, i) - hi - lo) * rstd;
            if (weight != null)
                w = Vector512.Load(weight + i);
            if (weights != null)
                AddTo(weights + i, Vector512.AndNot(gradient * normalized, counted));
            if (biases != null)
                AddTo(biases + i, Vector512.AndNot(gradient, counted));
            last = Plus((gradient * w - mean - normalized * product) * rstd, gradSum, i);
        }
        for (nint i = 0; i <= n - 16; i += 16)
        {
            Streaming.PrefetchOne(dy, i);
            Streaming.PrefetchOne(x, i);
            if (weight != null)
                w = Vector512.Load(weight + i);
            Vector512<float> gradient = Elements.LoadFloats(dy, i), normalized = (Elements.LoadFloats(x, i) - hi - lo) * rstd;
            if (weights != null)
                AddTo(weights + i, gradient * normalized);
            if (biases != null)
                AddTo(biases + i, gradient);
            if (dx != null)
                stream.StoreFloats(Plus((gradient * w - mean - normalized * product) * rstd, gradSum, i), dx, i);
        }
        if ((n & 15) != 0 && dx != null)
            Elements.StoreFloats(last, dx, n - 16);
    }

    /// <summary>As <see cref="WriteElementwise"/> for a range of elements of four groups, a period apart, whose terms are added up before they go to the parameters' gradients.</summary>
    /// <param name="work">All groups.</param>
    /// <param name="g">The first of the four.</param>
    /// <param name="start">The first element.</param>
    /// <param name="length">The elements of each.</param>
    /// <param name="ahead">How far ahead of them lies what will be read next.</param>
    /// <param name="weight">The weight of a group's first element, or null.</param>
    /// <param name="groups">The four.</param>
    /// <param name="parameters">Those of the range.</param>
    private static void WriteTeam<T>(in BackwardWork<T, float> work, nint g, nint start, nint length, nint ahead, float* weight, FloatGroup* groups, ref ParameterTerms parameters) where T : unmanaged
    {
        parameters.Begin();
        nint n = work.Layout.Length, at = g * n + start;
        var team = new TeamPart<T>
        {
            Dy = work.Dy + at, X = work.X + at, Dx = work.Dx == null ? null : work.Dx + at, GradSum = work.GradSum == null ? null : work.GradSum + at,
            Weight = weight == null ? null : weight + start, Paired = parameters.Paired, WeightTerms = parameters.WeightTerms, BiasTerms = parameters.BiasTerms, Length = length, Stride = work.Layout.PeriodStride * n, Ahead = ahead, Stream = work.Stream,
        };
        bool lo = groups[0].Lo != 0 || groups[1].Lo != 0 || groups[2].Lo != 0 || groups[3].Lo != 0;
        if (weight == null || team.WeightTerms == null || team.Dx == null)
            WriteTeam<T, MeanInTwo, Some>(in team, groups);
        else if (team.GradSum == null && team.BiasTerms == null)
            WriteTeam<T, AllButBias>(in team, groups, lo);
        else if (team.GradSum == null)
            WriteTeam<T, All>(in team, groups, lo);
        else if (team.BiasTerms == null)
            WriteTeam<T, Adding<AllButBias>>(in team, groups, lo);
        else
            WriteTeam<T, Adding<All>>(in team, groups, lo);
    }

    private static void WriteTeam<T, TWanted>(in TeamPart<T> team, FloatGroup* groups, bool lo)
        where T : unmanaged
        where TWanted : struct, IWanted
    {
        if (lo)
            WriteTeam<T, MeanInTwo, TWanted>(in team, groups);
        else
            WriteTeam<T, MeanInOne, TWanted>(in team, groups);
    }

    private struct TeamPart<T> where T : unmanaged
    {
        internal T* Dy, X, Dx, GradSum;
        internal float* Weight, WeightTerms, BiasTerms;
        internal nint Length, Stride, Ahead;
        internal bool Paired;
        internal Streaming Stream;
    }

    private static void WriteTeam<T, TMean, TWanted>(in TeamPart<T> team, FloatGroup* groups)
        where T : unmanaged
        where TMean : struct, IMean
        where TWanted : struct, IWanted
    {
        T* dy = team.Dy, x = team.X, dx = team.Dx, gradSum = team.GradSum;
        float* weight = team.Weight, weights = team.WeightTerms, biases = team.BiasTerms;
        nint n = team.Length, stride = team.Stride, ahead = team.Ahead, whole = n & ~15;
        bool paired = team.Paired;
        Streaming stream = team.Stream;
        if (whole < n)
            WriteTeamTail(in team, groups, whole);
        Vector512<float> hi0 = Vector512.Create(groups[0].Hi), lo0 = Vector512.Create(groups[0].Lo), rstd0 = Vector512.Create(groups[0].Rstd), mean0 = Vector512.Create(groups[0].Mean), product0 = Vector512.Create(groups[0].Product);
        Vector512<float> hi1 = Vector512.Create(groups[1].Hi), lo1 = Vector512.Create(groups[1].Lo), rstd1 = Vector512.Create(groups[1].Rstd), mean1 = Vector512.Create(groups[1].Mean), product1 = Vector512.Create(groups[1].Product);
        Vector512<float> hi2 = Vector512.Create(groups[2].Hi), lo2 = Vector512.Create(groups[2].Lo), rstd2 = Vector512.Create(groups[2].Rstd), mean2 = Vector512.Create(groups[2].Mean), product2 = Vector512.Create(groups[2].Product);
        Vector512<float> hi3 = Vector512.Create(groups[3].Hi), lo3 = Vector512.Create(groups[3].Lo), rstd3 = Vector512.Create(groups[3].Rstd), mean3 = Vector512.Create(groups[3].Mean), product3 = Vector512.Create(groups[3].Product);
        Vector512<float> w = Vector512<float>.One;
        nint i = 0;
        for (; sizeof(T) == 2 && i <= whole - 32; i += 32)
        {
            Streaming.PrefetchRows(dy, i + ahead, stride);
            Streaming.PrefetchRows(x, i + ahead, stride);
            if (TWanted.Adds)
                Streaming.PrefetchRows(gradSum, i + ahead, stride);
            Vector512<float> wa = w, wb = w;
            if (TWanted.All || weight != null)
                (wa, wb) = paired ? (Vector512.Load(weight + i), Vector512.Load(weight + i + 16)) : Elements.LoadInPairsOf<T>(weight + i);
            (Vector512<float> ga0, Vector512<float> gb0) = Elements.LoadPairs(dy, i);
            (Vector512<float> ta0, Vector512<float> tb0) = WritePairs<T, TMean, TWanted>(ga0, gb0, x, dx, gradSum, i, wa, wb, hi0, lo0, rstd0, mean0, product0, stream);
            (Vector512<float> ga1, Vector512<float> gb1) = Elements.LoadPairs(dy, i + stride);
            (Vector512<float> ta1, Vector512<float> tb1) = WritePairs<T, TMean, TWanted>(ga1, gb1, x, dx, gradSum, i + stride, wa, wb, hi1, lo1, rstd1, mean1, product1, stream);
            (ga0, gb0, ta0, tb0) = (ga0 + ga1, gb0 + gb1, ta0 + ta1, tb0 + tb1);
            (Vector512<float> ga2, Vector512<float> gb2) = Elements.LoadPairs(dy, i + 2 * stride);
            (Vector512<float> ta2, Vector512<float> tb2) = WritePairs<T, TMean, TWanted>(ga2, gb2, x, dx, gradSum, i + 2 * stride, wa, wb, hi2, lo2, rstd2, mean2, product2, stream);
            (Vector512<float> ga3, Vector512<float> gb3) = Elements.LoadPairs(dy, i + 3 * stride);
            (Vector512<float> ta3, Vector512<float> tb3) = WritePairs<T, TMean, TWanted>(ga3, gb3, x, dx, gradSum, i + 3 * stride, wa, wb, hi3, lo3, rstd3, mean3, product3, stream);
            if (TWanted.All || weights != null)
                AddTerms<T>(weights + i, ta0 + (ta2 + ta3), tb0 + (tb2 + tb3), paired);
            if (TWanted.Biases || (!TWanted.All && biases != null))
                AddTerms<T>(biases + i, ga0 + (ga2 + ga3), gb0 + (gb2 + gb3), paired);
        }
        for (; i < whole; i += 16)
        {
            Streaming.PrefetchRows(dy, i + ahead, stride);
            Streaming.PrefetchRows(x, i + ahead, stride);
            if (TWanted.Adds)
                Streaming.PrefetchRows(gradSum, i + ahead, stride);
            if (TWanted.All || weight != null)
                w = Vector512.Load(weight + i);
            Vector512<float> g0 = Elements.LoadFloats(dy, i), g1 = Elements.LoadFloats(dy, i + stride), g2 = Elements.LoadFloats(dy, i + 2 * stride), g3 = Elements.LoadFloats(dy, i + 3 * stride);
            Vector512<float> n0 = TMean.Without(Elements.LoadFloats(x, i), hi0, lo0) * rstd0, n1 = TMean.Without(Elements.LoadFloats(x, i + stride), hi1, lo1) * rstd1;
            Vector512<float> n2 = TMean.Without(Elements.LoadFloats(x, i + 2 * stride), hi2, lo2) * rstd2, n3 = TMean.Without(Elements.LoadFloats(x, i + 3 * stride), hi3, lo3) * rstd3;
            if (TWanted.All || weights != null)
                (Vector512.Load(weights + i) + ((g0 * n0 + g1 * n1) + (g2 * n2 + g3 * n3))).Store(weights + i);
            if (TWanted.Biases || (!TWanted.All && biases != null))
                (Vector512.Load(biases + i) + ((g0 + g1) + (g2 + g3))).Store(biases + i);
            if (!TWanted.All && dx == null)
                continue;
            Vector512<float> d0 = (g0 * w - mean0 - n0 * product0) * rstd0, d1 = (g1 * w - mean1 - n1 * product1) * rstd1;
            Vector512<float> d2 = (g2 * w - mean2 - n2 * product2) * rstd2, d3 = (g3 * w - mean3 - n3 * product3) * rstd3;
            if (TWanted.Adds || !TWanted.All)
                (d0, d1, d2, d3) = (Plus(d0, gradSum, i), Plus(d1, gradSum, i + stride), Plus(d2, gradSum, i + 2 * stride), Plus(d3, gradSum, i + 3 * stride));
            stream.StoreFloats(d0, dx, i);
            stream.StoreFloats(d1, dx, i + stride);
            stream.StoreFloats(d2, dx, i + 2 * stride);
            stream.StoreFloats(d3, dx, i + 3 * stride);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddTerms<T>(float* sums, Vector512<float> a, Vector512<float> b, bool paired) where T : unmanaged
    {
        if (!paired)
            (a, b) = Elements.FromPairsOf<T>(a, b);
        (Vector512.Load(sums) + a).Store(sums);
        (Vector512.Load(sums + 16) + b).Store(sums + 16);
    }

    /// <summary>Writes dx of 32 elements of a row from dy, and returns their terms of the weight's gradient.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector512<float> A, Vector512<float> B) WritePairs<T, TMean, TWanted>(Vector512<float> ga, Vector512<float> gb, T* x, T* dx, T* gradSum, nint i, Vector512<float> wa, Vector512<float> wb, Vector512<float> hi, Vector512<float> lo, Vector512<float> rstd, Vector512<float> mean, Vector512<float> product, Streaming stream)
        where T : unmanaged
        where TMean : struct, IMean
        where TWanted : struct, IWanted
    {
        (Vector512<float> na, Vector512<float> nb) = Elements.LoadPairs(x, i);
        (na, nb) = (TMean.Without(na, hi, lo) * rstd, TMean.Without(nb, hi, lo) * rstd);
        if (TWanted.All || dx != null)
        {
            Vector512<float> da = (ga * wa - mean - na * product) * rstd, db = (gb * wb - mean - nb * product) * rstd;
            if (TWanted.Adds || (!TWanted.All && gradSum != null))
            {
                (Vector512<float> sa, Vector512<float> sb) = Elements.LoadPairs(gradSum, i);
                (da, db) = (da + sa, db + sb);
            }
            stream.StorePairs(da, db, dx, i);
        }
        return (ga * na, gb * nb);
    }

    /// <summary>Whether it is known that all results are wanted, the bias's gradient among them or not, and whether a sum is to be added: then nothing is asked in the loop.</summary>
    private interface IWanted
    {
        static abstract bool All { get; }

        static abstract bool Biases { get; }

        static abstract bool Adds { get; }
    }

    private readonly struct All : IWanted
    {
        static bool IWanted.All => true;

        public static bool Biases => true;

        public static bool Adds => false;
    }

    private readonly struct AllButBias : IWanted
    {
        public static bool All => true;

        public static bool Biases => false;

        public static bool Adds => false;
    }

    private readonly struct Adding<TWanted> : IWanted where TWanted : struct, IWanted
    {
        public static bool All => true;

        public static bool Biases => TWanted.Biases;

        public static bool Adds => true;
    }

    private readonly struct Some : IWanted
    {
        public static bool All => false;

        public static bool Biases => false;

        public static bool Adds => false;
    }

    private static void WriteTeamTail<T>(in TeamPart<T> team, FloatGroup* groups, nint start) where T : unmanaged
    {
        for (nint i = start; i < team.Length; i++)
        {
            float w = team.Weight == null ? 1 : team.Weight[i];
            float term0 = WriteOne(in team, i, w, in groups[0], out float gradient0), term1 = WriteOne(in team, i + team.Stride, w, in groups[1], out float gradient1);
            float term2 = WriteOne(in team, i + 2 * team.Stride, w, in groups[2], out float gradient2), term3 = WriteOne(in team, i + 3 * team.Stride, w, in groups[3], out float gradient3);
            if (team.WeightTerms != null)
                team.WeightTerms[i] += (term0 + term1) + (term2 + term3);
            if (team.BiasTerms != null)
                team.BiasTerms[i] += (gradient0 + gradient1) + (gradient2 + gradient3);
        }
    }

    private static float WriteOne<T>(in TeamPart<T> team, nint i, float weight, in FloatGroup group, out float gradient) where T : unmanaged
    {
        gradient = Elements.ToFloat(team.Dy[i]);
        float normalized = group.Normalize(Elements.ToFloat(team.X[i])), term = gradient * normalized;
        if (team.Dx != null)
        {
            float v = group.GradientOf(gradient, weight, normalized);
            team.Dx[i] = Elements.FromDouble<T>(team.GradSum == null ? v : v + Elements.ToFloat(team.GradSum[i]));
        }
        return term;
    }

    /// <summary>dx of neighbouring elements that share a weight.</summary>
    internal static void WriteRun<TGradient, T, TMean>(TGradient* dy, T* x, T* dx, nint n, float weight, in FloatGroup group, Streaming stream)
        where TGradient : unmanaged
        where T : unmanaged
        where TMean : struct, IMean
    {
        if (n < Vector512<float>.Count)
        {
            for (nint j = 0; j < n; j++)
                dx[j] = Elements.FromDouble<T>(group.GradientOf(Elements.ToFloat(dy[j]), weight, group.Normalize(Elements.ToFloat(x[j]))));
            return;
        }
        Vector512<float> hi = Vector512.Create(group.Hi), lo = Vector512.Create(group.Lo), rstd = Vector512.Create(group.Rstd), mean = Vector512.Create(group.Mean), product = Vector512.Create(group.Product);
        Vector512<float> w = Vector512.Create(weight), last = Of(dy, x, n - 16, w, hi, lo, rstd, mean, product);
        nint i = 0;
        for (; i <= n - 32; i += 32)
        {
            Streaming.PrefetchTwo(dy, i, stream.Ahead);
            Streaming.PrefetchTwo(x, i, stream.Ahead);
            (Vector512<float> ga, Vector512<float> gb) = Elements.LoadAsPairsOf<TGradient, T>(dy, i);
            (Vector512<float> na, Vector512<float> nb) = Elements.LoadPairs(x, i);
            stream.StorePairs((ga * w - mean - TMean.Without(na, hi, lo) * rstd * product) * rstd, (gb * w - mean - TMean.Without(nb, hi, lo) * rstd * product) * rstd, dx, i);
        }
        if (i <= n - 16)
        {
            stream.StoreFloats(Of(dy, x, i, w, hi, lo, rstd, mean, product), dx, i);
            i += 16;
        }
        if (i < n)
            Elements.StoreFloats(last, dx, n - 16);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static Vector512<float> Of(TGradient* dy, T* x, nint i, Vector512<float> w, Vector512<float> hi, Vector512<float> lo, Vector512<float> rstd, Vector512<float> mean, Vector512<float> product)
            => (Elements.LoadFloats(dy, i) * w - mean - TMean.Without(Elements.LoadFloats(x, i), hi, lo) * rstd * product) * rstd;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Plus<T>(Vector512<float> v, T* summand, nint i) where T : unmanaged => summand == null ? v : v + Elements.LoadFloats(summand, i);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddTo(double* sums, Vector512<float> terms)
    {
        (Vector512<double> lower, Vector512<double> upper) = Vector512.Widen(terms);
        (Vector512.Load(sums) + lower).Store(sums);
        (Vector512.Load(sums + 8) + upper).Store(sums + 8);
    }
}
