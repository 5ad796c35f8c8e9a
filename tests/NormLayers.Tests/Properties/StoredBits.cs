using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Xunit;

namespace NormLayers.Tests.Properties;

/// <summary>
/// A table of hashes of results, which every machine and every instruction set must give. A deliberate change of the
/// arithmetic replaces the rows by those that the failure prints, and is a change of version.
/// </summary>
internal static class StoredBits
{
    /// <summary>Throws unless the rows are those of <c>folder/bits.tsv</c>, no more and no fewer.</summary>
    public static void Check(string folder, IEnumerable<(string Name, string Hash)> rows)
    {
        Dictionary<string, string> stored = File.ReadAllLines(Path.Combine(AppContext.BaseDirectory, folder, "bits.tsv"))
            .Select(line => line.Split('\t'))
            .ToDictionary(fields => fields[0], fields => fields[1]);
        var wrong = new List<string>();
        int count = 0;
        foreach ((string name, string hash) in rows)
        {
            count++;
            if (stored.GetValueOrDefault(name) != hash)
                wrong.Add($"{name}\t{hash}");
        }
        Assert.True(wrong.Count == 0, $"{wrong.Count} of {count} cases differ; their rows are now:\n{string.Join('\n', wrong)}");
        Assert.Equal(stored.Count, count);
    }

    /// <summary>The hash of results one after the other; none may be NaN, whose bits are the processor's.</summary>
    public static string Hash<T>(params T[]?[] results) where T : unmanaged
    {
        T[] all = [.. results.SelectMany(result => result ?? [])];
        Assert.DoesNotContain(all, value => double.IsNaN(Numbers.ToDouble(value)));
        return Convert.ToHexStringLower(SHA256.HashData(MemoryMarshal.AsBytes(all.AsSpan())));
    }
}
