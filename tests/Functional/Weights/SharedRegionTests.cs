using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.Weights;

/// <summary>A server that shares memory, and a client of it.</summary>
public sealed class SharingServer : IAsyncLifetime
{
    private readonly string _folder = Directory.CreateTempSubdirectory("sconce-shared-").FullName;

    /// <summary>A folder for what tests need, the socket in it.</summary>
    internal string Folder => _folder;

    internal SconceProcess Process { get; private set; } = null!;

    internal SconceClient Client { get; private set; } = null!;

    internal string Socket => Path.Combine(_folder, "shm.sock");

    public async ValueTask InitializeAsync()
    {
        Process = await StartAsync(Socket);
        Client = ClientOf(Process, Socket);
    }

    public async ValueTask DisposeAsync()
    {
        await Client.DisposeAsync();
        var errors = Process.ErrorLines;
        await Process.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
        Assert.Empty(errors);
    }

    internal static Task<SconceProcess> StartAsync(string socket) => SconceProcess.StartAsync(("shared-memory-socket", socket), ("max-shared-region-bytes", "1MiB"));

    internal static SconceClient ClientOf(SconceProcess process, string socket) => new(new SconceClientOptions { Address = process.Address.ToString(), SharedMemorySocket = socket });
}

/// <summary>Weights through memory that a client and a server in another process share.</summary>
public sealed class SharedRegionTests(SharingServer server) : IClassFixture<SharingServer>
{
    private readonly SconceClient _client = server.Client;

    [Fact]
    public async Task A_state_goes_through_shared_memory_into_a_live_module_and_a_new_one()
    {
        var a = await _client.CreateModuleAsync("conv-a", Specs.Conv, seed: 1);
        var state = await a.StateDictAsync();
        await a.EvalAsync();
        var x = TensorData.Create(Enumerable.Range(0, 72).Select(i => i / 10f).ToArray(), 2, 1, 6, 6);
        var expected = (await a.ForwardAsync(x)).As<float>().ToArray();

        var b = await _client.CreateModuleAsync("conv-b", Specs.Conv, seed: 2);
        var loaded = await b.LoadStateSharedAsync(state);
        Assert.Equal((9U, StateFileFormat.Safetensors, (ulong)state.TotalBytes), (loaded.LoadedTensors, loaded.Format, loaded.Bytes));

        using var region = await _client.RentSharedRegionAsync(SharedRegion.BytesOf(state) + 100);
        var bytes = region.WriteStateDict(state);
        Assert.Equal(region.Length - 100, bytes);
        var c = await _client.CreateModuleAsync("conv-c", Specs.Conv, new CreateModuleOptions { StateRegion = region, StateRegionBytes = bytes });
        foreach (var module in (RemoteModule[])[b, c])
        {
            await module.EvalAsync();
            Assert.Equal(expected, (await module.ForwardAsync(x)).As<float>().ToArray());
        }

        await Assert.ThrowsAsync<SconceInvalidArgumentException>(() => b.LoadStateSharedAsync(region));
        Assert.Equal(8U, (await b.LoadStateSharedAsync(region, new LoadStateDictOptions { Keys = ["stem.*", "head.weight"] }, bytes)).LoadedTensors);
    }

    [Fact]
    public async Task Tensors_of_every_kind_arrive_as_they_were()
    {
        var state = new StateDict
        {
            ["b"] = TensorData.Create(new[] { true, false, true }, 3),
            ["d"] = TensorData.Scalar(0.1),
            ["i"] = TensorData.Create(new byte[] { 7 }, 1, 1),
            ["f"] = TensorData.Create(new[] { (Half)1.5f, (Half)(-2) }, 2),
            ["l"] = TensorData.Create(new[] { long.MinValue }, 1),
            ["c"] = TensorData.Create(new[] { new Complex64(1, -2) }, 1),
            ["e"] = TensorData.Create(Array.Empty<short>(), 0, 4),
        };
        var module = await _client.CreateModuleAsync("kinds", Specs.Identity);
        foreach (var (name, tensor) in state)
        {
            await module.RegisterBufferAsync(name, TensorData.FromBytes(tensor.DType, tensor.Shape.AsSpan(), new byte[tensor.Bytes.Length]));
        }

        await module.LoadStateSharedAsync(state);

        var there = await module.StateDictAsync();
        Assert.Equal(state.Keys, there.Keys);
        Assert.All(state, entry => Assert.Equal((entry.Value.ToString(), Convert.ToHexString(entry.Value.Bytes.Span)), (there[entry.Key].ToString(), Convert.ToHexString(there[entry.Key].Bytes.Span))));
    }

