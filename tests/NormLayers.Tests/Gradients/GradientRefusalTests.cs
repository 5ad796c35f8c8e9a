using System.Numerics.Tensors;
using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests.Gradients;

/// <summary>Operands and results of a functional backward that are refused, with what the message says, and that a refusal writes and adds nothing.</summary>
public sealed class GradientRefusalTests
{
    private const int Count = 24;

    // One memory for all operands, so that every overlap can be made: where each begins.
    private const int X = 0, GradOutput = 32, GradInput = 64, Weight = 96, GradWeight = 104, GradBias = 112, End = 120;

    [Theory]
    [InlineData("LayerNorm")]
    [InlineData("GroupNorm")]
    [InlineData("LocalResponseNorm")]
    public void GradOutput_OfAnotherShape_IsRefused(string name)
    {
        Refuse(name, "gradOutput", "Expected gradOutput of the input's shape [2, 4, 3], got [2, 3, 4].", new Call { GradOutputShape = [2, 3, 4] });
        Refuse(name, "gradOutput", "Expected gradOutput of the input's shape [2, 4, 3], got [24].", new Call { GradOutputShape = [24] });
    }

    [Theory]
    [InlineData("LayerNorm")]
    [InlineData("GroupNorm")]
    [InlineData("LocalResponseNorm")]
    public void GradOutput_LeftOut_IsRefused(string name)
        => Refuse(name, "gradOutput", "Expected gradOutput of the input's shape [2, 4, 3], got [].", new Call { GradOutputShape = [], WithoutGradInput = name != "LocalResponseNorm" });

    [Theory]
    [InlineData("LayerNorm")]
    [InlineData("GroupNorm")]
    [InlineData("LocalResponseNorm")]
    public void GradInput_OfAnotherShapeOrStrided_IsRefused(string name)
    {
        Refuse(name, "gradInput", "Expected a gradInput of the input's shape [2, 4, 3], got [2, 12].", new Call { GradInputShape = [2, 12] });
        Refuse(name, "gradInput", "row-major contiguous gradInput, got shape [2, 4, 3] with strides [16, 4, 1].", new Call { GradInputStrides = [16, 4, 1] });
        // GroupNorm writes channels-last.
        if (name != "GroupNorm")
            Refuse(name, "gradInput", "Expected a row-major contiguous gradInput, got shape [2, 4, 3] with strides [12, 1, 4].", new Call { GradInputStrides = [12, 1, 4] });
    }

    [Fact]
    public void GradInput_OfLocalResponseNormLeftOut_IsRefused()
        => Refuse("LocalResponseNorm", "gradInput", "Expected a gradInput of the input's shape [2, 4, 3], got [].", new Call { WithoutGradInput = true });

    [Theory]
    [InlineData("LayerNorm")]
    [InlineData("GroupNorm")]
    [InlineData("LocalResponseNorm")]
    public void GradInput_OverAnOperandInPart_IsRefused(string name)
    {
        foreach (int shift in (int[])[-23, -1, 1, 7])
            Refuse(name, "gradInput", "only if both are contiguous and start at the same place", new Call { GradInputStart = GradOutput + shift });
        Refuse(name, "gradInput", "only if both are contiguous and start at the same place", new Call { GradInputStart = X + 3 });
        Refuse(name, "gradInput", "only if both are contiguous and start at the same place", new Call { GradInputStart = GradOutput, GradOutputStrides = [12, 1, 4] });
    }

    [Theory]
    [InlineData("LayerNorm")]
    [InlineData("GroupNorm")]
    public void Statistics_OfAnotherNumber_AreRefused(string name)
    {
        int groups = Norm(name).Groups();
        foreach (int number in (int[])[0, groups - 1, groups + 1])
            Refuse(name, "statistics", $"Expected the statistics of {groups} groups, as the forward saved them, got {number}.", new Call { Statistics = number });
    }

