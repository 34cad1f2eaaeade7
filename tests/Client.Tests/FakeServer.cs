using System.Collections.Concurrent;
using System.Net;
using Google.Protobuf;
using Grpc.Core;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Sconce.Tests;

namespace Sconce.Client.Tests;

/// <summary>A gRPC server on a real loopback socket whose answers the test writes; unwritten ones are empty messages.</summary>
internal sealed class FakeServer : IAsyncDisposable
{
    private readonly Script _script;
    private WebApplication? _app;

    private FakeServer(Script script) => _script = script;

    public int Port { get; private set; }

    public string Address => $"http://127.0.0.1:{Port}";

    /// <summary>Version in the metadata of every answer.</summary>
    public string? Contract
    {
        get => _script.Contract;
        set => _script.Contract = value;
    }

    public static async Task<FakeServer> StartAsync(string? unixSocket = null)
    {
        var server = new FakeServer(new Script());
        await server.ListenAsync(unixSocket);
        return server;
    }

    /// <summary>Starts one that will go and come back under its address.</summary>
    public static async Task<FakeServer> StartOnOwnPortAsync()
    {
        var server = new FakeServer(new Script()) { Port = OwnPort.Next() };
        await server.ListenAsync(null);
        return server;
    }

    /// <summary>A client whose retries are quick enough for a test.</summary>
    public SconceClient NewClient(Action<SconceClientOptions>? configure = null, ILoggerFactory? loggers = null)
    {
        var options = new SconceClientOptions
        {
            Address = Address,
            Timeout = TimeSpan.FromSeconds(60),
            Retry = new SconceRetryOptions { MaxAttempts = 8, BaseDelay = TimeSpan.FromMilliseconds(10), MaxDelay = TimeSpan.FromMilliseconds(500) },
        };
        configure?.Invoke(options);
        return new SconceClient(options, loggers);
    }

    /// <summary>Writes the answer to a unary call.</summary>
    public void On<TRequest, TResponse>(Func<TRequest, ServerCallContext, TResponse> answer)
        where TRequest : class, IMessage =>
        _script.Unary[typeof(TRequest)] = (request, context) => Task.FromResult<object>(answer((TRequest)request, context)!);

    /// <summary>Writes the answer to a unary call that takes its time.</summary>
    public void OnAsync<TRequest, TResponse>(Func<TRequest, ServerCallContext, Task<TResponse>> answer)
        where TRequest : class, IMessage =>
        _script.Unary[typeof(TRequest)] = async (request, context) => (await answer((TRequest)request, context))!;

    /// <summary>Writes the answer to a call that streams either way.</summary>
    public void OnStream<TRequest, TResponse>(Func<Incoming<TRequest>, IServerStreamWriter<TResponse>?, ServerCallContext, Task<TResponse?>> answer)
        where TRequest : class
        where TResponse : class =>
        _script.Streams[typeof(TRequest)] = async (incoming, writer, context) =>
            await answer((Incoming<TRequest>)incoming, (IServerStreamWriter<TResponse>?)writer, context);

    /// <summary>The requests of a type that came, in order.</summary>
    public IReadOnlyList<TRequest> Seen<TRequest>() => [.. _script.Seen.OfType<TRequest>()];

    /// <summary>Metadata of the last call.</summary>
    public Metadata LastHeaders => _script.LastHeaders!;

    /// <summary>Ends the server and all its connections at once.</summary>
    public async Task StopAsync()
    {
        if (_app is { } app)
        {
            _app = null;
            using var now = new CancellationTokenSource(TimeSpan.Zero);
            await app.StopAsync(now.Token);
            await app.DisposeAsync();
        }
    }

    /// <summary>Listens again on the same port, which <see cref="StartOnOwnPortAsync"/> chose.</summary>
    public Task RestartAsync() => ListenAsync(null);

    public async ValueTask DisposeAsync() => await StopAsync();

    private async Task ListenAsync(string? unixSocket)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.Limits.MaxRequestBodySize = null;
            if (unixSocket is null)
                kestrel.Listen(IPAddress.Loopback, Port, listen => listen.Protocols = HttpProtocols.Http2);
            else
                kestrel.ListenUnixSocket(unixSocket, listen => listen.Protocols = HttpProtocols.Http2);
        });
        builder.Services.AddGrpc(grpc => grpc.MaxReceiveMessageSize = null);
        builder.Services.AddSingleton(_script);
        _app = builder.Build();
        _app.MapGrpcService<FakeHost>();
        _app.MapGrpcService<FakeModules>();
        _app.MapGrpcService<FakeExecution>();
        _app.MapGrpcService<FakeTraining>();
        _app.MapGrpcService<FakeState>();
        _app.MapGrpcService<FakeTensors>();
        _app.MapGrpcService<FakeHooks>();
        await _app.StartAsync();
        if (unixSocket is null)
            Port = new Uri(_app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First()).Port;
    }
}

/// <summary>What comes in on a stream: one request of a server stream, or all of a client's.</summary>
internal sealed record Incoming<TRequest>(TRequest? Request, IAsyncStreamReader<TRequest>? Reader)
{
    public IAsyncEnumerable<TRequest> All => Reader!.ReadAllAsync();
}

/// <summary>The answers that a test wrote, and what came in.</summary>
internal sealed class Script
{
    public ConcurrentDictionary<Type, Func<object, ServerCallContext, Task<object>>> Unary { get; } = new();

    public ConcurrentDictionary<Type, Func<object, object?, ServerCallContext, Task<object?>>> Streams { get; } = new();

    public ConcurrentQueue<object> Seen { get; } = new();

    public Metadata? LastHeaders { get; private set; }

    public string? Contract { get; set; } = "1.0";

    public async Task<TResponse> AnswerAsync<TRequest, TResponse>(TRequest request, ServerCallContext context, Func<TResponse>? unwritten = null)
        where TRequest : class
        where TResponse : class, new()
    {
        await BeginAsync(context);
        Seen.Enqueue(request);
        if (Unary.TryGetValue(typeof(TRequest), out var answer))
            return (TResponse)await answer(request, context);
        return unwritten?.Invoke() ?? new TResponse();
    }

    public async Task<TResponse?> StreamAsync<TRequest, TResponse>(Incoming<TRequest> incoming, IServerStreamWriter<TResponse>? writer, ServerCallContext context)
        where TRequest : class
        where TResponse : class
    {
        await BeginAsync(context);
        if (incoming.Request is { } request)
            Seen.Enqueue(request);
        if (!Streams.TryGetValue(typeof(TRequest), out var answer))
            throw new RpcException(new Status(StatusCode.Unimplemented, $"the test wrote no answer to {typeof(TRequest).Name}"));
        return (TResponse?)await answer(incoming, writer, context);
    }

    private async Task BeginAsync(ServerCallContext context)
    {
        LastHeaders = context.RequestHeaders;
        if (Contract is { } version)
            await context.WriteResponseHeadersAsync(new Metadata { { "sconce-contract", version } });
    }
}
