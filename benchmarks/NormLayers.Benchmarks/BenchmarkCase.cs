using System.Globalization;

namespace NormLayers.Benchmarks;

/// <summary>Which derivative of a layer: its value, or all its gradients.</summary>
internal enum Pass
{
    Forward,
    Backward,
}

/// <summary>A line of the case list that the peers' programs read too.</summary>
/// <param name="Op">The operator, for instance <c>LayerNorm</c>.</param>
/// <param name="Name">The name of the case, unique within its operator.</param>
/// <param name="Dims">The input's shape.</param>
/// <param name="Parameter">LayerNorm: how many elements are normalized together; GroupNorm: the groups; LRN: size:alpha:beta:k.</param>
/// <param name="Dtypes">The element types to measure: f32, bf16.</param>
internal sealed record BenchmarkCase(string Op, string Name, nint[] Dims, string Parameter, string[] Dtypes)
{
    public const string Float = "f32";

    private const long LargestHot = 20_000_000, Rotation = 256_000_000;

    public nint Elements => Dims.Aggregate((nint)1, (product, length) => product * length);

    /// <summary>The least traffic: forward reads x and writes y; backward reads x and dy and writes dx.</summary>
    public long Bytes(Pass pass) => (long)Elements * sizeof(float) * (pass == Pass.Forward ? 2 : 3);

    /// <summary>The peers' rule: up to 20 MB of x and y one hot set of buffers, above as many in turn as make 256 MB, at least three.</summary>
    public int Sets
    {
        get
        {
            long bytes = Bytes(Pass.Forward);
            return bytes <= LargestHot ? 1 : (int)Math.Max(3, (Rotation + bytes - 1) / bytes);
        }
    }

    /// <summary>The numbers of <see cref="Parameter"/>.</summary>
    public double[] Numbers() => [.. Parameter.Split(':').Select(text => double.Parse(text, CultureInfo.InvariantCulture))];

    public override string ToString() => $"{Op} {Name}";

    public static List<BenchmarkCase> Load(string path)
        => [.. File.ReadLines(path).Skip(1).Where(line => line.Length > 0).Select(Read)];

    private static BenchmarkCase Read(string line)
    {
        string[] fields = line.Split('\t');
        nint[] dims = [.. fields[2].Split(',').Select(length => nint.Parse(length, CultureInfo.InvariantCulture))];
        return new BenchmarkCase(fields[0], fields[1], dims, fields[3], fields[4].Split(','));
    }
}
