using System.Numerics.Tensors;
using Xunit;

namespace NormLayers.Tests.Golden;

/// <summary>Every stored gradient against the exact one.</summary>
public abstract class BackwardGoldenTests<T>(string dtype) where T : unmanaged
{
    private static readonly string[] Layers = ["layernorm", "rmsnorm", "groupnorm", "instancenorm", "localresponsenorm", "crossmaplrn2d"];

    [Theory]
    [InlineData("layernorm", 60)]
    [InlineData("rmsnorm", 40)]
    [InlineData("groupnorm", 60)]
    [InlineData("instancenorm", 42)]
    [InlineData("localresponsenorm", 60)]
    [InlineData("crossmaplrn2d", 18)]
    public void Backward_EveryGoldenCase_IsWithinBound(string layer, int expected)
    {
        if (!GoldenFile.Exists($"{layer}.{dtype}"))
            Assert.Skip($"There is no {layer} of {dtype} in PyTorch.");
        var failures = new List<string>();
        int compared = 0;
        foreach (GoldenCase golden in GoldenFile.Open($"{layer}.{dtype}").Cases.Where(golden => golden.Has("grad_input_f64")))
        {
            compared++;
            foreach ((string name, nint index, double error, double bound) in Errors(golden, Run(golden)))
            {
                if (!(error <= bound))
                    failures.Add($"{golden.Name} [{string.Join(' ', golden.Tags)}] {name} {index}: {error:G4} ulp, allowed {bound:G4}");
            }
        }
        Assert.True(compared >= expected, $"only {compared} cases have gradients");
        Assert.True(failures.Count == 0, $"{failures.Count} gradients out of bounds:\n{string.Join('\n', failures.Take(30))}");
    }

    [Theory]
    [InlineData("layernorm", 2)]
    [InlineData("groupnorm", 1)]
    public void Backward_ConstantOrSingleElementGroups_WeightGradientIsExactlyZero(string layer, int expected)
    {
        int compared = 0;
        foreach (GoldenCase golden in GoldenFile.Open($"{layer}.{dtype}").Cases)
        {
            if (!golden.Has("grad_weight_f64") || !(golden.Tags.Contains("constant") || golden.Tags.Contains("single")))
                continue;
            // Tagged constant are also rows that vary in one case: only where the exact gradient is zero must ours be.
            double[] actual = Run(golden)["grad_weight"];
            double[] exact = Tensors.ToArray(golden.Read<double>("grad_weight_f64"));
            if (!exact.All(value => value == 0))
                continue;
            Assert.All(actual, value => Assert.True(value == 0));
            compared++;
        }
        Assert.True(compared >= expected, $"only {compared} cases");
    }

