using System.Numerics.Tensors;

namespace NormLayers.Internals;

/// <summary>Conversion of whole tensors between floating-point types, one rounding an element.</summary>
internal static class TensorConversion
{
    /// <summary>The tensor with elements of <typeparamref name="T"/>: itself where it has them, else a converted copy; null where its type is not a floating-point one.</summary>
    internal static Tensor<T>? ToElements<T>(IReadOnlyTensor tensor) where T : unmanaged => tensor switch
    {
        Tensor<T> same => same,
        Tensor<float> source => Convert<float, T>(source, static value => value),
        Tensor<double> source => Convert<double, T>(source, static value => value),
        Tensor<Half> source => Convert<Half, T>(source, static value => (double)value),
        Tensor<BFloat16> source => Convert<BFloat16, T>(source, static value => (double)value),
        _ => null,
    };

    private static Tensor<T> Convert<TSource, T>(Tensor<TSource> source, Func<TSource, double> widen) where T : unmanaged
    {
        var values = new T[source.FlattenedLength];
        nint i = 0;
        foreach (TSource value in source)
            values[i++] = Elements.FromDouble<T>(widen(value));
        return Tensor.Create(values, source.Lengths);
    }
}
