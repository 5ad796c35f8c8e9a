using System.Buffers.Binary;
using System.Numerics.Tensors;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace NormLayers.IO;

/// <summary>Collects tensors and saves them as a .safetensors file, in the layout of the reference implementation.</summary>
/// <remarks>
/// Tensors are laid out by falling size of their element type, then by name, so that each is aligned. Not safe for use by
/// several threads at once.
/// </remarks>
public sealed unsafe class SafetensorsWriter
{
    // JSON would silently get a replacement character for half of a surrogate pair.
    private static readonly UTF8Encoding Strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private readonly Dictionary<string, Entry> entries = [];

    /// <summary>The texts that go under <c>__metadata__</c>, in this order; PyTorch tools expect <c>format</c> = <c>pt</c>.</summary>
    public IDictionary<string, string> Metadata { get; } = new OrderedDictionary<string, string>();

    /// <summary>Adds a tensor without copying it: what it holds on <see cref="Save"/> is saved.</summary>
    /// <typeparam name="T">The element type.</typeparam>
    /// <param name="name">Its name.</param>
    /// <param name="tensor">The tensor, of any strides.</param>
    /// <exception cref="ArgumentNullException"><paramref name="name"/> or <paramref name="tensor"/> is null.</exception>
    /// <exception cref="ArgumentException">There is a tensor of this name already, the name is <c>__metadata__</c> or not
    /// Unicode, or the tensor has more than 64 dimensions.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is no element type.</exception>
    public void Add<T>(string name, Tensor<T> tensor)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(tensor);
        Add(name, tensor, tensor.Lengths);
    }

    /// <summary>Adds a tensor under another shape of as many elements, such as the empty shape of a scalar.</summary>
    /// <typeparam name="T">The element type.</typeparam>
    /// <param name="name">Its name.</param>
    /// <param name="tensor">The tensor, of any strides; it is not copied until <see cref="Save"/>.</param>
    /// <param name="shape">The shape that it gets in the file; empty for a scalar.</param>
    /// <exception cref="ArgumentNullException"><paramref name="name"/> or <paramref name="tensor"/> is null.</exception>
    /// <exception cref="ArgumentException">There is a tensor of this name already, the name is <c>__metadata__</c> or not
    /// Unicode, or <paramref name="shape"/> has a negative length, more than 64 dimensions or another number of elements.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is no element type.</exception>
    public void Add<T>(string name, Tensor<T> tensor, ReadOnlySpan<nint> shape)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(tensor);
        Shapes.RequireSameCount(tensor.AsReadOnlyTensorSpan(), shape);
        if (!IsUnicode(name))
            throw new ArgumentException($"The name {Refusal.Quote(name)} is not Unicode: it has half of a surrogate pair.", nameof(name));
        if (name == SafetensorsHeader.MetadataKey)
            throw new ArgumentException($"The name {name} is taken by the metadata.", nameof(name));
        if (!entries.TryAdd(name, new Entry<T>(name, tensor, shape.ToArray())))
            throw new ArgumentException($"There is a tensor named {Refusal.Quote(name)} already.", nameof(name));
    }

    /// <summary>Adds a copy of a tensor.</summary>
    /// <typeparam name="T">The element type.</typeparam>
    /// <param name="name">Its name.</param>
    /// <param name="tensor">The tensor, of any strides.</param>
    /// <exception cref="ArgumentNullException"><paramref name="name"/> is null.</exception>
    /// <exception cref="ArgumentException">There is a tensor of this name already, the name is <c>__metadata__</c> or not
    /// Unicode, or the tensor is default or has more than 64 dimensions.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is no element type.</exception>
    public void Add<T>(string name, in ReadOnlyTensorSpan<T> tensor)
        where T : unmanaged
        => Add(name, tensor, tensor.Lengths);

    /// <summary>Adds a copy of a tensor under another shape of as many elements.</summary>
    /// <typeparam name="T">The element type.</typeparam>
    /// <param name="name">Its name.</param>
    /// <param name="tensor">The tensor, of any strides.</param>
    /// <param name="shape">The shape that it gets in the file; empty for a scalar.</param>
    /// <exception cref="ArgumentNullException"><paramref name="name"/> is null.</exception>
    /// <exception cref="ArgumentException">There is a tensor of this name already, the name is <c>__metadata__</c> or not
    /// Unicode, the tensor is default, or <paramref name="shape"/> has a negative length, more than 64 dimensions or another number of
    /// elements.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is no element type.</exception>
    public void Add<T>(string name, in ReadOnlyTensorSpan<T> tensor, ReadOnlySpan<nint> shape)
        where T : unmanaged
    {
        Shapes.RequireSameCount(tensor, shape);
        Tensor<T> copy = Tensor.CreateFromShapeUninitialized<T>(tensor.Lengths);
        fixed (T* source = tensor, destination = copy)
            StridedCopy.ToRowMajor<T, T>((byte*)source, tensor.Lengths, tensor.Strides, swapBytes: false, destination);
        Add(name, copy, shape);
    }

    /// <summary>Writes the file. It appears whole or not at all; the writer can go on being used.</summary>
    /// <param name="path">The file to make.</param>
    /// <param name="overwrite">Whether an existing file is replaced.</param>
    /// <exception cref="ArgumentException"><paramref name="path"/> is null or empty.</exception>
    /// <exception cref="InvalidOperationException">A text of the metadata is null or not Unicode, or the header would have
    /// more than 100,000,000 bytes, which no reader accepts.</exception>
    /// <exception cref="DirectoryNotFoundException">There is no such folder.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder may not be written to.</exception>
    /// <exception cref="IOException">The file exists and <paramref name="overwrite"/> is false, it is a folder, or the
    /// disk has no room.</exception>
    public void Save(string path, bool overwrite = false)
    {
        var sorted = new List<Entry>(entries.Values);
        sorted.Sort((x, y) => x.Order != y.Order ? y.Order.CompareTo(x.Order) : string.CompareOrdinal(x.Name, y.Name));
        byte[] header = Header(sorted, out long dataLength);
        if (header.Length > SafetensorsHeader.MaxLength)
        {
            throw new InvalidOperationException(
                $"The header would have {header.Length} bytes; at most {SafetensorsHeader.MaxLength} can be read back.");
        }

        using NewFile file = NewFile.Create(path, checked(8 + header.Length + dataLength), overwrite);
        BinaryPrimitives.WriteInt64LittleEndian(new Span<byte>(file.Start, 8), header.Length);
        header.CopyTo(new Span<byte>(file.Start + 8, header.Length));
        byte* destination = file.Start + 8 + header.Length;
        foreach (Entry entry in sorted)
        {
            entry.CopyTo(destination);
            destination += entry.ByteCount;
        }
        file.Commit();
    }

    private byte[] Header(List<Entry> sorted, out long dataLength)
    {
        using var buffer = new MemoryStream();
        // Letters of the basic plane stay as they are, as by the reference implementation; beyond it, and of private use,
        // this encoder escapes them, which every reader undoes.
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            if (Metadata.Count > 0)
            {
                json.WriteStartObject(SafetensorsHeader.MetadataKey);
                foreach ((string key, string text) in Metadata)
                {
                    if (text is null || !IsUnicode(key) || !IsUnicode(text))
                        throw new InvalidOperationException($"The metadata of {Refusal.Quote(key)} are null or not Unicode.");
                    json.WriteString(key, text);
                }
                json.WriteEndObject();
            }
            dataLength = 0;
            foreach (Entry entry in sorted)
            {
                json.WriteStartObject(entry.Name);
                json.WriteString("dtype", SafetensorsDtype.Name(entry.Type));
                json.WriteStartArray("shape");
                foreach (nint length in entry.Shape)
                    json.WriteNumberValue(length);
                json.WriteEndArray();
                json.WriteStartArray("data_offsets");
                json.WriteNumberValue(dataLength);
                dataLength = checked(dataLength + entry.ByteCount);
                json.WriteNumberValue(dataLength);
                json.WriteEndArray();
                json.WriteEndObject();
            }
            json.WriteEndObject();
        }
        while (buffer.Length % 8 != 0)
            buffer.WriteByte((byte)' ');
        return buffer.ToArray();
    }

    internal static bool IsUnicode(string text)
    {
        try
        {
            return Strict.GetByteCount(text) >= 0;
        }
        catch (EncoderFallbackException)
        {
            return false;
        }
    }

    private abstract class Entry(string name, ElementType type, nint[] shape, long count)
    {
        public string Name => name;

        public ElementType Type => type;

        public nint[] Shape => shape;

        public int Order { get; } = SafetensorsDtype.Order(type);

        public long ByteCount => count * type.Size();

        public abstract void CopyTo(byte* destination);
    }

    private sealed class Entry<T>(string name, Tensor<T> tensor, nint[] shape)
        : Entry(name, ElementTypes.Of<T>(), shape, tensor.FlattenedLength)
        where T : unmanaged
    {
        public override void CopyTo(byte* destination)
        {
            fixed (T* source = tensor)
                StridedCopy.ToRowMajor<T, T>((byte*)source, tensor.Lengths, tensor.Strides, !BitConverter.IsLittleEndian, (T*)destination);
        }
    }
}
