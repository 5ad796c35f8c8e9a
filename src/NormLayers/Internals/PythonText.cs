using System.Globalization;
using System.Numerics;
using System.Text;

namespace NormLayers.Internals;

/// <summary>Writes numbers, bools and tuples as Python does, to the character.</summary>
internal static class PythonText
{
    /// <summary>How Python writes the absent value.</summary>
    public const string None = "None";

    /// <summary>Writes a float as Python's <c>repr</c>: the shortest digits that read back as the same number.</summary>
    /// <param name="value">The number; NaN and infinities give <c>nan</c>, <c>inf</c> and <c>-inf</c>.</param>
    /// <returns>Such as <c>1e-05</c>, <c>0.001</c>, <c>1.0</c> or <c>1e+16</c>.</returns>
    public static string Float(double value)
    {
        if (!double.IsFinite(value))
            return NonFinite(value);
        // .NET finds the same shortest digits; only the layout differs, so take them apart and lay them out anew.
        double magnitude = Math.Abs(value);
        string shortest = magnitude.ToString("R", CultureInfo.InvariantCulture);
        // The digits of 2^-25 and 2^-958 from .NET 10 are one too few: they read back as the number below.
        if (double.Parse(shortest, CultureInfo.InvariantCulture) != magnitude)
            shortest = Scientific(magnitude, 16).ToUpperInvariant();
        int mark = shortest.IndexOf('E', StringComparison.Ordinal);
        string mantissa = mark < 0 ? shortest : shortest[..mark];
        string digits = mantissa.Replace(".", "", StringComparison.Ordinal).Trim('0');
        int point = mantissa.Contains('.', StringComparison.Ordinal) ? mantissa.IndexOf('.', StringComparison.Ordinal) : mantissa.Length;
        int first = mantissa.AsSpan().IndexOfAnyExcept('0', '.');
        int exponent = (first < point ? point - 1 : point) - first
            + (mark < 0 ? 0 : int.Parse(shortest.AsSpan(mark + 1), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture));
        string sign = double.IsNegative(value) ? "-" : "";
        if (digits.Length == 0)
            return sign + "0.0";
        if (exponent is < -4 or >= 16)
            return sign + digits[..1] + (digits.Length > 1 ? "." + digits[1..] : "") + Exponent(exponent);
        if (exponent < 0)
            return sign + "0." + new string('0', -exponent - 1) + digits;
        string padded = digits.PadRight(exponent + 2, '0');
        return sign + padded[..(exponent + 1)] + "." + padded[(exponent + 1)..];
    }

    /// <summary>Writes a number as Python's <c>{:.Nf}</c>: the exact binary value rounded once, ties to even.</summary>
    /// <param name="value">The number; NaN and infinities as <see cref="Float"/> writes them.</param>
    /// <param name="precision">The count of digits after the point; 0 leaves the point out.</param>
    /// <returns>Such as <c>0.1250</c>.</returns>
    public static string Fixed(double value, int precision)
    {
        if (!double.IsFinite(value))
            return NonFinite(value);
        string digits = Scaled(Math.Abs(value), precision).ToString(CultureInfo.InvariantCulture).PadLeft(precision + 1, '0');
        string sign = double.IsNegative(value) ? "-" : "";
        return precision == 0 ? sign + digits : sign + digits[..^precision] + "." + digits[^precision..];
    }

    /// <summary>Writes a number as Python's <c>{:.Ne}</c>: the exact binary value rounded once, ties to even.</summary>
    /// <param name="value">The number; NaN and infinities as <see cref="Float"/> writes them.</param>
    /// <param name="precision">The count of digits after the point; 0 leaves the point out.</param>
    /// <returns>Such as <c>1.0000e-05</c>.</returns>
    public static string Scientific(double value, int precision)
    {
        if (!double.IsFinite(value))
            return NonFinite(value);
        double magnitude = Math.Abs(value);
        int exponent = 0;
        string digits = new('0', precision + 1);
        if (magnitude != 0)
        {
            // Start one below the estimate: an exponent that is too high could round up to a number that looks right.
            exponent = (int)Math.Floor(Math.Log10(magnitude)) - 1;
            while ((digits = Scaled(magnitude, precision - exponent).ToString(CultureInfo.InvariantCulture)).Length > precision + 1)
                exponent++;
        }
        string sign = double.IsNegative(value) ? "-" : "";
        return sign + digits[..1] + (precision == 0 ? "" : "." + digits[1..]) + Exponent(exponent);
    }

    /// <summary>Writes a bool.</summary>
    /// <param name="value">The value.</param>
    /// <returns><c>True</c> or <c>False</c>.</returns>
    public static string Bool(bool value) => value ? "True" : "False";

    /// <summary>Writes a shape as a Python tuple.</summary>
    /// <param name="values">The lengths.</param>
    /// <returns>Such as <c>()</c>, <c>(10,)</c> or <c>(5, 10, 10)</c>.</returns>
    public static string Tuple(ReadOnlySpan<nint> values)
    {
        var text = new StringBuilder("(");
        for (int i = 0; i < values.Length; i++)
            text.Append(i == 0 ? "" : ", ").Append(CultureInfo.InvariantCulture, $"{values[i]}");
        return text.Append(values.Length == 1 ? ",)" : ")").ToString();
    }

    private static string NonFinite(double value) => double.IsNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";

    private static string Exponent(int exponent)
        => (exponent < 0 ? "e-" : "e+") + Math.Abs(exponent).ToString("00", CultureInfo.InvariantCulture);

    // magnitude * 10^power, rounded half to even. Exact integers, because .NET's "F4" rounds ties away from zero.
    private static BigInteger Scaled(double magnitude, int power)
    {
        long bits = BitConverter.DoubleToInt64Bits(magnitude);
        int biased = (int)(bits >> 52);
        long fraction = bits & ((1L << 52) - 1);
        BigInteger top = biased == 0 ? fraction : fraction | (1L << 52);
        BigInteger bottom = BigInteger.One;
        int two = Math.Max(biased, 1) - 1075;
        if (two >= 0)
            top <<= two;
        else
            bottom <<= -two;
        if (power >= 0)
            top *= BigInteger.Pow(10, power);
        else
            bottom *= BigInteger.Pow(10, -power);
        BigInteger quotient = BigInteger.DivRem(top, bottom, out BigInteger rest);
        int half = (rest << 1).CompareTo(bottom);
        return half > 0 || (half == 0 && !quotient.IsEven) ? quotient + 1 : quotient;
    }
}
