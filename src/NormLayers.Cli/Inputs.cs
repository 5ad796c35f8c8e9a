using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;

namespace NormLayers.Cli;

/// <summary>The kinds of arguments and options that the commands have, and the checks that the parser makes for them.</summary>
internal static class Inputs
{
    public static Argument<string> Argument(string name, string description)
    {
        var argument = new Argument<string>(name) { Description = description };
        argument.Validators.Add(result =>
        {
            // Else a misspelled option would be taken for the argument.
            if (result.Tokens is [{ Value: "" or ['-', _, ..] } token])
                result.AddError($"{name} is '{token.Value}'");
        });
        return argument;
    }

    public static Option<string> Text(string name, string kind, string description, bool required = false)
    {
        var option = new Option<string>(name) { HelpName = kind, Description = description, Required = required };
        option.Validators.Add(result =>
        {
            if (result.Tokens is [{ Value: "" }])
                result.AddError($"{name} is empty; {kind} is needed");
        });
        return option;
    }

    public static Option<double> Tolerance(string name, double standard, string description) => new(name)
    {
        HelpName = "NUMBER",
        Description = description,
        DefaultValueFactory = _ => standard,
        CustomParser = result => ParseTolerance(name, result),
    };

    public static Option<int> Threads() => new("--threads")
    {
        HelpName = "N",
        Description = "The most threads that compute; without it as many as there are processors. No bit depends on it.",
        CustomParser = result =>
        {
            if (int.TryParse(result.Tokens[0].Value, NumberStyles.None, CultureInfo.InvariantCulture, out int threads) && threads > 0)
                return threads;
            result.AddError($"--threads is '{result.Tokens[0].Value}'; a whole number of one or more is needed");
            return 0;
        },
    };

    private static double ParseTolerance(string name, ArgumentResult result)
    {
        string text = result.Tokens[0].Value;
        if (double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double value) && value >= 0)
            return value;
        result.AddError($"{name} is '{text}'; a number of zero or more is needed, such as 1e-5");
        return 0;
    }
}
