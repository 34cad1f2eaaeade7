using System.Runtime.InteropServices;
using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static Sconce.Engine.Tests.Execution.Testing;

namespace Sconce.Engine.Tests.Execution;

/// <summary>Registrations and conversions of a hosted module: the ledger, the generation, graphs, optimizers, and failures half-way.</summary>
public sealed class RegistrationTests
{
    private static readonly Dictionary<string, object?> NoArgs = [];

    [Fact]
    public async Task What_is_registered_is_charged_before_it_is_made_and_what_does_not_fit_changes_nothing()
    {
        await using var host = Host(options => options.MemoryBudgetBytes = 100_000);
        var module = await host.Create("m", Mlp());
        var bytes = module.Summary.Bytes;
        await module.RegisterBufferAsync(default, "cache", Filled(1, 1000), persistent: false, default);
        Assert.Equal((bytes + 4000, bytes + 4000), (module.Summary.Bytes, host.Ledger.UsedBytes));
        await module.SetExtraStateAsync(default, new byte[10], default);
        Assert.Equal(bytes + 4010, host.Ledger.UsedBytes);

        // The request's own bytes and the module's copy do not fit together.
        var generation = module.Summary.Generation;
        await module.RegisterBufferAsync(default, "large", Filled(1, 15_000), persistent: true, default).Fails(EngineError.ResourceExhausted, "a buffer of module", "memory_budget_bytes");
        await module.RegisterParameterAsync(default, "large", Filled(1, 15_000), requiresGrad: true, default).Fails(EngineError.ResourceExhausted, "a parameter of module");
        await module.AddModuleAsync(default, "large", Linear(1000, 1000), null, ElementType.None, default).Fails(EngineError.ResourceExhausted, "a child of module");
        await module.SetExtraStateAsync(default, new byte[99_000], default).Fails(EngineError.ResourceExhausted, "the extra state of module");
        Assert.Equal((generation, bytes + 4010, bytes + 4010), (module.Summary.Generation, module.Summary.Bytes, host.Ledger.UsedBytes));

        await module.AddModuleAsync(default, "2", Linear(8, 100), null, ElementType.Float64, default);
        Assert.Equal(bytes + 4010 - (18 * 4) + (900 * 8), host.Ledger.UsedBytes);
        await module.RegisterBufferAsync(default, "cache", TensorInput.None, persistent: true, default);
        await module.SetExtraStateAsync(default, null, default);
        Assert.Equal(bytes - (18 * 4) + (900 * 8), host.Ledger.UsedBytes);
        using (var value = (await module.GetParameterAsync("2", "weight", default)).Value!)
        {
            Assert.Equal(host.Ledger.Used(MemoryUse.State), value.TotalBytes);
        }

        await host.DeleteModuleAsync("m", null, default);
        Assert.Equal(0, host.Ledger.UsedBytes);
    }

    [Fact]
    public async Task A_change_of_structure_raises_the_generation_and_frees_graphs()
    {
        await using var host = Host();
        var module = await host.Create("m", Mlp());
        foreach (var change in new Func<Task>[]
        {
            () => module.RegisterBufferAsync(default, "b", TensorInput.None, true, default),
            () => module.RegisterParameterAsync(default, "p", Filled(1, 2), true, default),
            () => module.TieParameterAsync(default, "q", "p", default),
            () => module.AddModuleAsync(default, "2", Linear(8, 2), 1, ElementType.None, default),
            () => module.ShareModuleAsync(default, "3", "1", default),
            () => module.SetExtraStateAsync(default, new byte[1], default),
        })
        {
            var generation = module.Summary.Generation;
            using var outcome = await module.ForwardAsync(Record(Filled(1, 1, 4)), default);
            await change();
            Assert.Equal((generation + 1, 0), (module.Summary.Generation, module.Summary.LiveGraphs));
            await module.BackwardAsync(new BackwardCall { Graph = outcome.Graph!.Id }, default).Fails(EngineError.FailedPrecondition);
        }
    }

    [Fact]
    public async Task A_replaced_value_of_another_dtype_takes_optimizer_state_along()
    {
        await using var host = Host();
        var module = await host.Create("m", Linear(4, 2));
        await Adam(module);
        await StepAsync(module);
        var doubles = TensorInput.Of(new TensorPayload(ElementType.Float64, [2, 4], MemoryMarshal.AsBytes<double>(new double[8]).ToArray()));
        await module.RegisterParameterAsync(default, "weight", doubles, true, default);
        await module.ConvertAsync(default, new ConversionPlan(ConversionKind.Double), default);
        var state = module.State.Optimizers.Find("").GetState();
        Assert.All(state.Tensors, entry => Assert.Equal(ElementType.Float64, entry.Value.dtype.ToElementType()));
        var inputs = new CallInputs([TensorInput.Of(new TensorPayload(ElementType.Float64, [1, 4], MemoryMarshal.AsBytes<double>([1, 2, 3, 4]).ToArray()))]);
        (await module.TrainStepAsync(new TrainStepCall { Inputs = inputs, Loss = new LossSpec("CrossEntropyLoss", NoArgs), Targets = [Classes()] }, default)).Dispose();
        Assert.Equal(2, (await module.GetOptimizerAsync("", default)).Steps);
        await module.AddModuleAsync(default, "x", Linear(1, 1), null, ElementType.None, default);
        await module.RegisterParameterAsync(default, "bias", TensorInput.None, true, default).Fails(EngineError.FailedPrecondition, "\"default\"");
    }

