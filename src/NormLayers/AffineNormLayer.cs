using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using NormLayers.Internals;
using NormLayers.Internals.Kernels;

namespace NormLayers;

/// <summary>
/// A layer that takes mean and variance over groups of elements and then applies a weight and a bias:
/// <c>y = (x - E[x]) / sqrt(Var[x] + eps) * weight + bias</c>. The layers differ in how they cut their input into groups
/// (and RMSNorm leaves the mean and the bias out).
/// </summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
public abstract class AffineNormLayer<T> : NormLayer<T> where T : unmanaged
{
    private protected AffineNormLayer(string name, double eps)
        : base(name)
        => Eps = eps;

    /// <summary>What threads pass to change the parameters' gradients and the buffers.</summary>
    private protected Lock Gate { get; } = new();

    /// <summary>Added to the variance (RMSNorm: to the mean square) under the root.</summary>
    public double Eps { get; }

    /// <summary>The factors, ones at first; null where the layer was made without.</summary>
    public Parameter<T>? Weight { get; private protected set; }

    /// <summary>The summands, zeros at first; null where the layer was made without.</summary>
    public Parameter<T>? Bias { get; private protected set; }

    /// <inheritdoc/>
    public override IReadOnlyList<Parameter<T>> Parameters => (Weight, Bias) switch
    {
        (null, _) => [],
        ({ } weight, null) => [weight],
        ({ } weight, { } bias) => [weight, bias],
    };

    /// <inheritdoc/>
    public override void Forward(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> destination)
        => Normalize(input, ForwardLayoutOf(input.Lengths), destination, []);

    internal override void ForwardOf<TInput>(in ReadOnlyTensorSpan<TInput> input, in TensorSpan<TInput> destination)
        => Normalize(input, ForwardLayoutOf(input.Lengths), destination, []);

    /// <inheritdoc/>
    public override Tensor<T> Forward(Tensor<T> input, out ForwardPass<T> pass, PassMemory keep = PassMemory.Input) => ForwardOf(input, out pass, keep);

    internal override Tensor<TInput> ForwardOf<TInput>(Tensor<TInput> input, out ForwardPass<TInput> pass, PassMemory keep)
    {
        ArgumentNullException.ThrowIfNull(input);
        RowLayout layout = ForwardLayoutOf(input.Lengths);
        if (keep == PassMemory.Output)
            CheckRecoverable<TInput>();
        Tensor<TInput> output = Layout.ResultLike(input.AsReadOnlyTensorSpan(), layout);
        var statistics = new GroupStatistics[layout.Groups];
        Normalize(input.AsReadOnlyTensorSpan(), layout, output.AsTensorSpan(), statistics);
        pass = new ForwardPass<TInput>(keep == PassMemory.Output ? output : input, keep, layout, statistics);
        return output;
    }

    /// <inheritdoc/>
    public override void Backward(in ReadOnlyTensorSpan<T> gradOutput, ForwardPass<T> pass, in TensorSpan<T> gradInput) => BackwardOf(gradOutput, pass, gradInput);

    internal override void BackwardOf<TInput>(in ReadOnlyTensorSpan<TInput> gradOutput, ForwardPass<TInput> pass, in TensorSpan<TInput> gradInput)
    {
        (Tensor<TInput> input, GroupStatistics[] statistics) = Recover(pass);
        Functional.RowBackward(gradOutput, input.AsReadOnlyTensorSpan(), pass.Layout, statistics, Functional.OrNone(Weight?.Value), gradInput, GradOf(Weight), GradOf(Bias), Gate, MaxThreads);
    }

    /// <inheritdoc/>
    public override Tensor<T> Jvp(ForwardPass<T> pass, Tensor<T>? inputTangent, Tensor<T>? weightTangent = null, Tensor<T>? biasTangent = null)
    {
        (Tensor<T> input, GroupStatistics[] statistics) = Recover(pass);
        CheckTangent(weightTangent, Weight, nameof(weightTangent));
        CheckTangent(biasTangent, Bias, nameof(biasTangent));
        Tensor<T> result = Tensor.CreateFromShapeUninitialized<T>(input.Lengths);
        Functional.RowJvp(input.AsReadOnlyTensorSpan(), pass.Layout, statistics, Functional.OrNone(Weight?.Value), Functional.OrNone(inputTangent), Functional.OrNone(weightTangent), Functional.OrNone(biasTangent), result.AsTensorSpan());
        return result;
    }

    /// <inheritdoc/>
    public override SecondOrderGradients<T> DoubleBackward(Tensor<T> gradOutput, ForwardPass<T> pass, Tensor<T>? gradGradInput, Tensor<T>? gradGradWeight = null, Tensor<T>? gradGradBias = null)
    {
        ArgumentNullException.ThrowIfNull(gradOutput);
        (Tensor<T> input, GroupStatistics[] statistics) = Recover(pass);
        CheckTangent(gradGradWeight, Weight, nameof(gradGradWeight));
        CheckTangent(gradGradBias, Bias, nameof(gradGradBias));
        var result = new SecondOrderGradients<T>(Tensor.CreateFromShapeUninitialized<T>(input.Lengths), Tensor.CreateFromShapeUninitialized<T>(input.Lengths));
        Functional.RowDoubleBackward(gradOutput.AsReadOnlyTensorSpan(), input.AsReadOnlyTensorSpan(), pass.Layout, statistics, Functional.OrNone(Weight?.Value),
            Functional.OrNone(gradGradInput), Functional.OrNone(gradGradWeight), Functional.OrNone(gradGradBias), result.GradOutput.AsTensorSpan(), result.Input.AsTensorSpan(), GradOf(Weight), Gate);
        return result;
    }

