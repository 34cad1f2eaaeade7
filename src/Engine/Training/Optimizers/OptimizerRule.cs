using System.Globalization;
using Sconce.Engine.Catalog;

namespace Sconce.Engine.Training.Optimizers;

/// <summary>One type of optimizer: its arguments by PyTorch's names with PyTorch's defaults, and what it keeps.</summary>
/// <remarks>
/// Why not TorchSharp's optimizers: their defaults and state differ from PyTorch's (AdamW's weight decay, SGD's momentum buffer, options that
/// RAdam and Adagrad lack), and they find state by the handle of a parameter, which cannot follow it to another dtype.
/// </remarks>
internal abstract class OptimizerRule(string type, params Argument[] arguments)
{
    private static readonly double[] DefaultBetas = [0.9, 0.999];

    public string Type => type;

    public IReadOnlyList<Argument> Arguments => arguments;

    public CatalogType Description { get; } =
        new(type, TypeKind.Optimizer, "Optimizer", "", [.. arguments.Select(argument => argument.Describe())], [], []);

    /// <summary>How many times the size of its parameters the state comes to under these options.</summary>
    public abstract double StateCopies(OptionSet options);

    /// <summary>Checks what the declaration of the arguments does not: values that do not go together.</summary>
    public virtual void Check(OptionSet options, OptionErrors errors)
    {
        if (options.Has("betas") && options.Pair("betas") is var (first, second) && !(first < 1 && second < 1))
        {
            errors.Add("betas", string.Create(CultureInfo.InvariantCulture, $"is [{first}, {second}]; both must be less than 1"));
        }
    }

    protected static Argument LearningRate(double value) => Argument.Float("lr").Or(value).AtLeast(0);

    protected static Argument Betas() => Argument.Floats("betas", 2).Or(DefaultBetas).AtLeast(0);

    protected static Argument Epsilon(double value) => Argument.Float("eps").Or(value).AtLeast(0);

    protected static Argument WeightDecay(double value = 0) => Argument.Float("weight_decay").Or(value).AtLeast(0);

    protected static Argument Maximize() => Argument.Bool("maximize", false);
}
