using NormLayers.IO;
using Xunit;

namespace NormLayers.Tests.IO;

/// <summary>Each hostile .safetensors file is refused in one line that says what it is.</summary>
public sealed class SafetensorsRefusalTests : IDisposable
{
    private const string A = "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}";

    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData("", "it has 0 bytes, and 8 hold the length")]
    [InlineData("01000000000000", "it has 7 bytes")]
    [InlineData("0000000000000000", "does not begin with '{'")]
    [InlineData("0900000000000000", "the header ends at byte 17, the file has 8")]
    [InlineData("03000000000000007B7D", "the header ends at byte 11, the file has 10")]
    [InlineData("00E1F50500000000", "the header ends at byte 100000008, the file has 8")]
    [InlineData("01E1F50500000000", "header of 100000001 bytes; accepted are at most 100000000")]
    [InlineData("FFFFFFFFFFFFFFFF", "header of 18446744073709551615 bytes")]
    [InlineData("934E554D5059010076007B276465736372", "is not a .safetensors file but a .npy file.")]
    [InlineData("504B03041400000000000000", "is not a .safetensors file but a zip archive, as .npz files and PyTorch's own are.")]
    [InlineData("02000000000000005B5D", "does not begin with '{'")]
    [InlineData("04000000000000007B22FF22", "not UTF-8")]
    public void Open_BrokenStart_IsRefused(string hex, string message) => Refused(Convert.FromHexString(hex), message);

    [Theory]
    [InlineData("{", 0, "not JSON, at its line 1")]
    [InlineData("{} x", 0, "not JSON")]
    [InlineData("{}\0", 0, "not JSON")]
    [InlineData("{,}", 0, "not JSON")]
    [InlineData("{" + A + ",}", 4, "not JSON")]
    [InlineData("{" + A, 4, "not JSON")]
    [InlineData("{\"\\ud800\":1}", 0, "not Unicode")]
    [InlineData("{" + A + "," + A + "}", 4, "the key 'a' twice")]
    [InlineData("{" + A + ",\"\\u0061\":1}", 4, "the key 'a' twice")]
    [InlineData("{\"__metadata__\":[]}", 0, "__metadata__ that is an array; accepted is an object of strings")]
    [InlineData("{\"__metadata__\":{\"k\":1}}", 0, "the value the number '1' for 'k'")]
    [InlineData("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, "the key 'k' twice in __metadata__")]
    [InlineData("{\"a\":1}", 0, "tensor 'a' is the number '1'; accepted is an object")]
    [InlineData("{\"a\":{}}", 0, "tensor 'a' has no 'dtype'")]
    [InlineData("{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,0]}}", 0, "tensor 'a' has no 'shape'")]
    [InlineData("{\"a\":{\"dtype\":\"U8\",\"shape\":[]}}", 0, "tensor 'a' has no 'data_offsets'")]
    [InlineData("{\"a\":{\"dtype\":3}}", 0, "the dtype the number '3'; accepted is a string")]
    [InlineData("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}", 0, "tensor 'a' has the key 'dtype' twice")]
    [InlineData("{\"a\":{\"shape\":4}}", 0, "the shape the number '4'; accepted is an array")]
    [InlineData("{\"a\":{\"shape\":[-1]}}", 0, "the number '-1' in its shape; accepted are integers from 0")]
    [InlineData("{\"a\":{\"shape\":[1.0]}}", 0, "the number '1.0' in its shape")]
    [InlineData("{\"a\":{\"shape\":[1e2]}}", 0, "the number '1e2' in its shape")]
    [InlineData("{\"a\":{\"shape\":[9223372036854775808]}}", 0, "the number '9223372036854775808' in its shape")]
    [InlineData("{\"a\":{\"shape\":[\"1\"]}}", 0, "a string in its shape")]
    [InlineData("{\"a\":{\"shape\":[[1]]}}", 0, "an array in its shape")]
    [InlineData("{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1,2]}}", 1, "more than 2 numbers in its data_offsets")]
    [InlineData("{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0]}}", 1, "1 data_offsets; accepted are 2")]
    [InlineData("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,0]}}", 4, "begins at byte 4 of the data and ends before, at byte 0")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "has 4 bytes of data, and F32 of shape (2,) needs 8")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]}}", 4, "more bytes than can be counted")]
    [InlineData("{\"a\":{\"dtype\":\"F8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]}}", 4, "more bytes than can be counted")]
    [InlineData("{" + A + "}", 3, "tensor 'a' ends at byte 4 of the data, and the file has 3")]
    [InlineData("{" + A + "}", 5, "5 bytes of data, and its tensors end at byte 4; accepted are files without a rest")]
    [InlineData("{}", 1, "its tensors end at byte 0")]
    [InlineData("{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[1,4]}}", 4, "begins at byte 1 of the data, and byte 0 was expected: holes and overlaps")]
    [InlineData("{" + A + ",\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[3,5]}}", 5, "tensor 'b' begins at byte 3 of the data, and byte 4 was expected")]
    [InlineData("{" + A + ",\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[5,7]}}", 7, "tensor 'b' begins at byte 5 of the data, and byte 4 was expected")]
    [InlineData("{" + A + ",\"b\":{\"dtype\":\"X\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "begins at byte 0 of the data, and byte 4 was expected")]
    public void Open_HostileHeader_IsRefused(string header, int dataLength, string message)
        => Refused(SafetensorsFileTests.File(header, dataLength), message);

    [Fact]
    public void Open_DeepNesting_IsRefused()
        => Refused(SafetensorsFileTests.File("{\"a\":{\"x\":" + new string('[', 100_000), 0), "not JSON");

    [Fact]
    public void Open_TooManyDimensions_IsRefused()
    {
        string shape = string.Join(',', Enumerable.Repeat("1", 65));
        Refused(SafetensorsFileTests.File("{\"a\":{\"dtype\":\"U8\",\"shape\":[" + shape + "]}}", 1), "more than 64 numbers in its shape");
    }

    [Fact]
    public void Open_ControlCharactersInNames_StayOutOfTheMessage()
    {
        string message = Refused(SafetensorsFileTests.File("{\"a\\n\\u001b[2J\\u2028" + new string('n', 500) + "\":1}", 0), "tensor 'a??[2J?nnn");
        Assert.True(message.Length < folder.Path.Length + 250);
    }

    [Fact]
    public void Open_NonFiles_AreOneClearError()
    {
        Assert.Throws<FileNotFoundException>(() => SafetensorsFile.Open(folder["none.safetensors"]));
        Assert.Contains("is a folder", Assert.Throws<IOException>(() => SafetensorsFile.Open(folder.Path)).Message);
    }

    [Fact]
    public void ReadBoolean_OtherByte_IsRefused()
    {
        byte[] bytes = SafetensorsFileTests.File("{\"a\":{\"dtype\":\"BOOL\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3);
        using SafetensorsFile file = SafetensorsFile.Open(folder.Write("b.safetensors", bytes));
        Assert.Contains("tensor 'a': element 2 of a bool tensor", Assert.Throws<InvalidDataException>(() => file.Read<bool>("a")).Message);
    }

    [Fact]
    public void Open_NullMetadataAndPadding_AreAccepted()
    {
        using SafetensorsFile file = SafetensorsFile.Open(folder.Write("p.safetensors", SafetensorsFileTests.File("{\"__metadata__\":null," + A + "}   \n", 4)));
        Assert.Empty(file.Metadata);
        Assert.Equal([0, 1, 2, 3], RoundTripTests.Flat(file.Read<byte>("a")));
    }

    private string Refused(byte[] bytes, string message)
    {
        string path = folder.Write("x.safetensors", bytes);
        InvalidDataException refused = Assert.Throws<InvalidDataException>(() => SafetensorsFile.Open(path));
        Assert.StartsWith(path + ": ", refused.Message);
        Assert.Contains(message, refused.Message);
        Assert.DoesNotContain('\n', refused.Message);
        return refused.Message;
    }
}
