using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using NormLayers.Tests.Gradients;
using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests.Fused;

/// <summary>A residual added and the sum normalized, against an addition and the layer.</summary>
public sealed class AddNormTests
{
    // Around the ends of vectors, of short groups and of the scratch memory; the last is streamed.
    public static TheoryData<int, int, bool> Shapes
    {
        get
        {
            var shapes = new TheoryData<int, int, bool>();
            foreach ((int rows, int length) in new[] { (5, 1), (37, 7), (3, 63), (5, 64), (19, 65), (7, 768), (70, 1000), (70, 1024), (4, 4096), (2, 8192), (3, 8193), (1, 150_001), (2111, 1031) })
            {
                shapes.Add(rows, length, true);
                shapes.Add(rows, length, false);
            }
            return shapes;
        }
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public void AddNorm_OfFloats_GivesTheBitsOfTheComposition(int rows, int length, bool centered) => CheckForward<float>(rows, length, centered);

    [Theory]
    [MemberData(nameof(Shapes))]
    public void AddNorm_OfDoubles_GivesTheBitsOfTheComposition(int rows, int length, bool centered) => CheckForward<double>(rows, length, centered);

    [Theory]
    [MemberData(nameof(Shapes))]
    public void AddNorm_OfHalves_GivesTheBitsOfTheComposition(int rows, int length, bool centered) => CheckForward<Half>(rows, length, centered);

    [Theory]
    [MemberData(nameof(Shapes))]
    public void AddNorm_OfBFloat16s_GivesTheBitsOfTheComposition(int rows, int length, bool centered) => CheckForward<BFloat16>(rows, length, centered);

    [Theory]
    [MemberData(nameof(Shapes))]
    public void AddNormBackward_OfFloats_GivesTheBitsOfTheComposition(int rows, int length, bool centered) => CheckBackward<float>(rows, length, centered);

    [Theory]
    [MemberData(nameof(Shapes))]
    public void AddNormBackward_OfDoubles_GivesTheBitsOfTheComposition(int rows, int length, bool centered) => CheckBackward<double>(rows, length, centered);

    [Fact]
    public void AddNorm_OfStridedOperands_GivesTheBitsOfRowMajorOnes()
    {
        var generator = new Generator(3);
        Tensor<float> x = Tensor.Create(generator.Values<float>(60), [3, 4, 5]), r = Tensor.Create(generator.Values<float>(60), [3, 4, 5]);
        (Tensor<float> sum, Tensor<float> y) = Functional.AddLayerNorm(x, r, [4, 5]);
        (Tensor<float> stridedSum, Tensor<float> stridedY) = Functional.AddLayerNorm(Tensors.WithStrides(x, [1, 3, 12]), Tensors.WithStrides(r, [40, 1, 8]), [4, 5]);
        Assert.Equal(Tensors.ToArray(sum), Tensors.ToArray(stridedSum));
        Assert.Equal(Tensors.ToArray(y), Tensors.ToArray(stridedY));
    }

    [Fact]
    public void AddNorm_OfGroupsAtTheEndsOfTheRange_GivesTheBitsOfTheComposition()
    {
        foreach (double scale in new[] { 1e-40, 1e-30, 1e30 })
        {
            var generator = new Generator(4);
            float[] x = generator.Values<float>(300, scale), r = generator.Values<float>(300, scale);
            (Tensor<float> sum, Tensor<float> y) = Functional.AddLayerNorm(Tensor.Create(x, [3, 100]), Tensor.Create(r, [3, 100]), [100], eps: 0);
            Assert.Equal(x.Zip(r, (a, b) => a + b), Tensors.ToArray(sum));
            Assert.Equal(Tensors.ToArray(Functional.LayerNorm(sum, [100], eps: 0)), Tensors.ToArray(y));
        }
    }

    [Fact]
    public void AddNorm_OfFloatsStreamedToAnyAlignment_GivesTheBitsOfTheComposition() => CheckStreamed<float>();

    [Fact]
    public void AddNorm_OfHalvesStreamedToAnyAlignment_GivesTheBitsOfTheComposition() => CheckStreamed<Half>();

    [Fact]
    public void AddNorm_OfBFloat16sStreamedToAnyAlignment_GivesTheBitsOfTheComposition() => CheckStreamed<BFloat16>();

    [Fact]
    public void AddNormBackward_InDouble_IsTheDerivative()
    {
        var generator = new Generator(5);
        nint[] shape = [3, 5];
        double[] x = generator.Values<double>(15), r = generator.Values<double>(15), w = generator.Values<double>(5), dy = generator.Values<double>(15), dsum = generator.Values<double>(15);
        foreach (bool centered in new[] { true, false })
        {
            double loss()
            {
                (Tensor<double> sum, Tensor<double> y) = Call(Tensor.Create(x, shape), Tensor.Create(r, shape), Tensor.Create(w, [5]), centered);
                return Differences.Dot(dsum, Tensors.ToArray(sum)) + Differences.Dot(dy, Tensors.ToArray(y));
            }
            double[] gradient = new double[15], gradWeight = new double[5];
            (Tensor<double> sum, _) = Call(Tensor.Create(x, shape), Tensor.Create(r, shape), Tensor.Create(w, [5]), centered);
            Backward(dy, dsum, Tensors.ToArray(sum), w, shape, centered, gradient, gradWeight, null);
            Differences.AssertClose(Differences.Of(x, loss), gradient);
            Differences.AssertClose(Differences.Of(r, loss), gradient);
            Differences.AssertClose(Differences.Of(w, loss), gradWeight);
        }
    }

    [Fact]
    public void AddNorm_OfBadOperands_IsRefused()
    {
        static ReadOnlyTensorSpan<float> Operand(params nint[] shape) => Tensor.CreateFromShape<float>(shape).AsReadOnlyTensorSpan();
        static string Refusal(Action call) => Assert.ThrowsAny<ArgumentException>(call).Message;
        Tensor<float> result = Tensor.CreateFromShape<float>([2, 3]), other = Tensor.CreateFromShape<float>([2, 3]);

        Assert.Contains("Expected residual of the input's shape [2, 3], got [3, 2].", Refusal(() => Functional.AddLayerNorm(Operand(2, 3), Operand(3, 2), [3], default, default, 1e-5, result.AsTensorSpan(), other.AsTensorSpan())));
        Assert.Contains("The destination may not overlap the sum.", Refusal(() => Functional.AddLayerNorm(Operand(2, 3), Operand(2, 3), [3], default, default, 1e-5, result.AsTensorSpan(), result.AsTensorSpan())));
        Assert.Contains("Expected the statistics of 2 groups", Refusal(() => Functional.AddRMSNorm(Operand(2, 3), Operand(2, 3), [3], default, null, result.AsTensorSpan(), other.AsTensorSpan(), new GroupStatistics[3])));
        Assert.Contains("Expected a sum of the input's shape [2, 4], got [2, 3].", Refusal(() => Functional.AddRMSNorm(Operand(2, 4), Operand(2, 4), [4], default, null, result.AsTensorSpan(), other.AsTensorSpan())));
        Assert.Contains("The gradInput may not overlap the gradSum.", Refusal(() => Functional.AddRMSNormBackward(Operand(2, 3), result.AsReadOnlyTensorSpan(), Operand(2, 3), [3], new GroupStatistics[2], default, result.AsTensorSpan(), default)));
        Assert.Contains("Expected gradSum of the input's shape [2, 3], got [3, 2].", Refusal(() => Functional.AddLayerNormBackward(Operand(2, 3), Operand(3, 2), Operand(2, 3), [3], new GroupStatistics[2], default, result.AsTensorSpan(), default, default)));
    }

    [Theory]
    [InlineData(3)]
    [InlineData(300)]
    public void AddNormBackward_WithoutGradInput_GivesTheSameParameterGradients(int length)
    {
        AssertSame<float>();
        AssertSame<double>();
        AssertSame<Half>();

        void AssertSame<T>() where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            var generator = new Generator(7);
            nint[] shape = [5, length];
            T[] sum = generator.Values<T>(5 * length), dy = generator.Values<T>(sum.Length), gradSum = generator.Values<T>(sum.Length);
            var statistics = new GroupStatistics[5];
            Functional.LayerNorm(Span(sum, shape), [length], default(ReadOnlyTensorSpan<T>), default, 1e-5, new TensorSpan<T>(new T[sum.Length], shape), statistics);
            T[] weights = new T[length], biases = new T[length], weightsAlone = new T[length], biasesAlone = new T[length];
            Functional.AddLayerNormBackward(Span(dy, shape), Span(gradSum, shape), Span(sum, shape), [length], statistics, default, new TensorSpan<T>(new T[sum.Length], shape), weights, biases);
            Functional.AddLayerNormBackward(Span(dy, shape), Span(gradSum, shape), Span(sum, shape), [length], statistics, default, default, weightsAlone, biasesAlone);
            Assert.Equal(weights, weightsAlone);
            Assert.Equal(biases, biasesAlone);
        }
    }

