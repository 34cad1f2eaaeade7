namespace Sconce.Engine.Tensors;

/// <summary>A dense tensor as a request gave it: not checked yet.</summary>
/// <param name="Type">Element type.</param>
/// <param name="Shape">Sizes of the dimensions, outermost first.</param>
/// <param name="Data">Elements in row-major order, little-endian. Large ones are shared with the tensor made of them, not copied.</param>
public readonly record struct TensorPayload(ElementType Type, IReadOnlyList<long> Shape, ReadOnlyMemory<byte> Data);

/// <summary>One tensor of a request: its content, the id of a kept tensor, or None.</summary>
public readonly struct TensorInput
{
    private TensorInput(in TensorPayload payload, string? keptId, bool isNone)
    {
        Payload = payload;
        KeptId = keptId;
        IsNone = isNone;
    }

    /// <summary>Python's None.</summary>
    public static TensorInput None => new(default, null, true);

    /// <summary>The content, unless <see cref="KeptId"/> is set; of a kept tensor, the type that the caller expects, or none.</summary>
    public TensorPayload Payload { get; }

    /// <summary>Id of a kept tensor, or null.</summary>
    public string? KeptId { get; }

    /// <summary>Whether it is Python's None.</summary>
    public bool IsNone { get; }

    /// <summary>A tensor by its content.</summary>
    /// <param name="payload">The content; its bytes must stay as they are until the call's outcome is disposed.</param>
    public static TensorInput Of(in TensorPayload payload) => new(payload, null, false);

    /// <summary>A tensor kept on the host.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="expected">The element type that it must have; <see cref="ElementType.None"/> takes any.</param>
    public static TensorInput Kept(string id, ElementType expected = ElementType.None) =>
        new(new TensorPayload(expected, [], default), id, false);
}
