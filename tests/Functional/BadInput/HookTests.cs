using Grpc.Core;
using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.V1;
using Hooks = Sconce.Client.Hooks;

namespace Sconce.Functional.BadInput;

/// <summary>Hooks that cannot be: the field is named, no hook is left behind, and the module works as before.</summary>
public sealed class HookTests(SharedServer server) : ServerTest(server)
{
    private static readonly TensorData Three = TensorData.Create([1f, 2, 3]);

    private static readonly Dictionary<string, (Hook Hook, string Field, string[] Words)> Bad = new()
    {
        ["no site"] = (new Hook { Actions = { new HookAction { Stop = new() } } }, "site", ["no site"]),
        ["unknown site"] = (new Hook { Site = (HookSite)99, Actions = { new HookAction { Stop = new() } } }, "site", ["99"]),
        ["no action"] = (Hooks.Forward(), "actions", ["1 to 64"]),
        ["empty action"] = (new Hook { Site = HookSite.Forward, Actions = { new HookAction() } }, "actions[0]", ["no action"]),
        ["bad id"] = (Hooks.Forward().Capture().Named("a b"), "id", ["a b"]),
        ["empty glob"] = (Hooks.Forward().OnGlob("").Capture(), "target", ["empty"]),
        ["names of a forward"] = (With(Hooks.Forward().Capture(), hook => hook.Names.Add("weight")), "names", ["tensor_index"]),
        ["tensor index of a parameter"] = (Hooks.ParamGrad().Tensor(1).Capture(), "tensor_index", ["names"]),
        ["select of a state dict"] = (Hooks.StateDict().Index(0, 0).Set(1), "select", ["whole entries"]),
        ["every 0"] = (With(Hooks.Forward().Capture(), hook => hook.When = new HookWhen { Every = 0 }), "when.every", ["0"]),
        ["end before the first"] = (Hooks.Forward().Capture().When(firstCall: 3, endCall: 3), "when.end_call", ["3"]),
        ["no fires"] = (Hooks.Forward().Capture().When(maxFires: 0), "when.max_fires", ["0"]),
        ["split into 0"] = (With(Hooks.Forward().Capture(), hook => hook.Select = new HookSelect { Split = new HookSplit() }), "select.split.parts", ["0"]),
        ["dim without select"] = (With(Hooks.Forward().Capture(), hook => hook.Select = new HookSelect { Dims = { new HookDim() } }), "select.dims[0]", ["index, slice"]),
        ["step 0"] = (Hooks.Forward().Slice(0, 0, 1, 0).Capture(), "select.dims[0].slice.step", ["0"]),
        ["no indexes"] = (Hooks.Forward().Indexes(0).Capture(), "select.dims[0].indexes", ["empty"]),
        ["a dim twice"] = (Hooks.Forward().Index(0, 0).Index(0, 1).Capture(), "select.dims[1].dim", ["once"]),
        ["skip after the module"] = (Hooks.Forward().Skip(), "actions[0].skip", ["ForwardPre"]),
        ["stop in backward"] = (Hooks.Backward().Stop(), "actions[0].stop", ["forward sites"]),
        ["rename in a forward"] = (Hooks.Forward().Rename("a", "b"), "actions[0].rename", ["state-dict sites"]),
        ["edit after a skip"] = (Hooks.ForwardPre().Skip().Add(1), "actions[1].add", ["skip or stop"]),
        ["skip of a part"] = (Hooks.ForwardPre().Index(0, 0).Skip(), "select", ["whole tensor"]),
        ["no operand"] = (With(Hooks.Forward(), hook => hook.Actions.Add(new HookAction { Set = new() })), "actions[0].set.value", ["scalar, a tensor, a slot"]),
        ["an empty tensor"] = (With(Hooks.Forward(), hook => hook.Actions.Add(new HookAction { Set = new() { Value = new() { Tensor = new() } } })), "actions[0].set.value.tensor", ["no tensor"]),
        ["short operand"] = (With(Hooks.Forward(), hook => hook.Actions.Add(new HookAction { Set = new() { Value = new() { Tensor = new() { Dtype = DataType.Float32, Shape = { 3 }, Data = Google.Protobuf.ByteString.Empty } } } })), "actions[0].set.value.tensor.data", ["12", "0"]),
        ["a number as direction"] = (Hooks.Forward().ProjectOut(1), "actions[0].project_out.direction", ["one dimension"]),
        ["bad slot"] = (Hooks.Forward().Set(HookValue.Slot("../x")), "actions[0].set.value.slot", ["../x"]),
        ["watch of a state dict in an answer"] = (Hooks.StateDict().Capture(HookTo.Response), "actions[0].capture.to.response", ["StateDict"]),
        ["slot of a state dict"] = (Hooks.StateDict().Capture(HookTo.Slot("s")), "actions[0].capture.to.slot", ["kept tensor"]),
        ["bad keep"] = (Hooks.Forward().Capture(HookTo.Keep("a/b")), "actions[0].capture.to.keep", ["a/b"]),
        ["no statistics"] = (Hooks.Forward().Reduce([]), "actions[0].reduce.statistics", ["at least one"]),
        ["a statistic twice"] = (Hooks.Forward().Reduce([Statistic.Mean, Statistic.Mean]), "actions[0].reduce.statistics[1]", ["Mean"]),
        ["unknown statistic"] = (Hooks.Forward().Reduce([(Statistic)77]), "actions[0].reduce.statistics[0]", ["77"]),
        ["histogram along a dim"] = (Hooks.Forward().Reduce([Statistic.Histogram], dims: [0]), "actions[0].reduce.dims", ["Histogram"]),
        ["too many bins"] = (Hooks.Forward().Histogram(1_000_000), "actions[0].reduce.bins", ["65536"]),
        ["inverted histogram"] = (Hooks.Forward().Histogram(10, 1, 0), "actions[0].reduce.histogram_min", ["1", "0"]),
        ["two statistics into one tensor"] = (Hooks.Forward().Reduce([Statistic.Mean, Statistic.Std], to: HookTo.Slot("s")), "actions[0].reduce.to", ["name one"]),
        ["clamp without limits"] = (Hooks.Forward().Clamp(), "actions[0].clamp", ["neither"]),
        ["clamp inverted"] = (Hooks.Forward().Clamp(1, 0), "actions[0].clamp.min", ["1", "0"]),
        ["clamp to NaN"] = (Hooks.Forward().Clamp(double.NaN), "actions[0].clamp.min", ["NaN"]),
        ["negative noise"] = (Hooks.Forward().AddNoise(-1), "actions[0].add_noise.std", ["-1"]),
        ["noise of no size"] = (With(Hooks.Forward(), hook => hook.Actions.Add(new HookAction { AddNoise = new() })), "actions[0].add_noise.std", ["not set"]),
        ["norm of 0"] = (Hooks.Forward().ClipNorm(0), "actions[0].clip_norm.max_norm", ["0"]),
        ["infinite blend"] = (Hooks.Forward().Lerp(1, double.PositiveInfinity), "actions[0].lerp.weight", ["finite"]),
        ["cast to nothing"] = (Hooks.StateDict().Cast(DataType.Unspecified), "actions[0].cast.dtype", ["no dtype"]),
        ["call of a bad name"] = (With(Hooks.Forward(), hook => hook.Actions.Add(new HookAction { CallModule = new() { Module = new() { Module = "a b" } } })), "actions[0].call_module.module.module", ["a b"]),
    };

