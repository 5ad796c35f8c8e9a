namespace NormLayers.Benchmarks;

/// <summary>Threads that stay and wait: a copy over several threads pays one fork and one join, as cheaply as they can be had.</summary>
/// <remarks>A worker spins for some microseconds before it sleeps, so that it costs the measurements beside it nothing.</remarks>
internal sealed class Team : IDisposable
{
    private readonly ManualResetEventSlim[] starts;
    private Action<int>? work;
    private volatile int pending;
    private volatile bool stopped;

    public Team(int threads)
    {
        Threads = threads;
        starts = new ManualResetEventSlim[threads - 1];
        for (int i = 0; i < starts.Length; i++)
        {
            int part = i + 1;
            var start = new ManualResetEventSlim(false, 100);
            starts[i] = start;
            new Thread(() => Work(start, part)) { IsBackground = true, Name = $"copy {part}" }.Start();
        }
    }

    public int Threads { get; }

    /// <summary>Runs the parts 0 to <see cref="Threads"/> - 1, the first on the caller's thread.</summary>
    public void Run(Action<int> part)
    {
        (work, pending) = (part, starts.Length);
        foreach (ManualResetEventSlim start in starts)
            start.Set();
        part(0);
        while (pending > 0)
            Thread.SpinWait(1);
    }

    public void Dispose()
    {
        stopped = true;
        Run(_ => { });
    }

    private void Work(ManualResetEventSlim start, int part)
    {
        while (!stopped)
        {
            start.Wait();
            start.Reset();
            work!(part);
            Interlocked.Decrement(ref pending);
        }
    }
}
