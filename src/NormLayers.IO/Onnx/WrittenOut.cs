namespace NormLayers.IO.Onnx;

/// <summary>
/// Finds normalizations that a graph spells in simpler operators. Each has one square root (or power of a half) of a mean of
/// squares; from there the statistics are followed back to the input, and the result forward to the last of scale and bias.
/// </summary>
/// <remarks>
/// The mean of squares is of x less its mean, or E[x²] - E[x]², or of x itself (RMSNorm); it goes on as a divisor or through
/// Reciprocal. Casts and identities are looked through, and so are the Flatten and Reshape around a normalization that cuts
/// its input into rows. What is found gives the same function as the operators, up to their rounding.
/// </remarks>
internal sealed partial class WrittenOut
{
    // Real patterns are a few nodes; a hostile file's chains may be as long as the file, and be walked as often.
    private const int MostFollowed = 64;

    private readonly OnnxGraph graph;

    // What the match at hand has found so far.
    private string source = "";
    private string axes = "";
    private bool centered;
    private long? channels;

    private WrittenOut(OnnxGraph graph) => this.graph = graph;

    /// <summary>The normalizations that a graph writes out.</summary>
    public static IEnumerable<NormalizationNode> Find(OnnxGraph graph)
    {
        foreach (NodeProto node in graph.Proto.Node)
        {
            var match = new WrittenOut(graph);
            NormalizationNode? found = node.OpType switch
            {
                "Sqrt" or "Pow" => match.AtRoot(node),
                "InstanceNormalization" => match.AtInstances(node),
                _ => null,
            };
            if (found is not null)
                yield return found;
        }
    }

    private NormalizationNode? AtRoot(NodeProto root)
    {
        double power = root.OpType == "Sqrt" ? 0.5 : Scalar(root.InputOrNull(1)) ?? 0;
        if (Math.Abs(power) != 0.5 || root.InputOrNull(0) is not { } radicand || root.OutputOrNull(0) is not { } deviation)
            return null;
        double eps = 0;
        string squares = Canonical(radicand);
        if (graph.Producer(squares) is { OpType: "Add" } sum && Operands(sum, Scalar) is var (rest, value))
            (squares, eps) = (Canonical(rest), value);
        if (!double.IsFinite(eps) || !MatchSquares(squares))
            return null;

        // MeanVarianceNormalization alone adds its epsilon after the root.
        bool afterRoot = false;
        if (eps == 0 && centered && power > 0 && Readers(deviation) is [{ OpType: "Add" } late] && Operands(late, Scalar) is var (_, lateEps) && double.IsFinite(lateEps) && late.OutputOrNull(0) is { } sumWithEps)
            (deviation, eps, afterRoot) = (sumWithEps, lateEps, true);

        foreach ((string output, string? scale, string? bias) in power > 0 ? Divided(deviation) : Multiplied(deviation))
        {
            if (Complete(output, scale, bias, eps, afterRoot) is { } found)
                return found;
        }
        return null;
    }

    /// <summary>Matches the mean of squares whose root is taken, and so the input, the axes and whether it is centered.</summary>
    private bool MatchSquares(string squares)
    {
        if (IsMeanOf(squares, out string? square) && IsSquareOf(square, out string? value))
        {
            axes = AxesOf(squares);
            source = value;
            if (graph.Producer(value) is { OpType: "Sub", Input.Count: 2 } difference && IsMeanOf(Canonical(difference.Input[1]), out string? x)
                && x == Canonical(difference.Input[0]) && AxesOf(Canonical(difference.Input[1])) == axes)
                (source, centered) = (x, true);
            return true;
        }
        // E[x²] - E[x]².
        if (graph.Producer(squares) is not { OpType: "Sub", Input.Count: 2 } variance)
            return false;
        string meanOfSquare = Canonical(variance.Input[0]);
        if (!IsMeanOf(meanOfSquare, out square) || !IsSquareOf(square, out value)
            || !IsSquareOf(Canonical(variance.Input[1]), out string? mean) || !IsMeanOf(mean, out string? of) || of != value || AxesOf(mean) != AxesOf(meanOfSquare))
            return false;
        (source, axes, centered) = (value, AxesOf(mean), true);
        return true;
    }

    /// <summary>What is made of the deviation: a quotient, or products with its reciprocal.</summary>
    private IEnumerable<(string Output, string? Scale, string? Bias)> Divided(string deviation)
    {
        foreach (NodeProto reader in Readers(deviation))
        {
            if (reader.OutputOrNull(0) is not { } output)
                continue;
            if (reader.OpType == "Reciprocal" || (reader is { OpType: "Div", Input.Count: 2 } && Scalar(reader.Input[0]) == 1))
            {
                foreach ((string Output, string? Scale, string? Bias) product in Multiplied(output))
                    yield return product;
            }
            else if (reader is { OpType: "Div", Input.Count: 2 } && IsNumerator(reader.Input[0]))
            {
                yield return (output, null, null);
            }
        }
    }

