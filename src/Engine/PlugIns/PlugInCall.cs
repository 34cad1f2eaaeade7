using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.PlugIns;

/// <summary>
/// One call of a plug-in's module from outside, while its own code runs: it calls its parts itself, and knows nothing of contexts and paths. One per
/// thread, since such code runs where it is called; what a plug-in calls on threads of its own is not seen.
/// </summary>
internal sealed class PlugInCall
{
    [ThreadStatic]
    private static PlugInCall? _current;

    private readonly PlugInCall? _outer;
    private readonly int _depth;
    private readonly Stack<(PlugInNode Node, IReadOnlyList<TensorTree> Inputs, TensorTree? Skipped)> _running = new();

    private PlugInCall(PlugInNode target, CallContext context, PlugInCall? outer)
    {
        (Target, Context, _outer) = (target, context, outer);
        _depth = context.Depth;
    }

    /// <summary>The module that was called from outside.</summary>
    public PlugInNode Target { get; }

    /// <summary>What goes with the call.</summary>
    public CallContext Context { get; }

    /// <summary>The innermost part that runs, what it was called with, and what a hook gives in the place of its output; null while only the target does.</summary>
    public (PlugInNode Node, IReadOnlyList<TensorTree> Inputs, TensorTree? Skipped)? Running => _running.TryPeek(out var running) ? running : null;

    /// <summary>The call in whose code this thread is, if it is a call of this plug-in's module.</summary>
    public static PlugInCall? Of(PlugInNode part) => _current is { } call && ReferenceEquals(call.Target.Whole, part.Whole) ? call : null;

    /// <summary>Begins a call on this thread.</summary>
    public static PlugInCall Begin(PlugInNode target, CallContext context) => _current = new PlugInCall(target, context, _current);

    /// <summary>Ends it.</summary>
    public void End() => _current = _outer;

    /// <summary>A part is entered: the path is its own now.</summary>
    public void Enter(PlugInNode part, IReadOnlyList<TensorTree> inputs)
    {
        _running.Push((part, inputs, null));
        Locate(part);
    }

    /// <summary>The part just entered is called with other inputs, and its output will not count where a hook leaves it out.</summary>
    public void Change(IReadOnlyList<TensorTree> inputs, TensorTree? skipped) => _running.Push(_running.Pop() with { Inputs = inputs, Skipped = skipped });

    /// <summary>A part is left, and with it those in it whose exceptions the plug-in has caught.</summary>
    public void Leave(PlugInNode part)
    {
        while (_running.TryPop(out var left) && !ReferenceEquals(left.Node, part))
        {
        }

        Locate(_running.TryPeek(out var running) ? running.Node : Target);
    }

    /// <summary>Puts the path back to the target's.</summary>
    public void Return() => Context.Return(_depth);

    private void Locate(PlugInNode part)
    {
        Context.Return(_depth);
        if (part.PathWithin(Target) is { Length: > 0 } path)
        {
            Context.Enter(path);
        }
    }
}
