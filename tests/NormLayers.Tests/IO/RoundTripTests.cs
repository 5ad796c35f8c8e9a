using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using NormLayers.IO;
using Xunit;

namespace NormLayers.Tests.IO;

/// <summary>Every element type in every shape, written and read back bit by bit, through both formats.</summary>
public sealed class RoundTripTests : IDisposable
{
    private static readonly nint[][] ShapeTable =
        [[], [1], [7], [0], [0, 3], [3, 0, 2], [1, 4, 5, 5], [2, 1, 3], [2, 3, 1, 2, 1, 4], [300, 5], [1, 1]];

    private readonly TempFolder folder = new();

    public static TheoryData<int> Shapes
    {
        get
        {
            var data = new TheoryData<int>();
            for (int i = 0; i < ShapeTable.Length; i++)
                data.Add(i);
            return data;
        }
    }

    public void Dispose() => folder.Dispose();

    [Theory]
    [MemberData(nameof(Shapes))]
    public void WriteThenRead_EveryType_GivesTheSameBits(int index)
    {
        nint[] shape = ShapeTable[index];
        Check<bool>(shape);
        Check<sbyte>(shape);
        Check<byte>(shape);
        Check<short>(shape);
        Check<ushort>(shape);
        Check<int>(shape);
        Check<uint>(shape);
        Check<long>(shape);
        Check<ulong>(shape);
        Check<Half>(shape);
        Check<BFloat16>(shape);
        Check<float>(shape);
        Check<double>(shape);
    }

    [Fact]
    public void Write_PermutedTensor_IsRowMajorInTheFile()
    {
        Tensor<int> rows = Make<int>([2, 3, 4]);
        Tensor<int> permuted = Tensor.PermuteDimensions(rows, [2, 0, 1]);
        NpyFile.Write(folder["p.npy"], permuted);
        var writer = new SafetensorsWriter();
        writer.Add("kept", permuted);
        writer.Add("copied", permuted.AsReadOnlyTensorSpan());
        writer.Save(folder["p.safetensors"]);
        using NpyFile npy = NpyFile.Open(folder["p.npy"]);
        using SafetensorsFile safe = SafetensorsFile.Open(folder["p.safetensors"]);
        Tensor<int>[] results = [npy.Read<int>(), safe.Read<int>("kept"), safe.Read<int>("copied")];
        foreach (Tensor<int> result in results)
        {
            Assert.Equal([4, 2, 3], result.Lengths.ToArray());
            Assert.True(result.IsDense);
            for (int i = 0; i < 24; i++)
                Assert.Equal(rows[i / 3 % 2, i % 3, i / 6], result[i / 6, i / 3 % 2, i % 3]);
        }
    }

    [Fact]
    public void Write_SliceAndBroadcast_StoresTheLogicalElements()
    {
        Tensor<float> rows = Make<float>([4, 6]);
        ReadOnlyTensorSpan<float> slice = rows.AsReadOnlyTensorSpan()[1..3, 2..5];
        NpyFile.Write(folder["slice.npy"], slice);
        using NpyFile file = NpyFile.Open(folder["slice.npy"]);
        Tensor<float> result = file.Read<float>();
        for (int i = 0; i < 2; i++)
        {
            for (int j = 0; j < 3; j++)
                Assert.Equal(rows[i + 1, j + 2], result[i, j]);
        }

        float[] row = [1, 2, 3];
        NpyFile.Write(folder["expand.npy"], new ReadOnlyTensorSpan<float>(row, [2, 3], [0, 1]));
        using NpyFile expanded = NpyFile.Open(folder["expand.npy"]);
        Assert.Equal([1, 2, 3, 1, 2, 3], Flat(expanded.Read<float>()));
    }

    internal static Tensor<T> Make<T>(nint[] shape)
        where T : unmanaged
    {
        nint[] lengths = shape.Length == 0 ? [1] : shape;
        Tensor<T> tensor = Tensor.CreateFromShape<T>(lengths);
        var random = new Random(shape.Length + 17);
        if (tensor.FlattenedLength == 0)
            return tensor;
        Span<byte> bytes = MemoryMarshal.AsBytes(Span(tensor));
        random.NextBytes(bytes);
        if (typeof(T) == typeof(bool))
        {
            foreach (ref byte b in bytes)
                b &= 1;
        }
        return tensor;
    }

    internal static T[] Flat<T>(Tensor<T> tensor)
        where T : unmanaged
        => tensor.FlattenedLength == 0 ? [] : Span(tensor).ToArray();

    private static Span<T> Span<T>(Tensor<T> tensor)
        where T : unmanaged
        => MemoryMarshal.CreateSpan(ref tensor.GetPinnableReference(), (int)tensor.FlattenedLength);

    private static byte[] Bits<T>(Tensor<T> tensor)
        where T : unmanaged
        => tensor.FlattenedLength == 0 ? [] : MemoryMarshal.AsBytes(Span(tensor)).ToArray();

    private void Check<T>(nint[] shape)
        where T : unmanaged
    {
        Tensor<T> tensor = Make<T>(shape);
        long[] lengths = Array.ConvertAll(shape, length => (long)length);
        CheckSafetensors(tensor, shape, lengths);
        string path = folder[$"{typeof(T).Name}.npy"];
        if (typeof(T) == typeof(BFloat16))
        {
            NotSupportedException refused = Assert.Throws<NotSupportedException>(() => NpyFile.Write(path, tensor, shape));
            Assert.Contains("bfloat16", refused.Message);
            return;
        }
        NpyFile.Write(path, tensor, shape);
        using NpyFile file = NpyFile.Open(path);
        Assert.Equal(lengths, file.Shape);
        Assert.Equal(ElementTypes.Of<T>(), file.ElementType);
        Assert.Equal(tensor.FlattenedLength, file.ElementCount);
        Assert.Equal(0, (new FileInfo(path).Length - (tensor.FlattenedLength * ElementTypes.Of<T>().Size())) % 64);
        Tensor<T> copy = file.Read<T>();
        Assert.Equal(tensor.Lengths.ToArray(), copy.Lengths.ToArray());
        Assert.Equal(Bits(tensor), Bits(copy));
        ReadOnlyTensorSpan<T> view = file.View<T>();
        Assert.Equal(tensor.Lengths.ToArray(), view.Lengths.ToArray());
        Assert.Equal(Bits(tensor), Bits(Copy(view)));
    }

    private void CheckSafetensors<T>(Tensor<T> tensor, nint[] shape, long[] lengths)
        where T : unmanaged
    {
        string path = folder[$"{typeof(T).Name}.safetensors"];
        var writer = new SafetensorsWriter();
        writer.Add("x", tensor, shape);
        writer.Save(path);
        using SafetensorsFile file = SafetensorsFile.Open(path);
        TensorInfo info = file.Info("x");
        Assert.Equal(lengths, info.Shape);
        Assert.Equal(ElementTypes.Of<T>(), info.ElementType);
        Assert.Equal(tensor.FlattenedLength, info.ElementCount);
        Tensor<T> copy = file.Read<T>("x");
        Assert.Equal(tensor.Lengths.ToArray(), copy.Lengths.ToArray());
        Assert.Equal(Bits(tensor), Bits(copy));
        Assert.Equal(Bits(tensor), Bits(Copy(file.View<T>("x"))));
    }

    private static Tensor<T> Copy<T>(in ReadOnlyTensorSpan<T> view)
        where T : unmanaged
    {
        Tensor<T> copy = Tensor.CreateFromShape<T>(view.Lengths);
        if (!view.IsEmpty)
            view.CopyTo(copy);
        return copy;
    }
}
