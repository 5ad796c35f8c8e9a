using System.Numerics;
using System.Numerics.Tensors;
using System.Reflection;
using System.Text.Json;
using NormLayers.Tests.Golden;
using Xunit;

namespace NormLayers.Tests.Errors;

/// <summary>
/// Every entry of errors.json: what PyTorch refuses is refused at the same stage, with a message that
/// names the parameter, what was got and what is accepted; what it accepts succeeds.
/// </summary>
public sealed class ErrorEntryTests
{
    /// <summary>By entry: the parameter that the exception names, and parts of the message: what is accepted, what was got.</summary>
    private static readonly Dictionary<string, (string Parameter, string Accepted, string Got)> refusals = new()
    {
        ["err000"] = ("normalizedShape", "at least one dimension", "got []"),
        ["err001"] = ("input", "last dimensions are [2, 3]", "got shape [3]"),
        ["err002"] = ("input", "last dimensions are [2]", "got shape [1, 2, 3]"),
        ["err003"] = ("input", "last dimensions are [10]", "got shape [2, 3]"),
        ["err004"] = ("input", "last dimensions are [10]", "got shape [2, 3]"),
        ["err005"] = ("input", "last dimensions are [2, 2]", "got shape [2, 2, 3]"),
        ["err006"] = ("input", "last dimensions are [3]", "got shape [0]"), // .NET has no rank 0: [] becomes [0]
        ["err007"] = ("input", "last dimensions are [3, 4]", "got shape [2, 4, 3]"),
        ["err008"] = ("normalizedShape", "zero or more", "got [-3]"),
        ["err009"] = ("normalizedShape", "zero or more", "got [-3, 2]"),
        ["err010"] = ("normalizedShape", "at least one dimension", "got []"),
        ["err011"] = ("weight", "weight of the normalized shape [1, 2, 3]", "got shape [1, 2]"),
        ["err012"] = ("bias", "bias of the normalized shape [1, 2, 3]", "got shape [1, 2]"),
        ["err013"] = ("input", "last dimensions are [2, 2]", "got shape [2, 2, 3]"),
        ["err021"] = ("numChannels", "divisible by the number of groups 3", "got 2"),
        ["err022"] = ("numChannels", "divisible by the number of groups 2", "got 3"),
        ["err023"] = ("numChannels", "divisible by the number of groups 10", "got 1"),
        ["err024"] = ("numChannels", "divisible by the number of groups 4", "got 6"),
        ["err025"] = ("numGroups", "at least one group", "0"),
        ["err026"] = ("numGroups", "at least one group", "-1"),
        ["err027"] = ("input", "more than one value per group", "10 groups in shape [1, 10, 1]"),
        ["err028"] = ("input", "more than one value per group", "4 groups in shape [1, 4]"),
        ["err030"] = ("weight", "weight of shape [6]", "got shape [4]"),
        ["err031"] = ("input", "divisible by the number of groups 2", "got 5 in shape [2, 5, 3]"),
        ["err034"] = ("input", "at least 2 dimensions", "got shape [4]"),
        ["err035"] = ("input", "at least 2 dimensions", "got shape [1]"),
        ["err036"] = ("input", "divisible by the number of groups 2", "got 7 in shape [2, 7, 4]"),
        ["err037"] = ("numGroups", "at least one group", "0"),
        ["err038"] = ("numGroups", "at least one group", "-2"),
        ["err039"] = ("weight", "weight of shape [4]", "got shape [3]"),
        ["err040"] = ("weight", "weight of shape [4]", "got shape [4, 1]"),
        ["err041"] = ("bias", "bias of shape [4]", "got shape [3]"),
        ["err042"] = ("bias", "bias of shape [4]", "got shape [3]"),
        ["err045"] = ("input", "at least 3 dimensions", "got shape [0]"),
        ["err046"] = ("input", "at least 3 dimensions", "got shape [2]"),
        ["err047"] = ("input", "at least 3 dimensions", "got shape [2, 3]"),
        ["err048"] = ("input", "at least 3 dimensions", "got shape [0, 5]"),
        ["err049"] = ("size", "at least one channel", "0"),
        ["err050"] = ("size", "at least one channel", "0"),
        ["err051"] = ("size", "at least one channel", "-1"),
        ["err052"] = ("size", "at least one channel", "-1"),
        ["err058"] = ("input", "4 dimensions", "got shape [1, 2, 3]"),
        ["err059"] = ("input", "4 dimensions", "got shape [1, 2, 3, 3, 3]"),
        ["err060"] = ("normalizedShape", "at least one dimension", "got []"),
        ["err061"] = ("weight", "weight of the normalized shape [1, 2, 3]", "got shape [1, 2]"),
        ["err062"] = ("input", "last dimensions are [2, 2]", "got shape [2, 2, 3]"),
        ["err064"] = ("input", "(N, C) or (N, C, L)", "1 dimensions: [10]"),
        ["err065"] = ("input", "(N, C) or (N, C, L)", "4 dimensions: [2, 10, 3, 3]"),
        ["err066"] = ("input", "(N, C, H, W)", "2 dimensions: [2, 10]"),
        ["err067"] = ("input", "(N, C, H, W)", "3 dimensions: [2, 10, 3]"),
        ["err068"] = ("input", "(N, C, H, W)", "5 dimensions: [2, 10, 3, 3, 3]"),
        ["err069"] = ("input", "(N, C, D, H, W)", "4 dimensions: [2, 10, 3, 3]"),
        ["err070"] = ("input", "(N, C, D, H, W)", "6 dimensions: [2, 10, 1, 1, 1, 1]"),
        ["err071"] = ("input", "more than one value per channel", "shape [1, 10, 1]"),
        ["err072"] = ("input", "more than one value per channel", "shape [1, 10]"),
        ["err074"] = ("input", "more than one value per channel", "shape [1, 3, 1, 1]"),
        ["err075"] = ("input", "3 channels", "got 4 in shape [2, 4]"),
        ["err076"] = ("input", "3 channels", "got 4 in shape [2, 4]"),
        ["err080"] = ("runningMean", "runningMean of shape [10]", "got shape [9]"),
        ["err081"] = ("runningVar", "runningVar of shape [10]", "got shape [9]"),
        ["err082"] = ("weight", "weight of shape [10]", "got shape [9]"),
        ["err083"] = ("bias", "bias of shape [10]", "got shape [9]"),
        ["err084"] = ("runningMean", "runningMean of shape [10]", "got shape [11]"),
        ["err085"] = ("runningVar", "runningVar of shape [10]", "got shape [11]"),
        ["err086"] = ("weight", "weight of shape [10]", "got shape [11]"),
        ["err087"] = ("bias", "bias of shape [10]", "got shape [11]"),
        ["err088"] = ("runningMean", "in evaluation", "got none"),
        ["err089"] = ("runningVar", "in evaluation", "got none"),
        ["err090"] = ("input", "more than one value per channel", "shape [1, 10]"),
        ["err091"] = ("input", "more than one element per channel", "got shape [1, 10, 1]"),
        ["err092"] = ("input", "2 dimensions (C, ...) or 3", "got shape [10]"),
        ["err093"] = ("input", "2 dimensions (C, ...) or 3", "got shape [2, 10, 3, 3]"),
        ["err094"] = ("input", "more than one element per channel", "got shape [10, 3, 1, 1]"),
        ["err095"] = ("input", "3 dimensions (C, ...) or 4", "got shape [3, 4]"),
        ["err096"] = ("input", "3 dimensions (C, ...) or 4", "got shape [2, 3, 4, 4, 4]"),
        ["err097"] = ("input", "more than one element per channel", "got shape [10, 3, 1, 1, 1]"),
        ["err098"] = ("input", "4 dimensions (C, ...) or 5", "got shape [2, 3, 4]"),
        ["err099"] = ("input", "4 dimensions (C, ...) or 5", "got shape [1, 2, 3, 4, 4, 4]"),
        ["err100"] = ("input", "4 channels in dimension 1", "got shape [3, 2, 2]"),
        ["err101"] = ("input", "4 channels in dimension 0", "got shape [2, 2]"),
        ["err102"] = ("input", "4 channels in dimension 1", "got shape [3, 2, 2, 2]"),
        ["err104"] = ("input", "4 channels in dimension 1", "got shape [3, 2, 2]"),
        ["err108"] = ("input", "more than one element per channel", "got shape [10, 3, 1]"),
        ["err110"] = ("runningMean", "a running mean and a running variance", "got none"),
        ["err111"] = ("input", "more than one element per channel", "got shape [2, 3]"),
        ["err112"] = ("runningMean", "runningMean of shape [3]", "got shape [4]"),
        ["err113"] = ("input", "(N, C, ...)", "1 dimensions: [3]"),
        ["err114"] = ("input", "at least one channel", "got shape [2, 0]"),
        ["err116"] = ("dim", "from -1 to 0", "1"),
        ["err117"] = ("dim", "from -2 to 1", "-3"),
        ["err119"] = ("input", "(N, C) or (N, C, L)", "got 4 dimensions: [2, 3, 4, 5]"),
        ["err120"] = ("input", "(N, C, H, W)", "got 3 dimensions: [2, 3, 4]"),
        ["err121"] = ("input", "2 dimensions (C, ...) or 3", "got shape [2, 3, 4, 5]"),
    };

