namespace NormLayers.Benchmarks;

/// <summary>Times one pass of a case beside the copies of the same bytes.</summary>
internal sealed class CaseTimer
{
    private readonly Interleaved interleaved;
    private readonly int copies;

    public CaseTimer(Operation operation, Pass pass, Team team)
    {
        if (pass == Pass.Backward)
            operation.Prepare();
        List<Contender> contenders =
        [
            (set, repeats) => operation.Call(pass, set, repeats),
            Copy(operation, pass, team, nonTemporal: false),
            Copy(operation, pass, team, nonTemporal: true),
        ];
        // Whoever may use several threads may also use one, and for few bytes that is the better copy.
        if (team.Threads > 1)
            contenders.Add(Copy(operation, pass, null, nonTemporal: false));
        copies = contenders.Count - 1;
        interleaved = new Interleaved(operation.Sets, [.. contenders]);
    }

    public void Run(double seconds) => interleaved.Run(seconds);

    /// <summary>What was measured, beside the best copy and the peers' results.</summary>
    public Comparison Compare(BenchmarkCase benchmark, Pass pass, int threads, IReadOnlyList<Result> peers)
    {
        Result Own(string peer, double microseconds) => new(peer, benchmark.Op, benchmark.Name, Result.Name(pass), benchmark.Dtype, threads, microseconds);
        return new Comparison(Own(Result.Ours, interleaved.Microseconds(0)), Own(Result.Copy, Enumerable.Range(1, copies).Min(interleaved.Microseconds)), peers);
    }

    private static Contender Copy(Operation operation, Pass pass, Team? team, bool nonTemporal)
    {
        (int Reads, int Writes) traffic = operation.Case.Traffic(pass);
        nint bytes = (nint)operation.Case.TensorBytes;
        if (team is null || team.Threads == 1)
        {
            return (set, repeats) =>
            {
                Streams streams = operation.Streams(set);
                for (int i = 0; i < repeats; i++)
                    Copies.Run(streams, traffic, nonTemporal, 0, bytes);
            };
        }
        // Whole cache lines a thread.
        nint share = (bytes / team.Threads + 63) & ~63;
        Streams current = default;
        Action<int> part = thread => Copies.Run(current, traffic, nonTemporal, Math.Min(bytes, thread * share), thread == team.Threads - 1 ? bytes : Math.Min(bytes, (thread + 1) * share));
        return (set, repeats) =>
        {
            current = operation.Streams(set);
            for (int i = 0; i < repeats; i++)
                team.Run(part);
        };
    }
}
