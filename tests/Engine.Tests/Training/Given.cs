using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using Sconce.Engine.Training;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Training;

/// <summary>Small modules and arguments that many tests start from.</summary>
internal static class Given
{
    public static Dictionary<string, object?> Args(params (string Name, object? Value)[] entries) => entries.ToDictionary(e => e.Name, e => e.Value);

    public static ModuleSpec Spec(string type, params (string Name, object? Value)[] args) => new(type) { Args = Args(args) };

    public static ModuleSpec Sequential(params ModuleSpec[] children) => new("Sequential") { Children = [.. children.Select(child => new ChildSpec("", child))] };

    public static ModuleTree Build(ModuleSpec spec) => ModuleBuilder.Build(spec, ElementType.Float32, new BuildLimits());

    /// <summary>Linear(4, 3): the smallest module with a weight and a bias.</summary>
    public static ModuleTree Linear() => Build(Spec("Linear", ("in_features", 4.0), ("out_features", 3.0)));

    /// <summary>Linear(4, 8), Tanh, Linear(8, 3).</summary>
    public static ModuleTree TwoLayers() => Build(Sequential(
        Spec("Linear", ("in_features", 4.0), ("out_features", 8.0)), Spec("Tanh"), Spec("Linear", ("in_features", 8.0), ("out_features", 3.0))));

    public static LossFunction Loss(string type, params (string Name, object? Value)[] args) => LossFunction.Create(type, Args(args));

    public static HostedOptimizer Optimizer(ModuleTree tree, string type, params (string Name, object? Value)[] args) =>
        HostedOptimizer.Create("default", type, Args(args), [], tree);

    public static TrainingBatch Batch(ModuleTree tree, Tensor input, LossFunction loss, params Tensor[] targets) =>
        new(tree.Root, "", new CallArguments(TensorTree.Of(input)), loss, targets);
}
