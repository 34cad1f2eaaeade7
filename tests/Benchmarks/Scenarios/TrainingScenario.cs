using Sconce.Benchmarks.Harness;
using Sconce.Benchmarks.Report;
using Sconce.Benchmarks.Sides;

namespace Sconce.Benchmarks.Scenarios;

/// <summary>A training step of the MLP at batch 32: by TrainStream, by one TrainStep after another, and in the server's own process.</summary>
internal sealed class TrainingScenario : Scenario
{
    private const int Batch = 32;
    private const int InFlight = 8;
    private const string Local = "trainstep_inprocess";
    private const string Unary = "trainstep";
    private const string Stream = "trainstream";

    public override string Title => $"Training the MLP, batch {Batch}";

    public override IReadOnlyList<string> RowNames =>
        ["trainstream_over_inprocess", "trainstep_over_inprocess", .. Rows.Names(Local, 1), .. Rows.Names(Unary, 1), .. Rows.Names(Stream, InFlight)];

    public override async Task<IReadOnlyList<Row>> RunAsync(Bench bench, Pace pace, Action<double> progress)
    {
        var comparison = await Comparison.RunAsync(
            [
                bench.Bare.Local(Local, LocalWorkload.TrainStep, Batch),
                bench.Sconce.TrainStream(Stream, Batch, InFlight),
                Side.Calls(Unary, bench.Sconce.TrainStep(Batch), 1),
            ],
            pace.Rounds, pace.Block * 2, pace.WarmUp, progress);
        return
        [
            Row.Of("trainstream_over_inprocess", comparison.Ratio(Stream, Local, block => block.MeanTime), "ratio", new Target(1.25, AtMost: true)) with
            {
                Note = $"time per step with {InFlight} steps in flight, over the same steps on tensors ready-made in the server's process; SGD, cross entropy.",
            },
            Row.Of("trainstep_over_inprocess", comparison.Ratio(Unary, Local, block => block.MeanTime), "ratio"),
            .. Rows.Of(comparison, Local, Local, 1),
            .. Rows.Of(comparison, Stream, Stream, InFlight),
            .. Rows.Of(comparison, Unary, Unary, 1),
        ];
    }
}
