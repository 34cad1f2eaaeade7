using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Server.ExactlyOnce;

namespace Sconce.Server.Streams;

/// <summary>
/// Uploads that outlive their streams. What a dropped connection has brought stays, charged to the ledger, until another stream with the same id and header goes on with
/// it, or its time has passed. Of an upload that has ended only its digest is remembered, for a caller who did not get the answer.
/// </summary>
internal sealed class UploadStore : IDisposable
{
    private const int FinishedForEach = 16;

    private static readonly TimeSpan SweepEvery = TimeSpan.FromSeconds(1);

    private readonly SconceServerOptions _options;
    private readonly TimeProvider _time;
    private readonly ITimer _sweeper;
    private readonly Lock _lock = new();
    private readonly Dictionary<string, Entry> _entries = new(StringComparer.Ordinal);

    public UploadStore(SconceServerOptions options, TimeProvider time)
    {
        (_options, _time) = (options, time);
        _sweeper = time.CreateTimer(static store => ((UploadStore)store!).Sweep(), this, SweepEvery, SweepEvery);
    }

    /// <summary>Whether there is an upload of an id, under way or ended.</summary>
    public bool Knows(string id)
    {
        lock (_lock)
        {
            return _entries.ContainsKey(id);
        }
    }

    /// <summary>How far an upload has come.</summary>
    /// <exception cref="EngineException">There is none of that id.</exception>
    public V1.GetUploadResponse Describe(string id)
    {
        RequestIdStore.Check(id, "upload_id");
        lock (_lock)
        {
            var entry = _entries.GetValueOrDefault(id) ?? throw EngineException.NotFound("upload", id, "it never began, was refused, or its time has passed: begin it anew");
            entry.Touched = _time.GetTimestamp();
            return entry.Describe();
        }
    }

    /// <summary>Begins an upload, or goes on with it: from then on until the result is disposed it is the caller's alone. A stream that still has it loses it.</summary>
    /// <param name="header">Its header; all of it must be as it was.</param>
    /// <param name="make">Checks the header against the module, and makes room.</param>
    /// <param name="cancellationToken">Waits no longer.</param>
    /// <exception cref="EngineException">The header is another one, or there are too many uploads.</exception>
    public async Task<UploadLease> OpenAsync(V1.LoadStateDictHeader header, Func<Task<StateUpload>> make, CancellationToken cancellationToken)
    {
        var fingerprint = Fingerprint.Of(header);
        while (true)
        {
            UploadLease other;
            lock (_lock)
            {
                if (!_entries.TryGetValue(header.UploadId, out var entry))
                {
                    CheckRoom();
                    break;
                }

                if (entry.Fingerprint != fingerprint)
                {
                    throw EngineException.Invalid("header.upload_id", $"is {EngineException.Quote(header.UploadId)}, under which an upload with another header began; every upload needs an id of its own", "UPLOAD_ID_REUSED");
                }

                if (entry.Lease is null)
                {
                    return Lease(entry);
                }

                other = entry.Lease;
            }

            other.TakeOver();
            await other.Ended.WaitAsync(cancellationToken).ConfigureAwait(false);
        }

        var upload = await make().ConfigureAwait(false);
        lock (_lock)
        {
            try
            {
                CheckRoom();
                var entry = new Entry(header.UploadId, fingerprint, upload);
                return _entries.TryAdd(entry.Id, entry) ? Lease(entry)
                    : throw new EngineException(EngineError.Unavailable, "UPLOAD_BEGUN", "another stream began this upload at the same moment: ask GetUpload how far it is") { RetryAfter = TimeSpan.FromSeconds(1) };
            }
            catch
            {
                upload.Dispose();
                throw;
            }
        }
    }

    public void Dispose()
    {
        _sweeper.Dispose();
        lock (_lock)
        {
            foreach (var entry in _entries.Values)
            {
                entry.Upload?.Dispose();
            }

            _entries.Clear();
        }
    }

    internal void Sweep()
    {
        var now = _time.GetTimestamp();
        lock (_lock)
        {
            foreach (var entry in _entries.Values.Where(entry => entry.Lease is null && _time.GetElapsedTime(entry.Touched, now) > _options.UploadTtl).ToList())
            {
                Remove(entry);
            }
        }
    }

