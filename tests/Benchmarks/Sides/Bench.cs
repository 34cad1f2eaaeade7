using Grpc.Net.Client;
using Sconce.V1;

namespace Sconce.Benchmarks.Sides;

/// <summary>What a scenario measures with: the server process, and a connection to each of its sides.</summary>
internal sealed class Bench : IAsyncDisposable
{
    private readonly ServerProcess _server;
    private readonly GrpcChannel _bareChannel;
    private readonly GrpcChannel _stubChannel;
    private readonly GrpcChannel _streamChannel;

    private Bench(ServerProcess server, GrpcChannel bareChannel, GrpcChannel streamChannel, GrpcChannel stubChannel, SconceSide sconce)
    {
        _server = server;
        _bareChannel = bareChannel;
        _streamChannel = streamChannel;
        _stubChannel = stubChannel;
        Bare = new BareClient(bareChannel.CreateCallInvoker());
        BareStreams = new BareClient(streamChannel.CreateCallInvoker());
        Sconce = sconce;
    }

    /// <summary>The bare side.</summary>
    public BareClient Bare { get; }

    /// <summary>The bare side with the HTTP/2 windows and frames that Sconce's server and client have: for large streams.</summary>
    public BareClient BareStreams { get; }

    /// <summary>The Sconce side.</summary>
    public SconceSide Sconce { get; }

    /// <summary>Starts the server process and connects.</summary>
    public static async Task<Bench> StartAsync(int libtorchThreads)
    {
        var server = await ServerProcess.StartAsync(libtorchThreads);
        try
        {
            var stubs = Connect(server.Addresses.Sconce);
            var sconce = await SconceSide.CreateAsync(server.Addresses.Sconce, new ExecutionService.ExecutionServiceClient(stubs));
            return new Bench(server, Connect(server.Addresses.Bare), Connect(server.Addresses.BareStreams), stubs, sconce);
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await Sconce.DisposeAsync();
        _bareChannel.Dispose();
        _streamChannel.Dispose();
        _stubChannel.Dispose();
        await _server.DisposeAsync();
    }

    private static GrpcChannel Connect(string address) => GrpcChannel.ForAddress(address, new GrpcChannelOptions
    {
        MaxReceiveMessageSize = null,
        MaxSendMessageSize = null,
    });
}
