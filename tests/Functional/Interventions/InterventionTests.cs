using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.V1;
using Hooks = Sconce.Client.Hooks;

namespace Sconce.Functional.Interventions;

/// <summary>The interventions of docs/hooks.md, one test each. What they should give is computed by calling the submodules one by one, without hooks.</summary>
public sealed class InterventionTests(SharedServer server) : ClientTest(server)
{
    private static readonly TensorData X = Pattern(2, 4);
    private static readonly TensorData Other = TensorData.Create(Enumerable.Range(0, 8).Select(i => i - 3.5f).ToArray(), 2, 4);

    [Fact]
    public async Task Capture_inputs_and_outputs()
    {
        var model = await NetAsync();

        var y = await model.ForwardAsync(X, new() { Hooks = [Hooks.ForwardPre("b").Capture().Named("in"), Hooks.Forward("b").Capture().Named("out")] });

        var before = await RunAsync(model, X, "embed", "a", "act");
        Same(before, y.Hooks["in"]);
        Same(await RunAsync(model, before, "b"), y.Hooks["out"]);
        Same(await model.ForwardAsync(X), y);
    }

    [Fact]
    public async Task Cache_many_layers_by_glob()
    {
        var model = await NetAsync();

        var y = await model.ForwardAsync(X, new() { Hooks = [Hooks.Forward().OnGlob("*").Capture()] });
        var cache = y.Hooks.Captures.ToDictionary(seen => seen.Path, seen => seen.Tensor);

        Assert.Equal(["", "embed", "a", "act", "b", "head"], cache.Keys.OrderBy(path => Array.IndexOf(["", "embed", "a", "act", "b", "head"], path)));
        Same(await RunAsync(model, X, "embed", "a"), cache["a"]);
    }

    [Fact]
    public async Task Statistics_only()
    {
        var model = await NetAsync();

        var y = await model.ForwardAsync(X, new() { Hooks = [Hooks.Forward().OnType("Linear").Reduce([Statistic.Mean, Statistic.Max, Statistic.NanCount])] });

        var a = (await RunAsync(model, X, "embed", "a")).As<float>().ToArray();
        var seen = y.Hooks.Captures.Single(capture => capture.Path == "a");
        Assert.Equal(a.Average(value => (double)value), seen.Figure(Statistic.Mean), 1e-6);
        Assert.Equal(a.Max(), seen.Figure(Statistic.Max));
        Assert.Equal(0, seen.Figure(Statistic.NanCount));
        Assert.True(seen.Tensor.IsNone);
    }

    [Fact]
    public async Task Zero_ablation()
    {
        var model = await NetAsync();
        var y = await model.ForwardAsync(X, new() { Hooks = [Hooks.Forward("a").Set(0)] });
        Same(await RunAsync(model, TensorData.Create(new float[12], 2, 6), "act", "b", "head"), y);
    }

    [Fact]
    public async Task Mean_ablation()
    {
        var model = await NetAsync();

        // The mean over the batch of a reference run, put in place of every row of the next one.
        await model.ForwardAsync(Other, new() { Hooks = [Hooks.Forward("a").Reduce([Statistic.Mean], dims: [0], to: HookTo.Keep("a.mean"))] });
        var y = await model.ForwardAsync(X, new() { Hooks = [Hooks.Forward("a").Set(TensorData.Kept("a.mean"))] });

        var reference = (await RunAsync(model, Other, "embed", "a")).As<float>().ToArray();
        var mean = Enumerable.Range(0, 6).Select(i => (float)((reference[i] + (double)reference[6 + i]) / 2)).ToArray();
        Same(await RunAsync(model, TensorData.Create<float>([.. mean, .. mean], 2, 6), "act", "b", "head"), y);
        await Client.DropTensorAsync("a.mean");
    }

    [Fact]
    public async Task Noise_and_resampling()
    {
        var model = await NetAsync();
        var noisy = await model.ForwardAsync(X, new() { Hooks = [Hooks.Forward("embed").AddNoise(std: 0.5, seed: 1).Capture().Named("e")] });

        // Resampled: the activation of another input.
        await model.ForwardAsync(Other, new() { Hooks = [Hooks.Forward("embed").Capture(HookTo.Keep("other"))] });
        var resampled = await model.ForwardAsync(X, new() { Hooks = [Hooks.Forward("embed").Set(TensorData.Kept("other"))] });

        Same(await RunAsync(model, noisy.Hooks["e"], "a", "act", "b", "head"), noisy);
        Assert.NotEqual((await RunAsync(model, X, "embed")).As<float>().ToArray(), noisy.Hooks["e"].As<float>().ToArray());
        Same(await model.ForwardAsync(Other), resampled);
        await Client.DropTensorAsync("other");
    }

