using System.Globalization;
using System.Text;

namespace NormLayers.Benchmarks;

/// <summary>
/// A bar chart of the time of each case as a multiple of the copy's, in two columns: a block an operator, a line a case, and in it a bar for
/// forward and one for backward, with a mark at the goal.
/// </summary>
internal sealed class Chart
{
    private const int ColumnWidth = 440, Top = 74, Margin = 14, Labels = 156, Values = 52, Head = 24, Line = 23, Bar = 9, Gap = 10;
    private const double Longest = 5, Scale = (ColumnWidth - Margin - Labels - Values) / Longest;

    private readonly StringBuilder svg = new();
    private readonly Goals goals;

    private Chart(Goals goals) => this.goals = goals;

    /// <summary>Of several numbers of threads the smallest is drawn.</summary>
    public static void Write(string path, IReadOnlyList<Comparison> comparisons, Goals goals)
    {
        int threads = comparisons.Count == 0 ? 1 : comparisons.Min(comparison => comparison.Ours.Threads);
        List<Block> blocks = [.. comparisons.Where(comparison => comparison.Ours.Threads == threads).GroupBy(comparison => comparison.Ours.Op)
            .Select(op => new Block(op.Key, [.. op.GroupBy(comparison => (comparison.Ours.Case, comparison.Ours.Dtype)).Select(passes => passes.ToList())]))];
        File.WriteAllText(path, new Chart(goals).Draw(blocks, threads));
    }

    private string Draw(List<Block> blocks, int threads)
    {
        int left = LeftColumn(blocks), height = Top + Math.Max(blocks.Take(left).Sum(block => block.Height), blocks.Skip(left).Sum(block => block.Height)) + Margin;
        Add($"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{2 * ColumnWidth}\" height=\"{height}\" viewBox=\"0 0 {2 * ColumnWidth} {height}\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"11\" fill=\"#24292f\" role=\"img\">");
        Add($"<rect width=\"{2 * ColumnWidth}\" height=\"{height}\" fill=\"#fff\"/>");
        Add($"<text x=\"{Margin}\" y=\"24\" font-size=\"15\" font-weight=\"bold\">Time as a multiple of a copy of the same bytes</text>");
        Add($"<text x=\"{Margin}\" y=\"40\" fill=\"#57606a\">{threads} thread{(threads == 1 ? "" : "s")}; float32 unless said; shorter is better, 1 is the speed of memory or cache</text>");
        DrawLegend();
        for (int column = 0; column < 2; column++)
        {
            int x = column * ColumnWidth, y = Top;
            foreach (Block block in column == 0 ? blocks.Take(left) : blocks.Skip(left))
            {
                DrawBlock(block, x, y);
                y += block.Height;
            }
        }
        svg.Append("</svg>\n");
        return svg.ToString();
    }

    /// <summary>How many blocks stand in the left column, so that the columns are as equal as can be.</summary>
    private static int LeftColumn(List<Block> blocks)
    {
        int total = blocks.Sum(block => block.Height);
        return Enumerable.Range(0, blocks.Count + 1).MinBy(count => Math.Abs(2 * blocks.Take(count).Sum(block => block.Height) - total));
    }

    private void DrawLegend()
    {
        int x = Margin;
        foreach (string pass in new[] { Result.ForwardPass, Result.BackwardPass })
        {
            Add($"<rect x=\"{x}\" y=\"51\" width=\"11\" height=\"11\" rx=\"1\" fill=\"{Color(pass)}\"/><text x=\"{x + 16}\" y=\"60\">{(pass == Result.ForwardPass ? "forward" : "backward, all gradients")}</text>");
            x += pass == Result.ForwardPass ? 76 : 156;
        }
        Add($"<line x1=\"{x}\" y1=\"49\" x2=\"{x}\" y2=\"63\" stroke=\"#1a7f37\" stroke-width=\"2\"/><text x=\"{x + 7}\" y=\"60\">goal (<tspan fill=\"#cf222e\">missed</tspan>)</text>");
        Add($"<rect x=\"{x + 96}\" y=\"50\" width=\"20\" height=\"13\" fill=\"#eaeef2\"/><text x=\"{x + 122}\" y=\"60\">the output does not fit the last-level cache</text>");
    }

