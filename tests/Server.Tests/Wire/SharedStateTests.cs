using System.Buffers.Binary;
using System.Text;
using Grpc.Core;
using Sconce.Server.Tests.Regions;

namespace Sconce.Server.Tests.Wire;

/// <summary>Weights from memory that a caller has too, and may write to when it likes.</summary>
public sealed class SharedStateTests : IAsyncLifetime
{
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("sconce-shared-state-");
    private RunningServer _server = null!;

    private string Socket => Path.Combine(_directory.FullName, "shm.sock");

    public async ValueTask InitializeAsync()
    {
        _server = await RunningServer.StartAsync(options => (options.SharedMemorySocket, options.Engine.ExportDir) = (Socket, _directory.FullName));
        await Make.ModuleAsync(_server, "m", Make.Linear(1, 1));
    }

    public async ValueTask DisposeAsync()
    {
        Assert.Empty(_server.Errors);
        await _server.DisposeAsync();
        _directory.Delete(recursive: true);
    }

    [Theory]
    [InlineData("f.safetensors", V1.StateFileFormat.Safetensors)]
    [InlineData("f.pt", V1.StateFileFormat.TorchZip)]
    public async Task A_file_in_a_region_is_loaded_and_a_module_begins_with_it(string name, V1.StateFileFormat format)
    {
        using var region = RegionCaller.RentWith(Socket, await FileAsync(name), more: 1);
        var bytes = region.Bytes - 1;
        await _server.Modules.ApplyAsync(new() { Module = "m", Function = "zeros_" });

        var loaded = await LoadAsync(new() { Region = region.Id, Bytes = bytes });

        Assert.Equal((2U, 8UL, format, 4UL), (loaded.LoadedTensors, loaded.Bytes, loaded.Format, loaded.Generation));
        Assert.Equal(6f, await ForwardAsync("m"));
        await _server.Modules.CreateModuleAsync(new() { Module = "n", Spec = Make.Linear(1, 1), StateShared = new() { Region = region.Id, Bytes = bytes } });
        Assert.Equal(6f, await ForwardAsync("n"));

        // The region is the caller's still.
        region.Write([0]);
        Assert.Equal(6f, await ForwardAsync("n"));
    }

    [Fact]
    public async Task A_part_of_it_under_other_keys_and_assigned()
    {
        using var region = RegionCaller.RentWith(Socket, Safetensors(("module.bias", "F64", BitConverter.GetBytes(7.0))));

        var loaded = await LoadAsync(new() { Region = region.Id, StripPrefix = "module.", Keys = { "bias" }, Assign = true });

        Assert.Equal((1U, 8UL), (loaded.LoadedTensors, loaded.Bytes));
        Assert.Equal(V1.DataType.Float64, (await _server.Modules.GetParameterAsync(new() { Module = "m", Name = "bias" })).Info.Dtype);
        Assert.Equal(["weight"], (await LoadAsync(new() { Region = region.Id, Strict = false, StripPrefix = "module." })).MissingKeys);
    }

    [Fact]
    public async Task A_server_that_shares_no_memory_names_the_setting()
    {
        await using var server = await RunningServer.StartAsync();
        await Make.ModuleAsync(server, "m", Make.Linear(1, 1));
        var state = new V1.SharedState { Region = new string('0', 32) };

        foreach (var call in (Task[])[
            server.State.LoadStateSharedAsync(new() { Module = "m", State = state }).ResponseAsync,
            server.Modules.CreateModuleAsync(new() { Module = "new", Spec = Make.Linear(1, 1), StateShared = state }).ResponseAsync])
        {
            var refused = (await Refused.OfAsync(call)).Is(StatusCode.FailedPrecondition);
            Assert.Equal("SHARED_REGIONS_OFF", refused.Reason);
            Assert.Contains("shared_memory_socket", refused.Message, StringComparison.Ordinal);
        }

        Assert.Equal("m", Assert.Single((await server.Modules.ListModulesAsync(new())).Modules).Name);
    }

