using System.Globalization;
using Google.Protobuf;
using NormLayers.IO;
using NormLayers.IO.Onnx;
using NormLayers.Tests.IO;
using Xunit;
using static NormLayers.Tests.Onnx.OnnxModels;

namespace NormLayers.Tests.Onnx;

/// <summary>
/// Normalizations in simpler operators and their near-misses. A row is a replacement in its kind's graph, and what is found
/// in the graph that this gives: each computes something else than the graph it differs from, or the same in other words.
/// </summary>
public sealed partial class WrittenOutTests : IDisposable
{
    private const string LayerNorm = """
        x 2,3
        ReduceMean x > m axes=-1
        Sub x m > d
        Mul d d > s
        ReduceMean s > v axes=-1
        Add v eps > ve
        Sqrt ve > r
        Div d r > q
        Mul q w > qw
        Add qw b > y
        """;

    private const string Reciprocal = """
        x 2,3
        ReduceMean x > m axes=-1
        Sub x m > d
        Pow d two > s
        ReduceMean s > v axes=-1
        Add v eps > ve
        Pow ve half > r
        Div one r > i
        Mul d i > y
        """;

    private const string Root = """
        x 2,3
        Mul x x > s
        ReduceMean s > v axes=-1
        Add v eps > ve
        Pow ve minushalf > i
        Mul x i > q
        Mul q w > y
        """;

    private const string Moments = """
        x 2,3
        ReduceMean x > m axes=-1
        Sub x m > d
        Mul x x > s
        ReduceMean s > e axes=-1
        Mul m m > mm
        Sub e mm > v
        Add v eps > ve
        Sqrt ve > r
        Div d r > y
        """;

    private const string TensorFlow = """
        x 2,3
        ReduceMean x > m axes=-1
        Sub x m > d
        Mul d d > s
        ReduceMean s > v axes=-1
        Add v eps > ve
        Sqrt ve > r
        Reciprocal r > i
        Mul i w > iw
        Mul x iw > xw
        Mul m iw > mw
        Sub b mw > shift
        Add xw shift > y
        """;

    private const string MeanVariance = """
        x 2,3,4
        ReduceMean x > m axes=0,2
        Mul x x > s
        ReduceMean s > e axes=0,2
        Mul m m > mm
        Sub e mm > v
        Sqrt v > r
        Add r eps > re
        Sub x m > d
        Div d re > y
        """;

    private const string Groups = """
        x 2,4,4
        Reshape x groups > rows
        ReduceMean rows > m axes=2
        Sub rows m > d
        Mul d d > s
        ReduceMean s > v axes=2
        Add v eps > ve
        Sqrt ve > r
        Div d r > q
        Reshape q channels > qc
        Mul qc w41 > qw
        Add qw b41 > qb
        Reshape qb shape > y
        """;

    private const string Rows = """
        x 3,3,4
        Flatten x > rows
        ReduceMean rows > m axes=1
        Sub rows m > d
        Mul d d > s
        ReduceMean s > v axes=1
        Add v eps > ve
        Sqrt ve > r
        Div d r > q
        Flatten w34 > wf axis=0
        Mul q wf > qw
        Reshape qw shape334 > y
        """;

    private const string Instances = """
        x 2,4,4
        Reshape x groups > rows
        InstanceNormalization rows ones zeros > q epsilon=0.001
        Reshape q shape > n
        Mul n w41 > nw
        Add nw b41 > y
        """;

    private const string ComputedAxes = """
        x 2,3
        Range minus1 zero first > range
        Concat range > a axis=0
        Mul x x > s
        ReduceMean s a > v
        Add v eps > ve
        Sqrt ve > r
        Div x r > y
        """;

