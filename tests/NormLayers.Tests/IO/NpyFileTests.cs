using System.Numerics.Tensors;
using System.Text;
using NormLayers.IO;
using Xunit;

namespace NormLayers.Tests.IO;

public sealed class NpyFileTests : IDisposable
{
    // Made by NumPy 1.24.2: base64 of what numpy.save, or numpy.lib.format.write_array(file, a, version=v), wrote.
    // a = np.arange(6, dtype='<f4').reshape(2, 3)
    private const string Float32 = "k05VTVBZAQB2AHsnZGVzY3InOiAnPGY0JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsIDMpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAAACAPwAAAEAAAEBAAACAQAAAoEA=";

    // a = np.asfortranarray(np.arange(24, dtype='>i2').reshape(2, 3, 4))
    private const string FortranBigEndian = "k05VTVBZAQB2AHsnZGVzY3InOiAnPmkyJywgJ2ZvcnRyYW5fb3JkZXInOiBUcnVlLCAnc2hhcGUnOiAoMiwgMywgNCksIH0gICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAMAAQAEAAIABQAAQANAAUAEQAJABUAAgAOAAYAEgAKABYAAwAPAAcAEwALABc=";

    // a = np.array(2.5, dtype='<f8'), v = (2, 0)
    private const string ScalarVersion2 = "k05VTVBZAgB0AAAAeydkZXNjcic6ICc8ZjgnLCAnZm9ydHJhbl9vcmRlcic6IEZhbHNlLCAnc2hhcGUnOiAoKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAAAAEQA==";

    // a = np.array([[True, False], [False, True]]), v = (3, 0)
    private const string BooleanVersion3 = "k05VTVBZAwB0AAAAeydkZXNjcic6ICd8YjEnLCAnZm9ydHJhbl9vcmRlcic6IEZhbHNlLCAnc2hhcGUnOiAoMiwgMiksIH0gICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoBAAAB";

    // a = np.arange(4, dtype='<f2').reshape(1, 1, 1, 1, 1, 1, 1, 1, 1, 4) / 2
    private const string HalfRank10 = "k05VTVBZAQB2AHsnZGVzY3InOiAnPGYyJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDEsIDEsIDEsIDEsIDEsIDEsIDEsIDEsIDEsIDQpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAA4ADwAPg==";

    // a = np.zeros((0, 3), 'u1')
    private const string Empty = "k05VTVBZAQB2AHsnZGVzY3InOiAnfHUxJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDAsIDMpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAo=";

    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void Read_OtherByteOrderOfFourAndEightBytes_GivesItsElements()
    {
        using NpyFile eight = NpyFile.Open(folder.Write("8.npy", Npy("{'descr': '>f8', 'fortran_order': False, 'shape': (2,)}", [0x3F, 0xF8, 0, 0, 0, 0, 0, 0, 0xC0, 0, 0, 0, 0, 0, 0, 1])));
        Assert.Equal([1.5, -double.BitIncrement(2)], RoundTripTests.Flat(eight.Read<double>()));
        using NpyFile four = NpyFile.Open(folder.Write("4.npy", Npy("{'descr': '>u4', 'fortran_order': False, 'shape': (2,)}", [0, 0, 0, 1, 0x12, 0x34, 0x56, 0x78])));
        Assert.Equal([1, 0x12345678], RoundTripTests.Flat(four.ReadAs<double>()));
    }

    [Fact]
    public void Read_NumPyFloat32_GivesItsElements()
    {
        using NpyFile file = Open(Float32);
        Assert.Equal(ElementType.Float32, file.ElementType);
        Assert.Equal([2L, 3L], file.Shape);
        Assert.False(file.IsFortranOrder);
        Assert.Equal(folder["x.npy"], file.Path);
        Assert.Equal([0, 1, 2, 3, 4, 5], RoundTripTests.Flat(file.Read<float>()));
    }

