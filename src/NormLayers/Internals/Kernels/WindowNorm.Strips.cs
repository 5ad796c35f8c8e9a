namespace NormLayers.Internals.Kernels;

/// <summary>How the work of WindowNorm.Float.cs is cut into strips, and what becomes of elements beyond the limits.</summary>
internal static unsafe partial class WindowNorm
{
    /// <summary>Samples of fewer positions than a pair of vectors are laid side by side, up to so many positions.</summary>
    private const nint StagedPositions = 256;

    /// <summary>What a pass reads and writes; Dy is null in a forward, and Y is dx in a backward.</summary>
    private struct FloatWork<T> where T : unmanaged
    {
        internal T* Dy, X, Y;
        internal nint Samples, Channels, Run;
        internal WindowParameters Window;

        /// <summary>How many samples make a block, where none is cut into strips.</summary>
        internal readonly nint SamplesPerBlock => Math.Max(1, StagedPositions / Run);

        internal readonly FloatWork<T> At(nint offset) => this with { Dy = Dy == null ? null : Dy + offset, X = X + offset, Y = Y + offset };
    }

    private static void RunInFloat<T>(FloatWork<T> work, int threads) where T : unmanaged
    {
        switch (work.Window.Quarters)
        {
            case 1:
                RunQuarters<T, OneQuarter>(work, threads);
                break;
            case 2:
                RunQuarters<T, TwoQuarters>(work, threads);
                break;
            case 3:
                RunQuarters<T, ThreeQuarters>(work, threads);
                break;
            default:
                RunInFloat<T, AnyPower>(work, threads);
                break;
        }
    }

    private static void RunQuarters<T, TQuarters>(FloatWork<T> work, int threads) where T : unmanaged where TQuarters : struct, IQuarters
    {
        if (SixteenBits.Is<T>())
            RunInFloat<T, ShortQuarterPower<TQuarters>>(work, threads);
        else
            RunInFloat<T, QuarterPower<TQuarters>>(work, threads);
    }

    private static void RunInFloat<T, TPower>(FloatWork<T> work, int threads) where T : unmanaged where TPower : struct, IFloatPower<TPower>
    {
        nint blocks = work.Run < FloatPair.Count
            ? (work.Samples + work.SamplesPerBlock - 1) / work.SamplesPerBlock
            : work.Samples * new Strips(work.Run, RowCount(in work)).Count;
        Partition.Run(blocks, threads, &FloatBlocks<T, TPower>, &work);
    }

    private static nint RowCount<T>(in FloatWork<T> work) where T : unmanaged
        => work.Dy == null ? ForwardRowCount(in work.Window) : BackwardRowCount(in work.Window);

    private static void FloatBlocks<T, TPower>(void* state, nint first, nint end) where T : unmanaged where TPower : struct, IFloatPower<TPower>
    {
        ref readonly FloatWork<T> work = ref *(FloatWork<T>*)state;
        bool staged = work.Run < FloatPair.Count;
        nint rows = RowCount(in work);
        Strips strips = new(work.Run, rows);
        nint scratchLength = rows * (staged ? WholeSteps(StagedPositions) : strips.Stride) + FloatPair.Count;
        using var rented = new RentedDoubles(scratchLength / 2);
        fixed (double* start = rented.Span)
        {
            // An unaligned vector lies in two lines, and takes twice the time.
            float* scratch = (float*)(((nuint)start + 63) & ~(nuint)63);
            for (nint block = first; block < end; block++)
            {
                if (staged)
                {
                    nint sample = block * work.SamplesPerBlock;
                    Stage<T, TPower>(work.At(sample * work.Channels * work.Run), Math.Min(work.SamplesPerBlock, work.Samples - sample), scratch);
                    continue;
                }
                nint strip = block % strips.Count, position = strips.Start(strip);
                Strip<T, TPower>(work.At(block / strips.Count * work.Channels * work.Run + position), strips.Start(strip + 1) - position, scratch);
            }
        }
    }

    /// <summary>A strip of at least 32 positions of one sample.</summary>
    private static void Strip<T, TPower>(in FloatWork<T> work, nint length, float* scratch) where T : unmanaged where TPower : struct, IFloatPower<TPower>
    {
        bool overwrites = work.Y == work.X || work.Y == work.Dy;
        // What an extreme element reaches is computed anew from the operands, so they must be there still.
        if (overwrites && IsBeyondLimits(in work, length))
        {
            FloatWork<T> copied = work;
            copied.Run = length;
            nint count = work.Channels * length;
            using var rented = new RentedDoubles((2 * count * sizeof(T) + sizeof(double) - 1) / sizeof(double));
            fixed (double* copy = rented.Span)
            {
                copied.X = CopyRows(work.X, (T*)copy, in work, length);
                if (work.Dy != null)
                    copied.Dy = CopyRows(work.Dy, (T*)copy + count, in work, length);
                Compute<T, TPower>(in work, length, scratch);
                RepairExtreme(in copied, length, work.Run);
            }
        }
        else if (Compute<T, TPower>(in work, length, scratch) && !overwrites)
            RepairExtreme(in work, length, work.Run);
    }

