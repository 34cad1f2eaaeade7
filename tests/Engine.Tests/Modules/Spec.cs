using Sconce.Engine.Catalog;
using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Modules;

/// <summary>Specs and calls for the tests of the module tree.</summary>
internal static class Spec
{
    public static ModuleSpec Of(string type, params (string Name, object? Value)[] args) => new(type) { Args = args.ToDictionary(a => a.Name, a => a.Value) };

    public static ModuleSpec Linear(double inputs, double outputs) => Of("Linear", ("in_features", inputs), ("out_features", outputs));

    public static ModuleSpec Sequential(params ChildSpec[] children) => new("Sequential") { Children = children };

    public static ModuleSpec Sequential(params ModuleSpec[] children) => Sequential([.. children.Select(child => new ChildSpec("", child))]);

    public static ChildSpec Named(string name, ModuleSpec spec) => new(name, spec);

    public static ChildSpec Shared(string name, string path) => new(name, null, path);

    public static WiringStep Call(string name, string module, params string[] inputs) => new(name, module, null, inputs, new Dictionary<string, object?>(), []);

    public static WiringStep Function(string name, string function, string[] inputs, params (string Name, object? Value)[] args) =>
        new(name, null, function, inputs, args.ToDictionary(a => a.Name, a => a.Value), []);

    public static ModuleSpec Graph(string[] inputs, string[] outputs, WiringStep[] steps, params ChildSpec[] children) =>
        new("Graph") { Children = children, Wiring = new Wiring(inputs, steps, outputs) };

    public static ModuleTree Build(ModuleSpec spec, ElementType type = ElementType.Float32) => ModuleBuilder.Build(spec, type, new BuildLimits());

    public static Tensor Run(this ModuleTree tree, params Tensor[] inputs) => tree.Root.Call(new CallArguments([.. inputs.Select(TensorTree.Of)]), new CallContext()).Tensor!;

    /// <summary>The output of one function of a Graph.</summary>
    public static TensorTree Apply(string function, Tensor[] inputs, params (string Name, object? Value)[] args)
    {
        string[] names = [.. inputs.Select((_, i) => $"x{i}")];
        using var tree = Build(Graph(names, ["y"], [Function("y", function, names, args)]));
        return tree.Root.Call(new CallArguments([.. inputs.Select(TensorTree.Of)]), new CallContext());
    }

    /// <summary>The output of one function of a Graph, which may take so many bytes.</summary>
    public static TensorTree ApplyWithin(long bytes, string function, Tensor[] inputs, params (string Name, object? Value)[] args)
    {
        string[] names = [.. inputs.Select((_, i) => $"x{i}")];
        using var tree = Build(Graph(names, ["y"], [Function("y", function, names, args)]));
        return tree.RunWithin(bytes, inputs);
    }

    /// <summary>The output of a call without gradients, which may take so many bytes.</summary>
    public static TensorTree RunWithin(this ModuleTree tree, long bytes, params Tensor[] inputs)
    {
        using var memory = new CallMemory(Ledger(bytes), MemoryUse.Outputs, "m", recording: false);
        using var quiet = no_grad();
        return tree.Root.Call(new CallArguments([.. inputs.Select(TensorTree.Of)]), new CallContext { Memory = memory });
    }

    public static MemoryLedger Ledger(long bytes) => new(new EngineOptions { MemoryBudgetBytes = bytes, GraphBudgetBytes = bytes, KeptTensorBudgetBytes = bytes });

    /// <summary>Asserts that the memory ledger refuses, before libtorch is asked: what the tests ask for no machine has.</summary>
    public static void NoRoom(Action action) => Assert.Equal("memory_budget_bytes", Refused(action).Quota?.Subject);

    public static EngineException Refused(Action action) => Assert.Throws<EngineException>(action);

    public static double MaxDifference(Tensor a, Tensor b) => (a.to_type(ScalarType.Float64) - b.to_type(ScalarType.Float64)).abs().max().item<double>();
}
