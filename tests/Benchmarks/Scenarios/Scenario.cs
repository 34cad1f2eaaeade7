using Sconce.Benchmarks.Report;
using Sconce.Benchmarks.Sides;

namespace Sconce.Benchmarks.Scenarios;

/// <summary>A part of the benchmark that is measured together.</summary>
internal abstract class Scenario
{
    /// <summary>Every part, in the order of the table.</summary>
    public static IReadOnlyList<Scenario> All { get; } =
    [
        new IdentityScenario(1), new IdentityScenario(8), new IdentityScenario(32),
        new AllocationScenario(),
        new MlpScenario(1), new MlpScenario(32),
        new TrainingScenario(),
        new HookScenario(),
        new TransferScenario(),
        new FileScenario(),
        new UploadScenario(),
        new UploadMemoryScenario(),
        new SnapshotScenario(),
        new RestartScenario(),
    ];

    /// <summary>What it measures, for the progress line.</summary>
    public abstract string Title { get; }

    /// <summary>Names of the rows that it makes.</summary>
    public abstract IReadOnlyList<string> RowNames { get; }

    /// <summary>Measures.</summary>
    /// <param name="bench">The sides.</param>
    /// <param name="pace">How long.</param>
    /// <param name="progress">Told how much is done, from 0 to 1.</param>
    public abstract Task<IReadOnlyList<Row>> RunAsync(Bench bench, Pace pace, Action<double> progress);
}

/// <summary>How long a part is measured.</summary>
/// <param name="Rounds">Rounds of alternating blocks.</param>
/// <param name="Block">Length of one block.</param>
/// <param name="WarmUp">Length of each side's warm-up: long enough for the JIT's tiers to settle.</param>
internal sealed record Pace(int Rounds, TimeSpan Block, TimeSpan WarmUp)
{
    /// <summary>A whole run in some minutes.</summary>
    public static readonly Pace Full = new(11, TimeSpan.FromMilliseconds(500), TimeSpan.FromSeconds(2));

    /// <summary>Enough to see that everything runs; its figures are rough.</summary>
    public static readonly Pace Quick = new(3, TimeSpan.FromMilliseconds(150), TimeSpan.FromSeconds(1));

    /// <summary>Fewer rounds, for parts that are figures only.</summary>
    public Pace Shorter => this with { Rounds = Math.Max(3, Rounds / 2) };
}
