using System.Numerics.Tensors;
using NormLayers.Internals;
using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests;

/// <summary>The README's table of layers, made by running each of them: what it says of a layer is what the layer has just done.</summary>
public sealed class LayerTableTests
{
    private const string Start = "<!-- layers: LayerTableTests makes this table -->\n", End = "<!-- end of layers -->\n";
    private const string Yes = "yes", No = "no";

    private static readonly nint[] line = [3, 6, 5], plane = [3, 6, 5, 4], volume = [3, 6, 2, 5, 4];

    /// <summary>By row: the first cells, and the layers that it stands for with an input's shape, each with all the parameters and buffers that it can have.</summary>
    private static readonly (string Layer, string Over, (string Call, nint[] Shape)[] Calls)[] rows =
    [
        ("[`LayerNorm`](docs/layers/layer-norm.md)", "the last dimensions", [("LayerNorm(4)", plane), ("LayerNorm([6, 5])", line)]),
        ("[`RMSNorm`](docs/layers/rms-norm.md)", "the last dimensions", [("RMSNorm(4)", plane), ("RMSNorm([6, 5])", line)]),
        ("`LayerNorm` with an `axis`", "dimensions from any on: the channels", [("LayerNorm(6, axis=1)", plane), ("LayerNorm(6, axis=-2)", line)]),
        ("`RMSNorm` with an `axis`", "dimensions from any on: the channels", [("RMSNorm(6, axis=1)", plane), ("RMSNorm(6, axis=-2)", line)]),
        ("[`GroupNorm`](docs/layers/group-norm.md)", "C / G channels of a sample", [("GroupNorm(3, 6)", line), ("GroupNorm(3, 6)", plane), ("GroupNorm(3, 6)", volume)]),
        ("[`BatchNorm1d` to `3d`](docs/layers/batch-norm.md)", "a channel over the batch, or running", [("BatchNorm1d(6)", line), ("BatchNorm2d(6)", plane), ("BatchNorm3d(6)", volume)]),
        ("`LazyBatchNorm1d` to `3d`", "the same", [("LazyBatchNorm1d()", line), ("LazyBatchNorm2d()", plane), ("LazyBatchNorm3d()", volume)]),
        ("[`SyncBatchNorm`](docs/layers/batch-norm.md)", "the same, of one process", [("SyncBatchNorm(6)", line), ("SyncBatchNorm(6)", plane), ("SyncBatchNorm(6)", volume)]),
        ("[`InstanceNorm1d` to `3d`](docs/layers/instance-norm.md)", "a channel of a sample, or running",
            [("InstanceNorm1d(6, affine=True, track_running_stats=True)", line), ("InstanceNorm2d(6, affine=True, track_running_stats=True)", plane), ("InstanceNorm3d(6, affine=True, track_running_stats=True)", volume)]),
        ("`LazyInstanceNorm1d` to `3d`", "the same", [("LazyInstanceNorm1d()", line), ("LazyInstanceNorm2d()", plane), ("LazyInstanceNorm3d()", volume)]),
        ("[`LocalResponseNorm`](docs/layers/local-response-norm.md)", "a window of channels",
            [("LocalResponseNorm(3, alpha=1)", line), ("LocalResponseNorm(4, alpha=1)", plane), ("LocalResponseNorm(4, alpha=1, window='onnx')", volume)]),
        ("[`CrossMapLRN2d`](docs/layers/cross-map-lrn2d.md)", "a window of channels", [("CrossMapLRN2d(3, alpha=1)", plane)]),
        ("[`Functional.Normalize`](docs/layers/normalize.md)", "one dimension", [("normalize", line), ("normalize", plane)]),
    ];

    [Fact]
    public void Readme_TableOfLayers_SaysWhatTheLayersDo()
    {
        string readme = File.ReadAllText(Path.Combine(Repository.Root, "README.md")).ReplaceLineEndings("\n");
        int start = readme.IndexOf(Start, StringComparison.Ordinal), end = readme.IndexOf(End, StringComparison.Ordinal);
        Assert.True(start >= 0 && end > start, $"README.md lacks the lines {Start}{End}");
        string table = Table();
        if (readme[(start + Start.Length)..end] != table)
            Assert.Fail($"The table of layers in README.md is to be:\n{Start}{table}{End}");
    }

    [Fact]
    public void Rows_OfTheTable_AreAllTheLayersThereAre()
    {
        IEnumerable<string> layers = typeof(NormLayer).Assembly.GetExportedTypes()
            .Where(type => type.IsSubclassOf(typeof(NormLayer)) && !type.IsAbstract)
            .Select(type => type.Name.Split('`')[0]);
        IEnumerable<string> called = rows.SelectMany(row => row.Calls).Select(call => call.Call.Split('(')[0]).Where(name => name != "normalize");
        Assert.Equal(layers.Order(), called.Distinct().Order());
    }

