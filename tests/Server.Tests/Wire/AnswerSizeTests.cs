using Google.Rpc;
using Grpc.Core;

namespace Sconce.Server.Tests.Wire;

/// <summary>Answers larger than a message may be: refused with the limit and its setting, before anything has been changed or made.</summary>
public sealed class AnswerSizeTests : IAsyncLifetime
{
    private const int Limit = 64 * 1024;

    private RunningServer _server = null!;

    public async ValueTask InitializeAsync()
    {
        _server = await RunningServer.StartAsync(options => options.MaxMessageBytes = Limit);

        // 4 KB in, 100 times that out; and a step whose output is 80 KB.
        await Make.ModuleAsync(_server, "many", Repeated(100));
        await Make.ModuleAsync(_server, "wide", Make.Linear(1, 20_000));
        await _server.Training.CreateOptimizerAsync(new V1.CreateOptimizerRequest { Module = "wide", Type = "SGD" });
    }

    public async ValueTask DisposeAsync()
    {
        Assert.Equal(100, (await _server.Execution.ForwardAsync(Make.Forward("many", Make.Floats([1], 1)))).Output.Tuple.Items.Count);
        Assert.Empty(_server.Errors);
        await _server.DisposeAsync();
    }

    [Fact]
    public async Task Forward_and_Call_are_refused()
    {
        await TooLargeAsync(_server.Execution.ForwardAsync(Make.Forward("many", Thousand())).ResponseAsync);
        await TooLargeAsync(_server.Execution.CallAsync(new V1.CallRequest { Forward = Make.Forward("many", Thousand()) }).ResponseAsync);
        var recorded = Make.Forward("many", Thousand());
        recorded.RecordGraph = true;
        await TooLargeAsync(_server.Execution.ForwardAsync(recorded).ResponseAsync);
        Assert.Equal(0U, (await _server.Modules.GetModuleAsync(new V1.GetModuleRequest { Module = "many" })).Module.LiveGraphs);
    }

    [Fact]
    public async Task Forward_of_a_view_that_shows_more_than_63_bits_count_is_refused()
    {
        await Make.ModuleAsync(_server, "view", Make.Spec("""
            { "type": "Graph", "wiring": { "inputs": ["x"], "steps": [{ "name": "y", "function": "expand", "inputs": ["x"], "args": { "size": [1e9, 1e9, 2] } }], "outputs": ["y"] } }
            """));

        Assert.Equal(StatusCode.ResourceExhausted, (await RunningServer.RefusedAsync(_server.Execution.ForwardAsync(Make.Forward("view", Make.Floats([2], 1, 2))))).StatusCode);
    }

    [Theory]
    [InlineData(540)]
    [InlineData(1074)]
    [InlineData(3000)]
    public async Task Forward_beyond_2_GiB_is_refused_where_the_limit_is_as_high_as_it_goes(int outputs)
    {
        await using var server = await RunningServer.StartAsync(options => options.MaxMessageBytes = int.MaxValue);
        await Make.ModuleAsync(server, "many", Repeated(outputs));

        await TooLargeAsync(server.Execution.ForwardAsync(Make.Forward("many", Make.Floats([1_000_000], new float[1_000_000]))).ResponseAsync);

        Assert.Empty(server.Errors);
    }

    [Fact]
    public async Task Backward_is_refused_and_leaves_its_graph()
    {
        await Make.ModuleAsync(_server, "add", Make.Spec("""
            { "type": "Graph", "wiring": { "inputs": ["a", "b"], "steps": [{ "name": "y", "function": "add", "inputs": ["a", "b"] }, { "name": "z", "function": "sum", "inputs": ["y"] }], "outputs": ["z"] } }
            """));
        await _server.Tensors.PutTensorAsync(new V1.PutTensorRequest { Id = "k", Tensor = Make.Floats([10_000], new float[10_000]) });
        var forward = Make.Forward("add", new V1.Tensor { KeptId = "k" }, new V1.Tensor { KeptId = "k" });
        forward.RecordGraph = true;
        var graph = (await _server.Execution.ForwardAsync(forward)).Graph.Id;

        await TooLargeAsync(_server.Execution.BackwardAsync(new V1.BackwardRequest { Module = "add", Graph = graph }).ResponseAsync);

        await _server.Execution.ReleaseGraphAsync(new V1.ReleaseGraphRequest { Module = "add", Graph = graph });
        await _server.Tensors.DropTensorAsync(new V1.DropTensorRequest { Id = "k" });
    }

