using Sconce.Engine.Catalog;
using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static Sconce.Engine.Tests.Execution.Testing;

namespace Sconce.Engine.Tests.Execution;

public sealed class StateTests
{
    [Fact]
    public async Task State_read_from_one_module_and_loaded_into_another_makes_them_equal()
    {
        await using var host = Host();
        var a = await host.CreateEval("a", Mlp());
        var b = await host.CreateEval("b", Mlp());
        var idle = host.Ledger.UsedBytes;
        using (var state = await a.GetStateAsync("", [], default))
        {
            Assert.Equal(["0.weight", "0.bias", "2.weight", "2.bias"], state.Entries.Select(entry => entry.Key));
            Assert.Equal(a.Summary.Bytes, state.TotalBytes);
            Assert.Equal(state.TotalBytes, host.Ledger.Used(MemoryUse.State));
            using var upload = host.ReserveState(state.Entries, "header.entries");
            for (var i = 0; i < state.Entries.Count; i++)
            {
                // In pieces, as a stream brings them.
                for (long at = 0; at < state.ByteLength(i); at += 8)
                {
                    upload.Write(i, at, state.Read(i, at, (int)Math.Min(8, state.ByteLength(i) - at)).Span);
                }
            }

            var outcome = await b.LoadStateAsync(default, upload, true, default);
            Assert.Equal(2UL, outcome.Generation);
        }

        var input = Floats([1, 4], 1, 2, 3, 4);
        var (fromA, fromB) = (await a.Forward(input), await b.Forward(input));
        Assert.Equal(fromA, fromB);
        Assert.Equal(idle, host.Ledger.UsedBytes);
    }

    [Fact]
    public async Task A_snapshot_stays_as_it_was_when_the_module_changes_or_goes()
    {
        await using var host = Host();
        var module = await host.Create("m", Linear(2, 1));
        using var state = await module.GetStateAsync("", ["w*"], default);
        var before = state.Read(0, 0, 8).ToArray();
        await module.ApplyAsync(default, new ApplyPlan("zeros_"), null, default);
        await host.DeleteModuleAsync("m", null, default);
        Assert.Equal(before, state.Read(0, 0, 8).ToArray());
        Assert.Equal("weight", Assert.Single(state.Entries).Key);
        Assert.Equal(1UL, state.Generation);
    }

