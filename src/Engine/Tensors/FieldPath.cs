namespace Sconce.Engine.Tensors;

/// <summary>Where in a request a tensor stands. Spelled out only when something is wrong with it: calls that succeed make no strings.</summary>
/// <param name="Prefix">What comes before the list, e.g. <c>forward.</c>; may be empty.</param>
/// <param name="List">The list, e.g. <c>inputs</c>, or the whole field where there is no index.</param>
/// <param name="Index">Index in the list, or -1.</param>
/// <param name="Key">Key in the list, or null.</param>
internal readonly record struct FieldPath(string Prefix, string List, int Index = -1, string? Key = null)
{
    public string Child(string child) => $"{this}.{child}";

    public override string ToString() =>
        Key is not null ? $"{Prefix}{List}[{EngineException.Quote(Key)}]" : Index >= 0 ? $"{Prefix}{List}[{Index}]" : Prefix + List;
}
