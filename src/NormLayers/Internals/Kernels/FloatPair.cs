using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace NormLayers.Internals.Kernels;

/// <summary>
/// 32 floats. Each operation is done on one half and then on the other, so that long chains of dependent ones come in turns: one after
/// the other they would fill the window in which a processor looks for work.
/// </summary>
internal readonly struct FloatPair(Vector512<float> a, Vector512<float> b)
{
    internal const int Count = 32;

    internal readonly Vector512<float> A = a, B = b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static unsafe FloatPair Load(float* source) => new(Vector512.Load(source), Vector512.Load(source + 16));

    /// <summary>Widens 32 elements in the order of <see cref="Elements.LoadPairs"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static unsafe FloatPair Load<T>(T* source, nint offset) where T : unmanaged
    {
        (Vector512<float> a, Vector512<float> b) = Elements.LoadPairs(source, offset);
        return new(a, b);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal unsafe void Store(float* destination)
    {
        A.Store(destination);
        B.Store(destination + 16);
    }

    /// <summary>Rounds 32 elements that came in the order of <see cref="Elements.LoadPairs"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal unsafe void Store<T>(T* destination, nint offset) where T : unmanaged => default(Streaming).StorePairs(A, B, destination, offset);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatPair operator +(FloatPair left, FloatPair right) => new(left.A + right.A, left.B + right.B);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatPair operator -(FloatPair left, FloatPair right) => new(left.A - right.A, left.B - right.B);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatPair operator *(FloatPair left, FloatPair right) => new(left.A * right.A, left.B * right.B);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatPair operator /(FloatPair left, FloatPair right) => new(left.A / right.A, left.B / right.B);

    /// <summary>The same value 32 times.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static implicit operator FloatPair(float value) => new(Vector512.Create(value), Vector512.Create(value));
}
