using Grpc.Core;
using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.BadInput;

/// <summary>Inputs, losses and targets that the module or loss cannot take: refused before libtorch sees them, several of which would end the process there.</summary>
public sealed class InputTests(SharedServer server) : ServerTest(server)
{
    [Fact]
    public async Task Forward_missing_extra_unknown_and_repeated_inputs_are_named()
    {
        var module = await CreateAsync(Specs.Linear, training: false);
        var x = Wire.Pattern(1, 4);
        await Refusal.OfAsync(() => ForwardAsync(new() { Module = module }), StatusCode.InvalidArgument, "input");
        await Refusal.OfAsync(() => ForwardAsync(new() { Module = module, Inputs = { x, x } }), StatusCode.InvalidArgument, "2", "1");
        await Refusal.OfAsync(() => ForwardAsync(new() { Module = module, NamedInputs = { ["inptu"] = x } }), StatusCode.InvalidArgument, "inptu", "input");
        await Refusal.OfAsync(() => ForwardAsync(new() { Module = module, Inputs = { x }, NamedInputs = { ["input"] = x } }), StatusCode.InvalidArgument, "input");
        await Refusal.OfAsync(() => ForwardAsync(new() { Module = module, Inputs = { new Tensor() } }), StatusCode.InvalidArgument, "input");
    }

    [Fact]
    public async Task Forward_shape_the_module_cannot_take_names_submodule_and_both_shapes()
    {
        var module = await CreateAsync(Specs.Mlp, training: false);
        var refusal = await Refusal.OfAsync(() => ForwardAsync(new() { Module = module, Inputs = { Wire.Pattern(2, 5) } }), StatusCode.InvalidArgument, "0", "5", "4");
        Assert.NotEmpty(refusal.Fields);

        // The same deeper down, where no input of the caller's is at fault by itself.
        var broken = await CreateAsync(Nn.Sequential(("first", Nn.Linear(4, 8)), ("second", Nn.Linear(9, 3))), training: false);
        await Refusal.OfAsync(() => ForwardAsync(new() { Module = broken, Inputs = { Wire.Pattern(2, 4) } }), StatusCode.InvalidArgument, "second", "8", "9");
    }

    [Fact]
    public async Task Forward_dtype_the_module_cannot_take_is_named()
    {
        var module = await CreateAsync(Specs.Linear, training: false);
        await Refusal.OfAsync(() => ForwardAsync(new() { Module = module, Inputs = { Wire.Longs([1, 4], 1, 2, 3, 4) } }), StatusCode.InvalidArgument, "int64", "Float");
        await Refusal.OfAsync(
            () => ForwardAsync(new() { Module = module, Inputs = { Wire.Of(DataType.Float64, [1, 4], new byte[32]) } }), StatusCode.InvalidArgument, "float64", "Float");
    }

    [Fact]
    public async Task Forward_kept_tensor_of_another_dtype_is_named()
    {
        var module = await CreateAsync(Specs.Identity, training: false);
        await Stubs.Tensors.PutTensorAsync(new() { Id = "kept-dtype", Tensor = Wire.Floats([1], 1) });
        try
        {
            (await Refusal.OfAsync(
                () => ForwardAsync(new() { Module = module, Inputs = { new Tensor { KeptId = "kept-dtype", Dtype = DataType.Int64 } } }),
                StatusCode.InvalidArgument, "int64", "float32")).At("inputs[0].dtype");
        }
        finally
        {
            await Stubs.Tensors.DropTensorAsync(new() { Id = "kept-dtype" });
        }
    }

