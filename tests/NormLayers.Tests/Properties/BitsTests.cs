using System.Globalization;
using System.Numerics.Tensors;
using Xunit;

namespace NormLayers.Tests.Properties;

/// <summary>The bits of results against those of bits.tsv.</summary>
public sealed class BitsTests
{
    [Fact]
    public void Outputs_OfEveryCase_HaveTheStoredBits()
        => StoredBits.Check("Properties", [.. Rows<float>("float"), .. Rows<double>("double"), .. Rows<Half>("half"), .. Rows<BFloat16>("bfloat16")]);

    private static IEnumerable<(string Name, string Hash)> Rows<T>(string type) where T : unmanaged
    {
        foreach ((NormCase norm, int exponent, int offset) in Cases(typeof(T) != typeof(double)))
        {
            // The ends of float's range are not in Half's, nor its smallest subnormals in BFloat16's.
            if (Numbers.IsShort<T>() && Math.Abs(exponent) > (typeof(T) == typeof(Half) ? 10 : 126))
                continue;
            Operands<T> operands = norm.Make<T>(new Generator((ulong)norm.Count));
            for (int i = 0; i < operands.X.Length; i++)
                operands.X[i] = Numbers.FromDouble<T>(Numbers.ToDouble(Scale(operands.X[i], exponent)) + Math.Min(offset, typeof(T) == typeof(Half) ? 1000 : offset));
            yield return (string.Create(CultureInfo.InvariantCulture, $"{type} {norm} 2^{exponent} + {offset}"), StoredBits.Hash(norm.Apply(operands)));
        }
        foreach ((string name, T[] result) in OtherResults<T>())
            yield return ($"{type} {name}", StoredBits.Hash(result));
    }

    /// <summary>What is no <see cref="NormCase"/>: outputs and gradients of CrossMapLRN2d, ONNX's window, Normalize, running statistics, and the channels geometry.</summary>
    private static IEnumerable<(string Name, T[] Result)> OtherResults<T>() where T : unmanaged
    {
        nint[] shape = [3, 7, 5, 61];
        var generator = new Generator(41);
        T[] x = generator.Values<T>(6405), dy = generator.Values<T>(6405);
        Tensor<T> input = Tensor.Create(x, shape), gradOutput = Tensor.Create(dy, shape);
        foreach (string text in new[] { "CrossMapLRN2d(4, alpha=0.5)", "CrossMapLRN2d(5, beta=0.6)", "LocalResponseNorm(4, alpha=0.5, window='onnx')", "InstanceNorm2d(7, affine=True, track_running_stats=True)" })
        {
            NormLayer<T> layer = NormLayer.Parse<T>(text);
            yield return (text, Tensors.ToArray(layer.Forward(input, out ForwardPass<T> pass)));
            yield return ($"{text} backward", Tensors.ToArray(layer.Backward(gradOutput, pass)));
            if (layer is not InstanceNorm<T> norm)
                continue;
            yield return ($"{text} running", [.. Tensors.ToArray(norm.RunningMean!), .. Tensors.ToArray(norm.RunningVar!)]);
            layer.Eval();
            yield return ($"{text} eval", Tensors.ToArray(layer.Forward(input, out pass)));
            yield return ($"{text} eval backward", Tensors.ToArray(layer.Backward(gradOutput, pass)));
        }
        Tensor<T> channelsLast = Tensors.WithStrides(input, [2135, 1, 427, 7]), channelsLastGradient = Tensors.WithStrides(gradOutput, [2135, 1, 427, 7]);
        foreach ((NormLayer<T> layer, bool last) in new (NormLayer<T>, bool)[]
        {
            (new BatchNorm2d<T>(7), false), (new BatchNorm2d<T>(7), true), (new GroupNorm<T>(7, 7), true), (new GroupNorm<T>(1, 7), true), (new LayerNorm<T>(7, axis: 1), false), (new RMSNorm<T>(7, axis: 1), true),
        })
        {
            for (int mode = 0; mode < (layer is BatchNorm<T> ? 2 : 1); mode++)
            {
                string name = $"{layer}{(last ? " channels last" : "")}{(mode == 1 ? " eval" : "")}";
                if (mode == 1)
                    layer.Eval();
                yield return (name, Tensors.ToArray(layer.Forward(last ? channelsLast : input, out ForwardPass<T> pass)));
                yield return ($"{name} backward", [.. Tensors.ToArray(layer.Backward(last ? channelsLastGradient : gradOutput, pass)), .. layer.Parameters.SelectMany(parameter => Tensors.ToArray(parameter.Grad))]);
            }
        }
        foreach (double p in new[] { 2, 1, 0, 3, 0.5, double.PositiveInfinity, double.NegativeInfinity })
        {
            foreach (int dim in new[] { 1, 3 })
            {
                var gradient = new T[x.Length];
                Functional.NormalizeBackward(gradOutput.AsReadOnlyTensorSpan(), input.AsReadOnlyTensorSpan(), p, dim, 1e-12, new TensorSpan<T>(gradient, shape));
                yield return (string.Create(CultureInfo.InvariantCulture, $"Normalize p={p} dim={dim}"), [.. Tensors.ToArray(Functional.Normalize(input, p, dim)), .. gradient]);
            }
        }
    }