    private static readonly TensorProto[] Constants =
    [
        Raw("eps", [], 1e-3f), Raw("eps2", [2, 1], 1e-3f, 1e-2f), Raw("infinity", [], float.PositiveInfinity), Raw("one", [], 1), Raw("two", [], 2), Raw("three", [], 3), Raw("half", [], 0.5f), Raw("minushalf", [], -0.5f),
        Raw("ones", [2], 1, 1), Raw("zeros", [2], 0, 0), Raw("almost", [2], 1, 2),
        Raw("w", [3], 1, 2, 3), Raw("b", [3], 3, 2, 1), Raw("w1", [1], 2), Raw("w21", [2, 1], 1, 2), Raw("w31", [3, 1], 1, 2, 3), Raw("w23", [2, 3], 1, 2, 3, 4, 5, 6), Raw("w113", [1, 1, 3], 1, 2, 3),
        Raw("w4", [4], 1, 2, 3, 4), Raw("w41", [4, 1], 1, 2, 3, 4), Raw("b4", [4], 4, 3, 2, 1), Raw("b41", [4, 1], 4, 3, 2, 1), Raw("w411", [4, 1, 1], 1, 2, 3, 4), Raw("w8", [8], 1, 2, 3, 4, 5, 6, 7, 8), Raw("w34", [3, 4], new float[12]), Raw("w44", [4, 4], new float[16]),
        Int64s("minus1", -1), Int64s("zero", 0), Int64s("first", 1), Int64s("second", 2), Int64s("groups", 0, 2, -1), Int64s("batch", 1, 2, -1), Int64s("anybatch", -1, 2, 8), Int64s("pairs", -1, 2, 4),
        Int64s("channels", 0, 4, -1), Int64s("shape", 2, 4, 4), Int64s("shape238", 2, 3, 8), Int64s("flat", 2, 16), Int64s("shape334", 3, 3, 4), Int64s("flat334", 9, 4), Int64s("column", 3, 1), Int64s("row", 1, 3),
    ];

    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [MemberData(nameof(LayerNorms))]
    public void LayerNorm_NearMiss_IsWhatItComputes(string from, string to, string found) => Check(LayerNorm, "x->y: LayerNorm((3,), eps=0.001, elementwise_affine=True)", from, to, found);

    [Theory]
    [MemberData(nameof(Reciprocals))]
    public void LayerNormByPowers_NearMiss_IsNotFound(string from, string to, string found) => Check(Reciprocal, "x->y: LayerNorm((3,), eps=0.001, elementwise_affine=False)", from, to, found);

    [Theory]
    [MemberData(nameof(Roots))]
    public void RmsNorm_NearMiss_IsWhatItComputes(string from, string to, string found) => Check(Root, "x->y: RMSNorm((3,), eps=0.001, elementwise_affine=True)", from, to, found);

    [Theory]
    [MemberData(nameof(Axes))]
    public void RmsNormOverComputedAxes_NearMiss_IsWhatItComputes(string from, string to, string found) => Check(ComputedAxes, "x->y: RMSNorm((3,), eps=0.001, elementwise_affine=False)", from, to, found);

    [Theory]
    [MemberData(nameof(MomentPairs))]
    public void LayerNormByMoments_NearMiss_IsNotFound(string from, string to, string found) => Check(Moments, "x->y: LayerNorm((3,), eps=0.001, elementwise_affine=False)", from, to, found);

    [Theory]
    [MemberData(nameof(TensorFlows))]
    public void LayerNormAsTensorFlowWritesIt_NearMiss_IsNotFound(string from, string to, string found) => Check(TensorFlow, "x->y: LayerNorm((3,), eps=0.001, elementwise_affine=True)", from, to, found);

    [Theory]
    [MemberData(nameof(MeanVariances))]
    public void MeanVarianceNormalization_NearMiss_IsNotFound(string from, string to, string found) => Check(MeanVariance, "x->y: MeanVarianceNormalization", from, to, found);

    [Theory]
    [MemberData(nameof(GroupNorms))]
    public void GroupNorm_NearMiss_IsWhatItComputes(string from, string to, string found) => Check(Groups, "x->y: GroupNorm(2, 4, eps=0.001, affine=True)", from, to, found);

    [Theory]
    [MemberData(nameof(FlattenedRows))]
    public void LayerNormOfFlattenedRows_NearMiss_IsNotFound(string from, string to, string found) => Check(Rows, "x->y: LayerNorm((3, 4), eps=0.001, elementwise_affine=True)", from, to, found);

