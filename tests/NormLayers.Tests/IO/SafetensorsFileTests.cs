using System.Buffers.Binary;
using System.Numerics.Tensors;
using System.Text;
using NormLayers.IO;
using Xunit;

namespace NormLayers.Tests.IO;

public sealed class SafetensorsFileTests : IDisposable
{
    private readonly TempFolder folder = new();

    public static TheoryData<string> GoldenFiles
    {
        get
        {
            var data = new TheoryData<string>();
            foreach (string path in Directory.GetFiles(Path.Combine(AppContext.BaseDirectory, "golden"), "*.safetensors"))
                data.Add(Path.GetFileName(path));
            return data;
        }
    }

    public void Dispose() => folder.Dispose();

    [Theory]
    [MemberData(nameof(GoldenFiles))]
    public void Open_GoldenFile_EveryTensorReadsAsItIsListed(string name)
    {
        using SafetensorsFile file = SafetensorsFile.Open(Path.Combine(AppContext.BaseDirectory, "golden", name));
        string[] parts = name.Split('.');
        Assert.Equal(parts[0], file.Metadata["layer"]);
        Assert.Equal(parts[1], file.Metadata["dtype"]);
        Assert.True(file.Names.Count > 20);
        foreach (string tensor in file.Names)
        {
            TensorInfo info = file.Info(tensor);
            long product = 1;
            foreach (long length in info.Shape)
                product *= length;
            Assert.Equal(product, info.ElementCount);
            Assert.NotNull(info.ElementType);
            Assert.Equal(product * info.ElementType.Value.Size(), info.ByteCount);
            if (tensor.EndsWith("/input", StringComparison.Ordinal))
                Assert.Equal(parts[1], info.ElementType.Value.TorchName());
            Tensor<double> read = file.ReadAs<double>(tensor);
            Assert.Equal(info.Shape.Count == 0 ? [1] : [.. info.Shape], Array.ConvertAll(read.Lengths.ToArray(), length => (long)length));
        }
    }

    [Fact]
    public void Open_GoldenFiles_AreAllThere() => Assert.Equal(30, GoldenFiles.Count);

    [Fact]
    public void Save_LikeTheReference_GivesTheSameBytes()
    {
        // The files of the reference implementation's own tests (test_serialization_forced_alignement, test_empty).
        byte[] expected =
        [
            72, 0, 0, 0, 0, 0, 0, 0, .. "{\"attn0\":{\"dtype\":\"F32\",\"shape\":[1,1,2,3],\"data_offsets\":[0,24]}}       "u8,
            0, 0, 0, 0, 0, 0, 128, 63, 0, 0, 0, 64, 0, 0, 64, 64, 0, 0, 128, 64, 0, 0, 160, 64,
        ];
        float[] values = [0, 1, 2, 3, 4, 5];
        var writer = new SafetensorsWriter();
        writer.Add("attn0", Tensor.Create(values, [1, 1, 2, 3]));
        writer.Save(folder["a.safetensors"]);
        Assert.Equal(expected, System.IO.File.ReadAllBytes(folder["a.safetensors"]));

        var empty = new SafetensorsWriter();
        empty.Save(folder["b.safetensors"]);
        Assert.Equal([8, 0, 0, 0, 0, 0, 0, 0, .. "{}      "u8], System.IO.File.ReadAllBytes(folder["b.safetensors"]));
        empty.Metadata["framework"] = "pt";
        empty.Save(folder["b.safetensors"], overwrite: true);
        Assert.Equal([40, 0, 0, 0, 0, 0, 0, 0, .. "{\"__metadata__\":{\"framework\":\"pt\"}}     "u8], System.IO.File.ReadAllBytes(folder["b.safetensors"]));
        using SafetensorsFile file = SafetensorsFile.Open(folder["b.safetensors"]);
        Assert.Empty(file.Names);
        Assert.Equal("pt", Assert.Single(file.Metadata).Value);
    }

