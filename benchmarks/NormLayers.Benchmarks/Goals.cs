namespace NormLayers.Benchmarks;

/// <summary>What a case is to reach: at most a multiple of the copy's time, or at least a multiple of a peer's speed.</summary>
/// <param name="Name">The goal, the same text for all cases that have it.</param>
/// <param name="Case">Which case and pass.</param>
/// <param name="Actual">What was measured.</param>
/// <param name="Limit">What it was to be.</param>
/// <param name="AtLeast">Whether the limit is the least, not the most.</param>
internal sealed record Goal(string Name, string Case, double Actual, double Limit, bool AtLeast = false)
{
    public bool IsMet => AtLeast ? Actual >= Limit : Actual <= Limit;
}

/// <summary>The goals of speed, and which of them a run's results reach.</summary>
/// <param name="lastLevelCache">In bytes. A case is out of cache if its output is as large as this or larger.</param>
internal sealed class Goals(long lastLevelCache)
{
    private const int ShortRow = 64;
    private const double AheadInCache = 1.3, AheadOfTorchInLrn = 15, MeanAhead = 2;

    private readonly Dictionary<(string, string, string), BenchmarkCase> cases = BenchmarkCase.Load(Repository.CaseList).ToDictionary(benchmark => (benchmark.Op, benchmark.Name, benchmark.Dtype));

    public BenchmarkCase? CaseOf(Result result) => cases.GetValueOrDefault((result.Op, result.Case, result.Dtype));

    public bool IsOutOfCache(BenchmarkCase benchmark) => benchmark.TensorBytes >= lastLevelCache;

    /// <summary>The most that a case may take as a multiple of the copy's time, and the goal that says so.</summary>
    public (string Goal, double Limit) ToCopy(BenchmarkCase benchmark)
    {
        bool outOfCache = IsOutOfCache(benchmark);
        if (outOfCache && benchmark.Op == "LRN")
            return benchmark.Numbers[2] * 4 % 1 == 0 ? ("LRN out of cache, beta a multiple of 1/4: at most 3 × the copy", 3) : ("LRN out of cache, any other beta: at most 5 × the copy", 5);
        if (outOfCache && benchmark.IsFused)
            return ("out of cache, fused: at most 1.15 × the copy of its traffic", 1.15);
        if (outOfCache)
            return benchmark.Dtype == BenchmarkCase.Float ? ("out of cache: at most 1.25 × the copy", 1.25) : ("out of cache, 16 bits: at most 1.5 × the copy", 1.5);
        bool isShort = benchmark.Op is "LayerNorm" or "RMSNorm" && benchmark.Count < ShortRow;
        return isShort ? ("in cache, rows under 64 elements: at most 5 × the copy", 5) : ("in cache: at most 3 × the copy", 3);
    }

    /// <summary>The goals of each case that is in the case list, and that of the mean.</summary>
    public List<Goal> Of(IReadOnlyList<Comparison> comparisons)
    {
        List<Goal> goals = [];
        foreach (Comparison comparison in comparisons)
        {
            if (CaseOf(comparison.Ours) is { } benchmark)
                AddGoals(goals, benchmark, comparison);
        }
        double[] ahead = [.. comparisons.Where(comparison => comparison.BestPeer is not null).Select(comparison => comparison.Ahead)];
        if (ahead.Length > 0)
            goals.Add(new Goal("at least 2 × as fast as the best peer of each case in the geometric mean", $"{ahead.Length} cases", Math.Exp(ahead.Average(Math.Log)), MeanAhead, AtLeast: true));
        return goals;
    }

    /// <summary>The size of the largest cache that the processor's description has; 32 MB where there is none to be read.</summary>
    public static long SystemCache()
    {
        const string folder = "/sys/devices/system/cpu/cpu0/cache";
        long largest = 0;
        foreach (string size in Directory.Exists(folder) ? Directory.GetFiles(folder, "size", SearchOption.AllDirectories) : [])
        {
            string text = File.ReadAllText(size).Trim();
            long unit = text[^1] == 'M' ? 1L << 20 : 1L << 10;
            if (long.TryParse(text.AsSpan(0, text.Length - 1), out long count))
                largest = Math.Max(largest, count * unit);
        }
        return largest > 0 ? largest : 32L << 20;
    }

    private void AddGoals(List<Goal> goals, BenchmarkCase benchmark, Comparison comparison)
    {
        Result ours = comparison.Ours;
        string name = $"{benchmark} {ours.Pass}, {ours.Threads} thread{(ours.Threads == 1 ? "" : "s")}";
        (string toCopy, double limit) = ToCopy(benchmark);
        goals.Add(new Goal(toCopy, name, comparison.ToCopy, limit));
        if (comparison.BestPeer is { } best)
        {
            string against = $"{name}, {best.Peer}";
            goals.Add(new Goal("never slower than the best peer", against, comparison.Ahead, 1, AtLeast: true));
            if (benchmark.Op == "LRN")
                goals.Add(new Goal("LRN: at least 1.3 × as fast as the best peer", against, comparison.Ahead, AheadInCache, AtLeast: true));
            else if (!IsOutOfCache(benchmark))
                goals.Add(new Goal("in cache: at least 1.3 × as fast as the best peer", against, comparison.Ahead, AheadInCache, AtLeast: true));
        }
        if (benchmark.Op == "LRN" && comparison.Peers.Where(peer => peer.Peer.StartsWith("torch", StringComparison.Ordinal)).MinBy(peer => peer.Microseconds) is { } torch)
            goals.Add(new Goal("LRN: at least 15 × as fast as PyTorch", name, torch.Microseconds / ours.Microseconds, AheadOfTorchInLrn, AtLeast: true));
        if (benchmark.Op == "LayerNorm" && ours is { Pass: Result.ForwardPass, Threads: 1 } && benchmark.Elements == 4096)
            goals.Add(new Goal("a call on (1, 4096): at most 1.2 µs", name, ours.Microseconds, 1.2));
        if (benchmark.Op == "LayerNorm" && ours is { Pass: Result.ForwardPass, Threads: 1 } && benchmark.Elements == 1000)
            goals.Add(new Goal("a call on (20, 5, 10): at most 1.3 µs", name, ours.Microseconds, 1.3));
    }
}
