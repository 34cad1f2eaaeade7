using Sconce.Engine;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;

namespace Sconce.Server.Mapping;

/// <summary>The plans of To and Apply.</summary>
internal static class ConversionMapping
{
    public static ConversionPlan ToPlan(V1.ToRequest request)
    {
        var method = request.Conversion switch
        {
            V1.Conversion.Unspecified => ConversionMethod.To,
            V1.Conversion.Cpu => ConversionMethod.Cpu,
            V1.Conversion.Cuda => ConversionMethod.Cuda,
            V1.Conversion.Type => ConversionMethod.Type,
            V1.Conversion.Float => ConversionMethod.Float,
            V1.Conversion.Double => ConversionMethod.Double,
            V1.Conversion.Half => ConversionMethod.Half,
            V1.Conversion.Bfloat16 => ConversionMethod.BFloat16,
            _ => throw EngineException.Invalid("conversion", $"is {(int)request.Conversion}, which is no Conversion of contract {Interceptors.Handshake.ContractVersion}"),
        };
        return new ConversionPlan(method, (ElementType)request.Dtype, request.Device);
    }

    public static ApplyPlan ToPlan(V1.ApplyRequest request) => new(request.Function, StructMapping.ToArgs(request.Args))
    {
        Type = request.Type,
        IsInstance = request.Isinstance,
        Glob = request.Glob,
        Parameters = [.. request.Parameters],
        Seed = request.HasSeed ? request.Seed : null,
    };
}
