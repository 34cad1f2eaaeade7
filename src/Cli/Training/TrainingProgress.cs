using System.Diagnostics;
using System.Globalization;
using Sconce.Cli.Terminal;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace Sconce.Cli.Training;

/// <summary>Shows loss, samples per second and time left while a module trains: as a bar on a terminal, as a line per epoch elsewhere.</summary>
internal sealed class TrainingProgress
{
    // The share of the newest loss in the one shown: single batches jump too much to be read.
    private const double Newest = 0.05;

    private readonly int _epochs;
    private readonly int _stepsPerEpoch;
    private readonly Action<string>? _line;
    private readonly ProgressTask? _task;
    private readonly Stopwatch _watch = Stopwatch.StartNew();
    private int _steps;
    private double _epochLoss;

    private TrainingProgress(int epochs, int stepsPerEpoch, Action<string>? line, ProgressTask? task)
    {
        _epochs = epochs;
        _stepsPerEpoch = stepsPerEpoch;
        _line = line;
        _task = task;
    }

    /// <summary>The loss, smoothed over the last steps.</summary>
    public double Loss { get; private set; } = double.NaN;

    public long Samples { get; private set; }

    public double SamplesPerSecond => Samples / Math.Max(_watch.Elapsed.TotalSeconds, 1e-6);

    public TimeSpan Elapsed => _watch.Elapsed;

    private int TotalSteps => _epochs * _stepsPerEpoch;

    private int Epoch => Math.Min((_steps / _stepsPerEpoch) + 1, _epochs);

    private TimeSpan Left => _steps == 0 ? TimeSpan.Zero : _watch.Elapsed * ((double)(TotalSteps - _steps) / _steps);

    /// <summary>Runs <paramref name="work"/> with a progress to report to.</summary>
    /// <param name="console">Where to show it.</param>
    /// <param name="indent">Columns left free before it.</param>
    /// <param name="epochs">Passes over the data.</param>
    /// <param name="stepsPerEpoch">Steps in a pass.</param>
    /// <param name="work">The training.</param>
    public static async Task<TrainingProgress> ShowAsync(IAnsiConsole console, int indent, int epochs, int stepsPerEpoch, Func<TrainingProgress, Task> work)
    {
        if (!console.Profile.Out.IsTerminal || !console.Profile.Capabilities.Ansi)
        {
            var plain = new TrainingProgress(epochs, stepsPerEpoch, line => console.WriteLine(new string(' ', indent) + line), null);
            await work(plain).ConfigureAwait(false);
            plain._watch.Stop();
            return plain;
        }

        TrainingProgress? progress = null;
        await console.Progress().ExcludeVerticalPadding().UseRenderHook((bar, _) => new Padder(bar, new Padding(indent, 0, 0, 0))).Columns(
            new Cell(9, () => $"epoch {progress!.Epoch}/{progress._epochs}"),
            new ProgressBarColumn { Width = Math.Clamp(console.Profile.Width - indent - 56, 8, 40) },
            new Cell(4, () => string.Create(CultureInfo.InvariantCulture, $"{100L * progress!._steps / progress.TotalSteps,3}%")),
            new Cell(11, () => string.Create(CultureInfo.InvariantCulture, $"loss {progress!.Loss:0.0000}")),
            new Cell(16, () => string.Create(CultureInfo.InvariantCulture, $"{progress!.SamplesPerSecond,6:N0} samples/s")),
            new Cell(9, () => progress!._steps == progress.TotalSteps ? $"in {Quantities.Seconds(progress.Elapsed)}" : $"{progress.Left:m\\:ss} left"))
            .StartAsync(async context =>
            {
                var task = context.AddTask("train", maxValue: epochs * stepsPerEpoch, autoStart: false);
                progress = new TrainingProgress(epochs, stepsPerEpoch, null, task);
                task.StartTask();
                await work(progress).ConfigureAwait(false);
                progress._watch.Stop();
                task.StopTask();
            }).ConfigureAwait(false);
        return progress!;
    }

    /// <summary>A step was taken.</summary>
    public void Report(double loss, long samples)
    {
        _steps++;
        Samples += samples;
        _epochLoss += loss;
        Loss = double.IsNaN(Loss) ? loss : ((1 - Newest) * Loss) + (Newest * loss);
        if (_steps == TotalSteps)
            _watch.Stop();
        _task?.Increment(1);
        if (_line is not null && _steps % _stepsPerEpoch == 0)
        {
            _line(string.Create(
                CultureInfo.InvariantCulture,
                $"epoch {_steps / _stepsPerEpoch}/{_epochs}  mean loss {_epochLoss / _stepsPerEpoch:0.0000}  {SamplesPerSecond:N0} samples/s  {Left:m\\:ss} left"));
            _epochLoss = 0;
        }
    }

    /// <summary>A column of a fixed width, so that the line does not dance.</summary>
    private sealed class Cell(int width, Func<string> text) : ProgressColumn
    {
        protected override bool NoWrap => true;

        public override IRenderable Render(RenderOptions options, ProgressTask task, TimeSpan deltaTime) => new Text(text());

        public override int? GetColumnWidth(RenderOptions options) => width;
    }
}
