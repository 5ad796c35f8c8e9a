using System.Buffers;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using NormLayers.Internals;
using NormLayers.Internals.Kernels;

namespace NormLayers;

public static partial class Functional
{
    /// <summary>Normalizes each channel of each sample, with its own statistics or with running ones.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (N, C, *), any strides.</param>
    /// <param name="runningMean">Running means of shape (C), or <c>default</c> for none. Updated where the input's statistics are used.</param>
    /// <param name="runningVar">Running variances of shape (C); given or left out with <paramref name="runningMean"/>. Updated where the input's statistics are used.</param>
    /// <param name="weight">Factors of shape (C), or <c>default</c> for none.</param>
    /// <param name="bias">Summands of shape (C), or <c>default</c> for none.</param>
    /// <param name="useInputStats">Whether to take the statistics of the input; else the running ones, which must be given then.</param>
    /// <param name="momentum">The share of the input's statistics in the new running ones; 0.1 in PyTorch.</param>
    /// <param name="eps">Added to the variance under the root; 1e-5 in PyTorch.</param>
    /// <param name="destination">Takes the result; of the input's shape, row-major contiguous or channels-last.</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <exception cref="ArgumentException">The input has fewer than two dimensions, or one element per channel whose statistics are to
    /// be taken; weight, bias or a running statistic is not of shape (C); one running statistic is given and the other not, or both
    /// are left out though they are to be used; or the destination has another shape, is not contiguous, or overlaps an operand in part.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>
    /// <para>This method effectively computes <c>y = (x - E[x]) / sqrt(Var[x] + eps) * weight[c] + bias[c]</c>, and
    /// <c>running = (1 - momentum) * running + momentum * statistic</c> with the statistic's average over the samples and the
    /// unbiased variance. No samples, or no elements, leave the running statistics alone.</para>
    /// <para>A NaN or an infinity makes its channel of its sample NaN. A constant channel gives exactly the bias, for eps = 0 too.</para>
    /// <para>Ulyanov, Vedaldi and Lempitsky 2016, https://arxiv.org/abs/1607.08022;
    /// https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.instance_norm.html.</para>
    /// </remarks>
    public static void InstanceNorm<T>(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> runningMean, in TensorSpan<T> runningVar, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> bias, bool useInputStats, double momentum, double eps, in TensorSpan<T> destination, int maxThreads = 0)
        where T : unmanaged
    {
        RowLayout layout = CheckInstance(input, runningMean, runningVar, weight, bias, useInputStats);
        InstanceForward(input, layout, runningMean, runningVar, weight, bias, momentum, eps, destination, [], maxThreads: maxThreads);
    }

    /// <summary>The same, and saves what <see cref="InstanceNormBackward{T}"/> needs besides the input.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (N, C, *), any strides.</param>
    /// <param name="runningMean">Running means, as above.</param>
    /// <param name="runningVar">Running variances, as above.</param>
    /// <param name="weight">Factors of shape (C), or <c>default</c> for none.</param>
    /// <param name="bias">Summands of shape (C), or <c>default</c> for none.</param>
    /// <param name="useInputStats">Whether to take the statistics of the input; else the running ones.</param>
    /// <param name="momentum">The share of the input's statistics in the new running ones.</param>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <param name="destination">Takes the result; of the input's shape, row-major contiguous or channels-last.</param>
    /// <param name="statistics">Takes the mean and 1/deviation of each channel of each sample that were used: N · C, none for an empty input.</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <exception cref="ArgumentException">As above, or there are more or fewer statistics than groups.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public static void InstanceNorm<T>(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> runningMean, in TensorSpan<T> runningVar, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> bias, bool useInputStats, double momentum, double eps, in TensorSpan<T> destination, Span<GroupStatistics> statistics, int maxThreads = 0)
        where T : unmanaged
    {
        RowLayout layout = CheckInstance(input, runningMean, runningVar, weight, bias, useInputStats);
        CheckStatistics(statistics, layout);
        InstanceForward(input, layout, runningMean, runningVar, weight, bias, momentum, eps, destination, statistics, maxThreads: maxThreads);
    }

