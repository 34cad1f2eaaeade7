using System.Diagnostics;
using Sconce.Engine.Hooks;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Execution;

/// <summary>One forward: the hot path, so a class of its own instead of closures.</summary>
internal sealed class ForwardWork(ModuleState state, HostServices host, ForwardCall call, CallTensors tensors, CallHooks? hooks) : LaneWork<ForwardOutcome>
{
    private bool _hooksKept;

    /// <summary>How the call must hold the module. In eval mode nothing of the module changes, so others may run beside it. In training mode statistics and random
    /// streams move; a lazy module gets its shape; hooks that use slots need them for themselves.</summary>
    public GateMode ModuleMode =>
        call.RecordGraph || state.AnyTraining || state.AnyShapeless || state.Traits.AlwaysDraws || state.Hooks.Plan.UsesSlots || hooks is { UsesSlots: true } ? GateMode.Exclusive : GateMode.Shared;

    /// <summary>Other modules that hooks of the call run, where their gates and this one's are held already.</summary>
    public HeldModules? HeldModules { get; set; }

    internal override GateMode Mode => HeldModules is null ? ModuleMode : GateMode.Shared;

    /// <summary>Whether it may run on the caller's thread. That the module is in eval mode is the gate's to see. TorchScript needs a lane's stack: libtorch recurses along the code, and may run on.</summary>
    internal bool IsShort => IsUsual && !state.Traits.AlwaysDraws && state.Tree.Script is null && state.ShortForwards.Holds(tensors.Bytes);

    /// <summary>The forward that the times are kept of: of the whole module, with inputs whose bytes came with the call.</summary>
    private bool IsUsual => call.Path.Length == 0 && call.Method.Length == 0 && !call.RecordGraph && !tensors.UsesKept && HeldModules is null;

    protected override ForwardOutcome Execute()
    {
        var started = Stopwatch.GetTimestamp();
        var outcome = ExecuteNow();
        if (IsUsual && Held == GateMode.Shared)
        {
            state.ShortForwards.Ran(tensors.Bytes, Stopwatch.GetElapsedTime(started));
        }

        return outcome;
    }

    private ForwardOutcome ExecuteNow()
    {
        state.Begin(call.IfGeneration);
        var node = state.Tree.Find(call.Path);
        if (call.RejectNonFinite)
        {
            tensors.CheckFinite(call.Inputs);
        }

        var run = CallHooks.Plan(state, host, hooks, HeldModules?.States ?? HeldModules.None);
        return HeldModules is null ? Restoring(node, run) : HoldingOthers(HeldModules, node, run);
    }

    // A closure is made where a method begins that has one: each has its own, so that a call without hooks, statistics and random numbers makes none.
    private ForwardOutcome HoldingOthers(HeldModules held, ModuleNode node, HookRun? run) => held.OrRestored(() => Restoring(node, run));

    private ForwardOutcome Restoring(ModuleNode node, HookRun? run) => state.MovingBuffers.Count > 0 ? RestoringBuffers(node, run) : Drawing(node, run);

    private ForwardOutcome RestoringBuffers(ModuleNode node, HookRun? run) => state.OrRestored(() => Drawing(node, run));

    private ForwardOutcome Drawing(ModuleNode node, HookRun? run) => run is not null ? WithHooks(node, run) : state.MayDraw ? DrawingAlone(node) : Forward(node, null);

    private ForwardOutcome DrawingAlone(ModuleNode node) => state.Draw(() => Forward(node, null));

    protected override void Release()
    {
        tensors.Dispose();
        if (!_hooksKept)
        {
            hooks?.Dispose();
        }
    }

    private ForwardOutcome WithHooks(ModuleNode node, HookRun run)
    {
        try
        {
            return state.Draw(() => Forward(node, run));
        }
        catch (HookStopException)
        {
            return new ForwardOutcome(OutputValue.Export(TensorTree.None, host.Options.MaxAnswerBytes), null, state.Generation, run.TakeReport());
        }
        catch
        {
            run.TakeReport().Dispose();
            throw;
        }
        finally
        {
            if (Held == GateMode.Exclusive || HeldModules is not null)
            {
                state.Hooks.TrimSlots();
            }
        }
    }

