using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>
/// The sums of <see cref="SlidingWindow"/>, in the same order, for rows of floats that come one after the other: the caller fills
/// the row of a channel and advances; so one window can run behind another.
/// </summary>
internal unsafe struct FloatWindow
{
    private readonly nint channels, lower, upper, length, stride;
    private readonly int width;
    private readonly float* rows, prefix;
    private Vector512<uint> largest;

    /// <summary>The rows of scratch that a window needs.</summary>
    internal static nint Rows(nint lower, nint upper) => lower + upper + 2;

    internal FloatWindow(float* scratch, nint channels, nint lower, nint upper, nint positions)
    {
        (this.channels, this.lower, this.upper) = (channels, lower, upper);
        (length, stride) = (WindowNorm.WholeSteps(positions), WindowNorm.Stride(positions));
        width = (int)(lower + 1 + upper);
        rows = scratch;
        prefix = rows + width * stride;
        // The channels below the first.
        new Span<float>(rows, (int)(lower * stride)).Clear();
    }

    /// <summary>The channel whose terms are wanted before the sums around a channel.</summary>
    internal readonly nint Next(nint channel) => channel + upper;

    /// <summary>Whether the terms must be in their row when the sums are asked for, not just when they are taken.</summary>
    internal readonly bool IsFirst(nint channel) => (int)channel % width == 0;

    /// <summary>Where the terms of a channel go.</summary>
    internal readonly float* Row(nint channel) => rows + (int)(channel + lower) % width * stride;

    /// <summary>The sums around a channel, after those around the one below; the terms of <see cref="Next"/>, if it exists, are in their row.</summary>
    internal Sums At(nint channel)
    {
        nint r = (int)channel % width;
        float* terms = Row(channel + upper);
        if (channel + upper >= channels)
            new Span<float>(terms, (int)length).Clear();
        if (r == 0)
        {
            AddSuffixes();
            new Span<float>(prefix, (int)length).Clear();
            terms = prefix;
        }
        return new Sums(rows + r * stride, prefix, terms);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void AddSuffixes()
    {
        Vector512<uint> most = largest;
        for (nint i = 0; i < length; i += FloatPair.Count)
        {
            float* row = rows + (width - 1) * stride + i;
            FloatPair sum = FloatPair.Load(row);
            for (row -= stride; row >= rows; row -= stride)
            {
                sum += FloatPair.Load(row);
                sum.Store(row);
            }
            most = Vector512.Max(most, Vector512.Max(sum.A.AsUInt32(), sum.B.AsUInt32()));
        }
        largest = most;
    }

    /// <summary>The bits of a sum that is at least the largest term, or NaN's; of terms that are not negative.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal readonly uint Largest()
    {
        // The last chunk's end is in prefix sums only.
        Vector512<uint> most = largest;
        for (nint i = 0; i < length; i += Vector512<float>.Count)
            most = Vector512.Max(most, Vector512.Load(prefix + i).AsUInt32());
        return WindowNorm.Largest(most);
    }

    /// <summary>Sums in parts: a row of suffix sums, and one of prefix sums before the terms that are yet to be added to it.</summary>
    internal readonly struct Sums(float* suffix, float* prefix, float* terms)
    {
        private readonly float* suffix = suffix, prefix = prefix, terms = terms;

        /// <summary>32 of the sums, whose terms are in their row; to be taken once.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        internal FloatPair Take(nint i) => Add(FloatPair.Load(terms + i), i);

        /// <summary>The same with the terms as they are made.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        internal FloatPair Take(FloatPair term, nint i)
        {
            term.Store(terms + i);
            return Add(term, i);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private FloatPair Add(FloatPair term, nint i)
        {
            FloatPair sum = FloatPair.Load(prefix + i) + term;
            sum.Store(prefix + i);
            return FloatPair.Load(suffix + i) + sum;
        }
    }
}
