using System.Buffers;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>SiLU, z · σ(z), of a group's normalized elements z, and the backward of both.</summary>
/// <remarks>
/// Long runs are normalized and activated in one loop, others by stretches in scratch memory. The backward makes the gradient of a group's z
/// in such memory, of a long run just before its sums are taken, and the group's backward reads it in the place of the output's.
/// All is rounded as if it were done call by call.
/// </remarks>
internal static unsafe partial class RowNorm
{
    /// <summary>y = silu(the normalized elements): long runs in one loop, what is left of them by stretches in scratch memory.</summary>
    private static void ApplyActivated<T>(in FloatApply<T, T> work, nint start, nint end) where T : unmanaged
    {
        if (work.Run < LeastActivatedRun || double.IsNaN(work.Scale.Rstd))
        {
            ApplyStretches(in work, start, end);
            return;
        }
        for (nint i = start; i < end;)
        {
            nint p = i / work.Run, runEnd = Math.Min((p + 1) * work.Run, end), whole = i;
            if (!work.Stream.Wanted || Streaming.Head(ref work.Y[i], runEnd - i) == 0)
            {
                whole = work.Scale.NeedsLo<T>() ? ApplyInRange<T, MeanInTwo>(in work, p, i, runEnd) : ApplyInRange<T, MeanInOne>(in work, p, i, runEnd);
                if (whole == runEnd)
                {
                    i = runEnd;
                    continue;
                }
            }
            // Up to where a line begins, out of range, or less than is taken at a time.
            nint next = Math.Min(whole + ActivatedStep - (((nint)(work.Y + whole) & 63) / sizeof(T)), runEnd);
            ApplyStretches(in work, whole, next);
            i = next;
        }
    }

    /// <summary>Shorter runs are done in stretches of several.</summary>
    private const nint LeastActivatedRun = 256;

    /// <summary>The elements that the loop over a run takes at a time.</summary>
    private const nint ActivatedStep = 32;

    /// <summary>Returns the first element that is not done: the end, or fewer than 32 before it, or near one that is out of range. A loop without calls keeps its constants in registers.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static nint ApplyInRange<T, TMean>(in FloatApply<T, T> work, nint p, nint i, nint end)
        where T : unmanaged
        where TMean : struct, IMean
    {
        T* x = work.X, y = work.Y;
        Streaming stream = work.Stream;
        Vector512<float> hi = Vector512.Create(work.Scale.Hi), lo = Vector512.Create(Elements.ToSingle(work.Scale.Lo)), rstd = Vector512.Create(Elements.ToSingle(work.Scale.Rstd));
        Vector512<float> weight = Vector512.Create(work.Weight == null ? 1 : work.Weight[p]), bias = Vector512.Create(work.Bias == null ? -0f : work.Bias[p]);
        for (; i <= end - ActivatedStep; i += ActivatedStep)
        {
            Streaming.PrefetchTwo(x, i, stream.Ahead);
            (Vector512<float> a, Vector512<float> b) = Elements.LoadPairs(x, i);
            (a, b) = (TMean.Without(a, hi, lo) * rstd * weight + bias, TMean.Without(b, hi, lo) * rstd * weight + bias);
            if (!VectorMath.AreInRange(a) || !VectorMath.AreInRange(b))
                break;
            stream.StorePairs(VectorMath.SiLUInRange<T>(a), VectorMath.SiLUInRange<T>(b), y, i);
        }
        return i;
    }

    /// <summary>The same by way of scratch memory.</summary>
    [SkipLocalsInit]
    private static void ApplyStretches<T>(in FloatApply<T, T> work, nint start, nint end) where T : unmanaged
    {
        const int Stretch = ScratchBytes / 2 / sizeof(float);
        byte* memory = stackalloc byte[Stretch * sizeof(float) + 64];
        float* scratch = (float*)(((nint)memory + 63) & ~63);
        var part = new FloatApply<T, float> { X = work.X, Weight = work.Weight, Bias = work.Bias, Run = work.Run, Stream = default(Streaming).WithAhead(work.Stream.Ahead), Scale = work.Scale, Exact = work.Exact };
        for (nint i = start; i < end; i += Stretch)
        {
            nint length = Math.Min(Stretch, end - i);
            part.Y = scratch - i;
            Apply(in part, i, i + length);
            SiLU(scratch, work.Y + i, length, work.Stream);
        }
    }

