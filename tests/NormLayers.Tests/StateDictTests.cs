using System.Numerics.Tensors;
using Xunit;

namespace NormLayers.Tests;

public sealed class StateDictTests
{
    [Fact]
    public void Parameters_OfNewLayers_AreOnesAndZeros()
    {
        foreach (NormLayer<float> layer in new NormLayer<float>[] { new LayerNorm<float>([2, 3]), new GroupNorm<float>(2, 6) })
        {
            Assert.Equal(["weight", "bias"], layer.Parameters.Select(parameter => parameter.Name));
            Assert.All(Tensors.ToArray(layer.Parameters[0].Value), value => Assert.Equal(1, value));
            Assert.All(Tensors.ToArray(layer.Parameters[1].Value), value => Assert.Equal(0, value));
        }
    }

    [Fact]
    public void StateDict_OfEachLayer_HasPyTorchsNamesAndShapesInOrder()
    {
        AssertState(new LayerNorm<double>([2, 3]), ("weight", [2, 3]), ("bias", [2, 3]));
        AssertState(new LayerNorm<double>(4, bias: false), ("weight", [4]));
        AssertState(new LayerNorm<double>(4, elementwiseAffine: false));
        AssertState(new RMSNorm<double>([2, 3]), ("weight", [2, 3]));
        AssertState(new RMSNorm<double>(4, elementwiseAffine: false));
        AssertState(new GroupNorm<double>(3, 6), ("weight", [6]), ("bias", [6]));
        AssertState(new GroupNorm<double>(3, 6, affine: false));
        AssertState(new LocalResponseNorm<double>(5));
        AssertState(new CrossMapLRN2d<double>(5));
        AssertState(new InstanceNorm1d<double>(5));
        AssertState(new InstanceNorm2d<double>(5, affine: true), ("weight", [5]), ("bias", [5]));
        AssertState(new InstanceNorm3d<double>(5, affine: true, trackRunningStats: true), ("weight", [5]), ("bias", [5]), ("running_mean", [5]), ("running_var", [5]), ("num_batches_tracked", [1]));
    }

    [Fact]
    public void StateDict_OfALayer_LoadsIntoAnother()
    {
        var source = new GroupNorm<float>(1, 3);
        Tensor.Create([2f, 3, 4]).CopyTo(source.Weight!.Value);
        Tensor.Create([5f, 6, 7]).CopyTo(source.Bias!.Value);
        var target = new GroupNorm<float>(3, 3);
        target.LoadStateDict(source.StateDict());
        source.Weight.Value[[0]] = 100;
        Assert.Equal([2f, 3, 4], Tensors.ToArray(target.Weight!.Value));
        Assert.Equal([5f, 6, 7], Tensors.ToArray(target.Bias!.Value));
    }

    [Fact]
    public void LoadStateDict_OfSeveralProblems_ListsThemAllAndLoadsNothing()
    {
        var layer = new LayerNorm<float>(3);
        var state = new StateDict { { "weight", Tensor.Create([9f, 9, 9, 9]) }, { "gamma", Tensor.Create([1f]) }, { "running_mean", Tensor.Create([1f]) } };
        StateDictException refusal = Assert.Throws<StateDictException>(() => layer.LoadStateDict(state));
        Assert.Equal(["bias"], refusal.MissingKeys);
        Assert.Equal(["gamma", "running_mean"], refusal.UnexpectedKeys);
        string mismatch = Assert.Single(refusal.Mismatches);
        Assert.Equal("size mismatch for weight: expected shape [3], got [4]", mismatch);
        foreach (string part in new[] { "LayerNorm((3,)", "missing keys: bias", "unexpected keys: gamma, running_mean", mismatch })
            Assert.Contains(part, refusal.Message, StringComparison.Ordinal);
        Assert.Equal([1f, 1, 1], Tensors.ToArray(layer.Weight!.Value));
    }

