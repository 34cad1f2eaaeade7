using System.Runtime.InteropServices;
using System.Text.Json;
using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Snapshots;
using Sconce.Engine.Tensors;
using Sconce.Engine.Tests.Execution;
using Sconce.Engine.Tests.Training;
using Sconce.Engine.Training;
using static Sconce.Engine.Tests.Execution.Testing;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Snapshots;

/// <summary>Training goes on from a snapshot as if it had never stopped, bit for bit. One module here draws from the process's generator, so no other test may run beside.</summary>
[Collection<ProcessWideCollection>]
public sealed class ResumeTests
{
    public static TheoryData<int, string> Optimizers => TrainingFixtures.Rows("optimizers");

    public static TheoryData<int, string> Lbfgs => TrainingFixtures.Rows("lbfgs");

    public static TheoryData<int, string> Schedulers => TrainingFixtures.Rows("schedulers");

    [Theory]
    [InlineData(3)]
    [InlineData(null)]
    public async Task The_next_hundred_losses_of_Adam_a_scheduler_and_dropout_are_the_same(int? seed)
    {
        await using var host = Host(options => options.Lanes = 3);
        var net = Sequential(Linear(6, 16), Of("BatchNorm1d", ("num_features", 16.0)), Of("ReLU"), Of("Dropout", ("p", 0.4)), Linear(16, 3));
        var module = await host.CreateModuleAsync("m", net, 11, ElementType.Float32, default);
        if (seed is null)
        {
            // One without a stream of its own draws from the process's, and the copy goes on from there.
            module = await host.CopyModuleAsync("m", "", "n", null, default);
        }

        await module.CreateOptimizerAsync("", "Adam", Given.Args(("lr", 0.05), ("amsgrad", true)), [new(["0.*"], Given.Args()), new(["1.*", "4.*"], Given.Args(("weight_decay", 0.1)))], null, default);
        await module.CreateSchedulerAsync("", "OneCycleLR", Given.Args(("max_lr", 0.1), ("total_steps", 200.0)), null, default);
        for (var i = 0; i < 37; i++)
        {
            (await module.TrainStepAsync(Step(i), default)).Dispose();
        }

        // In the middle of an accumulation too.
        (await module.ForwardBackwardAsync(new ForwardBackwardCall { Inputs = Step(50).Inputs, Loss = Step(50).Loss, Targets = Step(50).Targets }, default)).Dispose();
        using var image = await module.Capture();
        var expected = await Losses(module);

        // Beside another that draws all the while.
        using var enough = new CancellationTokenSource();
        var other = await host.CreateModuleAsync("other", net, seed is null ? 5 : null, ElementType.Float32, default);
        await other.CreateOptimizerAsync("", "SGD", Given.Args(("lr", 0.01)), [], null, default);
        var beside = Task.Run(async () =>
        {
            for (var i = 0; !enough.IsCancellationRequested; i++)
            {
                (await other.TrainStepAsync(Step(i, schedule: false), default)).Dispose();
            }
        }, default);
        var back = await host.Restore("back", image);
        Assert.Equal(expected, await Losses(back));
        await enough.CancelAsync();
        await beside.WaitAsync(Limit);

        static async Task<List<double>> Losses(HostedModule module)
        {
            var losses = new List<double>();
            for (var i = 37; i < 137; i++)
            {
                using var step = await module.TrainStepAsync(Step(i, zeroGrad: i > 37), default).WaitAsync(Limit);
                losses.Add(step.Loss);
            }

            return losses;
        }
    }

