using Google.Protobuf.Reflection;
using Grpc.Core;

namespace Sconce.Server.Tests.Wire;

/// <summary>The conditions that every changing call may carry, on every call that takes them: a stale generation is ABORTED, a bad request_id INVALID_ARGUMENT.</summary>
public sealed class ConditionTests : IAsyncLifetime
{
    private const ulong Stale = 99;

    private static readonly V1.Tensor One = Make.Floats([1, 1], 1);

    private static readonly V1.Loss Mse = new() { Type = "MSELoss" };

    private static readonly Dictionary<string, Func<RunningServer, string, ulong?, Task>> Rpcs = new()
    {
        ["CreateModule"] = (s, id, _) => s.Modules.CreateModuleAsync(new() { Module = "new", Spec = Make.Linear(1, 1), RequestId = id }).ResponseAsync,
        ["DeleteModule"] = (s, id, at) => s.Modules.DeleteModuleAsync(At(new V1.DeleteModuleRequest { Module = "m", RequestId = id }, at)).ResponseAsync,
        ["CopyModule"] = (s, id, at) => s.Modules.CopyModuleAsync(At(new V1.CopyModuleRequest { Module = "m", Copy = "c", RequestId = id }, at)).ResponseAsync,
        ["Train"] = (s, id, at) => s.Modules.TrainAsync(At(new V1.TrainRequest { Module = "m", RequestId = id }, at)).ResponseAsync,
        ["SetTrainPolicy"] = (s, id, at) => s.Modules.SetTrainPolicyAsync(At(new V1.SetTrainPolicyRequest { Module = "m", RequestId = id }, at)).ResponseAsync,
        ["RequiresGrad"] = (s, id, at) => s.Modules.RequiresGradAsync(At(new V1.RequiresGradRequest { Module = "m", RequestId = id }, at)).ResponseAsync,
        ["ZeroGrad"] = (s, id, at) => s.Modules.ZeroGradAsync(At(new V1.ZeroGradRequest { Module = "m", RequestId = id }, at)).ResponseAsync,
        ["To"] = (s, id, at) => s.Modules.ToAsync(At(new V1.ToRequest { Module = "m", Conversion = V1.Conversion.Half, RequestId = id }, at)).ResponseAsync,
        ["Apply"] = (s, id, at) => s.Modules.ApplyAsync(At(new V1.ApplyRequest { Module = "m", Function = "zeros_", RequestId = id }, at)).ResponseAsync,
        ["RegisterParameter"] = (s, id, at) => s.Modules.RegisterParameterAsync(At(new V1.RegisterParameterRequest { Module = "m", Name = "p", Tensor = One, RequestId = id }, at)).ResponseAsync,
        ["RegisterBuffer"] = (s, id, at) => s.Modules.RegisterBufferAsync(At(new V1.RegisterBufferRequest { Module = "m", Name = "b", Tensor = One, RequestId = id }, at)).ResponseAsync,
        ["AddModule"] = (s, id, at) => s.Modules.AddModuleAsync(At(new V1.AddModuleRequest { Module = "m", Name = "c", Spec = Make.Linear(1, 1), RequestId = id }, at)).ResponseAsync,
        ["SetExtraState"] = (s, id, at) => s.Modules.SetExtraStateAsync(At(new V1.SetExtraStateRequest { Module = "m", State = Google.Protobuf.ByteString.CopyFromUtf8("x"), RequestId = id }, at)).ResponseAsync,
        ["ShareMemory"] = (s, id, at) => s.Modules.ShareMemoryAsync(At(new V1.ShareMemoryRequest { Module = "m", RequestId = id }, at)).ResponseAsync,
        ["Backward"] = (s, id, at) => s.Execution.BackwardAsync(At(new V1.BackwardRequest { Module = "m", Graph = "g", RequestId = id }, at)).ResponseAsync,
        ["LoadStateDict"] = (s, id, at) => SendAsync(s.State.LoadStateDict(), new() { Header = At(new V1.LoadStateDictHeader { Module = "m", Strict = false, RequestId = id }, at) }, new() { End = new() }),
        ["SaveSnapshot"] = (s, id, at) => s.State.SaveSnapshotAsync(At(new V1.SaveSnapshotRequest { Module = "m", RequestId = id }, at)).ResponseAsync,
        ["RestoreSnapshot"] = (s, id, at) => s.State.RestoreSnapshotAsync(At(new V1.RestoreSnapshotRequest { Module = "m", RequestId = id }, at)).ResponseAsync,
        ["DeleteSnapshot"] = (s, id, _) => s.State.DeleteSnapshotAsync(new() { Snapshot = s.State.ListSnapshots(new()).Snapshots[0].Id, RequestId = id }).ResponseAsync,
        ["SetSnapshotPolicy"] = (s, id, at) => s.State.SetSnapshotPolicyAsync(At(new V1.SetSnapshotPolicyRequest { Module = "m", Policy = new() { OnDrain = true }, RequestId = id }, at)).ResponseAsync,
        ["LoadStateFile"] = (s, id, at) => s.State.LoadStateFileAsync(At(new V1.LoadStateFileRequest { Module = "m", File = new() { Name = "m.safetensors" }, RequestId = id }, at)).ResponseAsync,
        ["LoadStateShared"] = (s, id, at) => s.State.LoadStateSharedAsync(At(new V1.LoadStateSharedRequest { Module = "m", State = new() { Region = s.Region }, RequestId = id }, at)).ResponseAsync,
        ["SaveStateFile"] = (s, id, _) => s.State.SaveStateFileAsync(new() { Module = "m", File = "new.safetensors", RequestId = id }).ResponseAsync,
        ["RegisterHook"] = (s, id, at) => s.Hooks.RegisterHookAsync(At(new V1.RegisterHookRequest { Module = "m", Hook = Hook("new"), RequestId = id }, at)).ResponseAsync,
        ["RemoveHook"] = (s, id, at) => s.Hooks.RemoveHookAsync(At(new V1.RemoveHookRequest { Module = "m", Hook = "h", RequestId = id }, at)).ResponseAsync,
        ["PutTensor"] = (s, id, _) => s.Tensors.PutTensorAsync(new() { Tensor = One, RequestId = id }).ResponseAsync,
        ["DropTensor"] = (s, id, _) => s.Tensors.DropTensorAsync(new() { Id = "t", RequestId = id }).ResponseAsync,
        ["ForwardBackward"] = (s, id, at) => s.Training.ForwardBackwardAsync(At(new V1.ForwardBackwardRequest { Module = "m", Inputs = { One }, Targets = { One }, Loss = Mse, RequestId = id }, at)).ResponseAsync,
        ["CreateOptimizer"] = (s, id, at) => s.Training.CreateOptimizerAsync(At(new V1.CreateOptimizerRequest { Module = "m", Optimizer = "o", Type = "SGD", RequestId = id }, at)).ResponseAsync,
        ["AddParamGroup"] = (s, id, at) => s.Training.AddParamGroupAsync(At(new V1.AddParamGroupRequest { Module = "m", Group = new() { Parameters = { "bias" } }, RequestId = id }, at)).ResponseAsync,
        ["DeleteOptimizer"] = (s, id, at) => s.Training.DeleteOptimizerAsync(At(new V1.DeleteOptimizerRequest { Module = "m", RequestId = id }, at)).ResponseAsync,
        ["LoadOptimizerState"] = (s, id, at) => SendAsync(s.Training.LoadOptimizerState(), new() { Header = At(new V1.LoadOptimizerStateHeader { Module = "m", State = new(), RequestId = id }, at) }, new() { End = new() }),
        ["OptimizerStep"] = (s, id, at) => s.Training.OptimizerStepAsync(At(new V1.OptimizerStepRequest { Module = "m", RequestId = id }, at)).ResponseAsync,
        ["TrainStep"] = (s, id, at) => s.Training.TrainStepAsync(Step(id, at)).ResponseAsync,
        ["TrainStream"] = (s, id, at) => StreamAsync(s, new V1.TrainStreamRequest { Step = Step(id, at), StopOnError = true }),
        ["SetLearningRate"] = (s, id, at) => s.Training.SetLearningRateAsync(At(new V1.SetLearningRateRequest { Module = "m", Lr = 1, RequestId = id }, at)).ResponseAsync,
        ["CreateScheduler"] = (s, id, at) => s.Training.CreateSchedulerAsync(At(new V1.CreateSchedulerRequest { Module = "m", Type = "StepLR", Args = Make.Args(("step_size", 1)), RequestId = id }, at)).ResponseAsync,
        ["SchedulerStep"] = (s, id, at) => s.Training.SchedulerStepAsync(At(new V1.SchedulerStepRequest { Module = "m", RequestId = id }, at)).ResponseAsync,
        ["ClipGradients"] = (s, id, at) => s.Training.ClipGradientsAsync(At(new V1.ClipGradientsRequest { Module = "m", Clip = new() { MaxNorm = 1 }, RequestId = id }, at)).ResponseAsync,
        ["ManualSeed"] = (s, id, _) => s.Training.ManualSeedAsync(new() { Module = "m", Seed = 1, RequestId = id }).ResponseAsync,
        ["Forward"] = (s, _, at) => s.Execution.ForwardAsync(At(Make.Forward("m", One), at)).ResponseAsync,
        ["ForwardStream"] = (s, _, at) => StreamAsync(s, new V1.ForwardStreamRequest { Forward = At(Make.Forward("m", One), at) }),
        ["Call"] = (s, _, at) => s.Execution.CallAsync(new() { Forward = At(Make.Forward("m", One), at) }).ResponseAsync,
    };

    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("sconce-conditions-");
    private readonly DirectoryInfo _data = Directory.CreateTempSubdirectory("sconce-conditions-data-");
    private readonly DirectoryInfo _models = Directory.CreateTempSubdirectory("sconce-models-");
    private RunningServer _server = null!;

