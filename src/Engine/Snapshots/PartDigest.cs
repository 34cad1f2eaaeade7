using System.Collections.Concurrent;
using System.Security.Cryptography;

namespace Sconce.Engine.Snapshots;

/// <summary>
/// The digest of a part: SHA-256 of the file, or, where that is longer than a <see cref="Segment"/>, of the SHA-256s of its segments one after another. So several threads
/// can work at it, beside the disk: one is slower than a good disk. Used by one thread, whose own threads take one segment after another meanwhile.
/// </summary>
internal sealed unsafe class PartDigest : IDisposable
{
    /// <summary>The bytes of each segment but the last.</summary>
    public const int Segment = 4 << 20;

    // A snapshot is taken beside work that has the processor's better half.
    private static readonly int Helpers = Math.Clamp(Environment.ProcessorCount / 2, 1, 4);

    // Of one part, in order, without the one that is open.
    private readonly List<Piece> _segments = [];
    private readonly ConcurrentQueue<Piece> _waiting = new();
    private Piece _open = new();

    // Threads of its own, made when they are first needed: those of the pool may come late where all are busy, and the disk would wait for them.
    private readonly SemaphoreSlim _begun = new(0);
    private readonly object _ended = new();
    private Thread[] _threads = [];
    private int _unfinished;
    private volatile bool _isDisposed;

    /// <summary>Adds bytes. They must stay where they are, as they are, until <see cref="Settle"/>, <see cref="Take"/>, <see cref="Drop"/> or <see cref="Dispose"/> has returned.</summary>
    public void Add(byte* bytes, long length)
    {
        while (length > 0)
        {
            var some = (int)Math.Min(length, Segment - _open.Length);
            _open.Add(bytes, some);
            bytes += some;
            length -= some;
            if (_open.Length == Segment)
            {
                Close();
            }
        }
    }

    /// <summary>Takes part in what is left and waits until nothing that was added is needed any more.</summary>
    public void Settle()
    {
        WorkToTheEnd();
        _open.Absorb();
    }

    /// <summary>The digest of what was added since the last one, as 64 lower-case hexadecimal digits.</summary>
    public string Take()
    {
        if (_open.Length > 0 || _segments.Count == 0)
        {
            Close();
        }

        WorkToTheEnd();
        var digests = _segments.Count == 1 ? _segments[0].Digest() : SHA256.HashData([.. _segments.SelectMany(segment => segment.Digest())]);
        _segments.Clear();
        return Convert.ToHexStringLower(digests);
    }

    /// <summary>Forgets what was added since the last digest.</summary>
    public void Drop()
    {
        while (_waiting.TryDequeue(out _))
        {
            Interlocked.Decrement(ref _unfinished);
        }

        WorkToTheEnd();
        _segments.Clear();
        _open.Dispose();
        _open = new();
    }

    public void Dispose()
    {
        Drop();
        _isDisposed = true;
        if (_threads.Length > 0)
        {
            _begun.Release(Helpers);
            Array.ForEach(_threads, thread => thread.Join());
        }

        _open.Dispose();
        _begun.Dispose();
    }

    private void Close()
    {
        if (_threads.Length == 0 && _open.Length == Segment)
        {
            _threads = [.. Enumerable.Range(0, Helpers).Select(_ => new Thread(Help) { IsBackground = true, Name = "sconce-digest" })];
            Array.ForEach(_threads, thread => thread.Start());
        }

        _segments.Add(_open);
        Interlocked.Increment(ref _unfinished);
        _waiting.Enqueue(_open);
        _open = new();
        _begun.Release();
    }

    private void WorkToTheEnd()
    {
        Work();
        lock (_ended)
        {
            while (Volatile.Read(ref _unfinished) > 0)
            {
                Monitor.Wait(_ended);
            }
        }
    }

    private void Work()
    {
        while (_waiting.TryDequeue(out var segment))
        {
            segment.Finish();
            if (Interlocked.Decrement(ref _unfinished) == 0)
            {
                lock (_ended)
                {
                    Monitor.PulseAll(_ended);
                }
            }
        }
    }

    private void Help()
    {
        while (true)
        {
            // One that comes late finds that there is nothing left to take.
            _begun.Wait();
            if (_isDisposed)
            {
                return;
            }

            Work();
        }
    }

    /// <summary>A segment's bytes, in as many places as they lie in, and then its digest.</summary>
    private sealed class Piece : IDisposable
    {
        private readonly List<(nint Start, int Length)> _places = [];
        private IncrementalHash? _begun;
        private byte[] _digest = [];
        private Exception? _failure;

        public int Length { get; private set; }

        public void Add(byte* start, int length)
        {
            _places.Add(((nint)start, length));
            Length += length;
        }

        /// <summary>Hashes what there is, which is not needed any more then.</summary>
        public void Absorb()
        {
            if (_places.Count > 0)
            {
                _begun ??= IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
                foreach (var (start, length) in _places)
                {
                    _begun.AppendData(new ReadOnlySpan<byte>((byte*)start, length));
                }

                _places.Clear();
            }
        }

        /// <summary>Makes the digest; what fails is thrown by <see cref="Digest"/>.</summary>
        public void Finish()
        {
            try
            {
                if (_begun is null && _places.Count == 1)
                {
                    _digest = SHA256.HashData(new ReadOnlySpan<byte>((byte*)_places[0].Start, Length));
                }
                else
                {
                    Absorb();
                    _digest = _begun?.GetHashAndReset() ?? SHA256.HashData([]);
                }
            }
            catch (Exception exception)
            {
                _failure = exception;
            }
            finally
            {
                Dispose();
            }
        }

        public byte[] Digest() => _failure is null ? _digest : throw new CryptographicException("SHA-256 failed", _failure);

        public void Dispose()
        {
            _begun?.Dispose();
            _begun = null;
        }
    }
}
