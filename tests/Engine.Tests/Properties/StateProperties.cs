using CsCheck;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using Sconce.Engine.Weights;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Properties;

/// <summary>Random trees have the names, the order and the sharing that the model says, and their state goes out and in unchanged.</summary>
public sealed class StateProperties
{
    private const int Trees = 300;

    [Fact]
    public void Tree_has_the_names_order_and_sharing_of_the_model() => RandomTree.Gen.Sample(random =>
    {
        using var tree = ModuleBuilder.Build(random.Spec, ElementType.Float32, new BuildLimits());
        CheckStructure(random.Root, tree.Root);
    }, iter: Trees, threads: 1);

    [Fact]
    public void Spec_of_a_tree_builds_the_same_tree() => RandomTree.Gen.Sample(random =>
    {
        using var tree = ModuleBuilder.Build(random.Spec, ElementType.Float32, new BuildLimits());
        using var again = ModuleBuilder.Build(tree.Spec, ElementType.Float32, new BuildLimits());
        CheckStructure(random.Root, again.Root);
    }, iter: Trees, threads: 1);

    [Fact]
    public void Copy_of_any_part_is_that_part_of_the_model_and_shares_nothing_with_it() => RandomTree.Gen.Sample(random =>
    {
        var numbers = random.Random;
        random.Fill(numbers);
        var paths = random.Root.Paths().ToList();
        var (path, part) = paths[numbers.Next(paths.Count)];
        using var tree = random.Build();
        using var copy = ModuleCopy.DeepCopy(tree, path);
        CheckStructure(part, copy.Root);
        CheckValues(part, copy.Root);
        Assert.Empty(ModuleTree.Walk(copy.Root).Select(at => at.Node).Intersect(ModuleTree.Walk(tree.Root).Select(at => at.Node)));
    }, iter: Trees, threads: 1);

    [Fact]
    public void State_dict_goes_into_another_tree_in_any_order_bit_for_bit() => RandomTree.Gen.Sample(random =>
    {
        var numbers = random.Random;
        random.Fill(numbers);
        using var scope = NewDisposeScope();
        using var from = random.Build();
        using var into = ModuleBuilder.Build(random.Spec, ElementType.Float32, new BuildLimits());
        var entries = ModuleTree.State(from.Root).Select(entry => (entry.Key, entry.Tensor.detach())).ToArray();
        numbers.Shuffle(entries);
        var outcome = StateLoading.Load(into.Root, entries, strict: true);
        Assert.Empty(outcome.MissingKeys.Concat(outcome.UnexpectedKeys));
        CheckValues(random.Root, into.Root);
    }, iter: Trees, threads: 1);

    [Fact]
    public void Names_of_one_tensor_given_different_values_leave_it_the_last_in_the_order_of_the_state_dict() => RandomTree.Gen.Sample(random =>
    {
        var numbers = random.Random;
        random.Fill(numbers);
        using var scope = NewDisposeScope();
        using var tree = random.Build();
        var entries = new List<(string Key, Tensor Value)>();
        foreach (var (key, wanted) in random.Root.State())
        {
            wanted.Values = [.. wanted.Values.Select(_ => (double)numbers.Next(100))];
            entries.Add((key, tensor(wanted.Values, wanted.Shape)));
        }

        var shuffled = entries.ToArray();
        numbers.Shuffle(shuffled);
        StateLoading.Load(tree.Root, shuffled, strict: true);
        CheckValues(random.Root, tree.Root);
    }, iter: Trees, threads: 1);

    [Fact]
    public void Keys_missing_unexpected_and_of_another_shape_are_all_named_and_nothing_changes_unless_not_strict() => RandomTree.Gen.Sample(random =>
    {
        var numbers = random.Random;
        random.Fill(numbers);
        using var scope = NewDisposeScope();
        using var tree = random.Build();
        var entries = new List<(string Key, Tensor Value)>();
        var missing = new List<string>();
        var loaded = new Dictionary<ModelTensor, double>();
        foreach (var (key, wanted) in random.Root.State())
        {
            if (numbers.Next(4) == 0)
            {
                missing.Add(key);
                continue;
            }

            loaded[wanted] = numbers.Next(100);
            entries.Add((key, full(wanted.Shape, loaded[wanted])));
        }

        var unexpected = Enumerable.Range(0, numbers.Next(3)).Select(i => $"no.{i}").ToList();
        entries.AddRange(unexpected.Select(key => (key, zeros(1))));
        if (missing.Count + unexpected.Count > 0)
        {
            var error = Assert.Throws<EngineException>(() => StateLoading.Load(tree.Root, entries, strict: true));
            Assert.Equal(missing.Count + unexpected.Count, error.Fields.Count);
            Assert.All(missing.Concat(unexpected), key => Assert.Single(error.Fields, field => field.Description.StartsWith($"\"{key}\" ", StringComparison.Ordinal)));
        }

        var misfit = entries.FindIndex(entry => entry.Value.Dimensions > 0 && !unexpected.Contains(entry.Key));
        if (misfit >= 0)
        {
            var wrong = entries.ToList();
            wrong[misfit] = (wrong[misfit].Key, zeros(7, 7));
            var error = Assert.Throws<EngineException>(() => StateLoading.Load(tree.Root, wrong, strict: false));
            Assert.Equal($"entries[{misfit}]", Assert.Single(error.Fields).Field);
        }

        CheckValues(random.Root, tree.Root);
        var outcome = StateLoading.Load(tree.Root, entries, strict: false);
        Assert.Equal(missing, outcome.MissingKeys);
        Assert.Equal(unexpected, outcome.UnexpectedKeys);
        foreach (var (wanted, value) in loaded)
        {
            Array.Fill(wanted.Values, value);
        }

        CheckValues(random.Root, tree.Root);
    }, iter: Trees, threads: 1);

    /// <summary>Names of modules, parameters and state, and which of them are one.</summary>
    internal static void CheckStructure(ModelModule model, ModuleNode root)
    {
        var modules = model.Modules();
        var nodes = ModuleTree.Walk(root).ToList();
        Assert.Equal(modules.Select(at => (at.Path, at.Module.Type)), nodes.Select(at => (at.Path, at.Node.TypeName)));
        var same = modules.Zip(nodes).ToDictionary(pair => pair.First.Module, pair => pair.Second.Node);
        Assert.All(model.Paths(), at => Assert.Same(same[at.Module], ModuleTree.Find(root, at.Path)));

        var names = modules.SelectMany(at => at.Module.Parameters.Select(p => at.Path.Length == 0 ? p.Name : $"{at.Path}.{p.Name}"));
        Assert.Equal(names, ModuleTree.NamedParameters(root).Select(p => p.Name));
        Assert.Equal(model.State().Select(entry => (entry.Key, string.Join(',', entry.Tensor.Shape))), ModuleTree.State(root).Select(entry => (entry.Key, string.Join(',', entry.Tensor.shape))));
    }

    /// <summary>Dtypes and elements, exactly, and requires_grad of parameters.</summary>
    internal static void CheckValues(ModelModule model, ModuleNode root)
    {
        using var scope = NewDisposeScope();
        foreach (var ((path, module), (_, node)) in model.Modules().Zip(ModuleTree.Walk(root)))
        {
            foreach (var (wanted, real) in RandomTree.Tensors(module, node))
            {
                Assert.Equal((path, wanted.Name, wanted.Type), (path, wanted.Name, real.dtype.ToElementType()));
                Assert.Equal(wanted.Values, Elements(real));
            }
        }
    }

    internal static double[] Elements(Tensor real) => real.detach().to_type(ScalarType.Float64).contiguous().data<double>().ToArray();
}
