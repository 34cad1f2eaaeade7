using System.IO.Hashing;
using Sconce.Client;
using Sconce.Functional.Harness;

namespace Sconce.Functional.Weights;

/// <summary>State dicts out and in.</summary>
public sealed class StateTests(SharedServer server) : ClientTest(server)
{
    [Fact]
    public async Task StateDict_loads_into_a_second_module_and_outputs_are_equal()
    {
        var a = await NewAsync(Specs.Conv, seed: 1);
        var b = await NewAsync(Specs.Conv, seed: 2);
        await a.ForwardAsync(Pattern(4, 1, 6, 6)); // moves the running statistics
        var state = await a.StateDictAsync();
        Assert.Equal(
            ["stem.conv.weight", "stem.conv.bias", "stem.bn.weight", "stem.bn.bias", "stem.bn.running_mean", "stem.bn.running_var", "stem.bn.num_batches_tracked", "head.weight", "head.bias"],
            state.Keys);
        await b.LoadStateDictAsync(state);
        await a.EvalAsync();
        await b.EvalAsync();
        Assert.Equal((await a.ForwardAsync(Pattern(2, 1, 6, 6))).As<float>().ToArray(), (await b.ForwardAsync(Pattern(2, 1, 6, 6))).As<float>().ToArray());
    }

    [Fact]
    public async Task StateDict_of_a_submodule_and_of_chosen_keys()
    {
        var model = await NewAsync(Specs.Conv);
        Assert.Equal(["weight", "bias"], (await model.GetSubmodule("head").StateDictAsync()).Keys);
        Assert.Equal(["stem.conv.bias", "stem.bn.bias", "head.bias"], (await model.StateDictAsync(["*.bias"])).Keys);
    }

    [Fact]
    public async Task LoadStateDict_not_strict_reports_both_lists_and_loads_the_rest()
    {
        var model = await NewAsync(Specs.Mlp);
        var state = await model.StateDictAsync(["0.*"]);
        state.Add("extra", TensorData.Create([1f]));
        state["0.bias"] = TensorData.Create(Enumerable.Repeat(7f, 8).ToArray());
        await Assert.ThrowsAsync<SconceInvalidArgumentException>(() => model.LoadStateDictAsync(state));
        var outcome = await model.LoadStateDictAsync(state, strict: false);
        Assert.Equal(["2.weight", "2.bias"], outcome.MissingKeys);
        Assert.Equal(["extra"], outcome.UnexpectedKeys);
        Assert.All((await model.StateDictAsync())["0.bias"].As<float>().ToArray(), value => Assert.Equal(7, value));
    }

    [Fact]
    public async Task LoadStateDict_converts_to_the_dtype_of_the_parameter()
    {
        var model = await NewAsync(Specs.Linear);
        await model.DoubleAsync();
        await model.LoadStateDictAsync(new StateDict
        {
            ["weight"] = TensorData.Create(Enumerable.Repeat((Half)0.5, 12).ToArray(), 3, 4),
            ["bias"] = TensorData.Create([1f, 2f, 3f]),
        });
        var state = await model.StateDictAsync();
        Assert.All(state["weight"].As<double>().ToArray(), value => Assert.Equal(0.5, value));
        Assert.Equal([1.0, 2.0, 3.0], state["bias"].As<double>().ToArray());
    }

    [Fact]
    public async Task GetStateDict_chunks_are_in_order_of_the_asked_size_and_the_digest_is_right()
    {
        var module = await CreateAsync(Specs.Slow(1, 256));
        var parts = await Streams.DrainAsync(Stubs.State.GetStateDict(new() { Module = module, ChunkBytes = 10_000 }));
        Assert.NotNull(parts[0].Manifest);
        Assert.Equal(256UL * 257 * 4, parts[0].Manifest.TotalBytes);
        var hash = new XxHash3();
        var next = (Entry: 0U, Offset: 0UL);
        foreach (var chunk in parts.Skip(1).SkipLast(1).Select(part => part.Chunk))
        {
            Assert.InRange(chunk.Data.Length, 1, 10_000);
            if (chunk.Entry != next.Entry)
            {
                next = (next.Entry + 1, 0);
            }

            Assert.Equal(next, (chunk.Entry, chunk.Offset));
            next.Offset += (ulong)chunk.Data.Length;
            hash.Append(chunk.Data.Span);
        }

        Assert.Equal(hash.GetCurrentHashAsUInt64(), parts[^1].End.Xxh3);
    }

    [Fact]
    public async Task StateDict_is_one_generation_while_the_module_trains()
    {
        // Every step adds the same to every element of a bias of ones: a torn copy would hold two values.
        var module = await NewAsync(Nn.Linear(1, 4096));
        await module.ApplyAsync("zeros_");
        await module.CreateOptimizerAsync("SGD", [("lr", 1)]);
        using var stop = new CancellationTokenSource();
        var training = Task.Run(async () =>
        {
            while (!stop.IsCancellationRequested)
            {
                await module.TrainStepAsync(TensorData.Create([0f], 1, 1), TensorData.Create(Enumerable.Repeat(1f, 4096).ToArray(), 1, 4096), Nn.MSELoss(("reduction", "sum")), new() { Clip = new() { ClipValue = 0.001 } });
            }
        });
        try
        {
            for (var i = 0; i < 50; i++)
            {
                var bias = (await module.StateDictAsync())["bias"].As<float>().ToArray();
                Assert.All(bias, value => Assert.Equal(bias[0], value));
            }
        }
        finally
        {
            await stop.CancelAsync();
            await training;
        }
    }

    [Fact]
    public async Task LoadStateDict_while_forwards_run_gives_no_torn_output()
    {
        var module = await NewAsync(Nn.Linear(64, 64));
        await module.EvalAsync();
        var zeros = Constant(0);
        var ones = Constant(1);
        await module.LoadStateDictAsync(zeros);
        using var stop = new CancellationTokenSource();
        var x = TensorData.Create(Enumerable.Repeat(1f, 64).ToArray(), 1, 64);
        var forwards = Enumerable.Range(0, 4).Select(_ => Task.Run(async () =>
        {
            while (!stop.IsCancellationRequested)
            {
                var y = (await module.ForwardAsync(x)).As<float>().ToArray();
                Assert.All(y, value => Assert.True(value == y[0] && value is 0 or 65, $"{value}"));
            }
        })).ToArray();
        for (var i = 0; i < 100; i++)
        {
            await module.LoadStateDictAsync(i % 2 == 0 ? ones : zeros);
        }

        await stop.CancelAsync();
        await Task.WhenAll(forwards);

        static StateDict Constant(float value) => new()
        {
            ["weight"] = TensorData.Create(Enumerable.Repeat(value, 4096).ToArray(), 64, 64),
            ["bias"] = TensorData.Create(Enumerable.Repeat(value, 64).ToArray()),
        };
    }
}
