using System.Numerics;
using System.Numerics.Tensors;
using NormLayers.IO;
using NormLayers.Tests.IO;
using NormLayers.Tests.Properties;
using Xunit;

namespace NormLayers.Tests.Gradients;

/// <summary>A layer trained, saved and loaded.</summary>
public abstract class TrainingTests<T> where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    [Theory]
    [InlineData("LayerNorm((7,), eps=1e-05, elementwise_affine=True)")]
    [InlineData("GroupNorm(2, 6, eps=1e-05, affine=True)")]
    public void Layer_TrainedSavedAndLoaded_HasTheSameBits(string text)
    {
        NormLayer<T> layer = NormLayer.Parse<T>(text), teacher = NormLayer.Parse<T>(text);
        var generator = new Generator(1);
        foreach (Parameter<T> parameter in teacher.Parameters)
            Tensor.Create(generator.Values<T>((int)parameter.Value.FlattenedLength), parameter.Value.Lengths).CopyTo(parameter.Value);
        Tensor<T> x = Tensor.Create(generator.Values<T>(5 * 6 * 7), [5, 6, 7]);
        T[] target = Tensors.ToArray(teacher.Forward(x));

        var losses = new List<double>();
        for (int step = 0; step < 30; step++)
        {
            layer.ZeroGrad();
            T[] y = Tensors.ToArray(layer.Forward(x, out ForwardPass<T> pass));
            T[] residual = [.. y.Zip(target, (actual, expected) => actual - expected)];
            losses.Add(GradientRun.Widen(residual).Sum(r => r * r));
            layer.Backward(Tensor.Create(residual, x.Lengths), pass);
            foreach (Parameter<T> parameter in layer.Parameters)
            {
                T[] value = Tensors.ToArray(parameter.Value), grad = Tensors.ToArray(parameter.Grad);
                for (int i = 0; i < value.Length; i++)
                    value[i] -= T.CreateTruncating(0.02) * grad[i];
                Tensor.Create(value, parameter.Value.Lengths).CopyTo(parameter.Value);
            }
        }
        Assert.True(losses[^1] < losses[0] * 1e-3, $"the loss went from {losses[0]} to {losses[^1]}");

        using var folder = new TempFolder();
        StateDict state = layer.StateDict();
        var writer = new SafetensorsWriter();
        foreach (string name in state.Keys)
            writer.Add(name, state.Get<T>(name));
        writer.Save(folder["trained.safetensors"]);
        using SafetensorsFile file = SafetensorsFile.Open(folder["trained.safetensors"]);
        Assert.Equal(["bias", "weight"], file.Names.Order(StringComparer.Ordinal));
        var loaded = new StateDict();
        foreach (string name in file.Names)
            loaded.Add(name, file.Read<T>(name));
        NormLayer<T> other = NormLayer.Parse<T>(text);
        other.LoadStateDict(loaded);
        for (int p = 0; p < 2; p++)
            Assert.Equal(Tensors.ToArray(layer.Parameters[p].Value), Tensors.ToArray(other.Parameters[p].Value));
        Assert.Equal(Tensors.ToArray(layer.Forward(x)), Tensors.ToArray(other.Forward(x)));
    }
}

public sealed class FloatTrainingTests : TrainingTests<float>;

public sealed class DoubleTrainingTests : TrainingTests<double>;
