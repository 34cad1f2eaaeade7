using Grpc.Core;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.Serving;

/// <summary>request_id and if_generation: a repeat acts once, and a stale condition not at all.</summary>
public sealed class ExactlyOnceTests(SharedServer server) : ServerTest(server)
{
    [Fact]
    public async Task TrainStep_repeated_with_its_id_steps_once()
    {
        var module = await TrainedAsync();
        var step = Step(module, "step-1");
        var first = await Stubs.Training.TrainStepAsync(step);
        var second = await Stubs.Training.TrainStepAsync(step);
        Assert.Equal(first, second);
        Assert.Equal(1UL, await StepsAsync(module));
        Assert.Equal(2UL, (await Stubs.Training.TrainStepAsync(Step(module, "step-2"))).Steps);
    }

    [Fact]
    public async Task TrainStep_duplicates_in_flight_join()
    {
        var module = await TrainedAsync();
        var answers = await Task.WhenAll(Enumerable.Range(0, 16).Select(_ => Stubs.Training.TrainStepAsync(Step(module, "joined")).ResponseAsync));
        Assert.All(answers, answer => Assert.Equal(answers[0], answer));
        Assert.Equal(1UL, await StepsAsync(module));
    }

    [Fact]
    public async Task Duplicate_whose_first_caller_leaves_still_gets_the_answer()
    {
        var module = await TrainedAsync();
        using var cancellation = new CancellationTokenSource();
        var first = Stubs.Training.TrainStepAsync(Step(module, "left"), cancellationToken: cancellation.Token).ResponseAsync;
        var second = Stubs.Training.TrainStepAsync(Step(module, "left")).ResponseAsync;
        await cancellation.CancelAsync();
        try
        {
            await first;
        }
        catch (RpcException e)
        {
            Assert.Equal(StatusCode.Cancelled, e.StatusCode);
        }

        Assert.Equal(1UL, (await second).Steps);
        Assert.Equal(1UL, await StepsAsync(module));
    }

    [Fact]
    public async Task Same_id_on_a_different_call_is_INVALID_ARGUMENT()
    {
        var module = await TrainedAsync();
        await Stubs.Training.TrainStepAsync(Step(module, "mine"));
        var other = Step(module, "mine");
        other.Inputs[0] = Wire.Floats([1, 4], 9, 9, 9, 9);
        (await Refusal.OfAsync(async () => await Stubs.Training.TrainStepAsync(other), StatusCode.InvalidArgument, "mine")).At("request_id");
        (await Refusal.OfAsync(async () => await Stubs.Training.OptimizerStepAsync(new() { Module = module, RequestId = $"mine-{module}" }), StatusCode.InvalidArgument, "mine")).At("request_id");
        Assert.Equal(1UL, await StepsAsync(module));
    }

    [Fact]
    public async Task Refusal_is_remembered_too()
    {
        var name = NewName();
        var request = new DeleteModuleRequest { Module = name, RequestId = $"delete-{name}" };
        await Refusal.OfAsync(async () => await Stubs.Modules.DeleteModuleAsync(request), StatusCode.NotFound);
        await Stubs.Modules.CreateModuleAsync(new() { Module = name, Spec = Specs.Linear });
        Owns(name);
        await Refusal.OfAsync(async () => await Stubs.Modules.DeleteModuleAsync(request), StatusCode.NotFound);
        await Stubs.Modules.GetModuleAsync(new() { Module = name });
    }

    [Fact]
    public async Task CreateModule_repeated_with_its_id_is_no_ALREADY_EXISTS()
    {
        var name = NewName();
        var request = new CreateModuleRequest { Module = name, Spec = Specs.Linear, RequestId = $"create-{name}" };
        var first = await Stubs.Modules.CreateModuleAsync(request);
        Owns(name);
        Assert.Equal(first, await Stubs.Modules.CreateModuleAsync(request));
    }

    [Fact]
    public async Task Backward_repeated_with_its_id_accumulates_once()
    {
        var module = await CreateAsync(Specs.Linear);
        var graph = await Stubs.Execution.ForwardAsync(new() { Module = module, Inputs = { Wire.Pattern(2, 4) }, RecordGraph = true });
        var request = new BackwardRequest { Module = module, Graph = graph.Graph.Id, OutputGrads = { Wire.Pattern(2, 3) }, RequestId = $"backward-{module}" };
        var first = await Stubs.Execution.BackwardAsync(request);
        Assert.Equal(first, await Stubs.Execution.BackwardAsync(request));
    }

