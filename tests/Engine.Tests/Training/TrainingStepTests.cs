using System.Globalization;
using System.Runtime.InteropServices;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using Sconce.Engine.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Training;

public sealed class TrainingStepTests
{
    [Theory]
    [InlineData("SGD")]
    [InlineData("Adam")]
    [InlineData("LBFGS")]
    public void Run_repeated_lowers_the_loss(string type)
    {
        using var scope = NewDisposeScope();
        using var tree = Given.TwoLayers();
        using var optimizer = Given.Optimizer(tree, type, ("lr", 0.05));
        var batch = Given.Batch(tree, rand(16, 4), Given.Loss("CrossEntropyLoss"), randint(0, 3, [16], ScalarType.Int64));
        var first = TrainingStep.Run(tree, batch, new StepOptions(optimizer));
        for (var i = 0; i < 9; i++)
        {
            _ = TrainingStep.Run(tree, batch, new StepOptions(optimizer));
        }

        var last = TrainingStep.Run(tree, batch, new StepOptions(optimizer));
        Assert.True(last.Loss < first.Loss, $"{first.Loss} then {last.Loss}");
        Assert.Equal(11, optimizer.Steps);
    }

    [Fact]
    public void ForwardBackward_in_micro_batches_adds_up_to_the_whole_batch()
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        var (input, target) = (rand(8, 4), rand(8, 3));
        var loss = Given.Loss("MSELoss");
        var whole = TrainingStep.ForwardBackward(tree, Given.Batch(tree, input, loss, target));
        var expected = tree.Root.Parameters[0].Parameter.grad!.clone();
        Gradients.Zero(tree.Root, setToNone: true);
        var losses = new List<double>();
        foreach (var part in new[] { 0, 4 })
        {
            losses.Add(TrainingStep.ForwardBackward(tree, Given.Batch(tree, input.narrow(0, part, 4), loss, target.narrow(0, part, 4)), 0.5).Loss);
        }

