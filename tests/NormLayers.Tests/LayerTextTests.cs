using Xunit;

namespace NormLayers.Tests;

/// <summary>Layers as PyTorch prints them, and the way back from printed forms and Python calls.</summary>
public sealed class LayerTextTests
{
    [Fact]
    public void ToString_OfEachLayer_IsPyTorchs()
    {
        Assert.Equal("LayerNorm((5, 10, 10), eps=1e-05, elementwise_affine=True)", new LayerNorm<float>([5, 10, 10]).ToString());
        Assert.Equal("LayerNorm((10,), eps=0.001, elementwise_affine=False)", new LayerNorm<float>(10, 1e-3, elementwiseAffine: false).ToString());
        Assert.Equal("LayerNorm((10,), eps=1e-12, elementwise_affine=True)", new LayerNorm<float>(10, 1e-12, bias: false).ToString());
        Assert.Equal("RMSNorm((10,), eps=None, elementwise_affine=True)", new RMSNorm<float>(10).ToString());
        Assert.Equal("RMSNorm((2, 3), eps=1e-06, elementwise_affine=False)", new RMSNorm<double>([2, 3], 1e-6, elementwiseAffine: false).ToString());
        Assert.Equal("GroupNorm(3, 6, eps=1e-05, affine=True)", new GroupNorm<float>(3, 6).ToString());
        Assert.Equal("GroupNorm(1, 6, eps=1.0, affine=False)", new GroupNorm<double>(1, 6, 1, affine: false).ToString());
        Assert.Equal("InstanceNorm2d(3, eps=1e-05, momentum=0.1, affine=False, track_running_stats=False)", new InstanceNorm2d<float>(3).ToString());
        Assert.Equal("InstanceNorm3d(3, eps=1e-05, momentum=None, affine=True, track_running_stats=True)", new InstanceNorm3d<float>(3, momentum: null, affine: true, trackRunningStats: true).ToString());
        Assert.Equal("CrossMapLRN2d(3, alpha=0.0001, beta=0.75, k=1)", new CrossMapLRN2d<float>(3).ToString());
        Assert.Equal("LocalResponseNorm(2, alpha=0.0001, beta=0.75, k=1.0, window='onnx')", new LocalResponseNorm<float>(2, window: LrnWindow.Onnx).ToString());
        Assert.Equal("LocalResponseNorm(2, alpha=0.0001, beta=0.75, k=1.0)", new LocalResponseNorm<float>(2).ToString());
    }

    [Theory]
    [InlineData("LayerNorm((5, 10, 10), eps=1e-05, elementwise_affine=True)")]
    [InlineData("LayerNorm((10,), eps=1e-05, elementwise_affine=False)")]
    [InlineData("LayerNorm((10,), eps=0, elementwise_affine=True)")]
    [InlineData("LayerNorm((), eps=1e-05, elementwise_affine=True)")]
    [InlineData("RMSNorm((10,), eps=None, elementwise_affine=True)")]
    [InlineData("RMSNorm((5, 10), eps=0, elementwise_affine=False)")]
    [InlineData("GroupNorm(3, 6, eps=1.5e-07, affine=True)")]
    [InlineData("GroupNorm(3, 6, eps=1e-05, affine=False)")]
    [InlineData("GroupNorm(3, 6, eps=1, affine=False)")]
    [InlineData("InstanceNorm1d(3, eps=1e-05, momentum=0.1, affine=False, track_running_stats=False)")]
    [InlineData("InstanceNorm2d(3, eps=0, momentum=None, affine=True, track_running_stats=False)")]
    [InlineData("InstanceNorm3d(0, eps=1e-05, momentum=1, affine=True, track_running_stats=True)")]
    [InlineData("LazyBatchNorm1d(0, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)")]
    [InlineData("LazyBatchNorm2d(0, eps=1e-05, momentum=None, affine=False, track_running_stats=False)")]
    [InlineData("LazyBatchNorm3d(0, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)")]
    [InlineData("SyncBatchNorm(3, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)")]
    [InlineData("LazyInstanceNorm1d(0, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)")]
    [InlineData("LazyInstanceNorm2d(0, eps=0.001, momentum=None, affine=False, track_running_stats=True)")]
    [InlineData("LazyInstanceNorm3d(0, eps=1e-05, momentum=0.1, affine=True, track_running_stats=False)")]
    [InlineData("CrossMapLRN2d(5, alpha=0.0001, beta=0.75, k=1)")]
    [InlineData("CrossMapLRN2d(5, alpha=0.0001, beta=0.75, k=1.0)")]
    [InlineData("LocalResponseNorm(2, alpha=0.0001, beta=0.75, k=1.0, window='onnx')")]
    [InlineData("LocalResponseNorm(2, alpha=0.0001, beta=0.75, k=1.0)")]
    [InlineData("LocalResponseNorm(5, alpha=1e-05, beta=1, k=1)")]
    public void Parse_OfAPrintedForm_PrintsItBack(string text)
    {
        Assert.Equal(text, NormLayer.Parse(text).ToString());
        Assert.Equal(text, NormLayer.Parse<double>(text).ToString());
    }

