using System.CommandLine;
using System.Globalization;
using System.Text;
using System.Text.Json;
using NormLayers.IO;

namespace NormLayers.Cli;

/// <summary><c>normlayers compare</c>: two arrays under <c>numpy.allclose</c>'s rule.</summary>
internal static class CompareCommand
{
    public const string Example = """
        Example:
          normlayers compare y.npy examples/data/ppocr-v4-rec/05_layer_y.npy --atol 1e-6

        Equal within tolerance is |a - b| <= atol + rtol * |b|, as numpy.allclose; B is the reference.
        A NaN equals a NaN, an infinity the same infinity. Arithmetic is in double, whatever the types.
        An ulp is the step from one number of the type to the next.
        An array is FILE.npy, FILE.npz, FILE.npz:NAME, FILE.safetensors:NAME, or - for a .npy file on standard input.
        Exit code: 0 all within tolerance, 1 not or of different shapes, 2 refused, 130 interrupted.
        """;

    private const int BlockLength = 1024;
    private const int LongestBar = 40;

    public static Command Create(CancellationToken cancellation)
    {
        Argument<string> a = Inputs.Argument("A", "One array.");
        Argument<string> b = Inputs.Argument("B", "The other, which relative differences refer to.");
        Option<double> rtol = Inputs.Tolerance("--rtol", 1e-5, "Relative tolerance.");
        Option<double> atol = Inputs.Tolerance("--atol", 1e-8, "Absolute tolerance.");
        var json = new Option<bool>("--json") { Description = "Print one JSON object, in one line, instead of the table." };
        var command = new Command("compare", "Compares two arrays.") { a, b, rtol, atol, json };
        command.SetAction(parsed => Run(
            parsed.GetRequiredValue(a),
            parsed.GetRequiredValue(b),
            parsed.GetValue(rtol),
            parsed.GetValue(atol),
            parsed.GetValue(json),
            parsed.InvocationConfiguration.Output,
            cancellation));
        return command;
    }

    private static int Run(string nameA, string nameB, double rtol, double atol, bool json, TextWriter output, CancellationToken cancellation)
    {
        if (nameA == InputArray.StandardStream && nameB == InputArray.StandardStream)
            throw new Refused("A and B are both -; standard input is one array.");
        using InputArray a = InputArray.Open(nameA, cancellation);
        using InputArray b = InputArray.Open(nameB, cancellation);
        bool sameShape = a.Shape.AsSpan().SequenceEqual(b.Shape);
        bool sameFloat = a.ElementType == b.ElementType && a.ElementType is ElementType.Float16 or ElementType.BFloat16 or ElementType.Float32 or ElementType.Float64;
        var comparison = new Comparison(rtol, atol, sameFloat ? a.ElementType : null);
        if (sameShape)
            Compare(a, b, comparison, cancellation);

        if (json)
            WriteJson(output, a, b, rtol, atol, sameShape ? comparison : null, sameFloat);
        else if (!sameShape)
            output.WriteLine(Cli.OneLine($"different: {a.Name} has the shape {Report.Shape(a.Shape)}, {b.Name} the shape {Report.Shape(b.Shape)}"));
        else
            WriteTable(output, a, b, rtol, atol, comparison, sameFloat);
        return sameShape && comparison.Outside == 0 ? Cli.Done : Cli.Different;
    }

    private static void Compare(InputArray a, InputArray b, Comparison comparison, CancellationToken cancellation)
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

    private static void WriteTable(TextWriter output, InputArray a, InputArray b, double rtol, double atol, Comparison comparison, bool ulps)
    {
        var report = new Report();
        report.Add("a", Report.Describe(a));
        report.Add("b", Report.Describe(b));
        string share = comparison.Count == 0 ? "" : $", {Share(comparison.Equal, comparison.Count)} of them equal";
        report.Add("elements", $"{Report.Count(comparison.Count)}{share}");
        report.Add("tolerance", $"|a - b| <= {Shortest(atol)} + {Shortest(rtol)} * |b|");
        report.Add("verdict", comparison.Outside == 0
            ? "equal within tolerance"
            : $"different: {Report.Count(comparison.Outside)} of {Report.Count(comparison.Count)} outside tolerance, the first at {Report.Shape(Index(comparison.FirstOutside, a.Shape))}");
        report.WriteTo(output);

        List<string[]> largest = [["difference", "largest", "at", "a", "b"]];
        AddRow(largest, "absolute", comparison.Absolute, a, b);
        AddRow(largest, "relative", comparison.Relative, a, b);
        if (ulps)
            AddRow(largest, "ulp", comparison.Ulps, a, b);
        output.WriteLine();
        Report.WriteColumns(output, largest);

        if (!ulps || comparison.Count == 0)
            return;
        List<string[]> histogram = [["ulps", "elements", "share", ""]];
        foreach (Comparison.UlpRow row in comparison.UlpHistogram)
            histogram.Add([Range(row), Report.Count(row.Count), Share(row.Count, comparison.Count), Bar(row.Count, comparison.Count)]);
        output.WriteLine();
        Report.WriteColumns(output, histogram);
    }

