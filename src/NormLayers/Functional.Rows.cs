using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using NormLayers.Internals;
using NormLayers.Internals.Kernels;

namespace NormLayers;

// What the layers with statistics share once their shapes are checked: from tensor spans and a layout to the kernels, RowNorm's where
// a group is contiguous in memory and ChannelNorm's where it is not.
public static partial class Functional
{
    internal static void RowForward<T, TParameter>(in ReadOnlyTensorSpan<T> input, in RowLayout layout, in ReadOnlyTensorSpan<TParameter> weight, in ReadOnlyTensorSpan<TParameter> bias, double eps, in TensorSpan<T> destination, Span<GroupStatistics> statistics, int maxThreads = 0, bool activated = false)
        where T : unmanaged
        where TParameter : unmanaged
    {
        RowLayout? channelsLast = activated ? null : ChannelLayout.InChannelsLast(layout, input.Lengths);
        Layout.CheckDestination(input, destination, nameof(destination), channelsLast is not null);
        Layout.CheckApart(weight, destination, nameof(weight), nameof(destination));
        Layout.CheckApart(bias, destination, nameof(bias), nameof(destination));
        if (layout.Groups == 0)
            return;
        RowLayout groups = Layout.OrderOf<T>(destination) == MemoryOrder.ChannelsLast ? channelsLast!.Value : layout;
        ref readonly T x = ref Layout.Contiguous(input, destination);
        ref T y = ref TensorMarshal.GetReference(destination);
        if (typeof(T) == typeof(double))
        {
            using ComputeOperand<TParameter, double> doubleWeight = new(weight), doubleBias = new(bias);
            Forward(in As<T, double>(in x), ref Unsafe.As<T, double>(ref y), groups, in doubleWeight.Reference, in doubleBias.Reference, eps, statistics, maxThreads, activated);
            return;
        }
        using ComputeOperand<TParameter, float> w = new(weight), b = new(bias);
        if (typeof(T) == typeof(float))
            Forward(in As<T, float>(in x), ref Unsafe.As<T, float>(ref y), groups, in w.Reference, in b.Reference, eps, statistics, maxThreads, activated);
        else if (groups.IsStrided)
            ChannelNorm.Forward(in x, ref y, groups.Strided, in w.Reference, in b.Reference, eps, statistics, maxThreads);
        else
            RowNorm.Forward(in x, ref y, groups, in w.Reference, in b.Reference, eps, statistics, maxThreads, in Unsafe.NullRef<T>(), ref Unsafe.NullRef<T>(), activated);

        static void Forward<TElement>(ref readonly TElement x, ref TElement y, in RowLayout groups, ref readonly TElement weight, ref readonly TElement bias, double eps, Span<GroupStatistics> statistics, int maxThreads, bool activated)
            where TElement : unmanaged, IFloatingPointIeee754<TElement>
        {
            if (groups.IsStrided)
                ChannelNorm.Forward(in x, ref y, groups.Strided, in weight, in bias, eps, statistics, maxThreads);
            else
                RowNorm.Forward(in x, ref y, groups, in weight, in bias, eps, statistics, maxThreads, in Unsafe.NullRef<TElement>(), ref Unsafe.NullRef<TElement>(), activated);
        }
    }

