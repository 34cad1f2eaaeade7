using System.Collections.Concurrent;
using System.Diagnostics;
using Sconce.Cli.Data;
using Sconce.Cli.Running;
using Sconce.Cli.Serving;
using Sconce.Cli.Terminal;
using Sconce.Cli.Training;
using Sconce.Client;
using Sconce.V1;

namespace Sconce.Cli.Demo;

/// <summary>What the demo is asked to do.</summary>
/// <param name="DataFolder">Folder with Fashion-MNIST in idx.gz form.</param>
/// <param name="Epochs">Passes over the training images.</param>
/// <param name="TrainLimit">Most training images used.</param>
internal sealed record DemoOptions(string DataFolder, int Epochs, int TrainLimit);

/// <summary>The demo, one method a step. Everything but starting and stopping the server goes through the client.</summary>
internal sealed class DemoRun(CommandTerminal terminal, DemoOptions options)
{
    private const int BatchSize = 64;
    private const int EvalBatchSize = 250;
    private const int FrozenSteps = 20;
    private const double PeakLearningRate = 4e-3;
    private const double FrozenLearningRate = 1e-3;
    private const double OwnLossLearningRate = 0.05;
    private const string ModelName = "fashion";

    private readonly DemoScreen _screen = new(terminal);
    private Dataset _train = null!;
    private Dataset _test = null!;
    private RemoteModule _model = null!;
    private RemoteOptimizer _optimizer = null!;

    public DemoReport Report { get; } = new() { Epochs = options.Epochs };

    /// <summary>The step that is being taken.</summary>
    public string Step => _screen.Step;

    /// <summary>The server's last lines, for when something went wrong.</summary>
    public IReadOnlyList<string> ServerLog { get; private set; } = [];

    /// <exception cref="DemoFailedException">A step did not show what it should.</exception>
    public async Task RunAsync(CancellationToken cancel)
    {
        var data = FashionMnist.Read(options.DataFolder);
        _train = Dataset.Of(data.Train.Take(options.TrainLimit));
        _test = Dataset.Of(data.Test);
        (Report.TrainImages, Report.TestImages) = (_train.Count, _test.Count);

        var watch = Stopwatch.StartNew();
        _screen.Begin("Server");
        var server = await ServerProcess.StartAsync(cancel).ConfigureAwait(false);
        await using (server.ConfigureAwait(false))
        {
            try
            {
                await UseAsync(server, watch.Elapsed, cancel).ConfigureAwait(false);
                await StopAsync(server, cancel).ConfigureAwait(false);
            }
            finally
            {
                ServerLog = server.Log;
            }
        }

        Report.TotalSeconds = watch.Elapsed.TotalSeconds;
        _screen.End(Report);
    }

    private async Task UseAsync(ServerProcess server, TimeSpan startTime, CancellationToken cancel)
    {
        var client = new SconceClient(server.Address);
        await using (client.ConfigureAwait(false))
        {
            var host = await client.GetHostAsync(cancel).ConfigureAwait(false);
            _screen.Line($"sconce serve, process {server.Id}, on {server.Address}, ready in {Quantities.Seconds(startTime)}");
            _screen.Line($"{host.Device}: {host.DeviceName}, libtorch {host.LibtorchVersion}");

            await CreateAsync(client, cancel).ConfigureAwait(false);
            await TrainAsync(cancel).ConfigureAwait(false);
            await EvaluateAsync(cancel).ConfigureAwait(false);
            await FreezeAsync(cancel).ConfigureAwait(false);
            await ConvertAsync(cancel).ConfigureAwait(false);
            await StepWithClientLossAsync(cancel).ConfigureAwait(false);
            await CopyWeightsAsync(client, cancel).ConfigureAwait(false);
        }
    }

    private async Task CreateAsync(SconceClient client, CancellationToken cancel)
    {
        _screen.Begin("Module");
        _model = await client.CreateModuleAsync(ModelName, DemoNetwork.Spec, seed: 0, cancellationToken: cancel).ConfigureAwait(false);
        var description = await _model.DescribeAsync(cancel).ConfigureAwait(false);
        foreach (var line in description.Repr.Split('\n'))
            _screen.Line(line);
        _screen.Line($"{Quantities.Count((long)description.Module.Parameters)} parameters, {Quantities.Bytes((long)description.Module.Bytes)}");
    }

