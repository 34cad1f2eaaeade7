using Grpc.Core;

namespace Sconce.Server.Tests.Wire;

/// <summary>Requests that are refused, one a line: the call, the code, and the field that is to blame or what the error is about.</summary>
public sealed class RefusalTests : IAsyncLifetime
{
    private const StatusCode Bad = StatusCode.InvalidArgument;
    private const StatusCode Unmet = StatusCode.FailedPrecondition;
    private const StatusCode Absent = StatusCode.NotFound;

    private static readonly string[] BadNames = ["../etc/passwd", "-a", "a b", "a\n[ERR] forged", new('x', 129), "é"];

    private static readonly V1.Loss Mse = new() { Type = "MSELoss" };

    /// <summary>Requests about the modules "m" (Linear(2, 1) with an SGD named "default"), "list" (a ModuleList) and "quasi" (Linear with LBFGS and no scheduler).</summary>
    private static readonly Dictionary<string, (StatusCode Code, string? FieldOrResource, Func<RunningServer, Task> Call)> Cases = new()
    {
        ["dtype beyond the enum: 99"] = (Bad, "dtype", s => CreateAsync(s, Make.Linear(1, 1), 99)),
        ["dtype beyond the enum: 13"] = (Bad, "dtype", s => CreateAsync(s, Make.Linear(1, 1), 13)),
        ["dtype beyond the enum: -1"] = (Bad, "dtype", s => CreateAsync(s, Make.Linear(1, 1), -1)),
        ["dtype that is not floating"] = (Bad, null, s => CreateAsync(s, Make.Linear(1, 1), (int)V1.DataType.Int64)),
        ["control characters in the name of an argument"] = (Bad, "spec.args.a\\u000a[ERR] forged", s => CreateAsync(s, new V1.ModuleSpec { Type = "Linear", Args = Make.Args(("a\n[ERR] forged", 1), ("in_features", 1), ("out_features", 1)) })),
        ["control characters in the name of an option"] = (Bad, "args.a\\u001b[31m", s => OptimizerAsync(s, "SGD", ("a\u001b[31m", 1))),
        ["control characters in the name of an input"] = (Bad, "inputs[\"a\\u000aforged\"]", s => s.Execution.ForwardAsync(new() { Module = "m", NamedInputs = { ["a\nforged"] = One } }).ResponseAsync),
        ["Embedding whose sparse gradients are to be scaled"] = (Bad, "spec.args.scale_grad_by_freq", s => CreateAsync(s, Make.Spec("""{ "type": "Embedding", "args": { "num_embeddings": 2, "embedding_dim": 2, "sparse": true, "scale_grad_by_freq": true } }"""))),
        ["wiring without inputs"] = (Bad, "spec.wiring.inputs", s => GraphAsync(s, """{ "outputs": ["x"] }""")),
        ["wiring without outputs"] = (Bad, "spec.wiring.outputs", s => GraphAsync(s, """{ "inputs": ["x"] }""")),
        ["wiring with an input twice"] = (Bad, "spec.wiring.inputs[1]", s => GraphAsync(s, """{ "inputs": ["x", "x"], "outputs": ["x"] }""")),
        ["wiring with a step that calls nothing"] = (Bad, "spec.wiring.steps[0]", s => GraphAsync(s, """{ "inputs": ["x"], "steps": [{ "name": "y", "inputs": ["x"] }], "outputs": ["y"] }""")),
        ["wiring with arguments for a module"] = (Bad, "spec.wiring.steps[0].args", s => GraphAsync(s, """{ "inputs": ["x"], "steps": [{ "name": "y", "module": "f", "inputs": ["x"], "args": { "a": 1 } }], "outputs": ["y"] }""", child: true)),
        ["wiring that unpacks too little"] = (Bad, "inputs[0]", s => RunGraphAsync(s, """{ "inputs": ["x"], "steps": [{ "function": "chunk", "inputs": ["x"], "args": { "chunks": 2 }, "unpack": ["a"] }], "outputs": ["a"] }""")),
        ["wiring that gives a tuple to a function"] = (Bad, "inputs[0]", s => RunGraphAsync(s, """{ "inputs": ["x"], "steps": [{ "name": "t", "function": "chunk", "inputs": ["x"], "args": { "chunks": 2 } }, { "name": "y", "function": "exp", "inputs": ["t"] }], "outputs": ["y"] }""")),
        ["Forward on a ModuleList"] = (Bad, "module", s => s.Execution.ForwardAsync(Make.Forward("list", One)).ResponseAsync),
        ["Forward on a ModuleList below"] = (Bad, "path", s => s.Execution.ForwardAsync(new() { Module = "list", Path = "0", Inputs = { One } }).ResponseAsync),
        ["Call on a ModuleDict"] = (Bad, "forward.path", s => s.Execution.CallAsync(new() { Forward = new() { Module = "list", Path = "1", Inputs = { One } } }).ResponseAsync),
        ["initialiser beyond the dtype"] = (Bad, "args", s => s.Modules.ApplyAsync(new() { Module = "m", Function = "constant_", Args = Make.Args(("val", 1e308)) }).ResponseAsync),
        ["frozen path that is not there"] = (Absent, "submodule", s => s.Modules.SetTrainPolicyAsync(new() { Module = "m", Policy = new() { Frozen = { "nope" } } }).ResponseAsync),
        ["RequiresGrad of parameters that are not there"] = (Absent, "parameter", s => s.Modules.RequiresGradAsync(new() { Module = "m", Parameters = { "nope" } }).ResponseAsync),
        ["unknown kind of types"] = (Bad, "kind", s => s.Host.ListModuleTypesAsync(new() { Kind = (V1.TypeKind)99 }).ResponseAsync),

        ["path in Call"] = (Absent, "submodule", s => s.Execution.CallAsync(new() { Forward = new() { Module = "m", Path = "nope", Inputs = { One } } }).ResponseAsync),
        ["path in ForwardBackward"] = (Absent, "submodule", s => s.Training.ForwardBackwardAsync(new() { Module = "m", Path = "nope", Inputs = { One }, Targets = { One }, Loss = Mse }).ResponseAsync),
        ["path in TrainStep"] = (Absent, "submodule", s => s.Training.TrainStepAsync(new() { Module = "m", Path = "nope", Inputs = { One }, Targets = { One }, Loss = Mse }).ResponseAsync),
        ["path in GetGradients"] = (Absent, "submodule", s => s.Training.GetGradients(new() { Module = "m", Path = "nope" }).ResponseStream.MoveNext(default)),

        ["session in ListTensors"] = (Absent, "session", s => s.Tensors.ListTensorsAsync(new() { Session = "gone" }).ResponseAsync),
        ["kept tensor among gradients"] = (Absent, "tensor", BackwardOfKeptAsync),
        ["kept tensor among targets"] = (Absent, "tensor", s => s.Training.TrainStepAsync(new() { Module = "m", Inputs = { One }, Targets = { new V1.Tensor { KeptId = "gone" } }, Loss = Mse }).ResponseAsync),

        ["short input by name in Call"] = (Bad, "forward.inputs[\"input\"].data", s => s.Execution.CallAsync(new() { Forward = Named(Short) }).ResponseAsync),
        ["short input by name in ForwardBackward"] = (Bad, "inputs[\"input\"].data", s => s.Training.ForwardBackwardAsync(new() { Module = "m", NamedInputs = { ["input"] = Short }, Targets = { One }, Loss = Mse }).ResponseAsync),
        ["short input by name in TrainStep"] = (Bad, "inputs[\"input\"].data", s => s.Training.TrainStepAsync(new() { Module = "m", NamedInputs = { ["input"] = Short }, Targets = { One }, Loss = Mse }).ResponseAsync),
        ["NaN in Call"] = (Bad, "forward.inputs[0]", s => s.Execution.CallAsync(new() { Forward = new() { Module = "m", Inputs = { NaN }, RejectNonfinite = true } }).ResponseAsync),
        ["NaN by name"] = (Bad, "inputs[\"input\"]", s => s.Execution.ForwardAsync(new(Named(NaN)) { RejectNonfinite = true }).ResponseAsync),

        ["SchedulerStep without a scheduler"] = (Unmet, "optimizer", s => s.Training.SchedulerStepAsync(new() { Module = "m" }).ResponseAsync),
        ["TrainStep.scheduler_step without a scheduler"] = (Unmet, "optimizer", s => s.Training.TrainStepAsync(new() { Module = "m", Inputs = { One }, Targets = { One }, Loss = Mse, SchedulerStep = true }).ResponseAsync),
        ["SchedulerStep of a plateau without a metric"] = (Unmet, null, PlateauAsync),
        ["OptimizerStep of LBFGS"] = (Unmet, "optimizer", s => s.Training.OptimizerStepAsync(new() { Module = "quasi" }).ResponseAsync),
        ["GetOptimizerState of LBFGS"] = (Unmet, "optimizer", s => s.Training.GetOptimizerState(new() { Module = "quasi" }).ResponseStream.MoveNext(default)),
        ["SetLearningRate of a group that is not there"] = (Absent, "group", s => s.Training.SetLearningRateAsync(new() { Module = "m", Lr = 1, Group = 7 }).ResponseAsync),

        ["clip of nothing in OptimizerStep"] = (Bad, "clip", s => s.Training.OptimizerStepAsync(new() { Module = "m", Clip = new() }).ResponseAsync),
        ["clip to a negative norm in OptimizerStep"] = (Bad, "clip.max_norm", s => s.Training.OptimizerStepAsync(new() { Module = "m", Clip = new() { MaxNorm = -1 } }).ResponseAsync),
        ["clip by a norm of NaN in OptimizerStep"] = (Bad, "clip.norm_type", s => s.Training.OptimizerStepAsync(new() { Module = "m", Clip = new() { MaxNorm = 1, NormType = double.NaN } }).ResponseAsync),
        ["clip by a negative norm in TrainStep"] = (Bad, "clip.norm_type", s => s.Training.TrainStepAsync(new() { Module = "m", Inputs = { One }, Targets = { One }, Loss = Mse, Clip = new() { MaxNorm = 1, NormType = -2 } }).ResponseAsync),
        ["clip to a value of NaN in TrainStep"] = (Bad, "clip.clip_value", s => s.Training.TrainStepAsync(new() { Module = "m", Inputs = { One }, Targets = { One }, Loss = Mse, Clip = new() { ClipValue = double.NaN } }).ResponseAsync),
        ["chunk_bytes of GetGradients"] = (Bad, "chunk_bytes", s => s.Training.GetGradients(new() { Module = "m", ChunkBytes = 1 << 30 }).ResponseStream.MoveNext(default)),
        ["chunk_bytes of GetOptimizerState"] = (Bad, "chunk_bytes", s => s.Training.GetOptimizerState(new() { Module = "m", ChunkBytes = 1 << 30 }).ResponseStream.MoveNext(default)),

        ["infinite lr"] = (Bad, "args.lr", s => OptimizerAsync(s, "SGD", ("lr", "inf"))),
        ["infinite eps"] = (Bad, "args.eps", s => OptimizerAsync(s, "Adam", ("eps", "Infinity"))),
        ["infinite weight_decay of a group"] = (Bad, "group.args.weight_decay", s => s.Training.AddParamGroupAsync(new() { Module = "m", Group = new() { Parameters = { "bias" }, Args = Make.Args(("weight_decay", "inf")) } }).ResponseAsync),
        ["infinite gamma"] = (Bad, "args.gamma", s => SchedulerAsync(s, "ExponentialLR", ("gamma", "inf"))),
        ["infinite eta_min"] = (Bad, "args.eta_min", s => SchedulerAsync(s, "CosineAnnealingLR", ("T_max", 5), ("eta_min", "-inf"))),
        ["infinite max_lr"] = (Bad, "args.max_lr", s => SchedulerAsync(s, "OneCycleLR", ("max_lr", "inf"), ("total_steps", 10))),
        ["too many schedulers in one"] = (Bad, "args.schedulers", s => s.Training.CreateSchedulerAsync(new() { Module = "m", Type = "ChainedScheduler", Args = ManySchedulers }).ResponseAsync),
    };

