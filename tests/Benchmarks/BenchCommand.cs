using System.CommandLine;
using System.Text.RegularExpressions;
using Sconce.Benchmarks.Report;
using Sconce.Benchmarks.Scenarios;
using Sconce.Benchmarks.Sides;
using Spectre.Console;

namespace Sconce.Benchmarks;

/// <summary>The command line.</summary>
internal static class BenchCommand
{
    /// <summary>Every claim held.</summary>
    private const int Held = 0;

    /// <summary>A claim was missed.</summary>
    private const int Missed = 1;

    /// <summary>Nothing matches <c>--only</c>.</summary>
    private const int Usage = 2;

    /// <summary>A file has no width of its own; nothing in the table is longer.</summary>
    private const int RedirectedWidth = 160;

    /// <summary>Defines it.</summary>
    public static RootCommand Create()
    {
        var json = new Option<string?>("--json") { Description = "Write the table as JSON to this file.", HelpName = "FILE" };
        var only = new Option<string?>("--only")
        {
            Description = "Measure only the rows whose name matches: a part of the name, or a pattern with * and ?.",
            HelpName = "PATTERN",
        };
        var quick = new Option<bool>("--quick") { Description = "Short blocks and few rounds: shows that everything runs; the figures are rough." };
        var threads = new Option<int>("--threads")
        {
            Description = "OMP_NUM_THREADS for both sides: libtorch's threads within one operation.",
            DefaultValueFactory = _ => Math.Max(1, Environment.ProcessorCount / 2),
        };
        threads.Validators.Add(result =>
        {
            if (result.GetValueOrDefault<int>() < 1)
            {
                result.AddError($"--threads is {result.GetValueOrDefault<int>()}; it must be > 0");
            }
        });
        var command = new RootCommand(
            """
            Measures Sconce against a bare grpc-dotnet echo and against the same work in process, all in one run on this machine.

            The sides run in one server process, away from the client, in many short alternating blocks; values are medians over the blocks,
            with their quartiles. A row with a target is a claim. A whole run takes some minutes. The snapshot rows write 512 MiB at a time
            under TMPDIR, and the restart row runs sconce serve --supervise of its own. Exit code: 0 when every claim holds, 1 when one is
            missed, 2 for bad usage.

            Example: ./sconce bench --only identity --json bench.json
            """)
        {
            json, only, quick, threads,
        };
        command.SetAction((parsed, _) => RunAsync(parsed.GetValue(json), parsed.GetValue(only), parsed.GetValue(quick) ? Pace.Quick : Pace.Full, parsed.GetValue(threads)));
        return command;
    }

    private static async Task<int> RunAsync(string? json, string? only, Pace pace, int threads)
    {
        var matches = Matcher(only);
        var scenarios = Scenario.All.Where(scenario => scenario.RowNames.Any(matches)).ToList();
        if (scenarios.Count == 0)
        {
            await Console.Error.WriteLineAsync($"no row matches --only {only}; the rows are: {string.Join(", ", Scenario.All.SelectMany(scenario => scenario.RowNames))}");
            return Usage;
        }

        var machine = Machine.Describe(threads);
        var rows = new List<Row>();
        await using (var bench = await Bench.StartAsync(threads))
        {
            await ProgressLine.RunAsync(scenarios, async (scenario, report) => rows.AddRange(await scenario.RunAsync(bench, pace, report)));
        }

        rows.RemoveAll(row => !matches(row.Name));
        if (Console.IsOutputRedirected)
        {
            AnsiConsole.Profile.Width = RedirectedWidth;
        }

        ReportTable.Print(AnsiConsole.Console, machine, rows);
        if (json is not null)
        {
            JsonReport.Write(json, machine, rows);
        }

        return rows.Exists(row => row.Ok == false) ? Missed : Held;
    }

    private static Func<string, bool> Matcher(string? pattern)
    {
        if (pattern is null)
        {
            return _ => true;
        }

        if (pattern.AsSpan().IndexOfAny('*', '?') < 0)
        {
            return name => name.Contains(pattern, StringComparison.OrdinalIgnoreCase);
        }

        var regex = new Regex($"^{Regex.Escape(pattern).Replace(@"\*", ".*", StringComparison.Ordinal).Replace(@"\?", ".", StringComparison.Ordinal)}$", RegexOptions.IgnoreCase);
        return regex.IsMatch;
    }
}
