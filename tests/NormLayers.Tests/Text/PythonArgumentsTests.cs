using NormLayers.Internals;
using Xunit;

namespace NormLayers.Tests.Text;

public sealed class PythonArgumentsTests
{
    private static PythonArguments Bind(string arguments)
        => PythonCall.Parse($"Norm({arguments})").Bind("Norm", "shape", "eps", "affine");

    private static string Message(Action action) => Assert.Throws<FormatException>(action).Message;

    [Fact]
    public void Bind_PositionsAndKeywords_FindTheirParameters()
    {
        PythonArguments arguments = Bind("(2, 3), affine=False, eps=0.5");
        Assert.Equal([2, 3], arguments.Shape("shape"));
        Assert.Equal(0.5, arguments.Float("eps").Value);
        Assert.False(arguments.Bool("affine", true));
        Assert.Equal("(2, 3)", arguments.Find("shape")!.ToString());
    }

    [Fact]
    public void Getters_NotGiven_GiveTheDefault()
    {
        PythonArguments arguments = Bind("");
        Assert.Null(arguments.Find("eps"));
        Assert.Equal(7, arguments.Int("shape", 7));
        Assert.Equal("1e-05", arguments.Float("eps", 1e-5).ToString());
        Assert.Equal("0.1", arguments.OptionalFloat("eps", 0.1).ToString());
        Assert.Null(arguments.OptionalFloat("eps", null));
        Assert.True(arguments.Bool("affine", true));
    }

    [Fact]
    public void Getters_NotGivenButRequired_Refuse()
    {
        Assert.Equal("Norm is missing the argument 'shape'.", Message(() => Bind("").Shape("shape")));
        Assert.Equal("Norm is missing the argument 'shape'.", Message(() => Bind("").Int("shape")));
        Assert.Equal("Norm is missing the argument 'eps'.", Message(() => Bind("").Float("eps")));
    }

    [Fact]
    public void Bind_OtherName_Refuses()
        => Assert.Equal("Expected a call of LayerNorm, got Norm.", Message(() => PythonCall.Parse("Norm(1)").Bind("LayerNorm", "shape")));

    [Fact]
    public void Bind_TooMany_Refuses()
        => Assert.Equal("Norm takes at most 3 arguments (shape, eps, affine), got 4 by position.", Message(() => Bind("1, 2, True, 4")));

    [Fact]
    public void Bind_UnknownKeyword_ListsTheAccepted()
        => Assert.Equal("Norm has no argument 'epsilon'; accepted are shape, eps, affine.", Message(() => Bind("1, epsilon=1")));

    [Fact]
    public void Bind_GivenTwice_Refuses()
        => Assert.Equal("Norm got the argument 'shape' twice: by position and by keyword.", Message(() => Bind("1, shape=1")));

    [Theory]
    [InlineData("5", new[] { 5 })]
    [InlineData("[5, 6]", new[] { 5, 6 })]
    [InlineData("(5,)", new[] { 5 })]
    [InlineData("torch.Size([])", new int[0])]
    public void Shape_IntOrSequence_IsAccepted(string text, int[] expected)
        => Assert.Equal(expected, Bind(text).Shape("shape").Select(length => (int)length));

    [Theory]
    [InlineData("'abc'", "'abc'")]
    [InlineData("5.0", "5.0")]
    [InlineData("True", "True")]
    [InlineData("(5, 1.5)", "(5, 1.5)")]
    [InlineData("[[5]]", "[[5]]")]
    [InlineData("None", "None")]
    public void Shape_Other_Refuses(string text, string got)
        => Assert.Equal($"Norm: 'shape' expects an int or a tuple or list of ints, got {got}.", Message(() => Bind(text).Shape("shape")));

    [Theory]
    [InlineData("'abc'")]
    [InlineData("5.0")]
    [InlineData("True")]
    [InlineData("(5,)")]
    public void Int_Other_Refuses(string text)
        => Assert.Equal($"Norm: 'shape' expects an int, got {text}.", Message(() => Bind(text).Int("shape")));

    [Fact]
    public void Int_Beyond32Bits_Refuses()
    {
        Assert.Equal(int.MinValue, Bind("-2147483648").Int("shape"));
        Assert.Equal("Norm: 'shape' expects an int of at most 32 bits, got 2147483648.", Message(() => Bind("2147483648").Int("shape")));
    }

    [Theory]
    [InlineData("1", 1.0, true, "1")]
    [InlineData("1.0", 1.0, false, "1.0")]
    [InlineData("1e-5", 1e-5, false, "1e-05")]
    [InlineData("-9007199254740993", -9007199254740992.0, true, "-9007199254740993")]
    public void Float_IntOrFloat_PrintsAsGiven(string text, double value, bool isInteger, string written)
    {
        PythonNumber number = Bind($"1, {text}").Float("eps", 0.5);
        Assert.Equal(value, number.Value);
        Assert.Equal(isInteger, number.IsInteger);
        Assert.Equal(written, number.ToString());
    }

    [Theory]
    [InlineData("True")]
    [InlineData("'1'")]
    [InlineData("torch.float32")]
    public void Float_Other_Refuses(string text)
    {
        Assert.Equal($"Norm: 'eps' expects a float, got {text}.", Message(() => Bind($"1, {text}").Float("eps")));
        Assert.Equal($"Norm: 'eps' expects a float or None, got {text}.", Message(() => Bind($"1, {text}").OptionalFloat("eps", null)));
    }

    [Fact]
    public void OptionalFloat_None_IsNull()
    {
        Assert.Null(Bind("1, None").OptionalFloat("eps", 0.5));
        Assert.Equal("Norm: 'eps' expects a float, got None.", Message(() => Bind("1, None").Float("eps", 0.5)));
        Assert.Equal(2.0, Bind("1, 2").OptionalFloat("eps", null)!.Value.Value);
    }

    [Theory]
    [InlineData("1")]
    [InlineData("None")]
    [InlineData("'True'")]
    public void Bool_Other_Refuses(string text)
        => Assert.Equal($"Norm: 'affine' expects True or False, got {text}.", Message(() => Bind($"affine={text}").Bool("affine", true)));
}
