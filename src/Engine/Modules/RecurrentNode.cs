using Sconce.Engine.Tensors;
using Sconce.Engine.Training;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>
/// <c>RNN</c>, <c>LSTM</c>, <c>GRU</c>. TorchSharp's module computes on parameters that are named here, since libtorch's recurrences have no
/// functional form there; an LSTM with <c>proj_size</c>, which it lacks, is computed step by step.
/// </summary>
internal sealed class RecurrentNode : ModuleNode
{
    private readonly long _input;
    private readonly long _hidden;
    private readonly long _projected;
    private readonly long _layers;
    private readonly int _directions;
    private readonly bool _batchFirst;
    private readonly double _dropout;
    private readonly nn.Module? _native;

    // Without what is registered later, which forward does not use.
    private readonly IReadOnlyList<NamedParameter> _own;

    public RecurrentNode(NodeOrigin origin, BuildContext context)
        : base(origin)
    {
        var a = origin.Args;
        _input = a.Int("input_size");
        _hidden = a.Int("hidden_size");
        _projected = TypeName == "LSTM" ? a.Int("proj_size") : 0;
        _layers = a.Int("num_layers");
        _directions = a.Bool("bidirectional") ? 2 : 1;
        _batchFirst = a.Bool("batch_first");
        _dropout = a.Float("dropout");
        if (_projected >= _hidden)
        {
            throw a.Refuse("proj_size", $"{_projected} was given; it must be less than hidden_size, {_hidden}");
        }

        context.Count(_layers * _directions, a.Field);
        if (context.OnMeta || _projected > 0)
        {
            Parameters = [.. Shapes().Select(p => new NamedParameter(p.Name, context.Parameter(origin, p.Shape)))];
        }
        else
        {
            _native = MakeNative();
            Parameters = [.. Shapes().Select(p => new NamedParameter(p.Name, Adopt(_native, p.Name, BuildContext.TypeOf(origin))))];
        }

        _own = Parameters;
    }

    public override string ExtraRepr
    {
        get
        {
            var a = Origin.Args;
            var text = $"{_input}, {_hidden}";
            text += _projected == 0 ? "" : $", proj_size={_projected}";
            text += _layers == 1 ? "" : $", num_layers={_layers}";
            text += a.Bool("bias") ? "" : ", bias=False";
            text += _batchFirst ? ", batch_first=True" : "";
            text += _dropout == 0 ? "" : $", dropout={a.Repr("dropout")}";
            return _directions == 1 ? text : $"{text}, bidirectional=True";
        }
    }

    private long Output => _projected > 0 ? _projected : _hidden;

    private int Gates => TypeName switch { "LSTM" => 4, "GRU" => 3, _ => 1 };

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
        inputs = TypeName == "LSTM" ? UnpackState(inputs) : inputs;
        var input = TensorAt(inputs, 0, context);
        var batched = input.Dimensions == 3;
        if ((!batched && input.Dimensions != 2) || input.shape[^1] != _input)
        {
            throw Refuse(context, $"takes an input of 2 dimensions, or 3 with a batch, whose last is {_input} (input_size); it was given {CallFailure.Describe(input)}");
        }

        // All below has a batch; a single sequence is a batch of one. libtorch divides by the length: an empty one is refused there.
        var x = batched ? input : input.unsqueeze(_batchFirst ? 0 : 1);
        var batch = x.shape[_batchFirst ? 0 : 1];
        if (x.shape[_batchFirst ? 1 : 0] == 0)
        {
            throw Refuse(context, $"takes a sequence of at least one step; it was given {CallFailure.Describe(input)}");
        }

        context.Memory?.Need(x, [_layers, _directions, batch], Gates * _hidden);
        var h = State(inputs, 1, Output, batch, batched, x, context);
        var c = TypeName == "LSTM" ? State(inputs, 2, _hidden, batch, batched, x, context) : null;
        if (c is not null && inputs[1].IsNone != inputs[2].IsNone)
        {
            throw Refuse(context, "takes both h_0 and c_0 or neither");
        }

        // All of them: parameters can be registered one by one in another dtype, and libtorch ends the process over some mixtures.
        if (_own.FirstOrDefault(p => p.Parameter.dtype != x.dtype) is { } other)
        {
            throw Refuse(context, $"takes inputs of its own dtype, and {other.Name} is {other.Parameter.dtype.ToElementType().Name()}; it was given {CallFailure.Describe(input)}");
        }

