using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.Core;

namespace Sconce.Server.Tests.Wire;

/// <summary>Every request of the contract, each of which would be served, and every way into it to a field of some kind: what is put there is all that is wrong.</summary>
internal static class RequestSweep
{
    public static readonly V1.Tensor One = Make.Floats([1, 1], 1);

    private static readonly V1.Loss Mse = new() { Type = "MSELoss" };

    /// <summary>Requests that would be served, so that nothing but what is put into them can be to blame.</summary>
    private static readonly IMessage[] Served =
    [
        new V1.ListModuleTypesRequest(),
        new V1.CreateModuleRequest { Module = "new", Spec = Make.Linear(1, 1) },
        new V1.SetTrainPolicyRequest { Module = "m", Policy = new() },
        new V1.ToRequest { Module = "m", Dtype = V1.DataType.Float32 },
        new V1.CopyModuleRequest { Module = "m", Copy = "copy" },
        new V1.CreateOptimizerRequest { Module = "m", Type = "SGD", Optimizer = "new" },
        new V1.AddParamGroupRequest { Module = "m", Group = new() { Parameters = { "*" } } },
        new V1.ClipGradientsRequest { Module = "m", Clip = new() { MaxNorm = 1 } },
        new V1.RegisterParameterRequest { Module = "m", Name = "p", Tensor = One },
        new V1.RegisterBufferRequest { Module = "m", Name = "b", Tensor = One },
        new V1.AddModuleRequest { Module = "m", Name = "new", Spec = Make.Linear(1, 1) },
        new V1.ForwardRequest { Module = "m", Inputs = { One } },
        new V1.ForwardStreamRequest { Forward = new() { Module = "m", Inputs = { One } } },
        new V1.CallRequest { Forward = new() { Module = "m", Inputs = { One } } },
        new V1.BackwardRequest { Module = "m", OutputGrads = { One } },
        new V1.ForwardBackwardRequest { Module = "m", Inputs = { One }, Targets = { One }, Loss = Mse },
        new V1.TrainStepRequest { Module = "m", Inputs = { One }, Targets = { One }, Loss = Mse },
        new V1.TrainStreamRequest { Step = new() { Module = "m", Inputs = { One }, Targets = { One }, Loss = Mse }, StopOnError = true },
        new V1.PutTensorRequest { Tensor = One },
        new V1.RegisterHookRequest { Module = "m", Hook = Hook() },
        new V1.GetStateDictRequest { Module = "m" },
        new V1.LoadStateDictRequest { Header = new() { Module = "m", Strict = false } },
        new V1.SetSnapshotPolicyRequest { Module = "m", Policy = new() },
        new V1.LoadStateFileRequest { Module = "m", File = new() { Name = "m.safetensors" } },
        new V1.LoadStateSharedRequest { Module = "m", State = new() },
        new V1.SaveStateFileRequest { Module = "m", File = "out.safetensors", Overwrite = true },
        new V1.LoadOptimizerStateRequest { Header = new() { Module = "m", State = new() } },
    ];

    public static readonly Dictionary<string, MethodDescriptor> Methods = new[]
        {
            V1.HostService.Descriptor, V1.ModuleService.Descriptor, V1.ExecutionService.Descriptor, V1.TrainingService.Descriptor,
            V1.TensorService.Descriptor, V1.StateService.Descriptor, V1.HookService.Descriptor,
        }
        .SelectMany(service => service.Methods).ToDictionary(method => method.Name, StringComparer.Ordinal);

    /// <summary>The ways to fields of a kind, each under the name of its rpc.</summary>
    /// <param name="isWanted">Which fields.</param>
    public static TheoryData<string, string> Fields(Func<FieldDescriptor, bool> isWanted)
    {
        var fields = new TheoryData<string, string>();
        foreach (var method in Methods.Values)
        {
            foreach (var path in Ways(method.InputType, [], isWanted).Select(way => string.Join('.', way.Select(part => part.Name))))
            {
                // A Backward takes no hook that could leave a module out, so its site is to blame and not what is in it.
                if (method.Name != "Backward" || !path.Contains(".skip.", StringComparison.Ordinal))
                {
                    fields.Add(method.Name, path);
                }
            }
        }

        return fields;
    }

    /// <summary>The request of an rpc with something put at the end of a way.</summary>
    /// <param name="rpc">The rpc.</param>
    /// <param name="path">The way.</param>
    /// <param name="graph">A live graph, for Backward.</param>
    /// <param name="put">Puts it into a field of a message.</param>
    public static IMessage Request(string rpc, string path, string graph, Action<IMessage, FieldDescriptor> put)
    {
        var request = Clone(Served.FirstOrDefault(served => served.Descriptor == Methods[rpc].InputType) ?? New(Methods[rpc].InputType));
        if (request is V1.BackwardRequest backward)
        {
            backward.Graph = graph;
        }

        At(request, path.Split('.'), put);
        Site(request, path);
        return request;
    }

    private static V1.Hook Hook() => new() { Site = V1.HookSite.Forward, Actions = { new V1.HookAction { Mul = new() { Value = new() { Scalar = 1 } } } } };

