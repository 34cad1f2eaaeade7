using Sconce.Engine.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Hooks;

/// <summary>Hooks on the gradients of parameters.</summary>
internal static class ParameterGradients
{
    /// <summary>
    /// Ends a backward, while the gradients of parameters are what it has made and not yet added to what was there: throws what hooks within it met, then runs those
    /// on parameters.
    /// </summary>
    /// <param name="onGraph">The hooks that stood on the graph's gradients; null where there were none.</param>
    /// <param name="onParameters">The hooks that stand on parameters; null where there are none.</param>
    /// <exception cref="EngineException">A hook of the call failed.</exception>
    public static void Finish(HookRun? onGraph, HookRun? onParameters)
    {
        onGraph?.ThrowPending();
        if (onParameters is null)
        {
            return;
        }

        using var quiet = no_grad();
        foreach (var place in onParameters.Plan.ParamGrad)
        {
            foreach (var named in place.Node.Parameters)
            {
                if (place.Takes(named.Name) && named.Parameter.grad is { } gradient)
                {
                    Edit(onParameters, place, named, gradient);
                }
            }
        }

        onParameters.ThrowPending();
    }

    private static void Edit(HookRun run, HookPlace place, NamedParameter named, Tensor gradient)
    {
        var edited = run.Edit(place, gradient, place.Path, 0, named.Name);
        if (!ReferenceEquals(edited, gradient))
        {
            named.Parameter.grad = edited.detach();
        }
    }
}
