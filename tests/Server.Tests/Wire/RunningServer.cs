using System.Collections.Concurrent;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.Extensions.Logging;

namespace Sconce.Server.Tests.Wire;

/// <summary>A server in this process on a free loopback port, a client of it, and what it logged.</summary>
public sealed class RunningServer : IAsyncDisposable
{
    private readonly SconceServer _server;
    private readonly RecordedLog _log;

    private RunningServer(SconceServer server, RecordedLog log, GrpcChannel channel)
    {
        _server = server;
        _log = log;
        Channel = channel;
        Host = new V1.HostService.HostServiceClient(channel);
        Modules = new V1.ModuleService.ModuleServiceClient(channel);
        Execution = new V1.ExecutionService.ExecutionServiceClient(channel);
        Training = new V1.TrainingService.TrainingServiceClient(channel);
        Tensors = new V1.TensorService.TensorServiceClient(channel);
        State = new V1.StateService.StateServiceClient(channel);
        Hooks = new V1.HookService.HookServiceClient(channel);
    }

    public GrpcChannel Channel { get; }

    public V1.HostService.HostServiceClient Host { get; }

    public V1.ModuleService.ModuleServiceClient Modules { get; }

    public V1.ExecutionService.ExecutionServiceClient Execution { get; }

    public V1.TrainingService.TrainingServiceClient Training { get; }

    public V1.TensorService.TensorServiceClient Tensors { get; }

    public V1.StateService.StateServiceClient State { get; }

    public V1.HookService.HookServiceClient Hooks { get; }

    public SconceServer Server => _server;

    /// <summary>Id of the region that <see cref="Share"/> has filled.</summary>
    public string Region { get; private set; } = "";

    public string Address => _server.Addresses[0];

    /// <summary>Lines at Error or above: bugs.</summary>
    public IEnumerable<string> Errors => _log.Lines.Where(line => line.Level >= LogLevel.Error).Select(line => line.Text);

    public IEnumerable<string> Log => _log.Lines.Select(line => line.Text);

    public static async Task<RunningServer> StartAsync(Action<SconceServerOptions>? configure = null)
    {
        var options = new SconceServerOptions { Port = 0, DrainTimeout = TimeSpan.FromSeconds(10) };
        configure?.Invoke(options);
        var log = new RecordedLog(options.LogLevel);
        var server = await SconceServer.StartAsync(options, builder => builder.Logging.ClearProviders().AddProvider(log));
        return new RunningServer(server, log, GrpcChannel.ForAddress(server.Addresses[0], new GrpcChannelOptions { MaxReceiveMessageSize = null, MaxSendMessageSize = null }));
    }

    /// <summary>Puts a file into a shared region, which lasts as long as the server.</summary>
    public void Share(string path)
    {
        var bytes = File.ReadAllBytes(path);
        var region = _server.Engine.SharedRegions.Rent((ulong)bytes.Length);
        RandomAccess.Write(region.File, bytes, 0);
        Region = region.Id;
    }

    /// <summary>The status of a call that must fail.</summary>
    public static async Task<RpcException> RefusedAsync<T>(AsyncUnaryCall<T> call) => await Assert.ThrowsAsync<RpcException>(() => call.ResponseAsync.WaitAsync(TimeSpan.FromSeconds(30)));

    public async ValueTask DisposeAsync()
    {
        Channel.Dispose();
        await _server.DisposeAsync();
    }

    private sealed class RecordedLog(LogLevel least) : ILoggerProvider, ILogger
    {
        public ConcurrentQueue<(LogLevel Level, string Text)> Lines { get; } = new();

        public ILogger CreateLogger(string categoryName) => categoryName.StartsWith("Sconce", StringComparison.Ordinal) ? this : Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance;

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= least;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (IsEnabled(logLevel))
            {
                Lines.Enqueue((logLevel, $"{logLevel} {formatter(state, exception)} {exception}"));
            }
        }

        public void Dispose()
        {
        }
    }
}
