using System.Numerics.Tensors;
using NormLayers.Tests.Golden;
using Xunit;

namespace NormLayers.Tests.Properties;

/// <summary>An input, and the weight and bias of a case where it has them, row-major.</summary>
internal sealed record Operands<T>(T[] X, T[]? Weight, T[]? Bias);

/// <summary>One call of one of the functions, so that a property can be stated once for all of them.</summary>
/// <param name="Name">LayerNorm, RMSNorm, GroupNorm or LocalResponseNorm.</param>
/// <param name="Number">LayerNorm's and RMSNorm's count of normalized dimensions, GroupNorm's groups, LocalResponseNorm's size.</param>
/// <param name="Shape">The input's shape.</param>
internal sealed record NormCase(string Name, int Number, params nint[] Shape)
{
    public bool Weight { get; init; }

    public bool Bias { get; init; }

    public double Eps { get; init; } = 1e-5;

    public double Alpha { get; init; } = 1e-4;

    public double Beta { get; init; } = 0.75;

    public double K { get; init; } = 1;

    public bool IsWindow => Name == "LocalResponseNorm";

    public int Count => (int)Product(Shape);

    /// <summary>Whether the groups are rows over the last dimensions, with a parameter for each element of a row.</summary>
    public bool IsOfRows => Name is "LayerNorm" or "RMSNorm";

    /// <summary>Whether the function takes a bias.</summary>
    public bool TakesBias => Name is "LayerNorm" or "GroupNorm";

    public nint[] ParameterShape => IsOfRows ? Shape[^Number..] : [Shape[1]];

    private int Channels => (int)Shape[1];

    private int Run => (int)Product(Shape.AsSpan(2));

    public static nint Product(ReadOnlySpan<nint> lengths)
    {
        nint product = 1;
        foreach (nint length in lengths)
            product *= length;
        return product;
    }

    /// <summary>The case with each combination of weight and bias that it can have: four, RMSNorm two, LocalResponseNorm one.</summary>
    public IEnumerable<NormCase> WithParameters()
        => IsWindow ? [this] : Enumerable.Range(0, TakesBias ? 4 : 2).Select(bits => this with { Weight = (bits & 1) != 0, Bias = (bits & 2) != 0 });

    public Operands<T> Make<T>(Generator generator, double scale = 1, double offset = 0) where T : unmanaged
    {
        T[] x = generator.Values<T>(Count, scale, offset);
        int parameters = (int)Product(ParameterShape);
        return new Operands<T>(x, Weight ? generator.Values<T>(parameters) : null, Bias ? generator.Values<T>(parameters) : null);
    }

    public void Apply<T>(in ReadOnlyTensorSpan<T> x, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> bias, in TensorSpan<T> y) where T : unmanaged
    {
        if (Name == "LayerNorm")
            Functional.LayerNorm(x, Shape.AsSpan(Shape.Length - Number), weight, bias, Eps, y);
        else if (Name == "RMSNorm")
            Functional.RMSNorm(x, Shape.AsSpan(Shape.Length - Number), weight, Eps, y);
        else if (Name == "GroupNorm")
            Functional.GroupNorm(x, Number, weight, bias, Eps, y);
        else
            Functional.LocalResponseNorm(x, Number, Alpha, Beta, K, y);
    }

    /// <summary>Runs the case on contiguous memory.</summary>
    public T[] Apply<T>(Operands<T> operands) where T : unmanaged
    {
        var y = new T[Count];
        Apply(new ReadOnlyTensorSpan<T>(operands.X, Shape), Span(operands.Weight), Span(operands.Bias), new TensorSpan<T>(y, Shape));
        return y;
    }

    public T[] Apply<T>(Tensor<T> x, Tensor<T>? weight, Tensor<T>? bias) where T : unmanaged
        => Tensors.ToArray(Name == "LayerNorm" ? Functional.LayerNorm(x, Shape.AsSpan(Shape.Length - Number), weight, bias, Eps)
            : Name == "RMSNorm" ? Functional.RMSNorm(x, Shape.AsSpan(Shape.Length - Number), weight, Eps)
            : Name == "GroupNorm" ? Functional.GroupNorm(x, Number, weight, bias, Eps)
            : Functional.LocalResponseNorm(x, Number, Alpha, Beta, K));

