using System.IO.Compression;
using System.Numerics.Tensors;
using System.Text;
using NormLayers.IO;
using Xunit;

namespace NormLayers.Tests.IO;

public sealed class NpzFileTests : IDisposable
{
    // numpy.savez_compressed(x=numpy.arange(6, dtype="<f4").reshape(2, 3), s=numpy.float64(2.5)), NumPy 1.24.
    private const string Compressed =
        "UEsDBBQAAAAIAAAAIQBP6QAqVQAAAJgAAAAFABQAeC5ucHkBABAAmAAAAAAAAABVAAAAAAAAAJvsF+obEMnIUMZQrZ6SWpxcpG6loG6TZqKuo6Cell9UUpSYF59flJIK"
        + "EndLzClOBYoXZyQWpAL5GkY6CsaaOgq1CmQDLgYwaLAHEg5ABMQNQLzAAQBQSwMEFAAAAAgAAAAhADW0OpNHAAAAiAAAAAUAFABzLm5weQEAEACIAAAAAAAAAEcAAAAA"
        + "AAAAm+wX6hsQychQxlCtnpJanFykbqWgbpNmoa6joJ6WX1RSlJgXn1+UkgoSd0vMKU4FihdnJBakAvkamjoKtQoUAS4GMGBxAABQSwECFAMUAAAACAAAACEAT+kAKlUA"
        + "AACYAAAABQAAAAAAAAAAAAAAgAEAAAAAeC5ucHlQSwECFAMUAAAACAAAACEANbQ6k0cAAACIAAAABQAAAAAAAAAAAAAAgAGMAAAAcy5ucHlQSwUGAAAAAAIAAgBmAAAA"
        + "CgEAAAAA";

    // numpy.savez(numpy.arange(3, dtype="<i4"), y=numpy.asfortranarray(numpy.arange(6, dtype="<f4").reshape(2, 3))).
    private const string Stored =
        "UEsDBBQAAAAAAAAAIQDOLODTmAAAAJgAAAAFABQAeS5ucHkBABAAmAAAAAAAAACYAAAAAAAAAJNOVU1QWQEAdgB7J2Rlc2NyJzogJzxmNCcsICdmb3J0cmFuX29yZGVy"
        + "JzogVHJ1ZSwgJ3NoYXBlJzogKDIsIDMpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAKAAAAAAAAQEAA"
        + "AIA/AACAQAAAAEAAAKBAUEsDBBQAAAAAAAAAIQAC7L2pjAAAAIwAAAAJABQAYXJyXzAubnB5AQAQAIwAAAAAAAAAjAAAAAAAAACTTlVNUFkBAHYAeydkZXNjcic6ICc8"
        + "aTQnLCAnZm9ydHJhbl9vcmRlcic6IEZhbHNlLCAnc2hhcGUnOiAoMywpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg"
        + "ICAgICAgICAgCgAAAAABAAAAAgAAAFBLAQIUAxQAAAAAAAAAIQDOLODTmAAAAJgAAAAFAAAAAAAAAAAAAACAAQAAAAB5Lm5weVBLAQIUAxQAAAAAAAAAIQAC7L2pjAAA"
        + "AIwAAAAJAAAAAAAAAAAAAACAAc8AAABhcnJfMC5ucHlQSwUGAAAAAAIAAgBqAAAAlgEAAAAA";

    private static readonly float[] Six = [0, 1, 2, 3, 4, 5];

    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void Read_CompressedByNumPy_GivesItsArrays()
    {
        using NpzFile archive = Open(Compressed);
        Assert.Equal(["x", "s"], archive.Names);
        using NpyFile x = archive.Read("x");
        Assert.Equal($"{archive.Path}:x", x.Path);
        Assert.Equal([2L, 3L], x.Shape);
        Assert.Equal(Six, Tensors.ToArray(x.Read<float>()));
        using NpyFile scalar = archive.Read("s");
        Assert.Empty(scalar.Shape);
        Assert.Equal([2.5], Tensors.ToArray(scalar.Read<double>()));
    }

    [Fact]
    public void Read_StoredByNumPy_OutlivesTheArchive()
    {
        NpzFile archive = Open(Stored);
        Assert.Equal(["y", "arr_0"], archive.Names);
        using NpyFile y = archive.Read("y");
        using NpyFile first = archive.Read("arr_0");
        archive.Dispose();
        Assert.True(y.IsFortranOrder);
        Assert.Equal(Six, Tensors.ToArray(y.Read<float>()));
        Assert.Equal([0, 1, 2], Tensors.ToArray(first.Read<int>()));
        Assert.Throws<ObjectDisposedException>(() => archive.Read("y"));
    }

