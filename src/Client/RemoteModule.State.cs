using Sconce.Client.Internal;
using Sconce.V1;

namespace Sconce.Client;

public sealed partial class RemoteModule
{
    /// <summary>The weights and persistent buffers, of one generation (nn.Module.state_dict).</summary>
    /// <param name="keys">Only keys that match one of these, <c>*</c> and <c>?</c> as wildcards; null is all.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<StateDict> StateDictAsync(IEnumerable<string>? keys = null, CancellationToken cancellationToken = default) =>
        StateDictAsync(new StateDictOptions { Keys = keys ?? [] }, cancellationToken);

    /// <summary>A part of the weights and persistent buffers, of one generation, in a dtype of choice.</summary>
    /// <param name="options">Which part.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<StateDict> StateDictAsync(StateDictOptions options, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        return StateTransfer.ReadAsync(
            Rpc,
            Rpc.State.GetStateDict,
            options.ToRequest(Name, Path),
            part => new StatePart(part.Manifest?.Entries, part.Chunk, part.End, part.Manifest?.Generation ?? 0),
            _settings,
            cancellationToken);
    }

    /// <summary>
    /// Writes the state dict to a file of this machine in the safetensors format, as it comes: nothing of it is held in memory, so its size does not matter.
    /// </summary>
    /// <param name="file">The file; one that is there is replaced, when all has arrived.</param>
    /// <param name="options">Which part; null is all.</param>
    /// <param name="cancellationToken">Stops waiting; then there is no file, or the one before.</param>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public Task<SavedStateDict> SaveStateDictAsync(string file, StateDictOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(file);
        var request = (options ?? new StateDictOptions()).ToRequest(Name, Path);
        request.Framing = StateFraming.Safetensors;
        return StateDownload.SaveAsync(Rpc, request, file, _settings, cancellationToken);
    }

    /// <summary>Loads weights, atomically: everything is checked before anything changes (nn.Module.load_state_dict).</summary>
    /// <param name="state">Tensors by key, from here on. It is sent again where the connection fails, so leave it alone until then.</param>
    /// <param name="strict">Refuse missing and unexpected keys; false reports them. A shape that differs is refused either way.</param>
    /// <param name="cancellationToken">Stops waiting; nothing is loaded unless everything had arrived.</param>
    /// <returns>Missing and unexpected keys, and the new generation.</returns>
    public Task<LoadStateDictResponse> LoadStateDictAsync(StateDict state, bool strict = true, CancellationToken cancellationToken = default) =>
        LoadStateDictAsync(state, new LoadStateDictOptions { Strict = strict }, cancellationToken);

    /// <summary>Loads weights, atomically, under other keys, in part, or by assigning them.</summary>
    /// <param name="state">
    /// Tensors by key, from here on. Where the connection fails a large one goes on from what the server has, and a small one is sent again: leave it alone until then.
    /// </param>
    /// <param name="options">How they are loaded.</param>
    /// <param name="cancellationToken">Stops waiting; nothing is loaded unless everything had arrived.</param>
    /// <returns>Missing and unexpected keys, as the prefixes have made them, and the new generation.</returns>
    public Task<LoadStateDictResponse> LoadStateDictAsync(StateDict state, LoadStateDictOptions options, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(state);
        ArgumentNullException.ThrowIfNull(options);
        var header = new LoadStateDictHeader
        {
            Module = Name,
            Path = Path,
            Strict = options.Strict,
            StripPrefix = options.StripPrefix,
            AddPrefix = options.AddPrefix,
            Keys = { options.Keys },
            Assign = options.Assign,
            RequestId = NewRequestId(),
        };
        header.Entries.AddRange(StateTransfer.Entries(state));
        if (IfGeneration is { } generation)
            header.IfGeneration = generation;
        return new StateUpload(Rpc, header, state, options.Progress, _settings).SendAsync(cancellationToken);
    }

    /// <summary>Loads a file of the server's models directory, atomically; nothing crosses the wire.</summary>
    /// <param name="file">Its name there, with <c>/</c> between folders; <see cref="SconceClient.ListModelFilesAsync"/> lists them.</param>
    /// <param name="options">How it is loaded; null is strictly, as it is.</param>
    /// <param name="rootKey">Where in a PyTorch file the state dict is, e.g. <c>state_dict</c>; empty where it is the whole file.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    /// <returns>Missing and unexpected keys, and the new generation.</returns>
    public Task<LoadStateFileResponse> LoadStateFileAsync(
        string file, LoadStateDictOptions? options = null, string rootKey = "", CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(file);
        var request = new LoadStateFileRequest { Module = Name, Path = Path, File = (options ?? new LoadStateDictOptions()).ToFile(file, rootKey), RequestId = NewRequestId() };
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        return Rpc.UnaryAsync(Rpc.State.LoadStateFileAsync, request, _settings, cancellationToken);
    }

    /// <summary>Writes the state dict to a file of the server's export directory: all of it, on its disk, or nothing.</summary>
    /// <param name="file">Its name there, without folders.</param>
    /// <param name="options">Which part, in which format; null is all of it, by the name's ending.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    /// <returns>The file's size and digest.</returns>
    public Task<SaveStateFileResponse> SaveStateFileAsync(string file, SaveStateFileOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(file);
        options ??= new SaveStateFileOptions();
        var request = new SaveStateFileRequest
        {
            Module = Name,
            Path = Path,
            File = file,
            Format = options.Format,
            Overwrite = options.Overwrite,
            Keys = { options.State.Keys },
            Prefix = options.State.Prefix,
            Dtype = options.State.DType,
            RequestId = NewRequestId(),
        };
        return Rpc.UnaryAsync(Rpc.State.SaveStateFileAsync, request, _settings, cancellationToken);
    }

    /// <summary>The gradients of the parameters that have one, by name.</summary>
    /// <param name="parameters">Only parameters that match one of these, <c>*</c> and <c>?</c> as wildcards; null is all.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<StateDict> GradientsAsync(IEnumerable<string>? parameters = null, CancellationToken cancellationToken = default)
    {
        var request = new GetGradientsRequest { Module = Name, Path = Path, Parameters = { parameters ?? [] } };
        return StateTransfer.ReadAsync(
            Rpc,
            Rpc.Training.GetGradients,
            request,
            part => new StatePart(part.Manifest?.Entries, part.Chunk, part.End, part.Manifest?.Generation ?? 0),
            _settings,
            cancellationToken);
    }
}