    /// <summary>Calls that take the id or name of something, and the field it stands in.</summary>
    private static readonly Dictionary<string, (string Field, Func<RunningServer, string, Task> Call)> Optional = new()
    {
        ["ListModules"] = ("prefix", (s, id) => s.Modules.ListModulesAsync(new() { Prefix = id }).ResponseAsync),
        ["PutTensor.id"] = ("id", (s, id) => s.Tensors.PutTensorAsync(new() { Id = id, Tensor = One }).ResponseAsync),
        ["PutTensor.session"] = ("session", (s, id) => s.Tensors.PutTensorAsync(new() { Session = id, Tensor = One }).ResponseAsync),
        ["ListTensors"] = ("session", (s, id) => s.Tensors.ListTensorsAsync(new() { Session = id }).ResponseAsync),
        ["Forward.session"] = ("session", (s, id) => s.Execution.ForwardAsync(new() { Module = "m", Inputs = { One }, RecordGraph = true, Session = id }).ResponseAsync),
        ["Call.session"] = ("forward.session", (s, id) => s.Execution.CallAsync(new() { Forward = new() { Module = "m", Inputs = { One }, RecordGraph = true, Session = id } }).ResponseAsync),
        ["CreateOptimizer"] = ("optimizer", (s, id) => s.Training.CreateOptimizerAsync(new() { Module = "m", Optimizer = id, Type = "SGD" }).ResponseAsync),
        ["GetOptimizer"] = ("optimizer", (s, id) => s.Training.GetOptimizerAsync(new() { Module = "m", Optimizer = id }).ResponseAsync),
    };

