using System.Net.Sockets;
using Grpc.Core;
using Sconce.Server.Configuration;
using Sconce.Server.Regions;
using Sconce.Server.Tests.Wire;

namespace Sconce.Server.Tests.Regions;

/// <summary>The socket for shared memory: who gets what on it, and when it comes back.</summary>
public sealed class RegionSocketTests : IAsyncLifetime
{
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("sconce-regions-");
    private RunningServer _server = null!;

    private string Path => System.IO.Path.Combine(_directory.FullName, "shm.sock");

    public async ValueTask InitializeAsync() => _server = await StartAsync(Path);

    public async ValueTask DisposeAsync()
    {
        Assert.Empty(_server.Errors);
        await _server.DisposeAsync();
        _directory.Delete(recursive: true);
    }

    [Fact]
    public async Task A_region_is_memory_of_the_size_asked_for_until_the_connection_ends()
    {
        using var kept = Rent(3000);
        var gone = Rent(5000);
        Assert.Equal((0, 3000UL, 3000L, ""), (kept.Status, kept.Bytes, RandomAccess.GetLength(kept.File!), kept.Message));
        Assert.Matches("^[0-9a-f]{32}$", kept.Id);
        Assert.NotEqual(kept.Id, gone.Id);
        Assert.Throws<UnauthorizedAccessException>(() => RandomAccess.SetLength(kept.File!, 0));
        Assert.Equal(Pages(3000) + Pages(5000), await RegionBytesAsync());

        gone.Dispose();

        await Eventually.TrueAsync(async () => await RegionBytesAsync() == Pages(3000));
        Assert.Equal(StatusCode.NotFound, (await Refused.OfAsync(LoadAsync(gone.Id))).Code);
    }

    [Fact]
    public async Task What_is_refused_is_told_in_words_and_the_connection_ends()
    {
        using var one = Rent(1);
        using var two = Rent(1);
        using var three = Rent(1);
        foreach (var (request, status, words) in (IEnumerable<(byte[], StatusCode, string)>)[
            (RegionCaller.Request(1), StatusCode.ResourceExhausted, "max_shared_regions"),
            (RegionCaller.Request(0), StatusCode.InvalidArgument, "at least 1 byte"),
            (RegionCaller.Request((1 << 20) + 1), StatusCode.ResourceExhausted, "max_shared_region_bytes"),
            (RegionCaller.Request(ulong.MaxValue), StatusCode.ResourceExhausted, "max_shared_region_bytes"),
            (RegionCaller.Request(1, version: 2), StatusCode.Unimplemented, "version 2"),
            (RegionCaller.Request(1, reserved: 1), StatusCode.InvalidArgument, "bytes 6 and 7"),
            ([.. "PRI * HTTP/2.0\r\n"u8], StatusCode.InvalidArgument, "unix_socket")])
        {
            using var refused = RegionCaller.Rent(Path, request);
            Assert.True((ushort)status == refused.Status, refused.Message);
            Assert.Contains(words, refused.Message, StringComparison.Ordinal);
            Assert.Equal((null, ""), (refused.File, refused.Id));
            Assert.True(refused.IsEnded());
        }

        Assert.Equal(3 * Pages(1), await RegionBytesAsync());
    }

    [Fact]
    public async Task Callers_that_break_off_or_say_too_much_leave_nothing_behind()
    {
        // More than there are places for, so that each must come back.
        for (var i = 0; i < 50; i++)
        {
            using var socket = RegionCaller.Connect(Path);
            socket.Send(RegionCaller.Request(1).AsSpan(0, i % 16));
        }

        for (var i = 0; i < 50; i++)
        {
            // Gone before its answer.
            using var socket = RegionCaller.Connect(Path);
            socket.Send(RegionCaller.Request(1));
        }

        await Eventually.TrueAsync(async () => await RegionBytesAsync() == 0);
        using var talker = RegionCaller.Rent(Path, [.. RegionCaller.Request(1), 0]);
        Assert.True(talker.IsEnded());
        await Eventually.TrueAsync(async () => await RegionBytesAsync() == 0);
        using var last = Rent(1);
        Assert.Equal(0, last.Status);
    }

