using System.Globalization;
using System.Text;

namespace NormLayers.Benchmarks;

/// <summary>A bar chart of the time of each case as a multiple of the copy's: two bars a case, forward and backward.</summary>
internal static class Chart
{
    private const int Width = 860, Labels = 250, Top = 58, Row = 30, Bar = 11, Bottom = 16, Values = 60;
    private const double LongestBar = 10;

    public static void Write(string path, IReadOnlyList<Comparison> comparisons)
    {
        // One thread is what the rest of the text speaks of, where it was measured.
        int threads = comparisons.Count == 0 ? 1 : comparisons.Min(comparison => comparison.Ours.Threads);
        List<IGrouping<(string Op, string Case), Comparison>> cases = [.. comparisons.Where(comparison => comparison.Ours.Threads == threads)
            .GroupBy(comparison => (comparison.Ours.Op, comparison.Ours.Case))];
        double longest = Math.Clamp(comparisons.Select(comparison => Math.Ceiling(comparison.ToCopy)).DefaultIfEmpty(1).Max(), 2, LongestBar);
        double scale = (Width - Labels - Values) / longest;
        int height = Top + cases.Count * Row + Bottom;

        var svg = new StringBuilder();
        Add(svg, $"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{Width}\" height=\"{height}\" viewBox=\"0 0 {Width} {height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">");
        Add(svg, $"<rect width=\"{Width}\" height=\"{height}\" fill=\"#fff\"/>");
        Add(svg, $"<text x=\"12\" y=\"20\" font-size=\"14\" font-weight=\"bold\">Time as a multiple of a copy of the same bytes (float32, {threads} thread{(threads == 1 ? "" : "s")}; shorter is better)</text>");
        Add(svg, $"<rect x=\"{Labels}\" y=\"30\" width=\"11\" height=\"11\" fill=\"{Color(Result.ForwardPass)}\"/><text x=\"{Labels + 16}\" y=\"40\">forward</text>");
        Add(svg, $"<rect x=\"{Labels + 80}\" y=\"30\" width=\"11\" height=\"11\" fill=\"{Color(Result.BackwardPass)}\"/><text x=\"{Labels + 96}\" y=\"40\">backward, all gradients</text>");
        for (int tick = 0; tick <= longest; tick++)
        {
            double x = Labels + tick * scale;
            Add(svg, $"<line x1=\"{x:F1}\" y1=\"{Top - 4}\" x2=\"{x:F1}\" y2=\"{height - Bottom}\" stroke=\"{(tick == 1 ? "#222" : "#ddd")}\"/>");
            Add(svg, $"<text x=\"{x:F1}\" y=\"{height - 3}\" text-anchor=\"middle\" font-size=\"11\">{(tick == 1 ? "copy" : tick)}</text>");
        }
        for (int i = 0; i < cases.Count; i++)
        {
            int y = Top + i * Row;
            Add(svg, $"<text x=\"{Labels - 8}\" y=\"{y + 16}\" text-anchor=\"end\">{cases[i].Key.Op} {cases[i].Key.Case.Replace('_', ' ')}</text>");
            foreach (Comparison comparison in cases[i])
                AddBar(svg, comparison, y + (comparison.Ours.Pass == Result.ForwardPass ? 1 : 1 + Bar + 1), scale, longest);
        }
        svg.Append("</svg>\n");
        File.WriteAllText(path, svg.ToString());
    }

    /// <summary>A bar longer than the chart is cut; its number says how long it is.</summary>
    private static void AddBar(StringBuilder svg, Comparison comparison, int y, double scale, double longest)
    {
        double length = Math.Min(comparison.ToCopy, longest) * scale;
        Add(svg, $"<rect x=\"{Labels}\" y=\"{y}\" width=\"{length:F1}\" height=\"{Bar}\" fill=\"{Color(comparison.Ours.Pass)}\"/>");
        Add(svg, $"<text x=\"{Labels + length + 4:F1}\" y=\"{y + 10}\" font-size=\"11\">{comparison.ToCopy:F2}{(comparison.ToCopy > longest ? " →" : "")}</text>");
    }

    private static string Color(string pass) => pass == Result.ForwardPass ? "#2f6db5" : "#e08a2c";

    private static void Add(StringBuilder svg, FormattableString line) => svg.Append(line.ToString(CultureInfo.InvariantCulture)).Append('\n');
}
