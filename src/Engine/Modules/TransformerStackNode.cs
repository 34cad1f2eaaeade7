using System.Globalization;
using Sconce.Engine.Catalog;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Modules;

/// <summary><c>TransformerEncoder</c> and <c>TransformerDecoder</c>: copies of one layer, then a norm.</summary>
internal sealed class TransformerStackNode : ModuleNode
{
    private readonly string _layerName;
    private ModuleListNode _layers;
    private ModuleNode? _norm;

    private TransformerStackNode(NodeOrigin origin, ModuleListNode layers, ModuleNode? norm)
        : base(origin)
    {
        _layerName = origin.Given[0].Key;
        _layers = layers;
        _norm = norm;
        Children = norm is null ? [new("layers", layers)] : [new("layers", layers), new("norm", norm)];
    }

    internal override void Rewire()
    {
        var children = Children.ToDictionary(child => child.Key, child => child.Value);
        _layers = (ModuleListNode)children["layers"];
        _norm = children.GetValueOrDefault("norm");
        for (var i = 0; i < _layers.Children.Count; i++)
        {
            if (LayerProblem(_layers.Children[i].Value) is { } problem)
            {
                throw EngineException.Invalid("spec", $"layers.{_layers.Children[i].Key} {problem}", "CHILD_MISMATCH");
            }
        }

        // What it is made of again: PyTorch's copies of one layer, of which the first is as good as any.
        KeyValuePair<string, ModuleNode> first = new(_layerName, _layers.Children[0].Value);
        Origin = Origin with { Given = _norm is null ? [first] : [first, new("norm", _norm)] };
    }

    internal override string? ChildProblem(string name, ModuleNode child) => name switch
    {
        "layers" when child is not ModuleListNode { Children.Count: > 0 } => "it is a ModuleList with the layers",
        "norm" => UnlessOneInput(child),
        _ => null,
    };

    private string? LayerProblem(ModuleNode layer)
    {
        var type = ModuleCatalog.Module(TypeName + "Layer", "");
        return layer.Inputs.Select(input => input.Optional).SequenceEqual(type.InputList.Select(input => input.Optional)) ? null
            : $"is a {layer.TypeName}, which does not take the inputs of a {type.Name}";
    }

    internal override IEnumerable<ModuleNode> CalledChildren => [.. _layers.Children.Select(child => child.Value), .. _norm is null ? Array.Empty<ModuleNode>() : [_norm]];

    /// <summary>Makes the stack. As in PyTorch every layer is a copy of the given one, which is not part of the result.</summary>
    public static TransformerStackNode Create(NodeOrigin origin, BuildContext context, string layerName, string layerType)
    {
        var given = origin.Given.First(child => child.Key == layerName).Value;
        if (!given.Inputs.Select(input => input.Optional).SequenceEqual(ModuleCatalog.Module(layerType, "").InputList.Select(input => input.Optional)))
        {
            throw EngineException.Invalid(origin.Args.Field, $"{layerName} is a {given.TypeName}, which does not take the inputs of a {layerType}", "BAD_SPEC");
        }

        var count = origin.Args.Int("num_layers");
        context.Count(Math.Min(count, int.MaxValue) * ModuleTree.Walk(given).Count(), origin.Args.Field);
        var copies = Enumerable.Range(0, (int)count)
            .Select(i => KeyValuePair.Create(i.ToString(CultureInfo.InvariantCulture), ModuleCopy.DeepCopy(given, BuildContext.ForCopies(context.OnMeta)))).ToList();
        var norm = origin.Given.FirstOrDefault(child => child.Key == "norm").Value;
        var layers = (ModuleListNode)context.Create("ModuleList", origin, copies);
        var first = new KeyValuePair<string, ModuleNode>(layerName, copies[0].Value);
        return new TransformerStackNode(origin with { Given = norm is null ? [first] : [first, new("norm", norm)] }, layers, norm);
    }

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var x = inputs[0];
        context.Enter("layers");
        foreach (var (name, layer) in _layers.Children)
        {
            x = CallChild(name, layer, [x, .. inputs.Skip(1)], context);
        }

        context.Leave();
        return _norm is null ? x : CallChild("norm", _norm, [x], context);
    }
}

/// <summary><c>Transformer</c>: an encoder and a decoder.</summary>
internal sealed class TransformerNode : ModuleNode
{
    private ModuleNode _encoder;
    private ModuleNode _decoder;

    public TransformerNode(NodeOrigin origin, BuildContext context)
        : base(origin)
    {
        var a = origin.Args;
        var type = BuildContext.TypeOf(origin).Name();
        _encoder = Stack("TransformerEncoder", "encoder_layer", "TransformerEncoderLayer", a.Int("num_encoder_layers"));
        _decoder = Stack("TransformerDecoder", "decoder_layer", "TransformerDecoderLayer", a.Int("num_decoder_layers"));
        Children = [new("encoder", _encoder), new("decoder", _decoder)];

        ModuleNode Stack(string stack, string layerName, string layerType, long count)
        {
            var layer = context.Create(layerType, origin, [],
                ("d_model", a.Int("d_model")), ("nhead", a.Int("nhead")), ("dim_feedforward", a.Int("dim_feedforward")), ("dropout", a.Float("dropout")), ("activation", a.Text("activation")),
                ("layer_norm_eps", a.Float("layer_norm_eps")), ("batch_first", a.Bool("batch_first")), ("norm_first", a.Bool("norm_first")), ("bias", a.Bool("bias")), ("dtype", type));
            var norm = context.Create("LayerNorm", origin, [], ("normalized_shape", a.Int("d_model")), ("eps", a.Float("layer_norm_eps")), ("bias", a.Bool("bias")), ("dtype", type));
            return context.Create(stack, origin, [new(layerName, layer), new("norm", norm)], ("num_layers", count));
        }
    }

    internal override IEnumerable<ModuleNode> CalledChildren => [_encoder, _decoder];

    internal override void Rewire() => (_encoder, _decoder) = (Child("encoder"), Child("decoder"));

    internal override string? ChildProblem(string name, ModuleNode child) => name switch
    {
        "encoder" when child.Inputs.Count < 3 || child.Inputs[0].Optional || child.Inputs.Skip(1).Any(input => !input.Optional) => "it is called as a TransformerEncoder",
        "decoder" when child.Inputs.Count < 6 || child.Inputs.Take(2).Any(input => input.Optional) || child.Inputs.Skip(2).Any(input => !input.Optional) => "it is called as a TransformerDecoder",
        _ => null,
    };

    internal override bool ResetParameters()
    {
        foreach (var (_, parameter) in ModuleTree.NamedParameters(this))
        {
            if (parameter.Dimensions > 1)
            {
                Initial.XavierUniform(parameter);
            }
        }

        return true;
    }

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        // src, tgt, src_mask, tgt_mask, memory_mask, src_key_padding_mask, tgt_key_padding_mask, memory_key_padding_mask
        var memory = CallChild("encoder", _encoder, [inputs[0], inputs[2], inputs[5]], context);
        return CallChild("decoder", _decoder, [inputs[1], memory, inputs[3], inputs[4], inputs[6], inputs[7]], context);
    }
}
