using System.Globalization;
using System.Numerics;
using System.Numerics.Tensors;
using System.Text.Json;
using NormLayers.Tests.Golden;
using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests;

/// <summary>The division by the p-norm: golden cases, every length along neighbouring and distant elements, gradients, and refusals.</summary>
public abstract class NormalizeTests<T>(string dtype) where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private static readonly double[] exponents = [2, 1, 0, double.PositiveInfinity, double.NegativeInfinity, 3, 1.5, 0.5, -1];

    /// <summary>Sums in double and one rounding; other powers have the error of their power function.</summary>
    private static readonly double allowed = typeof(T) == typeof(float) ? 1 : 16;

    [Fact]
    public void Normalize_EveryGoldenCase_IsWithinBound()
    {
        int outputs = 0, gradients = 0;
        foreach (GoldenCase golden in GoldenFile.Open($"normalize.{dtype}").Cases)
        {
            (double p, int dim) = (Exponent(golden.Args.GetProperty("p")), golden.Args.GetProperty("dim").GetInt32());
            Tensor<T> input = golden.ReadInput<T>();
            double[] exact = Tensors.ToArray(golden.Read<double>("output_f64"));
            T[] actual = Tensors.ToArray(Functional.Normalize(input, p, dim, golden.Eps));
            for (int i = 0; i < exact.Length; i++)
                AssertWithin(exact[i], exact[i], actual[i], allowed, $"{golden.Name} output {i}");
            outputs++;
            if (!golden.Has("grad_input_f64"))
                continue;
            exact = Tensors.ToArray(golden.Read<double>("grad_input_f64"));
            actual = Backward(Tensors.ToArray(input), Tensors.ToArray(golden.Read<T>("grad_output")), input.Lengths, p, dim, golden.Eps);
            double largest = exact.Select(Math.Abs).Max(), terms = Tensors.ToArray(golden.Read<T>("grad_output")).Max(value => Math.Abs(double.CreateChecked(value)));
            for (int i = 0; i < exact.Length; i++)
                AssertWithin(exact[i], Math.Max(largest, terms), actual[i], 4 * allowed, $"{golden.Name} grad_input {i}");
            gradients++;
        }
        Assert.Equal((26, 17), (outputs, gradients));
    }

    [Fact]
    public void Normalize_EveryLengthAndExponent_IsTheFormula()
    {
        foreach (double p in exponents)
        {
            for (int n = 0; n <= 257; n += n < 70 || p == 2 ? 1 : 17)
            {
                Check([3, n], 1, p, (ulong)n);
                Check([2, n, 3], 1, p, (ulong)n);
                Check([2, 5, n], -2, p, (ulong)n);
            }
        }
        Check([2, 3, 40, 41], 1, 2, 1);
        Check([7, 300], 0, 1, 2);
    }

    [Fact]
    public void NormalizeBackward_OfEveryExponent_IsTheDerivative()
    {
        foreach (double p in exponents)
        {
            foreach ((nint[] shape, int dim) in new[] { (new nint[] { 2, 19 }, 1), ([2, 5, 3], 1), ([4], 0) })
            {
                var generator = new Generator(5);
                int count = (int)NormCase.Product(shape);
                double[] x = generator.Values<double>(count), dy = generator.Values<double>(count);
                // Away from zero, where powers have no derivative.
                for (int i = 0; i < count; i++)
                    x[i] += Math.CopySign(0.5, x[i]);
                double[] actual = Backward(x, dy, shape, p, dim, 1e-12);
                for (int i = 0; i < count; i++)
                {
                    double at = x[i], h = 1e-3;
                    double Loss(double step)
                    {
                        x[i] = at + step;
                        double[] y = Tensors.ToArray(Functional.Normalize(Tensor.Create([.. x], shape), p, dim));
                        x[i] = at;
                        return y.Zip(dy, (a, b) => a * b).Sum();
                    }
                    double expected = (8 * (Loss(h) - Loss(-h)) - (Loss(2 * h) - Loss(-2 * h))) / (12 * h);
                    Assert.True(Math.Abs(expected - actual[i]) <= 1e-8 * (1 + Math.Abs(expected)), $"p {p} element {i} of {count}: {actual[i]}, difference quotient {expected}");
                }
                T[] narrow = Backward(Array.ConvertAll(x, T.CreateTruncating), Array.ConvertAll(dy, T.CreateTruncating), shape, p, dim, 1e-12);
                for (int i = 0; i < count; i++)
                    Assert.Equal(actual[i], double.CreateTruncating(narrow[i]), 2e-6 * (1 + Math.Abs(actual[i])));
            }
        }
    }

    [Fact]
    public void NormalizeBackward_AtTiesAndBelowEps_IsPyTorchs()
    {
        // d = 2, y = (1, -1, 0.5), sum of dy · y = 1 - 2 + 1.5 = 0.5, shared by the two largest.
        Assert.Equal([0.375, 1.125, 1.5], Backward([2.0, -2, 1], [1, 2, 3], [3], double.PositiveInfinity, 0, 1e-12));
        // Both norms are less than eps: a division by a constant.
        Assert.Equal([10, 20], Backward([1e-3, 0], [1.0, 2], [2], 2, 0, 0.1));
        // A norm of just eps moves, along neighbouring and distant elements.
        Assert.Equal([16, -12], Backward([3.0, 4], [125, 0], [2], 2, 0, 5));
        Assert.Equal([16, 16, -12, -12], Backward([3.0, 3, 4, 4], [125, 125, 0, 0], [2, 2], 2, 0, 5));
        // A zero beside others, for an exponent below one: no infinity.
        Assert.All(Backward([0.0, 4], [1, 1], [2], 0.5, 0, 1e-12), value => Assert.True(double.IsFinite(value)));
    }

    [Fact]
    public void Normalize_ALargeElementBesideSmallOnesOfOtherNorms_IsScaledByItsOwn()
    {
        T large = T.CreateTruncating(typeof(T) == typeof(double) ? 5e200 : 5e30);
        T[] y = Tensors.ToArray(Functional.Normalize(Tensor.Create([T.Zero, T.One, large, T.Zero], [2, 2]), dim: 0));
        Assert.Equal([T.Zero, T.One, T.One, T.Zero], y);
    }

    [Fact]
    public void Normalize_OfWhatHasNoNorm_FollowsPyTorch()
    {
        T one = T.One, inf = T.PositiveInfinity, nan = T.NaN;
        Assert.Equal([T.Zero, T.Zero], Run([T.Zero, T.Zero], 2));
        Assert.Equal([T.Zero, nan], Run([one, inf], 2));
        Assert.Equal([nan, nan], Run([one, nan], 2));
        Assert.Equal([nan, nan], Run([one, nan], double.PositiveInfinity));
        Assert.Equal([nan, nan], Run([nan, one], double.NegativeInfinity));
        Assert.Equal([one, one], Run([one, one], double.NegativeInfinity));
        T huge = typeof(T) == typeof(float) ? T.CreateTruncating(3e38) : T.CreateTruncating(1e308);
        foreach (double p in new[] { 2, 3, 1.5 })
            Assert.Equal(Math.Pow(0.5, 1 / p), double.CreateTruncating(Run([huge, -huge], p)[0]), 1e-6);

        static T[] Run(T[] x, double p) => Tensors.ToArray(Functional.Normalize(Tensor.Create(x, [1, x.Length]), p));
    }

    [Fact]
    public void Normalize_OfPowersOutsideDoublesRange_IsThatOfOrdinaryElementsScaled()
    {
        var generator = new Generator(11);
        double[] x = generator.Values<double>(2 * 19 * 3), dy = generator.Values<double>(x.Length);
        nint[] shape = [2, 19, 3];
        foreach (double p in new[] { 3, 10, 100, 1000, -1, -2, -20, 1.5 })
        {
            foreach (int exponent in typeof(T) == typeof(float) ? new[] { -100, -40, 40, 100 } : [-900, -300, 300, 900])
            {
                // A power of two is taken out exactly.
                T[] ordinary = Array.ConvertAll(x, T.CreateTruncating), scaled = Array.ConvertAll(ordinary, value => T.ScaleB(value, exponent));
                T[] y = Tensors.ToArray(Functional.Normalize(Tensor.Create(ordinary, shape), p, eps: 0)), actual = Tensors.ToArray(Functional.Normalize(Tensor.Create(scaled, shape), p, eps: 0));
                T[] dx = Backward(ordinary, Array.ConvertAll(dy, T.CreateTruncating), shape, p, 1, 0), gradient = Backward(scaled, Array.ConvertAll(dy, T.CreateTruncating), shape, p, 1, 0);
                double tolerance = typeof(T) == typeof(float) ? 1e-6 : 1e-11;
                double largest = dx.Max(value => Math.Abs(double.CreateChecked(value)));
                for (int i = 0; i < y.Length; i++)
                {
                    Assert.Equal(double.CreateChecked(y[i]), double.CreateChecked(actual[i]), tolerance * (1 + Math.Abs(double.CreateChecked(y[i]))));
                    Assert.Equal(double.CreateChecked(dx[i]), double.CreateChecked(T.ScaleB(gradient[i], exponent)), tolerance * largest);
                }
            }
        }
    }

    [Fact]
    public void Normalize_OnAnyThreadsStridesAndInPlace_HasTheSameBits()
    {
        nint[] shape = [37, 64, 151];
        T[] x = new Generator(9).Values<T>(37 * 64 * 151), dy = new Generator(10).Values<T>(x.Length);
        foreach (int dim in new[] { 0, 1, 2 })
        {
            T[] expected = new T[x.Length], gradient = Backward(x, dy, shape, 2, dim, 1e-12);
            Functional.Normalize(new ReadOnlyTensorSpan<T>(x, shape), 2, dim, 1e-12, new TensorSpan<T>(expected, shape), maxThreads: 1);
            T[] inPlace = [.. x];
            Functional.Normalize(new ReadOnlyTensorSpan<T>(inPlace, shape), 2, dim, 1e-12, new TensorSpan<T>(inPlace, shape), maxThreads: 3);
            Assert.True(expected.AsSpan().SequenceEqual(inPlace));
            T[] strided = Tensors.ToArray(Functional.Normalize(Tensors.WithStrides(Tensor.Create(x, shape), [1, 37 * 151, 37]), 2, dim));
            Assert.True(expected.AsSpan().SequenceEqual(strided));
            T[] onDy = [.. dy];
            Functional.NormalizeBackward(new ReadOnlyTensorSpan<T>(onDy, shape), new ReadOnlyTensorSpan<T>(x, shape), 2, dim, 1e-12, new TensorSpan<T>(onDy, shape), maxThreads: 1);
            Assert.True(gradient.AsSpan().SequenceEqual(onDy));
        }
    }

    [Fact]
    public void Normalize_OfWhatDoesNotFit_IsRefused()
    {
        Tensor<T> x = Tensor.Create(new T[6], [2, 3]);
        Assert.Contains("from -2 to 1", Assert.Throws<ArgumentOutOfRangeException>("dim", () => Functional.Normalize(x, dim: 2)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>("p", () => Functional.Normalize(x, double.NaN));
        Assert.Throws<ArgumentException>("destination", () => Functional.Normalize(x.AsReadOnlyTensorSpan(), 2, 1, 1e-12, Tensor.Create(new T[6], [3, 2]).AsTensorSpan()));
        Assert.Throws<ArgumentException>("gradOutput", () => Functional.NormalizeBackward(Tensor.Create(new T[6], [3, 2]).AsReadOnlyTensorSpan(), x.AsReadOnlyTensorSpan(), 2, 1, 1e-12, x.AsTensorSpan()));
    }

    private static void Check(nint[] shape, int dim, double p, ulong seed)
    {
        int count = (int)NormCase.Product(shape), dimension = dim < 0 ? dim + shape.Length : dim;
        T[] x = new Generator(seed).Values<T>(count);
        T[] actual = Tensors.ToArray(Functional.Normalize(Tensor.Create(x, shape), p, dim));
        int n = (int)shape[dimension], inner = (int)NormCase.Product(shape.AsSpan(dimension + 1));
        for (int i = 0; i < count; i++)
        {
            int first = i / (n * inner) * (n * inner) + i % inner;
            double[] magnitudes = [.. Enumerable.Range(0, n).Select(k => Math.Abs(double.CreateTruncating(x[first + k * inner])))];
            double norm = p == 0 ? magnitudes.Count(value => value != 0) : double.IsPositiveInfinity(p) ? magnitudes.Max() : double.IsNegativeInfinity(p) ? magnitudes.Min()
                : Math.Pow(magnitudes.Sum(value => Math.Pow(value, p)), 1 / p);
            double expected = double.CreateTruncating(x[i]) / Math.Max(norm, 1e-12);
            AssertWithin(expected, expected, actual[i], 2 * allowed + Math.Sqrt(n), $"[{string.Join(", ", shape)}] dim {dim} p {p} element {i}");
        }
    }

    private static TElement[] Backward<TElement>(TElement[] x, TElement[] dy, ReadOnlySpan<nint> shape, double p, int dim, double eps) where TElement : unmanaged
    {
        var result = new TElement[x.Length];
        Functional.NormalizeBackward(new ReadOnlyTensorSpan<TElement>(dy, shape), new ReadOnlyTensorSpan<TElement>(x, shape), p, dim, eps, new TensorSpan<TElement>(result, shape));
        return result;
    }

    private static double Exponent(JsonElement p)
        => p.ValueKind == JsonValueKind.Number ? p.GetDouble() : p.GetString() == "inf" ? double.PositiveInfinity : double.NegativeInfinity;

    private static void AssertWithin(double expected, double magnitude, T actual, double ulps, string context)
    {
        double error = Ulp.Distance<T>(double.CreateChecked(actual), expected, magnitude);
        if (!(error <= ulps))
            Assert.Fail(string.Create(CultureInfo.InvariantCulture, $"{context}: {actual}, expected {expected:R}: {error:G4} ulp, allowed {ulps}"));
    }
}

public sealed class FloatNormalizeTests() : NormalizeTests<float>("float32");

public sealed class DoubleNormalizeTests() : NormalizeTests<double>("float64");
