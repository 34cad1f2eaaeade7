using Google.Rpc;
using Grpc.Core;

namespace Sconce.Server.Tests.Wire;

/// <summary>nn.Module's methods, kept tensors and sessions over a socket.</summary>
public sealed class ModuleTests : IAsyncLifetime
{
    private RunningServer _server = null!;

    public async ValueTask InitializeAsync()
    {
        _server = await RunningServer.StartAsync(options => options.SessionHeartbeat = TimeSpan.FromMilliseconds(100));
        await _server.Modules.CreateModuleAsync(new V1.CreateModuleRequest { Module = "m", Spec = Make.Sequential(Make.Linear(4, 3), Make.Linear(3, 2)) });
    }

    public async ValueTask DisposeAsync()
    {
        Assert.Empty(_server.Errors);
        await _server.DisposeAsync();
    }

    [Fact]
    public async Task GetHost_describes_device_and_limits()
    {
        var host = await _server.Host.GetHostAsync(new V1.GetHostRequest());

        Assert.Equal(("cpu", "1.0", 1u), (host.Device, host.ContractVersion, host.Modules));
        Assert.True(host.Memory is { BudgetBytes: > 0, UsedBytes: > 0, ResidentBytes: > 0 });
        Assert.All(
            ["max_message_bytes", "request_id_retention", "request_id_capacity", "stream_idle_timeout", "stream_min_bytes_per_second", "graph_ttl", "kept_tensor_ttl", "memory_budget_bytes", "max_queue"],
            name => Assert.True(host.Limits.ContainsKey(name), name));
        Assert.DoesNotContain("address_file", host.Limits.Keys);
    }

    [Fact]
    public async Task ListModuleTypes_filters_by_kind_and_name()
    {
        var linear = (await _server.Host.ListModuleTypesAsync(new V1.ListModuleTypesRequest { NameContains = "LINEAR", Kind = V1.TypeKind.Module })).Types_.Single(type => type.Name == "Linear");
        var optimizers = (await _server.Host.ListModuleTypesAsync(new V1.ListModuleTypesRequest { Kind = V1.TypeKind.Optimizer })).Types_;

        Assert.Equal(["in_features", "out_features"], linear.Arguments.Where(argument => argument.Required).Select(argument => argument.Name));
        Assert.True(linear.Arguments.Single(argument => argument.Name == "bias").DefaultValue.BoolValue);
        Assert.Contains("SGD", optimizers.Select(type => type.Name));
        Assert.All(optimizers, type => Assert.Equal(V1.TypeKind.Optimizer, type.Kind));
    }

    [Fact]
    public async Task Each_method_is_logged_at_its_first_call()
    {
        await _server.Modules.GetModuleAsync(new V1.GetModuleRequest { Module = "m" });
        await _server.Modules.GetModuleAsync(new V1.GetModuleRequest { Module = "m" });

        Assert.Single(_server.Log, line => line.Contains("First use of method /sconce.v1.ModuleService/GetModule", StringComparison.Ordinal));
        Assert.Single(_server.Log, line => line.Contains("First use of type Linear", StringComparison.Ordinal));
    }

    [Fact]
    public async Task DescribeModule_shows_the_tree()
    {
        var description = await _server.Modules.DescribeModuleAsync(new V1.DescribeModuleRequest { Module = "m" });

        Assert.Equal("Sequential(\n  (0): Linear(in_features=4, out_features=3, bias=True)\n  (1): Linear(in_features=3, out_features=2, bias=True)\n)", description.Repr);
        Assert.Equal(["0", "1"], description.Root.Children.Select(child => child.Path));
        Assert.Equal(["weight", "bias"], description.Root.Children[0].Parameters.Select(parameter => parameter.Name));
        Assert.False(description.TrainPolicy.NormEval);
    }

    [Fact]
    public async Task Empty_requests_mean_pytorchs_defaults()
    {
        Assert.False((await _server.Modules.TrainAsync(new V1.TrainRequest { Module = "m", Mode = false })).Module.Training);
        Assert.True((await _server.Modules.TrainAsync(new V1.TrainRequest { Module = "m" })).Module.Training);
        await _server.Modules.RequiresGradAsync(new V1.RequiresGradRequest { Module = "m", RequiresGrad = false, Parameters = { "0.*" } });
        Assert.Equal([false, false, true, true], await RequiresGradAsync());
        await _server.Modules.RequiresGradAsync(new V1.RequiresGradRequest { Module = "m" });
        Assert.Equal([true, true, true, true], await RequiresGradAsync());
        await _server.Modules.ZeroGradAsync(new V1.ZeroGradRequest { Module = "m" });
    }

