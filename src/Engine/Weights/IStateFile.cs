using Sconce.Engine.Execution;
using static TorchSharp.torch;

namespace Sconce.Engine.Weights;

/// <summary>A file of named tensors, open for reading. What the file says of itself was checked whole before it was opened; the tensors' bytes were not read yet.</summary>
internal interface IStateFile : IDisposable
{
    /// <summary>The tensors, in the order of the file.</summary>
    IReadOnlyList<StateEntryInfo> Entries { get; }

    /// <summary>Reads one tensor into native memory of its own, on the CPU. Not charged to the ledger: callers charge what they keep.</summary>
    /// <param name="entry">Its index among <see cref="Entries"/>.</param>
    /// <param name="cancellationToken">Looked at between pieces: what a file says of its length, it need not hold.</param>
    /// <returns>A tensor that the caller disposes.</returns>
    /// <exception cref="EngineException">The file was cut short, or its content differs from its checksum.</exception>
    Tensor Read(int entry, CancellationToken cancellationToken = default);
}
