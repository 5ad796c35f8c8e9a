using System.Numerics.Tensors;
using System.Runtime.InteropServices;

namespace NormLayers;

/// <summary>A learnable tensor of a layer: its value and its gradient.</summary>
/// <typeparam name="T">The element type.</typeparam>
/// <remarks>https://docs.pytorch.org/docs/stable/generated/torch.nn.parameter.Parameter.html</remarks>
public sealed class Parameter<T> where T : unmanaged
{
    private Tensor<T>? grad;

    internal Parameter(string name, ReadOnlySpan<nint> shape, T initial)
    {
        Name = name;
        Value = Tensor.CreateFromShapeUninitialized<T>(shape);
        Value.Fill(initial);
    }

    /// <summary>The parameter's name in its layer and in a state dict: <c>weight</c> or <c>bias</c>.</summary>
    public string Name { get; }

    /// <summary>The value, contiguous. Write into it to change the parameter.</summary>
    public Tensor<T> Value { get; }

    /// <summary>The gradient, of the value's shape: zeros until something is added. Its memory is taken on first use, so that inference does not pay for it.</summary>
    public Tensor<T> Grad => grad ?? Interlocked.CompareExchange(ref grad, Tensor.CreateFromShape<T>(Value.Lengths), null) ?? grad;

    /// <summary>The value's elements.</summary>
    internal ReadOnlySpan<T> Elements => MemoryMarshal.CreateReadOnlySpan(in TensorMarshal.GetReference(Value.AsReadOnlyTensorSpan()), (int)Value.FlattenedLength);

    /// <summary>Sets the gradient to zero.</summary>
    public void ZeroGrad() => grad?.Clear();

    /// <summary>Prints the parameter as PyTorch does: <c>Parameter containing:</c> and the tensor.</summary>
    /// <returns>The text of <c>print(parameter)</c> in Python.</returns>
    public override string ToString() => TensorPrinter.FormatParameter<T>(Value);
}
