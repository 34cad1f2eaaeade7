using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.Core;

namespace Sconce.Server.Tests.Wire;

/// <summary>A number that an enum of the contract does not have, in every enum field of every request: refused at that field, and never a fault of the server.</summary>
public sealed class EnumTests : IAsyncLifetime
{
    private static readonly V1.Tensor One = Make.Floats([1, 1], 1);

    private static readonly V1.Loss Mse = new() { Type = "MSELoss" };

    /// <summary>Requests that would be served, so that nothing but the enum can be to blame.</summary>
    private static readonly IMessage[] Served =
    [
        new V1.ListModuleTypesRequest(),
        new V1.CreateModuleRequest { Module = "new", Spec = Make.Linear(1, 1) },
        new V1.SetTrainPolicyRequest { Module = "m", Policy = new() },
        new V1.ToRequest { Module = "m" },
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
        new V1.LoadStateDictRequest { Header = new() { Module = "m", Strict = false } },
        new V1.LoadOptimizerStateRequest { Header = new() { Module = "m", State = new() } },
    ];

    private static readonly Dictionary<string, MethodDescriptor> Methods = new[]
        {
            V1.HostService.Descriptor, V1.ModuleService.Descriptor, V1.ExecutionService.Descriptor, V1.TrainingService.Descriptor,
            V1.TensorService.Descriptor, V1.StateService.Descriptor, V1.HookService.Descriptor,
        }
        .SelectMany(service => service.Methods).ToDictionary(method => method.Name, StringComparer.Ordinal);

    private RunningServer _server = null!;

    public static TheoryData<string, string> Fields
    {
        get
        {
            var fields = new TheoryData<string, string>();
            foreach (var method in Methods.Values)
            {
                foreach (var path in EnumFields(method.InputType, []).Select(way => string.Join('.', way.Select(part => part.Name))))
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
    }

    public async ValueTask InitializeAsync()
    {
        _server = await RunningServer.StartAsync();
        await Make.ModuleAsync(_server, "m", Make.Linear(1, 1));
        await _server.Training.CreateOptimizerAsync(new V1.CreateOptimizerRequest { Module = "m", Type = "SGD" });
    }

    public async ValueTask DisposeAsync()
    {
        Assert.Empty(_server.Errors);
        await _server.DisposeAsync();
    }

    [Theory]
    [MemberData(nameof(Fields))]
    public async Task Number_that_the_enum_lacks_is_INVALID_ARGUMENT(string rpc, string path)
    {
        var method = Methods[rpc];
        foreach (var number in (int[])[99, -1])
        {
            var request = Clone(Served.First(served => served.Descriptor == method.InputType));
            if (rpc == "Backward")
            {
                ((V1.BackwardRequest)request).Graph = (await _server.Execution.ForwardAsync(new() { Module = "m", Inputs = { One }, RecordGraph = true })).Graph.Id;
            }

            Set(request, path.Split('.'), number);
            Site(request, path);

            var refused = (await Refused.OfAsync(SendAsync(method, request))).Is(StatusCode.InvalidArgument);
            Assert.True(IsBlamed(path, refused), $"{path} is not among [{string.Join(", ", refused.Fields)}]: {refused.Message}");
            Assert.Contains(number.ToString(System.Globalization.CultureInfo.InvariantCulture), refused.Message, StringComparison.Ordinal);
        }
    }

    /// <summary>The field itself, with or without what stands around it.</summary>
    private static bool IsBlamed(string path, Refused refused)
    {
        var name = path[(path.LastIndexOf('.') + 1)..];
        return refused.Fields.Any(field => field.Split('.')[^1].Split('[')[0] == name);
    }

    private static V1.Hook Hook() => new() { Site = V1.HookSite.Forward, Actions = { new V1.HookAction { Mul = new() { Value = new() { Scalar = 1 } } } } };

    /// <summary>Every way from a message to an enum in it; a message within itself is followed once.</summary>
    private static IEnumerable<FieldDescriptor[]> EnumFields(MessageDescriptor message, FieldDescriptor[] way)
    {
        foreach (var field in message.Fields.InDeclarationOrder())
        {
            if (field.FieldType == FieldType.Enum && field.EnumType.File.Package == "sconce.v1")
            {
                yield return [.. way, field];
            }
            else if (field.FieldType == FieldType.Message && field.MessageType.File.Package == "sconce.v1" && way.All(before => before.MessageType != field.MessageType))
            {
                foreach (var found in EnumFields(field.MessageType, [.. way, field]))
                {
                    yield return found;
                }
            }
        }
    }

    private static void Set(IMessage message, string[] path, int number)
    {
        var field = message.Descriptor.FindFieldByName(path[0]);
        if (path.Length == 1)
        {
            if (field.IsRepeated)
            {
                ((System.Collections.IList)field.Accessor.GetValue(message)).Add(Enum.ToObject(field.EnumType.ClrType, number));
            }
            else
            {
                field.Accessor.SetValue(message, Enum.ToObject(field.EnumType.ClrType, number));
            }

            return;
        }

        Set(Child(message, field), field.IsMap ? path[2..] : path[1..], number);
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
    private async Task SendAsync(MethodDescriptor method, IMessage request)
    {
        var bytes = Marshallers.Create(static (IMessage message) => message.ToByteArray(), static _ => throw new NotSupportedException());
        var answers = Marshallers.Create<IMessage>(static _ => throw new NotSupportedException(), data => method.OutputType.Parser.ParseFrom(data));
        var call = new Method<IMessage, IMessage>(
            method is { IsClientStreaming: true, IsServerStreaming: true } ? MethodType.DuplexStreaming : method.IsClientStreaming ? MethodType.ClientStreaming : MethodType.Unary,
            method.Service.FullName, method.Name, bytes, answers);
        var invoker = _server.Channel.CreateCallInvoker();
        switch (call.Type)
        {
            case MethodType.Unary:
                await invoker.AsyncUnaryCall(call, null, default, request);
                break;
            case MethodType.ClientStreaming:
                using (var upload = invoker.AsyncClientStreamingCall(call, null, default))
                {
                    await upload.RequestStream.WriteAsync(request);
                    await upload.ResponseAsync;
                }

                break;
            default:
                using (var stream = invoker.AsyncDuplexStreamingCall(call, null, default))
                {
                    await stream.RequestStream.WriteAsync(request);
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
