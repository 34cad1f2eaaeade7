using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static Sconce.Engine.Tests.Modules.Spec;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Modules;

public sealed class GraphNodeTests : IDisposable
{
    private readonly TorchSharp.DisposeScope _scope = NewDisposeScope();

    public void Dispose() => _scope.Dispose();

    [Fact]
    public void Graph_residual_adds_its_input()
    {
        using var tree = Build(Graph(["x"], ["y"], [Call("h", "f", "x"), Function("y", "add", ["x", "h"])], Named("f", Linear(3, 3))));
        var x = randn(2, 3);

        Assert.Equal(0, MaxDifference(tree.Run(x), x + tree.Find("f").Call(new CallArguments(TensorTree.Of(x)), new CallContext()).Tensor!));
        Assert.Equal("Graph(\n  (f): Linear(in_features=3, out_features=3, bias=True)\n)", ModuleTree.Repr(tree.Root));
    }

    [Fact]
    public void Graph_optional_input_and_unpacked_outputs()
    {
        using var tree = Build(Graph(["x", "h?", "c?"], ["out", "hn"],
            [new WiringStep("", "lstm", null, ["x", "h", "c"], new Dictionary<string, object?>(), ["out", "state"]), new WiringStep("", null, "stack", ["out"], new Dictionary<string, object?>(), ["unused"]) with { Unpack = [], Name = "s" }, Function("hn", "squeeze", ["s"], ("dim", 0.0))],
            Named("lstm", Of("LSTM", ("input_size", 2.0), ("hidden_size", 3.0)))));
        var output = tree.Root.Call(new CallArguments(TensorTree.Of(randn(4, 1, 2))), new CallContext());

        Assert.Equal(["x", "h?", "c?"], tree.Root.InputNames);
        Assert.Equal(2, output.Items!.Count);
        Assert.Equal(0, MaxDifference(output.Items[0].Tensor!, output.Items[1].Tensor!));
    }

    [Fact]
    public void Graph_may_return_its_input_and_use_a_value_twice()
    {
        using var tree = Build(Graph(["x"], ["x", "y", "y"], [Function("h", "relu", ["x"]), Function("y", "mul", ["h", "h"])]));
        var x = randn(5);
        var output = tree.Root.Call(new CallArguments(TensorTree.Of(x)), new CallContext());

        Assert.Same(x, output.Items![0].Tensor);
        Assert.Equal(0, MaxDifference(output.Items[1].Tensor!, x.relu().square()));
        Assert.Same(output.Items[1].Tensor, output.Items[2].Tensor);
    }

    [Fact]
    public void Graph_gradient_flows_through_every_branch()
    {
        using var tree = Build(Graph(["x"], ["y"], [Call("a", "f", "x"), Call("b", "f", "a"), Function("y", "cat", ["a", "b"], ("dim", 1.0))], Named("f", Linear(2, 2))));
        var x = randn(3, 2, requires_grad: true);
        tree.Run(x).sum().backward();

        Assert.NotNull(x.grad);
        Assert.All(ModuleTree.NamedParameters(tree.Root), p => Assert.NotNull(p.Parameter.grad));
    }

    [Fact]
    public void Graph_dropout_follows_its_mode_unless_told()
    {
        using var follows = Build(Graph(["x"], ["y"], [Function("y", "dropout", ["x"])]));
        using var always = Build(Graph(["x"], ["y"], [Function("y", "F.dropout", ["x"], ("training", true))]));
        var x = ones(1000);
        follows.Root.Train(false);
        always.Root.Train(false);

        Assert.Equal(0, MaxDifference(follows.Run(x), x));
        Assert.InRange(always.Run(x).eq(0).sum().item<long>(), 350, 650);
    }