    /// <summary>A result is channels-last where the tensor is, and the layer can walk it so.</summary>
    internal sealed override Tensor<TInput> ResultLike<TInput>(Tensor<TInput> tensor)
        => Layout.ResultLike(tensor.AsReadOnlyTensorSpan(), LayoutOf(tensor.Lengths));

    /// <summary>Checks an input's shape and cuts it into groups.</summary>
    private protected abstract RowLayout LayoutOf(ReadOnlySpan<nint> input);

    /// <summary>The same for a forward, where the layer's mode may choose the statistics.</summary>
    private protected virtual RowLayout ForwardLayoutOf(ReadOnlySpan<nint> input) => LayoutOf(input);

    /// <summary>Applies the layer, and saves each group's statistics unless none are wanted.</summary>
    private protected virtual void Normalize<TInput>(in ReadOnlyTensorSpan<TInput> input, in RowLayout layout, in TensorSpan<TInput> destination, Span<GroupStatistics> statistics) where TInput : unmanaged
        => Functional.RowForward(input, layout, Functional.OrNone(Weight?.Value), Functional.OrNone(Bias?.Value), Eps, destination, statistics, MaxThreads);

    /// <summary>Whether a pass with a layout may be this layer's, which has a layout of its own for the pass's tensor.</summary>
    private protected virtual bool Makes(in RowLayout own, in RowLayout pass) => own == pass;

    private static TensorSpan<T> GradOf(Parameter<T>? parameter) => parameter is null ? default : parameter.Grad.AsTensorSpan();

    private static void CheckTangent(Tensor<T>? tangent, Parameter<T>? parameter, string name)
    {
        if (tangent is null)
            return;
        if (parameter is null)
            throw new ArgumentException($"Expected no {name}: the layer has no such parameter.", name);
        if (!tangent.Lengths.SequenceEqual(parameter.Value.Lengths))
            throw new ArgumentException($"Expected {name} of shape {Layout.Text(parameter.Value.Lengths)}, got {Layout.Text(tangent.Lengths)}.", name);
    }

    /// <summary>The input of a pass with its statistics; where the output was kept, the input less its mean.</summary>
    private (Tensor<TInput> Input, GroupStatistics[] Statistics) Recover<TInput>(ForwardPass<TInput> pass) where TInput : unmanaged
    {
        ArgumentNullException.ThrowIfNull(pass);
        if (!Makes(LayoutOf(pass.Kept.Lengths), pass.Layout))
            throw new ArgumentException($"Expected a pass of {this}, got one of a layer that groups {Layout.Text(pass.Kept.Lengths)} otherwise.", nameof(pass));
        if (pass.Memory == PassMemory.Input)
            return (pass.Kept, pass.SavedStatistics);

        CheckRecoverable<TInput>();
        Tensor<TInput> centered = Tensor.CreateFromShapeUninitialized<TInput>(pass.Kept.Lengths);
        var statistics = new GroupStatistics[pass.Statistics.Length];
        Functional.RecoverCentered(pass.Kept.AsReadOnlyTensorSpan(), centered.AsTensorSpan(), pass.Layout, pass.Statistics, in ReferenceOf(Weight), in ReferenceOf(Bias), statistics);
        return (centered, statistics);

        static ref readonly T ReferenceOf(Parameter<T>? parameter)
            => ref parameter is null ? ref Unsafe.NullRef<T>() : ref MemoryMarshal.GetReference(parameter.Elements);
    }

    private protected void CheckRecoverable<TInput>()
    {
        // Ten bits, or two of the eight or eleven: (y - bias) / weight has the rounding error of y, which grows with |bias| / |weight|.
        double mostBiasPerWeight = SixteenBits.Is<TInput>() ? 4 : 1024;
        if (Weight is null)
            return;
        double least = typeof(T) == typeof(double) ? 1e-290 : 1e-30;
        ReadOnlySpan<T> weights = Weight.Elements, biases = Bias is null ? [] : Bias.Elements;
        for (int index = 0; index < weights.Length; index++)
        {
            double weight = Math.Abs(Elements.ToDouble(weights[index])), bias = biases.IsEmpty ? 0 : Math.Abs(Elements.ToDouble(biases[index]));
            if (!(weight >= least && bias <= mostBiasPerWeight * weight))
                throw new InvalidOperationException($"The normalized value cannot be recovered from the output of {this}: weight element {index} is {weight} beside a bias of {bias}; expected a weight of at least {least} and 1/{mostBiasPerWeight} of the bias in magnitude. Keep the input instead (PassMemory.Input).");
        }
    }
}
