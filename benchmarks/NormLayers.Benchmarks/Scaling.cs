namespace NormLayers.Benchmarks;

/// <summary>Whether the time grows with the elements and with nothing else: nanoseconds an element over sizes, row lengths and groups.</summary>
/// <param name="seconds">How long to measure each of ours and the copies.</param>
/// <param name="threads">The threads that all of them use.</param>
/// <param name="filter">Only cases whose operator and name contain this.</param>
internal sealed class Scaling(double seconds, int threads, string filter)
{
    private const nint RowLength = 1024, LargestSize = 1_000_000_000, Cut = 10_000_000;
    private const int MostGroups = 512;

    /// <summary>Above this nothing is left in any cache when a buffer comes up again: one set of buffers is enough.</summary>
    private const long SurelyCold = 256_000_000;

    private readonly List<(BenchmarkCase Case, Comparison Times)> results = [];

    public IReadOnlyList<(BenchmarkCase Case, Comparison Times)> Results => results;

    /// <summary>Measures and prints the three tables; false if a result was wrong.</summary>
    public bool Print()
    {
        bool right = true;
        Console.WriteLine($"{"an element, in ns",-44} {"elements",11} {"fwd",8} {"copy",8} {"bwd",8} {"copy",8}   ({threads} thread{(threads == 1 ? "" : "s")})");
        for (nint elements = 1000; elements <= LargestSize; elements *= 10)
            right &= Print(LayerNorm(Math.Max(1, elements / RowLength), RowLength));
        for (nint length = 10; length <= Cut; length *= 10)
            right &= Print(LayerNorm(Cut / length, length));
        for (int groups = 1; groups <= MostGroups; groups *= 2)
            right &= Print(new BenchmarkCase("GroupNorm", $"1x512x128x128_g{groups}", [1, MostGroups, 128, 128], $"{groups}", BenchmarkCase.Float));
        return right;
    }

    /// <summary>The results of one or several runs as Markdown.</summary>
    public static void WriteSummary(string path, IEnumerable<(BenchmarkCase Case, Comparison Times)> results)
    {
        using var file = new StreamWriter(path);
        file.WriteLine("| case | threads | elements | fwd ns | copy ns | ratio | bwd ns | copy ns | ratio |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|");
        foreach (IGrouping<(BenchmarkCase Case, int Threads), (BenchmarkCase, Comparison Times)> passes in results.GroupBy(result => (result.Case, result.Times.Ours.Threads)))
        {
            BenchmarkCase benchmark = passes.Key.Case;
            string columns = string.Concat(passes.Select(pass => $" {Nanoseconds(pass.Times.Ours, benchmark):F3} | {Nanoseconds(pass.Times.Copy, benchmark):F3} | {pass.Times.ToCopy:F2} |"));
            file.WriteLine($"| {benchmark} | {passes.Key.Threads} | {benchmark.Elements} |{columns}");
        }
    }

    private static double Nanoseconds(Result result, BenchmarkCase benchmark) => result.Microseconds * 1e3 / benchmark.Elements;

    private static BenchmarkCase LayerNorm(nint rows, nint length)
        => new("LayerNorm", $"{rows}x{length}_n{length}", [rows, length], $"{length}", BenchmarkCase.Float);

    private bool Print(BenchmarkCase benchmark)
    {
        if (!benchmark.ToString().Contains(filter, StringComparison.OrdinalIgnoreCase))
            return true;
        // x, dy, one for y or dx, and a y that is made with the statistics; the reference's are small beside them.
        long needed = 4 * benchmark.TensorBytes, free = FreeMemory();
        if (needed > free)
        {
            Console.WriteLine($"{benchmark,-44} {benchmark.Elements,11} left out: {needed / 1e9:F1} GB are needed, {free / 1e9:F1} GB are free");
            return true;
        }
        using Operation operation = Operations.For(benchmark)!;
        operation.Threads = threads;
        Pass[] passes = [Pass.Forward, Pass.Backward];
        foreach (Pass pass in passes)
        {
            Deviation worst = operation.Check(pass);
            if (worst.IsWrong)
            {
                Console.WriteLine($"WRONG {benchmark} {Result.Name(pass)}: {worst}");
                return false;
            }
        }
        operation.Grow(benchmark.Bytes(Pass.Forward) >= SurelyCold ? 1 : operation.SetsToRotate);
        using var team = new Team(threads);
        Console.Write($"{benchmark,-44} {benchmark.Elements,11}");
        foreach (Pass pass in passes)
        {
            var timer = new CaseTimer(operation, pass, team);
            timer.Run(seconds);
            Comparison times = timer.Compare(benchmark, pass, threads, []);
            results.Add((benchmark, times));
            Console.Write($" {Nanoseconds(times.Ours, benchmark),8:F3} {Nanoseconds(times.Copy, benchmark),8:F3}");
        }
        Console.WriteLine();
        return true;
    }

    private static long FreeMemory()
    {
        GC.Collect();
        GCMemoryInfo memory = GC.GetGCMemoryInfo();
        return memory.TotalAvailableMemoryBytes - memory.MemoryLoadBytes;
    }
}
