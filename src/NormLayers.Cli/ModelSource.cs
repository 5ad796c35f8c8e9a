using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Numerics.Tensors;
using NormLayers.IO;

namespace NormLayers.Cli;

/// <summary>A layer that is taken out of a model file, and the options that say which and what the file does not tell.</summary>
internal sealed class ModelSource
{
    private static readonly string[] Extensions = [".onnx", ".safetensors"];

    private readonly string path;
    private readonly string? name;
    private readonly string? type;
    private readonly double? eps;
    private readonly int? groups;
    private readonly string[] values;
    private OnnxModel? model;

    private ModelSource(string path, string? name, string? type, double? eps, int? groups, string[] values)
        => (this.path, this.name, this.type, this.eps, this.groups, this.values) = (path, name, type, eps, groups, values);

    /// <summary>The options of a command whose LAYER may be a model file.</summary>
    public sealed class Options
    {
        // The name is empty where a .safetensors file has weight and bias at its top level.
        private readonly Option<string> layer = new("--layer") { HelpName = "NAME", Description = "Where LAYER is FILE.onnx or FILE.safetensors: the layer's name in it; a node's may be that of its result. See normlayers inspect." };
        private readonly Option<string> type = Inputs.Text("--type", "TYPE", "What the names of a .safetensors file do not tell: LayerNorm, RMSNorm, GroupNorm or InstanceNorm.");
        private readonly Option<double?> eps = new("--eps") { HelpName = "NUMBER", Description = "The eps of a layer in a .safetensors file, which does not hold it; without it the framework's default." };
        private readonly Option<int?> groups = new("--groups") { HelpName = "N", Description = "The number of groups of a GroupNorm in a .safetensors file, which does not hold it." };
        private readonly Option<string[]> values = new("--value") { HelpName = "NAME=ARRAY", Description = "Another value of an ONNX node, where the file does not hold it; may be given several times." };

        public Options()
        {
            layer.Aliases.Add("--node");
            eps.CustomParser = result => Parse(result, "--eps", "a number of zero or more", text => double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double number) && number >= 0 ? number : (double?)null);
            groups.CustomParser = result => Parse(result, "--groups", "a whole number of one or more", text => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number > 0 ? number : (int?)null);
        }

        /// <param name="command">The command.</param>
        /// <param name="runs">Whether it runs the layer: the values beside an input are for a run alone.</param>
        public void AddTo(Command command, bool runs)
        {
            foreach (Option option in new Option[] { layer, type, eps, groups })
                command.Options.Add(option);
            if (runs)
                command.Options.Add(values);
        }

        /// <summary>The model that LAYER names, or null where it is a layer's text.</summary>
        public ModelSource? Of(string argument, ParseResult parsed)
        {
            bool isModel = Array.Exists(Extensions, extension => InputArray.HasExtension(argument, extension));
            if (!isModel)
            {
                if (new Option[] { layer, type, eps, groups, values }.FirstOrDefault(option => parsed.GetResult(option) is { Implicit: false }) is { } given)
                    throw new Refused($"{given.Name} was given, and LAYER '{argument}' is no model file; accepted are FILE.onnx and FILE.safetensors.");
                return null;
            }
            return new ModelSource(argument, parsed.GetValue(layer), parsed.GetValue(type), parsed.GetValue(eps), parsed.GetValue(groups), parsed.GetValue(values) ?? []);
        }