    [Fact]
    public async Task Activation_patching_across_two_runs()
    {
        var model = await NetAsync();

        // Clean run: keep one activation. Corrupted run: put its first row back, and nothing else.
        await model.ForwardAsync(X, new() { Hooks = [Hooks.Forward("a").Index(0, 0).Capture(HookTo.Keep("clean"))] });
        var patched = await model.ForwardAsync(Other, new() { Hooks = [Hooks.Forward("a").Index(0, 0).Set(TensorData.Kept("clean"))] });

        var (clean, corrupted) = (await model.ForwardAsync(X), await model.ForwardAsync(Other));
        Assert.Equal(clean.As<float>()[..3].ToArray(), patched.As<float>()[..3].ToArray(), Near);
        Assert.Equal(corrupted.As<float>()[3..].ToArray(), patched.As<float>()[3..].ToArray(), Near);
        await Client.DropTensorAsync("clean");
    }

    [Fact]
    public async Task Steering()
    {
        var model = await NetAsync();
        var direction = TensorData.Create([1f, 0, -1, 0, 2, 0]);
        var a = (await RunAsync(model, X, "embed", "a")).As<float>().ToArray();

        await using var session = await Client.OpenSessionAsync("steering");
        await model.RegisterHookAsync(Hooks.Forward("a").Add(direction, scale: 4), session: session);
        var steered = await model.ForwardAsync(X);

        var d = direction.As<float>().ToArray();
        var moved = TensorData.Create(a.Select((value, i) => value + (4 * d[i % 6])).ToArray(), 2, 6);
        Same(await RunAsync(model, moved, "act", "b", "head"), steered);
    }

    [Fact]
    public async Task Scale_clamp_and_blend()
    {
        var model = await NetAsync();
        var y = await model.ForwardAsync(X, new() { Hooks = [Hooks.Forward("b").Mul(3).Clamp(-0.5, 0.5).Lerp(1, 0.25).Capture()] });
        var b = (await RunAsync(model, X, "embed", "a", "act", "b")).As<float>().ToArray();
        var expected = b.Select(value => Math.Clamp(value * 3, -0.5f, 0.5f)).Select(value => value + (0.25f * (1 - value)));
        Assert.Equal(expected, y.Hooks["0"].As<float>().ToArray(), Near);
    }

    [Fact]
    public async Task Edit_one_head_or_position()
    {
        var attention = Nn.Module("MultiheadAttention", ("embed_dim", 6), ("num_heads", 2), ("batch_first", true));
        var spec = Nn.Graph(
            new Wiring
            {
                Inputs = { "x" },
                Steps =
                {
                    new WiringStep { Name = "h", Module = "embed", Inputs = { "x" } },
                    new WiringStep { Module = "attn", Inputs = { "h", "h", "h" }, Unpack = { "y", "" } },
                },
                Outputs = { "y" },
            },
            ("embed", Nn.Linear(4, 6)),
            ("attn", attention));
        var model = await NewAsync(spec);
        var x = Pattern(1, 3, 4);

        // The embedding seen as two heads of three: the second one, at the last position, set to zero.
        var y = await model.ForwardAsync(x, new() { Hooks = [Hooks.Forward("embed").Split(-1, 2).Index(-2, 1).Index(1, -1).Set(0), Hooks.Forward("embed").Capture().Named("edited")] });

        var expected = (await RunAsync(model, x, "embed")).As<float>().ToArray();
        Array.Clear(expected, 15, 3);
        Assert.Equal(expected, y.Hooks["edited"].As<float>().ToArray());
    }

    [Fact]
    public async Task Direction_removal()
    {
        var model = await NetAsync();
        var direction = TensorData.Create([3f, 0, 0, 4, 0, 0]);
        var y = await model.ForwardAsync(X, new() { Hooks = [Hooks.Forward("a").ProjectOut(direction).Capture()] });
        var left = y.Hooks["0"].As<float>().ToArray();
        Assert.Equal(0, (3 * left[0]) + (4 * left[3]), 1e-5);
        Assert.Equal(0, (3 * left[6]) + (4 * left[9]), 1e-5);
        Same(await RunAsync(model, y.Hooks["0"], "act", "b", "head"), y);
    }

