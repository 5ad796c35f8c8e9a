using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace NormLayers.IO;

/// <summary>
/// Copies elements of any layout, byte order and alignment to row-major memory, converting on the way. Dimensions that
/// follow each other in memory are merged first, so a contiguous tensor is one row.
/// </summary>
internal static unsafe class StridedCopy
{
    private const int BlockLength = 256;

    /// <summary>Copies; <paramref name="strides"/> count elements, <paramref name="source"/> needs no alignment.</summary>
    public static void ToRowMajor<TSource, TResult>(
        byte* source, ReadOnlySpan<nint> lengths, ReadOnlySpan<nint> strides, bool swapBytes, TResult* destination)
        where TSource : unmanaged
        where TResult : unmanaged
    {
        if (lengths.Contains(0))
            return;
        var length = new nint[lengths.Length + 1];
        var stride = new nint[lengths.Length + 1];
        int rank = Merge(lengths, strides, length, stride);
        ReadOnlySpan<nint> outer = length.AsSpan(0, rank - 1);
        nint rowLength = length[rank - 1];
        nint rowStride = stride[rank - 1];
        var index = new nint[rank];
        while (true)
        {
            CopyRow<TSource, TResult>(source, rowLength, rowStride, swapBytes, destination);
            destination += rowLength;
            int axis = outer.Length - 1;
            for (; axis >= 0; axis--)
            {
                source += stride[axis] * sizeof(TSource);
                if (++index[axis] < outer[axis])
                    break;
                source -= stride[axis] * outer[axis] * sizeof(TSource);
                index[axis] = 0;
            }
            if (axis < 0)
                return;
        }
    }

    private static int Merge(ReadOnlySpan<nint> lengths, ReadOnlySpan<nint> strides, nint[] length, nint[] stride)
    {
        int rank = 0;
        for (int i = 0; i < lengths.Length; i++)
        {
            if (lengths[i] == 1)
                continue;
            if (rank > 0 && stride[rank - 1] == strides[i] * lengths[i])
            {
                length[rank - 1] *= lengths[i];
                stride[rank - 1] = strides[i];
                continue;
            }
            (length[rank], stride[rank]) = (lengths[i], strides[i]);
            rank++;
        }
        if (rank == 0)
            (length[rank++], stride[0]) = (1, 1);
        return rank;
    }

    [SkipLocalsInit]
    private static void CopyRow<TSource, TResult>(byte* source, nint length, nint stride, bool swapBytes, TResult* destination)
        where TSource : unmanaged
        where TResult : unmanaged
    {
        if (typeof(TSource) == typeof(TResult) && stride == 1 && !swapBytes)
        {
            Buffer.MemoryCopy(source, destination, length * sizeof(TResult), length * sizeof(TResult));
            return;
        }
        Span<TSource> block = stackalloc TSource[BlockLength];
        for (nint done = 0; done < length; done += BlockLength)
        {
            Span<TSource> part = block[..(int)Math.Min(BlockLength, length - done)];
            byte* from = source + (done * stride * sizeof(TSource));
            if (stride == 1)
            {
                new ReadOnlySpan<byte>(from, part.Length * sizeof(TSource)).CopyTo(MemoryMarshal.AsBytes(part));
            }
            else
            {
                for (int i = 0; i < part.Length; i++)
                    part[i] = Unsafe.ReadUnaligned<TSource>(from + (i * stride * sizeof(TSource)));
            }
            if (swapBytes)
                SwapBytes(part);
            ElementConversion.Convert<TSource, TResult>(part, new Span<TResult>(destination + done, part.Length));
        }
    }

    private static void SwapBytes<T>(Span<T> values)
        where T : unmanaged
    {
        if (sizeof(T) == 2)
            BinaryPrimitives.ReverseEndianness(MemoryMarshal.Cast<T, ushort>(values), MemoryMarshal.Cast<T, ushort>(values));
        else if (sizeof(T) == 4)
            BinaryPrimitives.ReverseEndianness(MemoryMarshal.Cast<T, uint>(values), MemoryMarshal.Cast<T, uint>(values));
        else if (sizeof(T) == 8)
            BinaryPrimitives.ReverseEndianness(MemoryMarshal.Cast<T, ulong>(values), MemoryMarshal.Cast<T, ulong>(values));
    }
}
