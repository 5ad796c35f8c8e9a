namespace NormLayers.IO;

/// <summary>A .safetensors file as a checkpoint of a model: the normalization layers in it, recognized by the names and shapes of their parameters.</summary>
/// <remarks>
/// Names are PyTorch's (<c>weight</c>, <c>bias</c>, <c>running_mean</c>, <c>running_var</c>, <c>num_batches_tracked</c>), Keras's
/// (<c>gamma</c>, <c>beta</c>, <c>moving_mean</c>, <c>moving_variance</c>), Paddle's (<c>w_0</c>, <c>b_0</c>, <c>w_1</c>, <c>w_2</c>, or
/// PyTorch's with <c>_mean</c> and <c>_variance</c>) and Flax's (<c>scale</c>, <c>bias</c>, <c>mean</c>, <c>var</c>, the last two under
/// <c>params</c> or <c>batch_stats</c>), after a last <c>.</c> or <c>/</c>. The tensors that share the part
/// before it are a normalization layer if they all have the weight's shape and are nothing else's.
/// </remarks>
public sealed class Checkpoint : IDisposable
{
    private readonly SafetensorsFile file;

    private Checkpoint(SafetensorsFile file)
    {
        this.file = file;
        var groups = new OrderedDictionary<string, List<(string Last, TensorInfo Info)>>();
        foreach (string name in file.Names)
        {
            (string prefix, string last) = ParameterNames.Split(name);
            if (!groups.TryGetValue(prefix, out List<(string, TensorInfo)>? group))
                groups.Add(prefix, group = []);
            group.Add((last, file.Info(name)));
        }
        foreach (string prefix in groups.Keys.ToList())
        {
            if (ParameterNames.StatisticsPrefix(prefix) is { } apart && groups.Remove(apart, out List<(string, TensorInfo)>? statistics))
                groups[prefix].AddRange(statistics);
        }
        var layers = new List<CheckpointLayer>();
        foreach ((string prefix, List<(string Last, TensorInfo Info)> group) in groups)
        {
            foreach (ParameterNames names in ParameterNames.All)
            {
                if (CheckpointLayer.Recognize(file, prefix, names, group) is not { } layer)
                    continue;
                layers.Add(layer);
                break;
            }
        }
        Layers = layers.AsReadOnly();
    }

    /// <summary>The path as it was given to <see cref="Open"/>.</summary>
    public string Path => file.Path;

    /// <summary>The normalization layers, in the order of the file.</summary>
    public IReadOnlyList<CheckpointLayer> Layers { get; }

    /// <summary>Opens a file and finds the layers in it; no element is read yet.</summary>
    /// <param name="path">The file.</param>
    /// <returns>The open checkpoint; dispose it to unmap the file.</returns>
    /// <exception cref="ArgumentException"><paramref name="path"/> is null or empty.</exception>
    /// <exception cref="FileNotFoundException">There is no such file.</exception>
    /// <exception cref="DirectoryNotFoundException">There is no such folder.</exception>
    /// <exception cref="UnauthorizedAccessException">The file may not be read.</exception>
    /// <exception cref="InvalidDataException">It is not a sound .safetensors file: the message is one line with the path,
    /// what was found and what is accepted.</exception>
    /// <exception cref="IOException">It is a folder or a pipe, or it cannot be mapped.</exception>
    public static Checkpoint Open(string path)
    {
        SafetensorsFile file = SafetensorsFile.Open(path);
        try
        {
            return new Checkpoint(file);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Finds a layer by its name.</summary>
    /// <param name="name">The exact name, without the parameter's.</param>
    /// <returns>The layer.</returns>
    /// <exception cref="ArgumentNullException"><paramref name="name"/> is null.</exception>
    /// <exception cref="KeyNotFoundException">There is none of this name; the message gives names that are there.</exception>
    public CheckpointLayer Find(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return Layers.FirstOrDefault(layer => layer.Name == name)
            ?? throw new KeyNotFoundException(NearNames.Missing(Path, "normalization layer", name, [.. Layers.Select(layer => layer.Name)]));
    }

    /// <summary>Unmaps the file.</summary>
    public void Dispose() => file.Dispose();
}
