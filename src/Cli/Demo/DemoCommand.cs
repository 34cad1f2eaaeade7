using System.CommandLine;
using Sconce.Cli.Data;
using Sconce.Cli.Serving;
using Sconce.Cli.Terminal;
using Spectre.Console;

namespace Sconce.Cli.Demo;

internal sealed class DemoCommand : CliCommand
{
    private const int DefaultEpochs = 4;
    private const double LeastAccuracy = 0.85;

    private readonly Option<string?> _data = new("--data")
    {
        Description = "Folder with Fashion-MNIST in idx.gz form, e.g. /usr/share/datasets/fashion-mnist; the subset that comes with Sconce if not given.",
        HelpName = "folder",
    };

    private readonly Option<int> _epochs = CommonSymbols.Positive("--epochs", "Passes over the training images.", DefaultEpochs);
    private readonly Option<int?> _limit = CommonSymbols.PositiveOrNone("--train-limit", "Train on the first n images only.");
    private readonly Option<string?> _json = new("--json") { Description = "Write what was measured to this file.", HelpName = "file" };

    public DemoCommand(CommandTerminal terminal)
        : base(
            terminal,
            "demo",
            "Shows the whole service on real data: starts a server, trains, freezes, converts and copies a network, and stops the server.",
            "sconce demo",
            "sconce demo --data /usr/share/datasets/fashion-mnist --epochs 2 --json demo.json")
    {
        Options.Add(_data);
        Options.Add(_epochs);
        Options.Add(_limit);
        Options.Add(_json);
    }

    protected override async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        if (parsed.GetValue(_json) is { } target)
            CheckWritable(target);
        var options = new DemoOptions(parsed.GetValue(_data) ?? FashionMnist.FindSubset(), parsed.GetValue(_epochs), parsed.GetValue(_limit) ?? int.MaxValue);
        var run = new DemoRun(Terminal, options);
        try
        {
            await run.RunAsync(cancel).ConfigureAwait(false);
        }
        catch (Exception e) when (!cancel.IsCancellationRequested && e is not UsageException)
        {
            return Fail(run, e);
        }

        if (parsed.GetValue(_json) is { } file)
            await WriteAsync(file, run.Report, cancel).ConfigureAwait(false);
        // A shortened run is for trying the steps, not for learning.
        if (run.Report.Accuracy < LeastAccuracy && options is { Epochs: >= DefaultEpochs, TrainLimit: int.MaxValue })
        {
            Terminal.Error.MarkupLineInterpolated($"[red]The accuracy is {Quantities.Percent(run.Report.Accuracy)}; at least {Quantities.Percent(LeastAccuracy)} was expected.[/]");
            return ExitCode.Refused;
        }

        return ExitCode.Ok;
    }

    private int Fail(DemoRun run, Exception error)
    {
        Terminal.Error.WriteLine();
        Terminal.Error.MarkupLineInterpolated($"[red]The step \"{run.Step}\" failed.[/]");
        var code = error is DemoFailedException or ServerProcessException ? ExitCode.Refused : ErrorReport.Write(Terminal, error, json: false, interrupted: false);
        if (error is DemoFailedException or ServerProcessException)
            Terminal.Error.MarkupLineInterpolated($"{error.Message}");
        var log = error is ServerProcessException { Log.Count: > 0 } ended ? ended.Log : run.ServerLog;
        if (log.Count > 0)
        {
            Terminal.Error.WriteLine("The server's last lines:");
            foreach (var line in log)
                Terminal.Error.Profile.Out.Writer.WriteLine("  " + line);
        }

        return code;
    }

    /// <summary>Now, and not when the whole demo has run.</summary>
    private static void CheckWritable(string file)
    {
        var existed = File.Exists(file);
        try
        {
            File.Open(file, FileMode.OpenOrCreate, FileAccess.Write).Dispose();
            if (!existed)
                File.Delete(file);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw NotWritable(file, e);
        }
    }

    private static UsageException NotWritable(string file, Exception e) => new($"--json is '{file}', which cannot be written: {e.Message}", e);

    private static async Task WriteAsync(string file, DemoReport report, CancellationToken cancel)
    {
        try
        {
            await File.WriteAllTextAsync(file, CommandTerminal.ToJson(report, indented: true) + "\n", cancel).ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw NotWritable(file, e);
        }
    }
}
