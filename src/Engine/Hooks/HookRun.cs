using System.Runtime.CompilerServices;
using System.Text;
using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Hooks;

/// <summary>
/// The dispatcher: the hooks that one call meets, and what they have seen. Lives as long as the call, or as the live graph that the call recorded, whose
/// backward meets it again.
/// </summary>
/// <param name="plan">Which hooks stand where.</param>
/// <param name="services">What hooks read and where they deliver.</param>
internal sealed class HookRun(HookPlan plan, HookServices services)
{
    /// <summary>What is in an answer besides tensors and hooks' reports, and what a failure takes besides its words.</summary>
    private const int Besides = 256;

    private const int PerFailure = 32;

    private readonly Lock _lock = new();
    private List<HookCapture> _captures = [];
    private List<HookFailure> _detached = [];
    private string _stoppedBy = "";

    // Bytes of the answer so far; of one that several have a part in, the same box.
    private StrongBox<long> _room = new();
    private EngineException? _pending;

    /// <summary>Which hooks stand where.</summary>
    public HookPlan Plan => plan;

    /// <summary>The hooks at a submodule; null where there are none.</summary>
    public NodeHooks? At(ModuleNode node) => plan.At(node);

    /// <summary>Runs a submodule with its hooks around it.</summary>
    public TensorTree Around(ModuleNode node, NodeHooks hooks, IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        inputs = Before(hooks, inputs, context, out var skipped);
        return Behind(hooks, skipped ?? node.Run(inputs, context), context, skipped is not null);
    }

    /// <summary>What comes before a submodule runs. With <see cref="Behind"/> it is <see cref="Around"/> in two halves, for modules that foreign code calls.</summary>
    /// <param name="hooks">The hooks there.</param>
    /// <param name="inputs">What it is called with.</param>
    /// <param name="context">What goes with the call.</param>
    /// <param name="skipped">The output in the submodule's place where a hook leaves it out; else null.</param>
    /// <returns>What it is to be called with.</returns>
    public IReadOnlyList<TensorTree> Before(NodeHooks hooks, IReadOnlyList<TensorTree> inputs, CallContext context, out TensorTree? skipped)
    {
        TensorTree? output = null;
        foreach (var place in hooks.ForwardPre)
        {
            output ??= Visit(place, context, inputs, changed => inputs = changed);
        }

        skipped = output;
        return output is null && hooks.Backward.Length > 0 && is_grad_enabled() ? Wrap(hooks.Backward, inputs, context.Path) : inputs;
    }

    /// <summary>What comes after it has run, or was left out.</summary>
    public TensorTree Behind(NodeHooks hooks, TensorTree output, CallContext context, bool wasSkipped)
    {
        var result = After(hooks, output, context);
        return !wasSkipped && hooks.BackwardPre.Length > 0 && is_grad_enabled() ? Wrap(hooks.BackwardPre, [result], context.Path)[0] : result;
    }

    /// <summary>One hook on a gradient or an entry of a state dict; what fails is kept for <see cref="ThrowPending"/> or detaches it.</summary>
    /// <param name="place">The hook.</param>
    /// <param name="value">The tensor.</param>
    /// <param name="path">Path of the submodule.</param>
    /// <param name="index">Which tensor of the site.</param>
    /// <param name="name">The parameter's name or the key; else empty.</param>
    /// <returns>What the hook makes of it; the same object where it changes nothing.</returns>
    public Tensor Edit(HookPlace place, Tensor value, string path, uint index, string name)
    {
        try
        {
            return place.Hook.Visit(place.Visits, place.Node.Training, out var call)
                ? new HookVisitRun(this, services, new HookVisit(place.Hook, path, index, name, call)).Run(value)
                : value;
        }
        catch (EngineException exception)
        {
            // Of a hook of this call; registered ones do not throw.
            lock (_lock)
            {
                _pending ??= exception;
            }

            return value;
        }
    }

