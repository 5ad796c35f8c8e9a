using Xunit;

namespace NormLayers.Tests.Onnx;

/// <summary>The near-misses: what is replaced in a graph that is found, by what, and what is found then.</summary>
public sealed partial class WrittenOutTests
{
    public static TheoryData<string, string, string> LayerNorms => new()
    {
        { "Mul q w > qw", "Relu q > z;Mul q w > qw", "x->q: LayerNorm((3,), eps=0.001, elementwise_affine=False)" },
        { "m axes=-1", "m axes=-1 keepdims=0", "d->qw: RMSNorm((3,), eps=0.001, elementwise_affine=True)" },
        { "v axes=-1", "v axes=-1 keepdims=0", "" },
        { "m axes=-1", "m axes=0", "d->qw: RMSNorm((3,), eps=0.001, elementwise_affine=True)" },
        { "v axes=-1", "v axes=0", "d->q: RMSNormalization" },
        { "ReduceMean x > m", "Relu x > o;ReduceMean o > m", "d->qw: RMSNorm((3,), eps=0.001, elementwise_affine=True)" },
        { "ReduceMean x > m", "ReduceSum x > m", "d->qw: RMSNorm((3,), eps=0.001, elementwise_affine=True)" },
        { "ReduceMean s > v", "ReduceSum s > v", "" },
        { "Sub x m > d", "Sub m x > d", "d->qw: RMSNorm((3,), eps=0.001, elementwise_affine=True)" },
        { "Sub x m > d", "Sub x > d", "d->qw: RMSNorm((3,), eps=0.001, elementwise_affine=True)" },
        { "Sub x m > d", "Add x m > d", "d->qw: RMSNorm((3,), eps=0.001, elementwise_affine=True)" },
        { "Mul d d > s", "Mul d x > s", "" },
        { "Mul d d > s", "Abs d > s", "" },
        { "Add v eps > ve", "Sub v eps > ve", "" },
        { "Add v eps > ve", "Add v eps2 > ve", "" },
        { "Add v eps > ve", "Abs eps > other;Add v other > ve", "" },
        { "Add v eps > ve", "Add v infinity > ve", "" },
        { "Add v eps > ve", "Identity v > ve", "x->y: LayerNorm((3,), eps=0.0, elementwise_affine=True)" },
        { "Sqrt ve > r", "Abs ve > r", "" },
        { "Sqrt ve > r", "Pow ve one > r", "" },
        { "Sqrt ve > r", "Pow half ve > r", "" },
        { "Sqrt ve > r", "Pow ve minushalf > r", "" },
        { "Div d r > q", "Div x r > q", "" },
        { "Div d r > q", "Div r d > q", "" },
        { "Div d r > q", "Mul d r > q", "" },
        { "Div d r > q", "Sub m x > o;Div o r > q", "" },
        { "Div d r > q", "Sub x v > o;Div o r > q", "" },
        { "Div d r > q", "Relu x > o;Sub o m > od;Div od r > q", "" },
        { "Div d r > q", "Cast r > ri to=7;Cast ri > rf to=1;Div d rf > q", "" },
        { "Div d r > q", "ReduceMean x > n axes=0;Sub x n > o;Div o r > q", "" },
        { "Div d r > q", "Cast d > di to=7;Cast di > df to=1;Div df r > q", "" },
        { "Mul q w > qw", "Div q w > qw", "x->q: LayerNorm((3,), eps=0.001, elementwise_affine=False)" },
        { "Mul q w > qw", "Mul q q > qw", "x->q: LayerNorm((3,), eps=0.001, elementwise_affine=False)" },
        { "Mul q w > qw", "Mul q w1 > qw", "x->q: LayerNorm((3,), eps=0.001, elementwise_affine=False)" },
        { "Mul q w > qw", "Mul q w21 > qw", "x->q: LayerNorm((3,), eps=0.001, elementwise_affine=False)" },
        { "Mul q w > qw", "Mul q w23 > qw", "x->q: LayerNorm((3,), eps=0.001, elementwise_affine=False)" },
        { "Mul q w > qw", "Mul q w113 > qw", "x->q: LayerNorm((3,), eps=0.001, elementwise_affine=False)" },
        { "Mul q w > qw", "Abs w > o;Mul q o > qw", "x->q: LayerNorm((3,), eps=0.001, elementwise_affine=False)" },
        { "Mul q w > qw", "Reshape w row > o;Mul q o > qw", "x->y: LayerNorm((3,), eps=0.001, elementwise_affine=True)" },
        { "Mul q w > qw", "Reshape w column > o;Mul q o > qw", "x->q: LayerNorm((3,), eps=0.001, elementwise_affine=False)" },
        { "Mul q w > qw", "Unsqueeze w > o axes=1;Mul q o > qw", "x->q: LayerNorm((3,), eps=0.001, elementwise_affine=False)" },
        { "Add qw b > y", "Sub qw b > y", "x->qw: LayerNorm((3,), eps=0.001, elementwise_affine=True)" },
        { "Add qw b > y", "Add qw w23 > y", "x->qw: LayerNorm((3,), eps=0.001, elementwise_affine=True)" },
        { "Add qw b > y", "Add qw x > y", "x->qw: LayerNorm((3,), eps=0.001, elementwise_affine=True)" },
    };

