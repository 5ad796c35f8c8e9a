using System.Collections;
using System.Diagnostics.CodeAnalysis;
using System.Numerics.Tensors;

namespace NormLayers;

/// <summary>Named tensors in order: what a layer's parameters and buffers are saved to and loaded from.</summary>
/// <remarks>
/// Element types may differ from entry to entry. <c>new StateDict { { "weight", w }, { "bias", b } }</c> makes one.
/// https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.state_dict
/// </remarks>
[SuppressMessage("Naming", "CA1710:Identifiers should have correct suffix", Justification = "PyTorch's word for it.")]
public sealed class StateDict : IReadOnlyCollection<KeyValuePair<string, IReadOnlyTensor>>
{
    private readonly OrderedDictionary<string, IReadOnlyTensor> entries = [];

    /// <summary>The number of entries.</summary>
    public int Count => entries.Count;

    /// <summary>The names, in the order in which they were added.</summary>
    public IReadOnlyList<string> Keys => entries.Keys;

    /// <summary>The tensor of a name, of any element type.</summary>
    /// <param name="name">The name.</param>
    /// <exception cref="KeyNotFoundException">There is no such entry.</exception>
    public IReadOnlyTensor this[string name] => entries.TryGetValue(name, out IReadOnlyTensor? tensor)
        ? tensor
        : throw new KeyNotFoundException($"The state dict has no entry \"{name}\"; it has {(Count == 0 ? "none" : string.Join(", ", entries.Keys))}.");

    /// <summary>Adds an entry. The tensor is kept, not copied.</summary>
    /// <typeparam name="T">The element type.</typeparam>
    /// <param name="name">The name.</param>
    /// <param name="tensor">The tensor.</param>
    /// <exception cref="ArgumentException">The name is taken.</exception>
    public void Add<T>(string name, Tensor<T> tensor)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(tensor);
        if (!entries.TryAdd(name, tensor))
            throw new ArgumentException($"The state dict already has an entry \"{name}\".", nameof(name));
    }

    /// <summary>The tensor of a name, as what it is.</summary>
    /// <typeparam name="T">The element type that it must have.</typeparam>
    /// <param name="name">The name.</param>
    /// <returns>The tensor that was added, not a copy.</returns>
    /// <exception cref="KeyNotFoundException">There is no such entry.</exception>
    /// <exception cref="InvalidCastException">Its elements are of another type.</exception>
    public Tensor<T> Get<T>(string name) => this[name] as Tensor<T>
        ?? throw new InvalidCastException($"Entry \"{name}\" is a {this[name]}, not a tensor of {typeof(T).Name}.");

    /// <summary>Looks an entry up.</summary>
    /// <param name="name">The name.</param>
    /// <param name="tensor">The tensor, where there is one.</param>
    /// <returns>Whether there is one.</returns>
    public bool TryGetValue(string name, [NotNullWhen(true)] out IReadOnlyTensor? tensor) => entries.TryGetValue(name, out tensor);

    /// <summary>Whether there is an entry of this name.</summary>
    /// <param name="name">The name.</param>
    /// <returns>True if there is.</returns>
    public bool ContainsKey(string name) => entries.ContainsKey(name);

    /// <summary>The entries in order.</summary>
    /// <returns>An enumerator over names and tensors.</returns>
    public IEnumerator<KeyValuePair<string, IReadOnlyTensor>> GetEnumerator() => entries.GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}

/// <summary>A state dict does not fit a layer. Nothing was loaded; every problem is listed.</summary>
public sealed class StateDictException : ArgumentException
{
    internal StateDictException(string layer, IReadOnlyList<string> missing, IReadOnlyList<string> unexpected, IReadOnlyList<string> mismatches)
        : base(Describe(layer, missing, unexpected, mismatches))
        => (MissingKeys, UnexpectedKeys, Mismatches) = (missing, unexpected, mismatches);

    /// <summary>Names that the layer has and the state dict lacks.</summary>
    public IReadOnlyList<string> MissingKeys { get; }

    /// <summary>Names that the state dict has and the layer lacks.</summary>
    public IReadOnlyList<string> UnexpectedKeys { get; }

    /// <summary>Entries of another shape or of a type that cannot be converted, one sentence each.</summary>
    public IReadOnlyList<string> Mismatches { get; }

    private static string Describe(string layer, IReadOnlyList<string> missing, IReadOnlyList<string> unexpected, IReadOnlyList<string> mismatches)
    {
        var problems = new List<string>();
        if (missing.Count > 0)
            problems.Add($"missing keys: {string.Join(", ", missing)}");
        if (unexpected.Count > 0)
            problems.Add($"unexpected keys: {string.Join(", ", unexpected)}");
        problems.AddRange(mismatches);
        return $"The state dict does not fit {layer}: {string.Join("; ", problems)}.";
    }
}
