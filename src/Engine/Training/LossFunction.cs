using System.Globalization;
using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using Sconce.Engine.Training.Losses;
using static TorchSharp.torch;

namespace Sconce.Engine.Training;

/// <summary>A loss of torch.nn, by PyTorch's name and arguments. It holds no tensors and may be kept and used by several threads.</summary>
public sealed class LossFunction
{
    private readonly LossRule _rule;
    private readonly BoundArguments _args;
    private readonly string _field;
    private readonly string _targets;

    private LossFunction(LossRule rule, BoundArguments args, string field)
    {
        _rule = rule;
        _args = args;
        _field = field;
        // The targets stand beside the loss: "step.loss" has "step.targets".
        _targets = field.EndsWith("loss", StringComparison.Ordinal) ? field[..^"loss".Length] + "targets" : "targets";
    }

    /// <summary>PyTorch's type name.</summary>
    public string Type => _rule.Type;

    /// <summary>Checks type and arguments.</summary>
    /// <param name="type">PyTorch's type name, e.g. <c>CrossEntropyLoss</c>.</param>
    /// <param name="args">Constructor arguments by PyTorch's names; a tensor such as <c>weight</c> is a list of numbers.</param>
    /// <param name="field">Path of the loss in the request.</param>
    /// <exception cref="EngineException">The type or an argument is wrong.</exception>
    public static LossFunction Create(string type, IReadOnlyDictionary<string, object?> args, string field = "loss")
    {
        var rule = LossTypes.Find(type, RequestPath.Join(field, "type"));
        return new LossFunction(rule, ArgumentBinder.Bind(rule.Arguments, args, type, RequestPath.Join(field, "args")), field);
    }

    /// <summary>A loss of arguments that are bound already.</summary>
    internal static LossFunction Of(LossRule rule, BoundArguments args) => new(rule, args, "loss");

    /// <summary>Computes the loss, reduced as its arguments say.</summary>
    /// <param name="output">What the module returned; a tuple is flattened, and as many of its tensors used as the loss takes beside the targets.</param>
    /// <param name="targets">What the loss takes after them.</param>
    /// <exception cref="EngineException">Tensors are missing or too many, or have a shape, dtype or value that the loss cannot take.</exception>
    public Tensor Compute(TensorTree output, IReadOnlyList<Tensor> targets)
    {
        ArgumentNullException.ThrowIfNull(output);
        ArgumentNullException.ThrowIfNull(targets);
        var outputs = output.Flatten().ToList();
        var wanted = _rule.Inputs.Count - targets.Count;
        if (wanted < 1 || outputs.Count < wanted)
        {
            throw EngineException.Invalid(_targets, string.Create(CultureInfo.InvariantCulture,
                $"{Type} takes {_rule.Inputs.Count} tensors ({string.Join(", ", _rule.Inputs)}); the module returned {outputs.Count} and {targets.Count} targets were given"), "BAD_TARGET");
        }

        outputs.RemoveRange(wanted, outputs.Count - wanted);
        var inputs = _rule.Order(outputs, targets);
        var fields = inputs.Select(input => FieldOf(input, targets)).ToList();
        var call = new LossCall(_rule, _args, inputs, fields);
        try
        {
            _rule.Check(call);
            return _rule.Compute(call);
        }
        catch (Exception exception) when (CallFailure.IsNative(exception))
        {
            throw CallFailure.Translate(exception, Type, [.. inputs.Select(TensorTree.Of)], _targets);
        }
    }

    // What the module returned stands nowhere in the request; the loss was the wrong one for it.
    private string FieldOf(Tensor input, IReadOnlyList<Tensor> targets)
    {
        for (var i = 0; i < targets.Count; i++)
        {
            if (ReferenceEquals(targets[i], input))
            {
                return string.Create(CultureInfo.InvariantCulture, $"{_targets}[{i}]");
            }
        }

        return RequestPath.Join(_field, "type");
    }
}
