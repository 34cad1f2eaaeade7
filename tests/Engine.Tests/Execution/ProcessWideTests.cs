using Sconce.Engine.Tensors;
using static Sconce.Engine.Tests.Execution.Testing;

namespace Sconce.Engine.Tests.Execution;

[CollectionDefinition(DisableParallelization = true)]
public sealed class ProcessWideCollection;

/// <summary>What belongs to the process: no other test may run beside these.</summary>
[Collection<ProcessWideCollection>]
public sealed class ProcessWideTests
{
    [Fact]
    public async Task A_seed_makes_the_same_module_and_the_same_dropout_again_whatever_others_draw()
    {
        await using var host = Host();
        var spec = Sequential(Linear(4, 16), Of("Dropout", ("p", 0.5)), Linear(16, 4));
        var a = await host.CreateModuleAsync("a", spec, 7, ElementType.None, default);
        var b = await host.CreateModuleAsync("b", spec, 7, ElementType.None, default);
        var input = Filled(1, 8, 4);
        var first = new List<float[]>();
        for (var i = 0; i < 3; i++)
        {
            first.Add(await a.Forward(input));
            await host.Create($"noise{i}", Mlp());
        }

        foreach (var expected in first)
        {
            var actual = await b.Forward(input);
            Assert.Equal(expected, actual);
        }

        Assert.NotEqual(first[0], first[1]);
        await host.ManualSeedAsync("a", 7, default);
        await host.ManualSeedAsync("b", 7, default);
        var (fromA, fromB) = (await a.Forward(input), await b.Forward(input));
        Assert.Equal(fromA, fromB);
        await host.ManualSeedAsync("c", 7, default).Fails(EngineError.NotFound);
    }

    [Fact]
    public async Task A_seed_of_the_process_makes_the_same_module_again()
    {
        await using var host = Host();
        await host.ManualSeedAsync(null, 3, default);
        var a = await host.Create("a", Mlp());
        await host.ManualSeedAsync("", 3, default);
        var b = await host.Create("b", Mlp());
        var (fromA, fromB) = (await a.Forward(Filled(1, 1, 4)), await b.Forward(Filled(1, 1, 4)));
        Assert.Equal(fromA, fromB);
    }

    [Fact]
    public void Shared_memory_is_unpinned_when_the_last_tensor_over_it_goes()
    {
        var before = NativeTensors.PinnedCount;
        var memory = new byte[NativeTensors.ShareFrom];
        var payload = new TensorPayload(ElementType.UInt8, [memory.Length], memory);
        var first = TensorImport.Import(payload, new FieldPath("", "a"));
        var second = TensorImport.Import(payload, new FieldPath("", "b"));
        var view = first.slice(0, 10, 20, 1);
        memory[10] = 7;
        using (var element = view[0])
        {
            Assert.Equal(7, element.item<byte>());
        }

        Assert.Equal(before + 2, NativeTensors.PinnedCount);

        first.Dispose();
        second.Dispose();
        Assert.Equal(before + 1, NativeTensors.PinnedCount);
        view.Dispose();
        Assert.Equal(before, NativeTensors.PinnedCount);
    }
}
