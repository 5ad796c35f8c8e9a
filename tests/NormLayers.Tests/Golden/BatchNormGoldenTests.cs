using System.Numerics.Tensors;
using System.Text.Json;
using Xunit;

namespace NormLayers.Tests.Golden;

/// <summary>Every stored case of batch normalization: outputs, running statistics and gradients, through the function and through the layer.</summary>
public abstract class BatchNormGoldenTests<T>(string dtype) where T : unmanaged
{
    private sealed record Results(Tensor<T> Output, GroupStatistics[] Statistics, Tensor<T>? RunningMean, Tensor<T>? RunningVar, Tensor<T> GradInput, Tensor<T> GradWeight, Tensor<T> GradBias);

    [Fact]
    public void BatchNorm_EveryGoldenCase_IsWithinBound()
    {
        var failures = new List<string>();
        int outputs = 0, gradients = 0, running = 0;
        foreach (GoldenCase golden in Cases())
        {
            Results results = Run(golden);
            outputs += Compare("output_f64", results.Output, OutputMagnitudes(golden, results), (c, _) => OutputBound(results, c));
            running += Compare("running_mean_after_f64", results.RunningMean, null, (_, _) => 2);
            running += Compare("running_var_after_f64", results.RunningVar, null, (_, _) => 8);
            double[] terms = Terms(golden, results);
            gradients += Compare("grad_input_f64", results.GradInput, ByChannel(golden, terms), (_, _) => 8);
            double count = Math.Max(1, results.Output.FlattenedLength / Math.Max(1, results.GradWeight.FlattenedLength));
            gradients += Compare("grad_weight_f64", results.GradWeight, Sums(golden, results, weighted: true), (_, _) => 8 * Math.Sqrt(count));
            gradients += Compare("grad_bias_f64", results.GradBias, Sums(golden, results, weighted: false), (_, _) => 8 * Math.Sqrt(count));

            int Compare(string name, Tensor<T>? actual, double[]? magnitudes, Func<int, int, double> bound)
            {
                if (!golden.Has(name) || actual is null)
                    return 0;
                double[] exact = Tensors.ToArray(golden.Read<double>(name));
                T[] values = Tensors.ToArray(actual);
                Assert.Equal(exact.Length, values.Length);
                int run = values.Length == results.Output.FlattenedLength ? Run(results.Output.Lengths) : 1;
                for (int i = 0; i < exact.Length; i++)
                {
                    int channel = i / run % (int)results.Output.Lengths[1];
                    double error = Ulp.Distance<T>(Numbers.ToDouble(values[i]), exact[i], magnitudes is null ? Math.Abs(exact[i]) : Math.Max(magnitudes[i], 0));
                    // In 16 bits one rounding is all of the error.
                    double allowed = Numbers.IsShort<T>() ? 0.51 : bound(channel, i);
                    if (!(error <= allowed))
                        failures.Add($"{golden.Name} [{string.Join(' ', golden.Tags)}] {name} {i}: {values[i]} for {exact[i]}, {error:G4} ulp, allowed {allowed:G4}");
                }
                return 1;
            }
        }
        Assert.True(failures.Count == 0, $"{failures.Count} values out of bounds:\n{string.Join('\n', failures.Take(30))}");
        Assert.True(outputs >= 50 && gradients >= 140 && running >= 70, $"only {outputs} outputs, {gradients} gradients, {running} running statistics");
    }

    [Fact]
    public void BatchNorm_ThroughTheLayer_GivesTheFunctionsBitsAndCounts()
    {
        int compared = 0;
        foreach (GoldenCase golden in Cases().Where(golden => golden.Description.TryGetProperty("module", out _)))
        {
            Results expected = Run(golden);
            BatchNorm<T> layer = Layer(golden);
            Tensor<T> input = golden.ReadInput<T>();
            Tensor<T> output = layer.Forward(input, out ForwardPass<T> pass);
            Assert.Equal(Tensors.ToArray(expected.Output), Tensors.ToArray(output));
            Assert.Equal(expected.Output.Strides, output.Strides);
            if (golden.Has("num_batches_tracked_after"))
                Assert.Equal(golden.Read<long>("num_batches_tracked_after")[0], layer.NumBatchesTracked![0]);
            AssertSame(expected.RunningMean, layer.RunningMean);
            AssertSame(expected.RunningVar, layer.RunningVar);
            if (golden.Has("grad_output"))
            {
                // The mode of the pass counts, not that of the layer when its backward comes.
                layer.Train(!layer.Training);
                AssertSame(expected.GradInput, layer.Backward(golden.ReadInput<T>("grad_output"), pass));
                AssertSame(layer.Affine ? expected.GradWeight : null, layer.Weight?.Grad);
                AssertSame(layer.Affine ? expected.GradBias : null, layer.Bias?.Grad);
            }
            compared++;
        }
        Assert.True(compared >= 40, $"only {compared} cases have a module");

        static void AssertSame(Tensor<T>? expected, Tensor<T>? actual)
        {
            Assert.Equal(expected is null, actual is null);
            if (expected is not null)
                Assert.Equal(Tensors.ToArray(expected), Tensors.ToArray(actual!));
        }
    }

