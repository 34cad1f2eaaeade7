namespace Sconce.Engine.Catalog.Models;

/// <summary>Writes the specs that models stand for.</summary>
internal static class Compose
{
    public static ModuleSpec Of(string type, params (string Name, object? Value)[] args) => new(type) { Args = args.ToDictionary(arg => arg.Name, arg => arg.Value) };

    public static ModuleSpec Sequential(params IEnumerable<ModuleSpec> modules) => new("Sequential") { Children = [.. modules.Select(module => new ChildSpec("", module))] };

    public static ModuleSpec Sequential(params IEnumerable<(string Name, ModuleSpec Module)> modules) => new("Sequential") { Children = [.. Named(modules)] };

    public static ModuleSpec List(IEnumerable<ModuleSpec> modules) => new("ModuleList") { Children = [.. modules.Select(module => new ChildSpec("", module))] };

    public static ModuleSpec Graph(Wiring wiring, params IEnumerable<(string Name, ModuleSpec Module)> children) => new("Graph") { Wiring = wiring, Children = [.. Named(children)] };

    public static ModuleSpec Conv2d(long from, long to, long kernel, long stride = 1, long padding = 0, long dilation = 1, long groups = 1, bool bias = true) => Of("Conv2d",
        ("in_channels", from), ("out_channels", to), ("kernel_size", kernel), ("stride", stride), ("padding", padding), ("dilation", dilation), ("groups", groups), ("bias", bias));

    public static ModuleSpec BatchNorm2d(long features) => Of("BatchNorm2d", ("num_features", features));

    public static ModuleSpec ReLU() => Of("ReLU", ("inplace", true));

    public static ModuleSpec Linear(long from, long to) => Of("Linear", ("in_features", from), ("out_features", to));

    public static ModuleSpec Dropout(double p) => Of("Dropout", ("p", p));

    public static ModuleSpec LayerNorm(long size, double eps) => Of("LayerNorm", ("normalized_shape", size), ("eps", eps));

    private static IEnumerable<ChildSpec> Named(IEnumerable<(string Name, ModuleSpec Module)> modules) => modules.Select(module => new ChildSpec(module.Name, module.Module));
}

/// <summary>Writes a wiring step by step; values get names of their own.</summary>
/// <param name="inputs">Names of the inputs; <c>?</c> ends one that may be left out.</param>
internal sealed class Wires(params string[] inputs)
{
    private static readonly Dictionary<string, object?> NoArguments = [];

    private readonly List<WiringStep> _steps = [];

    /// <summary>Calls children one after another, each on what the one before gave; the name of the last result.</summary>
    public string Chain(string value, params string[] children)
    {
        foreach (var child in children)
        {
            value = Call(child, value);
        }

        return value;
    }

    /// <summary>Calls a child; the name of the result.</summary>
    public string Call(string child, params string[] values) => Add(new WiringStep(Next(), child, null, values, NoArguments, []));

    /// <summary>Calls a child that gives a tuple; names for its items, empty for those dropped.</summary>
    public void Unpack(string child, string[] values, params string[] names) => _steps.Add(new WiringStep("", child, null, values, NoArguments, names));

    /// <summary>Calls a function; the name of the result.</summary>
    public string Function(string function, string[] values, params (string Name, object? Value)[] args) =>
        Add(new WiringStep(Next(), null, function, values, args.ToDictionary(arg => arg.Name, arg => arg.Value), []));

    public Wiring Returns(params string[] outputs) => new(inputs, _steps, outputs);

    private string Next() => $"v{_steps.Count}";

    private string Add(WiringStep step)
    {
        _steps.Add(step);
        return step.Name;
    }
}
