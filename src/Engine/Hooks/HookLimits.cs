namespace Sconce.Engine.Hooks;

/// <summary>How much a hook may say. Beyond what any tensor has there is nothing to say, and the rest is room for every module that can be built.</summary>
internal static class HookLimits
{
    /// <summary>Most characters of a path, a pattern, a name or a key.</summary>
    public const int MaxText = 8192;

    private const int MaxActions = 64;
    private const int MaxNames = 256;

    // No tensor has more.
    private const int MaxDims = 64;

    /// <summary>Looks for what is too long, in time linear in what is told.</summary>
    /// <param name="spec">The hook.</param>
    /// <param name="add">Takes a field, relative to the hook, and what is wrong with it.</param>
    public static void Check(HookSpec spec, Action<string, string> add)
    {
        if (spec.Names.Count > MaxNames)
        {
            add("names", $"has {spec.Names.Count} patterns; at most {MaxNames} are taken");
        }

        for (var i = 0; i < Math.Min(spec.Names.Count, MaxNames); i++)
        {
            Text(spec.Names[i], $"names[{i}]", add);
        }

        Text(spec.Target.Text, "target", add);
        if (spec.Select is { Dims.Count: > MaxDims } select)
        {
            add("select.dims", $"has {select.Dims.Count} entries; at most {MaxDims} are taken");
        }

        if (spec.Actions.Count is 0 or > MaxActions)
        {
            add("actions", $"has {spec.Actions.Count} actions; 1 to {MaxActions} are taken");
        }

        for (var i = 0; i < Math.Min(spec.Actions.Count, MaxActions); i++)
        {
            Action(spec.Actions[i], $"actions[{i}].{spec.Actions[i].Name}", add);
        }
    }

    private static void Action(HookAction action, string field, Action<string, string> add)
    {
        if (action.Operand?.State is { } key)
        {
            Text(key, $"{field}.{action.OperandField}.state", add);
        }

        if (action.Calls is { } other)
        {
            Text(other.Path, $"{field}.{(action is CaptureAction ? "through" : "module")}.path", add);
        }

        if (action is RenameAction rename)
        {
            Text(rename.Prefix, $"{field}.prefix", add);
            Text(rename.Replacement, $"{field}.replacement", add);
        }

        if (action is ReduceAction reduce)
        {
            foreach (var (list, count) in new[] { ("statistics", reduce.Statistics.Count), ("dims", reduce.Dims.Count) }.Where(list => list.Item2 > MaxDims))
            {
                add($"{field}.{list}", $"has {count} entries; at most {MaxDims} are taken");
            }
        }
    }

    private static void Text(string text, string field, Action<string, string> add)
    {
        if (text.Length > MaxText)
        {
            add(field, $"has {text.Length} characters; at most {MaxText} are taken");
        }
    }
}
