using System.Numerics.Tensors;
using NormLayers.IO;
using Xunit;

namespace NormLayers.Tests.IO;

/// <summary>A written file appears whole or not at all.</summary>
public sealed class NewFileTests : IDisposable
{
    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void Commit_FilledOutput_MakesTheFile()
    {
        using (NpyOutput<double> output = NpyFile.Create<double>(folder["o.npy"], [2, 3]))
        {
            Assert.Equal(folder["o.npy"], output.Path);
            TensorSpan<double> tensor = output.Tensor;
            Assert.Equal(0, tensor[1, 2]);
            tensor.Fill(1.5);
            tensor[1, 2] = 7;
            Assert.False(File.Exists(folder["o.npy"]));
            output.Commit();
            Assert.Throws<ObjectDisposedException>(output.Commit);
            Assert.Throws<ObjectDisposedException>(() => { _ = output.Tensor; });
        }
        Assert.Equal([folder["o.npy"]], Directory.GetFiles(folder.Path));
        using NpyFile file = NpyFile.Open(folder["o.npy"]);
        Assert.Equal([1.5, 1.5, 1.5, 1.5, 1.5, 7], RoundTripTests.Flat(file.Read<double>()));
    }

    [Theory]
    [InlineData(new int[0], 1)]
    [InlineData(new[] { 0, 3 }, 0)]
    public void Create_ScalarOrEmpty_CanBeCommitted(int[] lengths, int count)
    {
        nint[] shape = Array.ConvertAll(lengths, length => (nint)length);
        using (NpyOutput<float> output = NpyFile.Create<float>(folder["o.npy"], shape))
        {
            Assert.Equal(count, output.Tensor.FlattenedLength);
            if (count == 1)
                output.Tensor[0] = 3;
            output.Commit();
        }
        using NpyFile file = NpyFile.Open(folder["o.npy"]);
        Assert.Equal(lengths.Length, file.Shape.Count);
        Assert.Equal(count == 1 ? [3f] : [], RoundTripTests.Flat(file.Read<float>()));
    }

    [Fact]
    public void Dispose_WithoutCommit_LeavesNothing()
    {
        NpyOutput<double> output = NpyFile.Create<double>(folder["o.npy"], [2, 3]);
        Assert.Single(Directory.GetFiles(folder.Path));
        output.Dispose();
        output.Dispose();
        Assert.Empty(Directory.GetFiles(folder.Path));
    }

    [Fact]
    public void Create_ExistingFile_IsKeptUnlessOverwriteIsAsked()
    {
        string path = folder.Write("o.npy", [1, 2, 3]);
        Tensor<float> tensor = Tensor.CreateFromShape<float>([2]);
        Assert.Contains(path, Assert.Throws<IOException>(() => NpyFile.Create<float>(path, [2])).Message);
        Assert.Contains(path, Assert.Throws<IOException>(() => NpyFile.Write(path, tensor)).Message);
        Assert.Contains(path, Assert.Throws<IOException>(() => new SafetensorsWriter().Save(path)).Message);
        Assert.Equal([1, 2, 3], File.ReadAllBytes(path));
        Assert.Single(Directory.GetFiles(folder.Path));

        NpyFile.Write(path, tensor, overwrite: true);
        using (NpyFile file = NpyFile.Open(path))
            Assert.Equal([2L], file.Shape);
        Assert.Single(Directory.GetFiles(folder.Path));
    }

    [Fact]
    public void Commit_FileMadeMeanwhile_IsKept()
    {
        string path = folder["o.npy"];
        using (NpyOutput<float> output = NpyFile.Create<float>(path, [2]))
        {
            folder.Write("o.npy", [1, 2, 3]);
            Assert.Contains(path, Assert.Throws<IOException>(output.Commit).Message);
            Assert.Equal([1, 2, 3], File.ReadAllBytes(path));
            File.Delete(path);
            output.Commit();
        }
        Assert.Equal([path], Directory.GetFiles(folder.Path));
    }

    [Fact]
    public void Write_ToANameThatTheFolderRefuses_LeavesNothing()
    {
        string path = folder[new string('n', 300) + ".npy"];
        Assert.ThrowsAny<IOException>(() => NpyFile.Write(path, Tensor.CreateFromShape<float>([2])));
        Assert.Empty(Directory.GetFiles(folder.Path));
    }

    [Fact]
    public void ReadOrReplace_NamedPipeOrDevice_IsRefusedAtOnceAndLeftAsItIs()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "pipes are no files there");
        string pipe = folder["pipe"];
        foreach (string arguments in new[] { $"mkfifo {pipe}", $"ln -s {pipe} {folder["link"]}", $"mknod {folder["null"]} c 1 3" })
            System.Diagnostics.Process.Start("/bin/sh", ["-c", arguments + " 2> /dev/null"]).WaitForExit();
        string[] entries = Directory.GetFileSystemEntries(folder.Path);
        Assert.Contains("is a pipe or device", Assert.Throws<IOException>(() => NpyFile.Open(pipe)).Message);
        // Only root makes a device.
        foreach (string path in entries)
            Assert.Contains("is a pipe or device", Assert.Throws<IOException>(() => NpyFile.Write(path, Tensor.Create<float>([1]), overwrite: true)).Message);
        Assert.Equal(entries.Order(), Directory.GetFileSystemEntries(folder.Path).Order());
        Assert.All(entries, path => Assert.True(MappedFile.IsPipeOrDevice(path)));
        File.WriteAllBytes(folder["empty"], []);
        NpyFile.Write(folder["empty"], Tensor.Create<float>([1]), overwrite: true);
    }

    [Fact]
    public void Write_OverAnOpenFile_LeavesItsReaderTheOldElements()
    {
        string path = folder["o.npy"];
        float[] old = [1, 2];
        float[] fresh = [3, 4];
        NpyFile.Write(path, Tensor.Create(old));
        using NpyFile file = NpyFile.Open(path);
        NpyFile.Write(path, Tensor.Create(fresh), overwrite: true);
        Assert.Equal(old, RoundTripTests.Flat(file.Read<float>()));
        using NpyFile again = NpyFile.Open(path);
        Assert.Equal(fresh, RoundTripTests.Flat(again.Read<float>()));
    }

    [Fact]
    public void Create_MoreThanTheDiskHolds_IsAnIOExceptionAndLeavesNothing()
    {
        string path = folder["o.npy"];
        IOException refused = Assert.Throws<IOException>(() => NpyFile.Create<double>(path, [1 << 20, 1 << 20, 1 << 10]));
        Assert.StartsWith(path + ": ", refused.Message);
        Assert.Empty(Directory.GetFiles(folder.Path));
    }
}