    /// <summary>The same for which an empty one is wrong too.</summary>
    private static readonly Dictionary<string, (string Field, Func<RunningServer, string, Task> Call)> Required = new()
    {
        ["GetTensor"] = ("id", (s, id) => s.Tensors.GetTensorAsync(new() { Id = id }).ResponseAsync),
        ["DropTensor"] = ("id", (s, id) => s.Tensors.DropTensorAsync(new() { Id = id }).ResponseAsync),
        ["Backward"] = ("graph", (s, id) => s.Execution.BackwardAsync(new() { Module = "m", Graph = id }).ResponseAsync),
        ["ReleaseGraph"] = ("graph", (s, id) => s.Execution.ReleaseGraphAsync(new() { Module = "m", Graph = id }).ResponseAsync),
        ["Forward.kept_id"] = ("inputs[0].kept_id", (s, id) => s.Execution.ForwardAsync(Make.Forward("m", new V1.Tensor { KeptId = id })).ResponseAsync),
    };

    /// <summary>Every call that names an optimizer.</summary>
    private static readonly Dictionary<string, Func<RunningServer, string, Task>> OfOptimizers = new()
    {
        ["GetOptimizer"] = (s, o) => s.Training.GetOptimizerAsync(new() { Module = "m", Optimizer = o }).ResponseAsync,
        ["AddParamGroup"] = (s, o) => s.Training.AddParamGroupAsync(new() { Module = "m", Optimizer = o, Group = new() { Parameters = { "bias" } } }).ResponseAsync,
        ["DeleteOptimizer"] = (s, o) => s.Training.DeleteOptimizerAsync(new() { Module = "m", Optimizer = o }).ResponseAsync,
        ["GetOptimizerState"] = (s, o) => s.Training.GetOptimizerState(new() { Module = "m", Optimizer = o }).ResponseStream.MoveNext(default),
        ["OptimizerStep"] = (s, o) => s.Training.OptimizerStepAsync(new() { Module = "m", Optimizer = o }).ResponseAsync,
        ["TrainStep"] = (s, o) => s.Training.TrainStepAsync(new() { Module = "m", Optimizer = o, Inputs = { One }, Targets = { One }, Loss = Mse }).ResponseAsync,
        ["SetLearningRate"] = (s, o) => s.Training.SetLearningRateAsync(new() { Module = "m", Optimizer = o, Lr = 1 }).ResponseAsync,
        ["CreateScheduler"] = (s, o) => s.Training.CreateSchedulerAsync(new() { Module = "m", Optimizer = o, Type = "StepLR", Args = Make.Args(("step_size", 1)) }).ResponseAsync,
        ["SchedulerStep"] = (s, o) => s.Training.SchedulerStepAsync(new() { Module = "m", Optimizer = o }).ResponseAsync,
    };

