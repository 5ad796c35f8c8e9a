namespace NormLayers.IO;

/// <summary>Which tensors of a file are a layer's parameters, under the names that frameworks give them.</summary>
internal sealed record ParameterNames(string Framework, string Weight, string Bias, string RunningMean, string RunningVar)
{
    public const string BatchCounter = "num_batches_tracked";

    private const int ShownPrefixes = 3;
    private const string FlaxParameters = "params";
    private const string FlaxStatistics = "batch_stats";

    // PyTorch before the others, which share its names.
    public static readonly ParameterNames[] All =
    [
        new("PyTorch", "weight", "bias", "running_mean", "running_var"),
        new("Paddle", "w_0", "b_0", "w_1", "w_2"),
        new("Keras", "gamma", "beta", "moving_mean", "moving_variance"),
        new("Flax", "scale", "bias", "mean", "var"),
        // Its models of version 2; the other names are those of its programs.
        new("Paddle", "weight", "bias", "_mean", "_variance"),
    ];

    /// <summary>What a name stands for, as a state dict calls it; null for a name that these are not.</summary>
    public string? Role(string name)
        => name == Weight ? "weight" : name == Bias ? "bias" : name == RunningMean ? "running_mean" : name == RunningVar ? "running_var"
            : name == BatchCounter && Framework == "PyTorch" ? name : null;

    /// <summary>Cuts a tensor's name after its last point or slash.</summary>
    public static (string Prefix, string Last) Split(string name)
    {
        // Keras ends its names with the number of the output, ":0".
        int end = name.EndsWith(":0", StringComparison.Ordinal) ? name.Length - 2 : name.Length;
        int cut = name.AsSpan(0, end).LastIndexOfAny('.', '/');
        return (name[..Math.Max(0, cut)], name[(cut + 1)..end]);
    }

    /// <summary>Where Flax has the running statistics of a layer whose weight and bias are under a prefix: in a collection of their own. Null for other prefixes.</summary>
    public static string? StatisticsPrefix(string prefix)
        => prefix.StartsWith(FlaxParameters, StringComparison.Ordinal) && prefix.AsSpan(FlaxParameters.Length) is ['.' or '/', ..] ? FlaxStatistics + prefix[FlaxParameters.Length..] : null;

    /// <summary>The tensors directly or further below a prefix: their names in the file, by the names a state dict has for them.</summary>
    /// <exception cref="InvalidDataException">No parameter is directly below the prefix.</exception>
    public static List<(string Key, string Name)> Find(SafetensorsFile file, string? prefix)
    {
        string start = prefix is [.. var most, '.' or '/'] ? most : prefix ?? "";
        string?[] starts = [start, StatisticsPrefix(start)];
        var rests = new List<(string Below, string Name)>();
        foreach (string name in file.Names)
        {
            (string above, string last) = Split(name);
            // Without a prefix the file may be a whole model; only its top level is meant.
            if (starts.Contains(above))
                rests.Add((last, name));
            else if (start.Length > 0 && name.StartsWith(start, StringComparison.Ordinal) && name.AsSpan(start.Length) is ['.' or '/', ..])
                rests.Add((name[(start.Length + 1)..], name));
        }

        // The framework that explains most of the names.
        ParameterNames names = All.MaxBy(names => rests.Count(found => names.Role(found.Below) is not null))!;
        if (!rests.Exists(found => names.Role(found.Below) is not null))
            throw NothingFound(file, prefix, start);

        // Paddle's w_1 and w_2 are running statistics only where both are there.
        bool running = rests.Exists(found => found.Below == names.RunningMean) && rests.Exists(found => found.Below == names.RunningVar);
        string Key(string rest) => names.Role(rest) is { } role && (running || !role.StartsWith("running", StringComparison.Ordinal)) ? role : rest;
        return rests.OrderBy(found => found.Below != names.Weight).Select(found => (Key(found.Below), found.Name)).ToList();
    }

    private bool Has(string name) => name == Weight || name == Bias;

    private static InvalidDataException NothingFound(SafetensorsFile file, string? prefix, string start)
    {
        List<string> prefixes = file.Names
            .Select(Split)
            .Where(name => Array.Exists(All, names => names.Has(name.Last)))
            .Select(name => name.Prefix)
            .Distinct()
            .ToList();
        string accepted = string.Join(", ", All.DistinctBy(names => names.Weight).Select(names => $"{names.Weight}/{names.Bias} ({names.Framework})"));
        string got = start.Length == 0 ? "has no weight or bias at its top level" : $"has no weight or bias under the prefix {Refusal.Quote(prefix)}";
        if (prefixes.Count == 0)
            return Refusal.Of(file.Path, $"{got}, nor under any other; accepted names are {accepted}.");

        List<string> near = start.Length == 0 ? [] : NearNames.Of(start, prefixes);
        string kind = near.Count == 0 ? $"among the {prefixes.Count} that do are" : "the nearest that do are";
        IEnumerable<string> shown = (near.Count == 0 ? prefixes : near).Take(ShownPrefixes).Select(name => name.Length == 0 ? "none (the top level)" : Refusal.Quote(name));
        return Refusal.Of(file.Path, $"{got}; {kind} {string.Join(", ", shown)}; accepted names are {accepted}.");
    }
}
