namespace NormLayers.Tests;

internal static class Repository
{
    /// <summary>The folder that holds NormLayers.slnx, wherever below it the tests were built.</summary>
    public static string Root { get; } = Find();

    private static string Find()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, "NormLayers.slnx")))
            folder = Path.GetDirectoryName(folder);
        return folder ?? throw new DirectoryNotFoundException($"No folder above {AppContext.BaseDirectory} holds NormLayers.slnx.");
    }
}