    private void DrawBlock(Block block, int x, int y)
    {
        int zero = x + Margin + Labels, lines = y + Head, end = lines + block.Cases.Count * Line;
        Add($"<text x=\"{x + Margin}\" y=\"{y + 17}\" font-size=\"12\" font-weight=\"bold\">{block.Op}</text>");
        for (int i = 0; i < block.Cases.Count; i++)
        {
            if (goals.CaseOf(block.Cases[i][0].Ours) is { } benchmark && goals.IsOutOfCache(benchmark))
                Add($"<rect x=\"{x + Margin}\" y=\"{lines + i * Line}\" width=\"{ColumnWidth - 2 * Margin + 8}\" height=\"{Line}\" fill=\"#eaeef2\"/>");
        }
        for (int tick = 0; tick <= Longest; tick++)
        {
            double at = zero + tick * Scale;
            Add($"<line x1=\"{at:F1}\" y1=\"{lines - 2}\" x2=\"{at:F1}\" y2=\"{end}\" stroke=\"{(tick <= 1 ? "#57606a" : "#d0d7de")}\" stroke-width=\"{(tick == 1 ? 1.2 : 0.8)}\"/>");
            Add($"<text x=\"{at:F1}\" y=\"{lines - 5}\" text-anchor=\"middle\" font-size=\"9\" fill=\"#57606a\">{(tick == 1 ? "copy" : $"{tick}")}</text>");
        }
        for (int i = 0; i < block.Cases.Count; i++)
            DrawCase(block.Cases[i], zero, lines + i * Line);
    }

    private void DrawCase(List<Comparison> passes, int zero, int y)
    {
        Result ours = passes[0].Ours;
        Add($"<text x=\"{zero - 6}\" y=\"{y + 15}\" text-anchor=\"end\">{Label(ours)}</text>");
        double? limit = goals.CaseOf(ours) is { } benchmark ? goals.ToCopy(benchmark).Limit : null;
        foreach (Comparison comparison in passes)
            Add($"<rect x=\"{zero}\" y=\"{y + TopOf(comparison)}\" width=\"{LengthOf(comparison):F1}\" height=\"{Bar}\" rx=\"1\" fill=\"{Color(comparison.Ours.Pass)}\"/>");
        if (limit is { } goal)
            Add($"<line x1=\"{zero + goal * Scale:F1}\" y1=\"{y + 1}\" x2=\"{zero + goal * Scale:F1}\" y2=\"{y + Line - 1}\" stroke=\"#1a7f37\" stroke-width=\"2\"/>");
        foreach (Comparison comparison in passes)
        {
            // A bar longer than the chart is cut; its number says how long it is.
            string text = string.Create(CultureInfo.InvariantCulture, $"{comparison.ToCopy:F2}{(comparison.ToCopy > Longest ? " →" : "")}");
            Add($"<text x=\"{zero + LengthOf(comparison) + 3:F1}\" y=\"{y + TopOf(comparison) + 8}\" font-size=\"9.5\" stroke=\"#fff\" stroke-width=\"2\" paint-order=\"stroke\"{(comparison.ToCopy > limit ? " fill=\"#cf222e\"" : "")}>{text}</text>");
        }
    }

    private static int TopOf(Comparison comparison) => comparison.Ours.Pass == Result.ForwardPass ? 2 : 3 + Bar;

    private static double LengthOf(Comparison comparison) => Math.Min(comparison.ToCopy, Longest) * Scale;

    /// <summary>The shape, then what is cut or counted, then the element type: "1×320×64×64 g32 bf16".</summary>
    private static string Label(Result result)
    {
        string[] parts = result.Case.Split('_');
        // The normalized length where it is not the last dimension's: for LayerNorm it is in the name too.
        IEnumerable<string> more = parts.Skip(1).Where(part => part[0] != 'n' || !parts[0].EndsWith($"x{part[1..]}", StringComparison.Ordinal)).Select(part => part.Replace("b0", "β 0", StringComparison.Ordinal));
        return string.Join(' ', [parts[0].Replace('x', '×'), .. more, .. result.Dtype == BenchmarkCase.Float ? [] : new[] { result.Dtype }]);
    }

    private static string Color(string pass) => pass == Result.ForwardPass ? "#2f6db5" : "#e08a2c";

    private void Add(FormattableString line) => svg.Append(line.ToString(CultureInfo.InvariantCulture)).Append('\n');

    private sealed record Block(string Op, List<List<Comparison>> Cases)
    {
        public int Height => Head + Cases.Count * Line + Gap;
    }
}
