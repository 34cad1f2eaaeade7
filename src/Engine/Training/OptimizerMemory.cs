using static TorchSharp.torch;

namespace Sconce.Engine.Training;

/// <summary>All that makes another optimizer go on where one stood, but for its tensors.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Type">PyTorch's type name.</param>
/// <param name="Args">Arguments of its constructor.</param>
/// <param name="Groups">Its parameter groups.</param>
/// <param name="Steps">Steps taken.</param>
/// <param name="Scalars">State that is one number: as <see cref="OptimizerStateDict"/> has it, or for LBFGS by names of our own.</param>
/// <param name="Scheduler">Its scheduler; null for none.</param>
internal sealed record OptimizerMemory(
    string Name, string Type, IReadOnlyDictionary<string, object?> Args, IReadOnlyList<GroupDescription> Groups, long Steps, IReadOnlyDictionary<string, double> Scalars,
    SchedulerMemory? Scheduler);

/// <summary>All that makes another scheduler go on where one stood, but for the rates of the groups.</summary>
/// <param name="Type">PyTorch's type name.</param>
/// <param name="Args">Its arguments.</param>
/// <param name="Groups">How many groups there were when it was made.</param>
/// <param name="Steps">Steps taken.</param>
/// <param name="Counts">What its schedule has counted and seen.</param>
internal sealed record SchedulerMemory(string Type, IReadOnlyDictionary<string, object?> Args, int Groups, long Steps, IReadOnlyList<double> Counts);

/// <summary>An optimizer's memory with its tensors, which are references to its own.</summary>
internal readonly record struct RememberedOptimizer(OptimizerMemory Memory, IReadOnlyList<(string Key, Tensor Value)> Tensors);
