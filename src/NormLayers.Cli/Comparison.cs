using NormLayers.IO;

namespace NormLayers.Cli;

/// <summary>The largest differences between two arrays, how many units in the last place apart their elements are, and how many pass <c>numpy.allclose</c>'s rule.</summary>
/// <param name="relativeTolerance">How much of |b| they may differ by.</param>
/// <param name="absoluteTolerance">How much they may differ by besides.</param>
/// <param name="type">The type of both arrays where it is the same floating-point type; else there are no ulps.</param>
internal sealed class Comparison(double relativeTolerance, double absoluteTolerance, ElementType? type)
{
    // One for 0, then powers of two up to the distance from -infinity to infinity, then one for what has no distance.
    private const int UlpRows = 67;

    private readonly long[] ulpCounts = new long[UlpRows];

    /// <summary>A difference, the index of the element in row-major order, and its two values.</summary>
    public readonly record struct Largest(double Difference, long Index, double A, double B);

    /// <summary>How many elements are apart by this many ulps, both bounds included; a NaN or an infinity on one side is infinitely far off.</summary>
    public readonly record struct UlpRow(double From, double To, long Count);

    public long Count { get; private set; }

    public long Equal { get; private set; }

    public long Outside { get; private set; }

    /// <summary>The first element outside the tolerance, where there is one.</summary>
    public long FirstOutside { get; private set; }

    public Largest Absolute { get; private set; }

    public Largest Relative { get; private set; }

    public Largest Ulps { get; private set; }

    /// <summary>The rows 0, 1, 2, 3 to 4, 5 to 8 and so on, those without elements left out.</summary>
    public IEnumerable<UlpRow> UlpHistogram
    {
        get
        {
            if (type is null)
                yield break;
            for (int row = 0; row < UlpRows; row++)
            {
                long count = row == 0 ? Equal : ulpCounts[row];
                if (count == 0)
                    continue;
                double to = row == 0 ? 0 : Math.ScaleB(1, row - 1);
                yield return row == UlpRows - 1
                    ? new UlpRow(double.PositiveInfinity, double.PositiveInfinity, count)
                    : new UlpRow(row <= 1 ? row : (to / 2) + 1, to, count);
            }
        }
    }

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
        if (type is not { } both)
            return;
        UInt128 ulps = finite ? Distance(both, a, b) : UInt128.MaxValue;
        Ulps = Larger(Ulps, new Largest(finite ? (double)ulps : double.PositiveInfinity, index, a, b));
        ulpCounts[finite ? 1 + (int)(128 - UInt128.LeadingZeroCount(ulps - 1)) : UlpRows - 1]++;
    }

    private static Largest Larger(Largest known, Largest other) => other.Difference > known.Difference ? other : known;

    /// <summary>How many steps between neighbouring numbers of the type lie between two; both zeros are one.</summary>
    private static UInt128 Distance(ElementType type, double a, double b)
        => (UInt128)Int128.Abs((Int128)Ordinal(type, a) - Ordinal(type, b));

    private static long Ordinal(ElementType type, double value)
    {
        long magnitude = type switch
        {
            ElementType.Float16 => BitConverter.HalfToInt16Bits((Half)Math.Abs(value)),
            ElementType.BFloat16 => BitConverter.SingleToInt32Bits((float)Math.Abs(value)) >> 16,
            ElementType.Float32 => BitConverter.SingleToInt32Bits((float)Math.Abs(value)),
            _ => BitConverter.DoubleToInt64Bits(Math.Abs(value)),
        };
        return value < 0 ? -magnitude : magnitude;
    }
}
