using Sconce.Engine.Tensors;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary><c>Linear</c>: x W^T + b.</summary>
internal sealed class LinearNode : ModuleNode
{
    private readonly long _in;
    private readonly long _out;

    /// <param name="origin">What it is made of.</param>
    /// <param name="context">How it is made.</param>
    /// <param name="tied">Another module's parameter that is its weight too; null for one of its own.</param>
    public LinearNode(NodeOrigin origin, BuildContext context, Parameter? tied = null)
        : base(origin)
    {
        _in = origin.Args.Int("in_features");
        _out = origin.Args.Int("out_features");
        Weight = tied ?? context.Parameter(origin, _out, _in);
        Bias = origin.Args.Bool("bias") ? context.Parameter(origin, _out) : null;
        Slots = [new("weight", Weight), new("bias", Bias, [_out])];
    }

    public Parameter Weight { get; private set; }

    public Parameter? Bias { get; private set; }

    public override string ExtraRepr => $"in_features={_in}, out_features={_out}, bias={(Bias is null ? "False" : "True")}";

    /// <summary>Whether it goes from and to so many features.</summary>
    public bool Takes(long inputs, long outputs) => _in == inputs && _out == outputs;

    internal override bool ResetParameters()
    {
        Initial.KaimingUniform(Weight);
        if (Bias is not null)
        {
            Initial.UniformByFanIn(Bias, _in);
        }

        return true;
    }

    private protected override bool Rebind(string name, Parameter? parameter)
    {
        (Weight, Bias) = name == "weight" ? (parameter ?? Weight, Bias) : (Weight, parameter);
        return name != "weight" || parameter is not null;
    }

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var input = TensorAt(inputs, 0, context);
        if (input.Dimensions == 0 || input.shape[^1] != _in)
        {
            throw Refuse(context, $"takes an input whose last dimension is {_in} (in_features); it was given {CallFailure.Describe(input)}");
        }

        context.Memory?.Need(input, input.shape.AsSpan(0, (int)input.Dimensions - 1), _out);
        return TensorTree.Of(nn.functional.linear(input, Weight, Bias));
    }
}
