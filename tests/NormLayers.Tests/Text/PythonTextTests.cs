using System.Globalization;
using System.Text.Json;
using NormLayers.Internals;
using Xunit;

namespace NormLayers.Tests.Text;

public sealed class PythonTextTests
{
    [Theory]
    [InlineData(1, "repr")]
    [InlineData(2, ".4e")]
    [InlineData(3, ".4f")]
    [InlineData(4, ".0e")]
    [InlineData(5, ".1f")]
    public void Number_PythonTable_WritesTheSameText(int column, string form)
    {
        int compared = 0;
        foreach (JsonElement row in TorchText.Numbers)
        {
            string expected = row[column].GetString()!;
            if (expected.Length == 0)
                continue;
            double value = BitConverter.Int64BitsToDouble(long.Parse(row[0].GetString()!, NumberStyles.HexNumber, CultureInfo.InvariantCulture));
            string actual = form switch
            {
                "repr" => PythonText.Float(value),
                ".4e" => PythonText.Scientific(value, 4),
                ".0e" => PythonText.Scientific(value, 0),
                ".4f" => PythonText.Fixed(value, 4),
                _ => PythonText.Fixed(value, 1),
            };
            Assert.Equal(expected, actual);
            compared++;
        }
        Assert.True(compared >= 400);
    }

    [Fact]
    public void Float_EveryPowerOfTwo_ReadsBackTheSame()
    {
        for (int exponent = -1074; exponent < 1024; exponent++)
        {
            double value = Math.ScaleB(1, exponent);
            Assert.Equal(value, double.Parse(PythonText.Float(value), CultureInfo.InvariantCulture));
        }
    }

    [Theory]
    [InlineData(2.5, 0, "2")]
    [InlineData(3.5, 0, "4")]
    [InlineData(0.125, 2, "0.12")]
    [InlineData(-0.0, 0, "-0")]
    [InlineData(0.5, 0, "0")]
    public void Fixed_Tie_RoundsToEven(double value, int precision, string expected)
        => Assert.Equal(expected, PythonText.Fixed(value, precision));

    [Fact]
    public void Tuple_AnyRank_WritesAsPython()
    {
        Assert.Equal("()", PythonText.Tuple([]));
        Assert.Equal("(10,)", PythonText.Tuple([10]));
        Assert.Equal("(5, 10, 10)", PythonText.Tuple([5, 10, 10]));
    }

    [Fact]
    public void Bool_Both_WriteAsPython()
    {
        Assert.Equal("True", PythonText.Bool(true));
        Assert.Equal("False", PythonText.Bool(false));
    }
}
