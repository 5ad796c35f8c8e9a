using NormLayers.IO;

namespace NormLayers.Cli;

/// <summary>Which tensors of a file are a layer's weight and bias, under the names that frameworks give them.</summary>
internal sealed record ParameterNames(string Framework, string Weight, string Bias)
{
    private const int ShownPrefixes = 3;

    private static readonly ParameterNames[] All =
    [
        new("PyTorch", "weight", "bias"),
        new("Paddle", "w_0", "b_0"),
        new("Keras", "gamma", "beta"),
        new("Flax", "scale", "bias"),
    ];

    /// <summary>The tensors directly or further below a prefix: their names in the file, by the names a state dict has for them.</summary>
    /// <exception cref="Refused">No weight and no bias is directly below the prefix.</exception>
    public static List<(string Key, string Name)> Find(SafetensorsFile file, string? prefix)
    {
        string start = string.IsNullOrEmpty(prefix) || prefix.EndsWith('.') ? prefix ?? "" : prefix + ".";
        List<string> rests = file.Names.Where(name => name.StartsWith(start, StringComparison.Ordinal)).Select(name => name[start.Length..]).ToList();

        // Without a prefix the file may be a whole model; only its top level is meant.
        if (start.Length == 0)
            rests.RemoveAll(rest => rest.Contains('.', StringComparison.Ordinal));

        // The framework that explains most of the names, PyTorch before others: Flax shares its "bias".
        ParameterNames names = All.MaxBy(names => rests.Count(names.Has))!;
        if (!rests.Exists(names.Has))
            throw new Refused(NothingFound(file, prefix, start));
        return rests.OrderBy(rest => rest != names.Weight).Select(rest => (rest == names.Weight ? "weight" : rest == names.Bias ? "bias" : rest, start + rest)).ToList();
    }

    private bool Has(string name) => name == Weight || name == Bias;

    private static string NothingFound(SafetensorsFile file, string? prefix, string start)
    {
        List<string> prefixes = file.Names
            .Where(name => Array.Exists(All, names => names.Has(name[(name.LastIndexOf('.') + 1)..])))
            .Select(name => name[..Math.Max(0, name.LastIndexOf('.'))])
            .Distinct()
            .ToList();
        string accepted = string.Join(", ", All.Select(names => $"{names.Weight}/{names.Bias} ({names.Framework})"));
        string got = start.Length == 0 ? "has no weight or bias at its top level" : $"has no weight or bias under the prefix '{prefix}'";
        if (prefixes.Count == 0)
            return $"{file.Path}: {got}, nor under any other; accepted names are {accepted}.";

        List<string> near = start.Length == 0 ? [] : NearNames.Of(start.TrimEnd('.'), prefixes);
        string kind = near.Count == 0 ? $"among the {prefixes.Count} that do are" : "the nearest that do are";
        IEnumerable<string> shown = (near.Count == 0 ? prefixes : near).Take(ShownPrefixes).Select(name => name.Length == 0 ? "none (the top level)" : $"'{name}'");
        return $"{file.Path}: {got}; {kind} {string.Join(", ", shown)}; accepted names are {accepted}.";
    }
}
