using System.Globalization;
using static NormLayers.IO.Onnx.AttributeProto.Types;

namespace NormLayers.IO.Onnx;

/// <summary>A normalization of a graph: its operator, the names of its values in the operator's order, and its attributes with their defaults.</summary>
internal sealed record NormalizationNode(OnnxGraph Graph, string Name, string Operator, bool IsWrittenOut)
{
    private const string Contrib = "com.microsoft";

    /// <summary>Input, scale, bias, mean, variance; null where the node has none.</summary>
    public required string?[] Inputs { get; init; }

    public required string?[] Outputs { get; init; }

    /// <summary>What the Skip operators add to their input first: the skip, and a bias.</summary>
    public string?[] Added { get; init; } = [];

    public double Epsilon { get; init; }

    /// <summary>The first of the dimensions that share statistics, all to the last one; LpNormalization's one dimension.</summary>
    public long Axis { get; init; }

    /// <summary>The dimensions that share statistics, where they are listed one by one.</summary>
    public long[]? Axes { get; init; }

    public long Groups { get; init; }

    /// <summary>GroupNormalization of opset 18 to 20 has a scale and a bias per group, from 21 on per channel.</summary>
    public bool ScalePerGroup { get; init; }

    public long Size { get; init; }

    public double Alpha { get; init; }

    public double Beta { get; init; }

    public double K { get; init; }

    public long P { get; init; }

    /// <summary>The share of the old running statistic, as in ONNX; PyTorch's momentum is the new one's.</summary>
    public double Momentum { get; init; }

    public bool Training { get; init; }

    /// <summary>An operator that is part of a written-out normalization, and so is not listed on its own.</summary>
    public NodeProto? Replaces { get; init; }

    /// <summary>Reads a node, or gives null where it is no normalization.</summary>
    public static NormalizationNode? Of(OnnxGraph graph, NodeProto node)
    {
        bool standard = node.Domain is "" or "ai.onnx";
        if (!standard && node.Domain != Contrib)
            return null;
        NormalizationNode Make(string?[] inputs) => new(graph, NameOf(node), node.OpType, IsWrittenOut: false)
        {
            Inputs = inputs,
            Outputs = [.. node.Output.Select(output => output.Length == 0 ? null : output)],
        };
        string? Input(int index) => node.InputOrNull(index);
        NormalizationNode? found = node.OpType switch
        {
            // ONNX Runtime's optimizer puts the first and the fourth into the default domain whatever the opset.
            "LayerNormalization" when standard => Make([Input(0), Input(1), Input(2)]) with { Epsilon = node.Number("epsilon", 1e-5), Axis = node.Integer("axis", -1) },
            "RMSNormalization" when standard => Make([Input(0), Input(1)]) with { Epsilon = node.Number("epsilon", 1e-5), Axis = node.Integer("axis", -1) },
            "SimplifiedLayerNormalization" => Make([Input(0), Input(1)]) with { Epsilon = node.Number("epsilon", 1e-5), Axis = node.Integer("axis", -1) },
            "SkipLayerNormalization" when !standard => Make([Input(0), Input(2), Input(3)]) with { Added = [Input(1), Input(4)], Epsilon = node.Number("epsilon", 1e-12), Axis = -1 },
            "SkipSimplifiedLayerNormalization" when !standard => Make([Input(0), Input(2)]) with { Added = [Input(1), Input(3)], Epsilon = node.Number("epsilon", 1e-12), Axis = -1 },
            "GroupNormalization" when standard => Make([Input(0), Input(1), Input(2)]) with
            {
                Epsilon = node.Number("epsilon", 1e-5),
                Groups = node.Integer("num_groups", 0),
                ScalePerGroup = graph.Opset < 21,
            },
            "InstanceNormalization" when standard => Make([Input(0), Input(1), Input(2)]) with { Epsilon = node.Number("epsilon", 1e-5) },
            "BatchNormalization" when standard => Make([Input(0), Input(1), Input(2), Input(3), Input(4)]) with
            {
                Epsilon = node.Number("epsilon", 1e-5),
                Momentum = node.Number("momentum", 0.9),
                Training = IsTraining(graph, node),
            },
            "LRN" when standard => Make([Input(0)]) with
            {
                Size = node.Integer("size", 0),
                Alpha = node.Number("alpha", 1e-4),
                Beta = node.Number("beta", 0.75),
                K = node.Number("bias", 1),
            },
            "MeanVarianceNormalization" when standard => Make([Input(0)]) with { Epsilon = 1e-9, Axes = node.Integers("axes") ?? [0, 2, 3] },
            "LpNormalization" when standard => Make([Input(0)]) with { Axis = node.Integer("axis", -1), P = node.Integer("p", 2) },
            _ => null,
        };
        found?.Check(node);
        return found;
    }

