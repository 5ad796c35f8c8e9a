using Google.Protobuf;
using NormLayers.IO.Onnx;

namespace NormLayers.IO;

/// <summary>An ONNX model, read whole for the normalizations in it.</summary>
/// <remarks>
/// <para>Listed are LayerNormalization, GroupNormalization, InstanceNormalization, BatchNormalization, LRN, RMSNormalization,
/// MeanVarianceNormalization, LpNormalization, the contrib operators SimplifiedLayerNormalization, SkipLayerNormalization and
/// SkipSimplifiedLayerNormalization, and normalizations written out in simpler operators; in subgraphs too, not in local functions.</para>
/// <para>The file is checked before anything in it is trusted: tensors are as long as their shapes say, each value is given once
/// and before it is read. https://onnx.ai/onnx/repo-docs/IR.html</para>
/// </remarks>
public sealed class OnnxModel
{
    private OnnxModel(string path, ModelProto proto)
    {
        Path = path;
        Producer = proto.ProducerName;
        long? opset = null;
        foreach (OperatorSetIdProto import in proto.OpsetImport)
        {
            if (import.Domain is "" or "ai.onnx")
                opset = import.Version;
        }
        if (proto.Graph is null)
            throw Refusal.Of(path, "is not an ONNX model, or is cut short: it has no graph.");
        OpsetVersion = opset ?? throw Refusal.Of(path, "is not an ONNX model, or is cut short: it imports no version of the default operator set.");
        if (OpsetVersion < 1)
            throw Refusal.Of(path, $"imports version {OpsetVersion} of the default operator set; accepted are 1 and later.");

        var nodes = new List<OnnxNormalization>();
        foreach (OnnxGraph graph in OnnxGraph.All(path, proto.Graph, OpsetVersion))
        {
            List<NormalizationNode> writtenOut = [.. WrittenOut.Find(graph)];
            var replaced = writtenOut.Select(node => node.Replaces).ToHashSet();
            var byOutput = writtenOut.GroupBy(node => node.Outputs[0]!).ToDictionary(found => found.Key, found => found.First());
            foreach (NodeProto node in graph.Proto.Node)
            {
                if (!replaced.Contains(node) && NormalizationNode.Of(graph, node) is { } found)
                    nodes.Add(new OnnxNormalization(found));
                // A written-out one stands where its last operator does.
                foreach (string output in node.Output)
                {
                    if (byOutput.TryGetValue(output, out NormalizationNode? spelled))
                        nodes.Add(new OnnxNormalization(spelled));
                }
            }
        }
        NormalizationNodes = nodes.AsReadOnly();
    }

    /// <summary>The path as it was given to <see cref="Load"/>.</summary>
    public string Path { get; }

    /// <summary>The program that made the file, as it names itself; may be empty.</summary>
    public string Producer { get; }

    /// <summary>The version of the default operator set.</summary>
    public long OpsetVersion { get; }

    /// <summary>The normalizations, in the order of the graph.</summary>
    public IReadOnlyList<OnnxNormalization> NormalizationNodes { get; }

    /// <summary>Reads a model. Its parameters stay in memory; external data are read when they are asked for.</summary>
    /// <param name="path">The file.</param>
    /// <returns>The model.</returns>
    /// <exception cref="ArgumentException"><paramref name="path"/> is null or empty.</exception>
    /// <exception cref="FileNotFoundException">There is no such file.</exception>
    /// <exception cref="DirectoryNotFoundException">There is no such folder.</exception>
    /// <exception cref="UnauthorizedAccessException">The file may not be read.</exception>
    /// <exception cref="InvalidDataException">It is not a sound ONNX model: the message is one line with the path, what was
    /// found and what is accepted.</exception>
    /// <exception cref="IOException">It is a folder or a pipe, or it cannot be mapped.</exception>
    public static OnnxModel Load(string path)
    {
        using MappedFile file = MappedFile.Open(path);
        if (file.Length == 0)
            throw Refusal.Of(path, "is not an ONNX model: it is empty.");
        if (file.Length > int.MaxValue)
            throw Refusal.Of(path, $"has {file.Length} bytes; an ONNX file has at most {int.MaxValue} and keeps larger data outside.");
        ModelProto proto;
        try
        {
            proto = ModelProto.Parser.WithDiscardUnknownFields(true).ParseFrom(file.Bytes((int)file.Length));
        }
        catch (InvalidProtocolBufferException cause)
        {
            throw Refusal.Of(path, $"is not an ONNX model, or is cut short: {cause.Message.ReplaceLineEndings(" ")}");
        }
        return new OnnxModel(path, proto);
    }

    /// <summary>Finds a normalization by its name or by the name of its result.</summary>
    /// <param name="name">The exact name.</param>
    /// <returns>The normalization.</returns>
    /// <exception cref="ArgumentNullException"><paramref name="name"/> is null.</exception>
    /// <exception cref="KeyNotFoundException">There is none of this name, or more than one; the message gives names that are there.</exception>
    public OnnxNormalization Find(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        List<OnnxNormalization> found = [.. NormalizationNodes.Where(node => node.Outputs[0] == name)];
        if (found.Count == 0)
            found = [.. NormalizationNodes.Where(node => node.Name == name)];
        if (found.Count > 1)
            throw new KeyNotFoundException($"{Path}: {found.Count} normalizations are named {Refusal.Quote(name)}; their results are {string.Join(", ", found.Take(NearNames.MostNames).Select(node => Refusal.Quote(node.Outputs[0])))}: name one by its result.");
        return found.Count == 1 ? found[0] : throw new KeyNotFoundException(NearNames.Missing(Path, "normalization", name, [.. NormalizationNodes.Select(node => node.Name)]));
    }
}
