using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Training.Optimizers;

/// <summary>PyTorch's L-BFGS over parameters taken as one flat vector, with what it remembers between steps.</summary>
/// <remarks>
/// Ours, not libtorch's: the closure runs a caller's module and may throw, which would end the process inside native code; and what is
/// remembered must follow the parameters to another dtype.
/// </remarks>
internal sealed class Lbfgs(IReadOnlyList<NamedParameter> members) : IDisposable
{
    private readonly List<(Tensor Change, Tensor Step, double Ro)> _history = [];
    private readonly List<Parameter> _parameters = [.. members.Select(member => member.Parameter)];
    private long _iterations;
    private double _stepLength;
    private double _diagonal = 1;
    private double _previousLoss;
    private Tensor? _gradient;
    private Tensor? _previousGradient;
    private Tensor? _direction;

    // What was remembered when the step began: a step that fails goes back to it.
    private HashSet<Tensor> _atStart = new(ModuleTree.Same);

    /// <summary>Takes one step, of up to <c>max_iter</c> iterations. When it fails, the parameters and what is remembered are as before.</summary>
    /// <param name="options">The options.</param>
    /// <param name="closure">Computes the loss and its gradients anew.</param>
    /// <returns>The loss before the step.</returns>
    public double Step(OptionSet options, Func<double> closure)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var before = Copies();
        var history = _history.ToArray();
        var (iterations, stepLength, diagonal, previousLoss) = (_iterations, _stepLength, _diagonal, _previousLoss);
        var (gradient, previousGradient, direction) = (_gradient, _previousGradient, _direction);
        _atStart = Remembered().ToHashSet<Tensor>(ModuleTree.Same);
        try
        {
            var loss = Iterate(options, closure);
            Dispose(_atStart.Except(Remembered(), ModuleTree.Same));
            return loss;
        }
        catch
        {
            Restore(before);
            Dispose(Remembered().Except(_atStart, ModuleTree.Same));
            _history.Clear();
            _history.AddRange(history);
            (_iterations, _stepLength, _diagonal, _previousLoss) = (iterations, stepLength, diagonal, previousLoss);
            (_gradient, _previousGradient, _direction) = (gradient, previousGradient, direction);
            throw;
        }
        finally
        {
            _atStart.Clear();
        }
    }

    /// <summary>Bytes that what is remembered takes once it has another dtype; 0 where it has that.</summary>
    public long BytesToFollow(ScalarType type) => Remembered().Where(tensor => tensor.dtype != type).Sum(tensor => tensor.numel() * type.ToElementType().Size());

    /// <summary>Makes what is remembered in the dtype that the parameters are to have, and returns what puts it in place, which cannot fail.</summary>
    public Action PrepareToFollow(ScalarType type)
    {
        var moved = Remembered().Where(tensor => tensor.dtype != type).ToDictionary(tensor => tensor, tensor => tensor.to_type(type), ModuleTree.Same);
        return () =>
        {
            for (var i = 0; i < _history.Count; i++)
            {
                var (change, step, ro) = _history[i];
                _history[i] = (Moved(change)!, Moved(step)!, ro);
            }

            _gradient = Moved(_gradient);
            _previousGradient = Moved(_previousGradient);
            _direction = Moved(_direction);
        };

        Tensor? Moved(Tensor? tensor)
        {
            if (tensor is null || !moved.TryGetValue(tensor, out var target))
            {
                return tensor;
            }

            tensor.Dispose();
            return target.DetachFromDisposeScope();
        }
    }

    /// <summary>All that makes another go on where this one stands; the tensors are its own.</summary>
    public (IReadOnlyList<(string Key, Tensor Value)> Tensors, IReadOnlyDictionary<string, double> Scalars) Remember()
    {
        var tensors = new List<(string, Tensor)>();
        var scalars = new Dictionary<string, double>(StringComparer.Ordinal)
        {
            ["iterations"] = _iterations,
            ["step_length"] = _stepLength,
            ["diagonal"] = _diagonal,
            ["previous_loss"] = _previousLoss,
            ["history"] = _history.Count,
        };
        foreach (var (name, tensor) in new[] { ("gradient", _gradient), ("previous_gradient", _previousGradient), ("direction", _direction) })
        {
            if (tensor is not null)
            {
                tensors.Add((name, tensor));
            }
        }

        for (var i = 0; i < _history.Count; i++)
        {
            tensors.Add(($"history.{i}.change", _history[i].Change));
            tensors.Add(($"history.{i}.step", _history[i].Step));
            scalars[$"history.{i}.ro"] = _history[i].Ro;
        }

        return (tensors, scalars);
    }

    /// <summary>One that goes on where another stood.</summary>
    /// <param name="members">The parameters.</param>
    /// <param name="tensors">What <see cref="Remember"/> gave; copied.</param>
    /// <param name="scalars">The same.</param>
    public static Lbfgs Restore(IReadOnlyList<NamedParameter> members, IReadOnlyList<(string Key, Tensor Value)> tensors, IReadOnlyDictionary<string, double> scalars)
    {
        var given = tensors.ToDictionary(entry => entry.Key, entry => entry.Value, StringComparer.Ordinal);
        var made = new Lbfgs(members)
        {
            _iterations = (long)scalars["iterations"],
            _stepLength = scalars["step_length"],
            _diagonal = scalars["diagonal"],
            _previousLoss = scalars["previous_loss"],
            _gradient = Copy("gradient"),
            _previousGradient = Copy("previous_gradient"),
            _direction = Copy("direction"),
        };
        for (var i = 0; i < scalars["history"]; i++)
        {
            made._history.Add((Copy($"history.{i}.change")!, Copy($"history.{i}.step")!, scalars[$"history.{i}.ro"]));
        }

        return made;

        Tensor? Copy(string name) => given.TryGetValue(name, out var tensor) ? tensor.clone().DetachFromDisposeScope() : null;
    }

    private IEnumerable<Tensor> Remembered() => _history.SelectMany(entry => new[] { entry.Change, entry.Step })
        .Concat(new[] { _gradient, _previousGradient, _direction }.OfType<Tensor>()).Distinct<Tensor>(ModuleTree.Same);

    public void Dispose()
    {
        Keep(ref _gradient, null);
        Keep(ref _previousGradient, null);
        Keep(ref _direction, null);
        foreach (var (change, step, _) in _history)
        {
            change.Dispose();
            step.Dispose();
        }

        _history.Clear();
    }

    private double Iterate(OptionSet options, Func<double> closure)
    {
        var lr = options.LearningRate;
        var mostIterations = (long)options.Number("max_iter");
        var mostEvaluations = options.OptionalNumber("max_eval") ?? mostIterations * 5 / 4;
        var (gradientTolerance, changeTolerance) = (options.Number("tolerance_grad"), options.Number("tolerance_change"));
        var search = options.Text("line_search_fn") is not null;

        var firstLoss = closure();
        var loss = firstLoss;
        long evaluations = 1;
        Keep(ref _gradient, FlatGradient());
        for (var n = 1L; n <= mostIterations && Largest(_gradient!) > gradientTolerance; n++)
        {
            using var scope = NewDisposeScope();
            _iterations++;
            ChooseDirection((int)options.Number("history_size"));
            var (gradient, direction) = (_gradient!, _direction!);
            Keep(ref _previousGradient, gradient.clone());
            _previousLoss = loss;

            _stepLength = _iterations == 1 ? Math.Min(1, 1 / gradient.abs().sum().ToDouble()) * lr : lr;
            var slope = Dot(gradient, direction);
            if (slope > -changeTolerance)
            {
                break;
            }

            if (search)
            {
                var start = Copies();
                var found = StrongWolfe.Search(At, _stepLength, direction, loss, gradient, slope, changeTolerance);
                (loss, _stepLength) = (found.Loss, found.Length);
                evaluations += found.Evaluations;
                Keep(ref _gradient, found.Gradient.clone());
                Move(_stepLength, direction);

                (double Loss, Tensor Gradient) At(double length)
                {
                    Move(length, direction);
                    var value = closure();
                    var slopes = FlatGradient();
                    Restore(start);
                    return (value, slopes);
                }
            }
            else
            {
                Move(_stepLength, direction);
                if (n == mostIterations)
                {
                    break; // In a stochastic setting one more evaluation would be of no use.
                }

                loss = closure();
                evaluations++;
                Keep(ref _gradient, FlatGradient());
            }

            if (evaluations >= mostEvaluations
                || Largest(direction.mul(_stepLength)) <= changeTolerance
                || Math.Abs(loss - _previousLoss) < changeTolerance)
            {
                break;
            }
        }

        return firstLoss;
    }

    /// <summary>The gradient times the approximate inverse Hessian that the history gives, downhill.</summary>
    private void ChooseDirection(int historySize)
    {
        var gradient = _gradient!;
        if (_previousGradient is null || _direction is null)
        {
            Keep(ref _direction, gradient.neg());
            return;
        }

        var change = gradient.sub(_previousGradient);
        var step = _direction.mul(_stepLength);
        var curvature = Dot(change, step);
        if (curvature > 1e-10)
        {
            if (_history.Count == historySize)
            {
                Release(_history[0].Change);
                Release(_history[0].Step);
                _history.RemoveAt(0);
            }

            _history.Add((change.DetachFromDisposeScope(), step.DetachFromDisposeScope(), 1 / curvature));
            _diagonal = curvature / Dot(change, change);
        }

        var weights = new double[_history.Count];
        var q = gradient.neg();
        for (var i = _history.Count - 1; i >= 0; i--)
        {
            weights[i] = Dot(_history[i].Step, q) * _history[i].Ro;
            _ = q.add_(_history[i].Change, alpha: -weights[i]);
        }

        var direction = q.mul(_diagonal);
        for (var i = 0; i < _history.Count; i++)
        {
            var weight = Dot(_history[i].Change, direction) * _history[i].Ro;
            _ = direction.add_(_history[i].Step, alpha: weights[i] - weight);
        }

        Keep(ref _direction, direction);
    }

    private Tensor FlatGradient() => cat([.. members.Select(member => member.Parameter.grad is { } gradient
        ? Gradients.Dense(member.Name, gradient).reshape(-1)
        : zeros(member.Parameter.numel(), member.Parameter.dtype, member.Parameter.device))]);

    private void Move(double length, Tensor direction)
    {
        long offset = 0;
        foreach (var parameter in _parameters)
        {
            var count = parameter.numel();
            _ = parameter.add_(direction.narrow(0, offset, count).view(parameter.shape), alpha: length);
            offset += count;
        }
    }

    private List<Tensor> Copies() => [.. _parameters.Select(parameter => parameter.clone())];

    private void Restore(List<Tensor> values)
    {
        for (var i = 0; i < values.Count; i++)
        {
            _ = _parameters[i].copy_(values[i]);
        }
    }

    private static double Largest(Tensor tensor) => tensor.abs().max().ToDouble();

    private static double Dot(Tensor a, Tensor b) => a.dot(b).ToDouble();

    private static void Dispose(IEnumerable<Tensor> tensors)
    {
        foreach (var tensor in tensors.ToList())
        {
            tensor.Dispose();
        }
    }

    private void Keep(ref Tensor? slot, Tensor? value)
    {
        Release(slot);
        slot = value?.DetachFromDisposeScope();
    }

    private void Release(Tensor? tensor)
    {
        if (tensor is not null && !_atStart.Contains(tensor))
        {
            tensor.Dispose();
        }
    }
}
