using Google.Protobuf;
using Google.Rpc;
using Grpc.Core;

namespace Sconce.Server.Tests.Wire;

/// <summary>Training over a socket.</summary>
public sealed class TrainingTests : IAsyncLifetime
{
    private RunningServer _server = null!;

    public async ValueTask InitializeAsync()
    {
        _server = await RunningServer.StartAsync();
        await Make.ModuleAsync(_server, "m", Make.Linear(2, 1));
        await _server.Training.CreateOptimizerAsync(new V1.CreateOptimizerRequest { Module = "m", Type = "SGD", Args = Make.Args(("lr", 0.05), ("momentum", 0.5)) });
    }

    public async ValueTask DisposeAsync()
    {
        Assert.Empty(_server.Errors);
        await _server.DisposeAsync();
    }

    [Fact]
    public async Task TrainStep_many_lower_the_loss()
    {
        var first = await _server.Training.TrainStepAsync(Step(1));
        V1.TrainStepResponse last = first;
        for (var i = 0; i < 50; i++)
        {
            last = await _server.Training.TrainStepAsync(Step(1));
        }

        Assert.True(last.Loss < first.Loss / 10, $"{first.Loss} -> {last.Loss}");
        Assert.Equal((51UL, first.Generation + 50), (last.Steps, last.Generation));
    }

    [Fact]
    public async Task TrainStep_repeated_with_its_request_id_steps_once()
    {
        var step = Step(1);
        step.RequestId = "s1";
        step.ReturnOutput = true;
        step.Clip = new V1.GradientClip { MaxNorm = 1 };

        var answers = await Task.WhenAll(Enumerable.Range(0, 16).Select(_ => _server.Training.TrainStepAsync(step).ResponseAsync));

        Assert.All(answers, answer => Assert.Equal(answers[0], answer));
        Assert.True(answers[0].HasGradNorm);
        Assert.Equal([1L, 1L], answers[0].Output.Tensor.Shape);
        Assert.Equal(1UL, (await _server.Training.GetOptimizerAsync(new V1.GetOptimizerRequest { Module = "m" })).Optimizer.Steps);
        step.ReturnOutput = false;
        Assert.Equal(StatusCode.InvalidArgument, (await RunningServer.RefusedAsync(_server.Training.TrainStepAsync(step))).StatusCode);
    }

    [Fact]
    public async Task TrainStep_cancelled_at_any_time_and_sent_again_steps_once()
    {
        await Make.ModuleAsync(_server, "wide", Make.Linear(512, 512));
        await _server.Training.CreateOptimizerAsync(new V1.CreateOptimizerRequest { Module = "wide", Type = "SGD", Args = Make.Args(("lr", 0.001)) });
        var values = Make.Floats([32, 512], new float[32 * 512]);
        var random = new Random(1);
        var cancelled = 0;
        for (var i = 0; i < 60; i++)
        {
            var step = new V1.TrainStepRequest { Module = "wide", Inputs = { values }, Targets = { values }, Loss = new V1.Loss { Type = "MSELoss" }, RequestId = $"c{i}" };
            using var leaving = new CancellationTokenSource(TimeSpan.FromMicroseconds(random.Next(200, 6000)));
            try
            {
                await _server.Training.TrainStepAsync(step, cancellationToken: leaving.Token);
            }
            catch (RpcException e) when (e.StatusCode == StatusCode.Cancelled)
            {
                cancelled++;
            }

            Assert.Equal((ulong)i + 1, (await _server.Training.TrainStepAsync(step)).Steps);
        }

        Assert.InRange(cancelled, 1, 60);
    }

