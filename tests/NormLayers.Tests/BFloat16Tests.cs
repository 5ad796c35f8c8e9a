using Xunit;

namespace NormLayers.Tests;

public sealed class BFloat16Tests
{
    [Fact]
    public void FromFloat_EveryBFloat16_ComesBack()
    {
        for (int bits = 0; bits <= ushort.MaxValue; bits++)
        {
            BFloat16 value = BFloat16.FromBits((ushort)bits);
            if (float.IsNaN((float)value))
                Assert.True(float.IsNaN((float)(BFloat16)(float)value));
            else
                Assert.Equal(bits, BFloat16.ToBits((BFloat16)(float)value));
        }
    }

    [Theory]
    [InlineData(0x3F808000u, 0x3F80)] // halfway, even below
    [InlineData(0x3F818000u, 0x3F82)] // halfway, even above
    [InlineData(0x3F808001u, 0x3F81)]
    [InlineData(0x7F7FFFFFu, 0x7F80)] // past the largest: infinity
    [InlineData(0xFF800000u, 0xFF80)]
    [InlineData(0x00008000u, 0x0000)]
    [InlineData(0x00018000u, 0x0002)]
    public void FromFloat_BetweenTwo_RoundsToNearestEven(uint word, int expected)
        => Assert.Equal(expected, BFloat16.ToBits((BFloat16)BitConverter.UInt32BitsToSingle(word)));

    [Theory]
    [InlineData(1.00390625 + 1e-12, 0x3F81)] // just above halfway: rounding twice would go down
    [InlineData(1.00390625 - 1e-12, 0x3F80)]
    [InlineData(-1.01171875 + 1e-12, 0xBF81)]
    [InlineData(1e300, 0x7F80)]
    [InlineData(double.NegativeInfinity, 0xFF80)]
    public void FromDouble_NearHalfway_RoundsOnce(double value, int expected)
        => Assert.Equal(expected, BFloat16.ToBits((BFloat16)value));

    [Fact]
    public void FromFloat_NaN_StaysQuietNaN()
        => Assert.True(float.IsNaN((float)(BFloat16)BitConverter.UInt32BitsToSingle(0x7F800001)));
}