    /// <summary>Where several threads may add to the same parameter gradients, they pass the same gate.</summary>
    internal static void RowBackward<T, TParameter, TGradient>(in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, in RowLayout layout, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<TParameter> weight, in TensorSpan<T> gradInput, in TensorSpan<TGradient> gradWeight, in TensorSpan<TGradient> gradBias, Lock? gate = null, int maxThreads = 0, in ReadOnlyTensorSpan<T> gradSum = default, in ReadOnlyTensorSpan<TParameter> bias = default, bool activated = false)
        where T : unmanaged
        where TParameter : unmanaged
        where TGradient : unmanaged
    {
        CheckLike(gradOutput, input, nameof(gradOutput));
        CheckStatistics(statistics, layout);
        RowLayout? channelsLast = activated ? null : ChannelLayout.InChannelsLast(layout, input.Lengths);
        if (gradInput.Rank != 0)
            CheckGradient(gradInput, gradOutput, input, nameof(gradInput), channelsLast is not null);
        CheckApart(weight, gradInput, nameof(weight), nameof(gradInput));
        CheckParameterGradient(gradWeight, gradOutput, input, weight, gradInput, layout, nameof(gradWeight));
        CheckParameterGradient(gradBias, gradOutput, input, weight, gradInput, layout, nameof(gradBias));
        CheckApart(gradWeight.AsReadOnlyTensorSpan(), gradBias, nameof(gradWeight), nameof(gradBias));
        if (layout.Groups == 0)
            return;
        // The order of the result, or without one of the input, is everyone's.
        MemoryOrder order = Layout.OrderOf(gradInput.Rank == 0 ? input : gradInput);
        bool isChannelsLast = order == MemoryOrder.ChannelsLast && channelsLast is not null;
        order = isChannelsLast ? order : MemoryOrder.RowMajor;
        RowLayout groups = isChannelsLast ? channelsLast!.Value : layout;
        using var dy = new ContiguousOperand<T>(gradOutput, order);
        using var x = new ContiguousOperand<T>(input, order);
        using var dSum = new ContiguousOperand<T>(gradSum);
        using var sums = new RentedDoubles(layout.Parameters * 2);
        Span<double> weightSums = gradWeight.Rank == 0 ? [] : sums.Span[..(int)layout.Parameters];
        Span<double> biasSums = gradBias.Rank == 0 ? [] : sums.Span[(int)layout.Parameters..];
        if (SixteenBits.Is<T>())
        {
            using ComputeOperand<TParameter, float> w = new(weight), b = new(bias);
            if (groups.IsStrided)
                ChannelNorm.Backward(in dy.Reference, in x.Reference, ref OrNull(gradInput), groups.Strided, statistics, in w.Reference, weightSums, biasSums, maxThreads);
            else
                RowNorm.Backward(in dy.Reference, in x.Reference, ref OrNull(gradInput), groups, statistics, in w.Reference, weightSums, biasSums, maxThreads, in dSum.Reference, in b.Reference, activated);
        }
        else
        {
            using ComputeOperand<TParameter, T> w = new(weight), b = new(bias);
            if (groups.IsStrided)
                ChannelNorm.Backward(in dy.Reference, in x.Reference, ref OrNull(gradInput), groups.Strided, statistics, in w.Reference, weightSums, biasSums, maxThreads);
            else
                RowNorm.Backward(in dy.Reference, in x.Reference, ref OrNull(gradInput), groups, statistics, in w.Reference, weightSums, biasSums, maxThreads, in dSum.Reference, in b.Reference, activated);
        }
        AddTo(gradWeight, weightSums, gate);
        AddTo(gradBias, biasSums, gate);
    }

    internal static void RowJvp<T>(in ReadOnlyTensorSpan<T> input, in RowLayout layout, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> inputTangent, in ReadOnlyTensorSpan<T> weightTangent, in ReadOnlyTensorSpan<T> biasTangent, in TensorSpan<T> destination)
        where T : unmanaged
    {
        CheckStatistics(statistics, layout);
        CheckLikeOrNone(inputTangent, input, nameof(inputTangent));
        CheckParameterTangent(weightTangent, layout, nameof(weightTangent));
        CheckParameterTangent(biasTangent, layout, nameof(biasTangent));
        Layout.CheckDestination(input, destination, nameof(destination));
        if (inputTangent.Rank != 0)
            Layout.CheckDestination(inputTangent, destination, nameof(destination));
        Layout.CheckApart(weight, destination, nameof(weight), nameof(destination));
        Layout.CheckApart(weightTangent, destination, nameof(weightTangent), nameof(destination));
        Layout.CheckApart(biasTangent, destination, nameof(biasTangent), nameof(destination));
        if (layout.Groups == 0)
            return;
        using var x = new GroupedOperand<T>(input, layout);
        using var w = new ContiguousOperand<T>(weight);
        using var dx = new GroupedOperand<T>(inputTangent, layout);
        using var dw = new ContiguousOperand<T>(weightTangent);
        using var db = new ContiguousOperand<T>(biasTangent);
        using var y = new GroupedResult<T>(destination, layout);
        RowNorm.Jvp(in x.Reference, in dx.Reference, ref y.Reference, layout, statistics, in w.Reference, in dw.Reference, in db.Reference);
        y.Deliver();
    }

