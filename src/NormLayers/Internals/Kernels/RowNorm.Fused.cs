using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>What is done to a group beside its normalization, while it is in the cache.</summary>
/// <remarks>
/// A residual is added before the sums are taken. The sum is a result of its own; where results are streamed it leaves past the
/// caches, and what is normalized is a copy of it in scratch memory that stays there. All is rounded as if it were done call by
/// call: the bits are those of the composition.
/// </remarks>
internal static unsafe partial class RowNorm
{
    /// <summary>Scratch memory of a thread, on its stack: it is read again from the first-level cache, or the second.</summary>
    private const int ScratchBytes = 32 << 10;

    /// <summary>Groups of input and residual: their sums, and these normalized. As many groups at once as the scratch memory takes, or one that is longer.</summary>
    [SkipLocalsInit]
    private static void ForwardSums<T>(void* state, nint start, nint end) where T : unmanaged, IFloatingPointIeee754<T>
    {
        ForwardWork<T> work = *(ForwardWork<T>*)state;
        byte* memory = stackalloc byte[ScratchBytes + 64];
        T* scratch = (T*)(((nint)memory + 63) & ~63), x = work.X;
        nint length = work.Layout.Length, most = ScratchBytes / sizeof(T), step = Math.Max(1, most / length);
        bool apart = work.StreamSum && length <= most;
        for (nint g = start; g < end; g += step)
        {
            nint groups = Math.Min(step, end - g), first = g * length;
            var add = new AddWork<T> { X = x + first, Residual = work.Residual + first, Sum = work.Sum + first, Ahead = step * length };
            if (apart)
                AddApart(in add, scratch, groups * length);
            else
                Partition.Run(groups * length, work.GroupThreads, &Add<T>, &add);
            // Their elements are where the groups' own would be.
            work.X = apart ? scratch - first : work.Sum;
            work.Stream = work.Stream.WithAhead((nint)(x - work.X) + step * length);
            ForwardGroups<T>(&work, g, g + groups);
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
        nint i = 0;
        for (; i <= length - Vector512<T>.Count; i += Vector512<T>.Count)
        {
            Streaming.Prefetch(in *residual, i + ahead);
            (Vector512.Load(x + i) + Vector512.Load(residual + i)).Store(sum + i);
        }
        for (; i < length; i++)
            sum[i] = Plus(x[i], residual[i]);
    }

    /// <summary>The same past the caches, and a copy of the sum to be read again.</summary>
    private static void AddApart<T>(in AddWork<T> work, T* copy, nint length) where T : unmanaged
    {
        T* x = work.X, residual = work.Residual, sum = work.Sum;
        nint ahead = work.Ahead, i = 0, head = Streaming.Head(ref *sum, length);
        for (; i < head; i++)
            sum[i] = copy[i] = Plus(x[i], residual[i]);
        for (; i <= length - Vector512<T>.Count; i += Vector512<T>.Count)
        {
            Streaming.Prefetch(in *residual, i + ahead);
            Vector512<T> v = Vector512.Load(x + i) + Vector512.Load(residual + i);
            v.Store(copy + i);
            Streaming.Store(v, ref *sum, i);
        }
        for (; i < length; i++)
            sum[i] = copy[i] = Plus(x[i], residual[i]);
        Streaming.Fence();
    }

    /// <summary>Adds to a group's gradient, which is written and still in the cache, that of its sum.</summary>
    private static void AddGradSum<T>(in BackwardWork<T> work, nint g) where T : unmanaged
    {
        nint length = work.Layout.Length, first = g * length;
        if (work.GradSum != null)
            Add(work.Dx + first, work.GradSum + first, work.Dx + first, length, length);
    }

    /// <summary>Exact in double, where the elements are floats, and so rounded once.</summary>
    private static T Plus<T>(T a, T b) where T : unmanaged => Elements.FromDouble<T>(Elements.ToDouble(a) + Elements.ToDouble(b));
}
