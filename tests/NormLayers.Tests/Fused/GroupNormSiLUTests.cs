using System.Numerics;
using System.Numerics.Tensors;
using NormLayers.Internals.Kernels;
using NormLayers.Tests.Golden;
using NormLayers.Tests.Gradients;
using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests.Fused;

/// <summary>GroupNorm and SiLU, against GroupNorm and SiLU in double.</summary>
public sealed class GroupNormSiLUTests
{
    /// <summary>Samples, channels, positions and groups; short groups, runs of one element and of many, and one that is streamed.</summary>
    public static TheoryData<int, int, int, int> Shapes => new()
    {
        { 2, 6, 1, 2 }, { 19, 4, 3, 2 }, { 2, 6, 21, 2 }, { 3, 64, 1, 1 }, { 2, 130, 1, 2 }, { 2, 6, 49, 3 }, { 1, 4, 1031, 2 }, { 2, 2, 5003, 2 }, { 1, 1, 150_001, 1 }, { 3, 32, 24_000, 8 },
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public void GroupNormSiLU_OfFloats_IsWithinTwoUlpOfTheComposition(int samples, int channels, int positions, int groups) => Check<float>(samples, channels, positions, groups, 2);

    [Theory]
    [MemberData(nameof(Shapes))]
    public void GroupNormSiLU_OfDoubles_IsWithinTheErrorOfTheReference(int samples, int channels, int positions, int groups) => Check<double>(samples, channels, positions, groups, 3);

    [Fact]
    public void GroupNormSiLU_OfLargeValues_IsWithinTwoUlp()
    {
        // Weights that spread the normalized values from -700 to 700: into the subnormals and beyond.
        float[] x = new Generator(8).Values<float>(4000), w = [200], b = [0];
        Tensor<float> input = Tensor.Create(x, [1, 1, 4000]), z = Functional.GroupNorm(input, 1, Tensor.Create(w), Tensor.Create(b)), y = Functional.GroupNormSiLU(input, 1, Tensor.Create(w), Tensor.Create(b));
        AssertSiLU(Tensors.ToArray(z), Tensors.ToArray(y), 2);
        double[] doubles = Tensors.ToArray(Functional.GroupNormSiLU(Tensor.Create([.. x.Select(value => (double)value)], [1, 1, 4000]), 1, Tensor.Create([600.0])));
        AssertSiLU(Tensors.ToArray(Functional.GroupNorm(Tensor.Create([.. x.Select(value => (double)value)], [1, 1, 4000]), 1, Tensor.Create([600.0]))), doubles, 3);
    }

    [Fact]
    public void GroupNormSiLU_OfAConstantOrNaNGroup_IsSiLUOfTheBiasOrNaN()
    {
        Tensor<float> x = Tensor.Create([3f, 3, 3, float.NaN, 1, 2], [1, 2, 3]);
        float[] y = Tensors.ToArray(Functional.GroupNormSiLU(x, 2, Tensor.Create([1f, 1]), Tensor.Create([2f, 2])));
        AssertSiLU([2f, 2, 2], y[..3], 2);
        Assert.All(y[3..], value => Assert.True(float.IsNaN(value)));
    }

    [Fact]
    public void GroupNormSiLUBackward_InDouble_IsTheDerivative()
    {
        foreach ((int channels, int positions, int groups) in new[] { (4, 3, 2), (6, 1, 2), (2, 40, 1) })
        {
            var generator = new Generator(9);
            nint[] shape = [2, channels, positions];
            double[] x = generator.Values<double>(2 * channels * positions), w = generator.Values<double>(channels), b = generator.Values<double>(channels), dy = generator.Values<double>(x.Length);
            double loss() => Differences.Dot(dy, Tensors.ToArray(Functional.GroupNormSiLU(Tensor.Create(x, shape), groups, Tensor.Create(w), Tensor.Create(b))));
            (double[] dx, double[] dw, double[] db) = Backward(x, dy, w, b, shape, groups, threads: 1, inPlace: false);
            Differences.AssertClose(Differences.Of(x, loss), dx);
            Differences.AssertClose(Differences.Of(w, loss), dw);
            Differences.AssertClose(Differences.Of(b, loss), db);
        }
    }

    /// <summary>Deviations whose reciprocal is beyond float's range: in short groups as in long ones what SiLU is applied to is made in double.</summary>
    [Fact]
    public void SiLUGradient_FarBelowZero_IsZero()
    {
        float[] z = [-200, -1000, -2900, -3100, -1e4f, -1e10f, float.MinValue];
        Assert.All(SiLUGradient(z, [.. z.Select(_ => 1f)]), dz => Assert.Equal(0, dz));
        double[] wide = [-2000, -1e5, -1e9, -1e30, double.MinValue];
        Assert.All(SiLUGradient(wide, [.. wide.Select(_ => 1.0)]), dz => Assert.Equal(0, dz));
    }

    [Fact]
    public void GroupNormSiLUBackward_AtTheEndsOfTheRange_IsThatOfDoubles()
    {
        foreach (int positions in new[] { 10, 30, 100 })
        {
            foreach (double scale in new[] { 1e-41, 1e-30, 1e30 })
            {
                var generator = new Generator(10);
                nint[] shape = [2, 1, positions];
                float[] x = generator.Values<float>(2 * positions, scale), dy = generator.Values<float>(2 * positions), w = [1.5f], b = [0.5f], dx = new float[x.Length], dw = new float[1], db = new float[1];
                double[] wideX = [.. x.Select(value => (double)value)], wideDy = [.. dy.Select(value => (double)value)], expected = new double[1], expectedBias = new double[1];
                var statistics = new GroupStatistics[2];
                Functional.GroupNorm(Span(x, shape), 1, default, default, 0, new TensorSpan<float>(dx, shape), statistics);
                Functional.GroupNormSiLUBackward(Span(dy, shape), Span(x, shape), 1, statistics, Span(w, [1]), Span(b, [1]), default, new TensorSpan<float>(dw, [1]), new TensorSpan<float>(db, [1]));
                Functional.GroupNorm(Span(wideX, shape), 1, default, default, 0, new TensorSpan<double>(new double[x.Length], shape), statistics);
                Functional.GroupNormSiLUBackward(Span(wideDy, shape), Span(wideX, shape), 1, statistics, Span([1.5], [1]), Span([0.5], [1]), default, new TensorSpan<double>(expected, [1]), new TensorSpan<double>(expectedBias, [1]));
                Assert.Equal(expected[0], dw[0], 1e-5 * positions);
                Assert.Equal(expectedBias[0], db[0], 1e-5 * positions);
            }
        }
    }

    [Fact]
    public void GroupNormSiLU_OfBadOperands_IsRefused()
    {
        static string Refusal(Action call) => Assert.ThrowsAny<ArgumentException>(call).Message;
        Tensor<float> x = Tensor.CreateFromShape<float>([2, 4, 3]);
        Assert.Contains("divisible by the number of groups 3", Refusal(() => Functional.GroupNormSiLU(x, 3)));
        Assert.Contains("Expected the statistics of 4 groups", Refusal(() => Functional.GroupNormSiLU(x.AsReadOnlyTensorSpan(), 2, default, default, 1e-5, x.AsTensorSpan(), new GroupStatistics[3])));
        Tensor<float> channelsLast = Tensors.WithStrides(x, [12, 1, 4]);
        Assert.Contains("Expected a row-major contiguous destination", Refusal(() => Functional.GroupNormSiLU(x.AsReadOnlyTensorSpan(), 2, default, default, 1e-5, channelsLast.AsTensorSpan())));
        Assert.Contains("Expected a row-major contiguous gradInput", Refusal(() => Functional.GroupNormSiLUBackward(x.AsReadOnlyTensorSpan(), x.AsReadOnlyTensorSpan(), 2, new GroupStatistics[4], default, default, channelsLast.AsTensorSpan(), default, default)));

        Tensor<float> bias = Tensor.CreateFromShape<float>([24]), other = Tensor.CreateFromShape<float>([24]);
        Assert.Contains("The gradInput may not overlap the bias.", Refusal(() => Backward(bias, other, other)));
        Assert.Contains("The gradWeight may not overlap the bias.", Refusal(() => Backward(other, bias, other)));
        Assert.Contains("The gradBias may not overlap the bias.", Refusal(() => Backward(other, other, bias)));

        void Backward(Tensor<float> gradInput, Tensor<float> gradWeight, Tensor<float> gradBias)
            => Functional.GroupNormSiLUBackward(x.AsReadOnlyTensorSpan(), x.AsReadOnlyTensorSpan(), 2, new GroupStatistics[4], default, bias.AsReadOnlyTensorSpan()[..4],
                gradInput.AsTensorSpan().Reshape([2, 4, 3]), gradWeight.AsTensorSpan()[..4], gradBias.AsTensorSpan()[..4]);
    }

    private static void Check<T>(int samples, int channels, int positions, int groups, double ulps) where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var generator = new Generator((ulong)(samples + channels + positions));
        nint[] shape = [samples, channels, positions];
        T[] x = generator.Values<T>(samples * channels * positions), w = generator.Values<T>(channels), b = generator.Values<T>(channels), dy = generator.Values<T>(x.Length), z = new T[x.Length];
        var statistics = new GroupStatistics[samples * groups];
        Functional.GroupNorm(Span(x, shape), groups, Span(w, [channels]), Span(b, [channels]), 1e-5, new TensorSpan<T>(z, shape), statistics);
        T[] y = new T[x.Length];
        var actual = new GroupStatistics[statistics.Length];
        Functional.GroupNormSiLU(Span(x, shape), groups, Span(w, [channels]), Span(b, [channels]), 1e-5, new TensorSpan<T>(y, shape), actual, 1);
        Assert.Equal(statistics.Select(group => (group.Mean, group.Rstd)), actual.Select(group => (group.Mean, group.Rstd)));
        AssertSiLU(z, y, ulps);
        T[] inPlace = [.. x];
        Functional.GroupNormSiLU(Span(inPlace, shape), groups, Span(w, [channels]), Span(b, [channels]), 1e-5, new TensorSpan<T>(inPlace, shape), maxThreads: 2);
        Assert.Equal(StoredBits.Hash(y), StoredBits.Hash(inPlace));

        // The backward: that of GroupNorm for SiLU's gradient.
        T[] dz = SiLUGradient(z, dy);
        T[] dx = new T[x.Length], dw = new T[channels], db = new T[channels];
        Functional.GroupNormBackward(Span(dz, shape), Span(x, shape), groups, statistics, Span(w, [channels]), new TensorSpan<T>(dx, shape), new TensorSpan<T>(dw, [channels]), new TensorSpan<T>(db, [channels]));
        (T[] one, T[] oneWeight, T[] oneBias) = Backward(x, dy, w, b, shape, groups, 1, inPlace: false);
        (T[] two, T[] twoWeight, T[] twoBias) = Backward(x, dy, w, b, shape, groups, 2, inPlace: true);
        Assert.Equal(StoredBits.Hash(one, oneWeight, oneBias), StoredBits.Hash(two, twoWeight, twoBias));
        if (positions > 1 && (typeof(T) == typeof(double) || channels / groups * positions >= 64))
        {
            Assert.Equal(StoredBits.Hash(dx, dw, db), StoredBits.Hash(one, oneWeight, oneBias));
            return;
        }
        // Several groups at once are added up in another order.
        AssertNear(dx, one);
        AssertNear(dw, oneWeight);
        AssertNear(db, oneBias);
    }

