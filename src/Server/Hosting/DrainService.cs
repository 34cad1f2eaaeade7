using System.Diagnostics;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Sconce.Engine.Execution;

namespace Sconce.Server.Hosting;

/// <summary>
/// The order of a start, where durable modules are restored before health says SERVING, and of a clean stop: health says NOT_SERVING, new and queued work is answered UNAVAILABLE, work in flight finishes within the limit, and only then
/// does Kestrel stop (the host stops its services after every StoppingAsync has ended).
/// </summary>
internal sealed class DrainService(
    EngineHost engine, SconceServerOptions options, DrainSignal drain, HealthService health, IHostApplicationLifetime lifetime, ILogger<DrainService> logger) : IHostedLifecycleService, IDisposable
{
    // EX_SOFTWARE: what a supervisor takes for a failure.
    private const int ExitOverdue = 70;

    // Whoever watches health should see it before its connection breaks.
    private static readonly TimeSpan Notice = TimeSpan.FromSeconds(1);

    private readonly Lock _lock = new();
    private readonly CancellationTokenSource _enough = new();
    private Task? _drained;

    public Task StartingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    // Calls can come by now: until the durable modules are back GetHost tells how far that is, and every other call is refused.
    public async Task StartedAsync(CancellationToken cancellationToken)
    {
        engine.OnScriptOverdue(EndForSupervisor);
        if (engine.IsRestoring)
        {
            Serve(Grpc.Health.V1.HealthCheckResponse.Types.ServingStatus.NotServing);
            using var stopping = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, lifetime.ApplicationStopping);
            try
            {
                await engine.Durable.RestoreAllAsync(stopping.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (lifetime.ApplicationStopping.IsCancellationRequested && !cancellationToken.IsCancellationRequested)
            {
                // Told to stop meanwhile: the stop that follows finds nothing running.
                return;
            }
        }

        Serve(Grpc.Health.V1.HealthCheckResponse.Types.ServingStatus.Serving);
    }

    // A signal stops the host, and then its owner disposes it: both wait for the one drain, and whichever will wait no longer ends it. What runs then is
    // answered as at the limit, rather than cut with its connection.
    public async Task StoppingAsync(CancellationToken cancellationToken)
    {
        Task drained;
        lock (_lock)
        {
            drained = _drained ??= DrainAsync();
        }

        using var enough = cancellationToken.Register(_enough.Cancel);
        await drained.ConfigureAwait(false);
    }

    // A drain would wait for the very call that never ends, and the lanes may all be held.
    private void EndForSupervisor(string call)
    {
        ServerLog.ScriptOverdue(logger, call, options.Engine.ScriptTimeout, ExitOverdue);
        Serve(Grpc.Health.V1.HealthCheckResponse.Types.ServingStatus.NotServing);
        Thread.Sleep(Notice);
        ProcessEnd.Now(ExitOverdue);
    }

    private async Task DrainAsync()
    {
        // Health first: whoever routes by it should look elsewhere before calls are refused.
        Serve(Grpc.Health.V1.HealthCheckResponse.Types.ServingStatus.NotServing);
        drain.Begin();
        var started = Stopwatch.GetTimestamp();
        ServerLog.Draining(logger, options.DrainTimeout);
        await engine.DrainAsync(options.DrainTimeout, _enough.Token).ConfigureAwait(false);
        await drain.CloseAsync().ConfigureAwait(false);
        ServerLog.Drained(logger, Stopwatch.GetElapsedTime(started).TotalSeconds);
    }

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public void Dispose() => _enough.Dispose();

    private void Serve(Grpc.Health.V1.HealthCheckResponse.Types.ServingStatus status)
    {
        // "" is the server as a whole; probes may also ask for one service by its name.
        health.SetStatus("", status);
        foreach (var service in ServiceNames)
        {
            health.SetStatus(service, status);
        }
    }

    private static readonly string[] ServiceNames =
    [
        V1.HostService.Descriptor.FullName, V1.ModuleService.Descriptor.FullName, V1.ExecutionService.Descriptor.FullName,
        V1.TrainingService.Descriptor.FullName, V1.TensorService.Descriptor.FullName, V1.StateService.Descriptor.FullName,
        V1.HookService.Descriptor.FullName,
    ];
}
