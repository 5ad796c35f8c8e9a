using System.Buffers;

namespace NormLayers.Internals;

/// <summary>Scratch memory from the shared pool, not cleared; disposing gives it back.</summary>
internal readonly ref struct RentedDoubles
{
    private readonly double[] array;

    internal RentedDoubles(nint length)
    {
        array = length == 0 ? [] : ArrayPool<double>.Shared.Rent(checked((int)length));
        Span = array.AsSpan(0, (int)length);
    }

    internal Span<double> Span { get; }

    public void Dispose()
    {
        if (array.Length > 0)
            ArrayPool<double>.Shared.Return(array);
    }
}
