using Sconce.V1;

namespace Sconce.Client;

/// <summary>
/// What an action of a hook works with: a number or a tensor, which convert by themselves, a slot that a capture has filled, or a
/// parameter or buffer of the module.
/// </summary>
public sealed class HookValue
{
    private HookValue(Operand message) => Message = message;

    internal Operand Message { get; }

    /// <summary>A number.</summary>
    /// <param name="number">The number.</param>
    public static implicit operator HookValue(double number) => FromDouble(number);

    /// <summary>A tensor: it must broadcast to the selected part, and is converted to its dtype.</summary>
    /// <param name="tensor">The tensor, with its elements or kept on the server.</param>
    public static implicit operator HookValue(TensorData tensor) => FromTensorData(tensor);

    /// <summary>A tensor kept on the server, as it is when the hook is accepted.</summary>
    /// <param name="tensor">The tensor.</param>
    public static implicit operator HookValue(RemoteTensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        return FromTensorData(tensor.Reference);
    }

    /// <summary>A number; the named form of the conversion operator.</summary>
    /// <param name="number">The number.</param>
    public static HookValue FromDouble(double number) => new(new Operand { Scalar = number });

    /// <summary>A tensor; the named form of the conversion operator.</summary>
    /// <param name="tensor">The tensor.</param>
    public static HookValue FromTensorData(TensorData tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        return new HookValue(new Operand { Tensor = tensor.ToMessage() });
    }

    /// <summary>A tensor kept on the server; the named form of the conversion operator.</summary>
    /// <param name="tensor">The tensor.</param>
    public static HookValue FromRemoteTensor(RemoteTensor tensor) => tensor;

    /// <summary>A slot of the module, filled by a capture of this call or an earlier one (<see cref="HookTo.Slot"/>).</summary>
    /// <param name="name">Its name.</param>
    public static HookValue Slot(string name) => new(new Operand { Slot = name });

    /// <summary>A parameter or buffer of the hosted module, as it is when the hook acts.</summary>
    /// <param name="key">Its state-dict key, from the whole module.</param>
    public static HookValue State(string key) => new(new Operand { State = key });
}

/// <summary>Where captures and statistics go. Left out: with the answer for a hook of one call, to watchers for a registered one.</summary>
public static class HookTo
{
    /// <summary>Into the answer of the call.</summary>
    public static Destination Response { get; } = new() { Response = true };

    /// <summary>To those who watch; registered hooks only.</summary>
    public static Destination Watch { get; } = new() { Watch = true };

    /// <summary>Kept on the server under an id, in place of what was there: see <see cref="TensorData.Kept"/>.</summary>
    /// <param name="id">The id.</param>
    /// <param name="timeToLive">Time to live; null is the server's <c>kept_tensor_ttl</c>.</param>
    public static Destination Keep(string id, TimeSpan? timeToLive = null) => new()
    {
        Keep = id,
        Ttl = timeToLive is { } ttl ? Google.Protobuf.WellKnownTypes.Duration.FromTimeSpan(ttl) : null,
    };

    /// <summary>Into a slot of the module, for <see cref="HookValue.Slot"/>.</summary>
    /// <param name="name">Its name.</param>
    public static Destination Slot(string name) => new() { Slot = name };
}
