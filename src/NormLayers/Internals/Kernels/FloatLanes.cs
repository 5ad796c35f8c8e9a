using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>
/// 32 floats as two vectors, every operation on one and then on the other: a long chain of dependent operations leaves the
/// processor waiting, two chains side by side do not (docs/performance.md). The just-in-time compiler keeps the order it is given.
/// </summary>
internal readonly struct FloatLanes(Vector512<float> lower, Vector512<float> upper)
{
    internal const int Count = 32;

    internal static nint RoundUp(nint length) => (length + (Count - 1)) & -Count;

    private readonly Vector512<float> lower = lower, upper = upper;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static FloatLanes Load(ref readonly float source, nint offset) => new(Vector512.LoadUnsafe(in source, (nuint)offset), Vector512.LoadUnsafe(in source, (nuint)offset + 16));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal void Store(ref float destination, nint offset)
    {
        lower.StoreUnsafe(ref destination, (nuint)offset);
        upper.StoreUnsafe(ref destination, (nuint)offset + 16);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatLanes operator +(FloatLanes a, FloatLanes b) => new(a.lower + b.lower, a.upper + b.upper);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatLanes operator -(FloatLanes a, FloatLanes b) => new(a.lower - b.lower, a.upper - b.upper);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatLanes operator *(FloatLanes a, FloatLanes b) => new(a.lower * b.lower, a.upper * b.upper);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatLanes operator /(FloatLanes a, FloatLanes b) => new(a.lower / b.lower, a.upper / b.upper);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatLanes operator +(FloatLanes a, float b) => new(a.lower + Vector512.Create(b), a.upper + Vector512.Create(b));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatLanes operator -(FloatLanes a, float b) => new(a.lower - Vector512.Create(b), a.upper - Vector512.Create(b));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatLanes operator -(float a, FloatLanes b) => new(Vector512.Create(a) - b.lower, Vector512.Create(a) - b.upper);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatLanes operator *(FloatLanes a, float b) => new(a.lower * Vector512.Create(b), a.upper * Vector512.Create(b));

    /// <summary>The sign of another number on these magnitudes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal FloatLanes WithSignOf(FloatLanes other) => new(Vector512.CopySign(lower, other.lower), Vector512.CopySign(upper, other.upper));

    /// <summary>The upper 12 of the significand's 24 bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal FloatLanes UpperHalf() => new((lower.AsInt32() & Vector512.Create(-1 << 12)).AsSingle(), (upper.AsInt32() & Vector512.Create(-1 << 12)).AsSingle());

    /// <summary>The float whose bits are magic - bits · quarters / 4.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal FloatLanes GuessPower(int quarters, int magic)
    {
        return new(Guess(lower.AsInt32(), quarters, magic), Guess(upper.AsInt32(), quarters, magic));

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        static Vector512<float> Guess(Vector512<int> bits, int quarters, int magic) => quarters switch
        {
            1 => (Vector512.Create(magic) - Vector512.ShiftRightLogical(bits, 2)).AsSingle(),
            2 => (Vector512.Create(magic) - Vector512.ShiftRightLogical(bits, 1)).AsSingle(),
            _ => (Vector512.ShiftRightLogical(bits, 2) - bits + Vector512.Create(magic)).AsSingle(),
        };
    }

    /// <summary>Exponent e and significand m, so that this positive normal number is m · 2^e with m in [sqrt(1/2), sqrt(2)).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal (FloatLanes Exponent, FloatLanes Significand) Parts()
    {
        // Subtracting the bits of sqrt(1/2) puts m where it should be.
        Vector512<int> e0 = Vector512.ShiftRightArithmetic(lower.AsInt32() - Vector512.Create(0x3F3504F3), 23);
        Vector512<int> e1 = Vector512.ShiftRightArithmetic(upper.AsInt32() - Vector512.Create(0x3F3504F3), 23);
        return (new(Vector512.ConvertToSingle(e0), Vector512.ConvertToSingle(e1)),
            new((lower.AsInt32() - Vector512.ShiftLeft(e0, 23)).AsSingle(), (upper.AsInt32() - Vector512.ShiftLeft(e1, 23)).AsSingle()));
    }

    /// <summary>2^n, where this is n + 1.5 · 2^23 and the exponent fits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal FloatLanes PowerOfTwo()
        => new(Vector512.ShiftLeft(lower.AsInt32() + Vector512.Create(127), 23).AsSingle(), Vector512.ShiftLeft(upper.AsInt32() + Vector512.Create(127), 23).AsSingle());
}
