using System.Globalization;
using NormLayers.IO;

namespace NormLayers.Cli;

/// <summary>Lines of a label and a value, the values below each other; and how numbers and shapes are written in them.</summary>
internal sealed class Report
{
    private readonly List<(string Label, string Value)> lines = [];

    /// <summary>A value may have names out of a file, which must not reach a terminal as they are.</summary>
    public void Add(string label, string value) => lines.Add((label, Cli.OneLine(value)));

    public void WriteTo(TextWriter output) => WriteColumns(output, lines.ConvertAll(static line => new[] { line.Label, line.Value }));

    public static void WriteColumns(TextWriter output, IReadOnlyList<string[]> rows)
    {
        foreach (string line in Columns(rows))
            output.WriteLine(line);
    }

    /// <summary>A line for each row of as many cells, each column as wide as its widest.</summary>
    public static IEnumerable<string> Columns(IReadOnlyList<string[]> rows)
    {
        int[] widths = [.. Enumerable.Range(0, rows[0].Length).Select(column => rows.Max(row => row[column].Length) + 2)];
        return rows.Select(row => string.Concat(row.Select((cell, column) => cell.PadRight(widths[column]))).TrimEnd());
    }

    /// <summary>The values of some labels in one line.</summary>
    public string Line(params string[] labels) => string.Join("; ", lines.Where(line => labels.Contains(line.Label)).Select(line => line.Value));

    public static string Describe(InputArray array) => $"{array.Name}, shape {Shape(array.Shape)}, {array.ElementType.TorchName()}";

    /// <summary>A shape or an index as Python prints it.</summary>
    public static string Shape(IReadOnlyList<long> lengths)
        => $"({string.Join(", ", lengths)}{(lengths.Count == 1 ? "," : "")})";

    public static string Count(long count) => count.ToString("N0", CultureInfo.InvariantCulture);

    public static string Number(double value) => value.ToString("g6", CultureInfo.InvariantCulture);

    public static string Large(double value) => value switch
    {
        >= 1e9 => FormattableString.Invariant($"{value / 1e9:G3} billion"),
        >= 1e6 => FormattableString.Invariant($"{value / 1e6:G3} million"),
        >= 1e3 => FormattableString.Invariant($"{value / 1e3:G3} thousand"),
        _ => FormattableString.Invariant($"{value:G3}"),
    };

    public static string Time(TimeSpan time) => time.TotalSeconds >= 1
        ? FormattableString.Invariant($"{time.TotalSeconds:F2} s")
        : FormattableString.Invariant($"{time.TotalMilliseconds:F2} ms");
}
