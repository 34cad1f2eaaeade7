using System.Buffers.Binary;
using System.Text.Json;
using Grpc.Core;

namespace Sconce.Server.Tests.Wire;

/// <summary>ShareMemory where the operator has enabled it.</summary>
public sealed class SharedMemoryTests : IAsyncLifetime
{
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("sconce-shared-");
    private RunningServer _server = null!;

    public async ValueTask InitializeAsync()
    {
        _server = await RunningServer.StartAsync(options => options.Engine.SharedMemoryDir = _directory.FullName);
        await _server.Modules.CreateModuleAsync(new V1.CreateModuleRequest { Module = "m", Spec = Make.Sequential(Make.Linear(4, 3), Make.Linear(3, 2)) });
    }

    public async ValueTask DisposeAsync()
    {
        await _server.DisposeAsync();
        _directory.Delete(recursive: true);
    }

    [Fact]
    public async Task File_holds_the_state_dict_for_the_servers_user_alone_until_the_next_or_the_modules_end()
    {
        var before = (await _server.Host.GetHostAsync(new V1.GetHostRequest())).Memory.UsedBytes;
        await _server.Modules.RegisterParameterAsync(new V1.RegisterParameterRequest { Module = "m", Path = "1", Name = "bias", Tensor = Make.Floats([2], 5, 6) });
        await _server.Modules.ToAsync(new V1.ToRequest { Module = "m", Path = "0", Conversion = V1.Conversion.Bfloat16 });
        var shared = await _server.Modules.ShareMemoryAsync(new V1.ShareMemoryRequest { Module = "m" });

        var file = new FileInfo(shared.File);
        Assert.Equal((_directory.FullName, (long)shared.Bytes), (file.DirectoryName, file.Length));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, file.UnixFileMode);
        var bytes = await File.ReadAllBytesAsync(shared.File);
        var length = (int)BinaryPrimitives.ReadInt64LittleEndian(bytes);
        Assert.Equal(0, (length + 8) % 64);
        using var header = JsonDocument.Parse(bytes.AsMemory(8, length));
        Assert.Equal(["__metadata__", "0.weight", "0.bias", "1.weight", "1.bias"], header.RootElement.EnumerateObject().Select(entry => entry.Name));
        Assert.Equal("BF16", header.RootElement.GetProperty("0.weight").GetProperty("dtype").GetString());
        var bias = header.RootElement.GetProperty("1.bias");
        Assert.Equal([2L], bias.GetProperty("shape").EnumerateArray().Select(size => size.GetInt64()));
        var offsets = bias.GetProperty("data_offsets").EnumerateArray().Select(offset => offset.GetInt32()).ToArray();
        // The wider elements come first, so that all are aligned: float32 of 1.weight (6) and 1.bias (2), then bfloat16 of the other layer.
        Assert.Equal([24, 32], offsets);
        Assert.Equal(8 + length + 32 + (2 * 15), bytes.Length);
        Assert.Equal(5f, BitConverter.ToSingle(bytes, 8 + length + offsets[0]));
        // 15 parameters take 2 bytes less each.
        Assert.Equal(before - 30 + shared.Bytes, (await _server.Host.GetHostAsync(new V1.GetHostRequest())).Memory.UsedBytes);

        var second = await _server.Modules.ShareMemoryAsync(new V1.ShareMemoryRequest { Module = "m", Path = "1" });
        Assert.Equal([second.File], Directory.GetFileSystemEntries(_directory.FullName));
        await _server.Modules.DeleteModuleAsync(new V1.DeleteModuleRequest { Module = "m" });
        Assert.Empty(Directory.GetFileSystemEntries(_directory.FullName));
        Assert.Equal(0UL, (await _server.Host.GetHostAsync(new V1.GetHostRequest())).Memory.UsedBytes);
        Assert.Empty(_server.Errors);
    }

    [Fact]
    public async Task What_cannot_be_written_leaves_nothing_behind()
    {
        await _server.Modules.ToAsync(new V1.ToRequest { Module = "m", Dtype = V1.DataType.Complex128 });
        var unknown = await RunningServer.RefusedAsync(_server.Modules.ShareMemoryAsync(new V1.ShareMemoryRequest { Module = "m" }));
        Assert.Equal(StatusCode.Unimplemented, unknown.StatusCode);
        await _server.Modules.ToAsync(new V1.ToRequest { Module = "m", Dtype = V1.DataType.Float32 });
        var used = (await _server.Host.GetHostAsync(new V1.GetHostRequest())).Memory.UsedBytes;
        _directory.Delete();
        var gone = await RunningServer.RefusedAsync(_server.Modules.ShareMemoryAsync(new V1.ShareMemoryRequest { Module = "m" }));
        _directory.Create();
        Assert.Equal(StatusCode.FailedPrecondition, gone.StatusCode);
        Assert.Contains("shared_memory_dir", gone.Status.Detail, StringComparison.Ordinal);
        Assert.DoesNotContain(_directory.FullName, gone.Status.Detail, StringComparison.Ordinal);
        Assert.Equal(used, (await _server.Host.GetHostAsync(new V1.GetHostRequest())).Memory.UsedBytes);
    }
}
