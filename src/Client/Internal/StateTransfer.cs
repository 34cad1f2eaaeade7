using System.IO.Hashing;
using Google.Protobuf;
using Grpc.Core;
using Sconce.V1;

namespace Sconce.Client.Internal;

/// <summary>One message of a state stream, whichever rpc it belongs to.</summary>
internal readonly record struct StatePart(IReadOnlyList<StateEntry>? Entries, StateChunk? Chunk, StateEnd? End, ulong Generation = 0);

/// <summary>The framing of StateService: a list of tensors, their bytes in chunks, an end with a digest.</summary>
internal static class StateTransfer
{
    private const int ChunkBytes = 1 << 20;

    private static readonly TimeSpan GraceForStatus = TimeSpan.FromSeconds(2);

    /// <summary>
    /// Reads a stream to its end, from the start again where the connection fails. A tensor that came in one chunk shares that message's
    /// memory; others are copied together once.
    /// </summary>
    public static Task<StateDict> ReadAsync<TRequest, TResponse>(
        Rpc rpc,
        Func<TRequest, CallOptions, AsyncServerStreamingCall<TResponse>> method,
        TRequest request,
        Func<TResponse, StatePart> parse,
        CallSettings? settings,
        CancellationToken cancellationToken)
        where TRequest : class =>
        rpc.RunAsync(
            static async (state, options) =>
            {
                using var call = state.method(state.request, options);
                try
                {
                    return await ReadAsync(call, state.parse).ConfigureAwait(false);
                }
                catch (RpcException e)
                {
                    Rpc.CheckContract(call.ResponseHeadersAsync, e);
                    throw;
                }
            },
            (method, request, parse),
            Repeat.Always,
            settings?.Timeout,
            typeof(TRequest).Name,
            cancellationToken,
            settings?.IfInstance);

    /// <summary>
    /// Sends a stream in and returns the answer, from the start again where the connection fails: <paramref name="messages"/> is asked anew
    /// each time, and
    /// the request id in its header keeps the server from acting twice.
    /// </summary>
    public static Task<TResponse> SendAsync<TRequest, TResponse>(
        Rpc rpc,
        Func<CallOptions, AsyncClientStreamingCall<TRequest, TResponse>> method,
        Func<IEnumerable<TRequest>> messages,
        CallSettings? settings,
        CancellationToken cancellationToken)
        where TRequest : class =>
        SendAsync(rpc, method, _ => Task.FromResult(messages()), settings, cancellationToken);

    /// <summary>The same, with messages that are asked for by a call.</summary>
    public static Task<TResponse> SendAsync<TRequest, TResponse>(
        Rpc rpc,
        Func<CallOptions, AsyncClientStreamingCall<TRequest, TResponse>> method,
        Func<CallOptions, Task<IEnumerable<TRequest>>> messages,
        CallSettings? settings,
        CancellationToken cancellationToken)
        where TRequest : class =>
        rpc.RunAsync(
            static async (state, options) =>
            {
                var messages = await state.messages(options).ConfigureAwait(false);
                using var call = state.method(options);
                var failedWrite = await WriteAsync(call, messages).ConfigureAwait(false);
                try
                {
                    // A write mostly fails because the server has ended the call, and why is in its answer.
                    // Where none comes, the write itself was at fault.
                    if (failedWrite is not null
                        && await Task.WhenAny(call.ResponseAsync, Task.Delay(GraceForStatus)).ConfigureAwait(false) != call.ResponseAsync)
                    {
                        throw failedWrite as RpcException ?? new RpcException(new Status(StatusCode.Unavailable, failedWrite.Message, failedWrite));
                    }

                    var response = await call.ResponseAsync.ConfigureAwait(false);
                    Contract.Check(await call.ResponseHeadersAsync.ConfigureAwait(false), null);
                    return response;
                }
                catch (RpcException e)
                {
                    Rpc.CheckContract(call.ResponseHeadersAsync, e);
                    throw;
                }
            },
            (method, messages),
            Repeat.Always,
            settings?.Timeout,
            typeof(TRequest).Name,
            cancellationToken,
            settings?.IfInstance);

    /// <summary>The entries of a header for these tensors.</summary>
    public static IEnumerable<StateEntry> Entries(StateDict state) => state.Select(item =>
    {
        if (item.Value.KeptId is not null || item.Value.IsNone)
            throw new ArgumentException($"'{item.Key}' is {item.Value}; a state dict is loaded from tensors whose elements are here.", nameof(state));
        return new StateEntry { Key = item.Key, Dtype = item.Value.DType, Shape = { item.Value.Shape } };
    });

    /// <summary>The chunks and the end that follow a header, sharing the tensors' memory.</summary>
    public static IEnumerable<StatePart> Chunks(StateDict state)
    {
        var digest = new XxHash3();
        var index = 0u;
        foreach (var tensor in state.Values)
        {
            foreach (var (offset, piece) in Pieces(tensor.Bytes))
            {
                digest.Append(piece.Span);
                var data = UnsafeByteOperations.UnsafeWrap(piece);
                yield return new StatePart(null, new StateChunk { Entry = index, Offset = (ulong)offset, Data = data }, null);
            }

            index++;
        }

        yield return new StatePart(null, null, new StateEnd { Xxh3 = digest.GetCurrentHashAsUInt64() });
    }

