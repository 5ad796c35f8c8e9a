using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>
/// The rows geometry: groups of contiguous elements that share a mean and a variance. LayerNorm's rows and GroupNorm's
/// groups are such.
/// </summary>
/// <remarks>
/// <para>
/// y = ((x - hi) - lo) · rstd · weight + bias, in the element type, each operation rounded by itself, where hi + lo is the
/// mean in two parts: the offset of a group costs no digits. Element by element, so neither the vector width nor the place
/// in memory can change a bit. Error: six roundings, 3.2 ulp at
/// max(|y|, |weight|, |bias|) the most seen.
/// </para>
/// <para>Where 1/deviation is so large or small that these products could leave the element type's range, the group is computed in double.</para>
/// </remarks>
internal static class RowNorm
{
    /// <summary>Normalizes <paramref name="rows"/> rows of <paramref name="length"/>, each with the same element-wise weight and bias.</summary>
    /// <param name="x">The first element of the input, contiguous.</param>
    /// <param name="y">The first element of the output, contiguous; may be <paramref name="x"/> itself.</param>
    /// <param name="rows">The number of rows.</param>
    /// <param name="length">The elements of a row, at least 1.</param>
    /// <param name="weight">The first of <paramref name="length"/> factors, or a null reference.</param>
    /// <param name="bias">The first of <paramref name="length"/> summands, or a null reference.</param>
    /// <param name="eps">Added to the variance.</param>
    internal static void ForwardRows<T>(ref readonly T x, ref T y, nint rows, nint length, ref readonly T weight, ref readonly T bias, double eps)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        for (nint row = 0; row < rows; row++)
        {
            ref T xRow = ref Unsafe.Add(ref Unsafe.AsRef(in x), row * length);
            var group = new GroupScale<T>(in xRow, length, eps);
            group.ApplyElementwise(in xRow, ref Unsafe.Add(ref y, row * length), length, in weight, in bias);
        }
    }

    /// <summary>
    /// Normalizes samples of <paramref name="channels"/> runs of <paramref name="run"/> elements, in groups of
    /// channels / groups runs, each run with its channel's weight and bias.
    /// </summary>
    /// <param name="x">The first element of the input, contiguous (samples, channels, run).</param>
    /// <param name="y">The first element of the output, contiguous; may be <paramref name="x"/> itself.</param>
    /// <param name="samples">The number of samples.</param>
    /// <param name="groups">The number of groups of a sample, at least 1; divides <paramref name="channels"/>.</param>
    /// <param name="channels">The number of channels, at least 1.</param>
    /// <param name="run">The elements of one channel of one sample, at least 1.</param>
    /// <param name="weight">The first of <paramref name="channels"/> factors, or a null reference.</param>
    /// <param name="bias">The first of <paramref name="channels"/> summands, or a null reference.</param>
    /// <param name="eps">Added to the variance.</param>
    internal static void ForwardGroups<T>(ref readonly T x, ref T y, nint samples, nint groups, nint channels, nint run, ref readonly T weight, ref readonly T bias, double eps)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        nint groupChannels = channels / groups;
        nint groupLength = groupChannels * run;
        bool affine = !Unsafe.IsNullRef(in weight) || !Unsafe.IsNullRef(in bias);
        for (nint g = 0; g < samples * groups; g++)
        {
            ref T xGroup = ref Unsafe.Add(ref Unsafe.AsRef(in x), g * groupLength);
            ref T yGroup = ref Unsafe.Add(ref y, g * groupLength);
            nint channel = g % groups * groupChannels;
            var group = new GroupScale<T>(in xGroup, groupLength, eps);
            if (run == 1 || !affine)
            {
                group.ApplyElementwise(in xGroup, ref yGroup, groupLength, in Offset(in weight, channel), in Offset(in bias, channel));
                continue;
            }
            for (nint c = 0; c < groupChannels; c++)
            {
                T w = Unsafe.IsNullRef(in weight) ? T.One : Unsafe.Add(ref Unsafe.AsRef(in weight), channel + c);
                T b = Unsafe.IsNullRef(in bias) ? T.NegativeZero : Unsafe.Add(ref Unsafe.AsRef(in bias), channel + c);
                group.ApplyScalar(in Unsafe.Add(ref xGroup, c * run), ref Unsafe.Add(ref yGroup, c * run), run, w, b);
            }
        }
    }

    /// <summary>Moves a reference, and leaves a null reference alone.</summary>
    private static ref readonly T Offset<T>(ref readonly T source, nint elements)
        => ref Unsafe.IsNullRef(in source) ? ref source : ref Unsafe.Add(ref Unsafe.AsRef(in source), elements);
}

/// <summary>The mean of a group in two parts and its 1/deviation, ready to be applied to the group's elements.</summary>
internal readonly struct GroupScale<T> where T : unmanaged, IFloatingPointIeee754<T>
{
    private readonly Moments moments;
    private readonly double exactRstd;
    private readonly T hi;
    private readonly T lo;
    private readonly T rstd;
    private readonly bool ordinary;

    internal GroupScale(ref readonly T x, nint length, double eps)
    {
        moments = Moments.Of(in x, length, eps);
        exactRstd = moments.ReciprocalDeviation(eps);
        ordinary = moments.Exponent == 0 && Elements.IsOrdinary<T>(exactRstd);
        hi = Elements.FromDouble<T>(moments.Mean);
        lo = Elements.FromDouble<T>((moments.Mean - Elements.ToDouble(hi)) + moments.MeanLow);
        rstd = Elements.FromDouble<T>(exactRstd);
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

    /// <summary>The same formula in double on values times 2^-Exponent, for groups at the ends of the element type's range and for NaN.</summary>
    private void ApplyInDouble(ref readonly T x, ref T y, nint length, ref readonly T weight, ref readonly T bias, nint affineStride)
    {
        if (double.IsNaN(exactRstd))
        {
            // One NaN for all machines: which operand's payload an operation passes on is up to the processor.
            for (nint i = 0; i < length; i++)
                Unsafe.Add(ref y, i) = T.NaN;
            return;
        }
        for (nint i = 0; i < length; i++)
        {
            double v = Math.ScaleB(Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in x), i)), -moments.Exponent);
            v = (v - moments.Mean - moments.MeanLow) * exactRstd;
            if (!Unsafe.IsNullRef(in weight))
                v *= Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in weight), i * affineStride));
            if (!Unsafe.IsNullRef(in bias))
                v += Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in bias), i * affineStride));
            Unsafe.Add(ref y, i) = Elements.FromDouble<T>(v);
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
