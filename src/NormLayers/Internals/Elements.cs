using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace NormLayers.Internals;

/// <summary>What the kernels need to know of an element type: how it widens to double, and its range for fast arithmetic.</summary>
internal static class Elements
{
    /// <summary>Elements that <see cref="Widen{T}"/> loads at once: two vectors of double, whatever the element type.</summary>
    internal const int Step = 16;

    /// <summary>Within these limits on 1/deviation, products of a group of floats stay in range.</summary>
    internal const double LeastFloatRstd = 1e-15, LargestFloatRstd = 1e15;

    /// <summary>Throws unless kernels exist for the element type.</summary>
    /// <exception cref="NotSupportedException">The type is no floating-point type of at most 64 bits.</exception>
    internal static void CheckSupported<T>(string layer)
    {
        if (typeof(T) != typeof(float) && typeof(T) != typeof(double) && !SixteenBits.Is<T>())
            ThrowNotSupported(layer, $"elements of type {typeof(T).Name}: the element type must be Half, BFloat16, Single (float) or Double (double)");
    }

    /// <summary>Throws unless kernels exist for the element type, with parameters of that type, or of float where it has 16 bits.</summary>
    /// <exception cref="NotSupportedException">They do not.</exception>
    internal static void CheckSupported<T, TParameter>(string layer)
    {
        CheckSupported<T>(layer);
        if (typeof(T) != typeof(TParameter) && !(SixteenBits.Is<T>() && typeof(TParameter) == typeof(float)))
            ThrowNotSupported(layer, $"elements of type {typeof(T).Name} with parameters of type {typeof(TParameter).Name}: both must have one type, but for parameters of Single (float) with elements of Half or BFloat16");
    }

    [DoesNotReturn]
    private static void ThrowNotSupported(string layer, string types) => throw new NotSupportedException($"{layer} is not implemented for {types}.");

    /// <summary>Loads 16 elements of a type that is computed in float; exact.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static unsafe Vector512<float> LoadFloats<T>(T* source, nint offset) where T : unmanaged
        => typeof(T) == typeof(float) ? Vector512.Load((float*)source + offset) : SixteenBits.Widen(in *source, offset);

    /// <summary>Loads 32 elements as float: 16 and the next 16, or of a 16-bit type those of even and those of odd index.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static unsafe (Vector512<float> A, Vector512<float> B) LoadPairs<T>(T* source, nint offset) where T : unmanaged
        => typeof(T) == typeof(float) ? (Vector512.Load((float*)source + offset), Vector512.Load((float*)source + offset + 16)) : SixteenBits.WidenPairs(source + offset);

    /// <summary>Loads 32 floats in the order in which <see cref="LoadPairs"/> loads elements of that type.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static unsafe (Vector512<float> A, Vector512<float> B) LoadInPairsOf<T>(float* source) where T : unmanaged
    {
        Vector512<float> a = Vector512.Load(source), b = Vector512.Load(source + 16);
        if (typeof(T) == typeof(float))
            return (a, b);
        if (Avx512F.IsSupported)
            return (Avx512F.PermuteVar16x32x2(a, Vector512<int>.Indices + Vector512<int>.Indices, b), Avx512F.PermuteVar16x32x2(a, Vector512<int>.Indices + Vector512<int>.Indices + Vector512<int>.One, b));
        Vector512<ulong> c = a.AsUInt64(), d = b.AsUInt64();
        return (Vector512.Narrow(c, d).AsSingle(), Vector512.Narrow(c >> 32, d >> 32).AsSingle());
    }

    /// <summary>Loads 32 elements, or their gradients as floats, in the order in which <see cref="LoadPairs"/> loads elements of the second type.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static unsafe (Vector512<float> A, Vector512<float> B) LoadAsPairsOf<TSource, T>(TSource* source, nint offset)
        where TSource : unmanaged
        where T : unmanaged
        => typeof(TSource) == typeof(T) ? LoadPairs(source, offset) : LoadInPairsOf<T>((float*)source + offset);

