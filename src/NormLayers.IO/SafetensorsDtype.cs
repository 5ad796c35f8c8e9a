namespace NormLayers.IO;

/// <summary>The names of types in .safetensors files.</summary>
internal static class SafetensorsDtype
{
    public const string Accepted = "accepted are BOOL, U8, I8, I16, U16, F16, BF16, I32, U32, F32, F64, I64 and U64";

    // In the order by which the reference implementation sorts tensors: by size, then as it happens to list them.
    private static readonly (string Name, ElementType Type)[] InOrder =
    [
        ("BOOL", ElementType.Boolean),
        ("U8", ElementType.UInt8),
        ("I8", ElementType.Int8),
        ("I16", ElementType.Int16),
        ("U16", ElementType.UInt16),
        ("F16", ElementType.Float16),
        ("BF16", ElementType.BFloat16),
        ("I32", ElementType.Int32),
        ("U32", ElementType.UInt32),
        ("F32", ElementType.Float32),
        ("F64", ElementType.Float64),
        ("I64", ElementType.Int64),
        ("U64", ElementType.UInt64),
    ];

    public static ElementType? Parse(string name)
    {
        foreach ((string known, ElementType type) in InOrder)
        {
            if (known == name)
                return type;
        }
        return null;
    }

    public static string Name(ElementType type) => InOrder[Order(type)].Name;

    public static int Order(ElementType type) => Array.FindIndex(InOrder, known => known.Type == type);
}
