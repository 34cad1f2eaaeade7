using Google.Protobuf;
using Grpc.Net.Client;

namespace Sconce.Server.Tests.Wire;

/// <summary>Callers that leave at any point: nothing is held, and nothing is logged as a fault.</summary>
public sealed class VanishTests : IAsyncLifetime
{
    private const int Rounds = 60;
    private const int Large = 2048;

    private RunningServer _server = null!;
    private ulong _before;

    public async ValueTask InitializeAsync()
    {
        _server = await RunningServer.StartAsync();
        await Make.ModuleAsync(_server, "m", Make.Linear(256, 256));
        await Make.ModuleAsync(_server, "large", Make.Linear(Large, Large));
        await _server.Training.CreateOptimizerAsync(new V1.CreateOptimizerRequest { Module = "m", Type = "SGD", Args = Make.Args(("lr", 0.0001)) });
        await _server.Training.TrainStepAsync(Step());
        _before = await UsedAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await Eventually.TrueAsync(async () => await UsedAsync() == _before);
        Assert.True(!_server.Errors.Any(), string.Join("\n", _server.Errors.Distinct()));
        await _server.Execution.ForwardAsync(Make.Forward("m", Input()));
        await _server.DisposeAsync();
    }

    [Fact]
    public Task Forward_cancelled_at_any_time() =>
        VanishAsync(async (client, token) => await new V1.ExecutionService.ExecutionServiceClient(client).ForwardAsync(Make.Forward("m", Input()), cancellationToken: token));

    [Fact]
    public Task TrainStep_cancelled_at_any_time() =>
        VanishAsync(async (client, token) => await new V1.TrainingService.TrainingServiceClient(client).TrainStepAsync(Step(), cancellationToken: token));

    [Fact]
    public Task ForwardStream_cancelled_at_any_time() => VanishAsync(async (client, token) =>
    {
        using var call = new V1.ExecutionService.ExecutionServiceClient(client).ForwardStream(cancellationToken: token);
        var reading = Task.Run(async () =>
        {
            while (await call.ResponseStream.MoveNext(token))
            {
            }
        }, token);
        while (true)
        {
            await call.RequestStream.WriteAsync(new V1.ForwardStreamRequest { Forward = Make.Forward("m", Input()) }, token);
        }
    });

    [Fact]
    public Task TrainStream_cancelled_at_any_time() => VanishAsync(async (client, token) =>
    {
        using var call = new V1.TrainingService.TrainingServiceClient(client).TrainStream(cancellationToken: token);
        while (true)
        {
            await call.RequestStream.WriteAsync(new V1.TrainStreamRequest { Step = Step() }, token);
        }
    });

    [Fact]
    public Task GetStateDict_cancelled_at_any_time() => VanishAsync(async (client, token) =>
    {
        using var call = new V1.StateService.StateServiceClient(client).GetStateDict(new V1.GetStateDictRequest { Module = "m", ChunkBytes = 1024 }, cancellationToken: token);
        while (await call.ResponseStream.MoveNext(token))
        {
        }
    });

    [Fact]
    public async Task LoadStateDict_cancelled_at_any_time()
    {
        var pause = false;
        await VanishAsync(UploadAsync);

        // Once in the middle, whenever that comes: a slow machine may have begun none of the above, and were every header refused, none was an upload.
        await Eventually.TrueAsync(async () => await UsedAsync() == _before);
        pause = true;
        using var leaving = new CancellationTokenSource();
        var upload = UploadAsync(_server.Channel, leaving.Token);
        await Eventually.TrueAsync(async () => await UsedAsync() > _before);
        Assert.False(upload.IsCompleted);
        await leaving.CancelAsync();
        await upload.ContinueWith(_ => { }, TaskScheduler.Default).WaitAsync(TimeSpan.FromSeconds(60));

        async Task UploadAsync(GrpcChannel client, CancellationToken token)
        {
            using var call = new V1.StateService.StateServiceClient(client).LoadStateDict(cancellationToken: token);
            await call.RequestStream.WriteAsync(new V1.LoadStateDictRequest
            {
                Header = new V1.LoadStateDictHeader { Module = "large", Strict = false, Entries = { new V1.StateEntry { Key = "weight", Dtype = V1.DataType.Float32, Shape = { Large, Large } } } },
            }, token);
            for (ulong offset = 0; offset < Large * Large * 4; offset += 65536)
            {
                await call.RequestStream.WriteAsync(new V1.LoadStateDictRequest { Chunk = new V1.StateChunk { Offset = offset, Data = ByteString.CopyFrom(new byte[65536]) } }, token);
                await Task.Delay(pause ? Timeout.Infinite : 0, token);
            }

            await call.RequestStream.WriteAsync(new V1.LoadStateDictRequest { End = new V1.StateEnd() }, token);
            await call.RequestStream.CompleteAsync();
            await call;
        }
    }

    [Fact]
    public Task OpenSession_cancelled_at_any_time() => VanishAsync(async (client, token) =>
    {
        using var call = new V1.TensorService.TensorServiceClient(client).OpenSession(new V1.OpenSessionRequest(), cancellationToken: token);
        while (await call.ResponseStream.MoveNext(token))
        {
            var tensors = new V1.TensorService.TensorServiceClient(client);
            await tensors.PutTensorAsync(new V1.PutTensorRequest { Tensor = Input(), Session = call.ResponseStream.Current.Session }, cancellationToken: token);
        }
    });

    /// <summary>Half of the callers cancel, half close their connection.</summary>
    private async Task VanishAsync(Func<GrpcChannel, CancellationToken, Task> call)
    {
        var random = new Random(1);
        for (var round = 0; round < Rounds; round++)
        {
            using var own = GrpcChannel.ForAddress(_server.Address);
            using var cancelling = new CancellationTokenSource();
            var running = Task.Run(() => call(round % 2 == 0 ? _server.Channel : own, cancelling.Token));
            await Task.Delay(random.Next(0, 12));
            if (round % 2 == 0)
            {
                await cancelling.CancelAsync();
            }
            else
            {
                own.Dispose();
            }

            await running.ContinueWith(_ => { }, TaskScheduler.Default).WaitAsync(TimeSpan.FromSeconds(60));
        }
    }

    private static V1.Tensor Input() => Make.Floats([16, 256], new float[16 * 256]);

    private static V1.TrainStepRequest Step() => new() { Module = "m", Inputs = { Input() }, Targets = { Input() }, Loss = new V1.Loss { Type = "MSELoss" } };

    private async Task<ulong> UsedAsync() => (await _server.Host.GetHostAsync(new V1.GetHostRequest())).Memory.UsedBytes;
}
