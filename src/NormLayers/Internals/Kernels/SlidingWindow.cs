using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>Where a sliding window takes its terms from and where its sums go: rows of positions, one row a channel.</summary>
internal interface IWindowRows<T> where T : unmanaged
{
    /// <summary>Writes the terms of a channel to <paramref name="row"/>.</summary>
    void ReadTerms(nint channel, ref T row);

    /// <summary>Takes the sums of the window around a channel, in two parts that are yet to be added.</summary>
    void WriteSums(nint channel, ref readonly T suffix, ref readonly T prefix);
}

/// <summary>
/// Sums over a window that slides over the channels, for a block of positions at once.
/// </summary>
/// <remarks>
/// The channels, starting lower below the first, are cut into chunks of the window's width. A window is then the end of one
/// chunk and the beginning of the next: a suffix sum, added from the chunk's end downwards, plus a prefix sum, added upwards:
/// two additions per element whatever the width, and nothing is ever subtracted, so no error and no NaN outlives its window
/// (van Herk 1992). Lanes are positions; no two ever mix. A channel's terms are read before its own sums are written, and not
/// again, so that rows may be overwritten.
/// </remarks>
internal static class SlidingWindow
{
    /// <summary>The elements of scratch that a window needs.</summary>
    internal static nint ScratchLength(nint lower, nint upper, nint stride) => (lower + upper + 2) * stride;

    /// <summary>Sums the terms of channels c - lower to c + upper for every channel c; those outside count as zero.</summary>
    /// <param name="rows">The terms and the sums.</param>
    /// <param name="channels">The number of channels.</param>
    /// <param name="lower">How far a window reaches down; less than the number of channels.</param>
    /// <param name="upper">How far a window reaches up; less than the number of channels.</param>
    /// <param name="scratch">Room for <see cref="ScratchLength"/> elements.</param>
    /// <param name="stride">The length of a row of scratch, a multiple of 16.</param>
    internal static void Sum<TRows, T>(ref readonly TRows rows, nint channels, nint lower, nint upper, ref T scratch, nint stride)
        where TRows : IWindowRows<T>, allows ref struct where T : unmanaged
    {
        nint width = lower + 1 + upper;
        ref T prefix = ref Unsafe.Add(ref scratch, width * stride);
        for (nint j = 0; j < width - 1; j++)
            ReadTerms(in rows, j - lower, channels, ref Unsafe.Add(ref scratch, j * stride), stride);

        for (nint chunk = 0; chunk < channels; chunk += width)
        {
            // The chunk's terms but the last are there from the previous prefix sums: their rows may be overwritten by now.
            ReadTerms(in rows, chunk + upper, channels, ref Unsafe.Add(ref scratch, (width - 1) * stride), stride);
            for (nint j = width - 2; j >= 0; j--)
                AddRow(ref Unsafe.Add(ref scratch, j * stride), in Unsafe.Add(ref scratch, (j + 1) * stride), stride);
            MemoryMarshal.CreateSpan(ref prefix, (int)stride).Clear();

            for (nint r = 0; r < width && chunk + r < channels; r++)
            {
                if (r > 0)
                {
                    ref T terms = ref Unsafe.Add(ref scratch, (r - 1) * stride);
                    ReadTerms(in rows, chunk + r + upper, channels, ref terms, stride);
                    AddRow(ref prefix, in terms, stride);
                }
                rows.WriteSums(chunk + r, in Unsafe.Add(ref scratch, r * stride), in prefix);
            }
        }
    }

    private static void ReadTerms<TRows, T>(ref readonly TRows rows, nint channel, nint channels, ref T row, nint stride)
        where TRows : IWindowRows<T>, allows ref struct where T : unmanaged
    {
        if (channel >= 0 && channel < channels)
            rows.ReadTerms(channel, ref row);
        else
            MemoryMarshal.CreateSpan(ref row, (int)stride).Clear();
    }

    private static void AddRow<T>(ref T sum, ref readonly T row, nint stride) where T : unmanaged
    {
        for (nint i = 0; i < stride; i += Vector512<T>.Count)
            (Vector512.LoadUnsafe(in sum, (nuint)i) + Vector512.LoadUnsafe(in row, (nuint)i)).StoreUnsafe(ref sum, (nuint)i);
    }
}
