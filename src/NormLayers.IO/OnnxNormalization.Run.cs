using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace NormLayers.IO;

/// <content>Running a node with ONNX's semantics, all of its results included.</content>
public sealed partial class OnnxNormalization
{
    /// <summary>Runs the node on its input, all other values being in the file.</summary>
    /// <typeparam name="T">The element type: <see cref="float"/> or <see cref="double"/>.</typeparam>
    /// <param name="input">The input, any strides.</param>
    /// <returns>The node's first result, a new tensor of the input's shape.</returns>
    /// <exception cref="ArgumentNullException"><paramref name="input"/> is null.</exception>
    /// <exception cref="ArgumentException">The layer refuses the input's shape.</exception>
    /// <exception cref="InvalidDataException">A value that the node needs is not in the file, or is not of a shape that it accepts.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public Tensor<T> Run<T>(Tensor<T> input)
        where T : unmanaged
        => Run(new Dictionary<string, Tensor<T>> { [Inputs[0]] = input })[0];

    /// <summary>Runs the node on values given by their names.</summary>
    /// <typeparam name="T">The element type: <see cref="float"/> or <see cref="double"/>.</typeparam>
    /// <param name="values">The input, and what else of <see cref="Inputs"/> is not in the file or is to be replaced; other names are ignored.</param>
    /// <returns>The results in the order of <see cref="Outputs"/>, new tensors; an empty one where the node leaves a result out.</returns>
    /// <exception cref="ArgumentNullException"><paramref name="values"/> is null.</exception>
    /// <exception cref="ArgumentException">The layer refuses the input's shape.</exception>
    /// <exception cref="InvalidDataException">A value that the node needs is neither given nor in the file, or is not of a shape that it accepts.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public IReadOnlyList<Tensor<T>> Run<T>(IReadOnlyDictionary<string, Tensor<T>> values)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(values);
        if (typeof(T) != typeof(float) && typeof(T) != typeof(double))
            throw new NotSupportedException($"{Where}: cannot run on {typeof(T).Name}; accepted are float and double.");
        if (!values.TryGetValue(Inputs[0], out Tensor<T>? input))
            throw Refusal.Of(Where, $"has the input {Refusal.Quote(Inputs[0])}, which was not given.");
        Tensor<T> Value(int index) => values.TryGetValue(node.Inputs[index]!, out Tensor<T>? given) ? given : Stored<T>(index);

