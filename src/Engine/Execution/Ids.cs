using System.Security.Cryptography;
using System.Text.RegularExpressions;

namespace Sconce.Engine.Execution;

/// <summary>Names that callers choose, and ids that the host makes.</summary>
internal static partial class Ids
{
    private const string Form = "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$";

    /// <summary>A new id that cannot be guessed: whoever has it may use what it names.</summary>
    public static string New(string prefix) => $"{prefix}-{RandomNumberGenerator.GetHexString(24, lowercase: true)}";

    /// <summary>Checks a name that a caller sent.</summary>
    public static void Check(string name, string field)
    {
        if (!Valid().IsMatch(name))
        {
            throw EngineException.Invalid(field, name.Length == 0 ? $"is empty; it must match {Form}" : $"is {EngineException.Quote(name)}; it must match {Form}", "BAD_NAME");
        }
    }

    // \z, not $: that would let a newline at the end by.
    [GeneratedRegex(@"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\z")]
    private static partial Regex Valid();
}
