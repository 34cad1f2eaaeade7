using System.Collections;
using Microsoft.Extensions.Configuration;

namespace Sconce.Server.Configuration;

/// <summary>Builds the options from their layers, the later over the earlier: defaults, JSON file, environment, command line.</summary>
internal static class SettingsReader
{
    private const string Section = "Sconce";
    private const string EnvironmentPrefix = "SCONCE__";

    /// <summary>Reads and checks all layers; every problem of every layer is told at once.</summary>
    public static SconceServerOptions Read(IReadOnlyList<string> arguments, IDictionary environment)
    {
        var problems = new List<string>();
        var commandLine = ReadCommandLine(arguments, problems, out var file);
        var options = new SconceServerOptions();
        if (file is not null)
        {
            Apply(options, ReadFile(file, problems), name => $"{Section}:{name} in {file}", problems);
        }

        Apply(options, ReadEnvironment(environment), name => $"{EnvironmentPrefix}{name} in the environment", problems);
        Apply(options, commandLine, name => $"--{name} on the command line", problems);
        problems.AddRange(OptionsValidation.Check(options));
        return problems.Count == 0 ? options : throw new ConfigurationException(problems);
    }

    private static void Apply(
        SconceServerOptions options, IEnumerable<KeyValuePair<string, string>> values, Func<string, string> place, List<string> problems)
    {
        foreach (var (name, value) in values)
        {
            if (ServerSettings.Find(name) is not { } setting)
            {
                var hint = ServerSettings.Nearest(name) is { } nearest ? $"; did you mean {nearest.Name}?" : "; `sconce serve --help` lists the settings";
                problems.Add($"{place(name)} is not a setting{hint}");
            }
            else if (!setting.TryWrite(options, value))
            {
                problems.Add($"{place(name)} is \"{value}\"; it must be {setting.Expected}");
            }
        }
    }

    private static List<KeyValuePair<string, string>> ReadCommandLine(IReadOnlyList<string> arguments, List<string> problems, out string? file)
    {
        var values = new List<KeyValuePair<string, string>>();
        file = null;
        for (var i = 0; i < arguments.Count; i++)
        {
            var argument = arguments[i];
            if (!argument.StartsWith("--", StringComparison.Ordinal) || argument.Length == 2)
            {
                problems.Add($"\"{argument}\" on the command line is not a setting; write --name value");
                continue;
            }

            var equals = argument.IndexOf('=', StringComparison.Ordinal);
            var name = equals < 0 ? argument[2..] : argument[2..equals];
            string? value = equals < 0 ? null : argument[(equals + 1)..];
            if (value is null && i + 1 < arguments.Count && !arguments[i + 1].StartsWith("--", StringComparison.Ordinal))
            {
                value = arguments[++i];
            }

            if (value is null && ServerSettings.Find(name) is { IsFlag: true })
            {
                value = "true";
            }

            if (value is null)
            {
                problems.Add($"--{name} on the command line has no value; write --{name} VALUE");
            }
            else if (name == "config")
            {
                file = value;
            }
            else
            {
                values.Add(new(name, value));
            }
        }

        return values;
    }

    private static IEnumerable<KeyValuePair<string, string>> ReadFile(string file, List<string> problems)
    {
        try
        {
            var root = new ConfigurationBuilder().AddJsonFile(Path.GetFullPath(file), optional: false).Build();
            problems.AddRange(root.GetChildren().Where(child => !string.Equals(child.Key, Section, StringComparison.OrdinalIgnoreCase))
                .Select(child => $"{child.Key} in {file} is not known; settings stand in a \"{Section}\" object"));
            return root.GetSection(Section).AsEnumerable(makePathsRelative: true).Where(pair => pair.Value is not null).Select(pair => new KeyValuePair<string, string>(pair.Key, pair.Value!));
        }
        catch (FileNotFoundException)
        {
            problems.Add($"--config is \"{file}\"; there is no such file");
        }
        catch (Exception e) when (e is InvalidDataException or IOException or UnauthorizedAccessException)
        {
            problems.Add($"--config is \"{file}\", which cannot be read: {e.GetBaseException().Message}");
        }

        return [];
    }

    private static IEnumerable<KeyValuePair<string, string>> ReadEnvironment(IDictionary environment) =>
        from DictionaryEntry variable in environment
        let name = (string)variable.Key
        where name.StartsWith(EnvironmentPrefix, StringComparison.OrdinalIgnoreCase)
        orderby name
        select new KeyValuePair<string, string>(name[EnvironmentPrefix.Length..], (string?)variable.Value ?? "");
}
