using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using NormLayers.Internals;

namespace NormLayers;

public static partial class Functional
{
    /// <summary>running = (1 - momentum) · running + momentum · statistic, in double, rounded once. The one place where running statistics change.</summary>
    internal static void UpdateRunning<T>(in TensorSpan<T> running, ReadOnlySpan<double> statistics, double momentum) where T : unmanaged
    {
        ref T first = ref TensorMarshal.GetReference(running);
        for (int c = 0; c < statistics.Length; c++)
            Unsafe.Add(ref first, c) = Elements.FromDouble<T>((1 - momentum) * Elements.ToDouble(Unsafe.Add(ref first, c)) + momentum * statistics[c]);
    }

    /// <summary>The factor from a biased variance of so many values to the unbiased one, which is what running variances average.</summary>
    internal static double Unbiased(nint count) => (double)count / (count - 1);

    private static void CheckRunning<T>(in TensorSpan<T> running, nint channels, string name)
    {
        if (running.Rank != 0 && (running.Rank != 1 || running.Lengths[0] != channels || !running.IsDense))
            throw new ArgumentException($"Expected a contiguous {name} of shape [{channels}], one value per channel of the input, got shape {Layout.Text(running.Lengths)} with strides {Layout.Text(running.Strides)}.", name);
    }
}