    private static void ApplyActivated(in DoubleApply work, nint start, nint end)
    {
        const int Stretch = ScratchBytes / 2 / sizeof(double);
        byte* memory = stackalloc byte[Stretch * sizeof(double) + 64];
        double* scratch = (double*)(((nint)memory + 63) & ~63);
        DoubleApply part = work;
        part.Stream = default(Streaming).WithAhead(work.Stream.Ahead);
        for (nint i = start; i < end; i += Stretch)
        {
            nint length = Math.Min(Stretch, end - i);
            part.Y = scratch - i;
            Apply(in part, i, i + length);
            SiLU(scratch, work.Y + i, length, work.Stream);
        }
    }

    /// <summary>y = z · σ(z), computed in z's type; the output may be z itself if it is not streamed.</summary>
    internal static void SiLU<T, TResult>(T* z, TResult* y, nint length, Streaming stream)
        where T : unmanaged
        where TResult : unmanaged
    {
        nint i = 0;
        if (stream.Wanted)
        {
            i = Streaming.Head(ref *y, length);
            StoreFew(VectorMath.SiLU<T, TResult>(LoadFew<T, T>(z, i)), y, i);
        }
        for (; i <= length - Vector512<T>.Count; i += Vector512<T>.Count)
        {
            if (typeof(T) == typeof(float))
            {
                i = SiLUInRange((float*)z, y, i, length, stream);
                if (i > length - Vector512<T>.Count)
                    break;
                stream.StoreFloats(VectorMath.SiLU<T, TResult>(Vector512.Load(z + i)).AsSingle(), y, i);
            }
            else if (stream.Wanted)
                Streaming.Store(VectorMath.SiLU<T, TResult>(Vector512.Load(z + i)), ref *(T*)y, i);
            else
                VectorMath.SiLU<T, TResult>(Vector512.Load(z + i)).Store((T*)y + i);
        }
        StoreFew(VectorMath.SiLU<T, TResult>(LoadFew<T, T>(z + i, length - i)), y + i, length - i);
    }

    /// <summary>The vectors from an element on; returns the first that is out of range or not whole. A loop without calls keeps its constants in registers.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static nint SiLUInRange<TResult>(float* z, TResult* y, nint i, nint length, Streaming stream) where TResult : unmanaged
    {
        for (; i <= length - 16; i += 16)
        {
            Vector512<float> v = Vector512.Load(z + i);
            if (!VectorMath.AreInRange(v))
                break;
            stream.StoreFloats(VectorMath.SiLUInRange<TResult>(v), y, i);
        }
        return i;
    }

    /// <summary>Overwrites z with dy · σ(z) · (1 + z · (1 - σ(z))), computed in z's type.</summary>
    internal static void SiLUBackward<T, TCompute>(T* dy, TCompute* z, nint length)
        where T : unmanaged
        where TCompute : unmanaged
    {
        nint i = 0;
        for (; i <= length - Vector512<TCompute>.Count; i += Vector512<TCompute>.Count)
        {
            if (typeof(TCompute) == typeof(float))
                i = SiLUBackwardInRange(dy, (float*)z, i, length);
            if (i <= length - Vector512<TCompute>.Count)
                VectorMath.SiLUGradient<TCompute, T>(typeof(TCompute) == typeof(float) ? Elements.LoadFloats(dy, i).As<float, TCompute>() : Vector512.Load((TCompute*)dy + i), Vector512.Load(z + i)).Store(z + i);
        }
        nint rest = length % Vector512<TCompute>.Count;
        i = length - rest;
        StoreFew(VectorMath.SiLUGradient<TCompute, T>(LoadFew<T, TCompute>(dy + i, rest), LoadFew<TCompute, TCompute>(z + i, rest)), z + i, rest);
    }

    /// <summary>The vectors from an element on; returns the first that is out of range or not whole.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static nint SiLUBackwardInRange<T>(T* dy, float* z, nint i, nint length) where T : unmanaged
    {
        for (; i <= length - 16; i += 16)
        {
            Vector512<float> v = Vector512.Load(z + i);
            if (!VectorMath.AreInRange(v))
                break;
            VectorMath.SiLUGradientInRange<T>(Elements.LoadFloats(dy, i), v).Store(z + i);
        }
        return i;
    }