    // From the contract, so that an rpc which is not in the table fails.
    public static TheoryData<string> WithGeneration => [.. Taking("if_generation")];

    public static TheoryData<string> WithRequestId => [.. Taking("request_id")];

    public async ValueTask InitializeAsync()
    {
        _server = await RunningServer.StartAsync(options =>
        {
            options.Engine.SharedMemoryDir = options.Engine.ExportDir = _directory.FullName;
            options.Engine.ModelsDir = _models.FullName;
            options.Engine.Data = _data.FullName;
            options.SharedMemorySocket = Path.Combine(_models.FullName, "shm.sock");
        });
        await Make.ModuleAsync(_server, "m", Make.Linear(1, 1));
        await _server.State.SaveSnapshotAsync(new V1.SaveSnapshotRequest { Module = "m" });
        await _server.State.SaveStateFileAsync(new() { Module = "m", File = "m.safetensors" });
        File.Move(Path.Combine(_directory.FullName, "m.safetensors"), Path.Combine(_models.FullName, "m.safetensors"));
        _server.Share(Path.Combine(_models.FullName, "m.safetensors"));
        await _server.Training.CreateOptimizerAsync(new V1.CreateOptimizerRequest { Module = "m", Type = "SGD", Groups = { new V1.ParamGroup { Parameters = { "weight" } } } });
        await _server.Hooks.RegisterHookAsync(new V1.RegisterHookRequest { Module = "m", Hook = Hook("h") });
    }

