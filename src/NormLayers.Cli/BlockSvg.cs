using System.Globalization;
using System.Text;
using System.Xml;

namespace NormLayers.Cli;

/// <summary>A block of cubes as an SVG picture, seen from above one of its edges: the channels lead to the left, the samples to the right.</summary>
internal sealed class BlockSvg
{
    private const double Edge = 30;
    private const double Margin = 28;
    private const double LineHeight = 22;
    private const double CharacterWidth = 8;
    private const double BoldWidth = 1.15;
    private const double AxisGap = 16;
    private const string Ink = "#2b3440";

    // Top, left and right face: the light comes from above.
    private static readonly string[] Other = ["#fbfcfd", "#eceff4", "#dde3ea"];
    private static readonly string[] Shared = ["#8ec5ff", "#4c9be8", "#2f78c4"];
    private static readonly string[] Center = ["#ffd08a", "#f5a83b", "#d9871a"];

    private static readonly double Across = Edge * Math.Cos(Math.PI / 6);
    private static readonly double Along = Edge * Math.Sin(Math.PI / 6);

    private readonly Block block;
    private readonly XmlWriter xml;
    private readonly double originX;
    private readonly double originY;

    private BlockSvg(Block block, XmlWriter xml, double originX, double originY)
        => (this.block, this.xml, this.originX, this.originY) = (block, xml, originX, originY);

    /// <summary>Draws a block under a title and a line of words.</summary>
    public static byte[] Draw(Block block, string title, string words)
    {
        (int depth, int width, int height) = (block.Depth.Cubes, block.Width.Cubes, block.Height.Cubes);
        string[] notes = [.. block.Notes];
        double left = AxisGap + Math.Max((width * Across) + TextWidth(block.Height.Label), (width * Across / 2) + TextWidth(block.Width.Label));
        double right = Math.Max(depth * Across, (depth * Across / 2) + AxisGap + TextWidth(block.Depth.Label));
        double text = Math.Max(TextWidth(title) * BoldWidth, notes.Append(words).Max(TextWidth));
        double pictureWidth = Math.Max(left + right, text) + (2 * Margin);
        double blockTop = Margin + (2 * LineHeight) + AxisGap;
        double blockHeight = ((depth + width) * Along) + (height * Edge);
        double legendTop = blockTop + blockHeight + (2 * AxisGap) + LineHeight;
        double pictureHeight = legendTop + (LineHeight * notes.Length) + Margin;

        using var buffer = new MemoryStream();
        using (XmlWriter xml = XmlWriter.Create(buffer, new XmlWriterSettings { Indent = true, Encoding = new UTF8Encoding(false), NewLineChars = "\n" }))
        {
            xml.WriteStartElement("svg", "http://www.w3.org/2000/svg");
            xml.WriteAttributeString("width", Number(pictureWidth));
            xml.WriteAttributeString("height", Number(pictureHeight));
            xml.WriteAttributeString("viewBox", $"0 0 {Number(pictureWidth)} {Number(pictureHeight)}");
            xml.WriteAttributeString("font-family", "Helvetica, Arial, sans-serif");
            xml.WriteAttributeString("font-size", "14");
            xml.WriteAttributeString("fill", Ink);
            xml.WriteElementString("title", title);
            xml.WriteStartElement("rect");
            xml.WriteAttributeString("width", "100%");
            xml.WriteAttributeString("height", "100%");
            xml.WriteAttributeString("fill", "#ffffff");
            xml.WriteEndElement();

            double originX = (pictureWidth + left - right) / 2;
            var picture = new BlockSvg(block, xml, originX, blockTop + ((depth + width) * Along));
            picture.Text(Margin, Margin + 12, title, "start", bold: true);
            picture.Text(Margin, Margin + 12 + LineHeight, words, "start");
            picture.Faces();
            picture.AxisLabels();
            picture.Legend(legendTop);
            for (int i = 0; i < notes.Length; i++)
                picture.Text(Margin, legendTop + ((i + 1) * LineHeight), notes[i], "start");
            xml.WriteEndElement();
        }
        return buffer.ToArray();
    }

