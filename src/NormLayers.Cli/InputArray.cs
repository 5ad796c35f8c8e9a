using System.Numerics.Tensors;
using NormLayers.IO;

namespace NormLayers.Cli;

/// <summary>
/// An array that an argument names: <c>FILE.npy</c>; <c>FILE.npz</c> or <c>FILE.safetensors</c> where it holds one, else with
/// its name, <c>FILE.npz:NAME</c>; or <c>-</c>, a .npy file on standard input.
/// </summary>
internal sealed class InputArray : IDisposable
{
    public const string StandardStream = "-";

    private const int ShownNames = 3;

    private static readonly string[] Archives = [".npz", ".safetensors"];

    private readonly IDisposable owner;
    private readonly StoredTensor stored;

    private InputArray(string name, string? member, IDisposable owner, StoredTensor stored)
    {
        (Name, Member, this.owner, this.stored) = (name, member, owner, stored);
        Shape = Array.ConvertAll(stored.Shape.ToArray(), static length => (long)length);
    }

    /// <summary>What messages call the array: the path, with the array's name where the file has names.</summary>
    public string Name { get; }

    /// <summary>The array's name within its file, where the file has names.</summary>
    public string? Member { get; }

    public long[] Shape { get; }

    public ElementType ElementType => stored.Type;

    public long ElementCount => stored.Count;

    public bool IsFortranOrder => stored.FortranOrder;

    public static InputArray Open(string argument, CancellationToken cancellation)
    {
        (string path, string? member) = Split(argument);
        if (argument == StandardStream)
            return Of(ReadStandardInput(cancellation), null);
        if (HasExtension(path, ".npz"))
        {
            using NpzFile archive = NpzFile.Open(path);
            string name = Choose(path, archive.Names, member, "array");
            return Of(Find(() => archive.Read(name)), name);
        }
        return HasExtension(path, ".safetensors") ? OfSafetensors(path, member) : Of(NpyFile.Open(path), null);
    }

    /// <summary>The file, and the name within it where the argument has one: what follows an archive's extension and a colon.</summary>
    public static (string Path, string? Member) Split(string argument)
    {
        foreach (string extension in Archives)
        {
            int at = argument.IndexOf(extension + ":", StringComparison.OrdinalIgnoreCase);
            if (at >= 0 && !File.Exists(argument))
                return (argument[..(at + extension.Length)], argument[(at + extension.Length + 1)..]);
        }
        return (argument, null);
    }

    public static bool HasExtension(string path, string extension) => path.EndsWith(extension, StringComparison.OrdinalIgnoreCase);

    /// <summary>Shows the elements in place, or copies them where their byte order or alignment leaves no other way.</summary>
    public ReadOnlyTensorSpan<T> Elements<T>()
        where T : unmanaged
        => TryView(out ReadOnlyTensorSpan<T> view) ? view : Read<T>();

    public bool TryView<T>(out ReadOnlyTensorSpan<T> view)
        where T : unmanaged
    {
        try
        {
            view = stored.View<T>();
            return true;
        }
        catch (InvalidOperationException)
        {
            // The other byte order, or unaligned elements: these need a copy.
            view = default;
            return false;
        }
    }

    public Tensor<T> Read<T>()
        where T : unmanaged
        => Copy(stored.Read<T>);

    public Tensor<T> ReadAs<T>()
        where T : unmanaged
        => Copy(stored.ReadAs<T>);

    public void Dispose() => owner.Dispose();

    /// <summary>A pipe may never end, and a read of it cannot be broken off: interrupted, it is left behind and ends with the process.</summary>
    private static NpyFile ReadStandardInput(CancellationToken cancellation)
        => Task.Run(static () => NpyFile.Read(Console.OpenStandardInput(), "standard input"), CancellationToken.None).WaitAsync(cancellation).GetAwaiter().GetResult();

    private static InputArray Of(NpyFile file, string? member) => new(file.Path, member, file, file.Stored());

    private static InputArray OfSafetensors(string path, string? member)
    {
        SafetensorsFile file = SafetensorsFile.Open(path);
        try
        {
            string name = Choose(path, file.Names, member, "tensor");
            return new InputArray($"{path}:{name}", name, file, Find(() => file.Stored(name)));
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    private static string Choose(string path, IReadOnlyList<string> names, string? member, string kind)
    {
        if (member is not null)
            return member;
        if (names.Count == 1)
            return names[0];
        if (names.Count == 0)
            throw new Refused($"{path}: has no {kind}.");
        string shown = string.Join(", ", names.Take(ShownNames).Select(name => $"'{name}'")) + (names.Count > ShownNames ? ", ..." : "");
        throw new Refused($"{path}: has {names.Count} {kind}s; accepted is the name of one, {path}:NAME, among {shown}.");
    }

    private static TResult Find<TResult>(Func<TResult> find)
    {
        try
        {
            return find();
        }
        catch (KeyNotFoundException missing)
        {
            throw new Refused(missing.Message);
        }
    }

    /// <summary>A copy of the elements, or a refusal where they are more than memory takes in one piece.</summary>
    private static Tensor<T> Copy<T>(Func<Tensor<T>> read)
    {
        try
        {
            return read();
        }
        catch (InvalidOperationException tooMany)
        {
            throw new Refused(tooMany.Message);
        }
    }
}
