using System.Globalization;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Google.Protobuf.Collections;

namespace NormLayers.IO.Onnx;

/// <summary>
/// A constant of an ONNX model, checked against the bytes that are there before anything is allocated for it: raw or typed
/// elements of the model file, a stretch of an external file, or one element that fills a shape (ConstantOfShape).
/// </summary>
internal sealed unsafe class OnnxTensor
{
    // Nothing in the file bounds what one element fills; no normalization parameter is near this.
    public const long MostFilled = 1 << 20;

    private readonly string where;
    private readonly string folder;
    private readonly TensorProto proto;
    private readonly bool filled;

    private OnnxTensor(string where, string folder, TensorProto proto, nint[] shape, bool filled)
    {
        (this.where, this.folder, this.proto, this.filled, Shape) = (where, folder, proto, filled, shape);
        Type = TypeOf(proto.DataType);
        if (!Shapes.TryCount(shape, Type?.Size() ?? 1, out long count))
            throw Refusal.Of(where, $"has the shape {Shapes.Format(shape)}, more bytes than can be counted.");
        Count = count;
    }

    public ElementType? Type { get; }

    /// <summary>The type as ONNX numbers it, for one that cannot be read.</summary>
    public string TypeName => Type?.TorchName() ?? $"ONNX type {proto.DataType}";

    public nint[] Shape { get; }

    public long Count { get; }

    private bool IsExternal => proto.DataLocation == TensorProto.Types.DataLocation.External;

    /// <summary>Checks that the tensor's data are as long as its shape says; external data are looked up on reading.</summary>
    public static OnnxTensor Of(string path, TensorProto proto)
    {
        string where = $"{path}: tensor {Refusal.Quote(proto.Name)}";
        var tensor = new OnnxTensor(where, Path.GetDirectoryName(Path.GetFullPath(path)) ?? "", proto, LengthsOf(where, [.. proto.Dims]), filled: false);
        tensor.CheckLength();
        return tensor;
    }

    /// <summary>A shape filled with the one element of <paramref name="proto"/>.</summary>
    public static OnnxTensor Filled(string path, string name, TensorProto proto, IReadOnlyList<long> dims)
    {
        string where = $"{path}: tensor {Refusal.Quote(name)}";
        if (Of(path, proto).Count is not 1 and var count)
            throw Refusal.Of(where, $"is filled with {count} elements; accepted is one.");
        return new OnnxTensor(where, "", proto, LengthsOf(where, dims), filled: true);
    }

    public Tensor<T> ReadAs<T>()
        where T : unmanaged
    {
        if (Type is null)
            throw Refusal.Of(where, $"has elements of {TypeName}; accepted are {AcceptedTypes}.");
        if (filled)
            return Fill<T>();
        if (IsExternal)
        {
            using MappedFile file = OpenExternal(out long offset);
            return Stored(file.Start + offset).ReadAs<T>();
        }
        fixed (byte* bytes = proto.RawData.IsEmpty ? TypedBytes() : proto.RawData.Span)
            return Stored(bytes).ReadAs<T>();
    }

    /// <summary>The elements of a small tensor of integers, or null where it is none.</summary>
    public long[]? Integers()
    {
        if (Type is not (ElementType.Int32 or ElementType.Int64) || Count > Shapes.MaxRank || IsExternal)
            return null;
        // Shapes and axes are far below 2^53.
        ReadOnlyTensorSpan<double> values = ReadAs<double>();
        return Count == 0 ? [] : [.. MemoryMarshal.CreateReadOnlySpan(in TensorMarshal.GetReference(values), (int)Count).ToArray().Select(value => (long)value)];
    }

    /// <summary>The one element of a tensor of one, or null where it has more or is no number.</summary>
    public double? Scalar()
    {
        if (Count != 1 || Type is null)
            return null;
        double value = ReadAs<double>().AsReadOnlyTensorSpan()[new nint[Math.Max(1, Shape.Length)]];
        return Type == ElementType.Float32 ? Decimal((float)value) : value;
    }

    /// <summary>The shortest decimal that is this float32: 1e-05 for the float32 nearest to it, as exporters were given it.</summary>
    public static double Decimal(float value) => double.Parse(value.ToString("R", CultureInfo.InvariantCulture), CultureInfo.InvariantCulture);

    private const string AcceptedTypes = "bool, the integers, float16, bfloat16, float32 and float64";

    private static ElementType? TypeOf(int dataType) => dataType switch
    {
        1 => ElementType.Float32,
        2 => ElementType.UInt8,
        3 => ElementType.Int8,
        4 => ElementType.UInt16,
        5 => ElementType.Int16,
        6 => ElementType.Int32,
        7 => ElementType.Int64,
        9 => ElementType.Boolean,
        10 => ElementType.Float16,
        11 => ElementType.Float64,
        12 => ElementType.UInt32,
        13 => ElementType.UInt64,
        16 => ElementType.BFloat16,
        _ => null,
    };

    private static nint[] LengthsOf(string where, IReadOnlyList<long> dims)
    {
        if (dims.Count > Shapes.MaxRank)
            throw Refusal.Of(where, $"has {dims.Count} dimensions; accepted are at most {Shapes.MaxRank}.");
        foreach (long length in dims)
        {
            if (length < 0)
                throw Refusal.Of(where, $"has a dimension of length {length}; accepted are lengths of zero or more.");
        }
        return [.. dims.Select(length => (nint)length)];
    }

