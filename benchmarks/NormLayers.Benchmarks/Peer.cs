using System.Diagnostics;
using System.Globalization;
using System.Runtime.Intrinsics.X86;

namespace NormLayers.Benchmarks;

/// <summary>Another library, timed by its own program, which a script of benchmarks/peers starts.</summary>
/// <param name="Name">The library's name.</param>
/// <param name="Script">The script.</param>
/// <param name="Files">What setup.sh leaves below its folder once the peer is there.</param>
internal sealed record Peer(string Name, string Script, params string[] Files)
{
    // glibc told to keep freed memory (-m): as installed PyTorch spends most of the time of large outputs on page faults.
    private const string FairTorch = "torch-m torch-cpp-m", FairTorchAvx512 = "torch-avx512-m torch-cpp-avx512-m";

    public static IReadOnlyList<Peer> All { get; } =
    [
        new("oneDNN", "bench_onednn.sh", "bin/bench_onednn2"),
        new("ONNX Runtime", "bench_ort.sh", "bin/bench_ort", "ort/node_modules/onnxruntime-node"),
        new("ggml", "bench_ggml.sh", "bin/bench_ggml", "ggml/node_modules/@node-llama-cpp/linux-x64"),
        new("PyTorch", "bench_torch.sh", "bin/bench_torch"),
    ];

    public bool IsInstalled
    {
        get
        {
            string folder = Environment.GetEnvironmentVariable("PEERS")
                ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache", "normlayers-peers");
            return Files.All(file => Path.Exists(Path.Combine(folder, file)));
        }
    }

    /// <summary>Runs the peer's program on one case and returns what it measured: both passes, where it has them, in each of its variants.</summary>
    public List<Result> Measure(BenchmarkCase benchmark, int threads, double seconds)
    {
        if (benchmark.Dtype is not (BenchmarkCase.Float or BenchmarkCase.BFloat))
            return [];
        var start = new ProcessStartInfo(Path.Combine(Repository.Peers, Script), [threads.ToString(CultureInfo.InvariantCulture), benchmark.Op, benchmark.Name])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["BENCH_DTYPE"] = benchmark.Dtype;
        start.Environment["BENCH_SECONDS"] = seconds.ToString(CultureInfo.InvariantCulture);
        start.Environment.TryAdd("TORCH_VARIANTS", Avx512F.IsSupported ? $"{FairTorch} {FairTorchAvx512}" : FairTorch);
        using Process process = Process.Start(start)!;
        // Versions and names of implementations go there; unread they would block the process once the pipe is full.
        Task<string> remarks = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        List<Result> results = [.. output.Split('\n').Select(Result.Parse).OfType<Result>()
            .Where(result => result.Op == benchmark.Op && result.Case == benchmark.Name && result.Dtype == benchmark.Dtype)];
        if (results.Count == 0 && process.ExitCode != 0)
            Console.WriteLine($"    {Name}: {Script} ended with {process.ExitCode}: {remarks.Result.Trim().Split('\n')[^1]}");
        return results;
    }
}
