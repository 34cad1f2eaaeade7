using Sconce.Engine.Catalog;
using Sconce.Engine.Execution;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Weights;

/// <summary>How a state dict is loaded: which of its entries, under which keys, and what becomes of their values. The default is PyTorch's.</summary>
public sealed record LoadPlan
{
    // No key of a module comes near it, and each key can become as much longer.
    private const int MaxPrefix = 1024;

    // Seconds, while a lane is at it.
    private const long MaxComparisons = 20_000_000;

    /// <summary>Whether missing and unexpected keys are refused. A shape that differs is refused either way.</summary>
    public bool Strict { get; init; } = true;

    /// <summary>Taken from the keys that begin with it, as <c>consume_prefix_in_state_dict_if_present</c> does; the others stay.</summary>
    public string StripPrefix { get; init; } = "";

    /// <summary>Put before every key, after <see cref="StripPrefix"/>.</summary>
    public string AddPrefix { get; init; } = "";

    /// <summary>
    /// Only keys that match one of these patterns, by the names that the two prefixes have made, are loaded; the rest of what is given is ignored, and the rest of the
    /// module's is not missing. Empty is all. At most 10,000.
    /// </summary>
    public IReadOnlyList<string> Keys { get; init; } = [];

    /// <summary>
    /// PyTorch's <c>assign=True</c>: parameters and buffers take the given tensors, dtype included, instead of their values. Parameters stay the same objects and keep
    /// <c>requires_grad</c>; as in PyTorch they lose their gradient.
    /// </summary>
    public bool Assign { get; init; }

    /// <summary>Where all this stands in the request, e.g. <c>header.</c>.</summary>
    public string Field { get; init; } = "";

    /// <summary>Refuses what can fit no module.</summary>
    /// <exception cref="EngineException">There are too many patterns, or a prefix is too long or no part of a key.</exception>
    public void Check()
    {
        Glob.CheckCount(Keys.Count, Field + "keys");
        CheckPrefix(StripPrefix, Field + "strip_prefix");
        CheckPrefix(AddPrefix, Field + "add_prefix");
    }

    /// <summary>The entries that are loaded, in the order given, under the keys of the module.</summary>
    /// <param name="entries">All that is given.</param>
    /// <exception cref="EngineException">There are too many patterns for so many tensors.</exception>
    internal IReadOnlyList<LoadEntry> Map(IReadOnlyList<StateEntryInfo> entries)
    {
        if ((long)Keys.Count * entries.Count > MaxComparisons)
        {
            throw EngineException.Invalid(Field + "keys", $"has {Keys.Count} patterns for {entries.Count} tensors, which is more than {MaxComparisons:N0} comparisons: use * and ? as wildcards");
        }

        var mapped = new List<LoadEntry>(entries.Count);
        for (var i = 0; i < entries.Count; i++)
        {
            var (sent, type, shape) = entries[i];
            var key = AddPrefix + (StripPrefix.Length > 0 && sent.StartsWith(StripPrefix, StringComparison.Ordinal) ? sent[StripPrefix.Length..] : sent);
            if (Takes(key))
            {
                mapped.Add(new LoadEntry(i, key, sent, type, shape));
            }
        }

        return mapped;
    }

    /// <summary>Whether a key of the module is one of those that are loaded.</summary>
    internal bool Takes(string key) => Keys.Count == 0 || Keys.Any(pattern => Glob.Matches(pattern, key));

    private static void CheckPrefix(string prefix, string field)
    {
        if (prefix.Length > MaxPrefix)
        {
            throw EngineException.Invalid(field, $"has {prefix.Length} characters; a prefix of keys has at most {MaxPrefix}");
        }

        if (prefix.Any(char.IsControl))
        {
            throw EngineException.Invalid(field, $"is {EngineException.Quote(prefix)}; a key holds no control characters");
        }
    }
}

/// <summary>One entry on its way into a module.</summary>
/// <param name="Index">Its place in what the caller gave; -1 where a hook made it.</param>
/// <param name="Key">The module's key.</param>
/// <param name="Sent">The caller's own key.</param>
/// <param name="Type">Its element type.</param>
/// <param name="Shape">Its shape.</param>
internal sealed record LoadEntry(int Index, string Key, string Sent, ElementType Type, IReadOnlyList<long> Shape)
{
    /// <summary>Its name for messages: the module's key, and the caller's where that is another.</summary>
    public string Name => Sent == Key ? EngineException.Quote(Key) : $"{EngineException.Quote(Key)} (given as {EngineException.Quote(Sent)})";

    /// <summary>It without its names but the module's.</summary>
    public StateEntryInfo Info => new(Key, Type, Shape);
}