    [Fact]
    public async Task Train_policy_survives_train()
    {
        await _server.Modules.SetTrainPolicyAsync(new V1.SetTrainPolicyRequest { Module = "m", Policy = new V1.TrainPolicy { NormEval = true, Frozen = { "0" } } });
        await _server.Modules.TrainAsync(new V1.TrainRequest { Module = "m" });
        var description = await _server.Modules.DescribeModuleAsync(new V1.DescribeModuleRequest { Module = "m" });

        Assert.Equal((true, false, true), (description.Root.Training, description.Root.Children[0].Training, description.Root.Children[1].Training));
        Assert.Equal(["0"], description.TrainPolicy.Frozen);
    }

    [Theory]
    [InlineData(V1.Conversion.Half, V1.DataType.Float16)]
    [InlineData(V1.Conversion.Bfloat16, V1.DataType.Bfloat16)]
    [InlineData(V1.Conversion.Double, V1.DataType.Float64)]
    [InlineData(V1.Conversion.Float, V1.DataType.Float32)]
    [InlineData(V1.Conversion.Cpu, V1.DataType.Float32)]
    public async Task To_by_name_converts(V1.Conversion conversion, V1.DataType expected)
    {
        await _server.Modules.ToAsync(new V1.ToRequest { Module = "m", Conversion = conversion });
        var description = await _server.Modules.DescribeModuleAsync(new V1.DescribeModuleRequest { Module = "m", Path = "0" });

        Assert.All(description.Root.Parameters, parameter => Assert.Equal(expected, parameter.Dtype));
    }

    [Fact]
    public async Task To_what_cannot_be_is_refused()
    {
        var cuda = await RunningServer.RefusedAsync(_server.Modules.ToAsync(new V1.ToRequest { Module = "m", Conversion = V1.Conversion.Cuda }));
        var nothing = await RunningServer.RefusedAsync(_server.Modules.ToAsync(new V1.ToRequest { Module = "m" }));
        var unknown = await RunningServer.RefusedAsync(_server.Modules.ToAsync(new V1.ToRequest { Module = "m", Conversion = (V1.Conversion)99 }));

        Assert.Equal([StatusCode.FailedPrecondition, StatusCode.InvalidArgument, StatusCode.InvalidArgument], new[] { cuda, nothing, unknown }.Select(error => error.StatusCode));
    }

    [Fact]
    public async Task Apply_fills_what_the_filter_selects()
    {
        var response = await _server.Modules.ApplyAsync(
            new V1.ApplyRequest { Module = "m", Function = "constant_", Type = "Linear", Glob = "1", Args = Make.Args(("val", 0.25)), Parameters = { "weight" } });
        var output = await _server.Execution.ForwardAsync(new V1.ForwardRequest { Module = "m", Path = "1", Inputs = { Make.Floats([1, 3], 0, 0, 0) } });

        Assert.Equal(["1"], response.Applied);
        Assert.NotEqual([0.25f, 0.25f], Make.Floats(output.Output.Tensor));
    }

    [Fact]
    public async Task CopyModule_makes_an_independent_module()
    {
        var copy = await _server.Modules.CopyModuleAsync(new V1.CopyModuleRequest { Module = "m", Path = "0", Copy = "c" });
        var taken = await RunningServer.RefusedAsync(_server.Modules.CopyModuleAsync(new V1.CopyModuleRequest { Module = "m", Copy = "c" }));
        var listed = await _server.Modules.ListModulesAsync(new V1.ListModulesRequest());

        Assert.Equal(("c", "Linear", 15UL), (copy.Module.Name, copy.Module.Type, copy.Module.Parameters));
        Assert.Equal(StatusCode.AlreadyExists, taken.StatusCode);
        Assert.Equal(["c", "m"], listed.Modules.Select(module => module.Name));
    }

    [Fact]
    public async Task DeleteModule_repeated_with_its_request_id_is_answered_again()
    {
        var request = new V1.DeleteModuleRequest { Module = "m", RequestId = "d" };
        await _server.Modules.DeleteModuleAsync(request);
        await _server.Modules.DeleteModuleAsync(request);

        request.RequestId = "e";
        Assert.Equal(StatusCode.NotFound, (await RunningServer.RefusedAsync(_server.Modules.DeleteModuleAsync(request))).StatusCode);
    }

