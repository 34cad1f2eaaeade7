using System.Globalization;
using System.Text;

namespace Sconce.Engine.Weights.Script;

/// <summary>
/// The list by which the operator vouches for files, each for the content that it had when the list was made: <c>SHA256SUMS</c> in the directory, as <c>sha256sum *.pt &gt; SHA256SUMS</c> writes it. What else is put
/// into the directory, or in the place of a file, is not vouched for. Read anew each time, so that a change of it counts at once.
/// </summary>
internal static class ScriptVouchers
{
    /// <summary>The list's name in the directory.</summary>
    public const string FileName = "SHA256SUMS";

    private const int MostBytes = 1 << 20;
    private const int DigestLength = 64;

    /// <summary>The digest that a file must have.</summary>
    /// <param name="directory">The operator's.</param>
    /// <param name="name">The file's name, as callers give it.</param>
    /// <param name="field">Where the name stands in the request.</param>
    /// <returns>SHA-256 in lowercase hexadecimal.</returns>
    /// <exception cref="EngineException">The name is none, the list is not there or cannot be read, or does not name the file.</exception>
    public static string DigestOf(OperatorDirectory directory, string name, string field)
    {
        OperatorDirectory.CheckName(name, field);
        var found = (string?)null;
        foreach (var line in Lines(directory, field))
        {
            var (digest, listed) = Parse(line);
            if (listed != name)
            {
                continue;
            }

            if (found is not null && found != digest)
            {
                throw Refused($"{FileName} has two digests of {EngineException.Quote(name)}; the server's operator must leave one");
            }

            found = digest;
        }

        return found ?? throw EngineException.NotFound("file", name, $"callers may use the files that the server's operator lists in {FileName} of {ScriptTypes.Setting}, as sha256sum writes it");
    }

    private static List<string> Lines(OperatorDirectory directory, string field)
    {
        using var source = ByteSource.Owned(Open(directory, field));
        if (source.Length > MostBytes)
        {
            throw Refused($"{FileName} has {source.Length:N0} bytes; at most {MostBytes:N0} are read");
        }

        var bytes = new byte[source.Length];
        source.ReadExactly(bytes, 0);
        return [.. Encoding.UTF8.GetString(bytes).Split('\n').Select(line => line.TrimEnd('\r')).Where(line => line.Length > 0 && line[0] != '#')];
    }

    private static Microsoft.Win32.SafeHandles.SafeFileHandle Open(OperatorDirectory directory, string field)
    {
        try
        {
            return directory.OpenRead(FileName, field);
        }
        catch (EngineException exception) when (exception.Error == EngineError.NotFound)
        {
            throw Refused($"{ScriptTypes.Setting} has no file {FileName}, by which the server's operator vouches for the others; make it there by: sha256sum *.pt > {FileName}");
        }
    }

    // Sixty-four digits, a space, a space or an asterisk (the file was read as text or as bytes, which is the same), and the name. A backslash before it all says that the name is escaped, as no name here needs.
    private static (string Digest, string Name) Parse(string line)
    {
        if (line.Length > DigestLength + 2 && line[DigestLength] == ' ' && line[DigestLength + 1] is ' ' or '*' && line.Take(DigestLength).All(char.IsAsciiHexDigit))
        {
            var name = line[(DigestLength + 2)..];
            return (line[..DigestLength].ToLower(CultureInfo.InvariantCulture), name.StartsWith("./", StringComparison.Ordinal) ? name[2..] : name);
        }

        return line[0] == '\\' ? ("", "") : throw Refused($"{FileName} holds a line that sha256sum does not write: {EngineException.Quote(line.Length > 100 ? line[..100] : line)}");
    }

    private static EngineException Refused(string what) => EngineException.Precondition("SCRIPT_NOT_VOUCHED", what, new ResourceRef("file", FileName));
}
