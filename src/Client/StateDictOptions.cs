using Sconce.V1;

namespace Sconce.Client;

/// <summary>Which part of a state dict is read, and in which dtype.</summary>
public sealed class StateDictOptions
{
    /// <summary>Only keys that match one of these, <c>*</c> and <c>?</c> as wildcards; empty is all. At most 10,000.</summary>
    public IEnumerable<string> Keys { get; init; } = [];

    /// <summary>Only keys that begin with this, e.g. <c>encoder.</c>; they keep it. Empty is all.</summary>
    public string Prefix { get; init; } = "";

    /// <summary>A floating dtype that floating tensors are cast to on the server; unspecified leaves them. The module stays as it is.</summary>
    public DataType DType { get; init; }

    internal GetStateDictRequest ToRequest(string module, string path) => new() { Module = module, Path = path, Keys = { Keys }, Prefix = Prefix, Dtype = DType };
}

/// <summary>How a state dict is loaded; the default is PyTorch's.</summary>
public sealed class LoadStateDictOptions
{
    /// <summary>Refuse missing and unexpected keys; false reports them. A shape that differs is refused either way.</summary>
    public bool Strict { get; init; } = true;

    /// <summary>Taken from the keys that begin with it, e.g. <c>module.</c> of DataParallel; the others stay.</summary>
    public string StripPrefix { get; init; } = "";

    /// <summary>Put before every key, after <see cref="StripPrefix"/>.</summary>
    public string AddPrefix { get; init; } = "";

    /// <summary>Loads a part: only keys that match one of these, as the prefixes have made them; the rest is neither loaded nor missing nor unexpected. Empty is all.</summary>
    public IEnumerable<string> Keys { get; init; } = [];

    /// <summary>
    /// PyTorch's <c>assign=True</c>: parameters and buffers take the tensors with their dtype. Optimizers, hooks and ties go on with them; gradients go.
    /// </summary>
    public bool Assign { get; init; }

    /// <summary>Told of an upload's progress, after each piece; after a broken connection it goes on from what the server has. Not for files of the server and shared memory.</summary>
    public IProgress<UploadProgress>? Progress { get; init; }

    internal SharedState ToShared(SharedRegion region, long bytes, string rootKey) => new()
    {
        Region = region.Id,
        Bytes = (ulong)bytes,
        RootKey = rootKey,
        Strict = Strict,
        StripPrefix = StripPrefix,
        AddPrefix = AddPrefix,
        Keys = { Keys },
        Assign = Assign,
    };

    internal StateFile ToFile(string name, string rootKey) => new()
    {
        Name = name,
        RootKey = rootKey,
        Strict = Strict,
        StripPrefix = StripPrefix,
        AddPrefix = AddPrefix,
        Keys = { Keys },
        Assign = Assign,
    };
}

/// <summary>How far an upload is.</summary>
/// <param name="SentBytes">Bytes handed to the connection, those that the server has from a connection before among them.</param>
/// <param name="TotalBytes">Bytes of all tensors.</param>
public readonly record struct UploadProgress(long SentBytes, long TotalBytes);

/// <summary>What was written to a file.</summary>
/// <param name="Generation">Generation of the module at the copy.</param>
/// <param name="Tensors">How many tensors.</param>
/// <param name="TotalBytes">Bytes of all tensors together.</param>
/// <param name="FileBytes">Bytes of the file.</param>
/// <param name="Xxh3">XXH3 (64 bit) of the file's bytes.</param>
public sealed record SavedStateDict(ulong Generation, int Tensors, long TotalBytes, long FileBytes, ulong Xxh3);
