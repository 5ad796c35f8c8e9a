using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using NormLayers.Internals.Kernels;

namespace NormLayers.Internals;

/// <summary>How the elements of a tensor (N, C, *) follow each other in memory without gaps.</summary>
internal enum MemoryOrder
{
    /// <summary>In none of the ways below.</summary>
    Strided,

    /// <summary>The last dimension fastest.</summary>
    RowMajor,

    /// <summary>The channels fastest, then the others as in row-major order: (N, *, C).</summary>
    ChannelsLast,
}

/// <summary>From the package's tensor spans to references into contiguous memory, with the checks that this needs.</summary>
internal static class Layout
{
    /// <summary>The product of lengths.</summary>
    internal static nint Product(ReadOnlySpan<nint> lengths)
    {
        nint product = 1;
        foreach (nint length in lengths)
            product *= length;
        return product;
    }

    /// <summary>A shape as messages show it: <c>[2, 3]</c>.</summary>
    internal static string Text(ReadOnlySpan<nint> lengths)
    {
        var text = new System.Text.StringBuilder("[");
        for (int i = 0; i < lengths.Length; i++)
            text.Append(i == 0 ? "" : ", ").Append(lengths[i]);
        return text.Append(']').ToString();
    }

    /// <summary>Throws unless a layer over the last dimensions can have them as its shape, and parameters of that shape where it has any.</summary>
    /// <exception cref="ArgumentOutOfRangeException">A length is negative, or the parameters would have more elements than an array can hold.</exception>
    internal static void CheckNormalizedShape(ReadOnlySpan<nint> normalizedShape, bool hasParameters)
    {
        double elements = 1;
        foreach (nint length in normalizedShape)
        {
            if (length < 0)
                throw new ArgumentOutOfRangeException(nameof(normalizedShape), $"Expected lengths of zero or more, got {Text(normalizedShape)}.");
            elements *= length;
        }
        if (hasParameters && elements > Array.MaxLength)
            throw new ArgumentOutOfRangeException(nameof(normalizedShape), $"Expected at most {Array.MaxLength} elements, got {Text(normalizedShape)}.");
    }

    /// <summary>The order of a tensor's elements.</summary>
    internal static MemoryOrder OrderOf<T>(in ReadOnlyTensorSpan<T> tensor)
    {
        if (tensor.IsDense || tensor.FlattenedLength == 0)
            return MemoryOrder.RowMajor;
        return tensor.Rank >= 3 && HasStrides(tensor.Lengths, tensor.Strides) ? MemoryOrder.ChannelsLast : MemoryOrder.Strided;

        static bool HasStrides(ReadOnlySpan<nint> lengths, ReadOnlySpan<nint> strides)
        {
            Span<nint> expected = stackalloc nint[lengths.Length];
            ChannelsLastStrides(lengths, expected);
            return strides.SequenceEqual(expected);
        }
    }

    /// <summary>The strides of channels-last memory; zero for dimensions of length 1, as the package wants it.</summary>
    internal static void ChannelsLastStrides(ReadOnlySpan<nint> lengths, Span<nint> strides)
    {
        nint stride = lengths[1];
        strides[1] = lengths[1] == 1 ? 0 : 1;
        for (int d = lengths.Length - 1; d >= 0; d--)
        {
            if (d == 1)
                continue;
            strides[d] = lengths[d] == 1 ? 0 : stride;
            stride *= lengths[d];
        }
    }

    /// <summary>A new tensor for the result of a layer with some groups: channels-last where the tensor that it is like is, and the groups can be walked so; else row-major.</summary>
    internal static Tensor<T> ResultLike<T>(in ReadOnlyTensorSpan<T> tensor, in RowLayout layout)
    {
        if (OrderOf(tensor) != MemoryOrder.ChannelsLast || ChannelLayout.InChannelsLast(layout, tensor.Lengths) is null)
            return Tensor.CreateFromShapeUninitialized<T>(tensor.Lengths);
        Span<nint> strides = stackalloc nint[tensor.Rank];
        ChannelsLastStrides(tensor.Lengths, strides);
        return Tensor.Create(GC.AllocateUninitializedArray<T>(checked((int)tensor.FlattenedLength)), 0, tensor.Lengths, strides);
    }

