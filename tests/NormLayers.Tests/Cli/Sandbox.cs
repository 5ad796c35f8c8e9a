using System.Buffers.Binary;
using System.Numerics.Tensors;
using System.Text;
using NormLayers.IO;
using Xunit;

namespace NormLayers.Tests.CommandLine;

/// <summary>A folder of its own for one test, and the command line run in this process.</summary>
public abstract class Sandbox : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("normlayers-cli-").FullName;

    public sealed record Result(int Code, string Output, string Error);

    public static Result Run(params string[] args) => Run(default, args);

    public static Result Run(CancellationToken cancellation, params string[] args)
    {
        var output = new StringWriter();
        var error = new StringWriter();
        int code = Cli.Cli.Run(args, output, error, cancellation);
        return new Result(code, output.ToString(), error.ToString());
    }

    public static Result Succeed(params string[] args)
    {
        Result result = Run(args);
        Assert.Equal("", result.Error);
        Assert.Equal(0, result.Code);
        return result;
    }

    /// <summary>Runs what must be refused: exit code 2, one line, and no file made, changed or removed.</summary>
    public string Refuse(params string[] args)
    {
        Dictionary<string, byte[]> before = Snapshot();
        Result result = Run(args);
        Assert.Equal(2, result.Code);
        Assert.Equal("", result.Output);
        Assert.StartsWith("normlayers: ", result.Error, StringComparison.Ordinal);
        Assert.EndsWith(Environment.NewLine, result.Error, StringComparison.Ordinal);
        Assert.Single(result.Error.TrimEnd().Split('\n'));
        Assert.DoesNotContain("(Parameter", result.Error, StringComparison.Ordinal);
        Dictionary<string, byte[]> after = Snapshot();
        Assert.Equal(before.Keys.Order(), after.Keys.Order());
        Assert.All(before, file => Assert.Equal(file.Value, after[file.Key]));
        return result.Error.TrimEnd();
    }

    public string File(string name) => Path.Combine(folder, name);

    public string[] Files() => Directory.GetFiles(folder).Select(path => Path.GetFileName(path)).Order().ToArray();

    public string Npy<T>(string name, nint[] shape, params T[] values)
        where T : unmanaged
    {
        Tensor<T> tensor = Tensor.Create(values, shape.Length == 0 ? [1] : shape);
        NpyFile.Write(File(name), tensor, shape, overwrite: true);
        return File(name);
    }

    public static T[] Read<T>(string path)
        where T : unmanaged
    {
        using NpyFile file = NpyFile.Open(path);
        return Tensors.ToArray(file.Read<T>());
    }

    /// <summary>A file as NumPy may write it elsewhere: floats in column-major order or in the other byte order.</summary>
    public string ForeignNpy(string name, bool fortranOrder, string descr, string shape, ReadOnlySpan<float> stored)
    {
        string header = $"{{'descr': '{descr}', 'fortran_order': {(fortranOrder ? "True" : "False")}, 'shape': {shape}, }}";
        header = header.PadRight(117) + "\n";
        var bytes = new byte[128 + (4 * stored.Length)];
        Encoding.Latin1.GetBytes($"\u0093NUMPY\u0001\0\u0076\0{header}", bytes);
        for (int i = 0; i < stored.Length; i++)
        {
            Span<byte> element = bytes.AsSpan(128 + (4 * i));
            if (descr[0] == '>')
                BinaryPrimitives.WriteSingleBigEndian(element, stored[i]);
            else
                BinaryPrimitives.WriteSingleLittleEndian(element, stored[i]);
        }
        System.IO.File.WriteAllBytes(File(name), bytes);
        return File(name);
    }

    public void Dispose()
    {
        Directory.Delete(folder, recursive: true);
        GC.SuppressFinalize(this);
    }

    private Dictionary<string, byte[]> Snapshot()
        => Directory.GetFiles(folder).ToDictionary(path => path, System.IO.File.ReadAllBytes);
}
