using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.Weights;

/// <summary>Weights in and out of files: the caller's own, and those in directories that the operator named.</summary>
public sealed class FileTests : IAsyncLifetime
{
    private readonly string _folder = Directory.CreateTempSubdirectory("sconce-weights-").FullName;
    private SconceProcess _process = null!;
    private SconceClient _client = null!;

    public async ValueTask InitializeAsync()
    {
        var models = Directory.CreateDirectory(Path.Combine(_folder, "models")).FullName;
        _process = await SconceProcess.StartAsync(("models-dir", models), ("export-dir", models));
        _client = new SconceClient(_process.Address.ToString());
    }

    public async ValueTask DisposeAsync()
    {
        await _client.DisposeAsync();
        await _process.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task A_state_goes_through_each_kind_of_file_into_a_new_module()
    {
        var a = await _client.CreateModuleAsync("a", Specs.Conv, seed: 1);
        await a.EvalAsync();
        var x = TensorData.Create(Enumerable.Range(0, 72).Select(i => i / 10f).ToArray(), 2, 1, 6, 6);
        var expected = (await a.ForwardAsync(x)).As<float>().ToArray();
        foreach (var name in (string[])["a.safetensors", "a.pt"])
        {
            var saved = await a.SaveStateFileAsync(name);
            Assert.Equal(9U, saved.Tensors);
            var b = await _client.CreateModuleAsync("b-" + name, Specs.Conv, new CreateModuleOptions { StateFile = name });
            await b.EvalAsync();
            Assert.Equal(expected, (await b.ForwardAsync(x)).As<float>().ToArray());
        }

        Assert.Equal(["a.pt", "a.safetensors"], (await _client.ListModelFilesAsync()).Select(file => file.Name));
        await Assert.ThrowsAsync<SconceAlreadyExistsException>(() => a.SaveStateFileAsync("a.pt"));
        await a.SaveStateFileAsync("a.pt", new SaveStateFileOptions { Overwrite = true });
    }

    [Fact]
    public async Task A_file_of_the_callers_own_is_the_same_as_that_of_the_server()
    {
        var a = await _client.CreateModuleAsync("a", Specs.Conv, seed: 1);
        var mine = Path.Combine(_folder, "mine.safetensors");
        await File.WriteAllTextAsync(mine, "replaced", TestContext.Current.CancellationToken);

        var saved = await a.SaveStateDictAsync(mine);
        var there = await a.SaveStateFileAsync("theirs.safetensors");

        var bytes = await File.ReadAllBytesAsync(mine, TestContext.Current.CancellationToken);
        Assert.Equal(bytes, await File.ReadAllBytesAsync(Path.Combine(_folder, "models", "theirs.safetensors"), TestContext.Current.CancellationToken));
        Assert.Equal((there.Xxh3, bytes.LongLength, 9), (saved.Xxh3, saved.FileBytes, saved.Tensors));
        Assert.Equal([mine], Directory.GetFiles(_folder));

        await Assert.ThrowsAsync<SconceInvalidArgumentException>(() => a.SaveStateDictAsync(mine, new StateDictOptions { DType = DataType.Int8 }));
        Assert.Equal(bytes, await File.ReadAllBytesAsync(mine, TestContext.Current.CancellationToken));
        Assert.Equal([mine], Directory.GetFiles(_folder));
    }

    [Fact]
    public async Task A_state_under_the_keys_of_DataParallel_and_a_part_of_it()
    {
        var a = await _client.CreateModuleAsync("a", Specs.Mlp, seed: 1);
        var state = new StateDict((await a.StateDictAsync()).Select(entry => KeyValuePair.Create("module." + entry.Key, entry.Value)));
        var b = await _client.CreateModuleAsync("b", Specs.Mlp, new CreateModuleOptions { Seed = 2 });

        await b.LoadStateDictAsync(state, new LoadStateDictOptions { StripPrefix = "module.", Keys = ["0.*"] });
        Assert.Equal(["0.bias"], (await b.StateDictAsync(new StateDictOptions { Prefix = "0.", Keys = ["*bias"], DType = DataType.Float64 })).Select(entry => entry.Key));
        Assert.Equal(state["module.0.weight"].As<float>().ToArray(), (await b.StateDictAsync())["0.weight"].As<float>().ToArray());
        Assert.NotEqual(state["module.2.weight"].As<float>().ToArray(), (await b.StateDictAsync())["2.weight"].As<float>().ToArray());

        var c = await _client.CreateModuleAsync("c", Specs.Mlp, new CreateModuleOptions { State = await a.StateDictAsync() });
        Assert.Equal(state["module.2.weight"].As<float>().ToArray(), (await c.StateDictAsync())["2.weight"].As<float>().ToArray());
    }
}
