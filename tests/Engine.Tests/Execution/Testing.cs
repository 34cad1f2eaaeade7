using System.Runtime.InteropServices;
using Sconce.Engine.Catalog;
using Sconce.Engine.Execution;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Tests.Execution;

/// <summary>Specs, tensors and hosts for the tests of the execution layer.</summary>
internal static class Testing
{
    // Only tests that fail wait as long: a machine may be busy with other things.
    public static readonly TimeSpan Limit = TimeSpan.FromSeconds(120);

    public static EngineHost Host(Action<EngineOptions>? configure = null, TimeProvider? time = null)
    {
        var options = new EngineOptions { Lanes = 2, IntraOpThreads = 1, MemoryBudgetBytes = 1L << 30, GraphBudgetBytes = 1L << 28, KeptTensorBudgetBytes = 1L << 28 };
        configure?.Invoke(options);
        return new EngineHost(options, time: time);
    }

    public static ModuleSpec Linear(int inputs, int outputs) =>
        new("Linear") { Args = new Dictionary<string, object?> { ["in_features"] = (double)inputs, ["out_features"] = (double)outputs } };

    public static ModuleSpec Of(string type, params (string Name, object? Value)[] args) =>
        new(type) { Args = args.ToDictionary(arg => arg.Name, arg => arg.Value) };

    public static ModuleSpec Sequential(params ModuleSpec[] children) =>
        new("Sequential") { Children = [.. children.Select(child => new ChildSpec("", child))] };

    public static ModuleSpec Mlp(int inputs = 4, int hidden = 8, int outputs = 2) => Sequential(Linear(inputs, hidden), Of("ReLU"), Linear(hidden, outputs));

    public static Task<HostedModule> Create(this EngineHost host, string name, ModuleSpec spec) =>
        host.CreateModuleAsync(name, spec, null, ElementType.Float32, TestContext.Current.CancellationToken);

    public static async Task<HostedModule> CreateEval(this EngineHost host, string name, ModuleSpec spec)
    {
        var module = await host.Create(name, spec);
        await module.TrainAsync(default, false, default);
        return module;
    }

    public static TensorPayload Payload(long[] shape, params float[] values) =>
        new(ElementType.Float32, shape, MemoryMarshal.AsBytes(values.AsSpan()).ToArray());

    public static TensorInput Floats(long[] shape, params float[] values) => TensorInput.Of(Payload(shape, values));

    public static TensorInput Filled(float value, params long[] shape)
    {
        var values = new float[shape.Aggregate(1L, (a, b) => a * b)];
        Array.Fill(values, value);
        return Floats(shape, values);
    }

    public static ForwardCall Call(params TensorInput[] inputs) => new() { Inputs = new CallInputs(inputs) };

    public static ForwardCall Record(params TensorInput[] inputs) => new() { Inputs = new CallInputs(inputs), RecordGraph = true };

    public static float[] Values(this TensorExport export) => MemoryMarshal.Cast<byte, float>(export.Data.Span).ToArray();

    public static float[] Values(this ForwardOutcome outcome) => outcome.Output.Tensor!.Values();

    public static async Task<float[]> Forward(this HostedModule module, params TensorInput[] inputs)
    {
        using var outcome = await module.ForwardAsync(Call(inputs), default).WaitAsync(Limit);
        return outcome.Values();
    }

    public static async Task<EngineException> Fails(this Task task, EngineError error, params string[] words)
    {
        var exception = await Assert.ThrowsAsync<EngineException>(() => task.WaitAsync(Limit));
        Assert.True(error == exception.Error, $"expected {error}, got {exception.Error}: {exception.Message}");
        Assert.All(words, word => Assert.Contains(word, exception.Message, StringComparison.Ordinal));
        return exception;
    }

    public static EngineException Fails(Action action, EngineError error, params string[] words)
    {
        var exception = Assert.Throws<EngineException>(action);
        Assert.True(error == exception.Error, $"expected {error}, got {exception.Error}: {exception.Message}");
        Assert.All(words, word => Assert.Contains(word, exception.Message, StringComparison.Ordinal));
        return exception;
    }
}

/// <summary>A clock that moves when told; its timers do not fire by themselves.</summary>
internal sealed class ManualTime : TimeProvider
{
    private DateTimeOffset _now = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

    public override DateTimeOffset GetUtcNow() => _now;

    public void Advance(TimeSpan by) => _now += by;

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) =>
        // The engine's sweep is called by tests themselves; every other timer is a real limit.
        period == TimeSpan.FromSeconds(1) ? new Still() : System.CreateTimer(callback, state, dueTime, period);

    private sealed class Still : ITimer
    {
        public bool Change(TimeSpan dueTime, TimeSpan period) => true;

        public void Dispose()
        {
        }

        public ValueTask DisposeAsync() => default;
    }
}
