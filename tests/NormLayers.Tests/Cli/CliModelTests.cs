using System.Text.Json;
using Google.Protobuf;
using NormLayers.IO;
using NormLayers.IO.Onnx;
using Xunit;
using static NormLayers.Tests.Onnx.OnnxModels;

namespace NormLayers.Tests.CommandLine;

/// <summary>inspect, export, and run with a layer out of a model file.</summary>
public sealed class CliModelTests : Sandbox
{
    private static readonly string Parameters = Path.Combine(Repository.Root, "examples", "data", "ppocr-v4-rec", "parameters.safetensors");

    private static string Data(string name) => Path.Combine(Repository.Root, "examples", "data", "ppocr-v4-rec", name);

    [Fact]
    public void Run_LayerOfACheckpoint_NothingSpelledOut()
    {
        Result result = Succeed("run", Parameters, "--layer", "layer_norm_43", "--input", Data("05_layer_x.npy"), "--output", File("y.npy"));
        Assert.Contains("LayerNorm((120,), eps=1e-05, elementwise_affine=True)", result.Output, StringComparison.Ordinal);
        Assert.Contains("eps is Paddle's default, the file does not hold it", result.Output, StringComparison.Ordinal);
        float[] expected = Read<float>(Data("05_layer_y.npy"));
        Assert.All(expected.Zip(Read<float>(File("y.npy"))), pair => Assert.True(MathF.Abs(pair.First - pair.Second) <= 1e-6f, $"{pair}"));
    }

    [Fact]
    public void Export_ThenRunAndInspect_GivesTheSameBits()
    {
        Succeed("export", "LayerNorm(120)", "--weights", Parameters, "--prefix", "layer_norm_43", "--output", File("norm.onnx"));
        Succeed("run", "LayerNorm(120)", "--weights", Parameters, "--prefix", "layer_norm_43", "--input", Data("05_layer_x.npy"), "--output", File("a.npy"));
        Succeed("run", File("norm.onnx"), "--input", Data("05_layer_x.npy"), "--output", File("b.npy"));
        Assert.Equal(System.IO.File.ReadAllBytes(File("a.npy")), System.IO.File.ReadAllBytes(File("b.npy")));
        Assert.Contains("1 LayerNormalization", Succeed("inspect", File("norm.onnx")).Output, StringComparison.Ordinal);
        Assert.Equal($"normlayers: {File("norm.onnx")}: exists already; pass --force to replace it.", Refuse("export", "LayerNorm(2)", "--output", File("norm.onnx")));
        Succeed("export", "LayerNorm(2)", "--output", File("norm.onnx"), "--force");
    }

    [Theory]
    [InlineData("LayerNorm((2, 3), eps=0.001, elementwise_affine=True)")]
    [InlineData("RMSNorm((3,), eps=1e-06, elementwise_affine=True)")]
    [InlineData("GroupNorm(2, 4, eps=1e-05, affine=True)")]
    [InlineData("BatchNorm2d(4, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)")]
    [InlineData("InstanceNorm2d(4, eps=1e-05, momentum=0.1, affine=True, track_running_stats=False)")]
    [InlineData("LocalResponseNorm(5, alpha=0.0001, beta=0.75, k=1.0)")]
    [InlineData("LocalResponseNorm(2, alpha=0.5, beta=0.75, k=1.0, window='onnx')")]
    public void Save_ThenLoad_PrintsTheSameLayer(string text)
    {
        NormLayer.Parse(text).Save(File("layer.onnx"));
        OnnxNormalization node = Assert.Single(OnnxModel.Load(File("layer.onnx")).NormalizationNodes);
        Assert.Equal(text, node.ToLayer<float>([2, 4, 2, 3]).ToString());
        Assert.Throws<IOException>(() => NormLayer.Parse(text).Save(File("layer.onnx")));
    }