    [Theory]
    [MemberData(nameof(Optimizers))]
    public void Every_optimizer_steps_on_the_same(int index, string label)
    {
        using var scope = NewDisposeScope();
        var fixture = TrainingFixtures.Load("optimizers")[index];
        var gradients = fixture.GetProperty("gradients").EnumerateArray().ToList();
        using var tree = Given.Linear();
        using var optimizer = HostedOptimizer.Create("default", fixture.GetProperty("type").GetString()!, TrainingFixtures.Args(fixture.GetProperty("args")), [], tree);
        for (var i = 0; i < 3; i++)
        {
            Step(tree, optimizer, i);
        }

        var (memory, tensors) = optimizer.Remember(Names(tree));
        using var copy = ModuleCopy.DeepCopy(tree, "");
        using var restored = HostedOptimizer.Restore(Through(memory), [.. tensors.Select(entry => (entry.Key, entry.Value.clone()))], copy);
        for (var i = 3; i < 6; i++)
        {
            Step(tree, optimizer, i);
            Step(copy, restored, i);
        }

        Assert.Equal(Values(tree), Values(copy));
        Assert.Equal(6, restored.Steps);
        Assert.NotEmpty(label);

        static void Step(ModuleTree tree, HostedOptimizer optimizer, int i)
        {
            foreach (var (_, parameter) in ModuleTree.NamedParameters(tree.Root))
            {
                parameter.grad = parameter.detach().mul(0.3).add(0.1 * i);
            }

            optimizer.Step();
        }
    }

    [Theory]
    [MemberData(nameof(Lbfgs))]
    public void Lbfgs_steps_on_the_same(int index, string label)
    {
        var fixture = TrainingFixtures.Load("lbfgs")[index];
        using var tree = Given.Linear();
        using var optimizer = HostedOptimizer.Create("default", "LBFGS", TrainingFixtures.Args(fixture.GetProperty("args")), [], tree);
        var losses = Enumerable.Range(0, 3).Select(_ => optimizer.StepWithClosure(() => Loss(tree))).ToList();
        var (memory, tensors) = optimizer.Remember(Names(tree));
        using var copy = ModuleCopy.DeepCopy(tree, "");
        using var restored = HostedOptimizer.Restore(Through(memory), tensors, copy);
        for (var i = 0; i < 3; i++)
        {
            Assert.Equal(optimizer.StepWithClosure(() => Loss(tree)), restored.StepWithClosure(() => Loss(copy)));
        }

        Assert.Equal(Values(tree), Values(copy));
        Assert.True(losses[0] > losses[^1], label);

        static double Loss(ModuleTree tree)
        {
            using var scope = NewDisposeScope();
            using var recording = enable_grad();
            foreach (var (_, parameter) in ModuleTree.NamedParameters(tree.Root))
            {
                parameter.grad = null;
            }

            var loss = ModuleTree.NamedParameters(tree.Root).Select(named => named.Parameter.sub(0.7).pow(4).sum()).Aggregate((a, b) => a.add(b));
            loss.backward();
            return loss.item<float>();
        }
    }

    [Theory]
    [MemberData(nameof(Schedulers))]
    public void Every_scheduler_goes_on_the_same(int index, string label)
    {
        var fixture = TrainingFixtures.Load("schedulers")[index];
        using var tree = Given.Linear();
        using var optimizer = HostedOptimizer.Create(
            "default", "SGD", Given.Args(("lr", 0.1), ("momentum", 0.9)), [new(["weight"], Given.Args()), new(["bias"], Given.Args(("lr", 0.01)))], tree);
        optimizer.CreateScheduler(fixture.GetProperty("type").GetString()!, TrainingFixtures.Args(fixture.GetProperty("args")));
        var metrics = fixture.GetProperty("metrics");
        var steps = fixture.GetProperty("rates").GetArrayLength() - 1;
        for (var i = 0; i < steps; i++)
        {
            // At every place where it could have stopped.
            using var restored = HostedOptimizer.Restore(Through(optimizer.Remember(Names(tree)).Memory), [], tree);
            Assert.Equal(Json(optimizer), Json(restored));
            Advance(optimizer, i);
            Advance(restored, i);
            Assert.Equal(Json(optimizer), Json(restored));
        }

        Assert.NotEmpty(label);

        void Advance(HostedOptimizer one, int i) => one.SchedulerStep(metrics.ValueKind == JsonValueKind.Array ? metrics[i].GetDouble() : null);

        string Json(HostedOptimizer one) => JsonSerializer.Serialize(one.Groups) + JsonSerializer.Serialize(one.Remember(Names(tree)).Memory.Scheduler, Lenient);
    }

