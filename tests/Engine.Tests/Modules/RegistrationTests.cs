using Sconce.Engine.Catalog;
using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static Sconce.Engine.Tests.Modules.Spec;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Modules;

/// <summary>register_parameter, register_buffer and add_module on a tree; what they mean to copies, specs, state dicts and conversions.</summary>
public sealed class RegistrationTests : IDisposable
{
    private readonly TorchSharp.DisposeScope _scope = NewDisposeScope();
    private readonly ModuleTree _net = Build(Sequential(Named("body", Sequential(Linear(4, 3), Of("ReLU"))), Named("head", Linear(3, 2))));
    private object? _held;

    private Registration Register => new(_net, new BuildLimits(), parameter => ReferenceEquals(parameter, _held) ? "adam" : null);

    public void Dispose()
    {
        _net.Dispose();
        _scope.Dispose();
    }

    [Fact]
    public void State_dict_has_parameters_then_buffers_in_the_order_of_registration_then_children()
    {
        Register.Buffer("body", "steps", tensor(3L), persistent: true);
        Register.Parameter("body", "scale", ones(2), requiresGrad: true);
        Register.Buffer("body", "cache", zeros(5), persistent: false);
        Register.Parameter("body", "shift", null, requiresGrad: true);
        Register.Parameter("body.0", "gain", ones(1), requiresGrad: false);

        // PyTorch's: own parameters, own persistent buffers, then the children; None and non-persistent ones are not there.
        Assert.Equal(["body.scale", "body.steps", "body.0.weight", "body.0.bias", "body.0.gain", "head.weight", "head.bias"], ModuleTree.State(_net.Root).Select(entry => entry.Key));
        Assert.Equal(["body.scale", "body.0.weight", "body.0.bias", "body.0.gain", "head.weight", "head.bias"], ModuleTree.NamedParameters(_net.Root).Select(p => p.Name));
        Assert.False(ModuleTree.FindParameter(_net.Root, "body.0.gain")!.requires_grad);
        var body = NodeDescriber.Describe("body", _net.Find("body"));
        Assert.Equal([("scale", false), ("shift", true)], body.Parameters.Select(p => (p.Name, p.IsNone)));
        Assert.Equal([("steps", true), ("cache", false)], body.Buffers.Select(p => (p.Name, p.Persistent)));

        // A name that was None keeps its place.
        Register.Parameter("body", "more", ones(1), requiresGrad: true);
        Register.Parameter("body", "shift", ones(1), requiresGrad: true);
        Assert.Equal(["scale", "shift", "more"], _net.Find("body").Parameters.Select(p => p.Name));
    }

    [Fact]
    public void The_state_dicts_own_key_is_nobodys_name_in_a_spec_either()
    {
        Assert.Equal("spec.args.names", Assert.Single(Refused(() => Build(Of("ParameterDict", ("names", new object?[] { "_extra_state" }), ("shapes", new object?[] { new object?[] { 2.0 } })))).Fields).Field);
        Assert.Equal("spec.children[0].name", Assert.Single(Refused(() => Build(Sequential(Named("_extra_state", Linear(1, 1))))).Fields).Field);
    }

    [Theory]
    [InlineData("", "expected 1 to 128 characters")]
    [InlineData("a.b", "no \".\"")]
    [InlineData("a\n", "control")]
    [InlineData("_extra_state", "state dict's own")]
    public void A_name_that_is_none_is_refused(string name, string words)
    {
        foreach (var action in Each("body", name))
        {
            var error = Refused(action);
            Assert.Equal(EngineError.InvalidArgument, error.Error);
            Assert.Contains(words, error.Message);
            Assert.Equal("name", Assert.Single(error.Fields).Field);
        }
    }

    [Theory]
    [InlineData("body.0", "weight", 1, 2)]
    [InlineData("body.0", "in_features", 0, 1, 2)]
    [InlineData("body.0", "forward", 0, 1, 2)]
    [InlineData("body", "append", 0, 1, 2)]
    [InlineData("body", "training", 0, 1, 2)]
    [InlineData("", "head", 0, 1)]
    public void A_name_that_is_another_kind_of_attribute_is_refused(string path, string name, params int[] kinds)
    {
        foreach (var action in kinds.Select(kind => Each(path, name)[kind]))
        {
            var error = Refused(action);
            Assert.Equal((EngineError.FailedPrecondition, "ATTRIBUTE_EXISTS"), (error.Error, error.Reason));
            Assert.Contains($"attribute \"{ModuleTree.Join(path, name)}\" already exists", error.Message);
        }
    }

