using System.Numerics;
using System.Numerics.Tensors;
using NormLayers.Tests.Golden;
using Xunit;

namespace NormLayers.Tests.Properties;

/// <summary>Layers that walk channels-last memory.</summary>
public static class ChannelsLastLayers
{
    public static TheoryData<string> All => ["GroupNorm(3, 12)", "GroupNorm(12, 12)", "BatchNorm2d(12)", "BatchNorm2d(12, track_running_stats=False, affine=False)", "LayerNorm(12, axis=1)", "RMSNorm(12, axis=-3)"];
}

/// <summary>Layers on channels-last tensors: the order is kept, and the results are those of row-major ones.</summary>
public abstract class ChannelsLastTests<T> where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private static readonly nint[] shape = [3, 12, 5, 7];

    [Theory]
    [InlineData("LayerNorm(3, axis=2)")]
    [InlineData("LayerNorm((3, 3), axis=1)")]
    public void ChannelsLast_OverOtherDimensionsThanTheChannels_HasTheRowMajorBits(string text)
    {
        // Channels and rows of one length, so that only the dimension tells them apart.
        Tensor<T> x = Tensor.Create(new Generator(1).Values<T>(90), [2, 3, 3, 5]), dy = Tensor.Create(new Generator(2).Values<T>(90), [2, 3, 3, 5]);
        NormLayer<T> layer = NormLayer.Parse<T>(text);
        Tensor<T> y = layer.Forward(x, out ForwardPass<T> pass), yLast = layer.Forward(Tensors.WithStrides(x, [45, 1, 15, 3]), out ForwardPass<T> passLast);
        Assert.Equal(Tensors.ToArray(y), Tensors.ToArray(yLast));
        Assert.Equal(Tensors.ToArray(layer.Backward(dy, pass)), Tensors.ToArray(layer.Backward(dy, passLast)));
        Assert.Throws<ArgumentException>("input", () => new LayerNorm<T>([3, 5], axis: 3).Forward(x));
    }

    [Theory]
    [MemberData(nameof(ChannelsLastLayers.All), MemberType = typeof(ChannelsLastLayers))]
    public void ChannelsLast_ForwardAndBackward_KeepTheOrderAndGiveTheRowMajorResults(string text)
    {
        foreach (bool training in new[] { true, false })
        {
            NormLayer<T> rowMajor = Make(text, training), channelsLast = Make(text, training);
            Tensor<T> x = Tensor.Create(new Generator(1).Values<T>(1260), shape), dy = Tensor.Create(new Generator(2).Values<T>(1260), shape);
            Tensor<T> xLast = ChannelsLast(x);
            Tensor<T> y = rowMajor.Forward(x, out ForwardPass<T> pass), yLast = channelsLast.Forward(xLast, out ForwardPass<T> passLast);
            Assert.Equal(xLast.Strides, yLast.Strides);
            AssertNear(y, yLast);
            // Gradients of either order; the result has the input's.
            Tensor<T> dx = rowMajor.Backward(dy, pass), dxLast = channelsLast.Backward(dy, passLast);
            Assert.Equal(xLast.Strides, dxLast.Strides);
            AssertNear(dx, dxLast);
            for (int p = 0; p < rowMajor.Parameters.Count; p++)
                AssertNear(rowMajor.Parameters[p].Grad, channelsLast.Parameters[p].Grad, 400);
            // Row-major where that is wanted, with the row-major bits.
            if (rowMajor is not BatchNorm<T>)
            {
                Tensor<T> gathered = Tensor.CreateFromShape<T>(shape);
                rowMajor.Forward(xLast.AsReadOnlyTensorSpan(), gathered.AsTensorSpan());
                Assert.Equal(Tensors.ToArray(y), Tensors.ToArray(gathered));
            }
            // A row-major input for a channels-last destination; and in place.
            Tensor<T> scattered = ChannelsLast(Tensor.CreateFromShape<T>(shape));
            Make(text, training).Forward(x.AsReadOnlyTensorSpan(), scattered.AsTensorSpan());
            Assert.Equal(Tensors.ToArray(yLast), Tensors.ToArray(scattered));
            Make(text, training).Forward(xLast.AsReadOnlyTensorSpan(), xLast.AsTensorSpan());
            Assert.Equal(Tensors.ToArray(yLast), Tensors.ToArray(xLast));
        }
    }

    [Theory]
    [MemberData(nameof(ChannelsLastLayers.All), MemberType = typeof(ChannelsLastLayers))]
    public void Backward_OfEveryLayer_IsTheSlopeOfItsForward(string text)
    {
        if (typeof(T) != typeof(double))
            return;
        foreach (bool training in new[] { true, false })
        {
            NormLayer<T> layer = Make(text, training);
            Generator generator = new(3);
            Tensor<T> x = Tensor.Create(generator.Values<T>(1260), shape), t = Tensor.Create(generator.Values<T>(1260), shape), dy = Tensor.Create(generator.Values<T>(1260), shape);
            layer.Forward(x, out ForwardPass<T> pass);
            // <dy, J t> three ways: differences of the forward, the backward, the Jacobian-vector product.
            const double Step = 1e-5;
            double slope = (Dot(dy, Moved(Step)) - Dot(dy, Moved(-Step))) / (2 * Step);
            double backward = Dot(t, layer.Backward(dy, pass)), jvp = Dot(dy, layer.Jvp(pass, t));
            Assert.Equal(backward, jvp, 1e-9 * Math.Abs(backward) + 1e-9);
            Assert.Equal(backward, slope, 1e-6 * Math.Abs(backward) + 1e-6);
            // The same of the backward: <v, d(dx)/dx t> by differences and by the double backward.
            Tensor<T> v = Tensor.Create(generator.Values<T>(1260), shape);
            double second = (Dot(v, Gradient(Step)) - Dot(v, Gradient(-Step))) / (2 * Step);
            double exact = Dot(t, layer.DoubleBackward(dy, pass, v).Input);
            Assert.Equal(exact, second, 1e-5 * Math.Abs(exact) + 1e-5);

            Tensor<T> At(double step) => Tensor.Add<T>(x, Tensor.Multiply<T>(t, T.CreateChecked(step)));
            Tensor<T> Moved(double step) => Make(text, training).Forward(At(step));
            Tensor<T> Gradient(double step)
            {
                NormLayer<T> moved = Make(text, training);
                moved.Forward(At(step), out ForwardPass<T> movedPass);
                return moved.Backward(dy, movedPass);
            }
        }
    }

    [Fact]
    public void BatchNorm_EvaluationOfInfinity_HasAFiniteGradient()
    {
        foreach (nint positions in new nint[] { 1, 40 })
        {
            var layer = new BatchNorm1d<T>(2);
            layer.Eval();
            T[] values = new Generator(4).Values<T>((int)(6 * positions));
            values[1] = T.PositiveInfinity;
            layer.Forward(Tensor.Create(values, [3, 2, positions]), out ForwardPass<T> pass);
            Tensor<T> dy = Tensor.CreateFromShape<T>([3, 2, positions]);
            dy.Fill(T.One);
            Assert.All(Tensors.ToArray(layer.Backward(dy, pass)), value => Assert.True(T.IsFinite(value)));
        }
    }

    [Fact]
    public void BatchNorm_OfOneValue_HasABackwardInEvaluation()
    {
        Tensor<T> x = Tensor.Create([T.One, T.Zero], [1, 2]), dx = Tensor.CreateFromShape<T>([1, 2]);
        Functional.BatchNormBackward(x.AsReadOnlyTensorSpan(), x.AsReadOnlyTensorSpan(), [new GroupStatistics(0, 4, 0), new GroupStatistics(0, 1, 0)], default, training: false, dx.AsTensorSpan(), default, default);
        Assert.Equal([T.CreateChecked(0.5), T.Zero], Tensors.ToArray(dx));
    }

    [Fact]
    public void BatchNorm_RefusedInput_ChangesNothing()
    {
        var layer = new BatchNorm2d<T>(3);
        Assert.Throws<ArgumentException>("input", () => layer.Forward(Tensor.CreateFromShape<T>([1, 3, 1, 1])));
        Assert.Throws<ArgumentException>("input", () => layer.Forward(Tensor.CreateFromShape<T>([4, 2, 3, 3])));
        Assert.Equal(0, layer.NumBatchesTracked![0]);
        Assert.Equal([T.One, T.One, T.One], Tensors.ToArray(layer.RunningVar!));
    }

    [Fact]
    public void BatchNorm_Pass_IsRefusedByALayerOfOtherChannels()
    {
        new BatchNorm2d<T>(3).Forward(Tensor.Create(new Generator(5).Values<T>(24), [2, 3, 2, 2]), out ForwardPass<T> pass);
        Assert.Throws<ArgumentException>(() => new BatchNorm2d<T>(4).Backward(Tensor.CreateFromShape<T>([2, 3, 2, 2]), pass));
    }

    private static NormLayer<T> Make(string text, bool training)
    {
        NormLayer<T> layer = NormLayer.Parse<T>(text);
        ulong seed = 10;
        foreach (Parameter<T> parameter in layer.Parameters)
            Tensor.Create(new Generator(seed++).Values<T>((int)parameter.Value.FlattenedLength), parameter.Value.Lengths).CopyTo(parameter.Value);
        layer.Train(training);
        return layer;
    }

    private static Tensor<T> ChannelsLast(Tensor<T> tensor)
        => Tensors.WithStrides(tensor, [shape[1] * shape[2] * shape[3], 1, shape[1] * shape[3], shape[1]]);

    private static double Dot(Tensor<T> a, Tensor<T> b) => Tensors.ToArray(a).Zip(Tensors.ToArray(b), (left, right) => double.CreateChecked(left) * double.CreateChecked(right)).Sum();

    private static void AssertNear(Tensor<T> expected, Tensor<T> actual, double ulps = 16)
    {
        T[] left = Tensors.ToArray(expected), right = Tensors.ToArray(actual);
        for (int i = 0; i < left.Length; i++)
            Assert.True(Ulp.Distance<T>(double.CreateChecked(right[i]), double.CreateChecked(left[i]), Math.Max(4, Math.Abs(double.CreateChecked(left[i])))) <= ulps, $"{i}: {right[i]} for {left[i]}");
    }
}

public sealed class FloatChannelsLastTests : ChannelsLastTests<float>;

public sealed class DoubleChannelsLastTests : ChannelsLastTests<double>;
