using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Server.Interceptors;
using Sconce.Server.Mapping;

namespace Sconce.Server.Services;

/// <summary>What this process is and can build.</summary>
internal sealed class HostService(EngineHost engine, SconceServerOptions options, ServerInstance instance) : V1.HostService.HostServiceBase
{
    /// <summary>Settings that a caller can run into. Addresses, paths and log settings are the operator's own.</summary>
    private static readonly ServerSetting[] ServerLimits = Array.ConvertAll<string, ServerSetting>(
    [
        "max_message_bytes", "max_calls_per_connection", "drain_timeout", "request_id_retention", "request_id_capacity", "request_id_max_bytes",
        "stream_in_flight", "stream_idle_timeout", "stream_min_bytes_per_second", "session_heartbeat",
    ],
    static name => ServerSettings.Find(name) ?? throw new InvalidOperationException($"there is no setting {name}"));

    public override Task<V1.GetHostResponse> GetHost(V1.GetHostRequest request, ServerCallContext context)
    {
        var host = engine.Describe();
        var response = new V1.GetHostResponse
        {
            Device = host.Device,
            DeviceName = host.DeviceName,
            DeviceUuid = host.DeviceUuid,
            Memory = new V1.Memory
            {
                BudgetBytes = (ulong)host.Memory.BudgetBytes,
                UsedBytes = (ulong)host.Memory.UsedBytes,
                GraphBytes = (ulong)host.Memory.GraphBytes,
                KeptTensorBytes = (ulong)host.Memory.KeptTensorBytes,
                SharedRegionBytes = (ulong)host.Memory.SharedRegionBytes,
                ResidentBytes = (ulong)host.Memory.ResidentBytes,
            },
            LibtorchVersion = host.LibtorchVersion,
            TorchsharpVersion = host.TorchSharpVersion,
            ContractVersion = Handshake.ContractVersion,
            ServerVersion = Handshake.BuildVersion,
            Instance = instance.Id,
            Started = host.Started.ToTimestamp(),
            Modules = (uint)host.Modules,
            LiveGraphs = (uint)host.LiveGraphs,
            Devices = { host.Devices },
        };
        foreach (var (name, value) in host.Limits)
        {
            response.Limits[name] = value;
        }

        foreach (var setting in ServerLimits)
        {
            response.Limits[setting.Name] = setting.Read(options);
        }

        if (engine.IsDurable)
        {
            var progress = engine.Durable.Progress;
            response.Restoration = new V1.Restoration { Total = (uint)progress.Total, Restored = (uint)progress.Restored, Current = progress.Current, Failed = { progress.Failed.ToDictionary() } };
        }

        return Task.FromResult(response);
    }

    public override Task<V1.ListModuleTypesResponse> ListModuleTypes(V1.ListModuleTypesRequest request, ServerCallContext context)
    {
        if (!System.Enum.IsDefined(request.Kind))
        {
            throw EngineException.Invalid("kind", $"is {(int)request.Kind}, which is no TypeKind of contract {Handshake.ContractVersion}");
        }

        var response = new V1.ListModuleTypesResponse();
        var types = engine.Types
            .Where(type => (request.Kind == V1.TypeKind.Unspecified || (int)type.Kind == (int)request.Kind)
                && type.Name.Contains(request.NameContains, StringComparison.OrdinalIgnoreCase))
            .OrderBy(type => type.Kind).ThenBy(type => type.Name, StringComparer.Ordinal);
        foreach (var type in types)
        {
            var result = new V1.ModuleType { Name = type.Name, Kind = (V1.TypeKind)type.Kind, Base = type.Base, Functional = type.Functional, Inputs = { type.Inputs }, Outputs = { type.Outputs }, Methods = { type.Methods } };
            foreach (var argument in type.Arguments)
            {
                result.Arguments.Add(new V1.ModuleTypeArgument
                {
                    Name = argument.Name,
                    Type = argument.Type,
                    Required = argument.Required,
                    DefaultValue = argument.Required ? null : StructMapping.ToValue(argument.Default),
                });
            }

            response.Types_.Add(result);
        }

        return Task.FromResult(response);
    }
}
