using Google.Rpc;
using Grpc.Core;

namespace Sconce.Server.Tests.Wire;

/// <summary>Limits on how many of a thing there may be: RESOURCE_EXHAUSTED that names the setting, and room again once one has gone.</summary>
public sealed class CountLimitTests : IAsyncLifetime
{
    private RunningServer _server = null!;

    public async ValueTask InitializeAsync()
    {
        _server = await RunningServer.StartAsync(options =>
            (options.Engine.MaxModules, options.Engine.MaxSessions, options.Engine.MaxKeptTensors, options.Engine.MaxGraphsPerModule, options.Engine.MaxSubmodules) = (2, 1, 1, 1, 10));
        await Make.ModuleAsync(_server, "m", Make.Linear(1, 1));
    }

    public async ValueTask DisposeAsync()
    {
        Assert.Empty(_server.Errors);
        await _server.DisposeAsync();
    }

    [Fact]
    public async Task Max_modules()
    {
        await Make.ModuleAsync(_server, "n", Make.Linear(1, 1));
        await ExhaustedAsync("max_modules", CreateAsync(Make.Linear(1, 1)));
        await ExhaustedAsync("max_modules", _server.Modules.CopyModuleAsync(new V1.CopyModuleRequest { Module = "m", Copy = "o" }).ResponseAsync);
        await _server.Modules.DeleteModuleAsync(new V1.DeleteModuleRequest { Module = "n" });
        await CreateAsync(Make.Linear(1, 1));
    }

    [Fact]
    public async Task Max_submodules()
    {
        var refused = (await Refused.OfAsync(CreateAsync(Make.Sequential([.. Enumerable.Repeat(Make.Linear(1, 1), 10)])))).Is(StatusCode.InvalidArgument);
        Assert.Contains("raise max_submodules", refused.Message, StringComparison.Ordinal);

        // Each counted under each of its names.
        var shared = Make.Sequential(Make.Sequential(Make.Linear(1, 1), Make.Linear(1, 1), Make.Linear(1, 1)));
        shared.Children.Add(Enumerable.Repeat(new V1.ChildSpec { Share = "0" }, 4));
        refused = (await Refused.OfAsync(CreateAsync(shared))).Is(StatusCode.InvalidArgument);
        Assert.Contains("raise max_submodules", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Max_sessions()
    {
        using (var first = _server.Tensors.OpenSession(new V1.OpenSessionRequest()))
        {
            await first.ResponseStream.MoveNext(default);
            using var second = _server.Tensors.OpenSession(new V1.OpenSessionRequest());
            await ExhaustedAsync("max_sessions", second.ResponseStream.MoveNext(default));
        }

        await Eventually.TrueAsync(async () =>
        {
            using var again = _server.Tensors.OpenSession(new V1.OpenSessionRequest());
            return await again.ResponseStream.MoveNext(default).ContinueWith(static task => task.IsCompletedSuccessfully, TaskScheduler.Default);
        });
    }

    [Fact]
    public async Task Max_kept_tensors()
    {
        await _server.Tensors.PutTensorAsync(new V1.PutTensorRequest { Id = "a", Tensor = Make.Floats([1], 1) });
        await ExhaustedAsync("max_kept_tensors", _server.Tensors.PutTensorAsync(new V1.PutTensorRequest { Id = "b", Tensor = Make.Floats([1], 1) }).ResponseAsync);
        await _server.Tensors.DropTensorAsync(new V1.DropTensorRequest { Id = "a" });
        await _server.Tensors.PutTensorAsync(new V1.PutTensorRequest { Id = "b", Tensor = Make.Floats([1], 1) });
    }

    [Fact]
    public async Task Max_graphs_per_module()
    {
        var forward = Make.Forward("m", Make.Floats([1, 1], 1));
        forward.RecordGraph = true;
        var graph = (await _server.Execution.ForwardAsync(forward)).Graph.Id;
        await ExhaustedAsync("max_graphs_per_module", _server.Execution.ForwardAsync(forward).ResponseAsync);
        await _server.Execution.ReleaseGraphAsync(new V1.ReleaseGraphRequest { Module = "m", Graph = graph });
        await _server.Execution.ForwardAsync(forward);
    }

    private Task<V1.CreateModuleResponse> CreateAsync(V1.ModuleSpec spec) => _server.Modules.CreateModuleAsync(new V1.CreateModuleRequest { Module = "new", Spec = spec }).ResponseAsync;

    private static async Task ExhaustedAsync(string setting, Task call)
    {
        var thrown = await Assert.ThrowsAsync<RpcException>(() => call.WaitAsync(TimeSpan.FromSeconds(30)));
        Assert.Equal(StatusCode.ResourceExhausted, thrown.StatusCode);
        Assert.Contains($"raise {setting}", thrown.Status.Detail, StringComparison.Ordinal);
        Assert.Equal(setting, Assert.Single(thrown.GetRpcStatus()!.GetDetail<QuotaFailure>()!.Violations).Subject);
    }
}