    private async Task TrainAsync(CancellationToken cancel)
    {
        _screen.Begin("Train", $"{Quantities.Count(_train.Count)} Fashion-MNIST images, batches of {BatchSize}, AdamW with OneCycleLR");
        var steps = options.Epochs * _train.BatchCount(BatchSize);
        _optimizer = await _model.CreateOptimizerAsync("AdamW", [("lr", PeakLearningRate)], cancellationToken: cancel).ConfigureAwait(false);
        await _optimizer.CreateSchedulerAsync("OneCycleLR", [("max_lr", PeakLearningRate), ("total_steps", steps + 1)], cancel).ConfigureAwait(false);
        await _model.TrainAsync(cancellationToken: cancel).ConfigureAwait(false);
        var random = new Random(0);
        var progress = await TrainingProgress.ShowAsync(terminal.Out, DemoScreen.Indent, options.Epochs, _train.BatchCount(BatchSize), async progress =>
        {
            for (var epoch = 0; epoch < options.Epochs; epoch++)
                await TrainOnAsync(_train.ShuffledBatches(BatchSize, random), schedulerStep: true, progress, cancel).ConfigureAwait(false);
        }).ConfigureAwait(false);
        (Report.TrainSeconds, Report.SamplesPerS) = (progress.Elapsed.TotalSeconds, progress.SamplesPerSecond);
    }

    private async Task EvaluateAsync(CancellationToken cancel)
    {
        _screen.Begin("Evaluate", "eval mode");
        await _model.EvalAsync(cancel).ConfigureAwait(false);
        Report.Accuracy = await Accuracy.MeasureAsync(_model, _test, EvalBatchSize, cancel).ConfigureAwait(false);
        _screen.Line($"accuracy {Quantities.Percent(Report.Accuracy)} of {Quantities.Count(_test.Count)} test images");
    }

    private async Task FreezeAsync(CancellationToken cancel)
    {
        _screen.Begin("Freeze", $"{DemoNetwork.FirstStage}; then {FrozenSteps} more steps");
        await _model.SetTrainPolicyAsync(new TrainPolicy { Frozen = { DemoNetwork.FirstStage } }, cancel).ConfigureAwait(false);
        await _model.TrainAsync(cancellationToken: cancel).ConfigureAwait(false);
        await _optimizer.SetLearningRateAsync(FrozenLearningRate, cancellationToken: cancel).ConfigureAwait(false);
        var before = await _model.StateDictAsync(cancellationToken: cancel).ConfigureAwait(false);
        await TrainOnAsync(_train.Batches(BatchSize).Take(FrozenSteps), schedulerStep: false, null, cancel).ConfigureAwait(false);
        var after = await _model.StateDictAsync(cancellationToken: cancel).ConfigureAwait(false);

        foreach (var (key, tensor) in before)
        {
            var change = MaxDifference(tensor, after[key]);
            if (key.StartsWith(DemoNetwork.FirstStage + ".", StringComparison.Ordinal))
                Report.FrozenMaxChange = Math.Max(Report.FrozenMaxChange, change);
            else if (key.EndsWith(".weight", StringComparison.Ordinal) || key.EndsWith(".bias", StringComparison.Ordinal))
                Report.TrainedMaxChange = Math.Max(Report.TrainedMaxChange, change);
        }

        _screen.Line($"largest change of a value: {Quantities.Small(Report.FrozenMaxChange)} in {DemoNetwork.FirstStage}, {Quantities.Small(Report.TrainedMaxChange)} in the rest");
        Check(Report.FrozenMaxChange == 0, $"{DemoNetwork.FirstStage} is frozen, but one of its values moved by {Report.FrozenMaxChange}.");
        Check(Report.TrainedMaxChange > 0, "Nothing outside the frozen stage moved.");
        await _model.SetTrainPolicyAsync(null, cancel).ConfigureAwait(false);
        await _model.RequiresGradAsync(cancellationToken: cancel).ConfigureAwait(false);
        await _model.EvalAsync(cancel).ConfigureAwait(false);
    }

    private async Task ConvertAsync(CancellationToken cancel)
    {
        _screen.Begin("Convert", "in place, and back");
        (Report.BytesFp32, _) = await MeasureAsync("float32", await _model.GetAsync(cancel).ConfigureAwait(false), DataType.Float32, cancel).ConfigureAwait(false);
        (Report.BytesBf16, Report.AccuracyBf16) = await MeasureAsync("bfloat16()", await _model.BFloat16Async(cancel).ConfigureAwait(false), DataType.Bfloat16, cancel).ConfigureAwait(false);
        (Report.BytesFp16, Report.AccuracyFp16) = await MeasureAsync("half()", await _model.HalfAsync(cancel).ConfigureAwait(false), DataType.Float16, cancel).ConfigureAwait(false);
        (_, Report.AccuracyBack) = await MeasureAsync("float()", await _model.FloatAsync(cancel).ConfigureAwait(false), DataType.Float32, cancel).ConfigureAwait(false);
    }

    private async Task<(long Bytes, double Accuracy)> MeasureAsync(string name, Module summary, DataType dtype, CancellationToken cancel)
    {
        var accuracy = await Accuracy.MeasureAsync(_model, _test.WithInputs(dtype), EvalBatchSize, cancel).ConfigureAwait(false);
        _screen.Line($"{name,-10}  {Quantities.Bytes((long)summary.Bytes),10}  accuracy {Quantities.Percent(accuracy)}");
        return ((long)summary.Bytes, accuracy);
    }

