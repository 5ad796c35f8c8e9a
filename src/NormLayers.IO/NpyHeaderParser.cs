using System.Globalization;
using System.Text;

namespace NormLayers.IO;

/// <summary>
/// Reads the Python dictionary in a .npy header: the three keys in any order, plain strings, True and False, tuples of
/// integers. Nothing else that Python would evaluate is understood, so nothing else can be smuggled in.
/// </summary>
internal ref struct NpyHeaderParser(string path, ReadOnlySpan<byte> text)
{
    private const string Accepted = "accepted are b1, i1, i2, i4, i8, u1, u2, u4, u8, f2, f4 and f8 after <, >, = or |";

    private readonly ReadOnlySpan<byte> text = text;
    private int at;

    public ElementType Type { get; private set; }

    public bool ForeignByteOrder { get; private set; }

    public bool FortranOrder { get; private set; }

    public nint[] Shape { get; private set; } = [];

    public void Parse()
    {
        bool descr = false, order = false, shape = false;
        Expect('{');
        while (!TryTake('}'))
        {
            string key = TakeString("a key");
            Expect(':');
            switch (key)
            {
                case "descr" when !descr:
                    descr = true;
                    TakeDescr();
                    break;
                case "fortran_order" when !order:
                    order = true;
                    FortranOrder = TakeBoolean();
                    break;
                case "shape" when !shape:
                    shape = true;
                    Shape = TakeShape();
                    break;
                case "descr" or "fortran_order" or "shape":
                    throw Refusal.Of(path, $"has the key '{key}' twice in its header.");
                default:
                    throw Refusal.Of(path, $"has the key {Refusal.Quote(key)} in its header; accepted are 'descr', 'fortran_order' and 'shape'.");
            }
            if (TryTake(','))
                continue;
            Expect('}');
            break;
        }
        SkipSpace();
        if (at < text.Length)
            throw Unexpected("the end of the header");
        if (!descr || !order || !shape)
            throw Refusal.Of(path, $"has no key '{(!descr ? "descr" : !order ? "fortran_order" : "shape")}' in its header.");
    }

    private void TakeDescr()
    {
        SkipSpace();
        if (at < text.Length && text[at] is (byte)'[' or (byte)'(')
            throw Refusal.Of(path, $"holds a structured type; {Accepted}.");
        string descr = TakeString("the type");
        ReadOnlySpan<char> kind = descr.AsSpan().TrimStart("<>=|");
        char order = kind.Length == descr.Length - 1 ? descr[0] : '=';
        ElementType? type = kind switch
        {
            "b1" => ElementType.Boolean,
            "i1" => ElementType.Int8,
            "i2" => ElementType.Int16,
            "i4" => ElementType.Int32,
            "i8" => ElementType.Int64,
            "u1" => ElementType.UInt8,
            "u2" => ElementType.UInt16,
            "u4" => ElementType.UInt32,
            "u8" => ElementType.UInt64,
            "f2" => ElementType.Float16,
            "f4" => ElementType.Float32,
            "f8" => ElementType.Float64,
            _ => null,
        };
        if (type is null || descr.Length - kind.Length > 1)
            throw Refusal.Of(path, $"holds elements of the type {Refusal.Quote(descr)}; {Accepted}.");
        Type = type.Value;
        ForeignByteOrder = Type.Size() > 1 && order == (BitConverter.IsLittleEndian ? '>' : '<');
    }

    private bool TakeBoolean()
    {
        SkipSpace();
        if (TryTakeWord("True"u8))
            return true;
        if (TryTakeWord("False"u8))
            return false;
        throw Unexpected("True or False");
    }

    private nint[] TakeShape()
    {
        Expect('(');
        var lengths = new List<nint>();
        bool comma = true;
        while (!TryTake(')'))
        {
            if (!comma)
                throw Unexpected("',' or ')'");
            if (lengths.Count == Shapes.MaxRank)
                throw Refusal.Of(path, $"has a shape of more than {Shapes.MaxRank} dimensions; accepted are at most that many.");
            lengths.Add(TakeLength());
            comma = TryTake(',');
        }
        if (lengths.Count == 1 && !comma)
            throw Refusal.Of(path, "has a shape that is a number in parentheses; accepted is a tuple, such as (3,).");
        return [.. lengths];
    }

    private nint TakeLength()
    {
        SkipSpace();
        int start = at;
        if (at < text.Length && text[at] == '-')
            at++;
        while (at < text.Length && char.IsAsciiDigit((char)text[at]))
            at++;
        ReadOnlySpan<byte> digits = text[start..at];
        if (digits.Length == 0)
            throw Unexpected("a length");
        bool parsed = long.TryParse(digits, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long length);
        if (!parsed || length < 0 || length > nint.MaxValue)
        {
            string got = Refusal.Quote(Encoding.ASCII.GetString(digits));
            throw Refusal.Of(path, $"has the length {got} in its shape; accepted are 0 to {nint.MaxValue}.");
        }
        // Python 2 wrote its long integers as 3L.
        if (at < text.Length && text[at] == 'L')
            at++;
        return (nint)length;
    }

    private string TakeString(string what)
    {
        SkipSpace();
        if (at >= text.Length || text[at] is not ((byte)'\'' or (byte)'"'))
            throw Unexpected($"{what} in quotes");
        int length = text[(at + 1)..].IndexOf(text[at]);
        if (length < 0)
            throw Refusal.Of(path, $"has a string without an end in its header, at byte {at}.");
        ReadOnlySpan<byte> content = text.Slice(at + 1, length);
        if (content.IndexOfAnyExceptInRange((byte)' ', (byte)'~') >= 0 || content.Contains((byte)'\\'))
            throw Refusal.Of(path, $"has a string with other than plain ASCII characters in its header, at byte {at}.");
        at += length + 2;
        return Encoding.ASCII.GetString(content);
    }

    private bool TryTakeWord(ReadOnlySpan<byte> word)
    {
        if (!text[at..].StartsWith(word))
            return false;
        at += word.Length;
        return true;
    }

    private void Expect(char c)
    {
        if (!TryTake(c))
            throw Unexpected($"'{c}'");
    }

    private bool TryTake(char c)
    {
        SkipSpace();
        if (at >= text.Length || text[at] != c)
            return false;
        at++;
        return true;
    }

    private void SkipSpace()
    {
        while (at < text.Length && text[at] is (byte)' ' or (byte)'\t' or (byte)'\n' or (byte)'\r' or (byte)'\f')
            at++;
    }

    private readonly InvalidDataException Unexpected(string wanted)
    {
        string got = at >= text.Length ? "the end" : text[at] is >= (byte)' ' and <= (byte)'~' ? $"'{(char)text[at]}'" : $"the byte 0x{text[at]:X2}";
        return Refusal.Of(path, $"has a header that cannot be read: {wanted} was expected at its byte {at}, but there is {got}.");
    }
}
