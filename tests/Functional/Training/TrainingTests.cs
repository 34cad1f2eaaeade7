using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.Training;

/// <summary>Losses, gradients, optimizers, schedulers and random numbers, through the client.</summary>
public sealed class TrainingTests(SharedServer server) : ClientTest(server)
{
    [Fact]
    public async Task ForwardBackward_over_micro_batches_is_one_large_batch()
    {
        var whole = await NewAsync(Specs.Mlp);
        var parts = await NewAsync(Specs.Mlp);
        var x = Pattern(8, 4);
        var loss = Nn.MSELoss();
        await whole.ForwardBackwardAsync(x, Pattern(8, 3), loss);
        var y = Pattern(8, 3);
        for (var i = 0; i < 2; i++)
        {
            var part = await parts.ForwardBackwardAsync(
                TensorData.FromBytes(DataType.Float32, [4, 4], x.Bytes.Slice(i * 64, 64)), TensorData.FromBytes(DataType.Float32, [4, 3], y.Bytes.Slice(i * 48, 48)), loss, lossScale: 0.5, returnOutput: true);
            Assert.Equal([4, 3], part.Output!.Tensor.Shape);
        }

        var expected = await whole.GradientsAsync();
        var actual = await parts.GradientsAsync();
        foreach (var (name, gradient) in expected)
        {
            Assert.All(gradient.As<float>().ToArray().Zip(actual[name].As<float>().ToArray()), pair => Assert.Equal(pair.First, pair.Second, 1e-6f));
        }
    }

    [Fact]
    public async Task Step_by_step_equals_TrainStep()
    {
        var fused = await NewAsync(Specs.Mlp);
        var split = await NewAsync(Specs.Mlp);
        await fused.CreateOptimizerAsync("Adam", [("lr", 0.01)]);
        var adam = await split.CreateOptimizerAsync("Adam", [("lr", 0.01)]);
        var (x, y) = (Pattern(8, 4), Classes(8));
        var loss = Nn.CrossEntropyLoss();
        for (var i = 0; i < 5; i++)
        {
            var one = await fused.TrainStepAsync(x, y, loss, new() { Clip = new() { MaxNorm = 0.5 } });
            await split.ZeroGradAsync();
            var other = await split.ForwardBackwardAsync(x, y, loss);
            var norm = await split.ClipGradientsAsync(new() { MaxNorm = 0.5 });
            await adam.StepAsync();
            Assert.Equal(one.Loss, other.Loss);
            Assert.Equal(one.GradNorm, norm);
        }

        Assert.Equal((await fused.StateDictAsync()).Values.SelectMany(t => t.Bytes.ToArray()), (await split.StateDictAsync()).Values.SelectMany(t => t.Bytes.ToArray()));
    }

    [Fact]
    public async Task ZeroGrad_sets_to_none_or_keeps_zeros()
    {
        var model = await NewAsync(Specs.Mlp);
        await model.ForwardBackwardAsync(Pattern(8, 4), Classes(8), Nn.CrossEntropyLoss());
        Assert.Equal(4, (await model.GradientsAsync()).Count);
        await model.ZeroGradAsync(setToNone: false);
        var zeros = await model.GradientsAsync();
        Assert.Equal(4, zeros.Count);
        Assert.All(zeros.Values, gradient => Assert.All(gradient.As<float>().ToArray(), value => Assert.Equal(0, value)));
        await model.ZeroGradAsync();
        Assert.Empty(await model.GradientsAsync());
    }

    [Fact]
    public async Task Frozen_parameters_do_not_move_and_the_rest_do()
    {
        var model = await NewAsync(Specs.Conv);
        await model.SetTrainPolicyAsync(new TrainPolicy { Frozen = { "stem" } });
        await model.CreateOptimizerAsync("SGD", [("lr", 0.1), ("momentum", 0.9)]);
        var before = await model.StateDictAsync();
        await model.TrainStepAsync(Pattern(4, 1, 6, 6), Classes(4), Nn.CrossEntropyLoss());
        var after = await model.StateDictAsync();
        foreach (var (key, tensor) in before)
        {
            var same = tensor.Bytes.Span.SequenceEqual(after[key].Bytes.Span);
            Assert.True(same == key.StartsWith("stem", StringComparison.Ordinal), key);
        }
    }

    [Fact]
    public async Task Nothing_that_requires_a_gradient_is_FAILED_PRECONDITION()
    {
        var model = await NewAsync(Specs.Mlp);
        await model.RequiresGradAsync(false);
        await Assert.ThrowsAsync<SconceFailedPreconditionException>(() => model.ForwardBackwardAsync(Pattern(8, 4), Classes(8), Nn.CrossEntropyLoss()));
    }

