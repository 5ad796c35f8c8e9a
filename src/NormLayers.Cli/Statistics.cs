using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using NormLayers.IO;

namespace NormLayers.Cli;

/// <summary>Mean and deviation (over N, as NumPy's) of all elements, in double whatever their type.</summary>
internal readonly record struct Statistics(double Mean, double Deviation)
{
    private const int BlockLength = 1024;

    /// <param name="elements">Elements that fill their memory without gaps, in any order of the axes.</param>
    /// <param name="cancellation">Stops the walk.</param>
    public static Statistics Of<T>(in ReadOnlyTensorSpan<T> elements, CancellationToken cancellation)
        where T : unmanaged
    {
        // In the order of the memory: neither number depends on the order, and strides would cost an index per element.
        nint count = elements.FlattenedLength;
        ref readonly T first = ref TensorMarshal.GetReference(elements);
        Span<double> block = stackalloc double[BlockLength];
        (double mean, double squares) = (0, 0);
        for (nint start = 0; start < count; start += BlockLength)
        {
            cancellation.ThrowIfCancellationRequested();
            Span<double> values = block[..(int)nint.Min(BlockLength, count - start)];
            ElementConversion.Convert(MemoryMarshal.CreateReadOnlySpan(in Unsafe.Add(ref Unsafe.AsRef(in first), start), values.Length), values);

            // Chan, Golub and LeVeque: the blocks' own means and squares are merged, so that a large mean cancels nothing.
            double blockMean = TensorPrimitives.Sum<double>(values) / values.Length;
            TensorPrimitives.Subtract(values, blockMean, values);
            double share = values.Length / (double)(start + values.Length);
            double shift = blockMean - mean;
            squares += TensorPrimitives.SumOfSquares<double>(values) + (shift * shift * start * share);
            // An infinite mean stays one: a step from it would be a NaN.
            mean = double.IsFinite(shift) ? mean + (shift * share) : mean + blockMean;
        }
        return new Statistics(mean, Math.Sqrt(squares / count));
    }

    public override string ToString() => $"mean {Report.Number(Mean)}, deviation {Report.Number(Deviation)}";
}
