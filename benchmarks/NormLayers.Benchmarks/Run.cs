namespace NormLayers.Benchmarks;

/// <summary>What a run does, from the command line.</summary>
internal sealed record RunOptions(string Filter, IReadOnlyList<int> Threads, IReadOnlyList<string> Dtypes, bool Peers, bool CheckOnly, double Seconds, string? Tsv);

/// <summary>Goes through the case list: each result is checked, then timed.</summary>
internal sealed class Run(RunOptions options)
{
    private readonly List<Result> results = [];
    private List<Peer> peers = [];

    public IReadOnlyList<Result> Results => results;

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
        foreach (BenchmarkCase benchmark in BenchmarkCase.Load(Path.Combine(Repository.Peers, "cases.tsv")))
        {
            if (!benchmark.ToString().Contains(options.Filter, StringComparison.OrdinalIgnoreCase))
                continue;
            foreach (string dtype in benchmark.Dtypes.Intersect(options.Dtypes))
                Execute(benchmark, dtype);
        }
        Console.WriteLine($"{Checked} results checked against the reference, {Wrong} wrong");
        if (options.Peers)
            Report.PrintPeers(Comparison.From(results));
    }

    private void FindPeers()
    {
        ILookup<bool, Peer> found = Peer.All.ToLookup(peer => peer.IsInstalled);
        peers = [.. found[true]];
        foreach (Peer peer in found[false])
            Console.WriteLine($"not found: {peer.Name}; run benchmarks/peers/setup.sh");
    }

    private void Execute(BenchmarkCase benchmark, string dtype)
    {
        Operation? operation = dtype == BenchmarkCase.Float ? Operation.For(benchmark) : null;
        if (operation is null)
        {
            Console.WriteLine($"{benchmark} {dtype}: not in the library yet");
            return;
        }
        operation.Threads = options.Threads.Max();
        using var buffers = new Buffers(operation, 1);
        List<Pass> correct = [.. new[] { Pass.Forward, Pass.Backward }.Where(pass => IsCorrect(operation, buffers, pass))];
        if (options.CheckOnly || correct.Count == 0)
            return;
        buffers.Grow(benchmark.Sets);
        foreach (int threads in options.Threads)
        {
            operation.Threads = threads;
            Time(operation, buffers, correct, threads);
        }
    }

    private bool IsCorrect(Operation operation, Buffers buffers, Pass pass)
    {
        Deviation worst = Check.Run(operation, buffers.Sets[0], pass);
        Checked++;
        if (worst.IsWrong)
        {
            Wrong++;
            Console.WriteLine($"WRONG {operation.Case} {Result.Name(pass)}: {worst}");
        }
        else if (options.CheckOnly)
            Console.WriteLine($"right {operation.Case} {Result.Name(pass)}: worst {worst.Result} {worst.Ulps:G3} ulp, allowed {worst.Allowed:G3}");
        return !worst.IsWrong;
    }

    private void Time(Operation operation, Buffers buffers, List<Pass> passes, int threads)
    {
        BenchmarkCase benchmark = operation.Case;
        using var team = new Team(threads);
        List<(Pass Pass, CaseTimer Timer)> timers = [];
        // Half of our samples before the peers' and half after, so that a drift of the machine meets both.
        foreach (Pass pass in passes)
        {
            var timer = new CaseTimer(operation, buffers, pass, team);
            timer.Run(peers.Count == 0 ? options.Seconds : options.Seconds / 2);
            timers.Add((pass, timer));
        }
        List<Result> theirs = [.. peers.SelectMany(peer => peer.Measure(benchmark, threads, options.Seconds))];
        foreach ((Pass pass, CaseTimer timer) in timers)
        {
            if (peers.Count > 0)
                timer.Run(options.Seconds / 2);
            Result Own(string peer, double microseconds) => new(peer, benchmark.Op, benchmark.Name, Result.Name(pass), BenchmarkCase.Float, threads, microseconds);
            var comparison = new Comparison(Own(Result.Ours, timer.Microseconds), Own(Result.Copy, timer.CopyMicroseconds), [.. theirs.Where(result => result.Pass == Result.Name(pass))]);
            Report.Print(comparison, benchmark.Bytes(pass));
            List<Result> lines = [comparison.Ours, comparison.Copy, .. comparison.Peers];
            results.AddRange(lines);
            if (options.Tsv is not null)
                Result.Append(options.Tsv, lines);
        }
    }
}
