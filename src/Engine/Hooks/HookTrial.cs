using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.PlugIns;
using Sconce.Engine.Tensors;
using Sconce.Engine.Weights.Script;
using Sconce.Engine.Training;
using static TorchSharp.torch;

namespace Sconce.Engine.Hooks;

/// <summary>Tries a hook on a copy of its module with example inputs, so that shapes that do not fit are told when it is registered.</summary>
internal static class HookTrial
{
    /// <summary>Runs the trial.</summary>
    /// <param name="state">The module; only read.</param>
    /// <param name="host">Where memory is charged.</param>
    /// <param name="hook">The hook.</param>
    /// <param name="inputs">The example inputs.</param>
    /// <exception cref="EngineException">The inputs do not fit the module, or the hook fails, or it is never met.</exception>
    public static void Run(ModuleState state, HostServices host, Hook hook, CallArguments inputs)
    {
        if (hook.Spec.IsState)
        {
            throw EngineException.Invalid("example_inputs", $"are given, but {hook.Spec.Site} meets no forward; leave them out");
        }

        using var scope = NewDisposeScope();
        using var charge = new MemoryCharge(host.Ledger, MemoryUse.Hooks, "a copy of module", state.Name, ModuleTree.BytesOf(state.Tree.Root));
        using var copy = ModuleCopy.DeepCopy(state.Tree, "");
        ScriptNode.SetOwner(copy.Root, state.Name);
        foreach (var (_, node) in ModuleTree.Walk(copy.Root))
        {
            if (node is LazyNode lazy)
            {
                lazy.Reserve = more => charge.Resize(charge.Bytes + more);
            }
        }

        using var random = new RandomStream();
        random.Seed(0);
        var tried = new Hook(hook);
        var plan = HookPlan.Of(copy, [tried]);
        var run = new HookRun(plan, new HookServices(state.Name, copy, host, null, HeldModules.None));
        var recording = hook.Spec.IsBackward || hook.Spec.Site == HookSite.ParamGrad;
        using var memory = state.NewCallMemory(MemoryUse.Outputs, recording);
        inputs = recording ? RequireGrads(inputs) : inputs;
        using (set_grad_enabled(recording))
        {
            try
            {
                var output = random.Run(() => copy.Root.Call(inputs, new CallContext { Hooks = run, Memory = memory }));
                if (recording)
                {
                    Backward(state, host, run, copy, inputs, output, hook);
                }
            }
            catch (HookStopException)
            {
                return;
            }
        }

        if (tried.Fires == 0)
        {
            throw EngineException.Invalid(hook.Field, "never acts on the example inputs: no call reaches its target"
                + (recording ? ", or no gradient does (an input that requires none has none)" : ""), "HOOK_NEVER_FIRES");
        }
    }

    private static void Backward(ModuleState state, HostServices host, HookRun run, ModuleTree copy, CallArguments inputs, TensorTree output, Hook hook)
    {
        var roots = output.Flatten().Where(tensor => tensor.requires_grad).ToList();
        if (roots.Count == 0)
        {
            throw EngineException.Invalid(hook.Field, "never acts on the example inputs: nothing requires a gradient", "HOOK_NEVER_FIRES");
        }

        // Of parameters, of inputs, and those of the output that it begins with.
        var bytes = ModuleTree.NamedParameters(copy.Root).Select(named => named.Parameter).Concat(inputs.Positional.SelectMany(value => value.Flatten())).Where(tensor => tensor.requires_grad)
            .Concat(roots).Aggregate(0L, (sum, tensor) => TensorSize.Sum(sum, TensorSize.Of(tensor)));
        using var charge = new MemoryCharge(host.Ledger, MemoryUse.Gradients, "the gradients of a copy of module", state.Name, bytes);
        using var before = Gradients.Backward(copy, reset: false, () =>
        {
            FunctionGuard.Run(() => autograd.backward(roots, [.. roots.Select(root => ones_like(root))], false));
            ParameterGradients.Finish(run, run);
        }, exception => CallFailure.TranslateBackward(exception, copy.Root.Display("")));
        foreach (var (_, parameter) in ModuleTree.NamedParameters(copy.Root))
        {
            parameter.grad = null;
        }
    }

    private static CallArguments RequireGrads(CallArguments inputs) =>
        new([.. inputs.Positional.Select(value => value.Map(tensor => tensor.is_floating_point() || tensor.is_complex() ? tensor.detach().requires_grad_(true) : tensor))], inputs.Named, inputs.FieldPrefix);
}
