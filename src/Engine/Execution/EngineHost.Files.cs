using Sconce.Engine.Regions;
using Sconce.Engine.Weights;

namespace Sconce.Engine.Execution;

/// <content>Weights in the operator's directories, and in shared memory.</content>
public sealed partial class EngineHost
{
    // More would only share the disk, or the memory's bandwidth. A slow disk does not hold up what is in memory.
    private static readonly SemaphoreSlim DiskTurns = new(2);
    private static readonly SemaphoreSlim SharedMemoryTurns = new(2);

    private readonly StateReading _sharedReading;

    /// <summary>The regions of memory that this process and callers of its host both have.</summary>
    public SharedRegionTable SharedRegions { get; }

    /// <summary>The files of the models directory that can be loaded, by name.</summary>
    /// <param name="prefix">Only names that begin with this; empty lists all.</param>
    /// <param name="cancellationToken">Stops looking.</param>
    /// <returns>The files, at most 10,000, and whether there are more.</returns>
    /// <exception cref="EngineException">The operator has set no models directory.</exception>
    public Task<(IReadOnlyList<ModelFileInfo> Files, bool More)> ListModelFilesAsync(string prefix, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(prefix);
        return _files.ListAsync(prefix, cancellationToken);
    }

    /// <summary>Loads a file of the models directory into a module, all of it or nothing. Keys and shapes are checked, and memory is charged, before tensors are read.</summary>
    /// <param name="module">The module's name.</param>
    /// <param name="target">The submodule; keys are relative to it.</param>
    /// <param name="file">The file.</param>
    /// <param name="plan">How it is loaded.</param>
    /// <param name="cancellationToken">Takes the call back while it reads or waits.</param>
    /// <exception cref="EngineException">There is no such module or file, or it does not fit.</exception>
    public async Task<LoadFileOutcome> LoadStateFileAsync(string module, ChangeTarget target, ModelFileRef file, LoadPlan plan, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(file);
        ArgumentNullException.ThrowIfNull(plan);
        return await LoadStateFileAsync(GetModule(module), target, file, plan, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Writes a module's state dict to a file of the export directory. The module is free while the disk works.</summary>
    /// <param name="module">The module's name.</param>
    /// <param name="selection">Which part of the state dict.</param>
    /// <param name="file">The file's name.</param>
    /// <param name="format">Its format.</param>
    /// <param name="overwrite">Whether it may take the place of one that is there.</param>
    /// <param name="cancellationToken">Takes the call back; then there is no file, or the one before.</param>
    /// <exception cref="EngineException">There is no such module, the name is taken, or the file cannot be written.</exception>
    public async Task<SavedStateFile> SaveStateFileAsync(string module, StateSelection selection, string file, StateFileFormat format, bool overwrite, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(selection);
        ArgumentNullException.ThrowIfNull(file);
        var hosted = GetModule(module);
        _files.CheckWrite(file, format, overwrite);
        using var state = await hosted.GetStateAsync(selection, cancellationToken).ConfigureAwait(false);
        return await _files.WriteAsync(state, module, file, format, overwrite, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>
    /// Loads what a caller has put into a shared region into a module, all of it or nothing, as a file is loaded. Everything is copied before it is checked, so what the caller writes
    /// to the region meanwhile can change what is loaded, or have it refused, and no more.
    /// </summary>
    /// <param name="module">The module's name.</param>
    /// <param name="target">The submodule; keys are relative to it.</param>
    /// <param name="state">The region, and what of it.</param>
    /// <param name="plan">How it is loaded.</param>
    /// <param name="cancellationToken">Takes the call back while it reads or waits.</param>
    /// <exception cref="EngineException">There is no such module or region, or what is in it does not fit.</exception>
    public async Task<LoadFileOutcome> LoadStateSharedAsync(string module, ChangeTarget target, SharedStateRef state, LoadPlan plan, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(state);
        ArgumentNullException.ThrowIfNull(plan);
        return await LoadStateSharedAsync(GetModule(module), target, state, plan, cancellationToken).ConfigureAwait(false);
    }

    private async Task<LoadFileOutcome> LoadStateSharedAsync(HostedModule hosted, ChangeTarget target, SharedStateRef shared, LoadPlan plan, CancellationToken cancellationToken)
    {
        plan.Check();
        var (content, origin) = SharedRegions.Open(shared);

        // Held here too: while it waits for its turn nobody else disposes it.
        using (content)
        {
            var (state, format) = await _sharedReading.ReadAsync(
                () => content, origin, plan, hosted.Name, entries => hosted.CheckStateAsync(target, entries, _ => origin.Field, plan, cancellationToken), cancellationToken).ConfigureAwait(false);
            using (state)
            {
                return new LoadFileOutcome(await hosted.LoadStateAsync(target, state, plan, cancellationToken).ConfigureAwait(false), state.TotalBytes, format);
            }
        }
    }

    private async Task<LoadFileOutcome> LoadStateFileAsync(HostedModule hosted, ChangeTarget target, ModelFileRef file, LoadPlan plan, CancellationToken cancellationToken)
    {
        plan.Check();
        var (state, format) = await _files.ReadAsync(
            file, plan, hosted.Name, entries => hosted.CheckStateAsync(target, entries, _ => file.Field + "name", plan, cancellationToken), cancellationToken).ConfigureAwait(false);
        using (state)
        {
            return new LoadFileOutcome(await hosted.LoadStateAsync(target, state, plan, cancellationToken).ConfigureAwait(false), state.TotalBytes, format);
        }
    }

    // Nobody else knows the module yet.
    private async Task BeginWithAsync(HostedModule module, InitialState initial, MessageState? given, CancellationToken cancellationToken)
    {
        try
        {
            if (initial.File is { } file)
            {
                await LoadStateFileAsync(module, default, file, initial.Plan, cancellationToken).ConfigureAwait(false);
            }
            else if (initial.Shared is { } shared)
            {
                await LoadStateSharedAsync(module, default, shared, initial.Plan, cancellationToken).ConfigureAwait(false);
            }
            else if (given is not null)
            {
                await module.LoadStateAsync(default, given, initial.Plan, cancellationToken).ConfigureAwait(false);
            }

            module.State.Born();
        }
        catch (Exception exception) when (exception is not EngineException { Reason: "STOPPED" })
        {
            // A load that the end of the process has left behind may be using it still.
            module.State.Dispose();
            throw;
        }
    }
}
