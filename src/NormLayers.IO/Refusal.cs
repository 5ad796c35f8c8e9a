using System.Text;

namespace NormLayers.IO;

/// <summary>One line for each refusal: the path, then what was wrong.</summary>
internal static class Refusal
{
    private const int LongestQuote = 80;

    public static InvalidDataException Of(string path, string what) => new($"{path}: {what}");

    /// <summary>Quotes text out of a file, so that neither its length nor its control characters reach a terminal.</summary>
    public static string Quote(ReadOnlySpan<char> text)
    {
        var quoted = new StringBuilder("'");
        foreach (char c in text[..Math.Min(text.Length, LongestQuote)])
            quoted.Append(char.IsControl(c) || char.IsSurrogate(c) || c is '\u2028' or '\u2029' ? '?' : c);
        return quoted.Append(text.Length > LongestQuote ? "...'" : "'").ToString();
    }
}