    [Fact]
    public void Over_an_existing_parameter_the_value_is_replaced_and_the_object_stays()
    {
        var weight = _net.Find("head").Parameters[0].Parameter;
        _net.Run(ones(1, 4)).sum().backward();
        Register.Parameter("head", "weight", ones([2, 3], dtype: ScalarType.Float64), requiresGrad: false);

        Assert.Same(weight, _net.Find("head").Parameters[0].Parameter);
        Assert.Equal((ScalarType.Float64, false), (weight.dtype, weight.requires_grad));
        Assert.Equal(6, weight.sum().item<double>());
        Assert.Null(weight.grad);
        Assert.Equal(["weight", "bias"], _net.Find("head").Parameters.Select(p => p.Name));
        var error = Refused(() => Register.Parameter("head", "weight", ones(3, 2), requiresGrad: true));
        Assert.Contains("\"head.weight\" of the Linear is [2, 3]", error.Message);
        Assert.Equal("tensor.shape", Assert.Single(error.Fields).Field);
    }

    [Fact]
    public void What_forward_can_do_without_can_be_None_and_come_back()
    {
        var x = ones(1, 4);
        Register.Parameter("body.0", "weight", zeros(3, 4), requiresGrad: true);
        Register.Parameter("body.0", "bias", null, requiresGrad: true);
        Assert.Equal("Linear(in_features=4, out_features=3, bias=False)", ModuleTree.Repr(_net.Find("body.0")));
        Assert.Equal(0, _net.Find("body").Call(new CallArguments([TensorTree.Of(x)]), new CallContext("body")).Tensor!.sum().item<float>());
        Assert.DoesNotContain("body.0.bias", ModuleTree.State(_net.Root).Select(entry => entry.Key));

        Refused(() => Register.Parameter("body.0", "bias", ones(4), requiresGrad: true));
        Register.Parameter("body.0", "bias", ones(3), requiresGrad: true);
        Assert.Equal(3, _net.Find("body").Call(new CallArguments([TensorTree.Of(x)]), new CallContext("body")).Tensor!.sum().item<float>());

        var error = Refused(() => Register.Parameter("body.0", "weight", null, requiresGrad: true));
        Assert.Equal((EngineError.FailedPrecondition, "PARAMETER_FIXED"), (error.Error, error.Reason));
        Assert.Equal(3, _net.Find("body").Call(new CallArguments([TensorTree.Of(x)]), new CallContext("body")).Tensor!.sum().item<float>());
    }

    [Fact]
    public void Buffers_of_the_caller_change_shape_and_those_of_forward_do_not()
    {
        Register.Module("", "norm", Build(Of("BatchNorm1d", ("num_features", 2.0))).Root, "spec");
        Register.Buffer("norm", "extra", ones(2), persistent: true);
        Register.Buffer("norm", "extra", ones(3), persistent: false);
        Assert.Equal(3, _net.Find("norm").Buffers[^1].Tensor.numel());
        Assert.False(_net.Find("norm").Buffers[^1].Persistent);
        Register.Buffer("norm", "running_mean", full(2, 5f), persistent: false);
        Assert.DoesNotContain("norm.running_mean", ModuleTree.State(_net.Root).Select(entry => entry.Key));
        _net.Root.Train(false);
        var y = _net.Find("norm").Call(new CallArguments([TensorTree.Of(full([1, 2], 5f))]), new CallContext("norm")).Tensor!;
        Assert.Equal(0, y.abs().max().item<float>(), 5);
        Assert.Equal("SHAPE_MISMATCH", Refused(() => Register.Buffer("norm", "running_mean", ones(3), persistent: true)).Reason);
        Assert.Equal("BUFFER_FIXED", Refused(() => Register.Buffer("norm", "running_mean", null, persistent: true)).Reason);
        Register.Module("", "bare", Build(Of("BatchNorm1d", ("num_features", 2.0), ("track_running_stats", false))).Root, "spec");
        Assert.Equal("BUFFER_FIXED", Refused(() => Register.Buffer("bare", "running_mean", ones(2), persistent: true)).Reason);
    }

