using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Sconce.Engine.Execution;
using Sconce.Engine.Regions;
using Sconce.Engine.Tests.Execution;
using Sconce.Engine.Tests.Weights.Safetensors;
using Sconce.Engine.Weights;

namespace Sconce.Engine.Tests.Regions;

/// <summary>Memory that callers have too: what they can do to it, what it costs, and when it comes back.</summary>
public sealed partial class SharedRegionTests : IAsyncLifetime
{
    private static readonly int Page = Environment.SystemPageSize;

    private EngineHost _host = null!;

    public ValueTask InitializeAsync()
    {
        _host = Testing.Host(options =>
        {
            options.OffersSharedRegions = true;
            (options.MaxSharedRegions, options.MaxSharedRegionBytes, options.SharedRegionBudgetBytes) = (3, 64 * Page, 100 * Page);
        });
        return default;
    }

    public async ValueTask DisposeAsync() => await _host.DisposeAsync();

    [Fact]
    public void Nobody_who_has_the_memory_can_change_its_size_or_its_seals()
    {
        using var region = _host.SharedRegions.Rent(5000);

        Assert.Equal((5000L, 5000L), (region.Bytes, RandomAccess.GetLength(region.File)));
        Assert.Equal(SealSeal | SealShrink | SealGrow, fcntl(region.File, GetSeals, 0));
        foreach (var file in (SafeFileHandle[])[region.File, Again(region.File)])
        {
            Assert.Throws<UnauthorizedAccessException>(() => RandomAccess.SetLength(file, 4999));
            Assert.Throws<UnauthorizedAccessException>(() => RandomAccess.SetLength(file, 5001));
            Assert.NotEqual(0, fcntl(file, AddSeals, SealWrite));
            RandomAccess.Write(file, [1, 2, 3], 4997);
        }

        // All pages are there from the first on: to touch one cannot fail.
        Assert.Equal((5000 + Page - 1) / Page * Page / 512, Blocks(region.File));
    }

    [Fact]
    public void Memory_is_charged_in_pages_and_comes_back_though_a_caller_keeps_its_handle()
    {
        var region = _host.SharedRegions.Rent((ulong)(Page + 1));
        using var kept = Again(region.File);
        RandomAccess.Write(kept, "secret"u8, 0);
        Assert.Equal((1, 2L * Page, 2L * Page), (_host.SharedRegions.Count, _host.Ledger.Used(MemoryUse.SharedRegions), _host.Ledger.UsedBytes));

        region.Dispose();
        region.Dispose();

        Assert.Equal((0, 0L, 0L), (_host.SharedRegions.Count, _host.Ledger.Used(MemoryUse.SharedRegions), Blocks(kept)));
        var bytes = new byte[6];
        RandomAccess.Read(kept, bytes, 0);
        Assert.Equal(new byte[6], bytes);
    }

    [Fact]
    public void What_is_read_lasts_until_it_has_been_read()
    {
        var region = _host.SharedRegions.Rent(10);
        RandomAccess.Write(region.File, "0123456789"u8, 0);
        var content = region.TryRead(4)!;

        region.Dispose();

        Assert.Null(region.TryRead(4));
        Assert.Throws<EngineException>(() => _host.SharedRegions.Open(new SharedStateRef(region.Id)));
        var bytes = new byte[10];
        Assert.Equal((4L, 2), (content.Length, content.Fill(bytes, 2)));
        Assert.Equal("23"u8, bytes.AsSpan(0, 2));
        Assert.Equal((1, (long)Page), (_host.SharedRegions.Count, _host.Ledger.UsedBytes));
        content.Dispose();
        content.Dispose();
        Assert.Equal((0, 0L), (_host.SharedRegions.Count, _host.Ledger.UsedBytes));
    }

