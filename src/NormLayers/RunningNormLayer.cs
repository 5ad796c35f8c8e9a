using System.Numerics.Tensors;
using NormLayers.Internals;

namespace NormLayers;

/// <summary>
/// A layer with a weight and a bias per channel that may keep running statistics of what it has seen in training, and use
/// them in evaluation mode: PyTorch's <c>_NormBase</c>, of which batch and instance normalization are made.
/// </summary>
/// <typeparam name="T">The element type: <see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
/// <remarks>
/// In training mode with tracking, a forward pass changes the buffers: <c>new = (1 - momentum) * old + momentum * statistic</c>
/// with the <b>unbiased</b> variance. Several threads may call it at once; the buffers then depend on the order of the calls.
/// A lazy layer takes its number of channels from its first input or state dict.
/// </remarks>
public abstract class RunningNormLayer<T> : AffineNormLayer<T> where T : unmanaged
{
    private readonly RunningArguments arguments;
    private volatile bool uninitialized;

    private protected RunningNormLayer(string name, in RunningArguments arguments)
        : base(name, arguments.Eps)
    {
        this.arguments = arguments;
        uninitialized = arguments.NumFeatures is null;
        if (arguments.NumFeatures is { } channels)
            Allocate(channels);
    }

    /// <summary>The number of channels; 0 for a lazy layer that has not met any.</summary>
    public nint NumFeatures { get; private set; }

    /// <summary>Whether this is a lazy layer that has met no input and no state dict yet, and so has no parameters and buffers.</summary>
    public bool HasUninitializedParameters => uninitialized;

    /// <inheritdoc/>
    /// <exception cref="InvalidOperationException">The layer is lazy and has none yet.</exception>
    public sealed override IReadOnlyList<Parameter<T>> Parameters
    {
        get
        {
            CheckInitialized();
            return base.Parameters;
        }
    }

    /// <summary>The share of a new statistic in a running one; null stands for batch normalization's cumulative average, 1 / <see cref="NumBatchesTracked"/>.</summary>
    public double? Momentum => arguments.Momentum is { } momentum ? momentum.Value : null;

    /// <summary>Whether the layer has a weight and a bias.</summary>
    public bool Affine => arguments.Affine;

    /// <summary>Whether the layer has running statistics.</summary>
    public bool TrackRunningStats => arguments.TrackRunningStats;

    /// <summary>The buffer <c>running_mean</c>, zeros at first; null without tracking.</summary>
    public Tensor<T>? RunningMean { get; private set; }

    /// <summary>The buffer <c>running_var</c>, ones at first; null without tracking.</summary>
    public Tensor<T>? RunningVar { get; private set; }

    /// <summary>The buffer <c>num_batches_tracked</c>, of shape [1], zero at first; null without tracking. Instance normalization has it and never counts, as in PyTorch.</summary>
    public Tensor<long>? NumBatchesTracked { get; private set; }

    /// <summary>Sets the running mean to zeros, the running variance to ones and the count of batches to zero.</summary>
    public void ResetRunningStats()
    {
        RunningMean?.Clear();
        RunningVar?.Fill(Elements.FromDouble<T>(1));
        NumBatchesTracked?.Clear();
    }

    /// <summary>Resets the running statistics, and sets the weight to ones and the bias to zeros.</summary>
    public void ResetParameters()
    {
        ResetRunningStats();
        Weight?.Value.Fill(Elements.FromDouble<T>(1));
        Bias?.Value.Clear();
    }

    /// <inheritdoc/>
    /// <remarks>A lazy layer that has no parameters yet has no gradients.</remarks>
    public sealed override void ZeroGrad()
    {
        Weight?.ZeroGrad();
        Bias?.ZeroGrad();
    }

    /// <inheritdoc/>
    public sealed override void LoadStateDict(StateDict state)
    {
        ArgumentNullException.ThrowIfNull(state);
        bool lazy = uninitialized;
        if (lazy)
            Initialize(ChannelsOf(state));
        try
        {
            base.LoadStateDict(state);
        }
        catch (StateDictException) when (lazy)
        {
            (Weight, Bias, RunningMean, RunningVar, NumBatchesTracked, NumFeatures) = (null, null, null, null, null, 0);
            uninitialized = true;
            throw;
        }
    }

    /// <inheritdoc/>
    public sealed override string ToString()
        => $"{(uninitialized ? "Lazy" : "")}{Name}({NumFeatures}, eps={arguments.Eps}, momentum={arguments.Momentum?.ToString() ?? PythonText.None}, affine={PythonText.Bool(Affine)}, track_running_stats={PythonText.Bool(TrackRunningStats)})";

