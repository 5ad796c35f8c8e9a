#!/usr/bin/env dotnet
#:project ../src/NormLayers/NormLayers.csproj
#:property PublishAot=false
// The GroupNorm notebook, cell by cell: each line of Python stands above the C# that prints the same text.
using System.Numerics.Tensors;
using NormLayers;

// group_norm = nn.GroupNorm(2, 4); print(group_norm)
var groupNorm = new GroupNorm<float>(2, 4);
Console.WriteLine(groupNorm);

// print(group_norm.weight); print(group_norm.bias); print(group_norm.eps)
Console.WriteLine(groupNorm.Weight);
Console.WriteLine(groupNorm.Bias);
Console.WriteLine(TensorPrinter.Format(groupNorm.Eps));

// x = torch.arange(100.).reshape(1, 4, 5, 5); print(x); print(x.shape)
Tensor<float> x = Tensor.Create([.. Enumerable.Range(0, 100).Select(i => (float)i)], [1, 4, 5, 5]);
Console.WriteLine(TensorPrinter.Format(x));
Console.WriteLine(TensorPrinter.FormatSize(x.Lengths));

// with torch.no_grad(): y = group_norm(x)
// print(y); print(y.shape)
Tensor<float> y = groupNorm.Forward(x);
Console.WriteLine(TensorPrinter.Format(y));
Console.WriteLine(TensorPrinter.FormatSize(y.Lengths));
