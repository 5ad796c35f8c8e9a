using System.Diagnostics;
using System.Numerics.Tensors;
using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests;

/// <summary>Instance normalization: its modes, its running statistics, and its lazy form.</summary>
public sealed class InstanceNormTests
{
    private static readonly nint[] shape = [3, 4, 5, 7];

    [Fact]
    public void Forward_WithItsOwnStatistics_HasGroupNormsBits()
    {
        Tensor<float> x = Random(1);
        var norm = new InstanceNorm2d<float>(4, affine: true);
        var group = new GroupNorm<float>(4, 4);
        foreach (NormLayer<float> layer in new NormLayer<float>[] { norm, group })
        {
            Tensor.Create([1f, -2, 3, 0.5f]).CopyTo(layer.Parameters[0].Value);
            Tensor.Create([0f, 1, -2, 3]).CopyTo(layer.Parameters[1].Value);
        }
        Tensor<float> y = norm.Forward(x, out ForwardPass<float> pass), expected = group.Forward(x, out ForwardPass<float> groupPass), dy = Random(2), v = Random(3);
        Assert.Equal(Tensors.ToArray(expected), Tensors.ToArray(y));
        Assert.Equal(Tensors.ToArray(group.Backward(dy, groupPass)), Tensors.ToArray(norm.Backward(dy, pass)));
        Assert.Equal(Tensors.ToArray(group.Weight!.Grad), Tensors.ToArray(norm.Weight!.Grad));
        Assert.Equal(Tensors.ToArray(group.Jvp(groupPass, v)), Tensors.ToArray(norm.Jvp(pass, v)));
        Assert.Equal(Tensors.ToArray(group.DoubleBackward(dy, groupPass, v).Input), Tensors.ToArray(norm.DoubleBackward(dy, pass, v).Input));
        norm.Eval();
        Assert.Equal(Tensors.ToArray(expected), Tensors.ToArray(norm.Forward(x)));
    }

    [Fact]
    public void Forward_Unbatched_HasTheBitsOfABatchOfOne()
    {
        float[] values = new Generator(4).Values<float>(140);
        foreach (bool training in new[] { true, false })
        {
            InstanceNorm2d<float> one = new(4, trackRunningStats: true), batch = new(4, trackRunningStats: true);
            one.Train(training);
            batch.Train(training);
            Tensor<float> y = one.Forward(Tensor.Create(values, [4, 5, 7]));
            Assert.Equal([4, 5, 7], y.Lengths.ToArray());
            Assert.Equal(Tensors.ToArray(batch.Forward(Tensor.Create(values, [1, 4, 5, 7]))), Tensors.ToArray(y));
            Assert.Equal(Tensors.ToArray(batch.RunningVar!), Tensors.ToArray(one.RunningVar!));
        }
    }

    [Theory]
    [InlineData(new long[] { 4, 5, 7 })]
    [InlineData(new long[] { 4, 4, 5, 7 })]
    public void Unbatched_WithChannelsLastStrides_HasTheBitsOfItsCopy(long[] lengths)
    {
        nint[] lengthsOfInput = [.. lengths.Select(static length => (nint)length)], strides = new nint[lengths.Length];
        // Dimension 1 is innermost, as in a batch (N, C, *) that is channels-last; here it is a spatial one.
        Internals.Layout.ChannelsLastStrides(lengthsOfInput, strides);
        Tensor<float> x = Tensor.Create(new Generator(4).Values<float>((int)lengths.Aggregate(static (a, b) => a * b)), lengthsOfInput);
        Tensor<float> strided = Tensors.WithStrides(x, strides);
        foreach (bool training in new[] { true, false })
        {
            string text = $"InstanceNorm{lengths.Length - 1}d(4, affine=True, track_running_stats=True)";
            NormLayer<float> one = NormLayer.Parse(text), other = NormLayer.Parse(text);
            foreach (NormLayer<float> layer in new[] { one, other })
            {
                layer.Train(training);
                Tensor.Create([1f, -2, 3, 0.5f]).CopyTo(layer.Parameters[0].Value);
                Tensor.Create([0f, 1, -2, 3]).CopyTo(layer.Parameters[1].Value);
            }
            Assert.Equal(Tensors.ToArray(one.Forward(x, out ForwardPass<float> pass)), Tensors.ToArray(other.Forward(strided, out ForwardPass<float> stridedPass)));
            Assert.Equal(Tensors.ToArray(one.Backward(x, pass)), Tensors.ToArray(other.Backward(strided, stridedPass)));
            Assert.Equal(Tensors.ToArray(one.Parameters[0].Grad), Tensors.ToArray(other.Parameters[0].Grad));
            Assert.Equal(Tensors.ToArray(((RunningNormLayer<float>)one).RunningVar!), Tensors.ToArray(((RunningNormLayer<float>)other).RunningVar!));
        }
    }

