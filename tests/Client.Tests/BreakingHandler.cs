namespace Sconce.Client.Tests;

/// <summary>Lets the first request fail as HTTP/2 does when its connection is gone but the call has not heard of it: in the write, with an HttpRequestException.</summary>
internal sealed class BreakingHandler(HttpMessageHandler inner) : DelegatingHandler(inner)
{
    private int _requests;

    protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        if (Interlocked.Increment(ref _requests) > 1)
            return await base.SendAsync(request, cancellationToken);
        var stream = new BrokenStream();
        _ = request.Content!.CopyToAsync(stream, cancellationToken);
        await stream.Written.Task;
        await Task.Delay(50, cancellationToken);
        throw Aborted();
    }

    private static HttpRequestException Aborted() => new("The HTTP/2 request was aborted.");

    private sealed class BrokenStream : MemoryStream
    {
        public TaskCompletionSource Written { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            Written.TrySetResult();
            return ValueTask.FromException(Aborted());
        }
    }
}
