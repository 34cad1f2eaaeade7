using System.Reflection;
using Grpc.Core;
using Grpc.Health.V1;

namespace Sconce.Server.Tests.Wire;

/// <summary>Snapshots over the wire, and what a server that starts again makes of them.</summary>
public sealed class SnapshotTests : IDisposable
{
    private readonly string _data = Directory.CreateTempSubdirectory("sconce-data-").FullName;

    public void Dispose() => Directory.Delete(_data, recursive: true);

    [Fact]
    public async Task A_module_goes_on_after_a_restart_as_if_there_had_been_none()
    {
        var server = await StartAsync();
        await TrainedAsync(server, "m");
        var saved = (await server.State.SaveSnapshotAsync(new V1.SaveSnapshotRequest { Module = "m" })).Snapshot;
        Assert.Equal(("m", 3UL, "request"), (saved.Module, saved.Step, saved.Reason));
        Assert.Equal(["module.json", "training.safetensors", "weights.safetensors"], saved.Files.Select(file => file.Name).Order());
        Assert.Equal(saved.Bytes, (ulong)saved.Files.Sum(file => (long)file.Bytes));
        Assert.All(saved.Files, file => Assert.Equal(64, file.Sha256.Length));
        await server.Modules.CreateModuleAsync(new V1.CreateModuleRequest { Module = "gone", Spec = Make.Linear(1, 1) });
        var expected = await LossesAsync(server, "m");
        await server.DisposeAsync();

        await using var again = await StartAsync();
        Assert.Equal(["m"], (await again.Modules.ListModulesAsync(new V1.ListModulesRequest())).Modules.Select(module => module.Name));
        Assert.Equal(expected, await LossesAsync(again, "m"));
        var host = await again.Host.GetHostAsync(new V1.GetHostRequest());
        Assert.Equal((1U, 1U, "", 0), (host.Restoration.Total, host.Restoration.Restored, host.Restoration.Current, host.Restoration.Failed.Count));
        Assert.Contains(again.Log, line => line.Contains("Restored 1 of 1: module m", StringComparison.Ordinal));
        Assert.Empty(again.Errors);
    }

    [Fact]
    public async Task Snapshots_are_listed_restored_and_deleted()
    {
        await using var server = await StartAsync();
        await TrainedAsync(server, "m");
        var first = (await server.State.SaveSnapshotAsync(new V1.SaveSnapshotRequest { Module = "m" })).Snapshot;
        var expected = await LossesAsync(server, "m");
        var second = (await server.State.SaveSnapshotAsync(new V1.SaveSnapshotRequest { Module = "m" })).Snapshot;
        var listed = await server.State.ListSnapshotsAsync(new V1.ListSnapshotsRequest { Module = "m" });
        Assert.Equal([first, second], listed.Snapshots);
        Assert.Equal(3U, listed.Policy.KeepLast);
        Assert.Equal(listed.Snapshots, (await server.State.ListSnapshotsAsync(new V1.ListSnapshotsRequest())).Snapshots);

        // Back to the first, in its place; and the same as another module.
        var before = (await server.Modules.GetModuleAsync(new V1.GetModuleRequest { Module = "m" })).Module.Generation;
        var restored = await server.State.RestoreSnapshotAsync(new V1.RestoreSnapshotRequest { Module = "m", Snapshot = first.Id, IfGeneration = before });
        Assert.True(restored.Generation > before);
        Assert.Equal(first, restored.Snapshot);
        Assert.Equal(expected, await LossesAsync(server, "m"));
        await server.State.RestoreSnapshotAsync(new V1.RestoreSnapshotRequest { Module = "twin", Snapshot = first.Id });
        Assert.Equal(expected, await LossesAsync(server, "twin"));

        // With no id the newest: it was taken after those losses.
        await server.State.RestoreSnapshotAsync(new V1.RestoreSnapshotRequest { Module = "m" });
        Assert.NotEqual(expected, await LossesAsync(server, "m"));

        await server.State.DeleteSnapshotAsync(new V1.DeleteSnapshotRequest { Snapshot = first.Id });
        (await Refused.OfAsync(server.State.DeleteSnapshotAsync(new V1.DeleteSnapshotRequest { Snapshot = first.Id }).ResponseAsync)).Is(StatusCode.NotFound);
        (await Refused.OfAsync(server.State.RestoreSnapshotAsync(new V1.RestoreSnapshotRequest { Module = "m", Snapshot = first.Id }).ResponseAsync)).Is(StatusCode.NotFound);
        (await Refused.OfAsync(server.State.RestoreSnapshotAsync(new V1.RestoreSnapshotRequest { Module = "m", Snapshot = second.Id, IfGeneration = 1 }).ResponseAsync)).Is(StatusCode.Aborted);
        (await Refused.OfAsync(server.State.RestoreSnapshotAsync(new V1.RestoreSnapshotRequest { Module = "never" }).ResponseAsync)).Is(StatusCode.NotFound);
        (await Refused.OfAsync(server.State.SaveSnapshotAsync(new V1.SaveSnapshotRequest { Module = "never" }).ResponseAsync)).Is(StatusCode.NotFound);
        (await Refused.OfAsync(server.State.SaveSnapshotAsync(new V1.SaveSnapshotRequest { Module = "m", IfGeneration = 1 }).ResponseAsync)).Is(StatusCode.Aborted);
        Assert.Equal([second], (await server.State.ListSnapshotsAsync(new V1.ListSnapshotsRequest())).Snapshots);

        // A module that is deleted takes its snapshots along.
        await server.Modules.DeleteModuleAsync(new V1.DeleteModuleRequest { Module = "m" });
        Assert.Empty((await server.State.ListSnapshotsAsync(new V1.ListSnapshotsRequest())).Snapshots);
        Assert.Empty(server.Errors);
    }

