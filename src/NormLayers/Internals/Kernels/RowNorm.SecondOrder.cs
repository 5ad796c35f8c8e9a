using System.Runtime.CompilerServices;

namespace NormLayers.Internals.Kernels;

/// <summary>The Jacobian-vector product of the rows geometry, and the gradients of its backward.</summary>
/// <remarks>
/// <para>
/// Both rest on one symmetric operator: P(u) = rstd · (u - E[u] - n · E[u · n]), the derivative of n = (x - mean) · rstd;
/// without E[u] where the group is not centered, and rstd · u where its statistics are given. The
/// Jacobian-vector product is P(dx) · weight + n · dweight + dbias; a backward is P(dy · weight), so its gradient with respect
/// to dy is that same product.
/// </para>
/// <para>
/// With respect to x, for the cotangent v of the input's gradient, g = dy · weight and q = dy · (cotangent of the weight's gradient):
/// P(q) - rstd · (E[g·n] · P(v) + E[v·n] · P(g) + rstd · (E[v·g] - E[v] · E[g] - E[v·n] · E[g·n]) · n).
/// </para>
/// <para>Scalar code in double, in rising order of the elements: these are for penalties and checks, not for the inner loop of training.</para>
/// </remarks>
internal static partial class RowNorm
{
    /// <summary>Computes the output's tangent; a null reference stands for a tangent of zero, or a weight of one.</summary>
    internal static void Jvp<T>(ref readonly T x, ref readonly T dx, ref T dy, in RowLayout layout, ReadOnlySpan<GroupStatistics> statistics, ref readonly T weight, ref readonly T weightTangent, ref readonly T biasTangent)
        where T : unmanaged
    {
        for (nint g = 0; g < layout.Groups; g++)
        {
            ref readonly GroupStatistics group = ref statistics[(int)g];
            nint start = g * layout.Length, first = layout.FirstParameter(g);
            double mean = 0, product = 0;
            for (nint i = start; i < start + layout.Length; i++)
            {
                double u = At(in dx, i, 0);
                mean += u;
                product += u * group.Normalize(At(in x, i, 0));
            }
            (mean, product) = (layout.Centered ? mean / layout.Length : 0, layout.Scaled ? product / layout.Length : 0);
            for (nint i = start, p = first; i < start + layout.Length; p++)
            {
                double w = At(in weight, p, 1), wt = At(in weightTangent, p, 0), bt = At(in biasTangent, p, 0);
                for (nint end = i + layout.Run; i < end; i++)
                {
                    double n = group.Normalize(At(in x, i, 0));
                    double tangent = (At(in dx, i, 0) - mean - Times(n, product)) * group.Rstd;
                    Unsafe.Add(ref dy, i) = Elements.FromDouble<T>(tangent * w + Times(n, wt) + bt);
                }
            }
        }
    }

    /// <summary>Computes the gradients of a backward for the cotangents of its three results; a null reference stands for a cotangent of zero, or a result that is not wanted.</summary>
    /// <param name="dy">The backward's output gradient, contiguous.</param>
    /// <param name="x">The forward's input, contiguous.</param>
    /// <param name="v">The cotangent of the input's gradient.</param>
    /// <param name="vWeight">The cotangent of the weight's gradient.</param>
    /// <param name="vBias">The cotangent of the bias's gradient.</param>
    /// <param name="layout">The forward's groups.</param>
    /// <param name="statistics">The forward's statistics.</param>
    /// <param name="weight">The first factor.</param>
    /// <param name="gradDy">Takes the gradient with respect to dy.</param>
    /// <param name="gradX">Takes the gradient with respect to x.</param>
    /// <param name="weightSums">Takes the gradient with respect to the weight, one a parameter; empty for none.</param>
    internal static void DoubleBackward<T>(ref readonly T dy, ref readonly T x, ref readonly T v, ref readonly T vWeight, ref readonly T vBias, in RowLayout layout, ReadOnlySpan<GroupStatistics> statistics, ref readonly T weight, ref T gradDy, ref T gradX, Span<double> weightSums)
        where T : unmanaged
    {
        weightSums.Clear();
        for (nint g = 0; g < layout.Groups; g++)
        {
            ref readonly GroupStatistics group = ref statistics[(int)g];
            nint start = g * layout.Length, first = layout.FirstParameter(g);
            double meanV = 0, meanG = 0, meanQ = 0, vn = 0, gn = 0, qn = 0, vg = 0;
            for (nint i = start, p = first; i < start + layout.Length; p++)
            {
                double w = At(in weight, p, 1), wv = At(in vWeight, p, 0);
                for (nint end = i + layout.Run; i < end; i++)
                {
                    double n = group.Normalize(At(in x, i, 0)), u = At(in v, i, 0), d = At(in dy, i, 0);
                    meanV += u;
                    vn += u * n;
                    meanG += d * w;
                    gn += d * w * n;
                    meanQ += d * wv;
                    qn += d * wv * n;
                    vg += u * d * w;
                }
            }
            double count = layout.Length, rstd = group.Rstd;
            (meanV, meanG, meanQ) = layout.Centered ? (meanV / count, meanG / count, meanQ / count) : (0, 0, 0);
            (vn, gn, qn) = layout.Scaled ? (vn / count, gn / count, qn / count) : (0, 0, 0);
            double curvature = layout.Scaled ? (vg / count - meanV * meanG - vn * gn) * rstd : 0;

            for (nint i = start, p = first; i < start + layout.Length; p++)
            {
                double w = At(in weight, p, 1), wv = At(in vWeight, p, 0), bv = At(in vBias, p, 0);
                for (nint end = i + layout.Run; i < end; i++)
                {
                    double n = group.Normalize(At(in x, i, 0)), d = At(in dy, i, 0);
                    double pv = (At(in v, i, 0) - meanV - Times(n, vn)) * rstd;
                    double pg = (d * w - meanG - Times(n, gn)) * rstd;
                    double pq = (d * wv - meanQ - Times(n, qn)) * rstd;
                    if (!weightSums.IsEmpty)
                        weightSums[(int)p] += d * pv;
                    if (!Unsafe.IsNullRef(in gradX))
                        Unsafe.Add(ref gradX, i) = Elements.FromDouble<T>(pq - rstd * (gn * pv + vn * pg + Times(n, curvature)));
                    if (!Unsafe.IsNullRef(in gradDy))
                        Unsafe.Add(ref gradDy, i) = Elements.FromDouble<T>(pv * w + Times(n, wv) + bv);
                }
            }
        }
    }

    /// <summary>n times a factor that may stand for nothing: with given statistics an n that is not finite has no part in a derivative but where it is asked for.</summary>
    private static double Times(double n, double factor) => factor == 0 ? 0 : n * factor;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static double At<T>(ref readonly T values, nint index, double absent) where T : unmanaged
        => Unsafe.IsNullRef(in values) ? absent : Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in values), index));
}
