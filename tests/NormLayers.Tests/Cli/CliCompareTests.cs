using System.Numerics.Tensors;
using System.Text.Json;
using NormLayers.IO;
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
        Assert.Equal("4 (1, 2) 100 104", Line(result, "absolute"));
        Assert.Equal("0.0384615 (1, 2) 100 104", Line(result, "relative"));
        Assert.Equal("524288 (1, 2) 100 104", Line(result, "ulp"));
        Assert.Equal("different: 1 of 6 outside tolerance, the first at (1, 2)", Line(result, "verdict"));
    }

    [Fact]
    public void Compare_UlpsAcrossZero_CountsBothSides()
    {
        Result result = Compare(Npy("a.npy", [], -double.Epsilon), Npy("b.npy", [], double.Epsilon), 0, 1);
        Assert.Equal(0, result.Code);
        Assert.StartsWith("2 () -5e-324 5e-324", Line(result, "ulp"), StringComparison.Ordinal);
    }

    [Fact]
    public void Compare_NaNOnOneSide_IsTheLargestDifference()
    {
        Result result = Compare(Npy("a.npy", [3], 1f, float.NaN, 5), Npy("b.npy", [3], 1f, 2, 1e30f), 0, 0);
        Assert.Equal("infinite (1,) NaN 2", Line(result, "absolute"));
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

    [Fact]
    public void Compare_UlpHistogram_CountsEachDistance()
    {
        float Up(float value, int ulps) => BitConverter.Int32BitsToSingle(BitConverter.SingleToInt32Bits(value) + ulps);
        float[] b = [1, 1, 1, 1, 1, 1, 1, 1, 1, 0];
        float[] a = [1, 1, Up(1, 1), Up(1, -1), Up(1, 2), Up(1, 3), Up(1, -4), Up(1, 5), float.NaN, -0f];
        Result result = Compare(Npy("a.npy", [10], a), Npy("b.npy", [10], b), 1, 0);
        string[] lines = result.Output[result.Output.IndexOf("ulps", StringComparison.Ordinal)..].Split(Environment.NewLine);
        Assert.Equal(
            ["ulps elements share", "0 3 30.00% ############", "1 2 20.00% ########", "2 1 10.00% ####", "3 to 4 2 20.00% ########", "5 to 8 1 10.00% ####", "infinite 1 10.00% ####", ""],
            lines.Select(line => string.Join(' ', line.Split(' ', StringSplitOptions.RemoveEmptyEntries))));
    }

    [Fact]
    public void Compare_FarApartDoubles_FitTheHistogram()
        => Assert.Matches(@"9\.22337e\+18 to 1\.84467e\+19 +1 +all", Compare(Npy("a.npy", [1], double.MinValue), Npy("b.npy", [1], double.MaxValue), 0, 0).Output);

    [Fact]
    public void Compare_Json_HasTheNumbersOfTheTable()
    {
        string a = Npy("a.npy", [2, 3], 1f, 2, 3, 4, MathF.BitIncrement(5), float.NaN);
        Result result = Run("compare", a, Npy("b.npy", [2, 3], 1f, 2, 3, 4, 5, 104), "--rtol", "0", "--atol", "0", "--json");
        Assert.Equal(1, result.Code);
        using JsonDocument document = JsonDocument.Parse(result.Output);
        JsonElement json = document.RootElement;
        Assert.Equal(a, json.GetProperty("a").GetProperty("name").GetString());
        Assert.Equal("float32", json.GetProperty("a").GetProperty("dtype").GetString());
        Assert.Equal([2, 3], json.GetProperty("b").GetProperty("shape").EnumerateArray().Select(length => length.GetInt32()));
        Assert.True(json.GetProperty("same_shape").GetBoolean());
        Assert.False(json.GetProperty("within_tolerance").GetBoolean());
        Assert.Equal(6, json.GetProperty("elements").GetInt64());
        Assert.Equal(4, json.GetProperty("equal").GetInt64());
        Assert.Equal(2, json.GetProperty("outside_tolerance").GetInt64());
        Assert.Equal([1, 1], json.GetProperty("first_outside").EnumerateArray().Select(index => index.GetInt32()));
        JsonElement largest = json.GetProperty("largest_ulp_difference");
        Assert.Equal("Infinity", largest.GetProperty("value").GetString());
        Assert.Equal([1, 2], largest.GetProperty("at").EnumerateArray().Select(index => index.GetInt32()));
        Assert.Equal("NaN", largest.GetProperty("a").GetString());
        Assert.Equal(104, largest.GetProperty("b").GetDouble());
        Assert.Equal([4L, 1, 1], json.GetProperty("ulp_histogram").EnumerateArray().Select(row => row.GetProperty("elements").GetInt64()));
    }

    [Fact]
    public void Compare_JsonOfOtherShapes_SaysSo()
    {
        Result result = Run("compare", Npy("a.npy", [2], 1f, 2f), Npy("b.npy", [2, 1], 1f, 2f), "--json");
        Assert.Equal(1, result.Code);
        using JsonDocument document = JsonDocument.Parse(result.Output);
        Assert.False(document.RootElement.GetProperty("same_shape").GetBoolean());
        Assert.False(document.RootElement.GetProperty("within_tolerance").GetBoolean());
        Assert.False(document.RootElement.TryGetProperty("elements", out _));
    }

    [Theory]
    [InlineData("--rtol", "1e400")]
    [InlineData("--atol", "Infinity")]
    public void Compare_JsonOfAnInfiniteTolerance_HasItAsAString(string option, string value)
    {
        using JsonDocument document = JsonDocument.Parse(Succeed("compare", Npy("a.npy", [1], 1f), Npy("b.npy", [1], 2f), option, value, "--json").Output);
        Assert.Equal("Infinity", document.RootElement.GetProperty(option[2..]).GetString());
    }

    [Fact]
    public void Compare_MembersOfArchives_ByName()
    {
        var archive = new NpzWriter();
        archive.Add("x", Tensor.Create<float>([1, 2, 3]));
        archive.Add("y", Tensor.Create<float>([1, 2, 4]));
        archive.Save(File("a.npz"));
        var tensors = new SafetensorsWriter();
        tensors.Add("y", Tensor.Create<float>([1, 2, 4]));
        tensors.Add("half", Tensor.Create<BFloat16>([(BFloat16)1, (BFloat16)2, (BFloat16)4]));
        tensors.Save(File("b.safetensors"));

        Assert.Equal(0, Run("compare", File("a.npz:y"), File("b.safetensors:y")).Code);
        Assert.Equal(1, Run("compare", File("a.npz:x"), File("b.safetensors:y")).Code);
        Result half = Run("compare", File("b.safetensors:half"), File("b.safetensors:half"), "--atol", "0");
        Assert.Equal("3, all of them equal", Line(half, "elements"));
        Assert.Equal("0", Line(half, "ulp"));
        Assert.Equal($"normlayers: {File("a.npz")}: has 2 arrays; accepted is the name of one, {File("a.npz")}:NAME, among 'x', 'y'.", Refuse("compare", File("a.npz"), File("a.npz:x")));
        Assert.Contains("none of the 2 tensors is named 'z'", Refuse("compare", File("a.npz:x"), File("b.safetensors:z")), StringComparison.Ordinal);
        Assert.Contains("none of the 2 arrays is named 'z'", Refuse("compare", File("a.npz:z"), File("b.safetensors:y")), StringComparison.Ordinal);
    }

    [Fact]
    public void Compare_StandardInputTwice_Refused()
        => Assert.Equal("normlayers: A and B are both -; standard input is one array.", Refuse("compare", "-", "-"));

    private static Result Compare(string a, string b, double rtol, double atol)
        => Run("compare", a, b, FormattableString.Invariant($"--rtol={rtol:r}"), FormattableString.Invariant($"--atol={atol:r}"));

    private static string Line(Result result, string label)
        => string.Join(' ', result.Output.Split(Environment.NewLine).Single(line => line.StartsWith(label + " ", StringComparison.Ordinal))[label.Length..].Split(' ', StringSplitOptions.RemoveEmptyEntries));
}
