using System.Numerics.Tensors;

namespace NormLayers.Benchmarks;

/// <summary>How a layer cuts a tensor, from which a reference in double computes what is right.</summary>
internal abstract record Geometry
{
    /// <summary>The strides of all tensors of the input's shape; empty for row-major ones.</summary>
    public nint[] Strides { get; init; } = [];

    /// <summary>The worst element of a forward's results.</summary>
    public abstract Deviation Forward<T>(OperandSet<T> set, ParameterValues parameters) where T : unmanaged;

    /// <summary>The worst element of a backward's results.</summary>
    public abstract Deviation Backward<T>(OperandSet<T> set, ParameterValues parameters) where T : unmanaged;
}

/// <summary>What groups of elements share.</summary>
internal enum Statistic
{
    MeanAndVariance,
    MeanSquare,

    /// <summary>Mean 0 and variance 1, whatever the elements.</summary>
    Given,
}

/// <summary>Groups of consecutive elements that share statistics.</summary>
/// <param name="Groups">The number of groups.</param>
/// <param name="GroupParameters">The weights of one group.</param>
/// <param name="Run">The neighbouring elements that share a weight.</param>
/// <param name="Period">The groups after which the weights begin again.</param>
internal sealed record RowGeometry(nint Groups, nint GroupParameters, nint Run, nint Period) : Geometry
{
    public nint Length => GroupParameters * Run;

    public nint Parameters => GroupParameters * Period;

    /// <summary>The consecutive groups that have the same weights.</summary>
    public nint Repeat { get; init; } = 1;

    public Statistic Statistic { get; init; }

    public double Eps { get; init; }

    /// <summary>Where the groups are not contiguous: memory as Outer blocks of Rows by Columns, in whose transposition they are.</summary>
    public (nint Outer, nint Rows, nint Columns)? Memory { get; init; }

    /// <summary>Whether a residual is added before.</summary>
    public bool Adds { get; init; }

    /// <summary>Whether SiLU comes after.</summary>
    public bool Activates { get; init; }

    public nint FirstParameter(nint group) => group / Repeat % Period * GroupParameters;

    public override Deviation Forward<T>(OperandSet<T> set, ParameterValues parameters) => RowReference<T>.Forward(this, set, parameters);

    public override Deviation Backward<T>(OperandSet<T> set, ParameterValues parameters) => RowReference<T>.Backward(this, set, parameters);
}

/// <summary>A tensor of samples, channels and positions, and the window over the channels.</summary>
internal sealed record WindowGeometry(nint Samples, nint Channels, nint Run, int Size, double Alpha, double Beta, double K) : Geometry
{
    public override Deviation Forward<T>(OperandSet<T> set, ParameterValues parameters) => WindowReference<T>.Forward(this, set);

    public override Deviation Backward<T>(OperandSet<T> set, ParameterValues parameters) => WindowReference<T>.Backward(this, set);
}

/// <summary>A layer's parameters and gradients in double; the bias's are null where there is none.</summary>
internal sealed record ParameterValues(double[] Weight, double[]? Bias, double[] WeightGradient, double[]? BiasGradient, Precision Precision)
{
    public static ParameterValues Of<T>(IReadOnlyList<Parameter<T>> parameters) where T : unmanaged => parameters switch
    {
        [var weight, var bias] => new(Doubles(weight.Value), Doubles(bias.Value), Doubles(weight.Grad), Doubles(bias.Grad), Precision.Of<T>()),
        [var weight] => new(Doubles(weight.Value), null, Doubles(weight.Grad), null, Precision.Of<T>()),
        _ => new([], null, [], null, Precision.Of<T>()),
    };

    public static double[] Doubles<T>(Tensor<T> tensor) where T : unmanaged
    {
        var elements = new T[tensor.FlattenedLength];
        tensor.FlattenTo(elements);
        return Array.ConvertAll(elements, Element.ToDouble);
    }
}
