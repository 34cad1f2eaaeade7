using Grpc.Core;

namespace Sconce.Server.Tests.Wire;

/// <summary>Writes to a stream that the server may refuse at any moment: a write that comes after that fails as it happens to, and only the answer tells the status for sure.</summary>
internal static class Writes
{
    /// <summary>Writes a message.</summary>
    /// <returns>Whether the stream was open still.</returns>
    public static Task<bool> TryWriteAsync<T>(this IClientStreamWriter<T> stream, T message) => TryAsync(() => stream.WriteAsync(message));

    /// <summary>Ends the stream.</summary>
    /// <returns>Whether it was open still.</returns>
    public static Task<bool> TryCompleteAsync<T>(this IClientStreamWriter<T> stream) => TryAsync(stream.CompleteAsync);

    private static async Task<bool> TryAsync(Func<Task> write)
    {
        try
        {
            await write();
            return true;
        }
        catch (Exception e) when (e is RpcException or InvalidOperationException)
        {
            return false;
        }
    }
}