    private static string Table()
    {
        var text = new System.Text.StringBuilder("""
            | layer | shares statistics over | state | forward | backward | JVP | double backward | elements | channels-last in |
            |---|---|---|---|---|---|---|---|---|

            """.ReplaceLineEndings("\n"));
        foreach ((string layer, string over, (string Call, nint[] Shape)[] calls) in rows)
        {
            Answers[] all = [.. calls.SelectMany(call => AnswersOf(call.Call, call.Shape))];
            string[] types = [.. all.Select(answers => answers.Type).Distinct()];
            Assert.Equal(calls.Length * types.Length, all.Length);
            text.Append($"| {layer} | {over} | {Cell(all, answers => answers.State)} | {Cell(all, answers => answers.Forward)} | {Cell(all, answers => answers.Backward)} | ")
                .Append($"{Cell(all, answers => answers.Jvp)} | {Cell(all, answers => answers.DoubleBackward)} | {string.Join(", ", types)} | {Cell(all, answers => answers.ChannelsLast)} |\n");
        }
        return text.ToString();
    }

    /// <summary>What all the layers of a row do with all element types; where they differ, each.</summary>
    private static string Cell(Answers[] all, Func<Answers, string> answer)
        => all.Select(answer).Distinct().Count() == 1 ? answer(all[0]) : string.Join("; ", all.Select(answers => $"{answers.Call} of {answers.Type}: {answer(answers)}"));

    /// <summary>What a layer does, one entry for each element type that it takes.</summary>
    private static IEnumerable<Answers> AnswersOf(string call, nint[] shape)
        => new[] { Try<Half>(call, shape, "Half", 11), Try<BFloat16>(call, shape, "BFloat16", 8), Try<float>(call, shape, "float", 24), Try<double>(call, shape, "double", 53) }.OfType<Answers>();

    /// <summary>Runs all that a layer has, against the same layer in double and that against differences of its own results.</summary>
    private static Answers? Try<T>(string call, nint[] shape, string type, int bits) where T : unmanaged
    {
        if (Subject<T>.Of(call, shape) is not { } subject)
            return null;
        Subject<double> wide = Subject<double>.Of(call, shape)!;
        double[] x = Values(1), dy = Values(2), t = Values(3), v = Values(4);
        const double Step = 1e-5;

        double[] y = wide.Forward(x);
        AssertNear(y, subject.Forward(x));
        double[] dx = wide.Backward(x, dy);
        AssertNear(dx, subject.Backward(x, dy));
        double slope = (Dot(dy, wide.Forward(Moved(Step))) - Dot(dy, wide.Forward(Moved(-Step)))) / (2 * Step);
        bool isDerivative = Near(slope, Dot(t, dx));
        string jvp = No, doubleBackward = No;
        if (subject.Jvp(x, t) is { } narrowTangent)
        {
            double[] tangent = wide.Jvp(x, t)!;
            AssertNear(tangent, narrowTangent);
            Assert.True(Near(slope, Dot(dy, tangent)), $"{call}: the Jacobian-vector product is not the derivative");
            jvp = Yes;
        }
        if (subject.DoubleBackward(x, dy, v) is { } narrowSecond)
        {
            double[] second = wide.DoubleBackward(x, dy, v)!;
            AssertNear(second, narrowSecond);
            double change = (Dot(v, wide.Backward(Moved(Step), dy)) - Dot(v, wide.Backward(Moved(-Step), dy))) / (2 * Step);
            Assert.True(Near(change, Dot(t, second)), $"{call}: the double backward is not the derivative of the backward");
            doubleBackward = Yes;
        }
        // Any other strides: the dimensions in reverse order, and the channels last.
        AssertNear(y, subject.Forward(x, Strides(shape, [.. Enumerable.Range(0, shape.Length).Reverse()]), out _));
        nint[] channelsLast = Strides(shape, [0, .. Enumerable.Range(2, shape.Length - 2), 1]);
        AssertNear(y, subject.Forward(x, channelsLast, out nint[] strides));
        AssertNear(dx, subject.Backward(x, dy, channelsLast, out nint[] gradientStrides));
        Assert.Equal(strides, gradientStrides);
        nint[] rowMajor = Strides(shape, [.. Enumerable.Range(0, shape.Length)]);
        Assert.True(strides.SequenceEqual(channelsLast) || strides.SequenceEqual(rowMajor), $"{call}: strides {string.Join(", ", strides)}");
        return new Answers(call, type, subject.State, Yes, isDerivative ? Yes : "PyTorch's", jvp, doubleBackward, strides.SequenceEqual(channelsLast) ? "channels-last out" : "row-major out");

        // Sixteenths below 4: every element type has them exactly.
        double[] Values(ulong seed)
        {
            var generator = new Generator(seed);
            return [.. Enumerable.Range(0, (int)NormCase.Product(shape)).Select(_ => (generator.Below(127) - 63) / 16.0)];
        }
        double[] Moved(double step) => [.. x.Zip(t, (value, direction) => value + step * direction)];
        void AssertNear(double[] expected, double[] actual)
        {
            Assert.Equal(expected.Length, actual.Length);
            double allowed = 16 * Math.ScaleB(expected.Max(Math.Abs), -bits);
            for (int i = 0; i < expected.Length; i++)
                Assert.True(Math.Abs(expected[i] - actual[i]) <= allowed, $"{call} of {type}, element {i}: {actual[i]} for {expected[i]}, allowed {allowed}");
        }
    }