    [Theory]
    [InlineData("spec.wiring.steps[0].inputs[0]", "there is no value \"z\"", "f", null, "z", "y")]
    [InlineData("spec.wiring.steps[0].module", "the Graph has no child \"g\"", "g", null, "x", "y")]
    [InlineData("spec.wiring.steps[0].function", "this host has no function \"rleu\"", null, "rleu", "x", "y")]
    [InlineData("spec.wiring.steps[0]", "exactly one of module, function and parameter", null, null, "x", "y")]
    [InlineData("spec.wiring.steps[0].name", "is the name of another value", "f", null, "x", "x")]
    [InlineData("spec.wiring.steps[0].inputs", "takes a second input or the argument other", null, "add", "x", "y")]
    public void Wiring_that_makes_no_sense_is_named(string field, string words, string? module, string? function, string input, string result)
    {
        var step = new WiringStep(result, module, function, [input], new Dictionary<string, object?>(), []);
        var error = Refused(() => Build(Graph(["x"], [result], [step], Named("f", Linear(1, 1)))));

        Assert.Equal(field, error.Fields[0].Field);
        Assert.Contains(words, error.Message);
    }

    [Theory]
    [InlineData("f.weigth", "\"f.weight\", \"f.bias\"")]
    [InlineData("weight", "no parameter or buffer \"weight\"")]
    [InlineData("g.weight", "no parameter or buffer \"g.weight\"")]
    [InlineData("", "no parameter or buffer \"\"")]
    public void Parameter_that_is_not_there_is_named_with_those_that_are(string name, string words)
    {
        var step = new WiringStep("w", null, null, [], new Dictionary<string, object?>(), []) { Parameter = name };
        var error = Refused(() => Build(Graph(["x"], ["w"], [step], Named("f", Linear(1, 1)))));

        Assert.Equal("spec.wiring.steps[0].parameter", error.Fields[0].Field);
        Assert.Contains(words, error.Message);
    }

    [Fact]
    public void Parameter_that_a_wiring_reads_outlives_what_the_graph_gives()
    {
        var step = new WiringStep("w", null, null, [], new Dictionary<string, object?>(), []) { Parameter = "p.0" };
        using var tree = Build(Graph(["x"], ["w"], [step], Named("p", Of("ParameterList", ("shapes", new object?[] { new object?[] { 2.0 } })))));
        for (var i = 0; i < 3; i++)
        {
            using var scope = NewDisposeScope();
            using var given = tree.Run(zeros(1));
            Assert.Equal([2], given.shape);
            given.sum().backward();
        }

        Assert.Equal([3f, 3f], ModuleTree.NamedParameters(tree.Root)[0].Parameter.grad!.data<float>().ToArray());
        Assert.Contains("has no forward", Refused(() => tree.Find("p").Call(new CallArguments(), new CallContext())).Message);
    }

    [Theory]
    [InlineData("names", "[\"a\", \"a\"]")]
    [InlineData("names", "[\"a\"]")]
    [InlineData("names", "[\"a\", \"b.c\"]")]
    [InlineData("names", "[\"a\", 1]")]
    public void Names_of_a_ParameterDict_are_checked(string argument, string names)
    {
        var given = System.Text.Json.JsonDocument.Parse(names).RootElement.EnumerateArray().Select(item => item.ValueKind == System.Text.Json.JsonValueKind.String ? item.GetString() : (object?)1.0).ToList();
        var error = Refused(() => Build(Of("ParameterDict", ("names", given), ("shapes", new object?[] { new object?[] { 2.0 }, new object?[] { 2.0 } }))));
        Assert.Equal($"spec.args.{argument}", error.Fields[0].Field);
    }

    [Fact]
    public void All_that_is_wrong_with_the_arguments_of_a_function_is_named_at_once()
    {
        var error = Refused(() => Build(Graph(["x"], ["y"], [Function("y", "topk", ["x"], ("sortd", true), ("largest", "yes"))])));

        Assert.Equal(["spec.wiring.steps[0].args.k", "spec.wiring.steps[0].args.largest", "spec.wiring.steps[0].args.sortd"], error.Fields.Select(f => f.Field), StringComparer.Ordinal);
        Assert.Contains("did you mean sorted?", error.Fields[2].Description);
    }