    [Theory]
    [InlineData("Linear", "{\"in_features\":4,\"out_features\":3}", new long[0])]
    [InlineData("Conv2d", "{\"in_channels\":1,\"out_channels\":2,\"kernel_size\":3}", new long[] { 1, 2, 6, 6 })]
    [InlineData("Conv2d", "{\"in_channels\":1,\"out_channels\":2,\"kernel_size\":3}", new long[] { 1, 1, 2, 2 })]
    [InlineData("Conv2d", "{\"in_channels\":1,\"out_channels\":2,\"kernel_size\":3}", new long[] { 6, 6 })]
    [InlineData("Conv2d", "{\"in_channels\":1,\"out_channels\":2,\"kernel_size\":3,\"padding\":3,\"padding_mode\":\"reflect\"}", new long[] { 1, 1, 2, 2 })]
    [InlineData("Conv1d", "{\"in_channels\":1,\"out_channels\":2,\"kernel_size\":3}", new long[] { 1, 1, 2 })]
    [InlineData("ConvTranspose2d", "{\"in_channels\":1,\"out_channels\":2,\"kernel_size\":3}", new long[] { 1, 3, 6, 6 })]
    [InlineData("BatchNorm2d", "{\"num_features\":2}", new long[] { 1, 3, 4, 4 })]
    [InlineData("BatchNorm2d", "{\"num_features\":2}", new long[] { 2, 2 })]
    [InlineData("BatchNorm1d", "{\"num_features\":2}", new long[] { 1, 2 })]
    [InlineData("LayerNorm", "{\"normalized_shape\":[4]}", new long[] { 2, 5 })]
    [InlineData("GroupNorm", "{\"num_groups\":2,\"num_channels\":4}", new long[] { 1, 3, 2 })]
    [InlineData("MaxPool2d", "{\"kernel_size\":3}", new long[] { 1, 1, 2, 2 })]
    [InlineData("MaxPool2d", "{\"kernel_size\":3}", new long[] { 4 })]
    [InlineData("AvgPool2d", "{\"kernel_size\":3}", new long[] { 1, 1, 2, 2 })]
    [InlineData("AdaptiveAvgPool2d", "{\"output_size\":1}", new long[] { 3 })]
    [InlineData("LSTM", "{\"input_size\":4,\"hidden_size\":3}", new long[] { 5, 1, 3 })]
    [InlineData("LSTM", "{\"input_size\":4,\"hidden_size\":3}", new long[] { 4 })]
    [InlineData("GRU", "{\"input_size\":4,\"hidden_size\":3}", new long[] { 5, 1, 3 })]
    [InlineData("RNN", "{\"input_size\":4,\"hidden_size\":3}", new long[] { 5, 1, 1, 4 })]
    [InlineData("LSTMCell", "{\"input_size\":4,\"hidden_size\":3}", new long[] { 2, 3 })]
    [InlineData("PixelShuffle", "{\"upscale_factor\":2}", new long[] { 1, 3, 2, 2 })]
    [InlineData("ReflectionPad2d", "{\"padding\":4}", new long[] { 1, 1, 2, 2 })]
    [InlineData("Unflatten", "{\"dim\":1,\"unflattened_size\":[2,2]}", new long[] { 1, 5 })]
    [InlineData("Fold", "{\"output_size\":[4,4],\"kernel_size\":2}", new long[] { 1, 3, 9 })]
    [InlineData("GLU", "{}", new long[] { 1, 3 })]
    [InlineData("Softmax", "{\"dim\":5}", new long[] { 1, 3 })]
    [InlineData("Flatten", "{\"start_dim\":5}", new long[] { 1, 3 })]
    [InlineData("PReLU", "{\"num_parameters\":3}", new long[] { 1, 2 })]
    [InlineData("MultiheadAttention", "{\"embed_dim\":4,\"num_heads\":2}", new long[] { 2, 1, 4 })] // key and value are missing
    public async Task Forward_shape_each_type_cannot_take_is_INVALID_ARGUMENT(string type, string args, long[] shape)
    {
        var module = await CreateAsync(Nn.Parse($$"""{"type":"{{type}}","args":{{args}}}"""));
        await Refusal.OfAsync(() => ForwardAsync(new() { Module = module, Inputs = { Wire.Pattern(shape) } }), StatusCode.InvalidArgument);
    }

