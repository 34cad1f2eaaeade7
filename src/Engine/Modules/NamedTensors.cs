using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>A parameter and its name: in its own module, or dotted from a root.</summary>
/// <param name="Name">The name, e.g. <c>weight</c> or <c>layer1.0.weight</c>.</param>
/// <param name="Parameter">The live parameter; it keeps its identity through conversions.</param>
public sealed record NamedParameter(string Name, Parameter Parameter);

/// <summary>A buffer and its name in its own module.</summary>
/// <param name="Name">The name, e.g. <c>running_mean</c>.</param>
/// <param name="Tensor">The live tensor; it keeps its identity through conversions.</param>
/// <param name="Persistent">Whether the state dict holds it.</param>
public sealed record NamedBuffer(string Name, Tensor Tensor, bool Persistent);

/// <summary>A place for a parameter, which may be empty (Python's None).</summary>
/// <param name="Name">Its name in its own module.</param>
/// <param name="Parameter">The parameter; null for None.</param>
/// <param name="Shape">Where forward can do with and without it: the shape that it must have.</param>
internal sealed record ParameterSlot(string Name, Parameter? Parameter, long[]? Shape = null);

/// <summary>A place for a buffer, which may be empty (Python's None).</summary>
/// <param name="Name">Its name in its own module.</param>
/// <param name="Tensor">The buffer; null for None.</param>
/// <param name="Persistent">Whether the state dict holds it.</param>
internal sealed record BufferSlot(string Name, Tensor? Tensor, bool Persistent);

/// <summary>One entry of a state dict.</summary>
/// <param name="Key">Dotted name from the root.</param>
/// <param name="Tensor">The live tensor: a reference, not a copy.</param>
public sealed record StateEntry(string Key, Tensor Tensor)
{
    /// <summary>Whether it is a module's extra state: bytes of any number.</summary>
    public bool IsExtraState { get; init; }
}
