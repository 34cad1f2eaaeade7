using Grpc.Core;
using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.PlugIns;

/// <summary>Plug-ins that break the rules, and plug-ins that throw: each is told to the caller by name, and none ends the server or leaves anything.</summary>
public sealed class BrokenTests(PlugInServer server) : IClassFixture<PlugInServer>, IAsyncLifetime
{
    private static int _names;
    private ulong _usedBefore;

    private static TensorData Row => TensorData.Create(new float[] { 1, 2 }, 1, 2);

    public async ValueTask InitializeAsync() => _usedBefore = await UsedAsync();

    public async ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        foreach (var module in (await server.Stubs.Modules.ListModulesAsync(new ListModulesRequest())).Modules)
        {
            await server.Stubs.Modules.DeleteModuleAsync(new DeleteModuleRequest { Module = module.Name });
        }

        Assert.Equal(_usedBefore, await UsedAsync());
        Assert.True(server.Process.IsRunning);
    }

    [Theory]
    [InlineData("NullName", "it gives nn.Module no name")]
    [InlineData("NullNameOfBase", "it gives nn.Module no name")]
    [InlineData("EmptyName", "was given no name")]
    [InlineData("NoBase", "the constructor of nn.Module was not run")]
    [InlineData("NameFromCaller", "its constructor's parameter label", "null there ends the process")]
    [InlineData("Unregistered", "the module in its field fc is not registered", "RegisterComponents()")]
    [InlineData("LateField", "the parameter in its field scale is not registered", "after the last field is set")]
    [InlineData("InList", "the module in its collection layers is not registered", "ModuleList")]
    [InlineData("SameNameTwice", "\"weight\" is the name of a buffer and of something else")]
    [InlineData("RegisteredTwice", "Parameter weight is already registered")]
    [InlineData("DottedName", "\"a.b\" is no name for a buffer")]
    [InlineData("Untyped", "without a typed forward", "nn.Module<Tensor, Tensor>")]
    [InlineData("OddForward", "its forward takes or returns Int32")]
    [InlineData("Abstract", "it is abstract")]
    [InlineData("Generic`1", "it is generic")]
    [InlineData("NeedsAModule", "its constructor's parameter inner", "numbers, bools, strings")]
    [InlineData("HoldsItself", "it keeps itself in its own field self")]
    [InlineData("RegistersItself", "of its submodule \"self\" (RegistersItself): it contains itself: it is the whole again")]
    [InlineData("CycleOfTwo", "of its submodule \"other.back\" (CycleOfTwo): it contains itself")]
    [InlineData("SharedParameter", "its parameter \"second\" is also \"first\"", "share the submodule")]
    [InlineData("OnMeta", "\"fc\" (Linear)", "is on meta", "this host owns cpu")]
    [InlineData("Disposed", "\"scale\" has been disposed")]
    public async Task A_class_that_breaks_a_rule_is_refused_with_the_reason(string type, params string[] words)
    {
        var refusal = await RefusedAsync(Nn.Module(type), StatusCode.FailedPrecondition, [type, .. words]);
        refusal.For("PLUG_IN_REFUSED");

        // Within a container just as well.
        _ = await RefusedAsync(Nn.Sequential(Nn.Linear(2, 2), Nn.Module(type)), StatusCode.FailedPrecondition, words);
    }

    [Fact]
    public async Task What_a_constructor_throws_is_told_or_kept_for_the_log()
    {
        var refusal = await RefusedAsync(Nn.Module("ThrowsInConstructor"), StatusCode.FailedPrecondition, "the constructor of the plug-in type ThrowsInConstructor", "NotSupportedException");
        refusal.For("PLUG_IN_FAILED");
        Assert.DoesNotContain("secret", refusal.Message, StringComparison.Ordinal);
        await LoggedAsync("the secret of the constructor");
        (await RefusedAsync(Nn.Module("ChecksItsArgument", ("width", -1)), StatusCode.InvalidArgument, "non-negative and non-zero")).At("spec.args.width").For("BAD_ARGUMENT");
    }

    [Theory]
    [InlineData("unexpected", "the secret of the forward", "module \"1\" (ThrowsInForward) failed")]
    [InlineData("part", "the secret of the part", "module \"1.part\" (Part) failed")]
    [InlineData("disposed", "has been disposed", "module \"1\" (ThrowsInForward) failed")]
    [InlineData("null", "forward returned null", "module \"1\" (ThrowsInForward) failed")]
    public async Task What_a_forward_throws_names_the_module_and_keeps_the_text_for_the_log(string how, string secret, string words)
    {
        var model = await NewAsync(Nn.Sequential(Nn.Module("Identity"), Nn.Module("ThrowsInForward", ("how", how))));
        var refusal = await ForwardRefusedAsync(model, Wire.Floats([1, 2], 1, 2), StatusCode.FailedPrecondition, words, "the server's log has the rest");
        refusal.For("PLUG_IN_FAILED");
        Assert.DoesNotContain(secret, refusal.Message, StringComparison.Ordinal);
        await LoggedAsync(secret);
    }

    [Fact]
    public async Task What_a_forward_says_of_its_inputs_is_told()
    {
        var model = await NewAsync(Nn.Sequential(Nn.Module("ThrowsInForward", ("how", "argument"))));
        (await ForwardRefusedAsync(model, Wire.Floats([1, 2], 1, 2), StatusCode.InvalidArgument, "takes nothing on Sundays")).At("inputs[0]");
        model = await NewAsync(Nn.Sequential(Nn.Module("ThrowsInForward", ("how", "libtorch"))));
        _ = await ForwardRefusedAsync(model, Wire.Floats([1, 3], 1, 2, 3), StatusCode.InvalidArgument, "module \"0.fc\" (Linear) cannot take float32 [1, 3]");
    }

    [Fact]
    public async Task A_plug_in_that_catches_its_parts_exception_goes_on()
    {
        var model = await NewAsync(Nn.Module("ThrowsInForward", ("how", "caught")));
        await using var graph = await model.ForwardWithGraphAsync(Row);
        Assert.Equal([1L, 2L], graph.Output.Tensor.Shape);

        // And where it then fails, the path is that of what failed.
        _ = await ForwardRefusedAsync(model, Wire.Floats([1, 3], 1, 2, 3), StatusCode.InvalidArgument, "module \"fc\" (Linear)");
    }

    [Fact]
    public async Task A_plug_in_that_leaves_grad_mode_and_scopes_changed_does_not_change_them_for_others()
    {
        var odd = await NewAsync(Nn.Module("ThrowsInForward", ("how", "thread state")));
        var linear = await NewAsync(Nn.Linear(2, 2));

        // More often than there are lanes; the output and its graph outlive the scopes.
        for (var i = 0; i < 16; i++)
        {
            await using var graph = await odd.ForwardWithGraphAsync(Row);
            await graph.BackwardAsync([Row]);
        }

        for (var i = 0; i < 16; i++)
        {
            await using var graph = await linear.ForwardWithGraphAsync(Row);
            await graph.BackwardAsync([Row]);
        }
    }

    [Fact]
    public async Task A_plug_in_that_returns_its_own_parameter_keeps_it()
    {
        // Sequential frees what its children make.
        var model = await NewAsync(Nn.Sequential(Nn.Module("ThrowsInForward", ("how", "own")), Nn.Module("Tanh")));
        for (var i = 0; i < 3; i++)
        {
            Assert.Equal([2L, 2L], (await model.ForwardAsync(Row)).Tensor.Shape);
        }
    }

    [Fact]
    public async Task Train_that_throws_is_told_and_Dispose_that_throws_is_logged()
    {
        var model = await NewAsync(Nn.Module("ThrowsInTrain"));
        _ = await Refusal.OfAsync(() => server.Stubs.Modules.TrainAsync(new TrainRequest { Module = model.Name }).ResponseAsync, StatusCode.FailedPrecondition, "train of the module (ThrowsInTrain)");
        await LoggedAsync("the secret of train");
        model = await NewAsync(Nn.Module("ThrowsInDispose"));
        await model.DeleteAsync();
        await LoggedAsync("the secret of Dispose");
        GC.Collect();
    }

    [Theory]
    [InlineData("throws", "Doubling", "the secret of the backward")]
    [InlineData("miscounts", "Doubling", "one gradient for each of the 2 inputs")]
    [InlineData("gives too much", "Doubling", "null for those that are no tensors")]
    [InlineData("null", "Doubling", "one gradient for each of the 2 inputs")]
    public async Task What_a_custom_backward_throws_does_not_end_the_process(string how, string function, string secret)
    {
        var model = await NewAsync(Nn.Module("OddBackward", ("how", how)));
        await model.CreateOptimizerAsync("SGD", [("lr", 0.1)]);
        var before = (await model.StateDictAsync())["fc.weight"].Bytes.ToArray();
        var thrown = await Assert.ThrowsAnyAsync<SconceException>(() => model.TrainStepAsync(Row, Row, Nn.MSELoss()));
        Assert.Equal("PLUG_IN_FAILED", thrown.Reason);
        Assert.Contains($"the backward of the plug-in's function {function} failed", thrown.Message, StringComparison.Ordinal);
        await LoggedAsync(secret);
        Assert.Equal(before, (await model.StateDictAsync())["fc.weight"].Bytes.ToArray());
        await using var graph = await model.ForwardWithGraphAsync(Row);
        Assert.Equal("PLUG_IN_FAILED", (await Assert.ThrowsAnyAsync<SconceException>(() => graph.BackwardAsync([Row]))).Reason);
    }

    [Fact]
    public async Task A_gradient_of_the_wrong_shape_is_libtorchs_to_refuse()
    {
        var model = await NewAsync(Nn.Module("OddBackward", ("how", "wrong shape")));
        _ = await Assert.ThrowsAnyAsync<SconceException>(() => model.ForwardBackwardAsync(Row, Row, Nn.MSELoss()));
    }

    [Theory]
    [InlineData("right")]
    public async Task A_custom_backward_that_is_right_gives_its_gradients(string how)
    {
        var model = await NewAsync(Nn.Module("OddBackward", ("how", how)));
        await using var graph = await model.ForwardWithGraphAsync(Row);
        await graph.BackwardAsync([Row]);
        var gradients = await model.GradientsAsync();
        var factor = how == "right" ? 2 : 4;
        Assert.Equal([factor, 2 * factor, 2 * factor, 4 * factor], gradients["fc.weight"].As<float>().ToArray());
    }

    [Fact]
    public async Task Tuples_optional_inputs_lists_and_buffers_that_are_not_saved()
    {
        var type = Assert.Single(await server.Client.ListModuleTypesAsync(TypeKind.Module, "Pair"), type => type.Name == "Pair");
        Assert.Equal(["first", "second?"], type.Inputs);
        Assert.Equal(["sizes", "scale", "times", "label", "dtype"], type.Arguments.Select(argument => argument.Name));
        Assert.Equal([true, false, false, false, false], type.Arguments.Select(argument => argument.Required));
        Assert.Equal(0.5, type.Arguments[1].DefaultValue.NumberValue);
        var model = await NewAsync(Nn.Module("Pair", ("sizes", new[] { 3, 4 }), ("scale", 0.1), ("dtype", "float64")));
        Assert.Equal(["sizes"], (await model.StateDictAsync()).Keys);
        var buffers = (await model.DescribeAsync()).Root.Buffers;
        Assert.Equal([true, false], buffers.Select(buffer => buffer.Persistent));
        Assert.Equal(DataType.Float64, buffers[1].Dtype);
        await model.HalfAsync();
        Assert.Equal(DataType.Float16, (await model.DescribeAsync()).Root.Buffers[1].Dtype);

        var x = TensorData.Create(new float[] { 1 }, 1);
        var output = await model.ForwardAsync(x);
        Assert.Equal([2], output[0].Tensor.As<float>().ToArray());
        Assert.Equal([2], output[1][0].Tensor.As<float>().ToArray());
        output = await model.ForwardAsync([x, x]);
        Assert.Equal([3], output[1][1].Tensor.As<float>().ToArray());
    }

    [Fact]
    public async Task A_class_of_a_PyTorch_types_name_is_reached_by_its_full_name()
    {
        var full = Assert.Single(await server.Client.ListModuleTypesAsync(TypeKind.Module, "Other+Conv2d"));
        var model = await NewAsync(Nn.Sequential(Nn.Module(full.Name), Nn.Module("Identity")));
        var output = await model.ForwardAsync(Row);
        Assert.Equal([7, 14], output.Tensor.As<float>().ToArray());
        _ = await RefusedAsync(Nn.Module("Conv2d"), StatusCode.InvalidArgument, "kernel_size");
        _ = await NewAsync(Nn.Sequential(Nn.Module("Conv1d", ("in_channels", 1), ("out_channels", 1), ("kernel_size", 1))));
        var softmin = await (await NewAsync(Nn.Module("Softmin", ("dim", -1)))).ForwardAsync(Row);
        Assert.Equal(1, softmin.Tensor.As<float>().ToArray().Sum(), 5);
    }

    [Fact]
    public async Task A_hundred_refusals_leave_the_memory_flat()
    {
        await RefuseAsync(50);
        var resident = (await server.Client.GetHostAsync()).Memory.ResidentBytes;
        var grown = long.MaxValue;

        // A leak of each megabyte only grows; what the collector has not come by yet goes.
        for (var i = 0; i < 10 && grown >= 64 << 20; i++)
        {
            await RefuseAsync(100);
            grown = (long)((await server.Client.GetHostAsync()).Memory.ResidentBytes - resident);
        }

        Assert.True(grown < 64 << 20, $"grew by {grown >> 20} MiB");

        async Task RefuseAsync(int rounds)
        {
            for (var round = 0; round < rounds; round++)
            {
                _ = await RefusedAsync(Nn.Sequential(Nn.Linear(512, 512), Nn.Module("ThrowsInConstructor")), StatusCode.FailedPrecondition);
                _ = await RefusedAsync(Nn.Sequential(Nn.Linear(512, 512), Nn.Module("Unregistered")), StatusCode.FailedPrecondition);
            }
        }
    }

    private async Task<ulong> UsedAsync() => (await server.Client.GetHostAsync()).Memory.UsedBytes;

    // The log comes through a pipe of its own.
    private Task LoggedAsync(string text) =>
        Eventually.TrueAsync(() => server.Process.Log.Any(line => line.Contains(text, StringComparison.Ordinal)), () => $"\"{text}\" is not in the log");

    private Task<Refusal> RefusedAsync(ModuleSpec spec, StatusCode code, params string[] words) =>
        Refusal.OfAsync(() => server.Stubs.Modules.CreateModuleAsync(new CreateModuleRequest { Module = NewName(), Spec = spec }).ResponseAsync, code, words);

    private Task<Refusal> ForwardRefusedAsync(RemoteModule model, Tensor input, StatusCode code, params string[] words) =>
        Refusal.OfAsync(() => server.Stubs.Execution.ForwardAsync(new ForwardRequest { Module = model.Name, Inputs = { input } }).ResponseAsync, code, words);

    private Task<RemoteModule> NewAsync(ModuleSpec spec) => server.Client.CreateModuleAsync(NewName(), spec, seed: 1);

    private static string NewName() => $"b{Interlocked.Increment(ref _names)}";
}