    private ForwardOutcome Forward(ModuleNode node, HookRun? run)
    {
        if (call.RecordGraph)
        {
            return Record(node, run);
        }

        using (no_grad())
        using (var memory = state.NewCallMemory(MemoryUse.Outputs, recording: false))
        {
            var output = Call(node, tensors.Arguments(call.Inputs), new CallContext(call.Path) { Memory = memory, Hooks = run });
            run?.MakeRoom(output);
            var exported = OutputValue.Export(output, host.Options.MaxAnswerBytes);
            exported.Charge = memory.Keep(output);
            return new ForwardOutcome(exported, null, state.Generation, run?.TakeReport() ?? HookReport.Empty);
        }
    }

    private TensorTree Call(ModuleNode node, CallArguments arguments, CallContext context) =>
        call.Method.Length > 0 ? ModuleMethods.Call(node, call.Method, arguments, context) : state.AnyShapeless ? Shaping(node, arguments, context) : node.Call(arguments, context);

    private TensorTree Shaping(ModuleNode node, CallArguments arguments, CallContext context) => state.Shaping(() => node.Call(arguments, context));

    private ForwardOutcome Record(ModuleNode node, HookRun? run)
    {
        var ttl = TimeToLive.Check(call.GraphTtl, host.Options.GraphTtl, host.Options, call.Inputs.FieldPrefix + "graph_ttl");
        var owner = host.Sessions.Find(call.Session, call.Inputs.FieldPrefix + "session");
        state.Graphs.CheckRoom();
        using var memory = state.NewCallMemory(MemoryUse.Graphs, recording: true);
        var context = new CallContext(call.Path) { CountBytes = true, Memory = memory, Hooks = run };
        var output = Call(node, call.InputGrads ? RequireGrads() : tensors.Arguments(call.Inputs), context);
        run?.MakeRoom(output);
        var exported = OutputValue.Export(output, host.Options.MaxAnswerBytes);
        MemoryCharge? charge = null;
        try
        {
            // From here on it is the graph's.
            memory.Dispose();
            var bytes = TensorSize.Sum(context.LeafOutputBytes, tensors.Bytes);
            charge = new MemoryCharge(host.Ledger, MemoryUse.Graphs, "a live graph of module", state.Name, bytes);
            var info = new GraphInfo(Ids.New("g"), host.Time.GetUtcNow() + ttl, bytes);
            var graph = new LiveGraph(state.Graphs, info, state.Generation,
                [.. output.Flatten().Select(tensor => tensor.DetachFromDisposeScope())],
                [.. tensors.Positional.Select(value => value.Tensor)],
                [.. tensors.Named.Select(value => KeyValuePair.Create(value.Key, value.Value.Tensor))],
                state.MovingBuffers, run is null ? null : (run, hooks), charge, owner);
            state.Graphs.Add(graph);
            tensors.Disown();
            _hooksKept = true;
            return new ForwardOutcome(exported, info, state.Generation, run?.TakeReport() ?? HookReport.Empty);
        }
        catch
        {
            // The dispose scope no longer has them.
            foreach (var tensor in output.Flatten())
            {
                tensor.Dispose();
            }

            exported.Dispose();
            charge?.Dispose();
            throw;
        }
    }

    /// <summary>Makes the inputs leaves of the graph that get gradients.</summary>
    private CallArguments RequireGrads()
    {
        foreach (var value in tensors.Positional.Concat(tensors.Named.Values))
        {
            if (value.Tensor is { } tensor && (tensor.is_floating_point() || tensor.is_complex()))
            {
                tensor.requires_grad_(true);
            }
        }

        return tensors.Arguments(call.Inputs);
    }
}
