using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>The division by the p-norm along one dimension, and its gradient.</summary>
/// <remarks>
/// <para>
/// Memory is (outer, length, inner), contiguous. Where inner is 1 a norm is of neighbouring elements: element i goes to lane
/// i mod 16 and the last length mod 16 elements are combined one by one after the lanes are folded by halves. Otherwise up to
/// 256 neighbouring positions are taken down the dimension at once, each in its own lane, in rising order. The order depends
/// on the shape alone.
/// </para>
/// <para>
/// Arithmetic in double, rounded once. Where the powers leave double's range, a norm is taken again of the elements
/// divided by a power of two. Other powers than 1 and 2 are <see cref="VectorMath"/>'s.
/// </para>
/// </remarks>
internal static unsafe partial class LpNorm
{
    private const nint BlockLength = 256;

    /// <summary>Below it, powers may have lost digits.</summary>
    private const double LeastPower = 1e-250;

    /// <summary>The dimension among the others, and the formula's numbers.</summary>
    internal readonly record struct Parameters(nint Outer, nint Length, nint Inner, double P, double Eps);

    /// <summary>y = x / max(norm, eps); none of the lengths is zero, y may be x itself.</summary>
    internal static void Forward<T>(ref readonly T x, ref T y, in Parameters parameters, int maxThreads) where T : unmanaged
        => Run<T>(in Unsafe.NullRef<T>(), in x, ref y, in parameters, maxThreads);

    /// <summary>
    /// With d = max(norm, eps), y = x / d and s = sum of dy · y: dx = (dy - s · D) / d, where D is the norm's derivative, and zero
    /// where eps is the larger. dx may be dy itself.
    /// </summary>
    internal static void Backward<T>(ref readonly T dy, ref readonly T x, ref T dx, in Parameters parameters, int maxThreads) where T : unmanaged
        => Run(in dy, in x, ref dx, in parameters, maxThreads);

    private static void Run<T>(ref readonly T dy, ref readonly T x, ref T result, in Parameters parameters, int maxThreads) where T : unmanaged
    {
        int threads = Partition.Threads(parameters.Outer * parameters.Length * parameters.Inner, maxThreads);
        switch (parameters.P)
        {
            case 0: Run<T, NonZeros>(in dy, in x, ref result, in parameters, threads); break;
            case 1: Run<T, Magnitudes>(in dy, in x, ref result, in parameters, threads); break;
            case 2: Run<T, Squares>(in dy, in x, ref result, in parameters, threads); break;
            case double.PositiveInfinity: Run<T, Largest>(in dy, in x, ref result, in parameters, threads); break;
            case double.NegativeInfinity: Run<T, Smallest>(in dy, in x, ref result, in parameters, threads); break;
            default: Run<T, Powers>(in dy, in x, ref result, in parameters, threads); break;
        }
    }

    private static void Run<T, TNorm>(ref readonly T dy, ref readonly T x, ref T result, in Parameters parameters, int threads)
        where T : unmanaged
        where TNorm : struct, INorm
    {
        fixed (T* pdy = &dy, px = &x, pResult = &result)
        {
            var work = new Work<T> { Dy = pdy, X = px, Result = pResult, Parameters = parameters };
            Partition.Run(parameters.Outer * work.BlocksPerOuter, threads, &Blocks<T, TNorm>, &work);
        }
    }

    private struct Work<T> where T : unmanaged
    {
        internal T* Dy, X, Result;
        internal Parameters Parameters;

        internal readonly nint BlocksPerOuter => (Parameters.Inner + BlockLength - 1) / BlockLength;
    }

    private static void Blocks<T, TNorm>(void* state, nint first, nint end)
        where T : unmanaged
        where TNorm : struct, INorm
    {
        ref readonly Work<T> work = ref *(Work<T>*)state;
        ref readonly Parameters parameters = ref work.Parameters;
        using var rented = new RentedDoubles(parameters.Inner == 1 ? 0 : 4 * BlockLength);
        for (nint block = first; block < end; block++)
        {
            nint start = block % work.BlocksPerOuter * BlockLength, offset = block / work.BlocksPerOuter * parameters.Length * parameters.Inner + start;
            T* x = work.X + offset, dy = work.Dy == null ? null : work.Dy + offset, result = work.Result + offset;
            if (parameters.Inner == 1)
                Row<T, TNorm>(dy, x, result, in parameters);
            else
                Plane<T, TNorm>(dy, x, result, in parameters, Math.Min(BlockLength, parameters.Inner - start), rented.Span);
        }
    }

