using System.Globalization;

namespace NormLayers.Internals;

/// <summary>A float parameter that remembers whether it was written as an int: PyTorch prints back <c>k=1</c> as it came.</summary>
internal readonly struct PythonNumber
{
    private readonly long integer;

    private PythonNumber(double value, long integer, bool isInteger)
    {
        Value = value;
        this.integer = integer;
        IsInteger = isInteger;
    }

    /// <summary>The number to compute with.</summary>
    public double Value { get; }

    /// <summary>Whether it was written as an int.</summary>
    public bool IsInteger { get; }

    /// <summary>Takes a number that was written as an int.</summary>
    /// <param name="value">The int.</param>
    /// <returns>A number that prints without a point.</returns>
    public static PythonNumber FromInteger(long value) => new(value, value, true);

    /// <summary>Takes a number that was written as a float.</summary>
    /// <param name="value">The float.</param>
    public static implicit operator PythonNumber(double value) => new(value, 0, false);

    /// <summary>Gives the number to compute with.</summary>
    /// <param name="number">The number.</param>
    public static implicit operator double(PythonNumber number) => number.Value;

    /// <summary>Writes the number as Python's <c>repr</c> of what was given.</summary>
    /// <returns><c>1</c> for an int, <c>1.0</c> for a float.</returns>
    public override string ToString()
        => IsInteger ? integer.ToString(CultureInfo.InvariantCulture) : PythonText.Float(Value);
}
