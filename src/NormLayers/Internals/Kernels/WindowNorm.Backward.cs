using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>The derivatives of the lines in WindowNorm.cs.</summary>
/// <remarks>
/// <para>
/// With d = k + scale · S, p = d^-beta, q = p / d and f = q / d, W the window sum and T its transpose (the sum over the
/// channels whose window holds this one):
/// </para>
/// <list type="bullet">
/// <item>backward: dx = dy · p - 2 · scale · beta · x · T(dy · x · q);</item>
/// <item>Jacobian-vector product: p · dx - 2 · scale · beta · x · q · W(x · dx);</item>
/// <item>gradients of the backward for the cotangent v of dx, with A = W(x · v): with respect to dy that product of v; with respect to x
/// -2 · scale · beta · (x · T(v · dy · q - 2 · scale · (beta + 1) · dy · x · A · f) + dy · q · A + v · T(dy · x · q)).</item>
/// </list>
/// <para>
/// In double, rounded once; the backward of ordinary floats and 16 bits in float (WindowNorm.Float.cs). A block of positions keeps its intermediate rows, one a channel, in planes of scratch; every window
/// sum is <see cref="SlidingWindow"/>'s, so nothing here depends on threads or vector width.
/// </para>
/// </remarks>
internal static unsafe partial class WindowNorm
{
    /// <summary>A plane of scratch of at most 128 KB, as long as that leaves 16 positions.</summary>
    private const nint PlaneLength = 16384;

    /// <summary>Computes dx from dy and x, contiguous; dx may be dy itself.</summary>
    internal static void Backward<T>(ref readonly T dy, ref readonly T x, ref T dx, nint samples, nint channels, nint run, in WindowParameters window, int maxThreads) where T : unmanaged
    {
        if (window.Beta == 0)
        {
            WithoutPower(in dy, in x, ref dx, samples * channels * run);
            return;
        }
        fixed (T* pdy = &dy, px = &x, pdx = &dx)
        {
            var work = new BackwardWork<T> { Dy = pdy, X = px, Dx = pdx, Channels = channels, Run = run, Window = window };
            int threads = Partition.Threads(samples * channels * run, maxThreads);
            if (InFloat<T>(in window))
            {
                RunInFloat(new FloatWork<T> { Dy = pdy, X = px, Y = pdx, Samples = samples, Channels = channels, Run = run, Window = window }, threads);
                return;
            }
            nint blocks = samples * new Planes(channels, run, in window, 2).BlocksPerSample;
            Partition.Run(blocks, threads, &BackwardBlocks<T>, &work);
        }
    }

