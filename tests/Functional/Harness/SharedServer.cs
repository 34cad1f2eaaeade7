using Grpc.Net.Client;

namespace Sconce.Functional.Harness;

/// <summary>The server that most tests share. When the last has run, it must stop by itself with exit code 0 and have logged no error.</summary>
public sealed class SharedServer : IAsyncLifetime
{
    private SconceProcess? _process;
    private GrpcChannel? _channel;

    internal SconceProcess Process => _process!;

    internal Stubs Stubs { get; private set; } = null!;

    /// <inheritdoc/>
    public async ValueTask InitializeAsync()
    {
        // A small message limit, so that tests reach it quickly. No short limit on silence: on a busy machine any caller would.
        _process = await SconceProcess.StartAsync(
            ("max-message-bytes", "32MiB"), ("memory-budget-bytes", "1GiB"), ("graph-budget-bytes", "64MiB"), ("kept-tensor-budget-bytes", "64MiB"),
            ("session-heartbeat", "1s"));
        _channel = Channels.Open(_process);
        Stubs = new Stubs(_channel.CreateCallInvoker());
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (_process is null)
        {
            return;
        }

        _channel?.Dispose();
        await using (_process)
        {
            var ran = _process.IsRunning;
            _process.Terminate();
            var exitCode = await _process.WaitForExitAsync();
            Assert.True(ran, $"The server had ended before the tests had, with exit code {exitCode}:\n{string.Join('\n', _process.Log.TakeLast(40))}");
            Assert.True(_process.ErrorLines.Count == 0, $"The server logged errors:\n{string.Join('\n', _process.ErrorLines)}");
            Assert.Equal(0, exitCode);
        }
    }
}

/// <summary>Tests that share one server.</summary>
[CollectionDefinition(Name)]
public sealed class SharedServerTests : ICollectionFixture<SharedServer>
{
    /// <summary>Its name.</summary>
    public const string Name = "shared server";
}
