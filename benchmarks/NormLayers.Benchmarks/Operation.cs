using System.Globalization;
using System.Numerics.Tensors;

namespace NormLayers.Benchmarks;

/// <summary>A case as calls of the library: its forward and its backward with all gradients.</summary>
internal abstract unsafe class Operation(BenchmarkCase benchmark, NormLayer<float> layer)
{
    public BenchmarkCase Case { get; } = benchmark;

    public NormLayer<float> Layer { get; } = layer;

    /// <summary>The groups whose statistics the backward needs.</summary>
    public virtual nint Groups => 0;

    /// <summary>Null for an operator that the library does not have yet.</summary>
    public static Operation? For(BenchmarkCase benchmark) => benchmark.Op switch
    {
        "LayerNorm" => LayerNormOperation.Create(benchmark),
        "GroupNorm" => new GroupNormOperation(benchmark, nint.Parse(benchmark.Parameter, CultureInfo.InvariantCulture)),
        "LRN" => new WindowOperation(benchmark, benchmark.Numbers()),
        _ => null,
    };

    /// <summary>The threads that forward and backward may use.</summary>
    public int Threads { get; set; } = 1;

    public void Forward(BufferSet set, int repeats)
    {
        var x = new ReadOnlyTensorSpan<float>(set.X, Case.Elements, Case.Dims);
        var y = new TensorSpan<float>(set.Y, Case.Elements, Case.Dims);
        Layer.MaxThreads = Threads;
        for (int i = 0; i < repeats; i++)
            Layer.Forward(x, y);
    }

    public void Backward(BufferSet set, int repeats)
    {
        var gradOutput = new ReadOnlyTensorSpan<float>(set.GradOutput, Case.Elements, Case.Dims);
        var x = new ReadOnlyTensorSpan<float>(set.X, Case.Elements, Case.Dims);
        var gradInput = new TensorSpan<float>(set.GradInput, Case.Elements, Case.Dims);
        Backward(gradOutput, x, set.Statistics, gradInput, repeats);
    }

    /// <summary>Saves the statistics of a set's input.</summary>
    public void Prepare(BufferSet set)
    {
        var x = new ReadOnlyTensorSpan<float>(set.X, Case.Elements, Case.Dims);
        var y = new TensorSpan<float>(set.Y, Case.Elements, Case.Dims);
        ForwardWithStatistics(x, y, set.Statistics);
    }

    protected abstract void ForwardWithStatistics(in ReadOnlyTensorSpan<float> x, in TensorSpan<float> y, GroupStatistics[] statistics);

    protected abstract void Backward(in ReadOnlyTensorSpan<float> gradOutput, in ReadOnlyTensorSpan<float> x, GroupStatistics[] statistics, in TensorSpan<float> gradInput, int repeats);
}

/// <summary>A case of a layer with statistics, a weight and a bias.</summary>
internal abstract class RowOperation : Operation
{
    protected RowOperation(BenchmarkCase benchmark, AffineNormLayer<float> layer, RowGeometry geometry)
        : base(benchmark, layer)
    {
        (Weight, Bias, Eps, Geometry) = (layer.Weight!, layer.Bias!, layer.Eps, geometry);
        FillParameter(Weight, 7, 1, 0.1f);
        FillParameter(Bias, 8, 0, 1);
    }

    public Parameter<float> Weight { get; }

    public Parameter<float> Bias { get; }

    public double Eps { get; }

    public RowGeometry Geometry { get; }

    public override nint Groups => Geometry.Groups;

    private static void FillParameter(Parameter<float> parameter, ulong seed, float mean, float deviation)
    {
        nint index = 0;
        foreach (ref float value in parameter.Value.AsTensorSpan())
            value = mean + deviation * RandomValues.At(index++, seed);
    }
}

