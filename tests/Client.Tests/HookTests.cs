using Grpc.Core;
using Sconce.V1;
using static Sconce.Client.Tests.Streams;

namespace Sconce.Client.Tests;

public sealed class HookTests
{
    [Fact]
    public async Task RegisterHook_onASubmodule_isPlacedFromTheWholeModule()
    {
        await using var server = await FakeServer.StartAsync();
        await using var client = server.NewClient();
        var part = client.Module("m").GetSubmodule("a");

        await part.RegisterForwardHookAsync(hook => hook.Capture());
        await part.RegisterHookAsync(Hooks.Forward("0").Capture());
        await part.RegisterForwardHookAsync(hook => hook.OnGlob("*.attn").Capture());
        await client.Module("m").RegisterForwardHookAsync(hook => hook.OnType("Linear").Capture());

        Assert.Equal(
            [("a", "", ""), ("a.0", "", ""), ("", "a.*.attn", ""), ("", "", "Linear")],
            server.Seen<RegisterHookRequest>().Select(request => (request.Hook.Path, request.Hook.Glob, request.Hook.Type)));
    }

    [Fact]
    public async Task RegisterHook_byTypeOnASubmodule_isRefusedAsItWouldStandInTheWholeModule()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<ForwardRequest, ForwardResponse>((request, _) => Fakes.Echo(request));
        await using var client = server.NewClient();
        var part = client.Module("m").GetSubmodule("a");

        foreach (var write in new Action<Hook>[] { hook => hook.OnType("Linear").Set(0), hook => hook.OnInstances("Linear").Set(0) })
        {
            var error = await Assert.ThrowsAsync<InvalidOperationException>(() => part.RegisterForwardHookAsync(write));
            Assert.Contains("the hook is for the type 'Linear', which would stand in all of 'm'", error.Message, StringComparison.Ordinal);
            Assert.Contains("OnGlob", error.Message, StringComparison.Ordinal);
        }

        Assert.Empty(server.Seen<RegisterHookRequest>());