    [Fact]
    public void AddNorm_OfResultsOverOperands_IsRefused()
    {
        // One memory: input at 0, residual at 8, weight at 16, bias at 20, results at 24 and 32.
        float[] memory = [.. Enumerable.Range(1, 48)];
        foreach (int shift in new[] { -1, 1 })
        {
            Refused("sum", "start at the same place", () => Forward(8 + shift, 32));
            Refused("destination", "start at the same place", () => Forward(24, 8 + shift));
        }
        foreach ((string operand, int start) in new[] { ("weight", 16), ("bias", 20) })
        {
            Refused("sum", $"The sum may not overlap the {operand}.", () => Forward(start, 32));
            Refused("destination", $"The destination may not overlap the {operand}.", () => Forward(24, start));
        }
        // gradOutput at 0, gradSum at 8, the sum at 24.
        Refused("gradInput", "The gradInput may not overlap the gradSum.", () => Backward(10, 40, 44));
        Refused("gradWeight", "The gradWeight may not overlap the gradSum.", () => Backward(32, 8, 44));
        Refused("gradBias", "The gradBias may not overlap the gradSum.", () => Backward(32, 40, 13));

        TensorSpan<float> At(int start, params nint[] shape) => new(memory, start, shape, []);
        void Forward(int sum, int destination) => Functional.AddLayerNorm(At(0, 2, 3), At(8, 2, 3), [3], At(16, 3), At(20, 3), 1e-5, At(sum, 2, 3), At(destination, 2, 3));
        void Backward(int gradInput, int gradWeight, int gradBias)
            => Functional.AddLayerNormBackward(At(0, 2, 3), At(8, 2, 3), At(24, 2, 3), [3], new GroupStatistics[2], At(16, 3), At(gradInput, 2, 3), At(gradWeight, 3), At(gradBias, 3));
        void Refused(string parameter, string message, Action call)
        {
            Assert.Contains(message, Assert.Throws<ArgumentException>(parameter, call).Message, StringComparison.Ordinal);
            Assert.Equal(Enumerable.Range(1, 48).Select(i => (float)i), memory);
        }
    }

