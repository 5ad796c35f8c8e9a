using System.Numerics.Tensors;
using NormLayers.IO;
using Xunit;

namespace NormLayers.Tests.IO;

/// <summary>What names and shapes tell of the layers in a checkpoint, and what is asked for.</summary>
public sealed class CheckpointTests : IDisposable
{
    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData("n.weight n.bias n.running_mean n.running_var n.num_batches_tracked:i", "PyTorch", "BatchNorm", 1e-5)]
    [InlineData("n.running_mean n.running_var", "PyTorch", "BatchNorm", 1e-5)]
    [InlineData("n.w_0 n.b_0 n.w_1 n.w_2", "Paddle", "BatchNorm", 1e-5)]
    [InlineData("n/gamma:0 n/beta:0 n/moving_mean:0 n/moving_variance:0", "Keras", "BatchNorm", 1e-3)]
    [InlineData("layer_norm/gamma:0 layer_norm/beta:0", "Keras", "LayerNorm", 1e-3)]
    [InlineData("n.scale n.bias n.mean n.var", "Flax", "BatchNorm", 1e-5)]
    [InlineData("LayerNorm.scale LayerNorm.bias", "Flax", "LayerNorm", 1e-6)]
    [InlineData("n.weight n.bias", "PyTorch", "LayerNorm GroupNorm InstanceNorm", null)]
    [InlineData("gn_1.weight gn_1.bias", "PyTorch", "GroupNorm", 1e-5)]
    [InlineData("instance_norm.weight instance_norm.bias", "PyTorch", "InstanceNorm", 1e-5)]
    [InlineData("n.weight", "PyTorch", "LayerNorm RMSNorm", null)]
    [InlineData("rms.weight", "PyTorch", "RMSNorm", null)]
    [InlineData("n.weight:2 n.bias:2", "PyTorch", "LayerNorm", 1e-5)]
    [InlineData("n.weight:1 n.bias:1", "PyTorch", "LayerNorm GroupNorm InstanceNorm", null)]
    public void Open_NamesOfALayer_TellWhatItMayBe(string names, string framework, string types, double? eps)
    {
        using Checkpoint checkpoint = Checkpoint.Open(Save(names));
        CheckpointLayer layer = Assert.Single(checkpoint.Layers);
        Assert.Equal((framework, types, eps), (layer.Framework, string.Join(' ', layer.Types), layer.DefaultEps));
    }

    [Theory]
    [InlineData("n.weight:1")]
    [InlineData("n.weight:2")]
    [InlineData("n.bias")]
    [InlineData("n.weight n.bias n.running_mean")]
    [InlineData("n.weight n.running_mean n.running_var")]
    [InlineData("n.weight n.bias:5")]
    [InlineData("n.weight n.bias n.other")]
    [InlineData("n.w_0 n.b_0 n.num_batches_tracked:i")]
    public void Open_NamesOfNoLayer_AreLeftOut(string names)
    {
        using Checkpoint checkpoint = Checkpoint.Open(Save(names));
        Assert.Empty(checkpoint.Layers);
    }

    [Theory]
    [InlineData("BatchNorm", 2, "BatchNorm1d")]
    [InlineData("BatchNorm", 5, "BatchNorm3d")]
    [InlineData("BatchNorm", 6, null)]
    [InlineData("BatchNorm", 1, null)]
    [InlineData("InstanceNorm", 2, null)]
    [InlineData("InstanceNorm", 3, "InstanceNorm1d")]
    [InlineData("InstanceNorm", 4, "InstanceNorm2d")]
    public void ToLayer_OfAnInputsRank_IsTheLayerOfThoseDimensions(string type, int rank, string? expected)
    {
        using Checkpoint checkpoint = Checkpoint.Open(Save(type == "BatchNorm" ? "n.weight n.bias n.running_mean n.running_var" : "n.weight n.bias"));
        if (expected is null)
        {
            Assert.Contains($"to 5 dimensions, got {rank}", Assert.Throws<ArgumentException>("inputRank", () => checkpoint.Layers[0].ToLayer<float>(rank, type)).Message, StringComparison.Ordinal);
            return;
        }
        NormLayer<float> layer = checkpoint.Layers[0].ToLayer<float>(rank, type);
        Assert.Equal((expected, false), (layer.Name, layer.Training));
    }

    [Fact]
    public void ToLayer_CounterOfAnotherType_IsRefused()
    {
        using Checkpoint checkpoint = Checkpoint.Open(Save("n.weight n.bias n.running_mean n.running_var n.num_batches_tracked:1"));
        Assert.Contains("tensor 'n.num_batches_tracked' is float32; accepted is int64", Assert.Throws<InvalidDataException>(() => checkpoint.Layers[0].ToLayer<float>(3)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void LoadFrom_TensorsThatAreNoParameters_AreRefused()
    {
        var layer = new LayerNorm<float>(3);
        Assert.Contains("more than one tensor is the weight", Assert.Throws<InvalidDataException>(() => layer.LoadFrom(Save("n.w_0 n.b_0 n.weight"), "n")).Message, StringComparison.Ordinal);
        Assert.Contains("'n.weight' is int64; accepted are float16", Assert.Throws<InvalidDataException>(() => layer.LoadFrom(Save("n.weight:i n.bias"), "n")).Message, StringComparison.Ordinal);
        // Paddle's w_1 alone is no running mean.
        Assert.Equal(["w_1"], Assert.Throws<StateDictException>(() => layer.LoadFrom(Save("n.w_0 n.b_0 n.w_1"), "n")).UnexpectedKeys);
        Assert.Equal(["w_2"], Assert.Throws<StateDictException>(() => layer.LoadFrom(Save("n.w_0 n.b_0 n.w_2"), "n")).UnexpectedKeys);
        // Without a prefix only the top level is meant.
        layer.LoadFrom(Save("weight bias n.weight n.bias"));
        Assert.Equal([1.5f, 1.5f, 1.5f], Tensors.ToArray(layer.Weight!.Value));
    }

    [Fact]
    public void Save_OfACounter_IsAScalarAsPyTorchs()
    {
        string path = folder["b.safetensors"];
        new BatchNorm1d<float>(3).Save(path);
        using SafetensorsFile file = SafetensorsFile.Open(path);
        Assert.Empty(file.Info("num_batches_tracked").Shape);
    }

    [Fact]
    public void FindProblems_OfNegativeAndNearlyZeroElements_CountsThem()
    {
        var writer = new SafetensorsWriter();
        Tensor<float> three = Tensor.Create([1f, 2, 3]);
        writer.Add("n.weight", Tensor.Create([-5f, 1e-9f, 0]));
        writer.Add("n.bias", three);
        writer.Add("n.running_mean", three);
        writer.Add("n.running_var", Tensor.Create([-1f, 1, 0]));
        writer.Save(folder["p.safetensors"]);
        using Checkpoint checkpoint = Checkpoint.Open(folder["p.safetensors"]);
        Assert.Equal(["weight: 2 of 3 are below 1e-06 in magnitude, dead channels", "running_var: 1 of 3 are negative", "running_var: 1 of 3 are zero"], checkpoint.Layers[0].FindProblems());
        double[] large = [1.7e308, -1.7e308, 1.7e308];
        Assert.Equal((1.7e308 / 3, 3L), (ParameterStatistics.Of(large).Mean, ParameterStatistics.Of(large).Count));
    }

    /// <summary>Names by spaces; behind a colon the length where it is not 3 (2: two dimensions), or i for one int64.</summary>
    private string Save(string names)
    {
        var writer = new SafetensorsWriter();
        foreach (string entry in names.Split(' '))
        {
            bool isKeras = entry.EndsWith(":0", StringComparison.Ordinal);
            string[] parts = isKeras ? [entry] : entry.Split(':');
            if (parts is [_, "i"])
            {
                writer.Add(parts[0], Tensor.Create([7L]), []);
                continue;
            }
            nint[] shape = parts is [_, "2"] ? [2, 3] : [parts is [_, { } length] ? nint.Parse(length, System.Globalization.CultureInfo.InvariantCulture) : 3];
            Tensor<float> tensor = Tensor.CreateFromShape<float>(shape);
            tensor.Fill(1.5f);
            writer.Add(parts[0], tensor);
        }
        writer.Save(folder["c.safetensors"], overwrite: true);
        return folder["c.safetensors"];
    }
}