    [Theory]
    [InlineData("LayerNorm", 3)]
    [InlineData("GroupNorm", 4)]
    public void ParameterGradient_OfAnotherLengthOrStrided_IsRefused(string name, int length)
    {
        Refuse(name, "gradWeight", $"Expected a contiguous gradWeight of {length} elements, got shape [5]", new Call { GradWeightShape = [5] });
        Refuse(name, "gradBias", $"Expected a contiguous gradBias of {length} elements, got shape [2]", new Call { GradBiasShape = [2] });
        Refuse(name, "gradWeight", $"Expected a contiguous gradWeight of {length} elements, got shape [{length}] with strides [2]", new Call { GradWeightStrides = [2] });
    }

    [Theory]
    [InlineData("LayerNorm")]
    [InlineData("GroupNorm")]
    public void Result_OverTheWeight_IsRefused(string name)
    {
        Refuse(name, "gradInput", "The gradInput may not overlap the weight.", new Call { GradInputStart = Weight - 20 });
        Refuse(name, "gradWeight", "The gradWeight may not overlap the weight.", new Call { GradWeightStart = Weight + 1 });
        Refuse(name, "gradBias", "The gradBias may not overlap the weight.", new Call { GradBiasStart = Weight });
    }

    [Theory]
    [InlineData("LayerNorm")]
    [InlineData("GroupNorm")]
    public void ParameterGradient_OverAnotherTensor_IsRefused(string name)
    {
        Refuse(name, "gradWeight", "The gradWeight may not overlap the gradInput.", new Call { GradWeightStart = GradInput + 4 });
        Refuse(name, "gradBias", "The gradBias may not overlap the gradInput.", new Call { GradBiasStart = GradInput + Count - 1 });
        Refuse(name, "gradBias", "The gradBias may not overlap the gradWeight.", new Call { GradBiasStart = GradWeight });
        Refuse(name, "gradWeight", "The gradWeight may not overlap the gradOutput.", new Call { GradWeightStart = GradOutput });
        Refuse(name, "gradWeight", "The gradWeight may not overlap the input.", new Call { GradWeightStart = X + 5 });
    }

    [Theory]
    [InlineData("LayerNorm")]
    [InlineData("GroupNorm")]
    [InlineData("LocalResponseNorm")]
    public void SecondOrderResult_OverAnotherTensor_IsRefused(string name)
    {
        RefuseSecond(name, "gradGradOutput", "The gradGradOutput may not overlap the gradOutput.", 32, 96);
        RefuseSecond(name, "gradGradOutput", "The gradGradOutput may not overlap the gradGradInput.", 64, 96);
        RefuseSecond(name, "gradInput", "The gradInput may not overlap the input.", 96, 0);
        RefuseSecond(name, "gradInput", "The gradInput may not overlap the gradGradOutput.", 96, 96);
    }

    [Theory]
    [InlineData("LayerNorm", 3)]
    [InlineData("GroupNorm", 4)]
    public void Tangent_ThatDoesNotFit_IsRefused(string name, int length)
    {
        int groups = Norm(name).Groups();
        RefuseTangent(name, "statistics", $"Expected the statistics of {groups} groups, as the forward saved them, got {groups + 1}.", new Tangents { Statistics = groups + 1 });
        RefuseTangent(name, "inputTangent", "Expected inputTangent of the input's shape [2, 4, 3], got [24].", new Tangents { VShape = [24] });
        RefuseTangent(name, "weightTangent", $"Expected weightTangent of {length} elements, got shape [2].", new Tangents { WeightShape = [2] });
        RefuseTangent(name, "biasTangent", $"Expected biasTangent of {length} elements, got shape [5].", new Tangents { BiasShape = [5] });
        RefuseTangent(name, "destination", "only if both are contiguous and start at the same place", new Tangents { First = Tangents.X + 1 });
        RefuseTangent(name, "destination", "only if both are contiguous and start at the same place", new Tangents { First = Tangents.V - 1 });
        RefuseTangent(name, "destination", "The destination may not overlap the weight.", new Tangents { First = Tangents.W - Count + 1 });
        RefuseTangent(name, "destination", "The destination may not overlap the weightTangent.", new Tangents { First = Tangents.VW });
        RefuseTangent(name, "destination", "The destination may not overlap the biasTangent.", new Tangents { First = Tangents.VB });
    }