    [Fact]
    public void Read_OtherName_NamesTheNearest()
    {
        using NpzFile archive = Open(Stored);
        string message = Assert.Throws<KeyNotFoundException>(() => archive.Read("arr_1")).Message;
        Assert.StartsWith($"{archive.Path}: none of the 2 arrays is named 'arr_1'; did you mean 'arr_0'", message);
    }

    [Fact]
    public void Open_OtherMembers_AreLeftOut()
    {
        string path = Zip(("readme.txt", Text("hello")), ("a.npy", Array(1, 2)));
        using NpzFile archive = NpzFile.Open(path);
        Assert.Equal(["a"], archive.Names);
    }

    [Fact]
    public void Save_Read_GivesTheSame()
    {
        var writer = new NpzWriter();
        Tensor<float> x = RoundTripTests.Make<float>([4, 5, 6]);
        writer.Add("x", x);
        writer.Add("gr\u00f6\u00dfe/t", Tensor.PermuteDimensions(x, [2, 0, 1]));
        writer.Add("scalar", Tensor.Create<double>([7]), []);
        writer.Add("none", Tensor.CreateFromShape<Half>([0, 3]));
        writer.Save(folder["w.npz"]);

        using NpzFile archive = NpzFile.Open(folder["w.npz"]);
        Assert.Equal(["x", "gr\u00f6\u00dfe/t", "scalar", "none"], archive.Names);
        using NpyFile same = archive.Read("x");
        Assert.Equal(Tensors.ToArray(x), Tensors.ToArray(same.Read<float>()));
        using NpyFile permuted = archive.Read("gr\u00f6\u00dfe/t");
        Assert.Equal([6L, 4L, 5L], permuted.Shape);
        Assert.Equal(Tensors.ToArray(Tensor.PermuteDimensions(x, [2, 0, 1])), Tensors.ToArray(permuted.Read<float>()));
        using NpyFile scalar = archive.Read("scalar");
        Assert.Empty(scalar.Shape);
        using NpyFile none = archive.Read("none");
        Assert.Equal([0L, 3L], none.Shape);
        Assert.Equal([folder["w.npz"]], Directory.GetFiles(folder.Path));
    }

    [Fact]
    public void Save_Twice_GivesTheSameBytes()
    {
        var writer = new NpzWriter();
        writer.Add("x", Tensor.Create(Six));
        writer.Save(folder["a.npz"]);
        writer.Save(folder["b.npz"]);
        Assert.Equal(File.ReadAllBytes(folder["a.npz"]), File.ReadAllBytes(folder["b.npz"]));
        // Not by the clock either.
        using (ZipArchive archive = ZipFile.OpenRead(folder["a.npz"]))
            Assert.Equal(new DateTime(1980, 1, 1), Assert.Single(archive.Entries).LastWriteTime.DateTime);
        Assert.Contains("exists already", Assert.Throws<IOException>(() => writer.Save(folder["a.npz"])).Message);
    }

    [Fact]
    public void Add_BadArguments_AreRefused()
    {
        var writer = new NpzWriter();
        Tensor<float> six = Tensor.Create(Six);
        writer.Add("x", six);
        Assert.Contains("'x' already", Assert.Throws<ArgumentException>(() => writer.Add("x", six)).Message);
        Assert.Throws<ArgumentException>(() => writer.Add("", six));
        Assert.Throws<ArgumentException>(() => writer.Add(new string('n', 65536), six));
        Assert.Contains("(5,) has 5 elements", Assert.Throws<ArgumentException>(() => writer.Add("y", six, [5])).Message);
        Assert.Throws<NotSupportedException>(() => writer.Add("b", Tensor.CreateFromShape<BFloat16>([1])));
        Assert.Throws<DirectoryNotFoundException>(() => writer.Save(folder["none/x.npz"]));
        Assert.Empty(Directory.GetFiles(folder.Path));
    }

