using Sconce.Engine.Modules;
using Sconce.Engine.Storage;
using Sconce.Engine.Weights.Safetensors;

namespace Sconce.Engine.Execution;

/// <summary>A file with a copy of a state dict, for other processes of the host to map. It is charged, and there, until this is disposed.</summary>
internal sealed class SharedStateFile : IDisposable
{
    private readonly MemoryCharge _charge;

    private SharedStateFile(string path, long bytes, MemoryCharge charge) => (Path, Bytes, _charge) = (path, bytes, charge);

    public string Path { get; }

    public long Bytes { get; }

    /// <summary>Writes a file that only this process's user may read, under a name that no caller chose.</summary>
    /// <param name="directory">The operator's directory.</param>
    /// <param name="entries">The state dict.</param>
    /// <param name="ledger">Charged before anything is written: the directory is usually memory.</param>
    /// <param name="module">The module's name, for the ledger's message.</param>
    public static SharedStateFile Write(string directory, IReadOnlyList<StateEntry> entries, MemoryLedger ledger, string module)
    {
        var layout = SafetensorsWriter.Layout(entries);
        var bytes = layout.FileBytes;
        var charge = new MemoryCharge(ledger, MemoryUse.State, "the shared memory of module", module, bytes);
        var path = System.IO.Path.Combine(directory, $"{Ids.New("sconce")}.safetensors");
        try
        {
            WholeFile.Write(SystemDisk.Instance, path, WholeFileOptions.Private, stream => SafetensorsWriter.Write(stream, layout, entries));
            return new SharedStateFile(path, bytes, charge);
        }
        catch (Exception exception)
        {
            charge.Dispose();
            throw DiskFailure.Is(exception)
                ? new EngineException(EngineError.FailedPrecondition, "SHARED_MEMORY_UNAVAILABLE",
                    $"{bytes:N0} bytes could not be written to shared_memory_dir: it may be full, or closed to the server; the server's operator can tell", exception)
                : exception;
        }
    }

    public void Dispose()
    {
        // Whoever has mapped it keeps what was mapped.
        Delete(Path);
        _charge.Dispose();
    }

    private static void Delete(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (Exception exception) when (DiskFailure.Is(exception))
        {
            // The directory is the operator's; what cannot be removed there is theirs to remove.
        }
    }
}
