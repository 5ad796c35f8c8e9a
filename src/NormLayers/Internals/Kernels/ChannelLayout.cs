namespace NormLayers.Internals.Kernels;

/// <summary>Whether a weight (and a bias) belongs to a column, to a group of columns, or to a row.</summary>
internal enum ParameterAxis
{
    Column,
    Group,
    Row,
}

/// <summary>
/// The channels geometry: contiguous memory as Outer blocks of Rows by Columns, the columns of a row next to each other. A group is
/// <paramref name="GroupColumns"/> neighbouring columns of one block with all their rows.
/// </summary>
/// <param name="Outer">The number of blocks, none of which shares a group with another.</param>
/// <param name="Rows">The rows of a block.</param>
/// <param name="Columns">The columns of a block, a multiple of <paramref name="GroupColumns"/>.</param>
/// <param name="GroupColumns">The neighbouring columns that share statistics.</param>
/// <param name="Axis">What a parameter belongs to. By row only where a group is one column.</param>
/// <param name="Statistic">What is taken off a group and what it is divided by.</param>
/// <remarks>
/// BatchNorm over (N, C, S) is (1, N, C·S, S, Group), over channels-last memory (1, N·S, C, 1, Column); GroupNorm over channels-last
/// memory is (N, S, C, C/G, Column); LayerNorm over C of (N, C, S) is (N, C, S, 1, Row).
/// </remarks>
internal readonly record struct ChannelLayout(nint Outer, nint Rows, nint Columns, nint GroupColumns, ParameterAxis Axis, RowStatistic Statistic)
{
    /// <summary>From so many neighbouring columns with one parameter on, a row's part of a group is summed as a run of memory.</summary>
    private const nint LeastRun = 16;

    /// <summary>What fits the second-level cache beside its result, so that a second reading does not come from memory.</summary>
    internal const nint CacheBytes = 512 << 10;

    /// <summary>The shortest stretch of memory that is worth reading on its own, and the longest whose sums stay in cache.</summary>
    private const nint LeastStretchBytes = 512, MostStripColumns = 2048;

    /// <summary>The groups of one block.</summary>
    internal nint BlockGroups => GroupColumns == 0 ? 0 : Columns / GroupColumns;

    /// <summary>All groups.</summary>
    internal nint Groups => Length == 0 ? 0 : Outer * BlockGroups;

    /// <summary>The elements of a group.</summary>
    internal nint Length => Rows * GroupColumns;

    /// <summary>All elements.</summary>
    internal nint Count => Outer * Rows * Columns;

    /// <summary>All parameters.</summary>
    internal nint Parameters => Axis switch { ParameterAxis.Row => Rows, ParameterAxis.Column => Columns, _ => BlockGroups };

    /// <summary>Whether a row's part of a group is a run of memory with one parameter.</summary>
    internal bool InRuns => Axis == ParameterAxis.Group && GroupColumns >= LeastRun;

    /// <summary>Whether the mean of a group moves with its elements.</summary>
    internal bool Centered => Statistic.IsCentered();

    /// <summary>Whether 1/deviation moves with the elements.</summary>
    internal bool Scaled => Statistic.IsScaled();

    /// <summary>The same groups as rows, which they are once each block has been transposed.</summary>
    internal RowLayout AsRows() => (Axis switch
    {
        ParameterAxis.Row => new RowLayout(Groups, Rows, 1, 1, Statistic),
        ParameterAxis.Column => new RowLayout(Groups, GroupColumns, Rows, BlockGroups, Statistic),
        _ => new RowLayout(Groups, 1, Length, BlockGroups, Statistic),
    }) with { Strided = this };

    /// <summary>The groups of a row-major tensor in channels-last memory of the same shape (N, C, *); null where they would lie in neither geometry.</summary>
    internal static RowLayout? InChannelsLast(in RowLayout layout, ReadOnlySpan<nint> lengths)
    {
        ChannelLayout strided = layout.Strided;
        if (!layout.IsStrided)
        {
            if (layout.Run == 1 && (layout.Period == 1 || layout.Repeat != 0))
                return null;
            // Not of an unbatched (C, *), where the dimension that has channels-last strides is not the channels'.
            return layout.Parameters != lengths[1] || layout.Groups != lengths[0] * layout.Period ? null
                : new ChannelLayout(lengths[0], layout.Run, layout.Parameters, layout.GroupParameters, ParameterAxis.Column, layout.Statistic).AsRows();
        }
        return strided.Axis != ParameterAxis.Row ? new ChannelLayout(1, strided.Length, strided.BlockGroups, 1, ParameterAxis.Column, layout.Statistic).AsRows()
            : strided.Outer == lengths[0] && strided.Rows == lengths[1] ? layout with { Strided = default }
            : null;
    }

    /// <summary>How many columns to take from a block at once, whole groups: so many that all their rows stay in cache, else wide ones.</summary>
    internal nint StripColumns(int elementSize)
    {
        nint fit = CacheBytes / (Rows * elementSize);
        nint most = fit * elementSize >= LeastStretchBytes ? Math.Min(fit, MostStripColumns) : MostStripColumns;
        nint unit = GroupColumns == 1 ? Elements.Step : GroupColumns;
        if (most >= Columns)
            return Columns;
        nint strips = (Columns + most - 1) / most, units = (Columns + strips * unit - 1) / (strips * unit);
        return Math.Min(units * unit, Columns);
    }
}