    public static TheoryData<string, string, string> Reciprocals => new()
    {
        { "Pow d two", "Pow d three", "" },
        { "Pow d two", "Pow two d", "" },
        { "Pow d two", "Pow d d", "" },
        { "Pow ve half", "Pow ve two", "" },
        { "Pow ve half", "Pow ve minushalf", "" },
        { "Div one r", "Div two r", "" },
        { "Div one r", "Div ones r", "" },
        { "Div one r", "Div r one", "" },
        { "Mul d i", "Mul x i", "" },
        { "Mul d i", "Div d i", "" },
        { "Mul d i", "Add d i", "" },
        { "Mul d i", "Mul i i", "" },
    };

    public static TheoryData<string, string, string> Roots => new()
    {
        { "Pow ve minushalf", "Pow ve half", "" },
        { "Pow ve minushalf", "Pow ve one", "" },
        { "Mul x i", "Relu x > o;Mul o i", "" },
        { "Mul x i", "Div x i", "" },
        { "Mul x x > s", "Relu x > o;Mul x o > s", "" },
        { "axes=-1", "axes=0", "x->q: RMSNormalization" },
        { "axes=-1", "axes=5,5", "" },
        { " axes=-1", "", "" },
        { "Mul q w > y", "Mul q w > qw;Add qw b > y", "x->qw: RMSNorm((3,), eps=0.001, elementwise_affine=True)" },
        { "Mul x i > q;Mul q w > y", "Mul w i > iw;Mul iw x > y", "x->y: RMSNorm((3,), eps=0.001, elementwise_affine=True)" },
        { "Mul x i > q;Mul q w > y", "Mul w21 i > iw;Mul iw x > y", "" },
    };

    public static TheoryData<string, string, string> Axes => new()
    {
        { "Range minus1 zero first", "Range minus1 first first", "x->y: RMSNorm((2, 3), eps=0.001, elementwise_affine=False)" },
        { "Range minus1 zero first", "Range minus1 zero second", "" },
        { "Range minus1 zero first", "Range first minus1 first", "" },
        { "Range minus1 zero first", "Size x > n;Range n zero first", "" },
        { "Concat range > a", "Concat range range > a", "" },
        { "Concat range > a", $"{Chain(60)};Concat i60 > a", "x->y: RMSNorm((3,), eps=0.001, elementwise_affine=False)" },
        { "Concat range > a", $"{Chain(70)};Concat i70 > a", "" },
    };

    public static TheoryData<string, string, string> MomentPairs => new()
    {
        { "Mul x x > s", "Relu x > o;Mul o o > s", "" },
        { "Sub e mm > v", "Sub mm e > v", "" },
        { "Sub e mm > v", "Add e mm > v", "" },
        { "Sub e mm > v", "Sub e m > v", "" },
        { "Sub e mm > v", "Sub s mm > v", "" },
        { "Mul m m > mm", "Mul m e > mm", "" },
        { "e axes=-1", "e axes=0", "" },
        { "e axes=-1", "e axes=-1 keepdims=0", "" },
        { "Mul m m > mm", "Relu x > o;ReduceMean o > om axes=-1;Mul om om > mm", "" },
        { "Mul m m > mm", "ReduceMean x > n axes=0;Mul n n > mm", "" },
        { "Div d r > y", "Div x r > y", "" },
    };

    public static TheoryData<string, string, string> TensorFlows => new()
    {
        { "Mul i w > iw", "Mul i w > iw;Mul i w > jw", "x->y: LayerNorm((3,), eps=0.001, elementwise_affine=True)" },
        { "Mul i w > iw", "Mul i w21 > iw", "" },
        { "Mul i w > iw", "Mul i x > iw", "" },
        { "Mul i w > iw", "Div i w > iw", "" },
        { "Mul x iw > xw", "Relu x > o;Mul o iw > xw", "" },
        { "Mul x iw > xw", "Div x iw > xw", "" },
        { "Mul m iw > mw", "Mul v iw > mw", "" },
        { "Mul m iw > mw", "Mul m i > mw", "" },
        { "Mul m iw > mw", "ReduceMean x > n axes=0;Mul n iw > mw", "" },
        { "Mul m iw > mw", "Add m iw > mw", "" },
        { "Sub b mw > shift", "Sub mw b > shift", "" },
        { "Sub b mw > shift", "Add b mw > shift", "" },
        { "Sub b mw > shift", "Sub w21 mw > shift", "" },
        { "Sub b mw > shift", "Sub x mw > shift", "" },
        { "Add xw shift > y", "Sub xw shift > y", "" },
    };