    [Fact]
    public async Task Gradients_and_captures_that_are_too_large_together_are_refused_before_a_Backward_adds_any()
    {
        // 40,000 bytes each: the gradient of the input, and what a hook of the forward or of the backward captures.
        await Make.ModuleAsync(_server, "half", Make.Linear(10_000, 1));
        var hook = new V1.Hook { Site = V1.HookSite.Backward, Actions = { new V1.HookAction { Capture = new() } } };
        var onParameter = new V1.Hook { Site = V1.HookSite.ParamGrad, Names = { "weight" }, Actions = { new V1.HookAction { Capture = new() } } };
        foreach (var inForward in (bool[])[true, false])
        {
            await _server.Tensors.PutTensorAsync(new V1.PutTensorRequest { Id = "k", Tensor = Make.Floats([1, 10_000], new float[10_000]) });
            var forward = Make.Forward("half", new V1.Tensor { KeptId = "k" });
            forward.RecordGraph = true;
            forward.InputGrads = true;
            forward.Hooks.Add(inForward ? [hook] : []);
            var graph = (await _server.Execution.ForwardAsync(forward)).Graph.Id;
            var backward = new V1.BackwardRequest { Module = "half", Graph = graph, OutputGrads = { Make.Floats([1, 1], 1) } };
            backward.Hooks.Add(inForward ? [] : [onParameter]);

            await TooLargeAsync(_server.Execution.BackwardAsync(backward).ResponseAsync);

            Assert.All((await _server.Modules.DescribeModuleAsync(new V1.DescribeModuleRequest { Module = "half" })).Root.Parameters, parameter => Assert.False(parameter.HasGrad));
            await _server.Tensors.DropTensorAsync(new V1.DropTensorRequest { Id = "k" });
        }
    }

    [Fact]
    public async Task GetTensor_is_refused()
    {
        var bytes = new byte[Limit - 32];
        await _server.Tensors.PutTensorAsync(new V1.PutTensorRequest { Id = "k", Tensor = Make.Tensor(V1.DataType.Uint8, [bytes.Length], bytes) });

        await TooLargeAsync(_server.Tensors.GetTensorAsync(new V1.GetTensorRequest { Id = "k" }).ResponseAsync);

        await _server.Tensors.DropTensorAsync(new V1.DropTensorRequest { Id = "k" });
    }

    [Fact]
    public async Task Call_of_another_method_is_refused()
    {
        await Make.ModuleAsync(_server, "adaptive", Make.Spec("""{ "type": "AdaptiveLogSoftmaxWithLoss", "args": { "in_features": 1, "n_classes": 2000, "cutoffs": [10] } }"""));

        await TooLargeAsync(_server.Execution.CallAsync(new V1.CallRequest { Method = "log_prob", Forward = Make.Forward("adaptive", Make.Floats([10, 1], new float[10])) }).ResponseAsync);
    }

