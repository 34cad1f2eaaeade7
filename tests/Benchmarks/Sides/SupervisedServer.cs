using System.Diagnostics;
using System.Globalization;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using Grpc.Core;
using Grpc.Health.V1;
using Grpc.Net.Client;

namespace Sconce.Benchmarks.Sides;

/// <summary><c>sconce serve --supervise --data DIR</c>, on a Unix socket that stays the same over restarts.</summary>
internal sealed partial class SupervisedServer : IAsyncDisposable
{
    private const int Sigterm = 15;

    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(120);
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(10);

    private readonly Process _supervisor;
    private readonly DirectoryInfo _directory;

    private SupervisedServer(Process supervisor, DirectoryInfo directory) => (_supervisor, _directory) = (supervisor, directory);

    /// <summary>Path of its Unix socket.</summary>
    public string SocketPath => SocketIn(_directory);

    /// <summary>Starts it and waits until it serves.</summary>
    /// <param name="data">Its data directory.</param>
    public static async Task<SupervisedServer> StartAsync(string data)
    {
        var directory = Directory.CreateTempSubdirectory("sconce-bench-");
        string[] arguments = [Path.Combine(AppContext.BaseDirectory, "sconce.dll"), "serve", "--supervise", "--data", data, "--unix-socket", SocketIn(directory), "--port", "0", "--log-level", "warning"];
        var start = new ProcessStartInfo("dotnet", arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        var server = new SupervisedServer(Process.Start(start) ?? throw new InvalidOperationException("dotnet did not start"), directory);
        try
        {
            // Read, so that neither fills; that a killed server is named is no news here.
            server._supervisor.BeginOutputReadLine();
            server._supervisor.BeginErrorReadLine();
            await server.ServingAsync();
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <summary>Kills the server, not its supervisor, and waits until it serves again.</summary>
    /// <returns>The time from the signal on.</returns>
    public async Task<TimeSpan> KillAsync()
    {
        var first = Child();
        var began = Stopwatch.GetTimestamp();
        using (var child = Process.GetProcessById(first))
        {
            child.Kill();
        }

        // Until its supervisor has seen its end the socket could still be the old one.
        while (Directory.Exists($"/proc/{first}"))
        {
            await Task.Delay(1);
        }

        await ServingAsync();
        return Stopwatch.GetElapsedTime(began);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        _ = kill(_supervisor.Id, Sigterm);
        using var limit = new CancellationTokenSource(Limit);
        await _supervisor.WaitForExitAsync(limit.Token);
        _supervisor.Dispose();
        _directory.Delete(recursive: true);
    }

    private static string SocketIn(DirectoryInfo directory) => Path.Combine(directory.FullName, "sconce.sock");

    // A connection for each question: one that failed would wait before it tries again.
    private async Task ServingAsync()
    {
        for (var began = Stopwatch.GetTimestamp(); !await IsServingAsync(); await Task.Delay(Poll))
        {
            if (_supervisor.HasExited || Stopwatch.GetElapsedTime(began) > Limit)
            {
                throw new InvalidOperationException("sconce serve --supervise did not begin to serve");
            }
        }
    }

    private async Task<bool> IsServingAsync()
    {
        using var channel = GrpcChannel.ForAddress("http://localhost", new GrpcChannelOptions
        {
            DisposeHttpClient = true,
            HttpHandler = new SocketsHttpHandler
            {
                ConnectCallback = async (_, cancellation) =>
                {
                    var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                    try
                    {
                        await socket.ConnectAsync(new UnixDomainSocketEndPoint(SocketPath), cancellation);
                        return new NetworkStream(socket, ownsSocket: true);
                    }
                    catch
                    {
                        socket.Dispose();
                        throw;
                    }
                },
            },
        });
        try
        {
            var answer = await new Health.HealthClient(channel).CheckAsync(new HealthCheckRequest(), deadline: DateTime.UtcNow + TimeSpan.FromSeconds(1));
            return answer.Status == HealthCheckResponse.Types.ServingStatus.Serving;
        }
        catch (RpcException)
        {
            return false;
        }
    }

    // A child is of the thread that started it.
    private int Child() => Directory.EnumerateDirectories($"/proc/{_supervisor.Id}/task")
        .SelectMany(thread => File.ReadAllText(Path.Combine(thread, "children")).Split(' ', StringSplitOptions.RemoveEmptyEntries))
        .Select(id => int.Parse(id, CultureInfo.InvariantCulture)).Single();

    [LibraryImport("libc")]
    private static partial int kill(int process, int signal);
}
