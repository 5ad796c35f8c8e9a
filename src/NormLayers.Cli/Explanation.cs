using System.Globalization;

namespace NormLayers.Cli;

/// <summary>What a layer does to an input of a shape: which elements share statistics, and what computes the same elsewhere.</summary>
internal sealed record Explanation
{
    private const string AffinePerChannel = "y = (x - E[x]) / sqrt(Var[x] + eps) * weight[c] + bias[c]";

    /// <summary>The formula, in the words of the layer's documentation.</summary>
    public required string Formula { get; init; }

    /// <summary>Which elements share statistics, in words.</summary>
    public required string Together { get; init; }

    /// <summary>What they share.</summary>
    public required string Statistics { get; init; }

    /// <summary>Weight and bias, in words.</summary>
    public required string Affine { get; init; }

    /// <summary>The function of <c>torch.nn.functional</c>.</summary>
    public required string TorchFunction { get; init; }

    /// <summary>The ONNX operator, its opset and attributes, and where it differs.</summary>
    public required string Onnx { get; init; }

    /// <summary>The names of the dimensions.</summary>
    public required string[] Dimensions { get; init; }

    /// <summary>How long in each dimension the box of elements is that share statistics.</summary>
    public required long[] Group { get; init; }

    /// <summary>Where in its window the normalized channel is; null where a whole group is normalized by the same statistics.</summary>
    public long? Center { get; init; }

    /// <summary>What a layer does, one entry for each kind.</summary>
    public static Explanation Of(NormLayer<float> layer, long[] shape) => layer switch
    {
        LayerNorm<float> norm => OfRows(norm, norm.NormalizedShape.Length, norm.Axis, shape, "layer_norm", $"LayerNormalization (opset 17): axis={-norm.NormalizedShape.Length}, epsilon={Number(norm.Eps)}; Scale = {WeightOf(norm)}{(norm.Bias is null ? "" : ", B = bias")}") with
        {
            Formula = "y = (x - E[x]) / sqrt(Var[x] + eps) * weight + bias",
            Statistics = $"mean and biased variance, eps {Number(norm.Eps)} under the root",
        },
        RMSNorm<float> norm => OfRows(norm, norm.NormalizedShape.Length, norm.Axis, shape, "rms_norm", $"RMSNormalization (opset 23): axis={-norm.NormalizedShape.Length}, epsilon={Number(norm.Eps)}; scale = {WeightOf(norm)}") with
        {
            Formula = "y = x / sqrt(E[x^2] + eps) * weight",
            Statistics = $"mean square, eps {Number(norm.Eps)} under the root",
        },
        GroupNorm<float> norm => OfChannels(norm, [1, shape[1] / norm.NumGroups], $"each sample's groups of {Count(shape[1] / (long)norm.NumGroups, "channel")}", shape) with
        {
            Formula = AffinePerChannel,
            Statistics = $"mean and biased variance, eps {Number(norm.Eps)} under the root",
            TorchFunction = "group_norm",
            Onnx = $"GroupNormalization (opset 21): num_groups={norm.NumGroups}, epsilon={Number(norm.Eps)}; scale = {WeightOf(norm)}, bias = {BiasOf(norm)} (opset 18 has one of each per group instead)",
        },
        BatchNorm<float> norm => OfChannels(norm, [shape[0], 1], "each channel over the batch", shape) with
        {
            Formula = AffinePerChannel,
            Statistics = $"mean and biased variance, eps {Number(norm.Eps)} under the root{Running(norm)}",
            TorchFunction = "batch_norm",
            Onnx = norm.TrackRunningStats
                ? $"BatchNormalization (opset 15), for evaluation mode: epsilon={Number(norm.Eps)}; scale = {WeightOf(norm)}, B = {BiasOf(norm)}, input_mean = running_mean, input_var = running_var"
                : $"BatchNormalization (opset 15): epsilon={Number(norm.Eps)}, training_mode=1; scale = {WeightOf(norm)}, B = {BiasOf(norm)}",
        },
        InstanceNorm<float> norm => OfInstances(norm, shape) with
        {
            Formula = AffinePerChannel,
            Statistics = $"mean and biased variance, eps {Number(norm.Eps)} under the root{Running(norm)}",
            TorchFunction = "instance_norm",
            Onnx = $"InstanceNormalization (opset 6): epsilon={Number(norm.Eps)}; scale = {WeightOf(norm)}, B = {BiasOf(norm)}{(norm.TrackRunningStats ? "; for evaluation mode BatchNormalization (opset 15)" : "")}",
        },
        LocalResponseNorm<float> norm => OfWindow(norm, shape) with
        {
            Formula = "y[c] = x[c] / (k + alpha / size * sum of x[j]^2)^beta, j in the window of c",
            Statistics = $"sum of squares; alpha {Number(norm.Alpha)}, beta {Number(norm.Beta)}, k {Number(norm.K)}",
            TorchFunction = norm.Window == LrnWindow.PyTorch || norm.Size % 2 == 1 ? "local_response_norm" : "local_response_norm takes another window of an even size",
            Onnx = $"LRN (opset 13): size={norm.Size}, alpha={Number(norm.Alpha)}, beta={Number(norm.Beta)}, bias={Number(norm.K)}"
                + (norm.Window == LrnWindow.Onnx || norm.Size % 2 == 1 ? "" : $"; not the same: of an even size ONNX takes the window from c - {(norm.Size - 1) / 2} to c + {norm.Size / 2}"),
        },
        CrossMapLRN2d<float> norm => OfWindow((norm.Size - 1) / 2, (norm.Size - 1) / 2, ", and channel 0, which PyTorch's sum never leaves out", shape) with
        {
            Formula = "y[c] = x[c] / (k + alpha / size * sum of x[j]^2)^beta, j in the window of c",
            Statistics = $"sum of squares; alpha {Number(norm.Alpha)}, beta {Number(norm.Beta)}, k {Number(norm.K)}",
            TorchFunction = "local_response_norm leaves channel 0 out where it is not in the window",
            Onnx = "none: LRN leaves channel 0 out where it is not in the window",
        },
        _ => throw new InvalidOperationException($"{layer.Name} has no explanation."),
    };

