using System.Diagnostics;
using Sconce.Benchmarks.Harness;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Benchmarks.Sides;

/// <summary>
/// The MLP as a program would run it that links TorchSharp itself: the least that the remote side could cost. Its inputs are ready-made
/// tensors, so it pays nothing for making them. Everything runs on one thread of its own, since autograd's modes are per thread.
/// </summary>
internal sealed class LocalWorkloads
{
    private readonly Lock _one = new();
    private readonly Sequential _module = nn.Sequential(
        nn.Linear(Mlp.Inputs, Mlp.Hidden), nn.ReLU(), nn.Linear(Mlp.Hidden, Mlp.Hidden), nn.ReLU(), nn.Linear(Mlp.Hidden, Mlp.Classes));

    private readonly CrossEntropyLoss _loss = nn.CrossEntropyLoss();
    private readonly optim.Optimizer _optimizer;
    private readonly Lazy<HookWorkloads> _hooks = new();
    private readonly Lazy<FileWorkloads> _files = new();
    private readonly Lazy<SnapshotWorkloads> _snapshots = new();

    /// <summary>Builds the module and its optimizer.</summary>
    public LocalWorkloads() => _optimizer = optim.SGD(_module.parameters(), Mlp.LearningRate);

    /// <summary>Runs one block; blocks never overlap.</summary>
    public Task<BlockResult> RunAsync(LocalBlock block) => Task.Factory.StartNew(
        () =>
        {
            lock (_one)
            {
                return Run(block);
            }
        },
        CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);

    private BlockResult Run(LocalBlock block)
    {
        using var input = rand(block.Batch, Mlp.Inputs);
        using var targets = arange(block.Batch, ScalarType.Int64).remainder_(Mlp.Classes);
        _module.train(block.Workload == LocalWorkload.TrainStep);
        Action call = block.Workload switch
        {
            LocalWorkload.Forward => () => Forward(input),
            LocalWorkload.TrainStep => () => TrainStep(input, targets),
            LocalWorkload.Hookless => _hooks.Value.Hookless,
            LocalWorkload.NoHooks => _hooks.Value.NoHooks,
            LocalWorkload.HostedForward => _hooks.Value.Plain,
            LocalWorkload.HostedForwardAndCopy => _hooks.Value.PlainAndCopy,
            LocalWorkload.ReadFile => _files.Value.Read,
            LocalWorkload.DdFsync => _snapshots.Value.Dd,
            LocalWorkload.SaveSnapshot => _snapshots.Value.Save,
            LocalWorkload.LoadSafetensors => _files.Value.LoadSafetensors,
            _ => _hooks.Value.Observed,
        };

        var recorder = new LatencyRecorder();
        var began = Stopwatch.GetTimestamp();
        var end = began + (long)(block.Milliseconds / 1e3 * Stopwatch.Frequency);
        for (var now = began; now < end; now = Stopwatch.GetTimestamp())
        {
            call();
            recorder.Add(now);
            if (block.Workload is LocalWorkload.DdFsync or LocalWorkload.SaveSnapshot)
            {
                _snapshots.Value.Clear();
            }
        }

        return LatencyRecorder.Summarize(Stopwatch.GetElapsedTime(began), recorder);
    }

    private void Forward(Tensor input)
    {
        using var scope = NewDisposeScope();
        using var mode = inference_mode();
        _ = _module.call(input);
    }

    private void TrainStep(Tensor input, Tensor targets)
    {
        using var scope = NewDisposeScope();
        var loss = _loss.call(_module.call(input), targets);
        _optimizer.zero_grad();
        loss.backward();
        _optimizer.step();
        _ = loss.item<float>();
    }
}
