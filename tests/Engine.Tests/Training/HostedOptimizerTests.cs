using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using Sconce.Engine.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Training;

public sealed class HostedOptimizerTests
{
    public static TheoryData<string> Types => [.. ModuleCatalog.Types.Where(type => type.Kind == TypeKind.Optimizer && type.Name != "LBFGS").Select(type => type.Name)];

    [Fact]
    public void Create_without_groups_takes_all_parameters_with_the_defaults_of_PyTorch()
    {
        using var tree = Given.Linear();
        using var optimizer = Given.Optimizer(tree, "AdamW");
        var group = Assert.Single(optimizer.Groups);
        Assert.Equal(["weight", "bias"], group.Parameters);
        Assert.Equal(1e-3, group.Options["lr"]);
        Assert.Equal(1e-2, group.Options["weight_decay"]);
        Assert.Equal([0.9, 0.999], (IEnumerable<double>)group.Options["betas"]!);
    }

    [Fact]
    public void Create_with_groups_gives_each_its_own_options()
    {
        using var scope = NewDisposeScope();
        using var tree = Given.TwoLayers();
        using var optimizer = HostedOptimizer.Create(
            "default", "SGD", Given.Args(("lr", 0.5)), [new(["*.bias"], Given.Args(("lr", 0.0))), new(["0.weight", "2.w?ight"], Given.Args())], tree);
        Assert.Equal(["0.bias", "2.bias"], optimizer.Groups[0].Parameters);
        Assert.Equal(["0.weight", "2.weight"], optimizer.Groups[1].Parameters);
        var before = Copies(tree);
        Learn(tree, optimizer);
        var moved = ModuleTree.NamedParameters(tree.Root).Zip(before).Where(pair => !Same(pair.First.Parameter, pair.Second)).Select(pair => pair.First.Name);
        Assert.Equal(["0.weight", "2.weight"], moved);
    }

    [Fact]
    public void Create_with_wrong_arguments_names_each_with_its_group()
    {
        using var tree = Given.Linear();
        Assert.Equal(["args.betas", "args.lr", "args.moment"], Refused("Adam", Given.Args(("lr", -1.0), ("betas", "x"), ("moment", 0.9))));
        Assert.Equal(["args.betas"], Refused("Adam", Given.Args(("betas", new List<object?> { 0.9, 1.0 }))));
        Assert.Equal(["args.nesterov"], Refused("SGD", Given.Args(("nesterov", true))));
        Assert.Equal(["args.etas", "args.step_sizes"], Refused("Rprop", Given.Args(("etas", new List<object?> { 1.5, 1.2 }), ("step_sizes", new List<object?> { 2.0, 1.0 }))));
        Assert.Equal(["groups[1].args.momentums"], Refused("SGD", Given.Args(), new(["weight"], Given.Args()), new(["bias"], Given.Args(("momentums", 1.0)))));
        Assert.Equal(["groups[0].parameters[1]"], Refused("SGD", Given.Args(), new ParamGroupSpec(["weight", "w"], Given.Args())));
        Assert.Equal(["groups[1].parameters"], Refused("SGD", Given.Args(), new(["weight"], Given.Args()), new(["*"], Given.Args())));
        Assert.Equal(["groups[1].parameters"], Refused("SGD", Given.Args(), new(["weight"], Given.Args()), new([], Given.Args())));
        Assert.Equal(["groups[1]"], Refused("LBFGS", Given.Args(), new(["weight"], Given.Args()), new(["bias"], Given.Args())));

        IEnumerable<string> Refused(string type, Dictionary<string, object?> args, params ParamGroupSpec[] groups)
        {
            var error = Assert.Throws<EngineException>(() => HostedOptimizer.Create("default", type, args, groups, tree));
            Assert.Equal(EngineError.InvalidArgument, error.Error);
            return error.Fields.Select(field => field.Field).Order(StringComparer.Ordinal);
        }
    }

