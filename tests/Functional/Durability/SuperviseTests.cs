using System.Globalization;
using Sconce.Client;
using Sconce.Functional.Harness;

namespace Sconce.Functional.Durability;

/// <summary><c>serve --supervise</c>: a server that crashes is there again, with its durable modules, and stops as one process.</summary>
public sealed class SuperviseTests : IDisposable
{
    private readonly string _data = Directory.CreateTempSubdirectory("sconce-supervised-").FullName;

    public void Dispose() => Directory.Delete(_data, recursive: true);

    [Fact]
    public async Task A_killed_server_comes_back_with_its_modules_and_SIGTERM_stops_both()
    {
        await using var supervisor = await SconceProcess.StartAsync(("data", _data), ("supervise", "true"));
        await using var client = new SconceClient(new SconceClientOptions { Address = $"unix:{supervisor.UnixSocket}", Retry = new SconceRetryOptions { MaxAttempts = 100, MaxDelay = TimeSpan.FromMilliseconds(200) } });
        var module = await client.CreateModuleAsync("m", Nn.Linear(4, 2));
        await module.SaveSnapshotAsync();
        var before = await module.StateDictAsync();
        var first = Child(supervisor.Id);

        Kill(first);

        // The client retries until it is back.
        var after = await module.StateDictAsync();
        Assert.Equal(before.Values.Select(tensor => Convert.ToHexString(tensor.Bytes.Span)), after.Values.Select(tensor => Convert.ToHexString(tensor.Bytes.Span)));
        var second = Child(supervisor.Id);
        Assert.NotEqual(first, second);
        Assert.Contains(supervisor.Log, line => line.StartsWith("sconce: the server was ended by SIGKILL", StringComparison.Ordinal));

        supervisor.Terminate();
        Assert.Equal(0, await supervisor.WaitForExitAsync());
        Assert.False(Directory.Exists($"/proc/{second}"), "the server outlived its supervisor");
    }

    [Fact]
    public async Task A_server_that_cannot_start_is_not_started_again()
    {
        await File.WriteAllTextAsync(Path.Combine(_data, "file"), "");
        var error = await Assert.ThrowsAsync<InvalidOperationException>(() => SconceProcess.StartAsync(("supervise", "true"), ("data", Path.Combine(_data, "file"))));
        Assert.Contains(Path.Combine(_data, "file"), error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("starting it again", error.Message, StringComparison.Ordinal);
    }

    // A child is of the thread that started it.
    private static int Child(int process) => Directory.EnumerateDirectories($"/proc/{process}/task")
        .SelectMany(thread => File.ReadAllText(Path.Combine(thread, "children")).Split(' ', StringSplitOptions.RemoveEmptyEntries))
        .Select(id => int.Parse(id, CultureInfo.InvariantCulture)).Single();

    private static void Kill(int process)
    {
        using var child = System.Diagnostics.Process.GetProcessById(process);
        child.Kill();
    }
}
