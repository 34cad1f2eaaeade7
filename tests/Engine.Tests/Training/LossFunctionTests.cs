using Sconce.Engine.Tensors;
using Sconce.Engine.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Training;

public sealed class LossFunctionTests
{
    private static readonly Func<Tensor> Scores = () => rand(3, 4);

    /// <summary>What libtorch would crash on, read past its memory at, or explain badly: each must name the field and say what is needed.</summary>
    public static TheoryData<string, Dictionary<string, object?>, Func<Tensor>[], Func<Tensor>[], string, string[]> Refused => new()
    {
        { "CrossEntropyLoss", [], [Scores], [() => tensor(new long[] { 0, 4, 1 })], "targets[0]", ["class 4", "[1]", "from 0 to 3", "-100"] },
        { "CrossEntropyLoss", [], [Scores], [() => tensor(new long[] { 0, -1, 1 })], "targets[0]", ["class -1"] },
        { "CrossEntropyLoss", [], [Scores], [() => zeros(2, ScalarType.Int64)], "targets[0]", ["[3]", "[2]"] },
        { "CrossEntropyLoss", [], [Scores], [() => zeros(3, ScalarType.Int32)], "targets[0]", ["int64", "int32"] },
        { "CrossEntropyLoss", [], [Scores], [() => rand(3)], "targets[0]", ["[3, 4]", "float32 [3]"] },
        { "CrossEntropyLoss", [], [Scores], [() => rand(3, 4, ScalarType.Float64)], "targets[0]", ["float32", "float64"] },
        { "CrossEntropyLoss", Given.Args(("weight", new List<object?> { 1.0, 2.0 })), [Scores], [() => zeros(3, ScalarType.Int64)], "loss.args.weight", ["2 numbers", "4 classes"] },
        { "CrossEntropyLoss", Given.Args(("ignore_index", 0.0)), [Scores], [Scores], "loss.args.ignore_index", ["probabilities"] },
        { "CrossEntropyLoss", [], [() => zeros(3, 4, ScalarType.Int64)], [() => zeros(3, ScalarType.Int64)], "loss.type", ["floating", "int64 [3, 4]"] },
        { "CrossEntropyLoss", [], [() => rand(2, 4, 2, 2)], [() => ones(2, 2, 2, ScalarType.Int64) * 7], "targets[0]", ["class 7", "[0, 0, 0]"] },
        { "NLLLoss", Given.Args(("ignore_index", 2.0)), [Scores], [() => tensor(new long[] { 2, -100, 1 })], "targets[0]", ["class -100", "or 2 to be ignored"] },
        { "MultiMarginLoss", [], [Scores], [() => tensor(new long[] { 0, 9, 1 })], "targets[0]", ["class 9"] },
        { "MultiLabelMarginLoss", [], [Scores], [() => full(3, 4, 4, ScalarType.Int64)], "targets[0]", ["class 4", "from -1 to 3"] },
        { "MSELoss", [], [Scores], [() => rand(3, 5)], "targets[0]", ["[3, 4]", "[3, 5]"] },
        { "MSELoss", [], [Scores], [() => zeros(3, 4, ScalarType.Int64)], "targets[0]", ["float32", "int64"] },
        { "BCELoss", [], [Scores], [() => rand(4)], "targets[0]", ["[3, 4]", "[4]"] },
        { "BCELoss", [], [() => rand(3) + 1], [() => rand(3)], "targets", ["between 0 and 1"] },
        { "BCEWithLogitsLoss", Given.Args(("pos_weight", new List<object?> { 1.0, 2.0, 3.0 })), [Scores], [Scores], "loss.args.pos_weight", ["3 numbers", "[3, 4]"] },
        { "BCELoss", Given.Args(("weight", new List<object?> { 1.0 })), [() => rand([])], [() => rand([])], "loss.args.weight", ["1 numbers", "[]"] },
        { "GaussianNLLLoss", [], [Scores], [Scores, () => rand(2)], "targets[1]", ["var"] },
        { "GaussianNLLLoss", [], [Scores], [Scores, () => -rand(3, 4)], "targets[1]", ["negative"] },
        { "TripletMarginLoss", [], [Scores], [Scores, () => rand(4)], "targets[1]", ["2 dimensions"] },
        { "MarginRankingLoss", [], [() => rand(3), () => rand(3)], [() => rand(2)], "targets[0]", ["[3]", "[2]"] },
        { "CosineEmbeddingLoss", [], [Scores, Scores], [() => ones(2)], "targets[0]", ["[3]", "[2]"] },
        { "MSELoss", [], [Scores], [], "targets", ["input, target", "returned 1", "0 targets"] },
        { "MSELoss", [], [Scores], [Scores, Scores], "targets", ["2 targets"] },
        { "CTCLoss", [], [LogProbs], [() => full(2, 3, 5, ScalarType.Int64), InputLengths, TargetLengths], "targets[0]", ["class 5", "from 0 to 4"] },
        { "CTCLoss", [], [LogProbs], [() => full(2, 3, -1, ScalarType.Int64), InputLengths, TargetLengths], "targets[0]", ["class -1"] },
        { "CTCLoss", [], [LogProbs], [Labels, () => tensor(new long[] { 6, 7 }), TargetLengths], "targets[1]", ["length 7", "from 0 to 6"] },
        { "CTCLoss", [], [LogProbs], [Labels, InputLengths, () => tensor(new long[] { 4, 1 })], "targets[2]", ["length 4", "from 0 to 3"] },
        { "CTCLoss", [], [LogProbs], [Labels, InputLengths, () => tensor(new long[] { 1, 1, 1 })], "targets[2]", ["2 sequences"] },
        { "CTCLoss", [], [LogProbs], [() => ones(3, 3, ScalarType.Int64), InputLengths, TargetLengths], "targets[0]", ["[2, S]"] },
        { "CTCLoss", [], [LogProbs], [() => ones(4, ScalarType.Int64), InputLengths, TargetLengths], "targets[0]", ["5"] },
        { "CTCLoss", [], [LogProbs], [() => ones(2, 3), InputLengths, TargetLengths], "targets[0]", ["int64"] },
        { "CTCLoss", Given.Args(("blank", 5.0)), [LogProbs], [Labels, InputLengths, TargetLengths], "loss.args.blank", ["5 classes"] },
    };

