using System.IO.Compression;
using System.Numerics.Tensors;
using NormLayers.IO;
using Xunit;

namespace NormLayers.Tests.IO;

/// <summary>Valid files with bytes flipped, cut out or cut off: what is not read is refused with the documented exception.</summary>
public sealed class FuzzTests : IDisposable
{
    private const int Rounds = 2000;

    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void Npy_DamagedBytes_AreReadOrRefused()
    {
        NpyFile.Write(folder["v.npy"], RoundTripTests.Make<float>([2, 3, 4]));
        NpyFile.Write(folder["w.npy"], RoundTripTests.Make<bool>([5]));
        byte[][] sound = [File.ReadAllBytes(folder["v.npy"]), File.ReadAllBytes(folder["w.npy"])];
        int read = Run(sound, path =>
        {
            using NpyFile file = NpyFile.Open(path);
            Tensor<double> tensor = file.ReadAs<double>();
            Assert.Equal(file.ElementCount, tensor.FlattenedLength);
        });
        Assert.InRange(read, Rounds / 20, Rounds * 19 / 20);
    }

    [Fact]
    public void Safetensors_DamagedBytes_AreReadOrRefused()
    {
        var writer = new SafetensorsWriter();
        writer.Metadata["format"] = "pt";
        writer.Add("weight", RoundTripTests.Make<float>([2, 3]));
        writer.Add("flags", RoundTripTests.Make<bool>([5]));
        writer.Add("steps", RoundTripTests.Make<long>([]), []);
        writer.Save(folder["v.safetensors"]);
        byte[][] sound = [File.ReadAllBytes(folder["v.safetensors"])];
        int read = Run(sound, path =>
        {
            using SafetensorsFile file = SafetensorsFile.Open(path);
            foreach (string name in file.Names)
                Assert.Equal(file.Info(name).ElementCount, file.ReadAs<double>(name).FlattenedLength);
        });
        Assert.InRange(read, Rounds / 20, Rounds * 19 / 20);
    }

    [Fact]
    public void Npz_DamagedBytes_AreReadOrRefused()
    {
        var writer = new NpzWriter();
        writer.Add("a", RoundTripTests.Make<float>([2, 3]));
        writer.Add("b", RoundTripTests.Make<long>([]), []);
        writer.Save(folder["v.npz"]);
        byte[] stored = File.ReadAllBytes(folder["v.npz"]);
        using (var compressed = new ZipArchive(File.Create(folder["w.npz"]), ZipArchiveMode.Create))
        using (Stream member = compressed.CreateEntry("a.npy", CompressionLevel.Optimal).Open())
            NpyFile.Write(member, RoundTripTests.Make<float>([2, 3]).AsReadOnlyTensorSpan(), [2, 3]);
        byte[][] sound = [stored, File.ReadAllBytes(folder["w.npz"])];
        int read = Run(sound, path =>
        {
            using NpzFile archive = NpzFile.Open(path);
            foreach (string name in archive.Names)
            {
                using NpyFile file = archive.Read(name);
                Assert.Equal(file.ElementCount, file.ReadAs<double>().FlattenedLength);
            }
        });
        Assert.InRange(read, Rounds / 20, Rounds * 19 / 20);
    }

    private int Run(byte[][] sound, Action<string> open)
    {
        var random = new Random(20);
        string path = folder["fuzz"];
        int read = 0;
        for (int round = 0; round < Rounds; round++)
        {
            var bytes = new List<byte>(sound[random.Next(sound.Length)]);
            switch (random.Next(4))
            {
                case 0:
                    bytes.RemoveAt(random.Next(bytes.Count));
                    break;
                case 1:
                    int end = random.Next(bytes.Count);
                    bytes.RemoveRange(end, bytes.Count - end);
                    break;
                default:
                    // Half of the flips hit the data, where most are sound; in a header few are.
                    for (int flips = random.Next(1, 4); flips > 0; flips--)
                    {
                        int at = random.Next(2) == 0 ? random.Next(bytes.Count) : bytes.Count - 1 - random.Next(32);
                        bytes[at] = random.Next(2) == 0 ? (byte)random.Next(256) : (byte)"0123456789,()[]{}'\"<>"[random.Next(21)];
                    }
                    break;
            }
            File.WriteAllBytes(path, [.. bytes]);
            try
            {
                open(path);
                read++;
            }
            catch (InvalidDataException refused)
            {
                Assert.StartsWith(path, refused.Message);
                Assert.DoesNotContain('\n', refused.Message);
            }
        }
        return read;
    }
}
