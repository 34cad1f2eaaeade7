using Microsoft.Extensions.Logging;
using Sconce.Engine.Weights;

namespace Sconce.Engine.Execution;

/// <summary>Reads what loads want of files of weights, wherever those are: off the lanes, a few at a time. It never touches a module.</summary>
/// <param name="turns">As many as read at once.</param>
/// <param name="ledger">Charged before anything is read.</param>
/// <param name="log">Told what was read, and of long reads how far they are.</param>
/// <param name="time">The clock.</param>
internal sealed class StateReading(SemaphoreSlim turns, MemoryLedger ledger, ILogger log, TimeProvider time)
{
    private static readonly TimeSpan ProgressEvery = TimeSpan.FromSeconds(5);

    /// <summary>Reads what a load wants of a file.</summary>
    /// <param name="open">Opens it.</param>
    /// <param name="origin">What holds it, for messages.</param>
    /// <param name="plan">How it will be loaded.</param>
    /// <param name="module">The module's name, for the log.</param>
    /// <param name="check">Refuses what would not fit, before anything is read.</param>
    /// <param name="cancellationToken">Gives up between two tensors.</param>
    /// <returns>The tensors, which the caller disposes, and the file's format.</returns>
    public async Task<(FileState State, StateFileFormat Format)> ReadAsync(
        Func<ByteSource> open, StateOrigin origin, LoadPlan plan, string module, Func<IReadOnlyList<StateEntryInfo>, Task> check, CancellationToken cancellationToken)
    {
        var (file, format) = await InTurn(() => StateFiles.Open(open(), origin), cancellationToken).ConfigureAwait(false);
        using (file)
        {
            // Not in turn: the module may be busy for long, and many such files wait for it.
            using var listed = new MemoryCharge(ledger, MemoryUse.State, $"the list of tensors of {origin.Kind}", origin.Name, StateEntryInfo.BytesOf(file.Entries));
            await check(file.Entries).ConfigureAwait(false);
            var state = await InTurn(() => Read(file, origin, plan, cancellationToken), cancellationToken).ConfigureAwait(false);
            Log.FileRead(log, state.TotalBytes, origin, module);
            return (state, format);
        }
    }

    /// <summary>Runs work on a thread of its own, when it is its turn.</summary>
    public async Task<T> InTurn<T>(Func<T> work, CancellationToken cancellationToken)
    {
        await turns.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            return await Task.Run(work, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            turns.Release();
        }
    }

    private FileState Read(IStateFile file, StateOrigin origin, LoadPlan plan, CancellationToken cancellationToken)
    {
        var last = time.GetTimestamp();
        return FileState.Read(file, plan.Map(file.Entries), ledger, origin, Progress, cancellationToken);

        void Progress(long done, long total)
        {
            if (time.GetElapsedTime(last) >= ProgressEvery)
            {
                last = time.GetTimestamp();
                Log.Reading(log, origin, done, total);
            }
        }
    }
}
