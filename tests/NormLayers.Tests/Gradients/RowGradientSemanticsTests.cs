using System.Numerics;
using System.Numerics.Tensors;
using NormLayers.Tests.Golden;
using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests.Gradients;

/// <summary>What the gradients of LayerNorm and GroupNorm are at the edges: constant groups, offsets, NaN, and nothing at all.</summary>
public abstract class RowGradientSemanticsTests<T> where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    [Fact]
    public void WeightGradient_OfConstantGroups_IsExactlyZero()
    {
        for (int length = 1; length <= 40; length++)
        {
            foreach (double constant in (double[])[0, 0.1, -3, 1e6 + 1.0 / 3, -1e30, 1e-30])
            {
                foreach (NormCase norm in new NormCase[] { new("LayerNorm", 1, 3, length) { Weight = true }, new("GroupNorm", 2, 2, 4, length) { Weight = true }, new("GroupNorm", 2, 3, 2 * length) })
                {
                    var generator = new Generator((ulong)length);
                    Operands<T> operands = norm.Make<T>(generator) with { X = [.. Enumerable.Repeat(T.CreateTruncating(constant), norm.Count)] };
                    T[] dy = generator.Values<T>(norm.Count);
                    Gradients<T> gradients = norm.Backward(operands, dy);
                    Assert.All(gradients.Weight!, value => Assert.Equal(T.Zero, value));
                    GradientReference.AssertNear(GradientReference.Backward(norm, operands, dy).Input, gradients.Input!, $"{norm} of {constant}");
                }
            }
        }
    }

    [Fact]
    public void WeightGradient_OfLargeElementsAndGradients_IsFinite()
    {
        // Their products are beyond float; the normalized values are 1 and -1.
        foreach (int positions in (int[])[64, 300])
        {
            var norm = new NormCase("GroupNorm", 1, 2, 2, positions) { Weight = true, Bias = true, Eps = 0 };
            Operands<T> operands = norm.Make<T>(new Generator(1)) with { X = [.. Enumerable.Range(0, norm.Count).Select(i => T.CreateTruncating(i % 2 == 0 ? 1e13 : -1e13))] };
            T[] dy = [.. Enumerable.Range(0, norm.Count).Select(i => T.CreateTruncating(i % 2 == 0 ? 1e28 : -1e28))];
            double expected = 2 * positions * double.CreateChecked(dy[0]);
            Assert.All(norm.Backward(operands, dy).Weight!, value => Assert.Equal(expected, double.CreateChecked(value), expected * 1e-6));
        }
    }

    [Fact]
    public void Gradients_OfGroupsOfOne_AreExactlyZeroButTheBiass()
    {
        foreach (NormCase norm in new NormCase[] { new("LayerNorm", 1, 5, 1) { Weight = true, Bias = true }, new("GroupNorm", 4, 3, 4) { Weight = true, Bias = true }, new("GroupNorm", 3, 2, 3, 1) })
        {
            var generator = new Generator(1);
            Operands<T> operands = norm.Make<T>(generator, 1, 10);
            T[] dy = generator.Values<T>(norm.Count);
            Gradients<T> gradients = norm.Backward(operands, dy);
            Assert.All(gradients.Input!, value => Assert.Equal(T.Zero, value));
            Assert.All(gradients.Weight!, value => Assert.Equal(T.Zero, value));
            GradientReference.AssertNear(GradientReference.Backward(norm, operands, dy).Bias, gradients.Bias!, norm.ToString());
        }
    }

    [Fact]
    public void Gradients_OfRowsAtAnOffset_AreThoseWithoutIt()
    {
        foreach (NormCase norm in new NormCase[] { new("LayerNorm", 1, 5, 133) { Weight = true }, new("GroupNorm", 2, 3, 4, 29) { Weight = true }, new("LayerNorm", 1, 2, 2500) })
        {
            var generator = new Generator(2);
            Operands<T> operands = norm.Make<T>(generator);
            // Sixteenths: what a float can hold beside a million.
            T sixteen = T.CreateChecked(16);
            T[] x = Array.ConvertAll(operands.X, value => T.Round(value * sixteen) / sixteen), dy = generator.Values<T>(norm.Count);
            Gradients<T> near = norm.Backward(operands with { X = x }, dy);
            foreach (int offset in (int[])[1_000_000, -777_777])
            {
                Gradients<T> far = norm.Backward(operands with { X = Array.ConvertAll(x, value => value + T.CreateChecked(offset)) }, dy);
                AssertClose(near.Input!, far.Input!);
                AssertClose(near.Weight!, far.Weight!);
                Assert.Equal(near.Bias, far.Bias);
            }
        }

        static void AssertClose(T[] expected, T[] actual)
        {
            double largest = GradientRun.Widen(expected).Max(Math.Abs), allowed = typeof(T) == typeof(float) ? 4 : 64;
            for (int i = 0; i < expected.Length; i++)
                Assert.True(Ulp.Distance<T>(double.CreateTruncating(actual[i]), double.CreateTruncating(expected[i]), largest) <= allowed, $"{i}: {actual[i]} at the offset, {expected[i]} without");
        }
    }

    [Fact]
    public void NaN_InOneGroup_StaysInItsInputGradientsAndItsWeights()
    {
        foreach (NormCase norm in new NormCase[] { new("LayerNorm", 1, 5, 37) { Weight = true }, new("GroupNorm", 2, 3, 4, 7) { Weight = true }, new("GroupNorm", 2, 3, 8), new("LayerNorm", 1, 6, 33001) { Weight = true } })
        {
            foreach (T poison in (T[])[T.NaN, T.PositiveInfinity])
            {
                var generator = new Generator(3);
                Operands<T> operands = norm.Make<T>(generator);
                T[] dy = generator.Values<T>(norm.Count), x = [.. operands.X], badDy = [.. dy];
                Gradients<T> clean = norm.Backward(operands, dy);
                int length = norm.Count / norm.Groups(), place = length + length / 2;
                x[place] = badDy[place] = poison;

                Gradients<T> badInput = norm.Backward(operands with { X = x }, dy), badGradient = norm.Backward(operands, badDy);
                for (int i = 0; i < norm.Count; i++)
                {
                    bool inGroup = i / length == 1;
                    Assert.True(inGroup ? T.IsNaN(badInput.Input![i]) : badInput.Input![i] == clean.Input![i], $"{norm} input {i}");
                    Assert.True(inGroup ? !T.IsFinite(badGradient.Input![i]) : badGradient.Input![i] == clean.Input![i], $"{norm} gradOutput {i}");
                }
                // The terms of a group out of range are added in double, which may round otherwise; the largest are about 8.
                bool isNear(T actual, T expected) => T.Abs(actual - expected) <= T.CreateTruncating(Ulp.Of<T>(double.CreateTruncating(T.Max(T.Abs(expected), T.CreateTruncating(8))))) * T.CreateTruncating(4);
                int[] touched = [.. Enumerable.Range(length, length).Select(norm.ParameterOf).Distinct()];
                for (int p = 0; p < norm.Parameters(); p++)
                {
                    Assert.True(touched.Contains(p) ? T.IsNaN(badInput.Weight![p]) : badInput.Weight![p] == clean.Weight![p], $"{norm} weight {p}");
                    Assert.True(isNear(badInput.Bias![p], clean.Bias![p]), $"{norm} bias {p}");
                    bool own = p == norm.ParameterOf(place);
                    Assert.True(own ? !T.IsFinite(badGradient.Weight![p]) && !T.IsFinite(badGradient.Bias![p]) : isNear(badGradient.Weight![p], clean.Weight![p]) && isNear(badGradient.Bias![p], clean.Bias![p]), $"{norm} parameter {p}");
                }
            }
        }
    }

    [Theory]
    [InlineData("BatchNorm1d(2)")]
    [InlineData("InstanceNorm1d(2, affine=True, track_running_stats=True)")]
    public void NonFinite_BesideRunningStatistics_StaysOutOfWhatDoesNotAskForIt(string text)
    {
        NormLayer<double> layer = NormLayer.Parse<double>(text);
        layer.Eval();
        Tensor<double> v = Tensor.Create([1.0, 2, 3, 4], [1, 2, 2]);
        foreach (double value in new[] { double.NaN, double.PositiveInfinity })
        {
            Tensor<double> x = Tensor.Create([1, value, 2, 3], [1, 2, 2]), usual = Tensor.Create([1.0, 5, 2, 3], [1, 2, 2]);
            layer.Forward(x, out ForwardPass<double> pass);
            layer.Forward(usual, out ForwardPass<double> usualPass);
            Assert.Equal(Tensors.ToArray(layer.Jvp(usualPass, v)), Tensors.ToArray(layer.Jvp(pass, v)));
            layer.ZeroGrad();
            SecondOrderGradients<double> expected = layer.DoubleBackward(v, usualPass, v), second = layer.DoubleBackward(v, pass, v);
            Assert.Equal(Tensors.ToArray(expected.GradOutput), Tensors.ToArray(second.GradOutput));
            Assert.Equal(Tensors.ToArray(expected.Input), Tensors.ToArray(second.Input));
            Assert.All(Tensors.ToArray(layer.Parameters[0].Grad), static gradient => Assert.True(double.IsFinite(gradient)));
            // What the weight's tangent moves by does.
            Assert.False(double.IsFinite(layer.Jvp(pass, null, weightTangent: Tensor.Create([1.0, 1]))[0, 0, 1]));
        }
    }

    [Theory]
    [InlineData("BatchNorm1d(1)")]
    [InlineData("InstanceNorm1d(1, affine=True, track_running_stats=True)")]
    [InlineData("InstanceNorm1d(1, track_running_stats=True)")]
    public void NonFinite_BesideRunningStatistics_StaysOutOfTheGradientOfTheInput(string text)
    {
        NormLayer<T> layer = NormLayer.Parse<T>(text);
        layer.Eval();
        // The last is shared among the threads.
        foreach (int length in new[] { 1, 3, 17, 40, 70, 3000, 200_000 })
        {
            foreach (int samples in new[] { 1, 5 })
            {
                T[] x = new Generator(3).Values<T>(samples * length), dy = new Generator(4).Values<T>(samples * length);
                layer.Forward(Tensor.Create([.. x], [samples, 1, length]), out ForwardPass<T> pass);
                T[] expected = Tensors.ToArray(layer.Backward(Tensor.Create(dy, [samples, 1, length]), pass));
                foreach (T value in new[] { T.NaN, T.PositiveInfinity })
                {
                    x[^1] = x[x.Length / 2] = value;
                    layer.Forward(Tensor.Create([.. x], [samples, 1, length]), out pass);
                    T[] actual = Tensors.ToArray(layer.Backward(Tensor.Create(dy, [samples, 1, length]), pass));
                    for (int i = 0; i < x.Length; i++)
                        Assert.True(T.Abs(actual[i] - expected[i]) <= T.Abs(expected[i]) * T.CreateChecked(1e-6), $"{samples} of {length}, element {i}: {actual[i]}, expected {expected[i]}");
                }
            }
        }
    }

    [Fact]
    public void Gradients_OfNothing_AreEmptyAndLeaveTheParametersAlone()
    {
        foreach (NormCase norm in new NormCase[]
        {
            new("LayerNorm", 1, 0, 3) { Weight = true, Bias = true },
            new("LayerNorm", 1, 3, 0) { Weight = true, Bias = true },
            new("LayerNorm", 2, 2, 0, 3) { Weight = true, Bias = true },
            new("LayerNorm", 1, 2, 0, 3) { Weight = true, Bias = true },
            new("GroupNorm", 2, 0, 4, 3) { Weight = true, Bias = true },
            new("GroupNorm", 2, 3, 4, 0) { Weight = true, Bias = true },
            new("GroupNorm", 2, 0, 4) { Weight = true, Bias = true },
            new("LocalResponseNorm", 3, 0, 4, 3),
            new("LocalResponseNorm", 3, 2, 0, 3),
            new("LocalResponseNorm", 3, 2, 4, 0),
        })
        {
            NormLayer<T> layer = norm.MakeLayer(norm.Make<T>(new Generator(4)));
            foreach (Parameter<T> parameter in layer.Parameters)
                parameter.Grad.Fill(T.One);
            Tensor<T> x = Tensor.CreateFromShape<T>(norm.Shape), y = layer.Forward(x, out ForwardPass<T> pass);
            Assert.Equal(norm.Shape, y.Lengths);
            Assert.Equal(norm.Shape, layer.Backward(y, pass).Lengths);
            Assert.Equal(norm.Shape, layer.Jvp(pass, x).Lengths);
            (Tensor<T> gradOutput, Tensor<T> input) = layer.DoubleBackward(y, pass, x);
            Assert.Equal(norm.Shape, gradOutput.Lengths);
            Assert.Equal(norm.Shape, input.Lengths);
            Assert.All(layer.Parameters, parameter => Assert.All(Tensors.ToArray(parameter.Grad), value => Assert.Equal(T.One, value)));
        }
    }
}

