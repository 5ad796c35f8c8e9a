using System.Runtime.InteropServices;

namespace NormLayers.IO;

/// <summary>Memory that a stream is read into. It grows with what arrives, never with what was announced.</summary>
internal sealed unsafe class NativeBlock : IDisposable
{
    private const long FirstCapacity = 1 << 16;

    private long capacity;

    ~NativeBlock() => Free();

    public byte* Start { get; private set; }

    public long Length { get; private set; }

    public ReadOnlySpan<byte> Bytes(int length) => new(Start, length);

    /// <summary>Reads until there are so many bytes in all, or the stream ends.</summary>
    public void ReadTo(long length, Stream stream)
    {
        while (Length < length)
        {
            if (Length == capacity)
            {
                capacity = Math.Min(length, Math.Max(FirstCapacity, 2 * capacity));
                Start = (byte*)NativeMemory.Realloc(Start, (nuint)capacity);
            }
            int read = stream.Read(new Span<byte>(Start + Length, (int)Math.Min(Array.MaxLength, capacity - Length)));
            if (read == 0)
                return;
            Length += read;
        }
    }

    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    private void Free()
    {
        NativeMemory.Free(Start);
        Start = null;
        Length = capacity = 0;
    }
}