    public static TheoryData<string, string, string> MeanVariances => new()
    {
        { "Add r eps > re", "Sub r eps > re", "" },
        { "Add r eps > re", "Add r eps2 > re", "" },
        { "Add r eps > re;Sub x m > d;Div d re > y", "Add r eps > ", "" },
        { "Add r eps > re", "Add r infinity > re", "" },
        { "Sub e mm > v;Sqrt v > r", "Sub e mm > ve;Add ve eps > v;Sqrt v > r", "" },
        { "Sub e mm > v;Sqrt v > r", "Identity e > v;Sqrt v > r", "" },
        { "Div d re > y", "Div d re > y;Relu r > z", "" },
        { "Sub x m > d;Div d re > y", "Sub x m > d;Reciprocal re > i;Mul i w4 > iw;Mul d iw > y", "" },
    };

    public static TheoryData<string, string, string> GroupNorms => new()
    {
        { "Reshape x groups", "Reshape x batch", "rows->q: LayerNormalization" },
        { "Reshape x groups", "Reshape x anybatch", "rows->q: LayerNorm((8,), eps=0.001, elementwise_affine=False)" },
        { "Reshape x groups", "Reshape x pairs", "rows->q: LayerNorm((4,), eps=0.001, elementwise_affine=False)" },
        { "x 2,4,4", "x 2,2,8", "rows->q: LayerNormalization" },
        { "Reshape qb shape", "Reshape qb flat", "rows->q: LayerNormalization" },
        { "Reshape q channels > qc;Mul qc w41 > qw;Add qw b41 > qb", "Mul q w21 > qw;Add qw w21 > qb", "rows->q: LayerNormalization" },
        { "Reshape q channels > qc;Mul qc w41 > qw;Add qw b41 > qb", "Mul q w8 > qw;Add qw w8 > qb", "rows->qb: LayerNorm((8,), eps=0.001, elementwise_affine=True)" },
        { "Mul qc w41", "Mul qc w4", "x->qc: GroupNorm(2, 4, eps=0.001, affine=False)" },
        { "Mul qc w41", "Mul qc w44", "x->qc: GroupNorm(2, 4, eps=0.001, affine=False)" },
        { "Mul qc w41", "Mul qc w411", "x->qc: GroupNorm(2, 4, eps=0.001, affine=False)" },
        { "Reshape qb shape", "Relu qb", "rows->q: LayerNormalization" },
    };

    public static TheoryData<string, string, string> FlattenedRows => new()
    {
        { "Flatten x > rows", "Flatten x > rows axis=-2", "x->y: LayerNorm((3, 4), eps=0.001, elementwise_affine=True)" },
        { "Flatten x > rows", "Flatten > rows", "" },
        { "Mul q wf", "Mul q w31", "" },
        { "Mul q wf", "Abs wf > o;Mul q o", "" },
        { "Reshape qw shape334", "Relu qw", "" },
        { "Reshape qw shape334", "Reshape qw flat334", "" },
        { "m axes=1", "m axes=0", "d->q: RMSNormalization" },
        { "v axes=1", "v axes=0", "d->q: RMSNormalization" },
    };

    public static TheoryData<string, string, string> GroupsOfInstances => new()
    {
        { "ones zeros", "almost zeros", "node rows->q: InstanceNorm1d(2, eps=0.001, momentum=0.1, affine=True, track_running_stats=False)" },
        { "ones zeros", "ones almost", "node rows->q: InstanceNorm1d(2, eps=0.001, momentum=0.1, affine=True, track_running_stats=False)" },
        { "Reshape x groups", "Reshape x batch", "node rows->q: InstanceNorm1d(2, eps=0.001, momentum=0.1, affine=True, track_running_stats=False)" },
        { "Reshape x groups", "Reshape x pairs", "node rows->q: InstanceNorm1d(2, eps=0.001, momentum=0.1, affine=True, track_running_stats=False)" },
        { "Reshape q shape", "Reshape q flat", "node rows->q: InstanceNorm1d(2, eps=0.001, momentum=0.1, affine=True, track_running_stats=False)" },
        { "Reshape q shape > n", "Reshape q shape > n;Relu q > z", "node rows->q: InstanceNorm1d(2, eps=0.001, momentum=0.1, affine=True, track_running_stats=False)" },
        { "Reshape q shape", "Relu q", "node rows->q: InstanceNorm1d(2, eps=0.001, momentum=0.1, affine=True, track_running_stats=False)" },
        { "Mul n w41", "Mul n w4", "x->n: GroupNorm(2, 4, eps=0.001, affine=False)" },
        { "Mul n w41", "Mul n w44", "x->n: GroupNorm(2, 4, eps=0.001, affine=False)" },
        { "Mul n w41", "Mul n w411", "x->n: GroupNorm(2, 4, eps=0.001, affine=False)" },
        { "Mul n w41", "Unsqueeze w4 > o axes=0;Mul n o", "x->n: GroupNorm(2, 4, eps=0.001, affine=False)" },
        { "Mul n w41", "Unsqueeze w4 > o axes=1;Mul n o", "x->y: GroupNorm(2, 4, eps=0.001, affine=True)" },
        { "Add nw b41", "Add nw b4", "x->nw: GroupNorm(2, 4, eps=0.001, affine=True)" },
    };
}