    internal static void RowDoubleBackward<T>(in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, in RowLayout layout, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> gradGradInput, in ReadOnlyTensorSpan<T> gradGradWeight, in ReadOnlyTensorSpan<T> gradGradBias, in TensorSpan<T> gradGradOutput, in TensorSpan<T> gradInput, in TensorSpan<T> gradWeight, Lock? gate = null)
        where T : unmanaged
    {
        CheckLike(gradOutput, input, nameof(gradOutput));
        CheckLikeOrNone(gradGradInput, input, nameof(gradGradInput));
        CheckStatistics(statistics, layout);
        CheckParameterTangent(gradGradWeight, layout, nameof(gradGradWeight));
        CheckParameterTangent(gradGradBias, layout, nameof(gradGradBias));
        CheckSecondGradients(gradGradOutput, gradInput, gradOutput, input, gradGradInput);
        CheckApartFromParameters(gradGradOutput, weight, gradGradWeight, gradGradBias, nameof(gradGradOutput));
        CheckApartFromParameters(gradInput, weight, gradGradWeight, gradGradBias, nameof(gradInput));
        CheckParameterGradient(gradWeight, gradOutput, input, weight, gradInput, layout, nameof(gradWeight));
        CheckApart(gradGradInput, gradWeight, nameof(gradGradInput), nameof(gradWeight));
        CheckApart(gradGradOutput.AsReadOnlyTensorSpan(), gradWeight, nameof(gradGradOutput), nameof(gradWeight));
        CheckApartFromParameters(gradWeight, weight, gradGradWeight, gradGradBias, nameof(gradWeight));
        if (layout.Groups == 0)
            return;
        using var dy = new GroupedOperand<T>(gradOutput, layout);
        using var x = new GroupedOperand<T>(input, layout);
        using var w = new ContiguousOperand<T>(weight);
        using var v = new GroupedOperand<T>(gradGradInput, layout);
        using var vw = new ContiguousOperand<T>(gradGradWeight);
        using var vb = new ContiguousOperand<T>(gradGradBias);
        using var sums = new RentedDoubles(gradWeight.Rank == 0 ? 0 : layout.Parameters);
        using var dyGradient = new GroupedResult<T>(gradGradOutput, layout);
        using var xGradient = new GroupedResult<T>(gradInput, layout);
        RowNorm.DoubleBackward(in dy.Reference, in x.Reference, in v.Reference, in vw.Reference, in vb.Reference, layout, statistics, in w.Reference, ref dyGradient.Reference, ref xGradient.Reference, sums.Span);
        dyGradient.Deliver();
        xGradient.Deliver();
        AddTo(gradWeight, sums.Span, gate);
    }

    /// <summary>Recovers the input less its mean from the output, for a layer's backward.</summary>
    internal static void RecoverCentered<T, TParameter>(in ReadOnlyTensorSpan<T> output, in TensorSpan<T> centered, in RowLayout layout, ReadOnlySpan<GroupStatistics> statistics, ref readonly TParameter weight, ref readonly TParameter bias, Span<GroupStatistics> centeredStatistics)
        where T : unmanaged
        where TParameter : unmanaged
    {
        if (layout.Groups == 0)
            return;
        using var y = new GroupedOperand<T>(output, layout);
        using var result = new GroupedResult<T>(centered, layout);
        RowNorm.RecoverCentered(in y.Reference, ref result.Reference, layout, statistics, in weight, in bias, centeredStatistics);
        result.Deliver();
    }

    internal static void CheckLike<T>(in ReadOnlyTensorSpan<T> tensor, in ReadOnlyTensorSpan<T> input, string name)
    {
        if (!tensor.Lengths.SequenceEqual(input.Lengths))
            throw new ArgumentException($"Expected {name} of the input's shape {Layout.Text(input.Lengths)}, got {Layout.Text(tensor.Lengths)}.", name);
    }

    private static void CheckLikeOrNone<T>(in ReadOnlyTensorSpan<T> tensor, in ReadOnlyTensorSpan<T> input, string name)
    {
        if (tensor.Rank != 0)
            CheckLike(tensor, input, name);
    }

    private static void CheckStatistics(ReadOnlySpan<GroupStatistics> statistics, in RowLayout layout)
    {
        if (statistics.Length != layout.Groups)
            throw new ArgumentException($"Expected the statistics of {layout.Groups} groups, as the forward saved them, got {statistics.Length}.", nameof(statistics));
    }

    /// <summary>Throws unless the gradient of the output fits the input, and that of the input can be written.</summary>
    internal static void CheckGradients<T>(in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, in TensorSpan<T> gradInput) where T : unmanaged
    {
        CheckLike(gradOutput, input, nameof(gradOutput));
        CheckGradient(gradInput, gradOutput, input, nameof(gradInput));
    }

    /// <summary>A gradient of the input may be absent, or lie exactly on the gradient of the output.</summary>
    private static void CheckGradient<T>(in TensorSpan<T> gradient, in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, string name, bool channelsLast = false) where T : unmanaged
    {
        Layout.CheckDestination(gradOutput, gradient, name, channelsLast);
        Layout.CheckDestination(input, gradient, name, channelsLast);
    }

