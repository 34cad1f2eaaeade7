using System.Runtime.InteropServices;
using Sconce.Engine.Execution;
using Sconce.Engine.Hooks;
using Sconce.Engine.Modules;
using Sconce.Engine.Snapshots;
using Sconce.Engine.Tensors;
using Sconce.Engine.Tests.Execution;
using Sconce.Engine.Tests.Hooks;
using Sconce.Engine.Tests.Parity;
using static Sconce.Engine.Tests.Execution.Testing;

namespace Sconce.Engine.Tests.Snapshots;

/// <summary>What a snapshot holds of a module is all of it: a module made of one gives the same snapshot again.</summary>
public sealed class ImageTests
{
    public static TheoryData<string> Cases => [.. Fixtures.Cases.Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Every_module_type_comes_back_as_it_was(string name)
    {
        await using var host = Host();
        var module = await host.CreateModuleAsync("m", Fixtures.Cases[name].ModuleSpec, 3, ElementType.Float32, default);
        await ComesBack(host, module);
    }

    [Fact]
    public async Task What_was_registered_tied_and_converted_comes_back()
    {
        await using var host = Host();
        var module = await host.Create("m", Sequential(Linear(4, 4), Of("BatchNorm1d", ("num_features", 4.0)), Of("Conv2d", ("in_channels", 2.0), ("out_channels", 4.0), ("kernel_size", 3.0)), Linear(4, 4)));
        await module.RegisterParameterAsync(new ChangeTarget("0", null), "scale", Floats([2], 3, 4), true, default);
        await module.RegisterParameterAsync(new ChangeTarget("0", null), "nothing", TensorInput.None, true, default);
        await module.TieParameterAsync(new ChangeTarget("3", null), "weight", "0.weight", default);
        await module.RegisterBufferAsync(default, "kept", Floats([2], 1, 2), true, default);
        await module.RegisterBufferAsync(default, "fleeting", Floats([2], 5, float.NaN), false, default);
        await module.RegisterBufferAsync(default, "wave", TensorInput.Of(new TensorPayload(ElementType.Complex128, [1], MemoryMarshal.AsBytes<double>([1.5, -2.5]).ToArray())), false, default);
        await module.AddModuleAsync(default, "extra", Mlp(), 7, ElementType.Float64, default);
        await module.SetExtraStateAsync(new ChangeTarget("1", null), new byte[] { 1, 2, 3 }, default);
        await module.ConvertAsync(new ChangeTarget("2", null), new ConversionPlan(ConversionKind.To, Format: MemoryFormat.ChannelsLast), default);
        await module.ConvertAsync(new ChangeTarget("1", null), new ConversionPlan(ConversionKind.To, ElementType.BFloat16), default);
        await module.RequiresGradAsync(new ChangeTarget("3", null), false, ["bias"], default);
        await module.SetTrainPolicyAsync(new TrainPolicy(true, ["2"]) { Rules = [new TrainRule("ex*", false)] }, null, default);
        await module.TrainAsync(new ChangeTarget("0", null), false, default);
        var back = await ComesBack(host, module);
        Assert.Equal(module.Summary.Bytes, back.Summary.Bytes);

        // Tied still: one load under either name is seen under both.
        await back.Fill(host, "3.weight", [4, 4], [.. Enumerable.Repeat(9f, 16)]);
        Assert.All(await State(back, "0.weight"), value => Assert.Equal(9, value));

        // The policy goes on holding.
        await back.TrainAsync(default, true, default);
        var described = await back.DescribeAsync("", default);
        Assert.Equal([true, true, false, false, true, false], [described.Root.Training, .. described.Root.Children.Select(child => child.Training)]);
    }

    [Fact]
    public async Task Lazy_modules_come_back_with_and_without_their_shape()
    {
        await using var host = Host();

        // With a seed: others draw from the process's generator meanwhile.
        var module = await host.CreateModuleAsync("m", Sequential(Of("LazyLinear", ("out_features", 3.0)), Of("LazyBatchNorm1d")), 1, ElementType.Float32, default);
        var shapeless = await ComesBack(host, module);
        Assert.Equal(await module.Forward(Filled(1, 2, 5)), await shapeless.Forward(Filled(1, 2, 5)));
        var shaped = await ComesBack(host, shapeless);
        Assert.Equal(await shapeless.Forward(Filled(2, 2, 5)), await shaped.Forward(Filled(2, 2, 5)));
    }

    [Fact]
    public async Task Hooks_come_back_with_operands_counts_and_slots()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Mlp());
        await module.Register(HookTesting.On(HookSite.Forward, "0", new AddAction(HookTesting.Values([8], [.. Enumerable.Repeat(2f, 8)])), new AddNoiseAction(0.5, null)) with { Id = "shift", Priority = -1 });
        await module.Register(HookTesting.On(HookSite.Forward, "0", new CaptureAction(new HookDestination(Slot: "seen"))) with { Id = "fill", When = new HookWhen(MaxFires: 3) });
        await module.Register(HookTesting.On(HookSite.Forward, "2", new ClampAction(double.NegativeInfinity, 10)) with { Id = "clamp" });
        await module.Register(HookTesting.On(HookSite.Forward, "2", new AddAction(new HookOperand(Slot: "never.filled"))) with { Id = "fails" });
        await module.Register(HookTesting.At(HookSite.ParamGrad, HookTargetKind.Type, "Linear", new ClipNormAction(1)) with { Names = ["weight"] });
        var session = host.Sessions.Open("");
        await module.Register(HookTesting.On(HookSite.Forward, "1", new MulAction(HookTesting.Number(0))) with { Session = session.Id });
        session.Dispose();
        _ = await module.Forward(Filled(1, 1, 4));
        _ = await module.Forward(Filled(2, 1, 4));
        var before = await module.ListHooksAsync("", default);
        Assert.NotNull(before.Hooks.Single(hook => hook.Spec.Id == "fails").Detached);

