using System.Numerics;
using System.Numerics.Tensors;
using NormLayers.Tests.Properties;

namespace NormLayers.Tests.Gradients;

/// <summary>A backward's results; null where the layer has none or it was not asked for.</summary>
internal sealed record Gradients<T>(T[]? Input, T[]? Weight, T[]? Bias);

/// <summary>The derivatives of a <see cref="NormCase"/>, so that a property of gradients can be stated once for all layers.</summary>
internal static class GradientRun
{
    public static int Groups(this NormCase norm)
        => norm.Count == 0 || norm.IsWindow ? 0 : norm.IsOfRows ? norm.Count / norm.Parameters() : (int)norm.Shape[0] * norm.Number;

    public static int Parameters(this NormCase norm) => (int)NormCase.Product(norm.ParameterShape);

    /// <summary>The weight and bias that an element is multiplied by and added to.</summary>
    public static int ParameterOf(this NormCase norm, int element)
        => norm.IsOfRows ? element % norm.Parameters() : element / (int)NormCase.Product(norm.Shape.AsSpan(2)) % (int)norm.Shape[1];

    public static ReadOnlyTensorSpan<T> Whole<T>(this NormCase norm, T[]? values) => values is null ? default : new ReadOnlyTensorSpan<T>(values, norm.Shape);

    public static TensorSpan<T> WholeResult<T>(this NormCase norm, T[]? values) => values is null ? default : new TensorSpan<T>(values, norm.Shape);

    public static TensorSpan<T> ParameterResult<T>(this NormCase norm, T[]? values) => values is null ? default : new TensorSpan<T>(values, norm.ParameterShape);

    public static GroupStatistics[] Statistics<T>(this NormCase norm, Operands<T> operands) where T : unmanaged
    {
        var statistics = new GroupStatistics[norm.Groups()];
        var y = new TensorSpan<T>(new T[norm.Count], norm.Shape);
        if (norm.Name == "LayerNorm")
            Functional.LayerNorm(norm.Whole(operands.X), norm.ParameterShape, norm.Span(operands.Weight), norm.Span(operands.Bias), norm.Eps, y, statistics);
        else if (norm.Name == "RMSNorm")
            Functional.RMSNorm(norm.Whole(operands.X), norm.ParameterShape, norm.Span(operands.Weight), norm.Eps, y, statistics);
        else if (norm.Name == "GroupNorm")
            Functional.GroupNorm(norm.Whole(operands.X), norm.Number, norm.Span(operands.Weight), norm.Span(operands.Bias), norm.Eps, y, statistics);
        return statistics;
    }

    public static void Backward<T>(this NormCase norm, in ReadOnlyTensorSpan<T> dy, in ReadOnlyTensorSpan<T> x, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<T> weight, in TensorSpan<T> dx, in TensorSpan<T> dWeight, in TensorSpan<T> dBias)
        where T : unmanaged
    {
        if (norm.Name == "LayerNorm")
            Functional.LayerNormBackward(dy, x, norm.ParameterShape, statistics, weight, dx, dWeight, dBias);
        else if (norm.Name == "RMSNorm")
            Functional.RMSNormBackward(dy, x, norm.ParameterShape, statistics, weight, dx, dWeight);
        else if (norm.Name == "GroupNorm")
            Functional.GroupNormBackward(dy, x, norm.Number, statistics, weight, dx, dWeight, dBias);
        else
            Functional.LocalResponseNormBackward(dy, x, norm.Number, norm.Alpha, norm.Beta, norm.K, dx);
    }

    /// <summary>The gradients on contiguous memory. A layer without a weight is asked for its gradient too: that of a weight of ones.</summary>
    public static Gradients<T> Backward<T>(this NormCase norm, Operands<T> operands, T[] dy, bool input = true, bool weight = true, bool bias = true) where T : unmanaged
    {
        T[]? dx = input ? new T[norm.Count] : null;
        T[]? dWeight = weight && !norm.IsWindow ? new T[norm.Parameters()] : null;
        T[]? dBias = bias && norm.TakesBias ? new T[norm.Parameters()] : null;
        norm.Backward(norm.Whole(dy), norm.Whole(operands.X), norm.Statistics(operands), norm.Span(operands.Weight), norm.WholeResult(dx), norm.ParameterResult(dWeight), norm.ParameterResult(dBias));
        return new Gradients<T>(dx, dWeight, dBias);
    }

