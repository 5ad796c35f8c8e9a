using System.Numerics.Tensors;
using NormLayers.Internals;
using NormLayers.Internals.Kernels;

namespace NormLayers;

/// <summary>
/// Group normalization: <c>y = (x - E[x]) / sqrt(Var[x] + eps) * weight[c] + bias[c]</c>, the mean and the biased variance
/// taken over each sample's groups of channels with all their positions.
/// </summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
/// <remarks>
/// <para>Shapes: input and output (N, C, *) with C = numChannels. The same in training and evaluation. One group per channel
/// is instance normalization; one group in all is layer normalization over (C, *), with an affine per channel.</para>
/// <para>Wu and He 2018, https://arxiv.org/abs/1803.08494; https://docs.pytorch.org/docs/stable/generated/torch.nn.GroupNorm.html.</para>
/// </remarks>
/// <example><code>
/// var norm = new GroupNorm&lt;float&gt;(numGroups: 3, numChannels: 6);
/// Tensor&lt;float&gt; y = norm.Forward(x);            // x of shape (N, 6, ...)
/// </code></example>
public sealed class GroupNorm<T> : AffineNormLayer<T> where T : unmanaged
{
    private PythonNumber printedEps;

    /// <summary>Makes a layer.</summary>
    /// <param name="numGroups">The number of groups of a sample's channels. A negative divisor of numChannels is accepted, as in PyTorch, and refused by Forward.</param>
    /// <param name="numChannels">The number of channels; divisible by numGroups.</param>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <param name="affine">Whether the layer has a weight (ones at first) and a bias (zeros at first), one value per channel.</param>
    /// <exception cref="ArgumentOutOfRangeException">numGroups is zero, or numChannels is negative or more than an array can hold.</exception>
    /// <exception cref="ArgumentException">numChannels is not divisible by numGroups.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public GroupNorm(nint numGroups, nint numChannels, double eps = 1e-5, bool affine = true)
        : base("GroupNorm", eps)
    {
        if (numGroups == 0)
            throw new ArgumentOutOfRangeException(nameof(numGroups), numGroups, "Expected at least one group.");
        if (numChannels < 0 || (affine && numChannels > Array.MaxLength))
            throw new ArgumentOutOfRangeException(nameof(numChannels), numChannels, $"Expected zero to {Array.MaxLength} channels.");
        if (numChannels % numGroups != 0)
            throw new ArgumentException($"Expected a number of channels that is divisible by the number of groups {numGroups}, got {numChannels}.", nameof(numChannels));

        (NumGroups, NumChannels, printedEps, Affine) = (numGroups, numChannels, eps, affine);
        if (affine)
        {
            Weight = new Parameter<T>("weight", [numChannels], Elements.FromDouble<T>(1));
            Bias = new Parameter<T>("bias", [numChannels], Elements.FromDouble<T>(0));
        }
    }

    /// <summary>The number of groups that a sample's channels are cut into.</summary>
    public nint NumGroups { get; }

    /// <summary>The number of channels that weight and bias are for. Without them any number that is divisible by <see cref="NumGroups"/> is accepted.</summary>
    public nint NumChannels { get; }

    /// <summary>Whether the layer has a weight and a bias.</summary>
    public bool Affine { get; }

    /// <inheritdoc/>
    public override string ToString()
        => $"GroupNorm({NumGroups}, {NumChannels}, eps={printedEps}, affine={PythonText.Bool(Affine)})";

    private protected override RowLayout LayoutOf(ReadOnlySpan<nint> input) => Functional.GroupNormLayout(input, NumGroups, Functional.OrNone(Weight?.Value), default);

    internal static GroupNorm<T> FromCall(PythonCall call)
    {
        PythonArguments arguments = call.Bind("GroupNorm", "num_groups", "num_channels", "eps", "affine", "device", "dtype");
        CheckFactory(arguments);
        PythonNumber eps = arguments.Float("eps", 1e-5);
        return new GroupNorm<T>(arguments.Int("num_groups"), arguments.Int("num_channels"), eps, arguments.Bool("affine", true)) { printedEps = eps };
    }
}