    /// <summary>Normalizes each channel of each sample, with its own statistics or with running ones.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The input, of shape (N, C, *), any strides.</param>
    /// <param name="runningMean">Running means of shape (C), or null. Updated where the input's statistics are used.</param>
    /// <param name="runningVar">Running variances of shape (C), or null. Updated where the input's statistics are used.</param>
    /// <param name="weight">Factors of shape (C), or null for none.</param>
    /// <param name="bias">Summands of shape (C), or null for none.</param>
    /// <param name="useInputStats">Whether to take the statistics of the input; else the running ones, which must be given then.</param>
    /// <param name="momentum">The share of the input's statistics in the new running ones.</param>
    /// <param name="eps">Added to the variance under the root.</param>
    /// <returns>A new tensor of the input's shape: channels-last where the input is, else row-major.</returns>
    /// <exception cref="ArgumentException">As above, but for the destination.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public static Tensor<T> InstanceNorm<T>(Tensor<T> input, Tensor<T>? runningMean = null, Tensor<T>? runningVar = null, Tensor<T>? weight = null, Tensor<T>? bias = null, bool useInputStats = true, double momentum = 0.1, double eps = 1e-5)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(input);
        TensorSpan<T> mean = OrNothing(runningMean), variance = OrNothing(runningVar);
        Tensor<T> result = Layout.ResultLike(input.AsReadOnlyTensorSpan(), CheckInstance(input.AsReadOnlyTensorSpan(), mean, variance, OrNone(weight), OrNone(bias), useInputStats, isForward: true));
        InstanceNorm(input.AsReadOnlyTensorSpan(), mean, variance, OrNone(weight), OrNone(bias), useInputStats, momentum, eps, result.AsTensorSpan());
        return result;
    }

    /// <summary>The gradients of <c>InstanceNorm</c>. Each result is optional: <c>default</c> for one that is not wanted.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="gradOutput">The gradient of the output, any strides.</param>
    /// <param name="input">The forward's input, of shape (N, C, *), any strides.</param>
    /// <param name="useInputStats">The forward's: running statistics are constants to the gradient.</param>
    /// <param name="statistics">What the forward saved, one a channel of a sample.</param>
    /// <param name="weight">The forward's weight, or <c>default</c> for none.</param>
    /// <param name="gradInput">Overwritten with the gradient of the input; row-major contiguous; may be <paramref name="gradOutput"/> itself.</param>
    /// <param name="gradWeight">The gradient of the weight is <b>added</b> to it; of shape (C).</param>
    /// <param name="gradBias">The gradient of the bias is <b>added</b> to it; of shape (C).</param>
    /// <param name="maxThreads">The most threads of the pool to use; 0 for as many as there are processors. No result depends on it.</param>
    /// <exception cref="ArgumentException">A shape does not fit, the number of statistics is not that of the groups, or a result is not contiguous or overlaps an operand in part.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>
    /// With <c>n = (x - E[x]) * rstd</c> and <c>g = dy * weight</c> this method effectively computes
    /// <c>dx = rstd * (g - E[g] - n * E[g * n])</c>, or <c>dx = rstd * g</c> with running statistics, <c>dweight += sum of dy * n</c> and <c>dbias += sum of dy</c>, all sums in double.
    /// </remarks>
    public static void InstanceNormBackward<T>(in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, bool useInputStats, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<T> weight, in TensorSpan<T> gradInput, in TensorSpan<T> gradWeight, in TensorSpan<T> gradBias, int maxThreads = 0)
        where T : unmanaged
    {
        RowLayout layout = CheckInstance(input, default, default, weight, default, useInputStats, isForward: false);
        RowBackward(gradOutput, input, layout, statistics, weight, gradInput, gradWeight, gradBias, maxThreads: maxThreads);
    }

    /// <summary>The Jacobian-vector product of <c>InstanceNorm</c>: how the output moves when its inputs move along tangents.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="input">The forward's input, of shape (N, C, *), any strides.</param>
    /// <param name="useInputStats">The forward's: running statistics are constants.</param>
    /// <param name="statistics">What the forward saved, one a channel of a sample.</param>
    /// <param name="weight">The forward's weight, or <c>default</c> for none.</param>
    /// <param name="inputTangent">The input's tangent, or <c>default</c> for zero.</param>
    /// <param name="weightTangent">The weight's tangent, or <c>default</c> for zero.</param>
    /// <param name="biasTangent">The bias's tangent, or <c>default</c> for zero.</param>
    /// <param name="destination">Takes the output's tangent; of the input's shape, row-major contiguous; may be the input or its tangent itself.</param>
    /// <exception cref="ArgumentException">A shape does not fit, the number of statistics is not that of the groups, or the destination is not contiguous or overlaps an operand in part.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    /// <remarks>This method effectively computes <c>rstd * (t - E[t] - n * E[t * n]) * weight + n * tweight + tbias</c>, or <c>rstd * t * weight + n * tweight + tbias</c> with running statistics.</remarks>
    public static void InstanceNormJvp<T>(in ReadOnlyTensorSpan<T> input, bool useInputStats, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> inputTangent, in ReadOnlyTensorSpan<T> weightTangent, in ReadOnlyTensorSpan<T> biasTangent, in TensorSpan<T> destination)
        where T : unmanaged
    {
        RowLayout layout = CheckInstance(input, default, default, weight, default, useInputStats, isForward: false);
        RowJvp(input, layout, statistics, weight, inputTangent, weightTangent, biasTangent, destination);
    }

    /// <summary>The gradients of <see cref="InstanceNormBackward{T}"/> for given cotangents of its results (double backward, as gradient penalties need it).</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="double"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="gradOutput">The backward's gradient of the output, any strides.</param>
    /// <param name="input">The forward's input, of shape (N, C, *), any strides.</param>
    /// <param name="useInputStats">The forward's: running statistics are constants.</param>
    /// <param name="statistics">What the forward saved, one a channel of a sample.</param>
    /// <param name="weight">The forward's weight, or <c>default</c> for none.</param>
    /// <param name="gradGradInput">The cotangent of the backward's gradInput, or <c>default</c> for zero.</param>
    /// <param name="gradGradWeight">The cotangent of its gradWeight, or <c>default</c> for zero.</param>
    /// <param name="gradGradBias">The cotangent of its gradBias, or <c>default</c> for zero.</param>
    /// <param name="gradGradOutput">Overwritten with the gradient with respect to gradOutput; <c>default</c> if not wanted; apart from the operands.</param>
    /// <param name="gradInput">Overwritten with the gradient with respect to the input; <c>default</c> if not wanted; apart from the operands.</param>
    /// <param name="gradWeight">The gradient with respect to the weight is <b>added</b> to it; <c>default</c> if not wanted; of shape (C).</param>
    /// <exception cref="ArgumentException">A shape does not fit, the number of statistics is not that of the groups, or a result is not contiguous or overlaps an operand.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not supported.</exception>
    public static void InstanceNormDoubleBackward<T>(in ReadOnlyTensorSpan<T> gradOutput, in ReadOnlyTensorSpan<T> input, bool useInputStats, ReadOnlySpan<GroupStatistics> statistics, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> gradGradInput, in ReadOnlyTensorSpan<T> gradGradWeight, in ReadOnlyTensorSpan<T> gradGradBias, in TensorSpan<T> gradGradOutput, in TensorSpan<T> gradInput, in TensorSpan<T> gradWeight)
        where T : unmanaged
    {
        RowLayout layout = CheckInstance(input, default, default, weight, default, useInputStats, isForward: false);
        RowDoubleBackward(gradOutput, input, layout, statistics, weight, gradGradInput, gradGradWeight, gradGradBias, gradGradOutput, gradInput, gradWeight);
    }

    /// <summary>One group per channel, in samples that the dimensions before the channels' make.</summary>
    internal static RowLayout InstanceNormLayout(ReadOnlySpan<nint> input, int channelDimension, RowStatistic statistic)
    {
        nint samples = Layout.Product(input[..channelDimension]), channels = input[channelDimension], run = Layout.Product(input[(channelDimension + 1)..]);
        return new RowLayout(run == 0 ? 0 : samples * channels, 1, run, channels, statistic);
    }

    internal static void CheckSpatial(ReadOnlySpan<nint> input, int channelDimension)
    {
        if (Layout.Product(input[(channelDimension + 1)..]) == 1)
            throw new ArgumentException($"Expected more than one element per channel, whose statistics are to be taken, got shape {Layout.Text(input)}.", nameof(input));
    }

    /// <summary>Forward by either statistics, and the update of the running ones, which threads of one layer make behind its gate.</summary>
    internal static void InstanceForward<T, TParameter>(in ReadOnlyTensorSpan<T> input, in RowLayout layout, in TensorSpan<TParameter> runningMean, in TensorSpan<TParameter> runningVar, in ReadOnlyTensorSpan<TParameter> weight, in ReadOnlyTensorSpan<TParameter> bias, double momentum, double eps, in TensorSpan<T> destination, Span<GroupStatistics> statistics, Lock? gate = null, int maxThreads = 0)
        where T : unmanaged
        where TParameter : unmanaged
    {
        CheckApart(runningMean.AsReadOnlyTensorSpan(), destination, nameof(runningMean), nameof(destination));
        CheckApart(runningVar.AsReadOnlyTensorSpan(), destination, nameof(runningVar), nameof(destination));
        bool isGiven = layout.Statistic == RowStatistic.Given, isTracked = !isGiven && runningMean.Rank != 0;
        GroupStatistics[]? rented = statistics.IsEmpty && (isGiven || isTracked) ? ArrayPool<GroupStatistics>.Shared.Rent(checked((int)layout.Groups)) : null;
        if (rented is not null)
            statistics = rented.AsSpan(0, (int)layout.Groups);
        try
        {
            if (isGiven)
                Repeat(runningMean, runningVar, eps, statistics);
            RowForward(input, layout, weight, bias, eps, destination, statistics, maxThreads);
            if (isTracked && layout.Groups > 0)
                Track(runningMean, runningVar, statistics, layout, momentum, gate);
        }
        finally
        {
            if (rented is not null)
                ArrayPool<GroupStatistics>.Shared.Return(rented);
        }
    }

    private static void Repeat<T>(in TensorSpan<T> runningMean, in TensorSpan<T> runningVar, double eps, Span<GroupStatistics> statistics) where T : unmanaged
    {
        nint channels = runningMean.Lengths[0];
        ref T mean = ref TensorMarshal.GetReference(runningMean), variance = ref TensorMarshal.GetReference(runningVar);
        for (int g = 0; g < statistics.Length; g++)
            statistics[g] = g < channels ? new GroupStatistics(Elements.ToDouble(Unsafe.Add(ref mean, g)), Elements.ToDouble(Unsafe.Add(ref variance, g)), eps) : statistics[g - (int)channels];
    }

    /// <summary>Moves the running statistics towards the averages over the samples, added in rising order.</summary>
    private static void Track<T>(in TensorSpan<T> runningMean, in TensorSpan<T> runningVar, ReadOnlySpan<GroupStatistics> statistics, in RowLayout layout, double momentum, Lock? gate) where T : unmanaged
    {
        int channels = (int)layout.Period;
        double samples = statistics.Length / channels;
        using var rented = new RentedDoubles(2 * layout.Period);
        Span<double> means = rented.Span[..channels], variances = rented.Span[channels..];
        rented.Span.Clear();
        for (int g = 0; g < statistics.Length; g++)
        {
            means[g % channels] += statistics[g].Mean / samples;
            variances[g % channels] += statistics[g].Variance * Unbiased(layout.Run) / samples;
        }
        if (gate is null)
        {
            UpdateRunning(runningMean, means, momentum);
            UpdateRunning(runningVar, variances, momentum);
            return;
        }
        lock (gate)
        {
            UpdateRunning(runningMean, means, momentum);
            UpdateRunning(runningVar, variances, momentum);
        }
    }

    private static RowLayout CheckInstance<T>(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> runningMean, in TensorSpan<T> runningVar, in ReadOnlyTensorSpan<T> weight, in ReadOnlyTensorSpan<T> bias, bool useInputStats, bool isForward = true)
        where T : unmanaged
    {
        Elements.CheckSupported<T>("InstanceNorm");
        if (input.Rank < 2)
            throw new ArgumentException($"Expected an input of at least 2 dimensions (N, C, *), got shape {Layout.Text(input.Lengths)}.", nameof(input));
        RowLayout layout = InstanceNormLayout(input.Lengths, 1, useInputStats ? RowStatistic.MeanAndVarianceOrZero : RowStatistic.Given);
        if (isForward)
        {
            if (useInputStats)
                CheckSpatial(input.Lengths, 1);
            if ((runningMean.Rank == 0) != (runningVar.Rank == 0))
                throw new ArgumentException("Expected both a running mean and a running variance or neither, got one of them.", runningMean.Rank == 0 ? nameof(runningMean) : nameof(runningVar));
            if (!useInputStats && runningMean.Rank == 0)
                throw new ArgumentException("Expected a running mean and a running variance, as the input's statistics are not to be used, got none.", nameof(runningMean));
            CheckRunning(runningMean, layout.Period, nameof(runningMean));
            CheckRunning(runningVar, layout.Period, nameof(runningVar));
        }
        CheckChannelParameter(weight, layout.Period, nameof(weight));
        CheckChannelParameter(bias, layout.Period, nameof(bias));
        return layout;
    }
}
