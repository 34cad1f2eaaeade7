using static TorchSharp.torch;

namespace Sconce.Engine.PlugIns;

/// <summary>What TorchSharp keeps for each thread and a plug-in may leave changed: the grad mode, and dispose scopes. The next call on the thread would inherit both.</summary>
internal readonly struct ThreadState
{
    private readonly bool _recording;
    private readonly TorchSharp.DisposeScope? _scope;

    private ThreadState(bool recording, TorchSharp.DisposeScope? scope) => (_recording, _scope) = (recording, scope);

    /// <summary>This thread's state now.</summary>
    public static ThreadState Now => new(is_grad_enabled(), CurrentDisposeScope);

    /// <summary>Puts it back. Scopes left open are closed.</summary>
    /// <param name="kept">Tensors that outlive them.</param>
    public void Restore(IEnumerable<Tensor> kept)
    {
        if (is_grad_enabled() != _recording)
        {
            _ = set_grad_enabled(_recording);
        }

        while (CurrentDisposeScope is { } open && !ReferenceEquals(open, _scope))
        {
            open.MoveToOuter(kept.Where(open.Contains));
            open.Dispose();
        }
    }
}
