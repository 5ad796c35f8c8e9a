using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>The element-wise half of the forward in float: the formula of RowNorm.Float.cs, with a weight and a bias for each element or for a run of them, or none.</summary>
internal static unsafe partial class RowNorm
{
    private static void Apply<T>(void* state, nint start, nint end) where T : unmanaged
    {
        ref readonly FloatApply<T, T> work = ref *(FloatApply<T, T>*)state;
        if (work.Activated)
            ApplyActivated(in work, start, end);
        else
            Apply(in work, start, end);
    }

    private static void Apply<T, TResult>(in FloatApply<T, TResult> work, nint start, nint end)
        where T : unmanaged
        where TResult : unmanaged
    {
        if (work.Run == 1)
        {
            ApplyElements(in work, start, end - start);
            return;
        }
        nint p = start / work.Run, runEnd = (p + 1) * work.Run;
        for (nint i = start; i < end; p++, runEnd += work.Run)
        {
            nint length = Math.Min(runEnd, end) - i;
            float weight = work.Weight == null ? 1 : work.Weight[p], bias = work.Bias == null ? -0f : work.Bias[p];
            if (double.IsNaN(work.Scale.Rstd))
                ApplyInDouble(in work, i, length, p, 0);
            else if (work.Scale.NeedsLo<T>())
                ApplyRun<T, TResult, MeanInTwo>(work.X + i, work.Y + i, length, weight, bias, work.Scale.Hi, Elements.ToSingle(work.Scale.Lo), Elements.ToSingle(work.Scale.Rstd), work.Stream);
            else
                ApplyRun<T, TResult, MeanInOne>(work.X + i, work.Y + i, length, weight, bias, work.Scale.Hi, Elements.ToSingle(work.Scale.Lo), Elements.ToSingle(work.Scale.Rstd), work.Stream);
            i += length;
        }
    }

    private static void ApplyElements<T, TResult>(in FloatApply<T, TResult> work, nint start, nint length)
        where T : unmanaged
        where TResult : unmanaged
    {
        if (double.IsNaN(work.Scale.Rstd))
            ApplyInDouble(in work, start, length, start, 1);
        else if (work.Scale.NeedsLo<T>())
            ApplyElements<T, TResult, MeanInTwo>(in work, start, length);
        else if (work.Scale.Hi != 0)
            ApplyElements<T, TResult, MeanInOne>(in work, start, length);
        else
            ApplyElements<T, TResult, NoMean>(in work, start, length);
    }

    private static void ApplyElements<T, TResult, TMean>(in FloatApply<T, TResult> work, nint start, nint length)
        where T : unmanaged
        where TResult : unmanaged
        where TMean : struct, IMean
    {
        if (work.Paired)
            ApplyElements<T, TResult, TMean, Paired>(in work, start, length);
        else
            ApplyElements<T, TResult, TMean, Natural>(in work, start, length);
    }

    private static void ApplyElements<T, TResult, TMean, TOrder>(in FloatApply<T, TResult> work, nint start, nint length)
        where T : unmanaged
        where TResult : unmanaged
        where TMean : struct, IMean
        where TOrder : struct, IOrder
    {
        T* x = work.X + start;
        TResult* y = work.Y + start;
        float* weight = work.Weight == null ? null : work.Weight + start, bias = work.Bias == null ? null : work.Bias + start;
        float hi = work.Scale.Hi, lo = Elements.ToSingle(work.Scale.Lo), rstd = Elements.ToSingle(work.Scale.Rstd);
        if (weight == null && bias == null)
            Apply<T, TResult, TMean, Absent, Absent, TOrder>(x, y, length, weight, bias, hi, lo, rstd, work.Stream);
        else if (weight == null)
            Apply<T, TResult, TMean, Absent, Each, TOrder>(x, y, length, weight, bias, hi, lo, rstd, work.Stream);
        else if (bias == null)
            Apply<T, TResult, TMean, Each, Absent, TOrder>(x, y, length, weight, bias, hi, lo, rstd, work.Stream);
        else
            Apply<T, TResult, TMean, Each, Each, TOrder>(x, y, length, weight, bias, hi, lo, rstd, work.Stream);
    }