    private static Vector512<TCompute> LoadFew<T, TCompute>(T* source, nint count)
        where T : unmanaged
        where TCompute : unmanaged
    {
        Vector512<TCompute> v = default;
        for (nint i = 0; i < count; i++)
            ((TCompute*)&v)[i] = Elements.FromDouble<TCompute>(Elements.ToDouble(source[i]));
        return v;
    }

    private static void StoreFew<T, TResult>(Vector512<T> v, TResult* destination, nint count)
        where T : unmanaged
        where TResult : unmanaged
    {
        for (nint i = 0; i < count; i++)
            destination[i] = Elements.FromDouble<TResult>(Elements.ToDouble(((T*)&v)[i]));
    }

    /// <summary>The groups at one place of the period: the gradient of what SiLU was applied to, and with it the group's backward.</summary>
    private static void BackwardActivated<T, TParameter>(in BackwardWork<T, TParameter> work, nint place, nint firstPeriod, nint endPeriod, double* weights, double* biases)
        where T : unmanaged
        where TParameter : unmanaged
    {
        nint length = work.Layout.Length;
        TParameter[] rented = ArrayPool<TParameter>.Shared.Rent(checked((int)((SixteenBits.Is<T>() ? 2 * length : length) + 64 / sizeof(TParameter))));
        fixed (TParameter* memory = rented)
        {
            TParameter* z = (TParameter*)(((nint)memory + 63) & ~63);
            for (nint period = firstPeriod; period < endPeriod; period++)
            {
                nint g = work.Layout.GroupAt(period, place);
                if (typeof(TParameter) == typeof(double) || work.Layout.Run < LeastActivatedRun || !IsOrdinary(in work.Statistics[g]))
                    BackwardActivated(in work, place, period, z, weights, biases);
                else if (!TryBackwardActivated(in Unsafe.As<BackwardWork<T, TParameter>, BackwardWork<T, float>>(ref Unsafe.AsRef(in work)), g, (float*)z, weights, biases))
                    BackwardActivated(in work, place, period, z, null, null);
            }
        }
        ArrayPool<TParameter>.Shared.Return(rented);
    }

    /// <summary>A group of long runs, and SiLU's gradient of each run made just before its sums are taken; false as <see cref="TryBackwardRuns"/>.</summary>
    private static bool TryBackwardActivated<T>(in BackwardWork<T, float> work, nint g, float* z, double* weights, double* biases) where T : unmanaged
    {
        FloatApply<T, float> apply = Normalized(in work, g, z);
        var part = new GroupPart<float, T>(in work) { Activated = &apply };
        part.MoveTo(in work, g, z);
        return TryBackwardRuns(in work.Layout, ref part, weights, biases);
    }

    /// <summary>SiLU's gradient for a run.</summary>
    private static void MakeGradient<T>(in FloatApply<T, float> work, T* dy, float* dz, nint p) where T : unmanaged
    {
        for (nint i = p * work.Run, end = i + work.Run; i < end;)
        {
            nint whole = work.Scale.NeedsLo<T>() ? MakeInRange<T, MeanInTwo>(in work, dy, dz, p, i, end) : MakeInRange<T, MeanInOne>(in work, dy, dz, p, i, end);
            i = Math.Min(whole + ActivatedStep, end);
            Apply(in work, whole, i);
            SiLUBackward(dy + whole, dz + whole, i - whole);
        }
    }

    /// <summary>As <see cref="ApplyInRange"/>.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static nint MakeInRange<T, TMean>(in FloatApply<T, float> work, T* dy, float* dz, nint p, nint i, nint end)
        where T : unmanaged
        where TMean : struct, IMean
    {
        T* x = work.X;
        Vector512<float> hi = Vector512.Create(work.Scale.Hi), lo = Vector512.Create(Elements.ToSingle(work.Scale.Lo)), rstd = Vector512.Create(Elements.ToSingle(work.Scale.Rstd));
        Vector512<float> weight = Vector512.Create(work.Weight == null ? 1 : work.Weight[p]), bias = Vector512.Create(work.Bias == null ? -0f : work.Bias[p]);
        for (; i <= end - ActivatedStep; i += ActivatedStep)
        {
            Streaming.PrefetchTwo(x, i);
            Streaming.PrefetchTwo(dy, i);
            (Vector512<float> a, Vector512<float> b) = Elements.LoadPairs(x, i);
            (a, b) = (TMean.Without(a, hi, lo) * rstd * weight + bias, TMean.Without(b, hi, lo) * rstd * weight + bias);
            if (!VectorMath.AreInRange(a) || !VectorMath.AreInRange(b))
                break;
            (Vector512<float> ga, Vector512<float> gb) = Elements.LoadPairs(dy, i);
            (a, b) = Elements.FromPairsOf<T>(VectorMath.SiLUGradientInRange<T>(ga, a), VectorMath.SiLUGradientInRange<T>(gb, b));
            a.Store(dz + i);
            b.Store(dz + i + 16);
        }
        return i;
    }

