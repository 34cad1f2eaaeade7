using System.Diagnostics;
using Sconce.Engine.Execution;
using Sconce.Engine.Hooks;
using static Sconce.Engine.Tests.Execution.Testing;
using static Sconce.Engine.Tests.Hooks.ForwardHookTests;
using static Sconce.Engine.Tests.Hooks.HookTesting;

namespace Sconce.Engine.Tests.Hooks;

/// <summary>What a hook may say is bounded: lists that no tensor could fill are refused in one word, and what is kept of a hook is charged.</summary>
public sealed class HookLimitTests
{
    private const int Many = 200_000;

    private static readonly HookSpec Edit = On(HookSite.Forward, "", new SetAction(Number(0)));

    private static readonly Dictionary<string, (HookSpec Hook, string Field)> TooLong = new()
    {
        ["dims"] = (Edit with { Select = new HookSelect(null, [.. Enumerable.Range(0, Many).Select(dim => new HookDim(dim) { Index = 0 })]) }, "select.dims"),
        ["statistics"] = (Edit with { Actions = [new ReduceAction([.. Enumerable.Repeat(HookStatistic.Mean, Many)], HookDestination.Default)] }, "actions[0].reduce.statistics"),
        ["reduced dims"] = (Edit with { Actions = [new ReduceAction([HookStatistic.Mean], HookDestination.Default) { Dims = [.. Enumerable.Range(0, Many)] }] }, "actions[0].reduce.dims"),
        ["actions"] = (Edit with { Actions = [.. Enumerable.Repeat(new SkipAction(null), Many)] }, "actions"),
        ["path"] = (Edit with { Target = new(HookTargetKind.Path, new string('a', Many)) }, "target"),
        ["glob"] = (Edit with { Target = new(HookTargetKind.Glob, new string('*', Many)) }, "target"),
        ["name"] = (On(HookSite.ParamGrad, "", new SetAction(Number(0))) with { Names = [new string('a', Many)] }, "names[0]"),
        ["state"] = (On(HookSite.Forward, "", new SetAction(new HookOperand(State: new string('a', Many)))), "actions[0].set.value.state"),
        ["through"] = (On(HookSite.Forward, "", new CallModuleAction(new HookModuleRef("m", new string('a', Many)))), "actions[0].call_module.module.path"),
        ["prefix"] = (On(HookSite.StateDict, "", new RenameAction(new string('a', Many), "")), "actions[0].rename.prefix"),
        ["replacement"] = (On(HookSite.StateDict, "", new RenameAction("", new string('a', Many))), "actions[0].rename.replacement"),
    };

    public static TheoryData<string> Cases => [.. TooLong.Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public void What_is_too_long_is_told_once_and_at_once(string name)
    {
        var (hook, field) = TooLong[name];
        var started = Stopwatch.StartNew();
        var error = Fails(() => HookChecks.Check(hook, "hook", inline: false), EngineError.InvalidArgument, "are taken");
        Assert.Equal("hook." + field, Assert.Single(error.Fields).Field);
        Assert.InRange(started.Elapsed, TimeSpan.Zero, TimeSpan.FromSeconds(5));
    }

    [Fact]
    public async Task What_is_kept_of_a_hook_is_charged()
    {
        await using var host = Host();
        var module = await Doubler(host);
        var select = new HookSelect(null, [new HookDim(0) { Indexes = [.. Enumerable.Range(0, Many).Select(i => (long)i)] }]);
        await module.Register(Edit with { Id = "h", Select = select });
        Assert.InRange(host.Ledger.Used(MemoryUse.Hooks), 8 * Many, 9 * Many);

        var copy = await host.CopyModuleAsync("m", "", "copy", null, default);
        Assert.InRange(host.Ledger.Used(MemoryUse.Hooks), 16 * Many, 18 * Many);
        await copy.RemoveHookAsync("h", null, default);
        await module.RemoveHookAsync("h", null, default);
        Assert.Equal(0, host.Ledger.Used(MemoryUse.Hooks));
    }

    [Fact]
    public async Task A_hook_that_the_budget_does_not_hold_is_refused()
    {
        await using var host = Host(options => options.MemoryBudgetBytes = 1 << 20);
        var module = await Doubler(host);
        var select = new HookSelect(null, [new HookDim(0) { Indexes = [.. Enumerable.Range(0, Many).Select(i => (long)i)] }]);
        await module.Register(Edit with { Select = select }).Fails(EngineError.ResourceExhausted, "memory_budget_bytes");
        Assert.Equal(0, host.Ledger.Used(MemoryUse.Hooks));
    }

    [Fact]
    public async Task A_copy_whose_hooks_the_budget_does_not_hold_leaves_nothing_behind()
    {
        await using var host = Host(options => options.MemoryBudgetBytes = 5 << 20);
        var module = await Doubler(host);
        for (var i = 0; i < 2; i++)
        {
            // The first fits once more, the second does not.
            await module.Register(On(HookSite.Forward, "0", new SetAction(Values([1 << (18 + i)], new float[1 << (18 + i)]))));
        }

        var before = host.Ledger.UsedBytes;
        await host.CopyModuleAsync("m", "", "copy", null, default).Fails(EngineError.ResourceExhausted, "memory_budget_bytes");
        Assert.Equal(before, host.Ledger.UsedBytes);
        Assert.Equal(["m"], host.ListModules("").Select(hosted => hosted.Name));
        await module.RemoveHookAsync((await module.ListHooksAsync("", default)).Hooks[1].Spec.Id, null, default);
        await host.CopyModuleAsync("m", "", "copy", null, default);
    }
}
