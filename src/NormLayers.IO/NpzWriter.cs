using System.IO.Compression;
using System.Numerics.Tensors;
using System.Text;

namespace NormLayers.IO;

/// <summary>Collects arrays and saves them as a NumPy archive (.npz), without compression, as <c>numpy.savez</c> does.</summary>
/// <remarks>
/// Equal arrays under equal names give equal files: the members carry no time. Not safe for use by several threads at once.
/// https://numpy.org/doc/stable/reference/generated/numpy.savez.html
/// </remarks>
public sealed class NpzWriter
{
    // A name's length has 16 bits in the archive.
    private const int LongestName = ushort.MaxValue;

    // The earliest that the format knows, and what NumPy writes.
    private static readonly DateTimeOffset NoTime = new(1980, 1, 1, 0, 0, 0, TimeSpan.Zero);

    private readonly OrderedDictionary<string, Action<Stream>> members = [];

    /// <summary>Adds an array without copying it: what it holds on <see cref="Save"/> is saved.</summary>
    /// <typeparam name="T">The element type, any but <see cref="BFloat16"/>, which NumPy does not have.</typeparam>
    /// <param name="name">Its name, without <c>.npy</c>.</param>
    /// <param name="tensor">The tensor, of any strides.</param>
    /// <exception cref="ArgumentException"><paramref name="name"/> is null, empty, not Unicode, longer than an archive can hold or taken, or
    /// <paramref name="tensor"/> is null or has more than 64 dimensions.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> cannot be stored.</exception>
    public void Add<T>(string name, Tensor<T> tensor)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(tensor);
        Add(name, tensor, tensor.Lengths);
    }

    /// <summary>Adds an array under another shape of as many elements, such as the empty shape of a scalar.</summary>
    /// <typeparam name="T">The element type, any but <see cref="BFloat16"/>, which NumPy does not have.</typeparam>
    /// <param name="name">Its name, without <c>.npy</c>.</param>
    /// <param name="tensor">The tensor, of any strides; it is not copied.</param>
    /// <param name="shape">The shape that it gets in the file; empty for a scalar.</param>
    /// <exception cref="ArgumentException"><paramref name="name"/> is null, empty, not Unicode, longer than an archive can hold or taken,
    /// <paramref name="tensor"/> is null, or <paramref name="shape"/> has a negative length, more than 64 dimensions or another
    /// number of elements.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> cannot be stored.</exception>
    public void Add<T>(string name, Tensor<T> tensor, ReadOnlySpan<nint> shape)
        where T : unmanaged
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        ArgumentNullException.ThrowIfNull(tensor);
        if (Encoding.UTF8.GetByteCount(name) > LongestName - NpzFile.Extension.Length)
            throw new ArgumentException($"The name {Refusal.Quote(name)} has more bytes than an archive can hold, {LongestName - NpzFile.Extension.Length}.", nameof(name));
        if (!SafetensorsWriter.IsUnicode(name))
            throw new ArgumentException($"The name {Refusal.Quote(name)} is not Unicode: it has half of a surrogate pair.", nameof(name));
        if (members.ContainsKey(name))
            throw new ArgumentException($"There is an array named {Refusal.Quote(name)} already.", nameof(name));
        Shapes.RequireSameCount(tensor.AsReadOnlyTensorSpan(), shape);
        // Refuses now what cannot be stored, not in the middle of a file.
        _ = NpyHeader.Write(ElementTypes.Of<T>(), shape);
        nint[] lengths = shape.ToArray();
        members.Add(name, stream => NpyFile.Write(stream, tensor.AsReadOnlyTensorSpan(), lengths));
    }

    /// <summary>Writes the file. It appears whole or not at all; the writer can go on being used.</summary>
    /// <param name="path">The file to make.</param>
    /// <param name="overwrite">Whether an existing file is replaced.</param>
    /// <exception cref="ArgumentException"><paramref name="path"/> is null or empty.</exception>
    /// <exception cref="DirectoryNotFoundException">There is no such folder.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder may not be written to.</exception>
    /// <exception cref="IOException">The file exists and <paramref name="overwrite"/> is false, it is a folder, or the
    /// disk has no room.</exception>
    public void Save(string path, bool overwrite = false)
    {
        using NewFile file = NewFile.Create(path, length: null, overwrite);
        try
        {
            using var archive = new ZipArchive(file.Stream, ZipArchiveMode.Create, leaveOpen: true);
            foreach ((string name, Action<Stream> write) in members)
            {
                ZipArchiveEntry entry = archive.CreateEntry(name + NpzFile.Extension, CompressionLevel.NoCompression);
                entry.LastWriteTime = NoTime;
                using Stream stream = entry.Open();
                write(stream);
            }
        }
        catch (IOException cause)
        {
            throw new IOException($"{path}: could not be written: {cause.Message}", cause);
        }
        file.Commit();
    }
}
