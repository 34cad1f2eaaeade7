using System.IO.Hashing;
using Google.Protobuf;
using Grpc.Core;
using Sconce.V1;

namespace Sconce.Client.Internal;

/// <summary>One LoadStateDict, over as many connections as it takes: after one has failed the next goes on with what the server has.</summary>
internal sealed class StateUpload(Rpc rpc, LoadStateDictHeader header, StateDict state, IProgress<UploadProgress>? progress, CallSettings? settings)
{
    // What is smaller is sent again faster than asked for.
    private const long LeastResumable = 4 << 20;

    private readonly bool _isResumable = state.TotalBytes >= LeastResumable;
    private bool _begun;

    public Task<LoadStateDictResponse> SendAsync(CancellationToken cancellationToken)
    {
        if (_isResumable)
            header.UploadId = header.RequestId;
        return StateTransfer.SendAsync(rpc, rpc.State.LoadStateDict, MessagesAsync, settings, cancellationToken);
    }

    private async Task<IEnumerable<LoadStateDictRequest>> MessagesAsync(CallOptions options)
    {
        var from = _begun && _isResumable ? await PlaceAsync(options).ConfigureAwait(false) : null;
        _begun = true;
        return Messages(from?.NextEntry ?? 0, from?.NextOffset ?? 0);
    }

    /// <summary>Where the server wants the upload to go on; null where it knows nothing of it.</summary>
    private async Task<GetUploadResponse?> PlaceAsync(CallOptions options)
    {
        try
        {
            return await rpc.State.GetUploadAsync(new GetUploadRequest { UploadId = header.UploadId }, options).ResponseAsync.ConfigureAwait(false);
        }
        catch (RpcException e) when (e.StatusCode is StatusCode.NotFound or StatusCode.Unimplemented)
        {
            return null;
        }
    }

    private IEnumerable<LoadStateDictRequest> Messages(uint entry, ulong offset)
    {
        yield return new LoadStateDictRequest { Header = header };
        var total = state.TotalBytes;
        var digest = new XxHash3();
        var sent = 0L;
        var index = 0u;
        foreach (var tensor in state.Values)
        {
            foreach (var (begin, piece) in StateTransfer.Pieces(tensor.Bytes))
            {
                digest.Append(piece.Span);
                sent += piece.Length;
                var known = index < entry ? piece.Length : index > entry || offset <= (ulong)begin ? 0 : (int)Math.Min((ulong)piece.Length, offset - (ulong)begin);
                if (known == piece.Length)
                    continue;
                yield return new LoadStateDictRequest
                {
                    Chunk = new StateChunk { Entry = index, Offset = (ulong)(begin + known), Data = UnsafeByteOperations.UnsafeWrap(piece[known..]) },
                };
                progress?.Report(new UploadProgress(sent, total));
            }

            index++;
        }

        yield return new LoadStateDictRequest { End = new StateEnd { Xxh3 = digest.GetCurrentHashAsUInt64() } };
    }
}
