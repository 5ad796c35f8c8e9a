using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>How a contiguous tensor is cut into groups that share statistics, and which parameter belongs to an element.</summary>
/// <param name="Groups">The number of groups.</param>
/// <param name="GroupParameters">The weights (or biases) that the elements of one group have between them.</param>
/// <param name="Run">The neighbouring elements that share one weight and one bias: 1 in LayerNorm, a channel's positions in GroupNorm.</param>
/// <param name="Period">The number of groups after which the parameters begin again: 1 in LayerNorm, the groups of a sample in GroupNorm; the samples where each has its own.</param>
/// <param name="Statistic">What is taken off a group and what it is divided by.</param>
/// <param name="Repeat">Where each sample has parameters of its own, the neighbouring groups that share them: a sample's. Else 0.</param>
internal readonly record struct RowLayout(nint Groups, nint GroupParameters, nint Run, nint Period, RowStatistic Statistic = RowStatistic.MeanAndVariance, nint Repeat = 0)
{
    /// <summary>Where the groups lie in memory when they are not contiguous.</summary>
    internal ChannelLayout Strided { get; init; }

    /// <summary>Whether they are not.</summary>
    internal bool IsStrided => Strided != default;

    /// <summary>The elements of a group.</summary>
    internal nint Length => GroupParameters * Run;

    /// <summary>All parameters.</summary>
    internal nint Parameters => GroupParameters * Period;

    /// <summary>The first parameter of a group.</summary>
    internal nint FirstParameter(nint group) => Period == 1 ? 0 : (Repeat == 0 ? group % Period : group / Repeat) * GroupParameters;

    /// <summary>Of the groups that have the parameters of one place in the period, the first, the second and so on.</summary>
    internal nint GroupAt(nint period, nint place) => Repeat == 0 ? period * Period + place : place * Repeat + period;

    /// <summary>The distance between two such groups.</summary>
    internal nint PeriodStride => Repeat == 0 ? Period : 1;

    /// <summary>Whether the mean of a group moves with its elements.</summary>
    internal bool Centered => Statistic.IsCentered();

    /// <summary>Whether 1/deviation moves with the elements.</summary>
    internal bool Scaled => Statistic.IsScaled();
}

/// <summary>The statistic of a group of rows.</summary>
internal enum RowStatistic
{
    /// <summary>The mean and the variance of the group.</summary>
    MeanAndVariance,

    /// <summary>The same, but where eps and the variance are zero the group is multiplied by 0 and not by infinity: PyTorch's batch and instance normalization.</summary>
    MeanAndVarianceOrZero,

    /// <summary>No mean, and the mean square in the place of the variance: RMSNorm.</summary>
    MeanSquare,

    /// <summary>What the caller gives, the same whatever the group's elements are: running statistics.</summary>
    Given,
}

internal static class RowStatistics
{
    /// <summary>Whether the mean of a group moves with its elements.</summary>
    internal static bool IsCentered(this RowStatistic statistic) => statistic is RowStatistic.MeanAndVariance or RowStatistic.MeanAndVarianceOrZero;

    /// <summary>Whether 1/deviation moves with the elements.</summary>
    internal static bool IsScaled(this RowStatistic statistic) => statistic != RowStatistic.Given;
}

