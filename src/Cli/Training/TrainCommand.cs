using System.CommandLine;
using Sconce.Cli.Running;
using Sconce.Cli.Terminal;
using Sconce.Client;
using Sconce.V1;

namespace Sconce.Cli.Training;

internal sealed class TrainCommand : ClientCommand
{
    private readonly Argument<string> _module = CommonSymbols.Module();
    private readonly Option<string> _inputs = new("--inputs", "-x") { Description = "Inputs: .npy, or idx(.gz) images, which become float32 [N, 1, rows, columns] from 0 to 1.", HelpName = "file", Required = true };
    private readonly Option<string> _targets = new("--targets", "-y") { Description = "Targets: .npy, or idx(.gz) labels, which become int64 [N].", HelpName = "file", Required = true };
    private readonly Option<string?> _testInputs = new("--test-inputs") { Description = "Inputs to measure accuracy on afterwards, in eval mode.", HelpName = "file" };
    private readonly Option<string?> _testTargets = new("--test-targets") { Description = "Their classes.", HelpName = "file" };
    private readonly Option<string> _loss = new("--loss") { Description = "A loss of torch.nn.", HelpName = "type", DefaultValueFactory = _ => "CrossEntropyLoss" };
    private readonly Option<string[]> _lossArgs = CommonSymbols.Arguments("--loss-arg", "Argument of the loss, e.g. label_smoothing=0.1. May be repeated.");
    private readonly Option<string?> _optimizer = new("--optimizer") { Description = "An optimizer of torch.optim, made anew; if not given, the one that the module has, or AdamW.", HelpName = "type" };
    private readonly Option<double?> _lr = new("--lr") { Description = "Learning rate; the optimizer's own if not given.", HelpName = "rate" };
    private readonly Option<string[]> _optimizerArgs = CommonSymbols.Arguments("--optimizer-arg", "Argument of the optimizer, e.g. weight_decay=0.01. May be repeated.");
    private readonly Option<int> _epochs = CommonSymbols.Positive("--epochs", "Passes over the data.", 1);
    private readonly Option<int> _batchSize = CommonSymbols.Positive("--batch-size", "Samples in a step.", 64);
    private readonly Option<int?> _limit = CommonSymbols.PositiveOrNone("--limit", "Use only the first n samples.");
    private readonly Option<double?> _clip = new("--clip-norm") { Description = "Clip the total norm of the gradients to this.", HelpName = "norm" };
    private readonly Option<int> _seed = new("--seed") { Description = "Seed of the order of the samples.", HelpName = "n", DefaultValueFactory = _ => 0 };

    public TrainCommand(CommandTerminal terminal)
        : base(
            terminal,
            "train",
            "Trains a module on data from files, pipelined.",
            "sconce train cnn -x data/fashion-mnist/train-images-idx3-ubyte.gz -y data/fashion-mnist/train-labels-idx1-ubyte.gz --epochs 2 --lr 1e-3",
            "sconce train mlp -x x.npy -y y.npy --loss MSELoss --optimizer SGD --lr 0.1 --optimizer-arg momentum=0.9")
    {
        Arguments.Add(_module);
        foreach (var option in new Option[]
        {
            _inputs, _targets, _testInputs, _testTargets, _loss, _lossArgs, _optimizer, _lr, _optimizerArgs, _epochs, _batchSize, _limit, _clip, _seed,
        })
        {
            Options.Add(option);
        }

        Validators.Add(result =>
        {
            if (result.GetValue(_testInputs) is null != result.GetValue(_testTargets) is null)
                result.AddError("--test-inputs and --test-targets belong together.");
            if (result.GetValue(_optimizerArgs) is { Length: > 0 } && result.GetValue(_optimizer) is null)
                result.AddError("--optimizer-arg belongs to --optimizer.");
        });
    }

    protected override async Task<int> RunAsync(ParseResult parsed, SconceClient client, CancellationToken cancel)
    {
        var module = client.Module(parsed.GetValue(_module)!);
        var data = new Dataset(TensorSource.ReadArray(parsed.GetValue(_inputs)!), TensorSource.ReadArray(parsed.GetValue(_targets)!)).Take(parsed.GetValue(_limit) ?? int.MaxValue);
        var test = parsed.GetValue(_testInputs) is { } testInputs ? new Dataset(TensorSource.ReadArray(testInputs), TensorSource.ReadArray(parsed.GetValue(_testTargets)!)) : null;
        var loss = Nn.Loss(parsed.GetValue(_loss)!, CommonSymbols.ParseArguments("--loss-arg", parsed.GetValue(_lossArgs)!));
        await PrepareOptimizerAsync(parsed, module, cancel).ConfigureAwait(false);
        await module.TrainAsync(cancellationToken: cancel).ConfigureAwait(false);

        var (epochs, batchSize) = (parsed.GetValue(_epochs), parsed.GetValue(_batchSize));
        var random = new Random(parsed.GetValue(_seed));
        var options = new TrainStepOptions { Clip = parsed.GetValue(_clip) is { } norm ? new GradientClip { MaxNorm = norm } : null };
        // With --json standard output is one document: the progress goes beside it.
        var progress = await TrainingProgress.ShowAsync(WantsJson(parsed) ? Terminal.Error : Terminal.Out, indent: 0, epochs, data.BatchCount(batchSize), async progress =>
        {
            var batches = Enumerable.Range(0, epochs).SelectMany(_ => data.ShuffledBatches(batchSize, random)).ToAsyncEnumerable();
            var left = (long)epochs * data.Count;
            await foreach (var step in module.TrainStreamAsync(batches, loss, options, cancellationToken: cancel).ConfigureAwait(false))
            {
                var samples = Math.Min(batchSize, left);
                progress.Report(step.Loss, samples);
                left -= samples;
            }
        }).ConfigureAwait(false);

        double? accuracy = null;
        if (test is not null)
        {
            await module.EvalAsync(cancel).ConfigureAwait(false);
            accuracy = await Accuracy.MeasureAsync(module, test, 256, cancel).ConfigureAwait(false);
        }

        if (WantsJson(parsed))
            Terminal.Json(new { module = module.Name, epochs, samples = progress.Samples, progress.Loss, seconds = progress.Elapsed.TotalSeconds, samples_per_s = progress.SamplesPerSecond, accuracy });
        else if (accuracy is not null)
            Terminal.Output.WriteLine($"{Quantities.Percent(accuracy.Value)} of {Quantities.Count(test!.Count)} test samples right (eval mode)");
        return ExitCode.Ok;
    }

    private async Task PrepareOptimizerAsync(ParseResult parsed, RemoteModule module, CancellationToken cancel)
    {
        var type = parsed.GetValue(_optimizer);
        var lr = parsed.GetValue(_lr);
        var exists = (await module.GetAsync(cancel).ConfigureAwait(false)).Optimizers.Contains("default");
        if (exists && type is null)
        {
            if (lr is not null)
                await module.Optimizer().SetLearningRateAsync(lr.Value, cancellationToken: cancel).ConfigureAwait(false);
            return;
        }

        var args = CommonSymbols.ParseArguments("--optimizer-arg", [.. parsed.GetValue(_optimizerArgs)!, .. lr is null ? Array.Empty<string>() : [FormattableString.Invariant($"lr={lr:R}")]]);
        if (exists)
            await module.Optimizer().DeleteAsync(cancel).ConfigureAwait(false);
        await module.CreateOptimizerAsync(type ?? "AdamW", args, cancellationToken: cancel).ConfigureAwait(false);
    }
}