    [Fact]
    public void A_group_that_was_added_after_the_scheduler_still_keeps_its_rate()
    {
        using var tree = Given.Linear();
        using var optimizer = HostedOptimizer.Create("default", "SGD", Given.Args(("lr", 0.1), ("momentum", 0.5)), [new(["weight"], Given.Args())], tree);
        optimizer.CreateScheduler("CyclicLR", Given.Args(("base_lr", 0.1), ("max_lr", 0.5), ("step_size_up", 4.0)));
        optimizer.AddParamGroup(new(["bias"], Given.Args(("lr", 0.03))));
        optimizer.SchedulerStep();
        using var restored = HostedOptimizer.Restore(Through(optimizer.Remember(Names(tree)).Memory), [], tree);
        optimizer.SchedulerStep();
        restored.SchedulerStep();
        Assert.Equal(optimizer.Scheduler!.LastLearningRates, restored.Scheduler!.LastLearningRates);
        Assert.Equal(0.03, restored.Scheduler.LastLearningRates[1]);
    }

    [Theory]
    [InlineData("CosineAnnealingLR", "T_max", 4.0, "eta_min", -0.05)]
    [InlineData("StepLR", "step_size", 1.0, "gamma", -0.5)]
    [InlineData("StepLR", "step_size", 1.0, "gamma", 1e200)]
    public void A_rate_that_a_schedule_took_where_no_caller_could_set_it_comes_back(string type, string first, double one, string second, double other)
    {
        using var tree = Given.Linear();
        using var optimizer = HostedOptimizer.Create("default", "Adam", Given.Args(("lr", 0.1)), [], tree);
        optimizer.CreateScheduler(type, Given.Args((first, one), (second, other)));
        for (var i = 0; i < 3; i++)
        {
            optimizer.SchedulerStep();
        }

        Assert.True(optimizer.Scheduler!.LastLearningRates[0] is < 0 or double.PositiveInfinity);

        // One that is made now begins at that rate.
        optimizer.CreateScheduler("ExponentialLR", Given.Args(("gamma", 0.5)));
        using var restored = HostedOptimizer.Restore(Through(optimizer.Remember(Names(tree)).Memory), [], tree);
        optimizer.SchedulerStep();
        restored.SchedulerStep();
        Assert.Equal(optimizer.Scheduler!.LastLearningRates, restored.Scheduler!.LastLearningRates);
        Assert.Equal(optimizer.Groups[0].Options["initial_lr"], restored.Groups[0].Options["initial_lr"]);
    }

    private static readonly JsonSerializerOptions Lenient = new() { NumberHandling = System.Text.Json.Serialization.JsonNumberHandling.AllowNamedFloatingPointLiterals };

    private static Dictionary<TorchSharp.Modules.Parameter, string> Names(ModuleTree tree)
    {
        var names = new Dictionary<TorchSharp.Modules.Parameter, string>(ReferenceEqualityComparer.Instance);
        foreach (var (name, parameter) in ModuleTree.NamedParameters(tree.Root))
        {
            names[parameter] = name;
        }

        return names;
    }

    private static OptimizerMemory Through(OptimizerMemory memory)
    {
        var facts = new ModuleFacts
        {
            Created = default,
            Generation = 1,
            FloatType = ElementType.Float32,
            Spec = Linear(1, 1),
            Eval = [],
            NoGrad = [],
            TrainPolicy = new TrainPolicy(false, []),
            MemoryFormats = new Dictionary<string, MemoryFormat>(),
            Complex128 = [],
            Optimizers = [memory],
            Hooks = [],
            Steps = 0,
        };
        return Assert.Single(Images.Through(facts).Optimizers);
    }

    private static List<string> Values(ModuleTree tree) => [.. ModuleTree.NamedParameters(tree.Root).Select(named => Convert.ToHexString(named.Parameter.detach().bytes))];

    private static TrainStepCall Step(int i, bool zeroGrad = true, bool schedule = true)
    {
        var random = new Random(i);
        return new()
        {
            Inputs = new CallInputs([Floats([8, 6], [.. Enumerable.Range(0, 48).Select(_ => random.NextSingle())])]),
            Loss = new LossSpec("CrossEntropyLoss", Given.Args()),
            Targets = [TensorInput.Of(new TensorPayload(ElementType.Int64, [8], MemoryMarshal.AsBytes<long>([.. Enumerable.Range(0, 8).Select(_ => (long)random.Next(3))]).ToArray()))],
            ZeroGrad = zeroGrad,
            SchedulerStep = schedule,
        };
    }
}