    /// <summary>Throws unless the destination can take a result of the input's shape: same lengths, row-major (or channels-last where that is supported), not over the input's memory except exactly on it.</summary>
    /// <exception cref="ArgumentException">It cannot.</exception>
    internal static void CheckDestination<TIn, T>(in ReadOnlyTensorSpan<TIn> input, in TensorSpan<T> destination, string name, bool channelsLast = false)
        where TIn : unmanaged
        where T : unmanaged
    {
        if (!input.Lengths.SequenceEqual(destination.Lengths))
            Throw($"Expected a {name} of the input's shape {Text(input.Lengths)}, got {Text(destination.Lengths)}.", name);
        if (destination.FlattenedLength == 0)
            return;
        MemoryOrder order = OrderOf<T>(destination);
        if (order == MemoryOrder.Strided || (order == MemoryOrder.ChannelsLast && !channelsLast))
            Throw($"Expected a {(channelsLast ? "channels-last or " : "")}row-major contiguous {name}, got shape {Text(destination.Lengths)} with strides {Text(destination.Strides)}.", name);
        if (!IsAligned(in TensorMarshal.GetReference(destination)))
            Throw($"Expected a {name} whose address is a multiple of {Unsafe.SizeOf<T>()}, the size of its elements, got one in between: a span of bytes that was cast, say.", name);
        bool inPlace = OrderOf(input) == order && Unsafe.SizeOf<TIn>() == Unsafe.SizeOf<T>()
            && Unsafe.AreSame(in Unsafe.As<TIn, byte>(ref Unsafe.AsRef(in TensorMarshal.GetReference(input))), in Unsafe.As<T, byte>(ref TensorMarshal.GetReference(destination)));
        if (!inPlace && Overlaps(input, destination))
            Throw($"The {name} may overlap the input only if both are contiguous and start at the same place.", name);

        // Stores past the caches need it.
        static unsafe bool IsAligned(ref readonly T element) => (nint)Unsafe.AsPointer(ref Unsafe.AsRef(in element)) % sizeof(T) == 0;

        [DoesNotReturn]
        static void Throw(string message, string name) => throw new ArgumentException(message, name);
    }

    /// <summary>Throws if an operand lies in the memory that is about to be written.</summary>
    /// <exception cref="ArgumentException">It does.</exception>
    internal static void CheckApart<TOperand, T>(in ReadOnlyTensorSpan<TOperand> operand, in TensorSpan<T> destination, string operandName, string name)
        where TOperand : unmanaged
        where T : unmanaged
    {
        if (operand.Rank != 0 && destination.FlattenedLength != 0 && operand.FlattenedLength != 0 && Overlaps(operand, destination))
            throw new ArgumentException($"The {name} may not overlap the {operandName}.", name);
    }

    /// <summary>
    /// A reference to the input's elements in the destination's order: its own memory where that has it, else the destination,
    /// after gathering them there, so that strided input costs no memory but its output's.
    /// </summary>
    internal static ref readonly T Contiguous<T>(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> destination) where T : unmanaged
    {
        MemoryOrder order = OrderOf<T>(destination);
        if (OrderOf(input) == order)
            return ref TensorMarshal.GetReference(input);
        ref T target = ref TensorMarshal.GetReference(destination);
        CopyTo(input, order, ref target);
        return ref target;
    }

    /// <summary>Copies elements in an order to memory without gaps.</summary>
    internal static void CopyTo<T>(in ReadOnlyTensorSpan<T> tensor, MemoryOrder order, ref T target) where T : unmanaged
    {
        Span<nint> lengths = stackalloc nint[tensor.Rank], strides = stackalloc nint[tensor.Rank];
        tensor.Lengths.CopyTo(lengths);
        tensor.Strides.CopyTo(strides);
        if (order == MemoryOrder.ChannelsLast)
        {
            MoveChannels(lengths);
            MoveChannels(strides);
        }
        Gather.Copy(in TensorMarshal.GetReference(tensor), lengths, strides, ref target);

        static void MoveChannels(Span<nint> values)
        {
            nint channels = values[1];
            values[2..].CopyTo(values[1..]);
            values[^1] = channels;
        }
    }

    private static bool Overlaps<TIn, T>(in ReadOnlyTensorSpan<TIn> input, in TensorSpan<T> destination)
        where TIn : unmanaged
        where T : unmanaged
    {
        nint last = 0;
        for (int d = 0; d < input.Rank; d++)
            last += (input.Lengths[d] - 1) * input.Strides[d];
        nint inputBytes = (last + 1) * Unsafe.SizeOf<TIn>();
        nint destinationBytes = destination.FlattenedLength * Unsafe.SizeOf<T>();
        nint distance = Unsafe.ByteOffset(
            in Unsafe.As<TIn, byte>(ref Unsafe.AsRef(in TensorMarshal.GetReference(input))),
            in Unsafe.As<T, byte>(ref TensorMarshal.GetReference(destination)));
        return distance < inputBytes && distance > -destinationBytes;
    }
}