    [Fact]
    public void Integers_cannot_require_grad()
    {
        var error = Refused(() => Register.Parameter("body", "index", tensor(new long[] { 1, 2 }), requiresGrad: true));
        Assert.Equal("requires_grad", Assert.Single(error.Fields).Field);
        Assert.Empty(_net.Find("body").Parameters);
    }

    [Fact]
    public void A_head_is_replaced_and_called_and_the_old_one_is_freed()
    {
        var old = _net.Find("head").Parameters[0].Parameter;
        Register.Module("", "head", Build(Linear(3, 7)).Root, "spec");
        Assert.Equal([1, 7], _net.Run(ones(1, 4)).shape);
        Assert.True(old.IsInvalid);
        Assert.Equal(["body", "head"], _net.Root.Children.Select(child => child.Key));

        // A new name comes after the others, and Sequential calls it.
        Register.Module("", "out", Build(Of("Softmax", ("dim", -1.0))).Root, "spec");
        Assert.Equal(1, _net.Run(ones(1, 4)).sum().item<float>(), 5);
        Register.Module("body.0", "aside", Build(Linear(1, 1)).Root, "spec");
        Assert.Equal(1, _net.Run(ones(1, 4)).sum().item<float>(), 5);
        Assert.Equal(["body.0.weight", "body.0.bias", "body.0.aside.weight", "body.0.aside.bias"], ModuleTree.State(_net.Root).Select(entry => entry.Key).Take(4));
    }

    [Fact]
    public void A_first_child_of_other_inputs_gives_its_parents_those_inputs()
    {
        Register.Module("body", "0", Build(Of("Bilinear", ("in1_features", 4.0), ("in2_features", 4.0), ("out_features", 3.0))).Root, "spec");
        Assert.Equal(["input1", "input2"], _net.Root.InputNames);
        Assert.Equal([1, 2], _net.Run(ones(1, 4), ones(1, 4)).shape);
    }

    [Fact]
    public void A_wiring_calls_the_child_that_took_the_place_and_refuses_what_it_cannot_call()
    {
        using var graph = Build(Graph(["x"], ["y"], [Call("h", "fc", "x"), Function("y", "relu", ["h"])], Named("fc", Linear(2, 2))));
        var register = new Registration(graph, new BuildLimits(), _ => null);
        register.Module("", "fc", Build(Linear(2, 5)).Root, "spec");
        Assert.Equal([1, 5], graph.Run(ones(1, 2)).shape);
        var error = Refused(() => register.Module("", "fc", Build(Of("Bilinear", ("in1_features", 1.0), ("in2_features", 1.0), ("out_features", 1.0))).Root, "spec"));
        Assert.Contains("1 inputs were given", error.Message);
        Assert.Equal("spec", Assert.Single(error.Fields).Field);
        Assert.Equal("share", Assert.Single(Refused(() => register.Module("", "fc", Build(new ModuleSpec("ModuleList")).Root, "share")).Fields).Field);
        Assert.Equal([1, 5], graph.Run(ones(1, 2)).shape);
    }

    [Fact]
    public void What_a_wiring_reads_cannot_become_None()
    {
        using var graph = Build(Graph(["x"], ["y"], [new WiringStep("b", null, null, [], new Dictionary<string, object?>(), []) { Parameter = "fc.bias" }, Call("h", "fc", "x"), Function("y", "add", ["h", "b"])], Named("fc", Linear(2, 2))));
        var register = new Registration(graph, new BuildLimits(), _ => null);

        var error = Refused(() => register.Parameter("fc", "bias", null, requiresGrad: true));

        Assert.Equal((EngineError.FailedPrecondition, "TENSOR_READ"), (error.Error, error.Reason));
        Assert.Equal([1, 2], graph.Run(ones(1, 2)).shape);
    }

    [Fact]
    public void Sizes_are_blamed_on_what_the_request_gave()
    {
        var register = new Registration(_net, new BuildLimits(MaxModules: 6), _ => null);
        Assert.Equal("share", Assert.Single(Refused(() => register.Module("", "again", _net.Find("body"), "share")).Fields).Field);
    }

