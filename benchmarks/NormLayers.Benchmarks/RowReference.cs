using System.Numerics.Tensors;

namespace NormLayers.Benchmarks;

/// <summary>The layers with statistics from their formulas: plain loops in double, two passes, groups shared among the processors.</summary>
internal static unsafe class RowReference<T> where T : unmanaged
{
    /// <summary>From so many on, the largest error of random elements is a little larger.</summary>
    private const nint ManyElements = 500_000_000;

    /// <summary>At the largest of the magnitudes of the output, its weight, its bias and their product with the normalized value: the terms that may cancel.</summary>
    public static Deviation Forward(RowGeometry geometry, OperandSet<T> set, ParameterValues parameters)
    {
        var operands = new GroupedOperands<T>(geometry.Memory, set);
        // Six roundings of at most half an ulp each of their own result can add up to 6 ulp at worst; of random elements, one in a billion comes to 4.08.
        double ulps = geometry.Groups * geometry.Length < ManyElements ? 4 : 4.5;
        // SiLU's slope is at most 1.1, and it has an error of its own of 2 ulp.
        var bound = new Bound(geometry.Activates ? ulps * 1.1 + 2 : ulps, Precision.Of<T>());
        Deviation worst = Deviation.None("y");
        var gate = new Lock();
        Parts.Run(geometry.Groups, (first, end) =>
        {
            Deviation own = worst;
            var normalized = new double[geometry.Length];
            for (nint group = first; group < end; group++)
            {
                nint start = group * geometry.Length, p = geometry.FirstParameter(group), i = 0;
                if (geometry.Adds)
                    own = CheckSum(operands, start, geometry.Length, own);
                Normalize(geometry, operands, start, geometry.Adds, normalized);
                for (nint last = p + geometry.GroupParameters; p < last; p++)
                {
                    double w = parameters.Weight[p], b = parameters.Bias is { } bias ? bias[p] : 0, least = Math.Max(Math.Abs(w), Math.Abs(b));
                    for (nint r = 0; r < geometry.Run; r++, i++)
                    {
                        double scaled = normalized[i] * w, z = scaled + b, expected = geometry.Activates ? z * Sigmoid(z) : z, actual = Element.ToDouble(operands.Result[start + i]);
                        own = own.With(start + i, actual, expected, bound.Share(actual, expected, Math.Max(Math.Max(Math.Abs(z), Math.Abs(scaled)), least)));
                    }
                }
            }
            lock (gate)
                worst = Deviation.Worst(worst, own);
        });
        operands.KeepAlive();
        return worst;
    }

    /// <summary>The gradient of the input at its group's largest magnitude; those of the parameters at the sum of their terms' magnitudes.</summary>
    public static Deviation Backward(RowGeometry geometry, OperandSet<T> set, ParameterValues parameters)
    {
        var operands = new GroupedOperands<T>(geometry.Memory, set);
        var bound = new Bound(8, Precision.Of<T>());
        var total = new ParameterSums(geometry.Parameters);
        Deviation worst = Deviation.None("dx");
        var gate = new Lock();
        Parts.Run(geometry.Groups, (first, end) =>
        {
            Deviation own = worst;
            var sums = new ParameterSums(geometry.Parameters);
            double[] normalized = new double[geometry.Length], expected = new double[geometry.Length];
            for (nint group = first; group < end; group++)
            {
                nint start = group * geometry.Length;
                double rstd = Normalize(geometry, operands, start, adds: false, normalized);
                AddTerms(geometry, geometry.FirstParameter(group), operands.Second + start, parameters, normalized, expected, sums);
                double largest = Gradients(geometry, rstd, operands, start, normalized, expected);
                for (nint i = 0; i < expected.Length; i++)
                {
                    double actual = Element.ToDouble(operands.Result[start + i]);
                    own = own.With(start + i, actual, expected[i], bound.Share(actual, expected[i], largest));
                }
            }
            lock (gate)
            {
                worst = Deviation.Worst(worst, own);
                total.Add(sums);
            }
        });
        operands.KeepAlive();
        var ofParameters = new Bound(8 * Math.Sqrt(geometry.Groups * geometry.Length / geometry.Parameters), parameters.Precision);
        worst = Deviation.Worst(worst, Compare("dweight", ofParameters, parameters.WeightGradient, total.Weight, total.WeightMagnitude));
        return parameters.BiasGradient is { } bias ? Deviation.Worst(worst, Compare("dbias", ofParameters, bias, total.Bias, total.BiasMagnitude)) : worst;
    }

