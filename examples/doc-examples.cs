#!/usr/bin/env dotnet
#:project ../src/NormLayers/NormLayers.csproj
#:property PublishAot=false
// Every example of PyTorch's pages on LayerNorm, GroupNorm and LocalResponseNorm. The Python stands above each piece.
// Each result is also held against its formula, evaluated in double precision by the few lines at the end.
using System.Numerics.Tensors;
using NormLayers;

var random = new Random(20);

Console.WriteLine("LayerNorm, NLP");
// batch, sentence_length, embedding_dim = 20, 5, 10
// embedding = torch.randn(batch, sentence_length, embedding_dim)
// layer_norm = nn.LayerNorm(embedding_dim)
// layer_norm(embedding)
Tensor<float> embedding = RandN(20, 5, 10);
var layerNorm = new LayerNorm<float>(10);
Show(layerNorm, embedding, layerNorm.Forward(embedding), groupLength: 10);

Console.WriteLine("LayerNorm, images");
// N, C, H, W = 20, 5, 10, 10
// input = torch.randn(N, C, H, W)
// layer_norm = nn.LayerNorm([C, H, W])
// output = layer_norm(input)
Tensor<float> images = RandN(20, 5, 10, 10);
layerNorm = new LayerNorm<float>([5, 10, 10]);
Show(layerNorm, images, layerNorm.Forward(images), groupLength: 5 * 10 * 10);

Console.WriteLine("GroupNorm");
// input = torch.randn(20, 6, 10, 10)
// m = nn.GroupNorm(3, 6)       # 3 groups of 2 channels
// m = nn.GroupNorm(6, 6)       # equivalent with InstanceNorm
// m = nn.GroupNorm(1, 6)       # equivalent with LayerNorm
// output = m(input)
Tensor<float> input = RandN(20, 6, 10, 10);
var groupNorm = new GroupNorm<float>(3, 6);
Show(groupNorm, input, groupNorm.Forward(input), groupLength: 2 * 10 * 10);

groupNorm = new GroupNorm<float>(6, 6);
Tensor<float> output = groupNorm.Forward(input);
Show(groupNorm, input, output, groupLength: 10 * 10);
// Instance normalization: each channel of each sample by itself, that is over the last two dimensions.
Tensor<float> instance = Functional.LayerNorm(input, [10, 10]);
Console.WriteLine($"  equal to instance normalization, bit for bit: {Tensor.SequenceEqual<float>(output, instance)}");

groupNorm = new GroupNorm<float>(1, 6);
output = groupNorm.Forward(input);
Show(groupNorm, input, output, groupLength: 6 * 10 * 10);
Tensor<float> layer = Functional.LayerNorm(input, [6, 10, 10]);
Console.WriteLine($"  equal to layer normalization over (C, H, W), bit for bit: {Tensor.SequenceEqual<float>(output, layer)}");

Console.WriteLine("LocalResponseNorm");
// lrn = nn.LocalResponseNorm(2)
// signal_2d = torch.randn(32, 5, 24, 24)
// signal_4d = torch.randn(16, 5, 7, 7, 7, 7)
// output_2d = lrn(signal_2d)
// output_4d = lrn(signal_4d)
var lrn = new LocalResponseNorm<float>(2);
Tensor<float> signal2d = RandN(32, 5, 24, 24), signal4d = RandN(16, 5, 7, 7, 7, 7);
ShowLrn(lrn, signal2d, lrn.Forward(signal2d));
ShowLrn(lrn, signal4d, lrn.Forward(signal4d));

// Values close to the standard normal distribution (the sum of twelve uniform ones, less 6), the same on every machine.
Tensor<float> RandN(params nint[] shape)
{
    var values = new float[TensorPrimitives.Product<nint>(shape)];
    for (int i = 0; i < values.Length; i++)
    {
        double sum = -6;
        for (int k = 0; k < 12; k++)
            sum += random.NextDouble();
        values[i] = (float)sum;
    }
    return Tensor.Create(values, shape);
}

void Show(NormLayer<float> norm, Tensor<float> x, Tensor<float> y, int groupLength)
{
    float[] xs = [.. x], ys = [.. y];
    double worst = 0;
    for (int start = 0; start < xs.Length; start += groupLength)
    {
        double[] group = [.. xs[start..(start + groupLength)]];
        double mean = group.Average(), variance = group.Average(value => (value - mean) * (value - mean));
        for (int i = 0; i < groupLength; i++)
            worst = Math.Max(worst, Math.Abs(ys[start + i] - (group[i] - mean) / Math.Sqrt(variance + 1e-5)));
    }
    Report(norm, y, worst);
}

void ShowLrn(LocalResponseNorm<float> norm, Tensor<float> x, Tensor<float> y)
{
    float[] xs = [.. x], ys = [.. y];
    int channels = (int)x.Lengths[1], run = (int)TensorPrimitives.Product(x.Lengths[2..]);
    double worst = 0;
    for (int i = 0; i < xs.Length; i++)
    {
        // Size 2: the channel itself and the one below.
        double below = i / run % channels > 0 ? xs[i - run] : 0;
        double expected = xs[i] / Math.Pow(1 + 1e-4 / 2 * (below * below + (double)xs[i] * xs[i]), 0.75);
        worst = Math.Max(worst, Math.Abs(ys[i] - expected));
    }
    Report(norm, y, worst);
}

void Report(object norm, Tensor<float> y, double worst)
{
    Console.WriteLine($"  {norm}");
    Console.WriteLine($"  output: {TensorPrinter.FormatSize(y.Lengths)}, begins {TensorPrinter.Format(Tensor.Create([.. y.Take(4)], [4]))}");
    Console.WriteLine($"  within 1e-6 of the formula in double precision: {worst < 1e-6}");
}
