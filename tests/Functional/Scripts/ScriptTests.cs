using Grpc.Core;
using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.Scripts;

/// <summary>TorchScript files over a real server, which tries them in a process of its own program.</summary>
public sealed class ScriptTests(ScriptServer server) : IClassFixture<ScriptServer>
{
    private readonly Stubs _stubs = server.Stubs;

    [Fact]
    public async Task A_file_becomes_a_module_like_any_other()
    {
        Assert.Contains((await _stubs.Host.ListModuleTypesAsync(new ListModuleTypesRequest())).Types_, type => type.Name == "TorchScript");
        await CreateAsync("m", """{ "type": "TorchScript", "args": { "file": "scripted.pt", "example": [[2, 4]] } }""");
        await _stubs.Modules.TrainAsync(new TrainRequest { Module = "m", Mode = false });
        var x = Wire.Floats([2, 4], 1, 2, 3, 4, 5, 6, 7, 8);
        var forward = new ForwardRequest { Module = "m", Inputs = { x }, RecordGraph = true };
        var answer = await _stubs.Execution.ForwardAsync(forward);
        Assert.Equal([2L, 3L], First(answer).Shape);

        // Another method; a copy.
        var doubled = await _stubs.Execution.CallAsync(new CallRequest { Method = "double", Forward = new ForwardRequest { Module = "m", Inputs = { x } } });
        Assert.Equal([2F, 4, 6, 8, 10, 12, 14, 16], doubled.Forward.Floats());
        await _stubs.Modules.CopyModuleAsync(new CopyModuleRequest { Module = "m", Copy = "twin" });
        Assert.Equal(First(answer).Floats(), First(await _stubs.Execution.ForwardAsync(new ForwardRequest { Module = "twin", Inputs = { x } })).Floats());

        await RefusedAsync(_stubs.State.SaveSnapshotAsync(new SaveSnapshotRequest { Module = "m" }).ResponseAsync, StatusCode.FailedPrecondition, "GetStateDict");
        await RefusedAsync(_stubs.Modules.AddModuleAsync(new AddModuleRequest { Module = "m", Name = "more", Spec = Specs.Linear }).ResponseAsync, StatusCode.InvalidArgument, "own code");
    }

    [Fact]
    public async Task Hooks_stand_at_the_whole_and_are_refused_at_its_parts()
    {
        await CreateAsync("hooked", """{ "type": "TorchScript", "args": { "file": "scripted.pt", "example": [[2, 4]] } }""");
        await RefusedAsync(_stubs.Hooks.RegisterHookAsync(new RegisterHookRequest { Module = "hooked", Hook = Hooks.Forward("block.linear").Capture() }).ResponseAsync, StatusCode.FailedPrecondition, "where no hook sees it");
        var forward = new ForwardRequest { Module = "hooked", Inputs = { Wire.Floats([2, 4], 1, 2, 3, 4, 5, 6, 7, 8) }, Hooks = { Hooks.ForwardPre().Capture() } };
        Assert.NotNull((await _stubs.Execution.ForwardAsync(forward)).Hooks);
        forward.Hooks[0] = Hooks.Forward("block").Capture();
        await RefusedAsync(_stubs.Execution.ForwardAsync(forward).ResponseAsync, StatusCode.FailedPrecondition, "where no hook sees it");
    }

