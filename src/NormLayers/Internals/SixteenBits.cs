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
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static bool Is<T>() => typeof(T) == typeof(Half) || typeof(T) == typeof(BFloat16);

    /// <summary>Widens a half; .NET's conversion takes ten times as long.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static float Widen(Half value)
    {
        int bits = BitConverter.HalfToInt16Bits(value);
        return (bits + ExponentStep & InnerExponents) == 0 ? (float)value : BitConverter.UInt32BitsToSingle((uint)bits << 13 & Placed) * BiasFactor;
    }

    /// <summary>Widens 16 elements.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<float> Widen<T>(ref readonly T source, nint offset) where T : unmanaged
    {
        Vector256<ushort> packed = Vector256.LoadUnsafe(in Unsafe.As<T, ushort>(ref Unsafe.AsRef(in source)), (nuint)offset);
        if (typeof(T) == typeof(BFloat16))
            return Vector512.ShiftLeft(Vector512.WidenLower(packed.ToVector512Unsafe()), 16).AsSingle();
        Vector512<uint> placed = Vector512.ShiftLeft(Vector512.WidenLower(packed.AsInt16().ToVector512Unsafe()), 13).AsUInt32() & Vector512.Create(Placed);
        if (Vector256.EqualsAny((packed + Vector256.Create(ExponentStep)) & Vector256.Create(InnerExponents), Vector256<ushort>.Zero) && !Vector256.EqualsAll(packed << 1, Vector256<ushort>.Zero))
            return Exactly(placed);
        return placed.AsSingle() * Vector512.Create(BiasFactor);
    }

    /// <summary>Widens 32 elements, those of even index and those of odd: fewer steps than in their order, and none across lanes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static (Vector512<float> Even, Vector512<float> Odd) WidenPairs<T>(T* source) where T : unmanaged
    {
        Vector512<uint> bits = Vector512.Load((uint*)source);
        if (typeof(T) == typeof(BFloat16))
            return (Vector512.ShiftLeft(bits, 16).AsSingle(), (bits & Vector512.Create(0xFFFF0000)).AsSingle());
        Vector512<uint> even = Vector512.ShiftRightArithmetic(Vector512.ShiftLeft(bits, 16).AsInt32(), 3).AsUInt32() & Vector512.Create(Placed);
        Vector512<uint> odd = Vector512.ShiftRightArithmetic(bits.AsInt32(), 3).AsUInt32() & Vector512.Create(Placed);
        if (Vector512.EqualsAny((bits.AsUInt16() + Vector512.Create(ExponentStep)) & Vector512.Create(InnerExponents), Vector512<ushort>.Zero) && AreSpecial(bits.AsUInt16()))
            return (Exactly(even), Exactly(odd));
        return (even.AsSingle() * Vector512.Create(BiasFactor), odd.AsSingle() * Vector512.Create(BiasFactor));
    }

    // A half's sign, exponent and fraction where those of a float are. What its exponent is too small by, one product makes up for; but that
    // of a subnormal number takes some processors a hundred times as long, and infinity needs another exponent still.
    private const uint Placed = 0x8FFFE000, BiasStep = 112u << 23;
    private const float BiasFactor = 5.192296858534828e33f;

    // One step takes the exponent of infinity and NaN to zero, and that of zero and the subnormals no further than below the second bit.
    private const ushort ExponentStep = 0x0400, InnerExponents = 0x7800;

    /// <summary>Whether there are subnormals, infinities or NaN among halves, and not just zeros.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool AreSpecial(Vector512<ushort> bits)
    {
        // Without the sign, and turned so that infinity and NaN, zero and the subnormals follow each other.
        Vector512<ushort> turned = (bits << 1) + Vector512.Create((ushort)0x0800);
        return Vector512.LessThanAny(Vector512.ConditionalSelect(Vector512.Equals(turned, Vector512.Create((ushort)0x0800)), Vector512<ushort>.AllBitsSet, turned), Vector512.Create((ushort)0x1000));
    }

    /// <summary>The floats of any halves, from what is theirs in its place.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Exactly(Vector512<uint> placed)
    {
        Vector512<uint> magnitude = placed & Vector512.Create(0x7FFFFFFFu), value = magnitude + Vector512.Create(BiasStep);
        value = Vector512.ConditionalSelect(Vector512.GreaterThanOrEqual(magnitude, Vector512.Create(31u << 23)), value + Vector512.Create(BiasStep), value);
        // A subnormal's fraction, under the exponent of 2^-14, is that much too large.
        Vector512<float> subnormal = (value + Vector512.Create(1u << 23)).AsSingle() - Vector512.Create(6.103515625e-05f);
        value = Vector512.ConditionalSelect(Vector512.LessThan(magnitude, Vector512.Create(1u << 23)), subnormal.AsUInt32(), value);
        return (value | placed ^ magnitude).AsSingle();
    }

    /// <summary>Rounds 32 floats, and puts those of the first vector at even indices and those of the second at odd ones.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<uint> NarrowPairs<T>(Vector512<float> even, Vector512<float> odd) where T : unmanaged
    {
        Vector512<uint> lower = Vector512.Create(0xFFFFu);
        if (typeof(T) == typeof(BFloat16))
        {
            if (AnyNaN(even, odd))
                (even, odd) = (WithQuietNaN(even), WithQuietNaN(odd));
            return Vector512.ConditionalSelect(lower, Vector512.ShiftRightLogical(Rounded(even), 16), Rounded(odd));
        }
        Vector512<uint> magnitudes = Vector512.Create(0x7FFFFFFFu), a = even.AsUInt32() & magnitudes, b = odd.AsUInt32() & magnitudes;
        if (Vector512.GreaterThanOrEqualAny(Vector512.Max(a, b).AsInt32(), Vector512.Create((int)BeyondHalf)))
            (a, b) = (Limited(a), Limited(b));
        Vector512<uint> rounded = Vector512.ConditionalSelect(lower, RoundedToHalf(a), Vector512.ShiftLeft(RoundedToHalf(b), 16));
        Vector512<uint> signs = Vector512.ConditionalSelect(lower, Vector512.ShiftRightLogical(even.AsUInt32(), 16), odd.AsUInt32());
        return Vector512.ConditionalSelect(Vector512.Create(0x7FFF7FFFu), rounded, signs);
    }

    /// <summary>2^16, which no half holds.</summary>
    private const uint BeyondHalf = 143u << 23;

    /// <summary>Magnitudes that are made as small as that, which rounds to infinity, or half as large again for NaN, which rounds to a quiet one.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<uint> Limited(Vector512<uint> magnitude)
    {
        Vector512<uint> infinity = Vector512.Create(BeyondHalf), isNaN = Vector512.GreaterThan(magnitude, Vector512.Create(0x7F800000u));
        return Vector512.Min(magnitude, Vector512.ConditionalSelect(isNaN, Vector512.Create(BeyondHalf | 1u << 22), infinity));
    }

    /// <summary>In the lower 16 bits of each lane the half nearest to a magnitude of at most 2^16 and a half.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<uint> RoundedToHalf(Vector512<uint> magnitude)
    {
        // Beside a power of two 13 higher than its own, the last bit of a float is that of the half: the sum is rounded as the half is, and counts the half's
        // steps from that power on. The sum's exponent then goes to its place, and what it is too large by the lower 16 bits lose to a count begun at 2^11.
        Vector512<uint> power = Vector512.Max(magnitude, Vector512.Create(113u << 23)) & Vector512.Create(0x7F800000u);
        Vector512<uint> sum = (magnitude.AsSingle() + (power + Vector512.Create((13u << 23) + 0x800)).AsSingle()).AsUInt32();
        return sum + Vector512.ShiftRightLogical(sum, 13);
    }

    /// <summary>The nearest bfloat16 in the upper 16 bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<uint> Rounded(Vector512<float> value)
    {
        // The last bit that stays, in the place of the last that goes, makes a tie that is to be rounded up more than one.
        Vector512<uint> bits = value.AsUInt32();
        return (bits | Vector512.ShiftRightLogical(bits, 16) & Vector512<uint>.One) + Vector512.Create(0x7FFFu);
    }

    /// <summary>NaN whose bits rounding leaves alone.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> WithQuietNaN(Vector512<float> value)
        => Vector512.ConditionalSelect(Vector512.Equals(value, value).AsUInt32(), value.AsUInt32(), (value.AsUInt32() | Vector512.Create(0x400000u)) & Vector512.Create(0xFFFF0000)).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool AnyNaN(Vector512<float> a, Vector512<float> b)
        => Avx512F.IsSupported ? Vector512.EqualsAny(Avx512F.CompareUnordered(a, b).AsUInt32(), Vector512<uint>.AllBitsSet) : !Vector512.EqualsAll(a, a) || !Vector512.EqualsAll(b, b);

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

    /// <summary>The low 16 bits of each lane.</summary>
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
        for (; i <= length - 16; i += 16)
            Widen(in *source, i).Store(destination + i);
        if (i < length)
            Widen(in *source, length - 16).Store(destination + length - 16);
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

    /// <summary>In the lower 16 bits of each lane those of the rounded float.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<uint> Narrow<T>(Vector512<float> value) where T : unmanaged
    {
        if (typeof(T) == typeof(BFloat16))
            return Vector512.ShiftRightLogical(Rounded(AnyNaN(value, value) ? WithQuietNaN(value) : value), 16);
        Vector512<uint> bits = value.AsUInt32(), magnitude = bits & Vector512.Create(0x7FFFFFFFu);
        if (Vector512.GreaterThanOrEqualAny(magnitude.AsInt32(), Vector512.Create((int)BeyondHalf)))
            magnitude = Limited(magnitude);
        return Vector512.ConditionalSelect(Vector512.Create(0x7FFFu), RoundedToHalf(magnitude), Vector512.ShiftRightLogical(bits, 16));
    }
}