    [Fact]
    public void Create_with_an_unknown_type_names_the_nearest()
    {
        using var tree = Given.Linear();
        var error = Assert.Throws<EngineException>(() => Given.Optimizer(tree, "adam"));
        Assert.Equal(EngineError.Unimplemented, error.Error);
        Assert.Contains("Adam", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Create_over_a_module_without_parameters_is_refused()
    {
        using var tree = Given.Build(Given.Spec("ReLU"));
        Assert.Contains("no parameters", Assert.Throws<EngineException>(() => Given.Optimizer(tree, "SGD")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AddParamGroup_takes_parameters_that_are_in_no_group()
    {
        using var tree = Given.TwoLayers();
        using var optimizer = HostedOptimizer.Create("default", "SGD", Given.Args(("lr", 0.5)), [new(["2.*"], Given.Args())], tree);
        optimizer.CreateScheduler("ExponentialLR", Given.Args(("gamma", 0.5)));
        optimizer.AddParamGroup(new(["0.*"], Given.Args(("lr", 0.1))));
        optimizer.SchedulerStep();
        Assert.Equal([0.25, 0.05], optimizer.Scheduler!.LastLearningRates);
        var error = Assert.Throws<EngineException>(() => optimizer.AddParamGroup(new(["2.weight"], Given.Args())));
        Assert.Equal("group.parameters", error.Fields[0].Field);
        Assert.Contains("2.weight", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void SetLearningRate_sets_one_group_or_all()
    {
        using var tree = Given.Linear();
        using var optimizer = HostedOptimizer.Create("default", "SGD", Given.Args(), [new(["weight"], Given.Args()), new(["bias"], Given.Args())], tree);
        optimizer.SetLearningRate(0.5);
        optimizer.SetLearningRate(0.1, 1);
        Assert.Equal([0.5, 0.1], optimizer.Groups.Select(group => (double)group.Options["lr"]!));
        Assert.Equal("lr", Assert.Throws<EngineException>(() => optimizer.SetLearningRate(double.NaN)).Fields[0].Field);
        Assert.Equal(EngineError.NotFound, Assert.Throws<EngineException>(() => optimizer.SetLearningRate(0.1, 2)).Error);
    }

    [Theory]
    [MemberData(nameof(Types))]
    public void Step_maximizing_equals_minimizing_the_negative(string type)
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        using var copy = ModuleCopy.DeepCopy(tree, "");
        using var up = Given.Optimizer(tree, type, ("maximize", true));
        using var down = Given.Optimizer(copy, type);
        for (var step = 0; step < 3; step++)
        {
            foreach (var (a, b) in ModuleTree.NamedParameters(tree.Root).Zip(ModuleTree.NamedParameters(copy.Root)))
            {
                a.Parameter.grad = randn(a.Parameter.shape);
                b.Parameter.grad = -a.Parameter.grad!;
            }

            up.Step();
            down.Step();
        }

        Assert.All(Copies(tree).Zip(Copies(copy)), pair => Assert.True(Same(pair.First, pair.Second)));
    }

    [Theory]
    [MemberData(nameof(Types))]
    public void Step_goes_on_after_a_conversion_with_its_state_in_the_new_dtype(string type)
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        using var wide = ModuleCopy.DeepCopy(tree, "");
        Conversions.Convert(wide.Root, new ConversionPlan(ConversionKind.Double));
        using var optimizer = Given.Optimizer(tree, type, ("lr", 0.01));
        using var reference = Given.Optimizer(wide, type, ("lr", 0.01));
        var gradients = Enumerable.Range(0, 6).Select(_ => ModuleTree.NamedParameters(tree.Root).Select(p => randn(p.Parameter.shape)).ToList()).ToList();
        for (var step = 0; step < 6; step++)
        {
            if (step == 3)
            {
                Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.Double));
                optimizer.ConvertState();
                Assert.All(optimizer.GetState().Tensors, entry => Assert.Equal(ScalarType.Float64, entry.Value.dtype));
            }

            Set(tree, gradients[step]);
            Set(wide, gradients[step]);
            optimizer.Step();
            reference.Step();
        }

        // Three steps in float32, then three in float64: as near to six in float64 as float32 is.
        Assert.All(Copies(tree).Zip(Copies(wide)), pair => TrainingFixtures.Close(pair.Second, pair.First, 1e-5, type));
    }

    [Fact]
    public void Step_in_half_precision_keeps_parameters_and_state_there()
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.BFloat16));
        using var optimizer = Given.Optimizer(tree, "Adam", ("lr", 0.1));
        Set(tree, [.. ModuleTree.NamedParameters(tree.Root).Select(p => ones(p.Parameter.shape))]);
        var before = tree.Root.Parameters[0].Parameter.clone();
        optimizer.Step();
        Assert.Equal(ScalarType.BFloat16, tree.Root.Parameters[0].Parameter.dtype);
        TrainingFixtures.Close((before - 0.1).to(ScalarType.Float64), tree.Root.Parameters[0].Parameter.to(ScalarType.Float64), 1e-2, "Adam's first step");
    }

