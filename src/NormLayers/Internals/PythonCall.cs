namespace NormLayers.Internals;

/// <summary>
/// A constructor call as PyTorch prints it and as users type it, such as
/// <c>nn.LayerNorm((5, 10, 10), eps=1e-05, elementwise_affine=True)</c>.
/// </summary>
internal sealed class PythonCall
{
    /// <summary>The longest text that <see cref="Parse"/> takes.</summary>
    public const int MaxLength = 10_000;

    internal PythonCall(string name, IReadOnlyList<PythonValue> values, IReadOnlyList<KeyValuePair<string, PythonValue>> keywords)
    {
        Name = name;
        Values = values;
        Keywords = keywords;
    }

    /// <summary>The name of the class, without the module.</summary>
    public string Name { get; }

    /// <summary>The positional arguments.</summary>
    public IReadOnlyList<PythonValue> Values { get; }

    /// <summary>The keyword arguments, in the order in which they were written.</summary>
    public IReadOnlyList<KeyValuePair<string, PythonValue>> Keywords { get; }

    /// <summary>Parses one call with constant arguments.</summary>
    /// <param name="text">
    /// The call. The modules <c>nn</c>, <c>torch.nn</c> and <c>nn.modules</c> with what is below it may precede the name.
    /// Arguments are ints, floats, bools, None, quoted strings without escapes, dotted names, and tuples, lists or
    /// <c>torch.Size</c> of these.
    /// </param>
    /// <returns>The parts of the call.</returns>
    /// <exception cref="ArgumentNullException"><paramref name="text"/> is null.</exception>
    /// <exception cref="FormatException">The text is not such a call; the message is one line that says where and why.</exception>
    public static PythonCall Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        if (text.Length > MaxLength)
            throw new FormatException($"The text has {text.Length} characters; at most {MaxLength} are accepted.");
        return new PythonParser(text).Call();
    }

    /// <summary>Matches the arguments to parameters, as Python does when it calls.</summary>
    /// <param name="name">The name that the call must have.</param>
    /// <param name="parameters">The names of the parameters, in the order of positional arguments.</param>
    /// <returns>The arguments by parameter.</returns>
    /// <exception cref="FormatException">
    /// The name differs, there are more positional arguments than parameters, a keyword is unknown, or an argument is given
    /// both by position and by keyword.
    /// </exception>
    public PythonArguments Bind(string name, params ReadOnlySpan<string> parameters)
    {
        if (Name != name)
            throw new FormatException($"Expected a call of {name}, got {Name}.");
        if (Values.Count > parameters.Length)
            throw new FormatException($"{Name} takes at most {parameters.Length} arguments ({Join(parameters)}), got {Values.Count} by position.");
        var bound = new Dictionary<string, PythonValue>();
        for (int i = 0; i < Values.Count; i++)
            bound.Add(parameters[i], Values[i]);
        foreach ((string keyword, PythonValue value) in Keywords)
        {
            if (!parameters.Contains(keyword))
                throw new FormatException($"{Name} has no argument '{keyword}'; accepted are {Join(parameters)}.");
            if (!bound.TryAdd(keyword, value))
                throw new FormatException($"{Name} got the argument '{keyword}' twice: by position and by keyword.");
        }
        return new PythonArguments(Name, bound);
    }

    private static string Join(ReadOnlySpan<string> parameters) => string.Join(", ", parameters);
}