        Assert.True(expected.allclose(tree.Root.Parameters[0].Parameter.grad!, rtol: 1e-5, atol: 1e-7));
        Assert.Equal(whole.Loss, losses.Average(), 1e-6);
    }

    [Fact]
    public void Run_returns_the_output_detached_and_in_the_callers_scope()
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        using var optimizer = Given.Optimizer(tree, "SGD");
        var input = rand(2, 4);
        var expected = nn.functional.linear(input, tree.Root.Parameters[0].Parameter, tree.Root.Parameters[1].Parameter).detach();
        var outcome = TrainingStep.Run(tree, Given.Batch(tree, input, Given.Loss("MSELoss"), rand(2, 3)) with { ReturnOutput = true }, new StepOptions(optimizer));
        Assert.False(outcome.Output!.Tensor!.requires_grad);
        Assert.True(outcome.Output.Tensor.allclose(expected));
    }

    [Fact]
    public void Run_when_the_targets_are_wrong_changes_nothing()
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        using var optimizer = Given.Optimizer(tree, "SGD", ("lr", 1.0));
        _ = TrainingStep.ForwardBackward(tree, Given.Batch(tree, rand(2, 4), Given.Loss("MSELoss"), rand(2, 3)));
        var weight = tree.Root.Parameters[0].Parameter;
        var (before, gradient) = (weight.clone(), weight.grad!.clone());
        _ = Assert.Throws<EngineException>(() => TrainingStep.Run(
            tree, Given.Batch(tree, rand(2, 4), Given.Loss("CrossEntropyLoss"), tensor(new long[] { 0, 3 })), new StepOptions(optimizer)));
        Assert.True(weight.equal(before).all().ToBoolean());
        Assert.True(weight.grad!.equal(gradient).all().ToBoolean());
        Assert.Equal(0, optimizer.Steps);
    }

    [Fact]
    public void Run_when_nothing_requires_a_gradient_is_a_failed_precondition()
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        foreach (var (_, parameter) in tree.Root.Parameters)
        {
            parameter.requires_grad = false;
        }

        using var optimizer = Given.Optimizer(tree, "SGD");
        var error = Assert.Throws<EngineException>(() =>
            TrainingStep.Run(tree, Given.Batch(tree, rand(2, 4), Given.Loss("MSELoss"), rand(2, 3)), new StepOptions(optimizer)));
        Assert.Equal(EngineError.FailedPrecondition, error.Error);
        Assert.Contains("RequiresGrad", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Run_with_a_scheduler_step_but_no_scheduler_changes_nothing()
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        using var optimizer = Given.Optimizer(tree, "SGD");
        var error = Assert.Throws<EngineException>(() => TrainingStep.Run(
            tree, Given.Batch(tree, rand(2, 4), Given.Loss("MSELoss"), rand(2, 3)), new StepOptions(optimizer, SchedulerStep: true)));
        Assert.Equal(EngineError.FailedPrecondition, error.Error);
        Assert.Equal("NO_SCHEDULER", error.Reason);
        Assert.Equal(0, optimizer.Steps);
    }

    [Theory]
    [InlineData(double.NaN)]
    [InlineData(double.PositiveInfinity)]
    public void ForwardBackward_with_a_scale_that_is_not_finite_is_refused(double scale)
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        var error = Assert.Throws<EngineException>(() =>
            TrainingStep.ForwardBackward(tree, Given.Batch(tree, rand(2, 4), Given.Loss("MSELoss"), rand(2, 3)), scale));
        Assert.Equal("loss_scale", error.Fields[0].Field);
    }

    [Theory]
    [InlineData("SGD")]
    [InlineData("LBFGS")]
    public void Run_returns_the_output_before_the_step(string type)
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        using var optimizer = Given.Optimizer(tree, type, ("lr", 0.5));
        var input = rand(2, 4);
        var expected = tree.Root.Call(new(TensorTree.Of(input)), new()).Tensor!.detach().clone();

        var outcome = TrainingStep.Run(tree, Given.Batch(tree, input, Given.Loss("MSELoss"), rand(2, 3)) with { ReturnOutput = true }, new StepOptions(optimizer));

        Assert.True(outcome.Output!.Tensor!.equal(expected).all().ToBoolean());
    }

    [Theory]
    [InlineData("SGD", false)]
    [InlineData("SGD", true)]
    [InlineData("SGD", true, true)]
    [InlineData("Adam", false)]
    [InlineData("LBFGS", false)]
    public void Run_over_parameters_of_integers_is_refused_and_changes_nothing(string type, bool clip, bool byValue = false)
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        using var optimizer = Given.Optimizer(tree, type);
        var (weight, bias) = (tree.Root.Parameters[0].Parameter, tree.Root.Parameters[1].Parameter);
        _ = TrainingStep.ForwardBackward(tree, Given.Batch(tree, rand(2, 4), Given.Loss("MSELoss"), rand(2, 3)));
        bias.requires_grad_(false);
        weight.requires_grad_(false);
        Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.Type, ElementType.Int64));
        var before = weight.clone();

        var error = Assert.Throws<EngineException>(() =>
        {
            _ = clip ? Gradients.Clip(tree.Root, byValue ? new GradientClip(null, 0.5) : new GradientClip(1, null)) : null;
            if (type == "LBFGS")
            {
                optimizer.StepWithClosure(() => 1);
            }

            optimizer.Step();
        });

        Assert.Equal(EngineError.FailedPrecondition, error.Error);
        Assert.Contains("int64", error.Message, StringComparison.Ordinal);
        Assert.Contains("\"weight\"", error.Message, StringComparison.Ordinal);
        Assert.True(weight.equal(before).all().ToBoolean());
        Assert.Equal(0, optimizer.Steps);
    }

    [Theory]
    [InlineData(ScalarType.ComplexFloat32, ScalarType.Float32)]
    [InlineData(ScalarType.ComplexFloat32, ScalarType.ComplexFloat32)]
    public void Run_LBFGS_over_complex_parameters_is_refused_and_changes_nothing(ScalarType first, ScalarType second)
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        using var optimizer = Given.Optimizer(tree, "LBFGS");
        var register = new Registration(tree, new BuildLimits(), _ => null);
        register.Parameter("", "weight", ones([3, 4], dtype: first), requiresGrad: true);
        register.Parameter("", "bias", ones([3], dtype: second), requiresGrad: true);

        var error = Assert.Throws<EngineException>(() => optimizer.StepWithClosure(() => throw new InvalidOperationException("it ran")));

        Assert.Equal(EngineError.FailedPrecondition, error.Error);
        Assert.Contains("\"weight\" is complex64", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Run_LBFGS_that_fails_within_leaves_the_parameters_as_they_were()
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        using var optimizer = Given.Optimizer(tree, "LBFGS", ("line_search_fn", "strong_wolfe"));
        var before = tree.Root.Parameters[0].Parameter.clone();
        var calls = 0;
        _ = Assert.Throws<InvalidOperationException>(() => optimizer.StepWithClosure(() => ++calls == 3
            ? throw new InvalidOperationException("stop")
            : TrainingStep.ForwardBackward(tree, Given.Batch(tree, ones(2, 4), Given.Loss("MSELoss"), ones(2, 3))).Loss));
        Assert.True(tree.Root.Parameters[0].Parameter.equal(before).all().ToBoolean());
        Assert.Equal(0, optimizer.Steps);
    }

    [Theory]
    [InlineData("SGD", true)]
    [InlineData("SGD", false)]
    [InlineData("Adam", true)]
    [InlineData("AdamW", false)]
    [InlineData("Adamax", true)]
    [InlineData("NAdam", true)]
    [InlineData("RAdam", true)]
    [InlineData("RMSprop", true)]
    [InlineData("Adagrad", true)]
    [InlineData("Adadelta", true)]
    public void Run_with_a_rate_beyond_the_dtype_in_one_group_changes_nothing(string type, bool zeroGrad)
    {
        using var scope = NewDisposeScope();
        using var tree = Given.TwoLayers();
        using var optimizer = HostedOptimizer.Create("default", type, Given.Args(("lr", 0.1)), [new(["0.*"], Given.Args()), new(["2.*"], Given.Args())], tree);
        var batch = Given.Batch(tree, rand(16, 4), Given.Loss("CrossEntropyLoss"), randint(0, 3, [16], ScalarType.Int64));
        _ = TrainingStep.Run(tree, batch, new StepOptions(optimizer));
        optimizer.SetLearningRate(1e39, group: 1);
        var before = Everything(tree, optimizer);

        var options = new StepOptions(optimizer, zeroGrad, new GradientClip(1e-3, null));
        var error = Assert.Throws<ExternalException>(() => TrainingStep.Run(tree, batch, options));

        Assert.Contains("overflow", error.Message, StringComparison.Ordinal);
        Assert.Equal(before, Everything(tree, optimizer));
        optimizer.SetLearningRate(0.1);
        _ = TrainingStep.Run(tree, batch, options);
        Assert.Equal(2, optimizer.Steps);
    }

    [Fact]
    public void Run_with_a_first_step_size_beyond_float16_changes_nothing()
    {
        using var scope = NewDisposeScope();
        using var tree = ModuleBuilder.Build(Given.Spec("Linear", ("in_features", 4.0), ("out_features", 3.0)), ElementType.Float16, new BuildLimits());
        using var optimizer = Given.Optimizer(tree, "Rprop", ("lr", 1e19));

        _ = Assert.Throws<ExternalException>(() => TrainingStep.Run(
            tree, Given.Batch(tree, rand(16, 4).to(ScalarType.Float16), Given.Loss("CrossEntropyLoss"), randint(0, 3, [16], ScalarType.Int64)), new StepOptions(optimizer)));

        Assert.All(tree.Root.Parameters, named => Assert.Null(named.Parameter.grad));
        Assert.Empty(optimizer.GetState().Tensors);
    }

    [Theory]
    [InlineData(true, false)]
    [InlineData(false, false)]
    [InlineData(true, true)]
    [InlineData(false, true)]
    public void Run_over_a_sparse_gradient_leaves_gradients_as_they_were(bool zeroGrad, bool clip)
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Build(Given.Sequential(
            Given.Spec("Embedding", ("num_embeddings", 5.0), ("embedding_dim", 3.0), ("sparse", true)), Given.Spec("Linear", ("in_features", 3.0), ("out_features", 3.0))));
        using var optimizer = Given.Optimizer(tree, "Adam");
        var loss = Given.Loss("CrossEntropyLoss");
        _ = TrainingStep.ForwardBackward(tree, Given.Batch(tree, tensor(new long[] { 0, 1 }), loss, tensor(new long[] { 0, 1 })));
        var before = Everything(tree, optimizer);

        var error = Assert.Throws<EngineException>(() => TrainingStep.Run(
            tree, Given.Batch(tree, tensor(new long[] { 2, 1 }), loss, tensor(new long[] { 0, 2 })), new StepOptions(optimizer, zeroGrad, clip ? new GradientClip(null, 1e-3) : null)));

        Assert.Equal("SPARSE_GRADIENT", error.Reason);
        Assert.Equal(before, Everything(tree, optimizer));
    }

    [Theory]
    [InlineData("", 1)]
    [InlineData("", 2)]
    [InlineData("strong_wolfe", 2)]
    [InlineData("strong_wolfe", 3)]
    [InlineData("strong_wolfe", 4)]
    public void Run_LBFGS_that_fails_within_goes_on_as_if_it_had_not_been_tried(string search, int failing)
    {
        using var scope = NewDisposeScope();
        using var tree = Given.TwoLayers();
        var (input, target) = (rand(16, 4), rand(16, 3));
        var batch = Given.Batch(tree, input, Given.Loss("MSELoss"), target);
        var parameters = ModuleTree.NamedParameters(tree.Root).Select(named => named.Parameter).ToList();
        var start = parameters.ConvertAll(parameter => parameter.clone());
        var undisturbed = Losses(disturb: false);
        using (no_grad())
        {
            Gradients.Zero(tree.Root, setToNone: true);
            foreach (var (parameter, value) in parameters.Zip(start))
            {
                _ = parameter.copy_(value);
            }
        }

        Assert.Equal(undisturbed, Losses(disturb: true));

        List<double> Losses(bool disturb)
        {
            using var optimizer = Given.Optimizer(tree, "LBFGS", ("max_iter", 6.0), ("history_size", 2.0), ("line_search_fn", search.Length == 0 ? null : search));
            List<double> losses = [];
            for (var i = 0; i < 5; i++)
            {
                if (disturb && i > 0)
                {
                    var calls = 0;
                    _ = Assert.Throws<InvalidOperationException>(() => optimizer.StepWithClosure(() =>
                        ++calls == failing ? throw new InvalidOperationException("stop") : TrainingStep.ForwardBackward(tree, batch).Loss));
                    Gradients.Zero(tree.Root, setToNone: true);
                }

                losses.Add(TrainingStep.Run(tree, batch, new StepOptions(optimizer)).Loss);
            }

            return losses;
        }
    }

    [Fact]
    public void Run_LBFGS_with_a_rate_beyond_the_dtype_changes_nothing()
    {
        using var scope = NewDisposeScope();
        using var tree = Given.TwoLayers();
        using var optimizer = Given.Optimizer(tree, "LBFGS", ("lr", 1e300));
        var batch = Given.Batch(tree, rand(16, 4), Given.Loss("MSELoss"), rand(16, 3));
        _ = TrainingStep.ForwardBackward(tree, batch);
        var before = Everything(tree, null);

        _ = Assert.Throws<ExternalException>(() => TrainingStep.Run(tree, Given.Batch(tree, rand(16, 4), Given.Loss("MSELoss"), rand(16, 3)), new StepOptions(optimizer)));

        Assert.Equal(before, Everything(tree, null));
        Assert.Equal(0, optimizer.Steps);
    }

    [Fact]
    public void Run_that_libtorch_fails_half_way_says_so_and_counts_no_step()
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        using var optimizer = Given.Optimizer(tree, "SGD", ("lr", 1.0));
        var (weight, bias) = (tree.Root.Parameters[0].Parameter, tree.Root.Parameters[1].Parameter);
        weight.grad = ones_like(weight);
        bias.grad = ones(2); // No backward makes such a gradient; it stands for a lack of memory, which no test can time.

        var error = Assert.Throws<EngineException>(optimizer.Step);

        Assert.Equal((EngineError.Internal, "STEP_INCOMPLETE"), (error.Error, error.Reason));
        Assert.Contains("\"bias\"", error.Message, StringComparison.Ordinal);
        Assert.Equal(0, optimizer.Steps);
    }

    /// <summary>Parameters, gradients and optimizer state, to compare.</summary>
    private static List<string> Everything(ModuleTree tree, HostedOptimizer? optimizer)
    {
        var state = optimizer?.GetState();
        return
        [
            .. ModuleTree.NamedParameters(tree.Root).Select(named => $"{named.Name} {Text(named.Parameter)} grad {(named.Parameter.grad is { } gradient ? Text(gradient) : "none")}"),
            .. state?.Tensors.Select(entry => $"{entry.Key} {Text(entry.Value)}") ?? [],
            .. state?.Scalars.Select(entry => $"{entry.Key} {entry.Value:R}") ?? [],
        ];

        static string Text(Tensor tensor) => string.Join(' ', (tensor.is_sparse ? tensor.to_dense() : tensor.detach()).contiguous().data<float>().ToArray().Select(value => value.ToString("R", CultureInfo.InvariantCulture)));
    }
}
