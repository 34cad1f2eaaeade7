using System.Diagnostics;
using System.Globalization;
using System.Text.Json;

namespace Sconce.Benchmarks.Sides;

/// <summary>The child process that both sides run in.</summary>
internal sealed class ServerProcess : IAsyncDisposable
{
    /// <summary>The hidden command of this program that is the server process.</summary>
    public const string Command = "server";

    private static readonly TimeSpan StartLimit = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan StopLimit = TimeSpan.FromSeconds(20);

    private readonly Process _process;

    private ServerProcess(Process process, ServerAddresses addresses)
    {
        _process = process;
        Addresses = addresses;
    }

    /// <summary>Where the sides listen.</summary>
    public ServerAddresses Addresses { get; }

    /// <summary>Starts the process and waits until it listens.</summary>
    /// <param name="libtorchThreads">Intra-op threads for libtorch; it reads OMP_NUM_THREADS once, when it is loaded.</param>
    public static async Task<ServerProcess> StartAsync(int libtorchThreads)
    {
        var threads = libtorchThreads.ToString(CultureInfo.InvariantCulture);
        var start = new ProcessStartInfo("dotnet", [typeof(ServerProcess).Assembly.Location, Command, threads])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            UseShellExecute = false,
        };
        start.Environment["OMP_NUM_THREADS"] = threads;
        start.Environment["DOTNET_GCLOHThreshold"] = "110000"; // hexadecimal: as the sconce command has it in its own configuration
        var process = Process.Start(start) ?? throw new InvalidOperationException("the server process did not start");
        try
        {
            var line = await process.StandardOutput.ReadLineAsync().WaitAsync(StartLimit)
                ?? throw new InvalidOperationException("the server process ended before it listened; its errors are above");
            return new ServerProcess(process, JsonSerializer.Deserialize<ServerAddresses>(line)!);
        }
        catch
        {
            process.Kill();
            process.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        _process.StandardInput.Close();
        try
        {
            await _process.WaitForExitAsync(new CancellationTokenSource(StopLimit).Token);
        }
        catch (OperationCanceledException)
        {
            _process.Kill();
        }

        _process.Dispose();
    }
}