    [Theory]
    [MemberData(nameof(Types))]
    public void Step_of_complex_parameters_is_that_of_their_parts(string type)
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        using var real = ModuleCopy.DeepCopy(tree, "");
        Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.To, ElementType.Complex64));
        using var optimizer = Given.Optimizer(tree, type);
        using var reference = Given.Optimizer(real, type);
        for (var step = 0; step < 3; step++)
        {
            foreach (var (a, b) in ModuleTree.NamedParameters(tree.Root).Zip(ModuleTree.NamedParameters(real.Root)))
            {
                b.Parameter.grad = randn(b.Parameter.shape);
                a.Parameter.grad = complex(b.Parameter.grad!, randn(b.Parameter.shape));
            }

            optimizer.Step();
            reference.Step();
        }

        Assert.All(Copies(tree).Zip(Copies(real)), pair => TrainingFixtures.Close(pair.Second, pair.First.real, 1e-6, type));
        Assert.All(optimizer.GetState().Tensors, entry => Assert.Equal(ScalarType.ComplexFloat32, entry.Value.dtype));
    }

    [Theory]
    [MemberData(nameof(Types))]
    public void LoadState_into_another_optimizer_goes_on_as_the_first_does(string type)
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        using var optimizer = Given.Optimizer(tree, type, ("lr", 0.03));
        for (var step = 0; step < 3; step++)
        {
            Set(tree, Random(tree));
            optimizer.Step();
        }

        using var copy = ModuleCopy.DeepCopy(tree, "");
        using var other = Given.Optimizer(copy, type);
        using (NewDisposeScope())
        {
            // What the caller holds goes before the next step: the optimizer has copies.
            var state = optimizer.GetState();
            other.LoadState(state with { Tensors = [.. state.Tensors.Select(entry => (entry.Key, entry.Value.clone()))] });
        }

        Assert.Equal(0.03, other.Groups[0].Options["lr"]);
        for (var step = 0; step < 3; step++)
        {
            var gradients = Random(tree);
            Set(tree, gradients);
            Set(copy, gradients);
            optimizer.Step();
            other.Step();
        }

        Assert.All(Copies(tree).Zip(Copies(copy)), pair => Assert.True(Same(pair.First, pair.Second)));
    }

    [Fact]
    public void LoadState_as_PyTorch_writes_it_takes_step_as_a_tensor_and_options_that_say_how_to_compute()
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        using var optimizer = Given.Optimizer(tree, "Adam");
        var options = Given.Args(("lr", 0.2), ("foreach", null), ("capturable", false), ("fused", null), ("initial_lr", 0.4));
        optimizer.LoadState(new OptimizerStateDict([new StateGroup([0, 1], options)],
            [("0.step", tensor(7f)), ("0.exp_avg", ones(3, 4, ScalarType.Float64)), ("0.exp_avg_sq", ones(3, 4))], new Dictionary<string, double>()));
        var state = optimizer.GetState();
        Assert.Equal(7, state.Scalars["0.step"]);
        Assert.Equal(["0.exp_avg", "0.exp_avg_sq"], state.Tensors.Select(entry => entry.Key));
        Assert.All(state.Tensors, entry => Assert.Equal(ScalarType.Float32, entry.Value.dtype));
        Assert.Equal(0.2, state.Groups[0].Options["lr"]);
        Assert.False(state.Groups[0].Options.ContainsKey("fused"));
    }

    [Fact]
    public void LoadState_that_does_not_fit_names_all_that_is_wrong_and_changes_nothing()
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        using var optimizer = Given.Optimizer(tree, "Adam", ("lr", 0.5));
        var groups = new[] { new StateGroup([0, 1], Given.Args(("lr", 0.2))) };
        var error = Assert.Throws<EngineException>(() => optimizer.LoadState(new OptimizerStateDict(
            groups,
            [("0.exp_avg", ones(3, 5)), ("0.exp_avg_sq", ones(3, 4)), ("0.momentum", ones(3, 4)), ("2.exp_avg", ones(3)), ("x", ones(1)), ("1.exp_avg", ones(3, ScalarType.ComplexFloat32))],
            new Dictionary<string, double> { ["0.step"] = -1, ["1.what"] = 1 })));
        Assert.Equal(EngineError.InvalidArgument, error.Error);
        var fields = error.Fields.Select(field => field.Field).ToList();
        foreach (var field in new[] { "state.entries[0]", "state.entries[2]", "state.entries[3]", "state.entries[4]", "state.entries[5]", "state.scalars[\"0.step\"]", "state.scalars[\"1.what\"]" })
        {
            Assert.Contains(field, fields);
        }

        Assert.Equal(0.5, optimizer.Groups[0].Options["lr"]);
        Assert.Empty(optimizer.GetState().Tensors);

        error = Assert.Throws<EngineException>(() => optimizer.LoadState(new OptimizerStateDict(groups, [("0.exp_avg", ones(3, 4))], new Dictionary<string, double> { ["0.step"] = 1 })));
        Assert.Contains("\"0.exp_avg_sq\" is missing", error.Message, StringComparison.Ordinal);
        error = Assert.Throws<EngineException>(() => optimizer.LoadState(new OptimizerStateDict([], [], new Dictionary<string, double>())));
        Assert.Equal("state.groups", error.Fields[0].Field);
        error = Assert.Throws<EngineException>(() => optimizer.LoadState(new OptimizerStateDict([new([0], Given.Args(("lr", -1.0)))], [], new Dictionary<string, double>())));
        Assert.Equal(["state.groups[0].parameters", "state.groups[0].options.lr"], error.Fields.Select(field => field.Field));
    }

    [Fact]
    public void LBFGS_steps_by_a_closure_alone_and_has_no_state_to_read()
    {
        using var tree = Given.Linear();
        using var optimizer = Given.Optimizer(tree, "LBFGS");
        Assert.Contains("TrainStep", Failed(optimizer.Step).Message, StringComparison.Ordinal);
        _ = Failed(() => optimizer.GetState());
        using var sgd = Given.Optimizer(tree, "SGD");
        _ = Failed(() => sgd.StepWithClosure(() => 0));

        static EngineException Failed(Action action)
        {
            var error = Assert.Throws<EngineException>(action);
            Assert.Equal(EngineError.FailedPrecondition, error.Error);
            return error;
        }
    }

    [Fact]
    public void LBFGS_goes_on_after_a_conversion()
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        using var optimizer = Given.Optimizer(tree, "LBFGS", ("lr", 0.5));
        var (input, target) = (rand(8, 4), rand(8, 3));
        var first = TrainingStep.Run(tree, Given.Batch(tree, input, Given.Loss("MSELoss"), target), new StepOptions(optimizer)).Loss;
        Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.Double));
        optimizer.ConvertState();
        var wide = Given.Batch(tree, input.to(ScalarType.Float64), Given.Loss("MSELoss"), target.to(ScalarType.Float64));
        _ = TrainingStep.Run(tree, wide, new StepOptions(optimizer));
        Assert.True(TrainingStep.Run(tree, wide, new StepOptions(optimizer)).Loss < first);
    }

    [Fact]
    public void Step_with_a_sparse_gradient_is_a_failed_precondition_and_changes_nothing()
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        using var optimizer = Given.Optimizer(tree, "Adam");
        Set(tree, Random(tree));
        tree.Root.Parameters[1].Parameter.grad = ones(3).to_sparse();
        var before = Copies(tree);
        var error = Assert.Throws<EngineException>(optimizer.Step);
        Assert.Equal("SPARSE_GRADIENT", error.Reason);
        Assert.Contains("\"bias\"", error.Message, StringComparison.Ordinal);
        Assert.All(before.Zip(Copies(tree)), pair => Assert.True(Same(pair.First, pair.Second)));
    }

    [Fact]
    public void StateBytes_is_what_the_state_comes_to()
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        using var optimizer = Given.Optimizer(tree, "Adam", ("amsgrad", true));
        Set(tree, Random(tree));
        optimizer.Step();
        Assert.Equal(optimizer.GetState().Tensors.Sum(entry => entry.Value.numel() * entry.Value.element_size()), optimizer.StateBytes);
    }

    [Fact]
    public void Scheduler_calls_that_cannot_be_say_what_mends_them()
    {
        using var tree = Given.Linear();
        using var optimizer = Given.Optimizer(tree, "SGD");
        Assert.Equal("NO_SCHEDULER", Assert.Throws<EngineException>(() => optimizer.SchedulerStep()).Reason);
        Assert.Equal(EngineError.Unimplemented, Assert.Throws<EngineException>(() => optimizer.CreateScheduler("LambdaLR", Given.Args())).Error);
        Assert.Equal(["args.step_size"], Refused("StepLR"));
        Assert.Equal(["args.total_steps"], Refused("OneCycleLR", ("max_lr", 0.1)));
        Assert.Equal(["args.pct_start"], Refused("OneCycleLR", ("max_lr", 0.1), ("total_steps", 10.0), ("pct_start", 0.1)));
        Assert.Equal(["args.max_lr"], Refused("OneCycleLR", ("max_lr", new List<object?> { 0.1, 0.2, 0.3 }), ("total_steps", 10.0)));
        Assert.Equal(["args.factor"], Refused("ConstantLR", ("factor", 0.0)));
        Assert.Equal(["args.factor"], Refused("ReduceLROnPlateau", ("factor", 1.0)));
        Assert.Equal(["args.schedulers"], Refused("SequentialLR", ("milestones", new List<object?>())));
        Assert.Equal(["args.schedulers[0].type"], Refused("ChainedScheduler", ("schedulers", new List<object?> { Given.Args(("type", "ReduceLROnPlateau")) })));
        Assert.Equal(["args.schedulers[0].gamma"], Refused("ChainedScheduler", ("schedulers", new List<object?> { Given.Args(("type", "ExponentialLR")) })));
        Assert.Equal(["args.milestones"], Refused("SequentialLR",
            ("schedulers", new List<object?> { Given.Args(("type", "ConstantLR")), Given.Args(("type", "ConstantLR")) }), ("milestones", new List<object?>())));

        optimizer.CreateScheduler("ReduceLROnPlateau", Given.Args());
        Assert.Equal("METRIC_REQUIRED", Assert.Throws<EngineException>(() => optimizer.SchedulerStep()).Reason);
        optimizer.CreateScheduler("StepLR", Given.Args(("step_size", 1.0)));
        Assert.Equal("metric", Assert.Throws<EngineException>(() => optimizer.SchedulerStep(1)).Fields[0].Field);
        using var adagrad = Given.Optimizer(tree, "Adagrad");
        Assert.Contains("cycle_momentum", Assert.Throws<EngineException>(() => adagrad.CreateScheduler("CyclicLR", Given.Args(("base_lr", 0.1), ("max_lr", 1.0)))).Message, StringComparison.Ordinal);

        IEnumerable<string> Refused(string type, params (string, object?)[] args) =>
            Assert.Throws<EngineException>(() => optimizer.CreateScheduler(type, Given.Args(args))).Fields.Select(field => field.Field);
    }

    [Fact]
    public void SchedulerStep_beyond_the_steps_of_OneCycleLR_is_a_failed_precondition()
    {
        using var tree = Given.Linear();
        using var optimizer = Given.Optimizer(tree, "Adam");
        optimizer.CreateScheduler("OneCycleLR", Given.Args(("max_lr", 0.1), ("total_steps", 4.0)));
        for (var step = 0; step < 4; step++)
        {
            optimizer.SchedulerStep();
        }

        Assert.Equal("SCHEDULE_ENDED", Assert.Throws<EngineException>(() => optimizer.SchedulerStep()).Reason);
        Assert.Equal(4, optimizer.Scheduler!.Steps);
    }

    private static void Learn(ModuleTree tree, HostedOptimizer optimizer) =>
        _ = TrainingStep.Run(tree, Given.Batch(tree, rand(8, 4), Given.Loss("MSELoss"), rand(8, 3)), new StepOptions(optimizer));

    private static List<Tensor> Random(ModuleTree tree) => [.. ModuleTree.NamedParameters(tree.Root).Select(p => randn(p.Parameter.shape))];

    private static void Set(ModuleTree tree, IReadOnlyList<Tensor> gradients)
    {
        foreach (var (parameter, gradient) in ModuleTree.NamedParameters(tree.Root).Zip(gradients))
        {
            parameter.Parameter.grad = gradient.to(parameter.Parameter.dtype);
        }
    }

    private static List<Tensor> Copies(ModuleTree tree) => [.. ModuleTree.NamedParameters(tree.Root).Select(p => p.Parameter.detach().clone())];

    private static bool Same(Tensor a, Tensor b) => a.equal(b).all().ToBoolean();
}
