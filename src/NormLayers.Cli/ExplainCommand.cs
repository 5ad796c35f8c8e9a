using System.CommandLine;
using System.Globalization;
using System.Numerics.Tensors;
using NormLayers.IO;

namespace NormLayers.Cli;

/// <summary><c>normlayers explain</c>: what a layer does to an input of a shape, in words and as a picture.</summary>
internal static class ExplainCommand
{
    public const string Example = """
        Example, the fourth block of the figure in the Group Normalization paper:
          normlayers explain "GroupNorm(3, 6)" --shape 20,6,10,10 --svg group-norm.svg

        The layer is as for normlayers run. Bytes are those of input and output, each touched once, in float32.
        Exit code: 0 done, 2 refused.
        """;

    public static Command Create()
    {
        Argument<string> layer = Inputs.Argument("LAYER", "The layer as PyTorch prints it, or the Python call: \"nn.GroupNorm(3, 6)\".");
        Option<string> shape = Inputs.Text("--shape", "N,C,...", "The input's shape.", required: true);
        Option<string> svg = Inputs.Text("--svg", "FILE.svg", "Draw the picture into this file too; it appears whole or not at all.");
        var force = new Option<bool>("--force") { Description = "Replace --svg if it exists." };
        var command = new Command("explain", "Says what a layer normalizes together, and what it costs.") { layer, shape, svg, force };
        command.SetAction(parsed => Run(
            parsed.GetRequiredValue(layer),
            parsed.GetRequiredValue(shape),
            parsed.GetValue(svg),
            parsed.GetValue(force),
            parsed.InvocationConfiguration.Output));
        return command;
    }

    private static int Run(string text, string shapeText, string? svg, bool force, TextWriter output)
    {
        NormLayer<float> layer = RunCommand.Parse<float>(text);
        nint[] lengths = ParseShape(shapeText, out long count);
        RefuseShape(layer, shapeText, lengths);
        long[] shape = Array.ConvertAll(lengths, static length => (long)length);
        Explanation explanation = Explanation.Of(layer, shape);
        var block = new Block(explanation, shape);
        long groups = explanation.Groups(shape);
        string what = explanation.Center is null ? "group" : "window";
        string size = explanation.Center is null ? "" : "up to ";
        string elements = Explanation.Count(explanation.Group.Aggregate(1L, (product, length) => product * length), "element");
        if (svg is not null)
        {
            Refused.IfThereIs(svg, force);
            using NewFile file = NewFile.Create(svg, length: null, overwrite: force);
            file.Stream.Write(BlockSvg.Draw(block, layer.ToString(), $"Input {Report.Shape(shape)}: {Explanation.Count(groups, what)} of {size}{elements}"));
            file.Commit();
        }

        string bytes = Report.Count(checked(count * sizeof(float))), twice = Report.Count(checked(2 * count * sizeof(float)));
        var report = new Report();
        report.Add("layer", layer.ToString());
        report.Add("formula", explanation.Formula);
        report.Add("input", $"{Report.Shape(shape)} as ({string.Join(", ", explanation.Dimensions)}{(shape.Length == 1 ? "," : "")}): {Explanation.Count(count, "element")}");
        report.Add("together", explanation.Together);
        report.Add(what + "s", $"{Report.Count(groups)}, each of {size}{elements}");
        report.Add("statistics", explanation.Statistics);
        report.Add("affine", explanation.Affine);
        report.Add("bytes", $"forward reads {bytes} and writes {bytes}; backward reads {twice} and writes {bytes}");
        report.Add("PyTorch", $"torch.nn.{TorchCall(layer)}; functional.{explanation.TorchFunction}");
        report.Add("ONNX", explanation.Onnx);
        if (svg is not null)
            report.Add("picture", svg);
        report.WriteTo(output);
        output.WriteLine();
        BlockText.Write(output, block);
        return Cli.Done;
    }

    /// <summary>Lets the layer itself refuse a shape: it checks its input before its destination, and here it gets none.</summary>
    private static void RefuseShape(NormLayer<float> layer, string text, nint[] lengths)
    {
        // All elements are one: the shape costs no memory.
        float[] element = [0];
        try
        {
            layer.Forward(new ReadOnlyTensorSpan<float>(element, 0, lengths, new nint[lengths.Length]), default);
        }
        catch (ArgumentException refused) when (refused.ParamName != "destination")
        {
            throw Refused.Of($"--shape {text}", refused);
        }
        catch (ArgumentException)
        {
            // The input is accepted.
        }
    }

    private static nint[] ParseShape(string text, out long count)
    {
        string[] parts = text.Trim().TrimStart('(', '[').TrimEnd(')', ']').TrimEnd(',').Split(',');
        var lengths = new nint[parts.Length];
        for (int i = 0; i < parts.Length; i++)
        {
            if (!nint.TryParse(parts[i].Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out lengths[i]) || lengths[i] == 0)
                throw new Refused($"--shape is '{text}'; lengths of one or more with commas between are needed, such as 20,6,10,10.");
        }
        // Twice the bytes of the elements are counted too.
        if (lengths.Length > Shapes.MaxRank || !Shapes.TryCount(lengths, 2 * sizeof(float), out count))
            throw new Refused($"--shape is '{text}'; accepted are at most {Shapes.MaxRank} dimensions and as many elements as can be counted.");
        return lengths;
    }

    /// <summary>PyTorch's constructor call. The printed form leaves out that a LayerNorm has no bias, and has what PyTorch does not know.</summary>
    private static string TorchCall(NormLayer<float> layer)
    {
        string call = layer.ToString()!;
        return layer switch
        {
            LayerNorm<float> norm => call.Replace($", axis={norm.Axis}", "", StringComparison.Ordinal)[..^1] + (norm is { Weight: not null, Bias: null } ? ", bias=False)" : ")"),
            RMSNorm<float> norm => call.Replace($", axis={norm.Axis}", "", StringComparison.Ordinal),
            LocalResponseNorm<float> => call.Replace(", window='onnx'", "", StringComparison.Ordinal),
            _ => call,
        };
    }
}
