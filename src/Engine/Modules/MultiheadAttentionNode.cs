using Sconce.Engine.Tensors;
using TorchSharp.Modules;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace Sconce.Engine.Modules;

/// <summary><c>MultiheadAttention</c>. (TorchSharp's is wrong with a bool mask and knows no batch_first.)</summary>
internal sealed class MultiheadAttentionNode : ModuleNode
{
    private readonly long _embed;
    private readonly long _heads;
    private readonly double _dropout;
    private readonly bool _batchFirst;
    private readonly bool _addZero;
    private readonly Parameter? _inWeight;
    private readonly Parameter[] _separateWeights = [];
    private readonly Parameter? _inBias;
    private readonly Parameter? _biasK;
    private readonly Parameter? _biasV;
    private LinearNode _outProjection;
    private readonly long _keySize;
    private readonly long _valueSize;

    public MultiheadAttentionNode(NodeOrigin origin, BuildContext context)
        : base(origin)
    {
        var a = origin.Args;
        _embed = a.Int("embed_dim");
        _heads = a.Int("num_heads");
        _dropout = a.Float("dropout");
        _batchFirst = a.Bool("batch_first");
        _addZero = a.Bool("add_zero_attn");
        _keySize = a.IntOrNone("kdim") ?? _embed;
        _valueSize = a.IntOrNone("vdim") ?? _embed;
        if (_embed % _heads != 0)
        {
            throw a.Refuse("num_heads", $"{_heads} was given; it must divide embed_dim, which is {_embed}");
        }

        // PyTorch registers what it does not use as None.
        var slots = new List<ParameterSlot>();
        if (_keySize == _embed && _valueSize == _embed)
        {
            _inWeight = Add("in_proj_weight", 3 * _embed, _embed);
            slots.AddRange([new("q_proj_weight", null), new("k_proj_weight", null), new("v_proj_weight", null)]);
        }
        else
        {
            _separateWeights = [Add("q_proj_weight", _embed, _embed), Add("k_proj_weight", _embed, _keySize), Add("v_proj_weight", _embed, _valueSize)];
            slots.Add(new("in_proj_weight", null));
        }

        if (a.Bool("bias"))
        {
            _inBias = Add("in_proj_bias", 3 * _embed);
        }
        else
        {
            slots.Add(new("in_proj_bias", null));
        }

        _outProjection = (LinearNode)context.Create("NonDynamicallyQuantizableLinear", origin, [],
            ("in_features", _embed), ("out_features", _embed), ("bias", a.Bool("bias")), ("dtype", BuildContext.TypeOf(origin).Name()));
        if (a.Bool("add_bias_kv"))
        {
            _biasK = Add("bias_k", 1, 1, _embed);
            _biasV = Add("bias_v", 1, 1, _embed);
        }

        Slots = slots;
        Children = [new("out_proj", _outProjection)];

        Parameter Add(string name, params long[] shape)
        {
            var parameter = context.Parameter(origin, shape);
            slots.Add(new(name, parameter));
            return parameter;
        }
    }

    /// <summary>Whether the weights are returned when a module calls it; a caller who targets it gets them, as in PyTorch. Transformer layers turn it off.</summary>
    internal bool NeedsWeights { get; set; } = true;

    internal override void Rewire() => _outProjection = (LinearNode)Child("out_proj");

    internal override string? ChildProblem(string name, ModuleNode child) => name != "out_proj" || (child is LinearNode linear && linear.Takes(_embed, _embed))
        ? null : $"it is called as a Linear from {_embed} to {_embed} features";

    internal override bool ResetParameters()
    {
        foreach (var weight in _inWeight is null ? _separateWeights : [_inWeight])
        {
            Initial.XavierUniform(weight);
        }

        if (_inBias is not null)
        {
            Initial.Fill(_inBias, 0);
            if (_outProjection.Bias is not null)
            {
                Initial.Fill(_outProjection.Bias, 0);
            }
        }

        if (_biasK is not null)
        {
            Initial.XavierNormal(_biasK);
            Initial.XavierNormal(_biasV!);
        }

        return true;
    }

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var (query, key, value) = (TensorAt(inputs, 0, context), TensorAt(inputs, 1, context), TensorAt(inputs, 2, context));
        var batched = query.Dimensions == 3;
        Check(query, key, value, context);