        private static T? Parse<T>(ArgumentResult result, string option, string accepted, Func<string, T?> parse)
            where T : struct
        {
            if (parse(result.Tokens[0].Value) is { } value)
                return value;
            result.AddError($"{option} is '{result.Tokens[0].Value}'; {accepted} is needed");
            return null;
        }
    }

    /// <summary>The files that it is read from, which no output may replace.</summary>
    public IEnumerable<string> Paths => values.Select(value => Split(value).Array).Prepend(path);

    private bool IsOnnx => InputArray.HasExtension(path, ".onnx");

    /// <summary>Makes the layer for inputs of a shape; empty where that is not known. The layer is null for a node that only <see cref="Run"/> runs.</summary>
    public (NormLayer<T>? Layer, string Kind, string Parameters) Make<T>(ReadOnlySpan<nint> shape)
        where T : unmanaged
    {
        nint[] lengths = shape.ToArray();
        return Translated<(NormLayer<T>?, string, string)>(() =>
        {
            if (IsOnnx)
            {
                OnnxNormalization node = Node();
                if (type is not null || eps is not null || groups is not null)
                    throw new Refused($"{(type is not null ? "--type" : eps is not null ? "--eps" : "--groups")} was given for {path}; an .onnx file holds the node's own.");
                return (node.IsLayer && values.Length == 0 && (lengths.Length > 0 || node.Unknown is null) ? node.ToLayer<T>(lengths) : null, node.Kind, Describe(node));
            }
            if (values.Length > 0)
                throw new Refused($"--value '{values[0]}' was given for {path}; it names a value of an .onnx file's node.");
            using Checkpoint checkpoint = Checkpoint.Open(path);
            CheckpointLayer layer = name is not null ? checkpoint.Find(name) : Only(checkpoint.Layers, "a layer");
            // Only BatchNorm and InstanceNorm have a rank in their names; 2d stands for all where there is no input.
            NormLayer<T> made = layer.ToLayer<T>(lengths.Length == 0 ? 4 : lengths.Length, type, eps, groups);
            string standard = eps is null ? $"; eps is {layer.Framework}'s default, the file does not hold it (--eps)" : "";
            return (made, layer.Kind, Describe(layer) + standard);
        });
    }

    /// <summary>Runs a node that is no layer.</summary>
    public void Run<T>(InputArray input, in TensorSpan<T> destination, CancellationToken cancellation)
        where T : unmanaged
    {
        Tensor<T> result = Translated(() =>
        {
            OnnxNormalization node = Node();
            var given = new Dictionary<string, Tensor<T>> { [node.Inputs[0]] = input.Read<T>() };
            foreach (string value in values)
            {
                (string key, string path) = Split(value);
                if (!node.Inputs.Contains(key))
                    throw new Refused($"--value '{value}': node '{node.Name}' reads no '{key}'; it reads {string.Join(", ", node.Inputs.Where(known => known.Length > 0).Select(known => $"'{known}'"))}.");
                using InputArray array = InputArray.Open(path, cancellation);
                given[key] = array.ReadAs<T>();
            }
            return node.Run(given)[0];
        });
        result.AsReadOnlyTensorSpan().CopyTo(destination);
    }

    private OnnxNormalization Node()
    {
        model ??= OnnxModel.Load(path);
        return name is not null ? model.Find(name) : Only(model.NormalizationNodes, "a node");
    }

    private T Only<T>(IReadOnlyList<T> layers, string what)
        where T : ModelLayer
        => layers.Count == 1 ? layers[0]
            : throw new Refused(layers.Count == 0 ? $"{path}: has no normalization layer."
                : $"{path}: has {layers.Count} normalization layers; accepted is the name of one, --layer NAME, such as {string.Join(", ", layers.Take(3).Select(layer => $"'{layer.Name}'"))}.");

    private string Describe(ModelLayer layer)
        => $"{path}: {layer.Name}" + (layer.Parameters.Count == 0 ? "" : $" ({string.Join(", ", layer.Parameters.Select(parameter => parameter.Name))})");

    private static (string Name, string Array) Split(string value)
    {
        int at = value.IndexOf('=', StringComparison.Ordinal);
        return at > 0 && at < value.Length - 1 ? (value[..at], value[(at + 1)..]) : throw new Refused($"--value is '{value}'; accepted is NAME=ARRAY.");
    }

    /// <summary>What the library refuses, with the option that would answer it.</summary>
    private static T Translated<T>(Func<T> make)
    {
        try
        {
            return make();
        }
        catch (Exception refusal) when (refusal is KeyNotFoundException or ArgumentException or NotSupportedException)
        {
            string? option = (refusal as ArgumentException)?.ParamName switch { "type" => "--type", "eps" => "--eps", "numGroups" => "--groups", _ => null };
            throw new Refused(Refused.Text(refusal) + (option is null ? "" : $" The option is {option}."));
        }
    }
}
