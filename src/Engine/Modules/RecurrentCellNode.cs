using Sconce.Engine.Tensors;
using TorchSharp.Modules;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace Sconce.Engine.Modules;

/// <summary><c>RNNCell</c>, <c>LSTMCell</c>, <c>GRUCell</c>: one step.</summary>
internal sealed class RecurrentCellNode : ModuleNode
{
    private readonly long _input;
    private readonly long _hidden;
    private readonly Parameter _weightIh;
    private readonly Parameter _weightHh;
    private readonly Parameter? _biasIh;
    private readonly Parameter? _biasHh;

    public RecurrentCellNode(NodeOrigin origin, BuildContext context)
        : base(origin)
    {
        _input = origin.Args.Int("input_size");
        _hidden = origin.Args.Int("hidden_size");
        var gates = TypeName switch { "LSTMCell" => 4, "GRUCell" => 3, _ => 1 };
        _weightIh = context.Parameter(origin, gates * _hidden, _input);
        _weightHh = context.Parameter(origin, gates * _hidden, _hidden);
        Parameters = [new("weight_ih", _weightIh), new("weight_hh", _weightHh)];
        if (origin.Args.Bool("bias"))
        {
            _biasIh = context.Parameter(origin, gates * _hidden);
            _biasHh = context.Parameter(origin, gates * _hidden);
            Parameters = [.. Parameters, new("bias_ih", _biasIh), new("bias_hh", _biasHh)];
        }
    }

    public override string ExtraRepr
    {
        get
        {
            var text = $"{_input}, {_hidden}{(_biasIh is null ? ", bias=False" : "")}";
            return UsesRelu ? $"{text}, nonlinearity=relu" : text;
        }
    }

    private bool UsesRelu => TypeName == "RNNCell" && Origin.Args.Text("nonlinearity") == "relu";

    internal override bool ResetParameters()
    {
        foreach (var (_, parameter) in Parameters)
        {
            Initial.UniformByFanIn(parameter, _hidden);
        }

        return true;
    }

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        inputs = TypeName == "LSTMCell" ? RecurrentNode.UnpackState(inputs) : inputs;
        var input = TensorAt(inputs, 0, context);
        var batched = input.Dimensions == 2;
        if ((!batched && input.Dimensions != 1) || input.shape[^1] != _input)
        {
            throw Refuse(context, $"takes an input of 1 dimension, or 2 with a batch, whose last is {_input} (input_size); it was given {CallFailure.Describe(input)}");
        }

        var x = batched ? input : input.unsqueeze(0);
        context.Memory?.Need(x, [x.shape[0]], _weightIh.shape[0]);
        var h = State(inputs, 1, x, batched, context);
        var fromInput = F.linear(x, _weightIh, _biasIh);
        var fromHidden = F.linear(h, _weightHh, _biasHh);
        switch (TypeName)
        {
            case "LSTMCell":
                if (inputs[1].IsNone != inputs[2].IsNone)
                {
                    throw Refuse(context, "takes both h_0 and c_0 or neither");
                }

                var gates = (fromInput + fromHidden).chunk(4, 1);
                var c = (gates[1].sigmoid() * State(inputs, 2, x, batched, context)) + (gates[0].sigmoid() * gates[2].tanh());
                return TensorTree.Tuple(Unbatch(gates[3].sigmoid() * c.tanh()), Unbatch(c));
            case "GRUCell":
                var (i, n) = (fromInput.chunk(3, 1), fromHidden.chunk(3, 1));
                var update = (i[1] + n[1]).sigmoid();
                var candidate = (i[2] + ((i[0] + n[0]).sigmoid() * n[2])).tanh();
                return Unbatch(((h - candidate) * update) + candidate);
            default:
                var sum = fromInput + fromHidden;
                return Unbatch(UsesRelu ? sum.relu() : sum.tanh());
        }

        TensorTree Unbatch(Tensor tensor) => TensorTree.Of(batched ? tensor : tensor.squeeze(0));
    }

    private Tensor State(IReadOnlyList<TensorTree> inputs, int index, Tensor input, bool batched, CallContext context)
    {
        if (OptionalTensorAt(inputs, index, context) is not { } state)
        {
            return zeros([input.shape[0], _hidden], dtype: input.dtype, device: input.device);
        }

        long[] expected = batched ? [input.shape[0], _hidden] : [_hidden];
        return state.shape.SequenceEqual(expected)
            ? batched ? state : state.unsqueeze(0)
            : throw Refuse(context, $"takes {Inputs[index].Name} of shape [{string.Join(", ", expected)}]; it was given {CallFailure.Describe(state)}");
    }
}