    [Fact]
    public async Task Gradient_capture_edit_and_clip()
    {
        var model = await NetAsync();
        var loss = Nn.CrossEntropyLoss();

        var step = await model.ForwardBackwardAsync(
            X,
            Classes(2),
            loss,
            hooks:
            [
                Hooks.BackwardPre("head").Capture().Named("d_logits"),
                Hooks.Backward("b").Mul(0).Named("cut"),
                Hooks.ParamGrad("head", "weight").ClipNorm(0.01).Capture().Named("clipped"),
            ]);

        // Softmax less the one-hot target, over the batch: each row sums to zero.
        var logits = step.Hooks["d_logits"].As<float>().ToArray();
        Assert.Equal(0, logits[0] + logits[1] + logits[2], 1e-6);
        Assert.Equal(0.01, Math.Sqrt(step.Hooks["clipped"].As<float>().ToArray().Sum(value => (double)value * value)), 1e-5);
        var gradients = await model.GradientsAsync();
        Assert.All(gradients["embed.weight"].As<float>().ToArray(), value => Assert.Equal(0f, value));
        Assert.Contains(gradients["b.weight"].As<float>().ToArray(), value => value != 0);
        Assert.Equal(step.Hooks["clipped"].As<float>().ToArray(), gradients["head.weight"].As<float>().ToArray());
    }

    [Fact]
    public async Task Attribution_patching()
    {
        var model = await NetAsync();

        // How much would patching "a" change the first logit? To first order: (clean - corrupted) . gradient, from two forwards and one backward.
        var clean = await model.ForwardAsync(X, new() { Hooks = [Hooks.Forward("a").Capture().Named("a")] });
        await using var graph = await model.ForwardWithGraphAsync(Other, new()
        {
            Hooks = [Hooks.Forward("a").Capture().Named("a"), Hooks.BackwardPre("a").Capture().Named("d_a")],
        });
        var backward = await graph.BackwardAsync(TensorData.Create([1f, 0, 0, 1, 0, 0], 2, 3));
        var attribution = Enumerable.Range(0, 12).Sum(i =>
            (clean.Hooks["a"].As<float>().Span[i] - graph.Output.Hooks["a"].As<float>().Span[i]) * (double)backward.Hooks["d_a"].As<float>().Span[i]);

        // Where ReLU does not change sides the estimate is exact: a small step of the real patch has that slope.
        var a = graph.Output.Hooks["a"];
        const float Step = 1e-3f;
        var blended = await model.ForwardAsync(Other, new() { Hooks = [Hooks.Forward("a").Lerp(clean.Hooks["a"], Step)] });
        Assert.Equal(12, a.Length);
        Assert.Equal((FirstLogits(blended) - FirstLogits(graph.Output)) / Step, attribution, 0.02);

        static double FirstLogits(TensorData y) => y.As<float>().Span[0] + (double)y.As<float>().Span[3];
    }

    [Fact]
    public async Task Early_stop()
    {
        var model = await NetAsync();
        var y = await model.ForwardAsync(X, new() { Hooks = [Hooks.Forward("a").Capture().Stop().Named("a")] });
        Assert.Equal("a", y.Hooks.StoppedBy);
        Assert.True(y.Tensor.IsNone);
        Same(await RunAsync(model, X, "embed", "a"), y.Hooks["a"]);
    }

    [Fact]
    public async Task Skip_splice_and_logit_lens()
    {
        var model = await NetAsync();
        var tuned = await NewAsync(Nn.Linear(6, 6), seed: 9);

        var skipped = await model.ForwardAsync(X, new() { Hooks = [Hooks.ForwardPre("b").Skip()] });
        var spliced = await model.ForwardAsync(X, new() { Hooks = [Hooks.Forward("a").CallModule(tuned)] });
        var lens = await model.ForwardAsync(X, new() { Hooks = [Hooks.Forward("a").Capture(through: model.GetSubmodule("head")).Named("lens")] });

        var a = await RunAsync(model, X, "embed", "a");
        Same(await RunAsync(model, a, "act", "head"), skipped);
        Same(await RunAsync(model, await tuned.ForwardAsync(a), "act", "b", "head"), spliced);
        Same(await RunAsync(model, a, "head"), lens.Hooks["lens"]);
        Same(await model.ForwardAsync(X), lens);
    }

    private static readonly IEqualityComparer<float> Near = EqualityComparer<float>.Create((a, b) => Math.Abs(a - b) <= 1e-5f * (1 + Math.Abs(a)), _ => 0);

    private static void Same(TensorData expected, TensorData actual)
    {
        Assert.Equal(expected.Shape, actual.Shape);
        Assert.Equal(expected.As<float>().ToArray(), actual.As<float>().ToArray(), Near);
    }

    private static async Task<TensorData> RunAsync(RemoteModule model, TensorData x, params string[] modules)
    {
        foreach (var module in modules)
        {
            x = await model.GetSubmodule(module).ForwardAsync(x);
        }

        return x;
    }

    private async Task<RemoteModule> NetAsync()
    {
        var model = await NewAsync(Nn.Sequential(("embed", Nn.Linear(4, 6)), ("a", Nn.Linear(6, 6)), ("act", Nn.ReLU()), ("b", Nn.Linear(6, 6)), ("head", Nn.Linear(6, 3))));
        await model.EvalAsync();
        return model;
    }
}
