namespace NormLayers.IO;

/// <summary>Finds what a misspelled name may have meant.</summary>
internal static class NearNames
{
    public const int MostNames = 3;

    // Bounds on the work, since the names are the file's.
    private const int MostCompared = 10_000;
    private const int LongestCompared = 128;

    public static List<string> Of(string name, IReadOnlyList<string> candidates)
    {
        var near = new List<(int Distance, string Name)>();
        if (name.Length > LongestCompared)
            return [];
        for (int i = 0; i < Math.Min(candidates.Count, MostCompared); i++)
        {
            string candidate = candidates[i];
            if (candidate.Length > LongestCompared)
                continue;
            int distance = name.Length > 1 && candidate.Contains(name, StringComparison.OrdinalIgnoreCase) ? 1 : Distance(name, candidate);
            if (distance <= Math.Max(2, name.Length / 3))
                near.Add((distance, candidate));
        }
        near.Sort((x, y) => x.Distance != y.Distance ? x.Distance.CompareTo(y.Distance) : string.CompareOrdinal(x.Name, y.Name));
        return near.ConvertAll(found => found.Name)[..Math.Min(MostNames, near.Count)];
    }

    /// <summary>Says that a file has nothing of a name, and what it has: the nearest names, or the first ones.</summary>
    public static string Missing(string path, string what, string name, IReadOnlyList<string> candidates)
    {
        if (candidates.Count == 0)
            return $"{path}: has no {what}, so none named {Refusal.Quote(name)}.";
        List<string> near = Of(name, candidates);
        string hint = near.Count > 0
            ? $"did you mean {string.Join(" or ", near.ConvertAll(found => Refusal.Quote(found)))}?"
            : $"the first are {string.Join(", ", candidates.Take(MostNames).Select(found => Refusal.Quote(found)))}.";
        return $"{path}: none of the {candidates.Count} {what}s is named {Refusal.Quote(name)}; {hint}";
    }

    /// <summary>The number of insertions, deletions and replacements between two names (Levenshtein).</summary>
    private static int Distance(string x, string y)
    {
        Span<int> row = stackalloc int[LongestCompared + 1];
        for (int j = 0; j <= y.Length; j++)
            row[j] = j;
        for (int i = 0; i < x.Length; i++)
        {
            int diagonal = row[0];
            row[0] = i + 1;
            for (int j = 0; j < y.Length; j++)
            {
                int replaced = diagonal + (x[i] == y[j] ? 0 : 1);
                diagonal = row[j + 1];
                row[j + 1] = Math.Min(replaced, Math.Min(diagonal, row[j]) + 1);
            }
        }
        return row[y.Length];
    }
}