    [Fact]
    public void BatchNorm_ConstantChannels_HaveGradientExactlyZeroForTheWeight()
    {
        int compared = 0;
        foreach (GoldenCase golden in Cases().Where(golden => golden.Tags.Contains("constant") && golden.Has("grad_weight_f64")))
        {
            double[] exact = Tensors.ToArray(golden.Read<double>("grad_weight_f64"));
            T[] actual = Tensors.ToArray(Run(golden).GradWeight);
            for (int c = 0; c < exact.Length; c++)
            {
                if (exact[c] != 0)
                    continue;
                Assert.True(Numbers.ToDouble(actual[c]) == 0);
                compared++;
            }
        }
        Assert.True(compared > 0);
    }

    /// <summary>Those of one type; for mixed ones see MixedPrecisionTests.</summary>
    private IEnumerable<GoldenCase> Cases() => GoldenFile.Open($"batchnorm.{dtype}").Cases.Where(golden => !golden.IsMixed);

    private static Results Run(GoldenCase golden)
    {
        Tensor<T> input = golden.ReadInput<T>();
        bool training = golden.Args.GetProperty("training").GetBoolean();
        Tensor<T>? mean = Copy(golden.ReadOptional<T>("running_mean")), variance = Copy(golden.ReadOptional<T>("running_var"));
        ReadOnlyTensorSpan<T> weight = OrNone(golden.ReadOptional<T>("weight")), bias = OrNone(golden.ReadOptional<T>("bias"));
        double momentum = golden.Args.GetProperty("momentum").GetDouble();
        Tensor<T> output = Like(input), gradInput = Like(input);
        nint channels = input.Lengths[1];
        var statistics = new GroupStatistics[input.FlattenedLength == 0 ? 0 : channels];
        // Without tracking PyTorch's module does not hand its buffers over.
        bool tracks = golden.Has("running_mean_after") || !training;
        Functional.BatchNorm(input.AsReadOnlyTensorSpan(), tracks ? OrNothing(mean) : default, tracks ? OrNothing(variance) : default, weight, bias, training, momentum, golden.Eps, output.AsTensorSpan(), statistics);
        Tensor<T> gradWeight = Tensor.CreateFromShape<T>([channels]), gradBias = Tensor.CreateFromShape<T>([channels]);
        if (golden.Has("grad_output"))
            Functional.BatchNormBackward(golden.ReadInput<T>("grad_output").AsReadOnlyTensorSpan(), input.AsReadOnlyTensorSpan(), statistics, weight, training, gradInput.AsTensorSpan(), gradWeight.AsTensorSpan(), gradBias.AsTensorSpan());
        return new Results(output, statistics, mean, variance, gradInput, gradWeight, gradBias);

        static Tensor<T>? Copy(Tensor<T>? tensor) => tensor is null ? null : Tensor.Create(Tensors.ToArray(tensor), tensor.Lengths);
        static ReadOnlyTensorSpan<T> OrNone(Tensor<T>? tensor) => tensor is null ? default : tensor.AsReadOnlyTensorSpan();
        static TensorSpan<T> OrNothing(Tensor<T>? tensor) => tensor is null ? default : tensor.AsTensorSpan();
    }

    /// <summary>A tensor that is channels-last where the input is.</summary>
    private static Tensor<T> Like(Tensor<T> input)
    {
        bool channelsLast = input.Rank >= 3 && !input.IsDense && input.Strides[1] == 1;
        return channelsLast ? Tensor.Create(new T[input.FlattenedLength], 0, input.Lengths, input.Strides) : Tensor.CreateFromShape<T>(input.Lengths);
    }

    private static BatchNorm<T> Layer(GoldenCase golden)
    {
        JsonElement args = golden.Description.GetProperty("module_args");
        nint channels = args.GetProperty("num_features").GetInt32();
        double eps = args.GetProperty("eps").GetDouble();
        double? momentum = args.GetProperty("momentum") is { ValueKind: JsonValueKind.Number } number ? number.GetDouble() : null;
        bool affine = args.GetProperty("affine").GetBoolean(), track = args.GetProperty("track_running_stats").GetBoolean();
        BatchNorm<T> layer = golden.Description.GetProperty("module").GetString() switch
        {
            "BatchNorm1d" => new BatchNorm1d<T>(channels, eps, momentum, affine, track),
            "BatchNorm2d" => new BatchNorm2d<T>(channels, eps, momentum, affine, track),
            "BatchNorm3d" => new BatchNorm3d<T>(channels, eps, momentum, affine, track),
            "SyncBatchNorm" => new SyncBatchNorm<T>(channels, eps, momentum, affine, track),
            var other => throw new InvalidDataException(other),
        };
        var state = new StateDict();
        foreach (string name in layer.StateDict().Keys)
        {
            if (name == "num_batches_tracked")
                state.Add(name, golden.Read<long>(name));
            else
                state.Add(name, golden.Read<T>(name));
        }
        layer.LoadStateDict(state);
        layer.Train(golden.Description.GetProperty("training").GetBoolean());
        return layer;
    }

