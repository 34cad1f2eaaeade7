using Grpc.Core;
using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.Execution;

/// <summary>The two pipelines: answers in the order of the requests, errors in their place.</summary>
public sealed class StreamTests(SharedServer server) : ServerTest(server)
{
    private const int Calls = 200;

    [Fact]
    public async Task ForwardStream_answers_in_order_over_modules_of_different_speed()
    {
        var fast = await CreateAsync(Specs.Identity, training: false);
        var slow = await CreateAsync(Specs.Slow(4, 256), training: false);
        using var stream = Stubs.Execution.ForwardStream();
        var sending = Task.Run(async () =>
        {
            for (var i = 0; i < Calls; i++)
            {
                var forward = i % 5 == 0
                    ? new ForwardRequest { Module = slow, Inputs = { Wire.Pattern(16, 256) } }
                    : new ForwardRequest { Module = fast, Inputs = { Wire.Floats([1], i) } };
                await stream.RequestStream.WriteAsync(new() { Id = (ulong)i, Forward = forward });
            }

            await stream.RequestStream.CompleteAsync();
        });
        var answers = await Streams.ReadAllAsync(stream.ResponseStream);
        await sending;
        Assert.Equal(Enumerable.Range(0, Calls).Select(i => (ulong)i), answers.Select(answer => answer.Id));
        Assert.All(answers.Where(answer => answer.Id % 5 != 0), answer => Assert.Equal([answer.Id], answer.Forward.Floats()));
        Assert.All(answers.Where(answer => answer.Id % 5 == 0), answer => Assert.Equal([16, 256], answer.Forward.Output.Tensor.Shape));
    }

    [Fact]
    public async Task ForwardStream_without_a_request_in_it_answers_an_error_in_its_place()
    {
        var module = await CreateAsync(Specs.Identity, training: false);
        using var stream = Stubs.Execution.ForwardStream();
        await stream.RequestStream.WriteAsync(new() { Id = 1 });
        await stream.RequestStream.WriteAsync(new() { Id = 2, Forward = new() { Module = "no-such-module" } });
        await stream.RequestStream.WriteAsync(new() { Id = 3, Forward = new() { Module = module, Inputs = { Wire.Floats([1], 3) } } });
        await stream.RequestStream.CompleteAsync();
        var answers = await Streams.ReadAllAsync(stream.ResponseStream);
        Assert.Equal([1UL, 2UL, 3UL], answers.Select(answer => answer.Id));
        Refusal.Of(answers[0].Error, StatusCode.InvalidArgument, "forward");
        Assert.Equal("no-such-module", Refusal.Of(answers[1].Error, StatusCode.NotFound).Resource?.ResourceName);
        Assert.Equal([3], answers[2].Forward.Floats());
    }

    [Fact]
    public async Task TrainStream_steps_in_order_as_one_TrainStep_after_another()
    {
        const int Steps = 50;
        var one = await TrainedAsync();
        var other = await TrainedAsync();
        var expected = new List<double>();
        for (var i = 0; i < Steps; i++)
        {
            expected.Add((await Stubs.Training.TrainStepAsync(Step(one, i))).Loss);
        }

        using var stream = Stubs.Training.TrainStream();
        for (var i = 0; i < Steps; i++)
        {
            await stream.RequestStream.WriteAsync(new() { Id = (ulong)i, Step = Step(other, i) });
        }

        await stream.RequestStream.CompleteAsync();
        var answers = await Streams.ReadAllAsync(stream.ResponseStream);
        Assert.Equal(expected, answers.Select(answer => answer.Step.Loss));
        Assert.Equal(Enumerable.Range(1, Steps).Select(i => (ulong)i), answers.Select(answer => answer.Step.Steps));
        Assert.True(expected[^1] < expected[0], "training must reduce the loss");
    }

    [Fact]
    public async Task TrainStream_step_that_fails_is_answered_and_those_behind_it_run()
    {
        var module = await TrainedAsync();
        using var stream = Stubs.Training.TrainStream();
        await stream.RequestStream.WriteAsync(new() { Id = 1, Step = Step(module, 1) });
        await stream.RequestStream.WriteAsync(new() { Id = 2, Step = new(Step(module, 2)) { Targets = { Wire.Pattern(1, 1) } } });
        await stream.RequestStream.WriteAsync(new() { Id = 3, Step = Step(module, 3) });
        await stream.RequestStream.CompleteAsync();
        var answers = await Streams.ReadAllAsync(stream.ResponseStream);
        Refusal.Of(answers[1].Error, StatusCode.InvalidArgument);
        Assert.Equal(2UL, answers[2].Step.Steps);
    }

    [Fact]
    public async Task TrainStream_stop_on_error_ends_the_stream_and_runs_none_behind_it()
    {
        var module = await TrainedAsync();
        using var stream = Stubs.Training.TrainStream();
        await stream.RequestStream.WriteAsync(new() { Id = 1, Step = Step(module, 1) });
        await stream.RequestStream.WriteAsync(new() { Id = 2, Step = new(Step(module, 2)) { Targets = { Wire.Pattern(1, 1) } }, StopOnError = true });
        try
        {
            for (var i = 3UL; i < 20; i++)
            {
                await stream.RequestStream.WriteAsync(new() { Id = i, Step = Step(module, 3) });
            }

            await stream.RequestStream.CompleteAsync();
        }
        catch (Exception e) when (e is RpcException or InvalidOperationException)
        {
            // The stream has ended while steps were still being sent.
        }

        Assert.True(await stream.ResponseStream.MoveNext(CancellationToken.None));
        Assert.Equal(1UL, stream.ResponseStream.Current.Step.Steps);
        await Refusal.OfAsync(
            async () =>
            {
                while (await stream.ResponseStream.MoveNext(CancellationToken.None))
                {
                    Assert.Fail($"step {stream.ResponseStream.Current.Id} was answered");
                }
            },
            StatusCode.InvalidArgument);
        Assert.Equal(1UL, (await Stubs.Training.GetOptimizerAsync(new() { Module = module })).Optimizer.Steps);
    }

    [Fact]
    public async Task Pipelines_of_the_client_keep_order()
    {
        await using var client = new SconceClient(Server.Process.Address.ToString());
        var module = client.Module(await CreateAsync(Specs.Identity, training: false));
        var index = 0;
        await foreach (var value in module.ForwardStreamAsync(Enumerable.Range(0, Calls).Select(i => (Inputs)TensorData.Create([(float)i])).ToAsyncEnumerable()))
        {
            Assert.Equal(index++, value.As<float>().Span[0]);
        }

        Assert.Equal(Calls, index);
    }

    private async Task<string> TrainedAsync()
    {
        var module = await CreateAsync(Specs.Mlp);
        await Stubs.Training.CreateOptimizerAsync(new() { Module = module, Type = "Adam", Args = Specs.Args(("lr", 0.01)) });
        return module;
    }

    private static TrainStepRequest Step(string module, int index) => new()
    {
        Module = module,
        Inputs = { Wire.Pattern(8, 4) },
        Targets = { Wire.Longs([8], [.. Enumerable.Range(0, 8).Select(i => (long)(i % 3))]) },
        Loss = new() { Type = "CrossEntropyLoss" },
        RequestId = $"{module}-{index}",
    };
}
