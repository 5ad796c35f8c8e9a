using System.CommandLine;
using System.Diagnostics;
using System.Numerics;
using System.Numerics.Tensors;
using NormLayers.IO;

namespace NormLayers.Cli;

/// <summary><c>normlayers run</c>: one layer, from a mapped .npy file straight into another.</summary>
internal static class RunCommand
{
    public const string Example = """
        Example, a LayerNorm of a text recognizer whose parameters have Paddle's names:
          normlayers run "LayerNorm(120, eps=1e-05)" \
            --input examples/data/ppocr-v4-rec/05_layer_x.npy \
            --weights examples/data/ppocr-v4-rec/parameters.safetensors --prefix layer_norm_43 \
            --output y.npy

        Parameter names: weight/bias (PyTorch), w_0/b_0 (Paddle), gamma/beta (Keras), scale/bias (Flax).
        Without --weights, --weight and --bias the layer has its initial parameters: ones and zeros.
        """;

    private sealed record Request(string Layer, string Input, string Output, string? Weights, string? Prefix, string? Weight, string? Bias, bool Force);

    public static Command Create(CancellationToken cancellation)
    {
        Argument<string> layer = Inputs.Argument("LAYER", "The layer as PyTorch prints it, or the Python call: \"nn.GroupNorm(3, 6)\".");
        Option<string> input = Inputs.Text("--input", "FILE.npy", "The input, float32 or float64; the layer computes in this type.", required: true);
        Option<string> output = Inputs.Text("--output", "FILE.npy", "The result; the file appears whole or not at all.", required: true);
        Option<string> weights = Inputs.Text("--weights", "FILE.safetensors", "The file that has the layer's parameters; not with --weight or --bias.");
        Option<string> prefix = Inputs.Text("--prefix", "NAME", "The layer's name in --weights: NAME.weight, NAME.bias. Without it: weight, bias.");
        Option<string> weight = Inputs.Text("--weight", "FILE.npy", "The weight alone; without it ones.");
        Option<string> bias = Inputs.Text("--bias", "FILE.npy", "The bias alone; without it zeros.");
        var force = new Option<bool>("--force") { Description = "Replace --output if it exists." };
        var command = new Command("run", "Applies a layer to a .npy file.") { layer, input, output, weights, prefix, weight, bias, force };
        command.SetAction(parsed => Run(
            new Request(
                parsed.GetRequiredValue(layer),
                parsed.GetRequiredValue(input),
                parsed.GetRequiredValue(output),
                parsed.GetValue(weights),
                parsed.GetValue(prefix),
                parsed.GetValue(weight),
                parsed.GetValue(bias),
                parsed.GetValue(force)),
            parsed.InvocationConfiguration.Output,
            cancellation));
        return command;
    }

    private static int Run(Request request, TextWriter output, CancellationToken cancellation)
    {
        if (request.Weights is not null && (request.Weight ?? request.Bias) is not null)
            throw new Refused($"--weights and {(request.Weight is null ? "--bias" : "--weight")} were both given; accepted is --weights, or --weight and --bias, or none.");
        if (request.Weights is null && request.Prefix is not null)
            throw new Refused($"--prefix '{request.Prefix}' was given without --weights; it names the layer within that file.");
        RefuseOutput(request);

        using NpyFile input = NpyFile.Open(request.Input);
        return input.ElementType switch
        {
            ElementType.Float32 => Run<float>(request, input, output, cancellation),
            ElementType.Float64 => Run<double>(request, input, output, cancellation),
            _ => throw new Refused($"{request.Input}: the elements are {input.ElementType.TorchName()}; accepted are float32 and float64."),
        };
    }

    private static int Run<T>(Request request, NpyFile input, TextWriter output, CancellationToken cancellation)
        where T : unmanaged, INumberBase<T>
    {
        NormLayer<T> layer = Parse<T>(request.Layer);
        string? source = LoadParameters(layer, request);
        ReadOnlyTensorSpan<T> x = Elements<T>(input);
        nint[] shape = input.Shape.Select(length => (nint)length).ToArray();
        using NpyOutput<T> result = NpyFile.Create<T>(request.Output, shape, request.Force);
        TensorSpan<T> y = result.Tensor;

        Statistics before = Statistics.Of(x, cancellation);
        long started = Stopwatch.GetTimestamp();
        try
        {
            layer.Forward(x, y);
        }
        catch (ArgumentException mismatch)
        {
            throw Refused.Of(request.Input, mismatch);
        }
        TimeSpan time = Stopwatch.GetElapsedTime(started);
        Statistics after = Statistics.Of<T>(y, cancellation);
        cancellation.ThrowIfCancellationRequested();
        result.Commit();

        var report = new Report();
        report.Add("layer", layer.ToString());
        report.Add("input", Report.Describe(input));
        report.Add("parameters", source ?? (layer.Parameters.Count == 0 ? "none" : "initial"));
        if (input.ElementCount > 0)
        {
            report.Add("before", before.ToString());
            report.Add("after", after.ToString());
        }
        report.Add("speed", $"{Report.Count(input.ElementCount)} elements in {Report.Time(time)}, {Report.Large(input.ElementCount / time.TotalSeconds)} per second");
        report.Add("output", request.Output);
        report.WriteTo(output);
        return Cli.Done;
    }

    private static NormLayer<T> Parse<T>(string text)
        where T : unmanaged
    {
        try
        {
            return NormLayer.Parse<T>(text);
        }
        catch (Exception refusal) when (refusal is FormatException or ArgumentException or NotSupportedException)
        {
            throw Refused.Of($"LAYER '{text}'", refusal);
        }
    }

    private static string? LoadParameters<T>(NormLayer<T> layer, Request request)
        where T : unmanaged
    {
        if (request.Weights is not null)
            return LayerParameters.LoadStateDict(layer, request.Weights, request.Prefix);
        var sources = new List<string>();
        if (request.Weight is not null)
            sources.Add(LayerParameters.Load(layer, "weight", request.Weight));
        if (request.Bias is not null)
            sources.Add(LayerParameters.Load(layer, "bias", request.Bias));
        return sources.Count == 0 ? null : string.Join(", ", sources);
    }

    private static ReadOnlyTensorSpan<T> Elements<T>(NpyFile input)
        where T : unmanaged
    {
        try
        {
            return input.View<T>();
        }
        catch (InvalidOperationException)
        {
            // The other byte order, or unaligned elements: these need a copy.
            return Inputs.Copy(input.Read<T>);
        }
    }

    private static void RefuseOutput(Request request)
    {
        string output = Target(request.Output);
        foreach ((string option, string? path) in new[] { ("--input", request.Input), ("--weights", request.Weights), ("--weight", request.Weight), ("--bias", request.Bias) })
        {
            if (path is not null && string.Equals(Target(path), output, OperatingSystem.IsLinux() ? StringComparison.Ordinal : StringComparison.OrdinalIgnoreCase))
                throw new Refused($"{request.Output}: --output is the same file as {option}; another name is needed, with or without --force.");
        }
        if (!request.Force && File.Exists(request.Output))
            throw new Refused($"{request.Output}: exists already; pass --force to replace it.");
    }

    private static string Target(string path)
        => File.Exists(path) && File.ResolveLinkTarget(path, returnFinalTarget: true) is { } target ? target.FullName : Path.GetFullPath(path);
}
