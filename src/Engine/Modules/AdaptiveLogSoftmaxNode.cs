using System.Globalization;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace Sconce.Engine.Modules;

/// <summary><c>AdaptiveLogSoftmaxWithLoss</c>: a softmax over many classes, the rare ones in clusters with smaller projections.</summary>
internal sealed class AdaptiveLogSoftmaxNode : ModuleNode
{
    private readonly long _in;
    private readonly long[] _cutoffs;
    private ModuleNode _head;
    private ModuleListNode _tail;

    public AdaptiveLogSoftmaxNode(NodeOrigin origin, BuildContext context)
        : base(origin)
    {
        var a = origin.Args;
        var classes = a.Int("n_classes");
        var given = a.Ints("cutoffs");
        _in = a.Int("in_features");
        if (given.Length == 0 || given[^1] > classes - 1 || given.Zip(given.Skip(1)).Any(pair => pair.First >= pair.Second))
        {
            throw a.Refuse("cutoffs", $"{Catalog.Argument.Show(given)} was given; expected increasing integers from 1 to n_classes - 1, which is {classes - 1}");
        }

        _cutoffs = [.. given, classes];
        var type = BuildContext.TypeOf(origin).Name();
        _head = Linear(_in, given[0] + given.Length, a.Bool("head_bias"));
        var clusters = new List<KeyValuePair<string, ModuleNode>>();
        for (var i = 0; i < given.Length; i++)
        {
            var width = (long)FloorDivide(_in, Math.Pow(a.Float("div_value"), i + 1));
            clusters.Add(new(i.ToString(CultureInfo.InvariantCulture), context.Create("Sequential", origin, [new("0", Linear(_in, width, bias: false)), new("1", Linear(width, _cutoffs[i + 1] - _cutoffs[i], bias: false))])));
        }

        _tail = (ModuleListNode)context.Create("ModuleList", origin, clusters);
        Children = [new("head", _head), new("tail", _tail)];
        Methods = [new("log_prob", [new("input", false)], LogProb), new("predict", [new("input", false)], Predict)];

        ModuleNode Linear(long from, long to, bool bias) => context.Create("Linear", origin, [], ("in_features", from), ("out_features", to), ("bias", bias), ("dtype", type));
    }

    internal override IEnumerable<ModuleNode> CalledChildren => [_head, .. _tail.Children.Select(child => child.Value)];

    internal override IReadOnlyList<ModuleMethod> Methods { get; }

    internal override void Rewire()
    {
        (_head, _tail) = (Child("head"), (ModuleListNode)Child("tail"));
        if (_tail.Children.Count < _cutoffs.Length - 1 || _tail.Children.Take(_cutoffs.Length - 1).Any(cluster => UnlessOneInput(cluster.Value) is not null))
        {
            throw EngineException.Invalid("spec", $"tail needs a module of one input for each of {_cutoffs.Length - 1} clusters", "CHILD_MISMATCH");
        }
    }

    internal override string? ChildProblem(string name, ModuleNode child) => name switch
    {
        "head" => UnlessOneInput(child),
        "tail" when child is not ModuleListNode => "it is a ModuleList with the clusters",
        _ => null,
    };

    // Its children have drawn theirs when they were made.
    internal override void Initialise()
    {
    }

    internal override bool ResetParameters()
    {
        _head.ResetParameters();
        foreach (var (_, layer) in _tail.Children.SelectMany(cluster => cluster.Value.Children))
        {
            layer.ResetParameters();
        }

        return true;
    }

    private long Shortlist => _cutoffs[0];

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var (input, target) = (TensorAt(inputs, 0, context), TensorAt(inputs, 1, context));
        var batched = target.Dimensions == 1;
        if (input.Dimensions != target.Dimensions + 1 || target.Dimensions > 1 || input.shape[^1] != _in || target.dtype != ScalarType.Int64 || (batched && input.shape[0] != target.shape[0]))
        {
            throw Refuse(context, $"takes an input [batch, {_in}] and an int64 target [batch], or both without a batch; it was given {CallFailure.Describe(input)}, {CallFailure.Describe(target)}");
        }