        Tensor<T>?[] results = Operator switch
        {
            "MeanVarianceNormalization" => [MeanVariance(input)],
            "LpNormalization" => [Lp(input)],
            "BatchNormalization" when node.Training => TrainBatch(input, Value),
            "SkipLayerNormalization" or "SkipSimplifiedLayerNormalization" => AddAndNormalize(input, values, Value),
            _ => Normalize(input, Value),
        };
        var outputs = new List<Tensor<T>>();
        for (int i = 0; i < Outputs.Count; i++)
        {
            if (i < results.Length && results[i] is { } result)
                outputs.Add(result);
            else if (Outputs[i].Length > 0)
                throw Refusal.Of(Where, $"is asked for its result {i}, {Refusal.Quote(Outputs[i])}, which is not supported of a {Operator}.");
            else
                outputs.Add(Tensor.CreateFromShape<T>([0]));
        }
        return outputs;
    }

    /// <summary>The layer's result, then the mean and 1 / deviation where they are asked for.</summary>
    private Tensor<T>?[] Normalize<T>(Tensor<T> input, Func<int, Tensor<T>> value)
        where T : unmanaged
    {
        if (!OverLastAxes(input.Rank))
            return [NormalizeOver(input, value)];
        long?[] shape = [.. input.Lengths.ToArray().Select(length => (long?)length)];
        NormLayer<T> layer = ToLayer(shape, value);
        if (Outputs.Count == 1 || Operator != "LayerNormalization")
            return [layer.Forward(input)];

        Tensor<T> output = layer.Forward(input, out ForwardPass<T> pass);
        nint[] reduced = input.Lengths.ToArray();
        reduced.AsSpan((int)First(reduced.Length)).Fill(1);
        var (mean, rstd) = (Tensor.CreateFromShapeUninitialized<T>(reduced), Tensor.CreateFromShapeUninitialized<T>(reduced));
        Span<T> means = Elements(mean), rstds = Elements(rstd);
        for (int i = 0; i < pass.Statistics.Length; i++)
            (means[i], rstds[i]) = (FromDouble<T>(pass.Statistics[i].Mean), FromDouble<T>(pass.Statistics[i].Rstd));
        return [output, mean, rstd];
    }

    /// <summary>Over dimensions that are not the last ones: these are made the last, and put back in the result.</summary>
    private Tensor<T> NormalizeOver<T>(Tensor<T> input, Func<int, Tensor<T>> value)
        where T : unmanaged
    {
        int[] order = AxesLast(input, out nint[] lengths);
        string text = Operator == "LayerNormalization" ? "LayerNorm" : "RMSNorm";
        NormLayer<T> layer = NormLayer.Parse<T>($"{text}({Shapes.Format(lengths)}, eps={Python(node.Epsilon)}, elementwise_affine={(HasScale ? "True" : "False")}{(text == "LayerNorm" && !HasBias ? ", bias=False" : "")})");
        foreach (Parameter<T> parameter in layer.Parameters)
        {
            int index = parameter.Name == "weight" ? 1 : 2;
            Tensor<T> given = value(index);
            nint[] padded = [.. Enumerable.Repeat((nint)1, Math.Max(0, input.Rank - given.Rank)), .. given.Lengths];
            Tensor<T> moved = padded.Length == input.Rank ? Tensor.PermuteDimensions(given.Reshape(padded), order) : given;
            if (!Broadcasts(moved.Lengths, lengths))
                throw Refusal.Of(Where, $"has the {parameter.Name} {Refusal.Quote(node.Inputs[index])} of shape {Shapes.Format(given.Lengths)}; accepted is one value per position of the normalized dimensions, {Shapes.Format(lengths)}.");
            nint[] target = [.. Enumerable.Repeat((nint)1, moved.Rank - lengths.Length), .. lengths];
            Dense(Tensor.Broadcast<T>(moved, target)).Reshape(lengths).CopyTo(parameter.Value);
        }
        return Restore(layer.Forward(Tensor.PermuteDimensions(input, order)), order);
    }

    /// <summary>(x - E[x]) / (deviation + 1e-9): the epsilon is added to the root, not under it.</summary>
    private Tensor<T> MeanVariance<T>(Tensor<T> input)
        where T : unmanaged
    {
        int[] order = AxesLast(input, out nint[] lengths);
        Tensor<T> result = Dense(Tensor.PermuteDimensions(input, order));
        nint length = 1;
        foreach (nint factor in lengths)
            length *= factor;
        if (result.FlattenedLength == 0)
            return Restore(result, order);
        var statistics = new GroupStatistics[result.FlattenedLength / length];
        Tensor<T> discarded = Tensor.CreateFromShapeUninitialized<T>(result.Lengths);
        Functional.LayerNorm(result.AsReadOnlyTensorSpan(), lengths, default, default, eps: 0, discarded.AsTensorSpan(), statistics);
        Span<T> elements = Elements(result);
        for (int i = 0; i < elements.Length; i++)
        {
            GroupStatistics group = statistics[i / length];
            elements[i] = FromDouble<T>((ToDouble(elements[i]) - group.Mean) / ((1 / group.Rstd) + node.Epsilon));
        }
        return Restore(result, order);
    }

    /// <summary>x / norm. The operator has no epsilon: a smallest one keeps zeros zeros, as ONNX Runtime does.</summary>
    private Tensor<T> Lp<T>(Tensor<T> input)
        where T : unmanaged
    {
        if (node.Axis < -input.Rank || node.Axis >= input.Rank)
            throw Refusal.Of(Where, $"normalizes along axis {node.Axis}, and its input has the shape {Shapes.Format(input.Lengths)}.");
        return Functional.Normalize(input, node.P, (int)node.Axis, eps: typeof(T) == typeof(float) ? float.Epsilon : double.Epsilon);
    }

    /// <summary>The batch's statistics normalize; running ones move to them by 1 - momentum, the variance to the biased one (PyTorch's to the unbiased).</summary>
    private Tensor<T>?[] TrainBatch<T>(Tensor<T> input, Func<int, Tensor<T>> value)
        where T : unmanaged
    {
        if (input.Rank < 2)
            throw Refusal.Of(Where, $"has an input of shape {Shapes.Format(input.Lengths)}; accepted are at least 2 dimensions, (N, C, *).");
        nint channels = input.Lengths[1];
        Tensor<T> Fitted(int index) => Dense(Fit(value(index), [channels], index, perElement: false));
        (Tensor<T> runningMean, Tensor<T> runningVar) = (Fitted(3), Fitted(4));
        // With PyTorch's momentum 1 these become the batch's own.
        (Tensor<T> mean, Tensor<T> variance) = (Dense(runningMean), Dense(runningVar));
        Tensor<T> output = Functional.BatchNorm(input, mean, variance, Fitted(1), Fitted(2), training: true, momentum: 1, node.Epsilon);
        double count = channels == 0 ? 0 : input.FlattenedLength / channels, biased = (count - 1) / count;
        for (int c = 0; c < channels; c++)
        {
            Elements(runningMean)[c] = Mix(runningMean, ToDouble(Elements(mean)[c]), c);
            Elements(runningVar)[c] = Mix(runningVar, ToDouble(Elements(variance)[c]) * biased, c);
        }
        return [output, runningMean, runningVar];

        T Mix(Tensor<T> old, double statistic, int c) => FromDouble<T>((node.Momentum * ToDouble(Elements(old)[c])) + ((1 - node.Momentum) * statistic));
    }

    /// <summary>The Skip operators: input + skip + bias, normalized; the sum is the fourth result.</summary>
    private Tensor<T>?[] AddAndNormalize<T>(Tensor<T> input, IReadOnlyDictionary<string, Tensor<T>> values, Func<int, Tensor<T>> value)
        where T : unmanaged
    {
        Tensor<T> sum = Dense(input);
        foreach (string? name in node.Added)
        {
            if (name is null)
                continue;
            Tensor<T> added = values.TryGetValue(name, out Tensor<T>? given) ? given : node.Graph.Constant(name)?.ReadAs<T>()
                ?? throw Refusal.Of(Where, $"adds {Refusal.Quote(name)} to its input, which is not in the file and was not given.");
            if (!Broadcasts(added.Lengths, sum.Lengths))
                throw Refusal.Of(Where, $"adds {Refusal.Quote(name)} of shape {Shapes.Format(added.Lengths)} to its input of shape {Shapes.Format(sum.Lengths)}; accepted are shapes that broadcast to the input's.");
            Add(Elements(sum), Elements(Dense(Tensor.Broadcast<T>(added, sum.Lengths))));
        }
        string operation = Operator == "SkipLayerNormalization" ? "LayerNormalization" : "RMSNormalization";
        Tensor<T>?[] results = new OnnxNormalization(node with { Operator = operation, Added = [] }).Normalize(sum, value);
        return results.Length == 1 ? [results[0], null, null, sum] : [.. results, sum];
    }

    /// <summary>The order of dimensions that puts those that share statistics last, and their lengths.</summary>
    private int[] AxesLast<T>(Tensor<T> input, out nint[] lengths)
        where T : unmanaged
    {
        long[] axes = FromStart(node.Axes!, input.Rank);
        if (axes.Length == 0 || axes[0] < 0 || axes[^1] >= input.Rank || axes.Distinct().Count() < axes.Length)
            throw Refusal.Of(Where, $"takes its statistics over the dimensions {Shapes.Format([.. node.Axes!.Select(axis => (nint)axis)])}, and its input has the shape {Shapes.Format(input.Lengths)}.");
        nint[] shape = input.Lengths.ToArray();
        lengths = [.. axes.Select(axis => shape[axis])];
        return [.. Enumerable.Range(0, input.Rank).Where(axis => !axes.Contains(axis)), .. axes.Select(axis => (int)axis)];
    }

    private static Tensor<T> Restore<T>(Tensor<T> moved, int[] order)
        where T : unmanaged
    {
        var back = new int[order.Length];
        for (int i = 0; i < order.Length; i++)
            back[order[i]] = i;
        return Dense(Tensor.PermuteDimensions(moved, back));
    }

    private static Span<T> Elements<T>(Tensor<T> rowMajor)
        => rowMajor.FlattenedLength == 0 ? [] : MemoryMarshal.CreateSpan(ref TensorMarshal.GetReference(rowMajor.AsTensorSpan()), (int)rowMajor.FlattenedLength);

    private static void Add<T>(Span<T> sum, ReadOnlySpan<T> summand)
        where T : unmanaged
    {
        if (typeof(T) == typeof(float))
            TensorPrimitives.Add(MemoryMarshal.Cast<T, float>(sum), MemoryMarshal.Cast<T, float>(summand), MemoryMarshal.Cast<T, float>(sum));
        else
            TensorPrimitives.Add(MemoryMarshal.Cast<T, double>(sum), MemoryMarshal.Cast<T, double>(summand), MemoryMarshal.Cast<T, double>(sum));
    }

    private static double ToDouble<T>(T value)
        where T : unmanaged
        => typeof(T) == typeof(float) ? Unsafe.BitCast<T, float>(value) : Unsafe.BitCast<T, double>(value);

    private static T FromDouble<T>(double value)
        where T : unmanaged
        => typeof(T) == typeof(float) ? Unsafe.BitCast<float, T>((float)value) : Unsafe.BitCast<double, T>(value);
}