    /// <summary>A group of any kind: 16-bit elements are widened, and their gradient overwrites its own operand.</summary>
    private static void BackwardActivated<T, TParameter>(in BackwardWork<T, TParameter> work, nint place, nint period, TParameter* z, double* weights, double* biases)
        where T : unmanaged
        where TParameter : unmanaged
    {
        nint length = work.Layout.Length, g = work.Layout.GroupAt(period, place), start = g * length;
        int count = (int)work.Layout.GroupParameters;
        Normalize(in work, g, z);
        SiLUBackward(work.Dy + start, z, length);
        // The group's gradient is where its output's would be.
        var group = new BackwardWork<TParameter, TParameter>
        {
            Dy = z - start, X = (TParameter*)work.X, Dx = (TParameter*)work.Dx, Weight = work.Weight, Statistics = work.Statistics, Layout = work.Layout, Stream = work.Stream,
        };
        if (SixteenBits.Is<T>())
        {
            SixteenBits.Widen(work.X + start, (float*)z + length, length);
            group.X = z + length - start;
            group.Dx = work.Dx == null ? null : z - start;
            group.Stream = default;
        }
        if (typeof(TParameter) == typeof(double))
            BackwardGroup(in *group.Dy, in *group.X, ref *group.Dx, g, in work.Layout, in work.Statistics[g], in *work.Weight, new Span<double>(weights, weights == null ? 0 : count), new Span<double>(biases, biases == null ? 0 : count));
        else if (work.Layout.Run == 1)
            BackwardElementwise(in *(BackwardWork<float, float>*)&group, place, period, period + 1, weights, biases);
        else
            BackwardRuns(in *(BackwardWork<float, float>*)&group, place, period, period + 1, weights, biases);
        if (SixteenBits.Is<T>() && work.Dx != null)
            SixteenBits.Narrow((float*)z, work.Dx + start, length, work.Stream.Wanted);
    }

    /// <summary>A group's output before SiLU.</summary>
    private static void Normalize<T, TParameter>(in BackwardWork<T, TParameter> work, nint g, TParameter* z)
        where T : unmanaged
        where TParameter : unmanaged
    {
        nint length = work.Layout.Length;
        if (typeof(TParameter) == typeof(float))
        {
            Apply(Normalized(in Unsafe.As<BackwardWork<T, TParameter>, BackwardWork<T, float>>(ref Unsafe.AsRef(in work)), g, (float*)z), 0, length);
            return;
        }
        nint first = work.Layout.FirstParameter(g), run = work.Weight == null && work.Bias == null && work.Layout.Run != 1 ? length : work.Layout.Run;
        double* weight = work.Weight == null ? null : (double*)work.Weight + first, bias = work.Bias == null ? null : (double*)work.Bias + first;
        Apply(new DoubleApply { X = (double*)(work.X + g * length), Y = (double*)z, Weight = weight, Bias = bias, Run = run, Scale = new GroupScale<double>(in work.Statistics[g]) }, 0, length);
    }

    /// <summary>How the forward normalized a group.</summary>
    private static FloatApply<T, float> Normalized<T>(in BackwardWork<T, float> work, nint g, float* z) where T : unmanaged
    {
        nint length = work.Layout.Length, first = work.Layout.FirstParameter(g);
        ref readonly GroupStatistics group = ref work.Statistics[g];
        var apply = new FloatApply<T, float> { X = work.X + g * length, Y = z, Weight = work.Weight == null ? null : work.Weight + first, Bias = work.Bias == null ? null : work.Bias + first, Run = work.Layout.Run, Exact = group };
        apply.Scale.SetOfForward(in group, length);
        return apply;
    }
}
