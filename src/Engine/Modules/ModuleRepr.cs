using System.Globalization;

namespace Sconce.Engine.Modules;

/// <summary>Prints a tree exactly as PyTorch 2's <c>nn.Module.__repr__</c> does.</summary>
internal static class ModuleRepr
{
    public static string Of(ModuleNode node)
    {
        var extra = node.ExtraRepr;
        var children = node.Children.Select(child => (child.Key, Text: Of(child.Value))).ToList();
        if (children.Count == 0 && !extra.Contains('\n', StringComparison.Ordinal))
        {
            return $"{node.TypeName}({extra})";
        }

        var lines = node is ModuleListNode ? Fold(children) : children.Select(child => $"({child.Key}): {Indent(child.Text)}");
        if (extra.Length > 0)
        {
            lines = extra.Split('\n').Concat(lines);
        }

        return $"{node.TypeName}(\n  {string.Join("\n  ", lines)}\n)";
    }

    // ModuleList prints a run of equal items as one: "(0-5): 6 x Block(...)".
    private static IEnumerable<string> Fold(List<(string Key, string Text)> children)
    {
        for (var first = 0; first < children.Count;)
        {
            var last = first;
            while (last + 1 < children.Count && children[last + 1].Text == children[first].Text)
            {
                last++;
            }

            yield return last == first
                ? $"({children[first].Key}): {Indent(children[first].Text)}"
                : string.Create(CultureInfo.InvariantCulture, $"({first}-{last}): {last - first + 1} x {Indent(children[first].Text)}");
            first = last + 1;
        }
    }

    private static string Indent(string text) => text.Replace("\n", "\n  ", StringComparison.Ordinal);
}