    public static TheoryData<string, V1.ModuleSpec?, StatusCode, string> BadSpecs() => new()
    {
        { "none", null, StatusCode.InvalidArgument, "spec" },
        { "unknown type", new V1.ModuleSpec { Type = "Linea" }, StatusCode.Unimplemented, "Linear" },
        { "missing", new V1.ModuleSpec { Type = "Linear", Args = Make.Args(("in_features", 1)) }, StatusCode.InvalidArgument, "spec.args.out_features" },
        { "extra", new V1.ModuleSpec { Type = "Linear", Args = Make.Args(("in_features", 1), ("out_features", 1), ("biass", true)) }, StatusCode.InvalidArgument, "spec.args.biass" },
        { "nested", Make.Sequential(Make.Linear(1, 1), Make.Linear(-1, 1)), StatusCode.InvalidArgument, "spec.children[1].spec.args.in_features" },
        { "empty child", new V1.ModuleSpec { Type = "Sequential", Children = { new V1.ChildSpec { Name = "a" } } }, StatusCode.InvalidArgument, "spec.children[0]" },
        { "groups", new V1.ModuleSpec { Type = "Conv2d", Args = Make.Args(("in_channels", 4), ("out_channels", 4), ("kernel_size", 3), ("groups", 0)) }, StatusCode.InvalidArgument, "groups" },
        { "divide", new V1.ModuleSpec { Type = "Conv2d", Args = Make.Args(("in_channels", 4), ("out_channels", 4), ("kernel_size", 3), ("groups", 3)) }, StatusCode.InvalidArgument, "groups" },
        { "too large", Make.Linear(1 << 30, 1 << 20), StatusCode.ResourceExhausted, "memory_budget_bytes" },
        { "deep", Enumerable.Range(0, 39).Aggregate(Make.Linear(1, 1), (inner, _) => Make.Sequential(inner)), StatusCode.OK, "" },
        { "too deep", Enumerable.Range(0, 41).Aggregate(Make.Linear(1, 1), (inner, _) => Make.Sequential(inner)), StatusCode.InvalidArgument, "max_spec_depth" },
        { "too deep for protobuf", Enumerable.Range(0, 60).Aggregate(Make.Linear(1, 1), (inner, _) => Make.Sequential(inner)), StatusCode.InvalidArgument, "100 messages deep" },
    };

    [Theory]
    [MemberData(nameof(BadSpecs))]
    public async Task CreateModule_bad_spec_names_its_place(string _, V1.ModuleSpec? spec, StatusCode code, string words)
    {
        var request = new V1.CreateModuleRequest { Module = "new", Spec = spec };
        if (code == StatusCode.OK)
        {
            await _server.Modules.CreateModuleAsync(request);
            return;
        }

        var error = await RunningServer.RefusedAsync(_server.Modules.CreateModuleAsync(request));

        Assert.Equal(code, error.StatusCode);
        Assert.Contains(words, error.Status.Detail, StringComparison.Ordinal);
        if (code == StatusCode.ResourceExhausted)
        {
            Assert.Equal("memory_budget_bytes", error.GetRpcStatus()!.GetDetail<QuotaFailure>().Violations[0].Subject);
        }

        Assert.Equal(StatusCode.NotFound, (await RunningServer.RefusedAsync(_server.Modules.GetModuleAsync(new V1.GetModuleRequest { Module = "new" }))).StatusCode);
    }

    [Fact]
    public async Task PutTensor_is_used_by_id_and_read_back()
    {
        var tensor = Make.Floats([1, 4], 1, 2, 3, 4);
        var kept = (await _server.Tensors.PutTensorAsync(new V1.PutTensorRequest { Id = "t", Tensor = tensor })).Tensor;
        var chosen = (await _server.Tensors.PutTensorAsync(new V1.PutTensorRequest { Tensor = tensor })).Tensor;

        Assert.Equal(("t", V1.DataType.Float32), (kept.Id, kept.Dtype));
        Assert.Equal(tensor, (await _server.Tensors.GetTensorAsync(new V1.GetTensorRequest { Id = "t" })).Tensor);
        Assert.Equal(
            (await _server.Execution.ForwardAsync(Make.Forward("m", tensor))).Output,
            (await _server.Execution.ForwardAsync(Make.Forward("m", new V1.Tensor { KeptId = chosen.Id }))).Output);
        Assert.Equal(StatusCode.InvalidArgument, (await RunningServer.RefusedAsync(_server.Execution.ForwardAsync(Make.Forward("m", new V1.Tensor { KeptId = "t", Dtype = V1.DataType.Int64 })))).StatusCode);
        Assert.Equal(StatusCode.AlreadyExists, (await RunningServer.RefusedAsync(_server.Tensors.PutTensorAsync(new V1.PutTensorRequest { Id = "t", Tensor = tensor }))).StatusCode);
        Assert.Equal(2, (await _server.Tensors.ListTensorsAsync(new V1.ListTensorsRequest())).Tensors.Count);
        await _server.Tensors.DropTensorAsync(new V1.DropTensorRequest { Id = "t" });
        Assert.Equal(StatusCode.NotFound, (await RunningServer.RefusedAsync(_server.Tensors.GetTensorAsync(new V1.GetTensorRequest { Id = "t" }))).StatusCode);
    }

