namespace NormLayers.Benchmarks;

/// <summary>Times one pass of a case beside the copies of the same bytes.</summary>
internal sealed unsafe class CaseTimer
{
    private readonly Interleaved interleaved;
    private readonly int copies;

    public CaseTimer(Operation operation, Buffers buffers, Pass pass, Team team)
    {
        Contender ours = Ours(operation, buffers, pass);
        nint length = operation.Case.Elements;
        List<Contender> contenders =
        [
            ours,
            Copy(buffers, pass, length, team, nonTemporal: false),
            Copy(buffers, pass, length, team, nonTemporal: true),
        ];
        // Whoever may use several threads may also use one, and for few bytes that is the better copy.
        if (team.Threads > 1)
            contenders.Add(Copy(buffers, pass, length, null, nonTemporal: false));
        copies = contenders.Count - 1;
        interleaved = new Interleaved(buffers.Sets.Count, [.. contenders]);
    }

    public double Microseconds => interleaved.Microseconds(0);

    /// <summary>The best copy.</summary>
    public double CopyMicroseconds => Enumerable.Range(1, copies).Min(interleaved.Microseconds);

    public void Run(double seconds) => interleaved.Run(seconds);

    public static Contender Ours(Operation operation, Buffers buffers, Pass pass)
    {
        if (pass == Pass.Forward)
            return (set, repeats) => operation.Forward(buffers.Sets[set], repeats);
        foreach (BufferSet set in buffers.Sets)
            operation.Prepare(set);
        return (set, repeats) => operation.Backward(buffers.Sets[set], repeats);
    }

    private static Contender Copy(Buffers buffers, Pass pass, nint length, Team? team, bool nonTemporal)
    {
        if (team is null || team.Threads == 1)
        {
            return (set, repeats) =>
            {
                for (int i = 0; i < repeats; i++)
                    CopyPart(buffers.Sets[set], pass, nonTemporal, 0, length);
            };
        }
        // Whole cache lines a thread.
        nint share = (length / team.Threads + 15) & ~15;
        BufferSet current = buffers.Sets[0];
        Action<int> part = thread =>
        {
            nint first = Math.Min(length, thread * share), end = thread == team.Threads - 1 ? length : Math.Min(length, first + share);
            CopyPart(current, pass, nonTemporal, first, end - first);
        };
        return (set, repeats) =>
        {
            current = buffers.Sets[set];
            for (int i = 0; i < repeats; i++)
                team.Run(part);
        };
    }

    private static void CopyPart(BufferSet set, Pass pass, bool nonTemporal, nint first, nint length)
    {
        switch (pass, nonTemporal)
        {
            case (Pass.Forward, false):
                Copies.Ordinary(set.Y + first, set.X + first, length);
                break;
            case (Pass.Forward, true):
                Copies.NonTemporal(set.Y + first, set.X + first, length);
                break;
            case (_, false):
                Copies.OrdinaryOfTwo(set.GradInput + first, set.X + first, set.GradOutput + first, length);
                break;
            default:
                Copies.NonTemporalOfTwo(set.GradInput + first, set.X + first, set.GradOutput + first, length);
                break;
        }
    }
}