    private static void Apply<T, TResult, TMean, TWeight, TBias, TOrder>(T* x, TResult* y, nint length, float* weight, float* bias, float hi, float lo, float rstd, Streaming stream)
        where T : unmanaged
        where TResult : unmanaged
        where TMean : struct, IMean
        where TWeight : struct, IParameter
        where TBias : struct, IParameter
        where TOrder : struct, IOrder
    {
        if (length < Vector512<float>.Count)
        {
            ApplyFew<T, TResult, TMean, TWeight, TBias, TOrder>(x, y, (int)length, weight, bias, hi, lo, rstd);
            return;
        }
        Vector512<float> his = Vector512.Create(hi), los = Vector512.Create(lo), rstds = Vector512.Create(rstd);
        // The last vector may overlap the one before it, and in place its elements are needed as they were.
        nint end = length - Vector512<float>.Count, i = 0;
        Vector512<float> last = Of(x, end, weight, bias, his, los, rstds);
        if (stream.Wanted)
        {
            i = Streaming.Head(ref *y, length);
            if (i > 0)
                Elements.StoreFloats(Of(x, 0, weight, bias, his, los, rstds), y, 0);
        }
        for (; i <= length - 64; i += 64)
        {
            Streaming.PrefetchFour(x, i, stream.Ahead);
            ApplyPairs<T, TResult, TMean, TWeight, TBias, TOrder>(x, y, i, weight, bias, his, los, rstds, stream);
            ApplyPairs<T, TResult, TMean, TWeight, TBias, TOrder>(x, y, i + 32, weight, bias, his, los, rstds, stream);
        }
        for (; i <= end; i += Vector512<float>.Count)
            stream.StoreFloats(Of(x, i, weight, bias, his, los, rstds), y, i);
        if (i < length)
            Elements.StoreFloats(last, y, end);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static Vector512<float> Of(T* x, nint i, float* weight, float* bias, Vector512<float> his, Vector512<float> los, Vector512<float> rstds)
            => TBias.Plus(TWeight.Times(TMean.Without(Elements.LoadFloats(x, i), his, los) * rstds, weight, i), bias, i);
    }

    /// <summary>Fewer than 16 elements, the end of what a thread was given: copied to where a vector may be loaded.</summary>
    [SkipLocalsInit]
    private static void ApplyFew<T, TResult, TMean, TWeight, TBias, TOrder>(T* x, TResult* y, int length, float* weight, float* bias, float hi, float lo, float rstd)
        where T : unmanaged
        where TResult : unmanaged
        where TMean : struct, IMean
        where TWeight : struct, IParameter
        where TBias : struct, IParameter
        where TOrder : struct, IOrder
    {
        T* xs = stackalloc T[16];
        TResult* ys = stackalloc TResult[16];
        float* weights = stackalloc float[16], biases = stackalloc float[16];
        new Span<T>(x, length).CopyTo(new Span<T>(xs, 16));
        if (weight != null)
            new Span<float>(weight, length).CopyTo(new Span<float>(weights, 16));
        if (bias != null)
            new Span<float>(bias, length).CopyTo(new Span<float>(biases, 16));
        Apply<T, TResult, TMean, TWeight, TBias, TOrder>(xs, ys, 16, weights, biases, hi, lo, rstd, default);
        new Span<TResult>(ys, length).CopyTo(new Span<TResult>(y, length));
    }

    /// <summary>Normalizes 32 elements, in an order in which the parameters are too.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void ApplyPairs<T, TResult, TMean, TWeight, TBias, TOrder>(T* x, TResult* y, nint i, float* weight, float* bias, Vector512<float> his, Vector512<float> los, Vector512<float> rstds, Streaming stream)
        where T : unmanaged
        where TResult : unmanaged
        where TMean : struct, IMean
        where TWeight : struct, IParameter
        where TBias : struct, IParameter
        where TOrder : struct, IOrder
    {
        (Vector512<float> a, Vector512<float> b) = TOrder.IsPaired ? Elements.LoadPairs(x, i) : (Elements.LoadFloats(x, i), Elements.LoadFloats(x, i + 16));
        a = TBias.Plus(TWeight.Times(TMean.Without(a, his, los) * rstds, weight, i), bias, i);
        b = TBias.Plus(TWeight.Times(TMean.Without(b, his, los) * rstds, weight, i + 16), bias, i + 16);
        if (TOrder.IsPaired)
        {
            stream.StorePairs(a, b, y, i);
            return;
        }
        stream.StoreFloats(a, y, i);
        stream.StoreFloats(b, y, i + 16);
    }