    private static int Run(ReadOnlySpan<nint> lengths)
    {
        nint product = 1;
        foreach (nint length in lengths[2..])
            product *= length;
        return (int)product;
    }

    private static double OutputBound(Results results, int channel)
        => typeof(T) == typeof(float) ? 4 : results.Statistics[channel] is { Rstd: var rstd, Mean: var mean } && double.IsFinite(rstd) ? 8 * (1 + Math.Abs(mean) * rstd) : 8;

    private static double[] OutputMagnitudes(GoldenCase golden, Results results)
    {
        double[] exact = Tensors.ToArray(golden.Read<double>("output_f64"));
        double[]? weight = Parameter(golden, "weight"), bias = Parameter(golden, "bias");
        int run = Run(results.Output.Lengths), channels = (int)results.Output.Lengths[1];
        return [.. exact.Select((value, i) => Math.Max(Math.Abs(value), Math.Max(weight?[i / run % channels] ?? 1, bias?[i / run % channels] ?? 0)))];
    }

    /// <summary>The magnitudes of the terms rstd · weight · dy of the input's gradient.</summary>
    private static double[] Terms(GoldenCase golden, Results results)
    {
        if (!golden.Has("grad_input_f64"))
            return [];
        double[] exact = Tensors.ToArray(golden.Read<double>("grad_input_f64"));
        T[] dy = Tensors.ToArray(golden.Read<T>("grad_output"));
        double[]? weight = Parameter(golden, "weight");
        int run = Run(results.Output.Lengths), channels = (int)results.Output.Lengths[1];
        return [.. exact.Select((value, i) => typeof(T) != typeof(double) && Math.Abs(value) > 0 ? Math.Abs(value)
            : results.Statistics[i / run % channels].Rstd * (weight?[i / run % channels] ?? 1) * Math.Abs(Numbers.ToDouble(dy[i])))];
    }

    /// <summary>For each element the largest finite of its channel.</summary>
    private static double[] ByChannel(GoldenCase golden, double[] terms)
    {
        if (terms.Length == 0)
            return [];
        nint[] lengths = golden.Read<T>("input").Lengths.ToArray();
        int run = Run(lengths), channels = (int)lengths[1];
        var largest = new double[channels];
        for (int i = 0; i < terms.Length; i++)
            largest[i / run % channels] = double.IsFinite(terms[i]) ? Math.Max(largest[i / run % channels], terms[i]) : largest[i / run % channels];
        return [.. terms.Select((_, i) => largest[i / run % channels])];
    }

    /// <summary>For each channel the sum of |dy|, or of |dy · n|.</summary>
    private static double[] Sums(GoldenCase golden, Results results, bool weighted)
    {
        var sums = new double[results.GradWeight.FlattenedLength];
        if (!golden.Has("grad_output"))
            return sums;
        T[] dy = Tensors.ToArray(golden.Read<T>("grad_output")), x = Tensors.ToArray(golden.Read<T>("input"));
        int run = Run(results.Output.Lengths);
        for (int i = 0; i < dy.Length; i++)
        {
            int channel = i / run % sums.Length;
            double n = weighted ? Math.Abs((Numbers.ToDouble(x[i]) - results.Statistics[channel].Mean) * results.Statistics[channel].Rstd) : 1;
            sums[channel] += Math.Abs(Numbers.ToDouble(dy[i])) * n;
        }
        return [.. sums.Select(sum => double.IsFinite(sum) ? sum : 1)];
    }

    private static double[]? Parameter(GoldenCase golden, string name)
        => golden.ReadOptional<T>(name) is { } values ? [.. Tensors.ToArray(values).Select(value => Math.Abs(Numbers.ToDouble(value)))] : null;
}

public sealed class FloatBatchNormGoldenTests() : BatchNormGoldenTests<float>("float32");

public sealed class DoubleBatchNormGoldenTests() : BatchNormGoldenTests<double>("float64");

public sealed class HalfBatchNormGoldenTests() : BatchNormGoldenTests<Half>("float16");

public sealed class BFloat16BatchNormGoldenTests() : BatchNormGoldenTests<BFloat16>("bfloat16");