    /// <summary>The sum of the input and the residual is rounded once.</summary>
    private static Deviation CheckSum(GroupedOperands<T> operands, nint start, nint length, Deviation worst)
    {
        for (nint i = start; i < start + length; i++)
        {
            double actual = Element.ToDouble(operands.Sum[i]), expected = operands.RoundedSum(i);
            if (actual != expected)
                worst = new Deviation("sum", i, actual, expected, double.PositiveInfinity);
        }
        return worst;
    }

    /// <summary>Writes a group's (x - mean) · rstd and returns rstd.</summary>
    private static double Normalize(RowGeometry geometry, GroupedOperands<T> operands, nint start, bool adds, double[] normalized)
    {
        double sum = 0, squares = 0;
        for (nint i = 0; i < normalized.Length; i++)
        {
            normalized[i] = adds ? operands.RoundedSum(start + i) : Element.ToDouble(operands.X[start + i]);
            sum += normalized[i];
        }
        double mean = geometry.Statistic == Statistic.MeanAndVariance ? sum / normalized.Length : 0;
        for (nint i = 0; i < normalized.Length; i++)
            squares += (normalized[i] - mean) * (normalized[i] - mean);
        double rstd = 1 / Math.Sqrt((geometry.Statistic == Statistic.Given ? 1 : squares / normalized.Length) + geometry.Eps);
        for (nint i = 0; i < normalized.Length; i++)
            normalized[i] = (normalized[i] - mean) * rstd;
        return rstd;
    }

    /// <summary>Writes a group's dy · weight, where dy is the gradient of what the affine gives, and adds its terms to the parameters' gradients.</summary>
    private static void AddTerms(RowGeometry geometry, nint firstParameter, T* gradOutput, ParameterValues parameters, double[] normalized, double[] scaled, ParameterSums sums)
    {
        nint i = 0;
        for (nint p = firstParameter; p < firstParameter + geometry.GroupParameters; p++)
        {
            double dw = 0, db = 0, dwMagnitude = 0, dbMagnitude = 0, w = parameters.Weight[p], b = geometry.Activates ? parameters.Bias![p] : 0;
            for (nint r = 0; r < geometry.Run; r++, i++)
            {
                double dy = Element.ToDouble(gradOutput[i]);
                if (geometry.Activates)
                {
                    double z = normalized[i] * w + b;
                    dy *= Sigmoid(z) * (1 + z * Sigmoid(-z));
                }
                double term = dy * normalized[i];
                (dw, dwMagnitude, db, dbMagnitude) = (dw + term, dwMagnitude + Math.Abs(term), db + dy, dbMagnitude + Math.Abs(dy));
                scaled[i] = dy * w;
            }
            sums.Weight[p] += dw;
            sums.WeightMagnitude[p] += dwMagnitude;
            sums.Bias[p] += db;
            sums.BiasMagnitude[p] += dbMagnitude;
        }
    }

    /// <summary>Makes a group's input gradients of its dy · weight and returns the largest magnitude.</summary>
    private static double Gradients(RowGeometry geometry, double rstd, GroupedOperands<T> operands, nint start, double[] normalized, double[] gradients)
    {
        double sum = 0, product = 0, largest = 0;
        for (nint i = 0; i < gradients.Length; i++)
            (sum, product) = (sum + gradients[i], product + gradients[i] * normalized[i]);
        sum = geometry.Statistic == Statistic.MeanAndVariance ? sum / gradients.Length : 0;
        product = geometry.Statistic == Statistic.Given ? 0 : product / gradients.Length;
        for (nint i = 0; i < gradients.Length; i++)
        {
            gradients[i] = rstd * (gradients[i] - sum - normalized[i] * product);
            if (geometry.Adds)
                gradients[i] += Element.ToDouble(operands.Third[start + i]);
            largest = Math.Max(largest, Math.Abs(gradients[i]));
        }
        return largest;
    }

    private static double Sigmoid(double z) => 1 / (1 + Math.Exp(-z));

    private static Deviation Compare(string result, Bound bound, double[] actual, double[] expected, double[] magnitudes)
    {
        Deviation worst = Deviation.None(result);
        for (int p = 0; p < actual.Length; p++)
            worst = worst.With(p, actual[p], expected[p], bound.Share(actual[p], expected[p], magnitudes[p]));
        return worst;
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