    public static TheoryData<string> Cases => [.. Bad.Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Refused_with_its_field(string name)
    {
        var (hook, field, words) = Bad[name];
        var module = await CreateAsync(Specs.Mlp);
        (await Refusal.OfAsync(async () => await Stubs.Hooks.RegisterHookAsync(new() { Module = module, Hook = hook }), StatusCode.InvalidArgument, words)).At("hook." + field);
        Assert.Empty((await Stubs.Hooks.ListHooksAsync(new() { Module = module })).Hooks);
        if (hook.Site is HookSite.Forward or HookSite.ForwardPre)
        {
            (await Refusal.OfAsync(async () => await Stubs.Execution.ForwardAsync(new() { Module = module, Inputs = { Wire.Pattern(1, 4) }, Hooks = { hook } }), StatusCode.InvalidArgument, words)).At("hooks[0]." + field);
        }
    }

    [Fact]
    public async Task Targets_operands_and_sessions_that_are_not_there_are_NOT_FOUND()
    {
        var module = await CreateAsync(Specs.Mlp);
        (Hook Hook, string Word)[] missing =
        [
            (Hooks.Forward("7.x").Capture(), "7.x"),
            (Hooks.Forward().OnGlob("conv*").Capture(), "conv*"),
            (Hooks.Forward().OnType("Conv2d").Capture(), "Conv2d"),
            (Hooks.Forward().OnInstances("_ConvNd").Capture(), "_ConvNd"),
            (Hooks.ParamGrad("1").Capture(), "names"),
            (Hooks.ParamGrad("0", "gamma").Capture(), "gamma"),
            (Hooks.Forward().Set(TensorData.Kept("nowhere")), "nowhere"),
            (With(Hooks.Forward().Capture(), hook => hook.Session = "s-0"), "s-0"),
        ];
        foreach (var (hook, word) in missing)
        {
            await Refusal.OfAsync(async () => await Stubs.Hooks.RegisterHookAsync(new() { Module = module, Hook = hook }), StatusCode.NotFound, word);
        }

        await Refusal.OfAsync(async () => await Stubs.Hooks.RegisterHookAsync(new() { Module = "nobody", Hook = Hooks.Forward().Capture() }), StatusCode.NotFound, "nobody");
        await Refusal.OfAsync(async () => await Stubs.Hooks.ListHooksAsync(new() { Module = "nobody" }), StatusCode.NotFound, "nobody");
        await Refusal.OfAsync(async () => await Stubs.Hooks.ListHooksAsync(new() { Module = module, Path = "9" }), StatusCode.NotFound, "9");
        await Refusal.OfAsync(async () => await Stubs.Hooks.RemoveHookAsync(new() { Module = module, Hook = "h" }), StatusCode.NotFound, "\"h\"");
        (await Refusal.OfAsync(async () => await Stubs.Hooks.RemoveHookAsync(new() { Module = module, Hook = "a b" }), StatusCode.InvalidArgument, "a b")).At("hook");
        using var watch = Stubs.Hooks.WatchHook(new() { Module = module, Hook = "h" });
        await Refusal.OfAsync(async () => await watch.ResponseStream.MoveNext(CancellationToken.None), StatusCode.NotFound, "\"h\"");
        using var greedy = Stubs.Hooks.WatchHook(new() { Module = module, Buffer = 1_000_000 });
        (await Refusal.OfAsync(async () => await greedy.ResponseStream.MoveNext(CancellationToken.None), StatusCode.InvalidArgument, "4096")).At("buffer");
    }

    [Fact]
    public async Task An_id_is_taken_once_and_a_stale_caller_is_told()
    {
        var module = await CreateAsync(Specs.Mlp);
        var hook = Hooks.Forward().Capture().Named("h");
        await Stubs.Hooks.RegisterHookAsync(new() { Module = module, Hook = hook });
        (await Refusal.OfAsync(async () => await Stubs.Hooks.RegisterHookAsync(new() { Module = module, Hook = hook }), StatusCode.AlreadyExists, "\"h\"")).For("HOOK_EXISTS");
        await Refusal.OfAsync(async () => await Stubs.Hooks.RegisterHookAsync(new() { Module = module, Hook = hook, IfGeneration = 99 }), StatusCode.Aborted, "99");
        await Refusal.OfAsync(async () => await Stubs.Hooks.RemoveHookAsync(new() { Module = module, Hook = "h", IfGeneration = 99 }), StatusCode.Aborted, "99");
    }

    [Fact]
    public async Task A_repeat_of_a_registration_registers_once()
    {
        var module = await CreateAsync(Specs.Mlp);
        var request = new RegisterHookRequest { Module = module, Hook = Hooks.Forward().Capture(), RequestId = Guid.NewGuid().ToString("N") };
        var first = await Stubs.Hooks.RegisterHookAsync(request);
        Assert.Equal(first, await Stubs.Hooks.RegisterHookAsync(request));
        Assert.Single((await Stubs.Hooks.ListHooksAsync(new() { Module = module })).Hooks);
    }

    [Fact]
    public async Task Example_inputs_that_do_not_fit_are_named()
    {
        var module = await CreateAsync(Specs.Mlp);
        (await Refusal.OfAsync(
            async () => await Stubs.Hooks.RegisterHookAsync(new() { Module = module, Hook = Hooks.Forward("0").Add(Three), ExampleInputs = { Wire.Pattern(2, 4) } }),
            StatusCode.InvalidArgument, "float32 [3]", "float32 [2, 8]")).At("hook.actions[0].add");
        (await Refusal.OfAsync(
            async () => await Stubs.Hooks.RegisterHookAsync(new() { Module = module, Hook = Hooks.Forward("0").Capture(), ExampleInputs = { Wire.Pattern(2, 5) } }),
            StatusCode.InvalidArgument, "in_features")).At("example_inputs[0]");
        (await Refusal.OfAsync(
            async () => await Stubs.Hooks.RegisterHookAsync(new() { Module = module, Hook = Hooks.StateDict().Drop(), ExampleInputs = { Wire.Pattern(2, 4) } }),
            StatusCode.InvalidArgument, "StateDict")).At("example_inputs");
    }

    [Fact]
    public async Task Actions_that_fail_at_their_first_act_fail_their_call_and_nothing_else()
    {
        var module = await CreateAsync(Specs.Mlp);
        var before = (await Stubs.Execution.ForwardAsync(new() { Module = module, Inputs = { Wire.Pattern(1, 4) } })).Floats();
        (Hook Hook, StatusCode Code, string[] Words)[] failing =
        [
            (Hooks.Forward("0").Add(Three), StatusCode.InvalidArgument, ["hooks[0].actions[0].add", "broadcast"]),
            (Hooks.Forward("0").Tensor(5).Capture(), StatusCode.InvalidArgument, ["hooks[0].tensor_index", "5", "1 tensors"]),
            (Hooks.Forward("0").Index(4, 0).Set(0), StatusCode.InvalidArgument, ["hooks[0].select", "dimension 4"]),
            (Hooks.Forward("0").Index(1, 8).Set(0), StatusCode.InvalidArgument, ["hooks[0].select", "index 8"]),
            (Hooks.Forward("0").Split(1, 3).Set(0), StatusCode.InvalidArgument, ["hooks[0].select", "3 equal parts"]),
            (Hooks.Forward("0").Indexes(1, 0, -8).Set(0), StatusCode.InvalidArgument, ["hooks[0].select", "twice"]),
            (Hooks.Forward("0").Reduce([Statistic.Mean], dims: [3]), StatusCode.InvalidArgument, ["hooks[0].actions[0].reduce", "[3]"]),
            (Hooks.Forward("0").ProjectOut(Three), StatusCode.InvalidArgument, ["project_out", "[8]"]),
            (Hooks.Forward("0").ProjectOut(TensorData.Create(new float[8])), StatusCode.InvalidArgument, ["project_out", "not zero"]),
            (Hooks.Forward("0").Set(HookValue.Slot("empty")), StatusCode.FailedPrecondition, ["\"empty\""]),
            (Hooks.Forward("0").Set(HookValue.State("0.gamma")), StatusCode.NotFound, ["0.gamma"]),
            (Hooks.Forward("0").CallModule(new SconceClient("http://127.0.0.1:1").Module("nobody")), StatusCode.NotFound, ["nobody"]),
            (Hooks.Forward("0").CallModule(new SconceClient("http://127.0.0.1:1").Module(module).GetSubmodule("2")), StatusCode.InvalidArgument, ["same shape"]),
            (Hooks.ForwardPre("0").Skip(Three), StatusCode.InvalidArgument, ["Linear", "in_features"]),
        ];
        foreach (var (hook, code, words) in failing)
        {
            await Refusal.OfAsync(async () => await Stubs.Execution.ForwardAsync(new() { Module = module, Inputs = { Wire.Pattern(1, 4) }, Hooks = { hook } }), code, words);
        }

        Assert.Equal(before, (await Stubs.Execution.ForwardAsync(new() { Module = module, Inputs = { Wire.Pattern(1, 4) } })).Floats());
    }

    [Fact]
    public async Task Hooks_of_a_call_have_no_session_no_watchers_and_no_state_dict()
    {
        var module = await CreateAsync(Specs.Mlp);
        (Hook Hook, string Field)[] misplaced =
        [
            (With(Hooks.Forward().Capture(), hook => hook.Session = "s-0"), "hooks[0].session"),
            (Hooks.Forward().Capture(HookTo.Watch), "hooks[0].actions[0].capture.to.watch"),
            (Hooks.StateDict().Drop(), "hooks[0].site"),
            (Hooks.Backward().Mul(1), "hooks[0].site"),
            (Hooks.ParamGrad("0").Mul(1), "hooks[0].site"),
        ];
        foreach (var (hook, field) in misplaced)
        {
            (await Refusal.OfAsync(async () => await Stubs.Execution.ForwardAsync(new() { Module = module, Inputs = { Wire.Pattern(1, 4) }, Hooks = { hook } }), StatusCode.InvalidArgument)).At(field);
        }

        var many = new ForwardRequest { Module = module, Inputs = { Wire.Pattern(1, 4) } };
        many.Hooks.AddRange(Enumerable.Repeat(Hooks.Forward().Capture(), 257));
        (await Refusal.OfAsync(async () => await Stubs.Execution.ForwardAsync(many), StatusCode.InvalidArgument, "256")).At("hooks");
    }

    private static Hook With(Hook hook, Action<Hook> change)
    {
        change(hook);
        return hook;
    }
}