    private IEnumerable<(string Output, string? Scale, string? Bias)> Multiplied(string reciprocal)
    {
        foreach (NodeProto reader in Readers(reciprocal))
        {
            if (reader is not { OpType: "Mul", Input.Count: 2 } || reader.OutputOrNull(0) is not { } product)
                continue;
            (string _, string other) = Others(reader, reciprocal);
            if (IsNumerator(other))
            {
                yield return (product, null, null);
                continue;
            }
            if (!IsParameter(other))
                continue;
            // rstd * scale first, as TensorFlow writes it: (x - mean) * it + bias, or x * it + (bias - mean * it).
            foreach (NodeProto scaled in Readers(product))
            {
                if (scaled is not { OpType: "Mul", Input.Count: 2 } || scaled.OutputOrNull(0) is not { } output)
                    continue;
                (string _, string factor) = Others(scaled, product);
                if (IsNumerator(factor))
                    yield return (output, other, null);
                else if (Canonical(factor) == source && centered && ShiftedBias(output, product) is var (sum, bias))
                    yield return (sum, other, bias);
            }
        }
    }

    /// <summary>x * s + (bias - mean * s), from x * s.</summary>
    private (string Sum, string Bias)? ShiftedBias(string scaledInput, string scale)
    {
        foreach (NodeProto sum in Readers(scaledInput))
        {
            if (sum is not { OpType: "Add", Input.Count: 2 } || sum.OutputOrNull(0) is not { } output)
                continue;
            (string _, string shift) = Others(sum, scaledInput);
            if (graph.Producer(Canonical(shift)) is { OpType: "Sub", Input.Count: 2 } difference && IsParameter(difference.Input[0])
                && graph.Producer(Canonical(difference.Input[1])) is { OpType: "Mul", Input.Count: 2 } product
                && product.Input.Any(input => Canonical(input) == Canonical(scale)) && product.Input.Any(IsMeanOfSource))
                return (output, difference.Input[0]);
        }
        return null;
    }

    /// <summary>Finds the input itself, where rows were cut out of it.</summary>
    private NormalizationNode? Complete(string output, string? scale, string? bias, double eps, bool afterRoot)
    {
        if (graph.Producer(source) is { OpType: "Flatten" } flatten && axes is "1" or "-1")
            return flatten.InputOrNull(0) is not { } flattened ? null : Assemble(Canonical(flattened), flatten.Integer("axis", 1), null, null, output, scale, bias, eps, afterRoot);
        // Tokens are cut into three dimensions too: without groups' way back, it is the last dimension's own layer.
        if (axes is "2" or "-1" && GroupsOf(source) is var (whole, groups) && Assemble(whole, null, null, groups, output, scale, bias, eps, afterRoot) is { } found)
            return found;
        if (AxesList(source) is not { } list)
            return null;
        bool last = list.SequenceEqual(Enumerable.Range(-list.Length, list.Length).Select(axis => (long)axis));
        return Assemble(source, last ? -list.Length : null, last ? null : list, null, output, scale, bias, eps, afterRoot);
    }

    /// <summary>Follows scale, bias and the reshape back, and puts together what was found.</summary>
    private NormalizationNode? Assemble(string input, long? axis, long[]? overAxes, long? groups, string output, string? scale, string? bias, double eps, bool afterRoot)
    {
        bool perChannel = groups is not null;
        channels = ChannelsOf(input);
        if (scale is not null && (afterRoot || !Fits(scale, source, perChannel, axis, overAxes)) || bias is not null && !Fits(bias, source, perChannel, axis, overAxes))
            return null;
        if (!afterRoot)
            (output, scale, bias) = Affine(output, scale, bias, perChannel, axis, overAxes);
        if (input != source)
        {
            if (Readers(output) is not [{ OpType: "Reshape" } back] || back.OutputOrNull(0) is not { } shaped || !MayBeOneShape(shaped, input))
                return null;
            output = shaped;
        }
        string? operation = (centered, afterRoot, groups) switch
        {
            (true, true, null) => "MeanVarianceNormalization",
            (true, false, { }) => "GroupNormalization",
            (true, false, null) => "LayerNormalization",
            (false, false, null) => "RMSNormalization",
            _ => null,
        };
        if (operation is null)
            return null;
        if (operation == "MeanVarianceNormalization" && overAxes is null)
        {
            // It lists its axes, and Flatten counts from the first one: the rank turns that into a count from the end.
            if ((axis >= 0 ? axis - graph.Shape(input)?.Length : axis) is not (< 0 and >= -Shapes.MaxRank and var first))
                return null;
            overAxes = [.. Enumerable.Range((int)first, (int)-first).Select(i => (long)i)];
        }
        return new NormalizationNode(graph, output, operation, IsWrittenOut: true)
        {
            Inputs = [input, scale is null ? null : Base(scale), bias is null ? null : Base(bias)],
            Outputs = [output],
            Epsilon = eps,
            Axis = axis ?? -1,
            Axes = overAxes,
            Groups = groups ?? 0,
        };
    }

