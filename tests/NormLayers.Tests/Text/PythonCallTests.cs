using NormLayers.Internals;
using Xunit;

namespace NormLayers.Tests.Text;

public sealed class PythonCallTests
{
    [Theory]
    [InlineData("LayerNorm((5, 10, 10), eps=1e-05, elementwise_affine=True)")]
    [InlineData("LayerNorm((10,), eps=1e-05, elementwise_affine=False)")]
    [InlineData("GroupNorm(3, 6, eps=1e-05, affine=True)")]
    [InlineData("LocalResponseNorm(2, alpha=0.0001, beta=0.75, k=1.0)")]
    [InlineData("LocalResponseNorm(2, alpha=0.0001, beta=0.75, k=1)")]
    [InlineData("RMSNorm((2, 3), eps=None, elementwise_affine=True)")]
    [InlineData("BatchNorm2d(100, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)")]
    [InlineData("LayerNorm([5, []], dtype=torch.float32, device='cpu', other=\"it's\", x=(-1, -2.5, ()))")]
    public void Parse_PrintedForm_WritesBackTheSame(string text)
        => Assert.Equal(text, Write(PythonCall.Parse(text)));

    [Theory]
    [InlineData("nn.LayerNorm([5, 10, 10], eps=1e-6, bias=False)", "LayerNorm([5, 10, 10], eps=1e-06, bias=False)")]
    [InlineData("torch.nn.GroupNorm(num_groups=3, num_channels=6)", "GroupNorm(num_groups=3, num_channels=6)")]
    [InlineData("torch.nn.modules.normalization.LayerNorm(3)", "LayerNorm(3)")]
    [InlineData("nn.modules.LayerNorm(3)", "LayerNorm(3)")]
    [InlineData(" \nLayerNorm (\n  (5,\t10 , ) ,\r\n  eps = 1e-5 ,\n) \n", "LayerNorm((5, 10), eps=1e-05)")]
    [InlineData("LayerNorm()", "LayerNorm()")]
    [InlineData("LayerNorm((5))", "LayerNorm(5)")]
    [InlineData("LayerNorm(((5,),))", "LayerNorm(((5,),))")]
    [InlineData("LayerNorm(torch.Size([3, 4]))", "LayerNorm((3, 4))")]
    [InlineData("LayerNorm(torch.Size(()), torch.Size(), Size((2,),))", "LayerNorm((), (), (2,))")]
    [InlineData("N(.5, 1., 1_000, 1E5, 0, 00, +3, - 2, -.5e-3, 1_0.0_1, 010.5)", "N(0.5, 1.0, 1000, 100000.0, 0, 0, 3, -2, -0.0005, 10.01, 10.5)")]
    [InlineData("N(9223372036854775807, -9223372036854775808, 1e400)", "N(9223372036854775807, -9223372036854775808, inf)")]
    [InlineData("N(None, True, false, _x1, \"a b\")", "N(None, True, false, _x1, 'a b')")]
    public void Parse_TypedForm_IsUnderstood(string text, string written)
        => Assert.Equal(written, Write(PythonCall.Parse(text)));

