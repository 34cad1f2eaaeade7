using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Server.Configuration;
using Sconce.Server.Hosting;
using Sconce.Server.Interceptors;

namespace Sconce.Server;

/// <summary>A running server: an engine that owns a device, and the sconce.v1 services in front of it.</summary>
public sealed class SconceServer : IAsyncDisposable
{
    /// <summary>The exit code for settings, or an installation, that the server cannot start with (EX_CONFIG of sysexits.h).</summary>
    public const int ExitBadConfiguration = 78;

    private readonly WebApplication _application;

    private SconceServer(WebApplication application, EngineHost engine, IReadOnlyList<string> addresses)
    {
        _application = application;
        Engine = engine;
        Addresses = addresses;
    }

    /// <summary>Where it listens, as clients write it: <c>http://127.0.0.1:50051</c>, <c>unix:/run/sconce.sock</c>.</summary>
    public IReadOnlyList<string> Addresses { get; }

    /// <summary>The engine.</summary>
    public EngineHost Engine { get; }

    /// <summary>
    /// Runs a server until it is told to stop (SIGTERM, SIGINT): what <c>sconce serve</c> does. Settings come from the arguments (<c>--name value</c>,
    /// <c>--config FILE</c>), over the environment (<c>SCONCE__NAME</c>), over the file. Prints <c>listening on ADDRESS</c> on standard output, one line
    /// for each address, once it accepts calls; logs go to standard error. Made to be the last thing that a process does: where calls outlast the drain
    /// timeout, or at a second signal, it ends the process itself.
    /// </summary>
    /// <param name="arguments">The command line after <c>serve</c>.</param>
    /// <param name="cancellationToken">Stops the server, as SIGTERM does.</param>
    /// <returns>0 after a clean stop; <see cref="ExitBadConfiguration"/> where it cannot start.</returns>
    public static async Task<int> RunAsync(IReadOnlyList<string> arguments, CancellationToken cancellationToken = default)
    {
        try
        {
            var options = SettingsReader.Read(arguments, Environment.GetEnvironmentVariables());
            var server = await StartAsync(options, cancellationToken: cancellationToken).ConfigureAwait(false);
            await using (server.ConfigureAwait(false))
            {
                using var again = new SecondSignal(server._application.Services.GetRequiredService<ILogger<SconceServer>>());
                foreach (var address in server.Addresses)
                {
                    Console.Out.WriteLine($"listening on {address}");
                }

                await Console.Out.FlushAsync(CancellationToken.None).ConfigureAwait(false);
                await server.WaitForShutdownAsync(cancellationToken).ConfigureAwait(false);
            }

            if (server.Engine.IsBusy)
            {
                // All is stopped, told and logged, but for a native call that cannot be interrupted.
                ProcessEnd.Now(0);
            }

            return 0;
        }
        catch (Exception e) when (e is ConfigurationException or TorchLoadException)
        {
            await Console.Error.WriteLineAsync(e.Message).ConfigureAwait(false);
            return ExitBadConfiguration;
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            // Told to stop before it had started.
            return 0;
        }
    }

    /// <summary>Starts a server; it accepts calls when the task completes.</summary>
    /// <param name="options">Its settings.</param>
    /// <param name="configure">Changes the host before it is built, e.g. its logging or more services.</param>
    /// <param name="map">Maps more endpoints beside Sconce's.</param>
    /// <param name="cancellationToken">Gives up starting.</param>
    /// <exception cref="ConfigurationException">The settings cannot work, or an address is taken.</exception>
    /// <exception cref="TorchLoadException">TorchSharp cannot be loaded on this machine.</exception>
    public static async Task<SconceServer> StartAsync(
        SconceServerOptions options, Action<WebApplicationBuilder>? configure = null, Action<WebApplication>? map = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (OptionsValidation.Check(options).ToList() is { Count: > 0 } problems)
        {
            throw new ConfigurationException(problems);
        }

        Listening.CheckPlaces(options);
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions { ApplicationName = "sconce" }).AddSconce(options);
        configure?.Invoke(builder);
        var application = builder.Build();
        try
        {
            var engine = EngineOf(application.Services);
            var logger = application.Services.GetRequiredService<ILogger<SconceServer>>();
            Announce(logger, options, engine);
            application.MapSconce(options);
            map?.Invoke(application);
            Listening.ClearSockets(options, logger);
            await application.StartAsync(cancellationToken).ConfigureAwait(false);
            var addresses = Listening.Addresses(application.Urls, options);
            foreach (var address in addresses)
            {
                ServerLog.Listening(logger, address);
            }

            if (options.AddressFile.Length > 0)
            {
                Listening.WriteAddressFile(options.AddressFile, addresses);
            }

            return new SconceServer(application, engine, addresses);
        }
        catch (Exception e)
        {
            await application.DisposeAsync().ConfigureAwait(false);

            // An address that is taken, or not this machine's, or a port that needs rights.
            if (e is IOException or System.Net.Sockets.SocketException)
            {
                throw new ConfigurationException([$"cannot listen on {options.Address}, port {options.Port}: {e.Message}; choose another address or port"]);
            }

            throw;
        }
    }

    /// <summary>Waits until the server is told to stop, and has.</summary>
    /// <param name="cancellationToken">Tells it to stop.</param>
    public Task WaitForShutdownAsync(CancellationToken cancellationToken = default) => _application.WaitForShutdownAsync(cancellationToken);

    /// <summary>Stops it cleanly: work in flight finishes within the drain timeout, queued work is answered UNAVAILABLE.</summary>
    /// <param name="cancellationToken">Stops waiting for work in flight: it is answered UNAVAILABLE (reason STOPPED), as at the drain timeout.</param>
    public Task StopAsync(CancellationToken cancellationToken = default) => _application.StopAsync(cancellationToken);

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _application.StopAsync().ConfigureAwait(false);
        await _application.DisposeAsync().ConfigureAwait(false);
    }

    private static EngineHost EngineOf(IServiceProvider services)
    {
        try
        {
            return services.GetRequiredService<EngineHost>();
        }
        catch (EngineException exception)
        {
            // The directory for snapshots.
            throw new ConfigurationException([exception.Message]);
        }
    }

    private static void Announce(ILogger logger, SconceServerOptions options, EngineHost engine)
    {
        var host = engine.Describe();
        ServerLog.Starting(logger, Handshake.BuildVersion, Handshake.ContractVersion, host.Device, host.DeviceName, host.LibtorchVersion);
        ServerLog.Settings(logger, string.Join(' ', ServerSettings.All.Select(setting => $"{setting.Name}={setting.Read(options)}")));
        if (OptionsValidation.UsesTcp(options) && OptionsValidation.TryParseAddress(options.Address, out var ip) && !System.Net.IPAddress.IsLoopback(ip))
        {
            ServerLog.Insecure(logger, options.Address);
        }
    }
}