    public async ValueTask DisposeAsync()
    {
        Assert.Empty(_server.Errors);
        await _server.DisposeAsync();
        _directory.Delete(recursive: true);
        _data.Delete(recursive: true);
        _models.Delete(recursive: true);
    }

    [Theory]
    [MemberData(nameof(WithGeneration))]
    public async Task Stale_generation_is_ABORTED_naming_both(string rpc)
    {
        var before = await _server.Modules.DescribeModuleAsync(new V1.DescribeModuleRequest { Module = "m" });

        var refused = (await Refused.OfAsync(Rpcs[rpc](_server, "", Stale))).Is(StatusCode.Aborted, resource: "module");

        Assert.Equal("STALE_GENERATION", refused.Reason);
        Assert.Contains($"if_generation is {Stale}", refused.Message, StringComparison.Ordinal);
        Assert.Contains($"generation {before.Module.Generation}", refused.Message, StringComparison.Ordinal);
        Assert.Equal(before, await _server.Modules.DescribeModuleAsync(new V1.DescribeModuleRequest { Module = "m" }));
    }

    [Theory]
    [MemberData(nameof(WithRequestId))]
    public async Task Malformed_request_id_is_INVALID_ARGUMENT_and_nothing_is_done(string rpc)
    {
        var before = await _server.Modules.DescribeModuleAsync(new V1.DescribeModuleRequest { Module = "m" });
        var field = rpc switch { "LoadStateDict" or "LoadOptimizerState" => "header.request_id", "TrainStream" => "step.request_id", _ => "request_id" };
        foreach (var id in (string[])["a\n[ERR] forged", "é", "\u001b[31m", new string('x', 129)])
        {
            (await Refused.OfAsync(Rpcs[rpc](_server, id, null))).Is(StatusCode.InvalidArgument, field);
        }

        Assert.Equal(before, await _server.Modules.DescribeModuleAsync(new V1.DescribeModuleRequest { Module = "m" }));
        Assert.Equal(StatusCode.NotFound, (await RunningServer.RefusedAsync(_server.Modules.GetModuleAsync(new V1.GetModuleRequest { Module = "new" }))).StatusCode);
        Assert.Empty((await _server.Tensors.ListTensorsAsync(new V1.ListTensorsRequest())).Tensors);
        Assert.Single((await _server.State.ListSnapshotsAsync(new V1.ListSnapshotsRequest())).Snapshots);
        Assert.Equal("h", Assert.Single((await _server.Hooks.ListHooksAsync(new V1.ListHooksRequest { Module = "m" })).Hooks).Hook.Id);
        Assert.Empty(_directory.EnumerateFiles());
    }