    [Fact]
    public void Wiring_of_another_type_is_refused() =>
        Assert.Equal("spec.wiring", Refused(() => Build(Of("ReLU") with { Wiring = new Wiring(["x"], [], ["x"]) })).Fields[0].Field);

    [Fact]
    public void Wiring_missing_on_a_graph_is_refused() => Assert.Equal("spec.wiring", Refused(() => Build(Of("Graph"))).Fields[0].Field);

    [Fact]
    public void Function_that_fails_is_named_with_what_it_was_given()
    {
        using var tree = Build(Graph(["a", "b"], ["y"], [Function("y", "matmul", ["a", "b"])]));
        var error = Refused(() => tree.Run(rand(2, 3), rand(4, 5)));

        Assert.Contains("the function matmul", error.Message);
        Assert.Contains("float32 [2, 3], float32 [4, 5]", error.Message);
    }

    /// <summary>Large enough for the ledger to count: 4 MiB.</summary>
    private static Tensor Large => ones(1024, 1024);

    [Fact]
    public void Values_are_freed_after_their_last_use_as_in_a_Sequential()
    {
        using var tree = Build(Graph(["v0"], ["v20"], [.. Enumerable.Range(0, 20).Select(i => Function($"v{i + 1}", "sigmoid", [$"v{i}"]))]));
        using var sequential = Build(Sequential([.. Enumerable.Range(0, 20).Select(_ => Of("Sigmoid"))]));
        var x = Large;

        Assert.Equal(0, MaxDifference(sequential.RunWithin(12 << 20, x).Tensor!, tree.RunWithin(12 << 20, x).Tensor!));
    }

    [Theory]
    [InlineData(12 << 20, true)]
    [InlineData((12 << 20) - 1, false)]
    public void Values_that_are_used_again_or_given_are_not_freed(long bytes, bool fits)
    {
        // At the most there are a, which is given, b and the sum: 12 MiB.
        using var tree = Build(Graph(["x"], ["y", "a"], [
            Function("a", "sigmoid", ["x"]), Function("b", "tanh", ["a"]), Function("c", "add", ["b", "a"]), Function("unused", "neg", ["c"]), Function("d", "neg", ["c"]), Function("y", "add", ["d", "x"])]));
        var x = Large;
        if (!fits)
        {
            NoRoom(() => tree.RunWithin(bytes, x));
            return;
        }

        var (given, expected) = (tree.RunWithin(bytes, x).Items!, x - (x.sigmoid() + x.sigmoid().tanh()));
        Assert.Equal(0, MaxDifference(given[0].Tensor!, expected));
        Assert.Equal(0, MaxDifference(given[1].Tensor!, x.sigmoid()));
    }

    [Fact]
    public void Views_hold_the_memory_of_what_they_are_of_until_they_are_freed()
    {
        // Both halves are of a, and the second, which begins elsewhere, outlives the first.
        using var tree = Build(Graph(["x"], ["y"], [
            Function("a", "sigmoid", ["x"]), Function("h1", "narrow", ["a"], ("dim", 0.0), ("start", 0.0), ("length", 8.0)), Function("h2", "narrow", ["a"], ("dim", 0.0), ("start", 1000.0), ("length", 8.0)),
            Function("s", "neg", ["h1"]), Function("b", "sigmoid", ["x"]), Function("c", "sum", ["b"]), Function("t", "add", ["s", "c"]), Function("y", "add", ["t", "h2"])]));
        var x = Large;

        NoRoom(() => tree.RunWithin((8 << 20) - 1, x));
        Assert.True(MaxDifference(tree.RunWithin(8 << 20, x).Tensor!, x.sigmoid().sum().expand(8, 1024)) < 1);
    }