    [Fact]
    public async Task Forward_embedding_index_out_of_range_is_named()
    {
        var module = await CreateAsync(Nn.Module("Embedding", ("num_embeddings", 4), ("embedding_dim", 2)), training: false);
        await Refusal.OfAsync(() => ForwardAsync(new() { Module = module, Inputs = { Wire.Longs([3], 0, 4, 1) } }), StatusCode.InvalidArgument, "4");
        await Refusal.OfAsync(() => ForwardAsync(new() { Module = module, Inputs = { Wire.Longs([1], -1) } }), StatusCode.InvalidArgument, "-1");
        await Refusal.OfAsync(() => ForwardAsync(new() { Module = module, Inputs = { Wire.Longs([1], long.MaxValue) } }), StatusCode.InvalidArgument);
        var bag = await CreateAsync(Nn.Module("EmbeddingBag", ("num_embeddings", 4), ("embedding_dim", 2)), training: false);
        await Refusal.OfAsync(() => ForwardAsync(new() { Module = bag, Inputs = { Wire.Longs([1, 2], 0, 9) } }), StatusCode.InvalidArgument);
        await Refusal.OfAsync(() => ForwardAsync(new() { Module = bag, Inputs = { Wire.Longs([2], 0, 1), Wire.Longs([1], 5) } }), StatusCode.InvalidArgument);
    }

    [Theory]
    [InlineData("matmul", new long[] { 2, 3 }, new long[] { 4, 5 })]
    [InlineData("matmul", new long[] { }, new long[] { 4 })]
    [InlineData("bmm", new long[] { 2, 3 }, new long[] { 3, 2 })]
    [InlineData("add", new long[] { 2, 3 }, new long[] { 4 })]
    [InlineData("cat", new long[] { 2, 3 }, new long[] { 2, 3, 1 })]
    [InlineData("stack", new long[] { 2, 3 }, new long[] { 3, 2 })]
    public async Task Forward_function_on_shapes_that_do_not_fit_is_INVALID_ARGUMENT(string function, long[] a, long[] b)
    {
        var wiring = new Wiring { Inputs = { "a", "b" }, Steps = { new WiringStep { Name = "y", Function = function, Inputs = { "a", "b" } } }, Outputs = { "y" } };
        var module = await CreateAsync(Nn.Graph(wiring), training: false);
        await Refusal.OfAsync(() => ForwardAsync(new() { Module = module, Inputs = { Wire.Pattern(a), Wire.Pattern(b) } }), StatusCode.InvalidArgument);
    }

    [Fact]
    public async Task TrainStep_targets_the_loss_cannot_take_are_refused_and_change_nothing()
    {
        var module = await CreateAsync(Specs.Mlp);
        await Stubs.Training.CreateOptimizerAsync(new() { Module = module, Type = "Adam" });
        var before = await GenerationAsync(module);
        (Loss Loss, Tensor[] Targets)[] bad =
        [
            (new() { Type = "CrossEntropyLoss" }, [Wire.Longs([2], 0, 3)]), // three classes: 0, 1, 2
            (new() { Type = "CrossEntropyLoss" }, [Wire.Longs([2], 0, -1)]),
            (new() { Type = "CrossEntropyLoss" }, [Wire.Longs([3], 0, 1, 2)]),
            (new() { Type = "CrossEntropyLoss" }, [Wire.Floats([2], 0, 1)]),
            (new() { Type = "CrossEntropyLoss" }, []),
            (new() { Type = "CrossEntropyLoss" }, [Wire.Longs([2], 0, 1), Wire.Longs([2], 0, 1)]),
            (new() { Type = "NLLLoss" }, [Wire.Longs([2], 0, 7)]),
            (new() { Type = "MultiMarginLoss" }, [Wire.Longs([2], 0, 7)]),
            (new() { Type = "MultiLabelMarginLoss" }, [Wire.Longs([2, 3], 0, 7, -1, 0, 1, -1)]),
            (new() { Type = "BCELoss" }, [Wire.Pattern(2, 3)]), // outputs are no probabilities
            (new() { Type = "MSELoss" }, [Wire.Pattern(5, 7)]),
            (new() { Type = "CTCLoss" }, [Wire.Longs([2], 1, 99), Wire.Longs([1], 2), Wire.Longs([1], 1)]),
            (new() { Type = "CosineEmbeddingLoss" }, [Wire.Pattern(2, 3)]),
        ];
        foreach (var (loss, targets) in bad)
        {
            await Refusal.OfAsync(
                async () => await Stubs.Training.TrainStepAsync(new() { Module = module, Inputs = { Wire.Pattern(2, 4) }, Loss = loss, Targets = { targets } }),
                StatusCode.InvalidArgument);
        }

        Assert.Equal(before, await GenerationAsync(module));
    }

