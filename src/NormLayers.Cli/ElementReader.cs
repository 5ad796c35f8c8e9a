using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using NormLayers.IO;

namespace NormLayers.Cli;

/// <summary>The elements of a .npy file in row-major order as doubles, a block at a time: from the mapping where it has them in that order, else from a copy.</summary>
internal sealed class ElementReader
{
    private readonly NpyFile file;
    private readonly Tensor<double>? copy;

    public ElementReader(NpyFile file)
    {
        this.file = file;
        if (!IsReadable())
            copy = Inputs.Copy(file.ReadAs<double>);
    }

    public void Read(nint start, Span<double> destination)
    {
        if (copy is not null)
        {
            Block(copy.AsReadOnlyTensorSpan(), start, destination);
            return;
        }
        switch (file.ElementType)
        {
            case ElementType.Int8: Block(file.View<sbyte>(), start, destination); break;
            case ElementType.UInt8: Block(file.View<byte>(), start, destination); break;
            case ElementType.Int16: Block(file.View<short>(), start, destination); break;
            case ElementType.UInt16: Block(file.View<ushort>(), start, destination); break;
            case ElementType.Int32: Block(file.View<int>(), start, destination); break;
            case ElementType.UInt32: Block(file.View<uint>(), start, destination); break;
            case ElementType.Int64: Block(file.View<long>(), start, destination); break;
            case ElementType.UInt64: Block(file.View<ulong>(), start, destination); break;
            case ElementType.Float16: Block(file.View<Half>(), start, destination); break;
            case ElementType.Float32: Block(file.View<float>(), start, destination); break;
            case ElementType.Float64: Block(file.View<double>(), start, destination); break;
            default: throw new InvalidOperationException($"{file.ElementType} has no view of numbers.");
        }
    }

    private bool IsReadable()
    {
        if (file.IsFortranOrder || file.ElementType == ElementType.Boolean)
            return false;
        try
        {
            Read(0, []);
            return true;
        }
        catch (InvalidOperationException)
        {
            // The other byte order, or unaligned elements.
            return false;
        }
    }

    private static void Block<T>(in ReadOnlyTensorSpan<T> rowMajor, nint start, Span<double> destination)
        where T : unmanaged, INumberBase<T>
    {
        if (destination.IsEmpty)
            return;
        ref readonly T first = ref Unsafe.Add(ref Unsafe.AsRef(in TensorMarshal.GetReference(rowMajor)), start);
        TensorPrimitives.ConvertTruncating(MemoryMarshal.CreateReadOnlySpan(in first, destination.Length), destination);
    }
}