    private static void CheckSecondGradients<T>(in TensorSpan<T> gradGradOutput, in TensorSpan<T> gradInput, in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, in ReadOnlyTensorSpan<T> gradGradInput) where T : unmanaged
    {
        CheckSecondGradient(gradGradOutput, gradOutput, input, gradGradInput, nameof(gradGradOutput));
        CheckSecondGradient(gradInput, gradOutput, input, gradGradInput, nameof(gradInput));
        CheckApart(gradGradOutput.AsReadOnlyTensorSpan(), gradInput, nameof(gradGradOutput), nameof(gradInput));
    }

    private static void CheckSecondGradient<T>(in TensorSpan<T> gradient, in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, in ReadOnlyTensorSpan<T> gradGradInput, string name) where T : unmanaged
    {
        if (gradient.Rank == 0)
            return;
        Layout.CheckDestination(gradOutput, gradient, name);
        Layout.CheckApart(gradOutput, gradient, nameof(gradOutput), name);
        Layout.CheckApart(input, gradient, nameof(input), name);
        Layout.CheckApart(gradGradInput, gradient, nameof(gradGradInput), name);
    }

    private static void CheckParameterGradient<T, TParameter, TGradient>(in TensorSpan<TGradient> gradient, in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, in ReadOnlyTensorSpan<TParameter> weight, in TensorSpan<T> gradInput, in RowLayout layout, string name) where T : unmanaged where TParameter : unmanaged where TGradient : unmanaged
    {
        if (gradient.Rank == 0)
            return;
        if (gradient.FlattenedLength != layout.Parameters || !gradient.IsDense)
            throw new ArgumentException($"Expected a contiguous {name} of {layout.Parameters} elements, got shape {Layout.Text(gradient.Lengths)} with strides {Layout.Text(gradient.Strides)}.", name);
        Layout.CheckApart(gradOutput, gradient, nameof(gradOutput), name);
        Layout.CheckApart(input, gradient, nameof(input), name);
        Layout.CheckApart(weight, gradient, nameof(weight), name);
        CheckApart(gradInput.AsReadOnlyTensorSpan(), gradient, nameof(gradInput), name);
    }

    private static void CheckApartFromParameters<T>(in TensorSpan<T> result, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> gradGradWeight, in ReadOnlyTensorSpan<T> gradGradBias, string name) where T : unmanaged
    {
        CheckApart(weight, result, nameof(weight), name);
        CheckApart(gradGradWeight, result, nameof(gradGradWeight), name);
        CheckApart(gradGradBias, result, nameof(gradGradBias), name);
    }

    internal static void CheckApart<TOperand, T>(in ReadOnlyTensorSpan<TOperand> operand, in TensorSpan<T> result, string operandName, string name) where TOperand : unmanaged where T : unmanaged
    {
        if (result.Rank != 0)
            Layout.CheckApart(operand, result, operandName, name);
    }

    private static void CheckParameterTangent<T>(in ReadOnlyTensorSpan<T> tangent, in RowLayout layout, string name)
    {
        if (tangent.Rank != 0 && tangent.FlattenedLength != layout.Parameters)
            throw new ArgumentException($"Expected {name} of {layout.Parameters} elements, got shape {Layout.Text(tangent.Lengths)}.", name);
    }

    private static void AddTo<T>(in TensorSpan<T> gradient, ReadOnlySpan<double> sums, Lock? gate) where T : unmanaged
    {
        if (gradient.Rank == 0)
            return;
        if (gate is not null)
        {
            lock (gate)
                AddTo(gradient, sums, null);
            return;
        }
        ref T first = ref TensorMarshal.GetReference(gradient);
        ref readonly double sum = ref MemoryMarshal.GetReference(sums);
        int i = 0;
        for (; i <= sums.Length - Elements.Step; i += Elements.Step)
        {
            (Vector512<double> lower, Vector512<double> upper) = Elements.Widen(in first, i);
            Elements.Narrow(lower + Vector512.LoadUnsafe(in sum, (nuint)i), upper + Vector512.LoadUnsafe(in sum, (nuint)i + 8), ref first, i);
        }
        for (; i < sums.Length; i++)
            Unsafe.Add(ref first, i) = Elements.FromDouble<T>(Elements.ToDouble(Unsafe.Add(ref first, i)) + sums[i]);
    }

    internal static ReadOnlyTensorSpan<T> OrNone<T>(Tensor<T>? tensor) => tensor is null ? default : tensor.AsReadOnlyTensorSpan();

    private static ref T OrNull<T>(in TensorSpan<T> tensor) => ref tensor.Rank == 0 ? ref Unsafe.NullRef<T>() : ref TensorMarshal.GetReference(tensor);

    private static ref readonly TTo As<TFrom, TTo>(ref readonly TFrom source) => ref Unsafe.As<TFrom, TTo>(ref Unsafe.AsRef(in source));
}
