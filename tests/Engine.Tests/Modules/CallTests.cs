using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static Sconce.Engine.Tests.Modules.Spec;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Modules;

public sealed class CallTests : IDisposable
{
    private readonly TorchSharp.DisposeScope _scope = NewDisposeScope();

    public void Dispose() => _scope.Dispose();

    [Fact]
    public void Call_inputs_by_name_and_position_are_the_same()
    {
        using var tree = Build(Of("Bilinear", ("in1_features", 2.0), ("in2_features", 3.0), ("out_features", 4.0)));
        var (a, b) = (TensorTree.Of(randn(5, 2)), TensorTree.Of(randn(5, 3)));
        var byPosition = tree.Root.Call(new CallArguments(a, b), new CallContext()).Tensor!;
        var byName = tree.Root.Call(new CallArguments([a], new Dictionary<string, TensorTree> { ["input2"] = b }), new CallContext()).Tensor!;

        Assert.Equal(0, MaxDifference(byPosition, byName));
    }

    [Fact]
    public void Call_wrong_names_are_all_named()
    {
        using var tree = Build(Of("Bilinear", ("in1_features", 2.0), ("in2_features", 3.0), ("out_features", 4.0)));
        var x = TensorTree.Of(randn(5, 2));
        var error = Refused(() => tree.Root.Call(new CallArguments([x, x, x], new Dictionary<string, TensorTree> { ["input1"] = x, ["inptu"] = x }), new CallContext()));

        Assert.Equal(["inputs[2]", "inputs[\"input1\"]", "inputs[\"inptu\"]"], error.Fields.Select(f => f.Field));
        Assert.Contains("input1, input2", error.Fields[0].Description);
        Assert.Contains("give it once", error.Fields[1].Description);
    }

    [Fact]
    public void Call_missing_or_none_input_is_named()
    {
        using var tree = Build(Linear(2, 2));

        Assert.Equal("inputs[\"input\"]", Refused(() => tree.Root.Call(new CallArguments(), new CallContext())).Fields[0].Field);
        Assert.Equal("inputs[0]", Refused(() => tree.Root.Call(new CallArguments(TensorTree.None), new CallContext())).Fields[0].Field);
    }

    [Fact]
    public void Call_shape_that_a_child_cannot_take_names_the_child()
    {
        using var tree = Build(Sequential(Named("conv", Of("Conv2d", ("in_channels", 1.0), ("out_channels", 4.0), ("kernel_size", 3.0)))));
        var error = Refused(() => tree.Run(rand(2, 3, 8, 8)));

        Assert.Equal(EngineError.InvalidArgument, error.Error);
        Assert.Equal("inputs[0]", error.Fields[0].Field);
        Assert.Contains("module \"conv\" (Conv2d(1, 4, kernel_size=(3, 3), stride=(1, 1)))", error.Message);
        Assert.Contains("float32 [2, 3, 8, 8]", error.Message);
        Assert.DoesNotContain("frame #", error.Message);
        tree.Run(rand(2, 1, 8, 8));
    }

    [Fact]
    public void Call_below_the_root_names_the_whole_path()
    {
        using var tree = Build(Sequential(Named("stage", Sequential(Named("fc", Linear(2, 2))))));
        var error = Refused(() => tree.Find("stage").Call(new CallArguments(TensorTree.Of(rand(3))), new CallContext("stage")));

        Assert.Contains("\"stage.fc\"", error.Message);
    }

    [Fact]
    public void Call_list_of_modules_says_that_it_has_no_forward()
    {
        using var tree = Build(new ModuleSpec("ModuleList") { Children = [Named("", Linear(1, 1))] });

        Assert.Equal("NO_FORWARD", Refused(() => tree.Run(rand(1, 1))).Reason);
    }

    [Fact]
    public void Call_counts_bytes_of_leaf_outputs()
    {
        using var tree = Build(Sequential(Linear(4, 8), Of("ReLU"), Linear(8, 2)));
        var context = new CallContext { CountBytes = true };
        tree.Root.Call(new CallArguments(TensorTree.Of(rand(3, 4))), context);

        Assert.Equal(3 * (8 + 8 + 2) * 4, context.LeafOutputBytes);
    }

