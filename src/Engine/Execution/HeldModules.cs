using System.Collections.Frozen;

namespace Sconce.Engine.Execution;

/// <summary>Other modules that the hooks of one call run, each with its gate held until disposed.</summary>
internal sealed class HeldModules : IDisposable
{
    /// <summary>What a call holds that needs no others.</summary>
    public static readonly IReadOnlyDictionary<string, ModuleState?> None = FrozenDictionary<string, ModuleState?>.Empty;

    private readonly List<GateHold> _holds = [];
    private readonly Dictionary<string, ModuleState?> _states = new(StringComparer.Ordinal);

    private HeldModules()
    {
    }

    /// <summary>The modules by name; null under a name that the host lacks.</summary>
    public IReadOnlyDictionary<string, ModuleState?> States => _states;

    /// <summary>Waits for the gates of a call's own module and of the others, in the order of their names.</summary>
    /// <param name="own">The call's own module, and how it needs it.</param>
    /// <param name="others">Names of the others.</param>
    /// <param name="find">Finds a module by name; null where there is none.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public static async Task<HeldModules> TakeAsync(
        (HostedModule Module, Func<GateMode> Mode) own, IReadOnlyCollection<string> others, Func<string, HostedModule?> find, CancellationToken cancellationToken)
    {
        var held = new HeldModules();
        try
        {
            foreach (var name in others.Append(own.Module.Name).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal))
            {
                if (name == own.Module.Name)
                {
                    held._holds.Add(await GateHold.TakeAsync(own.Module.Gate, own.Mode, cancellationToken).ConfigureAwait(false));
                }
                else if (find(name) is { } other)
                {
                    // In training mode its forward moves statistics.
                    held._holds.Add(await GateHold.TakeAsync(other.Gate, () => other.State.AnyTraining || other.State.AnyShapeless ? GateMode.Exclusive : GateMode.Shared, cancellationToken).ConfigureAwait(false));
                    held._states[name] = other.State.IsDeleted ? null : other.State;
                }
                else
                {
                    held._states[name] = null;
                }
            }

            return held;
        }
        catch
        {
            held.Dispose();
            throw;
        }
    }

    /// <summary>Runs a call whose hooks may run these modules; where it fails, the running statistics that it moved are put back.</summary>
    public T OrRestored<T>(Func<T> work) => _states.Values.Aggregate(work, static (inner, state) => state is { MovingBuffers.Count: > 0 } ? () => state.Restoring(inner) : inner)();

    /// <summary>Lets go of every gate.</summary>
    public void Dispose()
    {
        for (var i = _holds.Count - 1; i >= 0; i--)
        {
            _holds[i].Dispose();
        }

        _holds.Clear();
    }
}