    [Theory]
    [InlineData("", "The text is empty; expected a call such as LayerNorm(10, eps=1e-05).")]
    [InlineData(" \n", "The text is empty; expected a call such as LayerNorm(10, eps=1e-05).")]
    [InlineData("(5)", "Column 1: got '('; expected the name of a layer.")]
    [InlineData("nn.(5)", "Column 4: got '('; expected a name after the dot.")]
    [InlineData("LayerNorm", "Column 10: got the end of the text; expected '(' after the name.")]
    [InlineData("LayerNorm[5]", "Column 10: got '['; expected '(' after the name.")]
    [InlineData("foo.LayerNorm(5)", "Column 1: got the module 'foo'; expected nn, torch.nn, torch.nn.modules or none.")]
    [InlineData("torch.nn.functional.LayerNorm(5)", "Column 1: got the module 'torch.nn.functional'; expected nn, torch.nn, torch.nn.modules or none.")]
    [InlineData("LayerNorm(5", "Column 12: got the end of the text; expected ',' or ')'.")]
    [InlineData("LayerNorm((5, 10)", "Column 18: got the end of the text; expected ',' or ')'.")]
    [InlineData("LayerNorm([5, 10)", "Column 17: got ')'; expected ',' or ']'.")]
    [InlineData("LayerNorm(5 10)", "Column 13: got '1'; expected ',' or ')'.")]
    [InlineData("LayerNorm(5))", "Column 13: got ')'; expected the end of the text after the call.")]
    [InlineData("LayerNorm(5).cuda()", "Column 13: got '.'; expected the end of the text after the call.")]
    [InlineData("LayerNorm(,)", "Column 11: got ','; expected " + Kinds + ".")]
    [InlineData("LayerNorm(5,,)", "Column 13: got ','; expected " + Kinds + ".")]
    [InlineData("LayerNorm(*args)", "Column 11: got '*'; expected " + Kinds + ".")]
    [InlineData("LayerNorm(eps=)", "Column 15: got ')'; expected " + Kinds + ".")]
    [InlineData("LayerNorm(\n  5,\n  eps=?)", "Line 3, column 7: got '?'; expected " + Kinds + ".")]
    [InlineData("LayerNorm(eps=1, 5)", "Column 18: got the positional argument 5 after a keyword; expected a keyword such as eps=1e-05.")]
    [InlineData("LayerNorm(eps=1, eps=2)", "Column 18: got the keyword 'eps' twice; expected each once.")]
    [InlineData("LayerNorm(a.b=1)", "Column 11: got 'a.b' as a keyword; expected a name without dots.")]
    [InlineData("LayerNorm(int(5))", "Column 11: got a call of int; expected " + Kinds + " or torch.Size([...]).")]
    [InlineData("LayerNorm(torch.Size(3))", "Column 22: got 3 in torch.Size; expected a list or a tuple.")]
    [InlineData("LayerNorm(torch.Size([3], 4))", "Column 27: got '4'; expected ')'.")]
    [InlineData("LayerNorm('cpu)", "Column 11: the string is not closed; expected another '.")]
    [InlineData("LayerNorm('c\\n')", "Column 13: got '\\\\'; expected a string on one line without escapes.")]
    [InlineData("LayerNorm('c\nd')", "Column 13: got '\\n'; expected a string on one line without escapes.")]
    [InlineData("LayerNorm(1__0)", "Column 11: got '1__0'; expected a decimal int or float.")]
    [InlineData("LayerNorm(1_)", "Column 11: got '1_'; expected a decimal int or float.")]
    [InlineData("LayerNorm(1e)", "Column 11: got '1e'; expected a decimal int or float.")]
    [InlineData("LayerNorm(1j)", "Column 11: got '1j'; expected a decimal int or float.")]
    [InlineData("LayerNorm(0x10)", "Column 11: got '0x10'; expected a decimal int or float.")]
    [InlineData("LayerNorm(010)", "Column 11: got '010'; expected a decimal int or float.")]
    [InlineData("LayerNorm(1.2.3)", "Column 11: got '1.2.3'; expected a decimal int or float.")]
    [InlineData("LayerNorm(.)", "Column 11: got '.'; expected a decimal int or float.")]
    [InlineData("LayerNorm(-)", "Column 11: got '-'; expected a decimal int or float.")]
    [InlineData("LayerNorm(-x)", "Column 11: got '-x'; expected a decimal int or float.")]
    [InlineData("LayerNorm(9223372036854775808)", "Column 11: got the int 9223372036854775808; expected one of at most 64 bits.")]
    public void Parse_Wrong_SaysWhereAndWhy(string text, string message)
        => Assert.Equal(message, Assert.Throws<FormatException>(() => PythonCall.Parse(text)).Message);

    [Fact]
    public void Parse_Depth32_IsTheLimit()
    {
        Assert.Single(PythonCall.Parse("N(" + new string('[', 32) + new string(']', 32) + ")").Values);
        var error = Assert.Throws<FormatException>(() => PythonCall.Parse("N(" + new string('[', 33) + new string(']', 33) + ")"));
        Assert.Equal("Column 35: brackets are nested deeper than 32.", error.Message);
    }

    [Fact]
    public void Parse_TenThousandCharacters_IsTheLimit()
    {
        Assert.Empty(PythonCall.Parse("N(" + new string(' ', 9_997) + ")").Values);
        var error = Assert.Throws<FormatException>(() => PythonCall.Parse("N(" + new string(' ', 9_998) + ")"));
        Assert.Equal("The text has 10001 characters; at most 10000 are accepted.", error.Message);
    }

    [Fact]
    public void Parse_Null_Refuses() => Assert.Throws<ArgumentNullException>("text", () => PythonCall.Parse(null!));

    private const string Kinds = "a number, True, False, None, a quoted string, a dotted name, a tuple or a list";

    private static string Write(PythonCall call)
        => $"{call.Name}({string.Join(", ", call.Values.Select(value => value.ToString()).Concat(call.Keywords.Select(pair => $"{pair.Key}={pair.Value}")))})";
}
