using System.Numerics.Tensors;

namespace NormLayers.IO;

/// <summary>A NumPy array file (.npy), mapped into memory for reading; and the functions that write one.</summary>
/// <remarks>
/// Format versions 1.0, 2.0 and 3.0, C and Fortran order, both byte orders, the types b1, i1 to i8, u1 to u8, f2 to f8.
/// Bytes after the array are ignored, as NumPy ignores them. The file must not be cut short while it is open: the
/// operating system ends a process that reads a mapping past the end of its file. Reading from several threads is safe;
/// disposing while another thread reads is not.
/// </remarks>
public sealed unsafe class NpyFile : IDisposable
{
    private readonly MappedFile file;
    private readonly NpyHeader header;

    private NpyFile(MappedFile file)
    {
        this.file = file;
        header = NpyHeader.Parse(file.Path, file.Bytes(NpyHeader.StartLength(file.Length)), file.Length);
        Shape = Shapes.Public(header.Shape);
    }

    /// <summary>The path or name as it was given on opening.</summary>
    public string Path => file.Path;

    /// <summary>The type of the elements.</summary>
    public ElementType ElementType => header.Type;

    /// <summary>The shape as the file has it; empty for a scalar, which in memory is a tensor of shape [1].</summary>
    public IReadOnlyList<long> Shape { get; }

    /// <summary>Whether the first index runs fastest in the file.</summary>
    public bool IsFortranOrder => header.FortranOrder;

    /// <summary>The number of elements; 1 for a scalar.</summary>
    public long ElementCount => header.Count;

    /// <summary>Maps a file and checks its header; no element is read yet.</summary>
    /// <param name="path">The file.</param>
    /// <returns>The open file; dispose it to unmap.</returns>
    /// <exception cref="ArgumentException"><paramref name="path"/> is null or empty.</exception>
    /// <exception cref="FileNotFoundException">There is no such file.</exception>
    /// <exception cref="DirectoryNotFoundException">There is no such folder.</exception>
    /// <exception cref="UnauthorizedAccessException">The file may not be read.</exception>
    /// <exception cref="InvalidDataException">It is not a .npy file, is cut short, or holds what is not supported: the
    /// message is one line with the path, what was found and what is accepted.</exception>
    /// <exception cref="IOException">It is a folder or a pipe, or it cannot be mapped.</exception>
    public static NpyFile Open(string path)
    {
        MappedFile file = MappedFile.Open(path);
        try
        {
            return new NpyFile(file);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Reads an array from a stream into memory of its own.</summary>
    /// <param name="stream">The stream; it need not seek. Some of what follows the array may be read, and is not used.</param>
    /// <param name="name">What messages call the stream.</param>
    /// <param name="maxLength">The most bytes that are accepted, header and elements.</param>
    /// <returns>The array; dispose it to free the memory.</returns>
    /// <remarks>Memory is taken as bytes arrive, at most twice as much, so that a header costs nothing that no elements follow.</remarks>
    /// <exception cref="ArgumentNullException"><paramref name="stream"/> or <paramref name="name"/> is null.</exception>
    /// <exception cref="InvalidDataException">It is not a .npy file, is cut short, holds what is not supported, or has more than
    /// <paramref name="maxLength"/> bytes: the message is one line with the name, what was found and what is accepted.</exception>
    /// <exception cref="IOException">The stream could not be read.</exception>
    /// <exception cref="OutOfMemoryException">There is not so much memory.</exception>
    public static NpyFile Read(Stream stream, string name, long maxLength = long.MaxValue)
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(name);
        var block = new NativeBlock();
        try
        {
            int start = NpyHeader.StartLength(long.MaxValue);
            block.ReadTo(start, stream);
            // A stream that goes on has no length yet to check the shape against; the shape says how much to read.
            NpyHeader header = NpyHeader.Parse(name, block.Bytes((int)block.Length), block.Length < start ? block.Length : long.MaxValue);
            long needed = header.DataOffset + (header.Count * header.Type.Size());
            if (needed > maxLength)
                throw Refusal.Of(name, $"has a shape that needs {needed} bytes with its header; at most {maxLength} are there or accepted.");
            block.ReadTo(needed, stream);
            return new NpyFile(new MappedFile(name, block));
        }
        catch
        {
            block.Dispose();
            throw;
        }
    }

    /// <summary>Writes a tensor to a stream, row-major, in the machine's byte order.</summary>
    /// <typeparam name="T">The element type, any but <see cref="BFloat16"/>, which NumPy does not have.</typeparam>
    /// <param name="stream">The stream; it need not seek.</param>
    /// <param name="tensor">The tensor, of any strides.</param>
    /// <param name="shape">The shape that the array gets; empty for a scalar.</param>
    /// <exception cref="ArgumentNullException"><paramref name="stream"/> is null.</exception>
    /// <exception cref="ArgumentException"><paramref name="tensor"/> is default, or <paramref name="shape"/> has a negative length,
    /// more than 64 dimensions or another number of elements.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> cannot be stored.</exception>
    /// <exception cref="IOException">The stream could not be written.</exception>
    public static void Write<T>(Stream stream, in ReadOnlyTensorSpan<T> tensor, ReadOnlySpan<nint> shape)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(stream);
        Shapes.RequireSameCount(tensor, shape);
        stream.Write(NpyHeader.Write(ElementTypes.Of<T>(), shape));
        if (!tensor.IsDense)
        {
            Tensor<T> copy = Tensor.CreateFromShapeUninitialized<T>(tensor.Lengths);
            fixed (T* source = tensor, destination = copy)
                StridedCopy.ToRowMajor<T, T>((byte*)source, tensor.Lengths, tensor.Strides, swapBytes: false, destination);
            WriteElements(stream, copy.AsReadOnlyTensorSpan());
            return;
        }
        WriteElements(stream, tensor);

        static void WriteElements(Stream stream, in ReadOnlyTensorSpan<T> rowMajor)
        {
            long length = rowMajor.FlattenedLength * sizeof(T);
            fixed (T* first = rowMajor)
            {
                for (long start = 0; start < length; start += Array.MaxLength)
                    stream.Write(new ReadOnlySpan<byte>((byte*)first + start, (int)Math.Min(Array.MaxLength, length - start)));
            }
        }
    }

