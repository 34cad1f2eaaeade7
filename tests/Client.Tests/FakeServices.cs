using Grpc.Core;
using Sconce.V1;

namespace Sconce.Client.Tests;

// Every rpc of the contract, handed to the script.

internal sealed class FakeHost(Script script) : HostService.HostServiceBase
{
    public override Task<GetHostResponse> GetHost(GetHostRequest request, ServerCallContext context) =>
        script.AnswerAsync<GetHostRequest, GetHostResponse>(request, context);

    public override Task<ListModuleTypesResponse> ListModuleTypes(ListModuleTypesRequest request, ServerCallContext context) =>
        script.AnswerAsync<ListModuleTypesRequest, ListModuleTypesResponse>(request, context);
}

internal sealed class FakeModules(Script script) : ModuleService.ModuleServiceBase
{
    public override Task<CreateModuleResponse> CreateModule(CreateModuleRequest request, ServerCallContext context) =>
        script.AnswerAsync<CreateModuleRequest, CreateModuleResponse>(request, context, () => new CreateModuleResponse { Module = Fakes.Module(request) });

    public override Task<GetModuleResponse> GetModule(GetModuleRequest request, ServerCallContext context) =>
        script.AnswerAsync<GetModuleRequest, GetModuleResponse>(request, context, () => new GetModuleResponse { Module = Fakes.Module(request) });

    public override Task<ListModulesResponse> ListModules(ListModulesRequest request, ServerCallContext context) =>
        script.AnswerAsync<ListModulesRequest, ListModulesResponse>(request, context);

    public override Task<DeleteModuleResponse> DeleteModule(DeleteModuleRequest request, ServerCallContext context) =>
        script.AnswerAsync<DeleteModuleRequest, DeleteModuleResponse>(request, context);

    public override Task<CopyModuleResponse> CopyModule(CopyModuleRequest request, ServerCallContext context) =>
        script.AnswerAsync<CopyModuleRequest, CopyModuleResponse>(request, context, () => new CopyModuleResponse { Module = Fakes.Module(request) });

    public override Task<DescribeModuleResponse> DescribeModule(DescribeModuleRequest request, ServerCallContext context) =>
        script.AnswerAsync<DescribeModuleRequest, DescribeModuleResponse>(request, context, () => new DescribeModuleResponse { Module = Fakes.Module(request) });

    public override Task<TrainResponse> Train(TrainRequest request, ServerCallContext context) =>
        script.AnswerAsync<TrainRequest, TrainResponse>(request, context, () => new TrainResponse { Module = Fakes.Module(request) });

    public override Task<SetTrainPolicyResponse> SetTrainPolicy(SetTrainPolicyRequest request, ServerCallContext context) =>
        script.AnswerAsync<SetTrainPolicyRequest, SetTrainPolicyResponse>(request, context, () => new SetTrainPolicyResponse { Module = Fakes.Module(request) });

    public override Task<RequiresGradResponse> RequiresGrad(RequiresGradRequest request, ServerCallContext context) =>
        script.AnswerAsync<RequiresGradRequest, RequiresGradResponse>(request, context, () => new RequiresGradResponse { Module = Fakes.Module(request) });

    public override Task<ZeroGradResponse> ZeroGrad(ZeroGradRequest request, ServerCallContext context) =>
        script.AnswerAsync<ZeroGradRequest, ZeroGradResponse>(request, context, () => new ZeroGradResponse { Module = Fakes.Module(request) });

    public override Task<ToResponse> To(ToRequest request, ServerCallContext context) =>
        script.AnswerAsync<ToRequest, ToResponse>(request, context, () => new ToResponse { Module = Fakes.Module(request) });

    public override Task<ApplyResponse> Apply(ApplyRequest request, ServerCallContext context) =>
        script.AnswerAsync<ApplyRequest, ApplyResponse>(request, context, () => new ApplyResponse { Module = Fakes.Module(request) });

    public override Task<RegisterParameterResponse> RegisterParameter(RegisterParameterRequest request, ServerCallContext context) =>
        script.AnswerAsync<RegisterParameterRequest, RegisterParameterResponse>(request, context, () => new RegisterParameterResponse { Module = Fakes.Module(request) });

    public override Task<RegisterBufferResponse> RegisterBuffer(RegisterBufferRequest request, ServerCallContext context) =>
        script.AnswerAsync<RegisterBufferRequest, RegisterBufferResponse>(request, context, () => new RegisterBufferResponse { Module = Fakes.Module(request) });

    public override Task<AddModuleResponse> AddModule(AddModuleRequest request, ServerCallContext context) =>
        script.AnswerAsync<AddModuleRequest, AddModuleResponse>(request, context, () => new AddModuleResponse { Module = Fakes.Module(request) });

