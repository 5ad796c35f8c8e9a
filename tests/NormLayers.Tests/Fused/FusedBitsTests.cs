using System.Globalization;
using System.Numerics.Tensors;
using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests.Fused;

/// <summary>The bits of the fused forms' outputs and gradients against those of bits.tsv.</summary>
public sealed class FusedBitsTests
{
    [Fact]
    public void FusedForms_OfEveryCase_HaveTheStoredBits() => StoredBits.Check("Fused", Rows<float>("float").Concat(Rows<double>("double")).Concat(Rows<Half>("half")).Concat(Rows<BFloat16>("bfloat16")));

    private static IEnumerable<(string Name, string Hash)> Rows<T>(string type) where T : unmanaged
    {
        foreach (int length in new[] { 7, 65, 5003 })
        {
            var generator = new Generator((ulong)length);
            nint[] shape = [2, 4, length], row = [length], perSample = [2, length];
            T[] x = generator.Values<T>(8 * length), r = generator.Values<T>(8 * length), dy = generator.Values<T>(8 * length), w = generator.Values<T>(length), b = generator.Values<T>(length);
            T[] scale = generator.Values<T>(2 * length), shift = generator.Values<T>(2 * length), sum = new T[x.Length], y = new T[x.Length], dx = new T[x.Length], dw = new T[length], db = new T[length];
            var statistics = new GroupStatistics[8];
            (string, string) Row(string name, params T[][] results) => (string.Create(CultureInfo.InvariantCulture, $"{type} {name} {length}"), StoredBits.Hash(results));

            Functional.AddLayerNorm(Span(x, shape), Span(r, shape), row, Span(w, row), Span(b, row), 1e-5, new TensorSpan<T>(sum, shape), new TensorSpan<T>(y, shape), statistics);
            Functional.AddLayerNormBackward(Span(dy, shape), Span(r, shape), Span(sum, shape), row, statistics, Span(w, row), new TensorSpan<T>(dx, shape), new TensorSpan<T>(dw, row), new TensorSpan<T>(db, row));
            yield return Row("AddLayerNorm", sum, y, dx, dw, db);

            Functional.AddRMSNorm(Span(x, shape), Span(r, shape), row, Span(w, row), 1e-5, new TensorSpan<T>(sum, shape), new TensorSpan<T>(y, shape), statistics);
            dw.AsSpan().Clear();
            Functional.AddRMSNormBackward(Span(dy, shape), Span(r, shape), Span(sum, shape), row, statistics, Span(w, row), new TensorSpan<T>(dx, shape), new TensorSpan<T>(dw, row));
            yield return Row("AddRMSNorm", sum, y, dx, dw);

            T[] dscale = new T[scale.Length], dshift = new T[scale.Length];
            Functional.AdaptiveLayerNorm(Span(x, shape), row, Span(scale, perSample), Span(shift, perSample), 1e-6, new TensorSpan<T>(y, shape), statistics);
            Functional.AdaptiveLayerNormBackward(Span(dy, shape), Span(x, shape), row, statistics, Span(scale, perSample), new TensorSpan<T>(dx, shape), new TensorSpan<T>(dscale, perSample), new TensorSpan<T>(dshift, perSample));
            yield return Row("AdaptiveLayerNorm", y, dx, dscale, dshift);

            T[] weight = w[..4], bias = b[..4];
            Functional.GroupNormSiLU(Span(x, shape), 2, Span(weight, [4]), Span(bias, [4]), 1e-5, new TensorSpan<T>(y, shape));
            (T[] dxs, T[] dws, T[] dbs) = GroupNormSiLUTests.Backward(x, dy, weight, bias, shape, 2, 1, inPlace: false);
            yield return Row("GroupNormSiLU", y, dxs, dws, dbs);
        }
    }

    private static ReadOnlyTensorSpan<T> Span<T>(T[] values, nint[] shape) => new(values, shape);
}