    /// <summary>Writes a tensor, row-major, in the machine's byte order. The file appears whole or not at all.</summary>
    /// <typeparam name="T">The element type, any but <see cref="BFloat16"/>, which NumPy does not have.</typeparam>
    /// <param name="path">The file to make.</param>
    /// <param name="tensor">The tensor, of any strides.</param>
    /// <param name="overwrite">Whether an existing file is replaced.</param>
    /// <exception cref="ArgumentException"><paramref name="path"/> is null or empty, or <paramref name="tensor"/> is
    /// default or has more than 64 dimensions.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> cannot be stored.</exception>
    /// <exception cref="DirectoryNotFoundException">There is no such folder.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder may not be written to.</exception>
    /// <exception cref="IOException">The file exists and <paramref name="overwrite"/> is false, it is a folder, or the
    /// disk has no room.</exception>
    public static void Write<T>(string path, in ReadOnlyTensorSpan<T> tensor, bool overwrite = false)
        where T : unmanaged
        => Write(path, tensor, tensor.Lengths, overwrite);

    /// <summary>Writes a tensor under another shape of as many elements, such as the empty shape of a scalar.</summary>
    /// <typeparam name="T">The element type, any but <see cref="BFloat16"/>, which NumPy does not have.</typeparam>
    /// <param name="path">The file to make.</param>
    /// <param name="tensor">The tensor, of any strides.</param>
    /// <param name="shape">The shape that the file gets; empty for a scalar.</param>
    /// <param name="overwrite">Whether an existing file is replaced.</param>
    /// <exception cref="ArgumentException"><paramref name="path"/> is null or empty, <paramref name="tensor"/> is default,
    /// or <paramref name="shape"/> has a negative length, more than 64 dimensions or another number of elements.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> cannot be stored.</exception>
    /// <exception cref="DirectoryNotFoundException">There is no such folder.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder may not be written to.</exception>
    /// <exception cref="IOException">The file exists and <paramref name="overwrite"/> is false, it is a folder, or the
    /// disk has no room.</exception>
    public static void Write<T>(string path, in ReadOnlyTensorSpan<T> tensor, ReadOnlySpan<nint> shape, bool overwrite = false)
        where T : unmanaged
    {
        Shapes.RequireSameCount(tensor, shape);
        using NpyOutput<T> output = Create<T>(path, shape, overwrite);
        output.Fill(tensor);
        output.Commit();
    }

