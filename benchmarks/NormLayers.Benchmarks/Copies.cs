using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace NormLayers.Benchmarks;

/// <summary>Where a copy reads and writes; null beyond as many as it has.</summary>
internal unsafe struct Streams
{
    public byte* X, X2, X3, Y, Y2;
}

/// <summary>The least that a pass must do to memory: read k streams and write m, each byte of which is the exclusive or of those read.</summary>
/// <remarks>Destinations are aligned to 64 bytes.</remarks>
internal static unsafe class Copies
{
    private const int Lane = 64, Step = 4 * Lane;

    /// <summary>Copies the bytes from first to end of each stream.</summary>
    public static void Run(in Streams streams, (int Reads, int Writes) traffic, bool nonTemporal, nint first, nint end)
    {
        switch (traffic, nonTemporal)
        {
            case ((1, 1), false): Move<One, One, Ordinary>(streams, first, end); break;
            case ((1, 1), true): Move<One, One, NonTemporal>(streams, first, end); break;
            case ((2, 1), false): Move<Two, One, Ordinary>(streams, first, end); break;
            case ((2, 1), true): Move<Two, One, NonTemporal>(streams, first, end); break;
            case ((2, 2), false): Move<Two, Two, Ordinary>(streams, first, end); break;
            case ((2, 2), true): Move<Two, Two, NonTemporal>(streams, first, end); break;
            case ((3, 1), false): Move<Three, One, Ordinary>(streams, first, end); break;
            case ((3, 1), true): Move<Three, One, NonTemporal>(streams, first, end); break;
            default: throw new NotSupportedException($"There is no copy of {traffic.Reads} reads and {traffic.Writes} writes.");
        }
    }

    private static void Move<TReads, TWrites, TStore>(in Streams streams, nint first, nint end)
        where TReads : struct, ICount
        where TWrites : struct, ICount
        where TStore : struct, IStore
    {
        byte* x = streams.X, x2 = streams.X2, x3 = streams.X3, y = streams.Y, y2 = streams.Y2;
        nint i = first;
        for (; i <= end - Step; i += Step)
        {
            Vector512<byte> a = Load<TReads>(x, x2, x3, i), b = Load<TReads>(x, x2, x3, i + Lane), c = Load<TReads>(x, x2, x3, i + 2 * Lane), d = Load<TReads>(x, x2, x3, i + 3 * Lane);
            Store<TWrites, TStore>(a, y, y2, i);
            Store<TWrites, TStore>(b, y, y2, i + Lane);
            Store<TWrites, TStore>(c, y, y2, i + 2 * Lane);
            Store<TWrites, TStore>(d, y, y2, i + 3 * Lane);
        }
        for (; i <= end - Lane; i += Lane)
            Store<TWrites, TStore>(Load<TReads>(x, x2, x3, i), y, y2, i);
        if (i < end && end - first >= Lane)
        {
            // Some bytes again.
            Store<TWrites, Ordinary>(Load<TReads>(x, x2, x3, end - Lane), y, y2, end - Lane);
            i = end;
        }
        for (; i < end; i++)
        {
            y[i] = (byte)(x[i] ^ (TReads.Value > 1 ? x2[i] : 0) ^ (TReads.Value > 2 ? x3[i] : 0));
            if (TWrites.Value > 1)
                y2[i] = y[i];
        }
        TStore.Finish();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<byte> Load<TReads>(byte* x, byte* x2, byte* x3, nint at) where TReads : struct, ICount
    {
        Vector512<byte> value = Vector512.Load(x + at);
        if (TReads.Value > 1)
            value ^= Vector512.Load(x2 + at);
        if (TReads.Value > 2)
            value ^= Vector512.Load(x3 + at);
        return value;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store<TWrites, TStore>(Vector512<byte> value, byte* y, byte* y2, nint at)
        where TWrites : struct, ICount
        where TStore : struct, IStore
    {
        TStore.Store(value, y + at);
        if (TWrites.Value > 1)
            TStore.Store(value, y2 + at);
    }

    private interface ICount
    {
        static abstract int Value { get; }
    }

    private readonly struct One : ICount
    {
        public static int Value => 1;
    }

    private readonly struct Two : ICount
    {
        public static int Value => 2;
    }

    private readonly struct Three : ICount
    {
        public static int Value => 3;
    }

    private interface IStore
    {
        static abstract void Store(Vector512<byte> value, byte* address);

        static abstract void Finish();
    }

    private readonly struct Ordinary : IStore
    {
        public static void Store(Vector512<byte> value, byte* address) => value.Store(address);

        public static void Finish()
        {
        }
    }

    private readonly struct NonTemporal : IStore
    {
        /// <summary>Where 512 bits are not one register, the method of their type stores them in the ordinary way; its halves do not.</summary>
        public static void Store(Vector512<byte> value, byte* address)
        {
            if (Vector512.IsHardwareAccelerated)
            {
                value.StoreAlignedNonTemporal(address);
                return;
            }
            value.GetLower().StoreAlignedNonTemporal(address);
            value.GetUpper().StoreAlignedNonTemporal(address + Lane / 2);
        }

        public static void Finish()
        {
            if (Sse.IsSupported)
                Sse.StoreFence();
            else
                Interlocked.MemoryBarrier();
        }
    }
}
