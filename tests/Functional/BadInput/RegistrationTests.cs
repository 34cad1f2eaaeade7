using Google.Protobuf;
using Grpc.Core;
using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.BadInput;

/// <summary>Registrations, members, policies and conversions that cannot be: refused with the path, and nothing has changed.</summary>
public sealed class RegistrationTests(SharedServer server) : ServerTest(server)
{
    [Fact]
    public async Task Names_that_are_none_or_taken_are_refused_for_every_kind()
    {
        var module = await CreateAsync(Specs.Mlp);
        foreach (var name in new[] { "", "a.b", "\n", new string('x', 129), "_extra_state" })
        {
            (await Refusal.OfAsync(() => ParameterAsync(new() { Module = module, Name = name, Tensor = Wire.Floats([1], 1) }), StatusCode.InvalidArgument)).At("name");
            (await Refusal.OfAsync(() => BufferAsync(new() { Module = module, Name = name, Tensor = Wire.Floats([1], 1) }), StatusCode.InvalidArgument)).At("name");
            (await Refusal.OfAsync(() => AddAsync(new() { Module = module, Name = name, Spec = Specs.Linear }), StatusCode.InvalidArgument)).At("name");
        }

        (await Refusal.OfAsync(() => BufferAsync(new() { Module = module, Path = "0", Name = "weight" }), StatusCode.FailedPrecondition, "\"0.weight\"")).For("ATTRIBUTE_EXISTS");
        (await Refusal.OfAsync(() => AddAsync(new() { Module = module, Path = "0", Name = "bias", Spec = Specs.Linear }), StatusCode.FailedPrecondition, "\"0.bias\"")).For("ATTRIBUTE_EXISTS");
        (await Refusal.OfAsync(() => ParameterAsync(new() { Module = module, Name = "0" }), StatusCode.FailedPrecondition, "\"0\"")).For("ATTRIBUTE_EXISTS");
        (await Refusal.OfAsync(() => ParameterAsync(new() { Module = module, Path = "0", Name = "forward" }), StatusCode.FailedPrecondition, "forward")).For("ATTRIBUTE_EXISTS");
        Assert.Equal(1UL, await GenerationAsync(module));
    }

    [Fact]
    public async Task Unknown_modules_paths_and_shares_are_not_found()
    {
        var module = await CreateAsync(Specs.Mlp);
        await Refusal.OfAsync(() => ParameterAsync(new() { Module = "nobody", Name = "a" }), StatusCode.NotFound, "nobody");
        await Refusal.OfAsync(() => ParameterAsync(new() { Module = module, Path = "7", Name = "a" }), StatusCode.NotFound, "\"7\"");
        await Refusal.OfAsync(() => BufferAsync(new() { Module = module, Path = "7", Name = "a" }), StatusCode.NotFound, "\"7\"");
        await Refusal.OfAsync(() => AddAsync(new() { Module = module, Path = "7", Name = "a", Spec = Specs.Linear }), StatusCode.NotFound, "\"7\"");
        await Refusal.OfAsync(() => AddAsync(new() { Module = module, Name = "a", Share = "7" }), StatusCode.NotFound, "\"7\"");
        await Refusal.OfAsync(() => ParameterAsync(new() { Module = module, Name = "a", Share = "0.wieght" }), StatusCode.NotFound, "0.wieght");
        await Refusal.OfAsync(() => ParameterAsync(new() { Module = module, Name = "a", Tensor = new Tensor { KeptId = "never-kept" } }), StatusCode.NotFound, "never-kept");
        await Refusal.OfAsync(async () => await Stubs.Modules.GetParameterAsync(new() { Module = module, Name = "0.running_mean" }), StatusCode.NotFound, "\"weight\", \"bias\"");
        await Refusal.OfAsync(async () => await Stubs.Modules.GetParameterAsync(new() { Module = module, Name = "" }), StatusCode.NotFound);
        await Refusal.OfAsync(async () => await Stubs.Modules.GetParameterAsync(new() { Module = module, Name = "..." }), StatusCode.NotFound);
        await Refusal.OfAsync(async () => await Stubs.Modules.GetBufferAsync(new() { Module = module, Name = "0.weight" }), StatusCode.NotFound, "GetParameter");
        await Refusal.OfAsync(async () => await Stubs.Modules.GetBufferAsync(new() { Module = module, Path = "9", Name = "x" }), StatusCode.NotFound, "\"9\"");
        await Refusal.OfAsync(async () => await Stubs.Modules.SetExtraStateAsync(new() { Module = module, Path = "9", State = ByteString.Empty }), StatusCode.NotFound, "\"9\"");
        await Refusal.OfAsync(async () => await Stubs.Modules.GetExtraStateAsync(new() { Module = module, Path = "9" }), StatusCode.NotFound, "\"9\"");
    }