    [Fact]
    public void Read_NumPyFortranBigEndian_IsTransposedAndSwapped()
    {
        using NpyFile file = Open(FortranBigEndian);
        Assert.True(file.IsFortranOrder);
        Assert.Equal([2L, 3L, 4L], file.Shape);
        Tensor<short> tensor = file.Read<short>();
        Tensor<double> converted = file.ReadAs<double>();
        for (short i = 0; i < 24; i++)
        {
            Assert.Equal(i, tensor[i / 12, i / 4 % 3, i % 4]);
            Assert.Equal(i, converted[i / 12, i / 4 % 3, i % 4]);
        }
        InvalidOperationException refused = Assert.Throws<InvalidOperationException>(() => { _ = file.View<short>(); });
        Assert.Contains("byte order", refused.Message);
    }

    [Fact]
    public void Read_NumPyScalarVersion2_HasShapeOneInMemory()
    {
        using NpyFile file = Open(ScalarVersion2);
        Assert.Empty(file.Shape);
        Assert.Equal(1, file.ElementCount);
        Tensor<double> tensor = file.Read<double>();
        Assert.Equal([1], tensor.Lengths.ToArray());
        Assert.Equal(2.5, tensor[0]);
        Assert.Equal(2.5, file.View<double>()[0]);
    }