    /// <summary>The layer with the case's weight and bias in it (LayerNorm cannot have a bias alone).</summary>
    public NormLayer<T> MakeLayer<T>(Operands<T> operands) where T : unmanaged
    {
        NormLayer<T> layer = Name switch
        {
            "LayerNorm" => new LayerNorm<T>(ParameterShape, Eps, Weight, Bias),
            "RMSNorm" => new RMSNorm<T>(ParameterShape, Eps, Weight),
            "GroupNorm" => new GroupNorm<T>(Number, Channels, Eps, Weight),
            _ => new LocalResponseNorm<T>(Number, Alpha, Beta, K),
        };
        foreach (Parameter<T> parameter in layer.Parameters)
            Tensor.Create((parameter.Name == "weight" ? operands.Weight : operands.Bias)!, ParameterShape).CopyTo(parameter.Value);
        return layer;
    }

    /// <summary>A row-major span of the case's parameter shape, or none.</summary>
    public ReadOnlyTensorSpan<T> Span<T>(T[]? parameter) => parameter is null ? default : new ReadOnlyTensorSpan<T>(parameter, ParameterShape);

    /// <summary>What the formula gives.</summary>
    public double[] Expect<T>(Operands<T> operands) where T : unmanaged
    {
        double[] x = Widen(operands.X)!;
        double[]? weight = Widen(operands.Weight), bias = Widen(operands.Bias);
        return x.Length == 0 ? []
            : Name == "LayerNorm" ? Reference.LayerNorm(x, (int)Product(ParameterShape), weight, bias, Eps)
            : Name == "RMSNorm" ? Reference.RMSNorm(x, (int)Product(ParameterShape), weight, Eps)
            : Name == "GroupNorm" ? Reference.GroupNorm(x, (int)Shape[0], Channels, Run, Number, weight, bias, Eps)
            : Reference.LocalResponseNorm(x, (int)Shape[0], Channels, Run, Number, Alpha, Beta, K);
    }

    /// <summary>Throws unless each element is within the ulps of the formula's value, at max(|y|, |weight|, |bias|), or at |y| for LocalResponseNorm.</summary>
    public void AssertNear<T>(Operands<T> operands, T[] actual, string context = "") where T : unmanaged
    {
        // A power multiplies the relative error of its base: in double that error is the sum's own rounding.
        double allowed = Numbers.IsShort<T>() ? 0.51 : typeof(T) == typeof(double) ? (IsWindow ? 8 + 4 * Math.Abs(Beta) : 16) : 4;
        double[] expected = Expect(operands);
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++)
        {
            double magnitude = Math.Abs(expected[i]);
            if (!IsWindow)
            {
                int parameter = IsOfRows ? i % (int)Product(ParameterShape) : i / Run % Channels;
                magnitude = Math.Max(magnitude, operands.Weight is { } weight ? Math.Abs(Numbers.ToDouble(weight[parameter])) : 1);
                magnitude = Math.Max(magnitude, operands.Bias is { } bias ? Math.Abs(Numbers.ToDouble(bias[parameter])) : 0);
            }
            double distance = Ulp.Distance<T>(Numbers.ToDouble(actual[i]), expected[i], magnitude);
            if (!(distance <= allowed))
                Assert.Fail($"{this} {context}: element {i} is {actual[i]}, expected {expected[i]:R}: {distance:G4} ulp, allowed {allowed}");
        }
    }

    public override string ToString()
        => $"{Name} {Number} of [{string.Join(", ", Shape)}] weight={Weight} bias={Bias} eps={Eps} alpha={Alpha} beta={Beta} k={K}";

    private static double[]? Widen<T>(T[]? values) where T : unmanaged => values is null ? null : Numbers.ToDoubles(values);
}
