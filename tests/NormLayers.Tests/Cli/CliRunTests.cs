using System.Numerics.Tensors;
using NormLayers.IO;
using Xunit;

namespace NormLayers.Tests.CommandLine;

public sealed class CliRunTests : Sandbox
{
    private static readonly float[] X = [1, 2, 4, 8, -1, 0, 3, -5];
    private static readonly float[] Weight = [2, 3, 5, 7];
    private static readonly float[] Bias = [-1, 1, 0.5f, 0];

    [Fact]
    public void Run_NoWeights_InitialParameters()
    {
        Result result = Succeed("run", "LayerNorm(4)", "--input", Input(), "--output", File("y.npy"));

        Assert.Equal(Expected(null, null), Read<float>(File("y.npy")));
        Assert.Contains("initial", result.Output, StringComparison.Ordinal);
        Assert.Equal(["x.npy", "y.npy"], Files());
    }

    [Fact]
    public void Run_WeightAndBias_AreUsed()
    {
        Succeed("run", "LayerNorm(4)", "--input", Input(), "--output", File("y.npy"), "--weight", Npy("w.npy", [4], Weight), "--bias", Npy("b.npy", [4], Bias));
        Assert.Equal(Expected(Weight, Bias), Read<float>(File("y.npy")));
    }

    [Fact]
    public void Run_WeightAlone_BiasStaysZero()
    {
        Succeed("run", "LayerNorm(4)", "--input", Input(), "--output", File("y.npy"), "--weight", Npy("w.npy", [4], Weight));
        Assert.Equal(Expected(Weight, null), Read<float>(File("y.npy")));
    }

    [Fact]
    public void Run_BiasAloneInDouble_IsConverted()
    {
        Succeed("run", "LayerNorm(4)", "--input", Input(), "--output", File("y.npy"), "--bias", Npy("b.npy", [4], Array.ConvertAll(Bias, value => (double)value)));
        Assert.Equal(Expected(null, Bias), Read<float>(File("y.npy")));
    }

