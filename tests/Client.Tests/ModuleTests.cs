using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Sconce.V1;

namespace Sconce.Client.Tests;

public sealed class ModuleTests
{
    [Fact]
    public async Task Forward_tensor_returnsOutputAndSendsTheContractVersion()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<ForwardRequest, ForwardResponse>((request, _) => Fakes.Echo(request));
        await using var client = server.NewClient();

        var output = await client.Module("m").GetSubmodule("layer1").GetSubmodule("0").ForwardAsync(TensorData.Create([1f, 2f, 3f, 4f], 2, 2));

        Assert.Equal([1f, 2f, 3f, 4f], output.As<float>().ToArray());
        Assert.Equal([2L, 2L], output.Tensor.Shape);
        Assert.Equal(5ul, output.Generation);
        var request = Assert.Single(server.Seen<ForwardRequest>());
        Assert.Equal(("m", "layer1.0", false), (request.Module, request.Path, request.RecordGraph));
        Assert.Equal("1.0", server.LastHeaders.GetValue("sconce-contract"));
    }

    [Fact]
    public async Task Forward_severalAndNamedInputs_arriveInOrder()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<ForwardRequest, ForwardResponse>((request, _) => Fakes.Echo(request));
        await using var client = server.NewClient();
        Inputs inputs = [TensorData.Scalar(1f), TensorData.None, TensorData.Kept("h0")];

        await client.Module("lstm").ForwardAsync(inputs.With("mask", TensorData.Scalar(true)), new ForwardOptions { RejectNonFinite = true });

        var request = Assert.Single(server.Seen<ForwardRequest>());
        Assert.Equal([DataType.Float32, DataType.Unspecified, DataType.Unspecified], request.Inputs.Select(input => input.Dtype));
        Assert.Equal("h0", request.Inputs[2].KeptId);
        Assert.False(request.Inputs[1].HasData);
        Assert.Equal(DataType.Bool, request.NamedInputs["mask"].Dtype);
        Assert.True(request.RejectNonfinite);
    }

    [Fact]
    public async Task Forward_tuple_keepsItsStructure()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<ForwardRequest, ForwardResponse>((_, _) => new ForwardResponse
        {
            Output = Tuple(new V1.Value { Tensor = Fakes.Tensor(1, 2) }, Tuple(new V1.Value { Tensor = Fakes.Tensor(3) }, new V1.Value { Tensor = Fakes.Tensor(4) })),
        });
        await using var client = server.NewClient();

        var value = await client.Module("lstm").ForwardAsync(TensorData.Scalar(1f));

        Assert.Equal("(float32[2], (float32[1], float32[1]))", value.ToString());
        Assert.Equal(4f, value[1][1].Tensor.Item<float>());
        Assert.Equal([2L, 1L, 1L], value.Flatten().Select(tensor => tensor.Length));
        Assert.Contains("a tuple of 2", Assert.Throws<InvalidOperationException>(() => value.Tensor).Message, StringComparison.Ordinal);

        static V1.Value Tuple(params V1.Value[] items) => new() { Tuple = new ValueList { Items = { items } } };
    }

    [Fact]
    public async Task Forward_largePayload_isNotCopiedOnTheWayIn()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<ForwardRequest, ForwardResponse>((_, _) => new ForwardResponse { Output = new V1.Value { Tensor = Fakes.Tensor(new float[4 << 20]) } });
        await using var client = server.NewClient();
        var module = client.Module("m");
        await module.ForwardAsync(TensorData.Scalar(1f));

        var value = await module.ForwardAsync(TensorData.Scalar(1f));

        // The elements are the array that protobuf parsed them into.
        Assert.True(System.Runtime.InteropServices.MemoryMarshal.TryGetArray(value.Tensor.Bytes, out var bytes));
        Assert.Equal((0, 16 << 20, 16 << 20), (bytes.Offset, bytes.Count, bytes.Array!.Length));
    }

    [Fact]
    public async Task TypedForward_tensorsAndMemory_keepShapeAndElements()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<ForwardRequest, ForwardResponse>((request, _) => Fakes.Echo(request));
        await using var client = server.NewClient();
        var typed = client.Module("m").As<float, float>();

        var tensor = await typed.ForwardAsync(System.Numerics.Tensors.Tensor.Create([1f, 2f, 3f, 4f, 5f, 6f], [3, 2]));
        var memory = await typed.ForwardAsync(new[] { 7f, 8f }, [1, 2]);

        Assert.Equal([3, 2], tensor.Lengths.ToArray());
        Assert.Equal(6f, tensor[2, 1]);
        Assert.Equal([7f, 8f], memory.ToArray());
        server.On<ForwardRequest, ForwardResponse>((_, _) => new ForwardResponse { Output = new V1.Value { Tensor = TensorData.Scalar(9f).ToMessage() } });
        var scalar = await typed.ForwardAsync(System.Numerics.Tensors.Tensor.Create([1f], [1]));
        Assert.Equal((1, 9f), ((int)scalar.FlattenedLength, scalar[0]));
        await Assert.ThrowsAsync<InvalidOperationException>(() => client.Module("m").As<float, double>().ForwardAsync(new[] { 1f }, [1]));
        Assert.Throws<NotSupportedException>(() => client.Module("m").As<float, char>());
    }

    [Fact]
    public async Task Graph_backward_returnsInputGradientsAndUsesTheGraphUp()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<ForwardRequest, ForwardResponse>((request, _) => Graphs.Recorded(request));
        server.On<BackwardRequest, BackwardResponse>((request, _) => new BackwardResponse
        {
            InputGrads = { request.OutputGrads[0], new V1.Tensor() },
            NamedInputGrads = { { "mask", new V1.Tensor() } },
            Generation = 9,
        });
        await using var client = server.NewClient();

        await using (var graph = await client.Module("m").ForwardWithGraphAsync(TensorData.Create([1f], 1), new GraphOptions { TimeToLive = TimeSpan.FromSeconds(7), InputGrads = false }))
        {
            Assert.Equal(1f, graph.Output.Tensor.Item<float>());
            Assert.Equal((64L, DateTimeOffset.UnixEpoch), (graph.EstimatedBytes, graph.Expires));
            var gradients = await graph.BackwardAsync(TensorData.Create([0.5f], 1));
            Assert.Equal(0.5f, gradients.Positional[0].Item<float>());
            Assert.True(gradients.Positional[1].IsNone);
            Assert.True(gradients.Named["mask"].IsNone);
            Assert.Equal(9ul, gradients.Generation);
        }

        var forward = Assert.Single(server.Seen<ForwardRequest>());
        Assert.Equal((true, false, 7L), (forward.RecordGraph, forward.InputGrads, forward.GraphTtl.Seconds));
        var backward = Assert.Single(server.Seen<BackwardRequest>());
        Assert.Equal(("m", "g1", false), (backward.Module, backward.Graph, backward.RetainGraph));
        Assert.NotEmpty(backward.RequestId);
        Assert.Empty(server.Seen<ReleaseGraphRequest>());
    }

    [Fact]
    public async Task Graph_disposedUnused_isReleasedAndNotFoundIsNoError()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<ForwardRequest, ForwardResponse>((request, _) => Graphs.Recorded(request));
        server.On<ReleaseGraphRequest, ReleaseGraphResponse>((_, _) => throw Fakes.Error(StatusCode.NotFound, "expired"));
        await using var client = server.NewClient();

        var graph = await client.Module("m").ForwardWithGraphAsync(TensorData.Scalar(1f));
        await graph.BackwardAsync(retainGraph: true);
        await graph.ReleaseAsync();
        await graph.DisposeAsync();

        Assert.Equal("g1", Assert.Single(server.Seen<ReleaseGraphRequest>()).Graph);
        Assert.Empty(server.Seen<BackwardRequest>()[0].OutputGrads);
    }

    [Fact]
    public async Task Modes_eachMethod_sendsItsRequest()
    {
        await using var server = await FakeServer.StartAsync();
        await using var client = server.NewClient();
        var layer = client.Module("m").GetSubmodule("layer1");

        await layer.TrainAsync();
        await layer.EvalAsync();
        await layer.RequiresGradAsync(false, ["*.bias"]);
        await layer.ZeroGradAsync();
        await layer.ZeroGradAsync(setToNone: false);
        await client.Module("m").SetTrainPolicyAsync(new TrainPolicy { NormEval = true, Frozen = { "layer1" } });
        var summary = await client.Module("m").SetTrainPolicyAsync(null);

        Assert.Equal([true, false], server.Seen<TrainRequest>().Select(request => request.Mode));
        Assert.Equal((false, "*.bias"), (server.Seen<RequiresGradRequest>()[0].RequiresGrad, server.Seen<RequiresGradRequest>()[0].Parameters[0]));
        Assert.Equal([true, false], server.Seen<ZeroGradRequest>().Select(request => request.SetToNone));
        Assert.Equal(["layer1"], server.Seen<SetTrainPolicyRequest>()[0].Policy.Frozen);
        Assert.Null(server.Seen<SetTrainPolicyRequest>()[1].Policy);
        Assert.All(server.Seen<IMessage>(), request => Assert.NotEqual("", request.Descriptor.FindFieldByName("request_id").Accessor.GetValue(request)));
        Assert.Equal("m", summary.Name);
    }

    [Fact]
    public async Task Conversions_each_sendsItsMethod()
    {
        await using var server = await FakeServer.StartAsync();
        await using var client = server.NewClient();
        var module = client.Module("m");

        await module.ToAsync(DataType.Float64);
        await module.ToAsync("cpu", DataType.Float16);
        await module.CpuAsync();
        await module.CudaAsync("cuda:1");
        await module.TypeAsync(DataType.Int8);
        await module.FloatAsync();
        await module.DoubleAsync();
        await module.HalfAsync();
        await module.BFloat16Async();
        await module.ToEmptyAsync();
        await module.IpuAsync();
        await module.XpuAsync("xpu:1");
        await module.ToAsync(MemoryFormat.ChannelsLast, DataType.Float16);

        Assert.Equal(MemoryFormat.ChannelsLast, server.Seen<ToRequest>()[^1].MemoryFormat);
        Assert.Equal(
            [
                (Conversion.Unspecified, DataType.Float64, ""), (Conversion.Unspecified, DataType.Float16, "cpu"), (Conversion.Cpu, DataType.Unspecified, ""),
                (Conversion.Cuda, DataType.Unspecified, "cuda:1"), (Conversion.Type, DataType.Int8, ""), (Conversion.Float, DataType.Unspecified, ""),
                (Conversion.Double, DataType.Unspecified, ""), (Conversion.Half, DataType.Unspecified, ""), (Conversion.Bfloat16, DataType.Unspecified, ""),
                (Conversion.ToEmpty, DataType.Unspecified, ""), (Conversion.Ipu, DataType.Unspecified, ""), (Conversion.Xpu, DataType.Unspecified, "xpu:1"), (Conversion.Unspecified, DataType.Float16, ""),
            ],
            server.Seen<ToRequest>().Select(request => (request.Conversion, request.Dtype, request.Device)));
    }

    [Fact]
    public async Task Lifecycle_createCopyApplyDelete_sendsItsRequests()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<ApplyRequest, ApplyResponse>((_, _) => new ApplyResponse { Applied = { "0", "" } });
        await using var client = server.NewClient();

        var module = await client.CreateModuleAsync("m", Nn.Linear(2, 3), seed: 7, dtype: DataType.Float64);
        var copy = await module.GetSubmodule("0").CopyAsync("twin");
        var applied = await module.ApplyAsync("constant_", [("val", 0.5)], new ApplyFilter { IsInstance = "_ConvNd", Glob = "layer*", Parameters = ["bias"] }, seed: 1);
        await copy.DeleteAsync();

        var create = Assert.Single(server.Seen<CreateModuleRequest>());
        Assert.Equal(("m", 7L, DataType.Float64, Nn.Linear(2, 3)), (create.Module, create.Seed, create.Dtype, create.Spec));
        Assert.Equal(("m", "0", "twin"), (server.Seen<CopyModuleRequest>()[0].Module, server.Seen<CopyModuleRequest>()[0].Path, server.Seen<CopyModuleRequest>()[0].Copy));
        var apply = Assert.Single(server.Seen<ApplyRequest>());
        Assert.Equal(("constant_", 0.5, "_ConvNd", "layer*", "bias", 1L), (apply.Function, apply.Args.Fields["val"].NumberValue, apply.Isinstance, apply.Glob, apply.Parameters[0], apply.Seed));
        Assert.Equal(["0", ""], applied.Applied);
        Assert.Equal("twin", server.Seen<DeleteModuleRequest>()[0].Module);
    }

    [Fact]
    public async Task With_ifGeneration_isOnEveryChange()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<ForwardRequest, ForwardResponse>((request, _) => Fakes.Echo(request));
        await using var client = server.NewClient();
        var module = client.Module("m").With(new CallSettings { IfGeneration = 4 });

        await module.TrainAsync();
        await module.HalfAsync();
        await module.GetSubmodule("0").ZeroGradAsync();
        await module.ForwardAsync(TensorData.Scalar(1f));
        await module.TrainStepAsync(TensorData.Scalar(1f), TensorData.Scalar(1f), Nn.MSELoss());
        await client.Module("m").TrainAsync();

        var generations = server.Seen<IMessage>().Select(request => (request.Descriptor.FindFieldByName("if_generation").Accessor.HasValue(request),
            request.Descriptor.FindFieldByName("if_generation").Accessor.GetValue(request))).ToList();
        Assert.Equal([(true, 4ul), (true, 4ul), (true, 4ul), (true, 4ul), (true, 4ul), (false, 0ul)], generations);
    }

    [Fact]
    public async Task WholeModuleMethods_onASubmodule_sayWhy()
    {
        await using var client = new SconceClient("http://127.0.0.1:1");
        var layer = client.Module("m").GetSubmodule("0");

        var error = await Assert.ThrowsAsync<InvalidOperationException>(() => layer.DeleteAsync());
        await Assert.ThrowsAsync<InvalidOperationException>(() => layer.CreateOptimizerAsync("SGD"));

        Assert.Contains("'m' is narrowed to '0' here, and deleting concerns a whole module", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Training_optimizerMethods_sendTheirRequests()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<CreateOptimizerRequest, CreateOptimizerResponse>((request, _) => new CreateOptimizerResponse { Optimizer = new Optimizer { Name = request.Optimizer } });
        server.On<OptimizerStepRequest, OptimizerStepResponse>((_, _) => new OptimizerStepResponse { Steps = 2, GradNorm = 1.5 });
        await using var client = server.NewClient();
        var module = client.Module("m");

        var adam = await module.CreateOptimizerAsync("AdamW", [("lr", 1e-3)], [new(["features.*"], [("lr", 1e-4)]), new(["head.*"])], "opt");
        var step = await adam.StepAsync(new GradientClip { MaxNorm = 1 }, zeroGrad: true);
        await adam.AddParamGroupAsync(new ParameterGroup(["extra"]));
        await adam.SetLearningRateAsync(0.1, group: 1);
        await adam.CreateSchedulerAsync("StepLR", [("step_size", 30)]);
        await adam.SchedulerStepAsync(metric: 0.5);
        await adam.DeleteAsync();

        var create = Assert.Single(server.Seen<CreateOptimizerRequest>());
        Assert.Equal(("m", "opt", "AdamW", 1e-3), (create.Module, create.Optimizer, create.Type, create.Args.Fields["lr"].NumberValue));
        Assert.Equal(["features.*"], create.Groups[0].Parameters);
        Assert.Equal(1e-4, create.Groups[0].Args.Fields["lr"].NumberValue);
        Assert.Equal((1.5, 2ul, 1.0, true), (step.GradNorm, step.Steps, server.Seen<OptimizerStepRequest>()[0].Clip.MaxNorm, server.Seen<OptimizerStepRequest>()[0].ZeroGrad));
        Assert.Equal((0.1, 1u), (server.Seen<SetLearningRateRequest>()[0].Lr, server.Seen<SetLearningRateRequest>()[0].Group));
        Assert.Equal(30, server.Seen<CreateSchedulerRequest>()[0].Args.Fields["step_size"].NumberValue);
        Assert.Equal(0.5, server.Seen<SchedulerStepRequest>()[0].Metric);
        Assert.Equal("opt", server.Seen<DeleteOptimizerRequest>()[0].Optimizer);
    }

    [Fact]
    public async Task Training_stepAndForwardBackward_carryLossAndOptions()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<TrainStepRequest, TrainStepResponse>((request, _) => new TrainStepResponse { Loss = 2, GradNorm = 3, Output = new V1.Value { Tensor = request.Inputs[0] }, Generation = 8, Steps = 4 });
        server.On<ForwardBackwardRequest, ForwardBackwardResponse>((_, _) => new ForwardBackwardResponse { Loss = 1.25, Generation = 8 });
        server.On<ClipGradientsRequest, ClipGradientsResponse>((request, _) => request.Clip.HasMaxNorm ? new ClipGradientsResponse { GradNorm = 6 } : new ClipGradientsResponse());
        await using var client = server.NewClient();
        var module = client.Module("m");
        var options = new TrainStepOptions { Optimizer = "opt", ZeroGrad = false, Clip = new GradientClip { ClipValue = 1 }, SchedulerStep = true, ReturnOutput = true };

        var step = await module.TrainStepAsync(TensorData.Scalar(5f), TensorData.Scalar(1L), Nn.CrossEntropyLoss(("label_smoothing", 0.1)), options);
        var micro = await module.ForwardBackwardAsync(TensorData.Scalar(5f), TensorData.Scalar(1L), Nn.Loss("HuberLoss"), lossScale: 0.25);
        var norm = await module.ClipGradientsAsync(new GradientClip { MaxNorm = 1 });
        var none = await module.ClipGradientsAsync(new GradientClip { ClipValue = 1 });
        await module.ManualSeedAsync(42);

        Assert.Equal((2.0, 3.0, 5f, 8ul, 4ul), (step.Loss, step.GradNorm, step.Output!.Tensor.Item<float>(), step.Generation, step.Steps));
        var request = Assert.Single(server.Seen<TrainStepRequest>());
        Assert.Equal(("opt", false, 1.0, true, true), (request.Optimizer, request.ZeroGrad, request.Clip.ClipValue, request.SchedulerStep, request.ReturnOutput));
        Assert.Equal(("CrossEntropyLoss", 0.1), (request.Loss.Type, request.Loss.Args.Fields["label_smoothing"].NumberValue));
        Assert.Equal((1.25, (RemoteValue?)null, 0.25), (micro.Loss, micro.Output, server.Seen<ForwardBackwardRequest>()[0].LossScale));
        Assert.Equal((6.0, (double?)null), (norm, none));
        Assert.Equal(("m", 42L), (server.Seen<ManualSeedRequest>()[0].Module, server.Seen<ManualSeedRequest>()[0].Seed));
        await Assert.ThrowsAsync<ArgumentException>(() => module.TrainStepAsync(TensorData.Scalar(1f), Inputs.Empty.With("y", TensorData.Scalar(1f)), Nn.MSELoss()));
    }

    [Fact]
    public async Task OpenTrainStream_withWhatBelongsToOneCall_isRefused()
    {
        await using var client = new SconceClient("http://127.0.0.1:1");

        var error = Assert.Throws<InvalidOperationException>(() => client.Module("m").With(new CallSettings { RequestId = "r1" }).OpenTrainStream(Nn.MSELoss()));

        Assert.Contains("'r1' belongs to one call", error.Message, StringComparison.Ordinal);
        var generation = Assert.Throws<InvalidOperationException>(() => client.Module("m").With(new CallSettings { IfGeneration = 7 }).OpenTrainStream(Nn.MSELoss()));
        Assert.Contains("IfGeneration is 7, and each step of a stream makes another generation", generation.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Call_method_sendsItsName()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<CallRequest, CallResponse>((request, _) => new CallResponse { Forward = Fakes.Echo(request.Forward) });
        await using var client = server.NewClient();

        var output = await client.Module("m").CallAsync("encode", TensorData.Scalar(2f));

        Assert.Equal((2f, "encode"), (output.Tensor.Item<float>(), server.Seen<CallRequest>()[0].Method));
    }

    [Fact]
    public async Task Tensors_keptOnes_areUsedByReferenceAndDropped()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<PutTensorRequest, PutTensorResponse>((request, _) => new PutTensorResponse
        {
            Tensor = new KeptTensor { Id = "t1", Dtype = request.Tensor.Dtype, Shape = { request.Tensor.Shape }, Expires = Timestamp.FromDateTimeOffset(DateTimeOffset.UnixEpoch) },
        });
        server.On<GetTensorRequest, GetTensorResponse>((_, _) => new GetTensorResponse { Tensor = Fakes.Tensor(1, 2) });
        server.On<ForwardRequest, ForwardResponse>((_, _) => new ForwardResponse { Output = new V1.Value { Tensor = Fakes.Tensor(1) } });
        await using var client = server.NewClient();

        await using (var kept = await client.PutTensorAsync(TensorData.Create([1f, 2f]), timeToLive: TimeSpan.FromMinutes(1)))
        {
            await client.Module("m").ForwardAsync(kept);
            await client.Module("m").ForwardAsync([kept, TensorData.Scalar(1f)]);
            var elements = await kept.GetAsync();
            Assert.Equal([1f, 2f], elements.As<float>().ToArray());
        }

        Assert.Equal(60, server.Seen<PutTensorRequest>()[0].Ttl.Seconds);
        Assert.All(server.Seen<ForwardRequest>(), request => Assert.Equal("t1", request.Inputs[0].KeptId));
        Assert.Equal("t1", Assert.Single(server.Seen<DropTensorRequest>()).Id);
    }
}
