using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Catalog;

/// <summary>What a module or function without parameters computes.</summary>
/// <param name="inputs">The inputs; null for one left out.</param>
/// <param name="mode">What goes with the call.</param>
internal delegate TensorTree TensorFunction(Tensor?[] inputs, FunctionMode mode);

/// <summary>What goes with one call of a function.</summary>
/// <param name="Training">Whether the module that holds it is in training mode.</param>
/// <param name="Memory">What is asked for room before a result that may be much larger than the inputs; null asks nothing.</param>
internal readonly record struct FunctionMode(bool Training, CallMemory? Memory)
{
    /// <summary>Asks for room for what operands broadcast to, in the dtype that they promote to.</summary>
    /// <param name="operands">The operands; null for one left out.</param>
    /// <param name="least">Fewest bytes of an element.</param>
    public void NeedBroadcast(ReadOnlySpan<Tensor?> operands, long least = 1) =>
        Memory?.Need(Math.Max(least, Promotion.ElementSize(operands)), ResultShape.Broadcast(operands));
}

/// <summary>A module type without parameters, which is also the function that <c>torch.nn.functional</c> has under <see cref="Functional"/>.</summary>
/// <param name="Name">PyTorch's name of the module.</param>
/// <param name="Base">PyTorch's base type.</param>
/// <param name="Functional">Name of the function; empty where there is none.</param>
/// <param name="Arguments">Arguments of both.</param>
/// <param name="Repr">What PyTorch prints of the module.</param>
/// <param name="Make">Makes what it computes from the arguments; may refuse them.</param>
internal sealed record StatelessType(
    string Name, string Base, string Functional, IReadOnlyList<Argument> Arguments, Func<BoundArguments, string> Repr, Func<BoundArguments, TensorFunction> Make)
{
    public IReadOnlyList<string> Inputs { get; init; } = ["input"];

    /// <summary>Names of what it gives.</summary>
    public IReadOnlyList<string> Outputs => Arguments.Any(argument => argument.Name == "return_indices") ? ["output", "indices?"] : ["output"];

    /// <summary>False where the function of that name is another one (torch.flatten's defaults are not nn.Flatten's).</summary>
    public bool IsFunctionToo { get; init; } = true;

    public ModuleType ToModule() =>
        new(Name, Base, Functional, Arguments, Inputs, (origin, _) => new FunctionNode(origin, Repr(origin.Args), Make(origin.Args))) { Outputs = Outputs };

    /// <summary>Whether it does something else in training mode; as a function it then takes <c>training</c>, by default the mode of the Graph that calls it.</summary>
    public bool DependsOnMode { get; init; }

    public FunctionType ToFunction() => DependsOnMode
        ? new(Functional, [.. Arguments.Where(a => a.Name != "inplace"), Argument.Bool("training", false).OrNone()], Inputs, args =>
        {
            var (function, mode) = (Make(args), args.BoolOrNone("training"));
            return mode is { } fixedMode ? (inputs, call) => function(inputs, call with { Training = fixedMode }) : function;
        })
        { Outputs = Outputs }
        : new(Functional, [.. Arguments.Where(a => a.Name != "inplace")], Inputs, Make) { Outputs = Outputs };

    /// <summary>A function of one tensor whose result may be large: it asks first.</summary>
    public static TensorFunction Growing(Func<Tensor, CallMemory?, Tensor> function) => (inputs, mode) => TensorTree.Of(function(inputs[0]!, mode.Memory));

    /// <summary>A function of one tensor that cares not whether it trains.</summary>
    public static TensorFunction One(Func<Tensor, Tensor> function) => (inputs, _) => TensorTree.Of(function(inputs[0]!));
}
