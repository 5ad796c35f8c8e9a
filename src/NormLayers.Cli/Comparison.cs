using NormLayers.IO;

namespace NormLayers.Cli;

/// <summary>The largest differences between two arrays, and how many elements pass <c>numpy.allclose</c>'s rule.</summary>
/// <param name="relativeTolerance">How much of |b| they may differ by.</param>
/// <param name="absoluteTolerance">How much they may differ by besides.</param>
/// <param name="type">The type of both arrays where it is the same floating-point type; else there are no ulps.</param>
internal sealed class Comparison(double relativeTolerance, double absoluteTolerance, ElementType? type)
{
    /// <summary>A difference, the index of the element in row-major order, and its two values.</summary>
    public readonly record struct Largest(double Difference, long Index, double A, double B);

    public long Count { get; private set; }

    public long Equal { get; private set; }

    public long Outside { get; private set; }

    /// <summary>The first element outside the tolerance, where there is one.</summary>
    public long FirstOutside { get; private set; }

    public Largest Absolute { get; private set; }

    public Largest Relative { get; private set; }

    public Largest Ulps { get; private set; }

    public void Add(ReadOnlySpan<double> a, ReadOnlySpan<double> b)
    {
        for (int i = 0; i < a.Length; i++)
        {
            if (a[i] == b[i] || (double.IsNaN(a[i]) && double.IsNaN(b[i])))
                Equal++;
            else
                AddDifferent(a[i], b[i], Count + i);
        }
        Count += a.Length;
    }

    private void AddDifferent(double a, double b, long index)
    {
        // A NaN or an infinity on one side is as far off as can be.
        bool finite = double.IsFinite(a) && double.IsFinite(b);
        double difference = finite ? Math.Abs(a - b) : double.PositiveInfinity;
        if (!finite || !(difference <= absoluteTolerance + (relativeTolerance * Math.Abs(b))))
        {
            if (Outside == 0)
                FirstOutside = index;
            Outside++;
        }
        Absolute = Larger(Absolute, new Largest(difference, index, a, b));
        Relative = Larger(Relative, new Largest(finite ? difference / Math.Abs(b) : double.PositiveInfinity, index, a, b));
        if (type is { } both)
            Ulps = Larger(Ulps, new Largest(finite ? Distance(both, a, b) : double.PositiveInfinity, index, a, b));
    }

    private static Largest Larger(Largest known, Largest other) => other.Difference > known.Difference ? other : known;

    /// <summary>How many steps between neighbouring numbers of the type lie between two; both zeros are one.</summary>
    private static double Distance(ElementType type, double a, double b)
        => (double)Int128.Abs((Int128)Ordinal(type, a) - Ordinal(type, b));

    private static long Ordinal(ElementType type, double value)
    {
        long magnitude = type switch
        {
            ElementType.Float16 => BitConverter.HalfToInt16Bits((Half)Math.Abs(value)),
            ElementType.Float32 => BitConverter.SingleToInt32Bits((float)Math.Abs(value)),
            _ => BitConverter.DoubleToInt64Bits(Math.Abs(value)),
        };
        return value < 0 ? -magnitude : magnitude;
    }
}
