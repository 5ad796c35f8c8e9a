using System.Numerics.Tensors;
using System.Text.Json;
using Xunit;

namespace NormLayers.Tests.Golden;

/// <summary>Every stored case, forward, against the exact result: through the function and through the layer.</summary>
public abstract class ForwardGoldenTests<T>(string dtype) where T : unmanaged
{
    private static readonly string[] Layers = ["layernorm", "rmsnorm", "groupnorm", "instancenorm", "localresponsenorm", "crossmaplrn2d"];

    /// <summary>Output errors allowed, in ulps at the case's magnitude: see <see cref="Bound"/>.</summary>
    private static readonly double Allowed = Numbers.IsShort<T>() ? 0.51 : typeof(T) == typeof(float) ? 4 : 8;

    [Theory]
    [InlineData("layernorm", 60)]
    [InlineData("rmsnorm", 42)]
    [InlineData("groupnorm", 60)]
    [InlineData("instancenorm", 43)]
    [InlineData("localresponsenorm", 60)]
    [InlineData("crossmaplrn2d", 21)]
    public void Forward_EveryGoldenCase_IsWithinBound(string layer, int expected)
    {
        if (!GoldenFile.Exists($"{layer}.{dtype}"))
            Assert.Skip($"There is no {layer} of {dtype} in PyTorch.");
        var failures = new List<string>();
        int compared = 0;
        foreach (GoldenCase golden in GoldenFile.Open($"{layer}.{dtype}").Cases)
        {
            Tensor<T> input = golden.ReadInput<T>();
            Tensor<T> output = Run(golden, input);
            Assert.Equal(input.Lengths, output.Lengths);
            if (!golden.Has("output_f64"))
                continue;
            compared++;
            foreach ((nint index, double error, double bound, _) in Errors(golden, output))
            {
                if (!(error <= bound))
                    failures.Add($"{golden.Name} [{string.Join(' ', golden.Tags)}] element {index}: {error:G4} ulp, allowed {bound:G4}");
            }
        }
        Assert.True(compared >= expected, $"only {compared} cases had an exact result");
        Assert.True(failures.Count == 0, $"{failures.Count} elements out of bounds:\n{string.Join('\n', failures.Take(20))}");
    }

    [Theory]
    [InlineData("layernorm")]
    [InlineData("rmsnorm")]
    [InlineData("groupnorm")]
    [InlineData("instancenorm")]
    [InlineData("localresponsenorm")]
    public void Forward_ThroughTheLayer_GivesTheFunctionsBits(string layer)
    {
        int compared = 0;
        foreach (GoldenCase golden in GoldenFile.Open($"{layer}.{dtype}").Cases)
        {
            if (!golden.Description.TryGetProperty("module", out _))
                continue;
            Tensor<T> input = golden.ReadInput<T>();
            Tensor<T> output = golden.IsMixed ? MakeModule<float>(golden).Forward(input) : MakeModule<T>(golden).Forward(input);
            Assert.Equal(Tensors.ToArray(Run(golden, input)), Tensors.ToArray(output));
            compared++;
        }
        Assert.True(compared >= 20, $"only {compared} cases have a module");
    }

    [Theory]
    [InlineData("instancenorm", 16)]
    public void Forward_WithRunningStatistics_LeavesThemWithinBound(string layer, int expected)
    {
        int compared = 0;
        foreach (GoldenCase golden in GoldenFile.Open($"{layer}.{dtype}").Cases.Where(golden => golden.Has("running_mean_after_f64")))
        {
            StateDict state = golden.IsMixed ? Trained<float>(golden, layer => layer.Forward(golden.ReadInput<T>())) : Trained<T>(golden, layer => layer.Forward(golden.ReadInput<T>()));
            foreach (string name in new[] { "running_mean", "running_var" })
            {
                double[] exact = Tensors.ToArray(golden.Read<double>($"{name}_after_f64"));
                double[] before = golden.ReadParameter<T>(name)!, actual = golden.IsMixed ? Numbers.ToDoubles(Tensors.ToArray(state.Get<float>(name))) : Numbers.ToDoubles(Tensors.ToArray(state.Get<T>(name)));
                for (int c = 0; c < exact.Length; c++)
                {
                    double magnitude = Math.Max(Math.Abs(exact[c]), Math.Abs(before[c]));
                    double error = golden.IsMixed ? Ulp.Distance<float>(actual[c], exact[c], magnitude) : Ulp.Distance<T>(actual[c], exact[c], magnitude);
                    double allowed = typeof(T) == typeof(double) ? 4 : Numbers.IsShort<T>() && !golden.IsMixed ? 0.51 : 1;
                    Assert.True(error <= allowed, $"{golden.Name} {name} {c}: {error:G4} ulp, allowed {allowed}");
                }
            }
            if (golden.Has("num_batches_tracked_after"))
                Assert.Equal(Tensors.ToArray(golden.Read<long>("num_batches_tracked_after")), Tensors.ToArray(state.Get<long>("num_batches_tracked")));
            compared++;
        }
        Assert.True(compared >= expected, $"only {compared} cases have running statistics");
    }

