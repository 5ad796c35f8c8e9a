using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using System.Text.Json;
using Xunit;

namespace NormLayers.Tests.Text;

public sealed class TensorPrinterTests
{
    public static TheoryData<string> Cases => new(TorchText.Tensors.Select(item => item.GetProperty("name").GetString()!));

    [Fact]
    public void Table_Names_AreManyAndUnique()
    {
        string[] names = [.. TorchText.Tensors.Select(item => item.GetProperty("name").GetString()!)];
        Assert.True(names.Length >= 150);
        Assert.Equal(names.Length, names.Distinct().Count());
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Format_TorchCase_PrintsTheSameText(string name)
    {
        JsonElement item = TorchText.Tensors.Single(item => item.GetProperty("name").GetString() == name);
        Assert.Equal(item.GetProperty("text").GetString(), Print(item));
    }

    private static string Print(JsonElement item)
    {
        byte[] data = item.GetProperty("data").GetBytesFromBase64();
        return item.GetProperty("dtype").GetString() switch
        {
            "f4" => Print<float>(item, data),
            "f8" => Print<double>(item, data),
            "f2" => Print<Half>(item, data),
            "bf" => Print<BFloat16>(item, data),
            "i8" => Print<long>(item, data),
            "i4" => Print<int>(item, data),
            "i2" => Print<short>(item, data),
            "i1" => Print<sbyte>(item, data),
            "u1" => Print<byte>(item, data),
            "b1" => Print<bool>(item, data),
            string other => throw new InvalidDataException(other),
            null => throw new InvalidDataException("no dtype"),
        };
    }

    private static string Print<T>(JsonElement item, byte[] data) where T : struct
    {
        nint[] shape = [.. item.GetProperty("shape").EnumerateArray().Select(length => (nint)length.GetInt64())];
        var options = new TensorPrintOptions();
        foreach (JsonProperty option in item.GetProperty("options").EnumerateObject())
        {
            options = option.Name switch
            {
                "precision" => options with { Precision = option.Value.GetInt32() },
                "threshold" => options with { Threshold = option.Value.GetInt64() },
                "edgeitems" => options with { EdgeItems = option.Value.GetInt32() },
                "linewidth" => options with { LineWidth = option.Value.GetInt32() },
                "sci_mode" => options with { ScientificMode = option.Value.GetBoolean() },
                _ => throw new InvalidDataException(option.Name),
            };
        }
        Tensor<T> tensor = Tensor.Create(MemoryMarshal.Cast<byte, T>(data).ToArray(), shape);
        return item.GetProperty("parameter").GetBoolean()
            ? TensorPrinter.FormatParameter(tensor.AsReadOnlyTensorSpan(), options: options)
            : TensorPrinter.Format(tensor, options);
    }

    [Fact]
    public void Format_NoOptions_UsesTorchDefaults()
        => Assert.Equal("tensor([1.5000, 2.0000])", TensorPrinter.Format(Tensor.Create([1.5f, 2f], [2])));

    [Fact]
    public void Format_Permuted_PrintsLogicalOrder()
    {
        Tensor<int> tensor = Tensor.PermuteDimensions(Tensor.Create([0, 1, 2, 3, 4, 5], [2, 3]), [1, 0]);
        Assert.Equal("tensor([[0, 3],\n        [1, 4],\n        [2, 5]], dtype=torch.int32)", TensorPrinter.Format(tensor));
    }

    [Fact]
    public void Format_Broadcast_RepeatsTheElement()
    {
        float[] data = [7f, 8f];
        var span = new ReadOnlyTensorSpan<float>(data, [2, 3], [1, 0]);
        Assert.Equal("tensor([[7., 7., 7.],\n        [8., 8., 8.]])", TensorPrinter.Format(span));
    }

    [Fact]
    public void Format_BroadcastBillions_ReadsTheEdgesOnly()
    {
        float[] data = [1f];
        var span = new ReadOnlyTensorSpan<float>(data, [1_000_000, 1_000_000], [0, 0]);
        Assert.StartsWith("tensor([[1., 1., 1.,  ..., 1., 1., 1.],\n", TensorPrinter.Format(span), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(5, "tensor([...], size=(6,))")]
    [InlineData(6, "tensor([0., 1., 2., 3., 4., 5.], size=(6,))")]
    public void Format_NoEdgeItems_ShowsTheSize(long threshold, string expected)
        => Assert.Equal(expected, TensorPrinter.Format(Tensor.Create([0f, 1f, 2f, 3f, 4f, 5f], [6]),
            new TensorPrintOptions { EdgeItems = 0, Threshold = threshold }));

    [Fact]
    public void Format_NoEdgeItemsOfMatrix_ShowsTheSize()
        => Assert.Equal("tensor([...], size=(2, 3))", TensorPrinter.Format(Tensor.Create([0f, 1f, 2f, 3f, 4f, 5f], [2, 3]),
            new TensorPrintOptions { EdgeItems = 0, Threshold = 1 }));

    [Fact]
    public void FormatParameter_WithoutGradient_PrintsNoSuffix()
        => Assert.Equal("Parameter containing:\ntensor([1.])",
            TensorPrinter.FormatParameter(Tensor.Create([1f], [1]).AsReadOnlyTensorSpan(), requiresGrad: false));

    [Fact]
    public void Format_UnsupportedType_NamesItAndTheAccepted()
    {
        var error = Assert.Throws<NotSupportedException>(() => TensorPrinter.Format(Tensor.Create([1m], [1])));
        Assert.Equal("A tensor of Decimal cannot be printed; accepted are float, double, Half, BFloat16, long, int, short, sbyte, byte and bool.", error.Message);
    }

    [Fact]
    public void Format_DefaultSpan_Refuses()
        => Assert.Throws<ArgumentException>("tensor", () => TensorPrinter.Format(default(ReadOnlyTensorSpan<float>)));

    [Fact]
    public void Format_Null_Refuses()
        => Assert.Throws<ArgumentNullException>("tensor", () => TensorPrinter.Format((Tensor<float>)null!));

    [Fact]
    public void Options_Negative_Refuse()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => new TensorPrintOptions { Precision = -1 });
        Assert.Throws<ArgumentOutOfRangeException>(() => new TensorPrintOptions { EdgeItems = -1 });
    }
}