    [Fact]
    public void Open_NotAnArchive_IsRefused()
    {
        Assert.Contains("is not a sound .npz archive", Refused(folder.Write("x.npz", []), null));
        Assert.Contains("is not a sound .npz archive", Refused(folder.Write("x.npz", Array(1, 2)), null));
        Assert.Contains("is a folder", Assert.Throws<IOException>(() => NpzFile.Open(folder.Path)).Message);
        Assert.Throws<FileNotFoundException>(() => NpzFile.Open(folder["no.npz"]));
        Assert.Throws<ArgumentException>(() => NpzFile.Open(""));
        Assert.Throws<ArgumentOutOfRangeException>(() => NpzFile.Open(folder["x.npz"], -1));
    }

    [Fact]
    public void Open_TwoMembersOfOneName_IsRefused()
        => Assert.Contains("has two members named 'a.npy'", Refused(Zip(("a.npy", Array(1)), ("a.npy", Array(2))), null));

    [Fact]
    public void Read_MemberIsNoArray_IsRefused()
        => Assert.Contains(":a: is not a .npy file", Refused(Zip(("a.npy", Text("hello, world"))), "a"));

    [Fact]
    public void Read_HostileName_StaysOneShortLine()
    {
        string name = "a\n\u001b[31m" + new string('n', 500);
        string message = Refused(Zip((name + ".npy", Text("x"))), name);
        Assert.DoesNotContain('\u001b', message);
        Assert.True(message.Length < folder.Path.Length + 300);
    }

