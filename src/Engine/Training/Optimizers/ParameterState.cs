using Sconce.Engine.Tensors;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Training.Optimizers;

/// <summary>What an optimizer keeps for one parameter, under PyTorch's names. Its tensors live until it is disposed, whatever scope is open.</summary>
/// <param name="parameter">The parameter.</param>
internal sealed class ParameterState(Parameter parameter) : IDisposable
{
    private readonly Dictionary<string, Tensor> _tensors = new(StringComparer.Ordinal);
    private readonly Dictionary<string, double> _scalars = new(StringComparer.Ordinal);

    public IReadOnlyDictionary<string, Tensor> Tensors => _tensors;

    public IReadOnlyDictionary<string, double> Scalars => _scalars;

    /// <summary>Counts one more step and returns its number, from 1.</summary>
    public double NextStep() => _scalars["step"] = _scalars.GetValueOrDefault("step") + 1;

    public double Scalar(string name, double initial) => _scalars.GetValueOrDefault(name, initial);

    public void SetScalar(string name, double value) => _scalars[name] = value;

    public bool Has(string name) => _tensors.ContainsKey(name);

    /// <summary>A state tensor of the parameter's shape, made of zeros where there is none yet; of complex ones the real view, as updates see everything.</summary>
    /// <param name="name">PyTorch's name.</param>
    public Tensor Zeros(string name) => Filled(name, 0);

    /// <summary>As <see cref="Zeros"/>, with another first value.</summary>
    /// <param name="name">PyTorch's name.</param>
    /// <param name="value">The first value of every element (of a complex one, both parts).</param>
    public Tensor Filled(string name, double value)
    {
        if (!_tensors.TryGetValue(name, out var tensor))
        {
            using var detached = parameter.detach();
            _tensors[name] = tensor = zeros_like(detached).DetachFromDisposeScope();
            if (value != 0)
            {
                _ = Real(tensor).fill_(value);
            }
        }

        return Real(tensor);
    }

    public void Replace(string name, Tensor tensor)
    {
        _ = _tensors.Remove(name, out var former);
        former?.Dispose();
        _tensors[name] = tensor.DetachFromDisposeScope();
    }

    /// <summary>Bytes that state tensors of another dtype than <paramref name="type"/> take once they have it.</summary>
    public long BytesToFollow(ScalarType type) => _tensors.Values.Where(tensor => tensor.dtype != type).Sum(tensor => tensor.numel() * type.ToElementType().Size());

    /// <summary>Makes the state tensors in the dtype that their parameter is to have, and returns what puts them in place, which cannot fail.</summary>
    public Action PrepareToFollow(ScalarType type)
    {
        var moved = _tensors.Where(entry => entry.Value.dtype != type).Select(entry => (entry.Key, Value: entry.Value.to_type(type))).ToList();
        return () => moved.ForEach(entry => Replace(entry.Key, entry.Value));
    }

    /// <summary>Takes the place of all that there was; the tensors change owner.</summary>
    public void Load(IReadOnlyDictionary<string, Tensor> tensors, IReadOnlyDictionary<string, double> scalars)
    {
        Clear();
        foreach (var (name, tensor) in tensors)
        {
            _tensors[name] = tensor.DetachFromDisposeScope();
        }

        foreach (var (name, value) in scalars)
        {
            _scalars[name] = value;
        }
    }

    /// <summary>State of another, smaller parameter, with the same scalars and with zeros for the same tensors.</summary>
    public ParameterState Likeness(Parameter other)
    {
        var likeness = new ParameterState(other);
        foreach (var name in _tensors.Keys)
        {
            _ = likeness.Zeros(name);
        }

        foreach (var (name, value) in _scalars)
        {
            likeness._scalars[name] = value;
        }

        return likeness;
    }

    public void Dispose() => Clear();

    private void Clear()
    {
        foreach (var tensor in _tensors.Values)
        {
            tensor.Dispose();
        }

        _tensors.Clear();
        _scalars.Clear();
    }

    private static Tensor Real(Tensor tensor) => tensor.is_complex() ? tensor.view_as_real() : tensor;
}
