using Google.Protobuf;
using Grpc.Core;

namespace Sconce.Server.Interceptors;

/// <summary>Which module and request_id a request names, read by reflection: only on paths that log, never on the hot one.</summary>
internal readonly record struct RequestFacts(string Module, string RequestId)
{
    private const string HeaderKey = "sconce.header";

    /// <summary>Leaves the header of an upload with its call, so that a failure can name what it was for.</summary>
    public static void Remember(ServerCallContext context, IMessage header) => context.UserState[HeaderKey] = header;

    /// <summary>The facts of a request, or of the header that was left with the call.</summary>
    public static RequestFacts Of(IMessage? request, ServerCallContext context) =>
        Of(request ?? (context.UserState.TryGetValue(HeaderKey, out var header) ? header as IMessage : null));

    private static RequestFacts Of(IMessage? request)
    {
        if (request is null)
        {
            return new("", "");
        }

        var module = Text(request, "module");
        var requestId = Text(request, "request_id");
        // The messages of streams, and CallRequest, hold the call one level down.
        foreach (var field in request.Descriptor.Fields.InDeclarationOrder())
        {
            if (module.Length == 0 && field.Name is "forward" or "step" && field.Accessor.GetValue(request) is IMessage inner)
            {
                return Of(inner);
            }
        }

        return new(module, requestId);
    }

    private static string Text(IMessage message, string name)
    {
        var field = message.Descriptor.FindFieldByName(name);
        if (field is not { FieldType: Google.Protobuf.Reflection.FieldType.String, IsRepeated: false })
        {
            return "";
        }

        // Not yet validated when it is logged: quoted where it could break a line, cut where it is long.
        var text = (string)field.Accessor.GetValue(message);
        return text.Length <= 128 && text.All(c => c is > ' ' and < (char)127) ? text : Engine.EngineException.Quote(text);
    }
}