    [Fact]
    public async Task Values_and_extra_state_of_a_module_are_refused()
    {
        await _server.Modules.RegisterBufferAsync(new V1.RegisterBufferRequest { Module = "wide", Name = "seen", Tensor = Make.Floats([1], 1) });
        await TooLargeAsync(_server.Modules.GetParameterAsync(new V1.GetParameterRequest { Module = "wide", Name = "weight" }).ResponseAsync);
        Assert.Equal(4, (await _server.Modules.GetBufferAsync(new V1.GetBufferRequest { Module = "wide", Name = "seen" })).Tensor.Data.Length);

        await Make.ModuleAsync(_server, "norm", Make.Spec("""{ "type": "BatchNorm1d", "args": { "num_features": 20000, "affine": false } }"""));
        await TooLargeAsync(_server.Modules.GetBufferAsync(new V1.GetBufferRequest { Module = "norm", Name = "running_mean" }).ResponseAsync);

        // A message holds less, but a stream brings it.
        await Make.ModuleAsync(_server, "extra", Make.Spec("""{ "type": "Identity" }"""));
        await _server.Modules.SetExtraStateAsync(new V1.SetExtraStateRequest { Module = "extra", State = Google.Protobuf.ByteString.CopyFrom(1) });
        using (var load = _server.State.LoadStateDict())
        {
            await load.RequestStream.WriteAsync(new V1.LoadStateDictRequest { Header = new V1.LoadStateDictHeader { Module = "extra", Entries = { new V1.StateEntry { Key = "_extra_state", Dtype = V1.DataType.Uint8, Shape = { 2 * Limit } } } } });
            for (var i = 0; i < 4; i++)
            {
                await load.RequestStream.WriteAsync(new V1.LoadStateDictRequest { Chunk = new V1.StateChunk { Offset = (ulong)(i * Limit / 2), Data = Google.Protobuf.ByteString.CopyFrom(new byte[Limit / 2]) } });
            }

            await load.RequestStream.WriteAsync(new V1.LoadStateDictRequest { End = new V1.StateEnd() });
            await load.RequestStream.CompleteAsync();
            _ = await load;
        }

        await TooLargeAsync(_server.Modules.GetExtraStateAsync(new V1.GetExtraStateRequest { Module = "extra" }).ResponseAsync);
    }

    [Fact]
    public async Task Captures_of_training_calls_are_refused_before_they_change_anything()
    {
        var capture = new V1.Hook { Site = V1.HookSite.Forward, Actions = { new V1.HookAction { Capture = new V1.CaptureAction() } } };
        var gradient = new V1.Hook { Site = V1.HookSite.ParamGrad, Actions = { new V1.HookAction { Capture = new V1.CaptureAction() } } };
        foreach (var hook in new[] { capture, gradient })
        {
            var step = Step();
            step.ReturnOutput = false;
            step.Hooks.Add(hook);
            await TooLargeAsync(_server.Training.TrainStepAsync(step).ResponseAsync);
        }

        var recorded = Make.Forward("wide", Make.Floats([1, 1], 1));
        recorded.Hooks.Add(capture);
        await TooLargeAsync(_server.Execution.ForwardAsync(recorded).ResponseAsync);
        Assert.Equal(1UL, (await _server.Modules.GetModuleAsync(new V1.GetModuleRequest { Module = "wide" })).Module.Generation);
        Assert.Equal(0UL, (await _server.Training.GetOptimizerAsync(new V1.GetOptimizerRequest { Module = "wide" })).Optimizer.Steps);
        Assert.All((await _server.Modules.DescribeModuleAsync(new V1.DescribeModuleRequest { Module = "wide" })).Root.Parameters, parameter => Assert.False(parameter.HasGrad));
    }

    [Fact]
    public async Task Training_calls_are_refused_before_they_change_anything()
    {
        var backward = new V1.ForwardBackwardRequest { Module = "wide", Inputs = { Make.Floats([1, 1], 1) }, Targets = { Make.Floats([1, 1], 0) }, Loss = new V1.Loss { Type = "MSELoss" }, ReturnOutput = true };

        await TooLargeAsync(_server.Training.TrainStepAsync(Step()).ResponseAsync);
        await TooLargeAsync(_server.Training.ForwardBackwardAsync(backward).ResponseAsync);

        Assert.Equal(1UL, (await _server.Modules.GetModuleAsync(new V1.GetModuleRequest { Module = "wide" })).Module.Generation);
        Assert.Equal(0UL, (await _server.Training.GetOptimizerAsync(new V1.GetOptimizerRequest { Module = "wide" })).Optimizer.Steps);
        Assert.All((await _server.Modules.DescribeModuleAsync(new V1.DescribeModuleRequest { Module = "wide" })).Root.Parameters, parameter => Assert.False(parameter.HasGrad));
    }

