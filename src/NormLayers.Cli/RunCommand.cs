using System.CommandLine;
using System.Diagnostics;
using System.Numerics.Tensors;
using NormLayers.IO;

namespace NormLayers.Cli;

/// <summary><c>normlayers run</c>: one layer, from a mapped .npy file straight into another, and its gradients.</summary>
internal static class RunCommand
{
    public const string Example = """
        Example, a LayerNorm of a text recognizer whose parameters have Paddle's names:
          normlayers run "LayerNorm(120, eps=1e-05)" \
            --input examples/data/ppocr-v4-rec/05_layer_x.npy \
            --weights examples/data/ppocr-v4-rec/parameters.safetensors --prefix layer_norm_43 \
            --output y.npy

        Its gradients, and every file of a folder:
          normlayers run "LayerNorm(120)" --input examples/data/ppocr-v4-rec/05_layer_x.npy --output y.npy \
            --grad-output examples/data/ppocr-v4-rec/05_layer_y.npy --grad-dir gradients
          normlayers run "LocalResponseNorm(5)" --input activations --output normalized

        An array is FILE.npy, FILE.npz, FILE.npz:NAME, FILE.safetensors:NAME, or - for a .npy file on standard input or output.
        Parameter names: weight/bias (PyTorch), w_0/b_0 (Paddle), gamma/beta (Keras), scale/bias (Flax).
        Without --weights, --weight and --bias the layer has its initial parameters: ones and zeros.
        Exit code: 0 done, 2 refused (of several files: one or more), 130 interrupted.
        """;

    internal sealed record Request(
        string Layer, string Input, string Output, string? Weights, string? Prefix, string? Weight, string? Bias,
        string? GradOutput, string? GradDir, int Threads, bool Train, bool Force, ModelSource? Model);

    public static Command Create(CancellationToken cancellation)
    {
        Argument<string> layer = Inputs.Argument("LAYER", "The layer as PyTorch prints it, the Python call: \"nn.GroupNorm(3, 6)\", or a model that has it: FILE.onnx, FILE.safetensors.");
        Option<string> input = Inputs.Text("--input", "ARRAY", "The input, float16, bfloat16, float32 or float64, the type of the layer and of the result. A folder, or a pattern such as \"data/*.npy\", for several.", required: true);
        Option<string> output = Inputs.Text("--output", "ARRAY", "The result; the file appears whole or not at all. A folder for several.", required: true);
        Option<string> weights = Inputs.Text("--weights", "FILE.safetensors", "The file that has the layer's parameters; not with --weight or --bias.");
        Option<string> prefix = Inputs.Text("--prefix", "NAME", "The layer's name in --weights: NAME.weight, NAME.bias. Without it: weight, bias.");
        Option<string> weight = Inputs.Text("--weight", "ARRAY", "The weight alone; without it ones.");
        Option<string> bias = Inputs.Text("--bias", "ARRAY", "The bias alone; without it zeros.");
        Option<string> gradOutput = Inputs.Text("--grad-output", "ARRAY", "The gradient of the output, of the input's shape and type: runs the backward too.");
        Option<string> gradDir = Inputs.Text("--grad-dir", "DIR", "Where the gradients go: grad_input.npy, and grad_NAME.npy of each parameter. Made if missing.");
        Option<int> threads = Inputs.Threads();
        var train = new Option<bool>("--train") { Description = "Training mode: batch normalization takes the batch's statistics, not the running ones." };
        var force = new Option<bool>("--force") { Description = "Replace outputs that exist." };
        var model = new ModelSource.Options();
        var command = new Command("run", "Applies a layer to arrays.") { layer, input, output, weights, prefix, weight, bias, gradOutput, gradDir, threads, train, force };
        model.AddTo(command, runs: true);
        command.SetAction(parsed => Run(
            new Request(
                parsed.GetRequiredValue(layer),
                parsed.GetRequiredValue(input),
                parsed.GetRequiredValue(output),
                parsed.GetValue(weights),
                parsed.GetValue(prefix),
                parsed.GetValue(weight),
                parsed.GetValue(bias),
                parsed.GetValue(gradOutput),
                parsed.GetValue(gradDir),
                parsed.GetValue(threads),
                parsed.GetValue(train),
                parsed.GetValue(force),
                model.Of(parsed.GetRequiredValue(layer), parsed)),
            parsed.InvocationConfiguration.Output,
            parsed.InvocationConfiguration.Error,
            cancellation));
        return command;
    }