    [Theory]
    [InlineData(6, 0x01, "is encrypted; accepted are members without encryption")]
    [InlineData(8, 14, "Accepted are stored members and those compressed by Deflate")]
    public void Read_FlagOrMethodOfMember_IsRefused(int field, byte value, string reason)
    {
        string path = Zip(("a.npy", Array(1, 2)));
        byte[] bytes = File.ReadAllBytes(path);
        // The fields of the local header stand two bytes further on in the directory.
        bytes[field] = bytes[DirectoryOf(bytes) + field + 2] = value;
        Assert.Contains(reason, Refused(folder.Write("y.npz", bytes), "a"));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Read_ElementChanged_IsSeenByItsChecksum(bool compressed)
    {
        byte[] bytes = Convert.FromBase64String(compressed ? Compressed : Stored);
        string name = compressed ? "s" : "y";
        int changed = 0;
        for (int at = 30; at < DirectoryOf(bytes); at++)
        {
            bytes[at] ^= 0x10;
            try
            {
                using NpzFile archive = NpzFile.Open(folder.Write("d.npz", bytes));
                using NpyFile file = archive.Read(name);
                double[] values = Tensors.ToArray(file.ReadAs<double>());
                Assert.Equal(compressed ? [2.5] : [.. Six.Select(value => (double)value)], values);
            }
            catch (InvalidDataException refused)
            {
                changed++;
                Assert.DoesNotContain('\n', refused.Message);
            }
            bytes[at] ^= 0x10;
        }
        Assert.InRange(changed, compressed ? 60 : 120, bytes.Length);
    }

    [Fact]
    public void Read_MoreThanAllowed_IsRefusedBeforeItIsUnpacked()
    {
        string path = Zip(CompressionLevel.Optimal, ("bomb.npy", Array(new int[1_000_000])));
        Assert.InRange(new FileInfo(path).Length, 100, 100_000);
        Assert.Contains("compressed bytes that unpack to 4000128; at most 1000000 are accepted", Refused(path, "bomb", 1_000_000));
        using (NpzFile archive = NpzFile.Open(path, 4_000_128))
        using (NpyFile file = archive.Read("bomb"))
            Assert.Equal(1_000_000, file.ElementCount);

        // What is stored as it is weighs what it says.
        using NpzFile stored = NpzFile.Open(Zip(("a.npy", Array(1, 2, 3))), 10);
        using NpyFile small = stored.Read("a");
        Assert.Equal(3, small.ElementCount);
    }

    [Fact]
    public void Read_LengthOfDirectory_MustBeTheArrays()
    {
        foreach (uint claimed in new uint[] { 0, 135, 137, 4_000_000_000 })
        {
            byte[] bytes = File.ReadAllBytes(Zip(CompressionLevel.Optimal, ("a.npy", Array(1, 2))));
            BitConverter.TryWriteBytes(bytes.AsSpan(DirectoryOf(bytes) + 24), claimed);
            Refused(folder.Write("y.npz", bytes), "a");
        }
    }

    [Fact]
    public void Read_ShapeLargerThanItsBytes_TakesNoMemoryForIt()
    {
        byte[] header = NpyFileTests.Npy("{'descr': '<f8', 'fortran_order': False, 'shape': (500000000,), }".PadRight(117) + "\n", new byte[100_000]);
        string path = Zip(CompressionLevel.Optimal, ("a.npy", header));
        byte[] bytes = File.ReadAllBytes(path);
        BitConverter.TryWriteBytes(bytes.AsSpan(DirectoryOf(bytes) + 24), 4_000_000_128);
        using var process = System.Diagnostics.Process.GetCurrentProcess();
        long before = process.PeakVirtualMemorySize64;
        Assert.Contains("is cut short", Refused(folder.Write("y.npz", bytes), "a"));
        process.Refresh();
        Assert.True(process.PeakVirtualMemorySize64 - before < 1L << 30);
    }

    [Fact]
    public void Read_BytesAfterTheArray_AreRefused()
        => Assert.Contains("unpacks to", Refused(Zip(("a.npy", [.. Array(1, 2), .. new byte[200_000]])), "a"));

    [Fact]
    public void ReadStream_CutAnywhere_IsRefused()
    {
        byte[] sound = Array(1, 2, 3);
        for (int length = 0; length < sound.Length; length++)
        {
            using var stream = new MemoryStream(sound, 0, length);
            Assert.StartsWith("standard input: ", Assert.Throws<InvalidDataException>(() => NpyFile.Read(stream, "standard input")).Message);
        }
        using NpyFile file = NpyFile.Read(new MemoryStream([.. sound, 1, 2, 3]), "standard input");
        Assert.Equal([1, 2, 3], Tensors.ToArray(file.Read<int>()));
    }

    [Fact]
    public void ReadStream_MoreThanTheFirstBlock_IsWhole()
    {
        int[] values = Enumerable.Range(0, 300_000).ToArray();
        byte[] bytes = Array(values);
        using (NpyFile file = NpyFile.Read(new TricklingStream(bytes), "s"))
            Assert.Equal(values, Tensors.ToArray(file.Read<int>()));
        Assert.Contains("at most 1000 are", Assert.Throws<InvalidDataException>(() => NpyFile.Read(new MemoryStream(bytes), "s", 1000)).Message);
        Assert.Contains("is cut short", Assert.Throws<InvalidDataException>(() => NpyFile.Read(new MemoryStream(bytes, 0, 500_000), "s")).Message);
    }

    private static byte[] Text(string text) => Encoding.ASCII.GetBytes(text);

    private static byte[] Array(params int[] values)
        => NpyFileTests.Npy($"{{'descr': '<i4', 'fortran_order': False, 'shape': ({values.Length},), }}".PadRight(117) + "\n", NpyFileTests.Ints(values));

    /// <summary>Where the archive's directory starts: the last four bytes but six say so.</summary>
    private static int DirectoryOf(byte[] archive) => BitConverter.ToInt32(archive, archive.Length - 6);

    private string Zip(params (string Name, byte[] Bytes)[] members) => Zip(CompressionLevel.NoCompression, members);

    private string Zip(CompressionLevel level, params (string Name, byte[] Bytes)[] members)
    {
        using (FileStream stream = File.Create(folder["z.npz"]))
        using (var archive = new ZipArchive(stream, ZipArchiveMode.Create))
        {
            foreach ((string name, byte[] bytes) in members)
            {
                using Stream entry = archive.CreateEntry(name, level).Open();
                entry.Write(bytes);
            }
        }
        return folder["z.npz"];
    }

    private NpzFile Open(string base64) => NpzFile.Open(folder.Write("x.npz", Convert.FromBase64String(base64)));

    private static string Refused(string path, string? name, long maxUnpackedLength = NpzFile.DefaultMaxUnpackedLength)
    {
        string message = Assert.Throws<InvalidDataException>(() =>
        {
            using NpzFile archive = NpzFile.Open(path, maxUnpackedLength);
            if (name is not null)
                archive.Read(name).Dispose();
        }).Message;
        Assert.StartsWith(path, message);
        Assert.DoesNotContain('\n', message);
        return message;
    }

    [Fact]
    public void Add_NameWithHalfOfASurrogatePair_IsRefused()
        => Assert.Equal("name", Assert.Throws<ArgumentException>(() => new NpzWriter().Add("a\ud800", RoundTripTests.Make<float>([1]))).ParamName);

    /// <summary>Gives a few bytes at a time, as a pipe may.</summary>
    private sealed class TricklingStream(byte[] bytes) : MemoryStream(bytes)
    {
        public override int Read(Span<byte> buffer) => base.Read(buffer[..Math.Min(buffer.Length, 4093)]);
    }
}
