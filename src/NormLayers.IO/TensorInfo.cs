namespace NormLayers.IO;

/// <summary>What the header of a .safetensors file says of one tensor.</summary>
public sealed class TensorInfo
{
    internal TensorInfo(string name, string dtype, nint[] shape, long count, long begin, long end)
    {
        Name = name;
        Dtype = dtype;
        ElementType = SafetensorsDtype.Parse(dtype);
        Lengths = shape;
        Shape = Shapes.Public(shape);
        ElementCount = count;
        Begin = begin;
        End = end;
    }

    /// <summary>The tensor's name.</summary>
    public string Name { get; }

    /// <summary>The type as the file writes it, such as <c>F32</c>; it may be one that cannot be read.</summary>
    public string Dtype { get; }

    /// <summary>The type of the elements; null when <see cref="Dtype"/> is one that cannot be read.</summary>
    public ElementType? ElementType { get; }

    /// <summary>The shape as the file has it; empty for a scalar, which in memory is a tensor of shape [1].</summary>
    public IReadOnlyList<long> Shape { get; }

    /// <summary>The number of elements; 1 for a scalar.</summary>
    public long ElementCount { get; }

    /// <summary>The size of the elements in the file, in bytes.</summary>
    public long ByteCount => End - Begin;

    internal nint[] Lengths { get; }

    internal long Begin { get; }

    internal long End { get; }

    /// <summary>Prints the name, type and shape, such as <c>'weight': F32 (64, 3)</c>.</summary>
    /// <returns>One line of text.</returns>
    public override string ToString() => $"{Refusal.Quote(Name)}: {Refusal.Quote(Dtype)[1..^1]} {Shapes.Format(Lengths)}";
}
