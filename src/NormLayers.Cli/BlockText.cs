using Spectre.Console;

namespace NormLayers.Cli;

/// <summary>A block of cubes in characters: the first sample in front, the others behind it, up and to the right.</summary>
internal static class BlockText
{
    // As wide as the labels of the report above the picture.
    private const int LeastIndent = 12;

    public static void Write(TextWriter output, Block block)
    {
        bool terminal = ReferenceEquals(output, Console.Out) && !Console.IsOutputRedirected;
        foreach (string line in Lines(block))
        {
            if (terminal)
                AnsiConsole.MarkupLine(Coloured(Markup.Escape(line)));
            else
                output.WriteLine(line);
        }
    }

    internal static IEnumerable<string> Lines(Block block)
    {
        (int depth, int width, int height) = (block.Depth.Cubes, block.Width.Cubes, block.Height.Cubes);
        int indent = Math.Max(LeastIndent, block.Height.Label.Length + 1);
        var canvas = new char[depth - 1 + height][];
        for (int y = 0; y < canvas.Length; y++)
        {
            canvas[y] = new char[2 * (width + depth - 1)];
            Array.Fill(canvas[y], ' ');
        }
        // Each sample hides what of the one behind it is not further up or to the right.
        for (int n = depth - 1; n >= 0; n--)
        {
            for (int p = 0; p < height; p++)
            {
                for (int c = 0; c < width; c++)
                    canvas[depth - 1 - n + p][2 * (c + n)] = Character(block.At(n, c, p), front: n == 0);
            }
        }

        for (int y = 0; y < canvas.Length; y++)
        {
            string label = y == depth - 1 + ((height - 1) / 2) ? block.Height.Label : "";
            string right = y == 0 && depth > 1 ? $"  {block.Depth.Label}" : "";
            yield return label.PadRight(indent) + new string(canvas[y]).TrimEnd() + right;
        }
        yield return new string(' ', indent) + block.Width.Label + (depth == 1 && block.Depth.Label.Length > 0 ? $", {block.Depth.Label}" : "");
        bool window = block.Width.Center is not null;
        yield return "";
        yield return window ? "\u25c6 the element, \u25a0 the rest of its window" : "\u25a0 share statistics";
        foreach (string note in block.Notes)
            yield return note;
    }

    private static char Character(Block.Cube cube, bool front) => cube switch
    {
        Block.Cube.Shared => '\u25a0',
        Block.Cube.Center => '\u25c6',
        _ => front ? '\u25a1' : '\u00b7',
    };

    private static string Coloured(string line) => line
        .Replace("\u25a0", "[deepskyblue1]\u25a0[/]", StringComparison.Ordinal)
        .Replace("\u25c6", "[orange1]\u25c6[/]", StringComparison.Ordinal);
}
