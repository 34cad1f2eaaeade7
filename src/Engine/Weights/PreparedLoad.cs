using Sconce.Engine.Modules;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Weights;

/// <summary>A load that has been checked and has all that it needs: what is left cannot fail. Its tensors live in the dispose scope that it was prepared in.</summary>
internal sealed class PreparedLoad
{
    private readonly IReadOnlyList<(StateEntry Target, Tensor Value)> _values;
    private readonly LazyLoading _lazy;
    private readonly Dictionary<Tensor, ScalarType> _assigned = new(ModuleTree.Same);
    private readonly bool _assign;

    /// <param name="outcome">What the load leaves out.</param>
    /// <param name="values">What goes where, in the order of the state dict.</param>
    /// <param name="lazy">The lazy modules that have got shapes for it.</param>
    /// <param name="assign">Whether the targets take the tensors instead of their values.</param>
    public PreparedLoad(LoadOutcome outcome, IReadOnlyList<(StateEntry Target, Tensor Value)> values, LazyLoading lazy, bool assign)
    {
        (Outcome, _values, _lazy, _assign) = (outcome, values, lazy, assign);
        if (assign)
        {
            foreach (var (target, value) in values)
            {
                _assigned[target.Tensor] = value.dtype;
            }
        }
    }

    public LoadOutcome Outcome { get; }

    /// <summary>The dtype that a parameter will have, for the state that optimizers keep for it.</summary>
    public ScalarType TypeOf(Parameter parameter) => _assigned.TryGetValue(parameter, out var type) ? type : parameter.dtype;

    /// <summary>Puts the values in place; without grad, and outside of inference mode.</summary>
    /// <param name="takers">Where the values' memory is nobody else's: which targets may take it; null copies all.</param>
    public void Apply(SoleHolders? takers)
    {
        foreach (var (target, value) in _values)
        {
            if (target.IsExtraState)
            {
                NativeSetData.SetData(target.Tensor, value);
            }
            else if (_assign)
            {
                if (target.Tensor is Parameter parameter)
                {
                    // PyTorch's is a new Parameter, which has none; an old gradient could be of another dtype.
                    parameter.grad = null;
                }

                NativeSetData.SetData(target.Tensor, value.reshape(target.Tensor.shape));
            }
            else if (value.reshape(target.Tensor.shape) is var shaped && takers?.MayTake(target.Tensor, shaped) == true)
            {
                NativeSetData.SetData(target.Tensor, shaped);
            }
            else
            {
                _ = target.Tensor.copy_(shaped);
            }
        }
    }

    /// <summary>Takes back what preparing has changed.</summary>
    public void Undo() => _lazy.Undo();
}