        var back = await ComesBack(host, module);
        var after = await back.ListHooksAsync("", default);
        Assert.Equal(before.Hooks.Select(hook => (hook.Spec.Id, hook.Fires, hook.Detached, hook.Registered)), after.Hooks.Select(hook => (hook.Spec.Id, hook.Fires, hook.Detached, hook.Registered)));
        Assert.Equal("seen", Assert.Single(after.Slots).Name);

        // The third visit's noise, and the last fire.
        Assert.Equal(await module.Forward(Filled(3, 1, 4)), await back.Forward(Filled(3, 1, 4)));
        Assert.Equal(3UL, (await back.ListHooksAsync("", default)).Hooks.Single(hook => hook.Spec.Id == "fill").Fires);
    }

    [Fact]
    public async Task A_restored_module_has_a_generation_above_all_that_were()
    {
        await using var host = Host(time: new ManualTime());
        var module = await host.Create("m", Mlp());
        using var image = await module.Capture();
        var back = await host.Restore("copy", image);
        Assert.Equal(1UL, module.Summary.Generation);
        Assert.InRange(back.Summary.Generation, 1UL << 50, 1UL << 53);
        Assert.Equal(module.Summary.Created, back.Summary.Created);

        // At the same instant too, of the same snapshot, which knows nothing of what the one in its place has had since.
        await back.RegisterBufferAsync(default, "changed", Floats([1], 1), true, default);
        var changed = back.Summary.Generation;
        var again = await host.Restore("copy", image);
        Assert.True(again.Summary.Generation > changed, $"{again.Summary.Generation} after {changed}");
    }

    [Fact]
    public async Task Restoring_takes_the_place_of_what_is_there_and_frees_it()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Mlp());
        using var image = await module.Capture();
        var expected = await module.Forward(Filled(1, 1, 4));
        var used = host.Ledger.UsedBytes;
        await module.Fill(host, "0.weight", [8, 4], [.. Enumerable.Repeat(5f, 32)]);
        Assert.NotEqual(expected, await module.Forward(Filled(1, 1, 4)));

        await host.Restore("m", image);
        Assert.Equal(expected, await host.GetModule("m").Forward(Filled(1, 1, 4)));
        Assert.Equal(used, host.Ledger.UsedBytes);
        var error = await module.ForwardAsync(Call(Filled(1, 1, 4)), default).Fails(EngineError.Aborted, "was restored from a snapshot");
        Assert.Equal("MODULE_RESTORED", error.Reason);
        Assert.Same(host.GetModule("m"), Assert.Single(host.ListModules("")));
    }

    [Fact]
    public async Task What_does_not_fit_leaves_everything_as_it_was()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Mlp());
        using var image = await module.Capture();
        var used = host.Ledger.UsedBytes;
        var expected = await module.Forward(Filled(1, 1, 4));
        using var weights = new Images.CopiedFile(image.Weights);
        using var training = new Images.CopiedFile(image.Training);
        var wrong = new ImageReader(image.Facts with { Spec = Mlp(4, 9, 2) }, weights, training);
        await host.RestoreModuleAsync("m", wrong, null, default).Fails(EngineError.FailedPrecondition, "\"0.weight\" has shape [8, 4]", "[9, 4]");
        await host.RestoreModuleAsync("other", wrong, null, default).Fails(EngineError.FailedPrecondition);
        await host.RestoreModuleAsync("m", new ImageReader(image.Facts with { Spec = Linear(4, 4) }, weights, training), null, default).Fails(EngineError.FailedPrecondition, "lacks \"weight\"");
        await host.RestoreModuleAsync("m", new ImageReader(image.Facts, weights, training), 77, default).Fails(EngineError.Aborted, "if_generation is 77");
        Assert.Equal(used, host.Ledger.UsedBytes);
        Assert.Equal(expected, await module.Forward(Filled(1, 1, 4)));
        await host.Create("other", Mlp());
    }

    [Fact]
    public async Task What_fitted_before_fits_again_gradients_that_are_not_there_cost_nothing()
    {
        await using var host = Host();
        var module = await host.Create("m", Linear(400, 400));
        using var image = await module.Capture();
        await using var tight = Host(options => options.MemoryBudgetBytes = module.Summary.Bytes * 3 / 2);
        await tight.Restore("m", image);
        Assert.Equal(module.Summary.Bytes, tight.Ledger.UsedBytes);
    }

    [Fact]
    public void Facts_of_a_newer_format_and_text_that_is_none_are_told_apart()
    {
        Fails(() => FactsJson.Read(new MemoryStream("""{ "format": 2 }"""u8.ToArray())), EngineError.FailedPrecondition, "format 2", "newer server");
        Fails(() => FactsJson.Read(new MemoryStream("""{ "format": 1 }"""u8.ToArray())), EngineError.DataLoss, "generation");
        Fails(() => FactsJson.Read(new MemoryStream("nothing"u8.ToArray())), EngineError.DataLoss);
    }

    private static async Task<HostedModule> ComesBack(EngineHost host, HostedModule module)
    {
        using var before = await module.Capture();
        var back = await host.Restore(module.Name + "-back", before);
        using var after = await back.Capture();
        Images.Same(before, after);
        return back;
    }

    private static async Task<float[]> State(HostedModule module, string key)
    {
        using var state = await module.GetStateAsync("", [key], default);
        return MemoryMarshal.Cast<byte, float>(state.Export(0).Data.Span).ToArray();
    }
}
