using Sconce.Benchmarks.Harness;
using Sconce.Benchmarks.Report;
using Sconce.Benchmarks.Sides;

namespace Sconce.Benchmarks.Scenarios;

/// <summary>What the hook dispatcher costs a module that has no hooks, and what one observing hook costs.</summary>
internal sealed class HookScenario : Scenario
{
    public override string Title => "Hooks: a module without any, and with one that observes";

    public override IReadOnlyList<string> RowNames => ["no_hooks_over_hookless", "observing_hook_us", "hookless_leaf_us", "forward_inprocess_us", "forward_observed_inprocess_us"];

    public override async Task<IReadOnlyList<Row>> RunAsync(Bench bench, Pace pace, Action<double> progress)
    {
        var sides = new[] { LocalWorkload.Hookless, LocalWorkload.NoHooks, LocalWorkload.HostedForward, LocalWorkload.HostedForwardAndCopy, LocalWorkload.ObservedForward }
            .Select(workload => bench.Bare.Local(workload.ToString(), workload, 1)).ToList();
        var comparison = await Comparison.RunAsync(sides, pace.Rounds, pace.Block, pace.WarmUp, progress);
        var observing = comparison.Difference(nameof(LocalWorkload.ObservedForward), nameof(LocalWorkload.HostedForwardAndCopy), PerCall);
        return
        [
            Row.Of("no_hooks_over_hookless", comparison.Ratio(nameof(LocalWorkload.NoHooks), nameof(LocalWorkload.Hookless), block => block.P50), "ratio", new Target(1.02, AtMost: true)) with
            {
                Note = $"{HookWorkloads.Repeats} calls of Linear(8, 8) in process, through the dispatcher where no hook stands, over the same with the dispatcher left out.",
            },
            Row.Of("observing_hook_us", observing, "us", new Target(5, AtMost: true)) with
            {
                Note = "one Forward of a hosted Identity on 3 KB in process with one hook that captures its output into the answer, less the same Forward without it and a copy of as many bytes.",
            },
            Row.Of("hookless_leaf_us", comparison.Of(nameof(LocalWorkload.Hookless), PerCall), "us"),
            Row.Of("forward_inprocess_us", comparison.Of(nameof(LocalWorkload.HostedForward), PerCall), "us"),
            Row.Of("forward_observed_inprocess_us", comparison.Of(nameof(LocalWorkload.ObservedForward), PerCall), "us"),
        ];

        static double PerCall(BlockResult block) => block.P50 / HookWorkloads.Repeats;
    }
}
