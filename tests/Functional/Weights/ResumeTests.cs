using System.Net;
using System.Net.Sockets;
using Sconce.Client;
using Sconce.Functional.Harness;

namespace Sconce.Functional.Weights;

/// <summary>An upload over a connection that breaks half-way.</summary>
public sealed class ResumeTests(SharedServer server) : ClientTest(server)
{
    private const int Size = 2048;
    private const int Cut = 12 << 20;

    [Fact]
    public async Task A_load_whose_connection_breaks_goes_on_from_what_the_server_has()
    {
        var module = await NewAsync(Nn.Linear(Size, Size, bias: false));
        var values = Enumerable.Range(0, Size * Size).Select(i => (float)i).ToArray();
        using var wire = new BreakingWire(Server.Process.Address.Port, Cut);
        await using var client = new SconceClient($"http://127.0.0.1:{wire.Port}");
        var generation = (await module.GetAsync()).Generation;

        var loaded = await client.Module(module.Name).LoadStateDictAsync(new StateDict { ["weight"] = TensorData.Create(values, Size, Size) });

        Assert.Equal(generation + 1, loaded.Generation);
        Assert.Equal(values, (await module.StateDictAsync())["weight"].As<float>().ToArray());

        // Of 16 MiB the first connection brought 12, less what HTTP/2's windows held.
        Assert.Equal(2, wire.Sent.Count);
        Assert.InRange(wire.Sent[1], 3L << 20, 10L << 20);
    }

    /// <summary>Carries bytes to the server, and breaks the first connection after some of them.</summary>
    private sealed class BreakingWire : IDisposable
    {
        private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
        private readonly int _target;
        private readonly int _cut;

        public BreakingWire(int target, int cut)
        {
            (_target, _cut) = (target, cut);
            _listener.Start();
            _ = AcceptAsync();
        }

        public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

        /// <summary>Bytes that each connection has carried to the server.</summary>
        public List<long> Sent { get; } = [];

        public void Dispose() => _listener.Dispose();

        private async Task AcceptAsync()
        {
            try
            {
                while (true)
                {
                    var caller = await _listener.AcceptTcpClientAsync();
                    Sent.Add(0);
                    _ = CarryAsync(caller, Sent.Count - 1);
                }
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException or InvalidOperationException)
            {
                // The test is over.
            }
        }

        private async Task CarryAsync(TcpClient caller, int number)
        {
            using (caller)
            using (var server = new TcpClient())
            {
                await server.ConnectAsync(IPAddress.Loopback, _target);
                var back = server.GetStream().CopyToAsync(caller.GetStream());
                var buffer = new byte[1 << 16];
                try
                {
                    while (await caller.GetStream().ReadAsync(buffer) is > 0 and var read)
                    {
                        await server.GetStream().WriteAsync(buffer.AsMemory(0, read));
                        if ((Sent[number] += read) >= _cut && number == 0)
                        {
                            break;
                        }
                    }
                }
                catch (IOException)
                {
                    // One of the two is gone.
                }

                server.Close();
                caller.Close();
                await back.ContinueWith(static _ => { }, TaskScheduler.Default);
            }
        }
    }
}