public sealed class FloatRowGradientSemanticsTests : RowGradientSemanticsTests<float>;

public sealed class DoubleRowGradientSemanticsTests : RowGradientSemanticsTests<double>
{
    [Fact]
    public void InputGradient_OfConstantsAtTheEndOfTheRange_IsFinite()
    {
        foreach (double constant in (double[])[1e307, -1.7e308])
        {
            for (int length = 1; length <= 33; length++)
            {
                var norm = new NormCase("LayerNorm", 1, 2, length);
                double[] dy = new Generator(5).Values<double>(norm.Count);
                Gradients<double> huge = norm.Backward(new Operands<double>([.. Enumerable.Repeat(constant, norm.Count)], null, null), dy);
                Gradients<double> zero = norm.Backward(new Operands<double>(new double[norm.Count], null, null), dy);
                Assert.Equal(zero.Input, huge.Input);
                Assert.All(huge.Weight!, value => Assert.Equal(0, value));
            }
        }
    }

    [Fact]
    public void Gradients_OfScaledRows_AreThoseOfTheRowsScaled()
    {
        // Without eps, n is that of the unscaled row, and dx its gradient divided by the scale.
        foreach (int exponent in (int[])[-600, -300, 300, 660, 900])
        {
            foreach (NormCase norm in new NormCase[] { new("LayerNorm", 1, 3, 37) { Weight = true, Eps = 0 }, new("GroupNorm", 2, 2, 4, 9) { Weight = true, Eps = 0 } })
            {
                var generator = new Generator(6);
                Operands<double> operands = norm.Make<double>(generator);
                double[] dy = generator.Values<double>(norm.Count);
                Gradients<double> plain = norm.Backward(operands, dy);
                Gradients<double> scaled = norm.Backward(operands with { X = Array.ConvertAll(operands.X, value => Math.ScaleB(value, exponent)) }, dy);
                for (int i = 0; i < norm.Count; i++)
                    Assert.True(Ulp.Distance<double>(Math.ScaleB(scaled.Input![i], exponent), plain.Input![i], plain.Input.Max(Math.Abs)) <= 8, $"{norm} 2^{exponent} element {i}: {Math.ScaleB(scaled.Input![i], exponent)}, expected {plain.Input[i]}");
                for (int p = 0; p < norm.Parameters(); p++)
                    Assert.True(Ulp.Distance<double>(scaled.Weight![p], plain.Weight![p], plain.Weight.Max(Math.Abs)) <= 8, $"{norm} 2^{exponent} weight {p}");
            }
        }
    }
}
