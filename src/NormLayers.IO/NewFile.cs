using System.IO.MemoryMappedFiles;

namespace NormLayers.IO;

/// <summary>
/// A file that appears whole or not at all: written under a temporary name in its own folder, then renamed. Where its length
/// is known it is written through a mapping, all of its room on the disk reserved first, because a full disk met through a
/// mapping kills the process; else through <see cref="Stream"/>.
/// </summary>
internal sealed unsafe class NewFile : IDisposable
{
    private readonly string temporary;
    private readonly bool overwrite;
    private readonly FileStream stream;
    private readonly MemoryMappedFile? mapping;
    private readonly MemoryMappedViewAccessor? view;
    private readonly byte* start;
    private bool closed;

    private NewFile(string path, string temporary, FileStream stream, long? knownLength, bool overwrite)
    {
        Path = path;
        this.temporary = temporary;
        this.stream = stream;
        this.overwrite = overwrite;
        if (knownLength is not { } length)
            return;
        stream.SetLength(length);
        mapping = MemoryMappedFile.CreateFromFile(stream, null, 0, MemoryMappedFileAccess.ReadWrite, HandleInheritability.None, leaveOpen: true);
        try
        {
            view = mapping.CreateViewAccessor(0, length, MemoryMappedFileAccess.ReadWrite);
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

    public string Path { get; }

    /// <summary>The file as a stream from its start, for one whose length was not known.</summary>
    public Stream Stream => stream;

    public byte* Start
    {
        get
        {
            ObjectDisposedException.ThrowIf(closed, this);
            return start;
        }
    }

    public static NewFile Create(string path, long? length, bool overwrite)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        RefuseExisting(path, overwrite);
        string folder = System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(path)) ?? "";
        if (!Directory.Exists(folder))
            throw new DirectoryNotFoundException($"{path}: its folder does not exist.");
        string temporary = System.IO.Path.Combine(folder, $".normlayers-{System.IO.Path.GetRandomFileName()}.tmp");
        FileStream? stream = null;
        try
        {
            stream = new FileStream(temporary, new FileStreamOptions
            {
                Mode = FileMode.CreateNew,
                Access = FileAccess.ReadWrite,
                BufferSize = 0,
                PreallocationSize = length ?? 0,
            });
            return new NewFile(path, temporary, stream, length, overwrite);
        }
        catch (Exception cause)
        {
            if (stream is not null)
            {
                stream.Dispose();
                File.Delete(temporary);
            }
            if (cause is UnauthorizedAccessException)
                throw new UnauthorizedAccessException($"{path}: no file may be made in its folder.", cause);
            if (cause is IOException)
                throw new IOException($"{path}: a file{(length is null ? "" : $" of {length} bytes")} could not be made: {cause.Message}", cause);
            throw;
        }
    }

    public void Commit()
    {
        ObjectDisposedException.ThrowIf(closed, this);
        RefuseExisting(Path, overwrite);
        view?.Flush();
        stream.Flush(flushToDisk: true);
        Close();
        try
        {
            File.Move(temporary, Path, overwrite);
        }
        catch
        {
            File.Delete(temporary);
            throw;
        }
    }

    public void Dispose()
    {
        if (closed)
            return;
        Close();
        File.Delete(temporary);
    }

    private static void RefuseExisting(string path, bool overwrite)
    {
        if (Directory.Exists(path))
            throw new IOException($"{path}: is a folder; the name of a file is needed.");
        if (!File.Exists(path))
            return;
        if (!overwrite)
            throw new IOException($"{path}: exists already, and overwriting it was not asked for.");
        // The new file would take its place: for all programs, where it is /dev/null.
        if (MappedFile.IsPipeOrDevice(path))
            throw new IOException($"{path}: is a pipe or device; the name of a file is needed.");
    }

    private void Close()
    {
        closed = true;
        view?.SafeMemoryMappedViewHandle.ReleasePointer();
        view?.Dispose();
        mapping?.Dispose();
        stream.Dispose();
    }
}