    /// <summary>Not a bound but a record: our worst error beside PyTorch's, by layer and result (see docs/numerics.md).</summary>
    [Fact]
    public void Backward_WorstErrorByResult_IsPrintedBesidePyTorchs()
    {
        ITestOutputHelper output = TestContext.Current.TestOutputHelper!;
        output.WriteLine($"{dtype}: largest error as a share of the bound");
        output.WriteLine($"{"layer",-18} {"tag",-10} {"result",-12} {"ours",10} {"PyTorch's",12}");
        foreach (string layer in Layers.Where(layer => GoldenFile.Exists($"{layer}.{dtype}")))
        {
            var worst = new SortedDictionary<string, (double Ours, double Theirs)>();
            foreach (GoldenCase golden in GoldenFile.Open($"{layer}.{dtype}").Cases.Where(golden => golden.Has("grad_input_f64")))
            {
                Dictionary<string, double[]> ours = Run(golden);
                var theirs = ours.Keys.ToDictionary(name => name, name => name == "grad_input" ? Numbers.ToDoubles(Tensors.ToArray(golden.Repeat(golden.Read<T>(name)))) : golden.ReadParameter<T>(name)!);
                string tag = golden.Tags.FirstOrDefault(tag => tag is "offset" or "range" or "constant" or "spread", "other");
                foreach ((Dictionary<string, double[]> results, bool mine) in new[] { (ours, true), (theirs, false) })
                {
                    foreach ((string name, _, double error, double bound) in Errors(golden, results))
                    {
                        string key = $"{tag,-10} {name,-12}";
                        (double Ours, double Theirs) known = worst.GetValueOrDefault(key);
                        worst[key] = mine ? (Math.Max(known.Ours, error / bound), known.Theirs) : (known.Ours, Math.Max(known.Theirs, error / bound));
                    }
                }
            }
            foreach ((string key, (double ours, double theirs)) in worst)
                output.WriteLine($"{layer,-18} {key} {ours,10:G3} {theirs,12:G3}");
            Assert.All(worst.Values, value => Assert.True(value.Ours <= 1));
        }
    }

    private static Dictionary<string, double[]> Run(GoldenCase golden)
    {
        Tensor<T> input = golden.ReadInput<T>(), gradOutput = golden.ReadInput<T>("grad_output");
        if (golden.IsMixed)
        {
            NormLayer<float> floats = GoldenRun.Layer<float>(golden);
            floats.Forward(input, out ForwardPass<T> mixedPass);
            return Results(golden, floats.Backward(gradOutput, mixedPass), floats);
        }
        NormLayer<T> layer = GoldenRun.Layer<T>(golden);
        layer.Forward(input, out ForwardPass<T> pass);
        return Results(golden, layer.Backward(gradOutput, pass), layer);
    }

    private static Dictionary<string, double[]> Results<TParameter>(GoldenCase golden, Tensor<T> gradInput, NormLayer<TParameter> layer) where TParameter : unmanaged
    {
        Assert.Equal(golden.Shape("grad_input").Skip(1), gradInput.Lengths[1..].ToArray());
        var results = new Dictionary<string, double[]> { ["grad_input"] = Numbers.ToDoubles(Tensors.ToArray(gradInput)) };
        foreach (Parameter<TParameter> parameter in layer.Parameters)
        {
            if (golden.Has($"grad_{parameter.Name}_f64"))
                results.Add($"grad_{parameter.Name}", Numbers.ToDoubles(Tensors.ToArray(parameter.Grad)));
        }
        return results;
    }

    /// <summary>
    /// Input gradients: 8 ulp at their group's largest magnitude (LRN: their sample's). For float64, and for RMSNorm's groups of
    /// one, whose gradient is dy · rstd times 1 - n² = eps · rstd² or nearly nothing, at the largest magnitude of
    /// the terms rstd · weight · dy that the gradient is a difference of: where these cancel, in groups of two for instance, the
    /// stored reference, computed in 80 bits, is itself thousands of ulps from the truth (groupnorm.float64 case029 has 3e-20
    /// for a gradient that is zero). Parameter gradients: 8 ulp times the square root of the number of summed terms, at the sum
    /// of the terms' magnitudes. In 16 bits both are 0.51 ulp at those magnitudes, those of the terms in groups of two.
    /// </summary>
    private static IEnumerable<(string Name, nint Index, double Ulps, double Bound)> Errors(GoldenCase golden, Dictionary<string, double[]> results)
    {
        double[] exact = Tensors.ToArray(golden.Repeat(golden.Read<double>("grad_input_f64")));
        double[] actual = results["grad_input"];
        Assert.Equal(exact.Length, actual.Length);
        bool window = golden.Description.GetProperty("op").GetString() is "local_response_norm" or "cross_map_lrn2d";
        IReadOnlyList<nint> lengths = golden.Shape("grad_input");
        nint run = lengths.Skip(golden.ChannelDimension + 1).Aggregate((nint)1, (product, length) => product * length);
        (double[] mean, double[] rstd) = window ? ([], []) : golden.Statistics<T>();
        int groups = exact.Length == 0 ? 0 : window ? exact.Length / (int)lengths.Skip(1).Aggregate((nint)1, (product, length) => product * length) : mean.Length;
        int groupOf(int i) => i / (exact.Length / groups);
        var largest = new double[groups];
        for (int i = 0; i < exact.Length; i++)
            largest[groupOf(i)] = double.IsFinite(exact[i]) ? Math.Max(largest[groupOf(i)], Math.Abs(exact[i])) : largest[groupOf(i)];
        T[] gradOutput = Tensors.ToArray(golden.Repeat(golden.Read<T>("grad_output")));
        bool perChannel = golden.Description.GetProperty("op").GetString() is "group_norm" or "instance_norm";
        if (((typeof(T) == typeof(double) || (Numbers.IsShort<T>() && exact.Length == 2 * groups)) && !window) || (golden.Has("rrms_f64") && exact.Length == groups))
        {
            double[] factor = golden.ReadParameter<T>("weight") is { } weight ? [.. weight.Select(Math.Abs)] : [1];
            for (int i = 0; i < exact.Length; i++)
            {
                double term = rstd[groupOf(i)] * factor[perChannel && factor.Length > 1 ? i / run % lengths[golden.ChannelDimension] : i % factor.Length] * Math.Abs(Numbers.ToDouble(gradOutput[i]));
                largest[groupOf(i)] = double.IsFinite(term) ? Math.Max(largest[groupOf(i)], term) : largest[groupOf(i)];
            }
        }
        for (int i = 0; i < exact.Length; i++)
            yield return ("grad_input", i, Ulp.Distance<T>(actual[i], exact[i], largest[groupOf(i)]), Numbers.IsShort<T>() ? 0.51 : 8);

        if (results.Count == 1)
            yield break;
        T[] input = Tensors.ToArray(golden.Repeat(golden.Read<T>("input")));
        foreach ((string name, double[] values) in results.Where(result => result.Key != "grad_input"))
        {
            double[] expected = Tensors.ToArray(golden.Read<double>(name + "_f64"));
            var magnitudes = new double[expected.Length];
            for (int i = 0; i < input.Length; i++)
            {
                int p = perChannel ? (int)(i / run % lengths[golden.ChannelDimension]) : i % expected.Length;
                double normalized = Math.Abs((Numbers.ToDouble(input[i]) - mean[groupOf(i)]) * rstd[groupOf(i)]);
                magnitudes[p] += Math.Abs(Numbers.ToDouble(gradOutput[i])) * (name == "grad_weight" ? Math.Max(normalized, double.IsNaN(normalized) ? 1 : 0) : 1);
            }
            double terms = expected.Length == 0 ? 1 : Math.Max(1, input.Length / expected.Length);
            for (int p = 0; p < expected.Length; p++)
            {
                double magnitude = double.IsFinite(magnitudes[p]) ? magnitudes[p] : 1;
                double distance = golden.IsMixed ? Ulp.Distance<float>(values[p], expected[p], magnitude) : Ulp.Distance<T>(values[p], expected[p], magnitude);
                yield return (name, p, distance, Numbers.IsShort<T>() && !golden.IsMixed ? 0.51 : 8 * Math.Sqrt(terms));
            }
        }
    }
}

public sealed class FloatBackwardGoldenTests() : BackwardGoldenTests<float>("float32");

public sealed class DoubleBackwardGoldenTests() : BackwardGoldenTests<double>("float64");

public sealed class HalfBackwardGoldenTests() : BackwardGoldenTests<Half>("float16");

public sealed class BFloat16BackwardGoldenTests() : BackwardGoldenTests<BFloat16>("bfloat16");
