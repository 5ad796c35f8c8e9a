using System.CommandLine;
using System.Text.Encodings.Web;
using System.Text.Json;
using NormLayers.IO;
using Spectre.Console;

namespace NormLayers.Cli;

/// <summary><c>normlayers inspect</c>: the normalization layers of a model file, and what is wrong with them.</summary>
internal static class InspectCommand
{
    public const string Example = """
        Example:
          normlayers inspect examples/data/ppocr-v4-rec/parameters.safetensors
          normlayers inspect model.onnx --json

        A line for each parameter: range, mean, how many are below 1e-6 in magnitude, how many are NaN or infinite.
        What a file does not tell (LayerNorm or RMSNorm, the number of groups, eps) is said to be unknown.
        Exit code: 0 done, whatever is wrong with the layers; 2 refused.
        """;

    private sealed record Found(ModelLayer Layer, IReadOnlyList<(ModelParameter Parameter, ParameterStatistics? Statistics)> Parameters, IReadOnlyList<string> Problems);

    public static Command Create(CancellationToken cancellation)
    {
        Argument<string> file = Inputs.Argument("FILE", "A model: FILE.onnx or FILE.safetensors.");
        var json = new Option<bool>("--json") { Description = "Writes JSON instead of a table." };
        var command = new Command("inspect", "Lists the normalization layers of a model file.") { file, json };
        command.SetAction(parsed => Run(parsed.GetRequiredValue(file), parsed.GetValue(json), parsed.InvocationConfiguration.Output, cancellation));
        return command;
    }

    private static int Run(string path, bool json, TextWriter output, CancellationToken cancellation)
    {
        if (InputArray.HasExtension(path, ".onnx"))
        {
            OnnxModel model = OnnxModel.Load(path);
            string format = $"ONNX, opset {model.OpsetVersion}" + (model.Producer.Length == 0 ? "" : $", made by {Printable(model.Producer)}");
            Write(path, format, Read(path, model.NormalizationNodes, cancellation), json, output);
        }
        else if (InputArray.HasExtension(path, ".safetensors"))
        {
            using Checkpoint checkpoint = Checkpoint.Open(path);
            Write(path, "safetensors", Read(path, checkpoint.Layers, cancellation), json, output);
        }
        else
        {
            throw new Refused($"{path}: is neither .onnx nor .safetensors; accepted are these two.");
        }
        return Cli.Done;
    }

    private static List<Found> Read(string path, IEnumerable<ModelLayer> layers, CancellationToken cancellation)
    {
        var found = new List<Found>();
        foreach (ModelLayer layer in layers)
        {
            cancellation.ThrowIfCancellationRequested();
            var parameters = new List<(ModelParameter Parameter, ParameterStatistics? Statistics)>();
            var unread = new List<string>();
            foreach (ModelParameter parameter in layer.Parameters)
            {
                try
                {
                    parameters.Add((parameter, parameter.ReadStatistics()));
                }
                catch (InvalidDataException cause)
                {
                    // The file's other layers are sound.
                    parameters.Add((parameter, null));
                    unread.Add($"{parameter.Role}: {(cause.Message.StartsWith($"{path}: ", StringComparison.Ordinal) ? cause.Message[(path.Length + 2)..] : cause.Message).TrimEnd('.')}");
                }
            }
            IReadOnlyList<string> problems = layer.FindProblems(parameters.Where(read => read.Statistics is not null).Select(read => (read.Parameter, read.Statistics!.Value)));
            found.Add(new Found(layer, parameters, [.. unread, .. problems]));
        }
        return found;
    }

    private static void Write(string path, string format, List<Found> layers, bool json, TextWriter output)
    {
        if (json)
            WriteJson(path, format, layers, output);
        else
            WriteTable(path, format, layers, output);
    }