/// <summary>
/// The rows geometry: groups of contiguous elements that share a mean and a variance. LayerNorm's rows and GroupNorm's
/// groups are such.
/// </summary>
/// <remarks>
/// <para>
/// y = ((x - hi) - lo) · rstd · weight + bias, in the element type, each operation rounded by itself, where hi + lo is the
/// mean in two parts: the offset of a group costs no digits. Element by element, so neither the vector width nor the place
/// in memory can change a bit. Error: six roundings, less than 4 ulp at the
/// largest of |y|, |weight|, |bias| and |weight · n|, n being the normalized value.
/// </para>
/// <para>Where 1/deviation is so large or small that these products could leave the element type's range, the group is computed in double.</para>
/// </remarks>
internal static unsafe partial class RowNorm
{
    /// <summary>Normalizes all groups.</summary>
    /// <param name="x">The first element of the input, contiguous.</param>
    /// <param name="y">The first element of the output, contiguous; may be <paramref name="x"/> itself.</param>
    /// <param name="layout">The groups.</param>
    /// <param name="weight">The first factor, or a null reference; of the type that the elements are computed in.</param>
    /// <param name="bias">The first summand, or a null reference.</param>
    /// <param name="eps">Added to the variance.</param>
    /// <param name="statistics">Takes each group's statistics, unless it is empty; has them where the layout's are given.</param>
    /// <param name="maxThreads">The most threads, or 0.</param>
    /// <param name="residual">What is added to the input before it is normalized, or a null reference.</param>
    /// <param name="sum">Takes the input with the residual added, where there is one; may be either itself.</param>
    /// <param name="activated">Whether SiLU is applied to the output.</param>
    internal static void Forward<T, TParameter>(ref readonly T x, ref T y, in RowLayout layout, ref readonly TParameter weight, ref readonly TParameter bias, double eps, Span<GroupStatistics> statistics, int maxThreads, ref readonly T residual, ref T sum, bool activated = false)
        where T : unmanaged
        where TParameter : unmanaged
    {
        int threads = Partition.Threads(layout.Groups * layout.Length, maxThreads);
        fixed (T* px = &x, py = &y, pr = &residual, pSum = &sum)
        fixed (TParameter* pw = &weight, pb = &bias)
        fixed (GroupStatistics* ps = statistics)
        {
            var work = new ForwardWork<T, TParameter> { X = px, Y = py, Weight = pw, Bias = pb, Statistics = ps, Layout = layout, Eps = eps, GroupThreads = 1, Residual = pr, Sum = pSum, Activated = activated };
            // Short groups that do not begin with a line leave too many lines half streamed.
            bool parted = layout.Length % 16 != 0 && layout.Length < LeastPartedLength;
            work.Stream = Streaming.For<T>(layout.Groups * layout.Length, layout.Length, inPlace: px == py || pr == py || parted);
            work.StreamSum = Streaming.For<T>(layout.Groups * layout.Length, layout.Length, inPlace: px == pSum || pr == pSum);
            delegate*<void*, nint, nint, void> body = pr == null ? &ForwardGroups<T, TParameter> : &ForwardSums<T, TParameter>;
            if (layout.Groups >= threads)
            {
                Partition.Run(layout.Groups, threads, body, &work);
                return;
            }
            // Fewer groups than threads: the threads share each group.
            work.GroupThreads = threads;
            body(&work, 0, layout.Groups);
        }
    }

    private struct ForwardWork<T, TParameter>
        where T : unmanaged
        where TParameter : unmanaged
    {
        internal T* X, Y, Residual, Sum;
        internal TParameter* Weight, Bias;
        internal GroupStatistics* Statistics;
        internal RowLayout Layout;
        internal double Eps;
        internal int GroupThreads;
        internal Streaming Stream, StreamSum;
        internal bool Activated, Paired;
    }

    private static void ForwardGroups<T, TParameter>(void* state, nint start, nint end)
        where T : unmanaged
        where TParameter : unmanaged
    {
        if (typeof(TParameter) == typeof(double))
            ForwardDoubles(in *(ForwardWork<double, double>*)state, start, end);
        else if (((ForwardWork<T, float>*)state)->Layout.Length < Moments.LeastFloatLength)
            ForwardShort(in *(ForwardWork<T, float>*)state, start, end);
        else
            ForwardFloats(in *(ForwardWork<T, float>*)state, start, end);
    }

    private static GroupStatistics StatisticsOf<T, TParameter>(in ForwardWork<T, TParameter> work, nint g)
        where T : unmanaged
        where TParameter : unmanaged
    {
        if (work.Layout.Statistic == RowStatistic.Given)
            return work.Statistics[g];
        ref readonly T x = ref work.X[g * work.Layout.Length];
        Moments moments = work.Layout.Statistic == RowStatistic.MeanSquare
            ? Moments.OfSquares(in x, work.Layout.Length, work.GroupThreads)
            : Moments.Of(in x, work.Layout.Length, work.GroupThreads);
        if (work.Statistics != null)
            Save(in work, g, in moments);
        return new GroupStatistics(moments, work.Eps, zeroDeviation: work.Layout.Statistic == RowStatistic.MeanAndVarianceOrZero);
    }

    private struct DoubleApply
    {
        internal double* X, Y, Weight, Bias;
        internal nint Run;
        internal Streaming Stream;
        internal GroupScale<double> Scale;
        internal bool Activated;
    }

