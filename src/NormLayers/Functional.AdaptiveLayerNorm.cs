using System.Buffers;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using NormLayers.Internals;
using NormLayers.Internals.Kernels;

namespace NormLayers;

public static partial class Functional
{
    /// <summary>Normalizes over the last dimensions of the input, and scales and shifts each sample by factors and summands of its own, as diffusion transformers do.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (N, *, normalizedShape), any strides.</param>
    /// <param name="normalizedShape">The lengths of the last dimensions, which share statistics; at least one, and one fewer than the input has.</param>
    /// <param name="scale">Each sample's scale, of shape (N, normalizedShape).</param>
    /// <param name="shift">Each sample's shift, of shape (N, normalizedShape).</param>
    /// <param name="eps">Added to the variance under the root; 1e-5 in PyTorch's layer, 1e-6 in most diffusion transformers.</param>
    /// <param name="destination">Takes the result; of the input's shape, row-major contiguous; may be the input itself.</param>
    /// <param name="statistics">Takes the mean and 1/deviation of each group, for <see cref="AdaptiveLayerNormBackward{T}"/>: exactly as many as there are groups, or empty if they are not wanted.</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <exception cref="ArgumentException"><paramref name="normalizedShape"/> is empty; the input does not end in it or has no dimension before it; scale or shift is not of
    /// shape (N, normalizedShape); there are more or fewer statistics than groups; or the destination has another shape, is not contiguous, or overlaps an operand in part.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>
    /// <para>This method effectively computes <c>y = (x - E[x]) / sqrt(Var[x] + eps) * (1 + scale[n]) + shift[n]</c> for the n-th
    /// sample, with the mean and the biased variance of each group of the last <c>normalizedShape.Length</c> dimensions: what <c>LayerNorm</c>
    /// without parameters and three more operations give.</para>
    /// <para>Peebles and Xie 2023 (adaLN), https://arxiv.org/abs/2212.09748;
    /// https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.layer_norm.html.</para>
    /// </remarks>
    public static void AdaptiveLayerNorm<T>(in ReadOnlyTensorSpan<T> input, ReadOnlySpan<nint> normalizedShape, in ReadOnlyTensorSpan<T> scale, in ReadOnlyTensorSpan<T> shift, double eps, in TensorSpan<T> destination, Span<GroupStatistics> statistics = default, int maxThreads = 0)
        where T : unmanaged
    {
        RowLayout layout = AdaptiveLayout(input, normalizedShape, scale);
        CheckSampleParameter(shift, input, normalizedShape, nameof(shift));
        if (!statistics.IsEmpty)
            CheckStatistics(statistics, layout);
        Layout.CheckApart(scale, destination, nameof(scale), nameof(destination));
        if (SixteenBits.Is<T>())
        {
            Layout.CheckApart(shift, destination, nameof(shift), nameof(destination));
            using SampleParameter<T, float> w = new(scale, 1), b = new(shift, 0);
            RowForward(input, layout, w.Tensor, b.Tensor, eps, destination, statistics, maxThreads);
            return;
        }
        using var weight = new SampleParameter<T, T>(scale, 1);
        RowForward(input, layout, weight.Tensor, shift, eps, destination, statistics, maxThreads);
    }