    private RunningServer _server = null!;

    public static TheoryData<string> Lines => [.. Cases.Keys];

    public static TheoryData<string> Names => [.. Optional.Keys, .. Required.Keys];

    public static TheoryData<string> Optimizers => [.. OfOptimizers.Keys];

    private static Google.Protobuf.WellKnownTypes.Struct ManySchedulers => Google.Protobuf.WellKnownTypes.Struct.Parser.ParseJson(
        $$"""{ "schedulers": [{{string.Join(", ", Enumerable.Repeat("""{ "type": "ExponentialLR", "gamma": 1 }""", 101))}}] }""");

    private static V1.Tensor One => Make.Floats([1, 2], 1, 2);

    private static V1.Tensor Short => new(One) { Data = Google.Protobuf.ByteString.CopyFrom(1, 2, 3) };

    private static V1.Tensor NaN => Make.Floats([1, 2], 1, float.NaN);

    public async ValueTask InitializeAsync()
    {
        _server = await RunningServer.StartAsync();
        await Make.ModuleAsync(_server, "m", Make.Linear(2, 1));
        await _server.Training.CreateOptimizerAsync(new V1.CreateOptimizerRequest { Module = "m", Type = "SGD", Groups = { new V1.ParamGroup { Parameters = { "weight" } } } });
        await Make.ModuleAsync(_server, "quasi", Make.Linear(2, 1));
        await _server.Training.CreateOptimizerAsync(new V1.CreateOptimizerRequest { Module = "quasi", Type = "LBFGS" });
        await Make.ModuleAsync(_server, "list", Make.Spec("""{ "type": "ModuleList", "children": [{ "spec": { "type": "ModuleList" } }, { "spec": { "type": "ModuleDict" } }] }"""));
    }