        // The gates of each layer; autograd keeps those of all.
        context.Memory?.Need(x, [x.shape[0], x.shape[1], _layers, _directions], Gates * _hidden);
        var (output, hn, cn) = _native is null ? ProjectedLstm.Run(x, h, c!, _own, new(_layers, _directions, _batchFirst, Training ? _dropout : 0)) : RunNative(x, h, c);
        return TensorTree.Tuple(Unbatch(output, _batchFirst ? 0 : 1), cn is null ? Unbatch(hn, 1) : TensorTree.Tuple(Unbatch(hn, 1), Unbatch(cn, 1)));

        TensorTree Unbatch(Tensor tensor, long dim) => TensorTree.Of(batched ? tensor : tensor.squeeze(dim));
    }

    /// <summary>PyTorch's <c>hx</c> is a tuple (h_0, c_0): one given as the first state stands for both.</summary>
    internal static IReadOnlyList<TensorTree> UnpackState(IReadOnlyList<TensorTree> inputs) =>
        inputs[1].Items is [var h, var c] && inputs[2].IsNone ? [inputs[0], h, c] : inputs;

    protected override void Dispose(bool disposing)
    {
        _native?.Dispose();
        base.Dispose(disposing);
    }

    // A parameter of the native module is the same tensor under another handle: what is set here is seen there.
    private static Parameter Adopt(nn.Module native, string name, ElementType type)
    {
        var parameter = native.get_parameter(name) ?? throw new InvalidOperationException($"TorchSharp's module has no parameter {name}");
        if (type != ElementType.Float32)
        {
            using var quiet = no_grad();
            using var converted = parameter.to_type(type.ToScalarType());
            NativeSetData.SetData(parameter, converted);
        }

        return parameter;
    }

    private nn.Module MakeNative()
    {
        var a = Origin.Args;
        var bias = a.Bool("bias");

        // The constructor draws initial values; those that count are drawn by ResetParameters, so these must not move the generator.
        return RandomStream.RunUndisturbed<nn.Module>(() => TypeName switch
        {
            "LSTM" => nn.LSTM(_input, _hidden, _layers, bias, _batchFirst, _dropout, _directions == 2),
            "GRU" => nn.GRU(_input, _hidden, _layers, bias, _batchFirst, _dropout, _directions == 2),
            _ => nn.RNN(_input, _hidden, _layers, a.Text("nonlinearity") == "relu" ? nn.NonLinearities.ReLU : nn.NonLinearities.Tanh, bias, _batchFirst, _dropout, _directions == 2),
        });
    }

    private IEnumerable<(string Name, long[] Shape)> Shapes()
    {
        for (var layer = 0L; layer < _layers; layer++)
        {
            for (var direction = 0; direction < _directions; direction++)
            {
                var end = $"_l{layer}{(direction == 1 ? "_reverse" : "")}";
                yield return ("weight_ih" + end, [Gates * _hidden, layer == 0 ? _input : Output * _directions]);
                yield return ("weight_hh" + end, [Gates * _hidden, Output]);
                if (Origin.Args.Bool("bias"))
                {
                    yield return ("bias_ih" + end, [Gates * _hidden]);
                    yield return ("bias_hh" + end, [Gates * _hidden]);
                }

                if (_projected > 0)
                {
                    yield return ("weight_hr" + end, [_projected, _hidden]);
                }
            }
        }
    }

    private Tensor State(IReadOnlyList<TensorTree> inputs, int index, long size, long batch, bool batched, Tensor input, CallContext context)
    {
        var count = _layers * _directions;
        if (OptionalTensorAt(inputs, index, context) is not { } state)
        {
            return zeros([count, batch, size], dtype: input.dtype, device: input.device);
        }

        long[] expected = batched ? [count, batch, size] : [count, size];
        if (!state.shape.SequenceEqual(expected) || state.dtype != input.dtype)
        {
            throw Refuse(context, $"takes {Inputs[index].Name} of shape [{string.Join(", ", expected)}] and the input's dtype; it was given {CallFailure.Describe(state)}");
        }

        return batched ? state : state.unsqueeze(1);
    }

    private (Tensor Output, Tensor H, Tensor? C) RunNative(Tensor x, Tensor h, Tensor? c)
    {
        // Only dropout between layers cares, and only then is the native flag looked at.
        if (_dropout > 0 && _native!.training != Training)
        {
            _native.train(Training);
        }

        switch (_native)
        {
            case LSTM lstm:
                var (output, hn, cn) = lstm.forward(x, (h, c!));
                return (output, hn, cn);
            case GRU gru:
                var (gruOutput, gruH) = gru.forward(x, h);
                return (gruOutput, gruH, null);
            default:
                var (rnnOutput, rnnH) = ((RNN)_native!).forward(x, h);
                return (rnnOutput, rnnH, null);
        }
    }
}