    private void Faces()
    {
        (int depth, int width, int height) = (block.Depth.Cubes, block.Width.Cubes, block.Height.Cubes);
        xml.WriteStartElement("g");
        xml.WriteAttributeString("stroke", Ink);
        xml.WriteAttributeString("stroke-width", "1");
        xml.WriteAttributeString("stroke-linejoin", "round");
        for (int n = 0; n < depth; n++)
        {
            for (int c = 0; c < width; c++)
                Face(0, block.At(n, c, 0), (n, c, 0), (n + 1, c, 0), (n + 1, c + 1, 0), (n, c + 1, 0));
        }
        for (int p = 0; p < height; p++)
        {
            for (int c = 0; c < width; c++)
                Face(1, block.At(0, c, p), (0, c, p), (0, c + 1, p), (0, c + 1, p + 1), (0, c, p + 1));
            for (int n = 0; n < depth; n++)
                Face(2, block.At(n, 0, p), (n, 0, p), (n + 1, 0, p), (n + 1, 0, p + 1), (n, 0, p + 1));
        }
        xml.WriteEndElement();
    }

    private void Face(int face, Block.Cube cube, params (double N, double C, double P)[] corners)
    {
        xml.WriteStartElement("polygon");
        xml.WriteAttributeString("points", string.Join(' ', corners.Select(corner => $"{Number(X(corner.N, corner.C))},{Number(Y(corner.N, corner.C, corner.P))}")));
        xml.WriteAttributeString("fill", Colours(cube)[face]);
        xml.WriteEndElement();
    }

    private void AxisLabels()
    {
        (int depth, int width, int height) = (block.Depth.Cubes, block.Width.Cubes, block.Height.Cubes);
        Text(X(0, width / 2.0) - AxisGap, Y(0, width / 2.0, height) + AxisGap, block.Width.Label, "end");
        Text(X(depth / 2.0, 0) + AxisGap, Y(depth / 2.0, 0, height) + AxisGap, block.Depth.Label, "start");
        Text(X(0, width) - AxisGap, Y(0, width, height / 2.0) + 5, block.Height.Label, "end");
    }

    private void Legend(double top)
    {
        double x = Margin;
        bool window = block.Width.Center is not null;
        foreach ((string[] colours, string text) in new[] { (Center, "the element"), (Shared, window ? "the rest of its window" : "share statistics"), (Other, "the others") })
        {
            if (colours == Center && !window)
                continue;
            xml.WriteStartElement("rect");
            xml.WriteAttributeString("x", Number(x));
            xml.WriteAttributeString("y", Number(top - 12));
            xml.WriteAttributeString("width", "14");
            xml.WriteAttributeString("height", "14");
            xml.WriteAttributeString("fill", colours[1]);
            xml.WriteAttributeString("stroke", Ink);
            xml.WriteEndElement();
            Text(x + 21, top, text, "start");
            x += 21 + TextWidth(text) + 16;
        }
    }

    private void Text(double x, double y, string text, string anchor, bool bold = false)
    {
        if (text.Length == 0)
            return;
        xml.WriteStartElement("text");
        xml.WriteAttributeString("x", Number(x));
        xml.WriteAttributeString("y", Number(y));
        xml.WriteAttributeString("text-anchor", anchor);
        if (bold)
            xml.WriteAttributeString("font-weight", "bold");
        xml.WriteString(text);
        xml.WriteEndElement();
    }

    /// <summary>About as wide as a text is: what draws the picture chooses its font.</summary>
    private static double TextWidth(string text) => text.Length * CharacterWidth;

    private double X(double n, double c) => originX + ((n - c) * Across);

    private double Y(double n, double c, double p) => originY - ((n + c) * Along) + (p * Edge);

    private static string[] Colours(Block.Cube cube) => cube switch
    {
        Block.Cube.Shared => Shared,
        Block.Cube.Center => Center,
        _ => Other,
    };

    private static string Number(double value) => value.ToString("0.##", CultureInfo.InvariantCulture);
}
