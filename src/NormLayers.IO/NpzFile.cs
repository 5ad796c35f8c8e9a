using System.IO.Compression;

namespace NormLayers.IO;

/// <summary>A NumPy archive (.npz): a .zip archive of .npy files, as <c>numpy.savez</c> and <c>numpy.savez_compressed</c> write them.
/// <see cref="NpzWriter"/> writes one.</summary>
/// <remarks>
/// <para>The list of members is read on opening, an array only when asked for, each into memory of its own: stored members
/// and those compressed by Deflate. Its length and checksum are compared with what the archive says.</para>
/// <para>Members whose names do not end in <c>.npy</c> are no arrays and are left out. Not safe for use by several threads at once.</para>
/// <para>https://numpy.org/doc/stable/reference/generated/numpy.savez.html</para>
/// </remarks>
public sealed class NpzFile : IDisposable
{
    /// <summary>The most bytes that a compressed array may unpack to unless the caller says otherwise: 4 GiB.</summary>
    public const long DefaultMaxUnpackedLength = 1L << 32;

    internal const string Extension = ".npy";

    private readonly ZipArchive archive;
    private readonly Dictionary<string, ZipArchiveEntry> members = [];
    private readonly long maxUnpackedLength;

    private NpzFile(string path, FileStream stream, long maxUnpackedLength)
    {
        Path = path;
        this.maxUnpackedLength = maxUnpackedLength;
        archive = new ZipArchive(stream, ZipArchiveMode.Read);
        var names = new List<string>();
        foreach (ZipArchiveEntry entry in archive.Entries)
        {
            if (!entry.FullName.EndsWith(Extension, StringComparison.Ordinal))
                continue;
            string name = entry.FullName[..^Extension.Length];
            if (!members.TryAdd(name, entry))
                throw Refusal.Of(path, $"has two members named {Refusal.Quote(entry.FullName)}; which one is meant cannot be told.");
            names.Add(name);
        }
        Names = names.AsReadOnly();
    }

    /// <summary>The path as it was given to <see cref="Open"/>.</summary>
    public string Path { get; }

    /// <summary>The names of the arrays, without <c>.npy</c>, in the order of the archive.</summary>
    public IReadOnlyList<string> Names { get; }

    /// <summary>Opens an archive and reads its list of members; no array is read yet.</summary>
    /// <param name="path">The file.</param>
    /// <param name="maxUnpackedLength">The most bytes that a compressed array may unpack to. An array that is stored as it
    /// is has no such limit: the file itself is as large.</param>
    /// <returns>The open archive; dispose it to close the file.</returns>
    /// <exception cref="ArgumentException"><paramref name="path"/> is null or empty.</exception>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="maxUnpackedLength"/> is negative.</exception>
    /// <exception cref="FileNotFoundException">There is no such file.</exception>
    /// <exception cref="DirectoryNotFoundException">There is no such folder.</exception>
    /// <exception cref="UnauthorizedAccessException">The file may not be read.</exception>
    /// <exception cref="InvalidDataException">It is not a .zip archive, or two arrays have the same name: the message is one line
    /// with the path and what was found.</exception>
    /// <exception cref="IOException">It is a folder or a pipe, or it cannot be read.</exception>
    public static NpzFile Open(string path, long maxUnpackedLength = DefaultMaxUnpackedLength)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(maxUnpackedLength);
        FileStream stream = MappedFile.OpenStream(path);
        try
        {
            return new NpzFile(path, stream, maxUnpackedLength);
        }
        catch (Exception cause)
        {
            stream.Dispose();
            if (cause is InvalidDataException && cause.Message.StartsWith(path, StringComparison.Ordinal))
                throw;
            if (IsDamage(cause))
                throw Refusal.Of(path, $"is not a sound .npz archive: {cause.Message}");
            throw;
        }
    }

    /// <summary>Reads an array.</summary>
    /// <param name="name">Its exact name, without <c>.npy</c>.</param>
    /// <returns>The array in memory, under the path <c>FILE.npz:name</c>; dispose it to free the memory. It outlives the archive.</returns>
    /// <exception cref="ArgumentNullException"><paramref name="name"/> is null.</exception>
    /// <exception cref="KeyNotFoundException">The archive has no such array; the message gives names like it.</exception>
    /// <exception cref="InvalidDataException">The array is encrypted or compressed otherwise than by Deflate, unpacks to more than
    /// was allowed or to another length or checksum than the archive says, or is no .npy file that can be read: the message is
    /// one line with the path and name, what was found and what is accepted.</exception>
    /// <exception cref="IOException">The file could not be read.</exception>
    /// <exception cref="OutOfMemoryException">There is not so much memory.</exception>
    /// <exception cref="ObjectDisposedException">The archive was disposed.</exception>
    public NpyFile Read(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        if (!members.TryGetValue(name, out ZipArchiveEntry? entry))
        {
            List<string> near = NearNames.Of(name, Names);
            string hint = near.Count == 0 ? "" : $"; did you mean {string.Join(" or ", near.ConvertAll(found => Refusal.Quote(found)))}?";
            throw new KeyNotFoundException($"{Path}: none of the {Names.Count} arrays is named {Refusal.Quote(name)}{hint}");
        }
        string where = $"{Path}:{Refusal.Quote(name)[1..^1]}";
        if (entry.IsEncrypted)
            throw Refusal.Of(where, "is encrypted; accepted are members without encryption.");
        if (entry.Length > maxUnpackedLength && entry.Length > entry.CompressedLength)
        {
            throw Refusal.Of(where, $"has {entry.CompressedLength} compressed bytes that unpack to {entry.Length}; at most "
                + $"{maxUnpackedLength} are accepted of a compressed array. Unpacked by other means, its .npy file is.");
        }
        NpyFile? file = null;
        try
        {
            using Stream stream = entry.Open();
            file = NpyFile.Read(stream, where, entry.Length);
            RequireWhole(file.Contents, entry, stream.ReadByte() < 0, where);
            return file;
        }
        catch (Exception cause)
        {
            file?.Dispose();
            if (IsDamage(cause) && !cause.Message.StartsWith(where, StringComparison.Ordinal))
                throw Refusal.Of(where, $"cannot be unpacked: {cause.Message} Accepted are stored members and those compressed by Deflate.");
            throw;
        }
    }

    /// <summary>Closes the file. Arrays that were read stay.</summary>
    public void Dispose() => archive.Dispose();

    private static unsafe void RequireWhole(MappedFile contents, ZipArchiveEntry entry, bool ended, string where)
    {
        if (!ended || contents.Length != entry.Length)
            throw Refusal.Of(where, $"unpacks to {(ended ? contents.Length : "more")} bytes, {entry.Length} of which its archive and its shape account for.");
        uint crc = 0;
        for (long start = 0; start < contents.Length; start += Array.MaxLength)
            crc = Crc32.Append(crc, new ReadOnlySpan<byte>(contents.Start + start, (int)Math.Min(Array.MaxLength, contents.Length - start)));
        if (crc != entry.Crc32)
            throw Refusal.Of(where, $"is damaged: its checksum is {crc:x8}, its archive says {entry.Crc32:x8}.");
    }

    /// <summary>What the archive's reader throws on archives that are not sound.</summary>
    private static bool IsDamage(Exception cause) => cause is InvalidDataException or EndOfStreamException or NotSupportedException or ArgumentException;
}