    private static void ForwardDoubles(in ForwardWork<double, double> work, nint start, nint end)
    {
        nint length = work.Layout.Length;
        DoubleApply apply = default;
        apply.Run = work.Weight == null && work.Bias == null ? 1 : work.Layout.Run;
        apply.Stream = work.Stream;
        apply.Activated = work.Activated;
        for (nint g = start; g < end; g++)
        {
            nint first = work.Layout.FirstParameter(g);
            apply.X = work.X + g * length;
            apply.Y = work.Y + g * length;
            apply.Weight = work.Weight == null ? null : work.Weight + first;
            apply.Bias = work.Bias == null ? null : work.Bias + first;
            apply.Scale = new GroupScale<double>(StatisticsOf(in work, g));
            Partition.Run(length, work.GroupThreads, &ApplyDoubles, &apply);
        }
        if (work.Stream.Wanted)
            Streaming.Fence();
    }

    private static void ApplyDoubles(void* state, nint start, nint end)
    {
        ref readonly DoubleApply work = ref *(DoubleApply*)state;
        if (work.Activated)
            ApplyActivated(in work, start, end);
        else
            Apply(in work, start, end);
    }

    private static void Apply(in DoubleApply work, nint start, nint end)
    {
        if (work.Run == 1)
        {
            work.Scale.ApplyElementwise(in work.X[start], ref work.Y[start], end - start, in Offset(in *work.Weight, start), in Offset(in *work.Bias, start), work.Stream);
            return;
        }
        nint p = start / work.Run, runEnd = (p + 1) * work.Run;
        for (nint i = start; i < end; p++, runEnd += work.Run)
        {
            nint length = Math.Min(runEnd, end) - i;
            work.Scale.ApplyScalar(in work.X[i], ref work.Y[i], length, work.Weight == null ? 1 : work.Weight[p], work.Bias == null ? -0.0 : work.Bias[p], work.Stream);
            i += length;
        }
    }

    /// <summary>Moves a reference, and leaves a null reference alone.</summary>
    private static ref readonly T Offset<T>(ref readonly T source, nint elements)
        => ref Unsafe.IsNullRef(in source) ? ref source : ref Unsafe.Add(ref Unsafe.AsRef(in source), elements);
}

/// <summary>The mean of a group in two parts and its 1/deviation in the element type, ready to be applied to the group's elements.</summary>
internal struct GroupScale<T> where T : unmanaged, IFloatingPointIeee754<T>
{
    private readonly GroupStatistics exact;
    private T hi;
    private T lo;
    private T rstd;
    private bool ordinary;

    /// <summary>Whether the arithmetic may run in the element type.</summary>
    internal readonly bool Ordinary => ordinary;

    internal readonly T Hi => hi;

    internal readonly T Lo => lo;

    internal readonly T Rstd => rstd;

    internal GroupScale(in GroupStatistics group)
    {
        ordinary = group.Scale == 1 && Elements.IsOrdinary<T>(group.ScaledRstd);
        hi = Elements.FromDouble<T>(group.ScaledMean);
        lo = Elements.FromDouble<T>((group.ScaledMean - Elements.ToDouble(hi)) + group.ScaledMeanLow);
        rstd = Elements.FromDouble<T>(group.ScaledRstd);
        if (!ordinary)
            exact = group;
    }

    /// <summary>y[i] = ((x[i] - hi) - lo) · rstd · weight[i] + bias[i]; a null reference for either leaves its step out.</summary>
    internal readonly void ApplyElementwise(ref readonly T x, ref T y, nint length, ref readonly T weight, ref readonly T bias, Streaming stream)
    {
        bool scaled = !Unsafe.IsNullRef(in weight), shifted = !Unsafe.IsNullRef(in bias);
        if (!ordinary)
            ApplyInDouble(in x, ref y, length, in weight, in bias, 1);
        else if (scaled && shifted)
            Apply<Each, Each>(in x, ref y, length, in weight, in bias, stream);
        else if (scaled)
            Apply<Each, Absent>(in x, ref y, length, in weight, in bias, stream);
        else if (shifted)
            Apply<Absent, Each>(in x, ref y, length, in weight, in bias, stream);
        else
            Apply<Absent, Absent>(in x, ref y, length, in weight, in bias, stream);
    }

    /// <summary>y[i] = ((x[i] - hi) - lo) · rstd · weight + bias: the same operations with one weight and one bias for the run.</summary>
    internal readonly void ApplyScalar(ref readonly T x, ref T y, nint length, T weight, T bias, Streaming stream)
    {
        if (!ordinary)
            ApplyInDouble(in x, ref y, length, in weight, in bias, 0);
        else
            Apply<One, One>(in x, ref y, length, in weight, in bias, stream);
    }