    [Theory]
    [InlineData("missing")]
    [InlineData("unexpected")]
    [InlineData("size")]
    [InlineData("rank")]
    [InlineData("type")]
    public void LoadStateDict_OfOneProblem_LoadsNothing(string problem)
    {
        var layer = new LayerNorm<float>(2);
        var state = new StateDict { { "weight", Tensor.Create([7f, 7]) } };
        if (problem == "size")
            state.Add("bias", Tensor.Create([7f]));
        else if (problem == "rank")
            state.Add("bias", Tensor.Create([7f, 7], [1, 2]));
        else if (problem == "type")
            state.Add("bias", Tensor.Create([7L, 7]));
        else if (problem == "unexpected")
        {
            state.Add("bias", Tensor.Create([7f, 7]));
            state.Add("extra", Tensor.Create([7f, 7]));
        }
        StateDictException refusal = Assert.Throws<StateDictException>(() => layer.LoadStateDict(state));
        Assert.Equal(1, refusal.MissingKeys.Count + refusal.UnexpectedKeys.Count + refusal.Mismatches.Count);
        Assert.Equal([1f, 1], Tensors.ToArray(layer.Weight!.Value));
    }

    [Fact]
    public void LoadStateDict_OfOtherElementTypes_RoundsEachValue()
    {
        var layer = new LayerNorm<float>(3);
        layer.LoadStateDict(new StateDict { { "weight", Tensor.Create([0.1, 1e300, -1.5]) }, { "bias", Tensor.Create([(Half)0.5f, (Half)65504f, Half.Epsilon]) } });
        Assert.Equal([0.1f, float.PositiveInfinity, -1.5f], Tensors.ToArray(layer.Weight!.Value));
        Assert.Equal([0.5f, 65504f, 5.9604645e-08f], Tensors.ToArray(layer.Bias!.Value));

        var wide = new LayerNorm<double>(2);
        wide.LoadStateDict(new StateDict { { "bias", Tensor.Create([(BFloat16)1.5f, (BFloat16)(-3e38f)]) }, { "weight", Tensor.Create([0.1f, 2f]) } });
        Assert.Equal([0.1f, 2], Tensors.ToArray(wide.Weight!.Value));
        Assert.Equal([1.5, (float)(BFloat16)(-3e38f)], Tensors.ToArray(wide.Bias!.Value));
    }

    [Fact]
    public void LoadStateDict_OfStridedTensors_ReadsTheirElements()
    {
        var layer = new LayerNorm<float>([2, 2]);
        layer.LoadStateDict(new StateDict
        {
            { "weight", Tensor.Create([1f, 2, 3, 4], 0, [2, 2], [1, 2]) },
            { "bias", Tensor.Create([1.0, 2, 3, 4], 0, [2, 2], [1, 2]) },
        });
        Assert.Equal([1f, 3, 2, 4], Tensors.ToArray(layer.Weight!.Value));
        Assert.Equal([1f, 3, 2, 4], Tensors.ToArray(layer.Bias!.Value));
    }

    [Fact]
    public void Layer_WithoutParameters_TakesMoreChannelsThanAnArrayHolds()
    {
        nint many = (nint)Array.MaxLength + 1;
        Assert.Equal(many, new GroupNorm<float>(1, many, affine: false).NumChannels);
        Assert.Equal(many, new LayerNorm<float>(many, elementwiseAffine: false).NormalizedShape[0]);
        Assert.Throws<ArgumentOutOfRangeException>("numChannels", () => new GroupNorm<float>(1, many));
        Assert.Throws<ArgumentOutOfRangeException>("normalizedShape", () => new LayerNorm<float>(many));
    }

    [Fact]
    public void Layer_OfAnUnsupportedElementType_IsRefused()
    {
        Assert.Throws<NotSupportedException>(() => new LayerNorm<int>(3));
        Assert.Throws<NotSupportedException>(() => new GroupNorm<long>(1, 3));
        Assert.Throws<NotSupportedException>(() => new LocalResponseNorm<byte>(3));
    }

    private static void AssertState(NormLayer<double> layer, params (string Name, nint[] Shape)[] expected)
    {
        StateDict state = layer.StateDict();
        Assert.Equal(expected.Select(entry => entry.Name), state.Keys);
        foreach ((string name, nint[] shape) in expected)
            Assert.Equal(shape, state[name].Lengths.ToArray());
    }
}
