namespace Sconce.Engine.Catalog;

/// <summary>Patterns over dotted names: <c>*</c> is any run of characters, <c>?</c> any one.</summary>
internal static class Glob
{
    /// <summary>Patterns that one call may give: each is compared with every name.</summary>
    private const int MaxPatterns = 10_000;

    /// <summary>Refuses more patterns than a call may give.</summary>
    /// <param name="count">How many there are.</param>
    /// <param name="field">Where they stand in the request.</param>
    public static void CheckCount(long count, string field)
    {
        if (count > MaxPatterns)
        {
            throw EngineException.Invalid(field, string.Create(System.Globalization.CultureInfo.InvariantCulture, $"has {count} names; a call takes at most {MaxPatterns}: use * and ? as wildcards"));
        }
    }

    /// <summary>Whether the whole name matches, in time linear in its length for each star.</summary>
    public static bool Matches(string pattern, string name)
    {
        int p = 0, n = 0, star = -1, resume = 0;
        while (n < name.Length)
        {
            if (p < pattern.Length && pattern[p] == '*')
            {
                star = p++;
                resume = n;
            }
            else if (p < pattern.Length && (pattern[p] == '?' || pattern[p] == name[n]))
            {
                p++;
                n++;
            }
            else if (star >= 0)
            {
                // Let the last star take one character more.
                p = star + 1;
                n = ++resume;
            }
            else
            {
                return false;
            }
        }

        return pattern.AsSpan(p).Trim('*').IsEmpty;
    }
}
