using System.Runtime.InteropServices;

namespace NormLayers.Tests.Properties;

/// <summary>
/// Memory between two pages that may be neither read nor written, so that an access past either end stops the process:
/// the only way to see a read that goes too far and whose value is not used.
/// </summary>
internal sealed unsafe class GuardedMemory : IDisposable
{
    private const int None = 0, ReadWrite = 3, PrivateMapping = 2;
    private const uint CommitAndReserve = 0x3000, Release = 0x8000, WindowsNone = 1, WindowsReadWrite = 4;

    private static readonly nint Page = Environment.SystemPageSize;
    private readonly byte* mapping;
    private readonly nint inner;

    public GuardedMemory(nint bytes)
    {
        inner = (bytes + Page - 1) / Page * Page;
        if (OperatingSystem.IsWindows())
        {
            mapping = VirtualAlloc(null, (nuint)(inner + 2 * Page), CommitAndReserve, WindowsNone);
            if (mapping == null || VirtualProtect(mapping + Page, (nuint)inner, WindowsReadWrite, out _) == 0)
                throw new InvalidOperationException("VirtualAlloc or VirtualProtect failed.");
            return;
        }
        int anonymous = OperatingSystem.IsMacOS() ? 0x1000 : 0x20;
        mapping = Map(null, (nuint)(inner + 2 * Page), None, PrivateMapping | anonymous, -1, 0);
        if (mapping == (byte*)-1 || Protect(mapping + Page, (nuint)inner, ReadWrite) != 0)
            throw new InvalidOperationException("mmap or mprotect failed.");
    }

    public static bool IsSupported => OperatingSystem.IsWindows() || OperatingSystem.IsLinux() || OperatingSystem.IsMacOS();

    /// <summary>Room for <paramref name="count"/> elements that ends where the memory ends, or begins where it begins.</summary>
    public T* Place<T>(int count, bool atEnd) where T : unmanaged => (T*)(mapping + Page + (atEnd ? inner - count * sizeof(T) : 0));

    /// <summary>The same room, filled with values.</summary>
    public T* Place<T>(ReadOnlySpan<T> values, bool atEnd) where T : unmanaged
    {
        T* place = Place<T>(values.Length, atEnd);
        values.CopyTo(new Span<T>(place, values.Length));
        return place;
    }

    public void Dispose()
    {
        if (OperatingSystem.IsWindows())
            _ = VirtualFree(mapping, 0, Release);
        else
            _ = Unmap(mapping, (nuint)(inner + 2 * Page));
    }

    [DllImport("libc", EntryPoint = "mmap")]
    private static extern byte* Map(void* address, nuint length, int protection, int flags, int file, nint offset);

    [DllImport("libc", EntryPoint = "mprotect")]
    private static extern int Protect(void* address, nuint length, int protection);

    [DllImport("libc", EntryPoint = "munmap")]
    private static extern int Unmap(void* address, nuint length);

    [DllImport("kernel32")]
    private static extern byte* VirtualAlloc(void* address, nuint length, uint type, uint protection);

    [DllImport("kernel32")]
    private static extern int VirtualProtect(void* address, nuint length, uint protection, out uint old);

    [DllImport("kernel32")]
    private static extern int VirtualFree(void* address, nuint length, uint type);
}