    [Fact]
    public async Task A_load_that_does_not_fit_names_everything_and_changes_nothing()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Linear(2, 1));
        var input = Floats([1, 2], 1, 2);
        var before = await module.Forward(input);
        using var upload = host.ReserveState([new("weight", ElementType.Float32, [1, 3]), new("extra", ElementType.Float32, [1])], "header.entries");
        upload.Write(0, 0, new byte[12]);
        upload.Write(1, 0, new byte[4]);
        var error = await module.LoadStateAsync(default, upload, true, default).Fails(EngineError.InvalidArgument, "weight", "[1, 3]", "extra", "bias");
        Assert.Equal(["header.entries[0]", "header.entries[1]", "header.entries"], error.Fields.Select(field => field.Field));
        var after = await module.Forward(input);
        Assert.Equal(before, after);
        Assert.Equal(1UL, module.Summary.Generation);
    }

    [Fact]
    public async Task An_upload_is_checked_before_anything_is_taken()
    {
        await using var host = Host();
        var malformed = Fails(() => host.ReserveState([new("a", ElementType.Float32, [2, -1])], "header.entries"), EngineError.InvalidArgument, "is -1");
        Assert.Equal("header.entries[0].shape[1]", Assert.Single(malformed.Fields).Field);
        Fails(() => host.ReserveState([new("a", ElementType.Float32, [1]), new("a", ElementType.Float32, [1])], "e"), EngineError.InvalidArgument, "\"a\"", "twice");
        Fails(() => host.ReserveState([new("a", ElementType.None, [1])], "e"), EngineError.InvalidArgument, "e[0].dtype");
        Fails(() => host.ReserveState([new("a", ElementType.Float64, [1L << 40])], "e"), EngineError.ResourceExhausted, "memory_budget_bytes");
        Assert.Equal(0, host.Ledger.UsedBytes);

        var module = await host.Create("m", Linear(1, 1));
        using var upload = host.ReserveState([new("weight", ElementType.Float32, [1, 1])], "e");
        Assert.Throws<ArgumentOutOfRangeException>(() => upload.Write(0, 1, new byte[4]));
        Assert.Throws<ArgumentOutOfRangeException>(() => upload.Write(0, -1, new byte[1]));
        upload.Write(0, 0, new byte[3]);
        await module.LoadStateAsync(default, upload, false, default).Fails(EngineError.InvalidArgument, "4 bytes, of which 3");
    }

    [Fact]
    public async Task An_upload_given_up_while_it_is_used_lives_until_the_use_has_ended()
    {
        await using var host = Host();
        var upload = host.ReserveState([new("weight", ElementType.Float32, [2])], "e");
        upload.Write(0, 0, Payload([2], 3, 4).Data.Span);
        var sum = upload.Use(entries =>
        {
            upload.Dispose();
            Assert.Equal(8, host.Ledger.UsedBytes);
            using var total = entries[0].Value.sum();
            return total.item<float>();
        });
        Assert.Equal(7, sum);
        Assert.Equal(0, host.Ledger.UsedBytes);
        Assert.Throws<ObjectDisposedException>(() => upload.Use(entries => entries.Count));
    }

    [Fact]
    public async Task A_state_that_does_not_fit_the_budget_is_not_copied()
    {
        await using var host = Host(options => options.MemoryBudgetBytes = 1000);
        var module = await host.Create("m", Linear(150, 1));
        var used = host.Ledger.UsedBytes;
        await module.GetStateAsync("", [], default).Fails(EngineError.ResourceExhausted, "state of module \"m\"");
        Assert.Equal(used, host.Ledger.UsedBytes);
    }

    [Theory]
    [InlineData(ElementType.Float64, ElementType.UInt8, 80_000 + 10_000, 80_000)]
    [InlineData(ElementType.Float32, ElementType.Float32, 40_000 + 40_000, 0)]
    [InlineData(ElementType.BFloat16, ElementType.Float64, 20_000 + 80_000, 20_000)]
    public async Task A_load_takes_the_room_of_the_copies_that_it_makes(ElementType module, ElementType given, long used, long copies)
    {
        var spec = Of("Linear", ("in_features", 100.0), ("out_features", 100.0), ("bias", false));
        foreach (var fits in new[] { true, false })
        {
            await using var host = Host(options => options.MemoryBudgetBytes = used + copies - (fits ? 0 : 1));
            if (copies == 0 && !fits)
            {
                continue;
            }

            var target = await host.CreateModuleAsync("m", spec, null, module, default);
            using var upload = host.ReserveState([new StateEntryInfo("weight", given, [100, 100])], "e");
            upload.Write(0, 0, new byte[100 * 100 * given.Size()]);
            Assert.Equal(used, host.Ledger.UsedBytes);

            var load = target.LoadStateAsync(default, upload, strict: true, default);
            if (fits)
            {
                await load;
            }
            else
            {
                Assert.Equal(copies, (await load.Fails(EngineError.ResourceExhausted, "a load into module \"m\"")).Quota!.Asked);
                Assert.Equal(1UL, target.Summary.Generation);
            }

            Assert.Equal(used, host.Ledger.UsedBytes);
        }
    }

    [Fact]
    public async Task A_shared_module_is_listed_twice_and_copied_once()
    {
        await using var host = Host();
        var module = await host.Create("m", new ModuleSpec("Sequential")
        {
            Children = [new("a", Linear(2, 2)), new("b", null, "a")],
        });
        using var state = await module.GetStateAsync("", [], default);
        Assert.Equal(["a.weight", "a.bias", "b.weight", "b.bias"], state.Entries.Select(entry => entry.Key));
        Assert.Equal(48, state.TotalBytes);
        Assert.Equal(24, host.Ledger.Used(MemoryUse.State));
    }
}
