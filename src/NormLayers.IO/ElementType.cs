namespace NormLayers.IO;

/// <summary>The type of one number of a tensor in a file.</summary>
#pragma warning disable CA1720 // The names are those of the .NET types.
public enum ElementType
{
    /// <summary><see cref="bool"/>, one byte that is 0 or 1; <c>torch.bool</c>.</summary>
    Boolean,

    /// <summary><see cref="sbyte"/>; <c>torch.int8</c>.</summary>
    Int8,

    /// <summary><see cref="byte"/>; <c>torch.uint8</c>.</summary>
    UInt8,

    /// <summary><see cref="short"/>; <c>torch.int16</c>.</summary>
    Int16,

    /// <summary><see cref="ushort"/>; <c>torch.uint16</c>.</summary>
    UInt16,

    /// <summary><see cref="int"/>; <c>torch.int32</c>.</summary>
    Int32,

    /// <summary><see cref="uint"/>; <c>torch.uint32</c>.</summary>
    UInt32,

    /// <summary><see cref="long"/>; <c>torch.int64</c>.</summary>
    Int64,

    /// <summary><see cref="ulong"/>; <c>torch.uint64</c>.</summary>
    UInt64,

    /// <summary><see cref="Half"/>; <c>torch.float16</c>.</summary>
    Float16,

    /// <summary><see cref="NormLayers.BFloat16"/>; <c>torch.bfloat16</c>.</summary>
    BFloat16,

    /// <summary><see cref="float"/>; <c>torch.float32</c>.</summary>
    Float32,

    /// <summary><see cref="double"/>; <c>torch.float64</c>.</summary>
    Float64,
}
#pragma warning restore CA1720
