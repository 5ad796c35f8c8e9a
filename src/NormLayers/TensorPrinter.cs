using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using NormLayers.Internals;

namespace NormLayers;

/// <summary>How <see cref="TensorPrinter"/> writes numbers and lines: the options of <c>torch.set_printoptions</c>.</summary>
public sealed record TensorPrintOptions
{
    /// <summary>The digits after the point of floating-point elements. Default: 4.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is negative.</exception>
    public int Precision
    {
        get;
        init
        {
            ArgumentOutOfRangeException.ThrowIfNegative(value);
            field = value;
        }
    } = 4;

    /// <summary>A tensor with more elements than this is summarized. Default: 1000.</summary>
    public long Threshold { get; init; } = 1000;

    /// <summary>The items that a summary keeps at each end of a dimension. Default: 3.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is negative.</exception>
    public int EdgeItems
    {
        get;
        init
        {
            ArgumentOutOfRangeException.ThrowIfNegative(value);
            field = value;
        }
    } = 3;

    /// <summary>The characters after which lines break. Default: 80.</summary>
    public int LineWidth { get; init; } = 80;

    /// <summary>Forces scientific notation on or off. Default: null, where the elements decide.</summary>
    public bool? ScientificMode { get; init; }

    internal static TensorPrintOptions Default { get; } = new();
}

/// <summary>Prints tensors as PyTorch does, to the character.</summary>
/// <remarks>
/// The text agrees with <c>print(t)</c> of PyTorch 2.x (<c>torch/_tensor_str.py</c>) for CPU tensors, with the dtype shown
/// where PyTorch shows it: always, except for <c>float32</c>, <c>int64</c> and <c>bool</c>.
/// </remarks>
public static class TensorPrinter
{
    private const string Prefix = "tensor(";

    /// <summary>Prints a tensor as PyTorch's <c>print(t)</c> does.</summary>
    /// <typeparam name="T">
    /// <see cref="float"/>, <see cref="double"/>, <see cref="Half"/>, <see cref="BFloat16"/>, <see cref="long"/>,
    /// <see cref="int"/>, <see cref="short"/>, <see cref="sbyte"/>, <see cref="byte"/> or <see cref="bool"/>.
    /// </typeparam>
    /// <param name="tensor">The tensor, in any layout. Only the elements that are shown are read.</param>
    /// <param name="options">How to print; null for PyTorch's defaults.</param>
    /// <returns>Such as <c>tensor([1.0000, 2.5000])</c>, with <c>\n</c> between lines and none at the end.</returns>
    /// <exception cref="ArgumentException"><paramref name="tensor"/> is <c>default</c>, which has no shape.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not one of the types above.</exception>
    public static string Format<T>(in ReadOnlyTensorSpan<T> tensor, TensorPrintOptions? options = null)
        => Write(tensor, options ?? TensorPrintOptions.Default, requiresGrad: false);

    /// <summary>Prints a tensor as PyTorch's <c>print(t)</c> does.</summary>
    /// <typeparam name="T">The types of <see cref="Format{T}(in ReadOnlyTensorSpan{T}, TensorPrintOptions?)"/>.</typeparam>
    /// <param name="tensor">The tensor, in any layout. Only the elements that are shown are read.</param>
    /// <param name="options">How to print; null for PyTorch's defaults.</param>
    /// <returns>Such as <c>tensor([1.0000, 2.5000])</c>, with <c>\n</c> between lines and none at the end.</returns>
    /// <exception cref="ArgumentNullException"><paramref name="tensor"/> is null.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not one of the accepted types.</exception>
    public static string Format<T>(Tensor<T> tensor, TensorPrintOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        return Format(tensor.AsReadOnlyTensorSpan(), options);
    }

    /// <summary>Prints a number as Python prints a float: <c>1e-05</c>, <c>0.001</c>, <c>1.0</c>.</summary>
    /// <param name="value">The number.</param>
    /// <returns>The text of <c>print(value)</c> in Python: the shortest that reads back the same.</returns>
    public static string Format(double value) => PythonText.Float(value);

    /// <summary>Prints a shape as <c>print(t.shape)</c> does: <c>torch.Size([1, 4, 5, 5])</c>.</summary>
    /// <param name="lengths">The lengths of the dimensions.</param>
    /// <returns>The text.</returns>
    public static string FormatSize(ReadOnlySpan<nint> lengths) => $"torch.Size({Layout.Text(lengths)})";

    /// <summary>Prints a parameter as <c>torch.nn.Parameter</c> prints itself: a heading line, then the tensor.</summary>
    internal static string FormatParameter<T>(in ReadOnlyTensorSpan<T> tensor, bool requiresGrad = true,
        TensorPrintOptions? options = null)
        => "Parameter containing:\n" + Write(tensor, options ?? TensorPrintOptions.Default, requiresGrad);

