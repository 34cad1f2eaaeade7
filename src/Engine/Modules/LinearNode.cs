using Sconce.Engine.Tensors;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary><c>Linear</c>: x W^T + b.</summary>
internal sealed class LinearNode : ModuleNode
{
    private readonly long _in;
    private readonly long _out;
    private IReadOnlyList<NamedParameter> _parameters;

    public LinearNode(NodeOrigin origin, BuildContext context)
        : base(origin)
    {
        _in = origin.Args.Int("in_features");
        _out = origin.Args.Int("out_features");
        Weight = context.Parameter(origin, _out, _in);
        Bias = origin.Args.Bool("bias") ? context.Parameter(origin, _out) : null;
        _parameters = Bias is null ? [new("weight", Weight)] : [new("weight", Weight), new("bias", Bias)];
    }

    public Parameter Weight { get; private set; }

    public Parameter? Bias { get; }

    public override IReadOnlyList<NamedParameter> Parameters => _parameters;

    public override string ExtraRepr => $"in_features={_in}, out_features={_out}, bias={(Bias is null ? "False" : "True")}";

    /// <summary>Takes another module's parameter as its weight, which both then share; before anyone else has seen its own.</summary>
    internal void Tie(Parameter weight)
    {
        Weight.Dispose();
        Weight = weight;
        _parameters = Bias is null ? [new("weight", Weight)] : [new("weight", Weight), new("bias", Bias)];
    }

    internal override bool ResetParameters()
    {
        Initial.KaimingUniform(Weight);
        if (Bias is not null)
        {
            Initial.UniformByFanIn(Bias, _in);
        }

        return true;
    }

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var input = TensorAt(inputs, 0, context);
        if (input.Dimensions == 0 || input.shape[^1] != _in)
        {
            throw Refuse(context, $"takes an input whose last dimension is {_in} (in_features); it was given {CallFailure.Describe(input)}");
        }

        return TensorTree.Of(nn.functional.linear(input, Weight, Bias));
    }
}