    [Fact]
    public async Task A_repeated_save_is_one_snapshot()
    {
        await using var server = await StartAsync();
        await Make.ModuleAsync(server, "m", Make.Linear(1, 1));
        var request = new V1.SaveSnapshotRequest { Module = "m", RequestId = "once" };
        Assert.Equal(await server.State.SaveSnapshotAsync(request), await server.State.SaveSnapshotAsync(request));
        Assert.Single((await server.State.ListSnapshotsAsync(new V1.ListSnapshotsRequest())).Snapshots);
    }

    [Fact]
    public async Task A_policy_saves_by_steps_and_at_a_drain_keeps_the_newest_and_outlives_a_restart()
    {
        var server = await StartAsync();
        await TrainedAsync(server, "m");
        var policy = new V1.SnapshotPolicy { EverySteps = 4, OnDrain = true, KeepLast = 2 };
        Assert.Equal(policy, (await server.State.SetSnapshotPolicyAsync(new V1.SetSnapshotPolicyRequest { Module = "m", Policy = policy })).Policy);

        // One by one, so that each is written before the next is due.
        for (ulong step = 4; step <= 12; step++)
        {
            await StepAsync(server, "m", (int)step);
            if (step % 4 == 0)
            {
                await Eventually.TrueAsync(async () => (await ListAsync(server)).Any(snapshot => snapshot.Step == step));
            }
        }

        Assert.Equal([(8UL, "steps"), (12UL, "steps")], (await ListAsync(server)).Select(snapshot => (snapshot.Step, snapshot.Reason)));
        await StepAsync(server, "m", 13);
        await server.DisposeAsync();

        await using var again = await StartAsync();
        Assert.Equal([(12UL, "steps"), (13UL, "drain")], (await ListAsync(again)).Select(snapshot => (snapshot.Step, snapshot.Reason)));
        Assert.Equal(policy, (await again.State.ListSnapshotsAsync(new V1.ListSnapshotsRequest { Module = "m" })).Policy);
        await StepAsync(again, "m", 14);
        await StepAsync(again, "m", 15);
        await StepAsync(again, "m", 16);
        Assert.DoesNotContain(await ListAsync(again), snapshot => snapshot.Step > 13);
        await StepAsync(again, "m", 17);
        await Eventually.TrueAsync(async () => (await ListAsync(again)).Any(snapshot => snapshot.Step == 17));
        Assert.Empty(again.Errors);
    }

