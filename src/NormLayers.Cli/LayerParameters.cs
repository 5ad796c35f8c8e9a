using System.Numerics.Tensors;
using NormLayers.IO;

namespace NormLayers.Cli;

/// <summary>Fills a layer's parameters from files, and says from where for the summary.</summary>
internal static class LayerParameters
{
    public static string LoadStateDict<T>(NormLayer<T> layer, string path, string? prefix)
        where T : unmanaged
    {
        StateDict state = LayerFiles.Read(path, prefix, out IReadOnlyList<string> sources);
        try
        {
            layer.LoadStateDict(state);
        }
        catch (StateDictException mismatch)
        {
            throw Refused.Of($"{path} ({string.Join(", ", sources)})", mismatch);
        }
        return $"{path}: {string.Join(", ", sources)}";
    }

    public static string Load<T>(NormLayer<T> layer, string parameterName, string path, CancellationToken cancellation)
        where T : unmanaged
    {
        RequireChannels(layer);
        Parameter<T> parameter = layer.Parameters.FirstOrDefault(known => known.Name == parameterName)
            ?? throw new Refused($"--{parameterName} {path}: {layer} has no {parameterName}; it has "
                + (layer.Parameters.Count == 0 ? "no parameters." : $"{string.Join(" and ", layer.Parameters.Select(known => known.Name))}."));
        using InputArray file = InputArray.Open(path, cancellation);
        if (file.ElementType is not (ElementType.Float16 or ElementType.BFloat16 or ElementType.Float32 or ElementType.Float64))
            throw new Refused($"{path}: the {parameterName} is {file.ElementType.TorchName()}; accepted are float16, bfloat16, float32 and float64.");
        if (!file.Shape.SequenceEqual(Lengths(parameter.Value.Lengths)))
        {
            throw new Refused($"{path}: the {parameterName} has the shape {Report.Shape(file.Shape)}; "
                + $"{layer} needs {Report.Shape(Lengths(parameter.Value.Lengths))}.");
        }
        file.ReadAs<T>().CopyTo(parameter.Value);
        return $"{parameterName} from {path}";
    }

    /// <summary>Refuses a lazy layer: nothing but an input or a state dict tells its channels.</summary>
    public static void RequireChannels<T>(NormLayer<T> layer)
        where T : unmanaged
    {
        if (layer is RunningNormLayer<T> { HasUninitializedParameters: true })
            throw new Refused($"{layer} has no number of channels yet; accepted are the layer with it, and --weights FILE.safetensors, which tells it.");
    }

    private static long[] Lengths(ReadOnlySpan<nint> lengths)
    {
        var result = new long[lengths.Length];
        for (int i = 0; i < result.Length; i++)
            result[i] = lengths[i];
        return result;
    }
}