    /// <summary>Throws what a hook of the call met where nothing may be thrown.</summary>
    public void ThrowPending()
    {
        lock (_lock)
        {
            if (Interlocked.Exchange(ref _pending, null) is { } pending)
            {
                throw pending;
            }
        }
    }

    /// <summary>What the hooks have to say since the last report. Whoever takes it disposes it.</summary>
    public HookReport TakeReport()
    {
        lock (_lock)
        {
            if (_captures.Count == 0 && _detached.Count == 0 && _stoppedBy.Length == 0)
            {
                return HookReport.Empty;
            }

            var report = new HookReport(_captures, Fitting(_detached), _stoppedBy);
            (_captures, _detached, _stoppedBy) = ([], [], "");
            return report;
        }
    }

    /// <summary>Counts what will be in the answer, and refuses what would make that larger than a message may be. Before anything is committed, so that a step whose answer
    /// cannot be sent is not taken.</summary>
    /// <param name="value">Tensors.</param>
    /// <param name="words">Bytes of what is told with them.</param>
    public void MakeRoom(TensorTree value, long words = 0)
    {
        lock (_room)
        {
            var bytes = TensorSize.Sum(TensorSize.Sum(_room.Value, words), TensorSize.InMessage(value));
            TensorSize.CheckAnswer(bytes, services.Host.Options.MaxAnswerBytes);
            _room.Value = bytes;
        }
    }

    /// <summary>Begins an answer that both have a part in, which is to be no larger than a message may be.</summary>
    public static void BeginAnswer(HookRun? first, HookRun? second)
    {
        var room = new StrongBox<long>();
        first?._room = room;
        second?._room = room;
    }

    /// <summary>Bytes of texts in a message.</summary>
    public static long Words(params ReadOnlySpan<string> texts)
    {
        var sum = 0L;
        foreach (var text in texts)
        {
            sum += Encoding.UTF8.GetByteCount(text);
        }

        return sum;
    }

    /// <summary>Keeps a capture for the answer.</summary>
    public void Respond(HookCapture capture)
    {
        lock (_lock)
        {
            _captures.Add(capture);
        }
    }

    /// <summary>A hook failed: one of this call fails it, a registered one is detached.</summary>
    /// <param name="visit">The visit.</param>
    /// <param name="field">What failed, relative to the hook.</param>
    /// <param name="exception">Why.</param>
    public void Fail(in HookVisit visit, string field, EngineException exception)
    {
        if (visit.Hook.IsInline)
        {
            throw Named(visit, $"{visit.Hook.Field}.{field}", exception);
        }

        var failure = new HookFailure(visit.Hook.Id, visit.Path, $"{field}: {exception.Message}");
        if (visit.Hook.Detach(failure))
        {
            services.Table?.Detached(failure);
            lock (_lock)
            {
                _detached.Add(failure);
            }
        }
    }

    /// <summary>A hook ends the call.</summary>
    public void Stop(Hook hook)
    {
        lock (_lock)
        {
            _stoppedBy = hook.Id;
        }

        throw new HookStopException(hook.Id);
    }

    // They must not cost the answer: the step has been taken, and ListHooks has them too.
    private List<HookFailure> Fitting(List<HookFailure> failures)
    {
        var whole = services.Host.Options.MaxAnswerBytes - _room.Value;
        var room = whole - Besides;
        var fitting = failures.TakeWhile(failure => (room -= Words(failure.Hook, failure.Path, failure.Message) + PerFailure) >= 0).ToList();
        if (fitting.Count == failures.Count || whole < Besides)
        {
            return fitting;
        }

        fitting.Add(new HookFailure("", "", $"and {failures.Count - fitting.Count} more; ListHooks tells why each was detached"));
        return fitting;
    }

    // What fails inside a hook is the hook's fault; what is missing or full keeps its status. Either way the field says which hook it was.
    private static EngineException Named(in HookVisit visit, string field, EngineException cause)
    {
        var message = $"at {Place(visit)}: {cause.Message}";
        return cause.Error is EngineError.InvalidArgument or EngineError.Internal
            ? EngineException.Invalid(field, message, "HOOK_FAILED")
            : new EngineException(cause.Error, cause.Reason, $"{field}: {message}", cause)
            {
                Fields = [new FieldViolation(field, message)],
                Resource = cause.Resource,
                Quota = cause.Quota,
                RetryAfter = cause.RetryAfter,
            };
    }

