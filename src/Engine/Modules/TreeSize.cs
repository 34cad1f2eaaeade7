namespace Sconce.Engine.Modules;

/// <summary>
/// Bounds what sharing can blow up: a module shared at each of n levels has 2^n names, and a wiring that calls a child k times at each of n
/// levels makes k^n calls.
/// </summary>
internal static class TreeSize
{
    public static void Check(ModuleNode root, BuildLimits limits, string field)
    {
        var names = new Dictionary<ModuleNode, long>(ReferenceEqualityComparer.Instance);
        var calls = new Dictionary<ModuleNode, long>(ReferenceEqualityComparer.Instance);
        if (Names(root) > limits.MaxModules)
        {
            throw EngineException.Invalid(field, $"with its shared submodules counted under each name the module has more than {limits.MaxModules:N0}; raise max_submodules, or share less", "SPEC_TOO_LARGE");
        }

        if (Calls(root) > limits.MaxCalls)
        {
            throw EngineException.Invalid(field, $"one forward would call more than {limits.MaxCalls:N0} submodules and functions; wire fewer", "SPEC_TOO_LARGE");
        }

        long Names(ModuleNode node) => Sum(node, names, Names, node.Children.Select(child => child.Value));

        long Calls(ModuleNode node) => Sum(node, calls, Calls, node.CalledChildren) + node.OwnCalls;

        static long Sum(ModuleNode node, Dictionary<ModuleNode, long> known, Func<ModuleNode, long> of, IEnumerable<ModuleNode> parts)
        {
            if (!known.TryGetValue(node, out var sum))
            {
                // Saturates well above any limit.
                known[node] = sum = 1 + parts.Aggregate(0L, (total, part) => Math.Min(total + of(part), int.MaxValue));
            }

            return sum;
        }
    }
}
