using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using System.CommandLine.Parsing;
using System.Reflection;

namespace NormLayers.Cli;

/// <summary>The command line as a function: arguments in, two streams and an exit code out.</summary>
internal static class Cli
{
    public const int Done = 0;
    public const int Different = 1;
    public const int RefusedCode = 2;
    public const int Bug = 70;
    public const int Interrupted = 130;

    private const string Example = """
        Example:
          normlayers run "LayerNorm(120)" \
            --input examples/data/ppocr-v4-rec/05_layer_x.npy \
            --weights examples/data/ppocr-v4-rec/parameters.safetensors --prefix layer_norm_43 \
            --output y.npy
          normlayers compare y.npy examples/data/ppocr-v4-rec/05_layer_y.npy --atol 1e-6

          normlayers explain "GroupNorm(3, 6)" --shape 20,6,10,10

        Exit code: 0 done, 1 compared and different, 2 refused, 70 a bug, 130 interrupted.
        """;

    public static int Run(string[] args, TextWriter output, TextWriter error, CancellationToken cancellation = default)
    {
        try
        {
            // A token that starts with @ is a file name here like any other, not a response file.
            ParseResult parsed = Root(cancellation).Parse(args, new ParserConfiguration { ResponseFileTokenReplacer = null });
            if (parsed.Errors.Count > 0)
                throw new Refused(Describe(parsed));
            return parsed.Invoke(new InvocationConfiguration { Output = output, Error = error, EnableDefaultExceptionHandler = false });
        }
        catch (Exception refused) when (RefusalOf(refused) is not null)
        {
            return Refuse(error, RefusalOf(refused)!, RefusedCode);
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            return Refuse(error, "interrupted; nothing was written.", Interrupted);
        }
#pragma warning disable CA1031 // The last resort of a process: a bug keeps its text and gets its own exit code.
        catch (Exception bug)
#pragma warning restore CA1031
        {
            error.WriteLine($"normlayers: this is a bug in normlayers: {bug}");
            return Bug;
        }
    }

    /// <summary>What is said of an exception that is no bug but what was asked for, or the machine; null of others.</summary>
    public static string? RefusalOf(Exception exception) => exception switch
    {
        FileNotFoundException { FileName: { } name } => $"{name}: there is no such file.",
        Refused or IOException or InvalidDataException or UnauthorizedAccessException => exception.Message,
        OutOfMemoryException => "there is not enough memory for this.",
        _ => null,
    };

    private static RootCommand Root(CancellationToken cancellation)
    {
        var root = new RootCommand("Runs and explains PyTorch's normalization layers, and compares arrays.")
        {
            RunCommand.Create(cancellation),
            CompareCommand.Create(cancellation),
            InspectCommand.Create(cancellation),
            ExportCommand.Create(),
            ExplainCommand.Create(),
        };
        root.HelpName = "normlayers";
        foreach (Option option in root.Options)
        {
            if (option is HelpOption { Action: HelpAction help })
                option.Action = new HelpWithExample(help);
            else if (option is VersionOption)
                option.Action = new PrintVersion();
        }
        return root;
    }

    public static int Refuse(TextWriter error, string message, int code)
    {
        try
        {
            error.WriteLine($"normlayers: {OneLine(message)}");
        }
        catch (Exception cause) when (cause is IOException or UnauthorizedAccessException)
        {
            // Standard error is closed or full: the code says it alone.
        }
        return code;
    }

    /// <summary>One line whatever a path or a file's name holds, and no control character on a terminal.</summary>
    public static string OneLine(string message)
    {
        string line = string.Join(' ', message.Split(['\r', '\n'], StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries));
        return string.Concat(line.Select(c => char.IsControl(c) || c is '\u2028' or '\u2029' ? '?' : c));
    }

    /// <summary>The first thing wrong with the arguments. One unknown option makes the parser report several errors; it is named first.</summary>
    private static string Describe(ParseResult parsed)
    {
        Command command = parsed.CommandResult.Command;
        string hint = command is RootCommand ? "see normlayers --help" : $"see normlayers {command.Name} --help";
        IEnumerable<string> words = command.Arguments.SelectMany(argument => parsed.GetResult(argument)?.Tokens ?? []).Select(token => token.Value).Concat(parsed.UnmatchedTokens);
        if (words.FirstOrDefault(word => word is ['-', _, ..]) is { } option)
        {
            IEnumerable<string> accepted = command is RootCommand ? ["--help", "--version"] : command.Options.Select(known => known.Name);
            return $"unknown option '{option}'; accepted are {string.Join(", ", accepted)}; {hint}";
        }
        if (command is RootCommand && parsed.Tokens.All(token => token.Type == TokenType.Argument))
        {
            string got = parsed.UnmatchedTokens.Count == 0 ? "no command was given" : $"unknown command '{parsed.UnmatchedTokens[0]}'";
            return $"{got}; accepted are {string.Join(", ", command.Subcommands.Select(known => known.Name))}; {hint}";
        }
        return $"{parsed.Errors[0].Message.TrimEnd('.')}; {hint}";
    }

    private sealed class HelpWithExample(HelpAction help) : SynchronousCommandLineAction
    {
        public override bool ClearsParseErrors => true;

        public override int Invoke(ParseResult parseResult)
        {
            int code = help.Invoke(parseResult);
            parseResult.InvocationConfiguration.Output.WriteLine(parseResult.CommandResult.Command.Name switch
            {
                "run" => RunCommand.Example,
                "compare" => CompareCommand.Example,
                "explain" => ExplainCommand.Example,
                "inspect" => InspectCommand.Example,
                "export" => ExportCommand.Example,
                _ => Example,
            });
            return code;
        }
    }

    private sealed class PrintVersion : SynchronousCommandLineAction
    {
        public override int Invoke(ParseResult parseResult)
        {
            string version = typeof(Cli).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()!.InformationalVersion;
            parseResult.InvocationConfiguration.Output.WriteLine(version.Split('+')[0]);
            return Done;
        }
    }
}