    [Fact]
    public async Task The_socket_is_the_owners_alone_and_goes_with_the_server_and_its_regions()
    {
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, new FileInfo(Path).UnixFileMode);
        using var region = Rent(1);

        await _server.Server.StopAsync(TestContext.Current.CancellationToken);

        Assert.True(region.IsEnded());
        Assert.False(File.Exists(Path));
        Assert.Throws<SocketException>(() => RegionCaller.Connect(Path));
    }

    [Fact]
    public async Task A_path_is_taken_over_from_a_dead_server_and_from_nobody_else()
    {
        var other = System.IO.Path.Combine(_directory.FullName, "other");
        using (var dead = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
        {
            // Under another name the file stays when .NET deletes that which it bound.
            dead.Bind(new UnixDomainSocketEndPoint(other + ".dead"));
            File.Move(other + ".dead", other);
        }

        await using (await StartAsync(other))
        {
            using var region = RegionCaller.Rent(other, RegionCaller.Request(1));
            Assert.Equal(0, region.Status);
        }

        Assert.Contains("on which another server listens", (await Assert.ThrowsAsync<ConfigurationException>(() => StartAsync(Path))).Message, StringComparison.Ordinal);
        await File.WriteAllTextAsync(other, "somebody's", TestContext.Current.CancellationToken);
        Assert.Contains($"shared_memory_socket is \"{other}\", which exists and is not a socket", (await Assert.ThrowsAsync<ConfigurationException>(() => StartAsync(other))).Message, StringComparison.Ordinal);
        Assert.Equal("somebody's", await File.ReadAllTextAsync(other, TestContext.Current.CancellationToken));
        Assert.Contains("whose folder does not exist", (await Assert.ThrowsAsync<ConfigurationException>(() => StartAsync(other + "/none/s"))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_path_of_two_services_or_of_too_many_bytes_is_refused()
    {
        Assert.Contains("and so is unix_socket", Assert.Single(Problems(new() { UnixSocket = "/run/../run/s", SharedMemorySocket = "/run/s" })), StringComparison.Ordinal);
        Assert.Contains("shared_memory_socket is 108 bytes long", Assert.Single(Problems(new() { SharedMemorySocket = "/" + new string('s', 107) })), StringComparison.Ordinal);
        Assert.Empty(Problems(new() { SharedMemorySocket = "/run/s" }));

        static IEnumerable<string> Problems(SconceServerOptions options) => OptionsValidation.Check(options);
    }

    [Theory]
    [InlineData(1000, 1000, true)]
    [InlineData(0, 1000, true)]
    [InlineData(1001, 1000, false)]
    [InlineData(1000, 0, false)]
    [InlineData(65534, 1000, false)]
    public void Memory_is_for_the_servers_user_and_root(uint user, uint server, bool isAllowed)
    {
        Assert.Equal(isAllowed, RegionConnection.IsAllowed(user, server));
        using var socket = RegionCaller.Connect(Path);
        Assert.Equal(PosixSockets.User, PosixSockets.UserOf(socket));
    }

    private static Task<RunningServer> StartAsync(string path) => RunningServer.StartAsync(options =>
    {
        options.SharedMemorySocket = path;
        (options.Engine.MaxSharedRegions, options.Engine.MaxSharedRegionBytes) = (3, 1 << 20);
    });

    private static ulong Pages(ulong bytes) => (bytes + (ulong)Environment.SystemPageSize - 1) / (ulong)Environment.SystemPageSize * (ulong)Environment.SystemPageSize;

    private RegionCaller Rent(ulong bytes) => RegionCaller.Rent(Path, RegionCaller.Request(bytes));

    private async Task<ulong> RegionBytesAsync() => (await _server.Host.GetHostAsync(new())).Memory.SharedRegionBytes;

    private async Task LoadAsync(string region)
    {
        await Make.ModuleAsync(_server, "m", Make.Linear(1, 1));
        await _server.State.LoadStateSharedAsync(new() { Module = "m", State = new() { Region = region } });
    }
}