    [Theory]
    [InlineData("LayerNorm(4, axis=1)", "axis=1", "axis=-1")]
    [InlineData("RMSNorm([2, 4], eps=1e-6, axis=-3)", "axis=-3", "axis=-2")]
    public void Export_LayerOverOthersThanTheLastDimensions_IsRefused(string text, string got, string accepted)
    {
        string refusal = Refuse("export", text, "--output", File("layer.onnx"));
        Assert.EndsWith($"cannot be exported: ONNX normalizes the last dimensions, and {got} is others; accepted are {accepted} and none.", refusal, StringComparison.Ordinal);
        Succeed("export", text.Replace(got, accepted, StringComparison.Ordinal), "--output", File("layer.onnx"));
    }

    [Theory]
    [InlineData("export", "LazyBatchNorm2d()", "--output", "layer.onnx")]
    [InlineData("run", "LazyBatchNorm2d()", "--output", "y.npy", "--weight", "w.npy", "--input", "x.npy")]
    public void Parameters_OfALayerWithoutChannels_AreRefused(params string[] args)
    {
        Npy<float>("w.npy", [1], 1);
        Npy<float>("x.npy", [1, 1, 1, 2], 1, 2);
        string refusal = Refuse([.. args.Select(arg => arg.Contains('.', StringComparison.Ordinal) ? File(arg) : arg)]);
        Assert.Contains("LazyBatchNorm2d(0, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True) has no number of channels yet; accepted are the layer with it", refusal, StringComparison.Ordinal);
        Assert.Throws<InvalidOperationException>(() => NormLayer.Parse(args[1]).Save(File("layer.onnx")));
        Assert.False(System.IO.File.Exists(File("layer.onnx")));
    }

