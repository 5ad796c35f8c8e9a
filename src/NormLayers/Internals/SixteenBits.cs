using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace NormLayers.Internals;

/// <summary>
/// <see cref="Half"/> and <see cref="BFloat16"/> to <see cref="float"/>, exactly, and back, to the nearest and ties to even:
/// what lets the kernels of float serve the 16-bit types.
/// </summary>
/// <remarks>
/// Integer operations on 16 lanes, since .NET has no vector instruction for them that exists on every machine; no step takes
/// a subnormal operand, which some processors handle a hundred times slower. Overflow gives infinity, NaN a quiet NaN.
/// </remarks>
internal static unsafe class SixteenBits
{
    /// <summary>Whether the type is one of the two.</summary>
    internal static bool Is<T>() => typeof(T) == typeof(Half) || typeof(T) == typeof(BFloat16);

    /// <summary>Widens 16 elements.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<float> Widen<T>(ref readonly T source, nint offset) where T : unmanaged
    {
        Vector256<ushort> packed = Vector256.LoadUnsafe(in Unsafe.As<T, ushort>(ref Unsafe.AsRef(in source)), (nuint)offset);
        return Widen<T>(Vector512.WidenLower(packed.ToVector512Unsafe()));
    }

    /// <summary>Widens 32 elements, those of even index and those of odd: fewer steps than in their order, and none across lanes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static (Vector512<float> Even, Vector512<float> Odd) WidenPairs<T>(T* source) where T : unmanaged
    {
        Vector512<uint> bits = Vector512.Load((uint*)source);
        if (typeof(T) == typeof(BFloat16))
            return (Vector512.ShiftLeft(bits, 16).AsSingle(), (bits & Vector512.Create(0xFFFF0000)).AsSingle());
        return (Widen<T>(bits & Vector512.Create(0xFFFFu)), Widen<T>(Vector512.ShiftRightLogical(bits, 16)));
    }

    /// <summary>Rounds 32 floats, and puts those of the first vector at even indices and those of the second at odd ones.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<uint> NarrowPairs<T>(Vector512<float> even, Vector512<float> odd) where T : unmanaged
    {
        if (typeof(T) == typeof(BFloat16))
            return Vector512.ConditionalSelect(Vector512.Create(0xFFFF0000), Rounded(odd), Vector512.ShiftRightLogical(Rounded(even), 16));
        return Narrow<T>(even) | Vector512.ShiftLeft(Narrow<T>(odd), 16);
    }

    /// <summary>The nearest bfloat16 in the upper 16 bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<uint> Rounded(Vector512<float> value)
    {
        Vector512<uint> bits = value.AsUInt32(), even = Vector512.ShiftRightLogical(bits, 16) & Vector512<uint>.One;
        return Vector512.ConditionalSelect(Vector512.Equals(value, value).AsUInt32(), bits + even + Vector512.Create(0x7FFFu), bits | Vector512.Create(0x400000u));
    }

    /// <summary>Rounds 16 floats and stores them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Narrow<T>(Vector512<float> value, ref T destination, nint offset) where T : unmanaged
    {
        Pack(Narrow<T>(value)).StoreUnsafe(ref Unsafe.As<T, ushort>(ref destination), (nuint)offset);
    }

    /// <summary>Rounds 16 floats and stores them past the caches, at an address that is a multiple of 32.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Stream<T>(Vector512<float> value, T* address) where T : unmanaged
    {
        Pack(Narrow<T>(value)).StoreAlignedNonTemporal((ushort*)address);
    }

    /// <summary>The low 16 bits of each lane, the high ones being zero.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<ushort> Pack(Vector512<uint> bits)
        => Avx512F.IsSupported ? Avx512F.ConvertToVector256UInt16(bits) : Vector256.Narrow(bits.GetLower(), bits.GetUpper());

    /// <summary>Widens a run of elements.</summary>
    internal static void Widen<T>(T* source, float* destination, nint length) where T : unmanaged
    {
        if (length < 16)
        {
            WidenFew(source, destination, length);
            return;
        }
        nint i = 0;
        for (; i <= length - 32; i += 32)
        {
            (Vector512<uint> lower, Vector512<uint> upper) = Vector512.Widen(Vector512.Load((ushort*)source + i));
            Widen<T>(lower).Store(destination + i);
            Widen<T>(upper).Store(destination + i + 16);
        }
        // What is left in whole vectors, of which the last covers some elements again.
        for (; i < length; i += 16)
        {
            nint at = Math.Min(i, length - 16);
            Widen(in *source, at).Store(destination + at);
        }
    }