    [Theory]
    [MemberData(nameof(Refused), DisableDiscoveryEnumeration = true)]
    public void Compute_with_tensors_that_do_not_fit_names_the_field(
        string type, Dictionary<string, object?> args, Func<Tensor>[] outputs, Func<Tensor>[] targets, string field, string[] words)
    {
        using var scope = NewDisposeScope();
        var loss = LossFunction.Create(type, args);
        var error = Assert.Throws<EngineException>(() =>
            loss.Compute(TensorTree.Tuple([.. outputs.Select(make => TensorTree.Of(make()))]), [.. targets.Select(make => make())]));
        Assert.Equal(EngineError.InvalidArgument, error.Error);
        Assert.Equal(field, error.Fields[0].Field);
        Assert.All(words, word => Assert.Contains(word, error.Message, StringComparison.Ordinal));
    }

    [Fact]
    public void Create_with_an_unknown_type_names_the_nearest()
    {
        var error = Assert.Throws<EngineException>(() => Given.Loss("CrossEntropy"));
        Assert.Equal(EngineError.Unimplemented, error.Error);
        Assert.Equal("loss.type", error.Fields[0].Field);
        Assert.Contains("CrossEntropyLoss", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Create_with_wrong_arguments_names_them_all()
    {
        var error = Assert.Throws<EngineException>(() => Given.Loss("CrossEntropyLoss", ("label_smoothing", 1.5), ("reduction", "avg"), ("wieght", null)));
        Assert.Equal(["loss.args.label_smoothing", "loss.args.reduction", "loss.args.wieght"], error.Fields.Select(f => f.Field).Order());
    }

    [Fact]
    public void Compute_uses_as_many_outputs_as_the_loss_takes()
    {
        using var scope = NewDisposeScope();
        var (output, hidden, target) = (rand(2, 3), rand(1, 3), rand(2, 3));
        var lstm = TensorTree.Tuple(TensorTree.Of(output), TensorTree.Tuple(TensorTree.Of(hidden), TensorTree.Of(hidden)));
        Assert.Equal(nn.functional.mse_loss(output, target).ToSingle(), Given.Loss("MSELoss").Compute(lstm, [target]).ToSingle());
    }

    [Fact]
    public void Compute_GaussianNLLLoss_puts_the_target_between_an_output_and_its_variance()
    {
        using var scope = NewDisposeScope();
        var (mean, variance, target) = (rand(2, 3), rand(2, 3) + 1, rand(2, 3));
        var loss = Given.Loss("GaussianNLLLoss");
        var predicted = loss.Compute(TensorTree.Tuple(TensorTree.Of(mean), TensorTree.Of(variance)), [target]);
        Assert.Equal(loss.Compute(TensorTree.Of(mean), [target, variance]).ToSingle(), predicted.ToSingle());
    }

    [Theory]
    [InlineData("CrossEntropyLoss")]
    [InlineData("NLLLoss")]
    [InlineData("MultiMarginLoss")]
    public void Compute_takes_class_indexes_of_uint8_as_those_of_int64(string type)
    {
        using var scope = NewDisposeScope();
        var indexes = tensor(new long[] { 3, 0, 1 });
        var loss = Given.Loss(type);
        var a = Scores().requires_grad_();
        var b = a.detach().clone().requires_grad_();
        loss.Compute(TensorTree.Of(a), [indexes]).backward();
        loss.Compute(TensorTree.Of(b), [indexes.to(ScalarType.Byte)]).backward();
        Assert.True(a.grad!.equal(b.grad!).all().ToBoolean());
    }

    [Fact]
    public void Compute_CTCLoss_does_not_look_at_padding()
    {
        using var scope = NewDisposeScope();
        var labels = tensor(new long[,] { { 1, 2, 3 }, { 1, 99, -5 } });
        var loss = Given.Loss("CTCLoss").Compute(TensorTree.Of(LogProbs()), [labels, InputLengths(), tensor(new long[] { 3, 1 })]);
        Assert.True(double.IsFinite(loss.ToSingle()));
    }

    private static Tensor LogProbs() => rand(6, 2, 5).log_softmax(2);

    private static Tensor Labels() => ones(2, 3, ScalarType.Int64);

    private static Tensor InputLengths() => tensor(new long[] { 6, 5 });

    private static Tensor TargetLengths() => tensor(new long[] { 3, 2 });
}
