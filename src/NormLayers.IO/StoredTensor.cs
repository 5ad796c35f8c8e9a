using System.Numerics.Tensors;

namespace NormLayers.IO;

/// <summary>A checked tensor inside a file: shape, type and bytes are known to lie within its memory.</summary>
internal readonly unsafe struct StoredTensor(
    string where, byte* data, ElementType type, nint[] shape, long count, bool fortranOrder, bool foreignByteOrder)
{
    public ElementType Type => type;

    public ReadOnlySpan<nint> Shape => shape;

    public long Count => count;

    public bool FortranOrder => fortranOrder;

    public Tensor<T> Read<T>()
        where T : unmanaged
    {
        RequireType<T>();
        return Copy<T, T>();
    }

    public Tensor<T> ReadAs<T>()
        where T : unmanaged
    {
        if (typeof(T) != typeof(float) && typeof(T) != typeof(double) && typeof(T) != typeof(Half) && typeof(T) != typeof(BFloat16))
            throw new NotSupportedException($"Cannot convert to {typeof(T)}; accepted are float, double, Half, NormLayers.BFloat16.");
        return type switch
        {
            ElementType.Boolean or ElementType.UInt8 => Copy<byte, T>(),
            ElementType.Int8 => Copy<sbyte, T>(),
            ElementType.Int16 => Copy<short, T>(),
            ElementType.UInt16 => Copy<ushort, T>(),
            ElementType.Int32 => Copy<int, T>(),
            ElementType.UInt32 => Copy<uint, T>(),
            ElementType.Int64 => Copy<long, T>(),
            ElementType.UInt64 => Copy<ulong, T>(),
            ElementType.Float16 => Copy<Half, T>(),
            ElementType.BFloat16 => Copy<BFloat16, T>(),
            ElementType.Float32 => Copy<float, T>(),
            _ => Copy<double, T>(),
        };
    }

    public ReadOnlyTensorSpan<T> View<T>()
        where T : unmanaged
    {
        RequireType<T>();
        if (foreignByteOrder)
            throw new InvalidOperationException($"{where}: the byte order is not this machine's, so there is no view in place; use Read.");
        if (count > 0 && (nuint)data % (nuint)sizeof(T) != 0)
            throw new InvalidOperationException($"{where}: the data are not aligned to {sizeof(T)} bytes, so there is no view in place; use Read.");
        RequireBooleans();
        nint[] lengths = Shapes.InMemory(shape);
        return fortranOrder && count > 0
            ? new ReadOnlyTensorSpan<T>((T*)data, (nint)count, lengths, Shapes.Strides(lengths, fortranOrder))
            : new ReadOnlyTensorSpan<T>((T*)data, (nint)count, lengths);
    }

    private Tensor<TResult> Copy<TSource, TResult>()
        where TSource : unmanaged
        where TResult : unmanaged
    {
        if (count > Array.MaxLength)
            throw new InvalidOperationException($"{where}: {count} elements are more than a managed tensor holds, {Array.MaxLength}; use View.");
        RequireBooleans();
        nint[] lengths = Shapes.InMemory(shape);
        Tensor<TResult> result = Tensor.CreateFromShapeUninitialized<TResult>(lengths);
        if (count == 0)
            return result;
        fixed (TResult* destination = result)
            StridedCopy.ToRowMajor<TSource, TResult>(data, lengths, Shapes.Strides(lengths, fortranOrder), foreignByteOrder, destination);
        return result;
    }

    private void RequireType<T>()
        where T : unmanaged
    {
        ElementType asked = ElementTypes.Of<T>();
        if (asked != type)
            throw new InvalidOperationException($"{where}: the elements are {type.TorchName()}, not {asked.TorchName()}.");
    }

    // A C# bool that is neither 0 nor 1 can be unequal to both true and false.
    private void RequireBooleans()
    {
        if (type != ElementType.Boolean)
            return;
        for (long start = 0; start < count; start += Array.MaxLength)
        {
            var bytes = new ReadOnlySpan<byte>(data + start, (int)Math.Min(Array.MaxLength, count - start));
            int wrong = bytes.IndexOfAnyExceptInRange((byte)0, (byte)1);
            if (wrong >= 0)
                throw Refusal.Of(where, $"element {start + wrong} of a bool tensor is the byte {bytes[wrong]}; accepted are 0 and 1.");
        }
    }
}
