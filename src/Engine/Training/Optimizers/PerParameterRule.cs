using Sconce.Engine.Catalog;
using static TorchSharp.torch;

namespace Sconce.Engine.Training.Optimizers;

/// <summary>An optimizer that changes each parameter by itself. The arithmetic is PyTorch's single-tensor form, in its order.</summary>
internal abstract class PerParameterRule(string type, params Argument[] arguments) : OptimizerRule(type, arguments)
{
    /// <summary>State that is not a tensor and that one step makes.</summary>
    public virtual IReadOnlyList<string> StateScalars => ["step"];

    /// <summary>State tensors that one step makes for a parameter under these options; each has the parameter's shape.</summary>
    public abstract IReadOnlyList<string> StateTensors(OptionSet options);

    public override double StateCopies(OptionSet options) => StateTensors(options).Count;

    /// <summary>Whether <see cref="Initialize"/> makes tensors, for which the parameters must have their shapes.</summary>
    public virtual bool FillsAtOnce => false;

    /// <summary>Makes what PyTorch makes when the optimizer is built rather than at the first step.</summary>
    public virtual void Initialize(ParameterState state, OptionSet options)
    {
    }

    /// <summary>Changes the parameter. Runs without gradient recording, in a scope of its own.</summary>
    /// <param name="parameter">The parameter, or the real view of a complex one.</param>
    /// <param name="gradient">Its gradient, likewise; not to be changed.</param>
    /// <param name="state">What was kept for it.</param>
    /// <param name="options">Options of its group.</param>
    public abstract void Update(Tensor parameter, Tensor gradient, ParameterState state, OptionSet options);

    /// <summary>Changes a parameter of any dtype, complex ones as pairs of real numbers.</summary>
    public void UpdateAny(Tensor parameter, Tensor gradient, ParameterState state, OptionSet options)
    {
        using var temporaries = NewDisposeScope();
        var complex = parameter.is_complex();
        Update(complex ? parameter.view_as_real() : parameter, complex ? gradient.view_as_real() : gradient, state, options);
    }

    /// <summary>The gradient to follow: turned around to maximize, and with weight decay as an L2 penalty.</summary>
    protected static Tensor Effective(Tensor parameter, Tensor gradient, OptionSet options, bool penalty = true)
    {
        var followed = options.Flag("maximize") ? -gradient : gradient;
        var weightDecay = options.Number("weight_decay");
        return penalty && weightDecay != 0 ? followed.add(parameter, alpha: weightDecay) : followed;
    }

    /// <summary>Weight decay as a shrinking of the parameter itself, apart from the gradient.</summary>
    protected static void Shrink(Tensor parameter, OptionSet options)
    {
        var weightDecay = options.Number("weight_decay");
        if (weightDecay != 0)
        {
            _ = parameter.mul_(1 - (options.LearningRate * weightDecay));
        }
    }
}