    [Fact]
    public async Task Streams_answer_the_message_with_an_error_and_go_on()
    {
        using var forwards = _server.Execution.ForwardStream();
        await forwards.RequestStream.WriteAsync(new V1.ForwardStreamRequest { Id = 1, Forward = Make.Forward("many", Thousand()) });
        await forwards.RequestStream.WriteAsync(new V1.ForwardStreamRequest { Id = 2, Forward = Make.Forward("many", Make.Floats([1], 1)) });
        await forwards.RequestStream.CompleteAsync();
        IsTooLarge((await NextAsync(forwards.ResponseStream)).Error);
        Assert.Null((await NextAsync(forwards.ResponseStream)).Error);

        using var steps = _server.Training.TrainStream();
        await steps.RequestStream.WriteAsync(new V1.TrainStreamRequest { Id = 1, Step = Step() });
        var small = Step();
        small.ReturnOutput = false;
        await steps.RequestStream.WriteAsync(new V1.TrainStreamRequest { Id = 2, Step = small });
        await steps.RequestStream.CompleteAsync();
        IsTooLarge((await NextAsync(steps.ResponseStream)).Error);
        Assert.Equal(1UL, (await NextAsync(steps.ResponseStream)).Step.Steps);
    }

    [Theory]
    [InlineData(null)]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Hooks_that_a_step_detaches_are_told_as_far_as_they_fit(bool? stopOnError)
    {
        const int Hooks = 400;
        await Make.ModuleAsync(_server, "hooked", Make.Linear(1, 2));
        await _server.Training.CreateOptimizerAsync(new V1.CreateOptimizerRequest { Module = "hooked", Type = "SGD" });
        var wrong = new V1.HookAction { Add = new V1.AddAction { Value = new V1.Operand { Tensor = Make.Floats([7], new float[7]) } } };
        foreach (var number in Enumerable.Range(0, Hooks))
        {
            await _server.Hooks.RegisterHookAsync(new V1.RegisterHookRequest { Module = "hooked", Hook = new V1.Hook { Id = $"h{number}".PadRight(128, 'x'), Site = V1.HookSite.Forward, Actions = { wrong } } });
        }

        var step = new V1.TrainStepRequest { Module = "hooked", Inputs = { Make.Floats([1, 1], 1) }, Targets = { Make.Floats([1, 2], 0, 0) }, Loss = new V1.Loss { Type = "MSELoss" }, ReturnOutput = true };
        var detached = (stopOnError is { } stop ? await StreamedAsync(step, stop) : await _server.Training.TrainStepAsync(step)).Hooks.Detached;

        Assert.InRange(detached.Count, Limit / 512, Hooks);
        Assert.StartsWith($"and {Hooks - (detached.Count - 1)} more", detached[^1].Message, StringComparison.Ordinal);
        Assert.All(detached.SkipLast(1), failure => Assert.Contains("actions[0].add", failure.Message, StringComparison.Ordinal));
        Assert.Equal(1UL, (await _server.Training.GetOptimizerAsync(new V1.GetOptimizerRequest { Module = "hooked" })).Optimizer.Steps);
    }

    [Fact]
    public async Task Captures_with_long_names_are_refused_before_a_step_is_taken()
    {
        // A number each, and far longer names: only the names make the answer too large.
        var names = Enumerable.Range(0, 30).Select(i => $"n{i}".PadRight(120, 'x')).ToList();
        var spec = Make.Linear(1, 1);
        names.ForEach(name => spec = new V1.ModuleSpec { Type = "Sequential", Children = { new V1.ChildSpec { Name = name, Spec = spec } } });
        await Make.ModuleAsync(_server, "deep", spec);
        await _server.Training.CreateOptimizerAsync(new V1.CreateOptimizerRequest { Module = "deep", Type = "SGD" });
        var step = new V1.TrainStepRequest { Module = "deep", Inputs = { Make.Floats([1, 1], 1) }, Targets = { Make.Floats([1, 1], 0) }, Loss = new V1.Loss { Type = "MSELoss" } };
        step.Hooks.Add(new V1.Hook { Glob = "**", Site = V1.HookSite.Forward, Actions = { new V1.HookAction { Capture = new() } } });
        step.Hooks.Add(new V1.Hook { Glob = "**", Site = V1.HookSite.ForwardPre, Actions = { new V1.HookAction { Capture = new() } } });

        await TooLargeAsync(_server.Training.TrainStepAsync(step).ResponseAsync);

        Assert.Equal(0UL, (await _server.Training.GetOptimizerAsync(new V1.GetOptimizerRequest { Module = "deep" })).Optimizer.Steps);
    }

