using System.Globalization;
using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.Tests;

namespace Sconce.Functional.Serving;

/// <summary>A server that is killed and comes back, and a client that lived through it.</summary>
public sealed class ReconnectTests
{
    [Fact]
    public async Task Call_made_while_the_server_is_away_succeeds_when_it_is_back()
    {
        int port;
        SconceClient client;
        DateTime started;
        await using (var first = await SconceProcess.StartAsync(("port", OwnPort.Next().ToString(CultureInfo.InvariantCulture))))
        {
            port = first.Address.Port;

            // As often as it takes: a busy machine may need longer to start a server than the default attempts last.
            client = new SconceClient(new SconceClientOptions { Address = first.Address.ToString(), Retry = { MaxAttempts = 100 } });
            started = (await client.GetHostAsync()).Started.ToDateTime();
            first.KillNow();
        }

        await using (client)
        {
            var call = client.GetHostAsync();
            await Task.Delay(500);
            Assert.False(call.IsCompleted, "the client must wait for the server");
            await using var second = await SconceProcess.StartAsync(("port", port.ToString(CultureInfo.InvariantCulture)));
            Assert.True((await call.WaitAsync(TimeSpan.FromSeconds(60))).Started.ToDateTime() > started);
            second.Terminate();
            Assert.Equal(0, await second.WaitForExitAsync());
        }
    }
}
