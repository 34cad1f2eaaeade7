using Grpc.Core;
using Sconce.Functional.Harness;

namespace Sconce.Functional.BadInput;

/// <summary>Names and ids: a malformed one is INVALID_ARGUMENT, an unknown one NOT_FOUND, and both are escaped in the message. (Server.Tests tries modules and paths on every RPC.)</summary>
public sealed class NameTests(SharedServer server) : ServerTest(server)
{
    [Fact]
    public async Task ManualSeed_malformed_and_unknown_names_are_refused()
    {
        (await Refusal.OfAsync(async () => await Stubs.Training.ManualSeedAsync(new() { Module = "a b", Seed = 1 }), StatusCode.InvalidArgument)).At("module");
        await Refusal.OfAsync(async () => await Stubs.Training.ManualSeedAsync(new() { Module = "no-such-module", Seed = 1 }), StatusCode.NotFound);
    }

    [Fact]
    public async Task CreateModule_and_CopyModule_malformed_new_name_is_INVALID_ARGUMENT()
    {
        var module = await CreateAsync(Specs.Linear);
        (await Refusal.OfAsync(async () => await Stubs.Modules.CreateModuleAsync(new() { Module = "a/b", Spec = Specs.Linear }), StatusCode.InvalidArgument, "a/b")).At("module");
        (await Refusal.OfAsync(async () => await Stubs.Modules.CopyModuleAsync(new() { Module = module, Copy = "a/b" }), StatusCode.InvalidArgument, "a/b")).At("copy");
    }

    [Fact]
    public async Task Tensors_sessions_graphs_and_optimizers_unknown_are_NOT_FOUND()
    {
        var module = await CreateAsync(Specs.Linear);
        await IsAsync("tensor", async () => await Stubs.Tensors.GetTensorAsync(new() { Id = "gone" }));
        await IsAsync("tensor", async () => await Stubs.Tensors.DropTensorAsync(new() { Id = "gone" }));
        await IsAsync("tensor", async () => await Stubs.Execution.ForwardAsync(new() { Module = module, Inputs = { Wire.Kept("gone") } }));
        await IsAsync("session", async () => await Stubs.Tensors.PutTensorAsync(new() { Tensor = Wire.Floats([1], 1), Session = "gone" }));
        await IsAsync("session", async () => await Stubs.Execution.ForwardAsync(new() { Module = module, Inputs = { Wire.Pattern(1, 4) }, RecordGraph = true, Session = "gone" }));
        await IsAsync("graph", async () => await Stubs.Execution.BackwardAsync(new() { Module = module, Graph = "gone" }));
        await IsAsync("graph", async () => await Stubs.Execution.ReleaseGraphAsync(new() { Module = module, Graph = "gone" }));
        await IsAsync("optimizer", async () => await Stubs.Training.OptimizerStepAsync(new() { Module = module, Optimizer = "gone" }));
        await IsAsync("optimizer", async () => await Stubs.Training.GetOptimizerAsync(new() { Module = module }));
    }

    private static async Task IsAsync(string type, Func<Task> call) => Assert.Equal(type, (await Refusal.OfAsync(call, StatusCode.NotFound)).Resource?.ResourceType);
}
