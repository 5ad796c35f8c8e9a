using System.Numerics.Tensors;
using System.Text.Json;
using NormLayers.IO;

namespace NormLayers.Tests.Golden;

/// <summary>One file of reference vectors: see golden/README.md for the format.</summary>
public sealed class GoldenFile
{
    public static readonly string Folder = Path.Combine(AppContext.BaseDirectory, "golden");

    private static readonly Dictionary<string, GoldenFile> opened = [];
    private readonly SafetensorsFile file;

    private GoldenFile(string name)
    {
        file = SafetensorsFile.Open(Path.Combine(Folder, name + ".safetensors"));
        var cases = new List<GoldenCase>();
        for (int i = 0; i < int.Parse(file.Metadata["case_count"]); i++)
            cases.Add(new GoldenCase(file, $"case{i:000}"));
        Cases = cases;
    }

    public IReadOnlyList<GoldenCase> Cases { get; }

    /// <summary>Whether there is a file: PyTorch has CrossMapLRN2d for float32 and float64 only.</summary>
    public static bool Exists(string name) => File.Exists(Path.Combine(Folder, name + ".safetensors"));

    /// <summary>The file of a layer and dtype, for instance <c>layernorm.float32</c>; opened once a run.</summary>
    public static GoldenFile Open(string name)
    {
        lock (opened)
        {
            if (!opened.TryGetValue(name, out GoldenFile? golden))
                opened.Add(name, golden = new GoldenFile(name));
            return golden;
        }
    }
}

public sealed class GoldenCase
{
    private readonly SafetensorsFile file;

    internal GoldenCase(SafetensorsFile file, string name)
    {
        this.file = file;
        Name = name;
        Description = JsonDocument.Parse(file.Metadata[name]).RootElement;
        Tags = [.. Description.GetProperty("tags").EnumerateArray().Select(tag => tag.GetString()!)];
    }

    public string Name { get; }

    public JsonElement Description { get; }

    public IReadOnlyList<string> Tags { get; }

    public JsonElement Args => Description.GetProperty("args");

    public double Eps => Args.GetProperty("eps").GetDouble();

    public bool Has(string tensor) => file.Contains($"{Name}/{tensor}");

    public Tensor<T> Read<T>(string tensor) where T : unmanaged => file.Read<T>($"{Name}/{tensor}");

    public IReadOnlyList<nint> Shape(string tensor) => [.. file.Info($"{Name}/{tensor}").Shape.Select(length => (nint)length)];

    /// <summary>Whether the parameters are float32 beside an input of 16 bits.</summary>
    public bool IsMixed => Description.GetProperty("dtype").GetString() != Description.GetProperty("param_dtype").GetString();

    /// <summary>A parameter, its gradient or a running statistic as doubles; of the input's type T, or float32 where the case is mixed.</summary>
    public double[]? ReadParameter<T>(string tensor) where T : unmanaged
        => !Has(tensor) ? null : IsMixed ? Numbers.ToDoubles(Tensors.ToArray(Read<float>(tensor))) : Numbers.ToDoubles(Tensors.ToArray(Read<T>(tensor)));

    public Tensor<T>? ReadOptional<T>(string tensor) where T : unmanaged => Has(tensor) ? Read<T>(tensor) : null;

    /// <summary>The dimension of the channels, for layers with an affine per channel.</summary>
    public int ChannelDimension => Args.TryGetProperty("unbatched", out JsonElement unbatched) && unbatched.GetBoolean() ? 0 : 1;

    /// <summary>The exact mean (zero for RMSNorm) and 1/deviation of each group; close to them for instance normalization, whose files do not have them.</summary>
    public (double[] Mean, double[] Rstd) Statistics<T>() where T : unmanaged
    {
        if (Description.GetProperty("op").GetString() == "instance_norm")
            return InstanceStatistics<T>();
        double[] rstd = Tensors.ToArray(Repeat(Read<double>(Has("rrms_f64") ? "rrms_f64" : "rstd_f64")));
        return (Has("mean_f64") ? Tensors.ToArray(Repeat(Read<double>("mean_f64"))) : new double[rstd.Length], rstd);
    }

    private (double[] Mean, double[] Rstd) InstanceStatistics<T>() where T : unmanaged
    {
        Tensor<T> input = Read<T>("input");
        double[] x = [.. Tensors.ToArray(input).Select(Numbers.ToDouble)];
        int groups = (int)input.Lengths[..(ChannelDimension + 1)].ToArray().Aggregate((nint)1, (product, length) => product * length), run = groups == 0 ? 0 : x.Length / groups;
        double[] mean = new double[groups], variance = new double[groups];
        int channels = (int)input.Lengths[ChannelDimension];
        for (int g = 0; g < groups && run > 0; g++)
        {
            ReadOnlySpan<double> group = x.AsSpan(g * run, run);
            mean[g] = TensorPrimitives.Sum(group) / run;
            foreach (double value in group)
                variance[g] += (value - mean[g]) * (value - mean[g]) / run;
            if (!Args.GetProperty("use_input_stats").GetBoolean())
                (mean[g], variance[g]) = (ReadParameter<T>("running_mean")![g % channels], ReadParameter<T>("running_var")![g % channels]);
        }
        return (mean, [.. variance.Select(value => 1 / Math.Sqrt(value + Eps))]);
    }

    /// <summary>A tensor as PyTorch got it: the stored batch repeated, with the strides of the case.</summary>
    public Tensor<T> ReadInput<T>(string name = "input") where T : unmanaged
    {
        Tensor<T> stored = Repeat(Read<T>(name));
        return name == "input" && Description.TryGetProperty("input_strides", out JsonElement strides)
            ? Tensors.WithStrides(stored, [.. strides.EnumerateArray().Select(stride => (nint)stride.GetInt64())])
            : stored;
    }

    /// <summary>The stored batch, repeated along dimension 0 as often as the case says.</summary>
    public Tensor<T> Repeat<T>(Tensor<T> stored) where T : unmanaged
    {
        if (!Description.TryGetProperty("repeat0", out JsonElement repeat))
            return stored;
        nint[] lengths = stored.Lengths.ToArray();
        T[] once = Tensors.ToArray(stored);
        lengths[0] *= repeat.GetInt32();
        return Tensor.Create([.. Enumerable.Repeat(once, repeat.GetInt32()).SelectMany(values => values)], lengths);
    }
}
