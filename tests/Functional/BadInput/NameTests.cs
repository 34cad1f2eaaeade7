using Grpc.Core;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.BadInput;

/// <summary>Names, on every RPC that takes one: a malformed one is INVALID_ARGUMENT, an unknown one NOT_FOUND, and both are escaped in the message.</summary>
public sealed class NameTests(SharedServer server) : ServerTest(server)
{
    private static readonly Dictionary<string, Func<Stubs, string, Task>> Rpcs = new()
    {
        ["GetModule"] = async (s, m) => await s.Modules.GetModuleAsync(new() { Module = m }),
        ["DeleteModule"] = async (s, m) => await s.Modules.DeleteModuleAsync(new() { Module = m }),
        ["CopyModule"] = async (s, m) => await s.Modules.CopyModuleAsync(new() { Module = m, Copy = "copy-of-nothing" }),
        ["DescribeModule"] = async (s, m) => await s.Modules.DescribeModuleAsync(new() { Module = m }),
        ["Train"] = async (s, m) => await s.Modules.TrainAsync(new() { Module = m }),
        ["SetTrainPolicy"] = async (s, m) => await s.Modules.SetTrainPolicyAsync(new() { Module = m }),
        ["RequiresGrad"] = async (s, m) => await s.Modules.RequiresGradAsync(new() { Module = m }),
        ["ZeroGrad"] = async (s, m) => await s.Modules.ZeroGradAsync(new() { Module = m }),
        ["To"] = async (s, m) => await s.Modules.ToAsync(new() { Module = m, Conversion = Conversion.Half }),
        ["Apply"] = async (s, m) => await s.Modules.ApplyAsync(new() { Module = m, Function = "zeros_" }),
        ["Forward"] = async (s, m) => await s.Execution.ForwardAsync(new() { Module = m, Inputs = { Wire.Floats([1], 1) } }),
        ["Call"] = async (s, m) => await s.Execution.CallAsync(new() { Forward = new() { Module = m, Inputs = { Wire.Floats([1], 1) } } }),
        ["Backward"] = async (s, m) => await s.Execution.BackwardAsync(new() { Module = m, Graph = "g" }),
        ["ReleaseGraph"] = async (s, m) => await s.Execution.ReleaseGraphAsync(new() { Module = m, Graph = "g" }),
        ["ForwardBackward"] = async (s, m) => await s.Training.ForwardBackwardAsync(new() { Module = m, Inputs = { Wire.Floats([1], 1) }, Loss = new() { Type = "MSELoss" }, Targets = { Wire.Floats([1], 1) } }),
        ["CreateOptimizer"] = async (s, m) => await s.Training.CreateOptimizerAsync(new() { Module = m, Type = "SGD" }),
        ["GetOptimizer"] = async (s, m) => await s.Training.GetOptimizerAsync(new() { Module = m }),
        ["AddParamGroup"] = async (s, m) => await s.Training.AddParamGroupAsync(new() { Module = m, Group = new() { Parameters = { "*" } } }),
        ["DeleteOptimizer"] = async (s, m) => await s.Training.DeleteOptimizerAsync(new() { Module = m }),
        ["GetOptimizerState"] = async (s, m) => await Streams.DrainAsync(s.Training.GetOptimizerState(new() { Module = m })),
        ["LoadOptimizerState"] = async (s, m) => await Streams.SendAsync(s.Training.LoadOptimizerState(), new LoadOptimizerStateRequest { Header = new() { Module = m, State = new() } }),
        ["OptimizerStep"] = async (s, m) => await s.Training.OptimizerStepAsync(new() { Module = m }),
        ["TrainStep"] = async (s, m) => await s.Training.TrainStepAsync(new() { Module = m, Inputs = { Wire.Floats([1], 1) }, Loss = new() { Type = "MSELoss" }, Targets = { Wire.Floats([1], 1) } }),
        ["SetLearningRate"] = async (s, m) => await s.Training.SetLearningRateAsync(new() { Module = m, Lr = 1 }),
        ["CreateScheduler"] = async (s, m) => await s.Training.CreateSchedulerAsync(new() { Module = m, Type = "StepLR" }),
        ["SchedulerStep"] = async (s, m) => await s.Training.SchedulerStepAsync(new() { Module = m }),
        ["ClipGradients"] = async (s, m) => await s.Training.ClipGradientsAsync(new() { Module = m, Clip = new() { MaxNorm = 1 } }),
        ["GetGradients"] = async (s, m) => await Streams.DrainAsync(s.Training.GetGradients(new() { Module = m })),
        ["GetStateDict"] = async (s, m) => await Streams.DrainAsync(s.State.GetStateDict(new() { Module = m })),
        ["LoadStateDict"] = async (s, m) => await Streams.SendAsync(s.State.LoadStateDict(), new LoadStateDictRequest { Header = new() { Module = m } }),
    };

    /// <summary>RPCs for which an empty name is refused too; ManualSeed alone takes one, for the whole process.</summary>
    public static TheoryData<string> Cases => [.. Rpcs.Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Module_malformed_name_is_INVALID_ARGUMENT(string rpc)
    {
        foreach (var name in (string[])["", "../etc/passwd", "-a", "a b", "a\n[ERR] forged", new string('x', 129), "é"])
        {
            var refusal = await Refusal.OfAsync(() => Rpcs[rpc](Stubs, name), StatusCode.InvalidArgument);
            Assert.Contains(refusal.Fields.Keys, field => field.EndsWith("module", StringComparison.Ordinal));
            Assert.DoesNotContain('\n', refusal.Message);
            Assert.True(refusal.Message.Length < 1000, "a long name must be cut");
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Module_unknown_name_is_NOT_FOUND(string rpc)
    {
        var refusal = await Refusal.OfAsync(() => Rpcs[rpc](Stubs, "no-such-module"), StatusCode.NotFound, "no-such-module");
        Assert.Equal("module", refusal.Resource?.ResourceType);
        Assert.Equal("no-such-module", refusal.Resource?.ResourceName);
    }

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

    [Theory]
    [InlineData("nope")]
    [InlineData("0.nope")]
    [InlineData(".")]
    [InlineData("0..1")]
    public async Task Path_unknown_is_NOT_FOUND(string path)
    {
        var module = await CreateAsync(Specs.Mlp);
        Func<Task>[] calls =
        [
            async () => await Stubs.Execution.ForwardAsync(new() { Module = module, Path = path, Inputs = { Wire.Pattern(1, 4) } }),
            async () => await Stubs.Modules.TrainAsync(new() { Module = module, Path = path }),
            async () => await Stubs.Modules.DescribeModuleAsync(new() { Module = module, Path = path }),
            async () => await Stubs.Modules.ToAsync(new() { Module = module, Path = path, Conversion = Conversion.Half }),
            async () => await Stubs.Modules.CopyModuleAsync(new() { Module = module, Path = path, Copy = "copy-of-nothing" }),
            async () => await Stubs.Modules.ZeroGradAsync(new() { Module = module, Path = path }),
            async () => await Stubs.Modules.RequiresGradAsync(new() { Module = module, Path = path }),
            async () => await Stubs.Modules.ApplyAsync(new() { Module = module, Path = path, Function = "zeros_" }),
            async () => await Streams.DrainAsync(Stubs.State.GetStateDict(new() { Module = module, Path = path })),
            async () => await Stubs.Training.ClipGradientsAsync(new() { Module = module, Path = path, Clip = new() { MaxNorm = 1 } }),
        ];
        foreach (var call in calls)
        {
            Assert.Equal("submodule", (await Refusal.OfAsync(call, StatusCode.NotFound, path)).Resource?.ResourceType);
        }
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