    [Fact]
    public async Task TrainStream_step_repeated_on_a_new_stream_steps_once()
    {
        var module = await TrainedAsync();
        for (var attempt = 0; attempt < 2; attempt++)
        {
            using var stream = Stubs.Training.TrainStream();
            await stream.RequestStream.WriteAsync(new() { Id = 7, Step = Step(module, "streamed") });
            await stream.RequestStream.CompleteAsync();
            var answer = Assert.Single(await Streams.ReadAllAsync(stream.ResponseStream));
            Assert.Equal(7UL, answer.Id);
            Assert.Equal(1UL, answer.Step.Steps);
        }

        Assert.Equal(1UL, await StepsAsync(module));
    }

    [Theory]
    [InlineData("tab\there")]
    [InlineData("é")]
    [InlineData("129")]
    public async Task Malformed_id_names_field(string id)
    {
        var module = await TrainedAsync();
        var malformed = id == "129" ? new string('x', 129) : id;
        (await Refusal.OfAsync(async () => await Stubs.Training.TrainStepAsync(Step(module, malformed)), StatusCode.InvalidArgument)).At("request_id");
    }

    [Fact]
    public async Task Stale_generation_is_ABORTED_naming_both_and_changes_nothing()
    {
        var module = await TrainedAsync();
        var stale = (await Stubs.Modules.GetModuleAsync(new() { Module = module })).Module.Generation;
        var now = (await Stubs.Training.TrainStepAsync(Step(module, ""))).Generation;
        var state = await Streams.DrainAsync(Stubs.State.GetStateDict(new() { Module = module }));
        Func<Task>[] calls =
        [
            async () => await Stubs.Training.TrainStepAsync(new(Step(module, "")) { IfGeneration = stale }),
            async () => await Stubs.Training.OptimizerStepAsync(new() { Module = module, IfGeneration = stale }),
            async () => await Stubs.Modules.TrainAsync(new() { Module = module, IfGeneration = stale }),
            async () => await Stubs.Modules.ToAsync(new() { Module = module, Conversion = Conversion.Half, IfGeneration = stale }),
            async () => await Stubs.Modules.ApplyAsync(new() { Module = module, Function = "zeros_", IfGeneration = stale }),
            async () => await Stubs.Modules.ZeroGradAsync(new() { Module = module, IfGeneration = stale }),
            async () => await Stubs.Modules.RequiresGradAsync(new() { Module = module, IfGeneration = stale }),
            async () => await Stubs.Modules.SetTrainPolicyAsync(new() { Module = module, IfGeneration = stale }),
            async () => await Stubs.Modules.CopyModuleAsync(new() { Module = module, Copy = "stale-copy", IfGeneration = stale }),
            async () => await Stubs.Modules.DeleteModuleAsync(new() { Module = module, IfGeneration = stale }),
            async () => await Stubs.Execution.ForwardAsync(new() { Module = module, Inputs = { Wire.Pattern(1, 4) }, IfGeneration = stale }),
            async () => await Stubs.Training.ForwardBackwardAsync(new() { Module = module, Inputs = { Wire.Pattern(1, 4) }, Targets = { Wire.Pattern(1, 3) }, Loss = new() { Type = "MSELoss" }, IfGeneration = stale }),
            async () => await Stubs.Training.CreateOptimizerAsync(new() { Module = module, Optimizer = "o", Type = "SGD", IfGeneration = stale }),
            async () => await Stubs.Training.SetLearningRateAsync(new() { Module = module, Lr = 1, IfGeneration = stale }),
            async () => await Stubs.Training.ClipGradientsAsync(new() { Module = module, Clip = new() { MaxNorm = 1 }, IfGeneration = stale }),
            async () => await Stubs.Training.DeleteOptimizerAsync(new() { Module = module, IfGeneration = stale }),
        ];
        foreach (var call in calls)
        {
            (await Refusal.OfAsync(call, StatusCode.Aborted, $"{stale}", $"{now}")).For("STALE_GENERATION");
        }

        Assert.Equal(state, await Streams.DrainAsync(Stubs.State.GetStateDict(new() { Module = module })));
        await Stubs.Training.TrainStepAsync(new(Step(module, "")) { IfGeneration = now });
    }

    private async Task<string> TrainedAsync()
    {
        var module = await CreateAsync(Specs.Linear);
        await Stubs.Training.CreateOptimizerAsync(new() { Module = module, Type = "SGD" });
        return module;
    }

    private async Task<ulong> StepsAsync(string module) => (await Stubs.Training.GetOptimizerAsync(new() { Module = module })).Optimizer.Steps;

    /// <summary>A step whose id is made unique to the module, since ids are the process's.</summary>
    private static TrainStepRequest Step(string module, string id) => new()
    {
        Module = module,
        Inputs = { Wire.Pattern(1, 4) },
        Targets = { Wire.Pattern(1, 3) },
        Loss = new() { Type = "MSELoss" },
        RequestId = id.Length is 0 or > 100 ? id : $"{id}-{module}",
    };
}
