namespace NormLayers.Internals;

/// <summary>The arguments of a call by parameter, with the types that the layers ask for.</summary>
/// <remarks>
/// An int is accepted as a float and never the reverse; a bool only as a bool, although it is an int to Python. Each method
/// throws <see cref="FormatException"/> with a line such as <c>GroupNorm: 'num_groups' expects an int, got 'abc'</c>.
/// A method without a default throws it also when the argument is missing.
/// </remarks>
internal sealed class PythonArguments
{
    private readonly string owner;
    private readonly Dictionary<string, PythonValue> bound;

    internal PythonArguments(string owner, Dictionary<string, PythonValue> bound)
    {
        this.owner = owner;
        this.bound = bound;
    }

    /// <summary>Gives an argument as it was written, or null when it was not given.</summary>
    public PythonValue? Find(string name) => bound.GetValueOrDefault(name);

    /// <summary>Gives a required int.</summary>
    public int Int(string name) => ToInt(name, Required(name));

    /// <summary>Gives an int.</summary>
    public int Int(string name, int defaultValue) => Find(name) is { } value ? ToInt(name, value) : defaultValue;

    /// <summary>Gives an int or, for None or when it was not given, null.</summary>
    public int? OptionalInt(string name) => Find(name) is { Kind: not PythonKind.None } value ? ToInt(name, value) : null;

    /// <summary>Gives a required float.</summary>
    public PythonNumber Float(string name) => ToFloat(name, Required(name), "a float");

    /// <summary>Gives a float.</summary>
    public PythonNumber Float(string name, PythonNumber defaultValue)
        => Find(name) is { } value ? ToFloat(name, value, "a float") : defaultValue;

    /// <summary>Gives a float or, for None, null.</summary>
    public PythonNumber? OptionalFloat(string name, PythonNumber? defaultValue)
        => Find(name) is not { } value ? defaultValue
            : value.Kind == PythonKind.None ? null
            : ToFloat(name, value, "a float or None");

    /// <summary>Gives a bool.</summary>
    public bool Bool(string name, bool defaultValue)
        => Find(name) is not { } value ? defaultValue
            : value.Kind == PythonKind.Bool ? value.Bool
            : throw Wrong(name, "True or False", value);

    /// <summary>Gives a required shape: an int is a shape of one dimension.</summary>
    public nint[] Shape(string name)
    {
        PythonValue value = Required(name);
        if (value.Kind == PythonKind.Int)
            return [ToLength(name, value, value)];
        if (value.Kind is not (PythonKind.Tuple or PythonKind.List))
            throw Wrong(name, "an int or a tuple or list of ints", value);
        nint[] shape = new nint[value.Items.Count];
        for (int i = 0; i < shape.Length; i++)
            shape[i] = ToLength(name, value.Items[i], value);
        return shape;
    }

    private nint ToLength(string name, PythonValue item, PythonValue whole)
        => item.Kind == PythonKind.Int && item.Int == (nint)item.Int
            ? (nint)item.Int
            : throw Wrong(name, "an int or a tuple or list of ints", whole);

    private int ToInt(string name, PythonValue value)
        => value.Kind != PythonKind.Int ? throw Wrong(name, "an int", value)
            : value.Int is >= int.MinValue and <= int.MaxValue ? (int)value.Int
            : throw Wrong(name, "an int of at most 32 bits", value);

    private PythonNumber ToFloat(string name, PythonValue value, string expected)
        => value.Kind is PythonKind.Int or PythonKind.Float ? value.Number : throw Wrong(name, expected, value);

    private PythonValue Required(string name)
        => Find(name) ?? throw new FormatException($"{owner} is missing the argument '{name}'.");

    private FormatException Wrong(string name, string expected, PythonValue got)
        => new($"{owner}: '{name}' expects {expected}, got {got}.");
}