    [Fact]
    public async Task Tensors_that_do_not_fit_are_named()
    {
        var module = await CreateAsync(Specs.Mlp);
        (await Refusal.OfAsync(() => ParameterAsync(new() { Module = module, Path = "0", Name = "weight", Tensor = Wire.Floats([4], 1, 2, 3, 4) }), StatusCode.InvalidArgument, "[8, 4]", "\"0.weight\"")).At("tensor.shape");
        (await Refusal.OfAsync(() => ParameterAsync(new() { Module = module, Name = "i", Tensor = Wire.Longs([1], 1) }), StatusCode.InvalidArgument, "int64")).At("requires_grad");
        (await Refusal.OfAsync(() => ParameterAsync(new() { Module = module, Name = "i", Tensor = Wire.Of(DataType.Float32, [2], new byte[4]) }), StatusCode.InvalidArgument)).At("tensor.data");
        (await Refusal.OfAsync(() => BufferAsync(new() { Module = module, Name = "i", Tensor = Wire.Of(DataType.Bool, [1], [7]) }), StatusCode.InvalidArgument)).At("tensor.data");
        (await Refusal.OfAsync(() => BufferAsync(new() { Module = module, Name = "i", Tensor = new Tensor { Dtype = DataType.Float32 } }), StatusCode.InvalidArgument)).At("tensor");
        (await Refusal.OfAsync(() => ParameterAsync(new() { Module = module, Path = "0", Name = "weight" }), StatusCode.FailedPrecondition, "\"0.weight\"")).For("PARAMETER_FIXED");
        (await Refusal.OfAsync(() => ParameterAsync(new() { Module = module, Path = "0", Name = "bias", Share = "2.bias" }), StatusCode.InvalidArgument, "[8]", "[3]")).At("share");
        (await Refusal.OfAsync(() => ParameterAsync(new() { Module = module, Name = "t", Share = "2.bias", RequiresGrad = true }), StatusCode.InvalidArgument)).At("share");
        Assert.Equal(1UL, await GenerationAsync(module));
    }

