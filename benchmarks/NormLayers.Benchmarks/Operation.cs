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
        "GroupNormNHWC" => new GroupNormOperation(benchmark, nint.Parse(benchmark.Parameter, CultureInfo.InvariantCulture), channelsLast: true),
        "BatchNorm" => new BatchNormOperation(benchmark, training: true, channelsLast: false),
        "BatchNormNHWC" => new BatchNormOperation(benchmark, training: true, channelsLast: true),
        "BatchNormEval" => new BatchNormOperation(benchmark, training: false, channelsLast: false),
        "BatchNormEvalNHWC" => new BatchNormOperation(benchmark, training: false, channelsLast: true),
        "LayerNormC" => new ChannelNormOperation(benchmark),
        "LRN" => new WindowOperation(benchmark, benchmark.Numbers()),
        _ => null,
    };

    /// <summary>The strides of all tensors of the input's shape; empty for row-major ones.</summary>
    public virtual nint[] Strides => [];

    /// <summary>The threads that forward and backward may use.</summary>
    public int Threads { get; set; } = 1;

    public void Forward(BufferSet set, int repeats)
    {
        var x = new ReadOnlyTensorSpan<float>(set.X, Case.Elements, Case.Dims, Strides);
        var y = new TensorSpan<float>(set.Y, Case.Elements, Case.Dims, Strides);
        Layer.MaxThreads = Threads;
        for (int i = 0; i < repeats; i++)
            Layer.Forward(x, y);
    }

    public void Backward(BufferSet set, int repeats)
    {
        var gradOutput = new ReadOnlyTensorSpan<float>(set.GradOutput, Case.Elements, Case.Dims, Strides);
        var x = new ReadOnlyTensorSpan<float>(set.X, Case.Elements, Case.Dims, Strides);
        var gradInput = new TensorSpan<float>(set.GradInput, Case.Elements, Case.Dims, Strides);
        Backward(gradOutput, x, set.Statistics, gradInput, repeats);
    }

    /// <summary>Saves the statistics of a set's input.</summary>
    public void Prepare(BufferSet set)
    {
        var x = new ReadOnlyTensorSpan<float>(set.X, Case.Elements, Case.Dims, Strides);
        var y = new TensorSpan<float>(set.Y, Case.Elements, Case.Dims, Strides);
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

    /// <summary>Where the groups are not contiguous: memory as Outer blocks of Rows by Columns, in whose transposition they are.</summary>
    public virtual (nint Outer, nint Rows, nint Columns)? Blocks => null;

    public override nint Groups => Geometry.Groups;

    /// <summary>What a check holds on to.</summary>
    public List<float[]> Kept { get; } = [];

    protected static nint[] ChannelsLast(nint[] dims)
    {
        // N, C, then the positions; channels fastest.
        var strides = new nint[dims.Length];
        nint stride = dims[1];
        for (int d = dims.Length - 1; d >= 2; d--)
            (strides[d], stride) = (stride, stride * dims[d]);
        (strides[0], strides[1]) = (stride, 1);
        return strides;
    }

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

internal sealed class GroupNormOperation(BenchmarkCase benchmark, nint groups, bool channelsLast = false)
    : RowOperation(benchmark, new GroupNorm<float>(groups, benchmark.Dims[1]), GeometryOf(benchmark.Dims, benchmark.Elements, groups))
{
    public override nint[] Strides { get; } = channelsLast ? ChannelsLast(benchmark.Dims) : [];

    public override (nint Outer, nint Rows, nint Columns)? Blocks { get; }
        = channelsLast ? (benchmark.Dims[0], benchmark.Elements / (benchmark.Dims[0] * benchmark.Dims[1]), benchmark.Dims[1]) : null;

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

/// <summary>LayerNorm over the channels of (N, C, *).</summary>
internal sealed class ChannelNormOperation(BenchmarkCase benchmark)
    : RowOperation(benchmark, new LayerNorm<float>(benchmark.Dims[1], axis: 1), new RowGeometry(benchmark.Elements / benchmark.Dims[1], benchmark.Dims[1], 1, 1))
{
    public override (nint Outer, nint Rows, nint Columns)? Blocks { get; } = (benchmark.Dims[0], benchmark.Dims[1], benchmark.Elements / (benchmark.Dims[0] * benchmark.Dims[1]));

    protected override void ForwardWithStatistics(in ReadOnlyTensorSpan<float> x, in TensorSpan<float> y, GroupStatistics[] statistics)
        => Functional.LayerNorm(x, [Case.Dims[1]], Weight.Value.AsReadOnlyTensorSpan(), Bias.Value.AsReadOnlyTensorSpan(), Eps, y, statistics, axis: 1);

    protected override void Backward(in ReadOnlyTensorSpan<float> gradOutput, in ReadOnlyTensorSpan<float> x, GroupStatistics[] statistics, in TensorSpan<float> gradInput, int repeats)
    {
        for (int i = 0; i < repeats; i++)
            Functional.LayerNormBackward(gradOutput, x, [Case.Dims[1]], statistics, Weight.Value.AsReadOnlyTensorSpan(), gradInput, Weight.Grad.AsTensorSpan(), Bias.Grad.AsTensorSpan(), Threads, axis: 1);
    }
}

/// <summary>BatchNorm in training, or in evaluation with the statistics of a new layer: mean 0, variance 1.</summary>
internal sealed class BatchNormOperation(BenchmarkCase benchmark, bool training, bool channelsLast)
    : RowOperation(benchmark, MakeLayer(benchmark, training), new RowGeometry(benchmark.Dims[1], 1, benchmark.Elements / benchmark.Dims[1], benchmark.Dims[1], Given: !training))
{
    private readonly BatchNorm2d<float> mean0Variance1 = new(benchmark.Dims[1]);

    public override nint[] Strides { get; } = channelsLast ? ChannelsLast(benchmark.Dims) : [];

    /// <summary>Channels-last: rows are samples' positions. Else rows are samples and a channel's positions stay together, in any order.</summary>
    public override (nint Outer, nint Rows, nint Columns)? Blocks { get; }
        = channelsLast ? (1, benchmark.Elements / benchmark.Dims[1], benchmark.Dims[1]) : (1, benchmark.Dims[0], benchmark.Elements / benchmark.Dims[0]);

    private static BatchNorm2d<float> MakeLayer(BenchmarkCase benchmark, bool training)
    {
        var layer = new BatchNorm2d<float>(benchmark.Dims[1]);
        layer.Train(training);
        return layer;
    }

    protected override void ForwardWithStatistics(in ReadOnlyTensorSpan<float> x, in TensorSpan<float> y, GroupStatistics[] statistics)
        => Functional.BatchNorm(x, mean0Variance1.RunningMean!.AsTensorSpan(), mean0Variance1.RunningVar!.AsTensorSpan(), Weight.Value.AsReadOnlyTensorSpan(), Bias.Value.AsReadOnlyTensorSpan(), training, 0, Eps, y, statistics);

    protected override void Backward(in ReadOnlyTensorSpan<float> gradOutput, in ReadOnlyTensorSpan<float> x, GroupStatistics[] statistics, in TensorSpan<float> gradInput, int repeats)
    {
        for (int i = 0; i < repeats; i++)
            Functional.BatchNormBackward(gradOutput, x, statistics, Weight.Value.AsReadOnlyTensorSpan(), training, gradInput, Weight.Grad.AsTensorSpan(), Bias.Grad.AsTensorSpan(), Threads);
    }
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