        // A hook that goes with a call sees no more than the call runs.
        await part.ForwardAsync(TensorData.Scalar(1f), new() { Hooks = [Hooks.Forward().OnType("Linear").Set(0)] });
        Assert.Equal(("a", "Linear"), (server.Seen<ForwardRequest>()[0].Path, server.Seen<ForwardRequest>()[0].Hooks[0].Type));
    }

    [Fact]
    public async Task WatchHooks_events_comeUntilTheServerEnds()
    {
        await using var server = await FakeServer.StartAsync();
        server.OnStream<WatchHookRequest, WatchHookResponse>(async (_, writer, _) =>
        {
            await writer!.WriteAsync(new WatchHookResponse());
            await writer.WriteAsync(new WatchHookResponse { Dropped = 2 });
            return null;
        });
        await using var client = server.NewClient();

        var dropped = await client.Module("m").WatchHooksAsync("h", 3).Select(seen => seen.Dropped).ToListAsync().AsTask().WaitAsync(Bound);

        Assert.Equal([0L, 2L], dropped);
        var request = Assert.Single(server.Seen<WatchHookRequest>());
        Assert.Equal(("m", "h", 3u), (request.Module, request.Hook, request.Buffer));
    }

    [Fact]
    public async Task WatchHooks_refusedForNow_isOpenedAgain()
    {
        await using var server = await FakeServer.StartAsync();
        server.OnStream<WatchHookRequest, WatchHookResponse>(async (_, writer, _) =>
        {
            if (server.Seen<WatchHookRequest>().Count < 3)
                throw Fakes.Error(StatusCode.Unavailable, "starting");
            await writer!.WriteAsync(new WatchHookResponse());
            return null;
        });
        await using var client = server.NewClient();

        Assert.Equal(1, await client.Module("m").WatchHooksAsync().CountAsync().AsTask().WaitAsync(Bound));
        Assert.Equal(3, server.Seen<WatchHookRequest>().Count);
    }

    [Fact]
    public async Task WatchHooks_brokenLater_throwsAsCapturesMayBeMissed()
    {
        await using var server = await FakeServer.StartAsync();
        server.OnStream<WatchHookRequest, WatchHookResponse>(async (_, writer, _) =>
        {
            await writer!.WriteAsync(new WatchHookResponse());
            throw Fakes.Error(StatusCode.NotFound, "the module was deleted", Fakes.Reason("MODULE_NOT_FOUND"));
        });
        await using var client = server.NewClient();

        var error = await Assert.ThrowsAsync<SconceNotFoundException>(() => client.Module("m").WatchHooksAsync().CountAsync().AsTask().WaitAsync(Bound));

        Assert.Equal(("the module was deleted", "MODULE_NOT_FOUND"), (error.Message, error.Reason));
        Assert.Single(server.Seen<WatchHookRequest>());
    }

    [Fact]
    public async Task WatchHooks_noServer_saysWhereAndHowOften()
    {
        await using var client = new SconceClient(new SconceClientOptions
        {
            Address = "http://127.0.0.1:1",
            Retry = new SconceRetryOptions { MaxAttempts = 2, BaseDelay = TimeSpan.FromMilliseconds(1) },
        });

        var error = await Assert.ThrowsAsync<SconceUnavailableException>(() => client.Module("m").WatchHooksAsync().CountAsync().AsTask().WaitAsync(Bound));

        Assert.Contains("a Sconce server at http://127.0.0.1:1: Connection refused (2 attempts", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task WatchHooks_connectionLostLater_saysWhere()
    {
        await using var server = await FakeServer.StartAsync();
        var watched = new TaskCompletionSource();
        server.OnStream<WatchHookRequest, WatchHookResponse>(async (_, writer, context) =>
        {
            await writer!.WriteAsync(new WatchHookResponse());
            await watched.Task;
            context.GetHttpContext().Abort();
            return null;
        });
        await using var client = server.NewClient();
        await using var watch = client.Module("m").WatchHooksAsync().GetAsyncEnumerator(TestContext.Current.CancellationToken);
        Assert.True(await watch.MoveNextAsync().AsTask().WaitAsync(Bound));

        watched.SetResult();
        var error = await Assert.ThrowsAsync<SconceUnavailableException>(() => watch.MoveNextAsync().AsTask().WaitAsync(Bound));

        Assert.Contains($"WatchHookRequest lost its connection to the Sconce server at {server.Address}: ", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task WatchHooks_otherContract_isNamed()
    {
        await using var server = await FakeServer.StartAsync();
        server.Contract = "2.0";
        server.OnStream<WatchHookRequest, WatchHookResponse>(async (_, writer, _) =>
        {
            await writer!.WriteAsync(new WatchHookResponse());
            return null;
        });
        await using var client = server.NewClient();

        await Assert.ThrowsAsync<SconceContractException>(() => client.Module("m").WatchHooksAsync().CountAsync().AsTask().WaitAsync(Bound));
    }

    [Fact]
    public async Task WatchHooks_silentServer_givesUpAtTheDeadline_andOnceOpenHasNone()
    {
        await using var server = await FakeServer.StartAsync();
        var (silent, limit) = (true, TimeSpan.FromSeconds(4));
        server.OnStream<WatchHookRequest, WatchHookResponse>(async (_, writer, context) =>
        {
            if (Volatile.Read(ref silent))
                await Task.Delay(Timeout.Infinite, context.CancellationToken);
            await writer!.WriteAsync(new WatchHookResponse());
            await Task.Delay(limit * 1.5, context.CancellationToken);
            await writer.WriteAsync(new WatchHookResponse());
            return null;
        });
        await using var client = server.NewClient(o => o.Timeout = limit);

        await using (var hasty = server.NewClient(o => o.Timeout = TimeSpan.FromMilliseconds(500)))
            await Assert.ThrowsAsync<SconceDeadlineExceededException>(() => hasty.Module("m").WatchHooksAsync().CountAsync().AsTask().WaitAsync(Bound));

        // Opened well within its limit on a busy machine too.
        Volatile.Write(ref silent, false);
        Assert.Equal(2, await client.Module("m").WatchHooksAsync().CountAsync().AsTask().WaitAsync(Bound));
    }

    [Fact]
    public async Task WatchHooks_cancelled_endsItOnBothSides()
    {
        await using var server = await FakeServer.StartAsync();
        var gone = new TaskCompletionSource();
        server.OnStream<WatchHookRequest, WatchHookResponse>(async (_, writer, context) =>
        {
            using var registration = context.CancellationToken.Register(() => gone.TrySetResult());
            await writer!.WriteAsync(new WatchHookResponse());
            await Task.Delay(Timeout.Infinite, context.CancellationToken);
            return null;
        });
        await using var client = server.NewClient();
        using var stop = new CancellationTokenSource();
        await using var watch = client.Module("m").WatchHooksAsync(cancellationToken: stop.Token).GetAsyncEnumerator(TestContext.Current.CancellationToken);
        Assert.True(await watch.MoveNextAsync().AsTask().WaitAsync(Bound));

        var next = watch.MoveNextAsync().AsTask();
        await stop.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => next.WaitAsync(Bound));
        await gone.Task.WaitAsync(Bound);
    }

    [Fact]
    public async Task WatchHooks_negativeBuffer_isRefusedAtOnce()
    {
        await using var client = new SconceClient("http://127.0.0.1:1");

        Assert.Throws<ArgumentOutOfRangeException>(() => { _ = client.Module("m").WatchHooksAsync(buffer: -1); });
    }
}
