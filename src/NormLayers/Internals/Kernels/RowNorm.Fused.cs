using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>What is done to a group beside its normalization, while it is in the cache.</summary>
/// <remarks>
/// A residual is added before the sums are taken. The sum is a result of its own; where results are streamed it leaves past the
/// caches, and what is normalized is a copy of it in scratch memory that stays there. All is rounded as if it were done call by call: the bits are those of the composition.
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
}
