using System.Runtime.InteropServices;
using Sconce.Engine.Hooks;
using Sconce.Engine.Tensors;
using static Sconce.Engine.Tests.Execution.Testing;
using static Sconce.Engine.Tests.Hooks.HookTesting;

namespace Sconce.Engine.Tests.Hooks;

/// <summary>Hooks reach into built-in models and modules that are lazy still as into any other.</summary>
public sealed class ModelHookTests
{
    private static readonly TensorInput Tokens =
        TensorInput.Of(new TensorPayload(ElementType.Int64, [1, 3], MemoryMarshal.AsBytes(new long[] { 1, 2, 3 }.AsSpan()).ToArray()));

    [Fact]
    public async Task Projections_and_attention_weights_of_a_gpt2_are_within_reach()
    {
        await using var host = Host();
        var module = await host.CreateEval("gpt", Of("GPT2LMHeadModel",
            ("vocab_size", 11.0), ("n_positions", 8.0), ("n_embd", 8.0), ("n_layer", 2.0), ("n_head", 2.0), ("attn_implementation", "eager")));

        using var outcome = await module.ForwardAsync(
            Call(Tokens).With(At(HookSite.Forward, HookTargetKind.Glob, "transformer.h.*.attn.c_attn", Capture), On(HookSite.ForwardPre, "transformer.h.1.attn.attn_dropout", Capture)), default);

        Assert.Equal(["transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_attn", "transformer.h.1.attn.attn_dropout"], outcome.Hooks.Captures.Select(capture => capture.Path));
        Assert.Equal([1, 3, 24], outcome.Hooks.Captures[0].Tensor!.Shape);
        var weights = outcome.Hooks.Captures[2];
        Assert.Equal([1, 2, 3, 3], weights.Tensor!.Shape);
        foreach (var row in weights.Floats().Chunk(3))
        {
            Assert.InRange(row.Sum(), 1 - 1e-5, 1 + 1e-5);
        }

        // The first step sees itself alone.
        Assert.Equal([1f, 0f, 0f], weights.Floats()[..3]);
    }

    [Fact]
    public async Task Blocks_of_a_resnet_are_found_by_their_type()
    {
        await using var host = Host();
        var module = await host.CreateEval("net", Of("resnet18", ("num_classes", 3.0)));

        using var outcome = await module.ForwardAsync(Call(Filled(1, 1, 3, 32, 32)).With(At(HookSite.Forward, HookTargetKind.Type, "BasicBlock", Capture), At(HookSite.Forward, HookTargetKind.IsInstance, "ResNet", Capture)), default);

        Assert.Equal([.. Enumerable.Range(1, 4).SelectMany(layer => new[] { $"layer{layer}.0", $"layer{layer}.1" }), ""], outcome.Hooks.Captures.Select(capture => capture.Path));
    }

    [Fact]
    public async Task A_hook_registered_on_a_lazy_module_acts_in_its_first_forward_and_after()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Sequential(Of("LazyLinear", ("out_features", 2.0))));
        await module.Register(On(HookSite.Forward, "0", new SetAction(Number(5))), Filled(1, 1, 3));
        Assert.Equal(0, module.Summary.Parameters);

        Same(await module.Forward(Filled(1, 1, 4)), 5f, 5f);
        Same(await module.Forward(Filled(1, 1, 4)), 5f, 5f);
        Assert.Equal(10, module.Summary.Parameters);
    }
}