    [Theory]
    [InlineData("LayerNorm", 3)]
    [InlineData("GroupNorm", 4)]
    public void SecondOrder_ThatDoesNotFit_IsRefused(string name, int length)
    {
        int groups = Norm(name).Groups();
        Refuse("statistics", $"Expected the statistics of {groups} groups, as the forward saved them, got {groups - 1}.", new Tangents { Statistics = groups - 1 });
        Refuse("gradGradInput", "Expected gradGradInput of the input's shape [2, 4, 3], got [24].", new Tangents { VShape = [24] });
        Refuse("gradGradWeight", $"Expected gradGradWeight of {length} elements, got shape [2].", new Tangents { WeightShape = [2] });
        Refuse("gradGradBias", $"Expected gradGradBias of {length} elements, got shape [5].", new Tangents { BiasShape = [5] });
        foreach ((string other, int start) in new[] { ("gradOutput", Tangents.Dy), ("input", Tangents.X), ("gradGradInput", Tangents.V), ("weight", Tangents.W - Count + 1), ("gradGradWeight", Tangents.VW), ("gradGradBias", Tangents.VB) })
        {
            Refuse("gradGradOutput", $"The gradGradOutput may not overlap the {other}.", new Tangents { First = start });
            Refuse("gradInput", $"The gradInput may not overlap the {other}.", new Tangents { Second = start });
            Refuse("gradWeight", $"The gradWeight may not overlap the {other}.", new Tangents { GradWeight = other == "weight" ? Tangents.W : start });
        }
        Refuse("gradInput", "The gradInput may not overlap the gradGradOutput.", new Tangents { Second = Tangents.FirstResult });
        Refuse("gradWeight", "The gradWeight may not overlap the gradGradOutput.", new Tangents { GradWeight = Tangents.FirstResult + Count - 1 });
        Refuse("gradWeight", "The gradWeight may not overlap the gradInput.", new Tangents { GradWeight = Tangents.SecondResult });

        void Refuse(string parameter, string message, Tangents call) => RefuseTangent(name, parameter, message, call, second: true);
    }

    private static void RefuseTangent(string name, string parameter, string message, Tangents call, bool second = false)
    {
        float[] memory = [.. Enumerable.Range(1, Tangents.End)];
        ArgumentException refusal = Assert.Throws<ArgumentException>(parameter, () => call.Run(Norm(name), memory, second));
        Assert.Contains(message, refusal.Message, StringComparison.Ordinal);
        Assert.True(memory.AsSpan().SequenceEqual([.. Enumerable.Range(1, Tangents.End)]), $"{name} wrote before it refused");
    }

    private static void RefuseSecond(string name, string parameter, string message, int gradGradOutput, int gradInput)
    {
        float[] memory = [.. Enumerable.Range(1, 128)];
        NormCase norm = Norm(name);
        GroupStatistics[] statistics = norm.Statistics(new Operands<float>(memory[..Count], null, null));
        ArgumentException refusal = Assert.Throws<ArgumentException>(parameter, () =>
        {
            ReadOnlyTensorSpan<float> x = At(0), dy = At(32), v = At(64);
            if (name == "LayerNorm")
                Functional.LayerNormDoubleBackward(dy, x, norm.ParameterShape, statistics, default, v, default, default, At(gradGradOutput), At(gradInput), default);
            else if (name == "GroupNorm")
                Functional.GroupNormDoubleBackward(dy, x, norm.Number, statistics, default, v, default, default, At(gradGradOutput), At(gradInput), default);
            else
                Functional.LocalResponseNormDoubleBackward(dy, x, norm.Number, norm.Alpha, norm.Beta, norm.K, v, At(gradGradOutput), At(gradInput));
        });
        Assert.Contains(message, refusal.Message, StringComparison.Ordinal);
        Assert.True(memory.AsSpan().SequenceEqual([.. Enumerable.Range(1, 128)]), $"{name} wrote before it refused");

        TensorSpan<float> At(int start) => new(memory, start, norm.Shape, []);
    }

