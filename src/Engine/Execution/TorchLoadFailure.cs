using System.Text;
using System.Text.RegularExpressions;

namespace Sconce.Engine.Execution;

/// <summary>Turns the dynamic loader's answer into what is missing and how to mend it.</summary>
internal static partial class TorchLoadFailure
{
    private const string CopyAllOfIt = "Run `dotnet publish` again and copy its whole output, with runtimes/linux-x64/native where it has one.";

    /// <summary>A native library is in none of the folders where the runtime looks for it.</summary>
    public static TorchLoadException Missing(string name, IEnumerable<string> folders) =>
        new($"{name} is missing; looked in {string.Join(", ", folders)}.", CopyAllOfIt);

    /// <summary>Explains why the native library at a path did not load.</summary>
    public static TorchLoadException Explain(string path, DllNotFoundException exception)
    {
        if (TooOld().Match(exception.Message) is { Success: true } match)
        {
            string library = match.Groups["library"].Value, version = match.Groups["version"].Value;
            var newest = NewestVersion(library, version);
            return new TorchLoadException(
                $"{Path.GetFileName(match.Groups["user"].Value)} needs {version}; {library} has {(newest is null ? "no such versions" : $"up to {newest}")}.",
                version == "GLIBCXX_3.4.32"
                    ? "Build on this host or with -p:SconceWeakGlibcxx=true, or run where libstdc++ is of GCC 13.2 or later (Debian 13, Ubuntu 24.04)."
                    : "Run on a newer system (Debian 12, Ubuntu 22.04 or later) or in the container image.",
                exception);
        }

        // For instance "libgomp.so.1: cannot open shared object file: No such file or directory"; the lines before it are general advice.
        var reason = exception.Message.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)[^1];
        return new TorchLoadException($"{path} cannot be loaded: {reason}.", CopyAllOfIt, exception);
    }

    /// <summary>The newest version in a library of the family of one version name, such as GLIBCXX; null where it has none.</summary>
    private static string? NewestVersion(string library, string version)
    {
        var family = version[..(version.LastIndexOf('_') + 1)];
        try
        {
            // The names stand as plain text in the string table; a library of 2 MB needs no ELF reader for a message.
            return Regex.Matches(Encoding.Latin1.GetString(File.ReadAllBytes(library)), $@"\0({Regex.Escape(family)}\d+(?:\.\d+)+)(?=\0)")
                .Select(match => match.Groups[1].Value)
                .MaxBy(name => Version.Parse(name[family.Length..]));
        }
        catch (IOException)
        {
            return null;
        }
    }

    [GeneratedRegex(@"^(?<library>\S+): version `(?<version>[^']+)' not found \(required by (?<user>[^)]+)\)", RegexOptions.Multiline)]
    private static partial Regex TooOld();
}
