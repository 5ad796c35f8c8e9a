namespace NormLayers.Benchmarks;

/// <summary>The table that a run prints.</summary>
internal static class Report
{
    public static void PrintHeader()
        => Console.WriteLine($"{"case",-34} {"pass",-4} {"threads",7} {"ours µs",10} {"GB/s",7} {"copy µs",10} {"ours/copy",9}");

    public static void Print(Comparison comparison, long bytes)
    {
        Result ours = comparison.Ours;
        Console.WriteLine($"{ours.Op + " " + ours.Case,-34} {ours.Pass,-4} {ours.Threads,7} {ours.Microseconds,10:F2} {bytes / ours.Microseconds / 1e3,7:F1} {comparison.Copy.Microseconds,10:F2} {comparison.ToCopy,9:F2}");
        foreach (Result peer in comparison.Peers.OrderBy(peer => peer.Microseconds))
            Console.WriteLine($"    {peer.Peer,-28} {peer.Microseconds,12:F2} µs, ours/peer {ours.Microseconds / peer.Microseconds:F2}{(peer.IsPeer ? "" : " (another layout, window or no parameters: not compared)")}");
    }

    public static void PrintPeers(IReadOnlyList<Comparison> comparisons)
    {
        List<(Comparison Case, double Faster)> faster = [.. comparisons.Where(comparison => comparison.BestPeer is not null)
            .Select(comparison => (comparison, comparison.BestPeer!.Microseconds / comparison.Ours.Microseconds))];
        if (faster.Count == 0)
            return;
        double mean = Math.Exp(faster.Average(entry => Math.Log(entry.Faster)));
        Console.WriteLine($"{mean:F2} times as fast as the best peer of each case in the geometric mean of {faster.Count}; slower than it in {faster.Count(entry => entry.Faster < 1)}:");
        foreach ((Comparison slow, double times) in faster.Where(entry => entry.Faster < 1).OrderBy(entry => entry.Faster))
            Console.WriteLine($"    {slow.Ours.Op} {slow.Ours.Case} {slow.Ours.Pass} threads {slow.Ours.Threads}: {times:F2} ({slow.BestPeer!.Peer})");
    }

    /// <summary>The same as a Markdown table.</summary>
    public static void WriteSummary(string path, IReadOnlyList<Comparison> comparisons)
    {
        using var file = new StreamWriter(path);
        file.WriteLine("| case | pass | threads | ours µs | copy µs | ours/copy | best peer | its µs | peer/ours |");
        file.WriteLine("|---|---|---:|---:|---:|---:|---|---:|---:|");
        foreach (Comparison comparison in comparisons)
        {
            Result ours = comparison.Ours;
            string peer = comparison.BestPeer is { } best ? $"{best.Peer} | {best.Microseconds:F1} | {best.Microseconds / ours.Microseconds:F2}" : "- | - | -";
            file.WriteLine($"| {ours.Op} {ours.Case} | {ours.Pass} | {ours.Threads} | {ours.Microseconds:F1} | {comparison.Copy.Microseconds:F1} | {comparison.ToCopy:F2} | {peer} |");
        }
    }
}