    private static void WriteTable(string path, string format, List<Found> layers, TextWriter output)
    {
        int wrong = layers.Count(found => found.Problems.Count > 0);
        output.WriteLine($"{path}: {format}, {layers.Count} normalization {(layers.Count == 1 ? "layer" : "layers")}{(wrong == 0 ? "" : $", {wrong} with something wrong")}");
        foreach (IGrouping<string, Found> kind in layers.GroupBy(found => found.Layer.Kind))
            output.WriteLine($"{kind.Count(),6} {Printable(kind.Key)}");
        if (layers.Count == 0)
            return;

        // Names and what is said of a layer have lines to themselves, so that the numbers fit a terminal; their columns are those of all layers.
        using IEnumerator<string> parameters = Report.Columns([["parameter", "shape", "type", "range", "mean", "notable"], .. layers.SelectMany(found => found.Parameters).Select(Cells)]).GetEnumerator();
        output.WriteLine();
        WriteNext();
        foreach (Found found in layers)
        {
            output.WriteLine();
            // The name is the file's; the rest is this program's words, whole.
            output.WriteLine($"{Printable(found.Layer.Name)}  {Cli.OneLine(found.Layer.Text ?? found.Layer.Kind)}".Trim());
            if (found.Layer.Unknown is { } unknown)
                output.WriteLine($"  {Cli.OneLine(found.Layer is OnnxNormalization { IsLayer: false } ? $"only run takes it: it {unknown}" : $"not in the file: {unknown}")}");
            foreach (string problem in found.Problems)
                WriteWrong($"  wrong: {Cli.OneLine(problem)}");
            for (int i = 0; i < found.Parameters.Count; i++)
                WriteNext();
        }

        void WriteNext()
        {
            parameters.MoveNext();
            output.WriteLine($"  {parameters.Current}");
        }

        void WriteWrong(string line)
        {
            if (ReferenceEquals(output, Console.Out) && !Console.IsOutputRedirected)
                AnsiConsole.Console.WriteLine(line, new Style(Color.Red));
            else
                output.WriteLine(line);
        }
    }

    private static string[] Cells((ModelParameter Parameter, ParameterStatistics? Statistics) of)
    {
        (ModelParameter parameter, ParameterStatistics? read) = of;
        string[] known = [parameter.Role, Report.Shape(parameter.Shape), Printable(parameter.TypeName)];
        if (read is not { } statistics)
            return [.. known, "", "", ""];
        return
        [
            .. known,
            double.IsNaN(statistics.Min) || statistics.Count == 0 ? "" : $"{Report.Number(statistics.Min)} to {Report.Number(statistics.Max)}",
            double.IsNaN(statistics.Mean) || statistics.Count == 0 ? "" : Report.Number(statistics.Mean),
            string.Join(", ", new[] { (Count: statistics.NearZero, What: "near zero"), (Count: statistics.NonFinite, What: "not finite") }.Where(of => of.Count > 0).Select(of => $"{Report.Count(of.Count)} {of.What}")),
        ];
    }

    private static void WriteJson(string path, string format, List<Found> layers, TextWriter output)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            json.WriteString("file", path);
            json.WriteString("format", format);
            json.WriteStartArray("layers");
            foreach (Found found in layers)
                WriteLayer(json, found);
            json.WriteEndArray();
            json.WriteEndObject();
        }
        output.WriteLine(System.Text.Encoding.UTF8.GetString(buffer.GetBuffer(), 0, (int)buffer.Length));
    }

    private static void WriteLayer(Utf8JsonWriter json, Found found)
    {
        json.WriteStartObject();
        json.WriteString("name", found.Layer.Name);
        json.WriteString("kind", found.Layer.Kind);
        json.WriteString("layer", found.Layer.Text);
        json.WriteString("unknown", found.Layer.Unknown);
        if (found.Layer is OnnxNormalization node)
        {
            json.WriteString("operator", node.Operator);
            json.WriteBoolean("written_out", node.IsWrittenOut);
            WriteStrings(json, "inputs", node.Inputs);
            WriteStrings(json, "outputs", node.Outputs);
        }
        json.WriteStartArray("parameters");
        foreach ((ModelParameter parameter, ParameterStatistics? read) in found.Parameters)
        {
            json.WriteStartObject();
            json.WriteString("role", parameter.Role);
            json.WriteString("name", parameter.Name);
            json.WriteStartArray("shape");
            foreach (long length in parameter.Shape)
                json.WriteNumberValue(length);
            json.WriteEndArray();
            json.WriteString("type", parameter.TypeName);
            bool any = read is { } known && known.Count > known.NonFinite;
            WriteNumber(json, "min", read?.Min, any);
            WriteNumber(json, "max", read?.Max, any);
            WriteNumber(json, "mean", read?.Mean, any);
            WriteNumber(json, "near_zero", read?.NearZero, read is not null);
            WriteNumber(json, "non_finite", read?.NonFinite, read is not null);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        WriteStrings(json, "problems", found.Problems);
        json.WriteEndObject();
    }

    private static void WriteStrings(Utf8JsonWriter json, string name, IEnumerable<string> texts)
    {
        json.WriteStartArray(name);
        foreach (string text in texts)
            json.WriteStringValue(text);
        json.WriteEndArray();
    }

    private static void WriteNumber(Utf8JsonWriter json, string name, double? value, bool any)
    {
        if (any)
            json.WriteNumber(name, value!.Value);
        else
            json.WriteNull(name);
    }

    /// <summary>Text out of a file, so that neither its length nor its control characters reach a terminal.</summary>
    private static string Printable(string text) => Refusal.Quote(text)[1..^1];
}