    /// <summary>Rounds a run of floats; the destination is apart from them.</summary>
    internal static void Narrow<T>(float* source, T* destination, nint length, bool stream) where T : unmanaged
    {
        if (length < 16)
        {
            NarrowFew(source, destination, length);
            return;
        }
        nint i = 0;
        if (stream && length >= 64)
        {
            i = Streaming.Head(ref *destination, length);
            if (i > 0)
                Narrow<T>(source, destination, i, false);
            for (; i <= length - 16; i += 16)
                Stream(Vector512.Load(source + i), destination + i);
            Narrow<T>(source + i, destination + i, length - i, false);
            return;
        }
        for (; i <= length - 32; i += 32)
            Vector512.Narrow(Narrow<T>(Vector512.Load(source + i)), Narrow<T>(Vector512.Load(source + i + 16))).Store((ushort*)destination + i);
        for (; i < length; i += 16)
        {
            nint at = Math.Min(i, length - 16);
            Narrow(Vector512.Load(source + at), ref *destination, at);
        }
    }

    [SkipLocalsInit]
    private static void WidenFew<T>(T* source, float* destination, nint length) where T : unmanaged
    {
        T* packed = stackalloc T[16];
        float* lanes = stackalloc float[16];
        new Span<T>(source, (int)length).CopyTo(new Span<T>(packed, 16));
        Widen(in *packed, 0).Store(lanes);
        new Span<float>(lanes, (int)length).CopyTo(new Span<float>(destination, (int)length));
    }

    [SkipLocalsInit]
    private static void NarrowFew<T>(float* source, T* destination, nint length) where T : unmanaged
    {
        float* lanes = stackalloc float[16];
        T* packed = stackalloc T[16];
        new Span<float>(source, (int)length).CopyTo(new Span<float>(lanes, 16));
        Narrow(Vector512.Load(lanes), ref *packed, 0);
        new Span<T>(packed, (int)length).CopyTo(new Span<T>(destination, (int)length));
    }

    /// <summary>The floats of the low 16 bits of each lane, the high ones being zero.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Widen<T>(Vector512<uint> bits) where T : unmanaged
    {
        if (typeof(T) == typeof(BFloat16))
            return Vector512.ShiftLeft(bits, 16).AsSingle();

        // Exponent and fraction move into place and the exponent's bias grows by 112; by another 112 from infinity on.
        const uint BiasStep = 112u << 23, LeastNormal = 1u << 10, Infinity = 0x7C00;
        Vector512<uint> magnitude = bits & Vector512.Create(0x7FFFu);
        Vector512<uint> value = Vector512.ShiftLeft(magnitude, 13) + Vector512.Create(BiasStep);
        value = Vector512.ConditionalSelect(Vector512.GreaterThanOrEqual(magnitude, Vector512.Create(Infinity)), value + Vector512.Create(BiasStep), value);
        // A subnormal's fraction, under the exponent of 2^-14, is that much too large.
        Vector512<float> subnormal = (value + Vector512.Create(1u << 23)).AsSingle() - Vector512.Create(6.103515625e-05f);
        value = Vector512.ConditionalSelect(Vector512.LessThan(magnitude, Vector512.Create(LeastNormal)), subnormal.AsUInt32(), value);
        return (value | Vector512.ShiftLeft(bits ^ magnitude, 16)).AsSingle();
    }

    /// <summary>The 16 bits of each rounded float.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<uint> Narrow<T>(Vector512<float> value) where T : unmanaged
    {
        if (typeof(T) == typeof(BFloat16))
            return Vector512.ShiftRightLogical(Rounded(value), 16);
        Vector512<uint> bits = value.AsUInt32();

        const uint Infinity = 0x7C00, QuietNaN = 0x7E00;
        Vector512<uint> magnitude = bits & Vector512.Create(0x7FFFFFFFu);
        Vector512<uint> odd = Vector512.ShiftRightLogical(magnitude, 13) & Vector512<uint>.One;
        Vector512<uint> rounded = Vector512.ShiftRightLogical(magnitude + odd + Vector512.Create(unchecked(0xFFFu - (112u << 23))), 13);
        // Beside 1/2, the last bit of a float is the spacing of the subnormals: the addition rounds.
        Vector512<uint> half = Vector512.Create(0.5f).AsUInt32();
        Vector512<uint> subnormal = (magnitude.AsSingle() + half.AsSingle()).AsUInt32() - half;
        rounded = Vector512.ConditionalSelect(Vector512.LessThan(magnitude, Vector512.Create(113u << 23)), subnormal, rounded);
        // From 2^16 on; what lies below and rounds up to it has carried into infinity already.
        Vector512<uint> special = Vector512.ConditionalSelect(Vector512.Equals(value, value).AsUInt32(), Vector512.Create(Infinity), Vector512.Create(QuietNaN));
        rounded = Vector512.ConditionalSelect(Vector512.LessThan(magnitude, Vector512.Create(143u << 23)), rounded, special);
        return rounded | Vector512.ShiftRightLogical(bits ^ magnitude, 16);
    }
}
