using System.Numerics.Tensors;
using NormLayers.IO;
using Xunit;

namespace NormLayers.Tests.IO;

public sealed class ElementTypesTests : IDisposable
{
    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData(ElementType.Boolean, 1, "bool")]
    [InlineData(ElementType.Int8, 1, "int8")]
    [InlineData(ElementType.UInt8, 1, "uint8")]
    [InlineData(ElementType.Int16, 2, "int16")]
    [InlineData(ElementType.UInt16, 2, "uint16")]
    [InlineData(ElementType.Int32, 4, "int32")]
    [InlineData(ElementType.UInt32, 4, "uint32")]
    [InlineData(ElementType.Int64, 8, "int64")]
    [InlineData(ElementType.UInt64, 8, "uint64")]
    [InlineData(ElementType.Float16, 2, "float16")]
    [InlineData(ElementType.BFloat16, 2, "bfloat16")]
    [InlineData(ElementType.Float32, 4, "float32")]
    [InlineData(ElementType.Float64, 8, "float64")]
    public void SizeAndName_EachType_AreThoseOfPyTorch(ElementType type, int size, string name)
    {
        Assert.Equal(size, type.Size());
        Assert.Equal(name, type.TorchName());
    }

    [Fact]
    public void Of_OtherType_IsRefused()
    {
        Assert.Equal(ElementType.BFloat16, ElementTypes.Of<BFloat16>());
        Assert.Contains("System.Char", Assert.Throws<NotSupportedException>(() => ElementTypes.Of<char>()).Message);
        Assert.Throws<ArgumentOutOfRangeException>(() => ((ElementType)99).Size());
        Assert.Throws<ArgumentOutOfRangeException>(() => ((ElementType)99).TorchName());
    }

    [Fact]
    public void ReadAs_FromEveryType_GivesTheSameNumbers()
    {
        Check<bool>([true, false], [1, 0]);
        Check<sbyte>([-128, 127], [-128, 127]);
        Check<byte>([0, 255], [0, 255]);
        Check<short>([-256, 3], [-256, 3]);
        Check<ushort>([65280, 3], [65280, 3]);
        Check<int>([-4096, 3], [-4096, 3]);
        Check<uint>([61440, 3], [61440, 3]);
        Check<long>([-4096, 3], [-4096, 3]);
        Check<ulong>([61440, 3], [61440, 3]);
        Check([(Half)(-1.5), Half.PositiveInfinity], [-1.5, double.PositiveInfinity]);
        Check([(BFloat16)(-1.5f), (BFloat16)0.0078125f], [-1.5, 0.0078125]);
        Check([-1.5f, float.NaN], [-1.5, double.NaN]);
        Check([-1.5, double.NegativeInfinity], [-1.5, double.NegativeInfinity]);
    }

    [Fact]
    public void ReadAs_DoubleNearHalfway_RoundsOnce()
    {
        // Just above the middle between two neighbours, by less than a float can show: rounding twice would give 1.
        double[] halves = [1 + Math.ScaleB(1, -11) + Math.ScaleB(1, -40), 65519.999999, 65520, Math.ScaleB(1, -25), Math.ScaleB(1.0001, -25)];
        Assert.Equal(
            [0x3C01, 0x7BFF, 0x7C00, 0, 1],
            Array.ConvertAll(Stored<double, Half>(halves), half => (int)BitConverter.HalfToUInt16Bits(half)));
        double[] brains = [1 + Math.ScaleB(1, -8) + Math.ScaleB(1, -40), 1 + Math.ScaleB(1, -8), 1e300];
        Assert.Equal([0x3F81, 0x3F80, 0x7F80], Array.ConvertAll(Stored<double, BFloat16>(brains), brain => (int)BFloat16.ToBits(brain)));
    }

    [Fact]
    public void ReadAs_LargeIntegers_RoundOnce()
    {
        // 2^62 + half a step of the target + 1: through a double, or a float, the 1 is lost and the tie goes down.
        const long SingleTie = (1L << 62) + (1L << 38) + 1;
        const long BrainTie = (1L << 62) + (1L << 54) + 1;
        Assert.Equal([4611686568183201792f, -4611686568183201792f, 4611686018427387904f], Stored<long, float>([SingleTie, -SingleTie, SingleTie - 1]));
        Assert.Equal([0x5E81, 0xDE81, 0x5E80], Array.ConvertAll(Stored<long, BFloat16>([BrainTie, -BrainTie, BrainTie - 1]), brain => (int)BFloat16.ToBits(brain)));

        // 2^63 + 2^10 is the middle between two doubles.
        const ulong DoubleTie = (1UL << 63) + (1UL << 10);
        Assert.Equal([9223372036854775808.0, 9223372036854777856.0, 18446744073709551616.0], Stored<ulong, double>([DoubleTie, DoubleTie + 1, ulong.MaxValue]));
        Assert.Equal([18446744073709551616f, -9223372036854775808f], [Stored<ulong, float>([ulong.MaxValue])[0], Stored<long, float>([long.MinValue])[0]]);
        Assert.Equal([(Half)65504f, Half.PositiveInfinity], Stored<int, Half>([65519, 65520]));
    }

    private void Check<T>(T[] values, double[] expected)
        where T : unmanaged
    {
        Assert.Equal(expected, Stored<T, double>(values));
        Assert.Equal(Array.ConvertAll(expected, number => (float)number), Stored<T, float>(values));
        Assert.Equal(Array.ConvertAll(expected, number => (Half)number), Stored<T, Half>(values));
        Assert.Equal(Array.ConvertAll(expected, number => (BFloat16)number), Stored<T, BFloat16>(values));
    }

    private TResult[] Stored<T, TResult>(T[] values)
        where T : unmanaged
        where TResult : unmanaged
    {
        string path = folder[$"{typeof(T).Name}.safetensors"];
        var writer = new SafetensorsWriter();
        writer.Add("x", Tensor.Create(values));
        writer.Save(path, overwrite: true);
        using SafetensorsFile file = SafetensorsFile.Open(path);
        return RoundTripTests.Flat(file.ReadAs<TResult>("x"));
    }
}
