using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using Sconce.Engine.Training;
using Sconce.Engine.Weights;
using static TorchSharp.torch;

namespace Sconce.Engine.Snapshots;

/// <summary>Makes a module of what a snapshot holds. Everything runs on a lane; where it fails, nothing is left.</summary>
/// <param name="facts">All but the tensors.</param>
/// <param name="weights">The state dict.</param>
/// <param name="training">The other tensors.</param>
/// <param name="calls">The calls with an id whose effects are in it.</param>
internal sealed class ImageReader(ModuleFacts facts, IStateFile weights, IStateFile training, IReadOnlyList<RememberedCall>? calls = null)
{
    private readonly HashSet<string> _complex = new(facts.Complex128, StringComparer.Ordinal);
    private readonly Dictionary<string, (IStateFile File, int Index)> _entries =
        Entries(weights).Concat(Entries(training)).ToDictionary(entry => entry.Key, entry => (entry.File, entry.Index), StringComparer.Ordinal);

    /// <summary>The calls with an id whose effects are in it.</summary>
    public IReadOnlyList<RememberedCall> Calls => calls ?? [];

    /// <summary>Builds the tree with its values, modes and policy.</summary>
    /// <param name="host">What builds it.</param>
    /// <param name="random">Goes on from where the module's stream was.</param>
    /// <param name="charge">Grows to what the module takes.</param>
    public ModuleTree Tree(HostServices host, RandomStream random, MemoryCharge charge)
    {
        using var scope = NewDisposeScope();
        using var normal = inference_mode(false);
        random.Restore(Read(ImageKeys.Random));

        // Nothing is drawn, but by plug-ins' constructors, whose values are replaced.
        var tree = host.Build(facts.Spec, facts.FloatType, charge, RandomStream.RunUndisturbed, initialise: false);
        try
        {
            new LazyLoading(tree.Root, weights.Entries).Materialize();
            Fill(tree, charge);
            tree.Policy.Restore(facts.TrainPolicy.NormEval, facts.TrainPolicy.Frozen, facts.TrainPolicy.Rules);
            var (eval, noGrad) = (facts.Eval.ToHashSet(StringComparer.Ordinal), facts.NoGrad.ToHashSet(StringComparer.Ordinal));
            foreach (var (path, node) in ModuleTree.Walk(tree.Root))
            {
                node.RestoreMode(!eval.Contains(path));
            }

            foreach (var (name, parameter) in ModuleTree.NamedParameters(tree.Root))
            {
                parameter.requires_grad_(!noGrad.Contains(name));
            }

            return tree;
        }
        catch
        {
            tree.Dispose();
            throw;
        }
    }

    /// <summary>Puts back gradients, optimizers and hooks.</summary>
    /// <param name="state">The module, made of <see cref="Tree"/>.</param>
    public void Complete(ModuleState state)
    {
        using var scope = NewDisposeScope();
        using var normal = inference_mode(false);
        var gradients = ImageKeys.Gradient("");
        state.ReserveGradients(training.Entries.Where(entry => entry.Key.StartsWith(gradients, StringComparison.Ordinal)).Sum(Bytes));
        foreach (var (name, parameter) in ModuleTree.NamedParameters(state.Tree.Root))
        {
            if (Has(ImageKeys.Gradient(name)))
            {
                parameter.grad = Read(ImageKeys.Gradient(name)).DetachFromDisposeScope();
            }
        }

        state.SettleGradients();
        foreach (var memory in facts.Optimizers)
        {
            var prefix = ImageKeys.Optimizer(memory.Name, "");
            using var inner = NewDisposeScope();
            state.Optimizers.Restore(memory, [.. training.Entries.Where(entry => entry.Key.StartsWith(prefix, StringComparison.Ordinal)).Select(entry => (entry.Key[prefix.Length..], Read(entry.Key)))]);
        }

        state.Hooks.Restore([.. facts.Hooks.Select(hook => (hook, hook.Spec.Actions
            .Select((_, i) => Has(ImageKeys.Operand(hook.Spec.Id, i)) ? Read(ImageKeys.Operand(hook.Spec.Id, i)).DetachFromDisposeScope() : null).ToArray()))]);
        var slots = ImageKeys.Slot("");
        foreach (var key in training.Entries.Select(entry => entry.Key).Where(key => key.StartsWith(slots, StringComparison.Ordinal)))
        {
            state.Hooks.Slots.Fill(key[slots.Length..], Read(key));
        }

        state.Hooks.TrimSlots();
        state.Restored(facts);
    }

