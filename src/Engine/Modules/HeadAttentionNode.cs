using Sconce.Engine.Tensors;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace Sconce.Engine.Modules;

/// <summary>Attention by heads over projections that its heirs hold as children, as Hugging Face's models have it.</summary>
internal abstract class HeadAttentionNode : ModuleNode
{
    private readonly bool _eager;

    private protected HeadAttentionNode(NodeOrigin origin)
        : base(origin) => _eager = origin.Args.Text("attn_implementation") == "eager";

    private protected abstract int Heads { get; }

    /// <summary>Attends, from and to tensors of batch, step and feature.</summary>
    /// <param name="q">Queries.</param>
    /// <param name="k">Keys.</param>
    /// <param name="v">Values.</param>
    /// <param name="attentionMask">For each step of each row 0 where nobody may look; null lets all look.</param>
    /// <param name="causal">Whether a step sees only itself and those before it.</param>
    /// <param name="scale">What the products are multiplied by.</param>
    /// <param name="dropout">The child that drops attention weights: called, and so within reach of hooks, where the implementation is eager.</param>
    /// <param name="context">What goes with the call.</param>
    private protected Tensor Attend(Tensor q, Tensor k, Tensor v, Tensor? attentionMask, bool causal, double scale, KeyValuePair<string, ModuleNode> dropout, CallContext context)
    {
        if (q.Dimensions != 3 || q.shape[2] % Heads != 0 || !k.shape.AsSpan().SequenceEqual(q.shape) || !v.shape.AsSpan().SequenceEqual(q.shape) || k.dtype != q.dtype || v.dtype != q.dtype)
        {
            throw Refuse(context, $"needs queries, keys and values of batch, step and feature, alike, with features that {Heads} heads divide; its projections gave {CallFailure.Describe([TensorTree.Of(q), TensorTree.Of(k), TensorTree.Of(v)])}");
        }

        var (batch, steps, width) = (q.shape[0], q.shape[1], q.shape[2]);

        // Where no fused kernel takes the mask or the dropout, the products of all pairs of steps exist at once.
        context.Memory?.Need(q, [batch, Heads, steps], steps);
        (q, k, v) = (Split(q), Split(k), Split(v));
        var allowed = Allowed(attentionMask, batch, steps, context);
        Tensor output;
        if (_eager)
        {
            var scores = MatrixProduct.Of(q, k.transpose(-2, -1), context.Memory) * scale;
            if (causal)
            {
                var seen = ones([steps, steps], dtype: ScalarType.Bool, device: q.device).tril();
                allowed = allowed is null ? seen : allowed.logical_and(seen);
            }

            var weights = (allowed is null ? scores : where(allowed, scores, Lowest(scores))).softmax(-1);
            output = MatrixProduct.Of(CallForTensor(dropout.Key, dropout.Value, TensorTree.Of(weights), context), v, context.Memory);
        }
        else
        {
            Tensor? mask = null;
            if (allowed is not null)
            {
                if (causal)
                {
                    allowed = allowed.logical_and(ones([steps, steps], dtype: ScalarType.Bool, device: q.device).tril());
                }

                // A finite lowest value, as theirs: a row of padding then looks everywhere instead of giving NaN.
                mask = where(allowed, zeros([], dtype: q.dtype, device: q.device), Lowest(q)).expand(batch, 1, steps, steps);
            }

            // PyTorch scales by 1/sqrt(head size); the rest goes into the queries.
            var usual = 1 / Math.Sqrt(width / Heads);
            output = F.scaled_dot_product_attention(scale == usual ? q : q * (scale / usual), k, v, mask!, dropout.Value is { Training: true, TypeName: "Dropout" } ? dropout.Value.Origin.Args.Float("p") : 0, causal && mask is null);
        }

        return output.transpose(1, 2).reshape(batch, steps, width);

        Tensor Split(Tensor tensor) => tensor.view(batch, steps, Heads, width / Heads).transpose(1, 2);
    }

    // By the promotion rules of where, a scalar tensor of the same dtype changes nothing.
    private static Tensor Lowest(Tensor like) => full([], NumberRange.Of(like.dtype).Least, dtype: like.dtype, device: like.device);

    private Tensor? Allowed(Tensor? attentionMask, long batch, long steps, CallContext context)
    {
        if (attentionMask is null)
        {
            return null;
        }

        return attentionMask.shape is [var rows, var columns] && rows == batch && columns == steps ? attentionMask.ne(0).view(batch, 1, 1, steps)
            : throw Refuse(context, $"takes an attention_mask [{batch}, {steps}], as its input; it was given {CallFailure.Describe(attentionMask)}");
    }
}
