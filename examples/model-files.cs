#!/usr/bin/env dotnet
#:project ../src/NormLayers/NormLayers.csproj
#:project ../src/NormLayers.IO/NormLayers.IO.csproj
#:property PublishAot=false
using System.Numerics.Tensors;
using NormLayers;
using NormLayers.IO;

using Checkpoint checkpoint = Checkpoint.Open("examples/data/ppocr-v4-rec/parameters.safetensors");
NormLayer<float> norm = checkpoint.Find("layer_norm_43").ToLayer<float>(inputRank: 3);
Console.WriteLine(norm);                                  // LayerNorm((120,), eps=1e-05, elementwise_affine=True)
norm.Save("norm.onnx", overwrite: true);                  // or .safetensors

OnnxModel model = OnnxModel.Load("norm.onnx");
foreach (OnnxNormalization node in model.NormalizationNodes)
    Console.WriteLine(node);                              // output: LayerNorm((120,), eps=1e-05, elementwise_affine=True)
using NpyFile activation = NpyFile.Open("examples/data/ppocr-v4-rec/05_layer_x.npy");
Tensor<float> x = activation.Read<float>();
Tensor<float> y = model.Find("output").Run(x);            // ONNX's semantics, whatever the operator
Console.WriteLine(Tensor.SequenceEqual<float>(y, norm.Forward(x))); // True

var another = new LayerNorm<float>(120);
another.LoadFrom("examples/data/ppocr-v4-rec/parameters.safetensors", prefix: "layer_norm_43");
Console.WriteLine(Tensor.SequenceEqual<float>(y, another.Forward(x))); // True
