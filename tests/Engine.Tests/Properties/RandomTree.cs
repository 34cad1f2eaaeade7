using CsCheck;
using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Properties;

/// <summary>A random spec with its model: containers in containers, and parts shared at random, even those that a type makes by itself.</summary>
internal sealed class RandomTree
{
    private const int MostDepth = 4;

    private static readonly (string Type, (string Name, object? Value)[] Args, Func<ModelModule> Model)[] Leaves =
    [
        ("Linear", [("in_features", 2.0), ("out_features", 3.0)], () => Leaf("Linear", [new("weight", [3, 2]), new("bias", [3])])),
        ("Linear", [("in_features", 2.0), ("out_features", 2.0), ("bias", false)], () => Leaf("Linear", [new("weight", [2, 2])])),
        ("Embedding", [("num_embeddings", 3.0), ("embedding_dim", 2.0)], () => Leaf("Embedding", [new("weight", [3, 2])])),
        ("BatchNorm1d", [("num_features", 2.0)], () => Leaf("BatchNorm1d", [new("weight", [2]), new("bias", [2])], Statistics())),
        ("SyncBatchNorm", [("num_features", 2.0), ("affine", false)], () => Leaf("SyncBatchNorm", [], Statistics())),
        ("InstanceNorm2d", [("num_features", 2.0), ("track_running_stats", true)], () => Leaf("InstanceNorm2d", [], Statistics())),
        ("LayerNorm", [("normalized_shape", 2.0)], () => Leaf("LayerNorm", [new("weight", [2]), new("bias", [2])])),
        ("GRU", [("input_size", 1.0), ("hidden_size", 1.0)], () => Leaf("GRU", [new("weight_ih_l0", [3, 1]), new("weight_hh_l0", [3, 1]), new("bias_ih_l0", [3]), new("bias_hh_l0", [3])])),
        ("MultiheadAttention", [("embed_dim", 2.0), ("num_heads", 1.0)], Attention),
        ("Dropout", [], () => Leaf("Dropout", [])),
        ("ReLU", [], () => Leaf("ReLU", [])),
    ];

    private static readonly string[] Containers = ["Sequential", "ModuleList", "ModuleDict"];

    private readonly int[] _genes;
    private int _next;

    private RandomTree(int[] genes)
    {
        _genes = genes;
        (Spec, Root) = Container("", 1);
    }

    /// <summary>Random trees; short lists of genes are small trees, so what fails shrinks.</summary>
    public static Gen<RandomTree> Gen { get; } = CsCheck.Gen.Int[0, 9_999].Array[1, 60].Select(genes => new RandomTree(genes));

    public ModuleSpec Spec { get; }

    public ModelModule Root { get; }

    /// <summary>Further random numbers that belong to the tree: the same each time it is made.</summary>
    public Random Random => new(_genes.Aggregate(17, (sum, gene) => (sum * 31) + gene));

    /// <summary>Paths of completed modules, which a share may name.</summary>
    private List<(string Path, ModelModule Module)> Built { get; } = [];

    /// <summary>The spec, for messages of failures.</summary>
    public override string ToString() => System.Text.Json.JsonSerializer.Serialize(Spec);

    /// <summary>Builds it and gives every tensor, and every gradient that the model has, the model's values.</summary>
    public ModuleTree Build()
    {
        var tree = ModuleBuilder.Build(Spec, ElementType.Float32, new BuildLimits());
        using var quiet = no_grad();
        using var scope = NewDisposeScope();
        foreach (var ((_, module), (_, node)) in Root.Modules().Zip(ModuleTree.Walk(tree.Root)))
        {
            foreach (var (wanted, target) in Tensors(module, node))
            {
                target.copy_(tensor(wanted.Values, wanted.Shape));
                if (wanted.Gradient is { } gradient)
                {
                    target.grad = tensor(gradient, wanted.Shape, dtype: ScalarType.Float32);
                }
            }
        }

        return tree;
    }

    /// <summary>Random values for every tensor of the model, float32 ones for floating tensors; gradients for some parameters.</summary>
    public void Fill(Random random)
    {
        foreach (var (_, module) in Root.Modules())
        {
            foreach (var parameter in module.Parameters)
            {
                parameter.Values = Numbers(parameter.Count);
                parameter.Gradient = random.Next(2) == 0 ? Numbers(parameter.Count) : null;
            }

            foreach (var buffer in module.Buffers)
            {
                buffer.Values = buffer.Type == ElementType.Int64 ? [random.Next(1 << 20)] : Numbers(buffer.Count);
            }
        }

        // Over all sizes from where float16 has subnormals to where it has only infinity.
        double[] Numbers(int count) => [.. Enumerable.Range(0, count).Select(_ => (double)(float)((random.NextDouble() - 0.5) * Math.Pow(2, random.Next(-24, 19))))];
    }

    /// <summary>The model's tensors of one module beside the real ones.</summary>
    public static IEnumerable<(ModelTensor Model, Tensor Real)> Tensors(ModelModule module, ModuleNode node) =>
        module.Parameters.Zip(node.Parameters.Select(p => (Tensor)p.Parameter)).Concat(module.Buffers.Zip(node.Buffers.Select(b => b.Tensor)));

    private (ModuleSpec Spec, ModelModule Model) Container(string path, int depth)
    {
        var type = Containers[Gene(Containers.Length)];
        var model = Leaf(type, []);
        var children = new List<ChildSpec>();
        for (var count = Gene(5); children.Count < count;)
        {
            var name = Gene(2) == 0 ? "" : $"n{children.Count}";
            var real = name.Length == 0 ? $"{children.Count}" : name;
            var at = path.Length == 0 ? real : $"{path}.{real}";
            if (Gene(3) == 0 && Built.Count > 0)
            {
                var (share, shared) = Built[Gene(Built.Count)];
                children.Add(new ChildSpec(name, null, share));
                model.Children.Add((real, shared));
                Built.AddRange(shared.Paths(at));
                continue;
            }

            var (spec, module) = depth < MostDepth && Gene(2) == 0 ? Container(at, depth + 1) : NewLeaf(at);
            children.Add(new ChildSpec(name, spec));
            model.Children.Add((real, module));
        }

        if (path.Length > 0)
        {
            Built.Add((path, model));
        }

        return (new ModuleSpec(type) { Children = children }, model);
    }

    private (ModuleSpec Spec, ModelModule Model) NewLeaf(string path)
    {
        var (type, args, make) = Leaves[Gene(Leaves.Length)];
        var model = make();
        Built.AddRange(model.Paths(path));
        return (new ModuleSpec(type) { Args = args.ToDictionary(arg => arg.Name, arg => arg.Value) }, model);
    }

    private int Gene(int below) => _next < _genes.Length ? _genes[_next++] % below : 0;

    private static ModelModule Leaf(string type, IReadOnlyList<ModelTensor> parameters, IReadOnlyList<ModelTensor>? buffers = null) => new(type, parameters, buffers ?? []);

    private static ModelTensor[] Statistics() => [new("running_mean", [2]), new("running_var", [2]), new("num_batches_tracked", [], isInteger: true)];

    private static ModelModule Attention()
    {
        var attention = Leaf("MultiheadAttention", [new("in_proj_weight", [6, 2]), new("in_proj_bias", [6])]);
        attention.Children.Add(("out_proj", Leaf("NonDynamicallyQuantizableLinear", [new("weight", [2, 2]), new("bias", [2])])));
        return attention;
    }
}