    [Fact]
    public void Run_Float16_StaysFloat16()
    {
        string input = Npy("h.npy", [2, 4], Array.ConvertAll(X, value => (Half)value)), weights = Safetensors(("weight", Weight), ("bias", Bias));
        Result result = Succeed("run", "LayerNorm(4, dtype=torch.float16)", "--input", input, "--output", File("y.npy"), "--weights", weights);
        // One rounding away from the same in float, whose parameters these are exactly.
        Assert.Equal(Array.ConvertAll(Expected(Weight, Bias), value => (Half)value), Read<Half>(File("y.npy")));
        Assert.Contains("float16", result.Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(null, "weight", "bias")]
    [InlineData("encoder.norm", "encoder.norm.weight", "encoder.norm.bias")]
    [InlineData("encoder.norm.", "encoder.norm.weight", "encoder.norm.bias")]
    [InlineData("layer_norm_43", "layer_norm_43.w_0", "layer_norm_43.b_0")]
    [InlineData("ln", "ln.gamma", "ln.beta")]
    [InlineData("LayerNorm_0", "LayerNorm_0.scale", "LayerNorm_0.bias")]
    public void Run_Weights_FoundUnderNamesOfEachFramework(string? prefix, string weight, string bias)
    {
        string weights = Safetensors((bias, Bias), ("other.weight", [1, 1]), (weight, Weight), ("layer_norm_4.w_0", [1]));
        string[] options = prefix is null ? ["--weights", weights] : ["--weights", weights, "--prefix", prefix];

        Result result = Succeed(["run", "LayerNorm(4)", "--input", Input(), "--output", File("y.npy"), .. options]);

        Assert.Equal(Expected(Weight, Bias), Read<float>(File("y.npy")));
        Assert.Contains(weight, result.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Run_Float64_ComputesInDouble()
    {
        double[] values = Array.ConvertAll(X, value => value + 1e-9);
        var layer = new LayerNorm<double>(4);
        layer.Weight!.Value.Fill(3);

        Result result = Succeed(
            "run", "LayerNorm((4,), eps=1e-05, elementwise_affine=True)", "--input", Npy("x.npy", [2, 4], values),
            "--output", File("y.npy"), "--weight", Npy("w.npy", [4], 3f, 3f, 3f, 3f));

        Assert.Equal(Tensors.ToArray(layer.Forward(Tensor.Create(values, [2, 4]))), Read<double>(File("y.npy")));
        Assert.Contains("float64", result.Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(true, "<f4")]
    [InlineData(false, ">f4")]
    [InlineData(true, ">f4")]
    public void Run_ForeignLayout_GivesTheSameFile(bool fortranOrder, string descr)
    {
        float[] stored = fortranOrder ? [1, -1, 2, 0, 4, 3, 8, -5] : X;
        string foreign = ForeignNpy("foreign.npy", fortranOrder, descr, "(2, 4)", stored);
        Assert.Equal(X, Read<float>(foreign));

        Result plain = Succeed("run", "LayerNorm(4)", "--input", Input(), "--output", File("y.npy"));
        Result result = Succeed("run", "LayerNorm(4)", "--input", foreign, "--output", File("z.npy"));

        Assert.Equal(System.IO.File.ReadAllBytes(File("y.npy")), System.IO.File.ReadAllBytes(File("z.npy")));
        Assert.Equal(Line(plain, "before"), Line(result, "before"));
    }

    [Fact]
    public void Run_Scalar_KeepsItsShape()
    {
        Succeed("run", "LayerNorm(1)", "--input", Npy("x.npy", [], 5f), "--output", File("y.npy"));
        using NpyFile file = NpyFile.Open(File("y.npy"));
        Assert.Empty(file.Shape);
        Assert.Equal([0f], Read<float>(File("y.npy")));
    }

    [Fact]
    public void Run_NoElements_GivesNoElements()
    {
        Result result = Succeed("run", "LayerNorm(4)", "--input", Npy<float>("x.npy", [0, 4]), "--output", File("y.npy"));
        Assert.Empty(Read<float>(File("y.npy")));
        Assert.DoesNotContain("mean", result.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Run_GroupNorm_TakesItsWeight()
    {
        var layer = new GroupNorm<float>(2, 4);
        Tensor.Create(Weight).CopyTo(layer.Weight!.Value);

        Succeed("run", "nn.GroupNorm(2, 4)", "--input", Npy("x.npy", [1, 4, 2], X), "--output", File("y.npy"), "--weight", Npy("w.npy", [4], Weight));

        Assert.Equal(Tensors.ToArray(layer.Forward(Tensor.Create(X, [1, 4, 2]))), Read<float>(File("y.npy")));
    }

    [Fact]
    public void Run_Force_ReplacesTheOutput()
    {
        System.IO.File.WriteAllText(File("y.npy"), "old");
        Succeed("run", "LayerNorm(4)", "--input", Input(), "--output", File("y.npy"), "--force");
        Assert.Equal(Expected(null, null), Read<float>(File("y.npy")));
        Assert.Equal(["x.npy", "y.npy"], Files());
    }

    [Fact]
    public void Run_Interrupted_LeavesNoFile()
    {
        string input = Input();
        Result result = Run(new CancellationToken(canceled: true), "run", "LayerNorm(4)", "--input", input, "--output", File("y.npy"));
        Assert.Equal(130, result.Code);
        Assert.Equal("", result.Output);
        Assert.Equal(["x.npy"], Files());
    }

    [Fact]
    public void Run_Summary_SaysWhatWasDone()
    {
        Result result = Succeed("run", "LayerNorm(4)", "--input", Npy("x.npy", [2, 2, 4], [.. X, .. X]), "--output", File("y.npy"));

        Assert.Equal("LayerNorm((4,), eps=1e-05, elementwise_affine=True)", Line(result, "layer"));
        Assert.Equal($"{File("x.npy")}, shape (2, 2, 4), float32", Line(result, "input"));
        Assert.Equal("mean 1.5, deviation 3.57071", Line(result, "before"));
        Assert.Matches("^16 elements in .* per second$", Line(result, "speed"));
        Assert.Equal(File("y.npy"), Line(result, "output"));
    }

    [Fact]
    public void Run_ManyElements_StatisticsMergeBlocks()
    {
        double[] values = Enumerable.Range(0, 5000).Select(i => 1e8 + (i % 5)).ToArray();
        Result result = Succeed("run", "LayerNorm(5)", "--input", Npy("x.npy", [1000, 5], values), "--output", File("y.npy"));
        Assert.Equal("mean 1e+08, deviation 1.41421", Line(result, "before"));
    }

    [Theory]
    [InlineData(double.PositiveInfinity, double.PositiveInfinity, "mean Infinity, deviation NaN")]
    [InlineData(double.NegativeInfinity, 1, "mean -Infinity, deviation NaN")]
    [InlineData(double.NegativeInfinity, double.PositiveInfinity, "mean NaN, deviation NaN")]
    public void Run_InfiniteElements_MeanIsNumPys(double first, double last, string expected)
    {
        double[] values = new double[5000];
        (values[3], values[4000]) = (first, last);
        Assert.Equal(expected, Line(Succeed("run", "LayerNorm(5)", "--input", Npy("x.npy", [1000, 5], values), "--output", File("y.npy")), "before"));
    }

    private static string Line(Result result, string label)
        => result.Output.Split(Environment.NewLine).Single(line => line.StartsWith(label + " ", StringComparison.Ordinal))[label.Length..].Trim();

    private static float[] Expected(float[]? weight, float[]? bias) => Tensors.ToArray(Functional.LayerNorm(
        Tensor.Create(X, [2, 4]), [4], Tensor.Create(weight ?? [1, 1, 1, 1]), Tensor.Create(bias ?? [0, 0, 0, 0])));

    private string Input() => Npy("x.npy", [2, 4], X);

    private string Safetensors(params (string Name, float[] Values)[] tensors)
    {
        var writer = new SafetensorsWriter();
        foreach ((string name, float[] values) in tensors)
            writer.Add(name, Tensor.Create(values));
        writer.Save(File("w.safetensors"));
        return File("w.safetensors");
    }
}