    private static void AssertSiLU<T>(T[] z, T[] y, double ulps) where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        for (int i = 0; i < z.Length; i++)
        {
            double at = double.CreateChecked(z[i]), expected = at < -700 ? at * Math.Exp(at / 2) * Math.Exp(at / 2) : at / (1 + Math.Exp(-at)), distance = Ulp.Distance<T>(double.CreateChecked(y[i]), expected, expected);
            if (!(distance <= ulps))
                Assert.Fail($"SiLU of {at:R} is {y[i]}, expected {expected:R}: {distance:G3} ulp");
        }
    }

    /// <summary>The library's own gradient, checked against double: each of its factors has some roundings of terms up to |dy| · (1 + |z| · (1 - σ)).</summary>
    private static unsafe T[] SiLUGradient<T>(T[] z, T[] dy) where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        // For doubles the reference itself is rounded as often.
        double allowed = typeof(T) == typeof(float) ? 4 : 8;
        T[] dz = [.. z];
        fixed (T* gradient = dy, result = dz)
            RowNorm.SiLUBackward(gradient, result, dz.Length);
        for (int i = 0; i < z.Length; i++)
        {
            double at = double.CreateChecked(z[i]), g = double.CreateChecked(dy[i]), sigmoid = 1 / (1 + Math.Exp(-at)), opposite = 1 / (1 + Math.Exp(at));
            double expected = g * sigmoid * (1 + at * opposite), distance = Ulp.Distance<T>(double.CreateChecked(dz[i]), expected, Math.Abs(g) * sigmoid * (1 + Math.Abs(at) * opposite));
            if (!(distance <= allowed))
                Assert.Fail($"the gradient of SiLU at {at:R} for {g:R} is {dz[i]}, expected {expected:R}: {distance:G3} ulp");
        }
        return dz;
    }

    private static void AssertNear<T>(T[] expected, T[] actual) where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        double tolerance = Ulp.Of<T>(expected.Max(value => Math.Abs(double.CreateChecked(value))));
        for (int i = 0; i < expected.Length; i++)
            if (!(Math.Abs(double.CreateChecked(expected[i] - actual[i])) <= tolerance))
                Assert.Fail($"element {i} is {actual[i]}, expected {expected[i]} within {tolerance:G3}");
    }

    internal static (T[] Dx, T[] Dw, T[] Db) Backward<T>(T[] x, T[] dy, T[] w, T[] b, nint[] shape, int groups, int threads, bool inPlace) where T : unmanaged
    {
        nint[] channels = [shape[1]];
        T[] dx = inPlace ? [.. dy] : new T[x.Length], dw = new T[shape[1]], db = new T[shape[1]];
        var statistics = new GroupStatistics[shape[0] * groups];
        Functional.GroupNorm(Span(x, shape), groups, Span(w, channels), Span(b, channels), 1e-5, new TensorSpan<T>(new T[x.Length], shape), statistics);
        Functional.GroupNormSiLUBackward(inPlace ? Span(dx, shape) : Span(dy, shape), Span(x, shape), groups, statistics, Span(w, channels), Span(b, channels), new TensorSpan<T>(dx, shape), new TensorSpan<T>(dw, channels), new TensorSpan<T>(db, channels), threads);
        return (dx, dw, db);
    }

    private static ReadOnlyTensorSpan<T> Span<T>(T[] values, nint[] shape) => new(values, shape);
}