    private static string Write<T>(in ReadOnlyTensorSpan<T> tensor, TensorPrintOptions options, bool requiresGrad)
    {
        string dtype = DTypeName<T>();
        if (tensor.Rank == 0)
            throw new ArgumentException("The tensor is default and has no shape; a tensor of one element has the shape [1].", nameof(tensor));

        long count = tensor.FlattenedLength;
        var text = new StringBuilder(Prefix);
        var suffixes = new List<string>();
        if (count == 0)
        {
            text.Append("[]");
        }
        else
        {
            bool summarize = count > options.Threshold;
            var shown = new List<T>();
            Gather(shown, in TensorMarshal.GetReference(in tensor), tensor.Lengths, tensor.Strides, summarize, options);
            string[] texts = Texts<T>(CollectionsMarshal.AsSpan(shown), options, out int width);
            PythonTensorText.Layout(text, texts, width, tensor.Lengths, summarize, options);
        }

        if (count == 0 ? tensor.Rank != 1 : options.EdgeItems == 0)
            suffixes.Add("size=" + PythonText.Tuple(tensor.Lengths));
        // Without elements nothing tells an int64 or a bool tensor from a float32 one, so only the default stays silent.
        bool silent = typeof(T) == typeof(float) || (count != 0 && (typeof(T) == typeof(long) || typeof(T) == typeof(bool)));
        if (!silent)
            suffixes.Add("dtype=torch." + dtype);
        if (requiresGrad)
            suffixes.Add("requires_grad=True");
        return Close(text, suffixes, options.LineWidth);
    }

    private static string Close(StringBuilder text, List<string> suffixes, int lineWidth)
    {
        // The 1 too many, or 2 in a text of one line, is PyTorch's own count: it decides where suffixes wrap.
        string body = text.ToString();
        int line = body.Length - body.LastIndexOf('\n') + 1;
        foreach (string suffix in suffixes)
        {
            bool wrap = line + suffix.Length + 2 > lineWidth;
            text.Append(wrap ? ",\n" + new string(' ', Prefix.Length) : ", ").Append(suffix);
            line = suffix.Length + (wrap ? Prefix.Length : line + 2);
        }
        return text.Append(')').ToString();
    }

    private static void Gather<T>(List<T> shown, ref readonly T origin, ReadOnlySpan<nint> lengths, ReadOnlySpan<nint> strides,
        bool summarize, TensorPrintOptions options)
    {
        int? edge = PythonTensorText.Edge(lengths[0], summarize, options);
        for (nint i = 0; i < lengths[0]; i++)
        {
            if (i == edge)
                i = lengths[0] - edge.Value;
            if (i == lengths[0])
                break;
            ref readonly T item = ref Unsafe.Add(ref Unsafe.AsRef(in origin), i * strides[0]);
            if (lengths.Length == 1)
                shown.Add(item);
            else
                Gather(shown, in item, lengths[1..], strides[1..], summarize, options);
        }
    }

    private static string[] Texts<T>(ReadOnlySpan<T> shown, TensorPrintOptions options, out int width)
    {
        if (typeof(T) == typeof(bool))
        {
            bool[] bools = new bool[shown.Length];
            for (int i = 0; i < bools.Length; i++)
                bools[i] = (bool)(object)shown[i]!;
            return PythonTensorText.Bools(bools, out width);
        }
        if (IsFloatingPoint<T>())
        {
            double[] doubles = new double[shown.Length];
            for (int i = 0; i < doubles.Length; i++)
                doubles[i] = ToDouble(shown[i]);
            return PythonTensorText.Floats(doubles, options, out width);
        }
        long[] longs = new long[shown.Length];
        for (int i = 0; i < longs.Length; i++)
            longs[i] = ToInt64(shown[i]);
        return PythonTensorText.Integers(longs, out width);
    }

    private static bool IsFloatingPoint<T>()
        => typeof(T) == typeof(float) || typeof(T) == typeof(double) || typeof(T) == typeof(Half) || typeof(T) == typeof(BFloat16);

    private static double ToDouble<T>(T value)
        => typeof(T) == typeof(float) ? (float)(object)value!
            : typeof(T) == typeof(double) ? (double)(object)value!
            : typeof(T) == typeof(Half) ? (double)(Half)(object)value!
            : (double)(BFloat16)(object)value!;

    private static long ToInt64<T>(T value)
        => typeof(T) == typeof(long) ? (long)(object)value!
            : typeof(T) == typeof(int) ? (int)(object)value!
            : typeof(T) == typeof(short) ? (short)(object)value!
            : typeof(T) == typeof(sbyte) ? (sbyte)(object)value!
            : (byte)(object)value!;

    private static string DTypeName<T>()
        => typeof(T) == typeof(float) ? "float32"
            : typeof(T) == typeof(double) ? "float64"
            : typeof(T) == typeof(Half) ? "float16"
            : typeof(T) == typeof(BFloat16) ? "bfloat16"
            : typeof(T) == typeof(long) ? "int64"
            : typeof(T) == typeof(int) ? "int32"
            : typeof(T) == typeof(short) ? "int16"
            : typeof(T) == typeof(sbyte) ? "int8"
            : typeof(T) == typeof(byte) ? "uint8"
            : typeof(T) == typeof(bool) ? "bool"
            : throw new NotSupportedException($"A tensor of {typeof(T).Name} cannot be printed; accepted are float, double, " +
                "Half, BFloat16, long, int, short, sbyte, byte and bool.");
}
