using System.CommandLine;
using System.Globalization;
using NormLayers.IO;

namespace NormLayers.Cli;

/// <summary><c>normlayers compare</c>: two .npy files under <c>numpy.allclose</c>'s rule.</summary>
internal static class CompareCommand
{
    public const string Example = """
        Example:
          normlayers compare y.npy examples/data/ppocr-v4-rec/05_layer_y.npy --atol 1e-6

        Equal within tolerance is |a - b| <= atol + rtol * |b|, as numpy.allclose; B is the reference.
        A NaN equals a NaN, an infinity the same infinity. Arithmetic is in double, whatever the types.
        Exit code: 0 all within tolerance, 1 not or of different shapes, 2 refused.
        """;

    private const int BlockLength = 1024;

    public static Command Create(CancellationToken cancellation)
    {
        Argument<string> a = Inputs.Argument("A.npy", "One array.");
        Argument<string> b = Inputs.Argument("B.npy", "The other, which relative differences refer to.");
        Option<double> rtol = Inputs.Tolerance("--rtol", 1e-5, "Relative tolerance.");
        Option<double> atol = Inputs.Tolerance("--atol", 1e-8, "Absolute tolerance.");
        var command = new Command("compare", "Compares two .npy files.") { a, b, rtol, atol };
        command.SetAction(parsed => Run(
            parsed.GetRequiredValue(a),
            parsed.GetRequiredValue(b),
            parsed.GetValue(rtol),
            parsed.GetValue(atol),
            parsed.InvocationConfiguration.Output,
            cancellation));
        return command;
    }

    private static int Run(string pathA, string pathB, double rtol, double atol, TextWriter output, CancellationToken cancellation)
    {
        using NpyFile a = NpyFile.Open(pathA);
        using NpyFile b = NpyFile.Open(pathB);
        if (!a.Shape.SequenceEqual(b.Shape))
        {
            output.WriteLine($"different: {pathA} has the shape {Report.Shape(a.Shape)}, {pathB} the shape {Report.Shape(b.Shape)}");
            return Cli.Different;
        }
        bool sameFloat = a.ElementType == b.ElementType && a.ElementType is ElementType.Float16 or ElementType.Float32 or ElementType.Float64;
        var comparison = new Comparison(rtol, atol, sameFloat ? a.ElementType : null);
        Compare(a, b, comparison, cancellation);

        var report = new Report();
        report.Add("a", Report.Describe(a));
        report.Add("b", Report.Describe(b));
        string share = comparison.Count == 0 ? "" : $", {Share(comparison.Equal, comparison.Count)} of them equal";
        report.Add("elements", $"{Report.Count(comparison.Count)}{share}");
        report.Add("largest absolute difference", Describe(comparison.Absolute, a, b));
        report.Add("largest relative difference", Describe(comparison.Relative, a, b));
        if (sameFloat)
            report.Add("largest ulp difference", Describe(comparison.Ulps, a, b));
        report.Add("tolerance", $"|a - b| <= {Shortest(atol)} + {Shortest(rtol)} * |b|");
        report.Add("verdict", comparison.Outside == 0
            ? "equal within tolerance"
            : $"different: {Report.Count(comparison.Outside)} of {Report.Count(comparison.Count)} outside tolerance, the first at {Report.Shape(Index(comparison.FirstOutside, a.Shape))}");
        report.WriteTo(output);
        return comparison.Outside == 0 ? Cli.Done : Cli.Different;
    }

    private static void Compare(NpyFile a, NpyFile b, Comparison comparison, CancellationToken cancellation)
    {
        var (readerA, readerB) = (new ElementReader(a), new ElementReader(b));
        Span<double> blockA = stackalloc double[BlockLength];
        Span<double> blockB = stackalloc double[BlockLength];
        for (long start = 0; start < a.ElementCount; start += BlockLength)
        {
            cancellation.ThrowIfCancellationRequested();
            int length = (int)Math.Min(BlockLength, a.ElementCount - start);
            readerA.Read((nint)start, blockA[..length]);
            readerB.Read((nint)start, blockB[..length]);
            comparison.Add(blockA[..length], blockB[..length]);
        }
    }

    private static string Describe(Comparison.Largest largest, NpyFile a, NpyFile b) => largest.Difference == 0
        ? "0"
        : $"{Difference(largest.Difference)} at {Report.Shape(Index(largest.Index, a.Shape))}: {Value(largest.A, a.ElementType)} and {Value(largest.B, b.ElementType)}";

    private static long[] Index(long flat, IReadOnlyList<long> shape)
    {
        var index = new long[shape.Count];
        for (int axis = index.Length - 1; axis >= 0; axis--)
            (flat, index[axis]) = Math.DivRem(flat, shape[axis]);
        return index;
    }

    /// <summary>A percentage that is 100 only where it is all of them.</summary>
    private static string Share(long part, long whole)
        => part == whole ? "all" : FormattableString.Invariant($"{Math.Min(99.99, 100.0 * part / whole):F2}%");

    private static string Difference(double value) => double.IsInfinity(value) ? "infinite" : Report.Number(value);

    private static string Value(double value, ElementType type) => type switch
    {
        ElementType.Float16 => ((Half)value).ToString("r", CultureInfo.InvariantCulture),
        ElementType.Float32 => ((float)value).ToString("r", CultureInfo.InvariantCulture),
        _ => Shortest(value),
    };

    private static string Shortest(double value) => value.ToString("r", CultureInfo.InvariantCulture);
}