    private static void Row<T, TNorm>(T* dy, T* x, T* result, in Parameters parameters)
        where T : unmanaged
        where TNorm : struct, INorm
    {
        nint n = parameters.Length;
        double norm = NormOf<T, TNorm>(x, n, 1, ReduceRow<T, TNorm>(x, n, parameters.P), parameters.P);
        double divisor = Larger(norm, parameters.Eps);
        if (dy == null)
        {
            DivideRow(x, result, n, divisor);
            return;
        }
        (double product, double ties) = SumProducts<T, TNorm>(dy, x, n, norm);
        (double unit, double factor) = TNorm.Factor(norm, ties, parameters.P);
        factor = norm >= parameters.Eps ? product / divisor * factor : 0;
        WriteRow<T, TNorm>(dy, x, result, n, unit, divisor, factor, parameters.P);
    }

    private static double ReduceRow<T, TNorm>(T* x, nint n, double p)
        where T : unmanaged
        where TNorm : struct, INorm
    {
        Vector512<double> a = Vector512.Create(TNorm.Identity), b = a;
        nint i = 0;
        for (; i <= n - Elements.Step; i += Elements.Step)
        {
            (Vector512<double> x0, Vector512<double> x1) = Elements.Widen(in *x, i);
            a = TNorm.Combine(a, TNorm.Term(x0, p));
            b = TNorm.Combine(b, TNorm.Term(x1, p));
        }
        a = TNorm.Combine(a, b);
        // By halves: only the lower lanes count from here on.
        a = TNorm.Combine(a, Vector512.Create(a.GetUpper(), a.GetUpper()));
        a = TNorm.Combine(a, a.GetLower().GetUpper().ToVector256().ToVector512());
        a = TNorm.Combine(a, Vector512.Create(a[1]));
        for (; i < n; i++)
            a = TNorm.Combine(a, TNorm.Term(Vector512.Create(Elements.ToDouble(x[i])), p));
        return a[0];
    }

    private static void DivideRow<T>(T* x, T* y, nint n, double divisor) where T : unmanaged
    {
        Vector512<double> d = Vector512.Create(divisor);
        nint i = 0;
        for (; i <= n - Elements.Step; i += Elements.Step)
        {
            (Vector512<double> x0, Vector512<double> x1) = Elements.Widen(in *x, i);
            Elements.Narrow(x0 / d, x1 / d, ref *y, i);
        }
        for (; i < n; i++)
            y[i] = Elements.FromDouble<T>(Elements.ToDouble(x[i]) / divisor);
    }

    /// <summary>The sum of dy · x, and how many elements have the norm as their magnitude.</summary>
    private static (double Product, double Ties) SumProducts<T, TNorm>(T* dy, T* x, nint n, double norm)
        where T : unmanaged
        where TNorm : struct, INorm
    {
        Vector512<double> a = default, b = default, ties = default, norms = Vector512.Create(norm);
        nint i = 0;
        for (; i <= n - Elements.Step; i += Elements.Step)
        {
            (Vector512<double> x0, Vector512<double> x1) = Elements.Widen(in *x, i);
            (Vector512<double> g0, Vector512<double> g1) = Elements.Widen(in *dy, i);
            a += g0 * x0;
            b += g1 * x1;
            if (TNorm.IsExtremum)
                ties += Magnitude.Ties(x0, norms) + Magnitude.Ties(x1, norms);
        }
        (double product, double count) = (Moments.Fold(a + b), Moments.Fold(ties));
        for (; i < n; i++)
        {
            double value = Elements.ToDouble(x[i]);
            product += Elements.ToDouble(dy[i]) * value;
            count += Math.Abs(value) == norm ? 1 : 0;
        }
        return (product, count);
    }