    [Theory]
    [InlineData("nn.LayerNorm([5, 10, 10], eps=1e-6, bias=False)", "LayerNorm((5, 10, 10), eps=1e-06, elementwise_affine=True)")]
    [InlineData("torch.nn.LayerNorm(10)", "LayerNorm((10,), eps=1e-05, elementwise_affine=True)")]
    [InlineData("nn.LayerNorm(torch.Size([2, 3]), 1e-3, False)", "LayerNorm((2, 3), eps=0.001, elementwise_affine=False)")]
    [InlineData("nn.RMSNorm([2, 3], 1e-3)", "RMSNorm((2, 3), eps=0.001, elementwise_affine=True)")]
    [InlineData("torch.nn.RMSNorm(7, elementwise_affine=False, eps=None)", "RMSNorm((7,), eps=None, elementwise_affine=False)")]
    [InlineData("nn.GroupNorm(3, num_channels=6)", "GroupNorm(3, 6, eps=1e-05, affine=True)")]
    [InlineData("GroupNorm(num_channels=6, num_groups=3, affine=False, device='cpu', dtype=torch.float32)", "GroupNorm(3, 6, eps=1e-05, affine=False)")]
    [InlineData("nn.LayerNorm(4, device=None, dtype=None)", "LayerNorm((4,), eps=1e-05, elementwise_affine=True)")]
    [InlineData("nn.LayerNorm(4, dtype=torch.float)", "LayerNorm((4,), eps=1e-05, elementwise_affine=True)")]
    [InlineData("nn.InstanceNorm2d(3)", "InstanceNorm2d(3, eps=1e-05, momentum=0.1, affine=False, track_running_stats=False)")]
    [InlineData("nn.InstanceNorm1d(3, 1e-3, None, True, True)", "InstanceNorm1d(3, eps=0.001, momentum=None, affine=True, track_running_stats=True)")]
    [InlineData("nn.LazyInstanceNorm2d()", "LazyInstanceNorm2d(0, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)")]
    [InlineData("nn.LazyInstanceNorm2d(1e-3, affine=False)", "LazyInstanceNorm2d(0, eps=0.001, momentum=0.1, affine=False, track_running_stats=True)")]
    [InlineData("nn.CrossMapLRN2d(3)", "CrossMapLRN2d(3, alpha=0.0001, beta=0.75, k=1)")]
    [InlineData("nn.LocalResponseNorm(size=5, alpha=0.0001, k=2)", "LocalResponseNorm(5, alpha=0.0001, beta=0.75, k=2)")]
    public void Parse_OfAPythonCall_MakesTheLayer(string call, string printed) => Assert.Equal(printed, NormLayer.Parse(call).ToString());

