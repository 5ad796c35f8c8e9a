using System.CommandLine;
using NormLayers.IO;

namespace NormLayers.Cli;

/// <summary><c>normlayers export</c>: a layer as an ONNX model of one node, or as a .safetensors checkpoint.</summary>
internal static class ExportCommand
{
    public const string Example = """
        Example, and the same out of a model:
          normlayers export "LayerNorm(120)" --output layer_norm.onnx \
            --weights examples/data/ppocr-v4-rec/parameters.safetensors --prefix layer_norm_43
          normlayers export model.onnx --node lrn1 --output lrn.onnx

        The model's input and result are float32, of any shape that the layer takes, named input and output.
        """;

    public static Command Create()
    {
        Argument<string> layer = Inputs.Argument("LAYER", "The layer as PyTorch prints it, the Python call, or a model: FILE.onnx, FILE.safetensors.");
        Option<string> output = Inputs.Text("--output", "FILE.onnx", "The model to make, or a FILE.safetensors for the parameters alone; it appears whole or not at all.", required: true);
        Option<string> weights = Inputs.Text("--weights", "FILE.safetensors", "The file that has the layer's parameters; without it they are ones and zeros.");
        Option<string> prefix = Inputs.Text("--prefix", "NAME", "The layer's name in --weights: NAME.weight, NAME.bias. Without it: weight, bias.");
        var force = new Option<bool>("--force") { Description = "Replace --output if it exists." };
        var model = new ModelSource.Options();
        var command = new Command("export", "Writes a layer as an ONNX model of one node.") { layer, output, weights, prefix, force };
        model.AddTo(command, runs: false);
        command.SetAction(parsed => Run(
            parsed.GetRequiredValue(layer),
            model.Of(parsed.GetRequiredValue(layer), parsed),
            parsed.GetRequiredValue(output),
            parsed.GetValue(weights),
            parsed.GetValue(prefix),
            parsed.GetValue(force),
            parsed.InvocationConfiguration.Output));
        return command;
    }

    private static int Run(string text, ModelSource? model, string path, string? weights, string? prefix, bool force, TextWriter output)
    {
        if (weights is null && prefix is not null)
            throw new Refused($"--prefix '{prefix}' was given without --weights; it names the layer within that file.");
        if (model is not null && weights is not null)
            throw new Refused($"--weights {weights} was given, and LAYER '{text}' is a model with weights of its own; accepted is one of them.");
        foreach ((string option, string? source) in new[] { ("--weights", weights), ("LAYER", model is null ? null : text) })
        {
            if (source is not null && RunCommand.IsSameFile(source, path))
                throw new Refused($"{path}: --output is the same file as {option}; another name is needed, with or without --force.");
        }
        Refused.IfThereIs(path, force);
        (NormLayer<float> layer, string parameters) = Make(text, model, weights, prefix);
        try
        {
            layer.Save(path, null, force);
        }
        catch (Exception refusal) when (refusal is NotSupportedException or ArgumentException)
        {
            throw new Refused(Refused.Text(refusal));
        }
        var report = new Report();
        report.Add("layer", layer.ToString());
        report.Add("parameters", parameters);
        report.Add("output", path);
        report.WriteTo(output);
        return Cli.Done;
    }

    private static (NormLayer<float> Layer, string Parameters) Make(string text, ModelSource? model, string? weights, string? prefix)
    {
        if (model is not null)
        {
            (NormLayer<float>? found, string kind, string source) = model.Make<float>([]);
            return (found ?? throw new Refused($"{source} is a {kind} that cannot be exported on its own: it is no layer of PyTorch's as far as the file tells."), source);
        }
        NormLayer<float> layer = RunCommand.Parse<float>(text);
        if (weights is not null)
            return (layer, LayerParameters.LoadStateDict(layer, weights, prefix));
        LayerParameters.RequireChannels(layer);
        return (layer, layer.Parameters.Count == 0 ? "none" : "initial");
    }
}
