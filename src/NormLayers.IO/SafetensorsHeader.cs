using System.Buffers.Binary;
using System.Collections.ObjectModel;
using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Unicode;

namespace NormLayers.IO;

/// <summary>The header of a .safetensors file, checked as the reference implementation checks it, and then some.</summary>
internal sealed class SafetensorsHeader
{
    /// <summary>The reference implementation's limit, in bytes.</summary>
    public const int MaxLength = 100_000_000;

    public const string MetadataKey = "__metadata__";

    private readonly string path;
    private readonly List<TensorInfo> tensors = [];
    private readonly HashSet<string> names = [];
    private Dictionary<string, string>? metadata;

    private SafetensorsHeader(string path) => this.path = path;

    public IReadOnlyList<TensorInfo> Tensors => tensors;

    public IReadOnlyDictionary<string, string> Metadata => metadata is null ? ReadOnlyDictionary<string, string>.Empty : metadata.AsReadOnly();

    public long DataOffset { get; private set; }

    public static SafetensorsHeader Parse(MappedFile file)
    {
        string path = file.Path;
        if (file.Length < 8)
            throw Refusal.Of(path, $"is not a .safetensors file: it has {file.Length} bytes, and 8 hold the length of the header.");
        // Taken for a length, the names that other files begin with would be told as a header too long.
        ReadOnlySpan<byte> start = file.Bytes(8);
        if (start[0] == 0x93 && start[1..6].SequenceEqual("NUMPY"u8))
            throw Refusal.Of(path, "is not a .safetensors file but a .npy file.");
        if (start.StartsWith("PK\u0003\u0004"u8))
            throw Refusal.Of(path, "is not a .safetensors file but a zip archive, as .npz files and PyTorch's own are.");
        ulong length = BinaryPrimitives.ReadUInt64LittleEndian(start);
        if (length > MaxLength)
            throw Refusal.Of(path, $"has a header of {length} bytes; accepted are at most {MaxLength}.");
        if (8 + (long)length > file.Length)
            throw Refusal.Of(path, $"is cut short within its header: the header ends at byte {8 + length}, the file has {file.Length}.");
        ReadOnlySpan<byte> text = file.Bytes(8 + (int)length)[8..];
        if (text.IsEmpty || text[0] != '{')
            throw Refusal.Of(path, "is not a .safetensors file: its header does not begin with '{'.");
        if (!Utf8.IsValid(text))
            throw Refusal.Of(path, "has a header that is not UTF-8.");

        var header = new SafetensorsHeader(path) { DataOffset = 8 + (long)length };
        try
        {
            header.TakeRoot(new Utf8JsonReader(text));
        }
        catch (JsonException cause)
        {
            throw Refusal.Of(path, $"has a header that is not JSON, at its line {cause.LineNumber + 1}, byte {cause.BytePositionInLine}.");
        }
        catch (InvalidOperationException)
        {
            // The only way to it that is left: half of a surrogate pair as an escape.
            throw Refusal.Of(path, "has a header with a string that is not Unicode.");
        }
        header.CheckOffsets(file.Length - header.DataOffset);
        return header;
    }

    private void TakeRoot(Utf8JsonReader json)
    {
        json.Read();
        while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
        {
            string name = json.GetString()!;
            if (!names.Add(name))
                throw Refusal.Of(path, $"has the key {Refusal.Quote(name)} twice in its header.");
            json.Read();
            if (name == MetadataKey)
                TakeMetadata(ref json);
            else
                TakeTensor(ref json, name);
        }
        // Lets the reader object to anything but white space after the last brace.
        json.Read();
    }

    private void TakeMetadata(ref Utf8JsonReader json)
    {
        if (json.TokenType == JsonTokenType.Null)
            return;
        if (json.TokenType != JsonTokenType.StartObject)
            throw Refusal.Of(path, $"has a {MetadataKey} that is {Describe(json)}; accepted is an object of strings.");
        metadata = [];
        while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
        {
            string key = json.GetString()!;
            json.Read();
            if (json.TokenType != JsonTokenType.String)
                throw Refusal.Of(path, $"has the value {Describe(json)} for {Refusal.Quote(key)} in {MetadataKey}; accepted are strings.");
            if (!metadata.TryAdd(key, json.GetString()!))
                throw Refusal.Of(path, $"has the key {Refusal.Quote(key)} twice in {MetadataKey}.");
        }
    }