    /// <summary>Where beta is 0, y is x, and no denominator has a part in a derivative, not even one that is 0 or infinite; only x has where it is not finite, as in PyTorch. A null reference stands for zeros, or a result that is not wanted.</summary>
    private static void WithoutPower<T>(ref readonly T source, ref readonly T x, ref T result, nint count) where T : unmanaged
    {
        for (nint i = 0; i < count && !Unsafe.IsNullRef(in result); i++)
        {
            bool isFinite = double.IsFinite(Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in x), i)));
            Unsafe.Add(ref result, i) = !isFinite ? Elements.FromDouble<T>(double.NaN) : Unsafe.IsNullRef(in source) ? default : Unsafe.Add(ref Unsafe.AsRef(in source), i);
        }
    }

    private struct BackwardWork<T> where T : unmanaged
    {
        internal T* Dy, X, Dx;
        internal nint Channels, Run;
        internal WindowParameters Window;
    }

    private static void BackwardBlocks<T>(void* state, nint first, nint end) where T : unmanaged
    {
        ref readonly BackwardWork<T> work = ref *(BackwardWork<T>*)state;
        ref readonly WindowParameters window = ref work.Window;
        nint channels = work.Channels, run = work.Run;
        var planes = new Planes(channels, run, in window, 2);
        using var rented = new RentedDoubles(planes.TotalLength);
        for (nint block = first; block < end; block++)
        {
            (nint offset, nint length) = planes.Locate(block);
            BackwardBlock(work.Dy + offset, work.X + offset, work.Dx + offset, channels, run, length, in window, in planes, rented.Span);
        }
    }

    private static void BackwardBlock<T>(T* dy, T* x, T* dx, nint channels, nint run, nint length, in WindowParameters window, in Planes planes, Span<double> scratch) where T : unmanaged
    {
        if (IsExtreme(in *x, channels, run, length, in window))
        {
            if (length == 1)
                BackwardExtreme(dy, x, dx, channels, run, in window, in planes, scratch);
            for (nint i = 0; length > 1 && i < length; i++)
                BackwardBlock(dy + i, x + i, dx + i, channels, run, 1, in window, in planes, scratch);
        }
        else
            BackwardOrdinary(dy, x, dx, channels, run, length, in window, in planes, scratch);
    }

    /// <summary>A position with extreme elements: those gradients that they reach are computed anew, as <see cref="ForwardExtreme"/> does.</summary>
    private static void BackwardExtreme<T>(T* dy, T* x, T* dx, nint channels, nint run, in WindowParameters window, in Planes planes, Span<double> scratch) where T : unmanaged
    {
        using var rented = new RentedDoubles(3 * channels);
        Span<double> g = rented.Span[..(int)channels], column = rented.Span[(int)channels..(int)(2 * channels)], result = rented.Span[(int)(2 * channels)..];
        ReadColumn(dy, run, g);
        ReadColumn(x, run, column);
        BackwardOrdinary(dy, x, dx, channels, run, 1, in window, in planes, scratch);
        WriteExtremeGradients(g, column, result, dx, run, in window);
    }

    /// <summary>Writes those gradients of a position that an extreme element reaches.</summary>
    private static void WriteExtremeGradients<T>(ReadOnlySpan<double> g, ReadOnlySpan<double> column, Span<double> result, T* dx, nint run, in WindowParameters window) where T : unmanaged
    {
        DifferentiateScaled(in g[0], in column[0], ref result[0], column.Length, 1, 1, in window, transposed: true);
        // An output sees its window, and an element the outputs whose windows hold it.
        nint reach = window.Lower + window.Upper;
        for (int c = 0; c < column.Length; c++)
        {
            if (HasExtreme<T>(column, c - reach, c + reach, in window, window.FloatLimit) || (typeof(T) != typeof(double) && HasExtreme<T>(g, c - reach, c + reach, in window, LargestGradient)))
                dx[c * run] = Elements.FromDouble<T>(result[c]);
        }
    }

    private static void BackwardOrdinary<T>(T* dy, T* x, T* dx, nint channels, nint run, nint length, in WindowParameters window, in Planes planes, Span<double> scratch) where T : unmanaged
    {
        ref double p = ref planes.At(scratch, 0), t = ref planes.At(scratch, 1);
        planes.SumProducts(in *x, in *x, length, scratch, 0);
        Vector512<double> scale = Vector512.Create(window.Scale), k = Vector512.Create(window.K);
        for (nint c = 0; c < channels; c++)
        {
            // From S to p, and the terms dy · x · q beside it.
            for (nint i = 0; i < length; i += Elements.Step)
            {
                nint at = c * run + i, count = Math.Min(length - i, Elements.Step), row = c * planes.Stride + i;
                (Vector512<double> g0, Vector512<double> g1) = Elements.Load(in *dy, at, count);
                (Vector512<double> x0, Vector512<double> x1) = Elements.Load(in *x, at, count);
                Vector512<double> d0 = Vector512.LoadUnsafe(in p, (nuint)row) * scale + k, d1 = Vector512.LoadUnsafe(in p, (nuint)row + 8) * scale + k;
                Vector512<double> p0 = Vector512<double>.One / window.Power(d0), p1 = Vector512<double>.One / window.Power(d1);
                p0.StoreUnsafe(ref p, (nuint)row);
                p1.StoreUnsafe(ref p, (nuint)row + 8);
                (g0 * x0 * p0 / d0).StoreUnsafe(ref t, (nuint)row);
                (g1 * x1 * p1 / d1).StoreUnsafe(ref t, (nuint)row + 8);
            }
        }
        planes.SumTransposed(scratch, 1);
        Vector512<double> factor = Vector512.Create(2 * window.Scale * window.Beta);
        for (nint c = 0; c < channels; c++)
        {
            for (nint i = 0; i < length; i += Elements.Step)
            {
                nint at = c * run + i, count = Math.Min(length - i, Elements.Step);
                nuint row = (nuint)(c * planes.Stride + i);
                (Vector512<double> g0, Vector512<double> g1) = Elements.Load(in *dy, at, count);
                (Vector512<double> x0, Vector512<double> x1) = Elements.Load(in *x, at, count);
                g0 = g0 * Vector512.LoadUnsafe(in p, row) - factor * x0 * Vector512.LoadUnsafe(in t, row);
                g1 = g1 * Vector512.LoadUnsafe(in p, row + 8) - factor * x1 * Vector512.LoadUnsafe(in t, row + 8);
                Elements.Store(g0, g1, ref *dx, at, count);
            }
        }
    }

    /// <summary>Computes the output's tangent from the input's tangent dx and x, contiguous; the result may be dx itself.</summary>
    internal static void Jvp<T>(ref readonly T dx, ref readonly T x, ref T dy, nint samples, nint channels, nint run, in WindowParameters window) where T : unmanaged
    {
        if (window.Beta == 0)
        {
            WithoutPower(in dx, in x, ref dy, samples * channels * run);
            return;
        }
        var planes = new Planes(channels, run, in window, 2);
        using var rented = new RentedDoubles(planes.TotalLength);
        for (nint block = 0; block < samples * planes.BlocksPerSample; block++)
        {
            (nint offset, nint length) = planes.Locate(block);
            ref T xBlock = ref Unsafe.Add(ref Unsafe.AsRef(in x), offset), tBlock = ref Unsafe.Add(ref Unsafe.AsRef(in dx), offset), result = ref Unsafe.Add(ref dy, offset);
            if (IsExtreme(in xBlock, channels, run, length, in window))
            {
                DifferentiateScaled(in tBlock, in xBlock, ref result, channels, run, length, in window, transposed: false);
                continue;
            }
            planes.SumProducts(in xBlock, in xBlock, length, rented.Span, 0);
            planes.SumProducts(in xBlock, in tBlock, length, rented.Span, 1);
            ref double sums = ref planes.At(rented.Span, 0), a = ref planes.At(rented.Span, 1);
            for (nint c = 0; c < channels; c++)
            {
                for (nint i = 0; i < length; i += Elements.Step)
                {
                    nint at = c * run + i, count = Math.Min(length - i, Elements.Step), row = c * planes.Stride + i;
                    (Vector512<double> t0, Vector512<double> t1) = Elements.Load(in tBlock, at, count);
                    (Vector512<double> x0, Vector512<double> x1) = Elements.Load(in xBlock, at, count);
                    Elements.Store(Tangent(t0, x0, ref sums, in a, row, in window), Tangent(t1, x1, ref sums, in a, row + 8, in window), ref result, at, count);
                }
            }
        }
    }

    /// <summary>Computes the gradients of the backward for the cotangent v of its result; all contiguous, the results apart from the rest, and a null reference where one is not wanted.</summary>
    internal static void DoubleBackward<T>(ref readonly T dy, ref readonly T x, ref readonly T v, ref T gradDy, ref T gradX, nint samples, nint channels, nint run, in WindowParameters window) where T : unmanaged
    {
        if (window.Beta == 0)
        {
            WithoutPower(in v, in x, ref gradDy, samples * channels * run);
            WithoutPower(in Unsafe.NullRef<T>(), in x, ref gradX, samples * channels * run);
            return;
        }
        var planes = new Planes(channels, run, in window, 4);
        using var rented = new RentedDoubles(planes.TotalLength);
        Vector512<double> factor = Vector512.Create(2 * window.Scale * window.Beta), factor2 = Vector512.Create(2 * window.Scale * (window.Beta + 1));
        for (nint block = 0; block < samples * planes.BlocksPerSample; block++)
        {
            (nint offset, nint length) = planes.Locate(block);
            ref T xBlock = ref Unsafe.Add(ref Unsafe.AsRef(in x), offset), gBlock = ref Unsafe.Add(ref Unsafe.AsRef(in dy), offset), vBlock = ref Unsafe.Add(ref Unsafe.AsRef(in v), offset);
            ref double qs = ref planes.At(rented.Span, 0), a = ref planes.At(rented.Span, 1), t1 = ref planes.At(rented.Span, 2), t2 = ref planes.At(rented.Span, 3);
            planes.SumProducts(in xBlock, in xBlock, length, rented.Span, 0);
            planes.SumProducts(in xBlock, in vBlock, length, rented.Span, 1);
            for (nint i = 0; i < channels * planes.Stride; i += Vector512<double>.Count)
            {
                nint c = i / planes.Stride, position = i % planes.Stride;
                if (position >= length)
                    continue;
                nint at = c * run + position, count = Math.Min(length - position, 8);
                Vector512<double> g = Elements.Load(in gBlock, at, count).Lower, xs = Elements.Load(in xBlock, at, count).Lower, u = Elements.Load(in vBlock, at, count).Lower;
                if (!Unsafe.IsNullRef(in gradDy))
                    Elements.Store(Tangent(u, xs, ref qs, in a, i, in window), default, ref Unsafe.Add(ref gradDy, offset), at, count);
                (Vector512<double> d, Vector512<double> p) = Denominator(ref qs, i, in window);
                Vector512<double> q = p / d, gq = g * q;
                gq.StoreUnsafe(ref qs, (nuint)i);
                (u * gq - factor2 * gq * xs * Vector512.LoadUnsafe(in a, (nuint)i) / d).StoreUnsafe(ref t1, (nuint)i);
                (gq * xs).StoreUnsafe(ref t2, (nuint)i);
            }
            if (Unsafe.IsNullRef(in gradX))
                continue;
            planes.SumTransposed(rented.Span, 2);
            planes.SumTransposed(rented.Span, 3);
            for (nint i = 0; i < channels * planes.Stride; i += Vector512<double>.Count)
            {
                nint c = i / planes.Stride, position = i % planes.Stride;
                if (position >= length)
                    continue;
                nint at = c * run + position, count = Math.Min(length - position, 8);
                Vector512<double> xs = Elements.Load(in xBlock, at, count).Lower, u = Elements.Load(in vBlock, at, count).Lower;
                Vector512<double> sum = xs * Vector512.LoadUnsafe(in t1, (nuint)i) + Vector512.LoadUnsafe(in qs, (nuint)i) * Vector512.LoadUnsafe(in a, (nuint)i) + u * Vector512.LoadUnsafe(in t2, (nuint)i);
                Elements.Store(-(factor * sum), default, ref Unsafe.Add(ref gradX, offset), at, count);
            }
        }
    }

    /// <summary>d and d^-beta from the window sum at a place of a plane.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector512<double> D, Vector512<double> Power) Denominator(ref double sums, nint at, in WindowParameters window)
    {
        Vector512<double> d = Vector512.LoadUnsafe(in sums, (nuint)at) * Vector512.Create(window.Scale) + Vector512.Create(window.K);
        return (d, Vector512<double>.One / window.Power(d));
    }

    /// <summary>p · t - 2 · scale · beta · x · q · a.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<double> Tangent(Vector512<double> t, Vector512<double> x, ref double sums, ref readonly double a, nint at, in WindowParameters window)
    {
        (Vector512<double> d, Vector512<double> p) = Denominator(ref sums, at, in window);
        return p * t - Vector512.Create(2 * window.Scale * window.Beta) * (x * Vector512.LoadUnsafe(in a, (nuint)at)) * (p / d);
    }

    /// <summary>
    /// Backward (transposed) or Jacobian-vector product for a block with doubles whose squares leave the range: x[i] · x[c] / d
    /// stays in range though its parts do not. Rare, so scalar, pair by pair.
    /// </summary>
    private static void DifferentiateScaled<T>(ref readonly T g, ref readonly T x, ref T result, nint channels, nint run, nint length, in WindowParameters window, bool transposed) where T : unmanaged
    {
        using var rented = new RentedDoubles(2 * channels);
        Span<double> column = rented.Span[..(int)channels], sums = rented.Span[(int)channels..];
        double factor = 2 * window.Scale * window.Beta;
        for (nint i = 0; i < length; i++)
        {
            for (nint c = 0; c < channels; c++)
                column[(int)c] = Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in x), c * run + i));
            sums.Clear();
            for (nint c = 0; c < channels; c++)
            {
                var denominator = new ScaledDenominator(column, c, in window);
                double gc = Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in g), c * run + i));
                sums[(int)c] += denominator.Divide(gc);
                for (nint j = Math.Max(0, c - window.Lower); j <= Math.Min(channels - 1, c + window.Upper); j++)
                {
                    double ratio = window.Scale == 0 ? 0 * column[(int)j] * column[(int)c] : denominator.Ratio(column[(int)j], column[(int)c]);
                    double gj = Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in g), j * run + i));
                    sums[(int)(transposed ? j : c)] -= factor * denominator.Divide((transposed ? gc : gj) * ratio);
                }
            }
            for (nint c = 0; c < channels; c++)
                Unsafe.Add(ref result, c * run + i) = Elements.FromDouble<T>(sums[(int)c]);
        }
    }

    /// <summary>Scratch for a block of positions: planes of one row a channel, and the rows of a sliding window.</summary>
    private readonly ref struct Planes
    {
        private readonly nint channels, run, count;
        private readonly ref readonly WindowParameters window;

        internal Planes(nint channels, nint run, in WindowParameters window, nint count)
        {
            (this.channels, this.run, this.count) = (channels, run, count);
            this.window = ref window;
            Stride = Math.Min(RoundUp(run), Math.Clamp(PlaneLength / channels / Elements.Step * Elements.Step, Elements.Step, BlockLength));
        }

        internal nint Stride { get; }

        internal nint BlocksPerSample => (run + Stride - 1) / Stride;

        internal nint TotalLength => checked(count * channels * Stride + Math.Max(SlidingWindow.ScratchLength(window.Lower, window.Upper, Stride), SlidingWindow.ScratchLength(window.BackLower, window.BackUpper, Stride)));

        /// <summary>The first element of a block, and its positions.</summary>
        internal (nint Offset, nint Length) Locate(nint block)
        {
            nint start = block % BlocksPerSample * Stride;
            return (block / BlocksPerSample * channels * run + start, Math.Min(Stride, run - start));
        }

        internal ref double At(Span<double> scratch, int plane) => ref Unsafe.Add(ref MemoryMarshal.GetReference(scratch), plane * channels * Stride);

        /// <summary>Fills a plane with the window sums of a · b.</summary>
        internal void SumProducts<T>(ref readonly T a, ref readonly T b, nint length, Span<double> scratch, int plane) where T : unmanaged
        {
            var rows = new ProductRows<T>(ref Unsafe.AsRef(in a), ref Unsafe.AsRef(in b), run, length, ref At(scratch, plane), Stride);
            SlidingWindow.Sum(in rows, channels, window.Lower, window.Upper, ref At(scratch, (int)count), Stride);
            if (!window.KeepsFirst)
                return;
            using var rented = new RentedDoubles(Stride);
            ref double first = ref MemoryMarshal.GetReference(rented.Span);
            rows.ReadTerms(0, ref first);
            for (nint c = window.Lower + 1; c < channels; c++)
            {
                ref double row = ref Unsafe.Add(ref At(scratch, plane), c * Stride);
                for (nint i = 0; i < Stride; i += Vector512<double>.Count)
                    (Vector512.LoadUnsafe(in row, (nuint)i) + Vector512.LoadUnsafe(in first, (nuint)i)).StoreUnsafe(ref row, (nuint)i);
            }
        }

        /// <summary>Replaces the rows of a plane by their sums over the channels whose windows hold each one.</summary>
        internal void SumTransposed(Span<double> scratch, int plane)
        {
            var rows = new PlaneRows(ref At(scratch, plane), Stride);
            SlidingWindow.Sum(in rows, channels, window.BackLower, window.BackUpper, ref At(scratch, (int)count), Stride);
        }
    }

    private readonly ref struct ProductRows<T>(ref T a, ref T b, nint run, nint length, ref double plane, nint stride) : IWindowRows<double> where T : unmanaged
    {
        private readonly ref T a = ref a;
        private readonly ref T b = ref b;
        private readonly PlaneRows plane = new(ref plane, stride);

        public void ReadTerms(nint channel, ref double row) => StoreProducts(in a, in b, channel * run, length, ref row);

        public void WriteSums(nint channel, ref readonly double suffix, ref readonly double prefix) => plane.WriteSums(channel, in suffix, in prefix);
    }

    private readonly ref struct PlaneRows(ref double plane, nint stride) : IWindowRows<double>
    {
        private readonly ref double plane = ref plane;

        public void ReadTerms(nint channel, ref double row)
            => MemoryMarshal.CreateReadOnlySpan(in Unsafe.Add(ref plane, channel * stride), (int)stride).CopyTo(MemoryMarshal.CreateSpan(ref row, (int)stride));

        public void WriteSums(nint channel, ref readonly double suffix, ref readonly double prefix)
        {
            for (nint i = 0; i < stride; i += Vector512<double>.Count)
                (Vector512.LoadUnsafe(in suffix, (nuint)i) + Vector512.LoadUnsafe(in prefix, (nuint)i)).StoreUnsafe(ref plane, (nuint)(channel * stride + i));
        }
    }
}
