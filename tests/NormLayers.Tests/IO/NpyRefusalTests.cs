using System.Numerics.Tensors;
using NormLayers.IO;
using Xunit;

namespace NormLayers.Tests.IO;

/// <summary>Each hostile or foreign .npy file is refused in one line that says what it is.</summary>
public sealed class NpyRefusalTests : IDisposable
{
    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData("", "does not begin with")]
    [InlineData("93", "does not begin with")]
    [InlineData("504B0304140000000000", "does not begin with")]
    [InlineData("934E554D50590000", "version 0.0; accepted are 1.0, 2.0 and 3.0")]
    [InlineData("934E554D50590400", "version 4.0")]
    [InlineData("934E554D50590101", "version 1.1")]
    [InlineData("934E554D5059010076", "cut short within its header: it has 9 bytes")]
    [InlineData("934E554D50590100760020", "the header ends at byte 128, the file has 11")]
    [InlineData("934E554D5059020076000000", "the header ends at byte 130, the file has 12")]
    [InlineData("934E554D50590200FFFFFFFF", "header of 4294967295 bytes; accepted are at most 65536")]
    [InlineData("934E554D505901000000", "'{' was expected at its byte 0, but there is the end")]
    public void Open_BrokenStart_IsRefused(string hex, string message) => Refused(Convert.FromHexString(hex), message);

    [Theory]
    [InlineData("|O", "'|O'; accepted are b1, i1")]
    [InlineData("<c8", "'<c8'")]
    [InlineData("<U5", "'<U5'")]
    [InlineData("|S5", "'|S5'")]
    [InlineData("|V2", "'|V2'")]
    [InlineData("<f16", "'<f16'")]
    [InlineData("<M8[ns]", "'<M8[ns]'")]
    [InlineData("<<f4", "'<<f4'")]
    [InlineData("", "''")]
    public void Open_OtherType_IsRefused(string descr, string message)
        => Refused($"{{'descr': '{descr}', 'fortran_order': False, 'shape': (1,), }}", message);

    [Theory]
    [InlineData("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "structured type; accepted are b1")]
    [InlineData("{'descr': ('<f4', (2,)), 'fortran_order': False, 'shape': (1,), }", "structured type")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", "the length '-1' in its shape; accepted are 0 to 9223372036854775807")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", "the length '99999999999999999999'")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", "more bytes than can be counted")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4294967296, 4294967296), }", "more bytes than can be counted")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,), }", "more bytes than can be counted")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", "the shape (2, 3) of float32 needs 24 bytes of data, the file has 8")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }", "needs 4000000000000 bytes of data, the file has 8")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (2), }", "number in parentheses; accepted is a tuple")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': [2], }", "'(' was expected")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (1 2), }", "',' or ')' was expected at its byte 53, but there is '2'")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (2.0,), }", "',' or ')' was expected")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (,), }", "a length was expected")]
    [InlineData("{'descr': '<f4', 'fortran_order': 0, 'shape': (2,), }", "True or False was expected")]
    [InlineData("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", "the key 'descr' twice")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'fortran_order': False, 'shape': (2,), }", "the key 'fortran_order' twice")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'shape': (2,), }", "the key 'shape' twice")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}", "the key 'x' in its header; accepted are 'descr'")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, }", "no key 'shape'")]
    [InlineData("{'fortran_order': False, 'shape': (2,)}", "no key 'descr'")]
    [InlineData("{'descr': '<f4', 'shape': (2,)}", "no key 'fortran_order'")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)", "'}' was expected")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} + {}", "the end of the header was expected")]
    [InlineData("{'descr': '<f4", "string without an end")]
    [InlineData("{'descr': '<\\x664'}", "other than plain ASCII")]
    [InlineData("{'d\u00e9scr': '<f4'}", "other than plain ASCII")]
    [InlineData("{'descr' '<f4'}", "':' was expected")]
    [InlineData("{\u0000", "there is the byte 0x00")]
    [InlineData("{,}", "a key in quotes was expected")]
    public void Open_HostileHeader_IsRefused(string header, string message) => Refused(header, message);

    [Fact]
    public void Open_TooManyDimensions_IsRefused()
    {
        string Header(int rank) => "{'descr': '<i4', 'fortran_order': False, 'shape': (" + string.Concat(Enumerable.Repeat("1,", rank)) + ")}";
        Refused(Header(65), "more than 64 dimensions");
        using NpyFile file = NpyFile.Open(folder.Write("64.npy", NpyFileTests.Npy(Header(64), [1, 0, 0, 0])));
        Assert.Equal(64, file.Read<int>().Rank);
    }

    [Fact]
    public void Open_LongHostileText_IsCutAndStaysOneLine()
    {
        string message = Refused("{'" + new string('k', 5000) + "': 1}", "accepted are 'descr'");
        Assert.True(message.Length < folder.Path.Length + 300);
    }

    [Fact]
    public void Open_NonFiles_AreOneClearError()
    {
        Assert.Throws<FileNotFoundException>(() => NpyFile.Open(folder["none.npy"]));
        Assert.Throws<DirectoryNotFoundException>(() => NpyFile.Open(folder["none/none.npy"]));
        Assert.Contains("is a folder", Assert.Throws<IOException>(() => NpyFile.Open(folder.Path)).Message);
        Assert.Throws<ArgumentException>(() => NpyFile.Open(""));
    }

    [Fact]
    public void ReadBoolean_OtherByte_IsRefused()
    {
        byte[] bytes = NpyFileTests.Npy("{'descr': '|b1', 'fortran_order': False, 'shape': (3,)}", [0, 1, 2]);
        using NpyFile file = NpyFile.Open(folder.Write("b.npy", bytes));
        foreach (Action read in new Action[] { () => file.Read<bool>(), () => file.ReadAs<float>(), () => { _ = file.View<bool>(); } })
            Assert.Contains("element 2 of a bool tensor is the byte 2", Assert.Throws<InvalidDataException>(read).Message);
    }

    [Fact]
    public void Open_Refused_LeavesNothingOpen()
    {
        if (!OperatingSystem.IsLinux())
            Assert.Skip("Open files and mappings are listed under /proc only on Linux.");
        string path = folder.Write("cut.npy", NpyFileTests.Npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9,)}", [1]));
        Assert.Throws<InvalidDataException>(() => NpyFile.Open(path));
        Assert.DoesNotContain(path, File.ReadAllText("/proc/self/maps"));
        foreach (string descriptor in Directory.GetFiles("/proc/self/fd"))
            Assert.NotEqual(path, new FileInfo(descriptor).LinkTarget);

        string sound = folder.Write("sound.npy", NpyFileTests.Npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1,)}", [1]));
        using NpyFile file = NpyFile.Open(sound);
        Assert.Contains(sound, File.ReadAllText("/proc/self/maps"));
    }

    [Fact]
    public void Write_BadArguments_AreRefusedBeforeAFileAppears()
    {
        Tensor<float> tensor = Tensor.CreateFromShape<float>([2, 3]);
        string path = folder["w.npy"];
        Assert.Contains("(5,) has 5 elements, the tensor 6", Assert.Throws<ArgumentException>(() => NpyFile.Write(path, tensor, [5])).Message);
        Assert.Throws<ArgumentException>(() => NpyFile.Write<float>(path, default(ReadOnlyTensorSpan<float>)));
        Assert.Throws<ArgumentException>(() => NpyFile.Create<float>(path, [2, -1]));
        Assert.Throws<ArgumentException>(() => NpyFile.Create<float>(path, [nint.MaxValue]));
        Assert.Throws<ArgumentException>(() => NpyFile.Create<float>(path, new nint[65]));
        Assert.Throws<NotSupportedException>(() => NpyFile.Create<char>(path, [1]));
        Assert.Throws<DirectoryNotFoundException>(() => NpyFile.Write(folder["none/w.npy"], tensor));
        Assert.Throws<IOException>(() => NpyFile.Write(folder.Path, tensor, overwrite: true));
        Assert.Empty(Directory.GetFiles(folder.Path));
    }

    private string Refused(string header, string message) => Refused(NpyFileTests.Npy(header, new byte[8]), message);

    private string Refused(byte[] bytes, string message)
    {
        string path = folder.Write("x.npy", bytes);
        InvalidDataException refused = Assert.Throws<InvalidDataException>(() => NpyFile.Open(path));
        Assert.StartsWith(path + ": ", refused.Message);
        Assert.Contains(message, refused.Message);
        Assert.DoesNotContain('\n', refused.Message);
        return refused.Message;
    }
}
