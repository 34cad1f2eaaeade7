using System.Globalization;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using Sconce.Engine.Weights.Script;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.Training;

/// <summary>How gradients are clipped: exactly one of the first two.</summary>
/// <param name="MaxNorm">Scales all gradients together so that their total norm is at most this.</param>
/// <param name="ClipValue">Clamps each element to plus or minus this.</param>
/// <param name="NormType">For <paramref name="MaxNorm"/>: the p of the p-norm, which may be infinite.</param>
public sealed record GradientClip(double? MaxNorm, double? ClipValue, double NormType = 2)
{
    /// <summary>Throws where it says nothing, too much, or a number that is no norm.</summary>
    /// <param name="field">Its path in the request.</param>
    public void Check(string field = "clip")
    {
        if (MaxNorm is null == ClipValue is null)
        {
            throw EngineException.Invalid(field, "give one of max_norm and clip_value");
        }

        if (MaxNorm is { } norm && !(norm > 0))
        {
            throw EngineException.Invalid($"{field}.max_norm", string.Create(CultureInfo.InvariantCulture, $"is {norm}; it must be > 0"));
        }

        if (ClipValue is { } value && !(value > 0))
        {
            throw EngineException.Invalid($"{field}.clip_value", string.Create(CultureInfo.InvariantCulture, $"is {value}; it must be > 0"));
        }

        if (!(NormType > 0))
        {
            throw EngineException.Invalid($"{field}.norm_type", string.Create(CultureInfo.InvariantCulture, $"is {NormType}; it must be > 0, or infinite"));
        }
    }
}

/// <summary>What is done with the gradients of a module, outside of optimizers.</summary>
public static class Gradients
{
    /// <summary>Clips gradients in place (<c>torch.nn.utils.clip_grad_norm_</c>, <c>clip_grad_value_</c>).</summary>
    /// <param name="node">The module.</param>
    /// <param name="clip">How.</param>
    /// <returns>With a norm: the total norm before clipping, 0 where nothing has a gradient.</returns>
    public static double? Clip(ModuleNode node, GradientClip clip)
    {
        ArgumentNullException.ThrowIfNull(clip);
        clip.Check();
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var gradients = Present(ModuleTree.NamedParameters(node)).Select(entry => Followed(entry.Name, entry.Gradient)).ToList();
        if (clip.ClipValue is { } limit)
        {
            foreach (var gradient in gradients)
            {
                var real = gradient.is_complex() ? gradient.view_as_real() : gradient;

                // libtorch refuses a bound that the dtype cannot hold, and nothing finite is beyond it.
                var bound = limit <= NumberRange.Of(real.dtype).Greatest ? limit : double.PositiveInfinity;
                _ = real.clamp_(-bound, bound);
            }

            return null;
        }

        if (gradients.Count == 0)
        {
            return 0;
        }

        var norms = gradients.Select(gradient => Norm(gradient, clip.NormType)).ToList();
        var norm = Norm(stack([.. norms.Select(each => each.to(norms[0].dtype))]), clip.NormType);

        // As PyTorch: a factor on the device, never above 1, so that nothing waits for the norm.
        var factor = clip.MaxNorm!.Value / norm.add(1e-6);
        _ = factor.clamp_max_(1);
        foreach (var gradient in gradients)
        {
            _ = gradient.mul_(factor);
        }

        return norm.to(ScalarType.Float64).ToDouble();
    }

    /// <summary>Resets gradients (<c>zero_grad</c>).</summary>
    /// <param name="node">The module.</param>
    /// <param name="setToNone">True drops them; false keeps them as zeros, detached.</param>
    public static void Zero(ModuleNode node, bool setToNone)
    {
        using var noGrad = no_grad();
        foreach (var (_, parameter) in ModuleTree.NamedParameters(node))
        {
            if (setToNone)
            {
                parameter.grad = null;
            }
            else if (parameter.grad is { } gradient)
            {
                using (gradient)
                {
                    if (gradient.requires_grad)
                    {
                        _ = gradient.detach_();
                    }

                    _ = gradient.zero_();
                }
            }
        }
    }

    /// <summary>Runs a backward. One that fails leaves the gradients of the module as they were, half of it done or not.</summary>
    /// <param name="tree">The module.</param>
    /// <param name="reset">Whether its gradients are dropped first; else what the backward makes is added to them.</param>
    /// <param name="backward">The backward.</param>
    /// <param name="failed">Makes the error of what libtorch throws at it.</param>
    /// <returns>The gradients of before, untouched, for a caller whose work goes on and may fail.</returns>
    internal static GradientsBefore Backward(ModuleTree tree, bool reset, Action backward, Func<Exception, EngineException> failed)
    {
        var before = GradientsBefore.Of(tree);
        try
        {
            before.TakeAway();

            // Not from its callers' code: what it does in libtorch is what its forward did, and may take as long.
            using var timed = ScriptWatch.Begin(tree.Script, "a backward");
            backward();
            if (!reset)
            {
                before.AddTo();
            }

            return before;
        }
        catch (Exception exception)
        {
            using (before)
            {
                before.Restore();
            }

            if (CallFailure.IsNative(exception))
            {
                throw failed(exception);
            }

            throw;
        }
    }

    /// <summary>The gradients that there are, by name, dense. Dense ones are references: copy them before the next backward.</summary>
    /// <param name="node">The module.</param>
    /// <param name="patterns">Names to choose, <c>*</c> and <c>?</c> as wildcards; none chooses all.</param>
    /// <exception cref="EngineException">A pattern matches no parameter.</exception>
    public static IReadOnlyList<StateEntry> Collect(ModuleNode node, IReadOnlyList<string> patterns) =>
        [.. Present(ParameterSelection.Select(node, patterns, "parameters"))
            .Select(entry => new StateEntry(entry.Name, entry.Gradient.is_sparse ? entry.Gradient.to_dense() : entry.Gradient))];

    private static IEnumerable<(string Name, Tensor Gradient)> Present(IReadOnlyList<NamedParameter> parameters)
    {
        foreach (var (name, parameter) in parameters)
        {
            if (parameter.grad is { } gradient)
            {
                yield return (name, gradient);
            }
        }
    }

    /// <summary>The gradient, which must be dense.</summary>
    /// <exception cref="EngineException">It is sparse.</exception>
    internal static Tensor Dense(string name, Tensor gradient) => !gradient.is_sparse ? gradient : throw EngineException.Precondition("SPARSE_GRADIENT",
        $"the gradient of {EngineException.Quote(name)} is sparse, which optimizers and clipping here do not take; build its Embedding with sparse=false");

    /// <summary>The gradient, which must be dense and of numbers that a step can take: a conversion may have made integers of it.</summary>
    /// <exception cref="EngineException">It is sparse, or of another dtype.</exception>
    internal static Tensor Followed(string name, Tensor gradient)
    {
        CheckType("gradient of the parameter", name, gradient);
        return Dense(name, gradient);
    }

    /// <summary>Refuses a tensor of integers or bools, which optimizers do not step.</summary>
    internal static void CheckType(string what, string name, Tensor tensor)
    {
        if (!tensor.is_floating_point() && !tensor.is_complex())
        {
            throw EngineException.Precondition("NOT_FLOATING",
                $"the {what} {EngineException.Quote(name)} is {tensor.dtype.ToElementType().Name()}, which optimizers and clipping do not take; convert the module to a floating dtype", new ResourceRef("parameter", name));
        }
    }

    private static Tensor Norm(Tensor tensor, double type) =>
        double.IsPositiveInfinity(type) ? tensor.abs().max() : type == 2 ? tensor.norm() : tensor.norm((float)type);
}
