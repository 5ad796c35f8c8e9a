namespace NormLayers.IO;

/// <summary>What is known of each <see cref="ElementType"/>.</summary>
public static class ElementTypes
{
    private const string CSharpTypes =
        "bool, sbyte, byte, short, ushort, int, uint, long, ulong, Half, NormLayers.BFloat16, float, double";

    /// <summary>Gives the size of one element in bytes: 1, 2, 4 or 8.</summary>
    /// <param name="type">The element type.</param>
    /// <returns>The size in bytes, in files and in memory.</returns>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="type"/> is no defined element type.</exception>
    public static int Size(this ElementType type) => type switch
    {
        ElementType.Boolean or ElementType.Int8 or ElementType.UInt8 => 1,
        ElementType.Int16 or ElementType.UInt16 or ElementType.Float16 or ElementType.BFloat16 => 2,
        ElementType.Int32 or ElementType.UInt32 or ElementType.Float32 => 4,
        ElementType.Int64 or ElementType.UInt64 or ElementType.Float64 => 8,
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "Not an element type."),
    };

    /// <summary>Gives PyTorch's name of the type, such as <c>float32</c>, <c>bfloat16</c> or <c>bool</c>.</summary>
    /// <param name="type">The element type.</param>
    /// <returns>The name, without <c>torch.</c>.</returns>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="type"/> is no defined element type.</exception>
    public static string TorchName(this ElementType type) => type switch
    {
        ElementType.Boolean => "bool",
        ElementType.Int8 => "int8",
        ElementType.UInt8 => "uint8",
        ElementType.Int16 => "int16",
        ElementType.UInt16 => "uint16",
        ElementType.Int32 => "int32",
        ElementType.UInt32 => "uint32",
        ElementType.Int64 => "int64",
        ElementType.UInt64 => "uint64",
        ElementType.Float16 => "float16",
        ElementType.BFloat16 => "bfloat16",
        ElementType.Float32 => "float32",
        ElementType.Float64 => "float64",
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "Not an element type."),
    };

    /// <summary>Gives the element type that a C# type is stored as.</summary>
    /// <typeparam name="T">One of <see cref="bool"/>, <see cref="sbyte"/>, <see cref="byte"/>, <see cref="short"/>,
    /// <see cref="ushort"/>, <see cref="int"/>, <see cref="uint"/>, <see cref="long"/>, <see cref="ulong"/>,
    /// <see cref="Half"/>, <see cref="BFloat16"/>, <see cref="float"/>, <see cref="double"/>.</typeparam>
    /// <returns>The element type.</returns>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is another type.</exception>
    public static ElementType Of<T>()
        where T : unmanaged
    {
        if (typeof(T) == typeof(float)) return ElementType.Float32;
        if (typeof(T) == typeof(double)) return ElementType.Float64;
        if (typeof(T) == typeof(Half)) return ElementType.Float16;
        if (typeof(T) == typeof(BFloat16)) return ElementType.BFloat16;
        if (typeof(T) == typeof(long)) return ElementType.Int64;
        if (typeof(T) == typeof(int)) return ElementType.Int32;
        if (typeof(T) == typeof(short)) return ElementType.Int16;
        if (typeof(T) == typeof(sbyte)) return ElementType.Int8;
        if (typeof(T) == typeof(ulong)) return ElementType.UInt64;
        if (typeof(T) == typeof(uint)) return ElementType.UInt32;
        if (typeof(T) == typeof(ushort)) return ElementType.UInt16;
        if (typeof(T) == typeof(byte)) return ElementType.UInt8;
        if (typeof(T) == typeof(bool)) return ElementType.Boolean;
        throw new NotSupportedException($"{typeof(T)} is not an element type; accepted are {CSharpTypes}.");
    }
}
