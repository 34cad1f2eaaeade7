using Sconce.Benchmarks.Scenarios;
using Spectre.Console;

namespace Sconce.Benchmarks.Report;

/// <summary>What is said while the benchmark runs, on standard error so that the table can be piped.</summary>
internal static class ProgressLine
{
    /// <summary>Runs every part with a bar on a terminal, else with a line as each begins.</summary>
    public static async Task RunAsync(IReadOnlyList<Scenario> scenarios, Func<Scenario, Action<double>, Task> run)
    {
        if (Console.IsErrorRedirected)
        {
            for (var i = 0; i < scenarios.Count; i++)
            {
                await Console.Error.WriteLineAsync($"[{i + 1}/{scenarios.Count}] {scenarios[i].Title}");
                await run(scenarios[i], _ => { });
            }

            return;
        }

        var console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(Console.Error) });
        await console.Progress().AutoClear(true).Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new ElapsedTimeColumn())
            .StartAsync(async context =>
            {
                foreach (var scenario in scenarios)
                {
                    var task = context.AddTask(Markup.Escape(scenario.Title), maxValue: 1);
                    await run(scenario, done => task.Value = done);
                    task.StopTask();
                }
            });
    }
}
