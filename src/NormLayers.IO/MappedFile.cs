using System.IO.MemoryMappedFiles;

namespace NormLayers.IO;

/// <summary>A file mapped for reading, or bytes that came from a stream. An empty file has length 0 and no memory.</summary>
internal sealed unsafe class MappedFile : IDisposable
{
    private readonly MemoryMappedFile? mapping;
    private readonly MemoryMappedViewAccessor? view;
    private readonly NativeBlock? block;
    private readonly byte* start;
    private bool disposed;

    private MappedFile(string path, FileStream stream)
    {
        Path = path;
        Length = stream.Length;
        if (Length == 0)
        {
            stream.Dispose();
            return;
        }
        mapping = MemoryMappedFile.CreateFromFile(stream, null, 0, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: false);
        try
        {
            view = mapping.CreateViewAccessor(0, Length, MemoryMappedFileAccess.Read);
            view.SafeMemoryMappedViewHandle.AcquirePointer(ref start);
            start += view.PointerOffset;
        }
        catch
        {
            view?.Dispose();
            mapping.Dispose();
            throw;
        }
    }

    /// <summary>Takes a block over; it is disposed with the file.</summary>
    public MappedFile(string path, NativeBlock block)
    {
        Path = path;
        Length = block.Length;
        this.block = block;
        start = block.Start;
    }

    public string Path { get; }

    public long Length { get; }

    public byte* Start
    {
        get
        {
            ObjectDisposedException.ThrowIf(disposed, this);
            return start;
        }
    }

    public static MappedFile Open(string path)
    {
        FileStream stream = OpenStream(path);
        try
        {
            return new MappedFile(path, stream);
        }
        catch
        {
            stream.Dispose();
            throw;
        }
    }

    /// <summary>Opens a file on a disk, and nothing else, for reading.</summary>
    public static FileStream OpenStream(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (Directory.Exists(path))
            throw new IOException($"{path}: is a folder; a file is needed.");
        var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, bufferSize: 0);
        if (stream.CanSeek)
            return stream;
        stream.Dispose();
        throw new IOException($"{path}: is a pipe or device; a file on a disk is needed.");
    }

    /// <summary>The bytes from the start of the file; the caller has checked that they are there.</summary>
    public ReadOnlySpan<byte> Bytes(int length) => new(Start, length);

    public void Dispose()
    {
        if (disposed)
            return;
        disposed = true;
        view?.SafeMemoryMappedViewHandle.ReleasePointer();
        view?.Dispose();
        mapping?.Dispose();
        block?.Dispose();
    }
}
