#!/usr/bin/env dotnet
#:project ../src/NormLayers/NormLayers.csproj
#:property PublishAot=false
using System.Numerics.Tensors;
using NormLayers;

var norm = new GroupNorm<float>(numGroups: 3, numChannels: 6);
Console.WriteLine(norm);                                  // GroupNorm(3, 6, eps=1e-05, affine=True)

Tensor<float> x = Tensor.Create([.. Enumerable.Range(0, 48).Select(i => (float)(i * i % 7))], [2, 6, 4]);
Tensor<float> y = norm.Forward(x);                        // allocates the result
norm.Forward(x.AsReadOnlyTensorSpan(), x.AsTensorSpan()); // or writes into your memory, here in place; allocates nothing
Console.WriteLine(Tensor.SequenceEqual<float>(x, y));     // True: the same bits, always

NormLayer<float> same = NormLayer.Parse("nn.GroupNorm(3, 6, eps=1e-05)");
same.LoadStateDict(norm.StateDict());                     // PyTorch's names, strictly: weight, bias