    [Fact]
    public void Inside_a_transformer_children_are_replaced_by_what_its_forward_can_call()
    {
        using var tree = Build(Encoder());
        var register = new Registration(tree, new BuildLimits(), _ => null);
        register.Module("layers.1", "linear1", Build(Sequential(Linear(4, 3), Linear(3, 6))).Root, "spec");
        register.Module("layers.0.self_attn", "out_proj", Build(Linear(4, 4)).Root, "spec");
        Assert.Equal([2, 3, 4], tree.Run(ones(2, 3, 4)).shape);

        Assert.Equal("CHILD_MISMATCH", Refused(() => register.Module("layers.0", "self_attn", Build(Linear(4, 4)).Root, "spec")).Reason);
        Assert.Equal("CHILD_MISMATCH", Refused(() => register.Module("layers.0.self_attn", "out_proj", Build(Linear(4, 5)).Root, "spec")).Reason);
        Assert.Equal("CHILD_MISMATCH", Refused(() => register.Module("layers", "0", Build(Linear(4, 4)).Root, "spec")).Reason);
        Assert.Equal("CHILD_MISMATCH", Refused(() => register.Module("", "layers", Build(Linear(4, 4)).Root, "spec")).Reason);
        Assert.Equal([2, 3, 4], tree.Run(ones(2, 3, 4)).shape);

        register.Module("layers", "2", Build(Layer()).Root, "spec");
        Assert.Equal(3, tree.Root.CalledChildren.Count());
        AssertSame(tree);
    }

    [Fact]
    public void A_module_cannot_contain_itself_nor_grow_beyond_the_limits()
    {
        Assert.Contains("contain itself", Refused(() => Register.Module("body", "loop", _net.Root, "share")).Message);
        Assert.Contains("contain itself", Refused(() => Register.Module("body", "loop", _net.Find("body"), "share")).Message);
        var small = new Registration(_net, new BuildLimits(MaxDepth: 3, MaxModules: 6), _ => null);
        Assert.Equal("SPEC_TOO_DEEP", Refused(() => small.Module("body.1", "deep", Build(Linear(1, 1)).Root, "spec")).Reason);
        Assert.Equal("SPEC_TOO_LARGE", Refused(() => small.Module("", "wide", Build(Sequential(Of("ReLU"), Of("ReLU"))).Root, "spec")).Reason);
        Assert.Equal(["body", "head"], _net.Root.Children.Select(child => child.Key));
        Assert.Empty(_net.Find("body.1").Children);
        Assert.Equal([1, 2], _net.Run(ones(1, 4)).shape);
    }

    [Fact]
    public void What_an_optimizer_holds_does_not_go_by_the_way()
    {
        _held = ModuleTree.FindParameter(_net.Root, "head.weight");
        var error = Refused(() => Register.Module("", "head", Build(Linear(3, 7)).Root, "spec"));
        Assert.Equal((EngineError.FailedPrecondition, "OPTIMIZER_HOLDS"), (error.Error, error.Reason));
        Assert.Contains("\"head.weight\"", error.Message);
        Assert.Contains("\"adam\"", error.Message);
        Assert.Equal([1, 2], _net.Run(ones(1, 4)).shape);

        // Under another name it lives on.
        Register.Module("", "old", _net.Find("head"), "share");
        Register.Module("", "head", Build(Linear(3, 3)).Root, "spec");
        Assert.Equal([1, 2], _net.Run(ones(1, 4)).shape);

        _held = ModuleTree.FindParameter(_net.Root, "old.bias");
        Assert.Equal("OPTIMIZER_HOLDS", Refused(() => Register.Parameter("old", "bias", null, requiresGrad: true)).Reason);
    }

