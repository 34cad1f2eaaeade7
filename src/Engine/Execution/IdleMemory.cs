using System.Runtime.InteropServices;

namespace Sconce.Engine.Execution;

/// <summary>
/// Gives freed memory back to the system when nothing runs. glibc keeps an arena for each thread and returns only what is free at its end, and .NET keeps what large messages
/// took until it collects again: after clients with large tensors have gone, hundreds of MiB stay with the process, where neither other processes nor a container's
/// limit know them to be free.
/// </summary>
internal sealed partial class IdleMemory(MemoryLedger ledger, LanePool lanes)
{
    // Of a server that has nothing to do; below that a trim is not worth the pages that the next calls must touch anew.
    private const long Worthwhile = 64L << 20;

    // Other C libraries have none.
    private static readonly bool CanTrim =
        NativeLibrary.TryLoad("libc", typeof(IdleMemory).Assembly, DllImportSearchPath.SafeDirectories, out var library) && NativeLibrary.TryGetExport(library, "malloc_trim", out _);

    private long _uncharged = Uncharged(ledger);

    /// <summary>Trims both heaps where no lane has worked since the last time and the process has grown by more than what is charged.</summary>
    public void Sweep()
    {
        // Under load the free memory is about to be used again.
        if (!CanTrim || !lanes.WasIdle())
        {
            return;
        }

        var uncharged = Uncharged(ledger);
        if (uncharged - _uncharged >= Worthwhile)
        {
            // Blocks, while nothing runs that would wait.
            GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
            _ = malloc_trim(0);
            _uncharged = Uncharged(ledger);
        }
        else
        {
            _uncharged = Math.Min(_uncharged, uncharged);
        }
    }

    private static long Uncharged(MemoryLedger ledger) => Environment.WorkingSet - ledger.UsedBytes;

    [LibraryImport("libc")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int malloc_trim(nuint pad);
}
