using Sconce.Engine.Catalog;
using Sconce.Engine.Execution;
using Sconce.Engine.Hooks;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Benchmarks.Sides;

/// <summary>What hooks cost, in one process without gRPC. Each call is <see cref="Repeats"/> calls of a small module, so that the clock is not what is measured.</summary>
internal sealed class HookWorkloads : IDisposable
{
    /// <summary>Calls of the module in one measured call.</summary>
    public const int Repeats = 64;

    private const int Elements = 768;

    private readonly ModuleTree _tree = ModuleBuilder.Build(Linear(8), ElementType.Float32, new BuildLimits());
    private readonly Tensor _small = rand(1, 8);
    private readonly Tensor _captured = rand(1, Elements);
    private readonly IReadOnlyList<TensorTree> _inputs;
    private readonly EngineHost _host = new(new EngineOptions { Lanes = 1, IntraOpThreads = get_num_threads() });
    private readonly HostedModule _plain;
    private readonly HostedModule _observed;
    private readonly ForwardCall _call;

    public HookWorkloads()
    {
        _inputs = [TensorTree.Of(_small)];
        _call = new ForwardCall { Inputs = new CallInputs([TensorInput.Of(new TensorPayload(ElementType.Float32, [1, Elements], new byte[Elements * sizeof(float)]))]) };
        (_plain, _observed) = (Create("plain"), Create("observed"));
        var hook = new HookSpec { Site = HookSite.Forward, Actions = [new CaptureAction(new HookDestination(Response: true))] };
        _ = Wait(_observed.RegisterHookAsync(hook, null, null, default));
    }

    /// <summary>A module called without the dispatcher.</summary>
    public void Hookless() => Leaf((node, context) => node.Run(_inputs, context));

    /// <summary>The same through the dispatcher, where no hook stands.</summary>
    public void NoHooks() => Leaf((node, context) => node.Invoke(_inputs, context));

    /// <summary>Forward of a hosted Identity.</summary>
    public void Plain() => Forward(_plain, null);

    /// <summary>The same, and its arithmetic of a capture: a copy of the output, ready to be sent.</summary>
    public void PlainAndCopy() => Forward(_plain, () => TensorExport.Take(_captured.detach().clone()).Dispose());

    /// <summary>Forward of a hosted Identity with one hook that captures its output.</summary>
    public void Observed() => Forward(_observed, null);

    public void Dispose()
    {
        _host.DisposeAsync().AsTask().GetAwaiter().GetResult();
        _tree.Dispose();
        _small.Dispose();
        _captured.Dispose();
    }

    private static ModuleSpec Linear(int width) =>
        new("Linear") { Args = new Dictionary<string, object?> { ["in_features"] = (double)width, ["out_features"] = (double)width } };

    private static T Wait<T>(Task<T> task) => task.GetAwaiter().GetResult();

    private HostedModule Create(string name)
    {
        var module = Wait(_host.CreateModuleAsync(name, new ModuleSpec("Identity"), null, ElementType.None, default));
        _ = Wait(module.TrainAsync(default, false, default));
        return module;
    }

    private void Leaf(Func<ModuleNode, CallContext, TensorTree> call)
    {
        using var scope = NewDisposeScope();
        using var quiet = no_grad();
        var context = new CallContext();
        for (var i = 0; i < Repeats; i++)
        {
            call(_tree.Root, context).Tensor!.Dispose();
        }
    }

    private void Forward(HostedModule module, Action? besides)
    {
        for (var i = 0; i < Repeats; i++)
        {
            // Short and alone, so it completes on this thread.
            Wait(module.ForwardAsync(_call, default)).Dispose();
            besides?.Invoke();
        }
    }
}
