using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using Sconce.Engine.Tests.Weights.TorchZip;
using Sconce.Engine.Training;
using Sconce.Engine.Weights.Script;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Weights.Script;

/// <summary>A TorchScript module in our tree: what PyTorch computes, its gradients, its state, modes, conversions, methods and copies.</summary>
public sealed class ScriptNodeTests : IDisposable
{
    private readonly DisposeScope _scope = NewDisposeScope();
    private readonly List<IDisposable> _made = [];

    public static TheoryData<string> Exact => [.. ScriptFiles.Good.Where(name => name != "half.pt")];

    public void Dispose()
    {
        _made.ForEach(one => one.Dispose());
        _scope.Dispose();
    }

    [Theory]
    [MemberData(nameof(Exact))]
    public void Outputs_gradients_and_state_are_PyTorchs(string name)
    {
        var expected = ScriptFiles.ExpectedOf(name);
        var tree = Load(name);
        var output = Run(tree, Inputs(name));
        Close(ScriptFiles.Value(expected.GetProperty("output")), output);
        output.sum().backward();
        foreach (var gradient in expected.GetProperty("grads").EnumerateObject())
        {
            using var actual = ModuleTree.NamedParameters(tree.Root).Single(p => p.Name == gradient.Name).Parameter.grad;
            Close(ScriptFiles.Value(gradient.Value), actual!);
        }

        var state = ModuleTree.State(tree.Root);
        foreach (var entry in expected.GetProperty("state").EnumerateArray())
        {
            var actual = state.Single(own => own.Key == entry.GetProperty("key").GetString()).Tensor;
            Assert.Equal(entry.GetProperty("dtype").GetString(), actual.dtype.ToElementType().Name());
            Close(ScriptFiles.Value(entry), actual);
        }
    }

    [Fact]
    public void Submodules_have_their_names_and_types_and_are_called()
    {
        var tree = Load("scripted.pt");
        Assert.Equal(["", "block", "block.linear", "block.norm", "block.drop"], ModuleTree.Walk(tree.Root).Select(at => at.Path));
        Assert.Equal("Linear", tree.Find("block.linear").TypeName);
        Assert.True(tree.Find("block.norm").IsInstance("_BatchNorm"));
        Assert.Equal(["x", "shift?", "times?"], tree.Root.InputNames);
        var linear = tree.Find("block.linear");
        var x = ones(2, 4);
        Close(nn.functional.linear(x, linear.Parameters[0].Parameter, linear.Parameters[1].Parameter), Run(linear, x));
    }

    [Fact]
    public void Inputs_by_name_numbers_and_None_reach_the_code()
    {
        var tree = Load("scripted.pt");
        var x = Inputs("scripted.pt")[0];
        var zero = Run(tree.Root, new CallArguments([TensorTree.Of(x)], new Dictionary<string, TensorTree> { ["times"] = TensorTree.Of(tensor(0L)) }));
        Close(Run(tree, x - 2), zero);
        var shifted = Run(tree.Root, new CallArguments([TensorTree.Of(x)], new Dictionary<string, TensorTree> { ["shift"] = TensorTree.Of(ones(1)) }));
        Close(Run(tree, x + 1), shifted);
        var error = Assert.Throws<EngineException>(() => Run(tree.Root, new CallArguments([TensorTree.Of(x)], new Dictionary<string, TensorTree> { ["times"] = TensorTree.Of(tensor(0.5)) })));
        Assert.Contains("\"times\"", error.Message, StringComparison.Ordinal);
        Assert.Equal(EngineError.InvalidArgument, Assert.Throws<EngineException>(() => Run(tree, ones(2, 9))).Error);
    }

    [Fact]
    public void Methods_are_called_by_name()
    {
        var tree = Load("scripted.pt");
        Assert.Equal(["double"], tree.Root.Methods.Select(method => method.Name));
        var x = ones(2, 4);
        Close(x * 2, ModuleMethods.Call(tree.Root, "double", new CallArguments(TensorTree.Of(x)), new CallContext()).Tensor!);
    }