    [Fact]
    public void Tied_parameters_are_one_and_stay_one()
    {
        using var tree = Build(Sequential(Named("wte", Of("Embedding", ("num_embeddings", 5.0), ("embedding_dim", 3.0))), Named("lm_head", Of("Linear", ("in_features", 3.0), ("out_features", 5.0), ("bias", false)))));
        var register = new Registration(tree, new BuildLimits(), _ => null);
        register.Tie("lm_head", "weight", "wte.weight");
        var weight = ModuleTree.FindParameter(tree.Root, "lm_head.weight")!;
        Assert.Same(weight, ModuleTree.FindParameter(tree.Root, "wte.weight"));
        Assert.Equal(["wte.weight"], ModuleTree.NamedParameters(tree.Root).Select(p => p.Name));
        Assert.Equal(["wte.weight", "lm_head.weight"], ModuleTree.State(tree.Root).Select(entry => entry.Key));
        Assert.Equal(60, tree.Bytes);

        var ids = tensor(new long[] { 1, 2 });
        tree.Run(ids).sum().backward();
        Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.Double));
        Assert.Same(weight, ModuleTree.FindParameter(tree.Root, "lm_head.weight"));
        Assert.Equal((ScalarType.Float64, ScalarType.Float64), (weight.dtype, weight.grad!.dtype));
        Assert.Equal(0, MaxDifference(tree.Run(ids).detach(), nn.functional.linear(weight.detach().index(ids), weight.detach())));
        AssertSame(tree);
        Assert.Equal("NOT_FOUND", Refused(() => register.Tie("lm_head", "weight", "wte.wieght")).Reason[^9..]);
        register.Parameter("lm_head", "free", ones(2), requiresGrad: true);
        Assert.Equal("SHAPE_MISMATCH", Refused(() => register.Tie("wte", "weight", "lm_head.free")).Reason);
        register.Parameter("lm_head", "other", ones(5, 3), requiresGrad: true);
        Assert.Equal("PARAMETER_FIXED", Refused(() => register.Tie("wte", "weight", "lm_head.other")).Reason);
    }

    [Fact]
    public void Copies_and_specs_have_all_that_was_registered()
    {
        Register.Module("", "head", Build(Linear(3, 7)).Root, "spec");
        Register.Module("", "again", _net.Find("body"), "share");
        Register.Module("body.0", "aside", Build(Encoder()).Root, "spec");
        Register.Module("body.0.aside.layers.0", "linear2", Build(Sequential(Linear(6, 4))).Root, "spec");
        Register.Parameter("body.0.aside.layers.1.norm1", "temperature", full(1, 2f), requiresGrad: false);
        Register.Parameter("body", "none", null, requiresGrad: true);
        Register.Parameter("head", "bias", null, requiresGrad: true);
        Register.Buffer("", "cache", tensor(new long[] { 1, 2, 3 }), persistent: false);
        Register.Buffer("", "index", tensor(new long[] { 4 }), persistent: true);
        _net.Find("head").ExtraState = tensor(new byte[] { 1, 2 });
        AssertSame(_net);
        using var part = ModuleCopy.DeepCopy(_net, "body.0.aside");
        Assert.Equal(ModuleTree.Repr(_net.Find("body.0.aside")), ModuleTree.Repr(part.Root));
    }

    [Fact]
    public void What_is_shared_with_a_part_that_a_type_made_by_itself_is_shared_in_the_copy()
    {
        using var tree = Build(Sequential(Named("layer", Layer()), Shared("after", "layer.linear1")));
        AssertSame(tree);
        var register = new Registration(tree, new BuildLimits(), _ => null);
        register.Module("", "before", Build(Linear(4, 4)).Root, "spec");
        register.Module("layer", "linear2", Build(Linear(6, 4)).Root, "spec");
        register.Module("", "after", tree.Find("layer.linear2"), "share");
        AssertSame(tree);
    }

    [Theory]
    [InlineData("weight", ScalarType.Int64, "its \"weight\" is int64")]
    [InlineData("weight", ScalarType.Bool, "its \"weight\" is bool")]
    [InlineData("weight", ScalarType.ComplexFloat32, "its \"weight\" is complex64")]
    [InlineData("bias", ScalarType.Float64, "its \"bias\" is float64")]
    public void A_call_that_a_dtype_stops_names_the_parameter(string name, ScalarType type, string words)
    {
        Register.Parameter("head", name, zeros(name == "bias" ? [2] : [2, 3], dtype: type), requiresGrad: false);
        var error = Refused(() => _net.Run(ones(1, 4)));
        Assert.Equal(EngineError.InvalidArgument, error.Error);
        Assert.Contains(words, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("running_mean", ScalarType.Int64)]
    [InlineData("running_var", ScalarType.Bool)]
    public void A_call_that_a_dtype_stops_names_the_buffer(string name, ScalarType type)
    {
        using var tree = Build(Of("BatchNorm1d", ("num_features", 2.0)));
        new Registration(tree, new BuildLimits(), _ => null).Buffer("", name, zeros([2], dtype: type), persistent: true);
        Assert.Contains($"its \"{name}\" is", Refused(() => tree.Run(ones(3, 2))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_call_with_a_wrong_dtype_says_nothing_of_parameters_that_agree() =>
        Assert.DoesNotContain("its \"", Refused(() => _net.Run(ones([1, 4], dtype: ScalarType.Float64))).Message, StringComparison.Ordinal);

    [Fact]
    public void A_new_child_is_in_training_mode_save_where_the_policy_holds_it()
    {
        _net.Policy.Set(normEval: true, ["body"], [new TrainRule("head*", Mode: false)]);
        _net.Root.Train(false);
        Register.Module("body", "more", Build(Linear(3, 3)).Root, "spec");
        Register.Module("", "head", Build(Linear(3, 2)).Root, "spec");
        Register.Module("", "norm", Build(Of("BatchNorm1d", ("num_features", 2.0))).Root, "spec");
        Register.Module("", "drop", Build(Of("Dropout")).Root, "spec");
        Assert.Equal((false, false, false, true), (_net.Find("body.more").Training, _net.Find("head").Training, _net.Find("norm").Training, _net.Find("drop").Training));
        Assert.All(_net.Find("body.more").Parameters, p => Assert.False(p.Parameter.requires_grad));
        Register.Parameter("body", "scale", ones(1), requiresGrad: true);
        Assert.False(_net.Find("body").Parameters[0].Parameter.requires_grad);
        Assert.All(_net.Find("head").Parameters, p => Assert.True(p.Parameter.requires_grad));
    }

    private Action[] Each(string path, string name) =>
    [
        () => Register.Parameter(path, name, ones(1), requiresGrad: true),
        () => Register.Buffer(path, name, ones(1), persistent: true),
        () => Register.Module(path, name, Build(Linear(1, 1)).Root, "spec"),
    ];

    private static ModuleSpec Layer() => Of("TransformerEncoderLayer", ("d_model", 4.0), ("nhead", 2.0), ("dim_feedforward", 6.0), ("dropout", 0.0));

    private static ModuleSpec Encoder() => Of("TransformerEncoder", ("num_layers", 2.0)) with { Children = [Named("encoder_layer", Layer())] };

    // A deep copy, and a module built of the spec, have the same tree, names, kinds and ties; the copy has the values too.
    private static void AssertSame(ModuleTree tree)
    {
        using var copy = ModuleCopy.DeepCopy(tree, "");
        using var built = Build(tree.Spec);
        foreach (var other in new[] { copy, built })
        {
            Assert.Equal(ModuleTree.Repr(tree.Root), ModuleTree.Repr(other.Root));
            Assert.Equal(Names(tree), Names(other));
            Assert.Equal(ModuleTree.State(tree.Root).Select(entry => entry.Key), ModuleTree.State(other.Root).Select(entry => entry.Key));
        }

        foreach (var (a, b) in ModuleTree.State(tree.Root).Zip(ModuleTree.State(copy.Root)))
        {
            Assert.NotSame(a.Tensor, b.Tensor);
            Assert.True(a.Tensor.equal(b.Tensor).all().item<bool>(), a.Key);
            Assert.Equal(a.Tensor.requires_grad, b.Tensor.requires_grad);
        }

        Assert.Equal(tree.Bytes, copy.Bytes);
        Assert.Equal(tree.Spec.Parameters.Select(p => (p.Path, p.Name, p.Share)), copy.Spec.Parameters.Select(p => (p.Path, p.Name, p.Share)));

        static IEnumerable<string> Names(ModuleTree tree) => Below(NodeDescriber.Describe("", tree.Root));

        static IEnumerable<string> Below(NodeDescription node) =>
            [$"{node.Path}={node.AliasOf}", .. node.Parameters.Concat(node.Buffers).Select(t => $"{node.Path}:{t.Name} {t.IsNone} {t.Persistent} {t.AliasOf}"), .. node.Children.SelectMany(Below)];
    }
}