    private void CheckLength()
    {
        if (Type is not { } type || IsExternal)
            return;
        if (!proto.RawData.IsEmpty)
        {
            if (proto.RawData.Length != Count * type.Size())
                throw Refusal.Of(where, $"has {proto.RawData.Length} bytes of data, and {type.TorchName()} of shape {Shapes.Format(Shape)} needs {Count * type.Size()}.");
        }
        else if (TypedCount(type) != Count)
        {
            throw Refusal.Of(where, $"has {TypedCount(type)} elements, and the shape {Shapes.Format(Shape)} needs {Count}.");
        }
    }

    private int TypedCount(ElementType type) => type switch
    {
        ElementType.Float32 => proto.FloatData.Count,
        ElementType.Float64 => proto.DoubleData.Count,
        ElementType.Int64 => proto.Int64Data.Count,
        ElementType.UInt32 or ElementType.UInt64 => proto.Uint64Data.Count,
        _ => proto.Int32Data.Count,
    };

    /// <summary>The typed field that belongs to the type, as the bytes that raw data would have on this machine.</summary>
    private byte[] TypedBytes() => Type switch
    {
        ElementType.Float32 => Bytes(proto.FloatData, value => value),
        ElementType.Float64 => Bytes(proto.DoubleData, value => value),
        ElementType.Int64 => Bytes(proto.Int64Data, value => value),
        ElementType.UInt64 => Bytes(proto.Uint64Data, value => value),
        ElementType.UInt32 => Bytes(proto.Uint64Data, value => (uint)value),
        ElementType.Int32 => Bytes(proto.Int32Data, value => value),
        ElementType.Int16 or ElementType.UInt16 or ElementType.Float16 or ElementType.BFloat16 => Bytes(proto.Int32Data, value => (ushort)value),
        _ => Bytes(proto.Int32Data, value => (byte)value),
    };

    private static byte[] Bytes<TStored, T>(RepeatedField<TStored> values, Func<TStored, T> convert)
        where T : unmanaged
    {
        var bytes = new byte[(long)values.Count * sizeof(T)];
        Span<T> elements = MemoryMarshal.Cast<byte, T>(bytes.AsSpan());
        for (int i = 0; i < elements.Length; i++)
            elements[i] = convert(values[i]);
        return bytes;
    }

    private StoredTensor Stored(byte* data)
        => new(where, data, Type!.Value, Shape, Count, fortranOrder: false, (IsExternal || !proto.RawData.IsEmpty) && !BitConverter.IsLittleEndian);

    private Tensor<T> Fill<T>()
        where T : unmanaged
    {
        if (Count > MostFilled)
            throw Refusal.Of(where, $"is one element filled to the shape {Shapes.Format(Shape)}; accepted are at most {MostFilled} elements.");
        fixed (byte* bytes = proto.RawData.IsEmpty ? TypedBytes() : proto.RawData.Span)
        {
            Tensor<T> one = new StoredTensor(where, bytes, Type!.Value, [], 1, fortranOrder: false, !proto.RawData.IsEmpty && !BitConverter.IsLittleEndian).ReadAs<T>();
            Tensor<T> result = Tensor.CreateFromShapeUninitialized<T>(Shapes.InMemory(Shape));
            if (Count > 0)
                result.Fill(one[[0]]);
            return result;
        }
    }

    private MappedFile OpenExternal(out long offset)
    {
        string? location = null;
        offset = 0;
        long? length = null;
        foreach (StringStringEntryProto entry in proto.ExternalData)
        {
            switch (entry.Key)
            {
                case "location": location = entry.Value; break;
                case "offset": offset = Number(entry); break;
                case "length": length = Number(entry); break;
                default: break;
            }
        }
        if (string.IsNullOrEmpty(location))
            throw Refusal.Of(where, "has external data without a location.");
        // The specification's rule; it also keeps a model from reading any other file of the machine.
        if (Path.IsPathRooted(location) || location.Split('/', '\\').Contains("..") || location.Contains('\0', StringComparison.Ordinal))
            throw Refusal.Of(where, $"has its data in {Refusal.Quote(location)}; accepted are files in the model's own folder.");
        string path = Path.Combine(folder, location);
        if (!File.Exists(path))
            throw Refusal.Of(where, $"has its data in {Refusal.Quote(location)}, and there is no such file beside the model.");
        long needed = Count * Type!.Value.Size();
        if (length is { } stated && stated != needed)
            throw Refusal.Of(where, $"has {stated} bytes of external data, and {TypeName} of shape {Shapes.Format(Shape)} needs {needed}.");
        MappedFile file = MappedFile.Open(path);
        if (offset <= file.Length && needed <= file.Length - offset)
            return file;
        file.Dispose();
        throw Refusal.Of(where, $"has its data in {Refusal.Quote(location)} at byte {offset}, {needed} bytes of them; the file has {file.Length}.");
    }

    private long Number(StringStringEntryProto entry)
        => long.TryParse(entry.Value, NumberStyles.None, CultureInfo.InvariantCulture, out long number)
            ? number
            : throw Refusal.Of(where, $"has external data with the {entry.Key} {Refusal.Quote(entry.Value)}; accepted are whole numbers.");
}
