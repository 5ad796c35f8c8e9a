using Xunit;

namespace NormLayers.Tests.CommandLine;

public sealed class CliCompareTests : Sandbox
{
    // What numpy.allclose(a, b, rtol, atol, equal_nan=True) says.
    [Theory]
    [InlineData(1.0, 1.0, 0, 0, true)]
    [InlineData(0.0, -0.0, 0, 0, true)]
    [InlineData(1.5, 1.0, 0.5, 0, true)]
    [InlineData(1.0, 1.5, 0.25, 0, false)]
    [InlineData(10, 8, 0.25, 0, true)]
    [InlineData(8, 10, 0.1875, 0, false)]
    [InlineData(3, 2, 0.25, 0.5, true)]
    [InlineData(3, 2, 0.25, 0.4375, false)]
    [InlineData(1e-9, 0, 1, 0, false)]
    [InlineData(double.NaN, double.NaN, 0, 0, true)]
    [InlineData(double.NaN, 1, 1e300, 1e300, false)]
    [InlineData(1, double.NaN, 1e300, 1e300, false)]
    [InlineData(double.PositiveInfinity, double.PositiveInfinity, 0, 0, true)]
    [InlineData(double.PositiveInfinity, double.NegativeInfinity, 1, 1, false)]
    [InlineData(1, double.PositiveInfinity, 1, 1, false)]
    [InlineData(double.PositiveInfinity, 1, 1, 1, false)]
    public void Compare_Pair_FollowsAllclose(double a, double b, double rtol, double atol, bool close)
    {
        Result result = Compare(Npy("a.npy", [1], a), Npy("b.npy", [1], b), rtol, atol);
        Assert.Equal(close ? 0 : 1, result.Code);
        Assert.Equal("", result.Error);
        Assert.Contains(close ? "equal within tolerance" : "different: 1 of 1 outside tolerance, the first at (0,)", result.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Compare_Differences_SaysHowLargeAndWhere()
    {
        string a = Npy("a.npy", [2, 3], 1f, 2, 3, 4, 5, 100);
        string b = Npy("b.npy", [2, 3], 1f, 2, 3, 4, MathF.BitIncrement(5), 104);

        Result result = Compare(a, b, 1e-5, 0);

        Assert.Equal(1, result.Code);
        Assert.Equal("6, 66.67% of them equal", Line(result, "elements"));
        Assert.Equal("4 at (1, 2): 100 and 104", Line(result, "largest absolute difference"));
        Assert.Equal("0.0384615 at (1, 2): 100 and 104", Line(result, "largest relative difference"));
        Assert.Equal("524288 at (1, 2): 100 and 104", Line(result, "largest ulp difference"));
        Assert.Equal("different: 1 of 6 outside tolerance, the first at (1, 2)", Line(result, "verdict"));
    }

    [Fact]
    public void Compare_UlpsAcrossZero_CountsBothSides()
    {
        Result result = Compare(Npy("a.npy", [], -double.Epsilon), Npy("b.npy", [], double.Epsilon), 0, 1);
        Assert.Equal(0, result.Code);
        Assert.StartsWith("2 at ():", Line(result, "largest ulp difference"), StringComparison.Ordinal);
    }

    [Fact]
    public void Compare_NaNOnOneSide_IsTheLargestDifference()
    {
        Result result = Compare(Npy("a.npy", [3], 1f, float.NaN, 5), Npy("b.npy", [3], 1f, 2, 1e30f), 0, 0);
        Assert.Equal("infinite at (1,): NaN and 2", Line(result, "largest absolute difference"));
    }

    [Fact]
    public void Compare_DifferentTypes_AsDoubleWithoutUlps()
    {
        Result result = Compare(Npy("a.npy", [2], 1f, 2f), Npy("b.npy", [2], 1L, 2L), 0, 0);
        Assert.Equal(0, result.Code);
        Assert.Equal("2, all of them equal", Line(result, "elements"));
        Assert.DoesNotContain("ulp", result.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Compare_FloatWithItsDouble_SeesTheRounding()
        => Assert.Equal(1, Compare(Npy("a.npy", [1], 0.1f), Npy("b.npy", [1], 0.1), 0, 0).Code);

    [Fact]
    public void Compare_Booleans_AreNumbers()
        => Assert.Equal(1, Compare(Npy("a.npy", [2], true, false), Npy("b.npy", [2], true, true), 0, 0).Code);

    [Fact]
    public void Compare_OtherLayout_ComparesByIndex()
    {
        string a = Npy("a.npy", [2, 3], 1f, 2, 3, 4, 5, 6);
        Assert.Equal(0, Compare(a, ForeignNpy("f.npy", fortranOrder: true, "<f4", "(2, 3)", [1, 4, 2, 5, 3, 6]), 0, 0).Code);
        Assert.Equal(0, Compare(a, ForeignNpy("g.npy", fortranOrder: false, ">f4", "(2, 3)", [1, 2, 3, 4, 5, 6]), 0, 0).Code);
    }

    [Fact]
    public void Compare_ManyBlocks_FindsTheLast()
    {
        var a = new double[5000];
        var b = new double[5000];
        b[4999] = 1;
        Result result = Compare(Npy("a.npy", [50, 100], a), Npy("b.npy", [50, 100], b), 0, 0);
        Assert.Equal("different: 1 of 5,000 outside tolerance, the first at (49, 99)", Line(result, "verdict"));
        Assert.Equal("5,000, 99.98% of them equal", Line(result, "elements"));
    }

    [Fact]
    public void Compare_NoElements_AreEqual()
        => Assert.Equal(0, Compare(Npy<float>("a.npy", [0, 3]), Npy<float>("b.npy", [0, 3]), 0, 0).Code);

    [Fact]
    public void Compare_Shapes_SaysBoth()
    {
        Result result = Compare(Npy("a.npy", [2], 1f, 2f), Npy("b.npy", [2, 1], 1f, 2f), 0, 0);
        Assert.Equal(1, result.Code);
        Assert.Equal($"different: {File("a.npy")} has the shape (2,), {File("b.npy")} the shape (2, 1)", result.Output.TrimEnd());
    }

    [Fact]
    public void Compare_Missing_Refused()
        => Assert.EndsWith("there is no such file.", Refuse("compare", File("a.npy"), File("b.npy")), StringComparison.Ordinal);

    private static Result Compare(string a, string b, double rtol, double atol)
        => Run("compare", a, b, FormattableString.Invariant($"--rtol={rtol:r}"), FormattableString.Invariant($"--atol={atol:r}"));

    private static string Line(Result result, string label)
        => result.Output.Split(Environment.NewLine).Single(line => line.StartsWith(label + " ", StringComparison.Ordinal))[label.Length..].Trim();
}