    /// <summary>Refused by PyTorch and accepted here: its view cannot merge transposed dimensions, we walk any strides; an empty batch with an affine.</summary>
    private static readonly string[] acceptedHere = ["err056", "err105"];

    [Fact]
    public void Entries_OfTheLayers_BehaveAsListed()
    {
        using JsonDocument document = JsonDocument.Parse(File.ReadAllText(Path.Combine(GoldenFile.Folder, "errors.json")));
        int refused = 0, accepted = 0, mixed = 0, unsupported = 0;
        foreach (JsonElement entry in document.RootElement.GetProperty("cases").EnumerateArray())
        {
            string id = entry.GetProperty("id").GetString()!, dtype = Dtype(entry, "input") ?? "float32";
            bool isMixed = (Dtype(entry, "weight") ?? dtype) != dtype || (Dtype(entry, "bias") ?? dtype) != dtype
                || (dtype == "float64" && Subject(entry).StartsWith("BatchNorm", StringComparison.Ordinal));
            if (isMixed)
            {
                // Most such calls cannot be written: see Signatures_OfInputWeightAndBias_AreOfOneTypeOrHaveParametersOfFloat.
                Assert.False(refusals.ContainsKey(id), id);
                bool isFloat = (Dtype(entry, "weight"), Dtype(entry, "bias")) == ("float32", "float32");
                if (isFloat && dtype == "bfloat16")
                {
                    Assert.Equal(JsonValueKind.Null, entry.GetProperty("exception").ValueKind);
                    AssertAccepted(id, entry, MixedLayerNorm<BFloat16>(entry));
                    accepted++;
                }
                else
                {
                    Assert.NotEqual(JsonValueKind.Null, entry.GetProperty("exception").ValueKind);
                    if (isFloat && dtype == "float64")
                        AssertContains(id, Assert.Throws<NotSupportedException>(() => MixedLayerNorm<double>(entry)).Message, "Double", "parameters of type Single", "Half or BFloat16");
                    mixed++;
                }
            }
            else if (dtype == "int64")
            {
                if (entry.GetProperty("exception").ValueKind == JsonValueKind.Null)
                {
                    AssertAccepted(id, entry, IntegerWindow(entry));
                    accepted++;
                }
                else
                {
                    AssertContains(id, Assert.Throws<NotSupportedException>(() => Forward<long>(entry)).Message, "Int64", "Half", "BFloat16", "float", "double");
                    unsupported++;
                }
            }
            else if (!isMixed && (entry.GetProperty("exception").ValueKind == JsonValueKind.Null || acceptedHere.Contains(id)))
            {
                Assert.Equal("float32", dtype);
                AssertAccepted(id, entry, Forward<float>(entry));
                accepted++;
            }
            else if (!isMixed)
            {
                Assert.True(refusals.TryGetValue(id, out (string Parameter, string Accepted, string Got) refusal), $"{id} is not in the table");
                bool constructs = entry.GetProperty("stage").GetString() == "construct";
                if (entry.TryGetProperty("module", out _) && !constructs)
                    Construct<float>(entry);
                ArgumentException thrown = Assert.ThrowsAny<ArgumentException>(() => _ = constructs ? (object)Construct<float>(entry) : Forward<float>(entry)!);
                Assert.True(refusal.Parameter == thrown.ParamName, $"{id} names {thrown.ParamName}");
                AssertContains(id, thrown.Message, refusal.Accepted, refusal.Got);
                refused++;
            }
        }
        Assert.Equal((refusals.Count, 18, 7, 4), (refused, accepted, mixed, unsupported));
    }

