using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using NormLayers.IO;

namespace NormLayers.Cli;

/// <summary>The elements of an array in row-major order as doubles, a block at a time: from the file where it has them in that order, else from a copy.</summary>
internal sealed class ElementReader
{
    private readonly InputArray array;
    private readonly Tensor<double>? copy;

    public ElementReader(InputArray array)
    {
        this.array = array;
        if (!IsReadable())
            copy = array.ReadAs<double>();
    }

    public void Read(nint start, Span<double> destination)
    {
        if (copy is not null)
            Block(copy.AsReadOnlyTensorSpan(), start, destination);
        else if (!TryRead(start, destination))
            throw new InvalidOperationException($"{array.Name} has no view of numbers.");
    }

    private bool IsReadable() => !array.IsFortranOrder && TryRead(0, []);

    private bool TryRead(nint start, Span<double> destination) => array.ElementType switch
    {
        ElementType.Int8 => TryBlock<sbyte>(start, destination),
        ElementType.UInt8 => TryBlock<byte>(start, destination),
        ElementType.Int16 => TryBlock<short>(start, destination),
        ElementType.UInt16 => TryBlock<ushort>(start, destination),
        ElementType.Int32 => TryBlock<int>(start, destination),
        ElementType.UInt32 => TryBlock<uint>(start, destination),
        ElementType.Int64 => TryBlock<long>(start, destination),
        ElementType.UInt64 => TryBlock<ulong>(start, destination),
        ElementType.Float16 => TryBlock<Half>(start, destination),
        ElementType.Float32 => TryBlock<float>(start, destination),
        ElementType.Float64 => TryBlock<double>(start, destination),
        // Booleans and bfloat16 are no numbers of .NET.
        _ => false,
    };

    private bool TryBlock<T>(nint start, Span<double> destination)
        where T : unmanaged, INumberBase<T>
    {
        if (!array.TryView(out ReadOnlyTensorSpan<T> view))
            return false;
        Block(view, start, destination);
        return true;
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
