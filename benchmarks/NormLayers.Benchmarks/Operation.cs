using System.Numerics.Tensors;

namespace NormLayers.Benchmarks;

/// <summary>A case as calls of the library, on operands of its own: its forward and its backward with all gradients.</summary>
internal abstract class Operation(BenchmarkCase benchmark) : IDisposable
{
    private const long LargestHot = 20_000_000, Rotation = 256_000_000;

    public BenchmarkCase Case { get; } = benchmark;

    /// <summary>The threads that forward and backward may use.</summary>
    public int Threads { get; set; } = 1;

    /// <summary>How many sets of operands the calls take turns on. All hold the same values: the time does not depend on them.</summary>
    public abstract int Sets { get; }

    /// <summary>The peers' rule: up to 20 MB of x and y one hot set of operands, above as many in turn as make 256 MB, at least three.</summary>
    public int SetsToRotate
    {
        get
        {
            long bytes = Case.Bytes(Pass.Forward);
            return bytes <= LargestHot ? 1 : (int)Math.Max(3, (Rotation + bytes - 1) / bytes);
        }
    }

    /// <summary>Adds sets up to a number of them.</summary>
    public abstract void Grow(int sets);

    /// <summary>Saves what the backward needs of each set.</summary>
    public abstract void Prepare();

    public abstract void Call(Pass pass, int set, int repeats);

    /// <summary>Computes a pass on the first set and returns its worst element.</summary>
    public abstract Deviation Check(Pass pass);

    /// <summary>The memory of a set.</summary>
    public abstract Streams Streams(int set);

    public abstract void Dispose();
}

/// <summary>A case of a layer whose parameters have a type that goes with the tensors'.</summary>
internal abstract unsafe class Operation<T, TParameter> : Operation
    where T : unmanaged
    where TParameter : unmanaged
{
    private readonly List<OperandSet<T>> sets = [];

    protected Operation(BenchmarkCase benchmark, NormLayer<TParameter> layer, Geometry geometry)
        : base(benchmark)
    {
        (Layer, Geometry) = (layer, geometry);
        foreach (Parameter<TParameter> parameter in layer.Parameters)
        {
            if (parameter.Name == "weight")
                RandomValues.Fill(parameter.Value, 7, 1, 0.1f);
            else
                RandomValues.Fill(parameter.Value, 8, 0, 1);
        }
        Grow(1);
    }

    public NormLayer<TParameter> Layer { get; }

    public override int Sets => sets.Count;

    protected Geometry Geometry { get; }

    /// <summary>The parameters and their gradients, for the reference.</summary>
    protected virtual ParameterValues Parameters => ParameterValues.Of(Layer.Parameters);

    public override void Grow(int count)
    {
        while (sets.Count < count)
        {
            var set = new OperandSet<T>(Case, Geometry.Strides);
            for (int i = 0; i < set.Reads.Length; i++)
            {
                ulong seed = (ulong)i + 1;
                set.Reads[i].Fill(index => RandomValues.At(index, seed));
            }
            sets.Add(set);
        }
    }

    public override void Prepare()
    {
        foreach (OperandSet<T> set in sets)
            set.Saved = Save(set.Reads[0].Tensor);
    }

    public override void Call(Pass pass, int set, int repeats)
    {
        Layer.MaxThreads = Threads;
        if (pass == Pass.Forward)
            Forward(sets[set], repeats);
        else
            Backward(sets[set], repeats);
    }

    public override Deviation Check(Pass pass)
    {
        // What the library leaves unwritten stays NaN, and a NaN is wrong.
        foreach (Operand<T> result in sets[0].Writes)
            result.Fill(_ => float.NaN);
        if (pass == Pass.Backward)
        {
            sets[0].Saved = Save(sets[0].Reads[0].Tensor);
            ZeroGradients();
        }
        Call(pass, 0, 1);
        return pass == Pass.Forward ? Geometry.Forward(sets[0], Parameters) : Geometry.Backward(sets[0], Parameters);
    }

    public override Streams Streams(int set)
    {
        Operand<T>[] reads = sets[set].Reads, writes = sets[set].Writes;
        return new Streams
        {
            X = (byte*)reads[0].Address,
            X2 = (byte*)reads[1].Address,
            X3 = reads.Length > 2 ? (byte*)reads[2].Address : null,
            Y = (byte*)writes[0].Address,
            Y2 = writes.Length > 1 ? (byte*)writes[1].Address : null,
        };
    }

    /// <summary>Lets the memory go now: the next case may need as much.</summary>
    public override void Dispose()
    {
        sets.Clear();
        GC.Collect();
    }

    protected virtual void Forward(OperandSet<T> set, int repeats)
    {
        ReadOnlyTensorSpan<T> x = set.Reads[0].Tensor.AsReadOnlyTensorSpan();
        TensorSpan<T> y = set.Writes[0].Tensor.AsTensorSpan();
        for (int i = 0; i < repeats; i++)
            Apply(x, y);
    }

    protected virtual void Backward(OperandSet<T> set, int repeats)
    {
        ReadOnlyTensorSpan<T> gradOutput = set.Reads[1].Tensor.AsReadOnlyTensorSpan();
        TensorSpan<T> gradInput = set.Writes[0].Tensor.AsTensorSpan();
        for (int i = 0; i < repeats; i++)
            Differentiate(gradOutput, set.Saved!, gradInput);
    }

    protected virtual void ZeroGradients() => Layer.ZeroGrad();

    protected abstract void Apply(in ReadOnlyTensorSpan<T> x, in TensorSpan<T> y);

    protected abstract ForwardPass<T> Save(Tensor<T> x);

    protected abstract void Differentiate(in ReadOnlyTensorSpan<T> gradOutput, ForwardPass<T> saved, in TensorSpan<T> gradInput);
}

/// <summary>A layer on tensors of its parameters' type.</summary>
internal class LayerOperation<T>(BenchmarkCase benchmark, NormLayer<T> layer, Geometry geometry) : Operation<T, T>(benchmark, layer, geometry)
    where T : unmanaged
{
    protected override void Apply(in ReadOnlyTensorSpan<T> x, in TensorSpan<T> y) => Layer.Forward(x, y);

    protected override ForwardPass<T> Save(Tensor<T> x)
    {
        Layer.Forward(x, out ForwardPass<T> pass);
        return pass;
    }

    protected override void Differentiate(in ReadOnlyTensorSpan<T> gradOutput, ForwardPass<T> saved, in TensorSpan<T> gradInput) => Layer.Backward(gradOutput, saved, gradInput);
}

/// <summary>A layer of float on 16-bit tensors.</summary>
internal sealed class MixedOperation<T>(BenchmarkCase benchmark, NormLayer<float> layer, Geometry geometry) : Operation<T, float>(benchmark, layer, geometry)
    where T : unmanaged
{
    protected override void Apply(in ReadOnlyTensorSpan<T> x, in TensorSpan<T> y) => Layer.Forward(x, y);

    protected override ForwardPass<T> Save(Tensor<T> x)
    {
        Layer.Forward(x, out ForwardPass<T> pass);
        return pass;
    }

    protected override void Differentiate(in ReadOnlyTensorSpan<T> gradOutput, ForwardPass<T> saved, in TensorSpan<T> gradInput) => Layer.Backward(gradOutput, saved, gradInput);
}