    [Theory]
    [InlineData("InstanceNorm1d(0)", new long[] { 2, 0, 3 })]
    [InlineData("InstanceNorm1d(0, affine=True, track_running_stats=True)", new long[] { 0, 0, 0 })]
    [InlineData("InstanceNorm2d(0, affine=True, track_running_stats=True)", new long[] { 0, 2, 3 })]
    [InlineData("BatchNorm1d(0)", new long[] { 2, 0 })]
    [InlineData("CrossMapLRN2d(3)", new long[] { 2, 0, 3, 3 })]
    public void Forward_OfNoChannels_IsEmpty(string layer, long[] lengths)
    {
        NormLayer<float> norm = NormLayer.Parse(layer);
        Tensor<float> x = Tensor.Create(Array.Empty<float>(), [.. lengths.Select(static length => (nint)length)]);
        foreach (bool training in new[] { true, false })
        {
            norm.Train(training);
            Assert.Equal(x.Lengths, norm.Forward(x, out ForwardPass<float> pass).Lengths);
            Assert.Equal(x.Lengths, norm.Backward(x, pass).Lengths);
        }
    }

    [Fact]
    public void Eval_WithTracking_UsesTheRunningStatisticsAndLeavesThem()
    {
        var norm = new InstanceNorm1d<double>(2, eps: 0.25, affine: true, trackRunningStats: true);
        Tensor.Create([1.0, -2]).CopyTo(norm.RunningMean!);
        Tensor.Create([0.75, 3.75]).CopyTo(norm.RunningVar!);
        norm.Eval();
        Assert.False(norm.Training);
        Tensor<double> x = Tensor.Create([1.0, 5, 0, 2], [1, 2, 2]), dy = Tensor.Create([1.0, 2, 3, 4], [1, 2, 2]);
        Tensor<double> y = norm.Forward(x, out ForwardPass<double> pass);
        Assert.Equal([0, 4, 1, 2], Tensors.ToArray(y));
        Assert.Equal([1, 2, 1.5, 2], Tensors.ToArray(norm.Backward(dy, pass)));
        Assert.Equal([8, 11], Tensors.ToArray(norm.Weight!.Grad));
        Assert.Equal([3, 7], Tensors.ToArray(norm.Bias!.Grad));
        Assert.Equal([1, 2, 1.5, 2], Tensors.ToArray(norm.Jvp(pass, dy)));
        norm.ZeroGrad();
        SecondOrderGradients<double> second = norm.DoubleBackward(dy, pass, dy, gradGradWeight: Tensor.Create([1.0, 1]));
        // dy: v · rstd · w + n · vw; x: vw · dy · rstd; weight: sum of v · rstd · dy.
        Assert.Equal([1, 6, 2.5, 4], Tensors.ToArray(second.GradOutput));
        Assert.Equal([1, 2, 1.5, 2], Tensors.ToArray(second.Input));
        Assert.Equal([5, 12.5], Tensors.ToArray(norm.Weight.Grad));
        Assert.Equal([1, -2], Tensors.ToArray(norm.RunningMean!));
        Assert.Equal([0.75, 3.75], Tensors.ToArray(norm.RunningVar!));
        norm.Train();
        // The pass keeps its mode.
        Assert.Equal([1, 2, 1.5, 2], Tensors.ToArray(norm.Backward(dy, pass)));
    }