    [Fact]
    public void What_is_too_much_is_refused_naming_the_setting_and_takes_nothing()
    {
        var most = (ulong)(64 * Page);
        Testing.Fails(() => _host.SharedRegions.Rent(0), EngineError.InvalidArgument, "at least 1 byte");
        Testing.Fails(() => _host.SharedRegions.Rent(most + 1), EngineError.ResourceExhausted, "max_shared_region_bytes");
        Testing.Fails(() => _host.SharedRegions.Rent(ulong.MaxValue), EngineError.ResourceExhausted, "18,446,744,073,709,551,615", "max_shared_region_bytes");
        using var first = _host.SharedRegions.Rent(most);
        Testing.Fails(() => _host.SharedRegions.Rent(most), EngineError.ResourceExhausted, "shared_region_budget_bytes");
        using (_host.SharedRegions.Rent(1))
        using (_host.SharedRegions.Rent(1))
        {
            Testing.Fails(() => _host.SharedRegions.Rent(1), EngineError.ResourceExhausted, "3 of 3", "max_shared_regions");
        }

        Assert.Throws<OperationCanceledException>(() => _host.SharedRegions.Rent(1, new CancellationToken(canceled: true)));
        Assert.Equal((1, (long)most), (_host.SharedRegions.Count, _host.Ledger.UsedBytes));
    }

    [Fact]
    public async Task A_load_is_of_the_copy()
    {
        var module = await _host.CreateEval("m", Testing.Linear(1, 1));
        var file = SafetensorsBytes.File("""{"weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"bias":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"""u8, [.. BitConverter.GetBytes(2f), .. BitConverter.GetBytes(3f)]);
        using var region = _host.SharedRegions.Rent((ulong)file.Length + 1);
        RandomAccess.Write(region.File, file, 0);

        var outcome = await _host.LoadStateSharedAsync("m", default, new SharedStateRef(region.Id, (ulong)file.Length), new LoadPlan(), TestContext.Current.CancellationToken);
        RandomAccess.Write(region.File, new byte[file.Length], 0);

        Assert.Equal((2, 8L, StateFileFormat.Safetensors), (outcome.Load.LoadedTensors, outcome.Bytes, outcome.Format));
        Assert.Equal(5f, Assert.Single(await module.Forward(Testing.Floats([1, 1], 1))));
        await _host.LoadStateSharedAsync("m", default, new SharedStateRef(region.Id), new LoadPlan(), TestContext.Current.CancellationToken).Fails(EngineError.InvalidArgument, "shared region", region.Id[..8]);
    }

    [Fact]
    public void A_message_about_a_region_holds_too_little_to_use_it()
    {
        using var region = _host.SharedRegions.Rent(10);
        RandomAccess.Write(region.File, Encoding.ASCII.GetBytes("no weights"), 0);
        var (content, origin) = _host.SharedRegions.Open(new SharedStateRef(region.Id));

        var error = Testing.Fails(() => StateFiles.Open(content, origin), EngineError.InvalidArgument, "neither a safetensors file nor");

        Assert.Equal("state.region", Assert.Single(error.Fields).Field);
        Assert.DoesNotContain(region.Id, error.Message, StringComparison.Ordinal);
        Assert.Matches("^[0-9a-f]{32}$", region.Id);
    }

    [Fact]
    public async Task A_host_that_is_disposed_takes_all_back_and_makes_no_more()
    {
        var region = _host.SharedRegions.Rent(1);

        await _host.DisposeAsync();

        Assert.True(region.File.IsClosed);
        Assert.Equal((0, 0L), (_host.SharedRegions.Count, _host.Ledger.UsedBytes));
        Testing.Fails(() => _host.SharedRegions.Rent(1), EngineError.Unavailable);
    }

    [Fact]
    public async Task A_host_that_offers_none_names_the_setting()
    {
        await using var host = Testing.Host();
        Testing.Fails(() => host.SharedRegions.Open(new SharedStateRef(new string('0', 32))), EngineError.FailedPrecondition, "shared_memory_socket");
    }

    private const int GetSeals = 1034;
    private const int AddSeals = 1033;
    private const int SealSeal = 1;
    private const int SealShrink = 2;
    private const int SealGrow = 4;
    private const int SealWrite = 8;

    /// <summary>The same memory, opened anew, as one who has it can.</summary>
    private static SafeFileHandle Again(SafeFileHandle file) => System.IO.File.OpenHandle($"/proc/self/fd/{file.DangerousGetHandle()}", FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);

    /// <summary>How much memory it takes, in blocks of 512 bytes.</summary>
    private static unsafe long Blocks(SafeFileHandle file)
    {
        var status = stackalloc byte[256];
        Assert.Equal(0, statx(file, "", 0x1000, 0x400, status));
        return *(long*)(status + 48);
    }

    [LibraryImport("libc")]
    private static partial int fcntl(SafeFileHandle file, int command, int value);

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static unsafe partial int statx(SafeFileHandle directory, string path, int flags, uint mask, byte* status);
}
