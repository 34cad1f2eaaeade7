using Google.Protobuf.WellKnownTypes;
using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Engine.Weights;
using Sconce.Server.Mapping;

namespace Sconce.Server.Services;

/// <summary>State dicts in and out of files in the operator's directories, and in from shared memory.</summary>
internal sealed class StateFileCalls(EngineHost engine)
{
    public async Task<V1.ListModelFilesResponse> ListAsync(V1.ListModelFilesRequest request, CancellationToken cancellationToken)
    {
        var (files, more) = await engine.ListModelFilesAsync(request.Prefix, cancellationToken).ConfigureAwait(false);
        return new V1.ListModelFilesResponse
        {
            Files =
            {
                files.Select(file => new V1.ModelFile { Name = file.Name, Bytes = (ulong)file.Bytes, Format = (V1.StateFileFormat)file.Format, Modified = file.Modified.ToTimestamp() }),
            },
            Truncated = more,
        };
    }

    public async Task<V1.LoadStateFileResponse> LoadAsync(V1.LoadStateFileRequest request, CancellationToken cancellationToken)
    {
        // The module first: without one, nothing about files need be told.
        _ = engine.GetModule(request.Module);
        var (file, plan) = StateMapping.ToFile(request.File ?? throw EngineException.Invalid("file", "is not set; name a file of models_dir, e.g. {\"name\": \"resnet18.safetensors\"}"), "file.");
        var target = new ChangeTarget(request.Path, request.HasIfGeneration ? request.IfGeneration : null);
        var outcome = await engine.LoadStateFileAsync(request.Module, target, file, plan, cancellationToken).ConfigureAwait(false);
        return new V1.LoadStateFileResponse
        {
            MissingKeys = { outcome.Load.MissingKeys },
            UnexpectedKeys = { outcome.Load.UnexpectedKeys },
            Generation = outcome.Load.Generation,
            LoadedTensors = (uint)outcome.Load.LoadedTensors,
            Bytes = (ulong)outcome.Bytes,
            Format = (V1.StateFileFormat)outcome.Format,
        };
    }

    public async Task<V1.LoadStateSharedResponse> LoadSharedAsync(V1.LoadStateSharedRequest request, CancellationToken cancellationToken)
    {
        _ = engine.GetModule(request.Module);
        var (state, plan) = StateMapping.ToShared(request.State ?? throw EngineException.Invalid("state", "is not set; name a region that was rented at shared_memory_socket, e.g. {\"region\": \"0123…\"}"), "state.");
        var target = new ChangeTarget(request.Path, request.HasIfGeneration ? request.IfGeneration : null);
        var outcome = await engine.LoadStateSharedAsync(request.Module, target, state, plan, cancellationToken).ConfigureAwait(false);
        return new V1.LoadStateSharedResponse
        {
            MissingKeys = { outcome.Load.MissingKeys },
            UnexpectedKeys = { outcome.Load.UnexpectedKeys },
            Generation = outcome.Load.Generation,
            LoadedTensors = (uint)outcome.Load.LoadedTensors,
            Bytes = (ulong)outcome.Bytes,
            Format = (V1.StateFileFormat)outcome.Format,
        };
    }

    public async Task<V1.SaveStateFileResponse> SaveAsync(V1.SaveStateFileRequest request, CancellationToken cancellationToken)
    {
        var selection = StateMapping.ToSelection(request);
        var saved = await engine.SaveStateFileAsync(request.Module, selection, request.File, (StateFileFormat)request.Format, request.Overwrite, cancellationToken).ConfigureAwait(false);
        return new V1.SaveStateFileResponse
        {
            File = saved.Name,
            Bytes = (ulong)saved.Bytes,
            Xxh3 = saved.Xxh3,
            Format = (V1.StateFileFormat)saved.Format,
            Tensors = (uint)saved.Tensors,
            Generation = saved.Generation,
        };
    }
}
