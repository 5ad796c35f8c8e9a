using System.Globalization;
using NormLayers.IO;

namespace NormLayers.Cli;

/// <summary>Lines of a label and a value, the values below each other; and how numbers and shapes are written in them.</summary>
internal sealed class Report
{
    private readonly List<(string Label, string Value)> lines = [];

    public void Add(string label, string value) => lines.Add((label, value));

    public void WriteTo(TextWriter output)
    {
        int width = lines.Max(line => line.Label.Length) + 2;
        foreach ((string label, string value) in lines)
            output.WriteLine(label.PadRight(width) + value);
    }

    public static string Describe(NpyFile file) => $"{file.Path}, shape {Shape(file.Shape)}, {file.ElementType.TorchName()}";

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
