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
        // Only what has no length can be a pipe. Opened for reading, one would be waited for until something writes to it.
        if (new FileInfo(path) is { Exists: true, Length: 0 } && IsPipe(path))
            throw new IOException($"{path}: is a pipe or device; a file on a disk is needed.");
        var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, bufferSize: 0);
        if (stream.CanSeek)
            return stream;
        stream.Dispose();
        throw new IOException($"{path}: is a pipe or device; a file on a disk is needed.");
    }

    /// <summary>Whether a path is a pipe's or a terminal's. Opened for both directions, which this does, a pipe waits for nothing.</summary>
    private static bool IsPipe(string path)
    {
        using FileStream? stream = OpenBothWays(path);
        return stream is { CanSeek: false };
    }

    /// <summary>Whether a path is something that is no file on a disk and must not be replaced by one: a device cannot be cut to its length, no bytes.</summary>
    public static bool IsPipeOrDevice(string path)
    {
        using FileStream? stream = OpenBothWays(path);
        if (stream is null or { CanSeek: true, Length: > 0 })
            return false;
        try
        {
            stream.SetLength(0);
            return !stream.CanSeek;
        }
        catch (Exception cause) when (cause is IOException or NotSupportedException)
        {
            return true;
        }
    }

    /// <summary>Null where it cannot be opened so; on Windows pipes and devices have paths of their own.</summary>
    private static FileStream? OpenBothWays(string path)
    {
        if (OperatingSystem.IsWindows())
            return null;
        try
        {
            return new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0);
        }
        catch (Exception cause) when (cause is IOException or UnauthorizedAccessException)
        {
            return null;
        }
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