    [Fact]
    public async Task A_conversion_that_does_not_fit_leaves_parameters_and_optimizer_as_they_were()
    {
        await using var host = Host(options => options.MemoryBudgetBytes = 2_700_000);
        var module = await host.Create("m", Linear(256, 256));
        await Adam(module);
        await StepAsync(module, 256);
        var (generation, used) = (module.Summary.Generation, host.Ledger.UsedBytes);
        await module.ConvertAsync(default, new ConversionPlan(ConversionKind.Double), default).Fails(EngineError.ResourceExhausted, "a conversion of module", "memory_budget_bytes");
        AssertSingle(module, generation);
        Assert.Equal(used, host.Ledger.UsedBytes);
        await StepAsync(module, 256);
    }

    [Fact]
    public async Task A_conversion_that_fails_at_the_last_state_tensor_of_an_optimizer_has_converted_nothing()
    {
        await using var host = Host();
        var module = await host.Create("m", Mlp());
        await Adam(module);
        await StepAsync(module);
        var generation = module.Summary.Generation;
        var state = module.State.Optimizers.Find("").GetState();
        state.Tensors[^1].Value.Dispose();
        await Assert.ThrowsAnyAsync<Exception>(() => module.ConvertAsync(default, new ConversionPlan(ConversionKind.Double), default));
        Assert.Equal(generation, module.Summary.Generation);
        Assert.All(ModuleTree.NamedParameters(module.State.Tree.Root), p => Assert.Equal(ElementType.Float32, p.Parameter.dtype.ToElementType()));
        Assert.All(state.Tensors.SkipLast(1), entry => Assert.Equal(ElementType.Float32, entry.Value.dtype.ToElementType()));
    }

    [Fact]
    public async Task A_dropout_that_is_added_makes_the_module_draw()
    {
        await using var host = Host();
        var module = await host.Create("m", Mlp());
        Assert.False(module.State.Traits.Draws);
        await module.AddModuleAsync(new ChangeTarget("0", null), "aside", Of("Dropout"), null, ElementType.None, default);
        Assert.True(module.State.Traits.Draws);
        await module.AddModuleAsync(new ChangeTarget("0", null), "aside", Of("ReLU"), null, ElementType.None, default);
        Assert.False(module.State.Traits.Draws);
    }

    [Fact]
    public async Task Equal_seeds_give_equal_children_and_leave_the_modules_stream()
    {
        await using var host = Host();
        var (a, b) = (await host.Create("a", Mlp()), await host.Create("b", Mlp()));
        foreach (var module in new[] { a, b })
        {
            await module.AddModuleAsync(default, "2", Linear(8, 2), 7, ElementType.None, default);
        }

        Assert.Equal(await Weight(a), await Weight(b));

        static async Task<float[]> Weight(HostedModule module)
        {
            using var value = (await module.GetParameterAsync("", "2.weight", default)).Value!;
            return value.Export(0).Values();
        }
    }

    private static void AssertSingle(HostedModule module, ulong generation)
    {
        Assert.Equal(generation, module.Summary.Generation);
        Assert.All(ModuleTree.NamedParameters(module.State.Tree.Root), p => Assert.Equal((ElementType.Float32, ElementType.Float32), (p.Parameter.dtype.ToElementType(), p.Parameter.grad!.dtype.ToElementType())));
        Assert.All(module.State.Optimizers.Find("").GetState().Tensors, entry => Assert.Equal(ElementType.Float32, entry.Value.dtype.ToElementType()));
    }

    private static Task<OptimizerDescription> Adam(HostedModule module) => module.CreateOptimizerAsync("", "Adam", NoArgs, [], null, default);

    private static async Task StepAsync(HostedModule module, int inputs = 4)
    {
        var call = new TrainStepCall { Inputs = new CallInputs([Filled(1, 1, inputs)]), Loss = new LossSpec("CrossEntropyLoss", NoArgs), Targets = [Classes()], ZeroGrad = true };
        (await module.TrainStepAsync(call, default)).Dispose();
    }

    private static TensorInput Classes() => TensorInput.Of(new TensorPayload(ElementType.Int64, [1], MemoryMarshal.AsBytes<long>([1]).ToArray()));
}
