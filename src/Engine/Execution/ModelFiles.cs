using Microsoft.Extensions.Logging;
using Sconce.Engine.Storage;
using Sconce.Engine.Weights;

namespace Sconce.Engine.Execution;

/// <summary>Weights in and out of the operator's directories. It reads and writes off the lanes, a few files at a time, and never touches a module.</summary>
/// <param name="options">What the operator set.</param>
/// <param name="reading">Reads files, and whose turns writing takes too.</param>
/// <param name="log">Told what is written.</param>
internal sealed class ModelFiles(EngineOptions options, StateReading reading, ILogger log)
{
    private const int MaxListed = 10_000;

    private OperatorDirectory Models => options.ModelsDir.Length > 0 ? new(options.ModelsDir, SystemDisk.Instance)
        : throw EngineException.Precondition("MODELS_DIR_OFF", "this server loads no files: its operator has not set models_dir; LoadStateDict takes weights over the wire");

    private OperatorDirectory Exports => options.ExportDir.Length > 0 ? new(options.ExportDir, SystemDisk.Instance)
        : throw EngineException.Precondition("EXPORT_DIR_OFF", "this server writes no files: its operator has not set export_dir; GetStateDict gives weights over the wire, as a file too");

    /// <summary>The files that can be loaded, and whether there are more than are told.</summary>
    public Task<(IReadOnlyList<ModelFileInfo> Files, bool More)> ListAsync(string prefix, CancellationToken cancellationToken)
    {
        var directory = Models;
        return reading.InTurn<(IReadOnlyList<ModelFileInfo>, bool)>(() =>
        {
            var files = new List<ModelFileInfo>();
            foreach (var name in directory.List().Where(name => name.StartsWith(prefix, StringComparison.Ordinal)))
            {
                cancellationToken.ThrowIfCancellationRequested();
                if (Describe(directory, name) is { } file)
                {
                    if (files.Count == MaxListed)
                    {
                        return (files, true);
                    }

                    files.Add(file);
                }
            }

            return (files, false);
        }, cancellationToken);
    }

    /// <summary>Reads what a load wants of a file.</summary>
    /// <param name="named">The file.</param>
    /// <param name="plan">How it will be loaded.</param>
    /// <param name="module">The module's name, for the log.</param>
    /// <param name="check">Refuses what would not fit, before anything is read.</param>
    /// <param name="cancellationToken">Gives up between two tensors.</param>
    /// <returns>The tensors, which the caller disposes, and the file's format.</returns>
    public Task<(FileState State, StateFileFormat Format)> ReadAsync(
        ModelFileRef named, LoadPlan plan, string module, Func<IReadOnlyList<StateEntryInfo>, Task> check, CancellationToken cancellationToken)
    {
        var directory = Models;
        var origin = StateOrigin.Of(named);
        return reading.ReadAsync(() => ByteSource.Owned(directory.OpenRead(named.Name, origin.Field)), origin, plan, module, check, cancellationToken);
    }

    /// <summary>Refuses at once what <see cref="WriteAsync"/> would refuse whatever the module holds.</summary>
    public void CheckWrite(string name, StateFileFormat format, bool overwrite)
    {
        var directory = Exports;
        OperatorDirectory.CheckPlainName(name, "file");
        _ = StateFiles.FormatFor(format, name);
        directory.CheckFree(name, overwrite);
    }

    /// <summary>Writes a copy of a state to a file: all of it, on the disk, under its name, or nothing.</summary>
    public Task<SavedStateFile> WriteAsync(StateSnapshot state, string module, string name, StateFileFormat format, bool overwrite, CancellationToken cancellationToken)
    {
        var directory = Exports;
        var chosen = StateFiles.FormatFor(format, name);
        var write = StateFiles.Writer(state, chosen);
        return reading.InTurn(() =>
        {
            StateFiles.Counted? counted = null;
            directory.Write(name, "file", overwrite, stream => write(counted = new StateFiles.Counted(stream, cancellationToken)));
            Log.FileWritten(log, counted!.Length, module, name);
            return new SavedStateFile(name, counted.Length, counted.Digest, chosen, state.Entries.Count, state.Generation);
        }, cancellationToken);
    }

    /// <summary>Deletes what killed processes have left of files that they wrote.</summary>
    public void DeleteUnfinished()
    {
        foreach (var directory in new[] { options.ExportDir, options.SharedMemoryDir }.Where(path => path.Length > 0).Distinct(StringComparer.Ordinal))
        {
            try
            {
                if (WholeFile.DeleteUnfinished(SystemDisk.Instance, directory) is > 0 and var deleted)
                {
                    Log.UnfinishedDeleted(log, deleted, directory);
                }
            }
            catch (Exception exception) when (DiskFailure.Is(exception))
            {
                // Whoever writes there will be told; a server that only reads can do without.
            }
        }
    }

    private static ModelFileInfo? Describe(OperatorDirectory directory, string name)
    {
        try
        {
            using var file = directory.OpenRead(name, "name");
            using var source = ByteSource.Of(file);
            var format = StateFiles.FormatOf(source);
            return format == StateFileFormat.Unspecified ? null : new ModelFileInfo(name, source.Length, format, File.GetLastWriteTimeUtc(file));
        }
        catch (Exception exception) when (exception is EngineException or IOException or UnauthorizedAccessException)
        {
            // Gone meanwhile, or not for the server to read: nobody could load it.
            return null;
        }
    }
}