    private static string Place(in HookVisit visit) =>
        $"{visit.Hook.Spec.Site} of {(visit.Path.Length == 0 ? "the module" : EngineException.Quote(visit.Path))}{(visit.Name.Length == 0 ? "" : ", " + EngineException.Quote(visit.Name))}";

    private TensorTree After(NodeHooks hooks, TensorTree output, CallContext context)
    {
        foreach (var place in hooks.Forward)
        {
            _ = Visit(place, context, [output], changed => output = changed[0]);
        }

        return output;
    }

    // Visits one tensor among several values; gives the output of a skipped module, else null.
    private TensorTree? Visit(HookPlace place, CallContext context, IReadOnlyList<TensorTree> values, Action<IReadOnlyList<TensorTree>> replace)
    {
        var hook = place.Hook;
        if (!hook.Visit(place.Visits, place.Node.Training, out var call))
        {
            return null;
        }

        var index = hook.Spec.TensorIndex ?? 0;
        var visit = new HookVisit(hook, context.Path, index, "", call);
        var tensor = values.SelectMany(value => value.Flatten()).ElementAtOrDefault((int)Math.Min(index, int.MaxValue));
        if (tensor is null)
        {
            FailIndex(visit, values.Sum(value => value.Flatten().Count()));
            return null;
        }

        var run = new HookVisitRun(this, services, visit);
        var result = run.Run(tensor);
        if (run.Skips)
        {
            // A new tensor, since whoever runs this module may free what it was given when it has the output.
            return TensorTree.Of(run.SkippedOutput ?? result.alias());
        }

        if (!ReferenceEquals(result, tensor))
        {
            // By its place and not by what it is: a module may be called with one tensor twice.
            var at = 0u;
            replace([.. values.Select(value => value.Map(one => at++ == index ? result : one))]);
        }

        return null;
    }

    // Identities on those tensors that hooks ask for and gradients flow through.
    private TensorTree[] Wrap(HookPlace[] places, IReadOnlyList<TensorTree> values, string path)
    {
        var index = 0u;
        TensorTree[] wrapped = [.. values.Select(value => value.Map(tensor =>
        {
            var at = index++;
            var mine = places.Where(place => (place.Hook.Spec.TensorIndex ?? 0) == at).ToArray();
            return mine.Length > 0 && tensor.requires_grad ? GradientSite.Wrap(tensor, gradient => Chain(mine, gradient, path, at)) : tensor;
        }))];

        // No gradient would ever come to tell.
        foreach (var place in places.Where(place => place.Hook.IsLive && (place.Hook.Spec.TensorIndex ?? 0) >= index))
        {
            FailIndex(new HookVisit(place.Hook, path, place.Hook.Spec.TensorIndex ?? 0, "", 0), index);
        }

        return wrapped;
    }

    private void FailIndex(in HookVisit visit, long tensors) =>
        Fail(visit, "tensor_index", EngineException.Invalid("", $"is {visit.TensorIndex}; there are {tensors} tensors, counted from 0"));

    private Tensor Chain(HookPlace[] places, Tensor gradient, string path, uint index)
    {
        foreach (var place in places)
        {
            try
            {
                gradient = Edit(place, gradient, path, index, "");
            }
            catch (Exception exception)
            {
                // Whatever it is, it must not leave a backward.
                lock (_lock)
                {
                    _pending ??= LaneFailure.Translate(exception);
                }
            }
        }

        return gradient;
    }
}

/// <summary>A hook ended the call: unwinds to where the call began.</summary>
internal sealed class HookStopException(string hook) : Exception($"the hook {hook} stopped the call")
{
    /// <summary>The hook's id.</summary>
    public string Hook => hook;
}
