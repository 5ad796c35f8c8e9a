using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace NormLayers.Internals;

/// <summary>Stores past the caches, for results too large to be found there again: an ordinary store reads its line first, a third of a copy's traffic.</summary>
internal readonly unsafe struct Streaming
{
    /// <summary>From here on a result is streamed: measured, see docs/performance.md.</summary>
    private static readonly nint LeastBytes = HasVictimCache() ? 2 << 20 : 8 << 20;

    /// <summary>How far ahead of the sums: two pages.</summary>
    internal const int AheadBytes = 8192;

    /// <summary>Up to here the next group fits the second-level cache beside this one.</summary>
    private const nint MostAheadBytes = 512 << 10;

    /// <summary>Whether to stream.</summary>
    internal readonly bool Wanted;

    /// <summary>How many elements further the input is asked for in advance.</summary>
    internal readonly nint Ahead;

    private Streaming(bool wanted, nint ahead) => (Wanted, Ahead) = (wanted, ahead);

    /// <summary>How to store a result of so many elements that is made group by group; in place, its lines are in the cache already.</summary>
    internal static Streaming For<T>(nint elements, nint groupLength, bool inPlace = false) where T : unmanaged
        => new(elements * sizeof(T) >= LeastBytes && !inPlace, groupLength * sizeof(T) <= MostAheadBytes ? groupLength : AheadBytes / sizeof(T));

    /// <summary>The same, with another distance.</summary>
    internal Streaming WithAhead(nint ahead) => new(Wanted, ahead);

    /// <summary>How many elements, at most <paramref name="length"/>, come before the first whole line of 64 bytes, or of a 16-bit type half line, which is what 16 elements fill.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static nint Head<T>(ref T destination, nint length) where T : unmanaged
    {
        nint whole = sizeof(T) == 2 ? 32 : 64, past = (nint)Unsafe.AsPointer(ref destination) & (whole - 1);
        return past == 0 ? 0 : Math.Min((whole - past) / sizeof(T), length);
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

    /// <summary>Stores a line at an address that is a multiple of 64 if streaming is wanted.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal void StoreAligned(Vector512<float> value, float* address)
    {
        if (Wanted)
            Store(value, ref *address, 0);
        else
            value.Store(address);
    }

    /// <summary>Rounds 16 floats to the element type and stores them, past the caches if that is wanted: then the address is a multiple of their size.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal void StoreFloats<T>(Vector512<float> value, T* destination, nint offset) where T : unmanaged
    {
        if (!Wanted)
            Elements.StoreFloats(value, destination, offset);
        else if (typeof(T) == typeof(float))
            Store(value, ref *(float*)destination, offset);
        else
            SixteenBits.Stream(value, destination + offset);
    }

    /// <summary>Rounds 32 floats as <see cref="Elements.LoadPairs"/> gives them and stores them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal void StorePairs<T>(Vector512<float> a, Vector512<float> b, T* destination, nint offset) where T : unmanaged
    {
        if (typeof(T) == typeof(float))
        {
            StoreFloats(a, destination, offset);
            StoreFloats(b, destination, offset + 16);
            return;
        }
        Vector512<uint> packed = SixteenBits.NarrowPairs<T>(a, b);
        uint* address = (uint*)(destination + offset);
        if (!Wanted)
        {
            packed.Store(address);
            return;
        }
        StoreHalves(packed, address);
    }

    /// <summary>Stores a line past the caches at an address that is a multiple of half of it.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void StoreHalves(Vector512<uint> value, uint* address)
    {
        if (Vector512.IsHardwareAccelerated && ((nint)address & 63) == 0)
        {
            value.StoreAlignedNonTemporal(address);
            return;
        }
        value.GetLower().StoreAlignedNonTemporal(address);
        value.GetUpper().StoreAlignedNonTemporal(address + Vector256<uint>.Count);
    }

    /// <summary>Asks for the line of an element, which need not exist, to be brought to the second-level cache.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Prefetch<T>(ref readonly T source, nint offset) where T : unmanaged
    {
        if (Sse.IsSupported)
            Sse.Prefetch1(Unsafe.AsPointer(ref Unsafe.Add(ref Unsafe.AsRef(in source), offset)));
    }

    /// <summary>Asks for the line of an element two pages ahead.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void PrefetchOne<T>(T* source, nint offset) where T : unmanaged => Prefetch(in *source, offset + AheadBytes / sizeof(T));

    /// <summary>Asks for the lines of 64 elements, some way ahead of where they will be read: processors stop reading ahead at the end of a page.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void PrefetchFour<T>(T* source, nint offset) where T : unmanaged => PrefetchFour(source, offset, AheadBytes / sizeof(T));

    /// <summary>The same, so many elements ahead.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void PrefetchFour<T>(T* source, nint offset, nint ahead) where T : unmanaged
    {
        offset += ahead;
        Prefetch(in *source, offset);
        if (sizeof(T) == 4)
            Prefetch(in *source, offset + 16);
        Prefetch(in *source, offset + 32);
        if (sizeof(T) == 4)
            Prefetch(in *source, offset + 48);
    }

    /// <summary>Asks for the lines of 32 elements.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void PrefetchTwo<T>(T* source, nint offset, nint ahead) where T : unmanaged
    {
        Prefetch(in *source, offset + ahead);
        if (sizeof(T) == 4)
            Prefetch(in *source, offset + ahead + 16);
    }

    /// <summary>The same, two pages ahead.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void PrefetchTwo<T>(T* source, nint offset) where T : unmanaged => PrefetchTwo(source, offset, AheadBytes / sizeof(T));

    /// <summary>Asks for the line of an element in each of four rows.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void PrefetchRows<T>(T* source, nint offset, nint stride) where T : unmanaged
    {
        Prefetch(in *source, offset);
        Prefetch(in *source, offset + stride);
        Prefetch(in *source, offset + 2 * stride);
        Prefetch(in *source, offset + 3 * stride);
    }

    /// <summary>Whether this is an Intel processor whose last-level cache holds what the second level gave up: it is hardly faster than memory, and the second level is large.</summary>
    private static bool HasVictimCache()
    {
        // CPUID leaf 4 tells one cache after the other: its type (0: no more) and level, and whether it includes the lower ones.
        if (!X86Base.IsSupported || X86Base.CpuId(0, 0) is not (>= 4, 0x756E6547, 0x6C65746E, 0x49656E69))
            return false;
        for (int cache = 0; ; cache++)
        {
            (int kind, _, _, int properties) = X86Base.CpuId(4, cache);
            if ((kind & 31) == 0)
                return false;
            if ((kind >> 5 & 7) == 3)
                return (properties & 2) == 0;
        }
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

/// <summary>What four rows are going to read: a line of each, or where rows follow each other without a gap four lines in the order of memory, which processors then fetch faster.</summary>
internal unsafe struct RowsAhead<T>(T* next, nint between, nint step) where T : unmanaged
{
    private T* next = next;

    /// <summary>Asks for so many lines of each, and goes on by a step.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal void Prefetch(int lines)
    {
        Streaming.PrefetchRows(next, 0, between);
        if (lines > 1)
            Streaming.PrefetchRows(next, 64 / sizeof(T), between);
        next += step;
    }
}
