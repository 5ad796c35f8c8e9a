using System.Buffers.Binary;
using System.Text;

namespace NormLayers.IO;

/// <summary>What the header of a .npy file says, checked against the file's length.</summary>
internal sealed record NpyHeader(ElementType Type, bool ForeignByteOrder, bool FortranOrder, nint[] Shape, long Count, int DataOffset)
{
    // NumPy refuses more than 10,000 characters; a header of these types and 64 dimensions stays below 2,000.
    private const int MaxLength = 1 << 16;

    // Room for the first length to grow in place, as NumPy leaves it: the digits of 2^67 - 1.
    private const int GrowthDigits = 21;

    private const int Alignment = 64;

    /// <summary>The first bytes of a file of this length that hold the header of any that is accepted.</summary>
    public static int StartLength(long length) => (int)Math.Min(length, 12 + MaxLength);

    /// <param name="path">The file's name.</param>
    /// <param name="start">Its first <see cref="StartLength"/> bytes.</param>
    /// <param name="length">All of its bytes.</param>
    public static NpyHeader Parse(string path, ReadOnlySpan<byte> start, long length)
    {
        if (length < 8 || start[0] != 0x93 || !start[1..6].SequenceEqual("NUMPY"u8))
            throw Refusal.Of(path, "is not a .npy file: it does not begin with \\x93NUMPY.");
        (byte major, byte minor) = (start[6], start[7]);
        if (major is < 1 or > 3 || minor != 0)
            throw Refusal.Of(path, $"has .npy format version {major}.{minor}; accepted are 1.0, 2.0 and 3.0.");

        int textStart = major == 1 ? 10 : 12;
        if (length < textStart)
            throw Refusal.Of(path, $"is cut short within its header: it has {length} bytes.");
        ReadOnlySpan<byte> prefix = start[8..];
        long textLength = major == 1 ? BinaryPrimitives.ReadUInt16LittleEndian(prefix) : BinaryPrimitives.ReadUInt32LittleEndian(prefix);
        if (textLength > MaxLength)
            throw Refusal.Of(path, $"has a header of {textLength} bytes; accepted are at most {MaxLength}.");
        if (textStart + textLength > length)
            throw Refusal.Of(path, $"is cut short within its header: the header ends at byte {textStart + textLength}, the file has {length}.");

        int dataOffset = textStart + (int)textLength;
        var parser = new NpyHeaderParser(path, start[textStart..dataOffset]);
        parser.Parse();
        if (!Shapes.TryCount(parser.Shape, parser.Type.Size(), out long count))
            throw Refusal.Of(path, $"has the shape {Shapes.Format(parser.Shape)} of {parser.Type.TorchName()}, more bytes than can be counted.");
        long needed = count * parser.Type.Size();
        if (needed > length - dataOffset)
        {
            throw Refusal.Of(path, $"is cut short: the shape {Shapes.Format(parser.Shape)} of {parser.Type.TorchName()} needs {needed} bytes "
                + $"of data, the file has {length - dataOffset}.");
        }
        return new NpyHeader(parser.Type, parser.ForeignByteOrder, parser.FortranOrder, parser.Shape, count, dataOffset);
    }

    /// <summary>The header NumPy would write, version 1.0, from the magic to the newline before the data.</summary>
    public static byte[] Write(ElementType type, ReadOnlySpan<nint> shape)
    {
        string order = type.Size() == 1 ? "|" : BitConverter.IsLittleEndian ? "<" : ">";
        var text = new StringBuilder($"{{'descr': '{order}{Kind(type)}{type.Size()}', 'fortran_order': False, 'shape': {Shapes.Format(shape)}, }}");
        if (shape.Length > 0)
            text.Append(' ', GrowthDigits - Shapes.Format(shape[..1]).Length + 3);
        int unpadded = 10 + text.Length + 1;
        text.Append(' ', Alignment - (unpadded % Alignment)).Append('\n');

        var header = new byte[10 + text.Length];
        header[0] = 0x93;
        "NUMPY"u8.CopyTo(header.AsSpan(1));
        header[6] = 1;
        BinaryPrimitives.WriteUInt16LittleEndian(header.AsSpan(8), (ushort)text.Length);
        Encoding.ASCII.GetBytes(text.ToString(), header.AsSpan(10));
        return header;
    }

    private static char Kind(ElementType type) => type switch
    {
        ElementType.Boolean => 'b',
        ElementType.Int8 or ElementType.Int16 or ElementType.Int32 or ElementType.Int64 => 'i',
        ElementType.UInt8 or ElementType.UInt16 or ElementType.UInt32 or ElementType.UInt64 => 'u',
        ElementType.Float16 or ElementType.Float32 or ElementType.Float64 => 'f',
        _ => throw new NotSupportedException(
            $"A .npy file cannot hold {type.TorchName()}: NumPy has no such type. Write float32, or a .safetensors file."),
    };
}