    private protected sealed override IEnumerable<(string Name, Tensor<T> Value)> State()
        => RunningMean is null ? base.State() : base.State().Append(("running_mean", RunningMean)).Append(("running_var", RunningVar!));

    private protected sealed override Tensor<long>? BatchCounter => NumBatchesTracked;

    /// <summary>The number of an input's channels; throws where the layer as it is would refuse the input for any number, so that a lazy layer takes nothing from it.</summary>
    private protected abstract nint ForwardChannels(ReadOnlySpan<nint> input);

    internal sealed override void Prepare(ReadOnlySpan<nint> input) => Initialize(ForwardChannels(input));

    /// <summary>The number of channels in a state: the length of the layer's first vector in it, so that a refusal is of the others; 0 where it has nothing of the layer's.</summary>
    private nint ChannelsOf(StateDict state)
    {
        IEnumerable<string> names = [.. Affine ? ["weight", "bias"] : Array.Empty<string>(), .. TrackRunningStats ? ["running_mean", "running_var"] : Array.Empty<string>()];
        return names.Where(state.ContainsKey).Select(name => state[name]).OrderBy(static tensor => tensor.Rank == 1 ? 0 : 1).Select(static tensor => tensor.Lengths[0]).FirstOrDefault();
    }

    /// <summary>Gives a lazy layer its parameters and buffers; does nothing to any other.</summary>
    private void Initialize(nint channels)
    {
        if (!uninitialized)
            return;
        lock (Gate)
        {
            // A layer with nothing to initialize keeps its 0 features, as in PyTorch.
            if (uninitialized && (Affine || TrackRunningStats))
                Allocate(channels);
            uninitialized = false;
        }
    }

    private protected void CheckInitialized()
    {
        if (uninitialized)
            throw new InvalidOperationException($"{this} has no parameters yet: it gets them from its first Forward or from LoadStateDict.");
    }

    private void Allocate(nint channels)
    {
        NumFeatures = CheckFeatures(channels);
        if (Affine)
        {
            Weight = new Parameter<T>("weight", [channels], Elements.FromDouble<T>(1));
            Bias = new Parameter<T>("bias", [channels], Elements.FromDouble<T>(0));
        }
        if (TrackRunningStats)
        {
            RunningMean = Tensor.CreateFromShape<T>([channels]);
            RunningVar = Tensor.CreateFromShape<T>([channels]);
            NumBatchesTracked = Tensor.CreateFromShape<long>([1]);
            ResetRunningStats();
        }
    }

    private static nint CheckFeatures(nint numFeatures)
        => numFeatures >= 0 && numFeatures <= Array.MaxLength ? numFeatures
            : throw new ArgumentOutOfRangeException(nameof(numFeatures), numFeatures, $"Expected zero to {Array.MaxLength} channels.");

    /// <summary>The arguments of a Python call of a layer with these defaults, or of its lazy form, whose defaults are both true.</summary>
    private protected static RunningArguments ArgumentsOf(PythonCall call, string name, bool affine, bool trackRunningStats, bool processGroup = false)
    {
        string[] group = processGroup ? ["process_group"] : [];
        ReadOnlySpan<string> parameters = ["num_features", "eps", "momentum", "affine", "track_running_stats", .. group, "device", "dtype"];
        bool lazy = call.Name != name;
        // A lazy layer takes no number of features, but prints one: LazyInstanceNorm1d(0, eps=1e-05, ...).
        bool printed = call.Values is [{ Kind: PythonKind.Int, Int: 0 }] && call.Keywords.Any(static keyword => keyword.Key == "eps");
        PythonArguments bound = lazy ? call.Bind("Lazy" + name, printed ? parameters : parameters[1..]) : call.Bind(name, parameters);
        CheckFactory(bound);
        if (bound.Find("process_group") is { Kind: not PythonKind.None } processes)
            throw new FormatException($"{name}: 'process_group' expects None, since there is one process, got {processes}.");
        return new RunningArguments(lazy ? null : bound.Int("num_features"), bound.Float("eps", 1e-5), bound.OptionalFloat("momentum", 0.1),
            bound.Bool("affine", lazy || affine), bound.Bool("track_running_stats", lazy || trackRunningStats));
    }
}

/// <summary>The constructor arguments of a <see cref="RunningNormLayer{T}"/>, numbers as they were written; without a number of features it is lazy.</summary>
internal readonly record struct RunningArguments(nint? NumFeatures, PythonNumber Eps, PythonNumber? Momentum, bool Affine, bool TrackRunningStats)
{
    internal static RunningArguments Of(nint? numFeatures, double eps, double? momentum, bool affine, bool trackRunningStats)
        => new(numFeatures, eps, momentum is { } number ? (PythonNumber)number : null, affine, trackRunningStats);
}