    [Fact]
    public void Save_ManyTypes_SortsByTypeThenNameAndAlignsEach()
    {
        var writer = new SafetensorsWriter();
        writer.Add("b", RoundTripTests.Make<bool>([3]));
        writer.Add("z", RoundTripTests.Make<Half>([5]));
        writer.Add("y", RoundTripTests.Make<float>([7]));
        writer.Add("x", RoundTripTests.Make<float>([1]));
        writer.Add("empty", RoundTripTests.Make<float>([0]));
        writer.Add("i", RoundTripTests.Make<long>([]), []);
        writer.Add("d", RoundTripTests.Make<double>([2, 2]));
        writer.Save(folder["m.safetensors"]);
        using SafetensorsFile file = SafetensorsFile.Open(folder["m.safetensors"]);
        Assert.Equal(["i", "d", "empty", "x", "y", "z", "b"], file.Names);
        Assert.Equal(7, file.View<float>("y").FlattenedLength);
        Assert.Equal(5, file.View<Half>("z").FlattenedLength);
        Assert.Empty(file.Info("i").Shape);
        Assert.Equal("'i': I64 ()", file.Info("i").ToString());
    }

    [Fact]
    public void Save_UnicodeNamesAndMetadata_ComeBack()
    {
        var writer = new SafetensorsWriter();
        string[] names = ["", "größe", "a\"b\\c\n", "層/\U0001F600", "<&'+>"];
        foreach (string name in names)
        {
            writer.Add(name, RoundTripTests.Make<byte>([1]));
            writer.Metadata["k" + name] = name;
        }
        writer.Save(folder["u.safetensors"]);
        using SafetensorsFile file = SafetensorsFile.Open(folder["u.safetensors"]);
        foreach (string name in names)
        {
            Assert.True(file.Contains(name));
            Assert.Equal(name, file.Metadata["k" + name]);
        }
    }

    [Fact]
    public void Add_BadEntries_AreRefused()
    {
        var writer = new SafetensorsWriter();
        Tensor<float> tensor = RoundTripTests.Make<float>([2, 3]);
        writer.Add("a", tensor);
        Assert.Contains("'a' already", Assert.Throws<ArgumentException>(() => writer.Add("a", tensor)).Message);
        Assert.Throws<ArgumentException>(() => writer.Add("__metadata__", tensor));
        Assert.Contains("(7,) has 7 elements, the tensor 6", Assert.Throws<ArgumentException>(() => writer.Add("b", tensor, [7])).Message);
        Assert.Throws<ArgumentException>(() => writer.Add<float>("c", default(ReadOnlyTensorSpan<float>)));
        Assert.Throws<NotSupportedException>(() => writer.Add("d", Tensor.CreateFromShape<char>([1])));
        Assert.Contains("not Unicode", Assert.Throws<ArgumentException>(() => writer.Add("\ud800", tensor)).Message);
        writer.Metadata["null"] = null!;
        Assert.Contains("'null'", Assert.Throws<InvalidOperationException>(() => writer.Save(folder["s.safetensors"])).Message);
        writer.Metadata.Clear();
        writer.Metadata["k"] = "\udc00";
        Assert.Contains("'k'", Assert.Throws<InvalidOperationException>(() => writer.Save(folder["s.safetensors"])).Message);
        Assert.Empty(Directory.GetFiles(folder.Path));
    }

    [Fact]
    public void Add_SpanAndTensor_CopyNowOrOnSave()
    {
        float[] values = [1, 2];
        Tensor<float> tensor = Tensor.Create(values);
        var writer = new SafetensorsWriter();
        writer.Add("kept", tensor);
        writer.Add("copied", tensor.AsReadOnlyTensorSpan());
        values[0] = 9;
        writer.Save(folder["c.safetensors"]);
        using SafetensorsFile file = SafetensorsFile.Open(folder["c.safetensors"]);
        Assert.Equal([9, 2], RoundTripTests.Flat(file.Read<float>("kept")));
        Assert.Equal([1, 2], RoundTripTests.Flat(file.Read<float>("copied")));
    }

