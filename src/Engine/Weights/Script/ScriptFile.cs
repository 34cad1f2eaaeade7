using Sconce.Engine.Execution;

namespace Sconce.Engine.Weights.Script;

/// <summary>A TorchScript file that has been checked and tried, in memory: modules are made of it as often as asked. It is there as long as somebody uses it.</summary>
/// <param name="name">What callers call it, for messages.</param>
/// <param name="image">Its content; disposed with this.</param>
/// <param name="program">What its code says.</param>
/// <param name="isStateful">Whether calls may draw random numbers, or change what they are given or what the module keeps, in eval mode too.</param>
internal sealed class ScriptFile(string name, ScriptImage image, ScriptProgram program, bool isStateful) : IDisposable
{
    private readonly Lock _lock = new();

    // Whoever made it is the first.
    private int _users = 1;

    /// <summary>What callers call it.</summary>
    public string Name => name;

    /// <summary>Its content.</summary>
    public ScriptImage Image => image;

    /// <summary>What its code says.</summary>
    public ScriptProgram Program => program;

    /// <summary>Whether calls may draw random numbers, or change what they are given or what the module keeps, in eval mode too.</summary>
    public bool IsStateful => isStateful;

    /// <summary>Sees calls that never end; null where nobody does.</summary>
    public ScriptWatch? Watch { get; init; }

    /// <summary>What its content is charged to, until it goes; null where nobody counts.</summary>
    public MemoryCharge? Charge { get; init; }

    /// <summary>Whether only whoever made it uses it.</summary>
    public bool IsIdle
    {
        get
        {
            lock (_lock)
            {
                return _users == 1;
            }
        }
    }

    /// <summary>Another uses it, and disposes it once more.</summary>
    /// <returns>It; null where it is gone.</returns>
    public ScriptFile? Use()
    {
        lock (_lock)
        {
            if (_users == 0)
            {
                return null;
            }

            _users++;
            return this;
        }
    }

    /// <summary>One user less; the last frees it.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            if (_users == 0 || --_users > 0)
            {
                return;
            }
        }

        image.Dispose();
        Charge?.Dispose();
    }
}