    private static int Run(Request request, TextWriter output, TextWriter error, CancellationToken cancellation)
    {
        if (request.Weights is not null && (request.Weight ?? request.Bias) is not null)
            throw new Refused($"--weights and {(request.Weight is null ? "--bias" : "--weight")} were both given; accepted is --weights, or --weight and --bias, or none.");
        if (request.Model is not null && (request.Weights ?? request.Weight ?? request.Bias) is not null)
            throw new Refused($"{(request.Weights is not null ? "--weights" : request.Weight is not null ? "--weight" : "--bias")} was given, and LAYER '{request.Layer}' is a model with weights of its own; accepted is one of them.");
        if (request.Weights is null && request.Prefix is not null)
            throw new Refused($"--prefix '{request.Prefix}' was given without --weights; it names the layer within that file.");
        if (request.GradOutput is null != request.GradDir is null)
            throw new Refused($"{(request.GradDir is null ? "--grad-output" : "--grad-dir")} was given without {(request.GradDir is null ? "--grad-dir" : "--grad-output")}; the backward needs both.");
        RefuseStandardInputTwice(request);

        var layers = new Layers(request, cancellation);
        if (FileSet.Of(request.Input) is { } files)
            return files.Run(request, one => RunOne(one, layers, cancellation), layers.Check, output, error, cancellation);
        Report report = RunOne(request, layers, cancellation);
        report.WriteTo(request.Output == InputArray.StandardStream ? error : output);
        return Cli.Done;
    }

    private static Report RunOne(Request request, Layers layers, CancellationToken cancellation)
    {
        RefuseOutput(request, request.Output, "--output");
        if (request.Output == InputArray.StandardStream && !Console.IsOutputRedirected)
            throw new Refused("--output is -, and standard output is a terminal; a file or a pipe is needed.");
        using InputArray input = InputArray.Open(request.Input, cancellation);
        return input.ElementType switch
        {
            ElementType.Float16 => RunOne<Half>(request, layers, input, cancellation),
            ElementType.BFloat16 => RunOne<BFloat16>(request, layers, input, cancellation),
            ElementType.Float32 => RunOne<float>(request, layers, input, cancellation),
            ElementType.Float64 => RunOne<double>(request, layers, input, cancellation),
            _ => throw new Refused($"{input.Name}: the elements are {input.ElementType.TorchName()}; accepted are float16, bfloat16, float32 and float64."),
        };
    }

    private static Report RunOne<T>(Request request, Layers layers, InputArray input, CancellationToken cancellation)
        where T : unmanaged
    {
        nint[] shape = Array.ConvertAll(input.Shape, static length => (nint)length);
        (NormLayer<T>? layer, string kind, string? source) = layers.Of<T>(shape);
        if (layer is null && request.GradOutput is not null)
            throw new Refused($"--grad-output was given, and {source} is a {kind}, which has no backward here; accepted are layers of PyTorch's.");
        using Gradients<T>? gradients = request.GradOutput is null ? null : Gradients<T>.Open(request, layer!, input, cancellation);
        ReadOnlyTensorSpan<T> x = input.Elements<T>();
        using var result = new OutputArray<T>(request.Output, shape, input.Member, request.Force);
        TensorSpan<T> y = result.Tensor;

        Statistics before = Statistics.Of(x, cancellation);
        long started = Stopwatch.GetTimestamp();
        try
        {
            if (gradients is not null)
                gradients.Forward(y);
            else if (layer is not null)
                layer.Forward(x, y);
            else
                request.Model!.Run(input, y, cancellation);
        }
        catch (ArgumentException mismatch)
        {
            throw Refused.Of(input.Name, mismatch);
        }
        TimeSpan time = Stopwatch.GetElapsedTime(started);
        Statistics after = Statistics.Of<T>(y, cancellation);
        gradients?.Backward();
        cancellation.ThrowIfCancellationRequested();
        if (gradients is null)
            result.Commit();
        else
            gradients.Write(request.Force, result.Commit);

        var report = new Report();
        report.Add("layer", layer?.ToString() ?? kind);
        report.Add("input", Report.Describe(input));
        report.Add("parameters", source ?? (layer!.Parameters.Count == 0 ? "none" : "initial"));
        if (input.ElementCount > 0)
        {
            report.Add("before", before.ToString());
            report.Add("after", after.ToString());
        }
        report.Add("speed", $"{Report.Count(input.ElementCount)} elements in {Report.Time(time)}, {Report.Large(input.ElementCount / time.TotalSeconds)} per second");
        report.Add("output", request.Output == InputArray.StandardStream ? "standard output" : request.Output);
        if (gradients is not null)
            report.Add("gradients", string.Join(", ", gradients.Paths));
        return report;
    }

