using Sconce.Engine.Modules;

namespace Sconce.Engine.Catalog;

/// <summary>A function of <c>torch</c> or <c>torch.nn.functional</c> that a wiring may call.</summary>
internal sealed class FunctionType
{
    /// <param name="name">PyTorch's name.</param>
    /// <param name="arguments">Arguments beside the tensors.</param>
    /// <param name="inputs">Names of the tensors; <c>?</c> ends one that may be left out; a single name beginning with <c>*</c> takes any number.</param>
    /// <param name="make">Makes what it computes from the arguments; may refuse them.</param>
    public FunctionType(string name, IReadOnlyList<Argument> arguments, IReadOnlyList<string> inputs, Func<BoundArguments, TensorFunction> make)
    {
        Name = name;
        Arguments = arguments;
        IsVariadic = inputs is [['*', ..]];
        Inputs = [.. inputs.Select(InputName.Parse)];
        Make = make;
    }

    public string Name { get; }

    public IReadOnlyList<Argument> Arguments { get; }

    public IReadOnlyList<InputName> Inputs { get; }

    public bool IsVariadic { get; }

    /// <summary>Names of what it gives; one name beginning with <c>*</c> where their number comes from the arguments.</summary>
    public IReadOnlyList<string> Outputs { get; init; } = ["output"];

    public Func<BoundArguments, TensorFunction> Make { get; }

    /// <summary>The argument that stands for the last input where that is a number: exactly one of the two is given.</summary>
    public string? NumberOperand { get; init; }

    public CatalogType Describe() =>
        new(Name, TypeKind.Function, "", Name, [.. Arguments.Select(a => a.Describe())], [.. Inputs.Select(i => i.ToString())], Outputs);

    /// <summary>Why it cannot take this many inputs beside these arguments; null where it can.</summary>
    public string? CountProblem(int given, BoundArguments args)
    {
        if (NumberOperand is not null && given == Inputs.Count != args.IsNone(NumberOperand))
        {
            return $"{Name} takes a second input or the argument {NumberOperand}, exactly one of them";
        }

        var least = IsVariadic ? 1 : Inputs.Count(i => !i.Optional);
        return given >= least && (IsVariadic || given <= Inputs.Count) ? null
            : $"{Name} takes {string.Join(", ", Inputs)}; {given} inputs were given";
    }
}
