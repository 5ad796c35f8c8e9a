using System.Diagnostics.CodeAnalysis;

namespace NormLayers.IO.Onnx;

/// <summary>What a value of the graph is, and who reads it.</summary>
internal sealed partial class WrittenOut
{
    private bool IsNumerator(string value)
    {
        string name = Canonical(value);
        if (!centered)
            return name == source;
        return graph.Producer(name) is { OpType: "Sub", Input.Count: 2 } difference && Canonical(difference.Input[0]) == source && IsMeanOfSource(difference.Input[1]);
    }

    private bool IsMeanOfSource(string value) => IsMeanOf(Canonical(value), out string? of) && of == source && AxesOf(Canonical(value)) == axes;

    private bool IsMeanOf(string value, [NotNullWhen(true)] out string? of)
    {
        of = graph.Producer(value) is { OpType: "ReduceMean", Input.Count: > 0 } mean && mean.Integer("keepdims", 1) == 1 ? Canonical(mean.Input[0]) : null;
        return of is not null;
    }

    private bool IsSquareOf(string value, [NotNullWhen(true)] out string? of)
    {
        of = null;
        if (graph.Producer(value) is not { Input.Count: 2 } node)
            return false;
        string first = Canonical(node.Input[0]);
        if ((node.OpType == "Mul" && first == Canonical(node.Input[1])) || (node.OpType == "Pow" && Scalar(node.Input[1]) == 2))
            of = first;
        return of is not null;
    }

    /// <summary>The axes of the mean that gives a value, as text to compare; the same text for an unknown that is the same value.</summary>
    private string AxesOf(string mean)
    {
        NodeProto node = graph.Producer(mean)!;
        long?[]? known = node.InputOrNull(1) is { } input ? graph.Integers(input)
            : node.Find("axes") is { Ints.Count: <= Shapes.MaxRank } attribute ? [.. attribute.Ints.Select(axis => (long?)axis)] : null;
        return known is null || known.Contains(null) ? $"?{node.InputOrNull(1)}" : string.Join(',', known);
    }

    /// <summary>The axes counted from the end where they can be, sorted; null where they are unknown.</summary>
    private long[]? AxesList(string of)
    {
        if (axes.StartsWith('?') || axes.Length == 0)
            return null;
        long[] list = [.. axes.Split(',').Select(text => long.Parse(text, System.Globalization.CultureInfo.InvariantCulture))];
        if (graph.Shape(of)?.Length is { } rank)
            list = [.. list.Select(axis => axis < 0 ? axis : axis - rank)];
        Array.Sort(list);
        return list.Distinct().Count() == list.Length ? list : null;
    }

    /// <summary>What reshapes cut into (N, groups, ...), with its own N, and how many groups; null where they do not.</summary>
    private (string Whole, long Groups)? GroupsOf(string value)
    {
        string first = value, whole = value;
        for (int i = 0; i < MostFollowed && graph.Producer(whole) is { OpType: "Reshape", Input.Count: > 0 } reshape; i++)
        {
            (first, whole) = (whole, Canonical(reshape.Input[0]));
            if (!KeepsFirst(first, whole))
                return null;
        }
        return whole != value && graph.Shape(value) is [_, > 0 and { } groups, _] && graph.Shape(first) is [_, { } cut, ..] && cut == groups
            && (ChannelsOf(whole) is not { } known || known % groups == 0) ? (whole, groups) : null;
    }

    /// <summary>Whether a reshape leaves N alone: a length that only the running model knows is taken for it, one that is written or left over has to be.</summary>
    private bool KeepsFirst(string reshaped, string whole) => FirstOfTarget(reshaped) switch
    {
        null or 0 => true,
        < 0 => false,
        { } written => graph.Shape(whole) is [{ } n, ..] && n == written,
    };

    private long? ChannelsOf(string value) => graph.Shape(value) is [_, var second, ..] ? second : null;

    private long? FirstOfTarget(string value) => graph.Producer(value) is not { } reshape ? null
        : reshape.InputOrNull(1) is { } target ? graph.Integers(target) is [var length, ..] ? length : null
        : reshape.Integers("shape") is [var attribute, ..] ? attribute : null;

    private bool IsFilledWith(string value, double number)
    {
        if (graph.Constant(value) is not { Type: not null } constant)
            return false;
        System.Numerics.Tensors.Tensor<double> elements = constant.ReadAs<double>();
        foreach (double element in elements)
        {
            if (element != number)
                return false;
        }
        return true;
    }

    private double? Scalar(string? value) => value is null ? null : graph.Constant(Canonical(value))?.Scalar();

    /// <summary>A binary node's operand that is not what <paramref name="test"/> finds a number in, and that number.</summary>
    private static (string Other, double Value)? Operands(NodeProto node, Func<string, double?> test)
    {
        if (node.Input.Count != 2)
            return null;
        if (test(node.Input[1]) is { } second)
            return (node.Input[0], second);
        return test(node.Input[0]) is { } first ? (node.Input[1], first) : null;
    }

    /// <summary>The operands of a binary node: the one that is a value or a cast of it, and the other.</summary>
    private (string Same, string Other) Others(NodeProto node, string value)
        => Canonical(node.Input[0]) == Canonical(value) ? (node.Input[0], node.Input[1]) : (node.Input[1], node.Input[0]);

    private bool IsParameter(string value) => Base(value) is var name && (graph.Constant(name) is not null || graph.IsInput(name));

    /// <summary>The value that casts, identities and new shapes make this one of.</summary>
    private string Base(string value) => Back(value, "Cast", "Identity", "Flatten", "Reshape", "Unsqueeze");

    /// <summary>A cast to anything but float16, bfloat16, float32 and float64.</summary>
    private static bool Truncates(NodeProto node) => node.OpType == "Cast" && node.Integer("to", 1) is not (1 or 10 or 11 or 16);

    private string Canonical(string value) => Back(value, "Cast", "Identity");

    private string Back(string value, params ReadOnlySpan<string> operators)
    {
        for (int i = 0; i < MostFollowed && graph.Constant(value) is null && graph.Producer(value) is { Input.Count: > 0 } node && operators.Contains(node.OpType) && !Truncates(node); i++)
            value = node.Input[0];
        return value;
    }

    /// <summary>Who reads a value or a cast of it.</summary>
    private List<NodeProto> Readers(string value)
    {
        var readers = new List<NodeProto>();
        var open = new Stack<string>([value]);
        while (readers.Count < MostFollowed && open.TryPop(out string? next))
        {
            foreach (NodeProto reader in graph.Consumers(next))
            {
                if (reader.OpType is "Cast" or "Identity" && !Truncates(reader) && reader.OutputOrNull(0) is { } output)
                    open.Push(output);
                else
                    readers.Add(reader);
            }
        }
        return readers;
    }
}