    [Fact]
    public void Sequential_keeps_the_callers_input_and_what_it_returns()
    {
        using var tree = Build(Sequential(Of("Identity"), Of("Dropout"), Linear(2, 2), Of("Identity"), Of("Flatten")));
        tree.Root.Train(false);
        var input = rand(3, 2);
        var output = tree.Run(input);

        Assert.Equal(6, input.NumberOfElements);
        Assert.Equal([3, 2], output.shape);
    }

    [Fact]
    public void BatchNorm_one_value_per_channel_in_training_is_refused_and_changes_nothing()
    {
        using var tree = Build(Of("BatchNorm1d", ("num_features", 3.0)));
        var error = Refused(() => tree.Run(rand(1, 3)));

        Assert.Contains("more than 1 value per channel", error.Message);
        Assert.Equal(0, tree.Root.Buffers[2].Tensor.item<long>());
        tree.Root.Train(false);
        tree.Run(rand(1, 3));
    }

    [Fact]
    public void ConvTranspose_whose_output_would_be_empty_is_refused()
    {
        using var tree = Build(Of("ConvTranspose1d", ("in_channels", 1.0), ("out_channels", 1.0), ("kernel_size", 1.0), ("padding", 4.0)));
        var error = Refused(() => tree.Run(rand(2, 1, 3)));

        Assert.Contains("an output of size -5 in spatial dimension 0", error.Message);
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(10)]
    public void Embedding_index_out_of_range_is_refused(long index)
    {
        using var tree = Build(Of("Embedding", ("num_embeddings", 10.0), ("embedding_dim", 3.0)));
        var error = Refused(() => tree.Run(tensor(new[] { 1L, index })));

        Assert.Contains($"indexes from 0 to 9 (num_embeddings); it was given {index}", error.Message);
    }

    [Fact]
    public void Dropout_draws_in_training_only()
    {
        using var tree = Build(Of("Dropout", ("p", 0.5)));
        var input = ones(1000);

        Assert.InRange(tree.Run(input).eq(0).sum().item<long>(), 350, 650);
        tree.Root.Train(false);
        Assert.Equal(0, MaxDifference(tree.Run(input), input));
    }

    [Fact]
    public void Lstm_projected_equals_unprojected_with_an_identity_projection_but_for_its_width()
    {
        // An LSTM of 4 whose hidden state is projected on its first 3 units is the same recurrence on those.
        using var projected = Build(Of("LSTM", ("input_size", 2.0), ("hidden_size", 4.0), ("proj_size", 3.0), ("batch_first", true)), ElementType.Float64);
        using var plain = Build(Of("LSTM", ("input_size", 2.0), ("hidden_size", 4.0), ("batch_first", true)), ElementType.Float64);
        using (no_grad())
        {
            var from = projected.Root.Parameters.ToDictionary(p => p.Name, p => p.Parameter);
            from["weight_hr_l0"].copy_(eye(3, 4, dtype: ScalarType.Float64));
            foreach (var (name, parameter) in plain.Root.Parameters)
            {
                parameter.copy_(name == "weight_hh_l0" ? cat([from[name], zeros(16, 1, dtype: ScalarType.Float64)], 1) : from[name]);
            }
        }

        var input = randn(2, 5, 2, dtype: ScalarType.Float64);
        var (a, b) = (projected.Root.Call(new CallArguments(TensorTree.Of(input)), new CallContext()), plain.Root.Call(new CallArguments(TensorTree.Of(input)), new CallContext()));

        Assert.Equal([2, 5, 3], a.Items![0].Tensor!.shape);
        Assert.True(MaxDifference(a.Items[0].Tensor!, b.Items![0].Tensor!.narrow(2, 0, 3)) < 1e-12);
        Assert.True(MaxDifference(a.Items[1].Items![1].Tensor!, b.Items[1].Items![1].Tensor!) < 1e-12);
    }

    [Fact]
    public void RmsNorm_is_the_input_over_its_root_mean_square()
    {
        using var tree = Build(Of("RMSNorm", ("normalized_shape", 4.0), ("eps", 0.0)));
        var output = tree.Run(tensor(new[] { 1f, -2f, 3f, -4f }));

        Assert.True(MaxDifference(output, tensor(new[] { 1f, -2f, 3f, -4f }) / Math.Sqrt(7.5)) < 1e-6);
        Assert.Equal("RMSNorm((4,), eps=0.0, elementwise_affine=True)", ModuleTree.Repr(tree.Root));
    }
}
