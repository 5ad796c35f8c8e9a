using System.Numerics;
using System.Runtime.CompilerServices;

namespace NormLayers.Internals.Kernels;

/// <summary>Groups whose part of a row is a run of memory: a channel of contiguous (N, C, S), one run of S elements a sample.</summary>
internal static unsafe partial class ChannelNorm
{
    /// <summary>Neighbouring groups are read together up to so many bytes a row.</summary>
    private const nint RunStripBytes = 4096;

    private static nint RunStrip<T>(in ChannelLayout layout, int threads) where T : unmanaged
        => Math.Max(1, Math.Min(layout.BlockGroups / threads, RunStripBytes / (layout.GroupColumns * sizeof(T)))) * layout.GroupColumns;

    private static void RunStatistics<T>(ref Strip<T> strip) where T : unmanaged
    {
        ref readonly ChannelLayout layout = ref strip.Layout;
        nint groups = strip.Columns / layout.GroupColumns;
        int threads = Partition.Threads(layout.GroupColumns, strip.Work->Threads);
        using var memory = new RentedDoubles(groups * sizeof(RunMoments) / sizeof(double));
        fixed (double* pMemory = memory.Span)
        {
            var moments = (RunMoments*)pMemory;
            for (nint row = 0; row < layout.Rows; row++)
            {
                for (nint g = 0; g < groups; g++)
                {
                    Moments run = Moments.Of(in strip.X[row * layout.Columns + g * layout.GroupColumns], layout.GroupColumns, threads);
                    // A scaled run (doubles at the ends of the range): the whole group must be scaled alike.
                    double squares = run.Scale == 1 ? run.Variance * layout.GroupColumns : double.NaN;
                    if (row == 0)
                        moments[g] = new RunMoments { Mean = DoubleDouble.Sum(run.Mean, run.MeanLow), Squares = squares };
                    else
                        Moments.Merge(ref moments[g].Mean, ref moments[g].Squares, row * layout.GroupColumns, DoubleDouble.Sum(run.Mean, run.MeanLow), squares, layout.GroupColumns);
                }
            }
            for (nint g = 0; g < groups; g++)
                strip.Statistics[g] = StatisticsOf(in strip, g, moments[g].Mean, moments[g].Squares);
        }
    }

    private struct RunMoments
    {
        internal DoubleDouble Mean;
        internal double Squares;
    }

    private static void ApplyRuns<T>(void* state, nint start, nint end) where T : unmanaged, IFloatingPointIeee754<T>
    {
        ref readonly Strip<T> strip = ref *(Strip<T>*)state;
        nint length = strip.Layout.GroupColumns, groups = strip.Columns / length, parameter = strip.Column / length;
        for (nint row = start; row < end; row++)
        {
            for (nint g = 0; g < groups; g++)
            {
                nint at = row * strip.Layout.Columns + g * length;
                new GroupScale<T>(in strip.Statistics[g]).ApplyScalar(in strip.X[at], ref strip.Y[at], length, strip.Work->WeightOf(parameter + g), strip.Work->BiasOf(parameter + g), strip.Work->Stream);
            }
        }
        Fence(in strip);
    }
}
