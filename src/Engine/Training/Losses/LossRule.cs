using Sconce.Engine.Catalog;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Training.Losses;

/// <summary>One type of loss: its arguments by PyTorch's names with PyTorch's defaults, what it takes, and how it is computed.</summary>
internal abstract class LossRule(string type, string functional, string[] inputs, Argument[] arguments)
{
    public string Type => type;

    /// <summary>Names of what it takes, in order.</summary>
    public IReadOnlyList<string> Inputs => inputs;

    /// <summary>In PyTorch's order, in which <c>reduction</c> comes last where a rule does not place it.</summary>
    public IReadOnlyList<Argument> Arguments { get; } = arguments.Any(a => a.Name == "reduction") ? arguments : [.. arguments, Reduction()];

    /// <summary>PyTorch's base type.</summary>
    public string Base { get; init; } = arguments.Any(a => a.Name == "weight") ? "_WeightedLoss" : "_Loss";

    public CatalogType Description => new(type, TypeKind.Loss, Base, functional, [.. Arguments.Select(a => a.Describe())], inputs, ["output"]);

    /// <summary>The function of torch.nn.functional; its first input is what a module would return, the others are its targets.</summary>
    public FunctionType Function => new(functional, Arguments, inputs, args =>
    {
        var loss = LossFunction.Of(this, args);
        return (given, _) =>
        {
            try
            {
                return TensorTree.Of(loss.Compute(TensorTree.Tuple([.. given.Select(TensorTree.Of)]), []));
            }
            catch (EngineException exception) when (exception.Error == EngineError.InvalidArgument)
            {
                // Its fields are those of a training call; the Graph knows which call this is.
                throw new ArgumentException(exception.Fields[0].Description, exception);
            }
        };
    });

    /// <summary>Throws where libtorch could not take the tensors, or would take them for something else.</summary>
    public abstract void Check(LossCall call);

    public abstract Tensor Compute(LossCall call);

    /// <summary>What the loss takes, in its order, of what the module returned and the caller gave: one after the other, unless a loss says otherwise.</summary>
    public virtual IReadOnlyList<Tensor> Order(IReadOnlyList<Tensor> outputs, IReadOnlyList<Tensor> targets) => [.. outputs, .. targets];

    protected static nn.Reduction ReductionOf(LossCall call) => call.Args.Text("reduction") switch
    {
        "none" => nn.Reduction.None,
        "sum" => nn.Reduction.Sum,
        _ => nn.Reduction.Mean,
    };

    /// <summary>Reduces elements as the argument says.</summary>
    protected static Tensor Reduce(Tensor elements, LossCall call) => ReductionOf(call) switch
    {
        nn.Reduction.None => elements,
        nn.Reduction.Sum => elements.sum(),
        _ => elements.mean(),
    };

    protected static Argument Reduction(bool batchMean = false) => Argument.Text("reduction", batchMean ? ["none", "batchmean", "mean", "sum"] : ["none", "mean", "sum"]).Or("mean");

    protected static Argument Weight(string name = "weight") => Argument.Floats(name).OrNone();
}