    /// <summary>From that order to the elements' own.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static (Vector512<float> A, Vector512<float> B) FromPairsOf<T>(Vector512<float> a, Vector512<float> b) where T : unmanaged
    {
        if (typeof(T) == typeof(float))
            return (a, b);
        if (Avx512F.IsSupported)
        {
            Vector512<int> order = Vector512.Create(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            return (Avx512F.PermuteVar16x32x2(a, order, b), Avx512F.PermuteVar16x32x2(a, order + Vector512.Create(8), b));
        }
        (Vector512<ulong> a0, Vector512<ulong> a1) = Vector512.Widen(a.AsUInt32());
        (Vector512<ulong> b0, Vector512<ulong> b1) = Vector512.Widen(b.AsUInt32());
        return ((a0 | b0 << 32).AsSingle(), (a1 | b1 << 32).AsSingle());
    }

    /// <summary>The float nearest to a double, by an instruction that writes all of its register: the usual one keeps a part, and so waits for whatever was computed there before.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static float ToSingle(double value) => Sse2.IsSupported ? Sse2.ConvertToVector128Single(Vector128.CreateScalar(value)).ToScalar() : (float)value;

    /// <summary>A float as double, in the same way.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static double ToDouble(float value) => Sse2.IsSupported ? Sse2.ConvertToVector128Double(Vector128.CreateScalar(value)).ToScalar() : value;

    /// <summary>Loads 8 floats as doubles.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static unsafe Vector512<double> LoadDoubles(float* source)
        => Avx512F.IsSupported ? Avx512F.ConvertToVector512Double(Vector256.Load(source)) : Vector512.WidenLower(Vector256.Load(source).ToVector512Unsafe());

    /// <summary>A float as double in all lanes; not by a scalar conversion, whose register would have to wait for what was computed there before.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static unsafe Vector512<double> Broadcast(float* source)
        => Avx512F.IsSupported ? Avx512F.ConvertToVector512Double(Vector256.Create(*source)) : Vector512.WidenLower(Vector512.Create(*source));

    /// <summary>Rounds 16 floats to the element type and stores them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static unsafe void StoreFloats<T>(Vector512<float> value, T* destination, nint offset) where T : unmanaged
    {
        if (typeof(T) == typeof(float))
            value.Store((float*)destination + offset);
        else
            SixteenBits.Narrow(value, ref *destination, offset);
    }

    /// <summary>Loads 16 elements as double: the first eight in Lower, the next eight in Upper. Exact for every element type.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static (Vector512<double> Lower, Vector512<double> Upper) Widen<T>(ref readonly T source, nint offset) where T : unmanaged
    {
        if (typeof(T) == typeof(float))
            return Vector512.Widen(Vector512.LoadUnsafe(in Unsafe.As<T, float>(ref Unsafe.AsRef(in source)), (nuint)offset));
        if (SixteenBits.Is<T>())
            return Vector512.Widen(SixteenBits.Widen(in source, offset));
        ref readonly double doubles = ref Unsafe.As<T, double>(ref Unsafe.AsRef(in source));
        return (Vector512.LoadUnsafe(in doubles, (nuint)offset), Vector512.LoadUnsafe(in doubles, (nuint)offset + 8));
    }

    /// <summary>Loads the last <paramref name="count"/> &lt; 16 elements as double and fills the remaining lanes with <paramref name="fill"/>.</summary>
    [SkipLocalsInit]
    internal static (Vector512<double> Lower, Vector512<double> Upper) WidenTail<T>(ref readonly T source, nint offset, nint count, double fill) where T : unmanaged
    {
        Span<double> lanes = stackalloc double[Step];
        lanes.Fill(fill);
        for (nint i = 0; i < count; i++)
            lanes[(int)i] = ToDouble(Unsafe.Add(ref Unsafe.AsRef(in source), offset + i));
        ref double first = ref MemoryMarshal.GetReference(lanes);
        return (Vector512.LoadUnsafe(in first), Vector512.LoadUnsafe(in first, 8));
    }

    /// <summary>Rounds 16 doubles to the element type and stores them; to 16 bits by way of float, as PyTorch does, which is half an ulp and 2^-14 more.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Narrow<T>(Vector512<double> lower, Vector512<double> upper, ref T destination, nint offset) where T : unmanaged
    {
        if (typeof(T) == typeof(float))
        {
            Vector512.Narrow(lower, upper).StoreUnsafe(ref Unsafe.As<T, float>(ref destination), (nuint)offset);
            return;
        }
        if (SixteenBits.Is<T>())
        {
            SixteenBits.Narrow(Vector512.Narrow(lower, upper), ref destination, offset);
            return;
        }
        ref double doubles = ref Unsafe.As<T, double>(ref destination);
        lower.StoreUnsafe(ref doubles, (nuint)offset);
        upper.StoreUnsafe(ref doubles, (nuint)offset + 8);
    }

    /// <summary>As <see cref="Narrow{T}"/>, for the first <paramref name="count"/> &lt; 16 elements only.</summary>
    [SkipLocalsInit]
    internal static void NarrowTail<T>(Vector512<double> lower, Vector512<double> upper, ref T destination, nint offset, nint count) where T : unmanaged
    {
        Span<double> lanes = stackalloc double[Step];
        ref double first = ref MemoryMarshal.GetReference(lanes);
        lower.StoreUnsafe(ref first);
        upper.StoreUnsafe(ref first, 8);
        for (nint i = 0; i < count; i++)
            Unsafe.Add(ref destination, offset + i) = FromDouble<T>(lanes[(int)i]);
    }

    /// <summary>Loads up to 16 elements as double; lanes past <paramref name="count"/> are zero.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static (Vector512<double> Lower, Vector512<double> Upper) Load<T>(ref readonly T source, nint offset, nint count) where T : unmanaged
        => count >= Step ? Widen(in source, offset) : WidenTail(in source, offset, count, 0);

    /// <summary>Rounds up to 16 doubles to the element type and stores them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Store<T>(Vector512<double> lower, Vector512<double> upper, ref T destination, nint offset, nint count) where T : unmanaged
    {
        if (count >= Step)
            Narrow(lower, upper, ref destination, offset);
        else
            NarrowTail(lower, upper, ref destination, offset, count);
    }

    /// <summary>The element's value; exact.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static double ToDouble<T>(T value) where T : unmanaged
        => typeof(T) == typeof(float) ? Unsafe.BitCast<T, float>(value)
            : typeof(T) == typeof(Half) ? SixteenBits.Widen(Unsafe.BitCast<T, Half>(value))
            : typeof(T) == typeof(BFloat16) ? (float)Unsafe.BitCast<T, BFloat16>(value)
            : Unsafe.BitCast<T, double>(value);

    /// <summary>The value of an element of a type that is computed in float.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static float ToFloat<T>(T value) where T : unmanaged => typeof(T) == typeof(float) ? Unsafe.BitCast<T, float>(value) : (float)ToDouble(value);

    /// <summary>The nearest element to a value; 16 bits by way of float, as in <see cref="Narrow{T}"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static T FromDouble<T>(double value) where T : unmanaged
        => typeof(T) == typeof(float) ? Unsafe.BitCast<float, T>((float)value)
            : typeof(T) == typeof(Half) ? Unsafe.BitCast<Half, T>((Half)(float)value)
            : typeof(T) == typeof(BFloat16) ? Unsafe.BitCast<BFloat16, T>((BFloat16)(float)value)
            : Unsafe.BitCast<double, T>(value);

    /// <summary>The distance from 1 to the next number of the type that the arithmetic is in (Python's <c>torch.finfo(...).eps</c>).</summary>
    internal static double MachineEpsilon<T>() => typeof(T) == typeof(double) ? 2.220446049250313e-16 : 1.1920928955078125e-07;

    /// <summary>
    /// Whether products of values up to a group's largest deviation and 1/deviation <paramref name="rstd"/> stay far inside the
    /// element type's range, so that the arithmetic may run in that type. False for NaN and infinity.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static bool IsOrdinary<T>(double rstd)
        => typeof(T) == typeof(float) ? rstd is > LeastFloatRstd and < LargestFloatRstd : rstd is > 1e-120 and < 1e120;
}
