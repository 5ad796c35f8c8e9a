namespace NormLayers.Benchmarks;

internal static class Repository
{
    /// <summary>The folder that holds the case list and the peers' scripts, wherever below the repository this was built.</summary>
    public static string Peers { get; } = Path.Combine(Find(), "benchmarks", "peers");

    public static string CaseList => Path.Combine(Peers, "cases.tsv");

    private static string Find()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, "NormLayers.slnx")))
            folder = Path.GetDirectoryName(folder);
        return folder ?? throw new DirectoryNotFoundException($"No folder above {AppContext.BaseDirectory} holds NormLayers.slnx.");
    }
}