    [Fact]
    public void View_that_a_graph_gives_takes_over_the_charge_and_is_freed_by_whoever_called_it()
    {
        ModuleSpec Block() => Graph(["x"], ["y"], [Function("a", "sigmoid", ["x"]), Function("y", "view", ["a"], ("shape", new object?[] { 1024.0, 1024.0 }))]);
        using var tree = Build(Sequential([.. Enumerable.Range(0, 8).Select(_ => Block())]));
        using var one = Build(Graph(["x"], ["z"], [Call("y", "g", "x"), Function("z", "neg", ["y"])], Named("g", Block())));
        using var flattened = Build(Sequential(Of("Sigmoid"), Of("Flatten"), Of("Sigmoid")));
        var x = Large;

        Assert.Equal([1024, 1024], tree.RunWithin(8 << 20, x).Tensor!.shape);
        NoRoom(() => one.RunWithin((8 << 20) - 1, x));
        Assert.Equal(0, MaxDifference(-x.sigmoid(), one.RunWithin(8 << 20, x).Tensor!));
        NoRoom(() => flattened.RunWithin((8 << 20) - 1, x));
        flattened.RunWithin(8 << 20, x);
    }

    [Fact]
    public void Input_and_values_that_a_child_hands_back_are_one_tensor_and_freed_once()
    {
        using var tree = Build(Graph(["x", "state?"], ["y", "z"], [
            Call("same", "id", "x"), Function("a", "relu", ["same"]), Call("b", "id", "a"), Function("c", "neg", ["b"]), Function("d", "add", ["a", "c"]), Function("y", "add", ["d", "x"]), Call("z", "id", "y")], Named("id", Of("Identity"))));
        tree.Root.Train(false);
        var x = Large;
        for (var i = 0; i < 2; i++)
        {
            var given = tree.RunWithin(16 << 20, x).Items!;
            Assert.Equal(0, MaxDifference(x, given[0].Tensor!));
            Assert.Same(given[0].Tensor, given[1].Tensor);
        }
    }

    [Fact]
    public void Tuples_are_freed_with_what_they_hold_unless_another_value_is_the_same()
    {
        // Each chunk is a view of a; the split's own value is never asked for.
        using var tree = Build(Graph(["x"], ["y", "whole"], [
            Function("a", "sigmoid", ["x"]), Function("whole", "chunk", ["a"], ("chunks", 2.0)), Function("", "chunk", ["a"], ("chunks", 2.0)) with { Unpack = ["first", ""] }, Function("y", "neg", ["first"])]));
        using var lstm = Build(Graph(["x"], ["last"], [
            new WiringStep("both", "lstm", null, ["x"], new Dictionary<string, object?>(), []), new WiringStep("", "lstm", null, ["x"], new Dictionary<string, object?>(), ["out", "state"]),
            Function("n", "neg", ["out"]), Function("last", "neg", ["n"])], Named("lstm", Of("LSTM", ("input_size", 4.0), ("hidden_size", 4.0)))));
        var (x, steps) = (Large, rand(5, 1, 4));

        for (var i = 0; i < 2; i++)
        {
            var given = tree.RunWithin(12 << 20, x).Items!;
            Assert.Equal(0, MaxDifference(x.sigmoid(), cat([.. given[1].Items!.Select(item => item.Tensor!)])));
            Assert.Equal(0, MaxDifference(-x.sigmoid()[..512], given[0].Tensor!));
            Assert.Equal(0, MaxDifference(lstm.Find("lstm").Call(new CallArguments(TensorTree.Of(steps)), new CallContext()).Items![0].Tensor!, lstm.Run(steps)));
        }
    }

    [Fact]
    public void Gradients_flow_through_values_that_were_freed()
    {
        using var tree = Build(Graph(["x"], ["y"], [.. Enumerable.Range(0, 4).Select(i => Function(i == 3 ? "y" : $"v{i}", i % 2 == 0 ? "exp" : "square", [i == 0 ? "x" : $"v{i - 1}"]))]));
        var (x, same) = (full([3], 0.1, requires_grad: true), full([3], 0.1, requires_grad: true));
        tree.Run(x).sum().backward();
        same.exp().square().exp().square().sum().backward();

        Assert.Equal(0, MaxDifference(same.grad!, x.grad!));
    }
}