    /// <inheritdoc cref="Write{T}(string, in ReadOnlyTensorSpan{T}, bool)"/>
    public static void Write<T>(string path, Tensor<T> tensor, bool overwrite = false)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(tensor);
        Write(path, tensor.AsReadOnlyTensorSpan(), overwrite);
    }

    /// <inheritdoc cref="Write{T}(string, in ReadOnlyTensorSpan{T}, ReadOnlySpan{nint}, bool)"/>
    public static void Write<T>(string path, Tensor<T> tensor, ReadOnlySpan<nint> shape, bool overwrite = false)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(tensor);
        Write(path, tensor.AsReadOnlyTensorSpan(), shape, overwrite);
    }

    /// <summary>Begins a file of this shape, filled with zeros, to be filled in place; it appears on
    /// <see cref="NpyOutput{T}.Commit"/>.</summary>
    /// <typeparam name="T">The element type, any but <see cref="BFloat16"/>, which NumPy does not have.</typeparam>
    /// <param name="path">The file to make.</param>
    /// <param name="shape">The shape; empty for a scalar.</param>
    /// <param name="overwrite">Whether an existing file is replaced.</param>
    /// <returns>The output; dispose it.</returns>
    /// <exception cref="ArgumentException"><paramref name="path"/> is null or empty, or <paramref name="shape"/> has a
    /// negative length, more than 64 dimensions or more elements than can be counted.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> cannot be stored.</exception>
    /// <exception cref="DirectoryNotFoundException">There is no such folder.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder may not be written to.</exception>
    /// <exception cref="IOException">The file exists and <paramref name="overwrite"/> is false, it is a folder, or the
    /// disk has no room.</exception>
    public static NpyOutput<T> Create<T>(string path, ReadOnlySpan<nint> shape, bool overwrite = false)
        where T : unmanaged
    {
        ElementType type = ElementTypes.Of<T>();
        long count = Shapes.Count(shape, type.Size(), nameof(shape));
        byte[] start = NpyHeader.Write(type, shape);
        NewFile file = NewFile.Create(path, checked(start.Length + (count * type.Size())), overwrite);
        start.CopyTo(new Span<byte>(file.Start, start.Length));
        return new NpyOutput<T>(file, start.Length, shape.ToArray(), count);
    }

    /// <summary>Copies the array into a new row-major tensor.</summary>
    /// <typeparam name="T">The C# type of <see cref="ElementType"/>.</typeparam>
    /// <returns>The tensor; of shape [1] for a scalar.</returns>
    /// <exception cref="InvalidOperationException"><typeparamref name="T"/> is not the type of the elements, or they are
    /// more than one managed tensor can hold.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is no element type.</exception>
    /// <exception cref="InvalidDataException">An element of a bool array is neither 0 nor 1.</exception>
    /// <exception cref="ObjectDisposedException">The file was disposed.</exception>
    public Tensor<T> Read<T>()
        where T : unmanaged
        => Stored().Read<T>();

    /// <summary>Copies the array into a new row-major tensor, converting each element with one rounding, ties to even.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <returns>The tensor; of shape [1] for a scalar. True is 1; what is too large becomes infinity.</returns>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is another type.</exception>
    /// <exception cref="InvalidOperationException">The elements are more than one managed tensor can hold.</exception>
    /// <exception cref="InvalidDataException">An element of a bool array is neither 0 nor 1.</exception>
    /// <exception cref="ObjectDisposedException">The file was disposed.</exception>
    public Tensor<T> ReadAs<T>()
        where T : unmanaged
        => Stored().ReadAs<T>();

    /// <summary>Shows the array in place, without a copy; Fortran order gives a view with such strides.</summary>
    /// <typeparam name="T">The C# type of <see cref="ElementType"/>.</typeparam>
    /// <returns>The view, valid until <see cref="Dispose"/>: reading it later is a fault that ends the process.</returns>
    /// <exception cref="InvalidOperationException"><typeparamref name="T"/> is not the type of the elements, they have the
    /// other byte order, or the file did not align them: <see cref="Read"/> works then.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is no element type.</exception>
    /// <exception cref="InvalidDataException">An element of a bool array is neither 0 nor 1.</exception>
    /// <exception cref="ObjectDisposedException">The file was disposed.</exception>
    public ReadOnlyTensorSpan<T> View<T>()
        where T : unmanaged
        => Stored().View<T>();

    /// <summary>Unmaps the file. Views of it must not be read any more.</summary>
    public void Dispose() => file.Dispose();

    /// <summary>The whole file.</summary>
    internal MappedFile Contents => file;

    internal StoredTensor Stored() => new(
        file.Path, file.Start + header.DataOffset, header.Type, header.Shape, header.Count, header.FortranOrder, header.ForeignByteOrder);
}
