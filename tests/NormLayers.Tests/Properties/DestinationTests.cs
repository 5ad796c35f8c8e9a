using System.Numerics.Tensors;
using Xunit;

namespace NormLayers.Tests.Properties;

/// <summary>Destinations that are refused, with what the message says, and that a refusal writes nothing.</summary>
public sealed class DestinationTests
{
    private delegate void Attempt(float[] memory);

    public static TheoryData<string> Names => ["LayerNorm", "RMSNorm", "GroupNorm", "LocalResponseNorm"];

    [Theory]
    [MemberData(nameof(Names))]
    public void Destination_OfAnotherShape_IsRefused(string name)
        => Refuse(name, "Expected a destination of the input's shape [2, 4, 3], got [2, 3, 4].",
            memory => Apply(name, Input(), new TensorSpan<float>(memory, [2, 3, 4])));

    [Theory]
    [MemberData(nameof(Names))]
    public void Destination_OfAnotherRank_IsRefused(string name)
        => Refuse(name, "Expected a destination of the input's shape [2, 4, 3], got [24].",
            memory => Apply(name, Input(), new TensorSpan<float>(memory, [24])));

    [Theory]
    [MemberData(nameof(Names))]
    public void Destination_Strided_IsRefused(string name)
        => Refuse(name, "row-major contiguous destination, got shape [2, 4, 3] with strides [16, 4, 1]",
            memory => Apply(name, Input(), new TensorSpan<float>(memory, 0, [2, 4, 3], [16, 4, 1])));

    [Theory]
    [MemberData(nameof(Names))]
    public void Destination_Broadcast_IsRefused(string name)
        => Refuse(name, "row-major contiguous destination, got shape [2, 4, 3] with strides [0, 3, 1]",
            memory => Apply(name, Input(), new TensorSpan<float>(memory, 0, [2, 4, 3], [0, 3, 1])));

