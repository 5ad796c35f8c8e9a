using System.Runtime.CompilerServices;
using NormLayers.Internals;
using Xunit;

namespace NormLayers.Tests;

/// <summary>The vector conversions of the 16-bit types against the scalar ones of .NET and of BFloat16.</summary>
public sealed unsafe class SixteenBitsTests
{
    [Fact]
    public void Widen_EveryHalf_IsExact() => WidenAll<Half>();

    [Fact]
    public void Widen_EveryBFloat16_IsExact() => WidenAll<BFloat16>();

    [Fact]
    public void Narrow_AroundEveryHalf_RoundsToNearestEven() => NarrowAll<Half>();

    [Fact]
    public void Narrow_AroundEveryBFloat16_RoundsToNearestEven() => NarrowAll<BFloat16>();

    [Fact]
    public void Conversions_OfEveryLength_TouchNothingElse()
    {
        CheckLengths<Half>();
        CheckLengths<BFloat16>();
    }

    private static T[] All<T>() where T : unmanaged => [.. Enumerable.Range(0, 65536).Select(bits => Unsafe.BitCast<ushort, T>((ushort)bits))];

    private static void WidenAll<T>() where T : unmanaged
    {
        T[] all = All<T>();
        float[] floats = Widen(all);
        for (int i = 0; i < all.Length; i++)
            Assert.True(Same((float)Numbers.ToDouble(all[i]), floats[i]), $"{i:X4} gave {floats[i]}");
    }

    /// <summary>Every number, every point halfway to the next, and the floats on both sides of each: all that rounding can get wrong.</summary>
    private static void NarrowAll<T>() where T : unmanaged
    {
        var floats = new List<float>();
        for (int bits = 0; bits < 0x8000; bits++)
        {
            // In double, since halfway between the largest and infinity (were it a number) is beyond it.
            double number = Numbers.ToDouble(Unsafe.BitCast<ushort, T>((ushort)bits)), next = Numbers.ToDouble(Unsafe.BitCast<ushort, T>((ushort)(bits + 1)));
            if (double.IsNaN(number))
            {
                floats.Add((float)number);
                continue;
            }
            double before = Numbers.ToDouble(Unsafe.BitCast<ushort, T>((ushort)Math.Max(0, bits - 1)));
            float middle = (float)(double.IsFinite(next) ? (number + next) / 2 : number + (number - before) / 2);
            foreach (float value in (float[])[(float)number, middle])
                floats.AddRange(float.BitDecrement(value), value, float.BitIncrement(value));
        }
        floats.AddRange(1e10f, 3e38f, float.MaxValue, float.Epsilon, 1e-40f, float.PositiveInfinity, BitConverter.UInt32BitsToSingle(0x7F800001));
        floats.AddRange([.. floats.Select(value => -value)]);

        T[] actual = Narrow<T>([.. floats]);
        for (int i = 0; i < actual.Length; i++)
        {
            double expected = Numbers.ToDouble(Numbers.FromDouble<T>(floats[i]));
            Assert.True(Same((float)expected, (float)Numbers.ToDouble(actual[i])), $"{floats[i]:R} gave {Numbers.ToDouble(actual[i]):R}, expected {expected:R}");
        }
    }

    private static void CheckLengths<T>() where T : unmanaged
    {
        for (int length = 0; length <= 257; length++)
        {
            for (int offset = 0; offset < 3; offset++)
            {
                T one = Numbers.FromDouble<T>(1);
                T[] source = [.. Enumerable.Range(0, length).Select(i => Numbers.FromDouble<T>(i + 3))];
                var floats = new float[length + 2];
                var back = new T[length + 64];
                foreach (bool stream in (bool[])[false, true])
                {
                    floats.AsSpan().Fill(1);
                    back.AsSpan().Fill(one);
                    fixed (T* first = source, result = back)
                    fixed (float* widened = floats)
                    {
                        SixteenBits.Widen(first, widened + 1, length);
                        SixteenBits.Narrow(widened + 1, result + offset, length, stream);
                    }
                    Streaming.Fence();
                    Assert.Equal([1f, .. source.Select(value => (float)Numbers.ToDouble(value)), 1f], floats);
                    Assert.Equal(source, back[offset..(offset + length)]);
                    Assert.All(back[..offset], value => Assert.Equal(one, value));
                    Assert.All(back[(offset + length)..], value => Assert.Equal(one, value));
                }
            }
        }
    }

    private static float[] Widen<T>(T[] values) where T : unmanaged
    {
        var floats = new float[values.Length];
        fixed (T* source = values)
        fixed (float* destination = floats)
            SixteenBits.Widen(source, destination, values.Length);
        return floats;
    }

    private static T[] Narrow<T>(float[] values) where T : unmanaged
    {
        var result = new T[values.Length];
        fixed (float* source = values)
        fixed (T* destination = result)
            SixteenBits.Narrow(source, destination, values.Length, stream: false);
        return result;
    }

    /// <summary>Equal, zeros with their signs, or both NaN.</summary>
    private static bool Same(float expected, float actual)
        => float.IsNaN(expected) ? float.IsNaN(actual) : BitConverter.SingleToInt32Bits(expected) == BitConverter.SingleToInt32Bits(actual);
}
