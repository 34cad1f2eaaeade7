using Sconce.Engine;
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
        };
        plan.Check(field);
        return (new ModelFileRef(file.Name, file.RootKey, field), plan);
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
        };
        plan.Check("header.");
        return plan;
    }

    /// <summary>Whether the chunks are to be a file.</summary>
    public static bool IsFile(V1.StateFraming framing) => framing switch
    {
        V1.StateFraming.Unspecified => false,
        V1.StateFraming.Safetensors => true,
        _ => throw EngineException.Invalid("framing", $"is {(int)framing}, which is no StateFraming of contract {Interceptors.Handshake.ContractVersion}"),
    };
}
