using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>How a contiguous tensor is cut into groups that share statistics, and which parameter belongs to an element.</summary>
/// <param name="Groups">The number of groups.</param>
/// <param name="GroupParameters">The weights (or biases) that the elements of one group have between them.</param>
/// <param name="Run">The neighbouring elements that share one weight and one bias: 1 in LayerNorm, a channel's positions in GroupNorm.</param>
/// <param name="Period">The number of groups after which the parameters begin again: 1 in LayerNorm, the groups of a sample in GroupNorm.</param>
internal readonly record struct RowLayout(nint Groups, nint GroupParameters, nint Run, nint Period)
{
    /// <summary>The elements of a group.</summary>
    internal nint Length => GroupParameters * Run;

    /// <summary>All parameters.</summary>
    internal nint Parameters => GroupParameters * Period;

    /// <summary>The first parameter of a group.</summary>
    internal nint FirstParameter(nint group) => group % Period * GroupParameters;
}

/// <summary>
/// The rows geometry: groups of contiguous elements that share a mean and a variance. LayerNorm's rows and GroupNorm's
/// groups are such.
/// </summary>
/// <remarks>
/// <para>
/// y = ((x - hi) - lo) · rstd · weight + bias, in the element type, each operation rounded by itself, where hi + lo is the
/// mean in two parts: the offset of a group costs no digits. Element by element, so neither the vector width nor the place
/// in memory can change a bit. Error: six roundings, 3.2 ulp at max(|y|, |weight|, |bias|) the most seen.
/// </para>
/// <para>Where 1/deviation is so large or small that these products could leave the element type's range, the group is computed in double.</para>
/// </remarks>
internal static unsafe partial class RowNorm
{
    /// <summary>Normalizes all groups.</summary>
    /// <param name="x">The first element of the input, contiguous.</param>
    /// <param name="y">The first element of the output, contiguous; may be <paramref name="x"/> itself.</param>
    /// <param name="layout">The groups.</param>
    /// <param name="weight">The first factor, or a null reference.</param>
    /// <param name="bias">The first summand, or a null reference.</param>
    /// <param name="eps">Added to the variance.</param>
    /// <param name="statistics">Takes each group's statistics, unless it is empty.</param>
    /// <param name="maxThreads">The most threads, or 0.</param>
    internal static void Forward<T>(ref readonly T x, ref T y, in RowLayout layout, ref readonly T weight, ref readonly T bias, double eps, Span<GroupStatistics> statistics, int maxThreads)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        int threads = Partition.Threads(layout.Groups * layout.Length, maxThreads);
        fixed (T* px = &x, py = &y, pw = &weight, pb = &bias)
        fixed (GroupStatistics* ps = statistics)
        {
            var work = new ForwardWork<T> { X = px, Y = py, Weight = pw, Bias = pb, Statistics = ps, Layout = layout, Eps = eps, GroupThreads = 1 };
            if (layout.Groups >= threads)
            {
                Partition.Run(layout.Groups, threads, &ForwardGroups<T>, &work);
                return;
            }
            // Fewer groups than threads: the threads share each group.
            work.GroupThreads = threads;
            ForwardGroups<T>(&work, 0, layout.Groups);
        }
    }

    private struct ForwardWork<T> where T : unmanaged, IFloatingPointIeee754<T>
    {
        internal T* X, Y, Weight, Bias;
        internal GroupStatistics* Statistics;
        internal RowLayout Layout;
        internal double Eps;
        internal int GroupThreads;
    }

    private struct ApplyWork<T> where T : unmanaged, IFloatingPointIeee754<T>
    {
        internal T* X, Y, Weight, Bias;
        internal nint Run;
        internal GroupScale<T> Scale;
    }

    private static void ForwardGroups<T>(void* state, nint start, nint end) where T : unmanaged, IFloatingPointIeee754<T>
    {
        ref readonly ForwardWork<T> work = ref *(ForwardWork<T>*)state;
        for (nint g = start; g < end; g++)
        {
            nint length = work.Layout.Length, first = work.Layout.FirstParameter(g);
            T* x = work.X + g * length;
            var group = new GroupStatistics(Moments.Of(in *x, length, work.GroupThreads), work.Eps);
            if (work.Statistics != null)
                work.Statistics[g] = group;
            var apply = new ApplyWork<T>
            {
                X = x,
                Y = work.Y + g * length,
                Weight = work.Weight == null ? null : work.Weight + first,
                Bias = work.Bias == null ? null : work.Bias + first,
                Run = work.Weight == null && work.Bias == null ? 1 : work.Layout.Run,
                Scale = new GroupScale<T>(in group),
            };
            Partition.Run(length, work.GroupThreads, &Apply<T>, &apply);
        }
    }

    private static void Apply<T>(void* state, nint start, nint end) where T : unmanaged, IFloatingPointIeee754<T>
    {
        ref readonly ApplyWork<T> work = ref *(ApplyWork<T>*)state;
        if (work.Run == 1)
        {
            work.Scale.ApplyElementwise(in work.X[start], ref work.Y[start], end - start, in Offset(in *work.Weight, start), in Offset(in *work.Bias, start));
            return;
        }
        for (nint i = start; i < end;)
        {
            nint p = i / work.Run, length = Math.Min((p + 1) * work.Run, end) - i;
            T w = work.Weight == null ? T.One : work.Weight[p], b = work.Bias == null ? T.NegativeZero : work.Bias[p];
            work.Scale.ApplyScalar(in work.X[i], ref work.Y[i], length, w, b);
            i += length;
        }
    }

    /// <summary>Moves a reference, and leaves a null reference alone.</summary>
    private static ref readonly T Offset<T>(ref readonly T source, nint elements)
        => ref Unsafe.IsNullRef(in source) ? ref source : ref Unsafe.Add(ref Unsafe.AsRef(in source), elements);
}

