using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.Training.Losses;

/// <summary>One computation of a loss, and the checks that many losses share.</summary>
/// <param name="rule">The loss.</param>
/// <param name="args">Its arguments.</param>
/// <param name="inputs">What it takes, in its order.</param>
/// <param name="fields">Where each input stands in the request.</param>
internal sealed class LossCall(LossRule rule, BoundArguments args, IReadOnlyList<Tensor> inputs, IReadOnlyList<string> fields)
{
    public BoundArguments Args => args;

    public int Count => inputs.Count;

    public Tensor this[int index] => inputs[index];

    /// <summary>The same call with its inputs expanded to their common shape.</summary>
    public LossCall Broadcast() => new(rule, args, broadcast_tensors([.. inputs]).ToArray(), fields);

    /// <summary>A list of numbers as a tensor like the first input, or null where it was not given.</summary>
    public Tensor? Vector(string name) => args.FloatsOrNone(name) is { } numbers ? tensor(numbers, inputs[0].dtype, inputs[0].device) : null;

    public EngineException Refuse(int index, string message) =>
        EngineException.Invalid(fields[index], $"{rule.Type} {message}", "BAD_TARGET");

    public string Show(int index) => $"{rule.Inputs[index]} is {Describe(inputs[index])}";

    public void Floating(int index)
    {
        if (!inputs[index].is_floating_point())
        {
            throw Refuse(index, $"needs floating numbers as {rule.Inputs[index]}; {Show(index)}");
        }
    }

    /// <summary>The dtype must be that of the first input: libtorch fails on others no sooner than in backward.</summary>
    public void SameType(int index)
    {
        Floating(0);
        if (inputs[index].dtype != inputs[0].dtype)
        {
            throw Refuse(index, $"needs {rule.Inputs[index]} in the dtype of {rule.Inputs[0]}, {inputs[0].dtype.ToElementType().Name()}; {Show(index)}");
        }
    }

    public void SameShape(int index, int as_ = 0)
    {
        if (!inputs[index].shape.AsSpan().SequenceEqual(inputs[as_].shape))
        {
            throw Refuse(index, $"needs {rule.Inputs[index]} in the shape of {rule.Inputs[as_]}, {Shape(inputs[as_].shape)}; {Show(index)}");
        }
    }

    /// <summary>The shapes must broadcast together, as PyTorch allows for most losses.</summary>
    public void Broadcasts(int index, int with = 0)
    {
        var (a, b) = (inputs[index].shape, inputs[with].shape);
        for (var i = 1; i <= Math.Min(a.Length, b.Length); i++)
        {
            if (a[^i] != b[^i] && a[^i] != 1 && b[^i] != 1)
            {
                throw Refuse(index, $"needs {rule.Inputs[index]} in the shape of {rule.Inputs[with]}, {Shape(b)}, or one that broadcasts to it; {Show(index)}");
            }
        }
    }

    public void HasShape(int index, ReadOnlySpan<long> expected)
    {
        if (!inputs[index].shape.AsSpan().SequenceEqual(expected))
        {
            throw Refuse(index, $"needs {rule.Inputs[index]} of shape {Shape(expected.ToArray())} for {rule.Inputs[0]} of shape {Shape(inputs[0].shape)}; {Show(index)}");
        }
    }

    public void Rank(int index, int least, int most)
    {
        var rank = inputs[index].dim();
        if (rank < least || rank > most)
        {
            throw Refuse(index, $"needs {rule.Inputs[index]} of {(least == most ? $"{least}" : $"{least} to {most}")} dimensions; {Show(index)}");
        }
    }

    public void WeightCount(string name, long classes)
    {
        if (args.FloatsOrNone(name) is { } numbers && numbers.Length != classes)
        {
            throw args.Refuse(name, $"has {numbers.Length} numbers; {rule.Inputs[0]} has {classes} classes");
        }
    }

    /// <summary>A list of weights must have one for each column of the first input, or one for all.</summary>
    public void WeightOfRow(string name)
    {
        if (args.FloatsOrNone(name) is { } numbers && (inputs[0].dim() == 0 || (numbers.Length != 1 && numbers.Length != inputs[0].shape[^1])))
        {
            throw args.Refuse(name, $"has {numbers.Length} numbers; {rule.Inputs[0]} is of shape {Shape(inputs[0].shape)}, and takes one, or one for each of its last dimension");
        }
    }

    /// <summary>All elements of an integer tensor must lie in a range: libtorch would read past its memory, or stop the process.</summary>
    /// <param name="index">Which input.</param>
    /// <param name="least">The least value.</param>
    /// <param name="most">The greatest value.</param>
    /// <param name="what">What the values are, for the message.</param>
    /// <param name="ignored">A value that is allowed besides.</param>
    public void InRange(int index, long least, long most, string what, long? ignored = null)
    {
        var values = inputs[index];
        if (values.numel() == 0 || (values.min().ToInt64() >= least && values.max().ToInt64() <= most))
        {
            return;
        }

        var bad = values.lt(least).logical_or(values.gt(most));
        if (ignored is { } allowed)
        {
            bad = bad.logical_and(values.ne(allowed));
        }

        var flat = bad.reshape(-1).nonzero();
        if (flat.shape[0] > 0)
        {
            var at = flat[0, 0].ToInt64();
            var value = values.reshape(-1)[at].ToInt64();
            throw Refuse(index, $"got {what} {value} at {Position(at, values.shape)}; they are from {least} to {most}{(ignored is null ? "" : $", or {ignored} to be ignored")}");
        }
    }

    public static string Describe(Tensor tensor) => CallFailure.Describe(tensor);

    public static string Shape(IReadOnlyList<long> shape) => $"[{string.Join(", ", shape)}]";

    private static string Position(long flat, long[] shape)
    {
        var index = new long[shape.Length];
        for (var d = shape.Length - 1; d >= 0; d--)
        {
            (flat, index[d]) = Math.DivRem(flat, shape[d]);
        }

        return Shape(index);
    }
}