    public async ValueTask DisposeAsync()
    {
        Assert.Equal([1L, 1L], (await _server.Execution.ForwardAsync(Make.Forward("m", One))).Output.Tensor.Shape);
        Assert.Empty(_server.Errors);
        await _server.DisposeAsync();
    }

    [Theory]
    [MemberData(nameof(Lines))]
    public async Task Call_is_refused(string line)
    {
        var (code, what, call) = Cases[line];
        var refused = (await Refused.OfAsync(call(_server))).Is(code);
        Assert.True(what is null || (code == Bad ? refused.Fields.Contains(what) : refused.Resource == what), $"{what} in [{string.Join(", ", refused.Fields)}] {refused.Resource}: {refused.Message}");
        Assert.True(code != Bad || refused.Fields.Count > 0, refused.Message);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public async Task Malformed_name_is_INVALID_ARGUMENT(string rpc)
    {
        var required = Required.TryGetValue(rpc, out var named);
        var (field, call) = required ? named : Optional[rpc];
        foreach (var name in required ? [.. BadNames, ""] : BadNames)
        {
            (await Refused.OfAsync(call(_server, name))).Is(Bad, field);
        }
    }

    [Theory]
    [MemberData(nameof(Optimizers))]
    public async Task Unknown_optimizer_is_NOT_FOUND(string rpc)
    {
        (await Refused.OfAsync(OfOptimizers[rpc](_server, "gone"))).Is(Absent, resource: "optimizer");
        (await Refused.OfAsync(OfOptimizers[rpc](_server, "a b"))).Is(Bad, "optimizer");
    }

    [Fact]
    public async Task Messages_of_streams_are_refused_one_by_one_at_their_own_fields()
    {
        using var steps = _server.Training.TrainStream();
        foreach (var step in (V1.TrainStepRequest[])[
            new() { Module = "m", Inputs = { Short }, Targets = { One }, Loss = Mse }, new() { Module = "m", Inputs = { One }, Targets = { Short }, Loss = Mse },
            new() { Module = "m", NamedInputs = { ["input"] = Short }, Targets = { One }, Loss = Mse }])
        {
            await steps.RequestStream.WriteAsync(new V1.TrainStreamRequest { Step = step });
        }

        await steps.RequestStream.CompleteAsync();
        foreach (var field in (string[])["step.inputs[0].data", "step.targets[0].data", "step.inputs[\"input\"].data"])
        {
            Assert.True(await steps.ResponseStream.MoveNext(default));
            Refused.Of(steps.ResponseStream.Current.Error).Is(Bad, field);
        }

        using var forwards = _server.Execution.ForwardStream();
        await forwards.RequestStream.WriteAsync(new V1.ForwardStreamRequest { Forward = Named(Short) });
        await forwards.RequestStream.WriteAsync(new V1.ForwardStreamRequest { Forward = new() { Module = "m", Inputs = { NaN }, RejectNonfinite = true } });
        await forwards.RequestStream.WriteAsync(new V1.ForwardStreamRequest { Forward = new() { Module = "m", Inputs = { One }, RecordGraph = true, Session = "a b" } });
        await forwards.RequestStream.CompleteAsync();
        foreach (var field in (string[])["forward.inputs[\"input\"].data", "forward.inputs[0]", "forward.session"])
        {
            Assert.True(await forwards.ResponseStream.MoveNext(default));
            Refused.Of(forwards.ResponseStream.Current.Error).Is(Bad, field);
        }
    }

    private static V1.ForwardRequest Named(V1.Tensor tensor) => new() { Module = "m", NamedInputs = { ["input"] = tensor } };

    private static Task<V1.CreateModuleResponse> CreateAsync(RunningServer server, V1.ModuleSpec spec, int dtype = 0) =>
        server.Modules.CreateModuleAsync(new() { Module = "new", Spec = spec, Dtype = (V1.DataType)dtype }).ResponseAsync;

    private static Task<V1.CreateModuleResponse> GraphAsync(RunningServer server, string wiring, bool child = false) =>
        CreateAsync(server, Make.Spec($$"""{ "type": "Graph", "wiring": {{wiring}}{{(child ? """, "children": [{ "name": "f", "spec": { "type": "ReLU" } }]""" : "")}} }"""));

    private static async Task RunGraphAsync(RunningServer server, string wiring)
    {
        await GraphAsync(server, wiring);
        await server.Execution.ForwardAsync(Make.Forward("new", Make.Floats([4], 1, 2, 3, 4)));
    }

    private static Task<V1.CreateOptimizerResponse> OptimizerAsync(RunningServer server, string type, params (string, object)[] args) =>
        server.Training.CreateOptimizerAsync(new() { Module = "m", Optimizer = "new", Type = type, Args = Make.Args(args) }).ResponseAsync;

    private static Task<V1.CreateSchedulerResponse> SchedulerAsync(RunningServer server, string type, params (string, object)[] args) =>
        server.Training.CreateSchedulerAsync(new() { Module = "m", Type = type, Args = Make.Args(args) }).ResponseAsync;

    private static async Task PlateauAsync(RunningServer server)
    {
        await SchedulerAsync(server, "ReduceLROnPlateau");
        await server.Training.SchedulerStepAsync(new() { Module = "m" });
    }

    private static async Task BackwardOfKeptAsync(RunningServer server)
    {
        var graph = (await server.Execution.ForwardAsync(new() { Module = "m", Inputs = { One }, RecordGraph = true })).Graph.Id;
        await server.Execution.BackwardAsync(new() { Module = "m", Graph = graph, OutputGrads = { new V1.Tensor { KeptId = "gone" } } });
    }
}
