namespace NormLayers.Benchmarks;

/// <summary>What a run does, from the command line.</summary>
internal sealed record RunOptions(string Filter, IReadOnlyList<int> Threads, IReadOnlyList<string> Dtypes, bool Peers, bool CheckOnly, double Seconds, string? Tsv);

/// <summary>Goes through the case list: each result is checked, then timed.</summary>
internal sealed class Run(RunOptions options)
{
    private readonly List<Comparison> comparisons = [];
    private List<Peer> peers = [];

    public IReadOnlyList<Comparison> Comparisons => comparisons;

    /// <summary>The results that were wrong.</summary>
    public int Wrong { get; private set; }

    /// <summary>The results that were checked.</summary>
    public int Checked { get; private set; }

    public void Execute()
    {
        if (options.Peers)
            FindPeers();
        if (!options.CheckOnly)
            Report.PrintHeader();
        foreach (BenchmarkCase benchmark in BenchmarkCase.Load(Repository.CaseList))
        {
            if (benchmark.ToString().Contains(options.Filter, StringComparison.OrdinalIgnoreCase) && options.Dtypes.Contains(benchmark.Dtype))
                Execute(benchmark);
        }
        Console.WriteLine($"{Checked} results checked against the reference, {Wrong} wrong");
    }

    private void FindPeers()
    {
        ILookup<bool, Peer> found = Peer.All.ToLookup(peer => peer.IsInstalled);
        peers = [.. found[true]];
        foreach (Peer peer in found[false])
            Console.WriteLine($"not found: {peer.Name}; run benchmarks/peers/setup.sh");
    }

    private void Execute(BenchmarkCase benchmark)
    {
        using Operation? operation = Operations.For(benchmark);
        if (operation is null)
        {
            Console.WriteLine($"{benchmark}: not in the library");
            return;
        }
        operation.Threads = options.Threads.Max();
        List<Pass> correct = [.. new[] { Pass.Forward, Pass.Backward }.Where(pass => IsCorrect(operation, pass))];
        if (options.CheckOnly || correct.Count == 0)
            return;
        operation.Grow(operation.SetsToRotate);
        foreach (int threads in options.Threads)
        {
            operation.Threads = threads;
            Time(operation, correct, threads);
        }
    }

    private bool IsCorrect(Operation operation, Pass pass)
    {
        Deviation worst = operation.Check(pass);
        Checked++;
        if (worst.IsWrong)
        {
            Wrong++;
            Console.WriteLine($"WRONG {operation.Case} {Result.Name(pass)}: {worst}");
        }
        else if (options.CheckOnly)
            Console.WriteLine($"right {operation.Case} {Result.Name(pass)}: worst is {worst.Result}, {worst.Share:P0} of its bound");
        return !worst.IsWrong;
    }

    private void Time(Operation operation, List<Pass> passes, int threads)
    {
        BenchmarkCase benchmark = operation.Case;
        using var team = new Team(threads);
        List<(Pass Pass, CaseTimer Timer)> timers = [];
        // Half of our samples before the peers' and half after, so that a drift of the machine meets both.
        foreach (Pass pass in passes)
        {
            var timer = new CaseTimer(operation, pass, team);
            timer.Run(peers.Count == 0 ? options.Seconds : options.Seconds / 2);
            timers.Add((pass, timer));
        }
        List<Result> theirs = [.. peers.SelectMany(peer => peer.Measure(benchmark, threads, options.Seconds))];
        foreach ((Pass pass, CaseTimer timer) in timers)
        {
            if (peers.Count > 0)
                timer.Run(options.Seconds / 2);
            Comparison comparison = timer.Compare(benchmark, pass, threads, [.. theirs.Where(result => result.Pass == Result.Name(pass))]);
            Report.Print(benchmark, comparison, benchmark.Bytes(pass));
            comparisons.Add(comparison);
            if (options.Tsv is not null)
                Result.Append(options.Tsv, comparison.Results);
        }
    }
}
