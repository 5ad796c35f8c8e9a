using System.Globalization;
using System.Numerics.Tensors;
using System.Text;

namespace NormLayers.IO;

/// <summary>Shapes as files hold them: rank 0 is one element, and the product of the lengths may not overflow.</summary>
internal static class Shapes
{
    /// <summary>NumPy's own limit; a bound keeps a hostile header from costing more than it weighs.</summary>
    public const int MaxRank = 64;

    /// <summary>Prints a shape as Python does: <c>()</c>, <c>(3,)</c>, <c>(3, 4)</c>.</summary>
    public static string Format(ReadOnlySpan<nint> shape)
    {
        var text = new StringBuilder("(");
        for (int i = 0; i < shape.Length; i++)
            text.Append(i == 0 ? "" : ", ").Append(shape[i].ToString(CultureInfo.InvariantCulture));
        return text.Append(shape.Length == 1 ? ",)" : ")").ToString();
    }

    /// <summary>Counts elements. False when elements or bytes, zero lengths left out, pass what 63 bits can count.</summary>
    public static bool TryCount(ReadOnlySpan<nint> shape, int elementSize, out long count)
    {
        // Zeros are left out of the overflow check, as in NumPy: strides are products too.
        long product = 1;
        bool empty = false;
        count = 0;
        foreach (nint length in shape)
        {
            if (length == 0)
                empty = true;
            else if (product > long.MaxValue / elementSize / length)
                return false;
            else
                product *= length;
        }
        count = empty ? 0 : product;
        return true;
    }

    /// <summary>Checks a caller's shape and counts its elements.</summary>
    public static long Count(ReadOnlySpan<nint> shape, int elementSize, string parameter)
    {
        if (shape.Length > MaxRank)
            throw new ArgumentException($"The shape has {shape.Length} dimensions; at most {MaxRank} can be stored.", parameter);
        foreach (nint length in shape)
        {
            if (length < 0)
                throw new ArgumentException($"The shape {Format(shape)} has a negative length.", parameter);
        }
        if (!TryCount(shape, elementSize, out long count))
            throw new ArgumentException($"The shape {Format(shape)} has more elements than can be counted.", parameter);
        return count;
    }

    /// <summary>Checks that a tensor can be stored under a shape.</summary>
    public static void RequireSameCount<T>(in ReadOnlyTensorSpan<T> tensor, ReadOnlySpan<nint> shape)
        where T : unmanaged
    {
        if (tensor.Rank == 0)
            throw new ArgumentException("The tensor is a default one, without a shape.", nameof(tensor));
        long count = Count(shape, ElementTypes.Of<T>().Size(), nameof(shape));
        if (count != tensor.FlattenedLength)
            throw new ArgumentException($"The shape {Format(shape)} has {count} elements, the tensor {tensor.FlattenedLength}.", nameof(shape));
    }

    /// <summary>The shape that a tensor of this shape has in memory, where rank 0 does not exist.</summary>
    public static nint[] InMemory(nint[] shape) => shape.Length == 0 ? [1] : shape;

    /// <summary>Strides in elements. A length of 1 gets stride 0, which System.Numerics.Tensors demands.</summary>
    public static nint[] Strides(ReadOnlySpan<nint> shape, bool fortranOrder)
    {
        var strides = new nint[shape.Length];
        nint step = 1;
        for (int i = 0; i < shape.Length; i++)
        {
            int axis = fortranOrder ? i : shape.Length - 1 - i;
            strides[axis] = shape[axis] == 1 ? 0 : step;
            step *= shape[axis];
        }
        return strides;
    }

    /// <summary>The shape as the public properties show it.</summary>
    public static IReadOnlyList<long> Public(nint[] shape)
    {
        var lengths = new long[shape.Length];
        for (int i = 0; i < shape.Length; i++)
            lengths[i] = shape[i];
        return Array.AsReadOnly(lengths);
    }
}