    /// <summary>Normalizes over the last dimensions of the input, and scales and shifts each sample by factors and summands of its own.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (N, *, normalizedShape), any strides.</param>
    /// <param name="normalizedShape">The lengths of the last dimensions, which share statistics; at least one, and one fewer than the input has.</param>
    /// <param name="scale">Each sample's scale, of shape (N, normalizedShape).</param>
    /// <param name="shift">Each sample's shift, of shape (N, normalizedShape).</param>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <returns>A new row-major tensor of the input's shape.</returns>
    /// <exception cref="ArgumentException"><paramref name="normalizedShape"/> is empty; the input does not end in it or has no dimension before it; or scale or shift is not of shape (N, normalizedShape).</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public static Tensor<T> AdaptiveLayerNorm<T>(Tensor<T> input, ReadOnlySpan<nint> normalizedShape, Tensor<T> scale, Tensor<T> shift, double eps = 1e-5)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(scale);
        ArgumentNullException.ThrowIfNull(shift);
        Tensor<T> result = Tensor.CreateFromShapeUninitialized<T>(input.Lengths);
        AdaptiveLayerNorm(input.AsReadOnlyTensorSpan(), normalizedShape, scale.AsReadOnlyTensorSpan(), shift.AsReadOnlyTensorSpan(), eps, result.AsTensorSpan());
        return result;
    }

    /// <summary>The gradients of <c>AdaptiveLayerNorm</c>. Each result is optional: <c>default</c> for one that is not wanted.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="gradOutput">The gradient of the output, any strides.</param>
    /// <param name="input">The forward's input, of shape (N, *, normalizedShape), any strides.</param>
    /// <param name="normalizedShape">The lengths of the dimensions that share statistics.</param>
    /// <param name="statistics">What the forward saved, one a group.</param>
    /// <param name="scale">The forward's scale, of shape (N, normalizedShape).</param>
    /// <param name="gradInput">Overwritten with the gradient of the input; row-major contiguous; may be <paramref name="gradOutput"/> itself.</param>
    /// <param name="gradScale">The gradient of the scale is <b>added</b> to it; of shape (N, normalizedShape).</param>
    /// <param name="gradShift">The gradient of the shift is <b>added</b> to it; of shape (N, normalizedShape).</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <exception cref="ArgumentException">A shape does not fit, the number of statistics is not that of the groups, or a result is not contiguous or overlaps an operand in part.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>With <c>n = (x - E[x]) * rstd</c> and <c>g = dy * (1 + scale[n])</c> this method effectively computes
    /// <c>dx = rstd * (g - E[g] - n * E[g * n])</c> and, over the elements of each sample, <c>dscale += sum of dy * n</c> and
    /// <c>dshift += sum of dy</c>, all sums in double. A sample's gradients do not depend on its batch.</remarks>
    public static void AdaptiveLayerNormBackward<T>(in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, ReadOnlySpan<nint> normalizedShape, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<T> scale, in TensorSpan<T> gradInput, in TensorSpan<T> gradScale, in TensorSpan<T> gradShift, int maxThreads = 0)
        where T : unmanaged
    {
        RowLayout layout = AdaptiveLayout(input, normalizedShape, scale);
        CheckSampleGradient(gradScale, scale, nameof(gradScale));
        CheckSampleGradient(gradShift, scale, nameof(gradShift));
        CheckApart(scale, gradInput, nameof(scale), nameof(gradInput));
        CheckApart(scale, gradScale, nameof(scale), nameof(gradScale));
        CheckApart(scale, gradShift, nameof(scale), nameof(gradShift));
        if (SixteenBits.Is<T>())
        {
            using var w = new SampleParameter<T, float>(scale, 1);
            RowBackward<T, float, T>(gradOutput, input, layout, statistics, w.Tensor, gradInput, gradScale, gradShift, maxThreads: maxThreads);
            return;
        }
        using var weight = new SampleParameter<T, T>(scale, 1);
        RowBackward(gradOutput, input, layout, statistics, weight.Tensor, gradInput, gradScale, gradShift, maxThreads: maxThreads);
    }

    private static RowLayout AdaptiveLayout<T>(in ReadOnlyTensorSpan<T> input, ReadOnlySpan<nint> normalizedShape, in ReadOnlyTensorSpan<T> scale)
    {
        Elements.CheckSupported<T>("AdaptiveLayerNorm");
        RowLayout layout = Dimensions<T>(input.Lengths, normalizedShape, default, default, RowStatistic.MeanAndVariance, null);
        if (input.Rank == normalizedShape.Length)
            throw new ArgumentException($"Expected an input with a dimension of samples before the normalized shape {Layout.Text(normalizedShape)}, got shape {Layout.Text(input.Lengths)}.", nameof(input));
        CheckSampleParameter(scale, input, normalizedShape, nameof(scale));
        return layout with { Period = input.Lengths[0], Repeat = Layout.Product(input.Lengths[1..^normalizedShape.Length]) };
    }

    private static void CheckSampleParameter<T>(in ReadOnlyTensorSpan<T> parameter, in ReadOnlyTensorSpan<T> input, ReadOnlySpan<nint> normalizedShape, string name)
    {
        if (parameter.Rank == 0 || parameter.Lengths[0] != input.Lengths[0] || !parameter.Lengths[1..].SequenceEqual(normalizedShape))
            throw new ArgumentException($"Expected {name} of shape {Layout.Text([input.Lengths[0], .. normalizedShape])}, the samples of the input and the normalized shape, got shape {Layout.Text(parameter.Lengths)}.", name);
    }

    private static void CheckSampleGradient<T>(in TensorSpan<T> gradient, in ReadOnlyTensorSpan<T> scale, string name)
    {
        if (gradient.Rank != 0 && !gradient.Lengths.SequenceEqual(scale.Lengths))
            throw new ArgumentException($"Expected {name} of the scale's shape {Layout.Text(scale.Lengths)}, got shape {Layout.Text(gradient.Lengths)}.", name);
    }

    /// <summary>A parameter of each sample plus a number, in the type that is computed in, in rented memory: small beside the input, whose groups read it again and again.</summary>
    private readonly ref struct SampleParameter<T, TCompute>
        where T : unmanaged
        where TCompute : unmanaged
    {
        private readonly TCompute[] rented;

        internal SampleParameter(in ReadOnlyTensorSpan<T> parameter, double summand)
        {
            int count = checked((int)parameter.FlattenedLength);
            rented = ArrayPool<TCompute>.Shared.Rent(count);
            Tensor = new ReadOnlyTensorSpan<TCompute>(rented.AsSpan(0, count), parameter.Lengths);
            using var source = new ComputeOperand<T, TCompute>(parameter);
            ref TCompute first = ref MemoryMarshal.GetArrayDataReference(rented);
            Vector512<TCompute> summands = Vector512.Create(Elements.FromDouble<TCompute>(summand));
            int i = 0;
            for (; i <= count - Vector512<TCompute>.Count; i += Vector512<TCompute>.Count)
                (summands + Vector512.LoadUnsafe(in source.Reference, (nuint)i)).StoreUnsafe(ref first, (nuint)i);
            for (; i < count; i++)
                Unsafe.Add(ref first, i) = Elements.FromDouble<TCompute>(summand + Elements.ToDouble(Unsafe.Add(ref Unsafe.AsRef(in source.Reference), i)));
        }

        internal ReadOnlyTensorSpan<TCompute> Tensor { get; }

        public void Dispose() => ArrayPool<TCompute>.Shared.Return(rented);
    }
}
