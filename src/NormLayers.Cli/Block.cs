namespace NormLayers.Cli;

/// <summary>
/// A tensor as a block of cubes, as figure 2 of Group Normalization (Wu and He 2018, https://arxiv.org/abs/1803.08494) draws it:
/// an axis for the samples, one for the channels, and one for all dimensions after them. The marked cubes share statistics.
/// </summary>
internal sealed class Block
{
    // Every so many positions is in the group, which the one axis of them cannot show.
    private readonly bool scattered;

    public Block(Explanation explanation, long[] shape)
    {
        string[] names = explanation.Dimensions;
        long[] group = explanation.Group;
        bool single = shape.Length == 1;
        Depth = single ? new Axis("", 1, 1, null) : new Axis(names[0], shape[0], group[0], null);
        Width = single ? new Axis(names[0], shape[0], group[0], null) : new Axis(names[1], shape[1], group[1], explanation.Center);
        Height = new Axis(string.Join(" x ", names.Skip(2)), Product(shape), Product(group), null);
        scattered = shape.Length > 3 && group[^1] < shape[^1] && Product(group) > 1;
    }

    /// <summary>The first dimension; of a tensor of one dimension, a length of 1 without a name.</summary>
    public Axis Depth { get; }

    /// <summary>The second dimension, or the only one.</summary>
    public Axis Width { get; }

    /// <summary>The dimensions from the third on, as one.</summary>
    public Axis Height { get; }

    /// <summary>The axes that have a name, with what the picture leaves out of them.</summary>
    public IEnumerable<string> Notes => new[] { Depth, Width, Height }.Where(axis => axis.Note.Length > 0).Select(axis => axis.Note)
        .Concat(scattered ? [$"{Height.Name}: those of the group are drawn first"] : []);

    public Cube At(int depth, int width, int height)
    {
        if (!Depth.IsMarked(depth) || !Width.IsMarked(width) || !Height.IsMarked(height))
            return Cube.Other;
        return width == Width.Center ? Cube.Center : Cube.Shared;
    }

    private static long Product(long[] lengths) => lengths.Skip(2).Aggregate(1L, (product, length) => product * length);

    /// <summary>What a cube is to the marked group.</summary>
    internal enum Cube
    {
        /// <summary>Not in it.</summary>
        Other,

        /// <summary>One that shares its statistics.</summary>
        Shared,

        /// <summary>The one that its window is for.</summary>
        Center,
    }

    /// <summary>An axis: how many cubes are drawn, how many elements each stands for, and how many of them, from the first, are marked.</summary>
    internal sealed class Axis
    {
        private const int MostCubes = 8;
        private const int MostWindowCubes = 14;
        private const int MostOfGroup = 4;

        private readonly int marked;

        public Axis(string name, long length, long group, long? center)
        {
            Name = name;
            Length = length;
            int most = center is null ? MostCubes : (int)Math.Clamp(group + 2, MostCubes, MostWindowCubes);
            long each = center is not null ? 1 : Each(length, group, most);
            Cubes = (int)Math.Min(most, length / each);
            marked = (int)Math.Min(Cubes, group / each);
            Center = (int?)center;
            string drawn = Cubes * each == length ? "" : $"{Cubes * each} of {length} drawn";
            string scale = each == 1 ? "" : $"each cube is {each}";
            string notes = string.Join(", ", new[] { scale, drawn }.Where(note => note.Length > 0));
            Note = notes.Length == 0 ? "" : $"{name}: {notes}";
        }

        public string Name { get; }

        public long Length { get; }

        public int Cubes { get; }

        public int? Center { get; }

        public string Note { get; }

        /// <summary>The name with the length; empty for an axis without a name.</summary>
        public string Label => Name.Length == 0 ? "" : $"{Name} = {Length}";

        public bool IsMarked(int cube) => cube < marked;

        /// <summary>How many elements a cube stands for, so that the group and the axis are whole numbers of cubes where that can be.</summary>
        private static long Each(long length, long group, int most)
        {
            if (length <= most || group == 1)
                return 1;
            long groups = length / group;
            for (int cubes = groups == 1 ? most : MostOfGroup; cubes > 1; cubes--)
            {
                if (group % cubes == 0 && cubes * groups <= most)
                    return group / cubes;
            }
            // Too many groups, or a group that cannot be halved: what fits is drawn.
            return groups == 1 || group <= MostOfGroup ? 1 : group % 2 == 0 ? group / 2 : group;
        }
    }
}