    [Theory]
    [InlineData(0, 1001, "policy.keep_last")]
    [InlineData(ulong.MaxValue, 1, "policy.every_steps")]
    public async Task Policies_that_make_no_sense_are_refused(ulong every, uint keep, string field)
    {
        await using var server = await StartAsync();
        await Make.ModuleAsync(server, "m", Make.Linear(1, 1));
        var request = new V1.SetSnapshotPolicyRequest { Module = "m", Policy = new() { EverySteps = every, KeepLast = keep } };
        Assert.Equal(field, Assert.Single((await Refused.OfAsync(server.State.SetSnapshotPolicyAsync(request).ResponseAsync)).Is(StatusCode.InvalidArgument).Fields));
        Assert.Equal("policy", Assert.Single((await Refused.OfAsync(server.State.SetSnapshotPolicyAsync(new() { Module = "m" }).ResponseAsync)).Is(StatusCode.InvalidArgument).Fields));
        Assert.Equal("keep_last", Assert.Single((await Refused.OfAsync(server.State.SaveSnapshotAsync(new() { Module = "m", KeepLast = uint.MaxValue }).ResponseAsync)).Is(StatusCode.InvalidArgument).Fields));
    }

    [Fact]
    public async Task A_damaged_snapshot_is_set_aside_and_named_and_the_one_before_it_used()
    {
        var server = await StartAsync();
        await TrainedAsync(server, "m");
        var good = (await server.State.SaveSnapshotAsync(new V1.SaveSnapshotRequest { Module = "m" })).Snapshot;
        var expected = await LossesAsync(server, "m");
        var bad = (await server.State.SaveSnapshotAsync(new V1.SaveSnapshotRequest { Module = "m" })).Snapshot;
        await server.DisposeAsync();
        var file = Directory.EnumerateFiles(_data, "weights.safetensors", SearchOption.AllDirectories).Single(path => path.Contains(bad.Id, StringComparison.Ordinal));
        var bytes = await File.ReadAllBytesAsync(file);
        bytes[^1] ^= 1;
        await File.WriteAllBytesAsync(file, bytes);

        await using var again = await StartAsync();
        Assert.Equal(expected, await LossesAsync(again, "m"));
        var list = await again.State.ListSnapshotsAsync(new V1.ListSnapshotsRequest());
        Assert.Equal([good], list.Snapshots);
        var damaged = Assert.Single(list.Damaged);
        Assert.Equal((bad.Id, "m"), (damaged.Id, damaged.Module));
        Assert.Contains("weights.safetensors", damaged.Why, StringComparison.Ordinal);
        Assert.Contains(again.Errors, line => line.Contains(bad.Id, StringComparison.Ordinal));
        Assert.Contains(Directory.EnumerateDirectories(Path.Combine(_data, "quarantine")), path => path.Contains(bad.Id, StringComparison.Ordinal));
    }

    [Fact]
    public async Task What_cannot_be_built_any_more_is_told_keeps_its_name_and_comes_back_when_it_can()
    {
        var plugIn = typeof(SnapshotTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == "Sconce.BrokenPlugIn").Value!;
        var server = await StartAsync(options => options.Engine.PluginDir = plugIn);
        await Make.ModuleAsync(server, "plug", Make.Spec("""{ "type": "Held", "args": { "file": "/nowhere" } }"""));
        await Make.ModuleAsync(server, "plain", Make.Linear(1, 1));
        await server.State.SaveSnapshotAsync(new V1.SaveSnapshotRequest { Module = "plug" });
        await server.State.SaveSnapshotAsync(new V1.SaveSnapshotRequest { Module = "plain" });
        await server.DisposeAsync();

        await using (var without = await StartAsync())
        {
            var restoration = (await without.Host.GetHostAsync(new V1.GetHostRequest())).Restoration;
            Assert.Equal((2U, 1U), (restoration.Total, restoration.Restored));
            Assert.Contains("Held", restoration.Failed["plug"], StringComparison.Ordinal);
            Assert.Equal(HealthCheckResponse.Types.ServingStatus.Serving, (await new Health.HealthClient(without.Channel).CheckAsync(new HealthCheckRequest())).Status);
            var refused = (await Refused.OfAsync(without.Modules.CreateModuleAsync(new() { Module = "plug", Spec = Make.Linear(1, 1) }).ResponseAsync)).Is(StatusCode.AlreadyExists);
            Assert.Equal("SNAPSHOTS_EXIST", refused.Reason);
            (await Refused.OfAsync(without.Modules.CopyModuleAsync(new() { Module = "plain", Copy = "plug" }).ResponseAsync)).Is(StatusCode.AlreadyExists);
        }

        await using var again = await StartAsync(options => options.Engine.PluginDir = plugIn);
        Assert.Equal(["plain", "plug"], (await again.Modules.ListModulesAsync(new V1.ListModulesRequest())).Modules.Select(module => module.Name));
    }

