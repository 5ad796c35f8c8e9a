using System.Diagnostics;
using System.Numerics.Tensors;
using NormLayers.IO;
using Xunit;

namespace NormLayers.Tests.CommandLine;

/// <summary>What <c>run</c> does besides one forward of one .npy file: gradients, archives, several files, standard streams.</summary>
public sealed class CliDataTests : Sandbox
{
    private static readonly float[] X = [1, 2, 4, 8, -1, 0, 3, -5];
    private static readonly float[] Dy = [1, 0, -1, 2, 0.5f, 3, 0, 1];
    private static readonly float[] Weight = [2, 3, 5, 7];

    [Fact]
    public void Gradients_OfLayer_AreWritten()
    {
        Result result = Succeed(
            "run", "LayerNorm(4)", "--input", Npy("x.npy", [2, 4], X), "--output", File("y.npy"), "--weight", Npy("w.npy", [4], Weight),
            "--grad-output", Npy("dy.npy", [2, 4], Dy), "--grad-dir", File("g"));

        var layer = new LayerNorm<float>(4);
        Tensor.Create(Weight).CopyTo(layer.Weight!.Value);
        Tensor<float> y = layer.Forward(Tensor.Create(X, [2, 4]), out ForwardPass<float> pass);
        Tensor<float> dx = layer.Backward(Tensor.Create(Dy, [2, 4]), pass);
        Assert.Equal(Tensors.ToArray(y), Read<float>(File("y.npy")));
        Assert.Equal(Tensors.ToArray(dx), Read<float>(File("g/grad_input.npy")));
        Assert.Equal(Tensors.ToArray(layer.Weight.Grad), Read<float>(File("g/grad_weight.npy")));
        Assert.Equal(Tensors.ToArray(layer.Bias!.Grad), Read<float>(File("g/grad_bias.npy")));
        Assert.Equal(3, Directory.GetFiles(File("g")).Length);
        Assert.Contains(File("g/grad_bias.npy"), result.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Gradients_LayerWithoutParameters_WritesTheInputs()
    {
        Succeed(
            "run", "LocalResponseNorm(2)", "--input", Npy("x.npy", [1, 4, 2], X), "--output", File("y.npy"),
            "--grad-output", Npy("dy.npy", [1, 4, 2], Dy), "--grad-dir", File("g"));
        var layer = new LocalResponseNorm<float>(2);
        _ = layer.Forward(Tensor.Create(X, [1, 4, 2]), out ForwardPass<float> pass);
        Assert.Equal(Tensors.ToArray(layer.Backward(Tensor.Create(Dy, [1, 4, 2]), pass)), Read<float>(File("g/grad_input.npy")));
        Assert.Single(Directory.GetFiles(File("g")));
    }

    [Fact]
    public void Gradients_Scalar_KeepsItsShape()
    {
        Succeed("run", "LayerNorm(1)", "--input", Npy("x.npy", [], 5f), "--output", File("y.npy"), "--grad-output", Npy("dy.npy", [], 1f), "--grad-dir", File("g"));
        using NpyFile dx = NpyFile.Open(File("g/grad_input.npy"));
        Assert.Empty(dx.Shape);
    }

    [Fact]
    public void Gradients_BadGradient_RefusedBeforeAnythingIsWritten()
    {
        string x = Npy("x.npy", [2, 4], X);
        string[] Backward(string dy) => ["run", "LayerNorm(4)", "--input", x, "--output", File("y.npy"), "--grad-output", dy, "--grad-dir", File("g")];
        Assert.EndsWith("has the shape (4, 2); accepted is the input's, (2, 4).", Refuse(Backward(Npy("s.npy", [4, 2], Dy))), StringComparison.Ordinal);
        Assert.EndsWith("the elements are float64; accepted is the input's type, float32.", Refuse(Backward(Npy("d.npy", [2, 4], Array.ConvertAll(Dy, value => (double)value)))), StringComparison.Ordinal);
        Assert.Contains("there is no such file", Refuse(Backward(File("no.npy"))), StringComparison.Ordinal);
        Assert.False(Directory.Exists(File("g")));
    }

    [Fact]
    public void Gradients_FilesExist_NeedForce()
    {
        string[] args = ["run", "LayerNorm(4)", "--input", Npy("x.npy", [2, 4], X), "--output", File("y.npy"), "--grad-output", Npy("dy.npy", [2, 4], Dy), "--grad-dir", File(".")];
        string old = Npy("grad_bias.npy", [1], 1f);
        Assert.Contains("grad_bias.npy: exists already; pass --force to replace it.", Refuse(args), StringComparison.Ordinal);
        Succeed([.. args, "--force"]);
        Assert.Equal([1.5f, 3, -1, 3], Read<float>(old));

        args[5] = File("grad_input.npy");
        Assert.Contains("same file as a gradient", Refuse([.. args, "--force"]), StringComparison.Ordinal);
        args[5] = File("y.npy");
        args[7] = Npy("grad_weight.npy", [2, 4], Dy);
        Assert.Contains("a gradient in --grad-dir is the same file as --grad-output", Refuse([.. args, "--force"]), StringComparison.Ordinal);
        args[9] = old;
        Assert.Contains("--grad-dir is a file; a folder is needed", Refuse([.. args, "--force"]), StringComparison.Ordinal);
    }

    [Fact]
    public void Gradients_OfAResultThatCannotBeWritten_LeaveNothing()
    {
        Directory.CreateDirectory(File("y.npz"));
        string[] args = ["run", "LayerNorm(4)", "--input", Npy("x.npy", [2, 4], X), "--output", File("y.npz"), "--grad-output", Npy("dy.npy", [2, 4], Dy), "--grad-dir", File("g")];
        Assert.Equal($"normlayers: {File("y.npz")}: is a folder; the name of a file is needed.", Refuse(args));
        Assert.Empty(Directory.GetFiles(File("g")));
    }

    [Fact]
    public void Gradients_Interrupted_LeaveNothing()
    {
        string[] args = ["run", "LayerNorm(4)", "--input", Npy("x.npy", [2, 4], X), "--output", File("y.npy"), "--grad-output", Npy("dy.npy", [2, 4], Dy), "--grad-dir", File("g")];
        Assert.Equal(130, Run(new CancellationToken(canceled: true), args).Code);
        Assert.False(Directory.Exists(File("g")));
        Assert.Equal(["dy.npy", "x.npy"], Files());
    }

    [Fact]
    public void RunningStatistics_OfCheckpoint_AreUsedUnlessTraining()
    {
        var norm = new BatchNorm1d<float>(2);
        norm.RunningMean!.Fill(3);
        norm.RunningVar!.Fill(4);
        norm.Weight!.Value.Fill(2);
        norm.NumBatchesTracked!.Fill(7);
        var writer = new SafetensorsWriter();
        foreach ((string name, IReadOnlyTensor tensor) in norm.StateDict())
        {
            if (tensor is Tensor<float> values)
                writer.Add($"bn.{name}", values);
            else
                writer.Add($"bn.{name}", (Tensor<long>)tensor, []);
        }
        writer.Save(File("w.safetensors"));
        string[] args = ["run", "BatchNorm1d(2)", "--input", Npy("x.npy", [4, 2], X), "--output", File("y.npy"), "--weights", File("w.safetensors"), "--prefix", "bn"];

        Succeed(args);
        Succeed([.. args[..5], File("t.npy"), .. args[6..], "--train"]);

        Tensor<float> x = Tensor.Create(X, [4, 2]);
        norm.Eval();
        Assert.Equal(Tensors.ToArray(norm.Forward(x)), Read<float>(File("y.npy")));
        norm.Train();
        Assert.Equal(Tensors.ToArray(norm.Forward(x)), Read<float>(File("t.npy")));
    }

    [Fact]
    public void Threads_AnyNumber_SameBits()
    {
        float[] values = Enumerable.Range(0, 1 << 20).Select(i => MathF.Sin(i)).ToArray();
        string x = Npy("x.npy", [1024, 1024], values);
        Succeed("run", "LayerNorm(1024)", "--input", x, "--output", File("a.npy"));
        Succeed("run", "LayerNorm(1024)", "--input", x, "--output", File("b.npy"), "--threads", "1");
        Assert.Equal(System.IO.File.ReadAllBytes(File("a.npy")), System.IO.File.ReadAllBytes(File("b.npy")));
    }

    [Fact]
    public void Npz_InAndOut_KeepsTheName()
    {
        string input = Npz("x.npz", ("act", X), ("w", Weight));
        Succeed("run", "LayerNorm(8, elementwise_affine=False)", "--input", Npz("one.npz", ("act", X)), "--output", File("sole.npy"));
        Succeed("run", "LayerNorm(8)", "--input", $"{input}:act", "--output", File("y.npz"));
        Succeed("run", "LayerNorm(8)", "--input", $"{input}:act", "--output", File("z.npz:named"));
        Succeed("run", "LayerNorm(8)", "--input", Npy("x.npy", [8], X), "--output", File("plain.npz"));

        foreach ((string name, string member) in new[] { ("y.npz", "act"), ("z.npz", "named"), ("plain.npz", "arr_0") })
        {
            using NpzFile archive = NpzFile.Open(File(name));
            Assert.Equal([member], archive.Names);
            using NpyFile file = archive.Read(member);
            Assert.Equal([8L], file.Shape);
            Assert.Equal(Tensors.ToArray(new LayerNorm<float>(8).Forward(Tensor.Create(X))), Tensors.ToArray(file.Read<float>()));
        }
        Assert.Equal(8, Read<float>(File("sole.npy")).Length);
    }

    [Fact]
    public void Npz_Weights_ByName()
    {
        string archive = Npz("p.npz", ("w", Weight), ("b", [1, 1, 1, 1]));
        Succeed("run", "LayerNorm(4)", "--input", Npy("x.npy", [2, 4], X), "--output", File("y.npy"), "--weight", $"{archive}:w", "--bias", $"{archive}:b");
        Assert.Equal(
            Tensors.ToArray(Functional.LayerNorm(Tensor.Create(X, [2, 4]), [4], Tensor.Create(Weight), Tensor.Create<float>([1, 1, 1, 1]))),
            Read<float>(File("y.npy")));
    }

    [Fact]
    public void Npz_Refusals_SayWhy()
    {
        string archive = Npz("x.npz", ("a", X), ("b", X), ("c", X), ("d", X));
        Assert.EndsWith("has 4 arrays; accepted is the name of one, " + archive + ":NAME, among 'a', 'b', 'c', ....", Refuse("run", "LayerNorm(8)", "--input", archive, "--output", File("y.npy")), StringComparison.Ordinal);
        Assert.Contains("same file as --input", Refuse("run", "LayerNorm(8)", "--input", archive + ":a", "--output", archive + ":e", "--force"), StringComparison.Ordinal);
        Assert.Contains($"{Npz("old.npz", ("a", X))}: exists already", Refuse("run", "LayerNorm(8)", "--input", archive + ":a", "--output", File("old.npz:b")), StringComparison.Ordinal);
        Assert.EndsWith("has no array.", Refuse("run", "LayerNorm(8)", "--input", Npz("none.npz"), "--output", File("y.npy")), StringComparison.Ordinal);
        System.IO.File.WriteAllText(File("text.npz"), "hello");
        Assert.Contains("is not a sound .npz archive", Refuse("run", "LayerNorm(8)", "--input", File("text.npz"), "--output", File("y.npy")), StringComparison.Ordinal);
        Assert.Contains("folder does not exist", Refuse("run", "LayerNorm(8)", "--input", archive + ":a", "--output", File("no/y.npz")), StringComparison.Ordinal);
    }

    [Fact]
    public void Folder_GoodAndBad_GoesOnAndEndsRefused()
    {
        Directory.CreateDirectory(File("in"));
        string good = Npy("in/a.npy", [2, 4], X);
        System.IO.File.WriteAllText(File("in/b.npy"), "not an array");
        Npy("in/c.npy", [2, 2, 2], X);
        Npy("in/d.npy", [2, 4], Array.ConvertAll(X, value => (double)value));
        System.IO.File.WriteAllText(File("in/notes.txt"), "not .npy");

        Result result = Run("run", "LayerNorm(4)", "--input", File("in"), "--output", File("out"));

        Assert.Equal(2, result.Code);
        Assert.Equal(["a.npy", "d.npy"], Directory.GetFiles(File("out")).Select(path => Path.GetFileName(path)).Order());
        Assert.Equal(Tensors.ToArray(new LayerNorm<float>(4).Forward(Tensor.Create(X, [2, 4]))), Read<float>(File("out/a.npy")));
        string[] lines = result.Output.TrimEnd().Split(Environment.NewLine);
        Assert.Equal(3, lines.Length);
        Assert.StartsWith($"{good}, shape (2, 4), float32; mean ", lines[0], StringComparison.Ordinal);
        Assert.Matches($"^2 of 4 files in .* to {System.Text.RegularExpressions.Regex.Escape(File("out"))}; 2 refused$", lines[2]);
        string[] refused = result.Error.TrimEnd().Split(Environment.NewLine);
        Assert.StartsWith($"normlayers: {File("in/b.npy")}: is not a .npy file", refused[0], StringComparison.Ordinal);
        Assert.StartsWith($"normlayers: {File("in/c.npy")}: ", refused[1], StringComparison.Ordinal);
        Assert.Equal(2, refused.Length);

        // Once more: what is there is refused, what was bad is bad; nothing changes.
        byte[] before = System.IO.File.ReadAllBytes(File("out/a.npy"));
        Result again = Run("run", "GroupNorm(1, 4)", "--input", File("in"), "--output", File("out"));
        Assert.Equal(2, again.Code);
        Assert.Contains("a.npy: exists already; pass --force to replace it.", again.Error, StringComparison.Ordinal);
        Assert.Equal(before, System.IO.File.ReadAllBytes(File("out/a.npy")));
    }

    [Fact]
    public void Pattern_Matches_RunsThose()
    {
        Npy("x1.npy", [2, 4], X);
        Npy("x2.npy", [2, 4], X);
        Npy("other.npy", [2, 3], 1f, 2, 3, 4, 5, 6);
        Result result = Succeed("run", "LayerNorm(4)", "--input", File("x?.npy"), "--output", File("out"));
        Assert.Equal(["x1.npy", "x2.npy"], Directory.GetFiles(File("out")).Select(path => Path.GetFileName(path)).Order());
        Assert.Contains("2 of 2 files in ", result.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("refused", result.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Files_Refusals_SayWhy()
    {
        Directory.CreateDirectory(File("empty"));
        Directory.CreateDirectory(File("in"));
        Npy("in/a.npy", [2, 4], X);
        string[] On(string input, string output, params string[] more) => ["run", "LayerNorm(4)", "--input", input, "--output", output, .. more];
        Assert.EndsWith("the folder has no .npy file.", Refuse(On(File("empty"), File("out"))), StringComparison.Ordinal);
        Assert.EndsWith("no file has such a name.", Refuse(On(File("in/b*.npy"), File("out"))), StringComparison.Ordinal);
        Assert.EndsWith("accepted are they in the name of the file.", Refuse(On(File("i*/a.npy"), File("out"))), StringComparison.Ordinal);
        Assert.Contains("does not exist", Refuse(On(File("no/*.npy"), File("out"))), StringComparison.Ordinal);
        Assert.Contains("is the folder of --input", Refuse(On(File("in"), File("in/../in/"))), StringComparison.Ordinal);
        Assert.Contains("a folder is needed for the 1 files", Refuse(On(File("in"), Npy("file.npy", [1], 1f))), StringComparison.Ordinal);
        Assert.Contains("a folder is needed for the 1 files", Refuse(On(File("in"), "-")), StringComparison.Ordinal);
        Assert.Contains("the backward takes one file", Refuse(On(File("in"), File("out"), "--grad-output", File("in/a.npy"), "--grad-dir", File("g"))), StringComparison.Ordinal);
        Assert.Contains("the weight has the shape (1,)", Refuse(On(File("in"), File("out"), "--weight", Npy("w.npy", [1], 1f))), StringComparison.Ordinal);
        Assert.False(Directory.Exists(File("out")));
    }

    [Fact]
    public void Folder_Interrupted_SaysHowFar()
    {
        Directory.CreateDirectory(File("in"));
        Npy("in/a.npy", [2, 4], X);
        Result result = Run(new CancellationToken(canceled: true), "run", "LayerNorm(4)", "--input", File("in"), "--output", File("out"));
        Assert.Equal(130, result.Code);
        Assert.Contains("interrupted after 0 of 1 files", result.Error, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFiles(File("out")));
    }

    [Fact]
    public void StandardStreams_Pipe_CarryTheArray()
    {
        string x = Npy("x.npy", [2, 4], X);
        using Process process = CliProcessTests.StartProcess(redirectInput: true, "run", "LayerNorm(4)", "--input", "-", "--output", "-");
        process.StandardInput.BaseStream.Write(System.IO.File.ReadAllBytes(x));
        process.StandardInput.Close();
        using var output = new MemoryStream();
        process.StandardOutput.BaseStream.CopyTo(output);
        string error = process.StandardError.ReadToEnd();
        process.WaitForExit();

        Assert.Equal(0, process.ExitCode);
        Assert.Contains("standard input, shape (2, 4), float32", error, StringComparison.Ordinal);
        Succeed("run", "LayerNorm(4)", "--input", x, "--output", File("y.npy"));
        Assert.Equal(System.IO.File.ReadAllBytes(File("y.npy")), output.ToArray());
    }

    [Fact]
    public void StandardInput_NoArray_RefusedAndNothingOnOutput()
    {
        using Process process = CliProcessTests.StartProcess(redirectInput: true, "run", "LayerNorm(4)", "--input", "-", "--output", "-");
        process.StandardInput.Write("hello");
        process.StandardInput.Close();
        Assert.Equal("", process.StandardOutput.ReadToEnd());
        Assert.Equal($"normlayers: standard input: is not a .npy file: it does not begin with \\x93NUMPY.{Environment.NewLine}", process.StandardError.ReadToEnd());
        process.WaitForExit();
        Assert.Equal(2, process.ExitCode);
    }

    [Theory]
    [InlineData("run", "LayerNorm(4)", "--input", "-", "--output", "-")]
    [InlineData("compare", "-", "x.npy")]
    public void StandardInput_ThatDoesNotEnd_CanBeInterrupted(params string[] args)
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "kill is a POSIX command.");
        byte[] array = System.IO.File.ReadAllBytes(Npy("x.npy", [1 << 17], new float[1 << 17]));
        using Process process = CliProcessTests.StartProcess(redirectInput: true, args);
        // Half of it, more than the pipe holds: what is written has been waited for by a process that listens for signals.
        process.StandardInput.BaseStream.Write(array, 0, array.Length / 2);
        Process.Start("kill", ["-TERM", $"{process.Id}"]).WaitForExit();
        bool ended = process.WaitForExit(30000);
        if (!ended)
            process.Kill();
        Assert.True(ended);
        Assert.Equal(130, process.ExitCode);
        Assert.Equal($"normlayers: interrupted; nothing was written.{Environment.NewLine}", process.StandardError.ReadToEnd());
    }

    private string Npz(string name, params (string Name, float[] Values)[] arrays)
    {
        var writer = new NpzWriter();
        foreach ((string member, float[] values) in arrays)
            writer.Add(member, Tensor.Create(values));
        writer.Save(File(name), overwrite: true);
        return File(name);
    }
}
