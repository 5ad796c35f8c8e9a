using System.Numerics.Tensors;
using NormLayers.IO.Onnx;

namespace NormLayers.IO;

/// <summary>Loads a layer's parameters from a model file, and saves a layer into one of its own.</summary>
public static class LayerFiles
{
    /// <summary>Copies parameters out of a .safetensors file into a layer, strictly: all names and shapes must fit, or nothing is loaded.</summary>
    /// <typeparam name="T">The element type of the layer; each value is converted with one rounding.</typeparam>
    /// <param name="layer">The layer.</param>
    /// <param name="path">The file. Its names may be PyTorch's, Keras's, Paddle's or Flax's (<see cref="Checkpoint"/>).</param>
    /// <param name="prefix">The layer's name in the file, <c>encoder.norm</c> for <c>encoder.norm.weight</c>; null for names without one.</param>
    /// <exception cref="ArgumentNullException"><paramref name="layer"/> is null.</exception>
    /// <exception cref="ArgumentException"><paramref name="path"/> is null or empty.</exception>
    /// <exception cref="StateDictException">Keys are missing or unexpected, or sizes or types differ; it lists them all.</exception>
    /// <exception cref="FileNotFoundException">There is no such file.</exception>
    /// <exception cref="InvalidDataException">It is not a sound .safetensors file, or has no weight or bias under the prefix: the
    /// message is one line with the path, what was found and what is accepted.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static void LoadFrom<T>(this NormLayer<T> layer, string path, string? prefix = null)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(layer);
        layer.LoadStateDict(Read(path, prefix, out _));
    }

    /// <summary>Saves a layer: its state dict as .safetensors, or the layer itself as an .onnx model of one node.</summary>
    /// <typeparam name="T">The element type of the layer.</typeparam>
    /// <param name="layer">The layer.</param>
    /// <param name="path">The file to make; its ending, .safetensors or .onnx, says what.</param>
    /// <param name="prefix">What goes before the names, <c>encoder.norm</c> for <c>encoder.norm.weight</c>; null for nothing.</param>
    /// <param name="overwrite">Whether an existing file is replaced.</param>
    /// <exception cref="ArgumentNullException"><paramref name="layer"/> is null.</exception>
    /// <exception cref="ArgumentException"><paramref name="path"/> is null or empty, or has another ending, or <paramref name="prefix"/> is not Unicode.</exception>
    /// <exception cref="InvalidOperationException">The layer is lazy and has no parameters yet.</exception>
    /// <exception cref="NotSupportedException">The layer is none that ONNX has an operator for, has an axis that is not the last dimensions, an epsilon or other attribute
    /// that a float32 does not hold, or has parameters of more than the 2 GB of an ONNX file.</exception>
    /// <exception cref="DirectoryNotFoundException">There is no such folder.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder may not be written to.</exception>
    /// <exception cref="IOException">The file exists and <paramref name="overwrite"/> is false, it is a folder, or the disk has no room.</exception>
    /// <remarks>The file appears whole or not at all. An ONNX model is of the layer in evaluation mode; its input and result are
    /// named <c>input</c> and <c>output</c>.</remarks>
    public static void Save<T>(this NormLayer<T> layer, string path, string? prefix = null, bool overwrite = false)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(layer);
        ArgumentException.ThrowIfNullOrEmpty(path);
        string start = string.IsNullOrEmpty(prefix) || prefix.EndsWith('.') ? prefix ?? "" : prefix + ".";
        if (!SafetensorsWriter.IsUnicode(start))
            throw new ArgumentException($"The prefix {Refusal.Quote(prefix)} is not Unicode: it has half of a surrogate pair.", nameof(prefix));
        if (path.EndsWith(".onnx", StringComparison.OrdinalIgnoreCase))
        {
            OnnxExport.Save(layer, path, start, overwrite);
            return;
        }
        if (!path.EndsWith(".safetensors", StringComparison.OrdinalIgnoreCase))
            throw new ArgumentException($"Expected a name that ends in .safetensors or .onnx, got {Refusal.Quote(path)}.", nameof(path));
        var writer = new SafetensorsWriter { Metadata = { ["format"] = "pt" } };
        foreach ((string name, IReadOnlyTensor tensor) in layer.StateDict())
        {
            if (tensor is Tensor<long> counter)
                writer.Add(start + name, counter, []);
            else
                writer.Add(start + name, (Tensor<T>)tensor);
        }
        writer.Save(path, overwrite);
    }

    /// <summary>The state dict under a prefix of a file, and where each entry comes from.</summary>
    internal static StateDict Read(string path, string? prefix, out IReadOnlyList<string> sources)
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        var state = new StateDict();
        var renamed = new List<string>();
        foreach ((string key, string name) in ParameterNames.Find(file, prefix))
        {
            if (state.ContainsKey(key))
                throw Refusal.Of(path, $"more than one tensor is the {key}; the second is {Refusal.Quote(name)}.");
            TensorInfo info = file.Info(name);
            switch (info.ElementType)
            {
                case ElementType.Float16: state.Add(key, file.Read<Half>(name)); break;
                case ElementType.BFloat16: state.Add(key, file.Read<BFloat16>(name)); break;
                case ElementType.Float32: state.Add(key, file.Read<float>(name)); break;
                case ElementType.Float64: state.Add(key, file.Read<double>(name)); break;
                case ElementType.Int64 when key == ParameterNames.BatchCounter: state.Add(key, file.Read<long>(name)); break;
                default: throw Refusal.Of(path, $"the tensor {Refusal.Quote(name)} is {info.ElementType?.TorchName() ?? Refusal.Quote(info.Dtype)}; accepted are float16, bfloat16, float32 and float64.");
            }
            renamed.Add(name == key ? name : $"{name} as {key}");
        }
        sources = renamed;
        return state;
    }
}
