using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Engine.Regions;
using Sconce.Engine.Weights;

namespace Sconce.Server.Mapping;

/// <summary>What is read of a state dict, and how one is loaded.</summary>
internal static class StateMapping
{
    public static StateSelection ToSelection(V1.GetStateDictRequest request) => new()
    {
        Path = request.Path,
        Keys = [.. request.Keys],
        Prefix = request.Prefix,
        Type = TensorMapping.ToElementType(request.Dtype, "dtype"),
    };

    public static StateSelection ToSelection(V1.SaveStateFileRequest request) => new()
    {
        Path = request.Path,
        Keys = [.. request.Keys],
        Prefix = request.Prefix,
        Type = TensorMapping.ToElementType(request.Dtype, "dtype"),
    };

    public static (ModelFileRef File, LoadPlan Plan) ToFile(V1.StateFile file, string field)
    {
        var plan = new LoadPlan
        {
            Strict = !file.HasStrict || file.Strict,
            StripPrefix = file.StripPrefix,
            AddPrefix = file.AddPrefix,
            Keys = [.. file.Keys],
            Assign = file.Assign,
            Field = field,
        };
        plan.Check();
        return (new ModelFileRef(file.Name, file.RootKey, field), plan);
    }

    public static (SharedStateRef State, LoadPlan Plan) ToShared(V1.SharedState state, string field)
    {
        var plan = new LoadPlan
        {
            Strict = !state.HasStrict || state.Strict,
            StripPrefix = state.StripPrefix,
            AddPrefix = state.AddPrefix,
            Keys = [.. state.Keys],
            Assign = state.Assign,
            Field = field,
        };
        plan.Check();
        return (new SharedStateRef(state.Region, state.Bytes, state.RootKey, field), plan);
    }

    public static LoadPlan ToPlan(V1.LoadStateDictHeader header)
    {
        var plan = new LoadPlan
        {
            Strict = !header.HasStrict || header.Strict,
            StripPrefix = header.StripPrefix,
            AddPrefix = header.AddPrefix,
            Keys = [.. header.Keys],
            Assign = header.Assign,
            Field = "header.",
        };
        plan.Check();
        return plan;
    }

    public static ChangeTarget ToTarget(V1.LoadStateDictHeader header) => new(header.Path, header.HasIfGeneration ? header.IfGeneration : null);

    /// <summary>What a new module begins with; null leaves its initial values.</summary>
    public static InitialState? ToInitial(V1.CreateModuleRequest request)
    {
        if (request.StateShared is { } shared)
        {
            var (state, plan) = ToShared(shared, "state_shared.");
            return request.State.Count == 0 && request.StateFile is null ? new InitialState([], null, plan, state)
                : throw EngineException.Invalid("state_shared", "is set together with state or state_file; a module begins with one of them");
        }

        if (request.StateFile is { } named)
        {
            var (file, plan) = ToFile(named, "state_file.");
            return request.State.Count == 0 ? new InitialState([], file, plan)
                : throw EngineException.Invalid("state_file", "is set together with state; a module begins with one of them");
        }

        return request.State.Count == 0 ? null : new InitialState(
            [.. request.State.Select((entry, i) => KeyValuePair.Create(entry.Key, TensorMapping.ToInput(entry.Tensor ?? new V1.Tensor(), $"state[{i}].", "tensor", -1)))],
            null,
            new LoadPlan { Strict = !request.HasStateStrict || request.StateStrict });
    }

    /// <summary>Whether the chunks are to be a file.</summary>
    public static bool IsFile(V1.StateFraming framing) => framing switch
    {
        V1.StateFraming.Unspecified => false,
        V1.StateFraming.Safetensors => true,
        _ => throw EngineException.Invalid("framing", $"is {(int)framing}, which is no StateFraming of contract {Interceptors.Handshake.ContractVersion}"),
    };
}
