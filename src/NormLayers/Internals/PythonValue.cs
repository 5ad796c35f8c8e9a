using System.Globalization;

namespace NormLayers.Internals;

/// <summary>What a <see cref="PythonValue"/> holds.</summary>
internal enum PythonKind
{
    /// <summary><c>None</c>.</summary>
    None,

    /// <summary><c>True</c> or <c>False</c>.</summary>
    Bool,

    /// <summary>An int of up to 64 bits.</summary>
    Int,

    /// <summary>A float.</summary>
    Float,

    /// <summary>A string in quotes.</summary>
    String,

    /// <summary>A name such as <c>torch.float32</c>, kept as it was written.</summary>
    Name,

    /// <summary>A tuple, or a <c>torch.Size</c>.</summary>
    Tuple,

    /// <summary>A list.</summary>
    List,
}

/// <summary>One value written in Python.</summary>
internal sealed class PythonValue
{
    private PythonValue(PythonKind kind) => Kind = kind;

    /// <summary>What the value is.</summary>
    public PythonKind Kind { get; }

    /// <summary>The number of an int or a float.</summary>
    public PythonNumber Number { get; private init; }

    /// <summary>The value of an int.</summary>
    public long Int { get; private init; }

    /// <summary>The value of a bool.</summary>
    public bool Bool { get; private init; }

    /// <summary>The content of a string, or the name.</summary>
    public string Text { get; private init; } = "";

    /// <summary>The items of a tuple or a list.</summary>
    public IReadOnlyList<PythonValue> Items { get; private init; } = [];

    /// <summary>Makes <c>None</c>.</summary>
    public static PythonValue OfNone() => new(PythonKind.None);

    /// <summary>Makes a bool.</summary>
    public static PythonValue Of(bool value) => new(PythonKind.Bool) { Bool = value };

    /// <summary>Makes an int.</summary>
    public static PythonValue Of(long value)
        => new(PythonKind.Int) { Int = value, Number = PythonNumber.FromInteger(value) };

    /// <summary>Makes a float.</summary>
    public static PythonValue Of(double value) => new(PythonKind.Float) { Number = value };

    /// <summary>Makes a string or a name.</summary>
    public static PythonValue Of(PythonKind kind, string text) => new(kind) { Text = text };

    /// <summary>Makes a tuple or a list.</summary>
    public static PythonValue Of(PythonKind kind, IReadOnlyList<PythonValue> items) => new(kind) { Items = items };

    /// <summary>Writes the value as Python's <c>repr</c>.</summary>
    /// <returns>Such as <c>(5, 10)</c>, <c>1e-05</c> or <c>'cpu'</c>.</returns>
    public override string ToString() => Kind switch
    {
        PythonKind.None => PythonText.None,
        PythonKind.Bool => PythonText.Bool(Bool),
        PythonKind.Int => Int.ToString(CultureInfo.InvariantCulture),
        PythonKind.Float => PythonText.Float(Number),
        // The parser takes no escapes, so a string holds one sort of quote at most.
        PythonKind.String => Text.Contains('\'', StringComparison.Ordinal) ? $"\"{Text}\"" : $"'{Text}'",
        PythonKind.Name => Text,
        PythonKind.Tuple => "(" + string.Join(", ", Items) + (Items.Count == 1 ? ",)" : ")"),
        _ => "[" + string.Join(", ", Items) + "]",
    };
}
