using Sconce.Engine.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Hooks;

/// <summary>Hooks on the entries of a state dict.</summary>
internal static class StateHooks
{
    /// <summary>Lets hooks see and change entries.</summary>
    /// <param name="run">The call.</param>
    /// <param name="services">What hooks read and where they deliver.</param>
    /// <param name="places">The hooks of the site.</param>
    /// <param name="root">The tree's root.</param>
    /// <param name="path">The submodule that the state dict is of.</param>
    /// <param name="entries">Keys relative to it, and tensors.</param>
    /// <returns>The entries to go on with.</returns>
    public static IReadOnlyList<(string Key, Tensor Value)> Apply(
        HookRun run, HookServices services, IReadOnlyList<HookPlace> places, ModuleNode root, string path, IReadOnlyList<(string Key, Tensor Value)> entries)
    {
        foreach (var place in places)
        {
            // As in PyTorch: the hooks of modules above the one that is asked are not called.
            var prefixes = ModuleTree.AllPaths(root).Where(at => at.Node == place.Node && IsAtOrBelow(at.Path, path)).Select(at => Relative(at.Path, path)).ToList();
            if (prefixes.Count > 0 && place.Hook.Visit(place.Visits, place.Node.Training, out var call))
            {
                entries = Apply(run, services, place, call, prefixes, entries);
            }
        }

        run.ThrowPending();
        return entries;
    }

    private static IReadOnlyList<(string Key, Tensor Value)> Apply(
        HookRun run, HookServices services, HookPlace place, ulong call, List<string> prefixes, IReadOnlyList<(string Key, Tensor Value)> entries)
    {
        var result = new List<(string Key, Tensor Value)>(entries.Count);
        var keys = new HashSet<string>(StringComparer.Ordinal);
        foreach (var (key, value) in entries)
        {
            var entry = (Key: key, Value: value);
            var prefix = prefixes.Find(prefix => prefix.Length == 0 || key.StartsWith(prefix + ".", StringComparison.Ordinal));
            var name = prefix is null ? "" : prefix.Length == 0 ? key : key[(prefix.Length + 1)..];
            if (prefix is not null && place.Takes(name))
            {
                entry.Value = new HookVisitRun(run, services, new HookVisit(place.Hook, place.Path, 0, name, call)).Run(value);
                if (!place.Hook.IsLive)
                {
                    // It failed: as if it had not been there.
                    return entries;
                }

                if (place.Hook.Spec.Actions.Any(action => action is DropAction))
                {
                    continue;
                }

                if (Renamed(place.Hook, name) is not { Length: > 0 } renamed)
                {
                    run.Fail(new HookVisit(place.Hook, place.Path, 0, name, call), "actions",
                        EngineException.Invalid("", $"leaves of {EngineException.Quote(key)} a key that is empty or has more than {HookLimits.MaxText} characters", "HOOK_FAILED"));
                    return entries;
                }

                entry.Key = ModuleTree.Join(prefix, renamed);
            }

            if (!keys.Add(entry.Key))
            {
                run.Fail(new HookVisit(place.Hook, place.Path, 0, name, call), "actions", EngineException.Invalid("", $"makes {EngineException.Quote(entry.Key)} a key twice", "HOOK_FAILED"));
                return entries;
            }

            result.Add(entry);
        }

        return result;
    }

    // Null where it grows too long: each entry could become as long as all renames together.
    private static string? Renamed(Hook hook, string name)
    {
        foreach (var rename in hook.Spec.Actions.OfType<RenameAction>())
        {
            if (name.StartsWith(rename.Prefix, StringComparison.Ordinal))
            {
                name = rename.Replacement + name[rename.Prefix.Length..];
                if (name.Length > HookLimits.MaxText)
                {
                    return null;
                }
            }
        }

        return name;
    }

    private static bool IsAtOrBelow(string place, string path) => path.Length == 0 || place == path || place.StartsWith(path + ".", StringComparison.Ordinal);

    private static string Relative(string place, string path) => path.Length == 0 ? place : place.Length == path.Length ? "" : place[(path.Length + 1)..];
}
