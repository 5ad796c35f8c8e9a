namespace NormLayers.Benchmarks;

/// <summary>Every element of a result against the reference in double, before anything is timed.</summary>
internal static unsafe class Check
{
    /// <summary>Computes a pass on a set and returns its worst element.</summary>
    /// <param name="operation">The case.</param>
    /// <param name="set">The operands.</param>
    /// <param name="pass">The pass.</param>
    public static Deviation Run(Operation operation, BufferSet set, Pass pass)
    {
        // What the library leaves unwritten stays NaN, and a NaN is wrong.
        float* result = pass == Pass.Forward ? set.Y : set.GradInput;
        Parts.Run(operation.Case.Elements, (first, end) => new Span<float>(result + first, (int)(end - first)).Fill(float.NaN));
        if (pass == Pass.Forward)
            operation.Forward(set, 1);
        else
        {
            operation.Prepare(set);
            foreach (Parameter<float> parameter in operation.Layer.Parameters)
                parameter.ZeroGrad();
            operation.Backward(set, 1);
        }
        return (operation, pass) switch
        {
            (RowOperation rows, Pass.Forward) => RowReference.Forward(rows, set),
            (RowOperation rows, _) => RowReference.Backward(rows, set),
            (WindowOperation window, Pass.Forward) => WindowReference.Forward(window, set),
            (WindowOperation window, _) => WindowReference.Backward(window, set),
            _ => throw new NotSupportedException($"There is no reference for {operation.Case}."),
        };
    }
}