    [Theory]
    [MemberData(nameof(Names))]
    public void Destination_ShiftedFromTheInput_IsRefused(string name)
    {
        foreach (int shift in new[] { 1, 8, 23 })
        {
            Refuse(name, "The destination may overlap the input only if both are contiguous and start at the same place.",
                memory => Apply(name, new TensorSpan<float>(memory, 0, [2, 4, 3], []), new TensorSpan<float>(memory, shift, [2, 4, 3], [])));
            Refuse(name, "The destination may overlap the input only",
                memory => Apply(name, new TensorSpan<float>(memory, shift, [2, 4, 3], []), new TensorSpan<float>(memory, 0, [2, 4, 3], [])));
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Destination_RightBehindOrBeforeTheInput_IsAccepted(string name)
    {
        float[] memory = [.. Enumerable.Range(0, 48)];
        Apply(name, new TensorSpan<float>(memory, 0, [2, 4, 3], []), new TensorSpan<float>(memory, 24, [2, 4, 3], []));
        Apply(name, new TensorSpan<float>(memory, 24, [2, 4, 3], []), new TensorSpan<float>(memory, 0, [2, 4, 3], []));
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Destination_OnAStridedInput_IsRefused(string name)
    {
        Refuse(name, "only if both are contiguous",
            memory => Apply(name, new TensorSpan<float>(memory, 0, [2, 4, 3], [12, 1, 4]), new TensorSpan<float>(memory, 0, [2, 4, 3], [])));
        Refuse(name, "only if both are contiguous",
            memory => Apply(name, new TensorSpan<float>(memory, 0, [2, 4, 3], [0, 3, 1]), new TensorSpan<float>(memory, 0, [2, 4, 3], [])));
    }

    [Theory]
    [InlineData("LayerNorm", 3)]
    [InlineData("GroupNorm", 4)]
    public void Destination_OnWeightOrBias_IsRefused(string name, int length)
    {
        foreach (int start in new[] { 0, 10, 23 })
        {
            Refuse(name, "The destination may not overlap the weight.", memory => Apply(name, Input(),
                new TensorSpan<float>(memory, 0, [2, 4, 3], []), new ReadOnlyTensorSpan<float>(memory, start, [length], [])));
            Refuse(name, "The destination may not overlap the bias.", memory => Apply(name, Input(),
                new TensorSpan<float>(memory, 0, [2, 4, 3], []), bias: new ReadOnlyTensorSpan<float>(memory, start, [length], [])));
        }
    }

    [Theory]
    [InlineData("BatchNorm1d(4)")]
    [InlineData("InstanceNorm1d(4, track_running_stats=True)")]
    public void Destination_OnALayersRunningStatistics_IsRefused(string text)
    {
        var layer = (RunningNormLayer<float>)NormLayer.Parse(text);
        layer.Eval();
        foreach ((Tensor<float> statistic, string name) in new[] { (layer.RunningMean!, "runningMean"), (layer.RunningVar!, "runningVar") })
        {
            float[] before = Tensors.ToArray(statistic);
            string message = Assert.Throws<ArgumentException>("destination", () => layer.Forward(Tensor.Create([1f, 2, 3, 4], [1, 4, 1]).AsReadOnlyTensorSpan(), statistic.AsTensorSpan().Reshape([1, 4, 1]))).Message;
            Assert.Contains($"The destination may not overlap the {name}.", message, StringComparison.Ordinal);
            Assert.Equal(before, Tensors.ToArray(statistic));
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public unsafe void Destination_BetweenTheAddressesOfElements_IsRefused(string name)
        => Refuse(name, "Expected a destination whose address is a multiple of 4, the size of its elements",
            memory =>
            {
                fixed (float* first = memory)
                    Apply(name, Input(), new TensorSpan<float>((float*)((byte*)first + 2), 24, [2, 4, 3], [12, 3, 1]));
            });

    [Fact]
    public void Input_OfTooManyChannelsForItsScratch_IsRefused()
    {
        // Zeros that nobody reads.
        Tensor<Half> x = Tensor.Create(new Half[34_000_000], [1, 34_000_000, 1]);
        string message = Assert.Throws<ArgumentException>(() => Functional.LocalResponseNormDoubleBackward(x.AsReadOnlyTensorSpan(), x.AsReadOnlyTensorSpan(), 5, 1e-4, 0.75, 1, x.AsReadOnlyTensorSpan(), default, default)).Message;
        Assert.Contains("Expected an input that takes scratch memory of at most 2147483591 doubles, got one that takes 2176000", message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Destination_OnAFunctionsRunningStatistics_IsRefused(bool training)
    {
        foreach (string name in new[] { "BatchNorm", "InstanceNorm" })
        {
            Refuse(name, "The destination may not overlap the runningMean.", memory => Track(name, memory, mean: 23, variance: 32));
            Refuse(name, "The destination may not overlap the runningVar.", memory => Track(name, memory, mean: 32, variance: 10));
        }

        void Track(string name, float[] memory, int mean, int variance)
        {
            TensorSpan<float> destination = new(memory, 0, [2, 4, 3], []), runningMean = new(memory, mean, [4], []), runningVar = new(memory, variance, [4], []);
            if (name == "BatchNorm")
                Functional.BatchNorm(Input(), runningMean, runningVar, default, default, training, 0.1, 1e-5, destination);
            else
                Functional.InstanceNorm(Input(), runningMean, runningVar, default, default, training, 0.1, 1e-5, destination);
        }
    }

    [Fact]
    public void Input_Refused_LeavesTheDestinationAlone()
    {
        var memory = new float[24];
        Assert.Throws<ArgumentException>("weight", () => Apply("LayerNorm", Input(), new TensorSpan<float>(memory, [2, 4, 3]), new ReadOnlyTensorSpan<float>(new float[4])));
        Assert.Throws<ArgumentException>("bias", () => Apply("GroupNorm", Input(), new TensorSpan<float>(memory, [2, 4, 3]), bias: new ReadOnlyTensorSpan<float>(new float[3])));
        Assert.Throws<ArgumentOutOfRangeException>("size", () => Functional.LocalResponseNorm(Input(), 0, 1, 1, 1, new TensorSpan<float>(memory, [2, 4, 3])));
        Assert.All(memory, value => Assert.Equal(0, value));
    }

    private static TensorSpan<float> Input() => new(Enumerable.Range(0, 24).Select(i => (float)i).ToArray(), [2, 4, 3]);

    private static void Refuse(string name, string message, Attempt attempt)
    {
        float[] memory = [.. Enumerable.Range(1, 64)];
        var refusal = Assert.Throws<ArgumentException>("destination", () => attempt(memory));
        Assert.Contains(message, refusal.Message, StringComparison.Ordinal);
        Assert.True(memory.AsSpan().SequenceEqual([.. Enumerable.Range(1, 64)]), $"{name} wrote before it refused");
    }

    private static void Apply(string name, in TensorSpan<float> input, in TensorSpan<float> destination, in ReadOnlyTensorSpan<float> weight = default, in ReadOnlyTensorSpan<float> bias = default)
        => new NormCase(name, name == "LayerNorm" ? 1 : 2, 2, 4, 3).Apply(input, weight, bias, destination);
}
