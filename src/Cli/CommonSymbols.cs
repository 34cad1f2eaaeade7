using System.CommandLine;
using System.CommandLine.Parsing;
using System.Text.Json;
using Sconce.Client;
using Sconce.V1;

namespace Sconce.Cli;

/// <summary>Arguments and options that several verbs share, and how their values are read.</summary>
internal static class CommonSymbols
{
    public static Argument<string> Module()
    {
        var argument = new Argument<string>("module") { Description = "The module's name." };
        argument.Validators.Add(result => RefuseEmpty(result, "module", "the name of a module, e.g. mlp"));
        return argument;
    }

    /// <summary>Refuses "", which shells make of a variable that is not set.</summary>
    public static void RefuseEmpty(SymbolResult result, string name, string expected)
    {
        if (result.Tokens.Any(token => token.Value.Length == 0))
            result.AddError($"{name} is empty; it must be {expected}.");
    }

    public static Option<string> Path() => new("--path") { Description = "A submodule, e.g. layer1.0; the whole module if not given.", HelpName = "path", DefaultValueFactory = _ => "" };

    /// <summary>An option for arguments by name, which may be repeated.</summary>
    public static Option<string[]> Arguments(string name, string description)
        => new(name) { Description = description, HelpName = "name=value", DefaultValueFactory = _ => [] };

    /// <summary>An option that must be a whole number above zero.</summary>
    public static Option<int> Positive(string name, string description, int defaultValue)
    {
        var option = new Option<int>(name) { Description = description, HelpName = "n", DefaultValueFactory = _ => defaultValue };
        option.Validators.Add(RefuseBelowOne);
        return option;
    }

    /// <summary>An option that must be a whole number above zero where it is given.</summary>
    public static Option<int?> PositiveOrNone(string name, string description)
    {
        var option = new Option<int?>(name) { Description = description, HelpName = "n" };
        option.Validators.Add(RefuseBelowOne);
        return option;
    }

    /// <summary>Reads "lr=0.1", "betas=[0.9, 0.999]", "bias=false", "padding_mode=zeros": JSON, or else a word.</summary>
    /// <exception cref="UsageException">There is no "=", a name is given twice, or a whole number is beyond 2^53.</exception>
    public static Arguments ParseArguments(string option, IReadOnlyList<string> texts)
    {
        var arguments = new (string Name, object?)[texts.Count];
        for (var i = 0; i < arguments.Length; i++)
        {
            var equals = texts[i].IndexOf('=', StringComparison.Ordinal);
            if (equals <= 0)
                throw new UsageException($"{option} is '{texts[i]}'; it must be name=value, e.g. {option} bias=false.");
            var name = texts[i][..equals];
            if (arguments.Take(i).Any(argument => argument.Name == name))
                throw new UsageException($"{option} {name} is given twice.");
            arguments[i] = (name, ParseValue($"{option} {name}", texts[i][(equals + 1)..]));
        }

        return Client.Arguments.Create(arguments);
    }

    /// <exception cref="UsageException">Not a dtype.</exception>
    public static DataType ParseType(string name)
    {
        try
        {
            return DataTypes.Parse(name);
        }
        catch (FormatException e)
        {
            throw new UsageException(e.Message, e);
        }
    }

    /// <exception cref="UsageException">The file is missing or unreadable.</exception>
    public static async Task<string> ReadTextAsync(string path, CancellationToken cancel)
    {
        try
        {
            return await File.ReadAllTextAsync(path, cancel).ConfigureAwait(false);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new UsageException($"{path}: there is no such file.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new UsageException($"{path}: cannot be read: {e.Message}", e);
        }
    }

    private static void RefuseBelowOne(OptionResult result)
    {
        // What is no number at all is the parser's to refuse.
        if (result.Tokens.Count > 0 && long.TryParse(result.Tokens[0].Value, out var value) && value <= 0)
            result.AddError($"{result.Option.Name} is {value}; it must be > 0.");
    }

    private static object? ParseValue(string what, string text)
    {
        if (text is "None" or "True" or "False")
            return text == "None" ? null : text == "True";
        try
        {
            using var document = JsonDocument.Parse(text);
            return ToObject(what, document.RootElement);
        }
        catch (JsonException)
        {
            return text;
        }
    }

    private static object? ToObject(string what, JsonElement element) => element.ValueKind switch
    {
        JsonValueKind.Null => null,
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        JsonValueKind.Number => ToNumber(what, element),
        JsonValueKind.Array => element.EnumerateArray().Select(item => ToObject(what, item)).ToArray(),
        JsonValueKind.String => element.GetString(),
        _ => element.GetRawText(),
    };

    private static double ToNumber(string what, JsonElement element)
    {
        // Arguments travel as doubles: a whole number beyond 2^53 would arrive as another one.
        var text = element.GetRawText();
        if (text.AsSpan().IndexOfAny('.', 'e', 'E') < 0 && !(element.TryGetInt64(out var whole) && whole is >= -(1L << 53) and <= 1L << 53))
            throw new UsageException($"{what} is {text}; whole numbers travel exactly only up to 2^53.");
        return element.GetDouble();
    }
}
