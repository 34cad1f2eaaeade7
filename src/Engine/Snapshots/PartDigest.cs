using System.Security.Cryptography;

namespace Sconce.Engine.Snapshots;

/// <summary>
/// The digest of a part: SHA-256 of the file, or, where that is longer than a <see cref="Segment"/>, of the SHA-256s of its segments one after another. So several threads
/// can work at it, beside the disk: one is slower than a good disk. Used by one thread.
/// </summary>
internal sealed unsafe class PartDigest : IDisposable
{
    /// <summary>The bytes of each segment but the last.</summary>
    public const int Segment = 4 << 20;

    // A snapshot is taken beside work that has the processor's better half.
    private static readonly int Helpers = Math.Clamp(Environment.ProcessorCount / 2, 1, 4);

    private readonly MemoryStream _digests = new();
    private readonly IncrementalHash _open = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
    private int _opened;

    // Threads of its own, made when they are first needed: those of the pool may come late where all are busy, and the disk would wait for them.
    private readonly SemaphoreSlim _begun = new(0);
    private Thread[] _threads = [];
    private volatile Job? _job;
    private volatile bool _isDisposed;
    private byte* _rest;
    private int _restLength;

    /// <summary>Adds bytes, on this thread.</summary>
    public void Append(ReadOnlySpan<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            var some = bytes[..Math.Min(bytes.Length, Segment - _opened)];
            _open.AppendData(some);
            _opened += some.Length;
            bytes = bytes[some.Length..];
            if (_opened == Segment)
            {
                Close();
            }
        }
    }

    /// <summary>Begins to add bytes, on other threads where there are whole segments. They must stay in place until <see cref="End"/>, which must be called whatever happens.</summary>
    public void Begin(byte* bytes, int length)
    {
        var head = _opened == 0 ? 0 : Math.Min(length, Segment - _opened);
        Append(new ReadOnlySpan<byte>(bytes, head));
        var count = (length - head) / Segment;
        _rest = bytes + head + ((long)count * Segment);
        _restLength = length - head - (count * Segment);
        if (count == 0)
        {
            return;
        }

        if (_threads.Length == 0)
        {
            _threads = [.. Enumerable.Range(0, Helpers).Select(_ => new Thread(Help) { IsBackground = true, Name = "sconce-digest" })];
            Array.ForEach(_threads, thread => thread.Start());
        }

        _job = new Job(bytes + head, count);
        _begun.Release(Helpers);
    }

    /// <summary>Takes part in what was begun and waits until all of it is done; nothing where nothing was begun.</summary>
    public void End()
    {
        if (_job is { } job)
        {
            _job = null;
            job.Work();
            _digests.Write(job.Finish());
        }

        var rest = new ReadOnlySpan<byte>(_rest, _restLength);
        _restLength = 0;
        Append(rest);
    }

    /// <summary>The digest of what was added since the last one, as 64 lower-case hexadecimal digits.</summary>
    public string Take()
    {
        if (_opened > 0 || _digests.Length == 0)
        {
            Close();
        }

        var digests = _digests.GetBuffer().AsSpan(0, (int)_digests.Length);
        var digest = Convert.ToHexStringLower(digests.Length == SHA256.HashSizeInBytes ? digests : SHA256.HashData(digests));
        _digests.SetLength(0);
        return digest;
    }

    public void Dispose()
    {
        _isDisposed = true;
        if (_threads.Length > 0)
        {
            _begun.Release(Helpers);
            Array.ForEach(_threads, thread => thread.Join());
        }

        _open.Dispose();
        _begun.Dispose();
        _digests.Dispose();
    }

    private void Close()
    {
        _digests.Write(_open.GetHashAndReset());
        _opened = 0;
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

            _job?.Work();
        }
    }

    /// <summary>Whole segments, which several threads take one after another.</summary>
    private sealed class Job(byte* bytes, int count)
    {
        private readonly byte[] _digests = new byte[count * SHA256.HashSizeInBytes];
        private readonly object _finished = new();
        private int _taken;
        private int _done;
        private Exception? _failure;

        public void Work()
        {
            while (Interlocked.Increment(ref _taken) - 1 is var index && index < count)
            {
                try
                {
                    SHA256.HashData(new ReadOnlySpan<byte>(bytes + ((long)index * Segment), Segment), _digests.AsSpan(index * SHA256.HashSizeInBytes));
                }
                catch (Exception exception)
                {
                    _failure = exception;
                }

                if (Interlocked.Increment(ref _done) == count)
                {
                    lock (_finished)
                    {
                        Monitor.PulseAll(_finished);
                    }
                }
            }
        }

        public byte[] Finish()
        {
            lock (_finished)
            {
                while (Volatile.Read(ref _done) < count)
                {
                    Monitor.Wait(_finished);
                }
            }

            return _failure is null ? _digests : throw new CryptographicException("SHA-256 failed", _failure);
        }
    }
}
