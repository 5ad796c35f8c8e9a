using System.Buffers.Binary;
using System.Numerics.Tensors;
using NormLayers.IO;
using Xunit;

namespace NormLayers.Tests.IO;

/// <summary>Files past every 32-bit limit. They are sparse: 5 GB on paper, a few pages on the disk.</summary>
public sealed class LargeFileTests : IDisposable
{
    private static readonly long Rows = 1280;
    private static readonly long Columns = 1L << 20;
    private static readonly long DataLength = Rows * Columns * sizeof(float);

    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void Npy_FiveGigabytes_OpensAtOnceAndReadsAtItsEnd()
    {
        byte[] header = NpyFileTests.Npy($"{{'descr': '<f4', 'fortran_order': False, 'shape': ({Rows}, {Columns}), }}".PadRight(117) + "\n", []);
        string path = Sparse("large.npy", header);
        using NpyFile file = NpyFile.Open(path);
        Assert.Equal(Rows * Columns, file.ElementCount);
        CheckEnd(file.View<float>());
        Assert.Equal(5_368_709_248, new FileInfo(path).Length);
    }

    [Fact]
    public void Npy_FiveGigabytesFortran_ReadsAtItsEnd()
    {
        byte[] header = NpyFileTests.Npy($"{{'descr': '<f4', 'fortran_order': True, 'shape': ({Columns}, {Rows}), }}".PadRight(117) + "\n", []);
        using NpyFile file = NpyFile.Open(Sparse("large.npy", header));
        ReadOnlyTensorSpan<float> view = file.View<float>();
        Assert.Equal([1, (nint)Columns], view.Strides.ToArray());
        Assert.Equal(2.5f, view[(nint)Columns - 1, (nint)Rows - 1]);
        Assert.Equal(1.5f, view[(nint)Columns - 2, (nint)Rows - 1]);
    }

    [Fact]
    public void Safetensors_FiveGigabytes_OpensAtOnceAndReadsAtItsEnd()
    {
        long split = DataLength - (2 * sizeof(float));
        string json = $"{{\"a\":{{\"dtype\":\"F32\",\"shape\":[{split / 4}],\"data_offsets\":[0,{split}]}},"
            + $"\"b\":{{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[{split},{DataLength}]}}}}";
        byte[] header = SafetensorsFileTests.File(json.PadRight((json.Length + 7) & ~7), 0);
        using SafetensorsFile file = SafetensorsFile.Open(Sparse("large.safetensors", header));
        Assert.Equal([1.5f, 2.5f], RoundTripTests.Flat(file.Read<float>("b")));
        ReadOnlyTensorSpan<float> view = file.View<float>("a");
        Assert.Equal(split / 4, (long)view.FlattenedLength);
        Assert.Equal(0, view[(nint)(split / 4) - 1]);
    }

    [Fact]
    public void Read_MoreThanOneManagedTensorHolds_SaysToUseView()
    {
        byte[] header = NpyFileTests.Npy($"{{'descr': '|u1', 'fortran_order': False, 'shape': ({DataLength},), }}".PadRight(117) + "\n", []);
        using NpyFile file = NpyFile.Open(Sparse("large.npy", header));
        Assert.Contains("use View", Assert.Throws<InvalidOperationException>(() => file.Read<byte>()).Message);
        Assert.Contains("use View", Assert.Throws<InvalidOperationException>(() => file.ReadAs<float>()).Message);
        Assert.Equal(0x40, file.View<byte>()[(nint)DataLength - 1]);
    }

    private static void CheckEnd(in ReadOnlyTensorSpan<float> view)
    {
        ReadOnlyTensorSpan<float> end = view[^1.., ^3..];
        Assert.Equal([1, 3], end.Lengths.ToArray());
        Assert.Equal(0f, end[0, 0]);
        Assert.Equal(1.5f, end[0, 1]);
        Assert.Equal(2.5f, end[0, 2]);
    }

    private string Sparse(string name, byte[] header)
    {
        var last = new byte[8];
        BinaryPrimitives.WriteSingleLittleEndian(last, 1.5f);
        BinaryPrimitives.WriteSingleLittleEndian(last.AsSpan(4), 2.5f);
        using FileStream stream = File.Create(folder[name]);
        try
        {
            stream.SetLength(header.Length + DataLength);
        }
        catch (IOException cause)
        {
            Assert.Skip($"No file of 5 GB can be made here: {cause.Message}");
        }
        stream.Write(header);
        stream.Position = header.Length + DataLength - last.Length;
        stream.Write(last);
        return folder[name];
    }
}
