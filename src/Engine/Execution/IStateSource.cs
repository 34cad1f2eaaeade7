using static TorchSharp.torch;

namespace Sconce.Engine.Execution;

/// <summary>Tensors with keys that are to be loaded into a module: what a stream brought, or what was read from a file.</summary>
public interface IStateSource
{
    /// <summary>The tensors, in order; no key is there twice.</summary>
    IReadOnlyList<StateEntryInfo> Entries { get; }

    /// <summary>Bytes of all of them together, charged to the ledger already.</summary>
    long TotalBytes { get; }

    /// <summary>Where one of them stands in the request, for errors.</summary>
    /// <param name="entry">Its index; -1 is all of them.</param>
    string FieldOf(int entry);

    /// <summary>Uses the tensors, in the order of <see cref="Entries"/>. They are not disposed before the use has ended, whoever disposes the source meanwhile.</summary>
    /// <typeparam name="T">What the use comes to.</typeparam>
    /// <param name="work">The use. It may let modules share the tensors' storage, which nothing else writes to.</param>
    T Use<T>(Func<IReadOnlyList<(string Key, Tensor Value)>, T> work);
}
