using System.Runtime.InteropServices;

namespace NormLayers.Benchmarks;

/// <summary>The operands of one call: x, y, dy, dx, and the statistics that the backward needs.</summary>
internal sealed unsafe class BufferSet(float* x, float* y, float* gradOutput, float* gradInput, nint groups)
{
    public readonly float* X = x, Y = y, GradOutput = gradOutput, GradInput = gradInput;

    public readonly GroupStatistics[] Statistics = new GroupStatistics[groups];
}

/// <summary>As many sets of operands as a case rotates among, in native memory that has been touched.</summary>
internal sealed unsafe class Buffers : IDisposable
{
    private const int Page = 4096, Shift = 320;

    private readonly Operation operation;
    private readonly List<nint> blocks = [];
    private readonly List<BufferSet> sets = [];
    private readonly nint elements;
    private int offset;

    /// <param name="operation">What will be called on them.</param>
    /// <param name="sets">How many sets. All hold the same values: the time does not depend on them.</param>
    public Buffers(Operation operation, int sets)
    {
        (this.operation, elements) = (operation, operation.Case.Elements);
        Grow(sets);
    }

    public IReadOnlyList<BufferSet> Sets => sets;

    /// <summary>Adds sets up to a number of them.</summary>
    public void Grow(int count)
    {
        while (sets.Count < count)
        {
            var set = new BufferSet(Allocate(), Allocate(), Allocate(), Allocate(), operation.Groups);
            if (sets.Count == 0)
            {
                RandomValues.Fill(set.X, elements, 1);
                RandomValues.Fill(set.GradOutput, elements, 2);
            }
            else
            {
                Copies.Ordinary(set.X, sets[0].X, elements);
                Copies.Ordinary(set.GradOutput, sets[0].GradOutput, elements);
            }
            sets.Add(set);
        }
    }

    public void Dispose()
    {
        foreach (nint block in blocks)
            NativeMemory.AlignedFree((void*)block);
    }

    /// <summary>Aligned to cache lines, no two neighbours at the same offset in their page: equal offsets would make loads wait for stores that they only resemble.</summary>
    private float* Allocate()
    {
        nuint bytes = (nuint)elements * sizeof(float) + Page;
        byte* block = (byte*)NativeMemory.AlignedAlloc(bytes, Page);
        blocks.Add((nint)block);
        NativeMemory.Clear(block, bytes);
        offset = (offset + Shift) % Page;
        return (float*)(block + offset);
    }
}

/// <summary>Values like a normal distribution's, the same in every run.</summary>
internal static unsafe class RandomValues
{
    public static void Fill(float* values, nint length, ulong seed)
        => Parts.Run(length, (first, end) =>
        {
            for (nint i = first; i < end; i++)
                values[i] = At(i, seed);
        });

    /// <summary>A value by its index alone, so that threads can share the work: the sum of the four 16-bit parts of a mixed counter.</summary>
    public static float At(nint index, ulong seed)
    {
        ulong z = ((ulong)index + (seed << 40)) * 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        z ^= z >> 31;
        ulong sum = (z & 0xFFFF) + ((z >> 16) & 0xFFFF) + ((z >> 32) & 0xFFFF) + (z >> 48);
        return (float)((sum / 65536.0 - 2) * 1.732);
    }
}

/// <summary>Work in one consecutive part for each processor.</summary>
internal static class Parts
{
    public static void Run(nint length, Action<nint, nint> part)
    {
        int parts = (int)Math.Min(Environment.ProcessorCount, length);
        Parallel.For(0, parts, p => part(length * p / parts, length * (p + 1) / parts));
    }
}