    [Fact]
    public void Read_NumPyVersion3AndEmptyAndRank10_GiveTheirElements()
    {
        using (NpyFile file = Open(BooleanVersion3))
            Assert.Equal([true, false, false, true], RoundTripTests.Flat(file.Read<bool>()));
        using (NpyFile file = Open(Empty))
        {
            Assert.Equal([0L, 3L], file.Shape);
            Assert.Equal([0, 3], file.Read<byte>().Lengths.ToArray());
            Assert.Equal([0, 3], file.View<byte>().Lengths.ToArray());
            Assert.Equal([0, 3], file.ReadAs<float>().Lengths.ToArray());
        }
        using (NpyFile file = Open(HalfRank10))
        {
            Assert.Equal([(Half)0, (Half)0.5, (Half)1, (Half)1.5], RoundTripTests.Flat(file.Read<Half>()));
            Assert.Equal((Half)1.5, file.View<Half>()[0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
        }
    }

    [Fact]
    public void Write_LikeNumPy_GivesTheSameBytes()
    {
        float[] floats = [0, 1, 2, 3, 4, 5];
        NpyFile.Write(folder["a.npy"], Tensor.Create(floats, [2, 3]));
        Assert.Equal(Convert.FromBase64String(Float32), File.ReadAllBytes(folder["a.npy"]));
        Half[] halves = [(Half)0, (Half)0.5, (Half)1, (Half)1.5];
        NpyFile.Write(folder["b.npy"], Tensor.Create(halves, [1, 1, 1, 1, 1, 1, 1, 1, 1, 4]));
        Assert.Equal(Convert.FromBase64String(HalfRank10), File.ReadAllBytes(folder["b.npy"]));
        NpyFile.Write(folder["c.npy"], Tensor.CreateFromShape<byte>([0, 3]));
        Assert.Equal(Convert.FromBase64String(Empty), File.ReadAllBytes(folder["c.npy"]));
    }

    // Header lengths as numpy.save of NumPy 1.24.2 gives them for np.zeros(shape, '<f4'). They show the room it leaves for
    // the first length to grow, and the 64 spaces more where the text ends on the boundary by itself.
    [Theory]
    [InlineData(1, 13, 1, 128)]
    [InlineData(12345, 13, 1, 128)]
    [InlineData(1, 13, 10, 128)]
    [InlineData(1, 13, 100, 192)]
    [InlineData(1, 14, 1, 192)]
    public void Write_LongShape_PadsTheHeaderLikeNumPy(int first, int ones, int last, int expected)
    {
        var shape = new nint[ones + 1];
        Array.Fill(shape, 1);
        shape[^1] = last;
        shape[0] = first;
        NpyFile.Write(folder["h.npy"], Tensor.CreateFromShape<float>(shape));
        byte[] bytes = File.ReadAllBytes(folder["h.npy"]);
        Assert.Equal(expected, bytes.Length - (4 * first * last));
        Assert.Equal(expected - 10, bytes[8] + (256 * bytes[9]));
        Assert.Equal((byte)'\n', bytes[expected - 1]);
    }

    [Fact]
    public void View_FortranOrder_IsStridedOverTheFile()
    {
        byte[] bytes = Npy("{'descr': '<i4', 'fortran_order': True, 'shape': (2, 1, 3), } ", Ints(0, 3, 1, 4, 2, 5));
        using NpyFile file = NpyFile.Open(folder.Write("f.npy", bytes));
        ReadOnlyTensorSpan<int> view = file.View<int>();
        Assert.Equal([1, 0, 2], view.Strides.ToArray());
        for (int i = 0; i < 6; i++)
            Assert.Equal(i, view[i / 3, 0, i % 3]);
        Assert.Equal([0, 1, 2, 3, 4, 5], RoundTripTests.Flat(file.Read<int>()));
    }

    [Theory]
    [InlineData("{\"shape\":(3L,),\"fortran_order\":False,\"descr\":\"<i4\"}")]
    [InlineData("  {  'shape' :\t( 3 ,\n) , 'descr' : '<i4' , 'fortran_order' : True , }  \n")]
    [InlineData("{'descr': '=i4', 'fortran_order': False, 'shape': (1, 3,)}")]
    [InlineData("{'descr': 'i4', 'fortran_order': False, 'shape': (3, 1)}")]
    public void Open_OtherSpellingsOfTheHeader_AreUnderstood(string header)
    {
        using NpyFile file = NpyFile.Open(folder.Write("s.npy", Npy(header, Ints(7, 8, 9))));
        Assert.Equal([7, 8, 9], RoundTripTests.Flat(file.Read<int>()));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(3)]
    public void Read_UnalignedData_WorksWhereViewRefuses(int padding)
    {
        // The header ends at an odd byte unless the padding makes it even.
        string header = "{'descr': '<i4', 'fortran_order': False, 'shape': (3,)}" + new string(' ', padding);
        using NpyFile file = NpyFile.Open(folder.Write("u.npy", Npy(header, Ints(7, 8, 9))));
        Assert.Equal([7, 8, 9], RoundTripTests.Flat(file.Read<int>()));
        Assert.Equal([7, 8, 9], RoundTripTests.Flat(file.ReadAs<double>()));
        if ((10 + header.Length) % 4 == 0)
            Assert.Equal(8, file.View<int>()[1]);
        else
            Assert.Contains("aligned", Assert.Throws<InvalidOperationException>(() => { _ = file.View<int>(); }).Message);
    }

    [Fact]
    public void Read_WrongType_NamesBothTypes()
    {
        using NpyFile file = Open(Float32);
        foreach (Action read in new Action[] { () => file.Read<double>(), () => { _ = file.View<double>(); } })
        {
            InvalidOperationException refused = Assert.Throws<InvalidOperationException>(read);
            Assert.Contains("float32", refused.Message);
            Assert.Contains("float64", refused.Message);
        }
        Assert.Throws<NotSupportedException>(() => file.ReadAs<int>());
        Assert.Throws<NotSupportedException>(() => file.Read<char>());
    }

    [Fact]
    public void Read_AfterDispose_Throws()
    {
        NpyFile file = Open(Float32);
        file.Dispose();
        file.Dispose();
        Assert.Throws<ObjectDisposedException>(() => file.Read<float>());
        Assert.Throws<ObjectDisposedException>(() => { _ = file.View<float>(); });
    }

    [Fact]
    public void Open_TrailingBytes_AreIgnoredAsByNumPy()
    {
        byte[] bytes = [.. Convert.FromBase64String(Float32), 1, 2, 3];
        using NpyFile file = NpyFile.Open(folder.Write("t.npy", bytes));
        Assert.Equal([0, 1, 2, 3, 4, 5], RoundTripTests.Flat(file.Read<float>()));
    }

    internal static byte[] Npy(string header, byte[] data)
        => [0x93, .. "NUMPY"u8, 1, 0, (byte)header.Length, (byte)(header.Length >> 8), .. Encoding.Latin1.GetBytes(header), .. data];

    internal static byte[] Ints(params int[] values)
    {
        var bytes = new byte[values.Length * 4];
        for (int i = 0; i < values.Length; i++)
            System.Buffers.Binary.BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(i * 4), values[i]);
        return bytes;
    }

    private NpyFile Open(string base64) => NpyFile.Open(folder.Write("x.npy", Convert.FromBase64String(base64)));
}
