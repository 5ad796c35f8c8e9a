using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Reflection;
using NormLayers;
using NormLayers.Benchmarks;

Option<string> filter = new("--filter") { Description = "Only cases whose operator and name contain this.", DefaultValueFactory = _ => "" };
Option<int[]> threads = new("--threads")
{
    Description = "Numbers of threads, separated by commas.",
    CustomParser = result =>
    {
        int[] counts = [.. result.Tokens[0].Value.Split(',').Select(text => int.TryParse(text, CultureInfo.InvariantCulture, out int count) ? count : 0)];
        if (counts.Any(count => count < 1))
            result.AddError($"--threads takes positive numbers separated by commas, got {result.Tokens[0].Value}");
        return counts;
    },
    DefaultValueFactory = _ => [1],
};
Option<string> dtype = new("--dtype") { Description = "Element types, separated by commas: f32, bf16, f16, and bf16+f32 for parameters of f32.", DefaultValueFactory = _ => "f32,bf16,f16,bf16+f32" };
Option<bool> peers = new("--peers") { Description = "Time the other libraries in the same run (see benchmarks/peers)." };
Option<FileInfo> tsv = new("--tsv") { Description = "Append the results to this file." };
Option<FileInfo> from = new("--from") { Description = "Measure nothing: read the results from this file (for --chart and --summary)." };
Option<FileInfo> chart = new("--chart") { Description = "Write a bar chart (SVG) of the ratio to the copy to this file." };
Option<FileInfo> summary = new("--summary") { Description = "Write Markdown tables to this file: the goals and the results, or those of --scaling." };
Option<double?> cache = new("--cache") { Description = "The last-level cache in MB (2^20 bytes), which decides what is out of cache; by default this machine's." };
Option<bool> checkOnly = new("--check-only") { Description = "Check every result against the reference and time nothing." };
Option<double> seconds = new("--seconds") { Description = "How long to measure each of ours and the copies.", DefaultValueFactory = _ => 0.35 };
Option<bool> scaling = new("--scaling") { Description = "Time per element over sizes, row lengths and groups (up to 16 GB of memory)." };
Option<bool> micro = new("--micro") { Description = "BenchmarkDotNet: the overhead and the allocations of a call." };

from.AcceptExistingOnly();
RootCommand root = new("Checks NormLayers' results against a reference in double, then times them beside a copy of the same bytes. Exit code 1: a result was wrong.")
{
    filter, threads, dtype, peers, tsv, from, chart, summary, cache, checkOnly, seconds, scaling, micro,
};
root.SetAction(parsed =>
{
    if (!parsed.GetValue(checkOnly) && typeof(NormLayer).Assembly.GetCustomAttribute<DebuggableAttribute>() is { IsJITOptimizerDisabled: true })
        Console.WriteLine("Built for debugging: the times mean nothing. Use -c Release.");
    if (parsed.GetValue(micro))
    {
        Micro.Run();
        return 0;
    }
    if (parsed.GetValue(scaling))
    {
        List<Scaling> runs = [.. parsed.GetValue(threads)!.Select(count => new Scaling(parsed.GetValue(seconds), count, parsed.GetValue(filter)!))];
        int wrong = runs.Count(run => !run.Print());
        if (parsed.GetValue(tsv) is { } tsvFile)
            Result.Append(tsvFile.FullName, runs.SelectMany(run => run.Results).SelectMany(result => result.Times.Results));
        if (parsed.GetValue(summary) is { } scalingFile)
            Scaling.WriteSummary(scalingFile.FullName, runs.SelectMany(run => run.Results));
        return wrong == 0 ? 0 : 1;
    }

    long lastLevelCache = parsed.GetValue(cache) is { } megabytes ? (long)(megabytes * (1 << 20)) : Goals.SystemCache();
    var run = new Run(new RunOptions(parsed.GetValue(filter)!, parsed.GetValue(threads)!, parsed.GetValue(dtype)!.Split(','), parsed.GetValue(peers),
        parsed.GetValue(checkOnly), parsed.GetValue(seconds), parsed.GetValue(tsv)?.FullName));
    if (parsed.GetValue(from) is null)
        run.Execute();
    IReadOnlyList<Comparison> comparisons = parsed.GetValue(from) is { } file ? Comparison.From(Result.Read(file.FullName)) : run.Comparisons;
    var goals = new Goals(lastLevelCache);
    if (comparisons.Count > 0)
    {
        Console.WriteLine($"last-level cache {lastLevelCache / 1024.0 / 1024:F1} MB; out of cache is an output of that size or larger");
        Report.PrintGoals(goals.Of(comparisons));
    }
    if (parsed.GetValue(chart) is { } chartFile)
        Chart.Write(chartFile.FullName, comparisons, goals);
    if (parsed.GetValue(summary) is { } summaryFile)
        Report.WriteSummary(summaryFile.FullName, comparisons, goals);
    return run.Wrong == 0 ? 0 : 1;
});
return root.Parse(args).Invoke();