    /// <summary>Gives an upload back: kept for another stream, dropped, or ended with a digest that is remembered.</summary>
    internal void Return(Entry entry, bool dropped, ulong? digest)
    {
        lock (_lock)
        {
            entry.Lease = null;
            entry.Touched = _time.GetTimestamp();
            if (dropped)
            {
                Remove(entry);
            }
            else if (digest is not null)
            {
                entry.Finish(digest.Value);
                var finished = _entries.Values.Where(one => one.Digest is not null).OrderBy(one => one.Touched).ToList();
                finished.Take(Math.Max(0, finished.Count - (FinishedForEach * _options.MaxUploads))).ToList().ForEach(Remove);
            }
        }
    }

    private UploadLease Lease(Entry entry) => entry.Lease = new UploadLease(this, entry);

    private void CheckRoom()
    {
        var held = _entries.Values.Count(entry => entry.Upload is not null);
        if (held >= _options.MaxUploads)
        {
            throw EngineException.Exhausted("another resumable upload", new QuotaRef("max_uploads", 1, held, _options.MaxUploads), TimeSpan.FromSeconds(1));
        }
    }

    private void Remove(Entry entry)
    {
        _entries.Remove(entry.Id);
        entry.Upload?.Dispose();
    }

    /// <summary>One upload.</summary>
    internal sealed class Entry
    {
        private readonly int _count;
        private readonly long _bytes;

        public Entry(string id, Fingerprint fingerprint, StateUpload upload)
        {
            (Id, Fingerprint, Upload, _count, _bytes) = (id, fingerprint, upload, upload.Entries.Count, upload.TotalBytes);
            Framing = new StateFraming([.. Enumerable.Range(0, _count).Select(upload.ByteLength)]);
        }

        public string Id { get; }

        public Fingerprint Fingerprint { get; }

        /// <summary>What has come; null once it has ended.</summary>
        public StateUpload? Upload { get; private set; }

        public StateFraming Framing { get; }

        /// <summary>XXH3 of all bytes of an upload that has ended.</summary>
        public ulong? Digest { get; private set; }

        public UploadLease? Lease { get; set; }

        public long Touched { get; set; }

        public long TotalBytes => _bytes;

        public void Finish(ulong digest)
        {
            Digest = digest;
            Upload?.Dispose();
            Upload = null;
        }

        public V1.GetUploadResponse Describe()
        {
            var (entry, offset, received) = Digest is null ? Framing.Position : new StateFraming.Place(_count, 0, _bytes);
            return new V1.GetUploadResponse
            {
                NextEntry = (uint)entry,
                NextOffset = (ulong)offset,
                ReceivedBytes = (ulong)received,
                TotalBytes = (ulong)_bytes,
                Complete = entry == _count,
            };
        }
    }
}

/// <summary>A stream's hold of an upload.</summary>
internal sealed class UploadLease(UploadStore store, UploadStore.Entry entry) : IDisposable
{
    private readonly CancellationTokenSource _taken = new();
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private bool _dropped;
    private ulong? _digest;

    /// <summary>What has come so far.</summary>
    public StateUpload Upload => entry.Upload!;

    /// <summary>Where the next bytes go.</summary>
    public StateFraming Framing => entry.Framing;

    /// <summary>The digest of an upload that has ended already; null where it is under way.</summary>
    public ulong? Finished => entry.Digest;

    /// <summary>Bytes of the whole upload.</summary>
    public long TotalBytes => entry.TotalBytes;

    /// <summary>Fires when another stream goes on with the upload.</summary>
    public CancellationToken Taken => _taken.Token;

    /// <summary>Ends when the upload is free again.</summary>
    public Task Ended => _ended.Task;

    public void TakeOver() => _taken.Cancel();

    /// <summary>Nothing of it is to be kept.</summary>
    public void Drop() => _dropped = true;

    /// <summary>It has come whole and its load has ended, one way or the other.</summary>
    /// <param name="digest">XXH3 of its bytes.</param>
    /// <param name="isRemembered">Whether its answer is, so that a caller may ask for it again.</param>
    public void End(ulong digest, bool isRemembered) => (_dropped, _digest) = (!isRemembered, digest);

    public void Dispose()
    {
        store.Return(entry, _dropped, _digest ?? entry.Digest);
        _ended.TrySetResult();
        // _taken is left to the collector: a stream that takes over may be cancelling it.
    }
}
