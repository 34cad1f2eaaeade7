using Sconce.Engine.Modules;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Training;

/// <summary>The gradients that a module had before a backward, kept as they are, so that what fails after it can be undone without a copy.</summary>
internal sealed class GradientsBefore : IDisposable
{
    private readonly List<Parameter> _parameters;
    private readonly List<Tensor?> _gradients;

    private GradientsBefore(List<Parameter> parameters)
    {
        _parameters = parameters;

        // Kept beyond the scope that a call opens for the backward alone.
        _gradients = parameters.ConvertAll(parameter => parameter.grad?.DetachFromDisposeScope());
    }

    /// <summary>Notes the gradients of a module.</summary>
    public static GradientsBefore Of(ModuleTree tree) => new([.. ModuleTree.NamedParameters(tree.Root).Select(named => named.Parameter)]);

    /// <summary>Leaves the parameters without gradients, so that a backward makes its own.</summary>
    public void TakeAway() => _parameters.ForEach(parameter => parameter.grad = null);

    /// <summary>Adds the gradients of before to those there are now.</summary>
    public void AddTo()
    {
        for (var i = 0; i < _gradients.Count; i++)
        {
            if (_gradients[i] is { } old)
            {
                using var made = _parameters[i].grad;
                if (made is null)
                {
                    _parameters[i].grad = old;
                    continue;
                }

                // Into the new one where it can be: the old one stays as it was.
                using var noGrad = no_grad();
                if (made.is_sparse && !old.is_sparse)
                {
                    using var sum = old.add(made);
                    _parameters[i].grad = sum;
                }
                else
                {
                    _ = made.add_(old);
                }
            }
        }
    }

    /// <summary>Puts them back.</summary>
    public void Restore()
    {
        for (var i = 0; i < _gradients.Count; i++)
        {
            _parameters[i].grad = _gradients[i];
        }
    }

    public void Dispose() => _gradients.ForEach(gradient => gradient?.Dispose());
}
