using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace NormLayers.Internals;

/// <summary>Stores past the caches, for results too large to be found there again: an ordinary store reads its line first, a third of a copy's traffic.</summary>
internal static unsafe class Streaming
{
    /// <summary>From here on a result is streamed: measured, see docs/performance.md.</summary>
    internal const nint LeastBytes = 8 << 20;

    /// <summary>How many elements, at most <paramref name="length"/>, come before the first whole line of 64 bytes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static nint Head<T>(ref T destination, nint length) where T : unmanaged
    {
        nint past = (nint)Unsafe.AsPointer(ref destination) & 63;
        return past == 0 ? 0 : Math.Min((64 - past) / sizeof(T), length);
    }

    /// <summary>Stores a line of 64 bytes at an address that is a multiple of 64.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Store<T>(Vector512<T> value, ref T destination, nint offset) where T : unmanaged
    {
        T* address = (T*)Unsafe.AsPointer(ref Unsafe.Add(ref destination, offset));
        if (Vector512.IsHardwareAccelerated)
        {
            value.StoreAlignedNonTemporal(address);
            return;
        }
        // Where 512 bits are no register, the method above stores them in the ordinary way; its halves do not.
        value.GetLower().StoreAlignedNonTemporal(address);
        value.GetUpper().StoreAlignedNonTemporal(address + Vector256<T>.Count);
    }

    /// <summary>Makes streamed stores visible before whatever is stored next.</summary>
    internal static void Fence()
    {
        if (Sse.IsSupported)
            Sse.StoreFence();
        else
            Interlocked.MemoryBarrier();
    }
}
