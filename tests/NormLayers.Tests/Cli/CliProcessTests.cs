using System.Diagnostics;
using System.Runtime.InteropServices;
using Xunit;

namespace NormLayers.Tests.CommandLine;

/// <summary>The tool as its own process: exit codes and streams as a shell sees them; and its help.</summary>
public sealed class CliProcessTests : Sandbox
{
    [Fact]
    public void Process_Run_WritesAndExitsZero()
    {
        string x = Npy("x.npy", [1, 2], 1f, 3f);
        Result result = Start("run", "LayerNorm(2, eps=0)", "--input", x, "--output", File("y.npy"));
        Assert.Equal("", result.Error);
        Assert.Equal(0, result.Code);
        Assert.Contains("LayerNorm((2,), eps=0, elementwise_affine=True)", result.Output, StringComparison.Ordinal);
        Assert.Equal([-1f, 1f], Read<float>(File("y.npy")));
    }

    [Fact]
    public void Process_Refused_OneLineOnStandardErrorOnly()
    {
        Result result = Start("run", "LayerNorm(2)", "--input", File("no.npy"), "--output", File("y.npy"));
        Assert.Equal(2, result.Code);
        Assert.Equal("", result.Output);
        Assert.Equal($"normlayers: {File("no.npy")}: there is no such file.{Environment.NewLine}", result.Error);
        Assert.Empty(Files());
    }

    [Theory]
    [InlineData("&-")]
    [InlineData("/dev/full")]
    public void Process_RefusedWithNowhereToSayIt_ExitsTwo(string error)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "The redirections are a POSIX shell's.");
        using Process process = Process.Start("bash", ["-c", $"'{Dotnet}' '{typeof(Cli.Cli).Assembly.Location}' compare no.npy no.npy 2>{error}"]);
        process.WaitForExit();
        Assert.Equal(2, process.ExitCode);
    }

    [Fact]
    public void Process_CompareDifferent_ExitsOne()
    {
        Result result = Start("compare", Npy("a.npy", [1], 1f), Npy("b.npy", [1], 2f));
        Assert.Equal(1, result.Code);
        Assert.Equal("", result.Error);
    }

    [Theory]
    [InlineData("--help")]
    [InlineData("run", "--help")]
    [InlineData("compare", "-h")]
    public void Help_EachCommand_ShowsAnExampleOfFilesInTheRepository(params string[] args)
    {
        Result result = Succeed(args);
        Assert.Contains("Example", result.Output, StringComparison.Ordinal);
        string[] files = result.Output.Split([' ', '\n', '\r'], StringSplitOptions.RemoveEmptyEntries).Where(word => word.StartsWith("examples/", StringComparison.Ordinal)).ToArray();
        Assert.NotEmpty(files);
        Assert.All(files, file => Assert.True(System.IO.File.Exists(Path.Combine(Repository.Root, file)), file));
    }

    /// <summary>Else DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=0 and a German system make half of a message German.</summary>
    [Fact]
    public void Parser_HasNoOtherLanguages()
        => Assert.Empty(Directory.GetFiles(Path.GetDirectoryName(typeof(Cli.Cli).Assembly.Location)!, "System.CommandLine.resources.dll", SearchOption.AllDirectories));

    [Fact]
    public void Version_IsThePackages()
        => Assert.Equal("0.1.0", Succeed("--version").Output.Trim());

    /// <summary>The runtime that runs the tests, as the tests' own process is not the dotnet host.</summary>
    private static string Dotnet => Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..", OperatingSystem.IsWindows() ? "dotnet.exe" : "dotnet"));

    internal static Process StartProcess(bool redirectInput, params string[] args)
        => Process.Start(new ProcessStartInfo(Dotnet, [typeof(Cli.Cli).Assembly.Location, .. args])
        {
            RedirectStandardInput = redirectInput,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;

    private static Result Start(params string[] args)
    {
        using Process process = StartProcess(redirectInput: false, args);
        Task<string> error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return new Result(process.ExitCode, output, error.GetAwaiter().GetResult());
    }
}
