using System.Globalization;

namespace NormLayers.Internals;

/// <summary>Reads one call of the grammar that <see cref="PythonCall.Parse"/> documents, by recursive descent.</summary>
internal ref struct PythonParser(string text)
{
    // Deep enough for any shape; shallow enough that no text exhausts the stack.
    private const int MaxDepth = 32;
    private const string ValueKinds = "a number, True, False, None, a quoted string, a dotted name, a tuple or a list";

    private readonly string text = text;
    private int position;
    private int depth;

    /// <summary>Reads the whole text.</summary>
    public PythonCall Call()
    {
        SkipSpace();
        if (position == text.Length)
            throw new FormatException("The text is empty; expected a call such as LayerNorm(10, eps=1e-05).");
        int start = position;
        string name = ClassName(DottedName("the name of a layer"), start);
        while (Peek() is ' ' or '\t')
            position++;
        Expect('(', "'(' after the name");
        var values = new List<PythonValue>();
        var keywords = new List<KeyValuePair<string, PythonValue>>();
        for (bool more = true; more && !At(')');)
        {
            Argument(values, keywords);
            more = Comma();
        }
        Expect(')', "',' or ')'");
        SkipSpace();
        if (position < text.Length)
            throw Refuse(position, "the end of the text after the call");
        return new PythonCall(name, values, keywords);
    }

    private void Argument(List<PythonValue> values, List<KeyValuePair<string, PythonValue>> keywords)
    {
        int start = position;
        PythonValue value = Value();
        SkipSpace();
        if (value.Kind == PythonKind.Name && Peek() == '=')
        {
            if (value.Text.Contains('.', StringComparison.Ordinal))
                throw Fail(start, $"got '{value.Text}' as a keyword; expected a name without dots");
            if (keywords.Exists(pair => pair.Key == value.Text))
                throw Fail(start, $"got the keyword '{value.Text}' twice; expected each once");
            position++;
            SkipSpace();
            keywords.Add(new(value.Text, Value()));
        }
        else if (keywords.Count > 0)
            throw Fail(start, $"got the positional argument {value} after a keyword; expected a keyword such as eps=1e-05");
        else
            values.Add(value);
    }

    private PythonValue Value()
    {
        SkipSpace();
        char next = Peek();
        if (next is '(' or '[')
            return Sequence();
        if (next is '\'' or '"')
            return QuotedString();
        if (next is '+' or '-' or '.' || char.IsAsciiDigit(next))
            return Number();
        if (!IsNameStart(next))
            throw Refuse(position, ValueKinds);
        int start = position;
        string name = DottedName(ValueKinds);
        SkipSpace();
        if (Peek() == '(')
            return Size(name, start);
        return name switch
        {
            "None" => PythonValue.OfNone(),
            "True" => PythonValue.Of(true),
            "False" => PythonValue.Of(false),
            _ => PythonValue.Of(PythonKind.Name, name),
        };
    }

    private PythonValue Size(string name, int start)
    {
        if (name is not ("torch.Size" or "Size"))
            throw Fail(start, $"got a call of {name}; expected {ValueKinds} or torch.Size([...])");
        Enter();
        position++;
        SkipSpace();
        int inner = position;
        PythonValue value = At(')') ? PythonValue.Of(PythonKind.Tuple, []) : Value();
        if (value.Kind is not (PythonKind.Tuple or PythonKind.List))
            throw Fail(inner, $"got {value} in torch.Size; expected a list or a tuple");
        Comma();
        Expect(')', "')'");
        depth--;
        return PythonValue.Of(PythonKind.Tuple, value.Items);
    }

    private PythonValue Sequence()
    {
        Enter();
        bool tuple = text[position++] == '(';
        char close = tuple ? ')' : ']';
        var items = new List<PythonValue>();
        bool comma = true;
        while (comma && !At(close))
        {
            items.Add(Value());
            comma = Comma();
        }
        Expect(close, $"',' or '{close}'");
        depth--;
        // Parentheses around one value without a comma only group it.
        return tuple && items.Count == 1 && !comma ? items[0] : PythonValue.Of(tuple ? PythonKind.Tuple : PythonKind.List, items);
    }

    private PythonValue QuotedString()
    {
        int start = position;
        int end = text.IndexOf(text[start], start + 1);
        int bad = text.AsSpan(start + 1).IndexOfAny('\\', '\n', '\r');
        if (bad >= 0 && (end < 0 || start + 1 + bad < end))
            throw Refuse(start + 1 + bad, "a string on one line without escapes");
        if (end < 0)
            throw Fail(start, $"the string is not closed; expected another {text[start]}");
        position = end + 1;
        return PythonValue.Of(PythonKind.String, text[(start + 1)..end]);
    }

    private PythonValue Number()
    {
        int start = position;
        bool negative = Peek() == '-';
        if (Peek() is '+' or '-')
        {
            position++;
            SkipSpace();
        }
        int first = position;
        bool number = Digits();
        bool isFloat = Peek() == '.';
        if (isFloat)
        {
            position++;
            number |= Digits();
        }
        if (number && Peek() is 'e' or 'E')
        {
            isFloat = true;
            position++;
            if (Peek() is '+' or '-')
                position++;
            number = Digits();
        }
        int end = position;
        while (IsNamePart(Peek()) || Peek() == '.')
            position++;
        string digits = text[first..end].Replace("_", "", StringComparison.Ordinal);
        bool leadingZero = !isFloat && digits.Length > 1 && digits[0] == '0' && digits.AsSpan().ContainsAnyExcept('0');
        if (!number || position != end || leadingZero)
            throw Fail(start, $"got {Quote(text[start..position])}; expected a decimal int or float");
        string signed = negative ? "-" + digits : digits;
        if (isFloat)
            return PythonValue.Of(double.Parse(signed, NumberStyles.Float, CultureInfo.InvariantCulture));
        return long.TryParse(signed, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long integer)
            ? PythonValue.Of(integer)
            : throw Fail(start, $"got the int {signed}; expected one of at most 64 bits");
    }

    // Digits with single underscores between them, as Python writes 1_000.
    private bool Digits()
    {
        int start = position;
        while (char.IsAsciiDigit(Peek()) || (Peek() == '_' && position > start && text[position - 1] != '_'))
            position++;
        if (position > start && text[position - 1] == '_')
            position--;
        return position > start;
    }

    private string DottedName(string expected)
    {
        int start = position;
        do
        {
            if (position > start)
                position++;
            if (!IsNameStart(Peek()))
                throw Refuse(position, position > start ? "a name after the dot" : expected);
            while (IsNamePart(Peek()))
                position++;
        }
        while (Peek() == '.');
        return text[start..position];
    }

    private readonly string ClassName(string dotted, int start)
    {
        int dot = dotted.LastIndexOf('.');
        string module = dot < 0 ? "nn" : dotted[..dot];
        if (module.StartsWith("torch.nn", StringComparison.Ordinal))
            module = module["torch.".Length..];
        if (module is "nn" or "nn.modules" || module.StartsWith("nn.modules.", StringComparison.Ordinal))
            return dotted[(dot + 1)..];
        throw Fail(start, $"got the module '{dotted[..dot]}'; expected nn, torch.nn, torch.nn.modules or none");
    }

    private bool Comma()
    {
        bool comma = At(',');
        if (comma)
            position++;
        return comma;
    }

    private bool At(char expected)
    {
        SkipSpace();
        return Peek() == expected;
    }

    private void Enter()
    {
        if (++depth > MaxDepth)
            throw Fail(position, $"brackets are nested deeper than {MaxDepth}");
    }

    private void Expect(char expected, string description)
    {
        SkipSpace();
        if (position == text.Length || text[position] != expected)
            throw Refuse(position, description);
        position++;
    }

    private void SkipSpace()
    {
        while (Peek() is ' ' or '\t' or '\n' or '\r' or '\f')
            position++;
    }

    private readonly char Peek() => position < text.Length ? text[position] : '\0';

    private static bool IsNameStart(char c) => c == '_' || char.IsLetter(c);

    private static bool IsNamePart(char c) => c == '_' || char.IsLetterOrDigit(c);

    private static string Quote(string got)
        => "'" + got.Replace("\\", @"\\", StringComparison.Ordinal).Replace("\n", @"\n", StringComparison.Ordinal)
            .Replace("\r", @"\r", StringComparison.Ordinal) + "'";

    private readonly FormatException Refuse(int at, string expected)
        => Fail(at, $"got {(at < text.Length ? Quote(text[at].ToString()) : "the end of the text")}; expected {expected}");

    private readonly FormatException Fail(int at, string problem)
    {
        int line = text.AsSpan(0, at).Count('\n') + 1;
        int column = at - text.LastIndexOf('\n', Math.Max(at - 1, 0), at);
        return new FormatException(line == 1 ? $"Column {column}: {problem}." : $"Line {line}, column {column}: {problem}.");
    }
}