    [Fact]
    public async Task Answers_without_tensors_are_refused_too()
    {
        var spec = new V1.ModuleSpec { Type = "Sequential", Children = { Enumerable.Range(0, 700).Select(i => new V1.ChildSpec { Name = $"a-name-of-thirty-four-letters-{i:d5}", Spec = Make.Spec("""{ "type": "BatchNorm1d", "args": { "num_features": 1 } }""") }) } };
        await Make.ModuleAsync(_server, "tall", spec);

        await TooLargeAsync(_server.Modules.DescribeModuleAsync(new V1.DescribeModuleRequest { Module = "tall" }).ResponseAsync);
        using var state = _server.State.GetStateDict(new V1.GetStateDictRequest { Module = "tall" });
        await TooLargeAsync(state.ResponseStream.MoveNext(default));

        await _server.Training.ForwardBackwardAsync(new V1.ForwardBackwardRequest { Module = "tall", Inputs = { Make.Floats([2, 1], 1, 2) }, Targets = { Make.Floats([2, 1], 1, 2) }, Loss = new V1.Loss { Type = "MSELoss" } });
        using var gradients = _server.Training.GetGradients(new V1.GetGradientsRequest { Module = "tall" });
        await TooLargeAsync(gradients.ResponseStream.MoveNext(default));
        await _server.Training.CreateOptimizerAsync(new V1.CreateOptimizerRequest { Module = "tall", Type = "Adam", Groups = { new V1.ParamGroup { Parameters = { "*" } } } });
        await _server.Training.OptimizerStepAsync(new V1.OptimizerStepRequest { Module = "tall" });
        using var moments = _server.Training.GetOptimizerState(new V1.GetOptimizerStateRequest { Module = "tall" });
        await TooLargeAsync(moments.ResponseStream.MoveNext(default));
    }

    private static V1.ModuleSpec Repeated(int outputs) =>
        new() { Type = "Graph", Wiring = new V1.Wiring { Inputs = { "x" }, Outputs = { Enumerable.Repeat("x", outputs) } } };

    private static V1.Tensor Thousand() => Make.Floats([1000], new float[1000]);

    private static V1.TrainStepRequest Step() =>
        new() { Module = "wide", Inputs = { Make.Floats([1, 1], 1) }, Targets = { Make.Floats([1, 1], 0) }, Loss = new V1.Loss { Type = "MSELoss" }, ReturnOutput = true };

    private async Task<V1.TrainStepResponse> StreamedAsync(V1.TrainStepRequest step, bool stopOnError)
    {
        using var call = _server.Training.TrainStream();
        await call.RequestStream.WriteAsync(new V1.TrainStreamRequest { Step = step, StopOnError = stopOnError });
        return (await NextAsync(call.ResponseStream)).Step;
    }

    private static async Task<T> NextAsync<T>(IAsyncStreamReader<T> reader)
    {
        Assert.True(await reader.MoveNext(default).WaitAsync(TimeSpan.FromSeconds(30)));
        return reader.Current;
    }

    private static async Task TooLargeAsync<T>(Task<T> call) =>
        IsTooLarge((await Assert.ThrowsAsync<RpcException>(() => call.WaitAsync(TimeSpan.FromSeconds(30)))).GetRpcStatus());

    private static void IsTooLarge(V1.CallError error) => IsTooLarge(new Google.Rpc.Status { Code = error.Code, Message = error.Message, Details = { error.Details } });

    private static void IsTooLarge(Google.Rpc.Status? status)
    {
        Assert.NotNull(status);
        Assert.Equal(StatusCode.ResourceExhausted, (StatusCode)status.Code);
        Assert.Contains("max_message_bytes", status.Message, StringComparison.Ordinal);
        Assert.Equal("MESSAGE_TOO_LARGE", status.GetDetail<ErrorInfo>()?.Reason);
    }
}