    [Theory]
    [MemberData(nameof(GroupsOfInstances))]
    public void GroupNormByInstances_NearMiss_IsWhatItComputes(string from, string to, string found) => Check(Instances, "x->y: GroupNorm(2, 4, eps=0.001, affine=True)", from, to, found);

    [Theory]
    [InlineData("x 2,4,4", "shape", "x->y: GroupNorm(2, 4, eps=0.001, affine=False)")]
    [InlineData("x 2,3,8", "shape238", "node rows->q: InstanceNorm1d(2, eps=0.001, momentum=0.1, affine=True, track_running_stats=False)")]
    public void GroupNormByInstances_ChannelsThatGroupsDoNotDivide_AreNoGroups(string x, string shape, string found)
        => Assert.Equal(found, Found($"{x};Reshape x groups > rows;InstanceNormalization rows ones zeros > q epsilon=0.001;Reshape q {shape} > y"));

    [Theory]
    [InlineData("row", "x->y: RMSNorm((3, 3), eps=0.001, elementwise_affine=True)")]
    [InlineData("column", "x->q: RMSNorm((3, 3), eps=0.001, elementwise_affine=False)")]
    public void RmsNorm_ScaleMovedByAReshape_IsNotItsWeight(string shape, string found)
        => Assert.Equal(found, Found($"x 3,3;Mul x x > s;ReduceMean s > v axes=-2,-1;Add v eps > ve;Sqrt ve > r;Div x r > q;Reshape w {shape} > o;Mul q o > y"));

    [Fact]
    public void GroupNormByInstances_WholeEpsilon_IsRefusedAndNotReadAsZero()
        => Assert.Contains("has an attribute epsilon of type Int; accepted is Float", Assert.Throws<InvalidDataException>(() => Found(Instances.ReplaceLineEndings(";").Replace("epsilon=0.001", "epsilon=int", StringComparison.Ordinal))).Message, StringComparison.Ordinal);

    /// <summary>The graph itself is found, so that a row is not passed over for another reason than the one it is there for.</summary>
    private void Check(string graph, string whole, string from, string to, string found)
    {
        graph = graph.ReplaceLineEndings(";");
        Assert.Equal(whole, Found(graph));
        Assert.Contains(from, graph, StringComparison.Ordinal);
        Assert.Equal(found, Found(graph.Replace(from, to, StringComparison.Ordinal)));
    }

    private string Found(string graph)
    {
        string[] lines = graph.Split(';');
        ModelProto model = Model(Value("x", Lengths(lines[0].Split(' ')[1])), [.. lines.Skip(1).Select(Parse)], Constants, opset: 12);
        return string.Join(" | ", OnnxModel.Load(folder.Write("model.onnx", model.ToByteArray())).NormalizationNodes.Select(Describe));
    }

    private static string Describe(OnnxNormalization node)
        => $"{(node.IsWrittenOut ? "" : "node ")}{node.Inputs[0]}->{node.Outputs[0]}: {node.Text ?? node.Operator}";

    /// <summary>Operator, inputs, an arrow, outputs, attributes.</summary>
    private static NodeProto Parse(string line)
    {
        string[] sides = line.Split(" > "), head = sides[0].Split(' '), tail = sides[1].Split(' ');
        var node = new NodeProto { OpType = head[0], Input = { head[1..] }, Output = { tail[..1].Where(name => name.Length > 0) } };
        node.Attribute.Add(tail[1..].Select(text => text.Split('=')).Select(pair => pair[0] switch
        {
            "epsilon" when pair[1] == "int" => Integer(pair[0], 1),
            "epsilon" => Number(pair[0], float.Parse(pair[1], CultureInfo.InvariantCulture)),
            "axes" => Integers(pair[0], Lengths(pair[1])),
            _ => Integer(pair[0], long.Parse(pair[1], CultureInfo.InvariantCulture)),
        }));
        return node;
    }

    private static string Chain(int length) => string.Join(';', Enumerable.Range(1, length).Select(i => $"Identity {(i == 1 ? "range" : $"i{i - 1}")} > i{i}"));

    private static long[] Lengths(string text) => [.. text.Split(',').Select(length => long.Parse(length, CultureInfo.InvariantCulture))];
}
