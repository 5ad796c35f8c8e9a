using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.RegularExpressions;
using Xunit;

namespace NormLayers.Tests.CommandLine;

/// <summary>The commands of docs/command-line.md, run one after the other in a folder of their own, print what stands below them.</summary>
public sealed partial class CommandLinePageTests : Sandbox
{
    private const string Mark = "@@@";

    [Fact]
    public void Page_EachCommand_PrintsWhatIsBelowIt()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "The page's commands are for a POSIX shell.");
        List<(string Command, string Output)> examples = Examples(System.IO.File.ReadAllLines(Path.Combine(Repository.Root, "docs", "command-line.md")));
        Assert.InRange(examples.Count, 10, 100);
        foreach (string folder in new[] { "examples", "docs" })
            Directory.CreateSymbolicLink(File(folder), Path.Combine(Repository.Root, folder));

        string[] outputs = RunAll(examples.ConvertAll(example => example.Command));

        Assert.Equal(examples.Count, outputs.Length);
        for (int i = 0; i < outputs.Length; i++)
            Assert.Equal($"$ {examples[i].Command}\n{WithoutTimes(examples[i].Output)}", $"$ {examples[i].Command}\n{WithoutTimes(outputs[i])}");
    }

    private static List<(string Command, string Output)> Examples(string[] page)
    {
        var examples = new List<(string Command, string Output)>();
        bool inside = false, command = false;
        foreach (string line in page)
        {
            if (line.StartsWith("```", StringComparison.Ordinal))
            {
                inside = line == "```console";
                command = false;
            }
            else if (inside && line.StartsWith("$ ", StringComparison.Ordinal))
            {
                examples.Add((line[2..], ""));
                command = line.EndsWith('\\');
            }
            else if (inside && command)
            {
                examples[^1] = ($"{examples[^1].Command}\n{line}", "");
                command = line.EndsWith('\\');
            }
            else if (inside)
            {
                examples[^1] = (examples[^1].Command, $"{examples[^1].Output}{line}\n");
            }
        }
        return examples;
    }

    private string[] RunAll(List<string> commands)
    {
        string dotnet = Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..", "dotnet"));
        var script = new StringBuilder();
        script.AppendLine("exec 2>&1");
        script.AppendLine($"normlayers() {{ '{dotnet}' '{typeof(Cli.Cli).Assembly.Location}' \"$@\"; }}");
        // Keeps the exit code for the page's echo $?.
        script.AppendLine($"mark() {{ local code=$?; echo '{Mark}'; return $code; }}");
        foreach (string command in commands)
            script.AppendLine("mark").AppendLine(command);
        System.IO.File.WriteAllText(File("page.sh"), script.ToString());
        using Process process = Process.Start(new ProcessStartInfo("bash", ["page.sh"]) { WorkingDirectory = File("."), RedirectStandardOutput = true })!;
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return output.Split(Mark + "\n")[1..];
    }

    private static string WithoutTimes(string text) => Times().Replace(text, " in TIME");

    [GeneratedRegex(@" in [\d.]+ m?s(, [^\n;]* per second)?")]
    private static partial Regex Times();
}
