using System.Numerics.Tensors;

namespace NormLayers.Tests;

/// <summary>Tensors for tests: made from values, with any strides, and read back in row-major order.</summary>
internal static class Tensors
{
    public static T[] ToArray<T>(Tensor<T> tensor)
    {
        var values = new T[tensor.FlattenedLength];
        nint i = 0;
        foreach (T value in tensor)
            values[i++] = value;
        return values;
    }

    /// <summary>A tensor of the same values and shape with other strides (0 along a dimension keeps its first slice).</summary>
    public static Tensor<T> WithStrides<T>(Tensor<T> tensor, nint[] strides)
    {
        nint[] lengths = tensor.Lengths.ToArray();
        if (tensor.FlattenedLength == 0)
            return tensor;
        nint size = 1;
        for (int d = 0; d < lengths.Length; d++)
        {
            size += (lengths[d] - 1) * strides[d];
            if (lengths[d] == 1)
                strides[d] = 0;
        }
        var memory = new T[size];
        var index = new nint[lengths.Length];
        foreach (T value in tensor)
        {
            nint offset = 0;
            for (int d = 0; d < lengths.Length; d++)
                offset += index[d] * strides[d];
            memory[offset] = value;
            for (int d = lengths.Length - 1; d >= 0 && ++index[d] == lengths[d]; d--)
                index[d] = 0;
        }
        return Tensor.Create(memory, 0, lengths, strides);
    }
}
