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