    [Fact]
    public async Task Loss_optimizer_and_scheduler_unknown_types_and_arguments_are_named()
    {
        var module = await CreateAsync(Specs.Linear);
        await Refusal.OfAsync(
            async () => await Stubs.Training.ForwardBackwardAsync(new() { Module = module, Inputs = { Wire.Pattern(1, 4) }, Loss = new() { Type = "CrossEntropy" }, Targets = { Wire.Longs([1], 0) } }),
            StatusCode.Unimplemented, "CrossEntropy", "CrossEntropyLoss");
        (await Refusal.OfAsync(
            async () => await Stubs.Training.ForwardBackwardAsync(new() { Module = module, Inputs = { Wire.Pattern(1, 4) }, Loss = Nn.Loss("MSELoss", ("reductoin", "sum")), Targets = { Wire.Pattern(1, 3) } }),
            StatusCode.InvalidArgument, "reductoin")).At("loss.args.reductoin");
        await Refusal.OfAsync(async () => await Stubs.Training.CreateOptimizerAsync(new() { Module = module, Type = "Adan" }), StatusCode.Unimplemented, "Adan", "Adam");
        (await Refusal.OfAsync(
            async () => await Stubs.Training.CreateOptimizerAsync(new() { Module = module, Type = "SGD", Args = Specs.Args(("lr", -1)) }),
            StatusCode.InvalidArgument, "-1")).At("args.lr");
        (await Refusal.OfAsync(
            async () => await Stubs.Training.CreateOptimizerAsync(new() { Module = module, Type = "Adam", Args = Specs.Args(("betas", new[] { 0.9 })) }),
            StatusCode.InvalidArgument)).At("args.betas");
        (await Refusal.OfAsync(
            async () => await Stubs.Training.CreateOptimizerAsync(new() { Module = module, Type = "SGD", Groups = { new ParamGroup { Parameters = { "nothing.*" } } } }),
            StatusCode.InvalidArgument, "nothing.*")).At("groups[0].parameters[0]");
        await Stubs.Training.CreateOptimizerAsync(new() { Module = module, Type = "SGD" });
        await Refusal.OfAsync(async () => await Stubs.Training.CreateSchedulerAsync(new() { Module = module, Type = "StepLr" }), StatusCode.Unimplemented, "StepLR");
        (await Refusal.OfAsync(async () => await Stubs.Training.CreateSchedulerAsync(new() { Module = module, Type = "StepLR" }), StatusCode.InvalidArgument)).At("args.step_size");
        (await Refusal.OfAsync(async () => await Stubs.Training.SetLearningRateAsync(new() { Module = module, Lr = double.NaN }), StatusCode.InvalidArgument)).At("lr");
        (await Refusal.OfAsync(async () => await Stubs.Training.ClipGradientsAsync(new() { Module = module }), StatusCode.InvalidArgument)).At("clip");
        (await Refusal.OfAsync(async () => await Stubs.Training.ClipGradientsAsync(new() { Module = module, Clip = new() { MaxNorm = -1 } }), StatusCode.InvalidArgument)).At("clip.max_norm");
    }

