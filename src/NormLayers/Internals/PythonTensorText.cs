using System.Globalization;
using System.Text;

namespace NormLayers.Internals;

/// <summary>
/// The two halves of PyTorch's tensor printing: texts of the shown elements in one common width, and their layout in brackets.
/// </summary>
internal static class PythonTensorText
{
    /// <summary>Writes floats in the one form (integers, fixed or scientific) that their finite nonzero values decide.</summary>
    /// <param name="values">The elements that are shown.</param>
    /// <param name="options">The precision and the forced mode are read.</param>
    /// <param name="width">The width of the widest finite nonzero element: a NaN, an infinity or a zero does not widen.</param>
    /// <returns>One text per value, padded on the left.</returns>
    public static string[] Floats(ReadOnlySpan<double> values, TensorPrintOptions options, out int width)
    {
        double min = double.PositiveInfinity, max = 0;
        bool integers = true;
        foreach (double value in values)
        {
            if (!double.IsFinite(value) || value == 0)
                continue;
            min = Math.Min(min, Math.Abs(value));
            max = Math.Max(max, Math.Abs(value));
            integers &= value == Math.Truncate(value);
        }

        // A forced mode does not reach a tensor without finite nonzero values: PyTorch returns before it looks.
        bool scientific = max != 0 && (options.ScientificMode ?? (max / min > 1000 || max > 1e8 || min < 1e-4));
        width = 1;
        string[] texts = new string[values.Length];
        for (int i = 0; i < texts.Length; i++)
        {
            double value = values[i];
            texts[i] = scientific ? PythonText.Scientific(value, options.Precision)
                : !integers ? PythonText.Fixed(value, options.Precision)
                : PythonText.Fixed(value, 0) + (double.IsFinite(value) ? "." : "");
            if (double.IsFinite(value) && value != 0)
                width = Math.Max(width, texts[i].Length);
        }
        return Pad(texts, width);
    }

    /// <summary>Writes ints in the width of the widest.</summary>
    /// <param name="values">The elements that are shown.</param>
    /// <param name="width">The width of the widest.</param>
    /// <returns>One text per value, padded on the left.</returns>
    public static string[] Integers(ReadOnlySpan<long> values, out int width)
    {
        string[] texts = new string[values.Length];
        width = 1;
        for (int i = 0; i < texts.Length; i++)
        {
            texts[i] = values[i].ToString(CultureInfo.InvariantCulture);
            width = Math.Max(width, texts[i].Length);
        }
        return Pad(texts, width);
    }

    /// <summary>Writes bools; one False makes all five wide.</summary>
    /// <param name="values">The elements that are shown.</param>
    /// <param name="width">The width of the widest.</param>
    /// <returns>One text per value, padded on the left.</returns>
    public static string[] Bools(ReadOnlySpan<bool> values, out int width)
    {
        string[] texts = new string[values.Length];
        width = values.Contains(false) ? 5 : 4;
        for (int i = 0; i < texts.Length; i++)
            texts[i] = PythonText.Bool(values[i]);
        return Pad(texts, width);
    }

    /// <summary>Lays texts out in nested brackets, with line breaks, indentation and the dots of a summary.</summary>
    /// <param name="text">Where to write; what it holds already sets the indentation.</param>
    /// <param name="texts">The shown elements, in row-major order.</param>
    /// <param name="width">Their common width, which decides how many fit in a line.</param>
    /// <param name="lengths">The shape of the whole tensor, of rank 1 or more.</param>
    /// <param name="summarize">Whether long dimensions show their edges only.</param>
    /// <param name="options">The line width and the count of edge items are read.</param>
    public static void Layout(StringBuilder text, ReadOnlySpan<string> texts, int width, ReadOnlySpan<nint> lengths,
        bool summarize, TensorPrintOptions options)
    {
        int perLine = Math.Max(1, (options.LineWidth - text.Length - (lengths.Length - 1)) / (width + 2));
        Dimension(text, ref texts, perLine, lengths, text.Length, summarize, options);
    }

    /// <summary>Gives how many items of a dimension a summary keeps on each side.</summary>
    /// <param name="length">The length of the dimension.</param>
    /// <param name="summarize">Whether the tensor is summarized at all.</param>
    /// <param name="options">The count of edge items is read.</param>
    /// <returns>The items on each side, or null when all items are shown.</returns>
    public static int? Edge(nint length, bool summarize, TensorPrintOptions options)
        => summarize && length > 2L * options.EdgeItems ? options.EdgeItems : null;

    private static void Dimension(StringBuilder text, ref ReadOnlySpan<string> texts, int perLine, ReadOnlySpan<nint> lengths,
        int indent, bool summarize, TensorPrintOptions options)
    {
        int? edge = Edge(lengths[0], summarize, options);
        nint shown = edge is int e ? ((nint)e * 2) + 1 : lengths[0];
        bool row = lengths.Length == 1;
        text.Append('[');
        for (nint i = 0; i < shown; i++)
        {
            if (i > 0 && row && i % perLine != 0)
                text.Append(", ");
            else if (i > 0)
                text.Append(',').Append('\n', row ? 1 : lengths.Length - 1).Append(' ', indent + 1);
            if (i == edge)
                text.Append(row && edge > 0 ? " ..." : "...");
            else if (!row)
                Dimension(text, ref texts, perLine, lengths[1..], indent + 1, summarize, options);
            else
            {
                text.Append(texts[0]);
                texts = texts[1..];
            }
        }
        text.Append(']');
    }

    private static string[] Pad(string[] texts, int width)
    {
        for (int i = 0; i < texts.Length; i++)
            texts[i] = texts[i].PadLeft(width);
        return texts;
    }
}