    /// <summary>The number of groups, or of windows.</summary>
    public long Groups(long[] shape)
    {
        long groups = 1;
        for (int i = 0; i < shape.Length; i++)
            groups *= Center is null ? shape[i] / Group[i] : shape[i];
        return groups;
    }

    public static string Count(long count, string singular) => count == 1 ? $"1 {singular}" : $"{Report.Count(count)} {singular}s";

    /// <summary>Statistics over the last dimensions, or over those from an axis on.</summary>
    private static Explanation OfRows(AffineNormLayer<float> layer, int dimensions, int? axis, long[] shape, string torchFunction, string onnx)
    {
        int first = axis is { } given ? (given < 0 ? given + shape.Length : given) : shape.Length - dimensions;
        int end = first + dimensions;
        bool last = end == shape.Length;
        string which = dimensions == 1 ? $"the {(last ? "last " : "")}dimension{(last ? "" : $" {first}")}, of {Count(shape[first], "element")},"
            : $"the {(last ? "last " : "")}{dimensions} dimensions{(last ? "" : $" from {first} on")}, {Report.Shape(shape[first..end])},";
        return Empty with
        {
            Together = dimensions == shape.Length ? "the whole input" : $"{which} at each place of {(last ? "the dimensions before" : "the others")}",
            Affine = Describe(layer, "element of a group"),
            Dimensions = last ? RowDimensions(shape.Length, dimensions) : ChannelDimensions(shape.Length),
            Group = [.. shape.Select((length, i) => i >= first && i < end ? length : 1)],
            // Both know the last dimensions only.
            TorchFunction = torchFunction + (last ? "" : ", with these dimensions transposed to the end and back"),
            Onnx = onnx + (last ? "" : ", between two Transposes"),
        };
    }

