using System.Buffers.Binary;
using System.Numerics.Tensors;
using Google.Protobuf;
using NormLayers.IO;
using Xunit;

namespace NormLayers.Tests.Onnx;

/// <summary>ONNX's own cases of the normalization operators, written out in simpler operators too, against the outputs that ONNX gives for them.</summary>
public sealed class ConformanceTests
{
    private const string Folder = "../shared/onnx-node";
    private const double Tolerance = 1e-5;

    public static TheoryData<string> Cases
    {
        get
        {
            string folder = Path.Combine(Repository.Root, Folder);
            return Directory.Exists(folder) ? [.. Directory.GetDirectories(folder).Select(path => Path.GetFileName(path)).Order()] : ["(none)"];
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Run_CaseOfTheSpecification_AgreesWithIt(string name)
    {
        string folder = Path.Combine(Repository.Root, Folder, name);
        Assert.SkipUnless(Directory.Exists(folder), $"{Folder} is not on this machine");

        OnnxNormalization node = Assert.Single(OnnxModel.Load(Path.Combine(folder, "model.onnx")).NormalizationNodes);
        Assert.Equal(name.Contains("_expanded", StringComparison.Ordinal), node.IsWrittenOut);
        var values = new Dictionary<string, Tensor<float>>();
        for (int i = 0; File.Exists(Path.Combine(folder, "test_data_set_0", $"input_{i}.pb")); i++)
        {
            // The oldest cases do not name their tensors; the model's inputs are the operator's, in its order.
            string input = ReadTensor(Path.Combine(folder, "test_data_set_0", $"input_{i}.pb"), out Tensor<float> tensor);
            values.Add(input.Length > 0 ? input : node.Inputs[i], tensor);
        }

        IReadOnlyList<Tensor<float>> results = node.Run(values);
        for (int i = 0; i < results.Count; i++)
        {
            string result = ReadTensor(Path.Combine(folder, "test_data_set_0", $"output_{i}.pb"), out Tensor<float> expected);
            Assert.Equal(result.Length > 0 ? result : node.Outputs[i], node.Outputs[i]);
            Assert.Equal(expected.Lengths.ToArray(), results[i].Lengths.ToArray());
            double worst = Tensors.ToArray(expected).Zip(Tensors.ToArray(results[i]), (a, b) => Math.Abs((double)a - b) / Math.Max(1, Math.Abs(a))).DefaultIfEmpty().Max();
            Assert.True(worst <= Tolerance, $"{result} differs by {worst:G4}");
        }
    }

    /// <summary>A serialized TensorProto of float32: dims (field 1), name (8), raw data (9).</summary>
    private static string ReadTensor(string path, out Tensor<float> tensor)
    {
        var input = new CodedInputStream(File.ReadAllBytes(path));
        var lengths = new List<nint>();
        (string name, byte[] raw) = ("", []);
        while (input.ReadTag() is > 0 and var tag)
        {
            switch (tag)
            {
                case (1 << 3) | 0: lengths.Add((nint)input.ReadInt64()); break;
                case (8 << 3) | 2: name = input.ReadString(); break;
                case (9 << 3) | 2: raw = input.ReadBytes().ToByteArray(); break;
                default: input.SkipLastField(); break;
            }
        }
        var elements = new float[raw.Length / 4];
        for (int i = 0; i < elements.Length; i++)
            elements[i] = BinaryPrimitives.ReadSingleLittleEndian(raw.AsSpan(4 * i));
        tensor = Tensor.Create(elements, lengths.Count == 0 ? [1] : [.. lengths]);
        return name;
    }
}