    [Fact]
    public async Task A_file_is_copied_into_a_region_as_into_any_stream()
    {
        var a = await _client.CreateModuleAsync("a", Specs.Mlp, seed: 1);
        var b = await _client.CreateModuleAsync("b", Specs.Mlp, seed: 2);
        var file = Path.Combine(server.Folder, "a.safetensors");
        var saved = await a.SaveStateDictAsync(file);
        using var region = await _client.RentSharedRegionAsync(saved.FileBytes);

        await using (var stream = region.OpenStream())
        {
            await using var source = File.OpenRead(file);
            await source.CopyToAsync(stream, TestContext.Current.CancellationToken);
            Assert.Throws<IOException>(() => stream.WriteByte(0));
            Assert.Equal(0, stream.Seek(-saved.FileBytes, SeekOrigin.End));
            var back = new MemoryStream();
            await stream.CopyToAsync(back, TestContext.Current.CancellationToken);
            Assert.Equal(await File.ReadAllBytesAsync(file, TestContext.Current.CancellationToken), back.ToArray());
        }

        await b.LoadStateSharedAsync(region);
        Assert.Equal((await a.StateDictAsync())["0.weight"].As<float>().ToArray(), (await b.StateDictAsync())["0.weight"].As<float>().ToArray());
    }

    [Fact]
    public async Task What_cannot_be_had_throws_what_callers_branch_on()
    {
        var module = await _client.CreateModuleAsync("linear", Specs.Linear);
        var large = await Assert.ThrowsAsync<SconceResourceExhaustedException>(() => _client.RentSharedRegionAsync(2 << 20));
        Assert.Contains("max_shared_region_bytes", large.Message, StringComparison.Ordinal);

        var region = await _client.RentSharedRegionAsync(10);
        Assert.Throws<ArgumentOutOfRangeException>(() => region.Write(new byte[2], 9));
        Assert.Throws<ArgumentException>(() => region.WriteStateDict(new StateDict { ["a"] = TensorData.Scalar(1f) }));
        region.Dispose();
        Assert.Throws<ObjectDisposedException>(() => region.Write(new byte[1]));
        await Eventually.TrueAsync(async () => (await _client.GetHostAsync()).Memory.SharedRegionBytes == 0, () => Task.FromResult("the region's memory was not given back"));
        var gone = await Assert.ThrowsAsync<SconceNotFoundException>(() => module.LoadStateSharedAsync(region));
        Assert.Equal("region", gone.Resource!.Type);

        await using var elsewhere = new SconceClient(new SconceClientOptions { Address = server.Process.Address.ToString(), SharedMemorySocket = server.Socket + ".none" });
        Assert.Contains("shared_memory_socket", (await Assert.ThrowsAsync<SconceUnavailableException>(() => elsewhere.RentSharedRegionAsync(1))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_region_ends_with_its_server_and_the_next_one_takes_the_socket_over()
    {
        var socket = server.Socket + ".2";
        SharedRegion region;
        await using (var first = await SharingServer.StartAsync(socket))
        {
            await using var of = SharingServer.ClientOf(first, socket);
            region = await of.RentSharedRegionAsync(100);
            first.KillNow();
            await first.WaitForExitAsync();
        }

        Assert.True(File.Exists(socket));

        // The memory is this process's too.
        region.Write(new byte[100]);
        await using var second = await SharingServer.StartAsync(socket);
        await using var client = SharingServer.ClientOf(second, socket);
        var module = await client.CreateModuleAsync("m", Specs.Linear);
        await Assert.ThrowsAsync<SconceNotFoundException>(() => module.LoadStateSharedAsync(region));
        await module.LoadStateSharedAsync(await module.StateDictAsync());
        region.Dispose();
    }
}
