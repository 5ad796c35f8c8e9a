using System.Numerics.Tensors;
using System.Runtime.InteropServices;

namespace NormLayers.IO;

/// <summary>A parameter of a layer in a model file.</summary>
public abstract class ModelParameter
{
    private protected ModelParameter(string role, string name, nint[] lengths)
        => (Role, Name, Lengths, Shape) = (role, name, lengths, Shapes.Public(lengths));

    /// <summary>What it is, under PyTorch's name: <c>weight</c>, <c>bias</c>, <c>running_mean</c>, <c>running_var</c> or <c>num_batches_tracked</c>.</summary>
    public string Role { get; }

    /// <summary>Its name in the file.</summary>
    public string Name { get; }

    /// <summary>The shape as the file has it; empty for a scalar.</summary>
    public IReadOnlyList<long> Shape { get; }

    /// <summary>The type of the elements: PyTorch's name, or the file's for a type that cannot be read.</summary>
    public abstract string TypeName { get; }

    internal nint[] Lengths { get; }

    /// <summary>Copies the elements into a new row-major tensor, converting each with one rounding, ties to even.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <returns>The tensor; of shape [1] for a scalar.</returns>
    /// <exception cref="InvalidDataException">The elements cannot be read; the message is one line.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is another type.</exception>
    /// <exception cref="ObjectDisposedException">The checkpoint was disposed.</exception>
    public abstract Tensor<T> ReadAs<T>()
        where T : unmanaged;

    /// <summary>Reads the elements and describes them.</summary>
    /// <returns>Range, mean, and how many are near zero or not finite.</returns>
    /// <exception cref="InvalidDataException">The elements cannot be read; the message is one line.</exception>
    /// <exception cref="ObjectDisposedException">The checkpoint was disposed.</exception>
    public ParameterStatistics ReadStatistics()
    {
        Tensor<double> elements = ReadAs<double>();
        return elements.FlattenedLength == 0 ? default
            : ParameterStatistics.Of(MemoryMarshal.CreateReadOnlySpan(in TensorMarshal.GetReference(elements.AsReadOnlyTensorSpan()), (int)elements.FlattenedLength));
    }
}

/// <summary>What the elements of a parameter are like.</summary>
/// <param name="Count">How many there are.</param>
/// <param name="Min">The smallest finite one; NaN where there is none.</param>
/// <param name="Max">The largest finite one; NaN where there is none.</param>
/// <param name="Mean">The mean of the finite ones; NaN where there is none.</param>
/// <param name="NearZero">How many are below <see cref="NearZeroBound"/> in magnitude, zeros included.</param>
/// <param name="Zero">How many are zero.</param>
/// <param name="Negative">How many are below zero.</param>
/// <param name="NonFinite">How many are NaN or infinite.</param>
public readonly record struct ParameterStatistics(long Count, double Min, double Max, double Mean, long NearZero, long Zero, long Negative, long NonFinite)
{
    /// <summary>Below this magnitude a value counts as near zero: trained weights are some 1e-3 to 10.</summary>
    public const double NearZeroBound = 1e-6;

    internal static ParameterStatistics Of(ReadOnlySpan<double> values)
    {
        long nearZero = 0, zero = 0, negative = 0, finite = 0;
        double min = double.PositiveInfinity, max = double.NegativeInfinity, mean = 0;
        foreach (double value in values)
        {
            if (value < 0)
                negative++;
            if (!double.IsFinite(value))
                continue;
            finite++;
            nearZero += Math.Abs(value) < NearZeroBound ? 1 : 0;
            zero += value == 0 ? 1 : 0;
            (min, max) = (Math.Min(min, value), Math.Max(max, value));
            // The running mean cannot overflow where a sum could.
            mean += (value / finite) - (mean / finite);
        }
        return finite == 0
            ? new(values.Length, double.NaN, double.NaN, double.NaN, 0, 0, negative, values.Length)
            : new(values.Length, min, max, mean, nearZero, zero, negative, values.Length - finite);
    }
}