    /// <returns>Whether there may be elements beyond the limits.</returns>
    private static bool Compute<T, TPower>(in FloatWork<T> work, nint length, float* scratch) where T : unmanaged where TPower : struct, IFloatPower<TPower>
    {
        var power = TPower.Create(work.Window.Beta);
        float limit = work.Window.FloatLimit;
        (uint square, uint gradient) = work.Dy == null
            ? (ForwardStrip(work.X, work.Y, work.Channels, work.Run, length, in work.Window, power, scratch), 0u)
            : BackwardStrip(work.Dy, work.X, work.Y, work.Channels, work.Run, length, in work.Window, power, scratch);
        // NaN counts too; an element beyond the limit has a square that is, and sums that are, too.
        return square > BitConverter.SingleToUInt32Bits(limit * limit) || gradient > BitConverter.SingleToUInt32Bits(LargestGradient) << 1;
    }

    private static bool IsBeyondLimits<T>(in FloatWork<T> work, nint length) where T : unmanaged
    {
        for (nint c = 0; c < work.Channels; c++)
        {
            for (nint i = 0; i < length; i++)
            {
                if (IsBeyond(work.X[c * work.Run + i], work.Window.FloatLimit) || (work.Dy != null && IsBeyond(work.Dy[c * work.Run + i], LargestGradient)))
                    return true;
            }
        }
        return false;
    }

    private static bool IsBeyond<T>(T value, double limit) where T : unmanaged => Math.Abs(Elements.ToDouble(value)) > limit;

    private static T* CopyRows<T>(T* rows, T* copy, in FloatWork<T> work, nint length) where T : unmanaged
    {
        for (nint c = 0; c < work.Channels; c++)
            new Span<T>(rows + c * work.Run, (int)length).CopyTo(new Span<T>(copy + c * length, (int)length));
        return copy;
    }

    /// <summary>Computes the results that extreme elements reach in double. Rare, so scalar.</summary>
    private static void RepairExtreme<T>(in FloatWork<T> work, nint length, nint resultRun) where T : unmanaged
    {
        nint channels = work.Channels;
        using var rented = new RentedDoubles(3 * channels);
        Span<double> column = rented.Span[..(int)channels], g = rented.Span[(int)channels..(int)(2 * channels)], result = rented.Span[(int)(2 * channels)..];
        for (nint i = 0; i < length; i++)
        {
            ReadColumn(work.X + i, work.Run, column);
            if (work.Dy != null)
                ReadColumn(work.Dy + i, work.Run, g);
            bool extreme = HasExtreme<T>(column, 0, channels - 1, in work.Window, work.Window.FloatLimit);
            if (work.Dy == null && extreme)
                WriteExtreme(column, work.Y + i, resultRun, in work.Window);
            else if (work.Dy != null && (extreme || HasExtreme<T>(g, 0, channels - 1, in work.Window, LargestGradient)))
                WriteExtremeGradients(g, column, result, work.Y + i, resultRun, in work.Window);
        }
    }

    /// <summary>Samples of fewer than 32 positions, side by side.</summary>
    private static void Stage<T, TPower>(FloatWork<T> work, nint samples, float* scratch) where T : unmanaged where TPower : struct, IFloatPower<TPower>
    {
        nint stride = WholeSteps(samples * work.Run), plane = work.Channels * stride;
        using var rented = new RentedDoubles(3 * plane / 2);
        fixed (double* doubles = rented.Span)
        {
            float* planes = (float*)doubles;
            var staged = new FloatWork<float> { X = planes, Y = planes + plane, Dy = work.Dy == null ? null : planes + 2 * plane, Channels = work.Channels, Run = stride, Window = work.Window };
            new Span<double>(doubles, (int)(3 * plane / 2)).Clear();
            nint rows = samples * work.Channels;
            for (nint row = 0; row < rows; row++)
            {
                nint to = row % work.Channels * stride + row / work.Channels * work.Run;
                Widen(work.X + row * work.Run, staged.X + to, work.Run);
                if (work.Dy != null)
                    Widen(work.Dy + row * work.Run, staged.Dy + to, work.Run);
            }
            Strip<float, TPower>(in staged, stride, scratch);
            for (nint row = 0; row < rows; row++)
                Narrow(staged.Y + row % work.Channels * stride + row / work.Channels * work.Run, work.Y + row * work.Run, work.Run);
        }
    }

    private static void Widen<T>(T* source, float* destination, nint length) where T : unmanaged
    {
        if (typeof(T) == typeof(float))
            new Span<float>(source, (int)length).CopyTo(new Span<float>(destination, (int)length));
        else
            SixteenBits.Widen(source, destination, length);
    }

    private static void Narrow<T>(float* source, T* destination, nint length) where T : unmanaged
    {
        if (typeof(T) == typeof(float))
            new Span<float>(source, (int)length).CopyTo(new Span<float>(destination, (int)length));
        else
            SixteenBits.Narrow(source, destination, length, stream: false);
    }
}
