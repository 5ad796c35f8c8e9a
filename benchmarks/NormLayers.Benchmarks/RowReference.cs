using System.Numerics.Tensors;

namespace NormLayers.Benchmarks;

/// <summary>How a tensor is cut into groups of consecutive elements that share statistics.</summary>
/// <param name="Groups">The number of groups.</param>
/// <param name="GroupParameters">The weights of one group.</param>
/// <param name="Run">The neighbouring elements that share a weight.</param>
/// <param name="Period">The groups after which the weights begin again.</param>
/// <param name="Given">Whether mean and variance are not the group's, but 0 and 1.</param>
internal sealed record RowGeometry(nint Groups, nint GroupParameters, nint Run, nint Period, bool Given = false)
{
    public nint Length => GroupParameters * Run;

    public nint Parameters => GroupParameters * Period;
}

/// <summary>LayerNorm and GroupNorm from their formulas: plain loops in double, two passes, groups shared among the processors.</summary>
internal static unsafe class RowReference
{
    /// <summary>At the largest of the magnitudes of the output, its weight, its bias and their product with the normalized value: the terms that may cancel.</summary>
    public static Deviation Forward(RowOperation operation, BufferSet given)
    {
        BufferSet set = Grouped(operation, given);
        RowGeometry geometry = operation.Geometry;
        float[] weight = Elements(operation.Weight.Value), bias = Elements(operation.Bias.Value);
        Deviation worst = Deviation.None("y", 4);
        var gate = new Lock();
        Parts.Run(geometry.Groups, (first, end) =>
        {
            Deviation own = worst;
            for (nint group = first; group < end; group++)
            {
                (double mean, double rstd) = Statistics(set.X + group * geometry.Length, geometry, operation.Eps);
                nint i = group * geometry.Length, p = group % geometry.Period * geometry.GroupParameters;
                for (nint parameter = 0; parameter < geometry.GroupParameters; parameter++, p++)
                {
                    double w = weight[p], b = bias[p], least = Math.Max(Math.Abs(w), Math.Abs(b));
                    for (nint r = 0; r < geometry.Run; r++, i++)
                    {
                        double scaled = (set.X[i] - mean) * rstd * w, expected = scaled + b;
                        own = own.With(i, set.Y[i], expected, Math.Max(Math.Max(Math.Abs(expected), Math.Abs(scaled)), least));
                    }
                }
            }
            lock (gate)
                worst = Deviation.Worst(worst, own);
        });
        return worst;
    }

    /// <summary>The gradient of the input at its group's largest magnitude; those of the parameters at the sum of their terms' magnitudes.</summary>
    public static Deviation Backward(RowOperation operation, BufferSet given)
    {
        BufferSet set = Grouped(operation, given);
        RowGeometry geometry = operation.Geometry;
        float[] weight = Elements(operation.Weight.Value);
        var total = new ParameterSums(geometry.Parameters);
        Deviation worst = Deviation.None("dx", 8);
        var gate = new Lock();
        Parts.Run(geometry.Groups, (first, end) =>
        {
            Deviation own = worst;
            var sums = new ParameterSums(geometry.Parameters);
            var expected = new double[geometry.Length];
            for (nint group = first; group < end; group++)
            {
                double largest = Gradients(geometry, group, set, weight, operation.Eps, expected, sums);
                for (nint i = 0; i < expected.Length; i++)
                    own = own.With(group * geometry.Length + i, set.GradInput[group * geometry.Length + i], expected[i], largest);
            }
            lock (gate)
            {
                worst = Deviation.Worst(worst, own);
                total.Add(sums);
            }
        });
        double allowed = 8 * Math.Sqrt(geometry.Groups * geometry.Length / geometry.Parameters);
        worst = Deviation.Worst(worst, Compare("dweight", Elements(operation.Weight.Grad), total.Weight, total.WeightMagnitude, allowed));
        return Deviation.Worst(worst, Compare("dbias", Elements(operation.Bias.Grad), total.Bias, total.BiasMagnitude, allowed));
    }

