using Google.Protobuf;
using Sconce.Engine;
using Sconce.Engine.Execution;

namespace Sconce.Server.ExactlyOnce;

/// <summary>How a call ended: with a response or an error.</summary>
internal sealed record RequestOutcome(IMessage? Response, Exception? Error)
{
    /// <summary>The answer for another caller. Errors are thrown afresh: one exception object must not be thrown on two threads.</summary>
    public IMessage Answer() => (Response, Error) switch
    {
        ({ } response, _) => response,
        (_, EngineException e) => throw new EngineException(e.Error, e.Reason, e.Message, e)
        {
            Fields = e.Fields,
            Resource = e.Resource,
            Quota = e.Quota,
            RetryAfter = e.RetryAfter,
        },
        _ => throw new InvalidOperationException("the first call with this request_id failed unforeseen", Error),
    };
}

/// <summary>A call with an id: one that runs, or one whose answer is remembered.</summary>
internal sealed class RequestEntry(string id, Fingerprint fingerprint) : OnceCall
{
    // Continuations run elsewhere: it ends under the store's lock.
    private TaskCompletionSource<RequestOutcome>? _waiters;
    private RequestOutcome? _outcome;
    private bool _isKept;

    public string Id => id;

    public Fingerprint Fingerprint => fingerprint;

    public long Bytes { get; set; }

    public long Finished { get; set; }

    /// <summary>How the call ended, for those who come later; null while it runs.</summary>
    public RequestOutcome? Known
    {
        get
        {
            lock (this)
            {
                return _outcome;
            }
        }
    }

    /// <summary>How the call ended. Most calls are never joined, so the task is made by the first who asks.</summary>
    public Task<RequestOutcome> Outcome
    {
        get
        {
            lock (this)
            {
                return _outcome is { } outcome
                    ? Task.FromResult(outcome)
                    : (_waiters ??= new(TaskCreationOptions.RunContinuationsAsynchronously)).Task;
            }
        }
    }

    /// <inheritdoc/>
    protected override Task Ended => Known is null ? Outcome : Task.CompletedTask;

    /// <inheritdoc/>
    protected override bool IsRemembered
    {
        get
        {
            lock (this)
            {
                return _isKept;
            }
        }
    }

    /// <summary>Ends the call: with one outcome for those who wait now, and one for those who come later.</summary>
    public void Keep(RequestOutcome now, RequestOutcome later) => Finish(now, later, isKept: true);

    /// <summary>Ends the call with an outcome for those who wait, and nobody else.</summary>
    public void Drop(RequestOutcome now)
    {
        Finish(now, now, isKept: false);
        Abandon();
    }

    /// <summary>The store forgets it.</summary>
    public void Leave() => Forget();

    /// <inheritdoc/>
    protected override RememberedCall Remember() => RememberedAnswer.Write(Id, Fingerprint, Known ?? throw new InvalidOperationException("the call has not ended"));

    private void Finish(RequestOutcome now, RequestOutcome later, bool isKept)
    {
        lock (this)
        {
            _isKept = isKept;
            _outcome = later;
            _waiters?.SetResult(now);
            _waiters = null;
        }
    }
}
