using System.Numerics.Tensors;

namespace NormLayers.Benchmarks;

/// <summary>A residual added, then LayerNorm or, without a bias, RMSNorm.</summary>
internal sealed class AddNormOperation<T>(BenchmarkCase benchmark, AffineNormLayer<T> layer, Geometry geometry) : LayerOperation<T>(benchmark, layer, geometry)
    where T : unmanaged
{
    private readonly nint[] shape = [benchmark.Count];
    private readonly Parameter<T> weight = layer.Weight!;
    private readonly Parameter<T>? bias = layer.Bias;
    private readonly double eps = layer.Eps;

    protected override void Forward(OperandSet<T> set, int repeats)
    {
        ReadOnlyTensorSpan<T> x = set.Reads[0].Tensor.AsReadOnlyTensorSpan(), residual = set.Reads[1].Tensor.AsReadOnlyTensorSpan(), w = weight.Value.AsReadOnlyTensorSpan();
        TensorSpan<T> y = set.Writes[0].Tensor.AsTensorSpan(), sum = set.Writes[1].Tensor.AsTensorSpan();
        for (int i = 0; i < repeats; i++)
        {
            if (bias is null)
                Functional.AddRMSNorm(x, residual, shape, w, eps, sum, y, maxThreads: Threads);
            else
                Functional.AddLayerNorm(x, residual, shape, w, bias.Value.AsReadOnlyTensorSpan(), eps, sum, y, maxThreads: Threads);
        }
    }

    protected override void Backward(OperandSet<T> set, int repeats)
    {
        ReadOnlyTensorSpan<T> sum = set.Reads[0].Tensor.AsReadOnlyTensorSpan(), gradOutput = set.Reads[1].Tensor.AsReadOnlyTensorSpan(), gradSum = set.Reads[2].Tensor.AsReadOnlyTensorSpan();
        ReadOnlyTensorSpan<T> w = weight.Value.AsReadOnlyTensorSpan();
        TensorSpan<T> gradInput = set.Writes[0].Tensor.AsTensorSpan(), gradWeight = weight.Grad.AsTensorSpan();
        for (int i = 0; i < repeats; i++)
        {
            if (bias is null)
                Functional.AddRMSNormBackward(gradOutput, gradSum, sum, shape, set.Saved!.Statistics, w, gradInput, gradWeight, Threads);
            else
                Functional.AddLayerNormBackward(gradOutput, gradSum, sum, shape, set.Saved!.Statistics, w, gradInput, gradWeight, bias.Grad.AsTensorSpan(), Threads);
        }
    }
}

/// <summary>GroupNorm, then SiLU.</summary>
internal sealed class GroupNormSiLUOperation<T>(BenchmarkCase benchmark, AffineNormLayer<T> layer, Geometry geometry) : LayerOperation<T>(benchmark, layer, geometry)
    where T : unmanaged
{
    private readonly nint groups = benchmark.Count;
    private readonly Parameter<T> weight = layer.Weight!, bias = layer.Bias!;
    private readonly double eps = layer.Eps;

    protected override void Forward(OperandSet<T> set, int repeats)
    {
        ReadOnlyTensorSpan<T> x = set.Reads[0].Tensor.AsReadOnlyTensorSpan();
        TensorSpan<T> y = set.Writes[0].Tensor.AsTensorSpan();
        for (int i = 0; i < repeats; i++)
            Functional.GroupNormSiLU(x, groups, weight.Value.AsReadOnlyTensorSpan(), bias.Value.AsReadOnlyTensorSpan(), eps, y, maxThreads: Threads);
    }

    protected override void Backward(OperandSet<T> set, int repeats)
    {
        ReadOnlyTensorSpan<T> x = set.Reads[0].Tensor.AsReadOnlyTensorSpan(), gradOutput = set.Reads[1].Tensor.AsReadOnlyTensorSpan();
        TensorSpan<T> gradInput = set.Writes[0].Tensor.AsTensorSpan();
        for (int i = 0; i < repeats; i++)
        {
            Functional.GroupNormSiLUBackward(gradOutput, x, groups, set.Saved!.Statistics, weight.Value.AsReadOnlyTensorSpan(), bias.Value.AsReadOnlyTensorSpan(),
                gradInput, weight.Grad.AsTensorSpan(), bias.Grad.AsTensorSpan(), Threads);
        }
    }
}

/// <summary>LayerNorm with a scale and a shift for each sample.</summary>
internal sealed class AdaptiveOperation<T> : LayerOperation<T>
    where T : unmanaged
{
    private readonly nint[] shape;
    private readonly Tensor<T> scale, shift, gradScale, gradShift;
    private readonly double eps;

    public AdaptiveOperation(BenchmarkCase benchmark, AffineNormLayer<T> layer, Geometry geometry)
        : base(benchmark, layer, geometry)
    {
        (shape, eps) = ([benchmark.Count], layer.Eps);
        nint[] ofSamples = [benchmark.Dims[0], benchmark.Count];
        (scale, shift) = (Tensor.CreateFromShape<T>(ofSamples), Tensor.CreateFromShape<T>(ofSamples));
        (gradScale, gradShift) = (Tensor.CreateFromShape<T>(ofSamples), Tensor.CreateFromShape<T>(ofSamples));
        RandomValues.Fill(scale, 7, 0, 0.1f);
        RandomValues.Fill(shift, 8, 0, 1);
    }

    /// <summary>The weight is 1 + scale, rounded to float.</summary>
    protected override ParameterValues Parameters
        => new([.. ParameterValues.Doubles(scale).Select(value => (double)(float)(1 + value))], ParameterValues.Doubles(shift), ParameterValues.Doubles(gradScale), ParameterValues.Doubles(gradShift), Precision.Of<T>());

    protected override void Forward(OperandSet<T> set, int repeats)
    {
        ReadOnlyTensorSpan<T> x = set.Reads[0].Tensor.AsReadOnlyTensorSpan();
        TensorSpan<T> y = set.Writes[0].Tensor.AsTensorSpan();
        for (int i = 0; i < repeats; i++)
            Functional.AdaptiveLayerNorm(x, shape, scale.AsReadOnlyTensorSpan(), shift.AsReadOnlyTensorSpan(), eps, y, maxThreads: Threads);
    }

    protected override void Backward(OperandSet<T> set, int repeats)
    {
        ReadOnlyTensorSpan<T> x = set.Reads[0].Tensor.AsReadOnlyTensorSpan(), gradOutput = set.Reads[1].Tensor.AsReadOnlyTensorSpan();
        TensorSpan<T> gradInput = set.Writes[0].Tensor.AsTensorSpan();
        for (int i = 0; i < repeats; i++)
            Functional.AdaptiveLayerNormBackward(gradOutput, x, shape, set.Saved!.Statistics, scale.AsReadOnlyTensorSpan(), gradInput, gradScale.AsTensorSpan(), gradShift.AsTensorSpan(), Threads);
    }

    protected override void ZeroGradients()
    {
        gradScale.AsTensorSpan().Clear();
        gradShift.AsTensorSpan().Clear();
    }
}