    private static void WriteRow<T, TNorm>(T* dy, T* x, T* dx, nint n, double unit, double divisor, double factor, double p)
        where T : unmanaged
        where TNorm : struct, INorm
    {
        Vector512<double> d = Vector512.Create(divisor), f = Vector512.Create(factor), units = Vector512.Create(unit);
        nint i = 0;
        for (; i < n; i += Elements.Step)
        {
            nint count = Math.Min(n - i, Elements.Step);
            (Vector512<double> x0, Vector512<double> x1) = Elements.Load(in *x, i, count);
            (Vector512<double> g0, Vector512<double> g1) = Elements.Load(in *dy, i, count);
            Elements.Store(Gradient<TNorm>(g0, x0, units, d, f, p), Gradient<TNorm>(g1, x1, units, d, f, p), ref *dx, i, count);
        }
    }

    private static void Plane<T, TNorm>(T* dy, T* x, T* result, in Parameters parameters, nint width, Span<double> scratch)
        where T : unmanaged
        where TNorm : struct, INorm
    {
        nint n = parameters.Length, inner = parameters.Inner;
        fixed (double* norms = scratch)
        {
            double* divisors = norms + BlockLength, factors = divisors + BlockLength, ties = factors + BlockLength;
            ReducePlane<T, TNorm>(x, norms, n, inner, width, parameters.P);
            for (nint i = 0; i < width; i++)
            {
                norms[i] = NormOf<T, TNorm>(x + i, n, inner, norms[i], parameters.P);
                divisors[i] = Larger(norms[i], parameters.Eps);
            }
            if (dy == null)
            {
                DividePlane(x, result, divisors, n, inner, width);
                return;
            }
            SumPlane<T, TNorm>(dy, x, factors, ties, norms, n, inner, width);
            for (nint i = 0; i < width; i++)
            {
                (double unit, double factor) = TNorm.Factor(norms[i], ties[i], parameters.P);
                factors[i] = norms[i] >= parameters.Eps ? factors[i] / divisors[i] * factor : 0;
                norms[i] = unit;
            }
            WritePlane<T, TNorm>(dy, x, result, norms, divisors, factors, n, inner, width, parameters.P);
        }
    }

    private static void ReducePlane<T, TNorm>(T* x, double* norms, nint n, nint inner, nint width, double p)
        where T : unmanaged
        where TNorm : struct, INorm
    {
        new Span<double>(norms, (int)BlockLength).Fill(TNorm.Identity);
        for (nint k = 0; k < n; k++, x += inner)
        {
            for (nint i = 0; i < width; i += Elements.Step)
            {
                (Vector512<double> x0, Vector512<double> x1) = Elements.Load(in *x, i, Math.Min(width - i, Elements.Step));
                TNorm.Combine(Vector512.Load(norms + i), TNorm.Term(x0, p)).Store(norms + i);
                TNorm.Combine(Vector512.Load(norms + i + 8), TNorm.Term(x1, p)).Store(norms + i + 8);
            }
        }
    }

    private static void DividePlane<T>(T* x, T* y, double* divisors, nint n, nint inner, nint width) where T : unmanaged
    {
        for (nint k = 0; k < n; k++, x += inner, y += inner)
        {
            for (nint i = 0; i < width; i += Elements.Step)
            {
                nint count = Math.Min(width - i, Elements.Step);
                (Vector512<double> x0, Vector512<double> x1) = Elements.Load(in *x, i, count);
                Elements.Store(x0 / Vector512.Load(divisors + i), x1 / Vector512.Load(divisors + i + 8), ref *y, i, count);
            }
        }
    }