/// <summary>The mean of a group in two parts and its 1/deviation in the element type, ready to be applied to the group's elements.</summary>
internal readonly struct GroupScale<T> where T : unmanaged, IFloatingPointIeee754<T>
{
    private readonly GroupStatistics exact;
    private readonly T hi;
    private readonly T lo;
    private readonly T rstd;
    private readonly bool ordinary;

    internal GroupScale(in GroupStatistics group)
    {
        exact = group;
        ordinary = group.Scale == 1 && Elements.IsOrdinary<T>(group.ScaledRstd);
        hi = Elements.FromDouble<T>(group.ScaledMean);
        lo = Elements.FromDouble<T>((group.ScaledMean - Elements.ToDouble(hi)) + group.ScaledMeanLow);
        rstd = Elements.FromDouble<T>(group.ScaledRstd);
    }

    /// <summary>y[i] = ((x[i] - hi) - lo) · rstd · weight[i] + bias[i]; a null reference for either leaves its step out.</summary>
    internal void ApplyElementwise(ref readonly T x, ref T y, nint length, ref readonly T weight, ref readonly T bias)
    {
        bool scaled = !Unsafe.IsNullRef(in weight), shifted = !Unsafe.IsNullRef(in bias);
        if (!ordinary)
            ApplyInDouble(in x, ref y, length, in weight, in bias, 1);
        else if (scaled && shifted)
            Apply<Present, Present>(in x, ref y, length, in weight, in bias);
        else if (scaled)
            Apply<Present, Absent>(in x, ref y, length, in weight, in bias);
        else if (shifted)
            Apply<Absent, Present>(in x, ref y, length, in weight, in bias);
        else
            Apply<Absent, Absent>(in x, ref y, length, in weight, in bias);
    }

    /// <summary>y[i] = ((x[i] - hi) - lo) · rstd · weight + bias: the same operations with one weight and one bias for the run.</summary>
    internal void ApplyScalar(ref readonly T x, ref T y, nint length, T weight, T bias)
    {
        if (!ordinary)
        {
            ApplyInDouble(in x, ref y, length, in weight, in bias, 0);
            return;
        }
        nint i = 0;
        Vector512<T> his = Vector512.Create(hi), los = Vector512.Create(lo), rstds = Vector512.Create(rstd), weights = Vector512.Create(weight), biases = Vector512.Create(bias);
        for (; i <= length - Vector512<T>.Count; i += Vector512<T>.Count)
            ((Vector512.LoadUnsafe(in x, (nuint)i) - his - los) * rstds * weights + biases).StoreUnsafe(ref y, (nuint)i);
        for (; i <= length - Vector128<T>.Count; i += Vector128<T>.Count)
        {
            Vector128<T> v = Vector128.LoadUnsafe(in x, (nuint)i) - Vector128.Create(hi) - Vector128.Create(lo);
            (v * Vector128.Create(rstd) * Vector128.Create(weight) + Vector128.Create(bias)).StoreUnsafe(ref y, (nuint)i);
        }
        for (; i < length; i++)
            Unsafe.Add(ref y, i) = (Unsafe.Add(ref Unsafe.AsRef(in x), i) - hi - lo) * rstd * weight + bias;
    }

    private void Apply<TWeight, TBias>(ref readonly T x, ref T y, nint length, ref readonly T weight, ref readonly T bias)
        where TWeight : struct, IPresence
        where TBias : struct, IPresence
    {
        nint i = 0;
        Vector512<T> his = Vector512.Create(hi), los = Vector512.Create(lo), rstds = Vector512.Create(rstd);
        for (; i <= length - Vector512<T>.Count; i += Vector512<T>.Count)
        {
            Vector512<T> v = (Vector512.LoadUnsafe(in x, (nuint)i) - his - los) * rstds;
            if (TWeight.Value)
                v *= Vector512.LoadUnsafe(in weight, (nuint)i);
            if (TBias.Value)
                v += Vector512.LoadUnsafe(in bias, (nuint)i);
            v.StoreUnsafe(ref y, (nuint)i);
        }
        for (; i <= length - Vector128<T>.Count; i += Vector128<T>.Count)
        {
            Vector128<T> v = Vector128.LoadUnsafe(in x, (nuint)i);
            v = (v - Vector128.Create(hi) - Vector128.Create(lo)) * Vector128.Create(rstd);
            if (TWeight.Value)
                v *= Vector128.LoadUnsafe(in weight, (nuint)i);
            if (TBias.Value)
                v += Vector128.LoadUnsafe(in bias, (nuint)i);
            v.StoreUnsafe(ref y, (nuint)i);
        }
        for (; i < length; i++)
        {
            T v = (Unsafe.Add(ref Unsafe.AsRef(in x), i) - hi - lo) * rstd;
            if (TWeight.Value)
                v *= Unsafe.Add(ref Unsafe.AsRef(in weight), i);
            if (TBias.Value)
                v += Unsafe.Add(ref Unsafe.AsRef(in bias), i);
            Unsafe.Add(ref y, i) = v;
        }
    }

    /// <summary>The same formula in double on scaled values, for groups at the ends of the element type's range and for NaN.</summary>
    private void ApplyInDouble(ref readonly T x, ref T y, nint length, ref readonly T weight, ref readonly T bias, nint affineStride)
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

    private interface IPresence
    {
        static abstract bool Value { get; }
    }

    private readonly struct Present : IPresence
    {
        public static bool Value => true;
    }

    private readonly struct Absent : IPresence
    {
        public static bool Value => false;
    }
}
