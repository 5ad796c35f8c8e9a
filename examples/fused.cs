#!/usr/bin/env dotnet
#:project ../src/NormLayers/NormLayers.csproj
#:property PublishAot=false
// The fused forms of docs/layers/fused.md beside their parts.
using System.Numerics.Tensors;
using NormLayers;

Tensor<float> x = Numbers(1, 2, 3, 4), residual = Numbers(2, 2, 3, 4), weight = Numbers(3, 4), bias = Numbers(4, 4);
(Tensor<float> sum, Tensor<float> y) = Functional.AddLayerNorm(x, residual, [4], weight, bias);
Tensor<float> added = Tensor.Add<float>(x, residual);
Console.WriteLine($"sum and LayerNorm of it, the same bits: {Same(added, sum)}, {Same(Functional.LayerNorm(added, [4], weight, bias), y)}");

Tensor<float> scale = Numbers(5, 2, 4), shift = Numbers(6, 2, 4);
Tensor<float> modulated = Functional.AdaptiveLayerNorm(x, [4], scale, shift);
Tensor<float> normalized = Functional.LayerNorm(x, [4], eps: 1e-5);
Tensor<float> composed = Tensor.CreateFromShape<float>([2, 3, 4]);
for (nint n = 0; n < 2; n++)
    for (nint row = 0; row < 3; row++)
        for (nint i = 0; i < 4; i++)
            composed[n, row, i] = normalized[n, row, i] * (1 + scale[n, i]) + shift[n, i];
Console.WriteLine($"LayerNorm with each sample's scale and shift, the same bits: {Same(composed, modulated)}");

Tensor<float> image = Numbers(7, 1, 4, 9), gamma = Numbers(8, 4), beta = Numbers(9, 4);
Tensor<float> activated = Functional.GroupNormSiLU(image, numGroups: 2, gamma, beta);
Tensor<float> z = Functional.GroupNorm(image, 2, gamma, beta);
Console.WriteLine($"GroupNorm and SiLU, within 1e-6: {TensorPrimitives.Distance<float>(Array(activated), [.. Array(z).Select(v => v / (1 + float.Exp(-v)))]) < 1e-6}");

static Tensor<float> Numbers(int seed, params nint[] shape)
{
    var random = new Random(seed);
    int count = 1;
    foreach (nint length in shape)
        count *= (int)length;
    return Tensor.Create([.. Enumerable.Range(0, count).Select(_ => random.NextSingle() * 2 - 1)], shape);
}

static float[] Array(Tensor<float> tensor)
{
    var values = new float[tensor.FlattenedLength];
    tensor.FlattenTo(values);
    return values;
}

static bool Same(Tensor<float> a, Tensor<float> b) => Array(a).AsSpan().SequenceEqual(Array(b));