        // From here on (step, batch, feature).
        var (q, k, v) = (Align(query, batched), Align(key, batched), Align(value, batched));
        var (target, source, batch, width) = (q.shape[0], k.shape[0], q.shape[1], _embed / _heads);
        context.Memory?.Need(query, [batch, _heads, target], source);
        context.Memory?.Need(query, [batch, 2 * source + target], _embed);
        var mask = AttentionMasks.Combine(OptionalTensorAt(inputs, 4, context), OptionalTensorAt(inputs, 3, context), new(batch, _heads, target, source, batched), q.dtype,
            message => Refuse(context, message));

        (q, k, v) = Project(q, k, v);
        if (_biasK is not null)
        {
            k = cat([k, _biasK.expand(1, batch, _embed)]);
            v = cat([v, _biasV!.expand(1, batch, _embed)]);
            mask = mask is null ? null : F.pad(mask, [0, 1]);
        }

        (q, k, v) = (Heads(q), Heads(k), Heads(v));
        if (_addZero)
        {
            var zero = zeros([batch, _heads, 1, width], dtype: k.dtype, device: k.device);
            k = cat([k, zero], 2);
            v = cat([v, zero], 2);
            mask = mask is null ? null : F.pad(mask, [0, 1]);
        }

        var dropout = Training ? _dropout : 0;
        Tensor? weights = null;
        Tensor attended;
        if (NeedsWeights || context.IsTarget)
        {
            var scores = MatrixProduct.Of(q * (1 / Math.Sqrt(width)), k.transpose(-2, -1), context.Memory);
            weights = (mask is null ? scores : scores + mask).softmax(-1);
            weights = dropout > 0 ? F.dropout(weights, dropout, true) : weights;
            attended = MatrixProduct.Of(weights, v, context.Memory);
        }
        else
        {
            attended = F.scaled_dot_product_attention(q, k, v, mask!, dropout);
        }

        var merged = attended.permute(2, 0, 1, 3).reshape(target, batch, _embed);
        var output = CallForTensor("out_proj", _outProjection, TensorTree.Of(merged), context);
        output = !batched ? output.squeeze(1) : _batchFirst ? output.transpose(0, 1) : output;
        var average = weights?.mean([1]);
        return TensorTree.Tuple(TensorTree.Of(output), TensorTree.Of(average is null || batched ? average : average.squeeze(0)));

        Tensor Heads(Tensor tensor) => tensor.view(tensor.shape[0], batch, _heads, width).permute(1, 2, 0, 3);
    }

    // All at once, since libtorch would blame the first product that fails.
    private void Check(Tensor query, Tensor key, Tensor value, CallContext context)
    {
        var (q, k, v) = (query.shape, key.shape, value.shape);
        var batchDim = _batchFirst ? 0 : 1;
        var right = q.Length is 2 or 3 && k.Length == q.Length && v.Length == q.Length
            && q[^1] == _embed && k[^1] == _keySize && v[^1] == _valueSize
            && k.AsSpan(0, k.Length - 1).SequenceEqual(v.AsSpan(0, v.Length - 1))
            && (q.Length == 2 || q[batchDim] == k[batchDim])
            && query.dtype == key.dtype && query.dtype == value.dtype;
        if (!right)
        {
            var layout = _batchFirst ? "batch, step" : "step, batch";
            throw Refuse(context,
                $"takes query [{layout}, {_embed}], key [{layout}, {_keySize}] and value [{layout}, {_valueSize}], or all without a batch, key and value with equal steps, of one dtype; "
                + $"it was given {CallFailure.Describe(query)}, {CallFailure.Describe(key)}, {CallFailure.Describe(value)}");
        }
    }

    private Tensor Align(Tensor tensor, bool batched) => !batched ? tensor.unsqueeze(1) : _batchFirst ? tensor.transpose(0, 1) : tensor;

    private (Tensor Q, Tensor K, Tensor V) Project(Tensor q, Tensor k, Tensor v)
    {
        var weights = _inWeight?.chunk(3) ?? _separateWeights;
        var biases = _inBias?.chunk(3) ?? new Tensor?[3];
        return (F.linear(q, weights[0], biases[0]!), F.linear(k, weights[1], biases[1]!), F.linear(v, weights[2], biases[2]!));
    }
}
