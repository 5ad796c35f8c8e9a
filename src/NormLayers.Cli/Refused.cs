namespace NormLayers.Cli;

/// <summary>What was asked for cannot be done; the message is one line that says what was got and what is accepted.</summary>
internal sealed class Refused(string message) : Exception(message)
{
    public static Refused Of(string subject, Exception cause) => new($"{subject}: {Text(cause)}");

    /// <summary>Refuses an output that exists, unless it may be replaced.</summary>
    public static void IfThereIs(string path, bool force)
    {
        if (!force && File.Exists(path))
            throw new Refused($"{path}: exists already; pass --force to replace it.");
    }

    /// <summary>A library's message without the name of its C# parameter, which means nothing on a command line.</summary>
    public static string Text(Exception cause)
        => cause is ArgumentException { ParamName: { } name } ? cause.Message.Replace($" (Parameter '{name}')", "", StringComparison.Ordinal) : cause.Message;
}
