using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>
/// The sums of <see cref="SlidingWindow"/>, in the same order, for rows of floats that come one after the other: the caller fills
/// the row of a channel and advances; so one window can run behind another.
/// </summary>
internal unsafe struct FloatWindow
{
    private readonly nint channels, lower, upper, width, stride;
    private readonly float* rows, prefix, zeros;

    /// <summary>The rows of scratch that a window needs.</summary>
    internal static nint Rows(nint lower, nint upper) => lower + upper + 3;

    internal FloatWindow(float* scratch, nint channels, nint lower, nint upper, nint stride)
    {
        (this.channels, this.lower, this.upper, this.stride) = (channels, lower, upper, stride);
        width = lower + 1 + upper;
        rows = scratch;
        prefix = rows + width * stride;
        zeros = prefix + stride;
        // The channels below the first.
        new Span<float>(rows, (int)(lower * stride)).Clear();
        new Span<float>(zeros, (int)stride).Clear();
    }

    /// <summary>The channel whose terms are wanted before the sums around a channel.</summary>
    internal readonly nint Next(nint channel) => channel + upper;

    /// <summary>Where the terms of a channel go.</summary>
    internal readonly float* Row(nint channel) => rows + (channel + lower) % width * stride;

    /// <summary>The sums around a channel, after those around the one below; the terms of <see cref="Next"/>, if it exists, are in their row.</summary>
    internal readonly Sums At(nint channel)
    {
        nint r = channel % width;
        float* terms = Row(channel + upper);
        if (channel + upper >= channels)
            new Span<float>(terms, (int)stride).Clear();
        if (r == 0)
        {
            AddSuffixes();
            new Span<float>(prefix, (int)stride).Clear();
            terms = zeros;
        }
        return new Sums(rows + r * stride, prefix, terms);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void AddSuffixes()
    {
        for (float* row = rows + (width - 2) * stride; row >= rows; row -= stride)
        {
            for (nint i = 0; i < stride; i += Vector512<float>.Count)
                (Vector512.Load(row + i) + Vector512.Load(row + stride + i)).Store(row + i);
        }
    }

    /// <summary>Sums in parts: a row of suffix sums, and one of prefix sums before the terms that are yet to be added to it.</summary>
    internal readonly struct Sums(float* suffix, float* prefix, float* terms)
    {
        private readonly float* suffix = suffix, prefix = prefix, terms = terms;

        /// <summary>16 of the sums; to be taken once.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        internal Vector512<float> Take(nint i)
        {
            Vector512<float> sum = Vector512.Load(prefix + i) + Vector512.Load(terms + i);
            sum.Store(prefix + i);
            return Vector512.Load(suffix + i) + sum;
        }
    }
}
