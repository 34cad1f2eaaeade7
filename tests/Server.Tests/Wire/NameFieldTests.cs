using Google.Protobuf.Reflection;
using Grpc.Core;

namespace Sconce.Server.Tests.Wire;

/// <summary>Names of modules and paths of submodules, on every rpc that takes one: malformed, or of nothing that there is.</summary>
public sealed class NameFieldTests : SweepTest
{
    public static TheoryData<string, string> Modules => RequestSweep.Fields(static one => one is { Name: "module", FieldType: FieldType.String, ContainingType.Name: not ("ModuleRef" or "WiringStep") });

    public static TheoryData<string, string> Paths => RequestSweep.Fields(static one => one is { Name: "path", FieldType: FieldType.String, ContainingType.Name: not ("ModuleRef" or "TrainRule" or "Hook") });

    public static TheoryData<string, string> Optimizers => RequestSweep.Fields(static one => one is { Name: "optimizer", FieldType: FieldType.String, ContainingType.Name: not nameof(V1.CreateOptimizerRequest) });

    public static TheoryData<string, string> Patterns => RequestSweep.Fields(static one => one is { Name: "parameters" or "keys" or "frozen" or "names", FieldType: FieldType.String, IsRepeated: true });

    [Theory]
    [MemberData(nameof(Modules))]
    public async Task Malformed_name_of_a_module_is_INVALID_ARGUMENT(string rpc, string path)
    {
        // ManualSeed takes an empty one, for the whole process, and ListSnapshots for all.
        foreach (var name in (string[])[.. rpc is "ManualSeed" or "ListSnapshots" ? Array.Empty<string>() : [""], "../etc/passwd", "-a", "a b", "a\n[ERR] forged", new string('x', 129), "\u00e9"])
        {
            var refused = (await Refused.OfAsync(SendAsync(rpc, path, name))).Is(StatusCode.InvalidArgument);
            Assert.Contains(refused.Fields, field => field.EndsWith("module", StringComparison.Ordinal));
            Assert.True(refused.Message.Length < 1000, "a long name must be cut");
        }
    }

    [Theory]
    [MemberData(nameof(Modules))]
    public async Task Unknown_module_is_NOT_FOUND(string rpc, string path)
    {
        if (rpc is "CreateModule" or "ListSnapshots")
        {
            // It makes one of that name; it lists those of a module that is not held too.
            await SendAsync(rpc, path, "nobody");
            return;
        }

        var refused = (await Refused.OfAsync(SendAsync(rpc, path, "nobody"))).Is(StatusCode.NotFound);
        Assert.Equal(rpc == "RestoreSnapshot" ? "snapshot" : "module", refused.Resource);
        Assert.Contains("nobody", refused.Message, StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Paths))]
    public async Task Unknown_path_is_NOT_FOUND(string rpc, string path)
    {
        foreach (var name in (string[])["nope", "0.nope", ".", "0..1", "a\nb"])
        {
            var refused = (await Refused.OfAsync(SendAsync(rpc, path, name))).Is(StatusCode.NotFound);
            Assert.Equal("submodule", refused.Resource);
        }
    }

    [Theory]
    [MemberData(nameof(Optimizers))]
    public async Task Unknown_optimizer_is_NOT_FOUND(string rpc, string path) =>
        Assert.Equal("optimizer", (await Refused.OfAsync(SendAsync(rpc, path, "nobody"))).Is(StatusCode.NotFound).Resource);

    [Theory]
    [MemberData(nameof(Patterns))]
    public async Task More_patterns_than_one_call_may_give_are_refused(string rpc, string path)
    {
        var request = RequestSweep.Request(rpc, path, "g", static (message, field) =>
        {
            ((Google.Protobuf.Collections.RepeatedField<string>)field.Accessor.GetValue(message)).Add(Enumerable.Repeat("*", 10_001));
            message.Descriptor.FindFieldByName("module")?.Accessor.SetValue(message, "m");
            message.Descriptor.FindFieldByName("function")?.Accessor.SetValue(message, "zeros_");
        });

        var refused = (await Refused.OfAsync(RequestSweep.SendAsync(Server, rpc, request))).Is(StatusCode.InvalidArgument);

        Assert.Contains("at most", refused.Message, StringComparison.Ordinal);
        Assert.Contains(refused.Fields, field => field.EndsWith(path[(path.LastIndexOf('.') + 1)..], StringComparison.Ordinal));
    }

    private async Task SendAsync(string rpc, string path, string name) => await RequestSweep.SendAsync(Server, rpc, RequestSweep.Request(rpc, path, "g", (message, field) =>
    {
        field.Accessor.SetValue(message, name);

        // What the path or the optimizer is in.
        if (field.Name != "module" && message.Descriptor.FindFieldByName("module") is { } module && (string)module.Accessor.GetValue(message) == "")
        {
            module.Accessor.SetValue(message, "m");
        }
    }));
}
