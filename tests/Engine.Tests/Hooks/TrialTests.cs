using Sconce.Engine.Hooks;
using static Sconce.Engine.Tests.Execution.Testing;
using static Sconce.Engine.Tests.Hooks.HookTesting;
using Spec = Sconce.Engine.Tests.Modules.Spec;

namespace Sconce.Engine.Tests.Hooks;

/// <summary>What the trial of a hook takes.</summary>
public sealed class TrialTests
{
    [Fact]
    public async Task Examples_take_no_memory_that_a_forward_may_not()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Spec.Graph(["x"], ["y"], [Spec.Function("y", "repeat", ["x"], ("repeats", new object?[] { (double)(1L << 48) }))]));
        var used = host.Ledger.UsedBytes;

        foreach (var site in new[] { HookSite.ForwardPre, HookSite.Backward })
        {
            var error = await module.Register(On(site, "", Capture), Filled(1, 1)).Fails(EngineError.ResourceExhausted);
            Assert.Equal("memory_budget_bytes", error.Quota!.Subject);
        }

        Assert.Equal(used, host.Ledger.UsedBytes);
        Assert.Empty((await module.ListHooksAsync("", default)).Hooks);
    }

    [Theory]
    [InlineData(HookSite.Forward, 40_000 + 40_000 + 400)]
    [InlineData(HookSite.Backward, 40_000 + 40_000 + 400 + 40_000 + 400 + 400)]
    public async Task Examples_take_a_copy_of_the_module_and_with_a_backward_its_gradients(HookSite site, long bytes)
    {
        foreach (var fits in new[] { true, false })
        {
            await using var host = Host(options => options.MemoryBudgetBytes = bytes - (fits ? 0 : 1));
            var module = await host.CreateEval("m", Spec.Of("Linear", ("in_features", 100.0), ("out_features", 100.0), ("bias", false)));
            var register = module.Register(On(site, "", new MulAction(Number(2))), Filled(1, 1, 100));
            await (fits ? (Task)register : register.Fails(EngineError.ResourceExhausted, "memory_budget_bytes"));
            Assert.Equal(40_000, host.Ledger.UsedBytes);
        }
    }
}
