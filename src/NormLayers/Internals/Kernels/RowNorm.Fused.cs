using System.Buffers;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>What is done to a group beside its normalization, while it is in the cache.</summary>
/// <remarks>
/// A residual is added before the sums are taken. The sum is a result of its own; where results are streamed it leaves past the
/// caches, and what is normalized is a copy of it in scratch memory that stays there. SiLU, z · σ(z), is applied to stretches of the
/// output on their way through such memory; its backward makes the gradient of a group's z there, and the group's backward reads it
/// in the place of the output's. All is rounded as if it were done call by call: the bits are those of the composition.
/// </remarks>
internal static unsafe partial class RowNorm
{
    /// <summary>Scratch memory of a thread, on its stack: it is read again from the first-level cache, or the second.</summary>
    private const int ScratchBytes = 32 << 10;

    /// <summary>Groups of input and residual: their sums, and these normalized. As many groups at once as the scratch memory takes, or one that is longer.</summary>
    [SkipLocalsInit]
    private static void ForwardSums<T, TParameter>(void* state, nint start, nint end)
        where T : unmanaged
        where TParameter : unmanaged
    {
        ForwardWork<T, TParameter> work = *(ForwardWork<T, TParameter>*)state;
        if (IsPipelinedSum(in work))
        {
            ForwardFloats(in *(ForwardWork<T, float>*)state, start, end);
            if (work.StreamSum.Wanted)
                Streaming.Fence();
            return;
        }
        byte* memory = stackalloc byte[ScratchBytes + 64];
        T* scratch = (T*)(((nint)memory + 63) & ~63), x = work.X, residual = work.Residual;
        work.Residual = null;
        nint length = work.Layout.Length, most = ScratchBytes / sizeof(T), step = Math.Max(1, most / length);
        bool apart = work.StreamSum.Wanted && length <= most;
        for (nint g = start; g < end; g += step)
        {
            nint groups = Math.Min(step, end - g), first = g * length;
            var add = new AddWork<T> { X = x + first, Residual = residual + first, Sum = work.Sum + first, Ahead = step * length };
            if (apart)
                AddApart(in add, scratch, groups * length);
            else
                Partition.Run(groups * length, work.GroupThreads, &Add<T>, &add);
            // Their elements are where the groups' own would be.
            work.X = apart ? scratch - first : work.Sum;
            work.Stream = work.Stream.WithAhead((nint)(x - work.X) + step * length);
            ForwardGroups<T, TParameter>(&work, g, g + groups);
        }
    }

    private struct AddWork<T> where T : unmanaged
    {
        internal T* X, Residual, Sum;

        /// <summary>How much further the next residual is.</summary>
        internal nint Ahead;
    }

    private static void Add<T>(void* state, nint start, nint end) where T : unmanaged
    {
        ref readonly AddWork<T> work = ref *(AddWork<T>*)state;
        Add(work.X + start, work.Residual + start, work.Sum + start, end - start, work.Ahead);
    }

    /// <summary>sum = x + residual; the sum may be either.</summary>
    private static void Add<T>(T* x, T* residual, T* sum, nint length, nint ahead) where T : unmanaged
    {
        int step = StepOf<T>();
        nint i = 0;
        for (; i <= length - step; i += step)
        {
            Streaming.Prefetch(in *residual, i + ahead);
            if (typeof(T) == typeof(double))
                (Vector512.Load((double*)x + i) + Vector512.Load((double*)residual + i)).Store((double*)sum + i);
            else
                Elements.StoreFloats(Elements.LoadFloats(x, i) + Elements.LoadFloats(residual, i), sum, i);
        }
        for (; i < length; i++)
            sum[i] = Plus(x[i], residual[i]);
    }

    /// <summary>The same past the caches, and a copy of the sum to be read again.</summary>
    private static void AddApart<T>(in AddWork<T> work, T* copy, nint length) where T : unmanaged
    {
        int step = StepOf<T>();
        T* x = work.X, residual = work.Residual, sum = work.Sum;
        nint ahead = work.Ahead, i = 0, head = Streaming.Head(ref *sum, length);
        for (; i < head; i++)
            sum[i] = copy[i] = Plus(x[i], residual[i]);
        for (; i <= length - step; i += step)
        {
            Streaming.Prefetch(in *residual, i + ahead);
            if (typeof(T) == typeof(double))
            {
                Vector512<double> v = Vector512.Load((double*)x + i) + Vector512.Load((double*)residual + i);
                v.Store((double*)copy + i);
                Streaming.Store(v, ref *(double*)sum, i);
                continue;
            }
            Vector512<float> floats = Elements.LoadFloats(x, i) + Elements.LoadFloats(residual, i);
            Elements.StoreFloats(floats, copy, i);
            if (typeof(T) == typeof(float))
                Streaming.Store(floats, ref *(float*)sum, i);
            else
                SixteenBits.Stream(floats, sum + i);
        }
        for (; i < length; i++)
            sum[i] = copy[i] = Plus(x[i], residual[i]);
        Streaming.Fence();
    }

