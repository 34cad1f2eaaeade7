using Grpc.Core;
using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.PlugIns;

/// <summary>Plug-ins and what is registered on a live module.</summary>
public sealed class RegistrationTests(PlugInServer server) : IClassFixture<PlugInServer>
{
    private static int _names;

    private static ModuleSpec Gated => Nn.Module("GatedMlp", ("features", 4), ("hidden", 6));

    private static TensorData X => TensorData.FromBytes(DataType.Float32, [8, 4], Wire.Pattern(8, 4).Data.Memory);

    [Fact]
    public async Task A_plug_in_is_added_to_a_live_module_and_learns_with_it()
    {
        var model = await NewAsync(Nn.Sequential(("head", Nn.Linear(4, 3))));
        await model.AddModuleAsync("head", Gated, seed: 3);
        await model.EvalAsync();
        var alone = await NewAsync(Gated, seed: 3);
        await alone.EvalAsync();
        Assert.Equal(await OutputAsync(alone), await OutputAsync(model));

        await model.CreateOptimizerAsync("SGD", [("lr", 0.1)]);
        var before = (await model.StateDictAsync())["head.gate.weight"].Bytes.ToArray();
        await model.TrainStepAsync(X, TensorData.Create(new float[32], 8, 4), Nn.MSELoss());
        Assert.NotEqual(before, (await model.StateDictAsync())["head.gate.weight"].Bytes.ToArray());
        _ = await Refusal.OfAsync(() => AddAsync(model, "", "other", Nn.Module("GatedMpl")), StatusCode.Unimplemented, "GatedMlp");
    }

    [Fact]
    public async Task One_that_does_not_fit_is_refused_when_it_is_made_and_freed()
    {
        var model = await NewAsync(Nn.Sequential(("head", Nn.Linear(4, 3))));
        var (used, before) = (await UsedAsync(), await model.DescribeAsync());
        _ = await Refusal.OfAsync(() => AddAsync(model, "", "large", Nn.Module("GatedMlp", ("features", 4000), ("hidden", 8000))), StatusCode.ResourceExhausted, "a child of module", "memory_budget_bytes");
        Assert.Equal(used, await UsedAsync());
        Assert.Equal(before, await model.DescribeAsync());

        // One that fits is charged what it takes: nothing before it is made, all of it then.
        await model.AddModuleAsync("small", Gated);
        Assert.Equal(used + (4 * (6 + 16 + (2 * 30) + 28)) + 8, await UsedAsync());
    }

    [Fact]
    public async Task Its_parts_are_called_by_its_own_code_so_none_is_added_or_replaced()
    {
        var model = await NewAsync(Nn.Sequential(("mlp", Gated)));
        foreach (var name in new[] { "gate", "other" })
        {
            (await Refusal.OfAsync(() => AddAsync(model, "mlp", name, Nn.Linear(4, 6)), StatusCode.InvalidArgument, "GatedMlp", "own code")).At("spec").For("CHILD_MISMATCH");
        }

        await model.EvalAsync();
        await model.TrainAsync();
        Assert.Equal(32, (await OutputAsync(model)).Length);
    }

    [Fact]
    public async Task A_part_that_is_shared_outlives_the_plug_in()
    {
        var model = await NewAsync(Nn.Sequential(("mlp", Gated)));
        await model.AddModuleAsync("gate", model.GetSubmodule("mlp.gate"));
        await model.AddModuleAsync("mlp", Nn.Module("Identity"));
        Assert.Equal(48, (await OutputAsync(model)).Length);
        Assert.Equal(["gate.weight", "gate.bias"], (await model.StateDictAsync()).Keys);
        await model.CreateOptimizerAsync("SGD", [("lr", 0.1)]);
        await model.TrainStepAsync(X, TensorData.Create(new float[48], 8, 6), Nn.MSELoss());
    }

    private static string NewName() => $"r{Interlocked.Increment(ref _names)}";

    private static async Task<float[]> OutputAsync(RemoteModule model) => ((TensorData)await model.ForwardAsync(X)).As<float>().ToArray();

    private async Task<ulong> UsedAsync() => (await server.Client.GetHostAsync()).Memory.UsedBytes;

    private Task<AddModuleResponse> AddAsync(RemoteModule model, string path, string name, ModuleSpec spec) =>
        server.Stubs.Modules.AddModuleAsync(new AddModuleRequest { Module = model.Name, Path = path, Name = name, Spec = spec }).ResponseAsync;

    private async Task<RemoteModule> NewAsync(ModuleSpec spec, long seed = 1) => await server.Client.CreateModuleAsync(NewName(), spec, seed);
}