    [Fact]
    public async Task TrainStream_steps_in_order_and_errors_do_not_end_it()
    {
        using var call = _server.Training.TrainStream();
        for (var i = 0; i < 100; i++)
        {
            var step = Step(1);
            if (i == 50)
            {
                step.Targets.Clear();
            }
            else if (i == 60)
            {
                (step.Loss.Type, step.Targets[0]) = ("CrossEntropyLoss", Make.Longs([1], 7));
            }

            await call.RequestStream.WriteAsync(new V1.TrainStreamRequest { Id = (ulong)i, Step = step });
        }

        await call.RequestStream.CompleteAsync();
        var answers = await ReadAsync(call);

        Assert.Equal(Enumerable.Range(0, 100).Select(i => (ulong)i), answers.Select(answer => answer.Id));
        Assert.Equal([50UL, 60UL], answers.Where(answer => answer.Error is not null).Select(answer => answer.Id));
        Assert.Equal(["step.targets", "step.targets[0]"], answers.Where(answer => answer.Error is not null).Select(FieldOf));
        Assert.Equal(Enumerable.Range(1, 98).Select(i => (ulong)i), answers.Where(answer => answer.Step is not null).Select(answer => answer.Step.Steps));
    }

    [Fact]
    public async Task TrainStream_stop_on_error_runs_none_behind_it()
    {
        using var call = _server.Training.TrainStream();
        for (var i = 0; i < 10; i++)
        {
            var step = Step(1);
            if (i == 3)
            {
                step.Inputs.Clear();
            }

            try
            {
                await call.RequestStream.WriteAsync(new V1.TrainStreamRequest { Id = (ulong)i, Step = step, StopOnError = true });
            }
            catch (Exception e) when (e is RpcException or InvalidOperationException)
            {
                break;
            }
        }

        var answers = new List<ulong>();
        var error = await Assert.ThrowsAsync<RpcException>(async () =>
        {
            while (await call.ResponseStream.MoveNext(default).WaitAsync(TimeSpan.FromSeconds(30)))
            {
                answers.Add(call.ResponseStream.Current.Id);
            }
        });

        Assert.Equal(StatusCode.InvalidArgument, error.StatusCode);
        Assert.Contains("step.", error.Status.Detail, StringComparison.Ordinal);
        Assert.Equal([0UL, 1UL, 2UL], answers);
        Assert.Equal(3UL, (await _server.Training.GetOptimizerAsync(new V1.GetOptimizerRequest { Module = "m" })).Optimizer.Steps);
    }

    [Fact]
    public async Task TrainStream_steps_repeated_on_a_new_stream_are_not_taken_twice()
    {
        var losses = new List<double[]>();
        for (var attempt = 0; attempt < 2; attempt++)
        {
            using var call = _server.Training.TrainStream();
            for (var i = 0; i < 5; i++)
            {
                var step = Step(1);
                step.RequestId = $"step-{i}";
                await call.RequestStream.WriteAsync(new V1.TrainStreamRequest { Id = (ulong)(100 * attempt) + (ulong)i, Step = step });
            }

            await call.RequestStream.CompleteAsync();
            losses.Add([.. (await ReadAsync(call)).Select(answer => answer.Step.Loss)]);
        }

        Assert.Equal(losses[0], losses[1]);
        Assert.Equal(5UL, (await _server.Training.GetOptimizerAsync(new V1.GetOptimizerRequest { Module = "m" })).Optimizer.Steps);
    }

    [Fact]
    public async Task ForwardBackward_accumulates_and_OptimizerStep_steps()
    {
        var request = new V1.ForwardBackwardRequest { Module = "m", Inputs = { Step(1).Inputs }, Targets = { Step(1).Targets }, Loss = Step(1).Loss };
        await _server.Training.ForwardBackwardAsync(request);
        var once = await GradientAsync();
        await _server.Training.ForwardBackwardAsync(request);
        var twice = await GradientAsync();
        Assert.Equal(once.Select(value => 2 * value), twice);

        var clipped = await _server.Training.ClipGradientsAsync(new V1.ClipGradientsRequest { Module = "m", Clip = new V1.GradientClip { ClipValue = 0.001 } });
        Assert.False(clipped.HasGradNorm);
        Assert.All(await GradientAsync(), value => Assert.InRange(Math.Abs(value), 0, 0.00101f));
        var step = await _server.Training.OptimizerStepAsync(new V1.OptimizerStepRequest { Module = "m", ZeroGrad = true });
        Assert.Equal(1UL, step.Steps);
        Assert.Empty(await GradientAsync());
    }

