using System.Numerics;
using System.Numerics.Tensors;
using Xunit;

namespace NormLayers.Tests.Properties;

/// <summary>Strides change no bit: any view gives what its contiguous copy gives, and in place gives what out of place gives.</summary>
public abstract class StrideTests<T> where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    [Fact]
    public void Input_PermutedAndSliced_GivesTheBitsOfItsCopy()
    {
        var generator = new Generator(4);
        for (int round = 0; round < 300; round++)
        {
            NormCase norm = AnyCase(generator);
            Operands<T> operands = norm.Make<T>(generator);
            Tensor<T> strided = Strided(operands.X, norm.Shape, generator);
            var y = new T[norm.Count];
            norm.Apply(strided.AsReadOnlyTensorSpan(), norm.Span(operands.Weight), norm.Span(operands.Bias), new TensorSpan<T>(y, norm.Shape));
            AssertSame(norm, operands, y);
        }
    }

    [Fact]
    public void Input_Broadcast_GivesTheBitsOfItsCopy()
    {
        var generator = new Generator(5);
        for (int round = 0; round < 300; round++)
        {
            NormCase norm = AnyCase(generator);
            nint[] strides = RowMajor(norm.Shape);
            for (int d = 0; d < strides.Length; d++)
                strides[d] = generator.Flip() ? 0 : strides[d];
            Tensor<T> broadcast = Tensors.WithStrides(Tensor.Create(generator.Values<T>(norm.Count), norm.Shape), strides);
            Operands<T> operands = norm.Make<T>(generator) with { X = Tensors.ToArray(broadcast) };
            AssertSame(norm, operands, norm.Apply(broadcast, Whole(operands.Weight, norm), Whole(operands.Bias, norm)));
        }
    }

    [Fact]
    public void WeightAndBias_Strided_GiveTheBitsOfTheirCopies()
    {
        var generator = new Generator(6);
        for (int round = 0; round < 300; round++)
        {
            NormCase norm = AnyCase(generator);
            if (norm.IsWindow)
                continue;
            Operands<T> operands = norm.Make<T>(generator);
            Tensor<T>? weight = operands.Weight is { } w ? Strided(w, norm.ParameterShape, generator) : null;
            Tensor<T>? bias = operands.Bias is { } b ? Strided(b, norm.ParameterShape, generator) : null;
            AssertSame(norm, operands, norm.Apply(Tensor.Create(operands.X, norm.Shape), weight, bias));
        }
    }

    [Theory]
    [InlineData("GroupNorm", 2)]
    [InlineData("LocalResponseNorm", 3)]
    [InlineData("LayerNorm", 2)]
    public void Input_ChannelsLastOfManyElements_GivesTheBitsOfItsCopy(string name, int number)
    {
        // Longer than the tiles in which a transposition is copied, and no multiple of them.
        var norm = new NormCase(name, number, 2, 38, 9, 11) { Weight = true, Bias = true };
        Operands<T> operands = norm.Make<T>(new Generator(7));
        Tensor<T> channelsLast = Tensors.WithStrides(Tensor.Create(operands.X, norm.Shape), [38 * 99, 1, 38 * 11, 38]);
        var y = new T[norm.Count];
        norm.Apply(channelsLast.AsReadOnlyTensorSpan(), norm.Span(operands.Weight), norm.Span(operands.Bias), new TensorSpan<T>(y, norm.Shape));
        AssertSame(norm, operands, y);
    }

    [Fact]
    public void Input_SliceOfThePackage_GivesTheBitsOfItsCopy()
    {
        Tensor<T> whole = Tensor.Create(new Generator(8).Values<T>(4 * 8 * 9), [4, 8, 9]);
        Tensor<T> slice = whole.Slice([1..3, 2..8, 3..8]);
        var norm = new NormCase("GroupNorm", 3, 2, 6, 5);
        AssertSame(norm, new Operands<T>(Tensors.ToArray(slice), null, null), norm.Apply(slice, null, null));
    }

    [Fact]
    public void Destination_OnTheInput_GivesTheBitsOfAnother()
    {
        var generator = new Generator(9);
        for (int round = 0; round < 300; round++)
        {
            NormCase norm = AnyCase(generator);
            Operands<T> operands = norm.Make<T>(generator);
            T[] expected = norm.Apply(operands), memory = operands.X;
            norm.Apply(new ReadOnlyTensorSpan<T>(memory, norm.Shape), norm.Span(operands.Weight), norm.Span(operands.Bias), new TensorSpan<T>(memory, norm.Shape));
            Assert.True(expected.AsSpan().SequenceEqual(memory), norm.ToString());
        }
    }

    /// <summary>A case of rank 2 to 6 whose dimensions are 2 to 5 long, now and then 1.</summary>
    private static NormCase AnyCase(Generator generator)
    {
        string name = generator.Pick("LayerNorm", "GroupNorm", "LocalResponseNorm");
        int rank = (name == "LocalResponseNorm" ? 3 : 2) + generator.Below(name == "LocalResponseNorm" ? 4 : 5);
        var shape = new nint[rank];
        for (int d = 0; d < rank; d++)
            shape[d] = generator.Below(6) == 0 ? 1 : 2 + generator.Below(4);
        if (name == "GroupNorm")
            (shape[0], shape[1]) = (2, 6);
        int number = name == "LayerNorm" ? 1 + generator.Below(rank) : name == "GroupNorm" ? generator.Pick(1, 2, 3) : 1 + generator.Below(6);
        return new NormCase(name, number, shape) { Weight = generator.Flip(), Bias = generator.Flip() };
    }

    /// <summary>The values in memory with the dimensions in any order and with gaps, as permuting and slicing leave them.</summary>
    private static Tensor<T> Strided(T[] values, nint[] shape, Generator generator)
    {
        var strides = new nint[shape.Length];
        nint next = 1 + generator.Below(3);
        foreach (int d in generator.Permutation(shape.Length))
        {
            strides[d] = next;
            next = next * shape[d] + generator.Below(3);
        }
        return Tensors.WithStrides(Tensor.Create(values, shape), strides);
    }

    private static nint[] RowMajor(nint[] shape)
    {
        var strides = new nint[shape.Length];
        for (int d = 0; d < shape.Length; d++)
            strides[d] = NormCase.Product(shape.AsSpan(d + 1));
        return strides;
    }

    private static Tensor<T>? Whole(T[]? values, NormCase norm) => values is null ? null : Tensor.Create(values, norm.ParameterShape);

    private static void AssertSame(NormCase norm, Operands<T> operands, T[] actual)
        => Assert.True(norm.Apply(operands).AsSpan().SequenceEqual(actual), norm.ToString());
}

public sealed class FloatStrideTests : StrideTests<float>;

public sealed class DoubleStrideTests : StrideTests<double>;