    [Fact]
    public void Open_UnknownDtype_IsListedAndRefusedOnlyWhenRead()
    {
        byte[] bytes = File("{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[3],\"data_offsets\":[0,3]},\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[3,4],\"more\":[{}]}}", 4);
        using SafetensorsFile file = SafetensorsFile.Open(folder.Write("x.safetensors", bytes));
        Assert.Null(file.Info("a").ElementType);
        Assert.Equal("F8_E4M3", file.Info("a").Dtype);
        Assert.Equal([3L], file.Info("a").Shape);
        Assert.Equal(3, file.Read<byte>("b")[0]);
        foreach (Action read in new Action[] { () => file.Read<byte>("a"), () => file.ReadAs<float>("a"), () => { _ = file.View<byte>("a"); } })
            Assert.Contains("tensor 'a': has the dtype 'F8_E4M3'; accepted are BOOL, U8", Assert.Throws<InvalidDataException>(read).Message);
    }

    [Fact]
    public void Read_UnalignedTensor_WorksWhereViewRefuses()
    {
        byte[] bytes = File("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[1,5]}}", 5);
        using SafetensorsFile file = SafetensorsFile.Open(folder.Write("x.safetensors", bytes));
        Assert.Equal(0x04030201, file.Read<int>("b")[0]);
        Assert.Equal(0x04030201, file.ReadAs<double>("b")[0]);
        bool aligned = (bytes.Length - 4) % 4 == 0;
        Assert.False(aligned);
        Assert.Contains("aligned", Assert.Throws<InvalidOperationException>(() => { _ = file.View<int>("b"); }).Message);
    }

    [Fact]
    public void Read_WrongNameOrType_SaysWhatThereIs()
    {
        var writer = new SafetensorsWriter();
        foreach (string name in new[] { "layers.0.weight", "layers.0.bias", "layers.1.weight", "head" })
            writer.Add(name, RoundTripTests.Make<float>([1]));
        writer.Save(folder["n.safetensors"]);
        using SafetensorsFile file = SafetensorsFile.Open(folder["n.safetensors"]);
        string message = Assert.Throws<KeyNotFoundException>(() => file.Read<float>("layers.0.wieght")).Message;
        Assert.Contains("none of the 4 tensors is named 'layers.0.wieght'; did you mean 'layers.0.weight' or", message);
        Assert.DoesNotContain("head", message);
        Assert.Contains("did you mean 'layers.0.bias'?", Assert.Throws<KeyNotFoundException>(() => file.Info("bias")).Message);
        Assert.EndsWith("'qqqqqqq'", Assert.Throws<KeyNotFoundException>(() => file.Info("qqqqqqq")).Message);
        Assert.False(file.TryGetInfo("heads", out _));
        Assert.True(file.TryGetInfo("head", out TensorInfo? info));
        Assert.Equal("head", info.Name);
        Assert.Contains("float32, not float64", Assert.Throws<InvalidOperationException>(() => file.Read<double>("head")).Message);
        file.Dispose();
        Assert.Throws<ObjectDisposedException>(() => file.Read<float>("head"));
    }

    /// <summary>A file of this header, with the bytes 0, 1, 2, ... as its data.</summary>
    internal static byte[] File(string header, int dataLength) => File(Encoding.UTF8.GetBytes(header), dataLength);

    internal static byte[] File(byte[] header, int dataLength)
    {
        var bytes = new byte[8 + header.Length + dataLength];
        BinaryPrimitives.WriteInt64LittleEndian(bytes, header.Length);
        header.CopyTo(bytes, 8);
        for (int i = 0; i < dataLength; i++)
            bytes[8 + header.Length + i] = (byte)i;
        return bytes;
    }
}