    [Fact]
    public async Task Optimizer_state_goes_out_and_in()
    {
        await _server.Training.TrainStepAsync(Step(1));
        var (state, bytes) = await OptimizerStateAsync();
        Assert.Contains("0.momentum_buffer", state.Entries.Select(entry => entry.Key));
        await _server.Training.TrainStepAsync(Step(3));
        Assert.NotEqual(bytes, (await OptimizerStateAsync()).Bytes);

        using var call = _server.Training.LoadOptimizerState();
        await call.RequestStream.WriteAsync(new V1.LoadOptimizerStateRequest { Header = new V1.LoadOptimizerStateHeader { Module = "m", State = state } });
        var read = 0;
        for (var i = 0; i < state.Entries.Count; i++)
        {
            var length = (int)state.Entries[i].Shape.Aggregate(4L, (a, b) => a * b);
            await call.RequestStream.WriteAsync(new V1.LoadOptimizerStateRequest { Chunk = new V1.StateChunk { Entry = (uint)i, Data = ByteString.CopyFrom(bytes.AsSpan(read, length)) } });
            read += length;
        }

        await call.RequestStream.WriteAsync(new V1.LoadOptimizerStateRequest { End = new V1.StateEnd() });
        await call.RequestStream.CompleteAsync();
        await call;

        Assert.Equal(bytes, (await OptimizerStateAsync()).Bytes);
    }

    [Fact]
    public async Task Schedulers_and_learning_rates()
    {
        var made = await _server.Training.CreateSchedulerAsync(new V1.CreateSchedulerRequest { Module = "m", Type = "StepLR", Args = Make.Args(("step_size", 1), ("gamma", 0.1)) });
        var stepped = await _server.Training.SchedulerStepAsync(new V1.SchedulerStepRequest { Module = "m" });
        var set = await _server.Training.SetLearningRateAsync(new V1.SetLearningRateRequest { Module = "m", Lr = 0.5 });
        var nan = await RunningServer.RefusedAsync(_server.Training.SetLearningRateAsync(new V1.SetLearningRateRequest { Module = "m", Lr = double.NaN }));

        Assert.Equal((0.05, 0.005, 1UL), (made.Optimizer.Scheduler.LastLr[0], Math.Round(stepped.Optimizer.Scheduler.LastLr[0], 9), stepped.Optimizer.Scheduler.Steps));
        Assert.Equal(0.5, set.Optimizer.Groups[0].Options.Fields["lr"].NumberValue);
        Assert.Equal("lr", nan.GetRpcStatus()!.GetDetail<BadRequest>().FieldViolations[0].Field);
    }

    public static TheoryData<string, StatusCode, string> BadSteps() => new()
    {
        { "no loss", StatusCode.InvalidArgument, "loss" },
        { "unknown loss", StatusCode.Unimplemented, "MSELoss" },
        { "no optimizer", StatusCode.NotFound, "missing" },
        { "none target", StatusCode.InvalidArgument, "targets[0]" },
        { "class", StatusCode.InvalidArgument, "targets[0]" },
        { "clip nothing", StatusCode.InvalidArgument, "clip" },
        { "clip nan", StatusCode.InvalidArgument, "clip.max_norm" },
        { "no scheduler", StatusCode.FailedPrecondition, "scheduler" },
        { "generation", StatusCode.Aborted, "4242" },
    };