    /// <summary>The same operations with one weight and one bias for the run.</summary>
    internal static void ApplyRun<T, TResult, TMean>(T* x, TResult* y, nint length, float weight, float bias, float hi, float lo, float rstd, Streaming stream)
        where T : unmanaged
        where TResult : unmanaged
        where TMean : struct, IMean
    {
        if (length < Vector512<float>.Count)
        {
            ApplyFewOfRun<T, TResult, TMean>(x, y, (int)length, weight, bias, hi, lo, rstd);
            return;
        }
        Vector512<float> his = Vector512.Create(hi), los = Vector512.Create(lo), rstds = Vector512.Create(rstd), weights = Vector512.Create(weight), biases = Vector512.Create(bias);
        nint end = length - Vector512<float>.Count, i = 0;
        Vector512<float> last = Of(x, end, weights, biases, his, los, rstds);
        if (stream.Wanted)
        {
            i = Streaming.Head(ref *y, length);
            if (i > 0)
                Elements.StoreFloats(Of(x, 0, weights, biases, his, los, rstds), y, 0);
        }
        for (; i <= length - 64; i += 64)
        {
            Streaming.PrefetchFour(x, i, stream.Ahead);
            OfPairs(x, y, i, weights, biases, his, los, rstds, stream);
            OfPairs(x, y, i + 32, weights, biases, his, los, rstds, stream);
        }
        for (; i <= end; i += Vector512<float>.Count)
            stream.StoreFloats(Of(x, i, weights, biases, his, los, rstds), y, i);
        if (i < length)
            Elements.StoreFloats(last, y, end);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static Vector512<float> Of(T* x, nint i, Vector512<float> weights, Vector512<float> biases, Vector512<float> his, Vector512<float> los, Vector512<float> rstds)
            => TMean.Without(Elements.LoadFloats(x, i), his, los) * rstds * weights + biases;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static void OfPairs(T* x, TResult* y, nint i, Vector512<float> weights, Vector512<float> biases, Vector512<float> his, Vector512<float> los, Vector512<float> rstds, Streaming stream)
        {
            if (sizeof(T) != sizeof(TResult))
            {
                stream.StoreFloats(Of(x, i, weights, biases, his, los, rstds), y, i);
                stream.StoreFloats(Of(x, i + 16, weights, biases, his, los, rstds), y, i + 16);
                return;
            }
            (Vector512<float> a, Vector512<float> b) = Elements.LoadPairs(x, i);
            stream.StorePairs(TMean.Without(a, his, los) * rstds * weights + biases, TMean.Without(b, his, los) * rstds * weights + biases, y, i);
        }
    }

    [SkipLocalsInit]
    private static void ApplyFewOfRun<T, TResult, TMean>(T* x, TResult* y, int length, float weight, float bias, float hi, float lo, float rstd)
        where T : unmanaged
        where TResult : unmanaged
        where TMean : struct, IMean
    {
        T* xs = stackalloc T[16];
        TResult* ys = stackalloc TResult[16];
        new Span<T>(x, length).CopyTo(new Span<T>(xs, 16));
        ApplyRun<T, TResult, TMean>(xs, ys, 16, weight, bias, hi, lo, rstd, default);
        new Span<TResult>(ys, length).CopyTo(new Span<TResult>(y, length));
    }

    /// <summary>The same formula in double on scaled values, for groups at the ends of float's range and for NaN.</summary>
    private static void ApplyInDouble<T, TResult>(in FloatApply<T, TResult> work, nint start, nint length, nint parameter, nint parameterStride)
        where T : unmanaged
        where TResult : unmanaged
    {
        for (nint i = 0; i < length; i++)
        {
            double v = work.Exact.Normalize(Elements.ToDouble(work.X[start + i]));
            nint p = parameter + i * parameterStride;
            if (work.Paired)
                p = InPairs(p);
            if (work.Weight != null)
                v *= work.Weight[p];
            if (work.Bias != null)
                v += work.Bias[p];
            // One NaN for all machines: its sign, and whose payload an operation passes on, is up to the processor.
            work.Y[start + i] = Elements.FromDouble<TResult>(double.IsNaN(v) ? double.NaN : v);
        }
    }

    /// <summary>What is taken off an element: nothing, the mean's upper part, or both parts.</summary>
    internal interface IMean
    {
        static abstract Vector512<float> Without(Vector512<float> x, Vector512<float> hi, Vector512<float> lo);
    }

    private readonly struct NoMean : IMean
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Without(Vector512<float> x, Vector512<float> hi, Vector512<float> lo) => x;
    }

    internal readonly struct MeanInOne : IMean
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Without(Vector512<float> x, Vector512<float> hi, Vector512<float> lo) => x - hi;
    }

    internal readonly struct MeanInTwo : IMean
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Without(Vector512<float> x, Vector512<float> hi, Vector512<float> lo) => x - hi - lo;
    }

    /// <summary>A weight or a bias: none, or one for each element.</summary>
    private interface IParameter
    {
        static abstract Vector512<float> Times(Vector512<float> v, float* parameter, nint i);

        static abstract Vector512<float> Plus(Vector512<float> v, float* parameter, nint i);
    }

    private readonly struct Absent : IParameter
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Times(Vector512<float> v, float* parameter, nint i) => v;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Plus(Vector512<float> v, float* parameter, nint i) => v;
    }

    private readonly struct Each : IParameter
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Times(Vector512<float> v, float* parameter, nint i) => v * Vector512.Load(parameter + i);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Plus(Vector512<float> v, float* parameter, nint i) => v + Vector512.Load(parameter + i);
    }

    /// <summary>The order in which elements are taken: their own, or that of <see cref="Elements.LoadPairs"/>, which for floats is the same.</summary>
    private interface IOrder
    {
        static abstract bool IsPaired { get; }
    }

    private readonly struct Natural : IOrder
    {
        public static bool IsPaired => false;
    }

    private readonly struct Paired : IOrder
    {
        public static bool IsPaired => true;
    }
}
