using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Snapshots;

/// <summary>
/// A module at one instant, copied, so that it goes on while the copy is written: what a snapshot holds. Charged to the ledger until disposed.
/// </summary>
/// <remarks>Not in it: live graphs, what sessions own, kept tensors, and what a plug-in's class holds outside of its parameters and buffers.</remarks>
internal sealed class ModuleImage : IDisposable
{
    private const string What = "a snapshot of module";

    private ModuleImage(ModuleFacts facts, StateSnapshot weights, StateSnapshot training, OnceCall[] calls) => (Facts, Weights, Training, Calls) = (facts, weights, training, calls);

    /// <summary>All but the tensors.</summary>
    public ModuleFacts Facts { get; }

    /// <summary>The state dict, each tensor under its first key.</summary>
    public StateSnapshot Weights { get; }

    /// <summary>All other tensors, under the names that <see cref="ImageKeys"/> makes.</summary>
    public StateSnapshot Training { get; }

    /// <summary>The calls with an id whose effects are in it, in the order of their turns. Some may have no answer yet.</summary>
    public OnceCall[] Calls { get; }

    /// <summary>Refuses a module that a restart could not bring back.</summary>
    /// <exception cref="EngineException">It is, or holds, a TorchScript module.</exception>
    public static void CheckDurable(ModuleTree tree)
    {
        if (tree.Script is { } script)
        {
            throw EngineException.Precondition("SCRIPT_NOT_DURABLE",
                $"the module is, or holds, the TorchScript file {EngineException.Quote(script.File.Name)}, and there are no snapshots of those: a snapshot would only name the file, which may be another, or not be vouched for, after a restart; "
                + "keep its state by GetStateDict or SaveStateFile");
        }
    }

    /// <summary>Copies a module. To be called in its turn; forwards that share it may run.</summary>
    /// <param name="state">The module.</param>
    /// <param name="ledger">Charged before anything is copied.</param>
    /// <exception cref="EngineException">The copy does not fit the memory budget, or there can be no snapshot of the module.</exception>
    public static ModuleImage Of(ModuleState state, MemoryLedger ledger)
    {
        CheckDurable(state.Tree);
        using var scope = NewDisposeScope();
        using var quiet = no_grad();
        var (nodes, parameters) = (ModuleTree.Walk(state.Tree.Root).ToList(), ModuleTree.NamedParameters(state.Tree.Root));
        var optimizers = state.Optimizers.Remember();
        var hooks = state.Hooks.Lasting;
        var complex = new List<string>();

        // A sparse gradient may be far smaller than the dense one that is made of it.
        using var dense = new MemoryCharge(ledger, MemoryUse.State, What, state.Name,
            parameters.Sum(named => named.Parameter.grad is { is_sparse: true } ? named.Parameter.numel() * named.Parameter.ElementSize : 0));
        List<(string, Tensor)> weights =
        [
            .. parameters.Select(named => (named.Name, (Tensor)named.Parameter)),
            .. nodes.SelectMany(at => at.Node.Buffers.Where(buffer => buffer.Persistent).Select(buffer => (ModuleTree.Join(at.Path, buffer.Name), buffer.Tensor))),
            .. nodes.Where(at => at.Node.ExtraState is not null).Select(at => (ModuleTree.Join(at.Path, ModuleTree.ExtraStateKey), at.Node.ExtraState!)),
        ];
        List<(string, Tensor)> training =
        [
            (ImageKeys.Random, state.Random.Snapshot()),
            .. nodes.SelectMany(at => at.Node.Buffers.Where(buffer => !buffer.Persistent).Select(buffer => (ImageKeys.Buffer(ModuleTree.Join(at.Path, buffer.Name)), buffer.Tensor))),
            .. parameters.Select(named => (ImageKeys.Gradient(named.Name), named.Parameter.grad)).Where(entry => entry.grad is not null)
                .Select(entry => (entry.Item1, entry.grad!.is_sparse ? entry.grad.to_dense() : entry.grad)),
            .. optimizers.SelectMany(optimizer => optimizer.Tensors.Select(entry => (ImageKeys.Optimizer(optimizer.Memory.Name, entry.Key), entry.Value))),
            .. hooks.SelectMany(hook => hook.Spec.Actions.Select((_, i) => (Key: ImageKeys.Operand(hook.Id, i), Tensor: hook.OperandTensor(i)))).Where(entry => entry.Tensor is not null)
                .Select(entry => (entry.Key, entry.Tensor!)),
            .. state.Hooks.Slots.List().Select(slot => (ImageKeys.Slot(slot.Name), state.Hooks.Slots.Read(slot.Name)!)),
        ];
        var facts = new ModuleFacts
        {
            Created = state.Created,
            Generation = state.Generation,
            FloatType = state.Tree.Root.Origin.FloatType,
            Spec = state.Tree.Spec,
            Eval = [.. nodes.Where(at => !at.Node.Mode).Select(at => at.Path)],
            NoGrad = [.. parameters.Where(named => !named.Parameter.requires_grad).Select(named => named.Name)],
            TrainPolicy = new TrainPolicy(state.Tree.Policy.NormEval, state.Tree.Policy.Frozen) { Rules = state.Tree.Policy.Rules },
            MemoryFormats = weights.Concat(training).Select(entry => (entry.Item1, Format: MemoryFormats.Of(entry.Item2)))
                .Where(entry => entry.Format is MemoryFormat.ChannelsLast or MemoryFormat.ChannelsLast3d).ToDictionary(entry => entry.Item1, entry => entry.Format),
            Optimizers = [.. optimizers.Select(optimizer => optimizer.Memory)],
            Hooks = [.. hooks.Select(hook => hook.Remember(state.Tree))],
            Complex128 = complex,
            Policy = state.SnapshotPolicy,
            Steps = state.Steps,
        };
        var copied = StateSnapshot.Copy([.. weights.Select(Writable)], ledger, What, state.Name, state.Generation);
        try
        {
            return new ModuleImage(facts, copied, StateSnapshot.Copy([.. training.Select(Writable)], ledger, What, state.Name, state.Generation), state.Calls.ToArray());
        }
        catch
        {
            copied.Dispose();
            throw;
        }

        (string Key, Tensor Tensor) Writable((string Key, Tensor Tensor) entry)
        {
            if (entry.Tensor.dtype != ScalarType.ComplexFloat64)
            {
                return entry;
            }

            complex.Add(entry.Key);
            return (entry.Key, entry.Tensor.detach().view_as_real());
        }
    }

    /// <summary>Frees the copies.</summary>
    public void Dispose()
    {
        Weights.Dispose();
        Training.Dispose();
    }
}

/// <summary>Names of tensors that are not of the state dict. Each begins with a dot, as no key of a state dict can.</summary>
internal static class ImageKeys
{
    /// <summary>The state of the random generator.</summary>
    public const string Random = ".random";

    /// <summary>A buffer that is not persistent.</summary>
    public static string Buffer(string key) => $".buffer/{key}";

    /// <summary>The gradient of a parameter.</summary>
    public static string Gradient(string parameter) => $".grad/{parameter}";

    /// <summary>A tensor of an optimizer's state.</summary>
    public static string Optimizer(string name, string key) => $".optimizer/{name}/{key}";

    /// <summary>The operand of a hook's action.</summary>
    public static string Operand(string hook, int action) => $".hook/{hook}/{action}";

    /// <summary>A slot that a hook has filled.</summary>
    public static string Slot(string name) => $".slot/{name}";
}
