namespace Sconce.Engine.Catalog;

/// <summary>Finds the names that a mistyped one may have meant.</summary>
internal static class NearestNames
{
    private const int MostShown = 3;

    /// <summary>Names within a third of the length by edit distance, ignoring case, nearest first.</summary>
    /// <param name="name">What was given.</param>
    /// <param name="known">What there is.</param>
    public static IReadOnlyList<string> To(string name, IEnumerable<string> known)
    {
        // A caller's name may be megabytes long; no known name is near it then.
        if (name.Length > 64)
        {
            return [];
        }

        var most = Math.Max(1, name.Length / 3);
        return [.. known.Select(k => (Name: k, Distance: Distance(name, k)))
            .Where(k => k.Distance <= most)
            .OrderBy(k => k.Distance).ThenBy(k => k.Name, StringComparer.Ordinal)
            .Take(MostShown)
            .Select(k => k.Name)];
    }

    private static int Distance(string a, string b)
    {
        var row = Enumerable.Range(0, b.Length + 1).ToArray();
        for (var i = 1; i <= a.Length; i++)
        {
            var diagonal = row[0];
            row[0] = i;
            for (var j = 1; j <= b.Length; j++)
            {
                var above = row[j];
                var same = char.ToUpperInvariant(a[i - 1]) == char.ToUpperInvariant(b[j - 1]);
                row[j] = Math.Min(diagonal + (same ? 0 : 1), Math.Min(above, row[j - 1]) + 1);
                diagonal = above;
            }
        }

        return row[^1];
    }
}
