namespace Sconce.Engine.Execution;

/// <summary>
/// The calls whose effects are in a module and whose answers are remembered: in the order of their turns, each for as long as its answer is. Whoever has the module's turn adds to
/// it; what else it does is safe from any thread.
/// </summary>
internal sealed class OnceCalls
{
    // One for all modules: a call may move from one to another. Held for a moment.
    private static readonly Lock Noting = new();

    private readonly LinkedList<OnceCall> _calls = new();
    private OnceCall? _turn;

    /// <summary>The calls now.</summary>
    public OnceCall[] ToArray()
    {
        lock (Noting)
        {
            return [.. _calls];
        }
    }

    /// <summary>Notes a call; where it was noted on another module, it is no longer.</summary>
    public void Add(OnceCall call)
    {
        lock (Noting)
        {
            // One that was forgotten before it came here would stay for ever.
            if (!call.IsForgotten)
            {
                Append(call);
            }
        }
    }

    /// <summary>The call has made the module, or put it in another's place.</summary>
    public void Made(OnceCall? call)
    {
        if (call is not null)
        {
            Add(call);
            call.Done();
        }
    }

    /// <summary>Runs the turn of a call that changes the module. It is noted before it begins: a step may be saved within its own turn.</summary>
    /// <param name="call">The call; null for one that is not remembered.</param>
    /// <param name="work">What it does.</param>
    public T Run<T>(OnceCall? call, Func<T> work)
    {
        if (call is null)
        {
            return work();
        }

        lock (Noting)
        {
            // Also where the host has told its caller in this moment that it stops: what it changes must not be saved then.
            call.IsInTurn = true;
            Append(call);
        }

        _turn = call;
        try
        {
            var result = work();
            call.Done();
            return result;
        }
        finally
        {
            _turn = null;
            lock (Noting)
            {
                call.IsInTurn = false;
                if (call.IsForgotten && !call.IsDone)
                {
                    Remove(call);
                }
            }
        }
    }

    /// <summary>The call whose turn it is has changed the module: it is done, though the rest of its turn may fail.</summary>
    public void Changed() => _turn?.Done();

    /// <summary>The call's answer is remembered no longer.</summary>
    public static void Forget(OnceCall call)
    {
        lock (Noting)
        {
            call.IsForgotten = true;
            Remove(call);
        }
    }

    /// <summary>The call's answer is never to be remembered. One that is done, or may yet be, stays: it tells snapshots that they must not be.</summary>
    public static void Abandon(OnceCall call)
    {
        lock (Noting)
        {
            call.IsForgotten = true;
            if (!call.IsInTurn && !call.IsDone)
            {
                Remove(call);
            }
        }
    }

    private void Append(OnceCall call)
    {
        if (call.Node?.List != _calls)
        {
            Remove(call);
            call.Node = _calls.AddLast(call);
        }
    }

    private static void Remove(OnceCall call)
    {
        call.Node?.List?.Remove(call.Node);
        call.Node = null;
    }
}
