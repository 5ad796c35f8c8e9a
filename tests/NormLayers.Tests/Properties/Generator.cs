namespace NormLayers.Tests.Properties;

/// <summary>
/// Seeded numbers that are the same on every platform and every version of .NET: SplitMix64 (Steele, Lea and Flood 2014), and
/// values made of its integers by exact operations only.
/// </summary>
internal sealed class Generator(ulong seed)
{
    private ulong state = seed;

    public ulong Next()
    {
        ulong z = state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }

    /// <summary>An integer from 0 to <paramref name="count"/> - 1.</summary>
    public int Below(int count) => (int)(Next() % (ulong)count);

    public bool Flip() => Below(2) == 1;

    public TItem Pick<TItem>(params ReadOnlySpan<TItem> items) => items[Below(items.Length)];

    /// <summary>A value in [-4, 4) that uses all the digits of its type.</summary>
    public T Value<T>() where T : unmanaged
        => Numbers.FromDouble<T>(typeof(T) != typeof(double)
            ? ((int)(Next() >> 40) - (1 << 23)) * (1.0 / (1 << 21))
            : ((long)(Next() >> 11) - (1L << 52)) * (1.0 / (1L << 50)));

    public T[] Values<T>(int count, double scale = 1, double offset = 0) where T : unmanaged
    {
        var values = new T[count];
        for (int i = 0; i < count; i++)
            values[i] = Numbers.FromDouble<T>(Numbers.ToDouble(Value<T>()) * scale + offset);
        return values;
    }

    /// <summary>The numbers 0 to <paramref name="count"/> - 1 in some order.</summary>
    public int[] Permutation(int count)
    {
        int[] order = [.. Enumerable.Range(0, count)];
        for (int i = count - 1; i > 0; i--)
        {
            int j = Below(i + 1);
            (order[i], order[j]) = (order[j], order[i]);
        }
        return order;
    }
}
