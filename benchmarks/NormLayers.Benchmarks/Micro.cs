using System.Numerics.Tensors;
using BenchmarkDotNet.Attributes;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Diagnosers;
using BenchmarkDotNet.Jobs;
using BenchmarkDotNet.Reports;
using BenchmarkDotNet.Running;
using BenchmarkDotNet.Toolchains.InProcess.Emit;

namespace NormLayers.Benchmarks;

/// <summary>What a call costs beside its elements, and what it allocates, where there are few elements.</summary>
public class Micro
{
    private readonly Dictionary<string, (NormLayer<float> Layer, nint[] Shape)> calls = new()
    {
        ["LayerNorm (1, 4096)"] = (new LayerNorm<float>(4096), [1, 4096]),
        ["LayerNorm (20, 5, 10)"] = (new LayerNorm<float>(10), [20, 5, 10]),
        ["GroupNorm (20, 6, 10, 10)"] = (new GroupNorm<float>(3, 6), [20, 6, 10, 10]),
        ["LRN (1, 8, 4)"] = (new LocalResponseNorm<float>(5), [1, 8, 4]),
    };

    private NormLayer<float> layer = null!;
    private ForwardPass<float> pass = null!;
    private Tensor<float> input = null!, output = null!, gradOutput = null!, gradInput = null!;

    /// <summary>The calls that are measured.</summary>
    public IEnumerable<string> Calls => calls.Keys;

    /// <summary>The call that is measured.</summary>
    [ParamsSource(nameof(Calls))]
    public string Call { get; set; } = "";

    /// <summary>Makes the operands.</summary>
    [GlobalSetup]
    public void Prepare()
    {
        (layer, nint[] shape) = calls[Call];
        (input, gradOutput) = (Random(shape, 1), Random(shape, 2));
        (output, gradInput) = (Tensor.CreateFromShape<float>(shape), Tensor.CreateFromShape<float>(shape));
        layer.Forward(input, out pass);
    }

    /// <summary>The forward pass into a destination.</summary>
    [Benchmark]
    public void Forward() => layer.Forward(input.AsReadOnlyTensorSpan(), output.AsTensorSpan());

    /// <summary>The backward pass with all gradients, into destinations.</summary>
    [Benchmark]
    public void Backward() => layer.Backward(gradOutput.AsReadOnlyTensorSpan(), pass, gradInput.AsTensorSpan());

    internal static void Run()
    {
        // In this process: a generated project would have to repeat this repository's build settings.
        Job job = Job.Default.WithToolchain(InProcessEmitToolchain.Instance).WithWarmupCount(6).WithIterationCount(10);
        BenchmarkRunner.Run<Micro>(DefaultConfig.Instance.AddJob(job).AddDiagnoser(MemoryDiagnoser.Default)
            .WithSummaryStyle(SummaryStyle.Default.WithMaxParameterColumnWidth(40)));
    }

    private static Tensor<float> Random(nint[] shape, ulong seed)
    {
        Tensor<float> tensor = Tensor.CreateFromShape<float>(shape);
        nint index = 0;
        foreach (ref float value in tensor.AsTensorSpan())
            value = RandomValues.At(index++, seed);
        return tensor;
    }
}