    private static void AddRow(List<string[]> rows, string kind, Comparison.Largest largest, InputArray a, InputArray b) => rows.Add(largest.Difference == 0
        ? [kind, "0", "", "", ""]
        : [kind, Difference(largest.Difference), Report.Shape(Index(largest.Index, a.Shape)), Value(largest.A, a.ElementType), Value(largest.B, b.ElementType)]);

    private static void WriteJson(TextWriter output, InputArray a, InputArray b, double rtol, double atol, Comparison? comparison, bool ulps)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            WriteArray("a", a);
            WriteArray("b", b);
            WriteNumber("rtol", rtol);
            WriteNumber("atol", atol);
            json.WriteBoolean("same_shape", comparison is not null);
            json.WriteBoolean("within_tolerance", comparison is { Outside: 0 });
            if (comparison is not null)
                WriteComparison(comparison);
            json.WriteEndObject();

            void WriteArray(string name, InputArray array)
            {
                json.WriteStartObject(name);
                json.WriteString("name", array.Name);
                json.WriteString("dtype", array.ElementType.TorchName());
                WriteIndex("shape", array.Shape);
                json.WriteEndObject();
            }

            void WriteComparison(Comparison found)
            {
                json.WriteNumber("elements", found.Count);
                json.WriteNumber("equal", found.Equal);
                json.WriteNumber("outside_tolerance", found.Outside);
                if (found.Outside > 0)
                    WriteIndex("first_outside", Index(found.FirstOutside, a.Shape));
                WriteLargest("largest_absolute_difference", found.Absolute);
                WriteLargest("largest_relative_difference", found.Relative);
                if (!ulps)
                    return;
                WriteLargest("largest_ulp_difference", found.Ulps);
                json.WriteStartArray("ulp_histogram");
                foreach (Comparison.UlpRow row in found.UlpHistogram)
                {
                    json.WriteStartObject();
                    WriteNumber("from", row.From);
                    WriteNumber("to", row.To);
                    json.WriteNumber("elements", row.Count);
                    json.WriteEndObject();
                }
                json.WriteEndArray();
            }

            void WriteLargest(string name, Comparison.Largest largest)
            {
                json.WriteStartObject(name);
                WriteNumber("value", largest.Difference);
                if (largest.Difference > 0)
                {
                    WriteIndex("at", Index(largest.Index, a.Shape));
                    WriteNumber("a", largest.A);
                    WriteNumber("b", largest.B);
                }
                json.WriteEndObject();
            }

            void WriteIndex(string name, long[] values)
            {
                json.WriteStartArray(name);
                foreach (long value in values)
                    json.WriteNumberValue(value);
                json.WriteEndArray();
            }

            // JSON has no NaN and no infinity: these are the strings that .NET and others read as such.
            void WriteNumber(string name, double value)
            {
                if (double.IsFinite(value))
                    json.WriteNumber(name, value);
                else
                    json.WriteString(name, double.IsNaN(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
            }
        }
        output.WriteLine(Encoding.UTF8.GetString(buffer.ToArray()));
    }

    private static long[] Index(long flat, long[] shape)
    {
        var index = new long[shape.Length];
        for (int axis = index.Length - 1; axis >= 0; axis--)
            (flat, index[axis]) = Math.DivRem(flat, shape[axis]);
        return index;
    }

    /// <summary>A percentage that is 100 only where it is all of them, and 0 only where it is none.</summary>
    private static string Share(long part, long whole) => part == whole
        ? "all"
        : FormattableString.Invariant($"{Math.Clamp(100.0 * part / whole, part == 0 ? 0 : 0.01, 99.99):F2}%");

    private static string Bar(long part, long whole) => new('#', (int)Math.Ceiling(LongestBar * ((double)part / whole)));

    private static string Range(Comparison.UlpRow row) => row.From == row.To ? Difference(row.To) : $"{Ulps(row.From)} to {Ulps(row.To)}";

    private static string Ulps(double value) => value < 1e6 ? Shortest(value) : Report.Number(value);

    private static string Difference(double value) => double.IsInfinity(value) ? "infinite" : Report.Number(value);

    private static string Value(double value, ElementType type) => type switch
    {
        ElementType.Float16 => ((Half)value).ToString("r", CultureInfo.InvariantCulture),
        ElementType.Float32 or ElementType.BFloat16 => ((float)value).ToString("r", CultureInfo.InvariantCulture),
        _ => Shortest(value),
    };

    private static string Shortest(double value) => value.ToString("r", CultureInfo.InvariantCulture);
}