internal sealed class LayerNormOperation(BenchmarkCase benchmark, nint[] shape, RowGeometry geometry)
    : RowOperation(benchmark, new LayerNorm<float>(shape), geometry)
{
    /// <summary>The normalized shape is the shortest end of the input's shape that has as many elements as the case says.</summary>
    public static LayerNormOperation Create(BenchmarkCase benchmark)
    {
        nint length = nint.Parse(benchmark.Parameter, CultureInfo.InvariantCulture), product = 1;
        int first = benchmark.Dims.Length;
        while (product < length)
            product *= benchmark.Dims[--first];
        return new LayerNormOperation(benchmark, benchmark.Dims[first..], new RowGeometry(benchmark.Elements / length, length, 1, 1));
    }

    protected override void ForwardWithStatistics(in ReadOnlyTensorSpan<float> x, in TensorSpan<float> y, GroupStatistics[] statistics)
        => Functional.LayerNorm(x, shape, Weight.Value.AsReadOnlyTensorSpan(), Bias.Value.AsReadOnlyTensorSpan(), Eps, y, statistics);

    protected override void Backward(in ReadOnlyTensorSpan<float> gradOutput, in ReadOnlyTensorSpan<float> x, GroupStatistics[] statistics, in TensorSpan<float> gradInput, int repeats)
    {
        for (int i = 0; i < repeats; i++)
            Functional.LayerNormBackward(gradOutput, x, shape, statistics, Weight.Value.AsReadOnlyTensorSpan(), gradInput, Weight.Grad.AsTensorSpan(), Bias.Grad.AsTensorSpan(), Threads);
    }
}

internal sealed class GroupNormOperation(BenchmarkCase benchmark, nint groups)
    : RowOperation(benchmark, new GroupNorm<float>(groups, benchmark.Dims[1]), GeometryOf(benchmark.Dims, benchmark.Elements, groups))
{
    protected override void ForwardWithStatistics(in ReadOnlyTensorSpan<float> x, in TensorSpan<float> y, GroupStatistics[] statistics)
        => Functional.GroupNorm(x, groups, Weight.Value.AsReadOnlyTensorSpan(), Bias.Value.AsReadOnlyTensorSpan(), Eps, y, statistics);

    protected override void Backward(in ReadOnlyTensorSpan<float> gradOutput, in ReadOnlyTensorSpan<float> x, GroupStatistics[] statistics, in TensorSpan<float> gradInput, int repeats)
    {
        for (int i = 0; i < repeats; i++)
            Functional.GroupNormBackward(gradOutput, x, groups, statistics, Weight.Value.AsReadOnlyTensorSpan(), gradInput, Weight.Grad.AsTensorSpan(), Bias.Grad.AsTensorSpan(), Threads);
    }

    private static RowGeometry GeometryOf(nint[] dims, nint elements, nint groups)
        => new(dims[0] * groups, dims[1] / groups, elements / (dims[0] * dims[1]), groups);
}

internal sealed class WindowOperation(BenchmarkCase benchmark, double[] numbers)
    : Operation(benchmark, new LocalResponseNorm<float>((nint)numbers[0], numbers[1], numbers[2], numbers[3]))
{
    public WindowGeometry Geometry { get; } = new(benchmark.Dims[0], benchmark.Dims[1], benchmark.Elements / (benchmark.Dims[0] * benchmark.Dims[1]),
        (int)numbers[0], numbers[1], numbers[2], numbers[3]);

    protected override void ForwardWithStatistics(in ReadOnlyTensorSpan<float> x, in TensorSpan<float> y, GroupStatistics[] statistics)
    {
    }

    protected override void Backward(in ReadOnlyTensorSpan<float> gradOutput, in ReadOnlyTensorSpan<float> x, GroupStatistics[] statistics, in TensorSpan<float> gradInput, int repeats)
    {
        for (int i = 0; i < repeats; i++)
            Functional.LocalResponseNormBackward(gradOutput, x, Geometry.Size, Geometry.Alpha, Geometry.Beta, Geometry.K, gradInput, Threads);
    }
}
