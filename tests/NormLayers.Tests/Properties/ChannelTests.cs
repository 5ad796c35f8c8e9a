using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using NormLayers.Internals;
using NormLayers.Internals.Kernels;
using NormLayers.Tests.Golden;
using Xunit;

namespace NormLayers.Tests.Properties;

/// <summary>The channels geometry against the rows geometry on transposed memory, which has tests of its own: outputs, statistics, gradients.</summary>
public abstract class ChannelTests<T> where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private static readonly double Allowed = typeof(T) == typeof(float) ? 4 : 16;

    [Fact]
    public void Results_OfEveryRowAndColumnCount_AreThoseOfTheTransposedRows()
    {
        for (int n = 0; n <= 257; n++)
        {
            // By turns, so that every length meets every axis and most meet every statistic.
            RowStatistic statistic = (n % 3) switch { 0 => RowStatistic.MeanAndVariance, 1 => RowStatistic.MeanSquare, _ => RowStatistic.Given };
            foreach (ParameterAxis axis in Enum.GetValues<ParameterAxis>())
            {
                AssertTransposed(new ChannelLayout(2, n, 7, 1, axis, statistic));
                AssertTransposed(new ChannelLayout(1, 5, n, 1, axis, statistic));
                if (axis != ParameterAxis.Row && n > 0 && statistic != RowStatistic.MeanSquare)
                    AssertTransposed(new ChannelLayout(2, 3, 3 * n, n, axis, statistic));
            }
        }
    }

    [Theory]
    [InlineData(1, 5003, 16, 1, "Column")]
    [InlineData(1, 2500, 70, 1, "Column")]
    [InlineData(3, 1100, 48, 6, "Column")]
    [InlineData(2, 300, 4100, 1, "Row")]
    [InlineData(70, 33, 50, 1, "Row")]
    [InlineData(1, 9, 5000, 500, "Group")]
    [InlineData(1, 3000, 24, 3, "Group")]
    public void Results_OfManyElements_AreThoseOfTheTransposedRows(int outer, int rows, int columns, int groupColumns, string axis)
    {
        foreach (double offset in new[] { 0.0, 1e4 })
            AssertTransposed(new ChannelLayout(outer, rows, columns, groupColumns, Enum.Parse<ParameterAxis>(axis), RowStatistic.MeanAndVariance), offset: offset);
    }

    [Theory]
    [InlineData(1, 40_000, 10, 1, "Column")]
    [InlineData(5, 9000, 12, 4, "Column")]
    [InlineData(3, 90, 2000, 1, "Row")]
    [InlineData(1, 40, 12_000, 1500, "Group")]
    [InlineData(1, 30, 13_000, 13_000, "Group")]
    public void Results_OnAnyNumberOfThreads_AreTheSameBits(int outer, int rows, int columns, int groupColumns, string axis)
    {
        var layout = new ChannelLayout(outer, rows, columns, groupColumns, Enum.Parse<ParameterAxis>(axis), RowStatistic.MeanAndVariance);
        var operands = new Operands(layout);
        Results expected = operands.Run(layout, threads: 1);
        foreach (int threads in new[] { 2, 3, 5, 16 })
            expected.AssertSame(operands.Run(layout, threads));
    }

    [Fact]
    public void Column_AmongAnyOthers_HasTheSameBits()
    {
        const int Rows = 200;
        var wide = new ChannelLayout(1, Rows, 77, 1, ParameterAxis.Column, RowStatistic.MeanAndVariance);
        var operands = new Operands(wide);
        Results all = operands.Run(wide);
        foreach (int column in new[] { 0, 15, 16, 40, 76 })
        {
            T[] Take(T[] values) => [.. Enumerable.Range(0, Rows).Select(row => values[row * 77 + column])];
            var alone = new Operands(new ChannelLayout(1, Rows, 1, 1, ParameterAxis.Column, RowStatistic.MeanAndVariance))
            {
                X = Take(operands.X), Dy = Take(operands.Dy), Weight = [operands.Weight[column]], Bias = [operands.Bias[column]],
            };
            Results one = alone.Run(new ChannelLayout(1, Rows, 1, 1, ParameterAxis.Column, RowStatistic.MeanAndVariance));
            Assert.Equal(Take(all.Y), one.Y);
            Assert.Equal(Take(all.Dx), one.Dx);
            Assert.Equal(all.WeightSums[column], one.WeightSums[0]);
        }
    }

    [Fact]
    public void Sample_InAnyBatch_HasTheSameBits()
    {
        var batch = new ChannelLayout(5, 30, 40, 4, ParameterAxis.Column, RowStatistic.MeanAndVariance);
        var operands = new Operands(batch);
        Results all = operands.Run(batch);
        int length = 30 * 40;
        var alone = new Operands(batch with { Outer = 1 }) { X = operands.X[(3 * length)..(4 * length)], Dy = operands.Dy[(3 * length)..(4 * length)], Weight = operands.Weight, Bias = operands.Bias };
        Results one = alone.Run(batch with { Outer = 1 });
        Assert.Equal(all.Y[(3 * length)..(4 * length)], one.Y);
        Assert.Equal(all.Dx[(3 * length)..(4 * length)], one.Dx);
    }

    /// <summary>From 8 MB on results are streamed from the first whole line on, which few columns reach in a later row; in place they are not.</summary>
    [Fact]
    public unsafe void Results_StreamedToEveryAlignment_AreThoseInPlace()
    {
        foreach (int columns in new[] { 3, 12 })
        {
            var layout = new ChannelLayout(1, (8 << 20) / sizeof(T) / columns + 7, columns, 1, ParameterAxis.Column, RowStatistic.MeanAndVariance);
            var operands = new Operands(layout);
            T[] y = [.. operands.X], dx = [.. operands.Dy], memory = new T[y.Length + 16];
            var statistics = new GroupStatistics[columns];
            fixed (T* px = operands.X, pdy = operands.Dy, pw = operands.Weight, pb = operands.Bias, py = y, pdx = dx, result = memory)
            {
                ChannelNorm.Forward(in *py, ref *py, layout, in *pw, in *pb, 1e-5, statistics, 1);
                ChannelNorm.Backward(in *pdx, in *px, ref *pdx, layout, statistics, in *pw, [], [], 1);
                foreach (int offset in new[] { 0, 1, 5, 11, 13, 15 })
                {
                    ChannelNorm.Forward(in *px, ref result[offset], layout, in *pw, in *pb, 1e-5, [], 2);
                    Assert.True(y.AsSpan().SequenceEqual(memory.AsSpan(offset, y.Length)), $"{columns} columns at offset {offset}");
                    ChannelNorm.Backward(in *pdy, in *px, ref result[offset], layout, statistics, in *pw, [], [], 2);
                    Assert.True(dx.AsSpan().SequenceEqual(memory.AsSpan(offset, dx.Length)), $"gradients of {columns} columns at offset {offset}");
                }
            }
        }
    }

    [Fact]
    public void Constant_GivesExactlyTheBiasAndNoWeightGradient()
    {
        foreach (ParameterAxis axis in Enum.GetValues<ParameterAxis>())
        {
            var layout = new ChannelLayout(1, 150, 36, axis == ParameterAxis.Row ? 1 : 18, axis, RowStatistic.MeanAndVariance);
            var operands = new Operands(layout);
            operands.X.AsSpan().Fill(T.CreateChecked(3333.3));
            Results results = operands.Run(layout);
            for (int i = 0; i < results.Y.Length; i++)
                Assert.Equal(operands.Bias[Operands.ParameterOf(layout, i)], results.Y[i]);
            Assert.All(results.WeightSums, sum => Assert.Equal(0, sum));
        }
    }

    [Fact]
    public void NaNAndTheEndsOfTheRange_StayInTheirGroups()
    {
        var layout = new ChannelLayout(1, 20, 40, 1, ParameterAxis.Column, RowStatistic.MeanAndVariance);
        var operands = new Operands(layout);
        for (int row = 0; row < 20; row++)
        {
            operands.X[row * 40 + 9] *= T.CreateTruncating(typeof(T) == typeof(float) ? 1e37 : 1e300);
            operands.X[row * 40 + 10] *= T.CreateTruncating(typeof(T) == typeof(float) ? 1e-38 : 1e-300);
        }
        operands.X[5 * 40 + 3] = T.NaN;
        operands.X[7 * 40 + 30] = T.PositiveInfinity;
        Results results = operands.Run(layout, eps: 0);
        for (int i = 0; i < results.Y.Length; i++)
            Assert.Equal(i % 40 is 3 or 30, T.IsNaN(results.Y[i]));
        Assert.Equal(double.PositiveInfinity, results.Statistics[30].Mean);
        AssertTransposed(layout, operands, eps: 0);
    }

    [Fact]
    public unsafe void Kernels_BetweenForbiddenPages_TouchNothingElse()
    {
        Assert.SkipUnless(GuardedMemory.IsSupported, "this system's memory protection is not known here");
        foreach (ParameterAxis axis in Enum.GetValues<ParameterAxis>())
        {
            foreach (int columns in new[] { 1, 3, 15, 16, 17, 33, 64 })
            {
                foreach (int rows in new[] { 1, 7, 8, 9, 70 })
                {
                    foreach (bool atEnd in new[] { true, false })
                    {
                        var layout = new ChannelLayout(1, rows, columns, axis == ParameterAxis.Group ? columns : 1, axis, RowStatistic.MeanAndVariance);
                        var operands = new Operands(layout);
                        Results expected = operands.Run(layout);
                        int size = rows * columns * sizeof(T);
                        using GuardedMemory x = new(size), y = new(size), dy = new(size), w = new(size), b = new(size);
                        T* px = x.Place<T>(operands.X, atEnd), py = y.Place<T>(operands.X.Length, atEnd), pdy = dy.Place<T>(operands.Dy, atEnd);
                        T* pw = w.Place<T>(operands.Weight, atEnd), pb = b.Place<T>(operands.Bias, atEnd);
                        ChannelNorm.Forward(in *px, ref *py, layout, in *pw, in *pb, 1e-5, [], 1);
                        Assert.True(expected.Y.AsSpan().SequenceEqual(new ReadOnlySpan<T>(py, expected.Y.Length)));
                        // In place, forward and backward.
                        ChannelNorm.Backward(in *pdy, in *px, ref *pdy, layout, expected.Statistics, in *pw, [], [], 1);
                        Assert.True(expected.Dx.AsSpan().SequenceEqual(new ReadOnlySpan<T>(pdy, expected.Dx.Length)));
                        ChannelNorm.Forward(in *px, ref *px, layout, in *pw, in *pb, 1e-5, [], 1);
                        Assert.True(expected.Y.AsSpan().SequenceEqual(new ReadOnlySpan<T>(px, expected.Y.Length)));
                    }
                }
            }
        }
    }

    private static void AssertTransposed(ChannelLayout layout, Operands? given = null, double offset = 0, double eps = 1e-5)
    {
        if (layout.Groups == 0)
            return;
        Operands operands = given ?? new Operands(layout, offset);
        Results actual = operands.Run(layout, eps: eps), expected = operands.RunTransposed(layout, eps);
        string context = $"{layout}";
        for (int g = 0; g < expected.Statistics.Length; g++)
        {
            double rstd = expected.Statistics[g].Rstd;
            if (double.IsFinite(rstd))
                Assert.True(Math.Abs(actual.Statistics[g].Rstd - rstd) <= (typeof(T) == typeof(float) ? 1e-7 : 1e-14) * rstd, $"{context} rstd of {g}: {actual.Statistics[g].Rstd} for {rstd}");
        }
        var largest = new double[layout.Groups];
        for (int i = 0; i < expected.Dx.Length; i++)
        {
            double term = Math.Abs(double.CreateChecked(operands.Dy[i]) * double.CreateChecked(operands.Weight[Operands.ParameterOf(layout, i)])) * expected.Statistics[Operands.GroupOf(layout, i)].Rstd;
            largest[Operands.GroupOf(layout, i)] = Math.Max(largest[Operands.GroupOf(layout, i)], Math.Max(term, Math.Abs(double.CreateChecked(expected.Dx[i]))));
        }
        for (int i = 0; i < expected.Y.Length; i++)
        {
            int p = Operands.ParameterOf(layout, i), g = Operands.GroupOf(layout, i);
            double w = Math.Abs(double.CreateChecked(operands.Weight[p])), scale = Math.Max(w, Math.Abs(double.CreateChecked(operands.Bias[p])));
            double y = double.CreateChecked(expected.Y[i]);
            double n = Math.Abs(expected.Statistics[g].Normalize(double.CreateChecked(operands.X[i]))) * w;
            double distance = Ulp.Distance<T>(double.CreateChecked(actual.Y[i]), y, double.IsFinite(y) ? Math.Max(Math.Max(Math.Abs(y), scale), n) : 1);
            Assert.True(distance <= Allowed, $"{context} y {i}: {actual.Y[i]} for {y}, {distance:G3} ulp");
            double error = Ulp.Distance<T>(double.CreateChecked(actual.Dx[i]), double.CreateChecked(expected.Dx[i]), double.IsFinite(largest[g]) ? largest[g] : 1);
            Assert.True(error <= Allowed, $"{context} dx {i}: {actual.Dx[i]} for {expected.Dx[i]}, {error:G3} ulp");
        }
        for (int p = 0; p < expected.WeightSums.Length; p++)
        {
            if (!double.IsFinite(expected.WeightSums[p]))
                continue;
            double terms = Math.Max(1, operands.X.Length / expected.WeightSums.Length);
            double tolerance = (typeof(T) == typeof(float) ? 1e-6 : 1e-13) * terms * 10;
            Assert.True(Math.Abs(expected.WeightSums[p] - actual.WeightSums[p]) <= tolerance, $"{context} dweight {p}: {actual.WeightSums[p]} for {expected.WeightSums[p]}");
            Assert.True(Math.Abs(expected.BiasSums[p] - actual.BiasSums[p]) <= tolerance, $"{context} dbias {p}: {actual.BiasSums[p]} for {expected.BiasSums[p]}");
        }
    }

    private sealed record Results(T[] Y, GroupStatistics[] Statistics, T[] Dx, double[] WeightSums, double[] BiasSums)
    {
        public void AssertSame(Results other)
        {
            Assert.Equal(Y, other.Y);
            Assert.Equal(Dx, other.Dx);
            Assert.Equal(WeightSums, other.WeightSums);
            Assert.Equal(BiasSums, other.BiasSums);
        }
    }

    private sealed class Operands
    {
        public Operands(ChannelLayout layout, double offset = 0)
        {
            var generator = new Generator((ulong)layout.Count + 1);
            (X, Dy) = (generator.Values<T>((int)layout.Count, 1, offset), generator.Values<T>((int)layout.Count));
            (Weight, Bias) = (generator.Values<T>((int)layout.Parameters), generator.Values<T>((int)layout.Parameters));
        }

        public T[] X { get; init; }

        public T[] Dy { get; init; }

        public T[] Weight { get; init; }

        public T[] Bias { get; init; }

        public static int GroupOf(ChannelLayout layout, int i)
            => (int)(i / (layout.Rows * layout.Columns) * layout.BlockGroups + i % layout.Columns / layout.GroupColumns);

        public static int ParameterOf(ChannelLayout layout, int i) => (int)(layout.Axis switch
        {
            ParameterAxis.Row => i / layout.Columns % layout.Rows,
            ParameterAxis.Column => i % layout.Columns,
            _ => i % layout.Columns / layout.GroupColumns,
        });

        public Results Run(ChannelLayout layout, int threads = 1, double eps = 1e-5)
        {
            T[] y = new T[X.Length], dx = new T[X.Length];
            GroupStatistics[] statistics = Given(layout, eps);
            double[] weightSums = new double[layout.Parameters], biasSums = new double[layout.Parameters];
            ChannelNorm.Forward(in X[0], ref y[0], layout, in Weight[0], in Bias[0], eps, statistics, threads);
            ChannelNorm.Backward(in Dy[0], in X[0], ref dx[0], layout, statistics, in Weight[0], weightSums, biasSums, threads);
            return new Results(y, statistics, dx, weightSums, biasSums);
        }

        public Results RunTransposed(ChannelLayout layout, double eps)
        {
            RowLayout rows = layout.AsRows() with { Strided = default };
            T[] x = Transpose(X, layout.Rows, layout.Columns), dy = Transpose(Dy, layout.Rows, layout.Columns), y = new T[X.Length], dx = new T[X.Length];
            GroupStatistics[] statistics = Given(layout, eps);
            double[] weightSums = new double[layout.Parameters], biasSums = new double[layout.Parameters];
            RowNorm.Forward(in x[0], ref y[0], rows, in Weight[0], in Bias[0], eps, statistics, 1, in Unsafe.NullRef<T>(), ref Unsafe.NullRef<T>());
            RowNorm.Backward(in dy[0], in x[0], ref dx[0], rows, statistics, in Weight[0], weightSums, biasSums, 1, in Unsafe.NullRef<T>(), in Unsafe.NullRef<T>());
            return new Results(Transpose(y, layout.Columns, layout.Rows), statistics, Transpose(dx, layout.Columns, layout.Rows), weightSums, biasSums);
        }

        private static GroupStatistics[] Given(ChannelLayout layout, double eps)
            => [.. Enumerable.Range(0, (int)layout.Groups).Select(g => layout.Statistic == RowStatistic.Given ? new GroupStatistics(g * 0.25, 1 + g, eps) : default)];

        private static T[] Transpose(T[] values, nint rows, nint columns)
        {
            var result = new T[values.Length];
            for (nint i = 0; i < values.Length; i++)
            {
                nint block = i / (rows * columns), row = i / columns % rows, column = i % columns;
                result[block * rows * columns + column * rows + row] = values[i];
            }
            return result;
        }
    }
}

public sealed class FloatChannelTests : ChannelTests<float>;

public sealed class DoubleChannelTests : ChannelTests<double>;
