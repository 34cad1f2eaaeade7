using Google.Protobuf;
using Sconce.Engine;
using Sconce.Engine.Execution;

namespace Sconce.Server.ExactlyOnce;

/// <summary>
/// Remembers the answers to calls that carry a <c>request_id</c>, so that a retry gets the first answer instead of doing the work again. A call that is
/// still running is joined. Answers are forgotten after a time, and the oldest first beyond a count or a number of bytes. Those that snapshots hold are remembered again when
/// their module is restored.
/// </summary>
internal sealed class RequestIdStore(SconceServerOptions options, TimeProvider time)
{
    private const int MaxIdLength = 128;

    private readonly Lock _lock = new();
    private readonly Dictionary<string, RequestEntry> _entries = new(StringComparer.Ordinal);

    /// <summary>Finished entries, the oldest first. Every one in it is in <see cref="_entries"/>; running ones are only there.</summary>
    private readonly Queue<RequestEntry> _finished = new();

    private long _bytes;

    /// <summary>Answers remembered now.</summary>
    public int Count
    {
        get
        {
            lock (_lock)
            {
                return _finished.Count;
            }
        }
    }

    /// <summary>
    /// Runs <paramref name="work"/> once per id. Its response is kept as it is, so it must own its bytes. <paramref name="work"/> may be cancelled while
    /// it is queued, never once it has begun: else a retry would run it twice.
    /// </summary>
    public Task<TResponse> RunAsync<TRequest, TResponse>(
        TRequest request, string requestId, Func<TRequest, CancellationToken, Task<TResponse>> work, CancellationToken cancellationToken, ulong beside = 0, string field = "request_id")
        where TRequest : class, IMessage
        where TResponse : class, IMessage
    {
        if (requestId.Length == 0)
        {
            return work(request, cancellationToken);
        }

        Check(requestId, field);
        var fingerprint = Fingerprint.Of(request, beside);

        // Claimed before the first await, so that the calls of a stream reach the engine in the order in which they came.
        var entry = Claim(requestId, fingerprint, field, out var mine);
        return mine ? OwnAsync(entry, request, work, cancellationToken) : JoinAsync(entry, fingerprint, request, work, field, cancellationToken);
    }

    /// <summary>The call with an id, where it has ended: for an upload, whose repeat is to be received and compared, but needs nothing that the first one needed.</summary>
    public Finished? Find(string requestId)
    {
        lock (_lock)
        {
            Forget(time.GetTimestamp());
            return _entries.TryGetValue(requestId, out var entry) && entry.Known is { } outcome ? new Finished(entry, outcome) : null;
        }
    }

    /// <summary>
    /// Remembers answers again that a snapshot holds, all or none; the time for which they are remembered begins anew, so that it is there for callers who waited for a server
    /// to come back. What is known of an id already is newer than any snapshot, and stays.
    /// </summary>
    /// <returns>Those that are remembered now, and are of the snapshot's calls.</returns>
    /// <exception cref="EngineException">DATA_LOSS: an answer is not one that a server writes. FAILED_PRECONDITION: a newer server wrote it.</exception>
    public IReadOnlyList<OnceCall> Recall(IReadOnlyList<RememberedCall> calls)
    {
        var read = calls.Select(RememberedAnswer.Read).ToList();
        var recalled = new List<OnceCall>(read.Count);
        lock (_lock)
        {
            Forget(time.GetTimestamp());
            foreach (var (id, fingerprint, outcome, bytes) in read)
            {
                if (!_entries.TryGetValue(id, out var entry))
                {
                    entry = new RequestEntry(id, fingerprint);
                    entry.Keep(outcome, outcome);
                    _entries.Add(id, entry);
                    Add(entry, bytes);
                    recalled.Add(entry);
                }
                else if (entry.Known is not null && entry.Fingerprint == fingerprint)
                {
                    recalled.Add(entry);
                }
            }

            Forget(time.GetTimestamp());
        }

        return recalled;
    }

    /// <summary>Refuses an id that is too long or not printable; an empty one is none.</summary>
    public static void Check(string requestId, string field)
    {
        if (requestId.Length > MaxIdLength)
        {
            throw EngineException.Invalid(field, $"has {requestId.Length} characters; at most {MaxIdLength} are allowed");
        }

        foreach (var c in requestId)
        {
            if (c is < ' ' or > '~')
            {
                throw EngineException.Invalid(field, $"is {EngineException.Quote(requestId)}; only printable ASCII characters are allowed");
            }
        }
    }

    private RequestEntry Claim(string requestId, Fingerprint fingerprint, string field, out bool mine)
    {
        lock (_lock)
        {
            Forget(time.GetTimestamp());
            mine = !_entries.TryGetValue(requestId, out var entry);
            if (mine)
            {
                entry = new RequestEntry(requestId, fingerprint);
                _entries.Add(requestId, entry);
            }
            else
            {
                CheckSame(entry!, fingerprint, field);
            }

            return entry!;
        }
    }

