using System.Globalization;

namespace NormLayers;

/// <summary>
/// A 16-bit floating-point number with the exponent range of <see cref="float"/> and 8 significant bits: the upper half of
/// its bits. The type of <c>torch.bfloat16</c> and of <c>BF16</c> tensors in .safetensors files.
/// </summary>
/// <remarks>
/// .NET 10 has no such type. This one holds the raw bits and nothing else, so spans of it can be reinterpreted as the type
/// that .NET 11 brings. Arithmetic is done in <see cref="float"/>; conversion to it is exact.
/// </remarks>
public readonly struct BFloat16 : IEquatable<BFloat16>
{
    private readonly ushort bits;

    private BFloat16(ushort bits) => this.bits = bits;

    /// <summary>Converts to the nearest bfloat16, ties to even. NaN stays NaN (made quiet); overflow gives infinity.</summary>
    /// <param name="value">The value to round.</param>
    public static explicit operator BFloat16(float value)
    {
        uint word = BitConverter.SingleToUInt32Bits(value);
        if (float.IsNaN(value))
            return new BFloat16((ushort)((word >> 16) | 0x40));
        return new BFloat16((ushort)((word + 0x7FFF + ((word >> 16) & 1)) >> 16));
    }

    /// <summary>Converts to the nearest bfloat16 with one rounding, ties to even.</summary>
    /// <param name="value">The value to round.</param>
    public static explicit operator BFloat16(double value)
    {
        // Rounding to odd first makes the second rounding (float to bfloat16) give the correctly rounded result.
        float single = (float)value;
        if (single != value && !double.IsNaN(value) && float.IsFinite(single))
        {
            uint word = BitConverter.SingleToUInt32Bits(single);
            if (Math.Abs((double)single) > Math.Abs(value))
                word--;
            single = BitConverter.UInt32BitsToSingle(word | 1);
        }
        return (BFloat16)single;
    }

    /// <summary>Converts to <see cref="float"/>, exactly.</summary>
    /// <param name="value">The value to convert.</param>
    public static explicit operator float(BFloat16 value) => BitConverter.UInt32BitsToSingle((uint)value.bits << 16);

    /// <summary>Converts to <see cref="double"/>, exactly.</summary>
    /// <param name="value">The value to convert.</param>
    public static explicit operator double(BFloat16 value) => (float)value;

    /// <summary>Makes a bfloat16 of its 16 bits.</summary>
    /// <param name="bits">Sign, 8 bits of exponent, 7 bits of fraction.</param>
    /// <returns>The number with these bits.</returns>
    public static BFloat16 FromBits(ushort bits) => new(bits);

    /// <summary>Gives the 16 bits of a bfloat16.</summary>
    /// <param name="value">The number.</param>
    /// <returns>Sign, 8 bits of exponent, 7 bits of fraction.</returns>
    public static ushort ToBits(BFloat16 value) => value.bits;

    /// <summary>Compares by value: NaN equals nothing, and the two zeros are equal.</summary>
    /// <param name="left">The first number.</param>
    /// <param name="right">The second number.</param>
    public static bool operator ==(BFloat16 left, BFloat16 right) => (float)left == (float)right;

    /// <summary>The negation of <c>==</c>.</summary>
    /// <param name="left">The first number.</param>
    /// <param name="right">The second number.</param>
    public static bool operator !=(BFloat16 left, BFloat16 right) => !(left == right);

    /// <summary>Compares as <see cref="float.Equals(float)"/> does: NaN equals NaN.</summary>
    /// <param name="other">The number to compare with.</param>
    /// <returns>Whether the two are the same number, or both NaN.</returns>
    public bool Equals(BFloat16 other) => ((float)this).Equals((float)other);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is BFloat16 other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => ((float)this).GetHashCode();

    /// <summary>Prints the number as <see cref="float"/> would, in the invariant culture.</summary>
    /// <returns>The shortest text that gives the same <see cref="float"/>.</returns>
    public override string ToString() => ((float)this).ToString(CultureInfo.InvariantCulture);
}