    private readonly void Apply<TWeight, TBias>(ref readonly T x, ref T y, nint length, ref readonly T weight, ref readonly T bias, Streaming stream)
        where TWeight : struct, IParameter
        where TBias : struct, IParameter
    {
        if (length < Vector512<T>.Count)
        {
            ApplyOneByOne<TWeight, TBias>(in x, ref y, length, in weight, in bias);
            return;
        }
        Vector512<T> his = Vector512.Create(hi), los = Vector512.Create(lo), rstds = Vector512.Create(rstd);
        // The last vector may overlap the one before it, and in place its elements are needed as they were.
        nint end = length - Vector512<T>.Count;
        Vector512<T> last = Of<TWeight, TBias>(in x, end, in weight, in bias, his, los, rstds);
        nint i = 0;
        if (stream.Wanted)
        {
            i = Streaming.Head(ref y, length);
            if (i > 0)
                Of<TWeight, TBias>(in x, 0, in weight, in bias, his, los, rstds).StoreUnsafe(ref y);
        }
        for (; i <= end; i += Vector512<T>.Count)
        {
            Vector512<T> v = Of<TWeight, TBias>(in x, i, in weight, in bias, his, los, rstds);
            // The next group's elements, while this one's are written: the sums need not wait for them, and processors stop reading ahead at the end of a page.
            Streaming.Prefetch(in x, i + stream.Ahead);
            if (stream.Wanted)
                Streaming.Store(v, ref y, i);
            else
                v.StoreUnsafe(ref y, (nuint)i);
        }
        if (i < length)
            last.StoreUnsafe(ref y, (nuint)end);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<T> Of<TWeight, TBias>(ref readonly T x, nint i, ref readonly T weight, ref readonly T bias, Vector512<T> his, Vector512<T> los, Vector512<T> rstds)
        where TWeight : struct, IParameter
        where TBias : struct, IParameter
    {
        Vector512<T> v = (Vector512.LoadUnsafe(in x, (nuint)i) - his - los) * rstds;
        if (TWeight.Present)
            v *= TWeight.Load(in weight, i);
        if (TBias.Present)
            v += TBias.Load(in bias, i);
        return v;
    }

    private readonly void ApplyOneByOne<TWeight, TBias>(ref readonly T x, ref T y, nint length, ref readonly T weight, ref readonly T bias)
        where TWeight : struct, IParameter
        where TBias : struct, IParameter
    {
        for (nint i = 0; i < length; i++)
        {
            T v = (Unsafe.Add(ref Unsafe.AsRef(in x), i) - hi - lo) * rstd;
            if (TWeight.Present)
                v *= Unsafe.Add(ref Unsafe.AsRef(in weight), TWeight.Stride * i);
            if (TBias.Present)
                v += Unsafe.Add(ref Unsafe.AsRef(in bias), TBias.Stride * i);
            Unsafe.Add(ref y, i) = v;
        }
    }

    /// <summary>The same formula in double on scaled values, for groups at the ends of the element type's range and for NaN.</summary>
    private readonly void ApplyInDouble(ref readonly T x, ref T y, nint length, ref readonly T weight, ref readonly T bias, nint affineStride)
    {
        for (nint i = 0; i < length; i++)
        {
            double v = exact.Normalize(Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in x), i)));
            if (!Unsafe.IsNullRef(in weight))
                v *= Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in weight), i * affineStride));
            if (!Unsafe.IsNullRef(in bias))
                v += Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in bias), i * affineStride));
            // One NaN for all machines: its sign, and whose payload an operation passes on, is up to the processor.
            Unsafe.Add(ref y, i) = double.IsNaN(v) ? T.NaN : Elements.FromDouble<T>(v);
        }
    }

    /// <summary>A weight or a bias: none, one for all elements, or one for each.</summary>
    private interface IParameter
    {
        static abstract bool Present { get; }

        static abstract int Stride { get; }

        static abstract Vector512<T> Load(ref readonly T parameter, nint offset);
    }

    private readonly struct Absent : IParameter
    {
        public static bool Present => false;

        public static int Stride => 0;

        public static Vector512<T> Load(ref readonly T parameter, nint offset) => default;
    }

    private readonly struct One : IParameter
    {
        public static bool Present => true;

        public static int Stride => 0;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<T> Load(ref readonly T parameter, nint offset) => Vector512.Create(parameter);
    }

    private readonly struct Each : IParameter
    {
        public static bool Present => true;

        public static int Stride => 1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<T> Load(ref readonly T parameter, nint offset) => Vector512.LoadUnsafe(in parameter, (nuint)offset);
    }
}
