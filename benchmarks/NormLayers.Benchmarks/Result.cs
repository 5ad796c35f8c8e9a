using System.Globalization;

namespace NormLayers.Benchmarks;

/// <summary>One line of a results file: the columns that the peers' programs print.</summary>
internal sealed record Result(string Peer, string Op, string Case, string Pass, string Dtype, int Threads, double Microseconds)
{
    public const string Ours = "normlayers", Copy = "copy", ForwardPass = "fwd", BackwardPass = "bwd";

    private const string Header = "peer\top\tcase\tpass\tdtype\tthreads\tmicroseconds";

    /// <summary>What was measured, whoever did it.</summary>
    public (string Op, string Case, string Pass, string Dtype, int Threads) Key => (Op, Case, Pass, Dtype, Threads);

    /// <summary>Whether a peer computes the same on the same memory: no other layout, all parameters, the same window.</summary>
    public bool IsPeer => Peer is not (Ours or Copy) && !Peer.EndsWith("-nhwc", StringComparison.Ordinal) && !Peer.EndsWith("-blk16", StringComparison.Ordinal)
        && !Peer.EndsWith("-bare", StringComparison.Ordinal) && !(Peer.StartsWith("onednn", StringComparison.Ordinal) && Op == "LRN" && Case.Contains("_s2", StringComparison.Ordinal));

    public static string Name(Pass pass) => pass == Benchmarks.Pass.Forward ? ForwardPass : BackwardPass;

    /// <summary>Null for a line that is no result: a header, a comment.</summary>
    public static Result? Parse(string line)
    {
        string[] fields = line.Split('\t');
        return fields.Length == 7 && int.TryParse(fields[5], CultureInfo.InvariantCulture, out int threads) && double.TryParse(fields[6], CultureInfo.InvariantCulture, out double microseconds)
            ? new Result(fields[0], fields[1], fields[2], fields[3], fields[4], threads, microseconds)
            : null;
    }

    /// <summary>A file's results; of several with one key the last.</summary>
    public static List<Result> Read(string path)
        => [.. File.ReadLines(path).Select(Parse).OfType<Result>().GroupBy(result => (result.Peer, result.Key)).Select(group => group.Last())];

    /// <summary>Appends to a file, which gets a header first if it is new.</summary>
    public static void Append(string path, IEnumerable<Result> results)
    {
        if (!File.Exists(path))
            File.WriteAllText(path, Header + "\n");
        File.AppendAllText(path, string.Concat(results.Select(result => result + "\n")));
    }

    public override string ToString()
        => string.Create(CultureInfo.InvariantCulture, $"{Peer}\t{Op}\t{Case}\t{Pass}\t{Dtype}\t{Threads}\t{Microseconds:F3}");
}

/// <summary>What one pass of one case took: ours, the copy, and each peer that was measured.</summary>
internal sealed record Comparison(Result Ours, Result Copy, IReadOnlyList<Result> Peers)
{
    public double ToCopy => Ours.Microseconds / Copy.Microseconds;

    /// <summary>All as lines of a results file.</summary>
    public IEnumerable<Result> Results => [Ours, Copy, .. Peers];

    /// <summary>The best peer's time as a multiple of ours; not a number without one.</summary>
    public double Ahead => BestPeer is { } best ? best.Microseconds / Ours.Microseconds : double.NaN;

    public Result? BestPeer => Peers.Where(peer => peer.IsPeer).MinBy(peer => peer.Microseconds);

    public static List<Comparison> From(IReadOnlyList<Result> results)
    {
        List<Comparison> comparisons = [];
        foreach (IGrouping<(string, string, string, string, int), Result> group in results.GroupBy(result => result.Key))
        {
            if (group.FirstOrDefault(result => result.Peer == Result.Ours) is { } ours && group.FirstOrDefault(result => result.Peer == Result.Copy) is { } copy)
                comparisons.Add(new Comparison(ours, copy, [.. group.Where(result => result.Peer is not (Result.Ours or Result.Copy))]));
        }
        return comparisons;
    }
}
