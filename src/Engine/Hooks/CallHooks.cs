using Sconce.Engine.Execution;
using Sconce.Engine.Modules;

namespace Sconce.Engine.Hooks;

/// <summary>
/// The hooks that came with one call: accepted on the caller's thread, planned together with the registered ones when the call's turn comes, freed with the call or with the
/// graph that it recorded.
/// </summary>
internal sealed class CallHooks : IDisposable
{
    private const int MaxInline = 256;

    private readonly List<Hook> _hooks = [];

    private CallHooks()
    {
    }

    /// <summary>Names of other modules that the hooks call.</summary>
    public IEnumerable<string> Calls => _hooks.SelectMany(hook => hook.Calls);

    /// <summary>Whether the call needs the module to itself, for its slots.</summary>
    public bool UsesSlots => _hooks.Exists(hook => hook.UsesSlots);

    /// <summary>Checks and accepts the hooks of a call; null where there are none.</summary>
    /// <param name="specs">The hooks.</param>
    /// <param name="field">Where they stand in the request, e.g. <c>hooks</c>.</param>
    /// <param name="host">Where kept tensors are and memory is charged.</param>
    /// <param name="mayShare">Whether operands may use the request's memory.</param>
    /// <param name="allowed">Which sites the call meets.</param>
    public static CallHooks? Accept(IReadOnlyList<HookSpec> specs, string field, HostServices host, bool mayShare, Func<HookSpec, string?> allowed)
    {
        if (specs.Count == 0)
        {
            return null;
        }

        if (specs.Count > MaxInline)
        {
            throw EngineException.Invalid(field, $"has {specs.Count} hooks; a call takes at most {MaxInline}", "BAD_HOOK");
        }

        var made = new CallHooks();
        try
        {
            for (var i = 0; i < specs.Count; i++)
            {
                var at = $"{field}[{i}]";
                HookChecks.Check(specs[i], at, inline: true);
                if (allowed(specs[i]) is { } refusal)
                {
                    throw EngineException.Invalid($"{at}.site", $"is {specs[i].Site}; {refusal}", "BAD_HOOK");
                }

                var id = specs[i].Id.Length == 0 ? i.ToString(System.Globalization.CultureInfo.InvariantCulture) : specs[i].Id;
                made._hooks.Add(new Hook(specs[i] with { Id = id }, at, host, null, null, mayShare));
            }

            return made;
        }
        catch
        {
            made.Dispose();
            throw;
        }
    }

    /// <summary>Plans the hooks on gradients of parameters for one backward: those registered now, those that came with the forward, and those of this call.</summary>
    public static HookRun? PlanParameters(ModuleState state, HostServices host, CallHooks? ofForward, CallHooks? ofCall)
    {
        ofCall?.CheckTargets(state.Tree);
        List<Hook> hooks = [.. state.Hooks.Plan.ParamGrad.Select(place => place.Hook).Distinct(), .. OnParameters(ofForward), .. OnParameters(ofCall)];
        return hooks.Count == 0 ? null
            : new HookRun(HookPlan.Of(state.Tree, hooks), new HookServices(state.Name, state.Tree, host, state.Hooks, HeldModules.None));

        static IEnumerable<Hook> OnParameters(CallHooks? hooks) => hooks?._hooks.Where(hook => hook.Spec.Site == HookSite.ParamGrad) ?? [];
    }

    /// <summary>Plans a call's hooks when its turn comes.</summary>
    /// <param name="state">The module.</param>
    /// <param name="host">Its host.</param>
    /// <param name="call">The hooks that came with the call; null for none.</param>
    /// <param name="others">Other modules that are held.</param>
    /// <returns>The dispatcher; null where the call meets no hook.</returns>
    public static HookRun? Plan(ModuleState state, HostServices host, CallHooks? call, IReadOnlyDictionary<string, ModuleState?> others)
    {
        var registered = state.Hooks.Plan;
        if (call is null && registered.IsEmpty)
        {
            return null;
        }

        call?.CheckTargets(state.Tree);
        var plan = call is null ? registered : HookPlan.Of(state.Tree, [.. registered.Hooks, .. call._hooks]);
        if (plan.Calls.FirstOrDefault(name => name != state.Name && !others.ContainsKey(name)) is { } missing)
        {
            // The call queued before the hook was registered, and holds only its own module.
            throw new EngineException(EngineError.Unavailable, "HOOK_CHANGED",
                $"a hook that calls module {EngineException.Quote(missing)} was registered while this call waited; nothing has run, call again")
            { RetryAfter = TimeSpan.FromMilliseconds(1) };
        }

        return new HookRun(plan, new HookServices(state.Name, state.Tree, host, state.Hooks, others));
    }

    private void CheckTargets(ModuleTree tree) => _hooks.ForEach(hook => HookPlan.CheckTarget(tree, hook.Spec, hook.Field));

    /// <summary>Frees the hooks.</summary>
    public void Dispose()
    {
        foreach (var hook in _hooks)
        {
            hook.Remove();
            hook.Dispose();
        }
    }
}