    [Fact]
    public void Signatures_OfInputWeightAndBias_AreOfOneTypeOrHaveParametersOfFloat()
    {
        // PyTorch checks at run time that dtypes match; here most mixtures do not compile.
        MethodInfo[] methods = [.. typeof(Functional).GetMethods().Where(method => method.Name is "LayerNorm" or "GroupNorm")];
        Assert.Equal(12, methods.Length);
        foreach (MethodInfo method in methods)
        {
            Type only = Assert.Single(method.GetGenericArguments());
            Assert.Equal(only, ElementType(method, "input"));
            Type parameters = ElementType(method, "weight");
            Assert.True(parameters == only || parameters == typeof(float));
            Assert.Equal(parameters, ElementType(method, "bias"));
        }

        static Type ElementType(MethodInfo method, string name)
        {
            Type type = method.GetParameters().Single(parameter => parameter.Name == name).ParameterType;
            return Assert.Single((type.IsByRef ? type.GetElementType()! : type).GetGenericArguments());
        }
    }

    private static string Subject(JsonElement entry)
        => (entry.TryGetProperty("op", out JsonElement op) ? op : entry.GetProperty("module")).GetString()!;

    private static string? Dtype(JsonElement entry, string tensor)
        => entry.TryGetProperty(tensor, out JsonElement value) && value.ValueKind == JsonValueKind.Object ? value.GetProperty("dtype").GetString() : null;

