using System.Diagnostics;
using System.Text.RegularExpressions;
using Sconce.Cli.Serving;
using Sconce.Client;

namespace Sconce.Cli.Tests;

public sealed partial class ServerProcessTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    [Fact]
    public async Task Stop_ends_a_serving_process_with_exit_code_0()
    {
        var cancel = TestContext.Current.CancellationToken;
        await using var server = await ServerProcess.StartAsync(cancel).WaitAsync(Limit, cancel);
        await using var client = new SconceClient(server.Address);

        Assert.Equal("cpu", (await client.GetHostAsync(cancel)).Device);
        Assert.Contains(server.Log, line => line == $"listening on {server.Address}");
        Assert.Equal(0, await server.StopAsync(cancel).WaitAsync(Limit, cancel));
    }

    [Fact]
    public async Task Dispose_ends_a_process_that_was_not_stopped()
    {
        var cancel = TestContext.Current.CancellationToken;
        var server = await ServerProcess.StartAsync(cancel).WaitAsync(Limit, cancel);
        var id = server.Id;
        Assert.True(IsAlive(id));

        await server.DisposeAsync().AsTask().WaitAsync(Limit, cancel);

        Assert.False(IsAlive(id));
    }

    [Fact]
    public async Task Killed_demo_leaves_no_server_behind()
    {
        var cancel = TestContext.Current.CancellationToken;
        var start = new ProcessStartInfo("dotnet", [typeof(SconceCommand).Assembly.Location, "demo"]) { RedirectStandardOutput = true };
        using var demo = Process.Start(start)!;
        int server;
        try
        {
            server = await ReadServerIdAsync(demo.StandardOutput, cancel).WaitAsync(Limit, cancel);
            Assert.True(IsAlive(server));
        }
        finally
        {
            demo.Kill(); // SIGKILL: the demo itself can do nothing about its server any more
        }

        for (var watch = Stopwatch.StartNew(); IsAlive(server); await Task.Delay(50, cancel))
            Assert.True(watch.Elapsed < Limit, $"process {server} outlived the demo by {Limit}");
    }

    private static async Task<int> ReadServerIdAsync(StreamReader output, CancellationToken cancel)
    {
        while (await output.ReadLineAsync(cancel) is { } line)
        {
            if (ServerId().Match(line) is { Success: true } match)
                return int.Parse(match.Groups[1].ValueSpan, null);
        }

        throw new InvalidOperationException("The demo ended before it told of its server.");
    }

    /// <summary>Whether the process runs; one that has ended but that its new parent has not collected does not.</summary>
    private static bool IsAlive(int id)
    {
        try
        {
            var stat = File.ReadAllText($"/proc/{id}/stat");
            return stat[stat.LastIndexOf(')') + 2] != 'Z';
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    [GeneratedRegex(@"^  sconce serve, process (\d+),")]
    private static partial Regex ServerId();
}