    private static void CheckSame(RequestEntry entry, Fingerprint fingerprint, string field)
    {
        if (entry.Fingerprint != fingerprint)
        {
            throw EngineException.Invalid(field, $"is {EngineException.Quote(entry.Id)}, which another call has used already; every call needs an id of its own", "REQUEST_ID_REUSED");
        }
    }

    private async Task<TResponse> OwnAsync<TRequest, TResponse>(
        RequestEntry entry, TRequest request, Func<TRequest, CancellationToken, Task<TResponse>> work, CancellationToken cancellationToken)
        where TResponse : class, IMessage
    {
        try
        {
            var response = await entry.RunAsync(() => work(request, cancellationToken)).ConfigureAwait(false);
            Remember(entry, new RequestOutcome(response, null), response.CalculateSize());
            return response;
        }
        catch (Exception e) when (CanSucceedLater(e) && !entry.IsDone)
        {
            Drop(entry, e);
            throw;
        }
        catch (Exception e) when (CanSucceedLater(e))
        {
            // It has changed its module, and only then met what kept it from being answered: made anew it would change it twice.
            Remember(entry, new RequestOutcome(null, EngineException.Precondition(
                "ANSWER_NOT_KEPT", $"the call with request_id {EngineException.Quote(entry.Id)} was done, but its answer could not be made: {e.Message}")), 2L * e.Message.Length);
            throw;
        }
        catch (Exception e)
        {
            Remember(entry, new RequestOutcome(null, e), 2L * e.Message.Length);
            throw;
        }
    }

    private async Task<TResponse> JoinAsync<TRequest, TResponse>(
        RequestEntry entry, Fingerprint fingerprint, TRequest request, Func<TRequest, CancellationToken, Task<TResponse>> work, string field, CancellationToken cancellationToken)
        where TRequest : class, IMessage
        where TResponse : class, IMessage
    {
        while (true)
        {
            var outcome = await entry.Outcome.WaitAsync(cancellationToken).ConfigureAwait(false);
            if (outcome.Error is not OperationCanceledException)
            {
                return (TResponse)outcome.Answer();
            }

            // The first caller left before the work began, so nothing was done: this one takes its place.
            entry = Claim(entry.Id, fingerprint, field, out var mine);
            if (mine)
            {
                return await OwnAsync(entry, request, work, cancellationToken).ConfigureAwait(false);
            }
        }
    }

    /// <summary>Failures that say nothing about the call itself, only about the moment or the way it was sent.</summary>
    public static bool CanSucceedLater(Exception e) => e is OperationCanceledException
        or EngineException { Error: EngineError.ResourceExhausted or EngineError.Unavailable or EngineError.DeadlineExceeded or EngineError.DataLoss };

    private void Remember(RequestEntry entry, RequestOutcome outcome, long bytes)
    {
        lock (_lock)
        {
            // Forgetting a success would let a retry repeat it, so an answer too large to keep leaves a note in its place.
            if (bytes > options.RequestIdMaxBytes / 4)
            {
                entry.Keep(outcome, new RequestOutcome(null, new EngineException(
                    EngineError.FailedPrecondition, "ANSWER_NOT_KEPT",
                    $"the call with request_id {EngineException.Quote(entry.Id)} was done, and its answer of {bytes} bytes is too large to be given twice; raise request_id_max_bytes on the server")));
                bytes = 0;
            }
            else
            {
                entry.Keep(outcome, outcome);
            }

            Add(entry, bytes);
            Forget(entry.Finished);
        }
    }

    private void Add(RequestEntry entry, long bytes)
    {
        entry.Bytes = bytes + 512;
        entry.Finished = time.GetTimestamp();
        _bytes += entry.Bytes;
        _finished.Enqueue(entry);
    }

    private void Drop(RequestEntry entry, Exception failure)
    {
        lock (_lock)
        {
            _entries.Remove(entry.Id);
        }

        // After the removal: a joiner that goes on must be able to claim the id.
        entry.Drop(new RequestOutcome(null, failure));
    }

    private void Forget(long now)
    {
        while (_finished.TryPeek(out var oldest)
            && (_finished.Count > options.RequestIdCapacity || _bytes > options.RequestIdMaxBytes
                || time.GetElapsedTime(oldest.Finished, now) > options.RequestIdRetention))
        {
            _finished.Dequeue();
            _entries.Remove(oldest.Id);
            _bytes -= oldest.Bytes;
            oldest.Leave();
        }
    }

    /// <summary>A call that has ended. Its answer does not go while this is held, though the store forget it.</summary>
    public readonly struct Finished
    {
        private readonly RequestEntry _entry;
        private readonly RequestOutcome _outcome;

        internal Finished(RequestEntry entry, RequestOutcome outcome) => (_entry, _outcome) = (entry, outcome);

        /// <summary>The first answer, or the first error; where the request is another one, or what came beside it, that is refused.</summary>
        public TResponse Answer<TResponse>(IMessage request, ulong beside, string field)
            where TResponse : class, IMessage
        {
            CheckSame(_entry, Fingerprint.Of(request, beside), field);
            return (TResponse)_outcome.Answer();
        }
    }
}
