using System.Numerics.Tensors;
using System.Runtime.InteropServices;

namespace NormLayers.Benchmarks;

/// <summary>A tensor in memory that stays where it is and has been touched.</summary>
internal sealed unsafe class Operand<T> where T : unmanaged
{
    private const int Page = 4096, Shift = 320;

    private static int offset;

    /// <summary>Aligned to cache lines, no two neighbours at the same offset in their page: equal offsets would make loads wait for stores that they only resemble.</summary>
    public Operand(nint[] lengths, nint[] strides)
    {
        nint elements = lengths.Aggregate((nint)1, (product, length) => product * length);
        T[] memory = GC.AllocateArray<T>(checked((int)elements + 2 * Page / sizeof(T)), pinned: true);
        byte* first = (byte*)Marshal.UnsafeAddrOfPinnedArrayElement(memory, 0);
        offset = (offset + Shift) % Page;
        byte* aligned = (byte*)(((nint)first + Page - 1) & ~(Page - 1)) + offset;
        Address = (T*)aligned;
        Tensor = System.Numerics.Tensors.Tensor.Create(memory, (int)((aligned - first) / sizeof(T)), lengths, strides);
        Fill(_ => 0);
    }

    public Tensor<T> Tensor { get; }

    public T* Address { get; }

    public void Fill(Func<nint, float> value)
        => Parts.Run(Tensor.FlattenedLength, (first, end) =>
        {
            for (nint i = first; i < end; i++)
                Address[i] = Element.From<T>(value(i));
        });
}

/// <summary>The operands of one call, as many as the pass that has more of them needs.</summary>
/// <remarks>
/// Read are: x; then dy, or forward the residual; then the gradient of the sum. Where a residual was added, the backward's x is the sum.
/// Written are: y or dx; then the sum.
/// </remarks>
internal sealed class OperandSet<T>(BenchmarkCase benchmark, nint[] strides) where T : unmanaged
{
    public Operand<T>[] Reads { get; } = Make(benchmark.Traffic(Pass.Backward).Reads, benchmark.Dims, strides);

    public Operand<T>[] Writes { get; } = Make(benchmark.Traffic(Pass.Forward).Writes, benchmark.Dims, strides);

    /// <summary>What the backward needs of a forward over x.</summary>
    public ForwardPass<T>? Saved { get; set; }

    private static Operand<T>[] Make(int count, nint[] lengths, nint[] strides) => [.. Enumerable.Range(0, count).Select(_ => new Operand<T>(lengths, strides))];
}

/// <summary>Values like a normal distribution's, the same in every run.</summary>
internal static class RandomValues
{
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

    public static void Fill<T>(Tensor<T> tensor, ulong seed, float mean, float deviation) where T : unmanaged
    {
        nint index = 0;
        foreach (ref T value in tensor.AsTensorSpan())
            value = Element.From<T>(mean + deviation * At(index++, seed));
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
