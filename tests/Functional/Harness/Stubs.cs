using Grpc.Core;
using Sconce.V1;

namespace Sconce.Functional.Harness;

/// <summary>The generated stubs of every service, over one connection.</summary>
internal sealed class Stubs(CallInvoker invoker)
{
    public CallInvoker Invoker { get; } = invoker;

    public HostService.HostServiceClient Host { get; } = new(invoker);

    public ModuleService.ModuleServiceClient Modules { get; } = new(invoker);

    public ExecutionService.ExecutionServiceClient Execution { get; } = new(invoker);

    public TrainingService.TrainingServiceClient Training { get; } = new(invoker);

    public StateService.StateServiceClient State { get; } = new(invoker);

    public TensorService.TensorServiceClient Tensors { get; } = new(invoker);

    public HookService.HookServiceClient Hooks { get; } = new(invoker);
}
