using System.Buffers;

namespace NormLayers.Internals;

/// <summary>Scratch memory from the shared pool, not cleared; disposing gives it back.</summary>
internal readonly ref struct RentedDoubles
{
    private readonly double[] array;

    internal RentedDoubles(nint length)
    {
        // Windows over tens of millions of channels.
        if (length > Array.MaxLength)
            throw new ArgumentException($"Expected an input that takes scratch memory of at most {Array.MaxLength} doubles, got one that takes {length}: a dimension is too long.");
        array = length == 0 ? [] : ArrayPool<double>.Shared.Rent((int)length);
        Span = array.AsSpan(0, (int)length);
    }

    internal Span<double> Span { get; }

    public void Dispose()
    {
        if (array.Length > 0)
            ArrayPool<double>.Shared.Return(array);
    }
}
