namespace NormLayers.Benchmarks;

/// <summary>The case list's operators as layers of the library, and how their tensors are cut.</summary>
internal static class Operations
{
    /// <summary>Null for an operator or an element type that the library does not have.</summary>
    public static Operation? For(BenchmarkCase benchmark) => benchmark.Dtype switch
    {
        BenchmarkCase.Float => Make<float>(benchmark),
        BenchmarkCase.Half => Make<Half>(benchmark),
        BenchmarkCase.BFloat => Make<BFloat16>(benchmark),
        BenchmarkCase.Mixed when Describe<float>(benchmark) is var (layer, geometry) && !benchmark.IsFused => new MixedOperation<BFloat16>(benchmark, layer, geometry),
        _ => null,
    };

    private static LayerOperation<T>? Make<T>(BenchmarkCase benchmark) where T : unmanaged
    {
        if (Describe<T>(benchmark) is not var (layer, geometry))
            return null;
        return benchmark.Op switch
        {
            "AddLayerNorm" or "AddRMSNorm" => new AddNormOperation<T>(benchmark, (AffineNormLayer<T>)layer, geometry),
            "AdaptiveLayerNorm" => new AdaptiveOperation<T>(benchmark, (AffineNormLayer<T>)layer, geometry),
            "GroupNormSiLU" => new GroupNormSiLUOperation<T>(benchmark, (AffineNormLayer<T>)layer, geometry),
            _ => new LayerOperation<T>(benchmark, layer, geometry),
        };
    }

    private static (NormLayer<T> Layer, Geometry Geometry)? Describe<T>(BenchmarkCase benchmark) where T : unmanaged
    {
        nint[] dims = benchmark.Dims;
        // As (N, C, positions), where it is that.
        nint samples = dims[0], channels = dims[1], positions = benchmark.Elements / (samples * channels);
        bool channelsLast = benchmark.Op.EndsWith("NHWC", StringComparison.Ordinal);
        nint[] strides = channelsLast ? ChannelsLast(dims) : [];
        (nint, nint, nint)? memory = channelsLast ? (samples, positions, channels) : null;
        switch (channelsLast ? benchmark.Op[..^4] : benchmark.Op)
        {
            case "LayerNorm" or "AddLayerNorm":
                return Rows(new LayerNorm<T>(End(dims, benchmark.Count)), new RowGeometry(benchmark.Elements / benchmark.Count, benchmark.Count, 1, 1) { Adds = benchmark.AddsResidual });
            case "RMSNorm" or "AddRMSNorm":
                return Rows(new RMSNorm<T>(End(dims, benchmark.Count), 1e-5), new RowGeometry(benchmark.Elements / benchmark.Count, benchmark.Count, 1, 1) { Adds = benchmark.AddsResidual, Statistic = Statistic.MeanSquare });
            case "AdaptiveLayerNorm":
                nint rows = benchmark.Elements / benchmark.Count;
                return Rows(new LayerNorm<T>(benchmark.Count, elementwiseAffine: false), new RowGeometry(rows, benchmark.Count, 1, samples) { Repeat = rows / samples });
            case "LayerNormC":
                return Rows(new LayerNorm<T>(channels, axis: 1), new RowGeometry(samples * positions, channels, 1, 1) { Memory = (samples, channels, positions) });
            case "GroupNorm" or "GroupNormSiLU":
                nint groups = benchmark.Count;
                return Rows(new GroupNorm<T>(groups, channels), new RowGeometry(samples * groups, channels / groups, positions, groups) { Strides = strides, Memory = memory, Activates = benchmark.Op == "GroupNormSiLU" });
            case "InstanceNorm":
                return Rows(new InstanceNorm2d<T>(channels, affine: true), new RowGeometry(samples * channels, 1, positions, channels));
            case "BatchNorm" or "BatchNormEval":
                var layer = new BatchNorm2d<T>(channels);
                layer.Train(!benchmark.Op.Contains("Eval", StringComparison.Ordinal));
                // Channels-last: rows are samples' positions. Else rows are samples, and a channel's positions stay together, in any order.
                return Rows(layer, new RowGeometry(channels, 1, samples * positions, channels)
                {
                    Strides = strides,
                    Memory = channelsLast ? (1, samples * positions, channels) : (1, samples, channels * positions),
                    Statistic = layer.Training ? Statistic.MeanAndVariance : Statistic.Given,
                });
            case "LRN":
                double[] numbers = benchmark.Numbers;
                return (new LocalResponseNorm<T>((nint)numbers[0], numbers[1], numbers[2], numbers[3]), new WindowGeometry(samples, channels, positions, (int)numbers[0], numbers[1], numbers[2], numbers[3]));
            default:
                return null;
        }
    }

    private static (NormLayer<T> Layer, Geometry Geometry)? Rows<T>(AffineNormLayer<T> layer, RowGeometry geometry) where T : unmanaged
        => (layer, geometry with { Eps = layer.Eps });

    /// <summary>The shortest end of a shape that has so many elements.</summary>
    private static nint[] End(nint[] dims, nint count)
    {
        nint product = 1;
        int first = dims.Length;
        while (product < count)
            product *= dims[--first];
        return dims[first..];
    }

    /// <summary>The strides of N, C, then the positions, with the channels fastest.</summary>
    private static nint[] ChannelsLast(nint[] dims)
    {
        var strides = new nint[dims.Length];
        nint stride = dims[1];
        for (int d = dims.Length - 1; d >= 2; d--)
            (strides[d], stride) = (stride, stride * dims[d]);
        (strides[0], strides[1]) = (stride, 1);
        return strides;
    }
}