    /// <summary>Writes a group's input gradients, adds its terms to the parameters' and returns the largest magnitude of the former.</summary>
    private static double Gradients(RowGeometry geometry, nint group, BufferSet set, float[] weight, double eps, double[] gradients, ParameterSums sums)
    {
        float* x = set.X + group * geometry.Length, dy = set.GradOutput + group * geometry.Length;
        (double mean, double rstd) = Statistics(x, geometry, eps);
        double sum = 0, product = 0;
        nint firstParameter = group % geometry.Period * geometry.GroupParameters, i = 0;
        for (nint p = firstParameter; p < firstParameter + geometry.GroupParameters; p++)
        {
            double dw = 0, db = 0, dwMagnitude = 0, dbMagnitude = 0, w = weight[p];
            for (nint r = 0; r < geometry.Run; r++, i++)
            {
                double normalized = (x[i] - mean) * rstd, term = dy[i] * normalized;
                (sum, product) = (sum + dy[i] * w, product + term * w);
                (dw, dwMagnitude, db, dbMagnitude) = (dw + term, dwMagnitude + Math.Abs(term), db + dy[i], dbMagnitude + Math.Abs(dy[i]));
            }
            sums.Weight[p] += dw;
            sums.WeightMagnitude[p] += dwMagnitude;
            sums.Bias[p] += db;
            sums.BiasMagnitude[p] += dbMagnitude;
        }
        (sum, product) = geometry.Given ? (0, 0) : (sum / geometry.Length, product / geometry.Length);
        double largest = 0;
        for (i = 0; i < gradients.Length; i++)
        {
            double normalized = (x[i] - mean) * rstd;
            gradients[i] = rstd * (dy[i] * (double)weight[firstParameter + i / geometry.Run] - sum - normalized * product);
            largest = Math.Max(largest, Math.Abs(gradients[i]));
        }
        return largest;
    }

    private static (double Mean, double Rstd) Statistics(float* x, RowGeometry geometry, double eps)
    {
        if (geometry.Given)
            return (0, 1 / Math.Sqrt(1 + eps));
        nint length = geometry.Length;
        double sum = 0, squares = 0;
        for (nint i = 0; i < length; i++)
            sum += x[i];
        double mean = sum / length;
        for (nint i = 0; i < length; i++)
            squares += (x[i] - mean) * (x[i] - mean);
        return (mean, 1 / Math.Sqrt(squares / length + eps));
    }

    private static Deviation Compare(string result, float[] actual, double[] expected, double[] magnitudes, double allowed)
    {
        Deviation worst = Deviation.None(result, allowed);
        for (int p = 0; p < actual.Length; p++)
            worst = worst.With(p, actual[p], expected[p], magnitudes[p]);
        return worst;
    }

    /// <summary>The operands with their groups contiguous.</summary>
    private static BufferSet Grouped(RowOperation operation, BufferSet set)
    {
        if (operation.Blocks is not { } blocks)
            return set;
        return new BufferSet(Transpose(set.X), Transpose(set.Y), Transpose(set.GradOutput), Transpose(set.GradInput), 0);

        float* Transpose(float* source)
        {
            // Pinned, and kept by the case's operation until the next check.
            float[] result = GC.AllocateUninitializedArray<float>((int)operation.Case.Elements, pinned: true);
            Parts.Run(blocks.Outer * blocks.Columns, (first, end) =>
            {
                for (nint i = first; i < end; i++)
                {
                    nint block = i / blocks.Columns, column = i % blocks.Columns;
                    for (nint row = 0; row < blocks.Rows; row++)
                        result[i * blocks.Rows + row] = source[(block * blocks.Rows + row) * blocks.Columns + column];
                }
            });
            operation.Kept.Add(result);
            return (float*)System.Runtime.InteropServices.Marshal.UnsafeAddrOfPinnedArrayElement(result, 0);
        }
    }

    private static float[] Elements(Tensor<float> tensor)
    {
        var elements = new float[tensor.FlattenedLength];
        tensor.FlattenTo(elements);
        return elements;
    }

    private sealed class ParameterSums(nint length)
    {
        public readonly double[] Weight = new double[length], WeightMagnitude = new double[length], Bias = new double[length], BiasMagnitude = new double[length];

        public void Add(ParameterSums other)
        {
            TensorPrimitives.Add(Weight, other.Weight, Weight);
            TensorPrimitives.Add(WeightMagnitude, other.WeightMagnitude, WeightMagnitude);
            TensorPrimitives.Add(Bias, other.Bias, Bias);
            TensorPrimitives.Add(BiasMagnitude, other.BiasMagnitude, BiasMagnitude);
        }
    }
}