    public static T[] Jvp<T>(this NormCase norm, Operands<T> operands, T[]? tangent, T[]? weightTangent = null, T[]? biasTangent = null) where T : unmanaged
    {
        var result = new T[norm.Count];
        if (norm.Name == "LayerNorm")
            Functional.LayerNormJvp(norm.Whole(operands.X), norm.ParameterShape, norm.Statistics(operands), norm.Span(operands.Weight), norm.Whole(tangent), norm.Span(weightTangent), norm.Span(biasTangent), norm.WholeResult(result));
        else if (norm.Name == "RMSNorm")
            Functional.RMSNormJvp(norm.Whole(operands.X), norm.ParameterShape, norm.Statistics(operands), norm.Span(operands.Weight), norm.Whole(tangent), norm.Span(weightTangent), norm.WholeResult(result));
        else if (norm.Name == "GroupNorm")
            Functional.GroupNormJvp(norm.Whole(operands.X), norm.Number, norm.Statistics(operands), norm.Span(operands.Weight), norm.Whole(tangent), norm.Span(weightTangent), norm.Span(biasTangent), norm.WholeResult(result));
        else
            Functional.LocalResponseNormJvp(norm.Whole(operands.X), norm.Number, norm.Alpha, norm.Beta, norm.K, norm.Whole(tangent ?? new T[norm.Count]), norm.WholeResult(result));
        return result;
    }

    /// <summary>The gradients of the backward for the cotangents of its results: with respect to dy, x and the weight.</summary>
    public static (T[] GradOutput, T[] Input, T[]? Weight) DoubleBackward<T>(this NormCase norm, Operands<T> operands, T[] dy, T[]? v, T[]? vWeight = null, T[]? vBias = null) where T : unmanaged
    {
        var gradDy = new T[norm.Count];
        var gradX = new T[norm.Count];
        T[]? gradWeight = norm.IsWindow ? null : new T[norm.Parameters()];
        if (norm.Name == "LayerNorm")
            Functional.LayerNormDoubleBackward(norm.Whole(dy), norm.Whole(operands.X), norm.ParameterShape, norm.Statistics(operands), norm.Span(operands.Weight), norm.Whole(v), norm.Span(vWeight), norm.Span(vBias), norm.WholeResult(gradDy), norm.WholeResult(gradX), norm.ParameterResult(gradWeight));
        else if (norm.Name == "RMSNorm")
            Functional.RMSNormDoubleBackward(norm.Whole(dy), norm.Whole(operands.X), norm.ParameterShape, norm.Statistics(operands), norm.Span(operands.Weight), norm.Whole(v), norm.Span(vWeight), norm.WholeResult(gradDy), norm.WholeResult(gradX), norm.ParameterResult(gradWeight));
        else if (norm.Name == "GroupNorm")
            Functional.GroupNormDoubleBackward(norm.Whole(dy), norm.Whole(operands.X), norm.Number, norm.Statistics(operands), norm.Span(operands.Weight), norm.Whole(v), norm.Span(vWeight), norm.Span(vBias), norm.WholeResult(gradDy), norm.WholeResult(gradX), norm.ParameterResult(gradWeight));
        else
            Functional.LocalResponseNormDoubleBackward(norm.Whole(dy), norm.Whole(operands.X), norm.Number, norm.Alpha, norm.Beta, norm.K, norm.Whole(v ?? new T[norm.Count]), norm.WholeResult(gradDy), norm.WholeResult(gradX));
        return (gradDy, gradX, gradWeight);
    }

    public static double[] Widen<T>(T[] values) where T : INumberBase<T> => Array.ConvertAll(values, double.CreateTruncating);
}
