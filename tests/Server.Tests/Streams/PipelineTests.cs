using Google.Protobuf;
using Grpc.Core;
using Microsoft.Extensions.Logging.Abstractions;
using Sconce.Server.Hosting;
using Sconce.Server.Interceptors;
using Sconce.Server.Mapping;
using Sconce.Server.Streams;
using Sconce.V1;

namespace Sconce.Server.Tests.Streams;

/// <summary>The first failure ends a stream: nothing behind it is started, and nobody waits for a message that need not come.</summary>
public sealed class PipelineTests : IDisposable
{
    private readonly SconceServerOptions _options = new() { MaxMessageBytes = 4096 };
    private readonly DrainSignal _drain = new();
    private readonly Messages _requests = new();
    private readonly Answers _responses = new();
    private readonly List<ulong> _started = [];

    public void Dispose() => _drain.Dispose();

    [Fact]
    public async Task Answer_too_large_ends_the_stream_before_the_next_step_is_taken()
    {
        var error = await Assert.ThrowsAsync<RpcException>(() => RunAsync(request => Answer(request, 8192), stopOnError: true));

        Assert.Equal(StatusCode.ResourceExhausted, error.StatusCode);
        Assert.Equal([0UL], _started);
    }

    [Fact]
    public async Task Answer_too_large_is_its_own_messages_failure_where_the_stream_goes_on()
    {
        _requests.Last = 3;

        await RunAsync(request => Answer(request, request.Id == 1 ? 8192 : 1), stopOnError: false);

        Assert.Equal([null, StatusCode.ResourceExhausted, null], _responses.Written.Select(answer => answer.Error is null ? null : (StatusCode?)answer.Error.Code));
    }

    [Fact]
    public async Task Answer_that_cannot_be_written_ends_the_reading()
    {
        _responses.Failure = new IOException("the connection broke");
        _requests.Last = ulong.MaxValue;

        Assert.Same(_responses.Failure, await Assert.ThrowsAsync<IOException>(() => RunAsync(request => Answer(request, 1), stopOnError: false)));

        Assert.InRange(_started.Count, 1, 2);
    }

    private static Task<TrainStreamResponse> Answer(TrainStreamRequest request, int bytes) => Task.FromResult(
        new TrainStreamResponse { Id = request.Id, Step = new TrainStepResponse { Output = new Value { Tensor = new Tensor { Data = ByteString.CopyFrom(new byte[bytes]) } } } });

    private Task RunAsync(Func<TrainStreamRequest, Task<TrainStreamResponse>> start, bool stopOnError) =>
        new Pipeline(_options, _drain, new ErrorFunnel(_options, NullLogger<ErrorFunnel>.Instance)).RunAsync(
            _requests, _responses, new CallContext(default),
            (request, _, _) =>
            {
                _started.Add(request.Id);
                return start(request);
            },
            (request, status) => stopOnError ? null : new TrainStreamResponse { Id = request.Id, Error = CallErrors.From(status) },
            _ => stopOnError).WaitAsync(TimeSpan.FromSeconds(20));

    /// <summary>Messages 0, 1, … before <see cref="Last"/>, where the stream ends; one that never ends has two, and then says nothing.</summary>
    private sealed class Messages : IAsyncStreamReader<TrainStreamRequest>
    {
        private ulong _next;

        public ulong Last { get; set; } = ulong.MaxValue;

        public TrainStreamRequest Current { get; private set; } = new();

        public async Task<bool> MoveNext(CancellationToken cancellationToken)
        {
            await Task.Yield();
            if (_next == Last)
            {
                return false;
            }

            if (Last == ulong.MaxValue && _next == 2)
            {
                await Task.Delay(Timeout.Infinite, cancellationToken);
            }

            Current = new TrainStreamRequest { Id = _next++ };
            return true;
        }
    }

    private sealed class Answers : IServerStreamWriter<TrainStreamResponse>
    {
        public List<TrainStreamResponse> Written { get; } = [];

        public Exception? Failure { get; set; }

        public WriteOptions? WriteOptions { get; set; }

        public Task WriteAsync(TrainStreamResponse message)
        {
            Written.Add(message);
            return Failure is null ? Task.CompletedTask : Task.FromException(Failure);
        }

        public Task WriteAsync(TrainStreamResponse message, CancellationToken cancellationToken) => WriteAsync(message);
    }
}
