using Sconce.Engine.Modules;
using Sconce.Engine.Training;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Execution;

/// <summary>The optimizers of one module, by name, each with what the ledger holds for its state. Only lanes touch it.</summary>
internal sealed class OptimizerTable(string module, ModuleTree tree, MemoryLedger ledger) : IDisposable
{
    private const string Default = "default";

    private readonly SortedDictionary<string, (HostedOptimizer Optimizer, MemoryCharge Charge)> _optimizers = new(StringComparer.Ordinal);

    public IReadOnlyList<string> Names => [.. _optimizers.Keys];

    public HostedOptimizer Find(string name, string field = "optimizer") => Entry(name, field).Optimizer;

    public HostedOptimizer Create(string name, string type, IReadOnlyDictionary<string, object?> args, IReadOnlyList<ParamGroupSpec> groups)
    {
        name = name.Length == 0 ? Default : name;
        Ids.Check(name, "optimizer");
        if (_optimizers.ContainsKey(name))
        {
            throw EngineException.AlreadyExists("optimizer", name);
        }

        var optimizer = HostedOptimizer.Create(name, type, args, groups, tree);
        try
        {
            // All of it now, though most types fill their state at the first step: a step must not fail for want of it.
            _optimizers.Add(name, (optimizer, new MemoryCharge(ledger, MemoryUse.Optimizers, "the optimizer state of module", module, optimizer.StateBytes)));
            return optimizer;
        }
        catch
        {
            optimizer.Dispose();
            throw;
        }
    }

    /// <summary>All that makes other optimizers go on where these stand; the tensors are theirs.</summary>
    public IReadOnlyList<RememberedOptimizer> Remember()
    {
        var names = new Dictionary<Parameter, string>(ReferenceEqualityComparer.Instance);
        foreach (var (name, parameter) in ModuleTree.NamedParameters(tree.Root))
        {
            names[parameter] = name;
        }

        return [.. _optimizers.Values.Select(entry => entry.Optimizer.Remember(names))];
    }

    /// <summary>Takes up an optimizer of a snapshot.</summary>
    public void Restore(OptimizerMemory memory, IReadOnlyList<(string Key, Tensor Value)> tensors)
    {
        var charge = new MemoryCharge(ledger, MemoryUse.Optimizers, "the optimizer state of module", module, tensors.Sum(entry => entry.Value.numel() * entry.Value.ElementSize));
        HostedOptimizer? optimizer = null;
        try
        {
            optimizer = HostedOptimizer.Restore(memory, tensors, tree);

            // What the first steps will make too.
            charge.Resize(optimizer.StateBytes);
            _optimizers.Add(optimizer.Name, (optimizer, charge));
        }
        catch
        {
            optimizer?.Dispose();
            charge.Dispose();
            throw;
        }
    }

    public void Delete(string name)
    {
        var (optimizer, charge) = Entry(name);
        _optimizers.Remove(optimizer.Name);
        optimizer.Dispose();
        charge.Dispose();
    }

    /// <summary>Corrects an optimizer's charge after its groups or its state have changed.</summary>
    public void Settle(HostedOptimizer optimizer) => _optimizers[optimizer.Name].Charge.Settle(optimizer.StateBytes);

    /// <summary>The name of an optimizer that holds a parameter; null for none.</summary>
    public string? HolderOf(Parameter parameter) => _optimizers.Values.FirstOrDefault(entry => entry.Optimizer.Holds(parameter)).Optimizer?.Name;

    /// <summary>Bytes that <see cref="PrepareToConvert"/> takes.</summary>
    public long BytesToConvert(Func<Parameter, ScalarType> typeOf) => _optimizers.Values.Sum(entry => entry.Optimizer.BytesToConvert(typeOf));

    /// <summary>Before a conversion of the module: makes all state in the dtypes that its parameters are to have, and returns what puts it in place.</summary>
    public Action PrepareToConvert(Func<Parameter, ScalarType> typeOf)
    {
        List<Action> follow = [.. _optimizers.Values.Select(entry => entry.Optimizer.PrepareToConvert(typeOf))];
        return () =>
        {
            follow.ForEach(action => action());
            foreach (var (optimizer, charge) in _optimizers.Values)
            {
                charge.Settle(optimizer.StateBytes);
            }
        };
    }

    public void Dispose()
    {
        foreach (var (optimizer, charge) in _optimizers.Values)
        {
            optimizer.Dispose();
            charge.Dispose();
        }

        _optimizers.Clear();
    }

    private (HostedOptimizer Optimizer, MemoryCharge Charge) Entry(string name, string field = "optimizer")
    {
        name = name.Length == 0 ? Default : name;
        if (_optimizers.TryGetValue(name, out var entry))
        {
            return entry;
        }

        Ids.Check(name, field);
        throw EngineException.NotFound("optimizer", name,
            _optimizers.Count == 0
                ? $"module {EngineException.Quote(module)} has none; CreateOptimizer makes one"
                : $"module {EngineException.Quote(module)} has {string.Join(", ", _optimizers.Keys.Select(EngineException.Quote))}");
    }
}