    [Fact]
    public async Task Children_that_cannot_be_are_refused()
    {
        var module = await CreateAsync(Specs.Mlp);
        (await Refusal.OfAsync(() => AddAsync(new() { Module = module, Name = "a" }), StatusCode.InvalidArgument, "share")).At("spec");
        (await Refusal.OfAsync(() => AddAsync(new() { Module = module, Name = "a", Spec = Specs.Linear, Share = "0" }), StatusCode.InvalidArgument)).At("spec");
        (await Refusal.OfAsync(() => AddAsync(new() { Module = module, Name = "a", Share = "0", Seed = 1 }), StatusCode.InvalidArgument)).At("seed");
        (await Refusal.OfAsync(() => AddAsync(new() { Module = module, Name = "a", Share = "" }), StatusCode.InvalidArgument, "contain itself")).At("share");
        (await Refusal.OfAsync(() => AddAsync(new() { Module = module, Name = "a", Spec = Nn.Module("Linear") }), StatusCode.InvalidArgument, "in_features")).At("spec.args.in_features");
        await Refusal.OfAsync(() => AddAsync(new() { Module = module, Name = "a", Spec = Nn.Module("Lineer") }), StatusCode.Unimplemented, "Linear");
        (await Refusal.OfAsync(() => AddAsync(new() { Module = module, Name = "a", Spec = Specs.Linear, Dtype = DataType.Int8 }), StatusCode.InvalidArgument)).At("dtype");
        await Refusal.OfAsync(() => AddAsync(new() { Module = module, Name = "a", Spec = Nn.Linear(1 << 20, 1 << 20) }), StatusCode.ResourceExhausted, "memory_budget_bytes");

        // One more level each time: the depth is that of the whole, not of what is added.
        var path = "";
        var refused = default(RpcException);
        for (var depth = 1; depth < 100 && refused is null; depth++)
        {
            try
            {
                await AddAsync(new() { Module = module, Path = path, Name = "d", Spec = Nn.Sequential() });
                path = path.Length == 0 ? "d" : path + ".d";
            }
            catch (RpcException exception)
            {
                refused = exception;
            }
        }

        Assert.Equal(StatusCode.InvalidArgument, refused!.StatusCode);
        Assert.Contains("max_spec_depth", refused.Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Sharing_cannot_blow_a_module_up()
    {
        // Each level holds the one before twice: 2^n names.
        var module = await CreateAsync(Nn.Sequential(("a", Nn.ReLU())));
        var refused = default(RpcException);
        for (var level = 0; level < 64 && refused is null; level++)
        {
            try
            {
                await AddAsync(new() { Module = module, Name = "n", Spec = Nn.Sequential() });
                await AddAsync(new() { Module = module, Path = "n", Name = "x", Share = "a" });
                await AddAsync(new() { Module = module, Path = "n", Name = "y", Share = "a" });
                await AddAsync(new() { Module = module, Name = "a", Share = "n" });
            }
            catch (RpcException exception)
            {
                refused = exception;
            }
        }

        Assert.Equal(StatusCode.InvalidArgument, refused!.StatusCode);
        Assert.Contains("max_submodules", refused.Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Policies_and_conversions_that_cannot_be_change_nothing()
    {
        var module = await CreateAsync(Nn.Sequential(Nn.Conv2d(1, 2, 3), Nn.Module("Conv3d", ("in_channels", 1), ("out_channels", 1), ("kernel_size", 1))));
        await Refusal.OfAsync(() => PolicyAsync(module, new TrainRule { Path = "7*", Hold = TrainHold.Eval }), StatusCode.NotFound, "policy.rules[0]");
        (await Refusal.OfAsync(() => PolicyAsync(module, new TrainRule { Path = "0" }), StatusCode.InvalidArgument)).At("policy.rules[0]");
        (await Refusal.OfAsync(() => PolicyAsync(module, new TrainRule { Path = "0", Hold = (TrainHold)9 }), StatusCode.InvalidArgument)).At("policy.rules[0].hold");
        (await Refusal.OfAsync(() => ToAsync(new() { Module = module, MemoryFormat = MemoryFormat.ChannelsLast, Dtype = DataType.Float64 }), StatusCode.InvalidArgument, "\"1.weight\"", "5 dimensions")).At("memory_format");
        (await Refusal.OfAsync(() => ToAsync(new() { Module = module, MemoryFormat = (MemoryFormat)9 }), StatusCode.InvalidArgument)).At("memory_format");
        (await Refusal.OfAsync(() => ToAsync(new() { Module = module, Conversion = Conversion.Half, MemoryFormat = MemoryFormat.Contiguous }), StatusCode.InvalidArgument)).At("memory_format");
        (await Refusal.OfAsync(() => ToAsync(new() { Module = module, Conversion = Conversion.ToEmpty, Dtype = DataType.Float16 }), StatusCode.InvalidArgument)).At("dtype");
        foreach (var (conversion, device) in new[] { (Conversion.Ipu, ""), (Conversion.Xpu, "xpu:1"), (Conversion.ToEmpty, "cuda"), (Conversion.Unspecified, "mps"), (Conversion.Cuda, "") })
        {
            (await Refusal.OfAsync(() => ToAsync(new() { Module = module, Conversion = conversion, Device = device }), StatusCode.FailedPrecondition, "cpu")).For("DEVICE_MISMATCH");
        }

        (await Refusal.OfAsync(() => ToAsync(new() { Module = module, Conversion = Conversion.Ipu, Device = "xpu" }), StatusCode.InvalidArgument)).At("device");
        var description = await Stubs.Modules.DescribeModuleAsync(new() { Module = module });
        Assert.Equal(1UL, description.Module.Generation);
        Assert.All(description.Root.Children, child => Assert.Equal((DataType.Float32, MemoryFormat.Contiguous), (child.Parameters[0].Dtype, child.Parameters[0].MemoryFormat)));
    }

    [Fact]
    public async Task Extra_state_of_the_wrong_form_is_refused_by_a_load()
    {
        var module = await CreateAsync(Specs.Linear);
        await Stubs.Modules.SetExtraStateAsync(new() { Module = module, State = ByteString.CopyFromUtf8("x") });
        await using var client = new SconceClient(Server.Process.Address.ToString());
        var state = await client.Module(module).StateDictAsync();
        foreach (var wrong in new[] { TensorData.Scalar((byte)1), TensorData.Create([1f]) })
        {
            var given = new StateDict(state.Select(entry => KeyValuePair.Create(entry.Key, entry.Key == "_extra_state" ? wrong : entry.Value)));
            var error = await Assert.ThrowsAsync<SconceInvalidArgumentException>(() => client.Module(module).LoadStateDictAsync(given));
            Assert.Contains("one dimension of uint8", error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Shared_memory_that_the_operator_did_not_enable_names_the_setting()
    {
        var module = await CreateAsync(Specs.Linear);
        (await Refusal.OfAsync(async () => await Stubs.Modules.ShareMemoryAsync(new() { Module = module }), StatusCode.FailedPrecondition, "shared_memory_dir")).For("SHARED_MEMORY_OFF");
        await Refusal.OfAsync(async () => await Stubs.Modules.ShareMemoryAsync(new() { Module = module, Path = "7" }), StatusCode.NotFound, "\"7\"");
    }

    private Task<RegisterParameterResponse> ParameterAsync(RegisterParameterRequest request) => Stubs.Modules.RegisterParameterAsync(request).ResponseAsync;

    private Task<RegisterBufferResponse> BufferAsync(RegisterBufferRequest request) => Stubs.Modules.RegisterBufferAsync(request).ResponseAsync;

    private Task<AddModuleResponse> AddAsync(AddModuleRequest request) => Stubs.Modules.AddModuleAsync(request).ResponseAsync;

    private Task<ToResponse> ToAsync(ToRequest request) => Stubs.Modules.ToAsync(request).ResponseAsync;

    private Task<SetTrainPolicyResponse> PolicyAsync(string module, TrainRule rule) =>
        Stubs.Modules.SetTrainPolicyAsync(new() { Module = module, Policy = new TrainPolicy { NormEval = true, Rules = { rule } } }).ResponseAsync;

    private async Task<ulong> GenerationAsync(string module) => (await Stubs.Modules.GetModuleAsync(new() { Module = module })).Module.Generation;
}