    private static void SumPlane<T, TNorm>(T* dy, T* x, double* products, double* ties, double* norms, nint n, nint inner, nint width)
        where T : unmanaged
        where TNorm : struct, INorm
    {
        new Span<double>(products, (int)BlockLength).Clear();
        new Span<double>(ties, (int)BlockLength).Clear();
        for (nint k = 0; k < n; k++, x += inner, dy += inner)
        {
            for (nint i = 0; i < width; i += Elements.Step)
            {
                nint count = Math.Min(width - i, Elements.Step);
                (Vector512<double> x0, Vector512<double> x1) = Elements.Load(in *x, i, count);
                (Vector512<double> g0, Vector512<double> g1) = Elements.Load(in *dy, i, count);
                (Vector512.Load(products + i) + g0 * x0).Store(products + i);
                (Vector512.Load(products + i + 8) + g1 * x1).Store(products + i + 8);
                if (!TNorm.IsExtremum)
                    continue;
                (Vector512.Load(ties + i) + Magnitude.Ties(x0, Vector512.Load(norms + i))).Store(ties + i);
                (Vector512.Load(ties + i + 8) + Magnitude.Ties(x1, Vector512.Load(norms + i + 8))).Store(ties + i + 8);
            }
        }
    }

    private static void WritePlane<T, TNorm>(T* dy, T* x, T* dx, double* units, double* divisors, double* factors, nint n, nint inner, nint width, double p)
        where T : unmanaged
        where TNorm : struct, INorm
    {
        for (nint k = 0; k < n; k++, x += inner, dy += inner, dx += inner)
        {
            for (nint i = 0; i < width; i += Elements.Step)
            {
                nint count = Math.Min(width - i, Elements.Step);
                (Vector512<double> x0, Vector512<double> x1) = Elements.Load(in *x, i, count);
                (Vector512<double> g0, Vector512<double> g1) = Elements.Load(in *dy, i, count);
                g0 = Gradient<TNorm>(g0, x0, Vector512.Load(units + i), Vector512.Load(divisors + i), Vector512.Load(factors + i), p);
                g1 = Gradient<TNorm>(g1, x1, Vector512.Load(units + i + 8), Vector512.Load(divisors + i + 8), Vector512.Load(factors + i + 8), p);
                Elements.Store(g0, g1, ref *dx, i, count);
            }
        }
    }

    /// <summary>(dy - factor · D(x)) / d; where the factor is zero D may be infinite, and is left out.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<double> Gradient<TNorm>(Vector512<double> dy, Vector512<double> x, Vector512<double> unit, Vector512<double> d, Vector512<double> factor, double p)
        where TNorm : struct, INorm
        => (dy - Vector512.AndNot(factor * TNorm.Derivative(x, unit, p), Vector512.Equals(factor, Vector512<double>.Zero))) / d;

    /// <summary>max(norm, eps), and NaN where the norm is.</summary>
    private static double Larger(double norm, double eps) => norm < eps ? eps : norm;

    /// <summary>The norm from the combined terms of n elements a stride apart; of elements in units of the one that counts most where the terms left double's range.</summary>
    private static double NormOf<T, TNorm>(T* x, nint n, nint stride, double terms, double p)
        where T : unmanaged
        where TNorm : struct, INorm
    {
        // The squares of floats stay inside it, and a row of zeros need not be searched.
        if (!TNorm.IsPower || (typeof(T) != typeof(double) && p == 2) || terms is >= LeastPower and <= double.MaxValue)
            return TNorm.Root(terms, p);
        double most = p > 0 ? 0 : double.PositiveInfinity;
        for (nint i = 0; i < n; i++)
        {
            double magnitude = Math.Abs(Elements.ToDouble(x[i * stride]));
            most = p > 0 ? Math.Max(most, magnitude) : Math.Min(most, magnitude);
        }
        if (most == 0 || !double.IsFinite(most))
            return TNorm.Root(terms, p);
        // A power of two, by which a division is exact, unless the powers of numbers up to two leave the range as well.
        double unit = Math.Abs(p) <= 512 ? Math.ScaleB(1, Math.ILogB(most)) : most;
        Vector512<double> scaled = Vector512.Create(TNorm.Identity);
        for (nint i = 0; i < n; i++)
            scaled = TNorm.Combine(scaled, TNorm.Term(Vector512.Create(Elements.ToDouble(x[i * stride]) / unit), p));
        return TNorm.Root(scaled[0], p) * unit;
    }
}
