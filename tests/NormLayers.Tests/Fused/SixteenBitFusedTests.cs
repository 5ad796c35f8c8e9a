using System.Numerics.Tensors;
using NormLayers.Tests.Golden;
using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests.Fused;

/// <summary>The fused forms of 16-bit elements, against those of the same values as floats: what is left is one rounding.</summary>
public sealed class SixteenBitFusedTests
{
    /// <summary>Samples, rows of a sample, and the length of a row: short rows, rows in pairs and past them, blocks, and one that is streamed.</summary>
    public static TheoryData<int, int, int> Shapes => new()
    {
        { 1, 1, 5 }, { 3, 21, 7 }, { 2, 5, 63 }, { 4, 1, 64 }, { 2, 40, 128 }, { 2, 9, 1000 }, { 2, 1, 70_001 }, { 3, 700, 1031 },
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public void AddNormBackward_OfHalves_IsThatOfFloatsRounded(int samples, int rows, int length) => CheckAddNorm<Half>(samples * rows, length);

    [Theory]
    [MemberData(nameof(Shapes))]
    public void AddNormBackward_OfBFloat16s_IsThatOfFloatsRounded(int samples, int rows, int length) => CheckAddNorm<BFloat16>(samples * rows, length);

    [Theory]
    [MemberData(nameof(Shapes))]
    public void AdaptiveLayerNorm_OfHalves_IsThatOfFloatsRounded(int samples, int rows, int length) => CheckAdaptive<Half>(samples, rows, length);

    [Theory]
    [MemberData(nameof(Shapes))]
    public void AdaptiveLayerNorm_OfBFloat16s_IsThatOfFloatsRounded(int samples, int rows, int length) => CheckAdaptive<BFloat16>(samples, rows, length);

    [Theory]
    [MemberData(nameof(GroupNormSiLUTests.Shapes), MemberType = typeof(GroupNormSiLUTests))]
    public void GroupNormSiLU_OfHalves_IsThatOfFloatsRounded(int samples, int channels, int positions, int groups) => CheckGroupNormSiLU<Half>(samples, channels, positions, groups);

    [Theory]
    [MemberData(nameof(GroupNormSiLUTests.Shapes), MemberType = typeof(GroupNormSiLUTests))]
    public void GroupNormSiLU_OfBFloat16s_IsThatOfFloatsRounded(int samples, int channels, int positions, int groups) => CheckGroupNormSiLU<BFloat16>(samples, channels, positions, groups);

    private static void CheckAddNorm<T>(int rows, int length) where T : unmanaged
    {
        var generator = new Generator((ulong)(rows + length));
        nint[] shape = [rows, length], row = [length];
        T[] x = generator.Values<T>(rows * length), r = generator.Values<T>(x.Length), w = generator.Values<T>(length), dy = generator.Values<T>(x.Length), dsum = generator.Values<T>(x.Length);
        foreach (bool centered in new[] { true, false })
        {
            T[] sum = new T[x.Length], y = new T[x.Length], dx = new T[x.Length], dw = new T[length], db = new T[length];
            float[] floatY = new float[x.Length], floatDx = new float[x.Length], floatDw = new float[length], floatDb = new float[length];
            var statistics = new GroupStatistics[rows];
            if (centered)
            {
                Functional.AddLayerNorm(Span(x, shape), Span(r, shape), row, Span(w, row), default, 1e-5, new TensorSpan<T>(sum, shape), new TensorSpan<T>(y, shape), statistics);
                Functional.AddLayerNormBackward(Span(dy, shape), Span(dsum, shape), Span(sum, shape), row, statistics, Span(w, row), new TensorSpan<T>(dx, shape), new TensorSpan<T>(dw, row), new TensorSpan<T>(db, row));
                Functional.LayerNorm(Floats(sum, shape), row, Floats(w, row), default, 1e-5, new TensorSpan<float>(floatY, shape), statistics);
                Functional.AddLayerNormBackward(Floats(dy, shape), Floats(dsum, shape), Floats(sum, shape), row, statistics, Floats(w, row), new TensorSpan<float>(floatDx, shape), new TensorSpan<float>(floatDw, row), new TensorSpan<float>(floatDb, row));
            }
            else
            {
                Functional.AddRMSNorm(Span(x, shape), Span(r, shape), row, Span(w, row), null, new TensorSpan<T>(sum, shape), new TensorSpan<T>(y, shape), statistics);
                Functional.AddRMSNormBackward(Span(dy, shape), Span(dsum, shape), Span(sum, shape), row, statistics, Span(w, row), new TensorSpan<T>(dx, shape), new TensorSpan<T>(dw, row));
                Functional.RMSNorm(Floats(sum, shape), row, Floats(w, row), null, new TensorSpan<float>(floatY, shape), statistics);
                Functional.AddRMSNormBackward(Floats(dy, shape), Floats(dsum, shape), Floats(sum, shape), row, statistics, Floats(w, row), new TensorSpan<float>(floatDx, shape), new TensorSpan<float>(floatDw, row));
            }
            AssertRounded(floatY, y);
            AssertRounded(floatDx, dx, dsum);
            AssertRounded(floatDw, dw);
            AssertRounded(floatDb, db);
        }
    }

    private static void CheckAdaptive<T>(int samples, int rows, int length) where T : unmanaged
    {
        var generator = new Generator((ulong)(samples + rows + length));
        nint[] shape = [samples, rows, length], row = [length], parameters = [samples, length];
        T[] x = generator.Values<T>(samples * rows * length), scale = generator.Values<T>(samples * length), shift = generator.Values<T>(scale.Length), dy = generator.Values<T>(x.Length);
        float[] floatY = new float[x.Length], floatDx = new float[x.Length], floatScale = new float[scale.Length], floatShift = new float[scale.Length];
        var statistics = new GroupStatistics[samples * rows];
        Functional.AdaptiveLayerNorm(Floats(x, shape), row, Floats(scale, parameters), Floats(shift, parameters), 1e-6, new TensorSpan<float>(floatY, shape), statistics);
        Functional.AdaptiveLayerNormBackward(Floats(dy, shape), Floats(x, shape), row, statistics, Floats(scale, parameters), new TensorSpan<float>(floatDx, shape), new TensorSpan<float>(floatScale, parameters), new TensorSpan<float>(floatShift, parameters));
        string? bits = null;
        for (int threads = 1; threads <= 2; threads++)
        {
            T[] y = [.. x], dx = [.. dy], gradScale = new T[scale.Length], gradShift = new T[scale.Length];
            Functional.AdaptiveLayerNorm(Span(y, shape), row, Span(scale, parameters), Span(shift, parameters), 1e-6, new TensorSpan<T>(y, shape), statistics, threads);
            Functional.AdaptiveLayerNormBackward(Span(dx, shape), Span(x, shape), row, statistics, Span(scale, parameters), new TensorSpan<T>(dx, shape), new TensorSpan<T>(gradScale, parameters), new TensorSpan<T>(gradShift, parameters), threads);
            AssertRounded(floatY, y);
            AssertRounded(floatDx, dx);
            AssertRounded(floatScale, gradScale);
            AssertRounded(floatShift, gradShift);
            string hash = StoredBits.Hash(y, dx, gradScale, gradShift);
            Assert.Equal(bits ?? hash, hash);
            bits = hash;
        }
    }

    private static void CheckGroupNormSiLU<T>(int samples, int channels, int positions, int groups) where T : unmanaged
    {
        var generator = new Generator((ulong)(samples + channels + positions));
        nint[] shape = [samples, channels, positions], parameters = [channels];
        T[] x = generator.Values<T>(samples * channels * positions), w = generator.Values<T>(channels), b = generator.Values<T>(channels), dy = generator.Values<T>(x.Length);
        float[] floatY = new float[x.Length];
        Functional.GroupNormSiLU(Floats(x, shape), groups, Floats(w, parameters), Floats(b, parameters), 1e-5, new TensorSpan<float>(floatY, shape));
        (float[] floatDx, float[] floatDw, float[] floatDb) = GroupNormSiLUTests.Backward(Widened(x), Widened(dy), Widened(w), Widened(b), shape, groups, threads: 1, inPlace: false);
        string? bits = null;
        for (int threads = 1; threads <= 2; threads++)
        {
            T[] y = [.. x];
            Functional.GroupNormSiLU(Span(y, shape), groups, Span(w, parameters), Span(b, parameters), 1e-5, new TensorSpan<T>(y, shape), maxThreads: threads);
            (T[] dx, T[] dw, T[] db) = GroupNormSiLUTests.Backward(x, dy, w, b, shape, groups, threads, inPlace: threads == 2);
            AssertRounded(floatY, y);
            AssertRounded(floatDx, dx);
            AssertRounded(floatDw, dw);
            AssertRounded(floatDb, db);
            string hash = StoredBits.Hash(y, dx, dw, db);
            Assert.Equal(bits ?? hash, hash);
            bits = hash;
        }
    }

    /// <summary>
    /// Half an ulp of the 16-bit type, and the few of floats by which sums in another order may differ. What was added to gradients may
    /// have been added to rounded ones.
    /// </summary>
    private static void AssertRounded<T>(float[] expected, T[] actual, T[]? added = null) where T : unmanaged
    {
        double noise = 16 * Ulp.Of<float>(expected.Max(Math.Abs));
        for (int i = 0; i < expected.Length; i++)
        {
            double value = Numbers.ToDouble(actual[i]), tolerance = 0.5 * Ulp.Of<T>(expected[i]) + noise;
            if (added != null)
                tolerance += 0.5 * Ulp.Of<T>(expected[i] - Numbers.ToDouble(added[i]));
            if (!(Math.Abs(value - expected[i]) <= tolerance))
                Assert.Fail($"element {i} of {expected.Length} is {value:R}, expected {expected[i]:R} within {tolerance:G3}");
        }
    }

    private static float[] Widened<T>(T[] values) where T : unmanaged => [.. values.Select(value => (float)Numbers.ToDouble(value))];

    private static ReadOnlyTensorSpan<float> Floats<T>(T[] values, nint[] shape) where T : unmanaged => new(Widened(values), shape);

    private static ReadOnlyTensorSpan<T> Span<T>(T[] values, nint[] shape) => new(values, shape);
}
