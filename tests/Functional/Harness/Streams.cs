using Grpc.Core;

namespace Sconce.Functional.Harness;

/// <summary>Reads and writes whole streams.</summary>
internal static class Streams
{
    /// <summary>Reads a stream to its end.</summary>
    public static async Task<List<T>> DrainAsync<T>(AsyncServerStreamingCall<T> call)
    {
        using (call)
        {
            return await ReadAllAsync(call.ResponseStream);
        }
    }

    /// <summary>Reads what is left of a stream.</summary>
    public static async Task<List<T>> ReadAllAsync<T>(IAsyncStreamReader<T> reader)
    {
        var all = new List<T>();
        while (await reader.MoveNext(CancellationToken.None))
        {
            all.Add(reader.Current);
        }

        return all;
    }

    /// <summary>Sends messages and awaits the answer.</summary>
    public static async Task<TResponse> SendAsync<TRequest, TResponse>(AsyncClientStreamingCall<TRequest, TResponse> call, params IEnumerable<TRequest> messages)
    {
        using (call)
        {
            try
            {
                foreach (var message in messages)
                {
                    await call.RequestStream.WriteAsync(message);
                }

                await call.RequestStream.CompleteAsync();
            }
            catch (Exception e) when (e is RpcException or InvalidOperationException)
            {
                // The server has answered before it had read everything; its answer says why.
            }

            return await call.ResponseAsync;
        }
    }
}
