using Sconce.V1;

namespace Sconce.Client;

/// <summary>Parameters of an optimizer with options of their own, e.g. <c>new(["features.*"], [("lr", 1e-4)])</c>.</summary>
/// <param name="Parameters">Parameters by name, <c>*</c> and <c>?</c> as wildcards.</param>
/// <param name="Args">Options that differ from the optimizer's; null for none.</param>
public sealed record ParameterGroup(IReadOnlyList<string> Parameters, Arguments? Args = null)
{
    internal ParamGroup ToMessage() => new() { Parameters = { Parameters }, Args = Args?.ToMessage() };
}