    [Fact]
    public void Parse_OfACall_SetsWhatItSays()
    {
        var layer = Assert.IsType<LayerNorm<float>>(NormLayer.Parse("nn.LayerNorm([5, 10, 10], eps=1e-6, bias=False)"));
        Assert.Equal([5, 10, 10], layer.NormalizedShape);
        Assert.Equal(1e-6, layer.Eps);
        Assert.NotNull(layer.Weight);
        Assert.Null(layer.Bias);

        var rms = Assert.IsType<RMSNorm<double>>(NormLayer.Parse<double>("RMSNorm(4)"));
        Assert.Equal((1, Math.ScaleB(1, -52)), (rms.Parameters.Count, rms.Eps));
        Assert.Equal(Math.ScaleB(1, -23), Assert.IsType<RMSNorm<float>>(NormLayer.Parse("RMSNorm(4, None)")).Eps);

        var group = Assert.IsType<GroupNorm<double>>(NormLayer.Parse<double>("GroupNorm(3, 6, affine=False, dtype=torch.float64)"));
        Assert.Equal((3, 6, 1e-5, false), (group.NumGroups, group.NumChannels, group.Eps, group.Affine));
        Assert.Null(group.Weight);

        var window = Assert.IsType<LocalResponseNorm<float>>(NormLayer.Parse("LocalResponseNorm(2, 0.5, 0.6, 3)"));
        Assert.Equal((2, 0.5, 0.6, 3.0), (window.Size, window.Alpha, window.Beta, window.K));
    }

    [Theory]
    [InlineData("SyncBatchNorm()", "num_features")]
    [InlineData("SyncBatchNorm(3, process_group=group)", "one process")]
    [InlineData("LazySyncBatchNorm()", "LazySyncBatchNorm")]
    [InlineData("LayerNorm", "'('")]
    [InlineData("LayerNorm()", "normalized_shape")]
    [InlineData("LayerNorm(2.5)", "normalized_shape")]
    [InlineData("LayerNorm((2, 'x'))", "normalized_shape")]
    [InlineData("LayerNorm(10, eps='x')", "eps")]
    [InlineData("LayerNorm(10, elementwise_affine=1)", "elementwise_affine")]
    [InlineData("LayerNorm(10, affine=True)", "affine")]
    [InlineData("LayerNorm(10, 1e-5, True, True, None, None, 1, 7)", "at most 7")]
    [InlineData("LayerNorm(10, axis=1.5)", "axis")]
    [InlineData("BatchNorm2d(10, momentum='x')", "a float or None")]
    [InlineData("RMSNorm(10, bias=False)", "bias")]
    [InlineData("RMSNorm(10, eps='x')", "a float or None")]
    [InlineData("GroupNorm(3)", "num_channels")]
    [InlineData("GroupNorm(3, 6.0)", "num_channels")]
    [InlineData("GroupNorm(3, 6, num_groups=3)", "num_groups")]
    [InlineData("LocalResponseNorm(alpha=1)", "size")]
    [InlineData("LocalResponseNorm(2, window='caffe')", "'pytorch' or 'onnx'")]
    [InlineData("InstanceNorm2d()", "num_features")]
    [InlineData("LazyInstanceNorm2d(3, eps=1e-05)", "eps")]
    [InlineData("LazyInstanceNorm2d(num_features=3)", "num_features")]
    [InlineData("CrossMapLRN2d(2.5)", "size")]
    [InlineData("LocalResponseNorm(2, dtype=torch.float32)", "dtype")]
    [InlineData("LayerNorm(10, device='cuda')", "cuda")]
    [InlineData("LayerNorm(10, dtype=torch.float64)", "torch.float64")]
    [InlineData("GroupNorm(3, 6, dtype=torch.float16)", "torch.float16")]
    public void Parse_OfWhatDoesNotFit_IsRefusedWithTheReason(string text, string reason)
        => Assert.Contains(reason, Assert.Throws<FormatException>(() => NormLayer.Parse(text)).Message, StringComparison.Ordinal);

    [Fact]
    public void Parse_OfArgumentsThatTheLayerRefuses_ThrowsAsTheLayerDoes()
    {
        Assert.Throws<ArgumentException>("numChannels", () => NormLayer.Parse("GroupNorm(4, 6)"));
        Assert.Throws<ArgumentOutOfRangeException>("normalizedShape", () => NormLayer.Parse("LayerNorm(-3)"));
    }
}
