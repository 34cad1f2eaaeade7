using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Hooks;

/// <summary>What the hooks of one call read, and where they deliver.</summary>
/// <param name="Module">The module's name.</param>
/// <param name="Tree">Its tree.</param>
/// <param name="Host">Memory and kept tensors.</param>
/// <param name="Table">The module's registered hooks, its slots and watchers; null in a trial.</param>
/// <param name="Others">Other modules that the call holds; null under a name that the host lacks.</param>
internal sealed record HookServices(string Module, ModuleTree Tree, HostServices Host, HookTable? Table, IReadOnlyDictionary<string, ModuleState?> Others)
{
    /// <summary>Whether hooks are only tried: nothing is delivered.</summary>
    public bool IsTrial => Table is null;

    /// <summary>Whether anybody will see what a hook observes; else it need not look.</summary>
    public bool IsWanted(Hook hook, HookDestination to) =>
        IsTrial || to.Response || to.Keep.Length > 0 || to.Slot.Length > 0 || (to.IsDefault && hook.IsInline) || Table!.IsWatched(hook.Id);

    /// <summary>A parameter or buffer by its state-dict key.</summary>
    public Tensor State(string key)
    {
        var dot = key.LastIndexOf('.');
        var node = ModuleTree.Find(Tree.Root, dot < 0 ? "" : key[..dot]);
        var name = key[(dot + 1)..];
        if (node?.IsUninitialized(name) == true)
        {
            throw LazyNode.NotYet([key]);
        }

        return node?.Parameters.Where(parameter => parameter.Name == name).Select(parameter => parameter.Parameter).FirstOrDefault()
            ?? node?.Buffers.Where(buffer => buffer.Name == name).Select(buffer => buffer.Tensor).FirstOrDefault()
            ?? throw EngineException.NotFound("parameter or buffer", key, "keys are those of the state dict");
    }

    /// <summary>The content of a slot; null where it is empty.</summary>
    public Tensor? ReadSlot(string slot) => Table?.Slots.Read(slot);

    /// <summary>Calls another module, or another part of this one, without its hooks and without recording.</summary>
    public Tensor CallModule(HookModuleRef other, Tensor value)
    {
        if (IsTrial)
        {
            // A trial holds no other module.
            return value;
        }

        using var quiet = no_grad();
        var state = other.Module == Module ? null : Others.GetValueOrDefault(other.Module) ?? throw EngineHost.ModuleNotFound(other.Module);
        var node = (state?.Tree ?? Tree).Find(other.Path);
        state?.MoveBuffers();
        TensorTree Call() => node.Call(new CallArguments(TensorTree.Of(value.detach())), new CallContext(other.Path));
        var output = state is null ? Call() : state.Shaping(() => state.Draw(Call));
        return output.Tensor ?? throw EngineException.Invalid("module", $"{EngineException.Quote(other.Module)} returns {(output.IsNone ? "None" : "a tuple")}; a hook needs one tensor");
    }

    /// <summary>Delivers what a hook observed.</summary>
    /// <param name="run">The call.</param>
    /// <param name="visit">The visit.</param>
    /// <param name="action">Index of the action.</param>
    /// <param name="to">Where it goes.</param>
    /// <param name="observed">Tensors in the lane's dispose scope; a capture has one, without a statistic.</param>
    public void Deliver(HookRun run, in HookVisit visit, int action, HookDestination to, IReadOnlyList<(HookStatistic Statistic, Tensor Value, Tensor? Indexes)> observed)
    {
        if (IsTrial)
        {
            return;
        }

        var hook = visit.Hook;
        if (to.Slot.Length > 0)
        {
            Table!.Slots.Fill(to.Slot, observed[0].Value);
        }

        if (to.Keep.Length > 0)
        {
            Host.Tensors.Replace(to.Keep, observed[0].Value, to.Ttl, hook.Spec.Session);
        }

        if (to.Response || (to.IsDefault && hook.IsInline))
        {
            run.MakeRoom(TensorTree.Tuple([.. observed.SelectMany(one => new[] { TensorTree.Of(one.Value), TensorTree.Of(one.Indexes) })]), HookRun.Words(hook.Id, visit.Path, visit.Name));
            run.Respond(Capture(visit, action, observed));
        }

        if ((to.Watch || to.IsDefault) && !hook.IsInline)
        {
            var seen = visit;
            Table!.Publish(hook.Id, () => Capture(seen, action, observed));
        }
    }

    private HookCapture Capture(in HookVisit visit, int action, IReadOnlyList<(HookStatistic Statistic, Tensor Value, Tensor? Indexes)> observed)
    {
        var bytes = observed.Sum(one => TensorSize.Of(one.Value) + (one.Indexes is null ? 0 : TensorSize.Of(one.Indexes)));
        var charge = new MemoryCharge(Host.Ledger, MemoryUse.Hooks, "a capture of hook", visit.Hook.Id, bytes);
        try
        {
            return observed is [(HookStatistic.None, var tensor, _)]
                ? new HookCapture(visit, action, TensorExport.Take(tensor.alias()), [], charge)
                : new HookCapture(visit, action, null, [.. observed.Select(one =>
                    new StatisticValue(one.Statistic, TensorExport.Take(one.Value.alias()), one.Indexes is null ? null : TensorExport.Take(one.Indexes.alias())))], charge);
        }
        catch
        {
            charge.Dispose();
            throw;
        }
    }
}
