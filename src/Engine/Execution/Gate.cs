namespace Sconce.Engine.Execution;

/// <summary>
/// The order of calls on one module: first come, first served; calls that only read run together, a call that changes something runs alone. Nothing
/// overtakes, so a stream of readers cannot starve a writer.
/// </summary>
internal sealed class Gate(LanePool lanes, Admission admission, string name)
{
    private readonly Lock _lock = new();
    private LaneWork? _first;
    private LaneWork? _last;
    private int _pending;
    private int _shared;
    private bool _exclusive;

    /// <summary>Calls that wait, here or for a lane.</summary>
    public int Pending => Volatile.Read(ref _pending);

    public void Enter(LaneWork work)
    {
        lock (_lock)
        {
            if (work.State == WorkState.Withdrawn)
            {
                return;
            }

            admission.Admit(_pending, name);
            _pending++;
            work.State = WorkState.Waiting;
            work.Previous = _last;
            if (_last is null)
            {
                _first = work;
            }
            else
            {
                _last.Next = work;
            }

            _last = work;
            Advance();
        }
    }

    /// <summary>Lets a call in that only reads, and starts it, where nothing is before it; false where it must queue, or the host drains.</summary>
    public bool TryStartNow(LaneWork work)
    {
        lock (_lock)
        {
            if (_first is not null || _exclusive || work.Mode != GateMode.Shared || !admission.TryStart())
            {
                return false;
            }

            _shared++;
            work.Held = GateMode.Shared;
            work.State = WorkState.Running;
            return true;
        }
    }

    /// <summary>Takes a call out before it runs; false where it runs or has run.</summary>
    public bool Withdraw(LaneWork work)
    {
        lock (_lock)
        {
            switch (work.State)
            {
                case WorkState.New:
                    work.State = WorkState.Withdrawn;
                    return true;
                case WorkState.Waiting:
                    Unlink(work);
                    break;
                case WorkState.Ready:
                    Leave(work);
                    break;
                default:
                    return false;
            }

            work.State = WorkState.Withdrawn;
            NoLongerPending();
            Advance();
            return true;
        }
    }

    /// <summary>A lane takes the call up; false where it was withdrawn meanwhile, or the host drains.</summary>
    public bool Start(LaneWork work)
    {
        lock (_lock)
        {
            if (work.State != WorkState.Ready || !admission.TryStart())
            {
                return false;
            }

            work.State = WorkState.Running;
            NoLongerPending();
            return true;
        }
    }

    public void Exit(LaneWork work)
    {
        lock (_lock)
        {
            Leave(work);
            Advance();
        }

        admission.Ended();
    }

    /// <summary>Withdraws every call that waits.</summary>
    public void WithdrawAll(Func<Exception> error)
    {
        List<LaneWork> waiting = [];
        lock (_lock)
        {
            for (var work = _first; work is not null; work = work.Next)
            {
                waiting.Add(work);
            }
        }

        foreach (var work in waiting)
        {
            work.Withdraw(error());
        }
    }

    private void Advance()
    {
        while (_first is { } work && !_exclusive)
        {
            var mode = work.Mode;
            if (mode == GateMode.Exclusive)
            {
                if (_shared > 0)
                {
                    return;
                }

                _exclusive = true;
            }
            else
            {
                _shared++;
            }

            Unlink(work);
            work.Held = mode;
            work.State = WorkState.Ready;
            lanes.Post(work);
        }
    }

    private void Leave(LaneWork work)
    {
        if (work.Held == GateMode.Exclusive)
        {
            _exclusive = false;
        }
        else
        {
            _shared--;
        }
    }

    private void NoLongerPending()
    {
        _pending--;
        admission.Withdraw();
    }

    private void Unlink(LaneWork work)
    {
        if (work.Previous is null)
        {
            _first = work.Next;
        }
        else
        {
            work.Previous.Next = work.Next;
        }

        if (work.Next is null)
        {
            _last = work.Previous;
        }
        else
        {
            work.Next.Previous = work.Previous;
        }

        work.Next = work.Previous = null;
    }
}
