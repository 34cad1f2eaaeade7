using System.Security.Cryptography;

namespace Sconce.Engine.Snapshots;

/// <summary>A SHA-256 that can run beside what else is done with the same bytes: it is slower than a good disk. Used by one thread.</summary>
internal sealed unsafe class RunningDigest : IDisposable
{
    private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
    private readonly SemaphoreSlim _begun = new(0);
    private readonly SemaphoreSlim _ended = new(0);

    // A thread of its own, made when it is first needed: one of the pool may come late where all are busy, and the disk would wait for it.
    private Thread? _thread;
    private byte* _bytes;
    private int _length;
    private bool _isBeside;
    private Exception? _failure;

    /// <summary>Adds bytes, on this thread.</summary>
    public void Append(ReadOnlySpan<byte> bytes) => _hash.AppendData(bytes);

    /// <summary>Begins to add bytes on the other thread. They must stay in place until <see cref="End"/>, which must be called whatever happens.</summary>
    public void Begin(byte* bytes, int length)
    {
        _bytes = bytes;
        _length = length;
        _isBeside = true;
        if (_thread is null)
        {
            _thread = new Thread(Run) { IsBackground = true, Name = "sconce-digest" };
            _thread.Start();
        }

        _begun.Release();
    }

    /// <summary>Waits until the bytes have been added; nothing where none were begun.</summary>
    public void End()
    {
        if (_isBeside)
        {
            _ended.Wait();
            _isBeside = false;
            if (_failure is { } failure)
            {
                throw new CryptographicException("SHA-256 failed", failure);
            }
        }
    }

    /// <summary>The digest of what was added since the last one, as 64 lower-case hexadecimal digits.</summary>
    public string Take() => Convert.ToHexStringLower(_hash.GetHashAndReset());

    public void Dispose()
    {
        if (_thread is not null)
        {
            _bytes = null;
            _begun.Release();
            _thread.Join();
        }

        _hash.Dispose();
        _begun.Dispose();
        _ended.Dispose();
    }

    private void Run()
    {
        while (true)
        {
            _begun.Wait();
            if (_bytes == null)
            {
                return;
            }

            try
            {
                _hash.AppendData(new ReadOnlySpan<byte>(_bytes, _length));
            }
            catch (Exception exception)
            {
                _failure = exception;
            }

            _ended.Release();
        }
    }
}