    [Fact]
    public async Task Parameter_groups_have_their_own_learning_rates()
    {
        var model = await NewAsync(Specs.Mlp);
        var sgd = await model.CreateOptimizerAsync("SGD", [("lr", 0.1)], [new(["0.*"], [("lr", 0)])], name: "sgd");
        await sgd.AddParamGroupAsync(new(["2.*"]));
        var groups = (await sgd.GetAsync()).Groups;
        Assert.Equal([0, 0.1], groups.Select(group => group.Options.Fields["lr"].NumberValue));
        Assert.Equal(["2.weight", "2.bias"], groups[1].Parameters);

        var before = await model.StateDictAsync();
        await model.TrainStepAsync(Pattern(8, 4), Classes(8), Nn.CrossEntropyLoss(), new() { Optimizer = "sgd" });
        var after = await model.StateDictAsync();
        Assert.True(before["0.weight"].Bytes.Span.SequenceEqual(after["0.weight"].Bytes.Span));
        Assert.False(before["2.weight"].Bytes.Span.SequenceEqual(after["2.weight"].Bytes.Span));

        await sgd.SetLearningRateAsync(0.5, group: 0);
        Assert.Equal([0.5, 0.1], (await sgd.GetAsync()).Groups.Select(group => group.Options.Fields["lr"].NumberValue));
        await sgd.DeleteAsync();
        await Assert.ThrowsAsync<SconceNotFoundException>(() => sgd.GetAsync());
    }

    [Fact]
    public async Task Scheduler_steps_by_call_and_with_the_train_step()
    {
        var model = await NewAsync(Specs.Mlp);
        var sgd = await model.CreateOptimizerAsync("SGD", [("lr", 1)]);
        var described = await sgd.CreateSchedulerAsync("StepLR", [("step_size", 2), ("gamma", 0.1)]);
        Assert.Equal("StepLR", described.Scheduler.Type);
        await sgd.SchedulerStepAsync();
        for (var i = 0; i < 3; i++)
        {
            await model.TrainStepAsync(Pattern(8, 4), Classes(8), Nn.CrossEntropyLoss(), new() { SchedulerStep = true });
        }

        var scheduler = (await sgd.GetAsync()).Scheduler;
        Assert.Equal(4UL, scheduler.Steps);
        Assert.Equal(0.01, Assert.Single(scheduler.LastLr), 1e-12);
    }

    [Fact]
    public async Task Optimizer_state_of_one_loads_into_another_and_both_go_on_alike()
    {
        var a = await NewAsync(Specs.Mlp);
        var b = await NewAsync(Specs.Mlp, seed: 2);
        var adam = await a.CreateOptimizerAsync("Adam", [("lr", 0.01)]);
        var (x, y) = (Pattern(8, 4), Classes(8));
        var loss = Nn.CrossEntropyLoss();
        for (var i = 0; i < 5; i++)
        {
            await a.TrainStepAsync(x, y, loss);
        }

        var loaded = await b.CreateOptimizerAsync("Adam", [("lr", 0.5)]);
        await b.LoadStateDictAsync(await a.StateDictAsync());
        await loaded.LoadStateDictAsync(await adam.StateDictAsync());
        for (var i = 0; i < 5; i++)
        {
            Assert.Equal((await a.TrainStepAsync(x, y, loss)).Loss, (await b.TrainStepAsync(x, y, loss)).Loss);
        }
    }

    [Fact]
    public async Task LBFGS_steps_by_TrainStep_alone()
    {
        var model = await NewAsync(Specs.Mlp);
        var lbfgs = await model.CreateOptimizerAsync("LBFGS", [("lr", 0.1)]);
        var first = await model.TrainStepAsync(Pattern(8, 4), Classes(8), Nn.CrossEntropyLoss());
        var second = await model.TrainStepAsync(Pattern(8, 4), Classes(8), Nn.CrossEntropyLoss());
        Assert.True(second.Loss < first.Loss);
        await Assert.ThrowsAsync<SconceFailedPreconditionException>(() => lbfgs.StepAsync());
        await Assert.ThrowsAsync<SconceFailedPreconditionException>(() => lbfgs.StateDictAsync());
    }

    [Fact]
    public async Task Seeded_module_draws_its_own_numbers_whatever_others_draw()
    {
        var model = await NewAsync(Nn.Dropout());
        var other = await NewAsync(Nn.Dropout());
        var x = Pattern(100);
        await model.ManualSeedAsync(11);
        var expected = new[] { await DrawAsync(model), await DrawAsync(model) };
        await model.ManualSeedAsync(11);
        var first = await DrawAsync(model);
        await DrawAsync(other);
        Assert.Equal(expected, [first, await DrawAsync(model)]);

        async Task<float[]> DrawAsync(RemoteModule module) => (await module.ForwardAsync(x)).As<float>().ToArray();
    }

    [Fact]
    public async Task Every_optimizer_of_the_catalogue_reduces_the_loss()
    {
        foreach (var type in await Client.ListModuleTypesAsync(TypeKind.Optimizer))
        {
            var model = await NewAsync(Specs.Mlp);
            await model.CreateOptimizerAsync(type.Name, type.Arguments.Any(argument => argument.Name == "lr" && argument.Required) ? [("lr", 0.01)] : null);
            var first = await model.TrainStepAsync(Pattern(8, 4), Classes(8), Nn.CrossEntropyLoss());
            var last = first;
            for (var i = 0; i < 40; i++)
            {
                last = await model.TrainStepAsync(Pattern(8, 4), Classes(8), Nn.CrossEntropyLoss());
            }

            Assert.True(last.Loss < first.Loss, $"{type.Name}: {first.Loss} became {last.Loss}");
        }
    }
}
