using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Hooks;

/// <summary>
/// A hook that was accepted: its spec, its operands' tensors, and what it has counted. May be used from several calls at once.
/// </summary>
internal sealed class Hook : ISessionOwned, IDisposable
{
    // By identity, and weak: a submodule that is replaced goes with its count.
    private readonly ConditionalWeakTable<ModuleNode, VisitCounter> _visits = [];
    private readonly Tensor?[] _operands;
    private readonly long[] _seeds;
    private readonly MemoryCharge? _charge;
    private readonly HookTable? _table;
    private readonly Session? _owner;
    private ulong _fires;
    private volatile HookFailure? _failure;
    private volatile bool _removed;

    /// <summary>Accepts a checked spec: takes its operands' tensors.</summary>
    /// <param name="spec">The spec, with its id.</param>
    /// <param name="field">Where it stands in the request.</param>
    /// <param name="host">Where kept tensors are and memory is charged.</param>
    /// <param name="table">The table that it is registered in; null for a hook of one call.</param>
    /// <param name="owner">The session that owns it.</param>
    /// <param name="mayShare">Whether operands may use the request's memory.</param>
    public Hook(HookSpec spec, string field, HostServices host, HookTable? table, Session? owner, bool mayShare)
    {
        (Spec, Field, _table, _owner) = (spec, field, table, owner);
        Registered = host.Time.GetUtcNow();
        _operands = new Tensor?[spec.Actions.Count];
        _seeds = [.. spec.Actions.Select(action => (action as AddNoiseAction)?.Seed ?? BitConverter.ToInt64(RandomNumberGenerator.GetBytes(8)))];
        try
        {
            _charge = new MemoryCharge(host.Ledger, MemoryUse.Hooks, "hook", spec.Id, spec.HeldBytes + spec.Actions.Sum(action => (long)(action.Operand?.Tensor?.Payload.Data.Length ?? 0)));
            for (var i = 0; i < _operands.Length; i++)
            {
                if (spec.Actions[i] is { Operand.Tensor: { } input } action)
                {
                    _operands[i] = Import(input, host, new FieldPath($"{field}.actions[{i}].{action.Name}.{action.OperandField}.", "tensor"), mayShare);
                }
            }

            _charge.Settle(spec.HeldBytes + OperandBytes);
            Spec = WithoutData(spec);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The same hook for a copy of its module: its own operands and counts.</summary>
    /// <param name="other">The other one.</param>
    /// <param name="host">Where memory is charged.</param>
    /// <param name="table">The table that it is registered in.</param>
    public Hook(Hook other, HostServices host, HookTable table)
    {
        (Spec, Field, _table, _seeds, Registered) = (other.Spec, other.Field, table, other._seeds, host.Time.GetUtcNow());
        _charge = new MemoryCharge(host.Ledger, MemoryUse.Hooks, "hook", Id, Spec.HeldBytes + other.OperandBytes);
        _operands = [.. other._operands.Select(operand => operand?.clone().DetachFromDisposeScope())];
    }

    /// <summary>A hook that goes on where another stood.</summary>
    /// <param name="memory">What the other remembered.</param>
    /// <param name="operands">Tensors of its actions' operands, null where there is none; they change owner.</param>
    /// <param name="tree">The module.</param>
    /// <param name="host">Where memory is charged.</param>
    /// <param name="table">The table that it is registered in.</param>
    public Hook(HookMemory memory, Tensor?[] operands, ModuleTree tree, HostServices host, HookTable table)
    {
        (Spec, Field, _table, _operands, _seeds, Registered) = (memory.Spec, memory.Field, table, operands, [.. memory.Seeds], memory.Registered);
        (_fires, _failure) = (memory.Fires, memory.Failure);
        foreach (var (path, visits) in memory.Visits)
        {
            if (ModuleTree.Find(tree.Root, path) is { } node)
            {
                _visits.Add(node, new VisitCounter(visits));
            }
        }

        _charge = new MemoryCharge(host.Ledger, MemoryUse.Hooks, "hook", Id, Spec.HeldBytes + OperandBytes);
    }

    /// <summary>All that makes another go on where this one stands, but for its operands' tensors.</summary>
    /// <param name="tree">The module.</param>
    public HookMemory Remember(ModuleTree tree)
    {
        var visits = new Dictionary<string, ulong>(StringComparer.Ordinal);
        foreach (var (path, node) in ModuleTree.Walk(tree.Root))
        {
            if (_visits.TryGetValue(node, out var counter))
            {
                visits[path] = counter.Count;
            }
        }

        return new HookMemory(Spec, Field, Registered, _seeds, Interlocked.Read(ref _fires), visits, _failure);
    }

    /// <summary>A second hook that acts like another and shares its operands, for a trial. It must not be disposed.</summary>
    /// <param name="other">The other one.</param>
    public Hook(Hook other) =>
        (Spec, Field, Registered, _operands, _seeds) = (other.Spec with { When = HookWhen.Always }, other.Field, other.Registered, other._operands, other._seeds);

    public HookSpec Spec { get; }

    public string Id => Spec.Id;

    /// <summary>Where it stood in its request, e.g. <c>hooks[0]</c>.</summary>
    public string Field { get; }

    public DateTimeOffset Registered { get; }

    /// <summary>Whether it goes with one call.</summary>
    public bool IsInline => _table is null;

    /// <summary>Whether it acts: it has not failed, was not removed, and has fires left.</summary>
    public bool IsLive => !_removed && _failure is null;

    public HookFailure? Failure => _failure;

    /// <summary>Times it has acted.</summary>
    public ulong Fires
    {
        get
        {
            var fires = Interlocked.Read(ref _fires);
            return Spec.When.MaxFires is { } most ? Math.Min(fires, most) : fires;
        }
    }

    /// <summary>Names of the other modules that it calls.</summary>
    public IEnumerable<string> Calls => Spec.Actions.Select(action => action.Calls?.Module).OfType<string>();

    /// <summary>Whether it reads or fills a slot: such calls have their module to themselves.</summary>
    public bool UsesSlots => Slots.Any();

    /// <summary>The slots that it names.</summary>
    public IEnumerable<string> Slots =>
        Spec.Actions.Select(action => action.Operand?.Slot).Concat(Spec.Actions.Select(action => action.To?.Slot)).Where(slot => !string.IsNullOrEmpty(slot))!;

    /// <summary>The tensor of an action's operand, where it came with the hook.</summary>
    public Tensor? OperandTensor(int action) => _operands[action];

    private long OperandBytes => _operands.Sum(operand => operand is null ? 0 : TensorSize.Of(operand));

    /// <summary>A seed for the noise of one visit: the same for the same visit, another for every other.</summary>
    public long NoiseSeed(int action, ulong call, int salt)
    {
        // SplitMix64 (Steele, Lea and Flood 2014), which makes well-spread seeds of near numbers.
        var z = unchecked((ulong)_seeds[action] + ((call + 1) * 0x9E3779B97F4A7C15UL) + ((ulong)salt * 0xD1B54A32D192ED03UL));
        z = unchecked((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9UL);
        z = unchecked((z ^ (z >> 27)) * 0x94D049BB133111EBUL);
        return unchecked((long)(z ^ (z >> 31)));
    }

    /// <summary>The counter of its visits to a submodule.</summary>
    public VisitCounter VisitsTo(ModuleNode node) => _visits.GetValue(node, static _ => new VisitCounter());

    /// <summary>Counts a visit and says whether the hook acts on it.</summary>
    public bool Visit(VisitCounter visits, bool training, out ulong call)
    {
        call = visits.Next();
        var when = Spec.When;
        if (!IsLive || (when.Training is { } mode && mode != training) || call < when.FirstCall || call >= (when.EndCall ?? ulong.MaxValue) || (call - when.FirstCall) % when.Every != 0)
        {
            return false;
        }

        // Past the limit the count goes on, which nobody sees.
        return Interlocked.Increment(ref _fires) <= (when.MaxFires ?? ulong.MaxValue);
    }

    /// <summary>Detaches it: it never acts again. False where it was detached before.</summary>
    public bool Detach(HookFailure failure)
    {
        lock (_visits)
        {
            if (_failure is not null)
            {
                return false;
            }

            _failure = failure;
            return true;
        }
    }

    /// <summary>It never acts again, nor in a backward of a graph that was recorded while it stood.</summary>
    public void Remove()
    {
        _removed = true;
        _owner?.Disown(this);
    }

    public void SessionEnded() => _table!.Drop(this);

    public void Dispose()
    {
        foreach (var operand in _operands)
        {
            operand?.Dispose();
        }

        _charge?.Dispose();
    }

    // What is kept of a hook is not the bytes of the request that brought it.
    private HookSpec WithoutData(HookSpec spec) => spec with
    {
        Actions = [.. spec.Actions.Select((action, i) => _operands[i] is { } tensor
            ? action.WithOperand(new HookOperand(Tensor: TensorInput.Of(new TensorPayload(tensor.dtype.ToElementType(), tensor.shape, default))))
            : action)],
    };

    private static Tensor Import(in TensorInput input, HostServices host, in FieldPath field, bool mayShare)
    {
        if (input.KeptId is not { } id)
        {
            return TensorImport.Import(input.Payload, field, mayShare).DetachFromDisposeScope();
        }

        var kept = host.Tensors.Use(id, input.Payload.Type, field);
        if (mayShare)
        {
            return kept.DetachFromDisposeScope();
        }

        using (kept)
        {
            return kept.clone().DetachFromDisposeScope();
        }
    }
}

/// <summary>All that makes another hook go on where one stood, but for its operands' tensors.</summary>
/// <param name="Spec">What was asked for; of operands' tensors the type and shape.</param>
/// <param name="Field">Where it stood in its request.</param>
/// <param name="Registered">When it was registered.</param>
/// <param name="Seeds">Seeds of its actions' noise.</param>
/// <param name="Fires">Times it has acted, those past its limit too.</param>
/// <param name="Visits">Visits by the first path of each submodule.</param>
/// <param name="Failure">Why it was detached; null where it was not.</param>
internal sealed record HookMemory(
    HookSpec Spec, string Field, DateTimeOffset Registered, IReadOnlyList<long> Seeds, ulong Fires, IReadOnlyDictionary<string, ulong> Visits, HookFailure? Failure);

/// <summary>Visits of one hook to one submodule.</summary>
/// <param name="first">Visits so far.</param>
internal sealed class VisitCounter(ulong first = 0)
{
    private ulong _next = first;

    /// <summary>Visits so far.</summary>
    public ulong Count => Interlocked.Read(ref _next);

    public ulong Next() => Interlocked.Increment(ref _next) - 1;
}

/// <summary>One visit of a hook.</summary>
/// <param name="Hook">The hook.</param>
/// <param name="Path">Path of the submodule, as it is called.</param>
/// <param name="TensorIndex">Which tensor of the site.</param>
/// <param name="Name">The parameter's name or the key; else empty.</param>
/// <param name="Call">The visit, counted from 0.</param>
internal readonly record struct HookVisit(Hook Hook, string Path, uint TensorIndex, string Name, ulong Call);