    [Fact]
    public async Task What_is_no_region_or_not_that_much_of_one_is_told_by_its_field()
    {
        using var region = RegionCaller.RentWith(Socket, Safetensors(("weight", "F32", new byte[4]), ("bias", "F32", new byte[4])));

        var before = await GenerationAsync();
        (await RefusedAsync(new() { Region = new string('0', 32) })).Is(StatusCode.NotFound, resource: "region");
        foreach (var id in (string[])["", region.Id[1..], region.Id + "0", region.Id.ToUpperInvariant() + "A", "../../etc/passwd", new string('g', 32), "0\n[ERR] forged"])
        {
            (await RefusedAsync(new() { Region = id })).Is(StatusCode.InvalidArgument, "state.region");
        }

        Assert.Contains($"the region has {region.Bytes}", (await RefusedAsync(new() { Region = region.Id, Bytes = region.Bytes + 1 })).Is(StatusCode.InvalidArgument, "state.bytes").Message, StringComparison.Ordinal);
        (await RefusedAsync(new() { Region = region.Id, Bytes = ulong.MaxValue })).Is(StatusCode.InvalidArgument, "state.bytes");
        (await RefusedAsync(null)).Is(StatusCode.InvalidArgument, "state");
        (await RefusedAsync(new() { Region = region.Id, RootKey = "x" })).Is(StatusCode.InvalidArgument, "state.root_key");
        foreach (var request in (V1.CreateModuleRequest[])[new() { StateFile = new() { Name = "a" } }, new() { State = { new V1.StateTensor { Key = "weight", Tensor = Make.Floats([1], 1) } } }])
        {
            (request.Module, request.Spec, request.StateShared) = ("new", Make.Linear(1, 1), new() { Region = region.Id });
            (await Refused.OfAsync(_server.Modules.CreateModuleAsync(request).ResponseAsync)).Is(StatusCode.InvalidArgument, "state_shared");
        }

        await UnchangedAsync(before);
    }

    [Fact]
    public async Task Damaged_content_changes_nothing_and_makes_no_module()
    {
        var file = Safetensors(("weight", "F32", new byte[4]), ("bias", "F32", new byte[4]));
        var zip = await FileAsync("f.pt");
        var before = await GenerationAsync();
        var cases = new (byte[] Content, StatusCode Code)[]
        {
            (new byte[100], StatusCode.InvalidArgument),
            ([.. file, 0], StatusCode.InvalidArgument),
            (file[..^1], StatusCode.InvalidArgument),
            (Safetensors(("weight", "F32", new byte[4])), StatusCode.InvalidArgument),
            (Safetensors(("weight", "BOOL", [2]), ("bias", "F32", new byte[4])), StatusCode.InvalidArgument),
            (Safetensors(("weight", "F8_E5M2", [2]), ("bias", "F32", new byte[4])), StatusCode.Unimplemented),
            (Flipped(zip, zip.AsSpan().IndexOf(BitConverter.GetBytes(3f))), StatusCode.DataLoss),
            (zip[..(zip.Length / 2)], StatusCode.InvalidArgument),
        };
        foreach (var (content, code) in cases)
        {
            using var region = RegionCaller.RentWith(Socket, content);
            (await RefusedAsync(new() { Region = region.Id })).Is(code);
            (await Refused.OfAsync(_server.Modules.CreateModuleAsync(new() { Module = "new", Spec = Make.Linear(1, 1), StateShared = new() { Region = region.Id } }).ResponseAsync)).Is(code);
        }

        await UnchangedAsync(before);
    }

    [Fact]
    public async Task A_caller_that_writes_during_the_loads_harms_nobody_but_itself()
    {
        // Each byte of an element is the same, so that a mixture shows in no other bytes, wherever it was cut.
        const int Width = 512;
        await Make.ModuleAsync(_server, "wide", Make.Linear(Width, Width, bias: false));
        await _server.State.SaveStateFileAsync(new() { Module = "wide", File = "wide.safetensors" });
        var file = await File.ReadAllBytesAsync(Path.Combine(_directory.FullName, "wide.safetensors"), TestContext.Current.CancellationToken);
        var data = file.Length - (Width * Width * sizeof(float));
        file.AsSpan(data).Fill(0x3f);
        using var region = RegionCaller.RentWith(Socket, file);
        await LoadAsync("wide", region);

        using var stop = new CancellationTokenSource();
        var writer = Task.Run(() => Scribble(region, file, data, stop.Token), TestContext.Current.CancellationToken);
        var outcomes = new Dictionary<StatusCode, int>();
        for (var i = 0; i < 200; i++)
        {
            var outcome = StatusCode.OK;
            try
            {
                await LoadAsync("wide", region);
            }
            catch (RpcException refused)
            {
                outcome = refused.StatusCode;
            }

            outcomes[outcome] = outcomes.GetValueOrDefault(outcome) + 1;
        }

        await stop.CancelAsync();
        await writer;
        Assert.DoesNotContain(outcomes.Keys, code => code is not (StatusCode.OK or StatusCode.InvalidArgument or StatusCode.Unimplemented or StatusCode.ResourceExhausted or StatusCode.DataLoss));
        var weight = (await _server.Modules.GetParameterAsync(new() { Module = "wide", Name = "weight" })).Tensor.Data.ToByteArray();
        Assert.Equal(Width * Width * sizeof(float), weight.Length);
        Assert.DoesNotContain(weight, value => value is not (0x3f or 0x40));

        // And when it writes no more, all is as ever.
        region.Write(file);
        await LoadAsync("wide", region);
    }