    /// <summary>Multiplication by a power of two: exact but for the subnormals, which are reached in steps of 2 that round each.</summary>
    private static T Scale<T>(T value, int exponent) where T : unmanaged
    {
        int reach = Math.Min(Math.Abs(exponent), typeof(T) == typeof(double) ? 1000 : 100);
        value = Numbers.FromDouble<T>(Math.ScaleB(Numbers.ToDouble(value), Math.Sign(exponent) * reach));
        for (int i = reach; i < Math.Abs(exponent); i++)
            value = Numbers.FromDouble<T>(Numbers.ToDouble(value) * (exponent < 0 ? 0.5 : 2));
        return value;
    }

    private static IEnumerable<(NormCase Norm, int Exponent, int Offset)> Cases(bool single)
    {
        (int tiny, int subnormal, int huge) = single ? (-90, -140, 100) : (-600, -1040, 900);
        NormCase Affine(string name, int number, params nint[] shape) => new(name, number, shape) { Weight = true, Bias = true };

        yield return (Affine("LayerNorm", 1, 3, 1), 0, 0);
        yield return (Affine("LayerNorm", 1, 5, 7), 0, 0);
        foreach ((nint length, int exponent) in new (nint, int)[] { (1, 0), (7, 0), (63, 0), (64, 0), (129, 0), (6151, 0), (61, tiny), (67, huge), (71, subnormal) })
            yield return (new NormCase("RMSNorm", 1, 3, length) { Weight = length != 7 }, exponent, 0);
        yield return (new NormCase("LayerNorm", 1, 5, 37), 0, 0);
        yield return (new NormCase("LayerNorm", 1, 3, 129) { Weight = true }, 0, 1000);
        yield return (new NormCase("LayerNorm", 2, 3, 11, 13) { Bias = true, Eps = 0.1 }, 0, -17);
        yield return (Affine("LayerNorm", 1, 2, 6151), 0, 1_000_000);
        yield return (Affine("LayerNorm", 1, 2, 10_007), 3, 0);
        yield return (Affine("LayerNorm", 1, 3, 61), tiny, 0);
        yield return (new NormCase("LayerNorm", 1, 3, 63) { Eps = 0 }, subnormal, 0);
        yield return (Affine("LayerNorm", 1, 3, 67), huge, 0);

        yield return (Affine("GroupNorm", 3, 2, 6, 5), 0, 0);
        yield return (Affine("GroupNorm", 2, 3, 10), 0, 3);
        yield return (new NormCase("GroupNorm", 1, 2, 3, 4, 7), 0, 0);
        yield return (new NormCase("GroupNorm", 4, 2, 8, 35) { Weight = true }, 0, 100);
        yield return (Affine("GroupNorm", 2, 1, 6, 2053), 0, 10_000);
        yield return (Affine("GroupNorm", 1, 1, 7, 1601), -5, 0);
        yield return (Affine("GroupNorm", 2, 2, 4, 31) with { Eps = 0 }, tiny, 0);
        yield return (Affine("GroupNorm", 2, 2, 4, 33), huge, 0);

        yield return (new NormCase("LocalResponseNorm", 5, 2, 9, 17), 0, 0);
        yield return (new NormCase("LocalResponseNorm", 4, 2, 9, 300) { Alpha = 0.5, Beta = 0.5 }, 0, 2);
        yield return (new NormCase("LocalResponseNorm", 3, 1, 33, 3) { Alpha = 2, Beta = 1, K = 0.25 }, 0, 0);
        yield return (new NormCase("LocalResponseNorm", 9, 2, 5, 41) { Alpha = 1, Beta = 0.6 }, 0, 0);
        yield return (new NormCase("LocalResponseNorm", 2, 1, 7, 10_007) { Alpha = 1, Beta = 2.3, K = 2 }, 0, 0);
        yield return (new NormCase("LocalResponseNorm", 3, 1, 7, 43) { Alpha = 1, K = 0 }, tiny, 0);
        yield return (new NormCase("LocalResponseNorm", 3, 1, 7, 47) { Alpha = 1, Beta = 0.6 }, single ? 60 : huge, 0);
        yield return (new NormCase("LocalResponseNorm", 3, 1, 7, 51), subnormal, 0);
    }
}
