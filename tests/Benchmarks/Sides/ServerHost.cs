using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Sconce.Server;

namespace Sconce.Benchmarks.Sides;

/// <summary>
/// The server process of the benchmark: the bare side and the real Sconce server, each a host of its own (so that none of Sconce's
/// interceptors touches the bare side) in one process (so that both have the same runtime, garbage collector and heap).
/// </summary>
internal static class ServerHost
{
    /// <summary>Serves until standard input ends, as it does when the parent goes, however it goes.</summary>
    /// <param name="libtorchThreads">Intra-op threads for libtorch, on both sides.</param>
    public static async Task<int> RunAsync(int libtorchThreads)
    {
        var options = new SconceServerOptions { Port = 0, LogLevel = LogLevel.Warning };
        options.Engine.IntraOpThreads = libtorchThreads;
        await using var sconce = await SconceServer.StartAsync(options);
        await using var bare = BuildBare(_ => { });
        await bare.StartAsync();
        await using var streams = BuildBare(SetForStreams);
        await streams.StartAsync();
        Console.WriteLine(JsonSerializer.Serialize(new ServerAddresses(AddressOf(bare), AddressOf(streams), sconce.Addresses[0])));
        while (await Console.In.ReadLineAsync() is not null)
        {
            // Nothing is said on it; only its end means something.
        }

        await streams.StopAsync();
        await bare.StopAsync();
        return 0;
    }

    // As Sconce sets its own: else the rows would compare Kestrel's defaults, which hold large uploads up.
    private static void SetForStreams(KestrelServerOptions kestrel)
    {
        kestrel.Limits.Http2.InitialConnectionWindowSize = 8 << 20;
        kestrel.Limits.Http2.InitialStreamWindowSize = 4 << 20;
        kestrel.Limits.Http2.MaxFrameSize = 1 << 20;
    }

    private static WebApplication BuildBare(Action<KestrelServerOptions> set)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.Limits.MaxRequestBodySize = null;
            set(kestrel);
            kestrel.Listen(System.Net.IPAddress.Loopback, 0, listen => listen.Protocols = HttpProtocols.Http2);
        });
        builder.Services.AddGrpc(options => options.MaxReceiveMessageSize = null);
        builder.Services.AddSingleton<BareService>();
        var app = builder.Build();
        app.MapGrpcService(services => services.GetRequiredService<BareService>().Define());
        return app;
    }

    private static string AddressOf(WebApplication app) =>
        app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First();
}

/// <summary>Where the sides listen.</summary>
/// <param name="Bare">The bare side as Kestrel is by default.</param>
/// <param name="BareStreams">The bare side with the windows and frames that Sconce has.</param>
/// <param name="Sconce">The Sconce side.</param>
internal sealed record ServerAddresses(string Bare, string BareStreams, string Sconce);