    [Fact]
    public void Train_WithTracking_MovesTowardsTheAverageOfTheSamples()
    {
        var norm = new InstanceNorm1d<double>(1, momentum: 0.5, trackRunningStats: true);
        Tensor<double> x = Tensor.Create([1.0, 3, 5, 9], [2, 1, 2]);
        norm.Forward(x);
        Assert.Equal([2.25], Tensors.ToArray(norm.RunningMean!)); // (0 + (2 + 7) / 2) / 2
        Assert.Equal([3], Tensors.ToArray(norm.RunningVar!)); // (1 + (2 + 8) / 2) / 2
        Assert.Equal([0L], Tensors.ToArray(norm.NumBatchesTracked!));
        norm.Forward(Tensor.Create(Array.Empty<double>(), [0, 1, 2]));
        Assert.Equal([3], Tensors.ToArray(norm.RunningVar!));
        norm.ResetRunningStats();
        Assert.Equal([0], Tensors.ToArray(norm.RunningMean!));
        Assert.Equal([1], Tensors.ToArray(norm.RunningVar!));

        var still = new InstanceNorm1d<double>(1, momentum: null, affine: true, trackRunningStats: true);
        still.Forward(x);
        Assert.Equal([1], Tensors.ToArray(still.RunningVar!));
        still.Weight!.Value.Fill(7);
        still.ResetParameters();
        Assert.Equal([1], Tensors.ToArray(still.Weight.Value));
    }

    [Fact]
    public void Train_OnManyThreads_LosesNoUpdate()
    {
        var norm = new InstanceNorm1d<double>(3000, momentum: 0.5, trackRunningStats: true);
        double[] values = new double[6000];
        for (int i = 0; i < values.Length; i++)
            values[i] = i % 2 * 2;
        Tensor<double> x = Tensor.Create(values, [1, 3000, 2]);
        Thread[] threads = [.. Enumerable.Range(0, 4).Select(_ => new Thread(() =>
        {
            for (int i = 0; i < 5; i++)
                norm.Forward(x);
        }))];
        Array.ForEach(threads, thread => thread.Start());
        Array.ForEach(threads, thread => thread.Join());
        Assert.All(Tensors.ToArray(norm.RunningMean!), value => Assert.Equal(1 - Math.ScaleB(1, -20), value));
    }

    [Fact]
    public void ConstantChannel_WithoutEps_GivesTheBiasAndNoGradient()
    {
        var norm = new InstanceNorm1d<float>(1, eps: 0, affine: true);
        norm.Bias!.Value.Fill(3);
        Tensor<float> x = Tensor.Create([5f, 5, 5], [1, 1, 3]);
        foreach (PassMemory keep in new[] { PassMemory.Input, PassMemory.Output })
        {
            Assert.Equal([3f, 3, 3], Tensors.ToArray(norm.Forward(x, out ForwardPass<float> pass, keep)));
            Assert.Equal([0f, 0, 0], Tensors.ToArray(norm.Backward(Tensor.Create([1f, 2, 4], [1, 1, 3]), pass)));
        }
    }

    [Fact]
    public void OtherChannels_WithoutParameters_AreWarnedOf()
    {
        var listener = new Listener();
        Trace.Listeners.Add(listener);
        try
        {
            new InstanceNorm1d<float>(4).Forward(Tensor.Create(new float[12], [3, 2, 2]));
        }
        finally
        {
            Trace.Listeners.Remove(listener);
        }
        Assert.Contains("InstanceNorm1d(4, eps=1e-05, momentum=0.1, affine=False, track_running_stats=False): the input of shape [3, 2, 2] has 2 channels in dimension 1", listener.Text, StringComparison.Ordinal);
    }