    private static StateDict Trained<TParameter>(GoldenCase golden, Action<NormLayer<TParameter>> forward) where TParameter : unmanaged
    {
        NormLayer<TParameter> layer = GoldenRun.Layer<TParameter>(golden);
        forward(layer);
        return layer.StateDict();
    }

    /// <summary>Not a bound but a record: our worst error beside PyTorch's, by layer and tag (see docs/numerics.md).</summary>
    [Fact]
    public void Forward_WorstErrorByTag_IsPrintedBesidePyTorchs()
    {
        ITestOutputHelper output = TestContext.Current.TestOutputHelper!;
        output.WriteLine($"{dtype}: largest error in ulps at max(|y|, |weight|, |bias|) (LRN: at |y|)");
        output.WriteLine($"{"layer",-18} {"tag",-12} {"ours",10} {"PyTorch's",12}");
        foreach (string layer in Layers.Where(layer => GoldenFile.Exists($"{layer}.{dtype}")))
        {
            var worst = new SortedDictionary<string, (double Ours, double Theirs)>();
            foreach (GoldenCase golden in GoldenFile.Open($"{layer}.{dtype}").Cases.Where(golden => golden.Has("output_f64")))
            {
                double ours = Errors(golden, Run(golden, golden.ReadInput<T>())).Select(error => error.Ulps).DefaultIfEmpty().Max();
                double theirs = Errors(golden, golden.Repeat(golden.Read<T>("output"))).Select(error => error.Ulps).DefaultIfEmpty().Max();
                foreach (string tag in golden.Tags.Append("(all)"))
                {
                    (double Ours, double Theirs) known = worst.GetValueOrDefault(tag);
                    worst[tag] = (Math.Max(known.Ours, ours), Math.Max(known.Theirs, theirs));
                }
            }
            foreach ((string tag, (double ours, double theirs)) in worst)
                output.WriteLine($"{layer,-18} {tag,-12} {ours,10:G4} {theirs,12:G4}");
            Assert.True(double.IsFinite(worst["(all)"].Ours), $"{layer}: a NaN or an infinity is out of place");
        }
    }

    private static Tensor<T> Run(GoldenCase golden, Tensor<T> input)
    {
        JsonElement args = golden.Args;
        if (golden.IsMixed)
        {
            Tensor<float>? floatWeight = golden.ReadOptional<float>("weight"), floatBias = golden.ReadOptional<float>("bias");
            return golden.Description.GetProperty("op").GetString() switch
            {
                "layer_norm" => Functional.LayerNorm(input, GoldenRun.Shape(args.GetProperty("normalized_shape")), floatWeight, floatBias, golden.Eps),
                "rms_norm" => Functional.RMSNorm(input, GoldenRun.Shape(args.GetProperty("normalized_shape")), floatWeight, GoldenRun.OptionalEps(args)),
                "group_norm" => Functional.GroupNorm(input, args.GetProperty("num_groups").GetInt32(), floatWeight, floatBias, golden.Eps),
                _ => GoldenRun.Layer<float>(golden).Forward(input),
            };
        }
        Tensor<T>? weight = golden.ReadOptional<T>("weight"), bias = golden.ReadOptional<T>("bias");
        return golden.Description.GetProperty("op").GetString() switch
        {
            "layer_norm" => Functional.LayerNorm(input, GoldenRun.Shape(args.GetProperty("normalized_shape")), weight, bias, golden.Eps),
            "rms_norm" => Functional.RMSNorm(input, GoldenRun.Shape(args.GetProperty("normalized_shape")), weight, GoldenRun.OptionalEps(args)),
            "group_norm" => Functional.GroupNorm(input, args.GetProperty("num_groups").GetInt32(), weight, bias, golden.Eps),
            "instance_norm" when golden.ChannelDimension == 0 => GoldenRun.Layer<T>(golden).Forward(input),
            "instance_norm" => Functional.InstanceNorm(input, golden.ReadOptional<T>("running_mean"), golden.ReadOptional<T>("running_var"), weight, bias,
                args.GetProperty("use_input_stats").GetBoolean(), args.GetProperty("momentum").GetDouble(), golden.Eps),
            "cross_map_lrn2d" => GoldenRun.Layer<T>(golden).Forward(input),
            "local_response_norm" => Functional.LocalResponseNorm(input, args.GetProperty("size").GetInt32(),
                args.GetProperty("alpha").GetDouble(), args.GetProperty("beta").GetDouble(), args.GetProperty("k").GetDouble()),
            var other => throw new InvalidDataException(other),
        };
    }

    private static NormLayer<TParameter> MakeModule<TParameter>(GoldenCase golden) where TParameter : unmanaged
    {
        if (golden.Description.GetProperty("op").GetString() == "instance_norm")
            return GoldenRun.Layer<TParameter>(golden);
        JsonElement args = golden.Description.GetProperty("module_args");
        double Number(string name, double otherwise) => args.TryGetProperty(name, out JsonElement value) ? value.GetDouble() : otherwise;
        bool Flag(string name) => !args.TryGetProperty(name, out JsonElement value) || value.GetBoolean();
        NormLayer<TParameter> module = golden.Description.GetProperty("module").GetString() switch
        {
            "LayerNorm" => new LayerNorm<TParameter>(GoldenRun.Shape(args.GetProperty("normalized_shape")), Number("eps", 1e-5), Flag("elementwise_affine"), Flag("bias")),
            "RMSNorm" => new RMSNorm<TParameter>(GoldenRun.Shape(args.GetProperty("normalized_shape")), GoldenRun.OptionalEps(args), Flag("elementwise_affine")),
            "GroupNorm" => new GroupNorm<TParameter>(args.GetProperty("num_groups").GetInt32(), args.GetProperty("num_channels").GetInt32(), Number("eps", 1e-5), Flag("affine")),
            "LocalResponseNorm" => new LocalResponseNorm<TParameter>(args.GetProperty("size").GetInt32(), Number("alpha", 1e-4), Number("beta", 0.75), Number("k", 1)),
            var other => throw new InvalidDataException(other),
        };
        var state = new StateDict();
        foreach (Parameter<TParameter> parameter in module.Parameters)
            state.Add(parameter.Name, golden.ReadOptional<TParameter>(parameter.Name) ?? parameter.Value);
        module.LoadStateDict(state);
        return module;
    }

    /// <summary>Each element's error in ulps with its bound: 0.51 ulp in 16 bits; 4 ulp for float; 8 ulp times (1 + |mean| / deviation) for double.</summary>
    private static IEnumerable<(nint Index, double Ulps, double Bound, double Expected)> Errors(GoldenCase golden, Tensor<T> output)
    {
        double[] expected = Tensors.ToArray(golden.Repeat(golden.Read<double>("output_f64")));
        T[] actual = Tensors.ToArray(output);
        Assert.Equal(expected.Length, actual.Length);
        bool window = golden.Description.GetProperty("op").GetString() is "local_response_norm" or "cross_map_lrn2d";
        double[]? weight = golden.ReadParameter<T>("weight"), bias = golden.ReadParameter<T>("bias");
        (double[] mean, double[] rstd) = window ? ([], []) : golden.Statistics<T>();
        nint[] lengths = output.Lengths.ToArray();
        int channelDimension = golden.ChannelDimension;
        nint positions = lengths.Skip(channelDimension + 1).Aggregate((nint)1, (product, length) => product * length);
        bool perChannel = golden.Description.GetProperty("op").GetString() is "group_norm" or "instance_norm";

        for (nint i = 0; i < expected.Length; i++)
        {
            double magnitude = Math.Abs(expected[i]), bound = Allowed;
            if (!window)
            {
                nint parameter = perChannel ? i / positions % lengths[channelDimension] : weight is not null ? i % weight.Length : bias is not null ? i % bias.Length : 0;
                magnitude = Math.Max(magnitude, weight is null ? 1 : Math.Abs(weight[parameter]));
                magnitude = Math.Max(magnitude, bias is null ? 0 : Math.Abs(bias[parameter]));
                nint group = i / (expected.Length / mean.Length);
                if (typeof(T) == typeof(double) && double.IsFinite(rstd[group]))
                    bound *= 1 + Math.Abs(mean[group]) * rstd[group];
            }
            yield return (i, Ulp.Distance<T>(Numbers.ToDouble(actual[i]), expected[i], magnitude), bound, expected[i]);
        }
    }
}

public sealed class FloatForwardGoldenTests() : ForwardGoldenTests<float>("float32");

public sealed class DoubleForwardGoldenTests() : ForwardGoldenTests<double>("float64");

public sealed class HalfForwardGoldenTests() : ForwardGoldenTests<Half>("float16");

public sealed class BFloat16ForwardGoldenTests() : ForwardGoldenTests<BFloat16>("bfloat16");
