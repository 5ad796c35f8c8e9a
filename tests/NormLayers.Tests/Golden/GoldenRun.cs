using System.Numerics.Tensors;
using System.Text.Json;

namespace NormLayers.Tests.Golden;

/// <summary>A golden case run through the layer that its function and arguments describe.</summary>
internal static class GoldenRun
{
    /// <summary>The layer with the case's parameters; one that the case lacks is left out where the layer can be without, else it keeps its neutral start.</summary>
    public static NormLayer<T> Layer<T>(GoldenCase golden) where T : unmanaged
    {
        JsonElement args = golden.Args;
        bool weight = golden.Has("weight"), bias = golden.Has("bias");
        NormLayer<T> layer = golden.Description.GetProperty("op").GetString() switch
        {
            "layer_norm" => new LayerNorm<T>(Shape(args.GetProperty("normalized_shape")), golden.Eps, weight || bias, bias),
            "rms_norm" => new RMSNorm<T>(Shape(args.GetProperty("normalized_shape")), OptionalEps(args), weight),
            "group_norm" => new GroupNorm<T>(args.GetProperty("num_groups").GetInt32(), golden.Shape("input")[1], golden.Eps, weight || bias),
            "cross_map_lrn2d" => new CrossMapLRN2d<T>(args.GetProperty("size").GetInt32(),
                args.GetProperty("alpha").GetDouble(), args.GetProperty("beta").GetDouble(), args.GetProperty("k").GetDouble()),
            "instance_norm" => InstanceNorm<T>(golden, weight || bias),
            "local_response_norm" => new LocalResponseNorm<T>(args.GetProperty("size").GetInt32(),
                args.GetProperty("alpha").GetDouble(), args.GetProperty("beta").GetDouble(), args.GetProperty("k").GetDouble()),
            var other => throw new InvalidDataException(other),
        };
        var state = new StateDict();
        foreach (Parameter<T> parameter in layer.Parameters)
            state.Add(parameter.Name, golden.ReadOptional<T>(parameter.Name) ?? parameter.Value);
        if (golden.Has("running_mean"))
        {
            state.Add("running_mean", golden.Read<T>("running_mean"));
            state.Add("running_var", golden.Read<T>("running_var"));
        }
        if (golden.Has("num_batches_tracked"))
            state.Add("num_batches_tracked", golden.Read<long>("num_batches_tracked"));
        layer.LoadStateDict(state);
        return layer;
    }

    private static NormLayer<T> InstanceNorm<T>(GoldenCase golden, bool affine) where T : unmanaged
    {
        JsonElement args = golden.Args;
        IReadOnlyList<nint> lengths = golden.Shape("input");
        nint channels = lengths[golden.ChannelDimension];
        double momentum = args.GetProperty("momentum").GetDouble();
        bool track = golden.Has("running_mean");
        NormLayer<T> layer = (lengths.Count - golden.ChannelDimension) switch
        {
            2 => new InstanceNorm1d<T>(channels, golden.Eps, momentum, affine, track),
            3 => new InstanceNorm2d<T>(channels, golden.Eps, momentum, affine, track),
            4 => new InstanceNorm3d<T>(channels, golden.Eps, momentum, affine, track),
            var other => throw new InvalidDataException($"{golden.Name}: {other}"),
        };
        layer.Train(args.GetProperty("use_input_stats").GetBoolean());
        return layer;
    }

    /// <summary>An eps that may be null.</summary>
    public static double? OptionalEps(JsonElement args)
        => args.TryGetProperty("eps", out JsonElement eps) && eps.ValueKind != JsonValueKind.Null ? eps.GetDouble() : null;

    public static nint[] Shape(JsonElement shape)
        => shape.ValueKind == JsonValueKind.Array ? [.. shape.EnumerateArray().Select(length => (nint)length.GetInt64())] : [(nint)shape.GetInt64()];
}
