using System.Numerics.Tensors;
using NormLayers.IO;
using Xunit;

namespace NormLayers.Tests.CommandLine;

public sealed class CliRefusalTests : Sandbox
{
    private readonly string x;
    private readonly string y;

    public CliRefusalTests()
    {
        x = Npy("x.npy", [2, 4], 1f, 2, 4, 8, -1, 0, 3, -5);
        y = File("y.npy");
    }

    [Fact]
    public void Output_Exists_NamesForce()
    {
        System.IO.File.WriteAllText(y, "old");
        Assert.Equal($"normlayers: {y}: exists already; pass --force to replace it.", RefuseRun("LayerNorm(4)"));
    }

    [Theory]
    [InlineData("x.npy")]
    [InlineData("./x.npy")]
    public void Output_IsTheInput_RefusedEvenWithForce(string name)
        => Assert.Contains("same file as --input", Refuse("run", "LayerNorm(4)", "--input", x, "--output", File(name), "--force"), StringComparison.Ordinal);

    [Fact]
    public void Output_LinksToTheInput_Refused()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Making a link needs a privilege there.");
        System.IO.File.CreateSymbolicLink(File("link.npy"), x);
        Assert.Contains("same file as --input", Refuse("run", "LayerNorm(4)", "--input", x, "--output", File("link.npy"), "--force"), StringComparison.Ordinal);
    }

    [Fact]
    public void Output_IsTheWeight_RefusedEvenWithForce()
    {
        string w = Npy("w.npy", [4], 1f, 2, 3, 4);
        Assert.Contains("same file as --weight", Refuse("run", "LayerNorm(4)", "--input", x, "--output", w, "--weight", w, "--force"), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("y.safetensors", "--output is a .safetensors file, which is only read; accepted are FILE.npy, FILE.npz, FILE.npz:NAME and -.")]
    [InlineData("y.safetensors:y", "--output is a .safetensors file, which is only read; accepted are FILE.npy, FILE.npz, FILE.npz:NAME and -.")]
    [InlineData("y.npz:", "has no name after the colon; accepted are FILE.npz:NAME and FILE.npz.")]
    public void Output_OfNoUse_SaysWhatIsAccepted(string name, string reason)
        => Assert.Equal($"normlayers: {File(name)}: {reason}", Refuse("run", "LayerNorm(4)", "--input", x, "--output", File(name), "--force"));

    [Fact]
    public void Output_FolderMissing_Refused()
        => Assert.Contains("folder does not exist", Refuse("run", "LayerNorm(4)", "--input", x, "--output", File("no/y.npy")), StringComparison.Ordinal);

    [Fact]
    public void Input_Missing_Refused()
        => Assert.Equal($"normlayers: {File("no.npy")}: there is no such file.", Refuse("run", "LayerNorm(4)", "--input", File("no.npy"), "--output", y));

    [Fact]
    public void Input_NotNpy_Refused()
    {
        System.IO.File.WriteAllText(File("x.txt"), "1 2 3");
        Assert.Contains("is not a .npy file", Refuse("run", "LayerNorm(4)", "--input", File("x.txt"), "--output", y), StringComparison.Ordinal);
    }

    [Fact]
    public void Input_Integers_NamesAcceptedTypes()
        => Assert.EndsWith("the elements are int64; accepted are float16, bfloat16, float32 and float64.", Refuse("run", "LayerNorm(4)", "--input", Npy("i.npy", [4], 1L, 2, 3, 4), "--output", y), StringComparison.Ordinal);

    [Fact]
    public void Input_WrongShape_SaysBoth()
    {
        string line = RefuseRun("LayerNorm(5)");
        Assert.Contains("[5]", line, StringComparison.Ordinal);
        Assert.Contains("[2, 4]", line, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("BatchNorm9d(4)", "Unknown layer 'BatchNorm9d'")]
    [InlineData("LayerNorm(4", "LAYER 'LayerNorm(4'")]
    [InlineData("LayerNorm(4, epsilon=1)", "epsilon")]
    [InlineData("LayerNorm(-4)", "[-4]")]
    [InlineData("Layer\nNorm(4)", "LAYER 'Layer Norm(4)'")]
    public void Layer_Unreadable_SaysWhy(string layer, string reason)
        => Assert.Contains(reason, RefuseRun(layer), StringComparison.Ordinal);

    [Fact]
    public void Weights_WithWeight_Refused()
        => Assert.Contains("--weights and --weight were both given", RefuseRun("LayerNorm(4)", "--weights", "a.safetensors", "--weight", "w.npy"), StringComparison.Ordinal);

    [Fact]
    public void Weights_WithBias_Refused()
        => Assert.Contains("--weights and --bias were both given", RefuseRun("LayerNorm(4)", "--weights", "a.safetensors", "--bias", "b.npy"), StringComparison.Ordinal);

    [Fact]
    public void Prefix_WithoutWeights_Refused()
        => Assert.Contains("without --weights", RefuseRun("LayerNorm(4)", "--prefix", "norm"), StringComparison.Ordinal);

    [Fact]
    public void Prefix_MatchesNothing_NamesTheNearest()
    {
        string weights = Safetensors("encoder.norm1.weight", "encoder.norm2.weight", "encoder.conv.kernel", "head.bias");
        Assert.Contains("the nearest that do are 'encoder.norm1', 'encoder.norm2';", RefuseRun("LayerNorm(4)", "--weights", weights, "--prefix", "encoder.norm"), StringComparison.Ordinal);
    }

    [Fact]
    public void Prefix_MatchesNothingNear_NamesSome()
    {
        string weights = Safetensors("encoder.norm1.weight", "head.bias", "x.y");
        Assert.Contains("among the 2 that do are 'encoder.norm1', 'head';", RefuseRun("LayerNorm(4)", "--weights", weights, "--prefix", "zzz"), StringComparison.Ordinal);
    }

    [Fact]
    public void Prefix_Missing_SaysTopLevel()
        => Assert.Contains("at its top level; among the 1 that do are 'norm'", RefuseRun("LayerNorm(4)", "--weights", Safetensors("norm.weight")), StringComparison.Ordinal);

    [Fact]
    public void Weights_WithoutAny_SaysAcceptedNames()
        => Assert.EndsWith("nor under any other; accepted names are weight/bias (PyTorch), w_0/b_0 (Paddle), gamma/beta (Keras), scale/bias (Flax).", RefuseRun("LayerNorm(4)", "--weights", Safetensors("a.b")), StringComparison.Ordinal);

    [Fact]
    public void Weights_BiasMissing_RefusedStrictly()
        => Assert.Contains("missing keys: bias", RefuseRun("LayerNorm(4)", "--weights", Safetensors("norm.w_0"), "--prefix", "norm"), StringComparison.Ordinal);

    [Fact]
    public void Weights_OneTooMany_RefusedStrictly()
        => Assert.Contains("unexpected keys: w_1", RefuseRun("LayerNorm(4)", "--weights", Safetensors("norm.w_0", "norm.b_0", "norm.w_1"), "--prefix", "norm"), StringComparison.Ordinal);

    [Fact]
    public void Weights_WrongShape_SaysBoth()
        => Assert.Contains("size mismatch for weight: expected shape [2, 4], got [4]", RefuseRun("LayerNorm([2, 4])", "--weights", Safetensors("weight", "bias")), StringComparison.Ordinal);

    [Fact]
    public void Weights_Integers_NamesAcceptedTypes()
    {
        var writer = new SafetensorsWriter();
        writer.Add("weight", Tensor.Create<int>([1, 2, 3, 4]));
        writer.Save(File("i.safetensors"));
        Assert.Contains("'weight' is int32; accepted are", RefuseRun("LayerNorm(4)", "--weights", File("i.safetensors")), StringComparison.Ordinal);
    }

    [Fact]
    public void Weight_WrongShape_SaysBoth()
    {
        string line = RefuseRun("LayerNorm(4)", "--weight", Npy("w.npy", [3], 1f, 2, 3));
        Assert.Contains("the weight has the shape (3,); LayerNorm((4,), eps=1e-05, elementwise_affine=True) needs (4,).", line, StringComparison.Ordinal);
    }

    [Fact]
    public void Weight_Integers_Refused()
        => Assert.Contains("the weight is int32; accepted are", RefuseRun("LayerNorm(4)", "--weight", Npy("w.npy", [4], 1, 2, 3, 4)), StringComparison.Ordinal);

    [Theory]
    [InlineData("LayerNorm(4, elementwise_affine=False)", "--weight", "has no weight; it has no parameters.")]
    [InlineData("LayerNorm(4, bias=False)", "--bias", "has no bias; it has weight.")]
    [InlineData("LocalResponseNorm(2)", "--bias", "has no bias; it has no parameters.")]
    public void Parameter_LayerLacksIt_Refused(string layer, string option, string reason)
        => Assert.EndsWith(reason, RefuseRun(layer, option, Npy("p.npy", [4], 1f, 2, 3, 4)), StringComparison.Ordinal);

    [Theory]
    [InlineData("no command was given; accepted are run, compare, inspect, export, explain; see normlayers --help")]
    [InlineData("unknown command 'rum'; accepted are run, compare, inspect, export, explain; see normlayers --help", "rum")]
    [InlineData("unknown option '--foo'; accepted are --help, --version; see normlayers --help", "--foo")]
    [InlineData("unknown option '--inptu'; accepted are --input, --output, --weights, --prefix, --weight, --bias, --grad-output, --grad-dir, --threads, --train, --force, --layer, --type, --eps, --groups, --value; see normlayers run --help", "run", "LayerNorm(4)", "--inptu", "x.npy")]
    [InlineData("unknown option '--inptu'; accepted are --input, --output, --weights, --prefix, --weight, --bias, --grad-output, --grad-dir, --threads, --train, --force, --layer, --type, --eps, --groups, --value; see normlayers run --help", "run", "--inptu", "x.npy")]
    [InlineData("unknown option '--value'; accepted are --output, --weights, --prefix, --force, --layer, --type, --eps, --groups; see normlayers export --help", "export", "m.onnx", "--output", "n.onnx", "--value", "w=w.npy")]
    [InlineData("Option '--output' is required; see normlayers run --help", "run", "LayerNorm(4)", "--input", "x.npy")]
    [InlineData("Required argument 'LAYER' missing for command: 'run'; see normlayers run --help", "run", "--input", "x.npy", "--output", "y.npy")]
    [InlineData("--input is empty; ARRAY is needed; see normlayers run --help", "run", "LayerNorm(4)", "--input", "", "--output", "y.npy")]
    [InlineData("Required argument 'B' missing for command: 'compare'; see normlayers compare --help", "compare", "a.npy")]
    [InlineData("--rtol is '-1'; a number of zero or more is needed, such as 1e-5; see normlayers compare --help", "compare", "a.npy", "b.npy", "--rtol", "-1")]
    [InlineData("--atol is '1,5'; a number of zero or more is needed, such as 1e-5; see normlayers compare --help", "compare", "a.npy", "b.npy", "--atol", "1,5")]
    [InlineData("--atol is 'NaN'; a number of zero or more is needed, such as 1e-5; see normlayers compare --help", "compare", "a.npy", "b.npy", "--atol", "NaN")]
    [InlineData("--threads is '0'; a whole number of one or more is needed; see normlayers run --help", "run", "LayerNorm(4)", "--input", "x.npy", "--output", "y.npy", "--threads", "0")]
    [InlineData("--threads is '-1'; a whole number of one or more is needed; see normlayers run --help", "run", "LayerNorm(4)", "--input", "x.npy", "--output", "y.npy", "--threads", "-1")]
    [InlineData("--grad-output was given without --grad-dir; the backward needs both.", "run", "LayerNorm(4)", "--input", "x.npy", "--output", "y.npy", "--grad-output", "dy.npy")]
    [InlineData("--grad-dir was given without --grad-output; the backward needs both.", "run", "LayerNorm(4)", "--input", "x.npy", "--output", "y.npy", "--grad-dir", "d")]
    [InlineData("--input and --weight are all -; standard input is one array.", "run", "LayerNorm(4)", "--input", "-", "--output", "y.npy", "--weight", "-")]
    public void Arguments_Wrong_OneLineAndHint(string line, params string[] args)
        => Assert.Equal($"normlayers: {line}", Refuse(args));

    private string RefuseRun(string layer, params string[] options) => Refuse(["run", layer, "--input", x, "--output", y, .. options]);

    private string Safetensors(params string[] names)
    {
        var writer = new SafetensorsWriter();
        foreach (string name in names)
            writer.Add(name, Tensor.Create<float>([1, 2, 3, 4]));
        writer.Save(File("w.safetensors"));
        return File("w.safetensors");
    }
}
