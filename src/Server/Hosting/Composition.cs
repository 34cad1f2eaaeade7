using Grpc.AspNetCore.Server;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Sconce.Engine.Execution;
using Sconce.Server.ExactlyOnce;
using Sconce.Server.Interceptors;
using Sconce.Server.Regions;
using Sconce.Server.Services;
using Sconce.Server.Streams;
using Sconce.Server.Telemetry;
using Sconce.Server.Transport;
using Serilog.Extensions.Logging;

namespace Sconce.Server.Hosting;

/// <summary>What a server is made of.</summary>
internal static class Composition
{
    public static WebApplicationBuilder AddSconce(this WebApplicationBuilder builder, SconceServerOptions options)
    {
        options.Engine.MaxAnswerBytes = options.MaxMessageBytes;
        options.Engine.OffersSharedRegions = options.SharedMemorySocket.Length > 0;

        // Serilog filters: the factory in front of it must not.
        builder.Logging.SetMinimumLevel(LogLevel.Trace).AddProvider(new SerilogLoggerProvider(LogSetup.Create(options), dispose: true));
        builder.WebHost.UseKestrelCore().UseSockets(Listening.Restrict).ConfigureKestrel(kestrel => Listening.Configure(kestrel, options));
        builder.Services
            .AddSingleton(options)
            .AddSingleton(TimeProvider.System)
            .AddSingleton<IMemoryPoolFactory<byte>, WarmBlockPoolFactory>()
            .AddSingleton(services => new EngineHost(options.Engine, services.GetRequiredService<ILoggerFactory>()) { Recall = services.GetRequiredService<RequestIdStore>().Recall })
            .AddLifetime(options)
            .AddGrpcServices(options);
        return builder;
    }

    public static void MapSconce(this WebApplication application, SconceServerOptions options)
    {
        application.Use(application.Services.GetRequiredService<EarlyFailures>().Wrap);
        application.MapGrpcService<HostService>();
        application.MapGrpcService<ModuleService>();
        application.MapGrpcService<ExecutionService>();
        application.MapGrpcService<TrainingService>();
        application.MapGrpcService<TensorService>();
        application.MapGrpcService<HookService>();
        application.MapGrpcService<StateService>();
        application.MapGrpcService<HealthService>();
        if (options.Reflection)
        {
            application.MapGrpcReflectionService();
        }
    }

    private static IServiceCollection AddLifetime(this IServiceCollection services, SconceServerOptions options) => services
        .AddSingleton<DrainSignal>()
        .AddSingleton<HealthService>()
        .AddHostedService<DrainService>()
        .AddHostedService<RegionListener>()
        .Configure<ConsoleLifetimeOptions>(console => console.SuppressStatusMessages = true)
        // Draining has its own limit; the rest is for Kestrel to close connections.
        .Configure<HostOptions>(host => host.ShutdownTimeout = options.DrainTimeout + TimeSpan.FromSeconds(5));

    private static void AddGrpcServices(this IServiceCollection services, SconceServerOptions options)
    {
        services
            .AddSingleton<ErrorFunnel>()
            .AddSingleton<ServerInstance>()
            .AddSingleton<EarlyFailures>()
            .AddSingleton<RequestIdStore>()
            .AddSingleton<Pipeline>()
            .AddSingleton<RegistrationCalls>()
            .AddSingleton<OptimizerCalls>()
            .AddSingleton<OptimizerStreams>()
            .AddSingleton<SnapshotCalls>()
            .AddSingleton<StateFileCalls>()
            .AddSingleton<UploadStore>()
            .AddSingleton<UploadCalls>()
            // grpc-dotnet makes services and interceptors anew for every call unless the container holds them.
            .AddSingleton<ErrorInterceptor>()
            .AddSingleton<AdmissionInterceptor>()
            .AddSingleton<HostService>()
            .AddSingleton<ModuleService>()
            .AddSingleton<ExecutionService>()
            .AddSingleton<TrainingService>()
            .AddSingleton<TensorService>()
            .AddSingleton<HookService>()
            .AddSingleton<StateService>();
        services.AddGrpc(grpc =>
        {
            grpc.MaxReceiveMessageSize = (int)options.MaxMessageBytes;
            grpc.MaxSendMessageSize = (int)options.MaxMessageBytes;
            grpc.Interceptors.Add<ErrorInterceptor>();
            grpc.Interceptors.Add<AdmissionInterceptor>();

            // No exception leaves the interceptor in detail; this tells EarlyFailures of those outside of it.
            grpc.EnableDetailedErrors = true;
        });

        // Not in AddGrpc's own callback: a later default puts deflate back.
        services.PostConfigure<GrpcServiceOptions>(grpc => grpc.CompressionProviders = [new BoundedGzip(options.MaxMessageBytes)]);
        if (options.Reflection)
        {
            services.AddGrpcReflection();
        }
    }
}