    /// <summary>The elements and a residual, whose sum is a result; it is rounded to the element type, and so taken.</summary>
    private readonly struct Sums : ISource
    {
        public static bool Adds => true;

        public static bool Streams => false;

        public static float CenterOf<T>(T* next, T* residual, nint n) where T : unmanaged
        {
            T* eight = stackalloc T[8];
            for (nint i = 0; i < 8; i++)
                eight[i] = Plus(next[i * (n >> 3)], residual[i * (n >> 3)]);
            return Moments.CenterOf(eight, 8);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Prefetch<T>(T* next, T* residual, nint i) where T : unmanaged
        {
            Streaming.PrefetchFour(next, i);
            Streaming.PrefetchFour(residual, i);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static (Vector512<float> A, Vector512<float> B) LoadPairs<T>(T* next, T* residual, T* sum, T* copy, nint i) where T : unmanaged
        {
            (Vector512<float> a, Vector512<float> b) = Elements.LoadPairs(next, i);
            (Vector512<float> c, Vector512<float> d) = Elements.LoadPairs(residual, i);
            (a, b) = (a + c, b + d);
            default(Streaming).StorePairs(a, b, sum, i);
            return typeof(T) == typeof(float) ? (a, b) : Elements.LoadPairs(sum, i);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Load<T>(T* next, T* residual, T* sum, T* copy, nint i) where T : unmanaged
        {
            Elements.StoreFloats(Elements.LoadFloats(next, i) + Elements.LoadFloats(residual, i), sum, i);
            return Elements.LoadFloats(sum, i);
        }
    }

    /// <summary>The same, and the sum leaves past the caches: what is normalized is a copy.</summary>
    private readonly struct StreamedSums : ISource
    {
        public static bool Adds => true;

        public static bool Streams => true;

        public static float CenterOf<T>(T* next, T* residual, nint n) where T : unmanaged => Sums.CenterOf(next, residual, n);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Prefetch<T>(T* next, T* residual, nint i) where T : unmanaged => Sums.Prefetch(next, residual, i);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static (Vector512<float> A, Vector512<float> B) LoadPairs<T>(T* next, T* residual, T* sum, T* copy, nint i) where T : unmanaged
        {
            (Vector512<float> a, Vector512<float> b) = Sums.LoadPairs(next, residual, copy, copy, i);
            if (typeof(T) == typeof(float))
            {
                Streaming.Store(a, ref *(float*)(sum + i), 0);
                Streaming.Store(b, ref *(float*)(sum + i), 16);
            }
            else
                Streaming.Store(Vector512.Load((byte*)(copy + i)), ref *(byte*)(sum + i), 0);
            return (a, b);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Load<T>(T* next, T* residual, T* sum, T* copy, nint i) where T : unmanaged
        {
            Vector512<float> v = Sums.Load(next, residual, copy, copy, i);
            if (typeof(T) == typeof(float))
                Streaming.Store(v, ref *(float*)(sum + i), 0);
            else
                Vector256.Load((byte*)(copy + i)).StoreAlignedNonTemporal((byte*)(sum + i));
            return v;
        }
    }

    /// <summary>The elements that one vector of the type they are computed in holds.</summary>
    private static int StepOf<T>() => typeof(T) == typeof(double) ? Vector512<double>.Count : Vector512<float>.Count;

    /// <summary>Adds to a group's gradient, which is written and still in the cache, that of its sum.</summary>
    private static void AddGradSum<T, TParameter>(in BackwardWork<T, TParameter> work, nint g)
        where T : unmanaged
        where TParameter : unmanaged
    {
        nint length = work.Layout.Length, first = g * length;
        if (work.GradSum != null)
            Add(work.Dx + first, work.GradSum + first, work.Dx + first, length, length);
    }

    /// <summary>Exact in double, where the elements are floats, and so rounded once.</summary>
    private static T Plus<T>(T a, T b) where T : unmanaged => Elements.FromDouble<T>(Elements.ToDouble(a) + Elements.ToDouble(b));

    /// <summary>y = silu(the normalized elements), a stretch at a time.</summary>
    [SkipLocalsInit]
    private static void ApplyActivated<T>(in FloatApply<T, T> work, nint start, nint end) where T : unmanaged
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
        if (length < Vector512<T>.Count)
        {
            StoreFew(VectorMath.SiLU(LoadFew<T, T>(z, length)), y, length);
            return;
        }
        // The last vector may overlap the one before it, and in place its elements are needed as they were.
        nint end = length - Vector512<T>.Count, i = 0;
        Vector512<T> last = VectorMath.SiLU(Vector512.Load(z + end));
        if (stream.Wanted)
        {
            i = Streaming.Head(ref *y, length);
            if (i > 0)
                Store(VectorMath.SiLU(Vector512.Load(z)), y, 0, default);
        }
        for (; i <= end; i += Vector512<T>.Count)
            Store(VectorMath.SiLU(Vector512.Load(z + i)), y, i, stream);
        if (i < length)
            Store(last, y, end, default);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static void Store(Vector512<T> v, TResult* y, nint i, Streaming stream)
        {
            if (typeof(T) == typeof(float))
                stream.StoreFloats(v.AsSingle(), y, i);
            else if (stream.Wanted)
                Streaming.Store(v, ref *(T*)y, i);
            else
                v.Store((T*)y + i);
        }
    }

    /// <summary>Overwrites z with dy · σ(z) · (1 + z · (1 - σ(z))), computed in z's type.</summary>
    internal static void SiLUBackward<T, TCompute>(T* dy, TCompute* z, nint length)
        where T : unmanaged
        where TCompute : unmanaged
    {
        nint whole = length - length % Vector512<TCompute>.Count;
        if (whole < length)
            StoreFew(VectorMath.SiLUGradient(LoadFew<T, TCompute>(dy + whole, length - whole), LoadFew<TCompute, TCompute>(z + whole, length - whole)), z + whole, length - whole);
        for (nint i = 0; i < whole; i += Vector512<TCompute>.Count)
            VectorMath.SiLUGradient(typeof(TCompute) == typeof(float) ? Elements.LoadFloats(dy, i).As<float, TCompute>() : Vector512.Load((TCompute*)dy + i), Vector512.Load(z + i)).Store(z + i);
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
    private static void BackwardActivated<T, TParameter>(in BackwardWork<T, TParameter> work, nint place, nint firstPeriod, nint endPeriod, Span<double> weights, Span<double> biases)
        where T : unmanaged
        where TParameter : unmanaged
    {
        nint length = work.Layout.Length;
        TParameter[] rented = ArrayPool<TParameter>.Shared.Rent(checked((int)(SixteenBits.Is<T>() ? 2 * length : length)));
        fixed (TParameter* z = rented)
        fixed (double* weightSums = weights, biasSums = biases)
        {
            for (nint period = firstPeriod; period < endPeriod; period++)
            {
                nint g = work.Layout.GroupAt(period, place), start = g * length;
                Normalize(in work, g, z);
                SiLUBackward(work.Dy + start, z, length);
                // The group's gradient is where its output's would be; 16-bit elements are widened, and their gradient overwrites its own operand.
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
                    BackwardGroup(in *group.Dy, in *group.X, ref *group.Dx, g, in work.Layout, in work.Statistics[g], in *work.Weight, weights, biases);
                else if (work.Layout.Run == 1)
                    BackwardElementwise(in *(BackwardWork<float, float>*)&group, place, period, period + 1, weightSums, biasSums);
                else
                    BackwardRuns(in *(BackwardWork<float, float>*)&group, place, period, period + 1, weightSums, biasSums);
                if (SixteenBits.Is<T>() && work.Dx != null)
                    SixteenBits.Narrow((float*)z, work.Dx + start, length, work.Stream.Wanted);
            }
        }
        ArrayPool<TParameter>.Shared.Return(rented);
    }

    /// <summary>A group's output before SiLU.</summary>
    private static void Normalize<T, TParameter>(in BackwardWork<T, TParameter> work, nint g, TParameter* z)
        where T : unmanaged
        where TParameter : unmanaged
    {
        nint length = work.Layout.Length, first = work.Layout.FirstParameter(g), run = work.Weight == null && work.Bias == null && work.Layout.Run != 1 ? length : work.Layout.Run;
        TParameter* weight = work.Weight == null ? null : work.Weight + first, bias = work.Bias == null ? null : work.Bias + first;
        ref readonly GroupStatistics group = ref work.Statistics[g];
        if (typeof(TParameter) == typeof(float))
        {
            var apply = new FloatApply<T, float> { X = work.X + g * length, Y = (float*)z, Weight = (float*)weight, Bias = (float*)bias, Run = run, Exact = group };
            apply.Scale.SetOfForward(in group, length);
            Apply(in apply, 0, length);
            return;
        }
        Apply(new DoubleApply { X = (double*)(work.X + g * length), Y = (double*)z, Weight = (double*)weight, Bias = (double*)bias, Run = run, Scale = new GroupScale<double>(in group) }, 0, length);
    }
}
