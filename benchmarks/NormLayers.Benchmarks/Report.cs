namespace NormLayers.Benchmarks;

/// <summary>The tables that a run prints and writes.</summary>
internal static class Report
{
    public static void PrintHeader()
        => Console.WriteLine($"{"case",-46} {"pass",-4} {"threads",7} {"ours µs",10} {"GB/s",7} {"copy µs",10} {"ours/copy",9}");

    public static void Print(BenchmarkCase benchmark, Comparison comparison, long bytes)
    {
        Result ours = comparison.Ours;
        Console.WriteLine($"{benchmark,-46} {ours.Pass,-4} {ours.Threads,7} {ours.Microseconds,10:F2} {bytes / ours.Microseconds / 1e3,7:F1} {comparison.Copy.Microseconds,10:F2} {comparison.ToCopy,9:F2}");
        foreach (Result peer in comparison.Peers.OrderBy(peer => peer.Microseconds))
            Console.WriteLine($"    {peer.Peer,-28} {peer.Microseconds,12:F2} µs, ours/peer {ours.Microseconds / peer.Microseconds:F2}{(peer.IsPeer ? "" : " (another layout, window or no parameters: not compared)")}");
    }

    /// <summary>Which goals are met in how many cases, and where they are not.</summary>
    public static void PrintGoals(IReadOnlyList<Goal> goals)
    {
        foreach (IGrouping<string, Goal> goal in goals.GroupBy(goal => goal.Name))
        {
            Console.WriteLine($"{goal.Count(one => one.IsMet),3} of {goal.Count(),3} met: {goal.Key}");
            foreach (Goal missed in Missed(goal))
                Console.WriteLine($"    {missed.Actual,8:F2}  {missed.Case}");
        }
    }

    /// <summary>The goals and all results as Markdown.</summary>
    public static void WriteSummary(string path, IReadOnlyList<Comparison> comparisons, Goals goals)
    {
        using var file = new StreamWriter(path);
        List<IGrouping<string, Goal>> byName = [.. goals.Of(comparisons).GroupBy(goal => goal.Name)];
        file.WriteLine("## Goals\n\n| goal | met |\n|---|---:|");
        foreach (IGrouping<string, Goal> goal in byName)
            file.WriteLine($"| {goal.Key} | {goal.Count(one => one.IsMet)} of {goal.Count()} |");
        file.WriteLine("\n### Missed\n\n| goal | case | measured |\n|---|---|---:|");
        foreach (Goal missed in byName.SelectMany(Missed))
            file.WriteLine($"| {missed.Name} | {missed.Case} | {missed.Actual:F2} |");
        foreach (IGrouping<string, Comparison> op in comparisons.GroupBy(comparison => comparison.Ours.Op))
        {
            bool peers = op.Any(comparison => comparison.BestPeer is not null);
            file.WriteLine($"\n## {op.Key}\n\n| case | type | pass | threads | ours µs | copy µs | ours/copy | goal |{(peers ? " best peer | its µs | peer/ours |" : "")}");
            file.WriteLine($"|---|---|---|---:|---:|---:|---:|---:|{(peers ? "---|---:|---:|" : "")}");
            foreach (Comparison comparison in op)
                file.WriteLine(Line(comparison, goals, peers));
        }
    }

    private static string Line(Comparison comparison, Goals goals, bool peers)
    {
        Result ours = comparison.Ours;
        string goal = goals.CaseOf(ours) is { } benchmark ? $"{goals.ToCopy(benchmark).Limit}" : "-";
        string line = $"| {ours.Case} | {ours.Dtype} | {ours.Pass} | {ours.Threads} | {ours.Microseconds:F1} | {comparison.Copy.Microseconds:F1} | {comparison.ToCopy:F2} | {goal} |";
        if (!peers)
            return line;
        return comparison.BestPeer is { } best ? $"{line} {best.Peer} | {best.Microseconds:F1} | {comparison.Ahead:F2} |" : $"{line} - | - | - |";
    }

    /// <summary>The worst first.</summary>
    private static IEnumerable<Goal> Missed(IEnumerable<Goal> goals)
        => goals.Where(goal => !goal.IsMet).OrderByDescending(goal => goal.AtLeast ? goal.Limit / goal.Actual : goal.Actual / goal.Limit);
}
