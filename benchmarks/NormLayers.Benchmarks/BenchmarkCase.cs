using System.Globalization;

namespace NormLayers.Benchmarks;

/// <summary>Which derivative of a layer: its value, or all its gradients.</summary>
internal enum Pass
{
    Forward,
    Backward,
}

/// <summary>A line of the case list that the peers' programs read too, in one of its element types.</summary>
/// <param name="Op">The operator, for instance <c>LayerNorm</c>.</param>
/// <param name="Name">The name of the case, unique within its operator.</param>
/// <param name="Dims">The input's shape.</param>
/// <param name="Parameter">LayerNorm, RMSNorm and their fused forms: how many elements are normalized together; GroupNorm: the groups; LRN: size:alpha:beta:k.</param>
/// <param name="Dtype">The element type of tensors and parameters.</param>
internal sealed record BenchmarkCase(string Op, string Name, nint[] Dims, string Parameter, string Dtype)
{
    /// <summary>The element types; the last one has tensors of bfloat16 and parameters of float.</summary>
    public const string Float = "f32", BFloat = "bf16", Half = "f16", Mixed = "bf16+f32";

    public nint Elements => Dims.Aggregate((nint)1, (product, length) => product * length);

    /// <summary>The size of a tensor of the input's shape.</summary>
    public long TensorBytes => Elements * (Dtype == Float ? sizeof(float) : sizeof(ushort));

    /// <summary>Whether a residual is added before the normalization.</summary>
    public bool AddsResidual => Op.StartsWith("Add", StringComparison.Ordinal);

    /// <summary>Whether two layers, or a layer and what comes before or after it, are one call.</summary>
    public bool IsFused => AddsResidual || Op is "AdaptiveLayerNorm" or "GroupNormSiLU";

    /// <summary>The single number of <see cref="Parameter"/>.</summary>
    public nint Count => nint.Parse(Parameter, CultureInfo.InvariantCulture);

    /// <summary>The numbers of <see cref="Parameter"/>.</summary>
    public double[] Numbers => [.. Parameter.Split(':').Select(text => double.Parse(text, CultureInfo.InvariantCulture))];

    /// <summary>
    /// The least traffic, in tensors of the input's shape: forward reads x and writes y, backward reads x and dy and writes dx. With a residual,
    /// forward reads that too and writes the sum too, backward reads the sum and its gradient too. Parameters do not count.
    /// </summary>
    public (int Reads, int Writes) Traffic(Pass pass) => (AddsResidual, pass) switch
    {
        (false, Pass.Forward) => (1, 1),
        (false, _) => (2, 1),
        (true, Pass.Forward) => (2, 2),
        (true, _) => (3, 1),
    };

    public long Bytes(Pass pass)
    {
        (int reads, int writes) = Traffic(pass);
        return TensorBytes * (reads + writes);
    }

    public override string ToString() => Dtype == Float ? $"{Op} {Name}" : $"{Op} {Name} {Dtype}";

    public static List<BenchmarkCase> Load(string path)
        => [.. File.ReadLines(path).Skip(1).Where(line => line.Length > 0).SelectMany(Read)];

    private static IEnumerable<BenchmarkCase> Read(string line)
    {
        string[] fields = line.Split('\t');
        nint[] dims = [.. fields[2].Split(',').Select(length => nint.Parse(length, CultureInfo.InvariantCulture))];
        return fields[4].Split(',').Select(dtype => new BenchmarkCase(fields[0], fields[1], dims, fields[3], dtype));
    }
}
