using System.Collections;
using System.Runtime.CompilerServices;

namespace Sconce.Client;

/// <summary>
/// What a module is called with: positional tensors, then named ones. One tensor converts by itself, several are written
/// <c>[x, h, c]</c>, and names are added with <see cref="With"/>.
/// </summary>
[CollectionBuilder(typeof(Inputs), nameof(Create))]
public sealed class Inputs : IReadOnlyList<TensorData>
{
    private static readonly Dictionary<string, TensorData> NoNames = [];

    private readonly TensorData[] _positional;
    private readonly Dictionary<string, TensorData> _named;

    private Inputs(TensorData[] positional, Dictionary<string, TensorData> named)
    {
        _positional = positional;
        _named = named;
    }

    /// <summary>No inputs at all.</summary>
    public static Inputs Empty { get; } = new([], NoNames);

    /// <summary>The named inputs.</summary>
    public IReadOnlyDictionary<string, TensorData> Named => _named;

    /// <inheritdoc/>
    public int Count => _positional.Length;

    /// <inheritdoc/>
    public TensorData this[int index] => _positional[index];

    /// <summary>One positional input.</summary>
    /// <param name="tensor">The input.</param>
    public static implicit operator Inputs(TensorData tensor) => Create([tensor]);

    /// <summary>What a module returned, a tuple flattened, as the inputs of the next one.</summary>
    /// <param name="value">What a module returned.</param>
    public static implicit operator Inputs(RemoteValue value)
    {
        ArgumentNullException.ThrowIfNull(value);
        return Create([.. value.Flatten()]);
    }

    /// <summary>A kept tensor as the one input.</summary>
    /// <param name="tensor">The kept tensor.</param>
    public static implicit operator Inputs(RemoteTensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        return Create([tensor.Reference]);
    }

    /// <summary>Positional inputs, in order.</summary>
    /// <param name="tensors">The inputs.</param>
    public static Inputs Create(params ReadOnlySpan<TensorData> tensors)
    {
        foreach (var tensor in tensors)
            ArgumentNullException.ThrowIfNull(tensor, nameof(tensors));
        return new Inputs(tensors.ToArray(), NoNames);
    }

    /// <summary>These inputs and a named one.</summary>
    /// <param name="name">PyTorch's name of the input, e.g. "attn_mask".</param>
    /// <param name="tensor">The input.</param>
    /// <exception cref="ArgumentException">The name is there already.</exception>
    public Inputs With(string name, TensorData tensor)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        ArgumentNullException.ThrowIfNull(tensor);
        var named = new Dictionary<string, TensorData>(_named);
        return named.TryAdd(name, tensor)
            ? new Inputs(_positional, named)
            : throw new ArgumentException($"The input '{name}' was given twice.", nameof(name));
    }

    /// <inheritdoc/>
    public IEnumerator<TensorData> GetEnumerator() => ((IEnumerable<TensorData>)_positional).GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    internal void CopyTo(ICollection<V1.Tensor> positional, IDictionary<string, V1.Tensor> named)
    {
        CopyTo(positional);
        foreach (var (name, tensor) in _named)
            named.Add(name, tensor.ToMessage());
    }

    internal void CopyTo(ICollection<V1.Tensor> positional)
    {
        foreach (var tensor in _positional)
            positional.Add(tensor.ToMessage());
    }

    internal void RefuseNamed(string parameter)
    {
        if (_named.Count > 0)
        {
            throw new ArgumentException(
                $"'{parameter}' is a list of tensors and takes no names; '{_named.Keys.First()}' was given.", parameter);
        }
    }
}
