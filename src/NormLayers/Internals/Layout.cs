using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace NormLayers.Internals;

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

    /// <summary>Throws unless the destination can take a result of the input's shape: same lengths, row-major, not over the input's memory except exactly on it.</summary>
    /// <exception cref="ArgumentException">It cannot.</exception>
    internal static void CheckDestination<TIn, T>(in ReadOnlyTensorSpan<TIn> input, in TensorSpan<T> destination, string name)
        where TIn : unmanaged
        where T : unmanaged
    {
        if (!input.Lengths.SequenceEqual(destination.Lengths))
            Throw($"Expected a {name} of the input's shape {Text(input.Lengths)}, got {Text(destination.Lengths)}.", name);
        if (destination.FlattenedLength == 0)
            return;
        if (!destination.IsDense)
            Throw($"Expected a row-major contiguous {name}, got shape {Text(destination.Lengths)} with strides {Text(destination.Strides)}.", name);
        bool inPlace = input.IsDense && Unsafe.SizeOf<TIn>() == Unsafe.SizeOf<T>()
            && Unsafe.AreSame(in Unsafe.As<TIn, byte>(ref Unsafe.AsRef(in TensorMarshal.GetReference(input))), in Unsafe.As<T, byte>(ref TensorMarshal.GetReference(destination)));
        if (!inPlace && Overlaps(input, destination))
            Throw($"The {name} may overlap the input only if both are contiguous and start at the same place.", name);

        [DoesNotReturn]
        static void Throw(string message, string name) => throw new ArgumentException(message, name);
    }

    /// <summary>Throws if an operand lies in the memory that is about to be written.</summary>
    /// <exception cref="ArgumentException">It does.</exception>
    internal static void CheckApart<T>(in ReadOnlyTensorSpan<T> operand, in TensorSpan<T> destination, string operandName, string name) where T : unmanaged
    {
        if (operand.Rank != 0 && destination.FlattenedLength != 0 && operand.FlattenedLength != 0 && Overlaps(operand, destination))
            throw new ArgumentException($"The {name} may not overlap the {operandName}.", name);
    }

    /// <summary>
    /// A reference to the input's elements in row-major order: its own memory where that is contiguous, else the destination,
    /// after gathering them there, so that strided input costs no memory but its output's.
    /// </summary>
    internal static ref readonly T Contiguous<T>(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> destination) where T : unmanaged
    {
        if (input.IsDense)
            return ref TensorMarshal.GetReference(input);
        ref T target = ref TensorMarshal.GetReference(destination);
        Gather.Copy(in TensorMarshal.GetReference(input), input.Lengths, input.Strides, ref target);
        return ref target;
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

/// <summary>An operand as contiguous memory: its own, or a rented copy where it is strided; a null reference where it is absent.</summary>
internal ref struct ContiguousOperand<T> where T : unmanaged
{
    internal readonly ref readonly T Reference;
    private readonly T[]? rented;

    internal ContiguousOperand(in ReadOnlyTensorSpan<T> parameter)
    {
        if (parameter.Rank == 0)
        {
            Reference = ref Unsafe.NullRef<T>();
            return;
        }
        if (parameter.IsDense || parameter.FlattenedLength == 0)
        {
            Reference = ref TensorMarshal.GetReference(parameter);
            return;
        }
        rented = ArrayPool<T>.Shared.Rent(checked((int)parameter.FlattenedLength));
        Gather.Copy(in TensorMarshal.GetReference(parameter), parameter.Lengths, parameter.Strides, ref MemoryMarshal.GetArrayDataReference(rented));
        Reference = ref MemoryMarshal.GetArrayDataReference(rented);
    }

    public readonly void Dispose()
    {
        if (rented is not null)
            ArrayPool<T>.Shared.Return(rented);
    }
}
