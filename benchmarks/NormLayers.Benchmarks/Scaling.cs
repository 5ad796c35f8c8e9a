namespace NormLayers.Benchmarks;

/// <summary>Whether the time grows with the elements and with nothing else: nanoseconds an element over sizes, row lengths and groups.</summary>
internal static class Scaling
{
    private const nint RowLength = 1024, Cut = 10_000_000;

    /// <summary>Above this nothing is left in any cache when a buffer comes up again: one set of buffers is enough.</summary>
    private const long SurelyCold = 256_000_000;

    /// <summary>Prints the tables; false if a result was wrong.</summary>
    public static bool Print(double seconds, int threads)
    {
        bool right = true;
        Console.WriteLine($"{"",-44} {"elements",11} {"fwd ns",8} {"bwd ns",8}   (an element, {threads} thread{(threads == 1 ? "" : "s")})");
        for (nint elements = 1000; elements <= 100_000_000; elements *= 10)
            right &= Print(LayerNorm(Math.Max(1, elements / RowLength), RowLength), seconds, threads);
        for (nint length = 10; length <= Cut; length *= 10)
            right &= Print(LayerNorm(Cut / length, length), seconds, threads);
        for (int groups = 1; groups <= 512; groups *= 2)
            right &= Print(new BenchmarkCase("GroupNorm", $"1x512x128x128_g{groups}", [1, 512, 128, 128], $"{groups}", [BenchmarkCase.Float]), seconds, threads);
        return right;
    }

    private static BenchmarkCase LayerNorm(nint rows, nint length)
        => new("LayerNorm", $"{rows}x{length}_n{length}", [rows, length], $"{length}", [BenchmarkCase.Float]);

    private static bool Print(BenchmarkCase benchmark, double seconds, int threads)
    {
        Operation operation = Operation.For(benchmark)!;
        operation.Threads = threads;
        using var buffers = new Buffers(operation, 1);
        var nanoseconds = new double[2];
        foreach (Pass pass in new[] { Pass.Forward, Pass.Backward })
        {
            Deviation worst = Check.Run(operation, buffers.Sets[0], pass);
            if (worst.IsWrong)
            {
                Console.WriteLine($"WRONG {benchmark} {Result.Name(pass)}: {worst}");
                return false;
            }
        }
        buffers.Grow(benchmark.Bytes(Pass.Forward) >= SurelyCold ? 1 : benchmark.Sets);
        foreach (Pass pass in new[] { Pass.Forward, Pass.Backward })
        {
            var timer = new Interleaved(buffers.Sets.Count, CaseTimer.Ours(operation, buffers, pass));
            timer.Run(seconds);
            nanoseconds[(int)pass] = timer.Microseconds(0) * 1e3 / benchmark.Elements;
        }
        Console.WriteLine($"{benchmark,-44} {benchmark.Elements,11} {nanoseconds[0],8:F3} {nanoseconds[1],8:F3}");
        return true;
    }
}
