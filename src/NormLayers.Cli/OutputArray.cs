using System.Numerics.Tensors;
using NormLayers.IO;

namespace NormLayers.Cli;

/// <summary>
/// An array on its way to where an argument says: a .npy file, the one array of a .npz file, or <c>-</c>, standard output.
/// Nothing appears there before <see cref="Commit"/>, and what is not committed is removed.
/// </summary>
internal sealed class OutputArray<T> : IDisposable
    where T : unmanaged
{
    /// <summary>What NumPy calls an array that was given no name.</summary>
    private const string DefaultMember = "arr_0";

    private readonly NpyOutput<T>? file;
    private readonly Tensor<T>? memory;
    private readonly Action commit;

    /// <param name="argument">Where to.</param>
    /// <param name="shape">The array's shape; empty for a scalar.</param>
    /// <param name="member">The array's name in a .npz file, unless the argument says one.</param>
    /// <param name="force">Whether an existing file is replaced.</param>
    public OutputArray(string argument, ReadOnlySpan<nint> shape, string? member, bool force)
    {
        (string path, string? named) = InputArray.Split(argument);
        bool archive = InputArray.HasExtension(path, ".npz");
        if (!archive && argument != InputArray.StandardStream)
        {
            file = NpyFile.Create<T>(argument, shape, force);
            commit = file.Commit;
            return;
        }
        nint[] lengths = shape.ToArray();
        memory = System.Numerics.Tensors.Tensor.CreateFromShapeUninitialized<T>(lengths.Length == 0 ? [1] : lengths);
        if (!archive)
        {
            commit = () =>
            {
                using Stream stream = Console.OpenStandardOutput();
                NpyFile.Write(stream, memory.AsReadOnlyTensorSpan(), lengths);
            };
            return;
        }
        // An archive is made only on commit: what would fail then is refused now.
        if (Path.GetDirectoryName(Path.GetFullPath(path)) is { } folder && !Directory.Exists(folder))
            throw new DirectoryNotFoundException($"{path}: its folder does not exist.");
        var writer = new NpzWriter();
        writer.Add(named ?? member ?? DefaultMember, memory, lengths);
        commit = () => writer.Save(path, force);
    }

    /// <summary>The elements, row-major.</summary>
    public TensorSpan<T> Tensor => file is null ? memory!.AsTensorSpan() : file.Tensor;

    public void Commit() => commit();

    public void Dispose() => file?.Dispose();
}