    /// <summary>Statistics over some samples and channels, with all their positions.</summary>
    private static Explanation OfChannels(AffineNormLayer<float> layer, ReadOnlySpan<long> samplesAndChannels, string each, long[] shape) => Empty with
    {
        Together = shape.Length == 2 ? each : $"{each}, with all positions",
        Affine = Describe(layer, "channel"),
        Dimensions = ChannelDimensions(shape.Length),
        Group = [.. samplesAndChannels, .. shape.AsSpan(2)],
    };

    /// <summary>Statistics over the positions of one channel, of one sample where there are samples.</summary>
    private static Explanation OfInstances(InstanceNorm<float> norm, long[] shape)
    {
        // The digit in the name is the number of dimensions after the channels.
        bool batched = shape.Length == norm.Name[^2] - '0' + 2;
        if (batched)
            return OfChannels(norm, [1, 1], "each channel of each sample", shape);
        return Empty with
        {
            Together = "each channel, with all positions",
            Affine = Describe(norm, "channel"),
            Dimensions = ChannelDimensions(shape.Length + 1)[1..],
            Group = [1, .. shape.AsSpan(1)],
        };
    }

    private static Explanation OfWindow(LocalResponseNorm<float> norm, long[] shape)
    {
        (long below, long above) = (norm.Size / 2, (norm.Size - 1) / 2);
        if (norm.Window == LrnWindow.Onnx)
            (below, above) = (above, below);
        return OfWindow(below, above, "", shape);
    }

    /// <summary>Statistics over a window of channels at one position.</summary>
    private static Explanation OfWindow(long below, long above, string besides, long[] shape)
    {
        long center = Math.Min(below, shape[1] - 1);
        return Empty with
        {
            Together = $"around each element, the window from channel c - {below} to c + {above} at its position{besides}; what is outside counts as zero",
            Affine = "none",
            Dimensions = ChannelDimensions(shape.Length),
            Group = [.. shape.Select((length, i) => i == 1 ? Math.Min(center + above + 1, length) : 1)],
            Center = center,
        };
    }

    private static string Running(RunningNormLayer<float> layer)
        => layer.TrackRunningStats ? "; in evaluation mode each channel's running ones, which no element changes" : "";

    private static string WeightOf(AffineNormLayer<float> layer) => layer.Weight is null ? "ones" : "weight";

    private static string BiasOf(AffineNormLayer<float> layer) => layer.Bias is null ? "zeros" : "bias";

    private static string Describe(NormLayer<float> layer, string per) => layer.Parameters.Count == 0
        ? "none"
        : $"{string.Join(" and ", layer.Parameters.Select(parameter => parameter.Name))}, one value per {per}: {Count(layer.Parameters.Sum(parameter => (long)parameter.Value.FlattenedLength), "parameter")}";

    private static string[] ChannelDimensions(int rank) => ["N", "C", .. rank switch
    {
        2 => (string[])[],
        3 => ["L"],
        4 => ["H", "W"],
        5 => ["D", "H", "W"],
        _ => Enumerable.Range(2, rank - 2).Select(i => $"d{i}"),
    }];

    /// <summary>The names that the dimensions have where such a layer is used: images as (N, C, H, W), text as (N, L, E).</summary>
    private static string[] RowDimensions(int rank, int normalized) => (rank, normalized) switch
    {
        (1, _) => ["E"],
        (2, 1) => ["N", "E"],
        (3, 1) => ["N", "L", "E"],
        ( >= 3, _) when normalized == rank - 1 => ChannelDimensions(rank),
        _ => [.. Enumerable.Range(0, rank).Select(i => $"d{i}")],
    };

    private static string Number(double value) => value.ToString("r", CultureInfo.InvariantCulture);

    // What the entries fill in.
    private static readonly Explanation Empty = new()
    {
        Formula = "", Together = "", Statistics = "", Affine = "", TorchFunction = "", Onnx = "", Dimensions = [], Group = [],
    };
}
