using System.Diagnostics;
using System.Runtime;

namespace NormLayers.Benchmarks;

/// <summary>Something to time: calls it a number of times on a set of buffers.</summary>
internal delegate void Contender(int set, int repeats);

/// <summary>Times several contenders in turn in one loop, so that what else happens on the machine meets all of them alike.</summary>
internal sealed class Interleaved
{
    // Rest: the compiler waits a tenth of a second before it compiles anew what is called often, and longer on a busy machine.
    private const double LeastSample = 20e-6, ShortestCall = 10e-9, LeastWarmUp = 0.03, Rest = 0.4, LongestWarmUp = 3;
    private const int LeastCalls = 40, LeastSamples = 5, WarmCalls = 4;

    private readonly Contender[] contenders;
    private readonly int sets;
    private readonly int[] repeats;
    private readonly List<double>[] samples;
    private int call, round;

    /// <param name="sets">1 for buffers that stay in the cache; else how many take turns.</param>
    /// <param name="contenders">What to time.</param>
    public Interleaved(int sets, params Contender[] contenders)
    {
        (this.sets, this.contenders) = (sets, contenders);
        samples = [.. contenders.Select(_ => new List<double>())];
        double[] seconds = WarmUp();
        repeats = [.. seconds.Select(time => sets == 1 ? (int)Math.Max(1, LeastSample / time) : 1)];
    }

    /// <summary>The median time of a call in microseconds.</summary>
    public double Microseconds(int contender)
    {
        List<double> sorted = [.. samples[contender].Order()];
        return sorted[sorted.Count / 2] * 1e6;
    }

    /// <summary>Adds samples for about so many seconds a contender.</summary>
    public void Run(double seconds)
    {
        var clock = Stopwatch.StartNew();
        for (int rounds = 0; rounds < LeastSamples || clock.Elapsed.TotalSeconds < seconds * contenders.Length; rounds++, round++)
        {
            // Each comes first in turn: none always follows the one that leaves the cache cold.
            for (int i = 0; i < contenders.Length; i++)
            {
                int contender = (round + i) % contenders.Length;
                samples[contender].Add(Sample(contender));
            }
        }
    }

    private double Sample(int contender)
    {
        if (sets == 1)
        {
            // Brings the buffers back to where its own calls, one after the other as in a peer's process, leave them: non-temporal
            // stores put them out of the cache, and some last-level caches take in only what has been asked for more than once.
            contenders[contender](0, WarmCalls);
        }
        int set = call++ % sets;
        long start = Stopwatch.GetTimestamp();
        contenders[contender](set, repeats[contender]);
        return SecondsSince(start) / repeats[contender];
    }

    /// <summary>A <see cref="TimeSpan"/> counts in tenths of microseconds; the clock itself is finer.</summary>
    private static double SecondsSince(long start) => (double)(Stopwatch.GetTimestamp() - start) / Stopwatch.Frequency;

    /// <summary>Until each has been called often enough to be compiled at its best and the compiler has had nothing to do for a while. The shortest time of a call of each.</summary>
    private double[] WarmUp()
    {
        var clock = Stopwatch.StartNew();
        var quiet = Stopwatch.StartNew();
        var seconds = new double[contenders.Length];
        Array.Fill(seconds, double.MaxValue);
        long compiled = JitInfo.GetCompiledMethodCount();
        for (int calls = 0; calls < 3 || (clock.Elapsed.TotalSeconds < LongestWarmUp
            && (calls < LeastCalls || clock.Elapsed.TotalSeconds < LeastWarmUp || quiet.Elapsed.TotalSeconds < Rest)); calls++)
        {
            for (int i = 0; i < contenders.Length; i++)
            {
                long start = Stopwatch.GetTimestamp();
                contenders[i](call++ % sets, 1);
                seconds[i] = Math.Min(seconds[i], Math.Max(ShortestCall, SecondsSince(start)));
            }
            long now = JitInfo.GetCompiledMethodCount();
            if (now != compiled)
                quiet.Restart();
            compiled = now;
        }
        return seconds;
    }
}
