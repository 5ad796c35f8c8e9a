using System.Numerics.Tensors;

namespace NormLayers.IO;

/// <summary>
/// A .npy file being written in place, through a mapping. It gets its name only on <see cref="Commit"/>; until then it
/// is a temporary file in the same folder, which <see cref="Dispose"/> removes.
/// </summary>
/// <typeparam name="T">The element type.</typeparam>
/// <remarks>All room on the disk is reserved at the start. Made by <see cref="NpyFile.Create"/>.</remarks>
public sealed unsafe class NpyOutput<T> : IDisposable
    where T : unmanaged
{
    private readonly NewFile file;
    private readonly int dataOffset;
    private readonly nint[] lengths;
    private readonly long count;

    internal NpyOutput(NewFile file, int dataOffset, nint[] shape, long count)
    {
        this.file = file;
        this.dataOffset = dataOffset;
        this.count = count;
        lengths = Shapes.InMemory(shape);
    }

    /// <summary>The path that the file gets.</summary>
    public string Path => file.Path;

    /// <summary>The elements, row-major, zero at first; of shape [1] for a scalar. Must not be used after
    /// <see cref="Commit"/> or <see cref="Dispose"/>: that is a fault that ends the process.</summary>
    /// <exception cref="ObjectDisposedException">The output was committed or disposed.</exception>
    public TensorSpan<T> Tensor => new((T*)(file.Start + dataOffset), (nint)count, lengths);

    /// <summary>Forces the bytes to the disk and gives the file its name. The output is closed afterwards.</summary>
    /// <exception cref="IOException">A file of this name exists and overwriting was not asked for (then the output is still
    /// open), or the bytes could not be written.</exception>
    /// <exception cref="UnauthorizedAccessException">The file may not be renamed.</exception>
    /// <exception cref="ObjectDisposedException">The output was committed or disposed.</exception>
    public void Commit() => file.Commit();

    /// <summary>Closes the output. What was not committed is removed.</summary>
    public void Dispose() => file.Dispose();

    internal void Fill(in ReadOnlyTensorSpan<T> source)
    {
        fixed (T* from = source)
            StridedCopy.ToRowMajor<T, T>((byte*)from, source.Lengths, source.Strides, swapBytes: false, (T*)(file.Start + dataOffset));
    }
}
