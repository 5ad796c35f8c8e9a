#!/usr/bin/env dotnet
#:project ../src/NormLayers/NormLayers.csproj
#:project ../src/NormLayers.IO/NormLayers.IO.csproj
#:property PublishAot=false
using System.Numerics.Tensors;
using NormLayers;
using NormLayers.IO;

// using var norm = torch.nn.LayerNorm(3);
var norm = new LayerNorm<float>(3);

// using var x = torch.tensor(new float[] { 1, 2, 6, 2, 4, 6 }, 2, 3).requires_grad_();
// using var dy = torch.tensor(new float[] { 1, 0, 0, 0, 1, 0 }, 2, 3);
Tensor<float> x = Tensor.Create([1f, 2, 6, 2, 4, 6], [2, 3]);
Tensor<float> dy = Tensor.Create([1f, 0, 0, 0, 1, 0], [2, 3]);

// using var y = norm.forward(x);
// y.backward(new[] { dy });
Tensor<float> y = norm.Forward(x, out ForwardPass<float> pass);
Tensor<float> dx = norm.Backward(dy, pass);
Console.WriteLine(TensorPrinter.Format(y));
Console.WriteLine(TensorPrinter.Format(dx));                 // x.grad
Console.WriteLine(TensorPrinter.Format(norm.Weight!.Grad));  // norm.weight.grad

// using var z = torch.nn.functional.layer_norm(x, new long[] { 3 }, norm.weight, norm.bias);
Tensor<float> z = Functional.LayerNorm(x, [3], norm.Weight.Value, norm.Bias!.Value);
Console.WriteLine(Tensor.SequenceEqual<float>(y, z));

// norm.save_safetensors("norm.safetensors");
// using var same = torch.nn.LayerNorm(3);
// same.load_safetensors("norm.safetensors");
// foreach (var (name, value) in same.state_dict()) ...
string file = Path.Combine(Path.GetTempPath(), "norm.safetensors");
norm.Save(file, overwrite: true);
var same = new LayerNorm<float>(3);
same.LoadFrom(file);
foreach ((string name, IReadOnlyTensor value) in same.StateDict())
    Console.WriteLine($"{name} {TensorPrinter.FormatSize(value.Lengths)}");
