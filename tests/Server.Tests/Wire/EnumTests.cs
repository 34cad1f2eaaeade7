using Google.Protobuf.Reflection;
using Grpc.Core;

namespace Sconce.Server.Tests.Wire;

/// <summary>A number that an enum of the contract does not have, in every enum field of every request: refused at that field, and never a fault of the server.</summary>
public sealed class EnumTests : SweepTest
{
    public static TheoryData<string, string> Fields => RequestSweep.Fields(IsEnum);

    [Theory]
    [MemberData(nameof(Fields))]
    public async Task Number_that_the_enum_lacks_is_INVALID_ARGUMENT(string rpc, string path)
    {
        foreach (var number in (int[])[99, -1])
        {
            var graph = rpc == "Backward" ? (await Server.Execution.ForwardAsync(new() { Module = "m", Inputs = { RequestSweep.One }, RecordGraph = true })).Graph.Id : "";
            var request = RequestSweep.Request(rpc, path, graph, (message, field) =>
            {
                var value = Enum.ToObject(field.EnumType.ClrType, number);
                if (field.IsRepeated)
                {
                    ((System.Collections.IList)field.Accessor.GetValue(message)).Add(value);
                }
                else
                {
                    field.Accessor.SetValue(message, value);
                }
            });

            var refused = (await Refused.OfAsync(RequestSweep.SendAsync(Server, rpc, request))).Is(StatusCode.InvalidArgument);
            Assert.True(IsBlamed(path, refused), $"{path} is not among [{string.Join(", ", refused.Fields)}]: {refused.Message}");
            Assert.Contains(number.ToString(System.Globalization.CultureInfo.InvariantCulture), refused.Message, StringComparison.Ordinal);
        }
    }

    private static bool IsEnum(FieldDescriptor field) => field.FieldType == FieldType.Enum && field.EnumType.File.Package == "sconce.v1";

    /// <summary>The field itself, with or without what stands around it.</summary>
    private static bool IsBlamed(string path, Refused refused)
    {
        var name = path[(path.LastIndexOf('.') + 1)..];
        return refused.Fields.Any(field => field.Split('.')[^1].Split('[')[0] == name);
    }
}