    [Fact]
    public void Inspect_Json_SaysWhatIsWrong()
    {
        var writer = new SafetensorsWriter();
        writer.Add("bn.weight", System.Numerics.Tensors.Tensor.Create<float>([1, 0, 2], [3]));
        writer.Add("bn.bias", System.Numerics.Tensors.Tensor.Create<float>([1, float.NaN, 2], [3]));
        writer.Add("bn.running_mean", System.Numerics.Tensors.Tensor.Create<float>([1, 0, 2], [3]));
        writer.Add("bn.running_var", System.Numerics.Tensors.Tensor.Create<float>([1, -1, 0], [3]));
        writer.Add("conv.weight", System.Numerics.Tensors.Tensor.CreateFromShape<float>([3, 2, 1]));
        writer.Add("conv.bias", System.Numerics.Tensors.Tensor.CreateFromShape<float>([3]));
        writer.Save(File("m.safetensors"));

        using JsonDocument json = JsonDocument.Parse(Succeed("inspect", File("m.safetensors"), "--json").Output);
        JsonElement layer = Assert.Single(json.RootElement.GetProperty("layers").EnumerateArray());
        Assert.Equal("bn", layer.GetProperty("name").GetString());
        Assert.Equal(
            ["weight: 1 of 3 are below 1e-06 in magnitude, dead channels", "bias: 1 of 3 are NaN or infinite", "running_var: 1 of 3 are negative", "running_var: 1 of 3 are zero"],
            layer.GetProperty("problems").EnumerateArray().Select(problem => problem.GetString()));
        Assert.Contains("1 with something wrong", Succeed("inspect", File("m.safetensors")).Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Inspect_WhatTheFileDoesNotTell_IsSaidToTheEnd()
    {
        NormLayer.Parse("GroupNorm(1, 2)").Save(File("m.safetensors"), "block.0");
        Assert.Contains("  not in the file: which of LayerNorm, GroupNorm, InstanceNorm it is, and eps, and a GroupNorm's number of groups\n", Succeed("inspect", File("m.safetensors")).Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("bn", "bn/gamma:0", "bn/beta:0", "bn/moving_mean:0", "bn/moving_variance:0", "Keras", 1e-3)]
    [InlineData("bn", "bn.gamma", "bn.beta", "bn.moving_mean", "bn.moving_variance", "Keras", 1e-3)]
    [InlineData("params/block/bn", "params/block/bn/scale", "params/block/bn/bias", "batch_stats/block/bn/mean", "batch_stats/block/bn/var", "Flax", 1e-5)]
    [InlineData("params.bn", "params.bn.scale", "params.bn.bias", "batch_stats.bn.mean", "batch_stats.bn.var", "Flax", 1e-5)]
    [InlineData("bn", "bn.scale", "bn.bias", "bn.mean", "bn.var", "Flax", 1e-5)]
    [InlineData("bn_0", "bn_0.w_0", "bn_0.b_0", "bn_0.w_1", "bn_0.w_2", "Paddle", 1e-5)]
    [InlineData("bn", "bn.weight", "bn.bias", "bn._mean", "bn._variance", "Paddle", 1e-5)]
    [InlineData("_orig_mod.bn", "_orig_mod.bn.weight", "_orig_mod.bn.bias", "_orig_mod.bn.running_mean", "_orig_mod.bn.running_var", "PyTorch", 1e-5)]
    public void BatchNorm_UnderAnyFrameworksNames_IsFoundAndLoaded(string layer, string weight, string bias, string mean, string variance, string framework, double eps)
    {
        var writer = new SafetensorsWriter();
        string[] names = [weight, bias, mean, variance];
        foreach (string name in names.Order(StringComparer.Ordinal))
            writer.Add(name, System.Numerics.Tensors.Tensor.Create<float>([Array.IndexOf(names, name) + 1, 5], [2]));
        writer.Save(File("m.safetensors"));
        using Checkpoint checkpoint = Checkpoint.Open(File("m.safetensors"));
        CheckpointLayer found = Assert.Single(checkpoint.Layers);
        Assert.Equal((layer, framework, eps), (found.Name, found.Framework, found.DefaultEps));
        NormLayer<float> made = found.ToLayer<float>(3);
        var loaded = new BatchNorm1d<float>(2);
        loaded.LoadFrom(File("m.safetensors"), layer);
        foreach (BatchNorm<float> norm in new[] { (BatchNorm<float>)made, loaded })
        {
            Assert.Equal([1f, 5, 2, 5, 3, 5, 4, 5], new[] { norm.Weight!.Value, norm.Bias!.Value, norm.RunningMean!, norm.RunningVar! }.SelectMany(Tensors.ToArray));
        }
    }

    [Fact]
    public void LoadFrom_LayerThatHasRunningStatisticsAlone_GivesThemBack()
    {
        var saved = new BatchNorm1d<float>(2, affine: false);
        saved.Forward(System.Numerics.Tensors.Tensor.Create<float>([1, 2, 3, 5], [2, 2]));
        saved.Save(File("m.safetensors"), "bn");
        var loaded = new BatchNorm1d<float>(2, affine: false);
        loaded.LoadFrom(File("m.safetensors"), "bn");
        Assert.Equal(Tensors.ToArray(saved.RunningVar!), Tensors.ToArray(loaded.RunningVar!));
    }

    [Theory]
    [InlineData("ln_pre", "LayerNorm")]
    [InlineData("attn_ln", "LayerNorm")]
    [InlineData("ln_1", "LayerNorm")]
    [InlineData("lnorm", "LayerNorm or GroupNorm or InstanceNorm")]
    public void Inspect_NameThatTellsTheType_IsTaken(string name, string type)
    {
        NormLayer.Parse("LayerNorm(2)").Save(File("m.safetensors"), name);
        using Checkpoint checkpoint = Checkpoint.Open(File("m.safetensors"));
        Assert.Equal($"{type} (PyTorch)", Assert.Single(checkpoint.Layers).Kind);
    }

    [Fact]
    public void Inspect_OneParameterThatCannotBeRead_IsReportedAndTheOthersListed()
    {
        const string header = """{"a.weight":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]},"b.weight":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}""";
        System.IO.File.WriteAllBytes(File("m.safetensors"), IO.SafetensorsFileTests.File(header, 4));
        string output = Succeed("inspect", File("m.safetensors")).Output;
        Assert.Contains("2 normalization layers, 1 with something wrong", output, StringComparison.Ordinal);
        Assert.Contains("  wrong: weight: tensor 'a.weight': has the dtype 'F8_E4M3'; accepted are ", output, StringComparison.Ordinal);
        using JsonDocument json = JsonDocument.Parse(Succeed("inspect", File("m.safetensors"), "--json").Output);
        JsonElement[] parameters = [.. json.RootElement.GetProperty("layers").EnumerateArray().Select(layer => layer.GetProperty("parameters")[0])];
        Assert.Equal([JsonValueKind.Null, JsonValueKind.Number], parameters.Select(parameter => parameter.GetProperty("near_zero").ValueKind));
    }

    [Fact]
    public void Inspect_OneNodeThatCannotBe_IsReportedAndTheOthersListed()
    {
        ModelProto model = Model(
            Value("x", 2, 3), [Node("LayerNormalization", "x w", "y", Integer("axis", 2)), Node("LayerNormalization", "x w", "z")], [Raw("w", [3], 1, 2, 3)]);
        System.IO.File.WriteAllBytes(File("m.onnx"), model.ToByteArray());
        OnnxNormalization node = OnnxModel.Load(File("m.onnx")).Find("y");
        Assert.Equal((null, null), (node.Text, node.Unknown));
        const string fault = "node 'y': normalizes from axis 2, and its input has 2 dimensions";
        Assert.Equal([fault], node.FindProblems());
        Assert.Equal($"{File("m.onnx")}: {fault}.", Assert.Throws<InvalidDataException>(() => node.ToLayer<float>()).Message);
        string output = Succeed("inspect", File("m.onnx")).Output;
        Assert.Contains("2 normalization layers, 1 with something wrong", output, StringComparison.Ordinal);
        Assert.Contains($"  wrong: {fault}\n", output, StringComparison.Ordinal);
        Assert.Contains("z  LayerNorm((3,), eps=1e-05, elementwise_affine=True)\n", output, StringComparison.Ordinal);
        Assert.EndsWith($"{fault}.", Refuse("export", File("m.onnx"), "--layer", "y", "--output", File("y.onnx")), StringComparison.Ordinal);
    }

    [Fact]
    public void Run_LayerAtTheTopLevel_HasTheEmptyName()
    {
        var writer = new SafetensorsWriter();
        foreach (string name in new[] { "weight", "bias", "norm.weight", "norm.bias" })
            writer.Add(name, System.Numerics.Tensors.Tensor.Create<float>([name.Contains('.') ? 1 : 2, 1], [1, 2]));
        writer.Save(File("m.safetensors"));
        string[] args = ["run", File("m.safetensors"), "--input", Npy<float>("x.npy", [1, 1, 2], 1, 3), "--output", File("y.npy")];
        Assert.Contains("--layer NAME, such as '', 'norm'", Refuse(args), StringComparison.Ordinal);
        Succeed([.. args, "--layer", "", "--eps", "0"]);
        Assert.Equal([0f, 2f], Read<float>(File("y.npy")));
    }

    [Fact]
    public void Run_NamesWithControlCharacters_AreNotPrinted()
    {
        NormLayer.Parse("LayerNorm([2, 2])").Save(File("m.safetensors"), "a\u001b[31m\nb");
        string weight = $"{File("m.safetensors")}:a\u001b[31m\nb.weight";
        string[] outputs =
        [
            Succeed("run", File("m.safetensors"), "--input", weight, "--output", File("y.npy")).Output,
            Succeed("run", "LayerNorm([2, 2])", "--weights", File("m.safetensors"), "--prefix", "a\u001b[31m\nb", "--input", weight, "--output", File("z.npy")).Output,
            Succeed("compare", weight, weight).Output,
            Run("compare", weight, Npy<float>("x.npy", [1], 1)).Output,
        ];
        Assert.All(outputs, output => Assert.Contains("a?[31m b.weight", output, StringComparison.Ordinal));
        Assert.All(outputs, output => Assert.DoesNotContain('\u001b', output));
    }

    [Fact]
    public void Run_WhatANameCannotTell_IsAskedFor()
    {
        var writer = new SafetensorsWriter();
        writer.Add("a.norm.weight", System.Numerics.Tensors.Tensor.Create<float>([1, 2], [2]));
        writer.Add("b.norm.weight", System.Numerics.Tensors.Tensor.Create<float>([1, 2], [2]));
        writer.Add("b.norm.bias", System.Numerics.Tensors.Tensor.Create<float>([1, 2], [2]));
        writer.Save(File("m.safetensors"));
        string x = Npy<float>("x.npy", [1, 2, 2], 1, 2, 3, 5);
        string[] Arguments(params string[] more) => ["run", File("m.safetensors"), "--input", x, "--output", File("y.npy"), .. more];
        Assert.Contains("accepted is the name of one, --layer NAME, such as 'a.norm', 'b.norm'", Refuse(Arguments()), StringComparison.Ordinal);
        Assert.Contains("did you mean 'a.norm'", Refuse(Arguments("--layer", "a.nrm")), StringComparison.Ordinal);
        Assert.Contains("do not tell whether it is LayerNorm or RMSNorm; which is needed. The option is --type.", Refuse(Arguments("--layer", "a.norm")), StringComparison.Ordinal);
        Assert.Contains("cannot be 'GroupNorm'", Refuse(Arguments("--layer", "a.norm", "--type", "GroupNorm")), StringComparison.Ordinal);
        Assert.Contains("does not hold the eps of a RMSNorm", Refuse(Arguments("--layer", "a.norm", "--type", "RMSNorm")), StringComparison.Ordinal);
        Assert.Contains("number of groups of a GroupNorm; it is needed. The option is --groups.", Refuse(Arguments("--layer", "b.norm", "--type", "GroupNorm")), StringComparison.Ordinal);
        Assert.Contains("--groups is '0'", Refuse(Arguments("--layer", "b.norm", "--groups", "0")), StringComparison.Ordinal);
        Assert.Contains("--type was given, and LAYER 'LayerNorm(2)' is no model file", Refuse("run", "LayerNorm(2)", "--type", "RMSNorm", "--input", x, "--output", File("y.npy")), StringComparison.Ordinal);
        Succeed(Arguments("--layer", "b.norm", "--type", "GroupNorm", "--groups", "1"));
    }

    [Fact]
    public void Run_NodeThatIsNoLayer_TakesItsOtherValues()
    {
        NodeProto node = Node("SkipLayerNormalization", "x skip w b", "y");
        node.Domain = "com.microsoft";
        ModelProto model = Model(Value("x", 1, 2), [node], [Raw("w", [2], 1, 1), Typed("b", [2], 0, 0)]);
        model.Graph.Input.Add(Value("skip", 1, 2));
        System.IO.File.WriteAllBytes(File("m.onnx"), model.ToByteArray());
        Assert.Contains("  only run takes it: it adds its inputs before it normalizes, which no PyTorch layer does\n", Succeed("inspect", File("m.onnx")).Output, StringComparison.Ordinal);
        string x = Npy<float>("x.npy", [1, 2], 1, 2), skip = Npy<float>("skip.npy", [1, 2], 0, 3);
        Assert.Contains("adds 'skip' to its input, which is not in the file and was not given", Refuse("run", File("m.onnx"), "--input", x, "--output", File("y.npy")), StringComparison.Ordinal);
        Succeed("run", File("m.onnx"), "--node", "y", "--input", x, "--value", $"skip={skip}", "--output", File("y.npy"));
        Assert.Equal([-1f, 1f], Read<float>(File("y.npy")).Select(value => MathF.Round(value)));
    }

    [Fact]
    public void Inspect_UnsoundFiles_OneLine()
    {
        System.IO.File.WriteAllBytes(File("m.onnx"), [1, 2, 3]);
        Assert.Contains("is not an ONNX model", Refuse("inspect", File("m.onnx")), StringComparison.Ordinal);
        Assert.Contains("there is no such file", Refuse("inspect", File("absent.onnx")), StringComparison.Ordinal);
        Assert.Contains("is neither .onnx nor .safetensors", Refuse("inspect", Npy<float>("x.npy", [1], 1)), StringComparison.Ordinal);
        Assert.Contains("is not a .safetensors file", Refuse("inspect", Copy("m.onnx", "m.safetensors")), StringComparison.Ordinal);
    }

    private string Copy(string from, string to)
    {
        System.IO.File.Copy(File(from), File(to));
        return File(to);
    }
}