    private void TakeTensor(ref Utf8JsonReader json, string name)
    {
        if (json.TokenType != JsonTokenType.StartObject)
            throw Bad(name, $"is {Describe(json)}; accepted is an object with dtype, shape and data_offsets");
        string? dtype = null;
        nint[]? shape = null;
        nint[]? offsets = null;
        while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
        {
            string key = json.GetString()!;
            json.Read();
            switch (key)
            {
                case "dtype" when dtype is null:
                    if (json.TokenType != JsonTokenType.String)
                        throw Bad(name, $"has the dtype {Describe(json)}; accepted is a string");
                    dtype = json.GetString()!;
                    break;
                case "shape" when shape is null:
                    shape = TakeNumbers(ref json, name, "shape", Shapes.MaxRank);
                    break;
                case "data_offsets" when offsets is null:
                    offsets = TakeNumbers(ref json, name, "data_offsets", 2);
                    break;
                case "dtype" or "shape" or "data_offsets":
                    throw Bad(name, $"has the key '{key}' twice");
                default:
                    json.Skip();
                    break;
            }
        }
        if (dtype is null || shape is null || offsets is null)
            throw Bad(name, $"has no '{(dtype is null ? "dtype" : shape is null ? "shape" : "data_offsets")}'");
        if (offsets.Length != 2)
            throw Bad(name, $"has {offsets.Length} data_offsets; accepted are 2");
        AddTensor(name, dtype, shape, offsets[0], offsets[1]);
    }

    private void AddTensor(string name, string dtype, nint[] shape, long begin, long end)
    {
        if (begin > end)
            throw Bad(name, $"begins at byte {begin} of the data and ends before, at byte {end}");
        ElementType? type = SafetensorsDtype.Parse(dtype);
        int size = type?.Size() ?? 1;
        if (!Shapes.TryCount(shape, size, out long count))
            throw Bad(name, $"has the shape {Shapes.Format(shape)}, more bytes than can be counted");
        if (type is not null && count * size != end - begin)
            throw Bad(name, $"has {end - begin} bytes of data, and {dtype} of shape {Shapes.Format(shape)} needs {count * size}");
        tensors.Add(new TensorInfo(name, dtype, shape, count, begin, end));
    }

    private nint[] TakeNumbers(ref Utf8JsonReader json, string name, string what, int most)
    {
        if (json.TokenType != JsonTokenType.StartArray)
            throw Bad(name, $"has the {what} {Describe(json)}; accepted is an array of integers");
        var numbers = new List<nint>();
        while (json.Read() && json.TokenType != JsonTokenType.EndArray)
        {
            if (json.TokenType != JsonTokenType.Number || !json.TryGetInt64(out long number) || number < 0 || number > nint.MaxValue)
                throw Bad(name, $"has {Describe(json)} in its {what}; accepted are integers from 0 to {nint.MaxValue}");
            if (numbers.Count == most)
                throw Bad(name, $"has more than {most} numbers in its {what}; accepted are at most that many");
            numbers.Add((nint)number);
        }
        return [.. numbers];
    }

    private void CheckOffsets(long dataLength)
    {
        var sorted = new List<TensorInfo>(tensors);
        sorted.Sort((x, y) => x.Begin != y.Begin ? x.Begin.CompareTo(y.Begin) : x.End.CompareTo(y.End));
        long expected = 0;
        foreach (TensorInfo tensor in sorted)
        {
            if (tensor.End > dataLength)
                throw Bad(tensor.Name, $"ends at byte {tensor.End} of the data, and the file has {dataLength} bytes of data");
            if (tensor.Begin != expected)
            {
                throw Bad(tensor.Name, $"begins at byte {tensor.Begin} of the data, and byte {expected} was expected: "
                    + "holes and overlaps are not accepted");
            }
            expected = tensor.End;
        }
        if (expected != dataLength)
            throw Refusal.Of(path, $"has {dataLength} bytes of data, and its tensors end at byte {expected}; accepted are files without a rest.");
    }

    private InvalidDataException Bad(string name, string what) => Refusal.Of(path, $"tensor {Refusal.Quote(name)} {what}.");

    private static string Describe(in Utf8JsonReader json) => json.TokenType switch
    {
        JsonTokenType.StartObject => "an object",
        JsonTokenType.StartArray => "an array",
        JsonTokenType.String => "a string",
        JsonTokenType.Number => "the number " + Refusal.Quote(Encoding.ASCII.GetString(json.ValueSpan[..Math.Min(json.ValueSpan.Length, 100)])),
        _ => json.TokenType.ToString().ToLower(CultureInfo.InvariantCulture),
    };
}