    private void Fill(ModuleTree tree, MemoryCharge charge)
    {
        var targets = new List<(string Key, Tensor Target)>();
        foreach (var (name, parameter) in ModuleTree.NamedParameters(tree.Root))
        {
            // Off first: a target that requires grad could not take integers.
            parameter.requires_grad_(false);
            targets.Add((name, parameter));
        }

        var nodes = ModuleTree.Walk(tree.Root).ToList();
        targets.AddRange(nodes.SelectMany(at => at.Node.Buffers.Select(buffer => (Key(ModuleTree.Join(at.Path, buffer.Name), buffer.Persistent), buffer.Tensor))));
        targets.AddRange(nodes.Where(at => at.Node.ExtraState is not null).Select(at => (ModuleTree.Join(at.Path, ModuleTree.ExtraStateKey), at.Node.ExtraState!)));
        var known = targets.Select(target => target.Key).ToHashSet(StringComparer.Ordinal);
        var missing = targets.Select(target => target.Key).Where(key => !Has(key)).ToList();
        var unexpected = weights.Entries.Select(entry => entry.Key).Where(key => !known.Contains(key)).ToList();
        if (missing.Count + unexpected.Count > 0)
        {
            throw Mismatch($"it {(missing.Count > 0 ? "lacks" : "has")} {string.Join(", ", (missing.Count > 0 ? missing : unexpected).Take(5).Select(EngineException.Quote))}{(missing.Count > 0 ? "" : " beside what the module has")}");
        }

        // What was converted since the module was made may be larger than what its spec makes.
        charge.Resize(Math.Max(charge.Bytes, weights.Entries.Concat(training.Entries).Where(entry => known.Contains(entry.Key)).Sum(Bytes)));
        foreach (var (key, target) in targets)
        {
            using var value = Read(key);
            var isExtra = key == ModuleTree.ExtraStateKey || key.EndsWith($".{ModuleTree.ExtraStateKey}", StringComparison.Ordinal);
            if (!isExtra && !value.shape.AsSpan().SequenceEqual(target.shape))
            {
                throw Mismatch($"{EngineException.Quote(key)} has shape [{string.Join(", ", value.shape)}], and the module's is [{string.Join(", ", target.shape)}]");
            }

            NativeSetData.SetData(target, value);
        }

        static string Key(string key, bool persistent) => persistent ? key : ImageKeys.Buffer(key);
    }

    private static long Bytes(StateEntryInfo entry) => TensorSize.Product([.. entry.Shape, entry.Type.Size()]);

    private bool Has(string key) => _entries.ContainsKey(key);

    private Tensor Read(string key)
    {
        if (!_entries.TryGetValue(key, out var entry))
        {
            throw Mismatch($"it lacks {EngineException.Quote(key)}");
        }

        var value = entry.File.Read(entry.Index);
        if (_complex.Contains(key))
        {
            value = value.view_as_complex();
        }

        return facts.MemoryFormats.TryGetValue(key, out var format) ? MemoryFormats.Apply(format, value) : value;
    }

    // The bytes are those that were written: what differs is what builds the module, so nothing is to be said of damage.
    private static EngineException Mismatch(string how) => EngineException.Precondition("SNAPSHOT_MISMATCH",
        $"the snapshot does not fit the module that its spec builds here: {how}; a plug-in may have changed since, or the server: restore it with those that wrote it");

    private static IEnumerable<(string Key, IStateFile File, int Index)> Entries(IStateFile file) => file.Entries.Select((entry, i) => (entry.Key, file, i));
}