    [Fact]
    public void Train_and_eval_reach_the_code_and_a_policy_holds_a_part()
    {
        // Its dropout draws, and tests beside this one have streams of their own.
        using var random = new RandomStream();
        var tree = Load("scripted.pt");
        var count = tree.Root.Buffers.Single(buffer => buffer.Name == "count").Tensor;
        tree.Root.Train(true);
        _ = random.Run(() => Run(tree, ones(3, 4)));
        Assert.Equal(1, count.item<long>());
        Assert.True(tree.Find("block.drop").Training);
        tree.Find("block.norm").HeldMode = false;
        tree.Root.Train(true);
        var before = tree.Find("block.norm").Buffers[0].Tensor.clone();
        _ = random.Run(() => Run(tree, ones(3, 4)));
        Assert.Equal(2, count.item<long>());
        Close(before, tree.Find("block.norm").Buffers[0].Tensor);
        tree.Find("block.norm").HeldMode = null;
        _ = random.Run(() => Run(tree, ones(3, 4)));
        Assert.False(before.allclose(tree.Find("block.norm").Buffers[0].Tensor));
        tree.Root.Train(false);
        _ = random.Run(() => Run(tree, ones(3, 4)));
        Assert.Equal(3, count.item<long>());
    }

    [Theory]
    [InlineData("scripted.pt")]
    [InlineData("lstm.pt")]
    public void Conversions_keep_identity_and_integers_and_the_code_computes_in_the_new_dtype(string name)
    {
        var tree = Load(name);
        var inputs = Inputs(name);
        var expected = Run(tree, inputs);
        var parameters = ModuleTree.NamedParameters(tree.Root).Select(p => p.Parameter).ToList();
        Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.Double));
        Assert.Equal(parameters, ModuleTree.NamedParameters(tree.Root).Select(p => p.Parameter));
        Assert.All(ModuleTree.State(tree.Root), entry => Assert.Equal(entry.Key is "count" or "block.norm.num_batches_tracked" ? ScalarType.Int64 : ScalarType.Float64, entry.Tensor.dtype));
        var output = Run(tree, [.. inputs.Select(input => input.to(ScalarType.Float64))]);
        Assert.Equal(ScalarType.Float64, output.dtype);
        Close(expected, output.to(ScalarType.Float32));
        output.sum().backward();
        Assert.All(parameters, parameter => Assert.Equal(ScalarType.Float64, parameter.grad!.dtype));
    }

    [Fact]
    public void A_step_changes_what_the_code_computes_with()
    {
        var tree = Load("scripted.pt");
        var x = ones(2, 4);
        using (no_grad())
        {
            tree.Root.Parameters.Single(p => p.Name == "scale").Parameter.mul_(3);
        }

        Close(x * 6, ModuleMethods.Call(tree.Root, "double", new CallArguments(TensorTree.Of(x)), new CallContext()).Tensor!);
    }

    [Fact]
    public void A_copy_is_a_module_of_its_own()
    {
        var tree = Load("scripted.pt");
        var x = Inputs("scripted.pt")[0];
        tree.Find("block.linear").Parameters[0].Parameter.requires_grad_(false);
        var copy = ModuleCopy.DeepCopy(tree, "");
        _made.Add(copy);
        Close(Run(tree, x), Run(copy, x));
        Assert.False(copy.Find("block.linear").Parameters[0].Parameter.requires_grad);
        using (no_grad())
        {
            copy.Root.Parameters[0].Parameter.zero_();
        }

        Assert.NotEqual(0, Run(tree, x).abs().sum().item<float>());
        Assert.Equal(0, Run(copy, x).abs().sum().item<float>());
        Assert.Equal("SCRIPT_PART", Assert.Throws<EngineException>(() => ModuleCopy.DeepCopy(tree, "block")).Reason);
    }

    [Theory]
    [InlineData("forward")]
    [InlineData("a backward")]
    public void What_outlives_the_limit_is_told_by_what_it_is_and_whose(string doing)
    {
        using var watch = new ScriptWatch(TimeSpan.FromMilliseconds(1), TimeProvider.System);
        using var told = new ManualResetEventSlim();
        var call = "";
        watch.Overdue = what =>
        {
            call = what;
            told.Set();
        };
        var tree = Load("scripted.pt", watch);
        ScriptNode.SetOwner(tree.Root, "mine");
        if (doing == "forward")
        {
            using var timed = ScriptWatch.Begin(tree.Script, doing, "block");
            Assert.True(told.Wait(TimeSpan.FromMinutes(2)));
        }
        else
        {
            // What all backwards of hosted modules go through.
            Gradients.Backward(tree, reset: false, () => Assert.True(told.Wait(TimeSpan.FromMinutes(2))), exception => throw exception).Dispose();
        }

        Assert.StartsWith(doing, call, StringComparison.Ordinal);
        Assert.Contains("\"mine\"", call, StringComparison.Ordinal);
        Assert.Contains("\"scripted.pt\"", call, StringComparison.Ordinal);
    }

    [Fact]
    public void Calls_that_end_are_not_told()
    {
        using var watch = new ScriptWatch(TimeSpan.FromMinutes(5), TimeProvider.System) { Overdue = what => Assert.Fail(what) };
        var tree = Load("scripted.pt", watch);
        _ = Run(tree, Inputs("scripted.pt"));
        Assert.Equal(0, watch.Running);
    }

    [Fact]
    public void What_changes_its_input_changes_a_copy_of_it()
    {
        var tree = Load(ScriptFiles.With("return torch.add_(x, 1)"));
        var x = ones(2);
        Close(ones(2) * 2, Run(tree, x));
        Close(ones(2), x);
    }

    [Theory]
    [InlineData("return torch.to(x, torch.device(\"meta\"))", "Tensor", "META")]
    [InlineData("return {\"a\": x}", "Dict[str, Tensor]", "gave something else than tensors")]
    [InlineData("return \"text\"", "str", "gave something else than tensors")]
    [InlineData("return torch.to(x, 8)", "Tensor", "dtype")]
    public void What_cannot_be_answered_is_an_error(string forward, string type, string message)
    {
        var file = ScriptFiles.Records(ScriptFiles.With(forward));
        file["code/__torch__.py"] = System.Text.Encoding.UTF8.GetBytes(System.Text.Encoding.UTF8.GetString(file["code/__torch__.py"]).Replace("-> Tensor:", $"-> {type}:", StringComparison.Ordinal));
        var tree = Load(ScriptFiles.Of(file));
        Assert.Contains(message, Assert.Throws<EngineException>(() => Run(tree, ones(2))).Message, StringComparison.OrdinalIgnoreCase);
    }

    [Fact]
    public void An_error_in_the_code_is_told_without_the_way_to_it()
    {
        var error = Assert.Throws<EngineException>(() => Run(Load("scripted.pt"), ones(2, 9)));
        Assert.DoesNotContain("Traceback", error.Message, StringComparison.Ordinal);
        Assert.Contains("mat1 and mat2 shapes cannot be multiplied", error.Message, StringComparison.Ordinal);
    }

    private static Tensor[] Inputs(string name) => [.. ScriptFiles.ExpectedOf(name).GetProperty("inputs").EnumerateArray().Select(input => ScriptFiles.Value(input))];

    private static Tensor Run(ModuleTree tree, params Tensor[] inputs) => Run(tree.Root, inputs);

    private static Tensor Run(ModuleNode node, params Tensor[] inputs) => Run(node, new CallArguments([.. inputs.Select(TensorTree.Of)]));

    private static Tensor Run(ModuleNode node, CallArguments arguments)
    {
        var output = node.Call(arguments, new CallContext());
        return output.Tensor ?? output.Items![0].Tensor!;
    }

    private static void Close(Tensor expected, Tensor actual) =>
        Assert.True(actual.to(ScalarType.Float32).allclose(expected.to(ScalarType.Float32), 1e-4, 1e-5), $"expected {expected.str()}, got {actual.str()}");

    private ModuleTree Load(string name, ScriptWatch? watch = null) => Load(ScriptFiles.Bytes(name), name, watch);

    private ModuleTree Load(byte[] bytes, string name = "made.pt", ScriptWatch? watch = null)
    {
        using var archive = ScriptArchive.Open(new MemorySource(bytes), ScriptOperators.Standard);
        var file = new ScriptFile(name, ScriptImage.Of(archive), archive.Program, archive.IsStateful) { Watch = watch };
        _made.Add(file);
        var type = ScriptNode.TypeOf(file);
        var origin = new NodeOrigin(type, ArgumentBinder.Bind(type.Arguments, new Dictionary<string, object?> { ["file"] = name }, type.Name, "spec.args"), ElementType.Float32, [], null);
        var node = BuildContext.ForCopies(onMeta: false).Create(origin);
        ModuleBuilder.Keep(node);
        var tree = new ModuleTree(node);
        _made.Insert(0, tree);
        return tree;
    }
}