    /// <summary>Every way from a message to a field in it; a message within itself is followed once.</summary>
    private static IEnumerable<FieldDescriptor[]> Ways(MessageDescriptor message, FieldDescriptor[] way, Func<FieldDescriptor, bool> isWanted)
    {
        foreach (var field in message.Fields.InDeclarationOrder())
        {
            if (isWanted(field))
            {
                yield return [.. way, field];
            }
            else if (field.FieldType == FieldType.Message && field.MessageType.File.Package == "sconce.v1" && way.All(before => before.MessageType != field.MessageType))
            {
                foreach (var found in Ways(field.MessageType, [.. way, field], isWanted))
                {
                    yield return found;
                }
            }
        }
    }

    private static void At(IMessage message, string[] path, Action<IMessage, FieldDescriptor> put)
    {
        var field = message.Descriptor.FindFieldByName(path[0]);
        if (path.Length == 1)
        {
            put(message, field);
            return;
        }

        At(Child(message, field), field.IsMap ? path[2..] : path[1..], put);
    }

    /// <summary>What stands in a field; made where there is none.</summary>
    private static IMessage Child(IMessage message, FieldDescriptor field)
    {
        var value = field.Accessor.GetValue(message);
        if (field.IsMap)
        {
            var tensor = One.Clone();
            ((System.Collections.IDictionary)value)["input"] = tensor;
            return tensor;
        }

        if (value is System.Collections.IList list)
        {
            if (list.Count == 0)
            {
                list.Add(New(field.MessageType));
            }

            return (IMessage)list[0]!;
        }

        if (value is null)
        {
            field.Accessor.SetValue(message, value = New(field.MessageType));
        }

        return (IMessage)value;
    }

    private static IMessage New(MessageDescriptor type) => type.Name switch
    {
        nameof(V1.Tensor) => One.Clone(),
        nameof(V1.Hook) => Hook(),
        nameof(V1.LerpAction) => new V1.LerpAction { Weight = 0.5 },
        _ => type.Parser.ParseFrom(ByteString.Empty),
    };

    /// <summary>Puts a hook where its action can stand.</summary>
    private static void Site(IMessage request, string path)
    {
        var hook = request is V1.RegisterHookRequest registering ? registering.Hook : Hooks(request).FirstOrDefault();
        if (hook is not null && !path.EndsWith("site", StringComparison.Ordinal))
        {
            hook.Site = path.Contains(".cast.", StringComparison.Ordinal) ? V1.HookSite.StateDict
                : path.Contains(".skip.", StringComparison.Ordinal) ? V1.HookSite.ForwardPre
                : request is V1.BackwardRequest ? V1.HookSite.ParamGrad
                : hook.Site;
        }
    }

    /// <summary>The hooks that a request carries.</summary>
    private static IEnumerable<V1.Hook> Hooks(IMessage request) => request.Descriptor.Fields.InDeclarationOrder()
        .Select(field => field.Accessor.GetValue(request))
        .SelectMany(value => value is IEnumerable<V1.Hook> hooks ? hooks : value is IMessage message and (V1.ForwardRequest or V1.TrainStepRequest) ? Hooks(message) : []);

    private static IMessage Clone(IMessage message) => message.Descriptor.Parser.ParseFrom(message.ToByteString());

    /// <summary>Sends a request as the first message of its call.</summary>
    public static async Task SendAsync(RunningServer server, string rpc, IMessage request)
    {
        if (request is V1.LoadStateSharedRequest { State: { } state })
        {
            // Its id is the server's to choose.
            state.Region = server.Region;
        }

        var method = Methods[rpc];
        var bytes = Marshallers.Create(static (IMessage message) => message.ToByteArray(), static _ => throw new NotSupportedException());
        var answers = Marshallers.Create<IMessage>(static _ => throw new NotSupportedException(), data => method.OutputType.Parser.ParseFrom(data));
        var call = new Method<IMessage, IMessage>(
            method is { IsClientStreaming: true, IsServerStreaming: true } ? MethodType.DuplexStreaming : method.IsClientStreaming ? MethodType.ClientStreaming
                : method.IsServerStreaming ? MethodType.ServerStreaming : MethodType.Unary,
            method.Service.FullName, method.Name, bytes, answers);
        var invoker = server.Channel.CreateCallInvoker();
        switch (call.Type)
        {
            case MethodType.Unary:
                await invoker.AsyncUnaryCall(call, null, default, request);
                break;
            case MethodType.ServerStreaming:
                using (var download = invoker.AsyncServerStreamingCall(call, null, default, request))
                {
                    while (await download.ResponseStream.MoveNext(default))
                    {
                    }
                }

                break;
            case MethodType.ClientStreaming:
                using (var upload = invoker.AsyncClientStreamingCall(call, null, default))
                {
                    await upload.RequestStream.TryWriteAsync(request);
                    await upload.ResponseAsync;
                }

                break;
            default:
                using (var stream = invoker.AsyncDuplexStreamingCall(call, null, default))
                {
                    await stream.RequestStream.TryWriteAsync(request);
                    Assert.True(await stream.ResponseStream.MoveNext(default));
                    if (stream.ResponseStream.Current is V1.ForwardStreamResponse { Error: { } error })
                    {
                        throw new Google.Rpc.Status { Code = error.Code, Message = error.Message, Details = { error.Details } }.ToRpcException();
                    }
                }

                break;
        }
    }
}