    private static void CheckForward<T>(int rows, int length, bool centered) where T : unmanaged
    {
        var generator = new Generator((ulong)(rows + length));
        nint[] shape = [rows, length];
        T[] x = generator.Values<T>(rows * length), r = generator.Values<T>(rows * length), w = generator.Values<T>(length), b = generator.Values<T>(length);
        T[] sum = [.. x.Zip(r, (a, c) => Numbers.FromDouble<T>(Numbers.ToDouble(a) + Numbers.ToDouble(c)))], y = new T[x.Length];
        var statistics = new GroupStatistics[rows];
        if (centered)
            Functional.LayerNorm(Span(sum, shape), [length], Span(w, [length]), Span(b, [length]), 1e-5, new TensorSpan<T>(y, shape), statistics);
        else
            Functional.RMSNorm(Span(sum, shape), [length], Span(w, [length]), null, new TensorSpan<T>(y, shape), statistics);

        // Into memory of their own; the sum over the residual; the sum over the input and the output over the residual.
        for (int place = 0; place < 3; place++)
        {
            for (int threads = 1; threads <= 2; threads++)
            {
                T[] input = [.. x], residual = [.. r], actualSum = place == 0 ? new T[x.Length] : place == 1 ? residual : input, actual = place == 2 ? residual : new T[x.Length];
                var actualStatistics = new GroupStatistics[rows];
                if (centered)
                    Functional.AddLayerNorm(Span(input, shape), Span(residual, shape), [length], Span(w, [length]), Span(b, [length]), 1e-5, new TensorSpan<T>(actualSum, shape), new TensorSpan<T>(actual, shape), actualStatistics, threads);
                else
                    Functional.AddRMSNorm(Span(input, shape), Span(residual, shape), [length], Span(w, [length]), null, new TensorSpan<T>(actualSum, shape), new TensorSpan<T>(actual, shape), actualStatistics, threads);
                Assert.Equal(StoredBits.Hash(sum, y), StoredBits.Hash(actualSum, actual));
                Assert.Equal(statistics.Select(group => (group.Mean, group.Rstd)), actualStatistics.Select(group => (group.Mean, group.Rstd)));
            }
        }
    }