    public override Task<GetParameterResponse> GetParameter(GetParameterRequest request, ServerCallContext context) =>
        script.AnswerAsync<GetParameterRequest, GetParameterResponse>(request, context);

    public override Task<GetBufferResponse> GetBuffer(GetBufferRequest request, ServerCallContext context) =>
        script.AnswerAsync<GetBufferRequest, GetBufferResponse>(request, context);

    public override Task<SetExtraStateResponse> SetExtraState(SetExtraStateRequest request, ServerCallContext context) =>
        script.AnswerAsync<SetExtraStateRequest, SetExtraStateResponse>(request, context, () => new SetExtraStateResponse { Module = Fakes.Module(request) });

    public override Task<GetExtraStateResponse> GetExtraState(GetExtraStateRequest request, ServerCallContext context) =>
        script.AnswerAsync<GetExtraStateRequest, GetExtraStateResponse>(request, context);

    public override Task<ShareMemoryResponse> ShareMemory(ShareMemoryRequest request, ServerCallContext context) =>
        script.AnswerAsync<ShareMemoryRequest, ShareMemoryResponse>(request, context, () => new ShareMemoryResponse { File = "/dev/shm/x" });
}

internal sealed class FakeExecution(Script script) : ExecutionService.ExecutionServiceBase
{
    public override Task<ForwardResponse> Forward(ForwardRequest request, ServerCallContext context) =>
        script.AnswerAsync<ForwardRequest, ForwardResponse>(request, context);

    public override Task ForwardStream(IAsyncStreamReader<ForwardStreamRequest> requestStream, IServerStreamWriter<ForwardStreamResponse> responseStream, ServerCallContext context) =>
        script.StreamAsync(new Incoming<ForwardStreamRequest>(null, requestStream), responseStream, context);

    public override Task<BackwardResponse> Backward(BackwardRequest request, ServerCallContext context) =>
        script.AnswerAsync<BackwardRequest, BackwardResponse>(request, context);

    public override Task<ReleaseGraphResponse> ReleaseGraph(ReleaseGraphRequest request, ServerCallContext context) =>
        script.AnswerAsync<ReleaseGraphRequest, ReleaseGraphResponse>(request, context);

    public override Task<CallResponse> Call(CallRequest request, ServerCallContext context) =>
        script.AnswerAsync<CallRequest, CallResponse>(request, context);
}

internal sealed class FakeTraining(Script script) : TrainingService.TrainingServiceBase
{
    public override Task<ForwardBackwardResponse> ForwardBackward(ForwardBackwardRequest request, ServerCallContext context) =>
        script.AnswerAsync<ForwardBackwardRequest, ForwardBackwardResponse>(request, context);

    public override Task<CreateOptimizerResponse> CreateOptimizer(CreateOptimizerRequest request, ServerCallContext context) =>
        script.AnswerAsync<CreateOptimizerRequest, CreateOptimizerResponse>(request, context);

    public override Task<GetOptimizerResponse> GetOptimizer(GetOptimizerRequest request, ServerCallContext context) =>
        script.AnswerAsync<GetOptimizerRequest, GetOptimizerResponse>(request, context);

    public override Task<AddParamGroupResponse> AddParamGroup(AddParamGroupRequest request, ServerCallContext context) =>
        script.AnswerAsync<AddParamGroupRequest, AddParamGroupResponse>(request, context);

    public override Task<DeleteOptimizerResponse> DeleteOptimizer(DeleteOptimizerRequest request, ServerCallContext context) =>
        script.AnswerAsync<DeleteOptimizerRequest, DeleteOptimizerResponse>(request, context);

    public override Task GetOptimizerState(GetOptimizerStateRequest request, IServerStreamWriter<GetOptimizerStateResponse> responseStream, ServerCallContext context) =>
        script.StreamAsync(new Incoming<GetOptimizerStateRequest>(request, null), responseStream, context);

    public override async Task<LoadOptimizerStateResponse> LoadOptimizerState(IAsyncStreamReader<LoadOptimizerStateRequest> requestStream, ServerCallContext context) =>
        (await script.StreamAsync<LoadOptimizerStateRequest, LoadOptimizerStateResponse>(new Incoming<LoadOptimizerStateRequest>(null, requestStream), null, context))!;

    public override Task<OptimizerStepResponse> OptimizerStep(OptimizerStepRequest request, ServerCallContext context) =>
        script.AnswerAsync<OptimizerStepRequest, OptimizerStepResponse>(request, context);

    public override Task<TrainStepResponse> TrainStep(TrainStepRequest request, ServerCallContext context) =>
        script.AnswerAsync<TrainStepRequest, TrainStepResponse>(request, context);

