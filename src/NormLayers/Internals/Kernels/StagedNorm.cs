using System.Buffers;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace NormLayers.Internals.Kernels;

/// <summary>The 16-bit types: their elements are widened to float, go through the kernels of float, and are rounded once.</summary>
/// <remarks>
/// <para>
/// Rows: some groups at a time, or pieces of a group that is too long, so that their floats stay in the caches next to the
/// processor and memory sees the 16-bit elements alone. What is staged together, and the order of sums over it, depends on the
/// layout alone. Columns: all elements at once, in rented memory.
/// </para>
/// <para>The floats' own error, a few 2^-24 beside the 2^-12 or 2^-9 of the rounding, leaves 0.51 ulp.</para>
/// </remarks>
internal static unsafe class StagedNorm
{
    /// <summary>Short groups are staged together, 16 KB of floats at a time; longer ones up to 64 KB whole; then in pieces of this length.</summary>
    private const nint BatchLength = 4096, StageLength = 16384;

    /// <summary>Parameter gradients are summed over this many blocks of batches at most, as in <see cref="RowNorm"/>.</summary>
    private const nint MaxBlocks = 64;

    /// <summary>Normalizes all groups; see <see cref="ChannelNorm"/>.</summary>
    internal static void Forward<T>(ref readonly T x, ref T y, in ChannelLayout layout, ref readonly float weight, ref readonly float bias, double eps, Span<GroupStatistics> statistics, int maxThreads) where T : unmanaged
    {
        fixed (T* px = &x, py = &y)
        {
            using var floats = new Floats(layout.Count);
            Convert(px, floats.First, layout.Count, widen: true, maxThreads);
            ChannelNorm.Forward(in *floats.First, ref *floats.First, layout, in weight, in bias, eps, statistics, maxThreads);
            Convert(py, floats.First, layout.Count, widen: false, maxThreads);
        }
    }

    /// <summary>Computes the gradients of all groups; see <see cref="ChannelNorm"/>.</summary>
    internal static void Backward<T>(ref readonly T dy, ref readonly T x, ref T dx, in ChannelLayout layout, ReadOnlySpan<GroupStatistics> statistics, ref readonly float weight, Span<double> weightSums, Span<double> biasSums, int maxThreads) where T : unmanaged
    {
        fixed (T* pdy = &dy, px = &x, pdx = &dx)
        {
            nint count = layout.Count;
            using Floats gradients = new(count), inputs = new(count);
            Convert(pdy, gradients.First, count, widen: true, maxThreads);
            Convert(px, inputs.First, count, widen: true, maxThreads);
            ChannelNorm.Backward(in *gradients.First, in *inputs.First, ref *(pdx == null ? null : gradients.First), layout, statistics, in weight, weightSums, biasSums, maxThreads);
            if (pdx != null)
                Convert(pdx, gradients.First, count, widen: false, maxThreads);
        }
    }

    private struct ConvertWork<T> where T : unmanaged
    {
        internal T* Elements;
        internal float* Floats;
        internal nint Length;
        internal bool Widen;
    }

    /// <summary>Widens or rounds all elements.</summary>
    private static void Convert<T>(T* elements, float* floats, nint length, bool widen, int maxThreads) where T : unmanaged
    {
        var work = new ConvertWork<T> { Elements = elements, Floats = floats, Length = length, Widen = widen };
        Partition.Run((length + StageLength - 1) / StageLength, Partition.Threads(length, maxThreads), &ConvertParts<T>, &work);
    }

    private static void ConvertParts<T>(void* state, nint start, nint end) where T : unmanaged
    {
        ref readonly ConvertWork<T> work = ref *(ConvertWork<T>*)state;
        nint first = start * StageLength, length = Math.Min(end * StageLength, work.Length) - first;
        if (work.Widen)
            SixteenBits.Widen(work.Elements + first, work.Floats + first, length);
        else
            SixteenBits.Narrow(work.Floats + first, work.Elements + first, length, stream: false);
    }

    /// <summary>Rented memory for floats, held in place.</summary>
    private readonly ref struct Floats
    {
        private readonly float[] array;
        private readonly GCHandle handle;

        internal Floats(nint length)
        {
            array = ArrayPool<float>.Shared.Rent(checked((int)length));
            handle = GCHandle.Alloc(array, GCHandleType.Pinned);
            First = (float*)handle.AddrOfPinnedObject();
        }

        internal float* First { get; }

        public void Dispose()
        {
            handle.Free();
            ArrayPool<float>.Shared.Return(array);
        }
    }
}
