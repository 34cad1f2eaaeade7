using Grpc.Core;

namespace Sconce.Server.Tests.Wire;

/// <summary>Modules that come to life with their weights, from the message or from a file.</summary>
public sealed class InitialStateTests : SweepTest
{
    [Fact]
    public async Task A_module_begins_with_the_tensors_of_the_message()
    {
        var made = (await CreateAsync("new", new() { State = { Entry("weight", 1, 1), Entry("bias", 1) } })).Module;

        Assert.Equal((1UL, true), (made.Generation, made.Training));
        Assert.Equal(10f, await ForwardAsync("new"));
    }

    [Fact]
    public async Task A_module_begins_with_a_kept_tensor_that_stays_as_it_is()
    {
        await Server.Tensors.PutTensorAsync(new() { Id = "w", Tensor = Make.Floats([1, 1], 7) });
        await CreateAsync("new", new() { State = { new V1.StateTensor { Key = "weight", Tensor = new() { KeptId = "w" } }, Entry("bias", 1) } });

        await Server.Modules.ApplyAsync(new() { Module = "new", Function = "zeros_" });

        Assert.Equal<float[]>([7f], Make.Floats((await Server.Tensors.GetTensorAsync(new() { Id = "w" })).Tensor));
    }

    [Fact]
    public async Task A_module_begins_with_a_file_in_its_own_dtype_or_that_of_the_file()
    {
        await CreateAsync("m2", new() { StateFile = new() { Name = "m.safetensors" } });
        Assert.Equal(await ForwardAsync("m"), await ForwardAsync("m2"));
        Assert.Equal(1UL, (await Server.Modules.GetModuleAsync(new() { Module = "m2" })).Module.Generation);

        await CreateAsync("half", new() { Dtype = V1.DataType.Float16, StateFile = new() { Name = "m.safetensors", Assign = true } });
        Assert.Equal(await ForwardAsync("m"), await ForwardAsync("half"));
    }

    [Fact]
    public async Task Not_strict_leaves_initial_values_where_none_are_given()
    {
        await CreateAsync("part", new() { StateStrict = false, Seed = 1, State = { Entry("bias", 1), Entry("more", 1) } });
        Assert.Equal<float[]>([5f], Make.Floats((await Server.Modules.GetParameterAsync(new() { Module = "part", Name = "bias" })).Tensor));
    }

    [Fact]
    public async Task Where_they_do_not_fit_nothing_is_made_and_the_name_is_free()
    {
        var used = (await Server.Host.GetHostAsync(new())).Memory.UsedBytes;
        foreach (var (request, field) in new (V1.CreateModuleRequest, string)[]
        {
            (new() { State = { Entry("weight", 1, 2), Entry("bias", 1) } }, "state[0]"),
            (new() { State = { Entry("weight", 1, 1) } }, "state"),
            (new() { State = { Entry("bias", 1), Entry("bias", 1) } }, "state[1].key"),
            (new() { State = { new V1.StateTensor { Key = "bias" } } }, "state[0].tensor"),
            (new() { StateFile = new() { Name = "../m.safetensors" } }, "state_file.name"),
            (new() { StateFile = new() { Name = "m.safetensors", AddPrefix = "x." } }, "state_file.name"),
            (new() { StateFile = new() { Name = "m.safetensors" }, State = { Entry("bias", 1) } }, "state_file"),
        })
        {
            (await Refused.OfAsync(CreateAsync("new", request))).Is(StatusCode.InvalidArgument, field);
        }

        (await Refused.OfAsync(CreateAsync("new", new() { StateFile = new() { Name = "none" } }))).Is(StatusCode.NotFound, resource: "file");
        Assert.Equal(used, (await Server.Host.GetHostAsync(new())).Memory.UsedBytes);
        await CreateAsync("new", new());
    }

    private static V1.StateTensor Entry(string key, params long[] shape) =>
        new() { Key = key, Tensor = Make.Floats(shape, [.. Enumerable.Repeat(5f, (int)shape.Aggregate(1L, (a, b) => a * b))]) };

    private Task<V1.CreateModuleResponse> CreateAsync(string name, V1.CreateModuleRequest request)
    {
        request.Module = name;
        request.Spec = Make.Linear(1, 1);
        return Server.Modules.CreateModuleAsync(request).ResponseAsync;
    }

    private async Task<float> ForwardAsync(string module) => Make.Floats((await Server.Execution.ForwardAsync(Make.Forward(module, Make.Floats([1, 1], 1)))).Output.Tensor)[0];
}