    public override Task TrainStream(IAsyncStreamReader<TrainStreamRequest> requestStream, IServerStreamWriter<TrainStreamResponse> responseStream, ServerCallContext context) =>
        script.StreamAsync(new Incoming<TrainStreamRequest>(null, requestStream), responseStream, context);

    public override Task<SetLearningRateResponse> SetLearningRate(SetLearningRateRequest request, ServerCallContext context) =>
        script.AnswerAsync<SetLearningRateRequest, SetLearningRateResponse>(request, context);

    public override Task<CreateSchedulerResponse> CreateScheduler(CreateSchedulerRequest request, ServerCallContext context) =>
        script.AnswerAsync<CreateSchedulerRequest, CreateSchedulerResponse>(request, context);

    public override Task<SchedulerStepResponse> SchedulerStep(SchedulerStepRequest request, ServerCallContext context) =>
        script.AnswerAsync<SchedulerStepRequest, SchedulerStepResponse>(request, context);

    public override Task<ClipGradientsResponse> ClipGradients(ClipGradientsRequest request, ServerCallContext context) =>
        script.AnswerAsync<ClipGradientsRequest, ClipGradientsResponse>(request, context);

    public override Task GetGradients(GetGradientsRequest request, IServerStreamWriter<GetGradientsResponse> responseStream, ServerCallContext context) =>
        script.StreamAsync(new Incoming<GetGradientsRequest>(request, null), responseStream, context);

    public override Task<ManualSeedResponse> ManualSeed(ManualSeedRequest request, ServerCallContext context) =>
        script.AnswerAsync<ManualSeedRequest, ManualSeedResponse>(request, context);
}

internal sealed class FakeState(Script script) : StateService.StateServiceBase
{
    public override Task GetStateDict(GetStateDictRequest request, IServerStreamWriter<GetStateDictResponse> responseStream, ServerCallContext context) =>
        script.StreamAsync(new Incoming<GetStateDictRequest>(request, null), responseStream, context);

    public override async Task<LoadStateDictResponse> LoadStateDict(IAsyncStreamReader<LoadStateDictRequest> requestStream, ServerCallContext context) =>
        (await script.StreamAsync<LoadStateDictRequest, LoadStateDictResponse>(new Incoming<LoadStateDictRequest>(null, requestStream), null, context))!;

    public override Task<GetUploadResponse> GetUpload(GetUploadRequest request, ServerCallContext context) =>
        script.AnswerAsync<GetUploadRequest, GetUploadResponse>(request, context);
}

internal sealed class FakeTensors(Script script) : TensorService.TensorServiceBase
{
    public override Task<PutTensorResponse> PutTensor(PutTensorRequest request, ServerCallContext context) =>
        script.AnswerAsync<PutTensorRequest, PutTensorResponse>(request, context);

    public override Task<GetTensorResponse> GetTensor(GetTensorRequest request, ServerCallContext context) =>
        script.AnswerAsync<GetTensorRequest, GetTensorResponse>(request, context);

    public override Task<ListTensorsResponse> ListTensors(ListTensorsRequest request, ServerCallContext context) =>
        script.AnswerAsync<ListTensorsRequest, ListTensorsResponse>(request, context);

    public override Task<DropTensorResponse> DropTensor(DropTensorRequest request, ServerCallContext context) =>
        script.AnswerAsync<DropTensorRequest, DropTensorResponse>(request, context);

    public override Task OpenSession(OpenSessionRequest request, IServerStreamWriter<OpenSessionResponse> responseStream, ServerCallContext context) =>
        script.StreamAsync(new Incoming<OpenSessionRequest>(request, null), responseStream, context);
}

internal sealed class FakeHooks(Script script) : HookService.HookServiceBase
{
    public override Task<RegisterHookResponse> RegisterHook(RegisterHookRequest request, ServerCallContext context) =>
        script.AnswerAsync<RegisterHookRequest, RegisterHookResponse>(request, context, () => new RegisterHookResponse { Hook = new HookInfo { Hook = request.Hook, Paths = { request.Hook.Path } } });

    public override Task<ListHooksResponse> ListHooks(ListHooksRequest request, ServerCallContext context) =>
        script.AnswerAsync<ListHooksRequest, ListHooksResponse>(request, context);

    public override Task<RemoveHookResponse> RemoveHook(RemoveHookRequest request, ServerCallContext context) =>
        script.AnswerAsync<RemoveHookRequest, RemoveHookResponse>(request, context);

    public override Task WatchHook(WatchHookRequest request, IServerStreamWriter<WatchHookResponse> responseStream, ServerCallContext context) =>
        script.StreamAsync(new Incoming<WatchHookRequest>(request, null), responseStream, context);
}