        (input, target) = batched ? (input, target) : (input.unsqueeze(0), target.unsqueeze(0));
        if (target.NumberOfElements > 0 && target.lt(0).logical_or(target.ge(_cutoffs[^1])).any().item<bool>())
        {
            throw Refuse(context, $"takes targets from 0 to {_cutoffs[^1] - 1}; they are from {target.min().item<long>()} to {target.max().item<long>()}");
        }

        var output = zeros([target.shape[0]], dtype: input.dtype, device: input.device);
        var column = target;
        for (var i = 1; i < _cutoffs.Length; i++)
        {
            var member = target.ge(_cutoffs[i - 1]).logical_and(target.lt(_cutoffs[i]));
            var rows = member.nonzero().squeeze(1);
            if (rows.NumberOfElements == 0)
            {
                continue;
            }

            var within = target.index_select(0, rows) - _cutoffs[i - 1];
            var probabilities = F.log_softmax(Cluster(i - 1, input.index_select(0, rows), context), 1).gather(1, within.unsqueeze(1)).squeeze(1);
            output = output.scatter(0, rows, probabilities);
            column = column.masked_fill(member, Shortlist + i - 1);
        }

        output += F.log_softmax(Head(input, context), 1).gather(1, column.unsqueeze(1)).squeeze(1);
        var loss = (-output).mean();
        return TensorTree.Tuple(TensorTree.Of(batched ? output : output.squeeze(0)), TensorTree.Of(loss));
    }

    private TensorTree LogProb(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var input = Rows(inputs, context);
        return TensorTree.Of(All(input, Head(input, context), context));
    }

    private TensorTree Predict(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var input = Rows(inputs, context);
        var head = Head(input, context);

        // A row whose best is a cluster takes the best of all classes, which need not lie in that cluster.
        var best = head.argmax(1);
        var rows = best.ge(Shortlist).nonzero().squeeze(1);
        return TensorTree.Of(rows.NumberOfElements == 0 ? best
            : best.scatter(0, rows, All(input.index_select(0, rows), head.index_select(0, rows), context).argmax(1)));
    }

    private Tensor All(Tensor input, Tensor head, CallContext context)
    {
        var probabilities = F.log_softmax(head, 1);
        var parts = new List<Tensor> { probabilities.narrow(1, 0, Shortlist) };
        for (var i = 0; i < _cutoffs.Length - 1; i++)
        {
            parts.Add(F.log_softmax(Cluster(i, input, context), 1) + probabilities.narrow(1, Shortlist + i, 1));
        }

        return cat(parts, 1);
    }

    private Tensor Rows(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var input = TensorAt(inputs, 0, context);
        return input.Dimensions == 2 && input.shape[1] == _in ? input : throw Refuse(context, $"takes an input [batch, {_in}]; it was given {CallFailure.Describe(input)}");
    }

    // Python's //: not the floor of the rounded quotient.
    private static double FloorDivide(double x, double y) => Math.Round((x - (x % y)) / y);

    private Tensor Head(Tensor input, CallContext context) => Sized("head", _head, input, Shortlist + _cutoffs.Length - 1, context);

    private Tensor Cluster(int index, Tensor input, CallContext context)
    {
        context.Enter("tail");
        var output = Sized(_tail.Children[index].Key, _tail.Children[index].Value, input, _cutoffs[index + 1] - _cutoffs[index], context);
        context.Leave();
        return output;
    }

    // Targets are looked up in it, which on a GPU is checked too late.
    private Tensor Sized(string name, ModuleNode child, Tensor input, long classes, CallContext context) =>
        CallForTensor(name, child, TensorTree.Of(input), context) is { shape: [var rows, var columns] } output && rows == input.shape[0] && columns == classes ? output
        : throw Refuse(context, $"calls {EngineException.Quote(name)} for [{input.shape[0]}, {classes}]; it gave another shape");
}
