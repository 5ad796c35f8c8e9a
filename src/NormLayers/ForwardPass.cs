using System.Numerics.Tensors;
using NormLayers.Internals.Kernels;

namespace NormLayers;

/// <summary>What a forward pass keeps for its backward.</summary>
public enum PassMemory
{
    /// <summary>The input. Always possible, and exact.</summary>
    Input,

    /// <summary>
    /// The output, from which the normalized value is recovered as (y - bias) / weight, so that the input can be let go. Costs
    /// up to ten bits of precision (in 16-bit types two) where the bias is large beside the weight, and is refused where it would cost more.
    /// </summary>
    Output,
}

/// <summary>One forward pass of a layer, kept for its backward: a tensor and the statistics of each group.</summary>
/// <typeparam name="T">The element type.</typeparam>
/// <remarks>
/// A pass belongs to no layer object: a layer may make any number of passes, on any threads, before their backwards, and each
/// backward uses the layer's parameters as they are then. The kept tensor is not copied: change it, and the backward is of another input.
/// </remarks>
public sealed class ForwardPass<T> where T : unmanaged
{
    internal ForwardPass(Tensor<T> kept, PassMemory memory, in RowLayout layout, GroupStatistics[] statistics)
        => (Kept, Memory, Layout, SavedStatistics) = (kept, memory, layout, statistics);

    /// <summary>The tensor that is kept: the forward's input, or its output.</summary>
    public Tensor<T> Kept { get; }

    /// <summary>Which of the two it is.</summary>
    public PassMemory Memory { get; }

    /// <summary>The mean and 1/deviation of each group, in row-major order; empty for layers without statistics.</summary>
    public ReadOnlySpan<GroupStatistics> Statistics => SavedStatistics;

    internal RowLayout Layout { get; }

    internal GroupStatistics[] SavedStatistics { get; }
}

/// <summary>The gradients of a backward pass with respect to its gradient of the output and its input.</summary>
/// <typeparam name="T">The element type.</typeparam>
/// <param name="GradOutput">With respect to the gradient of the output.</param>
/// <param name="Input">With respect to the input.</param>
public readonly record struct SecondOrderGradients<T>(Tensor<T> GradOutput, Tensor<T> Input) where T : unmanaged;
