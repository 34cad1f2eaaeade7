using System.Diagnostics;
using Microsoft.Extensions.Logging.Abstractions;
using Sconce.Engine.Execution;
using Sconce.Engine.Snapshots;
using Sconce.Engine.Weights;
using static TorchSharp.torch;

namespace Sconce.Benchmarks.Sides;

/// <summary>Writes 512 MiB of tensors to the disk as a snapshot, and as many zeros as <c>dd</c> does, into one directory under the temporary one (TMPDIR).</summary>
internal sealed class SnapshotWorkloads
{
    /// <summary>Bytes of the tensors together.</summary>
    public const long Bytes = 512 << 20;

    private const int TensorBytes = 4 << 20;
    private const int DdBlock = 4 << 20;

    private readonly string _directory = Directory.CreateTempSubdirectory("sconce-bench-").FullName;
    private readonly SnapshotStore _store;
    private readonly StateSnapshot _state;

    /// <summary>Makes the tensors and the directory, which goes when the process does.</summary>
    public SnapshotWorkloads()
    {
        _store = SnapshotStore.Open(Path.Combine(_directory, "data"), TimeProvider.System, NullLogger.Instance);
        using var scope = NewDisposeScope();
        _state = StateSnapshot.Copy([.. Enumerable.Range(0, (int)(Bytes / TensorBytes)).Select(i => ($"layer{i}.weight", randn(1024, 1024)))], new MemoryLedger(new EngineOptions()), "the state of", "module", 1);
        AppDomain.CurrentDomain.ProcessExit += (_, _) =>
        {
            _store.Dispose();
            _state.Dispose();
            Directory.Delete(_directory, recursive: true);
        };
    }

    private string DdFile => Path.Combine(_directory, "dd");

    /// <summary>What a save does once the copy in memory is made: safetensors, SHA-256, fsync of file and directories, rename, the manifest.</summary>
    public void Save() => _store.Save(
        "module",
        [new SnapshotPart("weights.safetensors", StateFiles.Writer(_state, StateFileFormat.Safetensors))],
        new SnapshotFacts(1, 1, "request"),
        keepLast: 3);

    /// <summary><c>dd if=/dev/zero of=FILE bs=4M conv=fsync</c>.</summary>
    public void Dd()
    {
        using var dd = Process.Start(new ProcessStartInfo("dd", ["if=/dev/zero", $"of={DdFile}", $"bs={DdBlock}", $"count={Bytes / DdBlock}", "conv=fsync", "status=none"]))
            ?? throw new InvalidOperationException("dd did not start");
        dd.WaitForExit();
        if (dd.ExitCode != 0)
        {
            throw new InvalidOperationException($"dd ended with {dd.ExitCode}");
        }
    }

    /// <summary>Deletes what either has written: each writes new files, and neither's time holds a deletion.</summary>
    public void Clear()
    {
        _store.DeleteAll("module");
        File.Delete(DdFile);
    }
}