    [Fact]
    public async Task A_retry_gets_the_first_answer_though_the_region_has_ended()
    {
        var region = RegionCaller.RentWith(Socket, await FileAsync("f.safetensors"));
        var request = new V1.LoadStateSharedRequest { Module = "m", State = new() { Region = region.Id }, RequestId = "load-1" };
        var first = await _server.State.LoadStateSharedAsync(request);
        region.Dispose();
        await Eventually.TrueAsync(async () => (await _server.Host.GetHostAsync(new())).Memory.SharedRegionBytes == 0);

        Assert.Equal(first, await _server.State.LoadStateSharedAsync(request));
        (await RefusedAsync(new() { Region = region.Id })).Is(StatusCode.NotFound, resource: "region");
    }

    /// <summary>A file by the format's own rules, as a caller without Sconce writes it.</summary>
    private static byte[] Safetensors(params (string Key, string Type, byte[] Data)[] tensors)
    {
        var header = new StringBuilder("{");
        var at = 0;
        foreach (var (key, type, data) in tensors)
        {
            header.Append(at == 0 ? "" : ",").Append(System.Globalization.CultureInfo.InvariantCulture, $$"""
                "{{key}}":{"dtype":"{{type}}","shape":{{(key.EndsWith("weight", StringComparison.Ordinal) ? "[1,1]" : "[1]")}},"data_offsets":[{{at}},{{at += data.Length}}]}
                """);
        }

        var json = Encoding.UTF8.GetBytes(header.Append('}').ToString());
        var length = new byte[8];
        BinaryPrimitives.WriteInt32LittleEndian(length, json.Length);
        return [.. length, .. json, .. tensors.SelectMany(tensor => tensor.Data)];
    }

    private static byte[] Flipped(byte[] bytes, int at)
    {
        Assert.True(at >= 0);
        var flipped = bytes.ToArray();
        flipped[at] ^= 1;
        return flipped;
    }

    /// <summary>Goes on changing a region: its values, the sizes and offsets of its header, and what kind of file it is.</summary>
    private static void Scribble(RegionCaller region, byte[] file, int data, CancellationToken stop)
    {
        var random = new Random(1);
        var values = new byte[file.Length - data];
        var header = file.AsSpan(0, data).ToArray();
        while (!stop.IsCancellationRequested)
        {
            values.AsSpan().Fill(random.Next(2) == 0 ? (byte)0x3f : (byte)0x40);
            region.Write(values, data);
            var changed = header.ToArray();
            switch (random.Next(5))
            {
                case 0:
                    // A digit of a size or an offset.
                    for (var digit = random.Next(changed.Length); digit < changed.Length; digit++)
                    {
                        if (char.IsAsciiDigit((char)changed[digit]))
                        {
                            changed[digit] = (byte)('0' + random.Next(10));
                            break;
                        }
                    }

                    break;
                case 1:
                    BinaryPrimitives.WriteInt64LittleEndian(changed, random.NextInt64());
                    break;
                case 2:
                    "PK\x03\x04"u8.CopyTo(changed);
                    break;
                case 3:
                    changed[random.Next(changed.Length)] ^= (byte)(1 << random.Next(8));
                    break;
            }

            region.Write(changed);
            Thread.Yield();
            region.Write(header);
        }
    }

    private async Task<byte[]> FileAsync(string name)
    {
        await _server.Modules.ApplyAsync(new() { Module = "m", Function = "constant_", Args = Make.Args(("val", 3)) });
        await _server.State.SaveStateFileAsync(new() { Module = "m", File = name, Overwrite = true });
        return await File.ReadAllBytesAsync(Path.Combine(_directory.FullName, name), TestContext.Current.CancellationToken);
    }

    private async Task LoadAsync(string module, RegionCaller region) => await _server.State.LoadStateSharedAsync(new() { Module = module, State = new() { Region = region.Id } });

    private Task<V1.LoadStateSharedResponse> LoadAsync(V1.SharedState? state) => _server.State.LoadStateSharedAsync(new() { Module = "m", State = state }).ResponseAsync;

    private Task<Refused> RefusedAsync(V1.SharedState? state) => Refused.OfAsync(LoadAsync(state));

    /// <summary>Expects the one module to be as it was, and nothing of what was refused to be in memory.</summary>
    private async Task UnchangedAsync(ulong generation)
    {
        var module = Assert.Single((await _server.Modules.ListModulesAsync(new())).Modules);
        Assert.Equal(generation, module.Generation);
        await Eventually.TrueAsync(async () => (await _server.Host.GetHostAsync(new())).Memory is var memory && memory.UsedBytes == module.Bytes + memory.SharedRegionBytes);
    }

    private async Task<ulong> GenerationAsync() => (await _server.Modules.GetModuleAsync(new() { Module = "m" })).Module.Generation;

    private async Task<float> ForwardAsync(string module) => Make.Floats((await _server.Execution.ForwardAsync(Make.Forward(module, Make.Floats([1, 1], 1)))).Output.Tensor)[0];
}
