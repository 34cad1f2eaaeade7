using System.IO.Hashing;
using Grpc.Core;
using Sconce.V1;

namespace Sconce.Client.Internal;

/// <summary>A state dict that comes as the bytes of a file, and goes into one as it comes: none of it is held in memory.</summary>
internal static class StateDownload
{
    /// <summary>Writes the file beside its name, from the start again where the connection fails, and gives it its name when it is whole.</summary>
    public static Task<SavedStateDict> SaveAsync(Rpc rpc, GetStateDictRequest request, string path, CallSettings? settings, CancellationToken cancellationToken) =>
        rpc.RunAsync(
            static async (state, options) =>
            {
                var temporary = $"{state.path}.{Guid.NewGuid():n}.tmp";
                using var call = state.rpc.State.GetStateDict(state.request, options);
                try
                {
                    SavedStateDict saved;
                    var file = new FileStream(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.None, 0, useAsync: true);
                    await using (file.ConfigureAwait(false))
                    {
                        Contract.Check(await call.ResponseHeadersAsync.ConfigureAwait(false), null);
                        saved = await ReceiveAsync(call.ResponseStream, file, options.CancellationToken).ConfigureAwait(false);
                    }

                    File.Move(temporary, state.path, overwrite: true);
                    return saved;
                }
                catch (RpcException e)
                {
                    Rpc.CheckContract(call.ResponseHeadersAsync, e);
                    throw;
                }
                finally
                {
                    File.Delete(temporary);
                }
            },
            (rpc, request, path),
            Repeat.Always,
            settings?.Timeout,
            nameof(GetStateDictRequest),
            cancellationToken,
            settings?.IfInstance);

    private static async Task<SavedStateDict> ReceiveAsync(IAsyncStreamReader<GetStateDictResponse> responses, FileStream file, CancellationToken cancellationToken)
    {
        var digest = new XxHash3();
        StateManifest? manifest = null;
        SavedStateDict? saved = null;
        await foreach (var message in responses.ReadAllAsync(CancellationToken.None).ConfigureAwait(false))
        {
            switch (message)
            {
                case { Manifest: { } first } when manifest is null:
                    manifest = first;
                    break;
                case { Chunk: { } chunk } when manifest is not null && saved is null && chunk.Offset == (ulong)file.Position:
                    digest.Append(chunk.Data.Span);
                    await file.WriteAsync(chunk.Data.Memory, cancellationToken).ConfigureAwait(false);
                    break;
                case { End: { } end } when manifest is not null && saved is null && (ulong)file.Position == manifest.TotalBytes:
                    saved = new SavedStateDict(manifest.Generation, manifest.Entries.Count, manifest.Entries.Sum(StateTransfer.SizeOf), file.Position, digest.GetCurrentHashAsUInt64());
                    if (end.HasXxh3 && end.Xxh3 != saved.Xxh3)
                        throw StateTransfer.Damaged($"its digest is {end.Xxh3:x16} and its bytes give {saved.Xxh3:x16}");
                    break;
                default:
                    throw StateTransfer.Damaged("its messages are out of order");
            }
        }

        return saved ?? throw StateTransfer.Damaged("it stopped before its end");
    }
}