    [Fact]
    public async Task Without_a_data_directory_each_call_says_which_setting_gives_one()
    {
        await using var server = await RunningServer.StartAsync();
        await Make.ModuleAsync(server, "m", Make.Linear(1, 1));
        Task[] calls =
        [
            server.State.SaveSnapshotAsync(new() { Module = "m" }).ResponseAsync, server.State.ListSnapshotsAsync(new()).ResponseAsync,
            server.State.RestoreSnapshotAsync(new() { Module = "m" }).ResponseAsync, server.State.DeleteSnapshotAsync(new() { Snapshot = "s" }).ResponseAsync,
            server.State.SetSnapshotPolicyAsync(new() { Module = "m", Policy = new() }).ResponseAsync,
        ];
        foreach (var call in calls)
        {
            var refused = (await Refused.OfAsync(call)).Is(StatusCode.FailedPrecondition);
            Assert.Equal("SNAPSHOTS_OFF", refused.Reason);
        }

        Assert.Null((await server.Host.GetHostAsync(new V1.GetHostRequest())).Restoration);
    }

    [Fact]
    public async Task A_directory_has_one_server()
    {
        await using var server = await StartAsync();
        var error = await Assert.ThrowsAsync<ConfigurationException>(() => StartAsync());
        Assert.Contains(_data, error.Message, StringComparison.Ordinal);
    }

    private Task<RunningServer> StartAsync(Action<SconceServerOptions>? configure = null) => RunningServer.StartAsync(options =>
    {
        options.Engine.Data = _data;
        configure?.Invoke(options);
    });

    private static async Task TrainedAsync(RunningServer server, string module)
    {
        var spec = Make.Sequential(Make.Linear(4, 8), Make.Spec("""{ "type": "Dropout" }"""), Make.Linear(8, 1));
        await server.Modules.CreateModuleAsync(new V1.CreateModuleRequest { Module = module, Spec = spec, Seed = 3 });
        await server.Training.CreateOptimizerAsync(new V1.CreateOptimizerRequest { Module = module, Type = "Adam" });
        for (var i = 1; i <= 3; i++)
        {
            await StepAsync(server, module, i);
        }
    }

    private static async Task<List<double>> LossesAsync(RunningServer server, string module)
    {
        var losses = new List<double>();
        for (var i = 4; i < 10; i++)
        {
            losses.Add(await StepAsync(server, module, i));
        }

        return losses;
    }

    private static async Task<double> StepAsync(RunningServer server, string module, int i) => (await server.Training.TrainStepAsync(new V1.TrainStepRequest
    {
        Module = module,
        Inputs = { Make.Floats([2, 4], [.. Enumerable.Range(0, 8).Select(j => (float)Math.Sin(i + j))]) },
        Targets = { Make.Floats([2, 1], 1, -1) },
        Loss = new V1.Loss { Type = "MSELoss" },
    })).Loss;

    private static async Task<IReadOnlyList<V1.Snapshot>> ListAsync(RunningServer server) => (await server.State.ListSnapshotsAsync(new V1.ListSnapshotsRequest { Module = "m" })).Snapshots;
}