    /// <summary>Where each chunk of a tensor begins, and its bytes.</summary>
    public static IEnumerable<(int Offset, ReadOnlyMemory<byte> Piece)> Pieces(ReadOnlyMemory<byte> bytes)
    {
        // What is left is counted, since the end of the last chunk of the largest tensor is beyond int.
        for (var left = bytes; !left.IsEmpty; left = left[Math.Min(ChunkBytes, left.Length)..])
            yield return (bytes.Length - left.Length, left[..Math.Min(ChunkBytes, left.Length)]);
    }

    private static async Task<StateDict> ReadAsync<TResponse>(AsyncServerStreamingCall<TResponse> call, Func<TResponse, StatePart> parse)
    {
        Contract.Check(await call.ResponseHeadersAsync.ConfigureAwait(false), null);
        var assembly = new Assembly();
        await foreach (var message in call.ResponseStream.ReadAllAsync().ConfigureAwait(false))
            assembly.Take(parse(message));
        return assembly.Ended ? assembly.State : throw Damaged("it stopped before its end");
    }

    private static async Task<Exception?> WriteAsync<TRequest, TResponse>(
        AsyncClientStreamingCall<TRequest, TResponse> call, IEnumerable<TRequest> messages)
    {
        try
        {
            foreach (var message in messages)
                await call.RequestStream.WriteAsync(message).ConfigureAwait(false);
            await call.RequestStream.CompleteAsync().ConfigureAwait(false);
            return null;
        }
        catch (Exception e) when (Rpc.IsFailedWrite(e))
        {
            return e;
        }
    }

    /// <summary>Bytes of a tensor that the server announces.</summary>
    internal static long SizeOf(StateEntry entry)
    {
        Int128 size = DataTypes.SizeOf(entry.Dtype);
        foreach (var dimension in entry.Shape)
        {
            size *= dimension;
            if (dimension < 0 || size > long.MaxValue)
                throw Damaged($"'{entry.Key}' has an impossible shape");
        }

        return (long)size;
    }

    internal static SconceException Damaged(string how) =>
        new ErrorDetails(StatusCode.DataLoss, $"The server's stream of tensors is damaged: {how}. Nothing of it was used.").ToException(null);

    /// <summary>Tensors in the making.</summary>
    internal sealed class Assembly
    {
        private readonly XxHash3 _digest = new();
        private IReadOnlyList<StateEntry>? _entries;
        private byte[]? _buffer;
        private long _filled;

        public StateDict State { get; } = [];

        public bool Ended { get; private set; }

        public void Take(StatePart part)
        {
            if (Ended)
                throw Damaged("messages follow its end");
            if (part.Entries is { } entries && _entries is null)
                Begin(entries, part.Generation);
            else if (part.Chunk is { } chunk && _entries is not null)
                Add(chunk);
            else if (part.End is { } end && _entries is not null)
                Finish(end);
            else
                throw Damaged("its messages are out of order");
        }

        private void Begin(IReadOnlyList<StateEntry> entries, ulong generation)
        {
            _entries = entries;
            State.Generation = generation;
            SkipEmpty();
        }

        private void Add(StateChunk chunk)
        {
            if (chunk.Entry != State.Count || State.Count == _entries!.Count || chunk.Offset != (ulong)_filled)
                throw Damaged($"a chunk is for tensor {chunk.Entry} at byte {chunk.Offset}, and tensor {State.Count} at byte {_filled} was due");
            var entry = _entries[State.Count];
            var size = SizeOf(entry);
            if (_filled + chunk.Data.Length > size)
                throw Damaged($"'{entry.Key}' has {size} bytes and more came");
            _digest.Append(chunk.Data.Span);
            if (chunk.Data.Length == size)
            {
                Complete(entry, chunk.Data.Memory);
                return;
            }

            if (size > Array.MaxLength)
            {
                throw new NotSupportedException(
                    $"'{entry.Key}' has {size} bytes; a tensor in this client holds at most {Array.MaxLength}. "
                    + "Leave it out by StateDictAsync's keys.");
            }

            _buffer ??= GC.AllocateUninitializedArray<byte>((int)size);
            chunk.Data.Span.CopyTo(_buffer.AsSpan((int)_filled));
            _filled += chunk.Data.Length;
            if (_filled == size)
                Complete(entry, _buffer);
        }

        private void Finish(StateEnd end)
        {
            if (State.Count != _entries!.Count)
                throw Damaged($"{_entries.Count} tensors were announced and {State.Count} came whole");
            var digest = _digest.GetCurrentHashAsUInt64();
            if (end.HasXxh3 && end.Xxh3 != digest)
                throw Damaged($"its digest is {end.Xxh3:x16} and its bytes give {digest:x16}");
            Ended = true;
        }

        private void Complete(StateEntry entry, ReadOnlyMemory<byte> bytes)
        {
            if (!State.TryAdd(entry.Key, TensorData.FromBytes(entry.Dtype, [.. entry.Shape], bytes)))
                throw Damaged($"'{entry.Key}' is listed twice");
            _buffer = null;
            _filled = 0;
            SkipEmpty();
        }

        // Tensors without elements have no chunks.
        private void SkipEmpty()
        {
            while (State.Count < _entries!.Count && SizeOf(_entries[State.Count]) == 0)
            {
                var entry = _entries[State.Count];
                if (!State.TryAdd(entry.Key, TensorData.FromBytes(entry.Dtype, [.. entry.Shape], default)))
                    throw Damaged($"'{entry.Key}' is listed twice");
            }
        }
    }
}
