using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>The norms, by p.</summary>
internal static unsafe partial class LpNorm
{
    /// <summary>A norm: the root of the combination of each element's term.</summary>
    private interface INorm
    {
        static abstract double Identity { get; }

        /// <summary>Whether the terms are powers, which may leave double's range.</summary>
        static virtual bool IsPower => false;

        /// <summary>Whether the norm is one of the magnitudes, and its gradient shared by those that have it.</summary>
        static virtual bool IsExtremum => false;

        static abstract Vector512<double> Term(Vector512<double> x, double p);

        static virtual Vector512<double> Combine(Vector512<double> a, Vector512<double> b) => a + b;

        static virtual double Root(double terms, double p) => terms;

        /// <summary>The norm's derivative by x is this times <see cref="Factor"/>, which also says in which unit x is taken.</summary>
        static abstract Vector512<double> Derivative(Vector512<double> x, Vector512<double> unit, double p);

        static virtual (double Unit, double Factor) Factor(double norm, double ties, double p) => (norm, 1);
    }

    private static class Magnitude
    {
        /// <summary>-1, 0 or 1; NaN for NaN.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        internal static Vector512<double> Sign(Vector512<double> x)
            => Vector512.ConditionalSelect(Vector512.Equals(x, x) & ~Vector512.Equals(x, Vector512<double>.Zero), Vector512.CopySign(Vector512<double>.One, x), x);

        /// <summary>1 where the magnitude is the norm.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        internal static Vector512<double> Ties(Vector512<double> x, Vector512<double> norm)
            => Vector512.Equals(Vector512.Abs(x), norm) & Vector512<double>.One;
    }

    private readonly struct NonZeros : INorm
    {
        public static double Identity => 0;

        // NaN is no zero.
        public static Vector512<double> Term(Vector512<double> x, double p) => Vector512.AndNot(Vector512<double>.One, Vector512.Equals(x, Vector512<double>.Zero));

        public static Vector512<double> Derivative(Vector512<double> x, Vector512<double> unit, double p) => Vector512<double>.Zero;
    }

    private readonly struct Magnitudes : INorm
    {
        public static double Identity => 0;

        public static Vector512<double> Term(Vector512<double> x, double p) => Vector512.Abs(x);

        public static Vector512<double> Derivative(Vector512<double> x, Vector512<double> unit, double p) => Magnitude.Sign(x);
    }

    private readonly struct Squares : INorm
    {
        public static double Identity => 0;

        public static bool IsPower => true;

        public static Vector512<double> Term(Vector512<double> x, double p) => x * x;

        public static double Root(double terms, double p) => Math.Sqrt(terms);

        public static Vector512<double> Derivative(Vector512<double> x, Vector512<double> unit, double p) => x;

        public static (double Unit, double Factor) Factor(double norm, double ties, double p) => (norm, norm == 0 ? 0 : 1 / norm);
    }

    private readonly struct Powers : INorm
    {
        public static double Identity => 0;

        public static bool IsPower => true;

        public static Vector512<double> Term(Vector512<double> x, double p) => VectorMath.Pow(Vector512.Abs(x), p);

        public static double Root(double terms, double p) => VectorMath.Pow(Vector512.Create(terms), 1 / p)[0];

        // For p below 1 the power of zero is infinite; PyTorch takes zero.
        public static Vector512<double> Derivative(Vector512<double> x, Vector512<double> unit, double p)
            => Vector512.ConditionalSelect(Vector512.Equals(x, Vector512<double>.Zero), x, Magnitude.Sign(x) * VectorMath.Pow(Vector512.Abs(x) / unit, p - 1));

        // Nearly always the unit is one; where the two powers could leave double's range, it is the norm.
        public static (double Unit, double Factor) Factor(double norm, double ties, double p)
        {
            double factor = norm == 0 ? 0 : VectorMath.Pow(Vector512.Create(norm), 1 - p)[0];
            return factor is >= LeastPower and <= 1 / LeastPower || norm == 0 || !double.IsFinite(norm) ? (1, factor) : (norm, 1);
        }
    }

    private readonly struct Largest : INorm
    {
        public static double Identity => 0;

        public static bool IsExtremum => true;

        public static Vector512<double> Term(Vector512<double> x, double p) => Vector512.Abs(x);

        public static Vector512<double> Combine(Vector512<double> a, Vector512<double> b) => Vector512.Max(a, b);

        public static Vector512<double> Derivative(Vector512<double> x, Vector512<double> unit, double p) => Magnitude.Sign(x) * Magnitude.Ties(x, unit);

        public static (double Unit, double Factor) Factor(double norm, double ties, double p) => (norm, 1 / ties);
    }

    private readonly struct Smallest : INorm
    {
        public static double Identity => double.PositiveInfinity;

        public static bool IsExtremum => true;

        public static Vector512<double> Term(Vector512<double> x, double p) => Vector512.Abs(x);

        public static Vector512<double> Combine(Vector512<double> a, Vector512<double> b) => Vector512.Min(a, b);

        public static Vector512<double> Derivative(Vector512<double> x, Vector512<double> unit, double p) => Magnitude.Sign(x) * Magnitude.Ties(x, unit);

        public static (double Unit, double Factor) Factor(double norm, double ties, double p) => (norm, 1 / ties);
    }
}