    /// <summary>Results from 8 MB on whose rows begin with a line are written in the loop that sums other rows; some rows are out of the ordinary.</summary>
    private static void CheckStreamed<T>() where T : unmanaged
    {
        foreach (int length in new[] { 96, 4096 })
        {
            int rows = (8 << 20) / Unsafe.SizeOf<T>() / length + 9, count = rows * length;
            var generator = new Generator((ulong)length);
            nint[] shape = [rows, length];
            T[] x = generator.Values<T>(count), r = generator.Values<T>(count), w = generator.Values<T>(length), b = generator.Values<T>(length), y = new T[count];
            foreach (int row in new[] { 0, 1, 2, 7, rows - 3, rows - 1 })
                x[row * length + 5] = Numbers.FromDouble<T>(double.NaN);
            foreach (int row in new[] { 4, 11, rows - 4, rows - 2 })
                x[row * length] = Numbers.FromDouble<T>(60_000);
            x.AsSpan(9 * length, length).Fill(Numbers.FromDouble<T>(3));
            r.AsSpan(9 * length, length).Fill(Numbers.FromDouble<T>(0.25));
            T[] sum = [.. x.Zip(r, (a, c) => Numbers.FromDouble<T>(Numbers.ToDouble(a) + Numbers.ToDouble(c)))];
            Functional.LayerNorm(Span(sum, shape), [length], Span(w, [length]), Span(b, [length]), 1e-5, new TensorSpan<T>(y, shape));

            T[] sumMemory = GC.AllocateUninitializedArray<T>(count + 64, pinned: true), memory = GC.AllocateUninitializedArray<T>(count + 64, pinned: true);
            foreach ((int sumOffset, int offset) in new[] { (0, 0), (0, 5), (0, 16), (3, 0), (16, 0) })
            {
                Span<T> actualSum = Aligned(sumMemory)[sumOffset..][..count], actual = Aligned(memory)[offset..][..count];
                Functional.AddLayerNorm(Span(x, shape), Span(r, shape), [length], Span(w, [length]), Span(b, [length]), 1e-5, new TensorSpan<T>(actualSum, shape), new TensorSpan<T>(actual, shape));
                Assert.True(sum.AsSpan().SequenceEqual(actualSum), $"sums of {length} at offset {sumOffset}");
                Assert.True(y.AsSpan().SequenceEqual(actual), $"rows of {length} at offset {offset}");
            }
        }

        static unsafe Span<T> Aligned(T[] pinned) => pinned.AsSpan((int)(-(nint)Unsafe.AsPointer(ref pinned[0]) & 63) / sizeof(T));
    }

    private static void CheckBackward<T>(int rows, int length, bool centered) where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var generator = new Generator((ulong)(rows + length));
        nint[] shape = [rows, length];
        T[] sum = generator.Values<T>(rows * length), w = generator.Values<T>(length), dy = generator.Values<T>(rows * length), dsum = generator.Values<T>(rows * length);
        T[] dx = new T[sum.Length], dw = new T[length], db = new T[length];
        Backward(dy, null, sum, w, shape, centered, dx, dw, db);
        dx = [.. dx.Zip(dsum, (a, b) => a + b)];
        for (int threads = 1; threads <= 2; threads++)
        {
            T[] actual = new T[sum.Length], actualWeight = new T[length], actualBias = new T[length];
            Backward(dy, dsum, sum, w, shape, centered, actual, actualWeight, actualBias, threads);
            Assert.Equal(StoredBits.Hash(dx, dw, db), StoredBits.Hash(actual, actualWeight, actualBias));
            T[] inPlace = [.. dy];
            Backward(inPlace, dsum, sum, w, shape, centered, inPlace, null, null, threads);
            Assert.Equal(StoredBits.Hash(dx), StoredBits.Hash(inPlace));
        }
    }

    private static void Backward<T>(T[] dy, T[]? dsum, T[] sum, T[] w, nint[] shape, bool centered, T[] dx, T[]? dw, T[]? db, int threads = 1) where T : unmanaged
    {
        nint[] row = [shape[^1]];
        var statistics = new GroupStatistics[shape[0]];
        var ignored = new TensorSpan<T>(new T[sum.Length], shape);
        ReadOnlyTensorSpan<T> added = dsum is null ? default : Span(dsum, shape);
        TensorSpan<T> weight = dw is null ? default : new TensorSpan<T>(dw, row), bias = db is null ? default : new TensorSpan<T>(db, row);
        if (centered)
        {
            Functional.LayerNorm(Span(sum, shape), row, default, default, 1e-5, ignored, statistics);
            if (dsum is null)
                Functional.LayerNormBackward(Span(dy, shape), Span(sum, shape), row, statistics, Span(w, row), new TensorSpan<T>(dx, shape), weight, bias);
            else
                Functional.AddLayerNormBackward(Span(dy, shape), added, Span(sum, shape), row, statistics, Span(w, row), new TensorSpan<T>(dx, shape), weight, bias, threads);
            return;
        }
        db?.AsSpan().Clear();
        Functional.RMSNorm(Span(sum, shape), row, default, null, ignored, statistics);
        if (dsum is null)
            Functional.RMSNormBackward(Span(dy, shape), Span(sum, shape), row, statistics, Span(w, row), new TensorSpan<T>(dx, shape), weight);
        else
            Functional.AddRMSNormBackward(Span(dy, shape), added, Span(sum, shape), row, statistics, Span(w, row), new TensorSpan<T>(dx, shape), weight, threads);
    }

    private static (Tensor<double> Sum, Tensor<double> Output) Call(Tensor<double> x, Tensor<double> r, Tensor<double> w, bool centered)
        => centered ? Functional.AddLayerNorm(x, r, [5], w) : Functional.AddRMSNorm(x, r, [5], w);

    private static ReadOnlyTensorSpan<T> Span<T>(T[] values, nint[] shape) => new(values, shape);
}