    [Theory]
    [MemberData(nameof(BadSteps))]
    public async Task TrainStep_that_cannot_be_changes_nothing(string how, StatusCode code, string words)
    {
        var before = (await _server.Modules.GetModuleAsync(new V1.GetModuleRequest { Module = "m" })).Module;
        var step = Step(1);
        switch (how)
        {
            case "no loss": step.Loss = null; break;
            case "unknown loss": step.Loss.Type = "MSELos"; break;
            case "no optimizer": step.Optimizer = "missing"; break;
            case "none target": step.Targets[0] = new V1.Tensor(); break;
            case "class": (step.Loss.Type, step.Targets[0]) = ("CrossEntropyLoss", Make.Longs([1], 7)); break;
            case "clip nothing": step.Clip = new V1.GradientClip(); break;
            case "clip nan": step.Clip = new V1.GradientClip { MaxNorm = double.NaN }; break;
            case "no scheduler": step.SchedulerStep = true; break;
            case "generation": step.IfGeneration = 4242; break;
            default: throw new ArgumentOutOfRangeException(nameof(how));
        }

        var error = await RunningServer.RefusedAsync(_server.Training.TrainStepAsync(step));

        Assert.Equal(code, error.StatusCode);
        Assert.Contains(words, error.Status.Detail, StringComparison.Ordinal);
        Assert.Equal(before.Generation, (await _server.Modules.GetModuleAsync(new V1.GetModuleRequest { Module = "m" })).Module.Generation);
        Assert.Equal(1UL, (await _server.Training.TrainStepAsync(Step(1))).Steps);
    }

    [Fact]
    public async Task ManualSeed_makes_apply_repeatable()
    {
        var apply = new V1.ApplyRequest { Module = "m", Function = "normal_" };
        var values = new List<byte[]>();
        for (var i = 0; i < 3; i++)
        {
            await _server.Training.ManualSeedAsync(new V1.ManualSeedRequest { Module = "m", Seed = i < 2 ? 7 : 8 });
            await _server.Modules.ApplyAsync(apply);
            using var call = _server.State.GetStateDict(new V1.GetStateDictRequest { Module = "m", Keys = { "weight" } });
            await call.ResponseStream.MoveNext(default);
            await call.ResponseStream.MoveNext(default);
            values.Add(call.ResponseStream.Current.Chunk.Data.ToByteArray());
        }

        Assert.Equal(values[0], values[1]);
        Assert.NotEqual(values[0], values[2]);
    }

    private static V1.TrainStepRequest Step(float target) => new()
    {
        Module = "m",
        Inputs = { Make.Floats([1, 2], 1, 1) },
        Targets = { Make.Floats([1, 1], target) },
        Loss = new V1.Loss { Type = "MSELoss" },
    };

    private static string FieldOf(V1.TrainStreamResponse answer) =>
        answer.Error.Details.Single(detail => detail.Is(Google.Rpc.BadRequest.Descriptor)).Unpack<Google.Rpc.BadRequest>().FieldViolations[0].Field;

    private static async Task<List<V1.TrainStreamResponse>> ReadAsync(AsyncDuplexStreamingCall<V1.TrainStreamRequest, V1.TrainStreamResponse> call)
    {
        var answers = new List<V1.TrainStreamResponse>();
        while (await call.ResponseStream.MoveNext(default).WaitAsync(TimeSpan.FromSeconds(30)))
        {
            answers.Add(call.ResponseStream.Current);
        }

        return answers;
    }

    private async Task<float[]> GradientAsync()
    {
        using var call = _server.Training.GetGradients(new V1.GetGradientsRequest { Module = "m" });
        var bytes = new List<byte>();
        while (await call.ResponseStream.MoveNext(default))
        {
            bytes.AddRange(call.ResponseStream.Current.Chunk?.Data ?? ByteString.Empty);
        }

        return System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(bytes.ToArray()).ToArray();
    }

    private async Task<(V1.OptimizerState State, byte[] Bytes)> OptimizerStateAsync()
    {
        using var call = _server.Training.GetOptimizerState(new V1.GetOptimizerStateRequest { Module = "m" });
        await call.ResponseStream.MoveNext(default);
        var state = call.ResponseStream.Current.State;
        var bytes = new List<byte>();
        while (await call.ResponseStream.MoveNext(default))
        {
            bytes.AddRange(call.ResponseStream.Current.Chunk?.Data ?? ByteString.Empty);
        }

        return (state, [.. bytes]);
    }
}
