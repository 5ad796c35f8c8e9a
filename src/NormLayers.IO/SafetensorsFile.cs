using System.Diagnostics.CodeAnalysis;
using System.Numerics.Tensors;

namespace NormLayers.IO;

/// <summary>A .safetensors file, mapped into memory for reading. <see cref="SafetensorsWriter"/> writes one.</summary>
/// <remarks>
/// The whole header is checked on opening, with the rules of the reference implementation: no holes, no overlaps, no rest.
/// A tensor of a type unknown here is listed, and refused only when read. The file must not be cut short while it is
/// open: the operating system ends a process that reads a mapping past the end of its file. Reading from several threads
/// is safe; disposing while another thread reads is not.
/// </remarks>
public sealed unsafe class SafetensorsFile : IDisposable
{
    private readonly MappedFile file;
    private readonly SafetensorsHeader header;
    private readonly Dictionary<string, TensorInfo> tensors = [];

    private SafetensorsFile(MappedFile file)
    {
        this.file = file;
        header = SafetensorsHeader.Parse(file);
        var names = new string[header.Tensors.Count];
        for (int i = 0; i < names.Length; i++)
        {
            names[i] = header.Tensors[i].Name;
            tensors.Add(names[i], header.Tensors[i]);
        }
        Names = Array.AsReadOnly(names);
    }

    /// <summary>The path as it was given to <see cref="Open"/>.</summary>
    public string Path => file.Path;

    /// <summary>The names of the tensors, in the order of the header.</summary>
    public IReadOnlyList<string> Names { get; }

    /// <summary>The texts under <c>__metadata__</c>; empty if there are none.</summary>
    public IReadOnlyDictionary<string, string> Metadata => header.Metadata;