    private static nint[] Shape(JsonElement shape)
        => shape.ValueKind == JsonValueKind.Array ? [.. shape.EnumerateArray().Select(length => (nint)length.GetInt64())] : [(nint)shape.GetInt64()];

    private static Tensor<T>? Ones<T>(JsonElement entry, string name) where T : INumberBase<T>
    {
        if (!entry.TryGetProperty(name, out JsonElement value) || value.ValueKind != JsonValueKind.Object)
            return null;
        Tensor<T> tensor = Tensor.CreateFromShape<T>(Shape(value.GetProperty("shape")));
        tensor.Fill(T.One);
        if (!entry.TryGetProperty("layout", out JsonElement layout))
            return tensor;
        Assert.Equal("transpose(3,4)", layout.GetString());
        nint[] strides = tensor.Strides.ToArray();
        (strides[3], strides[4]) = (1, tensor.Lengths[3]);
        return Tensors.WithStrides(tensor, strides);
    }

    private static NormLayer<T> Construct<T>(JsonElement entry) where T : unmanaged
    {
        JsonElement args = entry.GetProperty("args");
        if (Subject(entry).Contains("Instance", StringComparison.Ordinal) || Subject(entry).StartsWith("Lazy", StringComparison.Ordinal))
        {
            string arguments = string.Join(", ", args.EnumerateObject().Select(argument => $"{argument.Name}={(argument.Value.ValueKind == JsonValueKind.True ? "True" : argument.Value)}"));
            NormLayer<T> layer = NormLayer.Parse<T>($"{Subject(entry)}({arguments})");
            layer.Train(!entry.TryGetProperty("training", out JsonElement training) || training.GetBoolean());
            return layer;
        }
        return Subject(entry) switch
        {
            "LayerNorm" => new LayerNorm<T>(Shape(args.GetProperty("normalized_shape"))),
            "GroupNorm" => new GroupNorm<T>(args.GetProperty("num_groups").GetInt32(), args.GetProperty("num_channels").GetInt32(),
                affine: !args.TryGetProperty("affine", out JsonElement affine) || affine.GetBoolean()),
            "BatchNorm1d" => InMode(new BatchNorm1d<T>(Features(), affine: Flag("affine"), trackRunningStats: Flag("track_running_stats"))),
            "BatchNorm2d" => InMode(new BatchNorm2d<T>(Features(), affine: Flag("affine"), trackRunningStats: Flag("track_running_stats"))),
            "BatchNorm3d" => InMode(new BatchNorm3d<T>(Features(), affine: Flag("affine"), trackRunningStats: Flag("track_running_stats"))),
            "SyncBatchNorm" => InMode(new SyncBatchNorm<T>(Features())),
            "CrossMapLRN2d" => new CrossMapLRN2d<T>(args.GetProperty("size").GetInt32()),
            _ => new LocalResponseNorm<T>(args.GetProperty("size").GetInt32()),
        };

        int Features() => args.GetProperty("num_features").GetInt32();
        bool Flag(string name) => !args.TryGetProperty(name, out JsonElement value) || value.GetBoolean();
        NormLayer<T> InMode(NormLayer<T> layer)
        {
            layer.Train(!entry.TryGetProperty("training", out JsonElement training) || training.GetBoolean());
            return layer;
        }
    }