/// <summary>An operand as memory without gaps in an order: its own, or a rented copy where it has another; a null reference where it is absent.</summary>
internal ref struct ContiguousOperand<T> where T : unmanaged
{
    internal readonly ref readonly T Reference;
    private readonly T[]? rented;

    internal ContiguousOperand(in ReadOnlyTensorSpan<T> parameter, MemoryOrder order = MemoryOrder.RowMajor)
    {
        if (parameter.Rank == 0)
        {
            Reference = ref Unsafe.NullRef<T>();
            return;
        }
        if (parameter.FlattenedLength == 0 || Layout.OrderOf(parameter) == order)
        {
            Reference = ref TensorMarshal.GetReference(parameter);
            return;
        }
        rented = ArrayPool<T>.Shared.Rent(checked((int)parameter.FlattenedLength));
        Layout.CopyTo(parameter, order, ref MemoryMarshal.GetArrayDataReference(rented));
        Reference = ref MemoryMarshal.GetArrayDataReference(rented);
    }

    public readonly void Dispose()
    {
        if (rented is not null)
            ArrayPool<T>.Shared.Return(rented);
    }
}

/// <summary>An operand whose groups are contiguous, for the kernels that know no other geometry: as it is, or a rented copy in which they are; a null reference where it is absent.</summary>
internal ref struct GroupedOperand<T> where T : unmanaged
{
    internal readonly ref T Reference;
    private readonly T[]? rented;
    private ContiguousOperand<T> operand;

    internal GroupedOperand(in ReadOnlyTensorSpan<T> tensor, in RowLayout layout)
    {
        operand = new ContiguousOperand<T>(tensor);
        Reference = ref Unsafe.AsRef(in operand.Reference);
        if (!layout.IsStrided || tensor.Rank == 0 || tensor.FlattenedLength == 0)
            return;
        rented = ArrayPool<T>.Shared.Rent(checked((int)tensor.FlattenedLength));
        ChannelLayout strided = layout.Strided;
        Gather.Copy(in operand.Reference, [strided.Outer, strided.Columns, strided.Rows], [strided.Rows * strided.Columns, 1, strided.Columns], ref MemoryMarshal.GetArrayDataReference(rented));
        Reference = ref MemoryMarshal.GetArrayDataReference(rented);
    }

    public void Dispose()
    {
        operand.Dispose();
        if (rented is not null)
            ArrayPool<T>.Shared.Return(rented);
    }
}

/// <summary>Memory for a row-major result that is made with its groups contiguous: the result's own, or rented memory from which <see cref="Deliver"/> puts it in place; a null reference where it is absent.</summary>
internal ref struct GroupedResult<T> where T : unmanaged
{
    internal readonly ref T Reference;
    private readonly ref T destination;
    private readonly T[]? rented;
    private readonly ChannelLayout strided;

    internal GroupedResult(in TensorSpan<T> result, in RowLayout layout)
    {
        if (result.Rank == 0)
        {
            Reference = ref Unsafe.NullRef<T>();
            return;
        }
        destination = ref TensorMarshal.GetReference(result);
        strided = layout.Strided;
        if (layout.IsStrided)
            rented = ArrayPool<T>.Shared.Rent(checked((int)strided.Count));
        Reference = ref rented is null ? ref destination : ref MemoryMarshal.GetArrayDataReference(rented);
    }

    internal readonly void Deliver()
    {
        if (rented is not null)
            Gather.Copy(in Reference, [strided.Outer, strided.Rows, strided.Columns], [strided.Rows * strided.Columns, 1, strided.Rows], ref destination);
    }

    public readonly void Dispose()
    {
        if (rented is not null)
            ArrayPool<T>.Shared.Return(rented);
    }
}

/// <summary>A parameter as contiguous memory of the type that a kernel computes in: its own, or a rented copy where it is strided or of 16 bits; a null reference where it is absent.</summary>
internal ref struct ComputeOperand<T, TCompute>
    where T : unmanaged
    where TCompute : unmanaged
{
    internal readonly ref readonly TCompute Reference;
    private readonly TCompute[]? rented;
    private ContiguousOperand<T> contiguous;

    internal unsafe ComputeOperand(in ReadOnlyTensorSpan<T> parameter)
    {
        contiguous = new ContiguousOperand<T>(parameter);
        if (!SixteenBits.Is<T>() || Unsafe.IsNullRef(in contiguous.Reference))
        {
            Reference = ref Unsafe.As<T, TCompute>(ref Unsafe.AsRef(in contiguous.Reference));
            return;
        }
        rented = ArrayPool<TCompute>.Shared.Rent(checked((int)parameter.FlattenedLength));
        fixed (T* source = &contiguous.Reference)
        fixed (TCompute* floats = rented)
            SixteenBits.Widen(source, (float*)floats, parameter.FlattenedLength);
        Reference = ref MemoryMarshal.GetArrayDataReference(rented);
    }

    public void Dispose()
    {
        if (rented is not null)
            ArrayPool<TCompute>.Shared.Return(rented);
        contiguous.Dispose();
    }
}
