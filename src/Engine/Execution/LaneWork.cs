using TorchSharp;

namespace Sconce.Engine.Execution;

/// <summary>How a call holds its module.</summary>
internal enum GateMode
{
    /// <summary>With others that only read.</summary>
    Shared,

    /// <summary>Alone.</summary>
    Exclusive,
}

/// <summary>One call: it waits at its module's gate, then for a lane, then runs on the lane's thread. Its state belongs to the gate's lock.</summary>
internal abstract class LaneWork
{
    // Links of the gate's queue: a waiting call that is cancelled leaves it in constant time.
    internal LaneWork? Next;
    internal LaneWork? Previous;
    internal WorkState State;

    /// <summary>How the call holds the module; set by the gate when the call is let in.</summary>
    internal GateMode Held;

    private CancellationTokenRegistration _registration;
    private CancellationToken _token;
    private Gate? _gate;

    /// <summary>How the call must hold the module. Asked when everything before it that could change the module has ended, so it may depend on the module's state.</summary>
    internal abstract GateMode Mode { get; }

    /// <summary>Runs the call and keeps what it gave.</summary>
    protected abstract void Run();

    /// <summary>Tells the caller what <see cref="Run"/> gave.</summary>
    protected abstract void Complete();

    /// <summary>Tells the caller that the call never ran.</summary>
    /// <param name="error">Why; null where the caller's own token said so.</param>
    /// <param name="token">That token.</param>
    protected abstract void Abandon(Exception? error, CancellationToken token);

    /// <summary>Frees what the call held while it waited. Called once, whether it ran or not.</summary>
    protected virtual void Release()
    {
    }

    /// <summary>Whether it keeps the module when it has run, until <see cref="Leave"/>.</summary>
    private protected virtual bool Stays => false;

    /// <summary>Gives up the module that it kept.</summary>
    private protected void Leave() => _gate!.Exit(this);

    /// <summary>Puts the call into a gate's queue.</summary>
    internal void Enter(Gate gate, CancellationToken cancellationToken)
    {
        _gate = gate;
        _token = cancellationToken;
        try
        {
            // Before it is queued: a token that fires now finds the call not yet in the queue and keeps it out.
            if (cancellationToken.CanBeCanceled)
            {
                _registration = cancellationToken.UnsafeRegister(static state => ((LaneWork)state!).Withdraw(null), this);
            }

            gate.Enter(this);
        }
        catch
        {
            // The token may fire at this very moment: whoever withdraws the call releases what it holds.
            _registration.Unregister();
            if (gate.Withdraw(this))
            {
                Release();
            }

            throw;
        }
    }

    /// <summary>Frees what a call holds that never entered a queue.</summary>
    internal void Discard() => Release();

    /// <summary>Takes the call back, unless it runs already.</summary>
    internal void Withdraw(Exception? error)
    {
        if (_gate!.Withdraw(this))
        {
            _registration.Unregister();
            Release();
            Abandon(error, _token);
        }
    }

    /// <summary>Answers the caller while the call still runs; what it gives later is nobody's.</summary>
    internal void Cut(Exception error) => Abandon(error, _token);

    /// <summary>
    /// Runs the call from beginning to end on the caller's thread, where it need not wait for its turn: handing a call of a few microseconds to a
    /// lane, and its answer back, costs several times the call. False where it must queue after all.
    /// </summary>
    internal bool TryRunHere(Gate gate, LanePool lanes)
    {
        if (!lanes.TryBorrow())
        {
            return false;
        }

        try
        {
            if (!gate.TryStartNow(this))
            {
                return false;
            }

            _gate = gate;
            RunNow();
            return true;
        }
        finally
        {
            lanes.Return();
        }
    }

    /// <summary>Runs the call on this thread, which is a lane's, unless it was withdrawn.</summary>
    internal void RunOnLane()
    {
        if (!_gate!.Start(this))
        {
            // Withdrawn meanwhile, which makes this do nothing; or the host drains, and what has not begun shall not begin.
            Withdraw(Admission.Draining());
            return;
        }

        _registration.Unregister();
        RunNow();
    }

    private void RunNow()
    {
        using (torch.NewDisposeScope())
        {
            Run();
        }

        Release();
        if (!Stays)
        {
            // Before the caller is told: whoever waits for the answer finds the module free.
            Leave();
        }

        Complete();
    }
}

/// <summary>Where a call is.</summary>
internal enum WorkState
{
    /// <summary>Not in a queue yet.</summary>
    New,

    /// <summary>In the gate's queue.</summary>
    Waiting,

    /// <summary>Let in by the gate; in the lanes' queue.</summary>
    Ready,

    /// <summary>On a lane.</summary>
    Running,

    /// <summary>Withdrawn before it ran.</summary>
    Withdrawn,
}

/// <summary>A call with a result.</summary>
/// <typeparam name="T">The result.</typeparam>
internal abstract class LaneWork<T> : LaneWork
{
    // Asynchronous continuations: what the caller does next must not run on a lane.
    private readonly TaskCompletionSource<T> _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private T? _result;
    private Exception? _error;

    /// <summary>The call's task.</summary>
    public Task<T> Task => _completion.Task;

    /// <summary>Does the work, inside a dispose scope.</summary>
    protected abstract T Execute();

    /// <inheritdoc/>
    protected sealed override void Run()
    {
        try
        {
            _result = Execute();
        }
        catch (Exception exception)
        {
            _error = LaneFailure.Translate(exception);
        }
    }

    /// <inheritdoc/>
    protected sealed override void Complete()
    {
        // Try: the host may have cut the call as it stopped.
        if (_error is not null)
        {
            _completion.TrySetException(_error);
        }
        else
        {
            _completion.TrySetResult(_result!);
        }
    }

    /// <inheritdoc/>
    protected sealed override void Abandon(Exception? error, CancellationToken token)
    {
        if (error is not null)
        {
            _completion.TrySetException(error);
        }
        else
        {
            _completion.SetCanceled(token);
        }
    }
}

/// <summary>A call whose work is a delegate.</summary>
/// <typeparam name="T">The result.</typeparam>
internal sealed class LaneCall<T>(GateMode mode, Func<T> work, Action? release = null) : LaneWork<T>
{
    internal override GateMode Mode => mode;

    protected override T Execute() => work();

    protected override void Release() => release?.Invoke();
}
