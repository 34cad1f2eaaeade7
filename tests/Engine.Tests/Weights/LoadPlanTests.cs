using Sconce.Engine.Execution;
using Sconce.Engine.Hooks;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using Sconce.Engine.Weights;
using static Sconce.Engine.Tests.Execution.Testing;

namespace Sconce.Engine.Tests.Weights;

/// <summary>Loads under other keys, in part, and by assigning; reads in part and cast.</summary>
public sealed class LoadPlanTests
{
    [Fact]
    public async Task Prefixes_map_the_keys_and_keys_select_after_that()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Mlp(2, 2, 1));
        using var upload = Upload(host, ("module.0.bias", [2], [5, 6]), ("0.weight", [2, 2], [1, 2, 3, 4]), ("module.head.weight", [1], [9]));

        var outcome = await module.LoadStateAsync(default, upload, new LoadPlan { StripPrefix = "module.", Keys = ["0.*"] }, default);

        Assert.Equal((2, 0, 0), (outcome.LoadedTensors, outcome.MissingKeys.Count, outcome.UnexpectedKeys.Count));
        Assert.Equal<float[]>([1f, 2, 3, 4, 5, 6], await Values(module, "0.*"));

        using var part = Upload(host, ("bias", [1], [7]));
        await module.LoadStateAsync(default, part, new LoadPlan { AddPrefix = "2.", Keys = ["*.bias"], Strict = false }, default);
        Assert.Equal<float[]>([7f], await Values(module, "2.bias"));
    }

    [Fact]
    public async Task All_that_is_wrong_is_told_under_the_modules_key_and_the_callers()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Mlp(2, 2, 1));
        using var upload = Upload(host, ("module.0.weight", [1], [1]), ("module.0.bias", [2], [1, 2]), ("0.bias", [2], [3, 4]), ("module.none", [1], [1]), ("left.out", [1], [1]));

        foreach (var check in new[]
        {
            module.CheckStateAsync(default, upload, new LoadPlan { StripPrefix = "module.", Keys = ["0.*", "2.*", "none"] }, default),
            module.LoadStateAsync(default, upload, new LoadPlan { StripPrefix = "module.", Keys = ["0.*", "2.*", "none"] }, default),
        })
        {
            var error = await check.Fails(
                EngineError.InvalidArgument, "\"0.weight\" (given as \"module.0.weight\") has shape [1]", "\"0.bias\" is given twice", "\"none\" (given as \"module.none\") is unexpected", "\"2.weight\" is missing");
            Assert.Equal(["e[0]", "e[2]", "e[3]", "e", "e"], error.Fields.Select(field => field.Field));
            Assert.DoesNotContain("left.out", error.Message, StringComparison.Ordinal);
        }

        Assert.Equal(1UL, module.Summary.Generation);
    }

    [Fact]
    public void A_plan_that_fits_no_module_is_refused()
    {
        Assert.Equal("header.strip_prefix", Fails(() => new LoadPlan { Field = "header.", StripPrefix = new string('a', 1025) }.Check(), EngineError.InvalidArgument, "1025").Fields[0].Field);
        Assert.Equal("add_prefix", Fails(() => new LoadPlan { AddPrefix = "a\n" }.Check(), EngineError.InvalidArgument, "control").Fields[0].Field);
        Assert.Equal("keys", Fails(() => new LoadPlan { Keys = [.. Enumerable.Repeat("*", 10_001)] }.Check(), EngineError.InvalidArgument, "10001").Fields[0].Field);
        StateEntryInfo[] many = [.. Enumerable.Range(0, 3000).Select(i => new StateEntryInfo($"k{i}", ElementType.Float32, [1]))];
        Assert.Equal("keys", Fails(() => new LoadPlan { Keys = [.. Enumerable.Repeat("x", 10_000)] }.Map(many), EngineError.InvalidArgument, "comparisons").Fields[0].Field);
    }

    [Fact]
    public async Task Assign_takes_the_dtype_and_optimizers_go_on_with_the_same_parameters()
    {
        await using var host = Host();
        var module = await host.Create("m", Linear(2, 1));
        await module.CreateOptimizerAsync("", "SGD", new Dictionary<string, object?> { ["lr"] = 1.0, ["momentum"] = 0.5 }, [], null, default);
        await Step(module);
        await Step(module, zero: false);
        var parameter = module.State.Tree.Root.Parameters[0].Parameter;
        using var upload = host.ReserveState([new("weight", ElementType.Float64, [1, 2]), new("bias", ElementType.Float64, [1])], "e");
        upload.Write(0, 0, Bytes(0.1, 0.2));
        upload.Write(1, 0, Bytes(0.3));

        var outcome = await module.LoadStateAsync(default, upload, new LoadPlan { Assign = true }, default);
        upload.Dispose();

        Assert.Same(parameter, module.State.Tree.Root.Parameters[0].Parameter);
        Assert.Equal((TorchSharp.torch.ScalarType.Float64, true), (parameter.dtype, parameter.requires_grad));
        Assert.Equal(module.Summary.Generation, outcome.Generation);
        Assert.Equal(24, module.Summary.Bytes);
        Assert.Equal(0, host.Ledger.Used(MemoryUse.Gradients));
        Assert.Equal(0, host.Ledger.Used(MemoryUse.State));
        Assert.Equal(24, host.Ledger.Used(MemoryUse.Optimizers));
        Assert.DoesNotContain((await module.DescribeAsync("", default)).Root.Parameters, p => p.HasGrad);
        using (var state = await module.GetStateAsync("", ["weight"], default))
        {
            Assert.Equal(Bytes(0.1, 0.2), state.Read(0, 0, 16).ToArray());
        }

        // Its momentum came along: the step is in float64 from 0.1, with half of the two steps before.
        await Step(module, type: ElementType.Float64);
        using (var state = await module.GetStateAsync("", ["weight"], default))
        {
            Assert.NotEqual(Bytes(0.1, 0.2), state.Read(0, 0, 16).ToArray());
        }
    }

    [Fact]
    public async Task Assign_refuses_what_a_parameter_cannot_be_and_changes_nothing()
    {
        await using var host = Host();
        var module = await host.Create("m", Linear(2, 1));
        using var upload = host.ReserveState([new("weight", ElementType.Int64, [1, 2]), new("bias", ElementType.Float64, [1])], "e");
        upload.Write(0, 0, new byte[16]);
        upload.Write(1, 0, new byte[8]);

        var error = await module.LoadStateAsync(default, upload, new LoadPlan { Assign = true }, default).Fails(EngineError.InvalidArgument, "\"weight\" is int64", "RequiresGrad(false)");

        Assert.Equal("e[0]", Assert.Single(error.Fields).Field);
        Assert.Equal((1UL, 12L), (module.Summary.Generation, module.Summary.Bytes));
        await module.RequiresGradAsync(default, false, [], default);
        await module.LoadStateAsync(default, upload, new LoadPlan { Assign = true }, default);
        Assert.Equal(24, module.Summary.Bytes);
    }

    [Fact]
    public async Task Assigned_tensors_are_the_modules_alone_though_a_hook_gave_them()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Linear(2, 1));
        await module.RegisterHookAsync(new HookSpec { Site = HookSite.LoadStateDictPre, Names = ["weight"], Actions = [new SetAction(new HookOperand(Tensor: Floats([1, 2], 1, 1)))] }, null, null, default);
        for (var i = 0; i < 2; i++)
        {
            using var upload = Upload(host, ("weight", [1, 2], [5, 5]), ("bias", [1], [0]));
            await module.LoadStateAsync(default, upload, new LoadPlan { Assign = true }, default);
            Assert.Equal<float[]>([1f, 1f], await Values(module, "weight"));

            // Were it the hook's own tensor, the next load would bring zeros.
            await module.ApplyAsync(default, new ApplyPlan("zeros_"), null, default);
        }
    }

    [Fact]
    public async Task A_selection_is_cast_and_charged_as_what_it_becomes()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Sequential(Linear(2, 2), Of("BatchNorm1d", ("num_features", 2.0))));
        using (var state = await module.GetStateAsync(new StateSelection { Prefix = "1.", Type = ElementType.Float16 }, default))
        {
            Assert.Equal(["1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"], state.Entries.Select(entry => entry.Key));
            Assert.Equal([ElementType.Float16, ElementType.Float16, ElementType.Float16, ElementType.Float16, ElementType.Int64], state.Entries.Select(entry => entry.Type));
            Assert.Equal((24L, 24L), (state.TotalBytes, host.Ledger.Used(MemoryUse.State)));
            Assert.Equal(BitConverter.GetBytes((Half)1f), state.Read(0, 0, 2).ToArray());
        }

        await module.GetStateAsync(new StateSelection { Type = ElementType.Int32 }, default).Fails(EngineError.InvalidArgument, "dtype", "int32");
    }

    private static async Task Step(HostedModule module, bool zero = true, ElementType type = ElementType.Float32)
    {
        var one = TensorInput.Of(new TensorPayload(type, [1, 1], type == ElementType.Float32 ? Bytes(1f) : Bytes(1.0)));
        var two = TensorInput.Of(new TensorPayload(type, [1, 2], type == ElementType.Float32 ? Bytes(1f, 1f) : Bytes(1.0, 1.0)));
        (await module.TrainStepAsync(new TrainStepCall { Inputs = new CallInputs([two]), Targets = [one], Loss = new LossSpec("MSELoss", new Dictionary<string, object?>()), ZeroGrad = zero }, default)).Dispose();
    }

    private static byte[] Bytes<T>(params T[] values)
        where T : unmanaged => System.Runtime.InteropServices.MemoryMarshal.AsBytes<T>(values).ToArray();

    private static async Task<float[]> Values(HostedModule module, string keys)
    {
        using var state = await module.GetStateAsync("", [keys], default);
        return [.. Enumerable.Range(0, state.Entries.Count).SelectMany(i => state.Export(i).Values())];
    }

    private static StateUpload Upload(EngineHost host, params (string Key, long[] Shape, float[] Values)[] tensors)
    {
        var upload = host.ReserveState([.. tensors.Select(tensor => new StateEntryInfo(tensor.Key, ElementType.Float32, tensor.Shape))], "e");
        for (var i = 0; i < tensors.Length; i++)
        {
            upload.Write(i, 0, Bytes(tensors[i].Values));
        }

        return upload;
    }
}
