using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;

namespace Sconce.Server.Mapping;

/// <summary>The plans of To and Apply.</summary>
internal static class ConversionMapping
{
    /// <summary>The engine's enum has the contract's values, and the engine refuses those that it does not know.</summary>
    public static ConversionPlan ToPlan(V1.ToRequest request) => new((ConversionKind)request.Conversion, (ElementType)request.Dtype, request.Device, (MemoryFormat)request.MemoryFormat);

    public static ApplyPlan ToPlan(V1.ApplyRequest request) => new(request.Function)
    {
        Type = request.Type,
        IsInstance = request.Isinstance,
        Glob = request.Glob,
        Args = StructMapping.ToArgs(request.Args),
        Parameters = [.. request.Parameters],
    };
}
