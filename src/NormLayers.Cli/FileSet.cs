using System.Diagnostics;
using Spectre.Console;

namespace NormLayers.Cli;

/// <summary>The files of a folder, or those whose names fit a pattern: each is run on its own, and a bad one stops no other.</summary>
internal sealed class FileSet
{
    private static readonly char[] Wildcards = ['*', '?'];

    private readonly string folder;
    private readonly string[] paths;

    private FileSet(string folder, string pattern)
    {
        this.folder = folder;
        paths = Directory.GetFiles(folder, pattern);
        Array.Sort(paths, StringComparer.Ordinal);
    }

    /// <summary>The files that an argument means, or null where it means one array.</summary>
    public static FileSet? Of(string argument)
    {
        if (Directory.Exists(argument))
            return NotEmpty(new FileSet(argument, "*.npy"), $"{argument}: the folder has no .npy file.");
        if (argument.IndexOfAny(Wildcards) < 0 || File.Exists(argument))
            return null;
        string folder = Path.GetDirectoryName(argument) is { Length: > 0 } named ? named : ".";
        if (folder.IndexOfAny(Wildcards) >= 0)
            throw new Refused($"{argument}: has * or ? in the name of a folder; accepted are they in the name of the file.");
        if (!Directory.Exists(folder))
            throw new Refused($"{argument}: the folder {folder} does not exist.");
        return NotEmpty(new FileSet(folder, Path.GetFileName(argument)), $"{argument}: no file has such a name.");
    }

    /// <summary>Runs a request for each file, its output of the same name in the folder that --output names.</summary>
    public int Run(RunCommand.Request request, Func<RunCommand.Request, Report> runOne, Action check, TextWriter output, TextWriter error, CancellationToken cancellation)
    {
        if (request.GradOutput is not null)
            throw new Refused($"--grad-output was given with the {paths.Length} files of --input {request.Input}; the backward takes one file.");
        if (request.Output == InputArray.StandardStream || File.Exists(request.Output))
            throw new Refused($"--output is {request.Output}; a folder is needed for the {paths.Length} files of --input {request.Input}.");
        if (Path.GetFullPath(request.Output + "/") == Path.GetFullPath(folder + "/"))
            throw new Refused($"{request.Output}: --output is the folder of --input; another one is needed.");
        check();
        Directory.CreateDirectory(request.Output);

        int done = 0;
        long started = Stopwatch.GetTimestamp();
        void RunAll(Action<string> say, Action<string> refuse, Action step)
        {
            foreach (string path in paths)
            {
                cancellation.ThrowIfCancellationRequested();
                try
                {
                    say(runOne(request with { Input = path, Output = Path.Combine(request.Output, Path.GetFileName(path)) }).Line("input", "after", "speed"));
                    done++;
                }
                catch (Exception refused) when (Cli.RefusalOf(refused) is not null)
                {
                    refuse(Cli.RefusalOf(refused)!);
                }
                step();
            }
        }

        try
        {
            if (ReferenceEquals(output, Console.Out) && !Console.IsOutputRedirected && !Console.IsErrorRedirected)
                RunWithProgress(RunAll);
            else
                RunAll(output.WriteLine, message => Cli.Refuse(error, message, Cli.RefusedCode), static () => { });
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            return Cli.Refuse(error, $"interrupted after {done} of {paths.Length} files; those in {request.Output} are whole.", Cli.Interrupted);
        }
        string refusals = done == paths.Length ? "" : $"; {paths.Length - done} refused";
        output.WriteLine($"{done} of {paths.Length} files in {Report.Time(Stopwatch.GetElapsedTime(started))} to {request.Output}{refusals}");
        return done == paths.Length ? Cli.Done : Cli.RefusedCode;
    }

    private void RunWithProgress(Action<Action<string>, Action<string>, Action> runAll)
        => AnsiConsole.Progress().AutoClear(true).Columns(new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn(), new TaskDescriptionColumn()).Start(progress =>
        {
            ProgressTask task = progress.AddTask($"{paths.Length} files", maxValue: paths.Length);
            // Above the bar, through the console that draws it.
            runAll(
                line => AnsiConsole.Console.WriteLine(line),
                message => AnsiConsole.Console.WriteLine($"normlayers: {Cli.OneLine(message)}", new Style(Color.Red)),
                () => task.Increment(1));
        });

    private static FileSet NotEmpty(FileSet files, string otherwise) => files.paths.Length > 0 ? files : throw new Refused(otherwise);
}