    [Fact]
    public async Task What_is_refused_is_told_and_the_server_goes_on()
    {
        await RefusedAsync(CreateAsync("a", """{ "type": "TorchScript", "args": { "file": "ReadsFile.pt" } }"""), StatusCode.FailedPrecondition, "aten::from_file (code/__torch__.py:8)");
        await RefusedAsync(CreateAsync("b", """{ "type": "TorchScript", "args": { "file": "Raises.pt", "example": [[1]] } }"""), StatusCode.FailedPrecondition, "seven dimensions are wanted");
        await RefusedAsync(CreateAsync("c", """{ "type": "TorchScript", "args": { "file": "../etc/passwd" } }"""), StatusCode.InvalidArgument, "leads out");
        await RefusedAsync(CreateAsync("c", """{ "type": "TorchScript", "args": { "file": "scripted.pt" } }"""), StatusCode.InvalidArgument, "forward(x: Tensor");
        await RefusedAsync(CreateAsync("d", """{ "type": "TorchScript", "args": { "file": "none.pt" } }"""), StatusCode.NotFound, "SHA256SUMS of script_dir");
        await RefusedAsync(CreateAsync("e", """{ "type": "TorchScript" }"""), StatusCode.InvalidArgument, "file");
        await RefusedAsync(CreateAsync("f", """{ "type": "Sequential", "children": [{ "spec": { "type": "TorchScript", "args": { "file": "Prints.pt" } } }] }"""), StatusCode.FailedPrecondition, "print");
        await CreateAsync("a", """{ "type": "Sequential", "children": [{ "spec": { "type": "TorchScript", "args": { "file": "traced.pt", "example": [[1, 1, 6, 6]] } } }] }""");
    }

    [Fact]
    public async Task A_call_that_never_ends_ends_the_process_for_its_supervisor()
    {
        await using var process = await SconceProcess.StartAsync(("script-dir", server.Scripts.FullName), ("script-timeout", "1s"));
        using var channel = Channels.Open(process);
        var stubs = new Stubs(channel.CreateCallInvoker());

        // It ends for the trial's ones, and not for others.
        await CreateAsync("looping-module", """{ "type": "TorchScript", "args": { "file": "EndlessForTwos.pt", "example": [[1]] } }""", stubs);
        using var watch = new Grpc.Health.V1.Health.HealthClient(channel).Watch(new Grpc.Health.V1.HealthCheckRequest());
        Assert.True(await watch.ResponseStream.MoveNext(TestContext.Current.CancellationToken));
        Assert.Equal(Grpc.Health.V1.HealthCheckResponse.Types.ServingStatus.Serving, watch.ResponseStream.Current.Status);
        var forward = stubs.Execution.ForwardAsync(new ForwardRequest { Module = "looping-module", Inputs = { Wire.Floats([1], 2) } }).ResponseAsync;
        Assert.True(await watch.ResponseStream.MoveNext(TestContext.Current.CancellationToken));
        Assert.Equal(Grpc.Health.V1.HealthCheckResponse.Types.ServingStatus.NotServing, watch.ResponseStream.Current.Status);
        Assert.Equal(70, await process.WaitForExitAsync());
        await Assert.ThrowsAsync<RpcException>(() => forward);
        Assert.Contains(process.Log, line => line.Contains("looping-module", StringComparison.Ordinal) && line.Contains("EndlessForTwos.pt", StringComparison.Ordinal) && line.Contains("script_timeout", StringComparison.Ordinal));
    }

    private static Tensor First(ForwardResponse response) => response.Output.Tuple.Items[0].Tensor;

    private static async Task RefusedAsync(Task call, StatusCode code, string message)
    {
        var error = await Assert.ThrowsAsync<RpcException>(() => call);
        Assert.True(code == error.StatusCode, error.Status.Detail);
        Assert.Contains(message, error.Status.Detail, StringComparison.Ordinal);
    }

    private Task CreateAsync(string name, string spec) => CreateAsync(name, spec, _stubs);

    private static async Task CreateAsync(string name, string spec, Stubs stubs)
    {
        try
        {
            await stubs.Modules.CreateModuleAsync(new CreateModuleRequest { Module = name, Spec = ModuleSpec.Parser.ParseJson(spec) });
        }
        catch (RpcException exception) when (exception.Status.Detail.Contains("cannot confine itself here", StringComparison.Ordinal))
        {
            Assert.Skip($"SKIPPED: {exception.Status.Detail}");
        }
    }
}