    /// <summary>The output of an entry, or null where it only constructs.</summary>
    private static Tensor<T>? Forward<T>(JsonElement entry) where T : unmanaged, INumberBase<T>
    {
        JsonElement args = entry.GetProperty("args");
        Tensor<T>? input = Ones<T>(entry, "input"), weight = Ones<T>(entry, "weight"), bias = Ones<T>(entry, "bias");
        if (!entry.TryGetProperty("module", out _))
        {
            return Subject(entry) switch
            {
                "layer_norm" => Functional.LayerNorm(input!, Shape(args.GetProperty("normalized_shape")), weight, bias),
                "rms_norm" => Functional.RMSNorm(input!, Shape(args.GetProperty("normalized_shape")), weight),
                "normalize" => Functional.Normalize(input!, dim: args.TryGetProperty("dim", out JsonElement dim) ? dim.GetInt32() : 1),
                "instance_norm" => Functional.InstanceNorm(input!, Ones<T>(entry, "running_mean"), Ones<T>(entry, "running_var"), weight, bias,
                    !args.TryGetProperty("use_input_stats", out JsonElement use) || use.GetBoolean()),
                "group_norm" => Functional.GroupNorm(input!, args.GetProperty("num_groups").GetInt32(), weight, bias),
                "batch_norm" => Functional.BatchNorm(input!, Ones<T>(entry, "running_mean"), Ones<T>(entry, "running_var"), weight, bias,
                    !args.TryGetProperty("training", out JsonElement training) || training.GetBoolean()),
                _ => Functional.LocalResponseNorm(input!, args.GetProperty("size").GetInt32()),
            };
        }
        NormLayer<T> layer = Construct<T>(entry);
        return input is null ? null : layer.Forward(input);
    }

    private static Tensor<float> IntegerWindow(JsonElement entry)
    {
        Tensor<long> input = Ones<long>(entry, "input")!;
        Tensor<float> output = Tensor.CreateFromShape<float>(input.Lengths);
        Functional.LocalResponseNorm(input.AsReadOnlyTensorSpan(), entry.GetProperty("args").GetProperty("size").GetInt32(), 1e-4, 0.75, 1, output.AsTensorSpan());
        return output;
    }

    private static Tensor<T> MixedLayerNorm<T>(JsonElement entry) where T : unmanaged
    {
        Assert.Equal("layer_norm", Subject(entry));
        return Functional.LayerNorm(Tensor.CreateFromShape<T>(Shape(entry.GetProperty("input").GetProperty("shape"))), Shape(entry.GetProperty("args").GetProperty("normalized_shape")),
            Ones<float>(entry, "weight"), Ones<float>(entry, "bias"));
    }

    private static void AssertAccepted<T>(string id, JsonElement entry, Tensor<T>? output)
    {
        JsonElement shape = entry.TryGetProperty("output_shape", out JsonElement listed) ? listed
            : entry.GetProperty("input") is { ValueKind: JsonValueKind.Object } input ? input.GetProperty("shape") : default;
        if (output is null)
            Assert.True(shape.ValueKind == JsonValueKind.Undefined, id);
        else
            Assert.True(output.Lengths.SequenceEqual(Shape(shape)), id);
    }

    private static void AssertContains(string id, string message, params ReadOnlySpan<string> parts)
    {
        foreach (string part in parts)
            Assert.True(message.Contains(part, StringComparison.Ordinal), $"{id}: \"{message}\" lacks \"{part}\"");
    }
}