    internal static NormLayer<T> Parse<T>(string text)
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

    private static string? LoadParameters<T>(NormLayer<T> layer, Request request, CancellationToken cancellation)
        where T : unmanaged
    {
        if (request.Weights is not null)
            return LayerParameters.LoadStateDict(layer, request.Weights, request.Prefix);
        var sources = new List<string>();
        if (request.Weight is not null)
            sources.Add(LayerParameters.Load(layer, "weight", request.Weight, cancellation));
        if (request.Bias is not null)
            sources.Add(LayerParameters.Load(layer, "bias", request.Bias, cancellation));
        return sources.Count == 0 ? null : string.Join(", ", sources);
    }

    /// <summary>Refuses an output that is an input, even with --force, and one that exists, without.</summary>
    internal static void RefuseOutput(Request request, string output, string option)
    {
        if (output == InputArray.StandardStream)
            return;
        (string path, string? member) = InputArray.Split(output);
        if (InputArray.HasExtension(path, ".safetensors"))
            throw new Refused($"{output}: {option} is a .safetensors file, which is only read; accepted are FILE.npy, FILE.npz, FILE.npz:NAME and -.");
        if (member is "")
            throw new Refused($"{output}: has no name after the colon; accepted are FILE.npz:NAME and FILE.npz.");
        foreach ((string other, string? input) in InputsOf(request))
        {
            if (input is not null && IsSameFile(InputArray.Split(input).Path, path))
                throw new Refused($"{output}: {option} is the same file as {other}; another name is needed, with or without --force.");
        }
        Refused.IfThereIs(path, request.Force);
    }

    private static void RefuseStandardInputTwice(Request request)
    {
        string[] options = [.. InputsOf(request).Where(input => input.Path == InputArray.StandardStream).Select(input => input.Option)];
        if (options.Length > 1)
            throw new Refused($"{string.Join(" and ", options)} are all -; standard input is one array.");
    }

    private static (string Option, string? Path)[] InputsOf(Request request) =>
    [
        ("--input", request.Input), ("--weights", request.Weights), ("--weight", request.Weight), ("--bias", request.Bias), ("--grad-output", request.GradOutput),
        .. request.Model?.Paths.Select(path => ("LAYER or --value", (string?)path)) ?? [],
    ];

    internal static bool IsSameFile(string path, string other)
        => string.Equals(Target(path), Target(other), OperatingSystem.IsLinux() ? StringComparison.Ordinal : StringComparison.OrdinalIgnoreCase);

    private static string Target(string path)
        => File.Exists(path) && File.ResolveLinkTarget(path, returnFinalTarget: true) is { } target ? target.FullName : Path.GetFullPath(path);

    /// <summary>The layer with its parameters, in the type of the input: each made once, whatever the number of inputs.</summary>
    private sealed class Layers(Request request, CancellationToken cancellation)
    {
        private readonly Dictionary<Type, (NormLayer Layer, string? Source)> made = [];

        /// <summary>Refuses a layer or parameters that are no good before any input is read.</summary>
        public void Check() => Of<float>([]);

        /// <summary>The layer for inputs of a shape, which a model file may leave open; null, with what it is, for a node that is no layer.</summary>
        public (NormLayer<T>? Layer, string Kind, string? Source) Of<T>(ReadOnlySpan<nint> shape)
            where T : unmanaged
        {
            if (request.Model is not null)
            {
                (NormLayer<T>? found, string kind, string source) = request.Model.Make<T>(shape);
                found?.MaxThreads = request.Threads;
                found?.Train(request.Train);
                return (found, kind, source);
            }
            if (!made.TryGetValue(typeof(T), out (NormLayer Layer, string? Source) known))
            {
                NormLayer<T> layer = Parse<T>(request.Layer);
                layer.MaxThreads = request.Threads;
                layer.Train(request.Train);
                made.Add(typeof(T), known = (layer, LoadParameters(layer, request, cancellation)));
            }
            return ((NormLayer<T>)known.Layer, known.Layer.ToString()!, known.Source);
        }
    }
}
