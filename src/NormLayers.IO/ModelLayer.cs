using System.Globalization;

namespace NormLayers.IO;

/// <summary>A normalization layer found in a model file: a <see cref="CheckpointLayer"/> or an <see cref="OnnxNormalization"/>.</summary>
public abstract class ModelLayer
{
    private protected ModelLayer(string name, IReadOnlyList<ModelParameter> parameters) => (Name, Parameters) = (name, parameters);

    /// <summary>The layer's name in the file: the part that its parameters' names share, or the node's name.</summary>
    public string Name { get; }

    /// <summary>What the file calls it: the operator, or the framework whose names its parameters have.</summary>
    public abstract string Kind { get; }

    /// <summary>The layer as PyTorch prints it, as far as the file tells it; null where it is no PyTorch layer, or the file
    /// leaves open which: <see cref="Unknown"/> then says what is missing.</summary>
    public abstract string? Text { get; }

    /// <summary>What the file does not tell of the layer, and how to give it; null where it tells all, or what cannot be (<see cref="FindProblems()"/>).</summary>
    public abstract string? Unknown { get; }

    /// <summary>The parameters that the file holds: weight and bias, then running statistics, under PyTorch's names.</summary>
    public IReadOnlyList<ModelParameter> Parameters { get; }

    /// <summary>What is wrong with the layer itself; null where nothing is.</summary>
    private protected virtual string? Fault => null;

    /// <summary>Reads the parameters and says what is wrong: dimensions that the input does not have, values that are not finite, variances that are
    /// negative or zero, channels whose weight is zero so that their output is constant.</summary>
    /// <returns>One sentence each, none for a sound layer.</returns>
    /// <exception cref="InvalidDataException">A parameter cannot be read.</exception>
    public IReadOnlyList<string> FindProblems() => FindProblems(Parameters.Select(parameter => (parameter, parameter.ReadStatistics())));

    internal IReadOnlyList<string> FindProblems(IEnumerable<(ModelParameter Parameter, ParameterStatistics Statistics)> parameters)
    {
        var problems = new List<string>();
        if (Fault is { } fault)
            problems.Add(fault);
        foreach ((ModelParameter parameter, ParameterStatistics statistics) in parameters)
        {
            if (statistics.NonFinite > 0)
                problems.Add($"{parameter.Role}: {statistics.NonFinite} of {statistics.Count} are NaN or infinite");
            if (parameter.Role == "running_var" && statistics.Negative > 0)
                problems.Add($"running_var: {statistics.Negative} of {statistics.Count} are negative");
            if (parameter.Role == "running_var" && statistics.Zero > 0)
                problems.Add($"running_var: {statistics.Zero} of {statistics.Count} are zero");
            if (parameter.Role == "weight" && statistics.NearZero > 0)
                problems.Add($"weight: {statistics.NearZero} of {statistics.Count} are below {ParameterStatistics.NearZeroBound:g} in magnitude, dead channels");
        }
        return problems;
    }

    /// <summary>Prints the name and the layer.</summary>
    /// <returns>For instance <c>encoder.norm: LayerNorm((512,), eps=1e-05, elementwise_affine=True)</c>.</returns>
    public override string ToString() => $"{Name}: {Text ?? Kind}";

    /// <summary>A number as Python prints a float.</summary>
    private protected static string Python(double value)
    {
        string text = value.ToString("R", CultureInfo.InvariantCulture).ToLowerInvariant();
        return text.AsSpan().IndexOfAny(".en") < 0 ? text + ".0" : text;
    }
}