    /// <summary>The calls whose request has a field, itself or in its header or its step.</summary>
    private static IEnumerable<string> Taking(string field) =>
        from service in (ServiceDescriptor[])[
            V1.HostService.Descriptor, V1.ModuleService.Descriptor, V1.ExecutionService.Descriptor, V1.TrainingService.Descriptor,
            V1.TensorService.Descriptor, V1.StateService.Descriptor, V1.HookService.Descriptor]
        from method in service.Methods
        where method.InputType.FindFieldByName(field) is not null
            || method.InputType.Fields.InDeclarationOrder().Any(part => part is { FieldType: FieldType.Message, IsRepeated: false } && part.MessageType.FindFieldByName(field) is not null)
        select method.Name;

    private static V1.Hook Hook(string id) => new() { Id = id, Site = V1.HookSite.Forward, Actions = { new V1.HookAction { Mul = new() { Value = new() { Scalar = 1 } } } } };

    private static V1.TrainStepRequest Step(string id, ulong? at) =>
        At(new V1.TrainStepRequest { Module = "m", Inputs = { One }, Targets = { One }, Loss = Mse, RequestId = id }, at);

    private static T At<T>(T request, ulong? generation)
        where T : Google.Protobuf.IMessage
    {
        if (generation is { } number)
        {
            request.Descriptor.FindFieldByName("if_generation").Accessor.SetValue(request, number);
        }

        return request;
    }

    private static async Task SendAsync<TRequest, TResponse>(AsyncClientStreamingCall<TRequest, TResponse> call, params TRequest[] messages)
    {
        using (call)
        {
            foreach (var message in messages)
            {
                await call.RequestStream.TryWriteAsync(message);
            }

            await call.RequestStream.TryCompleteAsync();
            await call.ResponseAsync;
        }
    }

    private static async Task StreamAsync(RunningServer server, V1.TrainStreamRequest request)
    {
        using var call = server.Training.TrainStream();
        await call.RequestStream.TryWriteAsync(request);
        await call.ResponseStream.MoveNext(default);
    }

    private static async Task StreamAsync(RunningServer server, V1.ForwardStreamRequest request)
    {
        using var call = server.Execution.ForwardStream();
        await call.RequestStream.TryWriteAsync(request);
        Assert.True(await call.ResponseStream.MoveNext(default));
        var error = call.ResponseStream.Current.Error;
        throw new Google.Rpc.Status { Code = error.Code, Message = error.Message, Details = { error.Details } }.ToRpcException();
    }
}