    [Fact]
    public async Task Call_unknown_method_names_those_there_are()
    {
        var module = await CreateAsync(Specs.Linear, training: false);
        await Refusal.OfAsync(
            async () => await Stubs.Execution.CallAsync(new() { Method = "backward", Forward = new() { Module = module, Inputs = { Wire.Pattern(1, 4) } } }),
            StatusCode.InvalidArgument, "backward", "forward");
    }

    [Fact]
    public async Task Conversions_that_make_no_sense_are_refused_and_change_nothing()
    {
        var module = await CreateAsync(Specs.Linear);
        var before = await GenerationAsync(module);
        (ToRequest Request, string Field)[] bad =
        [
            (new(), "dtype"),
            (new() { Dtype = DataType.Int64 }, "dtype"),
            (new() { Conversion = Conversion.Type }, "dtype"),
            (new() { Conversion = Conversion.Half, Dtype = DataType.Float64 }, "dtype"),
            (new() { Conversion = Conversion.Cpu, Device = "cuda" }, "device"),
            (new() { Device = "tpu" }, "device"),
            (new() { Conversion = (Conversion)99 }, "conversion"),
            (new() { Dtype = (DataType)99 }, "dtype"),
        ];
        foreach (var (request, field) in bad)
        {
            request.Module = module;
            var refusal = await Refusal.OfAsync(async () => await Stubs.Modules.ToAsync(request), StatusCode.InvalidArgument);
            Assert.Contains(field, refusal.Fields.Keys);
        }

        Assert.Equal(before, await GenerationAsync(module));
    }

    [Fact]
    public async Task Conversion_to_an_absent_device_is_FAILED_PRECONDITION()
    {
        var module = await CreateAsync(Specs.Linear);
        await Refusal.OfAsync(async () => await Stubs.Modules.ToAsync(new() { Module = module, Conversion = Conversion.Cuda }), StatusCode.FailedPrecondition, "cuda", "cpu");
        await Refusal.OfAsync(async () => await Stubs.Modules.ToAsync(new() { Module = module, Device = "cuda:0" }), StatusCode.FailedPrecondition, "cuda:0", "cpu");
    }

    [Fact]
    public async Task Apply_that_cannot_fill_changes_nothing()
    {
        var module = await CreateAsync(Specs.Mlp);
        var before = await Streams.DrainAsync(Stubs.State.GetStateDict(new() { Module = module }));
        (await Refusal.OfAsync(async () => await Stubs.Modules.ApplyAsync(new() { Module = module, Function = "xavier" }), StatusCode.InvalidArgument, "xavier")).At("function");
        (await Refusal.OfAsync(
            async () => await Stubs.Modules.ApplyAsync(new() { Module = module, Function = "constant_", Args = Specs.Args(("value", 1)) }),
            StatusCode.InvalidArgument, "val")).At("args.value");
        await Refusal.OfAsync(async () => await Stubs.Modules.ApplyAsync(new() { Module = module, Function = "xavier_uniform_" }), StatusCode.InvalidArgument); // a bias has one dimension
        await Refusal.OfAsync(async () => await Stubs.Modules.ApplyAsync(new() { Module = module, Function = "zeros_", Type = "Linear", Isinstance = "Linear" }), StatusCode.InvalidArgument);
        Assert.Equal(before, await Streams.DrainAsync(Stubs.State.GetStateDict(new() { Module = module })));
    }

    private async Task ForwardAsync(ForwardRequest request) => await Stubs.Execution.ForwardAsync(request);

    private async Task<ulong> GenerationAsync(string module) => (await Stubs.Modules.GetModuleAsync(new() { Module = module })).Module.Generation;
}