    [Fact]
    public async Task PutTensor_without_content_or_with_an_odd_ttl_is_refused()
    {
        async Task<string> FieldAsync(V1.PutTensorRequest request) =>
            (await RunningServer.RefusedAsync(_server.Tensors.PutTensorAsync(request))).GetRpcStatus()!.GetDetail<BadRequest>().FieldViolations[0].Field;

        var tensor = Make.Floats([1], 1);
        Assert.Equal("tensor", await FieldAsync(new V1.PutTensorRequest()));
        Assert.Equal("tensor", await FieldAsync(new V1.PutTensorRequest { Tensor = new V1.Tensor() }));
        Assert.Equal("tensor", await FieldAsync(new V1.PutTensorRequest { Tensor = new V1.Tensor { KeptId = "t" } }));
        Assert.Equal("tensor.shape[0]", await FieldAsync(new V1.PutTensorRequest { Tensor = new V1.Tensor { Dtype = V1.DataType.Bool, Shape = { -1 }, Data = Google.Protobuf.ByteString.Empty } }));
        Assert.Equal("ttl", await FieldAsync(new V1.PutTensorRequest { Tensor = tensor, Ttl = new() }));
        Assert.Equal("ttl", await FieldAsync(new V1.PutTensorRequest { Tensor = tensor, Ttl = new() { Seconds = long.MaxValue } }));
        Assert.Equal("ttl", await FieldAsync(new V1.PutTensorRequest { Tensor = tensor, Ttl = new() { Seconds = 1, Nanos = 2_000_000_000 } }));
    }

    [Fact]
    public async Task OpenSession_beats_and_its_end_frees_what_it_owns()
    {
        using (var session = _server.Tensors.OpenSession(new V1.OpenSessionRequest { Label = "test" }))
        {
            Assert.True(await session.ResponseStream.MoveNext(default));
            var id = session.ResponseStream.Current.Session;
            await _server.Tensors.PutTensorAsync(new V1.PutTensorRequest { Id = "t", Tensor = Make.Floats([1], 1), Session = id });
            var forward = Make.Forward("m", Make.Floats([1, 4], 1, 2, 3, 4));
            forward.RecordGraph = true;
            forward.Session = id;
            await _server.Execution.ForwardAsync(forward);
            Assert.True(await session.ResponseStream.MoveNext(default).WaitAsync(TimeSpan.FromSeconds(10)));
            Assert.Equal(id, session.ResponseStream.Current.Session);
            Assert.Equal(1u, (await _server.Host.GetHostAsync(new V1.GetHostRequest())).LiveGraphs);
        }

        await Eventually.TrueAsync(async () =>
            (await _server.Host.GetHostAsync(new V1.GetHostRequest())).LiveGraphs == 0 && (await _server.Tensors.ListTensorsAsync(new V1.ListTensorsRequest())).Tensors.Count == 0);
    }

    [Fact]
    public async Task OpenSession_with_an_odd_label_is_refused()
    {
        using var session = _server.Tensors.OpenSession(new V1.OpenSessionRequest { Label = "a\nb" });

        Assert.Equal(StatusCode.InvalidArgument, (await Assert.ThrowsAsync<RpcException>(() => session.ResponseStream.MoveNext(default))).StatusCode);
    }

    private async Task<IEnumerable<bool>> RequiresGradAsync() =>
        (await _server.Modules.DescribeModuleAsync(new V1.DescribeModuleRequest { Module = "m" })).Root.Children.SelectMany(child => child.Parameters).Select(parameter => parameter.RequiresGrad);
}