    [Fact]
    public void Lazy_OnFirstInput_TakesItsChannels()
    {
        var norm = new LazyInstanceNorm2d<float>();
        Assert.Equal("LazyInstanceNorm2d(0, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)", norm.ToString());
        Assert.True(norm.HasUninitializedParameters);
        Assert.Contains("has no parameters yet", Assert.Throws<InvalidOperationException>(() => norm.Parameters).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidOperationException>(() => norm.StateDict());
        Assert.Throws<ArgumentException>("input", () => norm.Forward(Tensor.Create(new float[6], [2, 3])));
        Assert.True(norm.HasUninitializedParameters);
        Assert.Equal(Tensors.ToArray(new InstanceNorm2d<float>(4).Forward(Random(5))), Tensors.ToArray(norm.Forward(Random(5))));
        Assert.Equal("InstanceNorm2d(4, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)", norm.ToString());
        Assert.Equal(["weight", "bias", "running_mean", "running_var", "num_batches_tracked"], norm.StateDict().Keys);
        Assert.Throws<ArgumentException>("input", () => norm.Forward(Tensor.Create(new float[8], [1, 2, 2, 2])));

        var unbatched = new LazyInstanceNorm1d<double>();
        unbatched.Forward(Tensor.Create(new double[12], [3, 4]));
        Assert.Equal(3, unbatched.NumFeatures);

        var nothing = new LazyInstanceNorm1d<double>(affine: false, trackRunningStats: false);
        nothing.Forward(Tensor.Create(new double[12], [1, 3, 4]));
        Assert.Equal("InstanceNorm1d(0, eps=1e-05, momentum=0.1, affine=False, track_running_stats=False)", nothing.ToString());
    }

    [Fact]
    public void LazyBatchNorm_OnFirstInput_IsThePlainLayer()
    {
        var norm = new LazyBatchNorm2d<float>(momentum: null);
        Assert.Equal("LazyBatchNorm2d(0, eps=1e-05, momentum=None, affine=True, track_running_stats=True)", norm.ToString());
        Assert.Throws<ArgumentException>("input", () => norm.Forward(Tensor.Create(new float[8], [2, 2, 2])));
        Assert.True(norm.HasUninitializedParameters);
        var plain = new BatchNorm2d<float>(4, momentum: null);
        Assert.Equal(Tensors.ToArray(plain.Forward(Random(5))), Tensors.ToArray(norm.Forward(Random(5), out ForwardPass<float> pass)));
        plain.Forward(Random(5), out ForwardPass<float> plainPass);
        Assert.Equal(Tensors.ToArray(plain.Backward(Random(6), plainPass)), Tensors.ToArray(norm.Backward(Random(6), pass)));
        Assert.Equal("BatchNorm2d(4, eps=1e-05, momentum=None, affine=True, track_running_stats=True)", norm.ToString());
        Assert.Equal([1L], Tensors.ToArray(norm.NumBatchesTracked!));

        var loaded = new LazyBatchNorm1d<double>();
        loaded.LoadStateDict(new BatchNorm1d<double>(3).StateDict());
        Assert.Equal(3, loaded.NumFeatures);
        var other = new LazyBatchNorm3d<double>();
        other.Forward(Tensor.Create(new double[12], [2, 3, 1, 1, 2]));
        Assert.Equal(3, other.NumFeatures);
    }

    [Fact]
    public void BatchNorm_WithOneRunningStatisticAlone_TracksIt()
    {
        Tensor<float> x = Random(5), mean = Tensor.CreateFromShape<float>([4]), variance = Tensor.CreateFromShape<float>([4]);
        Tensor<float> meanAlone = Tensor.CreateFromShape<float>([4]), varianceAlone = Tensor.CreateFromShape<float>([4]);
        Functional.BatchNorm(x, mean, variance, training: true);
        Functional.BatchNorm(x, meanAlone, null, training: true);
        Functional.BatchNorm(x, null, varianceAlone, training: true);
        Assert.All(Tensors.ToArray(mean), value => Assert.NotEqual(0, value));
        Assert.Equal(Tensors.ToArray(mean), Tensors.ToArray(meanAlone));
        Assert.Equal(Tensors.ToArray(variance), Tensors.ToArray(varianceAlone));
    }

    [Fact]
    public void RunningStatistics_Strided_AreRefusedAndLeftAlone()
    {
        float[] memory = [.. Enumerable.Repeat(7f, 12)];
        Tensor<float> strided = Tensor.Create(memory, 0, [4], [3]), dense = Tensor.CreateFromShape<float>([4]);
        foreach (bool training in new[] { true, false })
        {
            foreach (Action call in new Action[]
                {
                    () => Functional.BatchNorm(Random(5), strided, dense, training: training), () => Functional.InstanceNorm(Random(5), strided, dense, useInputStats: training),
                })
                Assert.Contains("Expected a contiguous runningMean of shape [4]", Assert.Throws<ArgumentException>("runningMean", call).Message, StringComparison.Ordinal);
            Assert.Throws<ArgumentException>("runningVar", () => Functional.BatchNorm(Random(5), dense, strided, training: training));
        }
        Assert.All(memory, value => Assert.Equal(7, value));
    }

    [Fact]
    public void ResetParameters_AfterTraining_GivesTheInitialState()
    {
        var norm = new BatchNorm2d<float>(4);
        norm.Forward(Random(5));
        norm.Weight!.Value.Fill(3);
        norm.Bias!.Value.Fill(3);
        norm.ResetParameters();
        StateDict initial = new BatchNorm2d<float>(4).StateDict(), state = norm.StateDict();
        foreach (string name in new[] { "weight", "bias", "running_mean", "running_var" })
            Assert.Equal(Tensors.ToArray(initial.Get<float>(name)), Tensors.ToArray(state.Get<float>(name)));
        Assert.Equal([0L], Tensors.ToArray(state.Get<long>("num_batches_tracked")));
    }

    [Fact]
    public void SyncBatchNorm_OfAnyRank_IsBatchNorm()
    {
        foreach ((BatchNorm<float> plain, nint[] shape) in new (BatchNorm<float>, nint[])[] { (new BatchNorm1d<float>(3), [8, 3]), (new BatchNorm2d<float>(3), [2, 3, 2, 2]), (new BatchNorm3d<float>(3), [2, 3, 2, 1, 2]) })
        {
            nint[] longer = [.. shape, 1, 1];
            float[] values = new Generator(4).Values<float>(24), gradients = new Generator(5).Values<float>(24);
            var sync = new SyncBatchNorm<float>(3);
            foreach (bool training in new[] { true, false })
            {
                plain.Train(training);
                sync.Train(training);
                Tensor<float> y = plain.Forward(Tensor.Create(values, shape), out ForwardPass<float> pass);
                Assert.Equal(Tensors.ToArray(y), Tensors.ToArray(sync.Forward(Tensor.Create(values, longer), out ForwardPass<float> syncPass)));
                Assert.Equal(Tensors.ToArray(plain.Backward(Tensor.Create(gradients, shape), pass)), Tensors.ToArray(sync.Backward(Tensor.Create(gradients, longer), syncPass)));
            }
            Assert.Equal(plain.StateDict().Keys, sync.StateDict().Keys);
            Assert.Equal(Tensors.ToArray(plain.RunningVar!), Tensors.ToArray(sync.RunningVar!));
            Assert.Equal(1, sync.NumBatchesTracked![0]);
            Assert.Equal(Tensors.ToArray(plain.Weight!.Grad), Tensors.ToArray(sync.Weight!.Grad));
        }
        Assert.Throws<ArgumentException>(() => new SyncBatchNorm<float>(3).Forward(Tensor.CreateFromShape<float>([3])));
    }

    [Fact]
    public void Lazy_OfARefusedInput_TakesNothing()
    {
        var batch = new LazyBatchNorm1d<float>();
        Assert.Throws<ArgumentException>("input", () => batch.Forward(Tensor.Create(new float[5], [1, 5])));
        Assert.True(batch.HasUninitializedParameters);
        batch.Forward(Tensor.Create(new float[6], [2, 3]));
        Assert.Equal(3, batch.NumFeatures);
        var instance = new LazyInstanceNorm1d<float>();
        Assert.Throws<ArgumentException>("input", () => instance.Forward(Tensor.Create(new float[5], [1, 5, 1]), out _));
        Assert.True(instance.HasUninitializedParameters);
        // One value is enough for the running statistics.
        instance.Eval();
        instance.Forward(Tensor.Create(new float[5], [1, 5, 1]));
        Assert.Equal(5, instance.NumFeatures);
    }

    [Fact]
    public void LazyZeroGrad_BeforeAnyInput_DoesNothing()
    {
        var norm = new LazyBatchNorm1d<float>();
        norm.ZeroGrad();
        Tensor<float> x = Tensor.Create([1f, 2, 3, 5], [2, 2]);
        norm.Forward(x, out ForwardPass<float> pass);
        norm.Backward(x, pass);
        Assert.Equal([4, 7], Tensors.ToArray(norm.Bias!.Grad));
        norm.ZeroGrad();
        Assert.Equal([0, 0], Tensors.ToArray(norm.Bias.Grad));
    }

    [Fact]
    public void Lazy_OnLoading_TakesTheStatesChannels()
    {
        var source = new InstanceNorm3d<float>(2, affine: true, trackRunningStats: true);
        source.RunningVar!.Fill(9);
        source.NumBatchesTracked!.Fill(5);
        var norm = new LazyInstanceNorm3d<float>();
        var wrong = new StateDict { { "weight", Tensor.Create([1f, 2]) }, { "bias", Tensor.Create([1f, 2, 3]) } };
        StateDictException refusal = Assert.Throws<StateDictException>(() => norm.LoadStateDict(wrong));
        Assert.Equal(["running_mean", "running_var"], refusal.MissingKeys);
        Assert.Single(refusal.Mismatches);
        Assert.True(norm.HasUninitializedParameters);
        Assert.Equal(0, norm.NumFeatures);
        Assert.Null(norm.Weight);
        // What there is tells the channels: one that is missing, or of another shape, is the only problem.
        var partial = new StateDict { { "bias", Tensor.Create([1f, 2]) }, { "running_mean", Tensor.Create([1f, 2]) }, { "running_var", Tensor.Create([1f, 2], [2, 1]) } };
        refusal = Assert.Throws<StateDictException>(() => norm.LoadStateDict(partial));
        Assert.Equal(["weight"], refusal.MissingKeys);
        Assert.Equal(["size mismatch for running_var: expected shape [2], got [2, 1]"], refusal.Mismatches);
        partial = new StateDict { { "weight", Tensor.Create([1f, 2], [1, 2]) }, { "bias", Tensor.Create([1f, 2]) }, { "running_mean", Tensor.Create([1f, 2]) }, { "running_var", Tensor.Create([1f, 2]) } };
        refusal = Assert.Throws<StateDictException>(() => norm.LoadStateDict(partial));
        Assert.Equal(["size mismatch for weight: expected shape [2], got [1, 2]"], refusal.Mismatches);
        norm.LoadStateDict(source.StateDict());
        Assert.Equal((2, 5L), (norm.NumFeatures, norm.NumBatchesTracked![[0]]));
        Assert.Equal([9f, 9], Tensors.ToArray(norm.RunningVar!));
    }

    [Fact]
    public void LoadStateDict_OfBuffers_IsStrict()
    {
        var norm = new InstanceNorm1d<float>(2, trackRunningStats: true);
        norm.NumBatchesTracked!.Fill(4);
        Tensor<float> two = Tensor.Create([5f, 6]);
        // PyTorch: a state without a version may lack the count, which stays.
        norm.LoadStateDict(new StateDict { { "running_mean", two }, { "running_var", two } });
        Assert.Equal([4L], Tensors.ToArray(norm.NumBatchesTracked));
        Assert.Equal([5f, 6], Tensors.ToArray(norm.RunningMean!));
        StateDictException refusal = Assert.Throws<StateDictException>(() => norm.LoadStateDict(new StateDict { { "running_mean", Tensor.Create([1f, 1]) }, { "running_var", two }, { "num_batches_tracked", Tensor.Create([1f]) } }));
        Assert.Equal(["type mismatch for num_batches_tracked: expected Int64, got Single"], refusal.Mismatches);
        refusal = Assert.Throws<StateDictException>(() => norm.LoadStateDict(new StateDict { { "running_mean", Tensor.Create([1f, 1]) }, { "running_var", two }, { "num_batches_tracked", Tensor.Create([1L, 2]) } }));
        Assert.Equal(["size mismatch for num_batches_tracked: expected a scalar (shape [] or [1]), got [2]"], refusal.Mismatches);
        refusal = Assert.Throws<StateDictException>(() => norm.LoadStateDict(new StateDict { { "running_mean", Tensor.Create([1f, 1]) }, { "running_var", two }, { "num_batches_tracked", Tensor.Create([1L], [1, 1]) } }));
        Assert.Equal(["size mismatch for num_batches_tracked: expected a scalar (shape [] or [1]), got [1, 1]"], refusal.Mismatches);
        Assert.Equal([5f, 6], Tensors.ToArray(norm.RunningMean!));
        refusal = Assert.Throws<StateDictException>(() => new InstanceNorm1d<float>(2).LoadStateDict(norm.StateDict()));
        Assert.Equal(["running_mean", "running_var", "num_batches_tracked"], refusal.UnexpectedKeys);
    }

    private static Tensor<float> Random(ulong seed) => Tensor.Create(new Generator(seed).Values<float>(420), shape);

    private sealed class Listener : TraceListener
    {
        public string Text { get; private set; } = "";

        public override void Write(string? message) => Text += message;

        public override void WriteLine(string? message) => Text += message;
    }
}
