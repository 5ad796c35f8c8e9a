using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace NormLayers.Benchmarks;

/// <summary>The least that a pass must do to memory: read x and write y, or read x and dy and write dx (as their sum).</summary>
/// <remarks>Destinations are aligned to 64 bytes.</remarks>
internal static unsafe class Copies
{
    private const int Step = 64;

    public static void Ordinary(float* y, float* x, nint length)
    {
        nint i = 0;
        for (; i <= length - Step; i += Step)
        {
            Vector512<float> a = Vector512.Load(x + i), b = Vector512.Load(x + i + 16), c = Vector512.Load(x + i + 32), d = Vector512.Load(x + i + 48);
            a.Store(y + i);
            b.Store(y + i + 16);
            c.Store(y + i + 32);
            d.Store(y + i + 48);
        }
        for (; i < length; i++)
            y[i] = x[i];
    }

    public static void NonTemporal(float* y, float* x, nint length)
    {
        nint i = 0;
        for (; i <= length - Step; i += Step)
        {
            Vector512<float> a = Vector512.Load(x + i), b = Vector512.Load(x + i + 16), c = Vector512.Load(x + i + 32), d = Vector512.Load(x + i + 48);
            Stream(a, y + i);
            Stream(b, y + i + 16);
            Stream(c, y + i + 32);
            Stream(d, y + i + 48);
        }
        for (; i < length; i++)
            y[i] = x[i];
        Fence();
    }

    public static void OrdinaryOfTwo(float* y, float* x, float* dy, nint length)
    {
        nint i = 0;
        for (; i <= length - Step / 2; i += Step / 2)
        {
            Vector512<float> a = Vector512.Load(x + i) + Vector512.Load(dy + i), b = Vector512.Load(x + i + 16) + Vector512.Load(dy + i + 16);
            a.Store(y + i);
            b.Store(y + i + 16);
        }
        for (; i < length; i++)
            y[i] = x[i] + dy[i];
    }

    public static void NonTemporalOfTwo(float* y, float* x, float* dy, nint length)
    {
        nint i = 0;
        for (; i <= length - Step / 2; i += Step / 2)
        {
            Vector512<float> a = Vector512.Load(x + i) + Vector512.Load(dy + i), b = Vector512.Load(x + i + 16) + Vector512.Load(dy + i + 16);
            Stream(a, y + i);
            Stream(b, y + i + 16);
        }
        for (; i < length; i++)
            y[i] = x[i] + dy[i];
        Fence();
    }

    /// <summary>Where 512 bits are not one register, the method of their type stores them in the ordinary way; its halves do not.</summary>
    private static void Stream(Vector512<float> value, float* address)
    {
        if (Vector512.IsHardwareAccelerated)
        {
            value.StoreAlignedNonTemporal(address);
            return;
        }
        value.GetLower().StoreAlignedNonTemporal(address);
        value.GetUpper().StoreAlignedNonTemporal(address + 8);
    }

    private static void Fence()
    {
        if (Sse.IsSupported)
            Sse.StoreFence();
        else
            Interlocked.MemoryBarrier();
    }
}
