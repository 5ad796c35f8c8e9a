using System.Numerics.Tensors;
using NormLayers.IO;

namespace NormLayers.Cli;

/// <summary>The backward of <c>normlayers run</c>: the gradients of the input and of each parameter, as .npy files in a folder.</summary>
internal sealed class Gradients<T> : IDisposable
    where T : unmanaged
{
    private readonly NormLayer<T> layer;
    private readonly InputArray input;
    private readonly InputArray gradOutput;
    private readonly string folder;
    private readonly List<(string Path, Tensor<T> Value)> results = [];
    private ForwardPass<T>? pass;

    private Gradients(NormLayer<T> layer, InputArray input, InputArray gradOutput, string folder)
        => (this.layer, this.input, this.gradOutput, this.folder) = (layer, input, gradOutput, folder);

    public IEnumerable<string> Paths => results.Select(result => result.Path);

    /// <summary>Opens the gradient of the output, and refuses outputs that exist or are an input.</summary>
    public static Gradients<T> Open(RunCommand.Request request, NormLayer<T> layer, InputArray input, CancellationToken cancellation)
    {
        string folder = request.GradDir!;
        if (File.Exists(folder))
            throw new Refused($"{folder}: --grad-dir is a file; a folder is needed.");
        foreach (string name in layer.Parameters.Select(parameter => parameter.Name).Prepend("input"))
        {
            string path = PathOf(folder, name);
            RunCommand.RefuseOutput(request, path, "a gradient in --grad-dir");
            if (request.Output != InputArray.StandardStream && Path.GetFullPath(InputArray.Split(request.Output).Path) == Path.GetFullPath(path))
                throw new Refused($"{path}: --output is the same file as a gradient in --grad-dir; another name is needed.");
        }
        InputArray dy = InputArray.Open(request.GradOutput!, cancellation);
        try
        {
            if (dy.ElementType != input.ElementType)
                throw new Refused($"{dy.Name}: the elements are {dy.ElementType.TorchName()}; accepted is the input's type, {input.ElementType.TorchName()}.");
            if (!dy.Shape.AsSpan().SequenceEqual(input.Shape))
                throw new Refused($"{dy.Name}: the gradient of the output has the shape {Report.Shape(dy.Shape)}; accepted is the input's, {Report.Shape(input.Shape)}.");
            return new Gradients<T>(layer, input, dy, folder);
        }
        catch
        {
            dy.Dispose();
            throw;
        }
    }

    /// <summary>The layer's forward, its pass kept.</summary>
    public void Forward(in TensorSpan<T> destination) => layer.Forward(input.Read<T>(), out pass).CopyTo(destination);

    public void Backward()
    {
        results.Add((PathOf(folder, "input"), layer.Backward(gradOutput.Read<T>(), pass!)));
        foreach (Parameter<T> parameter in layer.Parameters)
            results.Add((PathOf(folder, parameter.Name), parameter.Grad));
    }

    /// <summary>Writes all files under temporary names before the first gets its own; the result, which may still be refused, gets it first.</summary>
    public void Write(bool force, Action commitResult)
    {
        Directory.CreateDirectory(folder);
        var outputs = new List<NpyOutput<T>>();
        try
        {
            foreach ((string path, Tensor<T> value) in results)
            {
                ReadOnlySpan<nint> shape = outputs.Count == 0 && input.Shape.Length == 0 ? [] : value.Lengths;
                NpyOutput<T> output = NpyFile.Create<T>(path, shape, force);
                outputs.Add(output);
                value.CopyTo(output.Tensor);
            }
            commitResult();
            foreach (NpyOutput<T> output in outputs)
                output.Commit();
        }
        finally
        {
            foreach (NpyOutput<T> output in outputs)
                output.Dispose();
        }
    }

    public void Dispose() => gradOutput.Dispose();

    private static string PathOf(string folder, string name) => Path.Combine(folder, $"grad_{name}.npy");
}
