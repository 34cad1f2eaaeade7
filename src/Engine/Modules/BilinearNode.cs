using Sconce.Engine.Execution;
using Sconce.Engine.Tensors;
using TorchSharp.Modules;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace Sconce.Engine.Modules;

/// <summary><c>Bilinear</c>: x1 W x2 + b.</summary>
internal sealed class BilinearNode : ModuleNode
{
    private readonly long _in1;
    private readonly long _in2;
    private Parameter _weight;
    private Parameter? _bias;

    public BilinearNode(NodeOrigin origin, BuildContext context)
        : base(origin)
    {
        _in1 = origin.Args.Int("in1_features");
        _in2 = origin.Args.Int("in2_features");
        var outputs = origin.Args.Int("out_features");
        _weight = context.Parameter(origin, outputs, _in1, _in2);
        _bias = origin.Args.Bool("bias") ? context.Parameter(origin, outputs) : null;
        Slots = [new("weight", _weight), new("bias", _bias, [outputs])];
    }

    public override string ExtraRepr => $"in1_features={_in1}, in2_features={_in2}, out_features={Origin.Args.Repr("out_features")}, bias={Origin.Args.Repr("bias")}";

    internal override bool ResetParameters()
    {
        Initial.UniformByFanIn(_weight, _in1);
        if (_bias is not null)
        {
            Initial.UniformByFanIn(_bias, _in1);
        }

        return true;
    }

    private protected override bool Rebind(string name, Parameter? parameter)
    {
        (_weight, _bias) = name == "weight" ? (parameter ?? _weight, _bias) : (_weight, parameter);
        return name != "weight" || parameter is not null;
    }

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var (first, second) = (TensorAt(inputs, 0, context), TensorAt(inputs, 1, context));
        var (shape1, shape2) = (first.shape, second.shape);
        if (shape1.Length == 0 || shape1.Length != shape2.Length || shape1[^1] != _in1 || shape2[^1] != _in2 || !shape1.AsSpan(0, shape1.Length - 1).SequenceEqual(shape2.AsSpan(0, shape2.Length - 1)))
        {
            throw Refuse(context, $"takes inputs of shapes [*, {_in1}] and [*, {_in2}]; it was given {CallFailure.Describe(first)} and {CallFailure.Describe(second)}");
        }

        NeedOutput(context.Memory, first, _weight);
        return TensorTree.Of(F.bilinear(first, second, _weight, _bias));
    }

    /// <summary>Asks for room for the output.</summary>
    internal static void NeedOutput(CallMemory? memory, Tensor first, Tensor weight) => memory?.Need(first, first.shape.AsSpan(0, (int)first.Dimensions - 1), weight.shape[0]);
}

/// <summary><c>PReLU</c>.</summary>
internal sealed class PReluNode : ModuleNode
{
    private readonly Parameter _weight;

    public PReluNode(NodeOrigin origin, BuildContext context)
        : base(origin)
    {
        _weight = context.Parameter(origin, origin.Args.Int("num_parameters"));
        Parameters = [new("weight", _weight)];
    }

    public override string ExtraRepr => $"num_parameters={Origin.Args.Repr("num_parameters")}";

    internal override bool ResetParameters()
    {
        Initial.Fill(_weight, Origin.Args.Float("init"));
        return true;
    }

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context) => TensorTree.Of(F.prelu(TensorAt(inputs, 0, context), _weight));
}