    /// <summary>Maps a file and checks its header; no element is read yet.</summary>
    /// <param name="path">The file.</param>
    /// <returns>The open file; dispose it to unmap.</returns>
    /// <exception cref="ArgumentException"><paramref name="path"/> is null or empty.</exception>
    /// <exception cref="FileNotFoundException">There is no such file.</exception>
    /// <exception cref="DirectoryNotFoundException">There is no such folder.</exception>
    /// <exception cref="UnauthorizedAccessException">The file may not be read.</exception>
    /// <exception cref="InvalidDataException">It is not a sound .safetensors file: the message is one line with the path,
    /// what was found and what is accepted.</exception>
    /// <exception cref="IOException">It is a folder or a pipe, or it cannot be mapped.</exception>
    public static SafetensorsFile Open(string path)
    {
        MappedFile file = MappedFile.Open(path);
        try
        {
            return new SafetensorsFile(file);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Tells whether the file has a tensor of this name.</summary>
    /// <param name="name">The exact name.</param>
    /// <returns>Whether it is there.</returns>
    /// <exception cref="ArgumentNullException"><paramref name="name"/> is null.</exception>
    public bool Contains(string name) => tensors.ContainsKey(name);

    /// <summary>Gives the type and shape of a tensor if the file has it.</summary>
    /// <param name="name">The exact name.</param>
    /// <param name="info">Its type and shape.</param>
    /// <returns>Whether it is there.</returns>
    /// <exception cref="ArgumentNullException"><paramref name="name"/> is null.</exception>
    public bool TryGetInfo(string name, [NotNullWhen(true)] out TensorInfo? info) => tensors.TryGetValue(name, out info);

    /// <summary>Gives the type and shape of a tensor.</summary>
    /// <param name="name">The exact name.</param>
    /// <returns>Its type and shape.</returns>
    /// <exception cref="ArgumentNullException"><paramref name="name"/> is null.</exception>
    /// <exception cref="KeyNotFoundException">The file has no such tensor; the message gives names like it.</exception>
    public TensorInfo Info(string name)
    {
        if (tensors.TryGetValue(name, out TensorInfo? info))
            return info;
        List<string> near = NearNames.Of(name, Names);
        string hint = near.Count == 0 ? "" : $"; did you mean {string.Join(" or ", near.ConvertAll(found => Refusal.Quote(found)))}?";
        throw new KeyNotFoundException($"{Path}: none of the {Names.Count} tensors is named {Refusal.Quote(name)}{hint}");
    }

    /// <summary>Copies a tensor into a new row-major one.</summary>
    /// <typeparam name="T">The C# type of its elements.</typeparam>
    /// <param name="name">The exact name.</param>
    /// <returns>The tensor; of shape [1] for a scalar.</returns>
    /// <exception cref="ArgumentNullException"><paramref name="name"/> is null.</exception>
    /// <exception cref="KeyNotFoundException">The file has no such tensor; the message gives names like it.</exception>
    /// <exception cref="InvalidOperationException"><typeparamref name="T"/> is not the type of the elements, or they are
    /// more than one managed tensor can hold.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is no element type.</exception>
    /// <exception cref="InvalidDataException">The tensor has a dtype that cannot be read, or an element of a BOOL tensor is
    /// neither 0 nor 1.</exception>
    /// <exception cref="ObjectDisposedException">The file was disposed.</exception>
    public Tensor<T> Read<T>(string name)
        where T : unmanaged
        => Stored(name).Read<T>();

    /// <summary>Copies a tensor into a new row-major one, converting each element with one rounding, ties to even.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="name">The exact name.</param>
    /// <returns>The tensor; of shape [1] for a scalar. True is 1; what is too large becomes infinity.</returns>
    /// <exception cref="ArgumentNullException"><paramref name="name"/> is null.</exception>
    /// <exception cref="KeyNotFoundException">The file has no such tensor; the message gives names like it.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is another type.</exception>
    /// <exception cref="InvalidOperationException">The elements are more than one managed tensor can hold.</exception>
    /// <exception cref="InvalidDataException">The tensor has a dtype that cannot be read, or an element of a BOOL tensor is
    /// neither 0 nor 1.</exception>
    /// <exception cref="ObjectDisposedException">The file was disposed.</exception>
    public Tensor<T> ReadAs<T>(string name)
        where T : unmanaged
        => Stored(name).ReadAs<T>();

    /// <summary>Shows a tensor in place, without a copy.</summary>
    /// <typeparam name="T">The C# type of its elements.</typeparam>
    /// <param name="name">The exact name.</param>
    /// <returns>The view, valid until <see cref="Dispose"/>: reading it later is a fault that ends the process.</returns>
    /// <exception cref="ArgumentNullException"><paramref name="name"/> is null.</exception>
    /// <exception cref="KeyNotFoundException">The file has no such tensor; the message gives names like it.</exception>
    /// <exception cref="InvalidOperationException"><typeparamref name="T"/> is not the type of the elements, or the file did
    /// not align them: <see cref="Read"/> works then.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is no element type.</exception>
    /// <exception cref="InvalidDataException">The tensor has a dtype that cannot be read, or an element of a BOOL tensor is
    /// neither 0 nor 1.</exception>
    /// <exception cref="ObjectDisposedException">The file was disposed.</exception>
    public ReadOnlyTensorSpan<T> View<T>(string name)
        where T : unmanaged
        => Stored(name).View<T>();

    /// <summary>Unmaps the file. Views of it must not be read any more.</summary>
    public void Dispose() => file.Dispose();

    internal StoredTensor Stored(string name)
    {
        byte* data = file.Start + header.DataOffset;
        TensorInfo info = Info(name);
        string where = $"{Path}: tensor {Refusal.Quote(name)}";
        if (info.ElementType is not { } type)
            throw Refusal.Of(where, $"has the dtype {Refusal.Quote(info.Dtype)}; {SafetensorsDtype.Accepted}.");
        return new StoredTensor(where, data + info.Begin, type, info.Lengths, info.ElementCount, fortranOrder: false, !BitConverter.IsLittleEndian);
    }
}
