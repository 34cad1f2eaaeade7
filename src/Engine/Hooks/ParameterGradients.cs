using Sconce.Engine.Modules;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Hooks;

/// <summary>
/// Runs a backward so that hooks see the gradient that it makes for each parameter before that is added to what was there, and so that one that fails leaves the
/// gradients as they were.
/// </summary>
internal static class ParameterGradients
{
    /// <summary>Runs a backward.</summary>
    /// <param name="onGraph">The hooks that stand on the graph's gradients; null where there are none.</param>
    /// <param name="onParameters">The hooks that stand on parameters; null where there are none.</param>
    /// <param name="tree">The module.</param>
    /// <param name="backward">The backward.</param>
    public static void Backward(HookRun? onGraph, HookRun? onParameters, ModuleTree tree, Action backward)
    {
        if (onGraph?.Plan.HasBackward is not true && onParameters?.Plan.ParamGrad.Count is null or 0)
        {
            backward();
            return;
        }

        var parameters = ModuleTree.NamedParameters(tree.Root).Select(named => named.Parameter).ToList();
        var before = parameters.ConvertAll(parameter => parameter.grad);
        try
        {
            parameters.ForEach(parameter => parameter.grad = null);
            backward();
            onGraph?.ThrowPending();
            using var quiet = no_grad();
            if (onParameters is not null)
            {
                Edit(onParameters);
                onParameters.ThrowPending();
            }

            for (var i = 0; i < before.Count; i++)
            {
                using var made = parameters[i].grad;
                if (before[i] is { } old)
                {
                    // Into the old gradient, as autograd accumulates: whoever holds it sees the sum.
                    parameters[i].grad = made is null ? old : old.add_(made);
                }
            }
        }
        catch
        {
            for (var i = 0; i < before.Count; i++)
            {
                parameters[i].grad = before[i];
            }

            throw;
        }
        finally
        {
            before.ForEach(gradient => gradient?.Dispose());
        }
    }

    private static void Edit(HookRun run)
    {
        foreach (var place in run.Plan.ParamGrad)
        {
            foreach (var (name, parameter) in place.Node.Parameters)
            {
                if (place.Takes(name) && parameter.grad is { } gradient)
                {
                    Edit(run, place, name, parameter, gradient);
                }
            }
        }
    }

    private static void Edit(HookRun run, HookPlace place, string name, Parameter parameter, Tensor gradient)
    {
        var edited = run.Edit(place, gradient, place.Path, 0, name);
        if (!ReferenceEquals(edited, gradient))
        {
            parameter.grad = edited.detach();
        }
    }
}
