using Sconce.Engine.Tensors;
using static Sconce.Engine.Tests.Execution.Testing;

namespace Sconce.Engine.Tests.Execution;

public sealed class KeptTensorTests
{
    [Fact]
    public async Task A_kept_tensor_is_a_copy_that_calls_can_use_and_callers_can_read()
    {
        await using var host = Host();
        var payload = Payload([1, 4], 1, 2, 3, 4);
        var kept = host.Tensors.Put("x", payload, null, "");
        System.Runtime.InteropServices.MemoryMarshal.AsMemory(payload.Data).Span.Clear();
        Assert.Equal(("x", ElementType.Float32, 16L, ""), (kept.Id, kept.Type, kept.Bytes, kept.Session));
        using (var read = host.Tensors.Get("x"))
        {
            Assert.Equal([1f, 2f, 3f, 4f], read.Values());
        }

        var module = await host.CreateEval("m", Mlp());
        var byId = await module.Forward(TensorInput.Kept("x"));
        var byValue = await module.Forward(Floats([1, 4], 1, 2, 3, 4));
        Assert.Equal(byValue, byId);
        await module.ForwardAsync(Call(TensorInput.Kept("x", ElementType.Float64)), default).Fails(EngineError.InvalidArgument, "inputs[0].dtype", "float64", "float32");
        await module.ForwardAsync(Call(TensorInput.Kept("y")), default).Fails(EngineError.NotFound, "\"y\"");
        host.Tensors.Drop("x");
        Fails(() => host.Tensors.Get("x"), EngineError.NotFound, "ListTensors");
        Assert.Equal(module.Summary.Bytes, host.Ledger.UsedBytes);
    }

    [Fact]
    public async Task A_module_that_computes_in_place_does_not_write_into_a_kept_tensor()
    {
        await using var host = Host();
        host.Tensors.Put("x", Payload([2], -1, 2), null, "");
        var module = await host.CreateEval("m", Of("ReLU", ("inplace", true)));
        var output = await module.Forward(TensorInput.Kept("x"));
        Assert.Equal([0f, 2f], output);
        using var read = host.Tensors.Get("x");
        Assert.Equal([-1f, 2f], read.Values());
    }

    [Fact]
    public async Task Use_restarts_the_time_to_live_and_expiry_frees()
    {
        var time = new ManualTime();
        await using var host = Host(time: time);
        host.Tensors.Put("x", Payload([1], 1), TimeSpan.FromSeconds(10), "");
        time.Advance(TimeSpan.FromSeconds(8));
        host.Tensors.Get("x").Dispose();
        time.Advance(TimeSpan.FromSeconds(8));
        Assert.Single(host.Tensors.List(""));
        time.Advance(TimeSpan.FromSeconds(2));
        Assert.Empty(host.Tensors.List(""));
        Fails(() => host.Tensors.Get("x"), EngineError.NotFound);

        // The id is free again, whether or not a sweep came by.
        host.Tensors.Put("x", Payload([2], 1, 2), null, "");
        Assert.Equal(8, host.Ledger.UsedBytes);
        time.Advance(TimeSpan.FromHours(1));
        host.Sweep();
        Assert.Equal(0, host.Ledger.UsedBytes);
    }

    [Fact]
    public async Task What_cannot_be_kept_is_refused_and_leaves_nothing()
    {
        await using var host = Host(options => { options.KeptTensorBudgetBytes = 100; options.MaxKeptTensors = 2; });
        Fails(() => host.Tensors.Put("bad id", Payload([1], 1), null, ""), EngineError.InvalidArgument, "bad id");
        Fails(() => host.Tensors.Put("x", Payload([1], 1), TimeSpan.Zero, ""), EngineError.InvalidArgument, "ttl");
        Fails(() => host.Tensors.Put("x", Payload([1], 1), TimeSpan.FromDays(2), ""), EngineError.InvalidArgument, "max_ttl");
        Fails(() => host.Tensors.Put("x", Payload([1], 1), null, "s-1"), EngineError.NotFound, "session");
        Fails(() => host.Tensors.Put("x", Payload([3], 1), null, ""), EngineError.InvalidArgument, "tensor.data", "4 bytes", "takes 12");
        var error = Fails(() => host.Tensors.Put("x", Payload([26], new float[26]), null, ""), EngineError.ResourceExhausted, "kept_tensor_budget_bytes");
        Assert.Equal(new QuotaRef("kept_tensor_budget_bytes", 104, 0, 100), error.Quota);
        Assert.Equal(0, host.Ledger.UsedBytes);

        host.Tensors.Put("x", Payload([1], 1), null, "");
        Fails(() => host.Tensors.Put("x", Payload([1], 1), null, ""), EngineError.AlreadyExists);
        var chosen = host.Tensors.Put("", Payload([1], 1), null, "");
        Assert.NotEmpty(chosen.Id);
        Fails(() => host.Tensors.Put("z", Payload([1], 1), null, ""), EngineError.ResourceExhausted, "max_kept_tensors");
        Assert.Equal(8, host.Ledger.UsedBytes);
    }

    [Fact]
    public async Task Sessions_are_bounded_and_their_labels_checked()
    {
        await using var host = Host(options => options.MaxSessions = 1);
        using (var session = host.Sessions.Open("a"))
        {
            Fails(() => host.Sessions.Open("b"), EngineError.ResourceExhausted, "max_sessions");
            host.Tensors.Put("x", Payload([1], 1), null, session.Id);
            Assert.Equal("x", Assert.Single(host.Tensors.List(session.Id)).Id);
            host.Tensors.Drop("x");
            session.Dispose();
            session.Dispose();
        }

        Assert.Equal(0, host.Sessions.Count);
        Fails(() => host.Sessions.Open("a\nb"), EngineError.InvalidArgument, "label");
    }
}