    private static bool Near(double expected, double actual) => Math.Abs(expected - actual) <= 1e-6 * (1 + Math.Abs(expected));

    private static double Dot(double[] a, double[] b) => a.Zip(b, (left, right) => left * right).Sum();

    /// <summary>The strides of a dense tensor whose dimensions lie in memory in an order, the outermost first.</summary>
    private static nint[] Strides(nint[] shape, int[] order)
    {
        var strides = new nint[shape.Length];
        nint stride = 1;
        foreach (int dimension in order.Reverse())
        {
            strides[dimension] = stride;
            stride *= shape[dimension];
        }
        return strides;
    }

    private sealed record Answers(string Call, string Type, string State, string Forward, string Backward, string Jvp, string DoubleBackward, string ChannelsLast);

    /// <summary>A layer, or the function without one, on values in double, whatever its element type.</summary>
    private sealed class Subject<T> where T : unmanaged
    {
        private readonly NormLayer<T>? layer;
        private readonly nint[] shape;

        private Subject(string call, nint[] shape)
        {
            this.shape = shape;
            layer = call == "normalize" ? null : NormLayer.Parse<T>(call);
            // A lazy layer gets its parameters; the function tells whether it takes the type.
            Apply(Tensor.CreateFromShape<T>(shape));
            foreach (Parameter<T> parameter in layer?.Parameters ?? [])
            {
                T[] values = [.. Enumerable.Range(0, (int)parameter.Value.FlattenedLength).Select(i => Elements.FromDouble<T>(1 + i / 8.0))];
                Tensor.Create(values, parameter.Value.Lengths).CopyTo(parameter.Value);
            }
        }

        /// <summary>Null where the layer is not implemented for the element type.</summary>
        public static Subject<T>? Of(string call, nint[] shape)
        {
            try
            {
                return new Subject<T>(call, shape);
            }
            catch (NotSupportedException)
            {
                return null;
            }
        }

        public string State => layer?.StateDict().Keys is [_, ..] keys ? string.Join(", ", keys.Select(key => $"`{key}`")) : "none";

        public double[] Forward(double[] x) => Read(Apply(Make(x)));

        public double[] Forward(double[] x, nint[] strides, out nint[] resultStrides)
        {
            Tensor<T> y = Apply(Tensors.WithStrides(Make(x), strides));
            resultStrides = y.Strides.ToArray();
            return Read(y);
        }

        public double[] Backward(double[] x, double[] dy) => Read(Differentiate(Make(x), Make(dy)));

        public double[] Backward(double[] x, double[] dy, nint[] strides, out nint[] resultStrides)
        {
            Tensor<T> dx = Differentiate(Tensors.WithStrides(Make(x), strides), Make(dy));
            resultStrides = dx.Strides.ToArray();
            return Read(dx);
        }

        public double[]? Jvp(double[] x, double[] t) => OrNull(layer => Read(layer.Jvp(PassOf(layer, x), Make(t))));

        public double[]? DoubleBackward(double[] x, double[] dy, double[] v) => OrNull(layer => Read(layer.DoubleBackward(Make(dy), PassOf(layer, x), Make(v)).Input));

        private Tensor<T> Apply(Tensor<T> x) => layer is null ? Functional.Normalize(x) : layer.Forward(x);

        private Tensor<T> Differentiate(Tensor<T> x, Tensor<T> dy)
        {
            if (layer is not null)
            {
                layer.Forward(x, out ForwardPass<T> pass);
                return layer.Backward(dy, pass);
            }
            Tensor<T> dx = Tensor.CreateFromShape<T>(shape);
            Functional.NormalizeBackward(dy.AsReadOnlyTensorSpan(), x.AsReadOnlyTensorSpan(), 2, 1, 1e-12, dx.AsTensorSpan());
            return dx;
        }

        private ForwardPass<T> PassOf(NormLayer<T> layer, double[] x)
        {
            layer.Forward(Make(x), out ForwardPass<T> pass);
            return pass;
        }

        private double[]? OrNull(Func<NormLayer<T>, double[]> derivative)
        {
            try
            {
                return layer is null ? null : derivative(layer);
            }
            catch (NotSupportedException)
            {
                return null;
            }
        }

        private Tensor<T> Make(double[] values) => Tensor.Create(Array.ConvertAll(values, Elements.FromDouble<T>), shape);

        private static double[] Read(Tensor<T> tensor) => Array.ConvertAll(Tensors.ToArray(tensor), Elements.ToDouble);
    }
}