    private async Task StepWithClientLossAsync(CancellationToken cancel)
    {
        _screen.Begin("Own loss", "focal loss and its gradient computed in the client; one step");
        var batch = _train.Batches(EvalBatchSize).First();
        await _model.ZeroGradAsync(cancellationToken: cancel).ConfigureAwait(false);
        var graph = await _model.ForwardWithGraphAsync(batch.Inputs, new GraphOptions { InputGrads = false }, cancel).ConfigureAwait(false);
        await using (graph.ConfigureAwait(false))
        {
            var (loss, gradient) = FocalLoss.Compute(graph.Output.Tensor, batch.Targets[0]);
            Report.ClientLossBefore = loss;
            await graph.BackwardAsync(gradient, cancellationToken: cancel).ConfigureAwait(false);
        }

        // An optimizer of its own, without momentum: the step then follows this gradient alone, and the loss must fall.
        var optimizer = await _model.CreateOptimizerAsync("SGD", [("lr", OwnLossLearningRate)], name: "own", cancellationToken: cancel).ConfigureAwait(false);
        await optimizer.StepAsync(zeroGrad: true, cancellationToken: cancel).ConfigureAwait(false);
        var output = await _model.ForwardAsync(batch.Inputs, cancellationToken: cancel).ConfigureAwait(false);
        Report.ClientLossAfter = FocalLoss.Compute(output.Tensor, batch.Targets[0]).Loss;
        _screen.Line(FormattableString.Invariant($"loss {Report.ClientLossBefore:0.0000} before the step, {Report.ClientLossAfter:0.0000} after it"));
        Check(Report.ClientLossAfter < Report.ClientLossBefore, "The step with the client's loss did not lower it.");
    }

    private async Task CopyWeightsAsync(SconceClient client, CancellationToken cancel)
    {
        _screen.Begin("Weights", "state dict out, and into a second module");
        var state = await _model.StateDictAsync(cancellationToken: cancel).ConfigureAwait(false);
        var second = await client.CreateModuleAsync($"{ModelName}-2", DemoNetwork.Spec, seed: 1, cancellationToken: cancel).ConfigureAwait(false);
        await second.LoadStateDictAsync(state, cancellationToken: cancel).ConfigureAwait(false);
        await second.EvalAsync(cancel).ConfigureAwait(false);
        foreach (var batch in _test.Batches(EvalBatchSize))
        {
            var expected = await _model.ForwardAsync(batch.Inputs, cancellationToken: cancel).ConfigureAwait(false);
            var actual = await second.ForwardAsync(batch.Inputs, cancellationToken: cancel).ConfigureAwait(false);
            Report.ReloadMaxDiff = Math.Max(Report.ReloadMaxDiff, MaxDifference(expected.Tensor, actual.Tensor));
        }

        _screen.Line($"{state.Count} tensors, {Quantities.Bytes(state.TotalBytes)}; largest difference of {Quantities.Count(_test.Count)} outputs: {Quantities.Small(Report.ReloadMaxDiff)}");
        Check(Report.ReloadMaxDiff == 0, $"The second module's outputs differ from the first one's by up to {Report.ReloadMaxDiff}.");
    }

    private async Task StopAsync(ServerProcess server, CancellationToken cancel)
    {
        _screen.Begin("Stop");
        var watch = Stopwatch.StartNew();
        var code = await server.StopAsync(cancel).ConfigureAwait(false);
        Check(code == 0, $"The server ended with exit code {code}.");
        _screen.Line($"SIGTERM: the server drained and ended with exit code 0 in {Quantities.Seconds(watch.Elapsed)}");
    }

    private async Task TrainOnAsync(IEnumerable<TrainBatch> batches, bool schedulerStep, TrainingProgress? progress, CancellationToken cancel)
    {
        // The stream reads its batches on other threads than this one.
        var sizes = new ConcurrentQueue<long>();
        var steps = _model.TrainStreamAsync(
            batches.Select(batch =>
            {
                sizes.Enqueue(batch.Inputs[0].Shape[0]);
                return batch;
            }).ToAsyncEnumerable(),
            Nn.CrossEntropyLoss(),
            new TrainStepOptions { SchedulerStep = schedulerStep },
            cancellationToken: cancel);
        await foreach (var step in steps.ConfigureAwait(false))
            progress?.Report(step.Loss, sizes.TryDequeue(out var size) ? size : throw new InvalidOperationException("A step was answered before its batch was read."));
    }

    private static double MaxDifference(TensorData a, TensorData b)
    {
        double largest = 0;
        for (var i = 0; i < a.Length; i++)
            largest = Math.Max(largest, Math.Abs(TensorElements.ToDouble(a, i) - TensorElements.ToDouble(b, i)));
        return largest;
    }

    private static void Check(bool condition, string otherwise)
    {
        if (!condition)
            throw new DemoFailedException(otherwise);
    }
}

/// <summary>A step of the demo did not show what it should.</summary>
internal sealed class DemoFailedException(string message) : Exception(message);