    private static string NameOf(NodeProto node) => node.Name.Length > 0 ? node.Name : node.OutputOrNull(0) ?? "";

    private static bool IsTraining(OnnxGraph graph, NodeProto node) => graph.Opset switch
    {
        >= 14 => node.Integer("training_mode", 0) != 0,
        >= 7 => node.Output.Count(output => output.Length > 0) > 1,
        _ => node.Integer("is_test", 0) == 0,
    };

    private static AttributeType? TypeOf(string attribute) => attribute switch
    {
        "epsilon" or "momentum" or "alpha" or "beta" or "bias" => AttributeType.Float,
        "axis" or "num_groups" or "size" or "p" or "training_mode" or "is_test" or "spatial" => AttributeType.Int,
        "axes" => AttributeType.Ints,
        _ => null,
    };

    private void Check(NodeProto node)
    {
        int needed = Operator switch
        {
            "BatchNormalization" => 5,
            "GroupNormalization" or "InstanceNormalization" => 3,
            "LayerNormalization" or "RMSNormalization" or "SimplifiedLayerNormalization" or "SkipLayerNormalization" or "SkipSimplifiedLayerNormalization" => 2,
            _ => 1,
        };
        string where = $"{Graph.Path}: node {Refusal.Quote(Name)}";
        foreach (AttributeProto attribute in node.Attribute)
        {
            // A value of another type would be read as 0. The oldest files leave the type out.
            if (TypeOf(attribute.Name) is { } type && attribute.Type != type && attribute.Type != AttributeType.Undefined)
                throw Refusal.Of(where, $"has an attribute {attribute.Name} of type {attribute.Type}; accepted is {type}.");
            if (TypeOf(attribute.Name) is AttributeType.Float && !float.IsFinite(attribute.F))
                throw Refusal.Of(where, $"has {attribute.Name} {attribute.F.ToString(CultureInfo.InvariantCulture)}; accepted are finite numbers.");
        }
        if (Inputs.Take(needed).Contains(null) || (Added.Length > 0 && Added[0] is null))
            throw Refusal.Of(where, $"is a {Operator} with {node.Input.Count} inputs; accepted are at least {needed + (Added.Length > 0 ? 1 : 0)}.");
        if (Outputs.Length == 0 || Outputs[0] is null)
            throw Refusal.Of(where, $"is a {Operator} without an output; accepted is at least one.");
        if (Operator == "GroupNormalization" && Groups is < 1 or > int.MaxValue)
            throw Refusal.Of(where, $"has num_groups {Groups}; accepted are 1 to {int.MaxValue}.");
        if (Operator == "LRN" && Size is < 1 or > int.MaxValue)
            throw Refusal.Of(where, $"has size {Size}; accepted are 1 to {int.MaxValue}.");
        if (Operator == "LpNormalization" && P is not (1 or 2))
            throw Refusal.Of(where, $"has p {P}; accepted are 1 and 2.");
        if (Operator == "BatchNormalization" && Graph.Opset < 9 && node.Integer("spatial", 1) == 0)
            throw Refusal.Of(where, "has spatial 0, statistics of each position; accepted is 1, statistics of each channel.");
    }
}