    private static void Refuse(string name, string parameter, string message, Call call)
    {
        NormCase norm = Norm(name);
        float[] memory = [.. Enumerable.Range(1, End)];
        ArgumentException refusal = Assert.Throws<ArgumentException>(parameter, () => call.Run(norm, memory));
        Assert.Contains(message, refusal.Message, StringComparison.Ordinal);
        Assert.True(memory.AsSpan().SequenceEqual([.. Enumerable.Range(1, End)]), $"{name} wrote before it refused");
    }

    private static NormCase Norm(string name) => new(name, name == "LayerNorm" ? 1 : 2, 2, 4, 3) { Weight = name != "LocalResponseNorm" };

    /// <summary>A call that is right in all but what is set.</summary>
    private sealed class Call
    {
        public nint[] GradOutputShape { get; init; } = [2, 4, 3];

        public nint[] GradOutputStrides { get; init; } = [];

        public int GradInputStart { get; init; } = GradInput;

        public nint[] GradInputShape { get; init; } = [2, 4, 3];

        public nint[] GradInputStrides { get; init; } = [];

        public bool WithoutGradInput { get; init; }

        public int? Statistics { get; init; }

        public int GradWeightStart { get; init; } = GradWeight;

        public nint[]? GradWeightShape { get; init; }

        public nint[] GradWeightStrides { get; init; } = [];

        public int GradBiasStart { get; init; } = GradBias;

        public nint[]? GradBiasShape { get; init; }

        public void Run(NormCase norm, float[] memory)
        {
            ReadOnlyTensorSpan<float> dy = GradOutputShape.Length == 0 ? default : new ReadOnlyTensorSpan<float>(memory, GradOutput, GradOutputShape, GradOutputStrides);
            TensorSpan<float> dx = WithoutGradInput ? default : new TensorSpan<float>(memory, GradInputStart, GradInputShape, GradInputStrides);
            norm.Backward(dy, new ReadOnlyTensorSpan<float>(memory, X, norm.Shape, []), new GroupStatistics[Statistics ?? norm.Groups()], new ReadOnlyTensorSpan<float>(memory, Weight, norm.ParameterShape, []),
                dx, new TensorSpan<float>(memory, GradWeightStart, GradWeightShape ?? norm.ParameterShape, GradWeightStrides), new TensorSpan<float>(memory, GradBiasStart, GradBiasShape ?? norm.ParameterShape, []));
        }
    }

    /// <summary>A Jacobian-vector product or a double backward that is right in all but what is set; all of it in one memory.</summary>
    private sealed class Tangents
    {
        public const int X = 0, Dy = 32, V = 64, W = 128, VW = 160, VB = 192, FirstResult = 224, SecondResult = 256, WeightResult = 288, End = 296;

        public int? Statistics { get; init; }

        public nint[] VShape { get; init; } = [2, 4, 3];

        public nint[]? WeightShape { get; init; }

        public nint[]? BiasShape { get; init; }

        public int First { get; init; } = FirstResult;

        public int Second { get; init; } = SecondResult;

        public int GradWeight { get; init; } = WeightResult;

        public void Run(NormCase norm, float[] memory, bool second)
        {
            var statistics = new GroupStatistics[Statistics ?? norm.Groups()];
            nint[] parameters = norm.ParameterShape;
            ReadOnlyTensorSpan<float> x = At(X, norm.Shape), dy = At(Dy, norm.Shape), v = At(V, VShape), w = At(W, parameters), vw = At(VW, WeightShape ?? parameters), vb = At(VB, BiasShape ?? parameters);
            TensorSpan<float> first = At(First, norm.Shape), other = At(Second, norm.Shape), gradWeight = At(GradWeight, parameters);
            if (norm.Name == "LayerNorm" && second)
                Functional.LayerNormDoubleBackward(dy, x, parameters, statistics, w, v, vw, vb, first, other, gradWeight);
            else if (norm.Name == "LayerNorm")
                Functional.LayerNormJvp(x, parameters, statistics, w, v, vw, vb, first);
            else if (second)
                Functional.GroupNormDoubleBackward(dy, x, norm.Number, statistics, w, v, vw, vb, first, other, gradWeight);
            else
                Functional.GroupNormJvp(x, norm.Number, statistics, w, v, vw, vb, first);

            TensorSpan<float> At(int start, nint[] shape) => new(memory, start, shape, []);
        }
    }
}