    /// <summary>PyTorch's GroupNorm before opset 18: an InstanceNormalization without effect of its own parameters, between two reshapes.</summary>
    private NormalizationNode? AtInstances(NodeProto node)
    {
        if (NormalizationNode.Of(graph, node) is not { Outputs: [{ } rows, ..] } instances || GroupsOf(node.Input[0]) is not var (whole, groups)
            || !IsFilledWith(node.Input[1], 1) || !IsFilledWith(node.Input[2], 0)
            || Readers(rows) is not [{ OpType: "Reshape" } back] || back.OutputOrNull(0) is not { } normalized || !MayBeOneShape(normalized, whole))
            return null;
        channels = ChannelsOf(whole);
        (string output, string? scale, string? bias) = Affine(normalized, null, null, perChannel: true, null, null);
        return new NormalizationNode(graph, output, "GroupNormalization", IsWrittenOut: true)
        {
            Inputs = [whole, scale is null ? null : Base(scale), bias is null ? null : Base(bias)],
            Outputs = [output],
            Epsilon = instances.Epsilon,
            Groups = groups,
            Replaces = node,
        };
    }

    private (string Output, string? Scale, string? Bias) Affine(string normalized, string? scale, string? bias, bool perChannel, long? axis, long[]? overAxes)
    {
        string output = normalized;
        if (scale is null)
        {
            if (Next(output, "Mul", perChannel, axis, overAxes) is not var (product, factor))
                return (normalized, null, null);
            (output, scale) = (product, factor);
        }
        // RMSNorm has none.
        if (bias is null && (centered || perChannel) && Next(output, "Add", perChannel, axis, overAxes) is var (sum, summand))
            (output, bias) = (sum, summand);
        return (output, scale, bias);
    }

    /// <summary>The one reader of a value, if it combines it with a parameter of the right shape.</summary>
    private (string Output, string Parameter)? Next(string value, string operation, bool perChannel, long? axis, long[]? overAxes)
    {
        IReadOnlyList<NodeProto> readers = Readers(value);
        // The rows become the input's shape again before a scale per channel.
        for (int i = 0; i < MostFollowed && perChannel && readers is [{ OpType: "Reshape" } reshape] && reshape.OutputOrNull(0) is { } reshaped && Readers(reshaped) is [{ OpType: "Mul" or "Add" or "Reshape" }]; i++)
            (value, readers) = (reshaped, Readers(reshaped));
        if (readers is not [{ Input.Count: 2 } node] || node.OpType != operation || node.OutputOrNull(0) is not { } output)
            return null;
        (string _, string other) = Others(node, value);
        return IsParameter(other) && Fits(other, value, perChannel, axis, overAxes) ? (output, other) : null;
    }

    /// <summary>Whether a parameter acts on a value as the layer's own does: its elements are where the layer's are.</summary>
    private bool Fits(string parameter, string value, bool perChannel, long? axis, long[]? overAxes)
    {
        if (graph.Shape(parameter) is not { } shape || graph.Shape(Base(parameter)) is not { } stored || stored.All(length => length == 1))
            return false;
        // A value of rows has another shape after them; any other has its input's rank.
        int? rank = graph.Shape(perChannel ? value : source)?.Length;
        if (shape.Length > rank)
            return false;
        if (perChannel)
            // The second dimension; of a value of unknown rank, one that is not the last of several.
            return stored.Where(length => length != 1).ToArray() is [var count] && (channels is null || count == channels) && shape.Count(length => length != 1) == 1
                && (rank is { } known ? shape.Length >= known - 1 && shape[^(known - 1)] != 1 : shape.Length == 1 || shape[^1] == 1);
        // Of flattened rows; the elements' own shape is the input's last dimensions'.
        if (overAxes is null && graph.Producer(source) is { OpType: "Flatten" })
            return shape[..^1].All(length => length == 1);
        // New dimensions in between would move what is stored.
        if (!shape.SkipWhile(length => length == 1).SequenceEqual(stored.SkipWhile(length => length == 1)))
            return false;
        if (overAxes is null)
            return shape.Length <= -axis || shape[..^(int)-axis!.Value].All(length => length == 1);
        // Over other axes than the last ones each axis must be where its mean was taken, counted from the end.
        return rank > 0 && shape.Select((length, i) => length == 1 || overAxes.Contains(i - shape.Length) || overAxes.Contains(i - shape.Length + rank.Value)).All(fits => fits);
    }

    private bool MayBeOneShape(string a, string b)
        => graph.Shape(a) is not { } first || graph.Shape(b) is not { } second
            || first.Length == second.Length && first.Zip(second, (x, y) => x is null || y is null || x == y).All(same => same);
}
