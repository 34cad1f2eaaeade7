using Sconce.Benchmarks.Harness;
using Sconce.Benchmarks.Report;
using Sconce.Benchmarks.Sides;
using Sconce.Client;

namespace Sconce.Benchmarks.Scenarios;

/// <summary>How long callers are without a server that was killed, where ten modules have snapshots.</summary>
internal sealed class RestartScenario : Scenario
{
    private const int Modules = 10;

    public override string Title => "Restart after kill -9";

    public override IReadOnlyList<string> RowNames => ["restart_to_serving_s"];

    public override async Task<IReadOnlyList<Row>> RunAsync(Bench bench, Pace pace, Action<double> progress)
    {
        var data = Directory.CreateTempSubdirectory("sconce-bench-");
        try
        {
            await using (var server = await SupervisedServer.StartAsync(data.FullName))
            {
                await using var client = new SconceClient($"unix:{server.SocketPath}");
                for (var i = 0; i < Modules; i++)
                {
                    var module = await client.CreateModuleAsync($"module{i}", Nn.Linear(1250, 1000, bias: false)); // 5,000,000 bytes
                    await module.SaveSnapshotAsync();
                }
            }

            var rounds = pace.Shorter.Rounds;
            var seconds = new List<double>();
            for (var round = 0; round < rounds; round++)
            {
                // A new supervisor each time: one that has seen a crash a moment ago waits longer.
                await using var server = await SupervisedServer.StartAsync(data.FullName);
                seconds.Add((await server.KillAsync()).TotalSeconds);
                await CheckAsync(server);
                progress((round + 1.0) / rounds);
            }

            return
            [
                Row.Of("restart_to_serving_s", Spread.Of(seconds), "s", new Target(5, AtMost: true)) with
                {
                    Note = "from kill -9 of the server under sconce serve --supervise --data DIR, with a snapshot of each of ten modules of 5 MB, until grpc.health.v1 says SERVING again, asked each 10 ms; the supervisor's first delay of 0.1 s is in it.",
                },
            ];
        }
        finally
        {
            data.Delete(recursive: true);
        }
    }

    private static async Task CheckAsync(SupervisedServer server)
    {
        await using var client = new SconceClient($"unix:{server.SocketPath}");
        var restored = (await client.ListModulesAsync()).Count;
        if (restored != Modules)
        {
            throw new InvalidOperationException($"{restored} of {Modules} modules were restored");
        }
    }
}
