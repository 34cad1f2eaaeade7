using Sconce.Engine.Catalog;
using Sconce.Engine.Tensors;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.Weights.Script;

/// <summary>An input that a trial gives to forward: ones.</summary>
/// <param name="Kind">What the code takes there: <c>Tensor</c>, <c>int</c>, <c>float</c>, <c>bool</c> or <c>number</c>.</param>
/// <param name="Type">Of a tensor, its element type, by the name of <see cref="ElementType"/>.</param>
/// <param name="Shape">Of a tensor, its shape.</param>
internal sealed record ScriptExample(string Kind, string Type, long[] Shape)
{
    /// <summary>What a file's forward is tried with.</summary>
    /// <param name="program">The file's.</param>
    /// <param name="given">Shapes and types that a caller gave.</param>
    /// <param name="args">Where they stand in the request.</param>
    /// <returns>The inputs; null where nobody can call forward, so that the trial can but load the file.</returns>
    /// <exception cref="EngineException">They are too few or too many.</exception>
    public static IReadOnlyList<ScriptExample>? For(ScriptProgram program, IReadOnlyList<ScriptExample> given, BoundArguments args)
    {
        if (program.Methods(program.Root).FirstOrDefault(method => method.Name == ScriptNode.Forwarding).Inputs is not { } inputs || inputs.Any(input => !input.CanBeGiven && !input.HasDefault))
        {
            return null;
        }

        var needed = inputs.Count(input => !input.HasDefault);
        var most = inputs.TakeWhile(input => input.CanBeGiven).Count();
        return given.Count >= needed && given.Count <= most ? [.. given.Select((example, i) => example with { Kind = inputs[i].Plain })]
            : throw args.Refuse("example", $"has the shapes of {given.Count} inputs; expected {(needed == most ? $"{needed}" : $"{needed} to {most}")} for forward({string.Join(", ", inputs.Select(input => $"{input.Name}: {input.Type}"))}): "
                + "the file is run with ones of these shapes, in a process of its own, before the server loads it");
    }

    /// <summary>The value: a tensor or a <see cref="Scalar"/>, which outlives the call that it is given to.</summary>
    /// <remarks>Objects, one by one: TorchSharp would make tensors of all.</remarks>
    public object Value() => Kind switch
    {
        "int" or "number" => (object)1L.ToScalar(),
        "float" => (object)1.0.ToScalar(),
        "bool" => (object)true,
        _ => ones(Shape, dtype: Enum.Parse<ElementType>(Type).ToScalarType()),
    };
}
