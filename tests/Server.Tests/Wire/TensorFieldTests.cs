using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.Core;
using Sconce.V1;

namespace Sconce.Server.Tests.Wire;

/// <summary>Tensors whose bytes, shape or type do not agree, in every field of every request that takes one: refused at that field, nothing changed, and the next call is served.</summary>
public sealed class TensorFieldTests : SweepTest
{
    private static readonly (Tensor Tensor, string Field, string Words)[] Malformed =
    [
        (Of(DataType.Float32, [2, 3], 20), "data", "24"),
        (Of(DataType.Float32, [2, 3], 25), "data", "24"),
        (Of(DataType.Float32, [1], 0), "data", "4"),
        (Of(DataType.Float32, [2, -3], 24), "shape[1]", "-3"),
        (Of(DataType.Float32, [1L << 40, 1L << 40], 4), "shape[1]", "2^63"),
        (Of(DataType.Float32, [1L << 62, 1L << 62, 0], 0), "shape[0]", "2^63"),
        (Of(DataType.Float32, [.. Enumerable.Repeat(1L, 65)], 4), "shape", "65"),
        (Of((DataType)99, [1], 4), "dtype", "99"),
        (Of(DataType.Unspecified, [1], 4), "dtype", "dtype"),
        (new Tensor { Dtype = DataType.Bool, Shape = { 1 }, Data = ByteString.CopyFrom([2]) }, "data", "bool"),
        (new Tensor { Dtype = DataType.Float32, Shape = { 1 }, Data = ByteString.CopyFrom(new byte[4]), KeptId = "x" }, "", "kept_id"),
        (new Tensor { KeptId = "../x" }, "kept_id", "../x"),
    ];

    public static TheoryData<string, string> Fields => RequestSweep.Fields(TakesTensors);

    [Theory]
    [MemberData(nameof(Fields))]
    public async Task Malformed_tensor_is_INVALID_ARGUMENT_at_its_field(string rpc, string path)
    {
        var graph = (await Server.Execution.ForwardAsync(new() { Module = "m", Inputs = { RequestSweep.One }, RecordGraph = true })).Graph.Id;
        var before = await StateAsync();

        // PutTensor takes no kept tensor, good or bad: it is to make one.
        foreach (var (tensor, below, words) in Malformed.Where(one => rpc != "PutTensor" || one.Field != "kept_id"))
        {
            var request = RequestSweep.Request(rpc, path, graph, (message, field) => Put(message, field, tensor));

            // Named inputs are inputs by their names.
            var name = path.EndsWith("named_inputs", StringComparison.Ordinal) ? "inputs[\"input\"]" : path[(path.LastIndexOf('.') + 1)..];

            var refused = (await Refused.OfAsync(RequestSweep.SendAsync(Server, rpc, request))).Is(StatusCode.InvalidArgument);

            Assert.True(refused.Fields.Any(field => field.Contains(name, StringComparison.Ordinal) && (field.EndsWith("." + below, StringComparison.Ordinal) || below.Length == 0)),
                $"{below} of {path} is not among [{string.Join(", ", refused.Fields)}]: {refused.Message}");
            Assert.Contains(words, refused.Message, StringComparison.Ordinal);
        }

        Assert.Equal(before, await StateAsync());
        await Server.Execution.ForwardAsync(new() { Module = "m", Inputs = { RequestSweep.One } });
    }

    private static bool TakesTensors(FieldDescriptor field) =>
        field.FieldType == FieldType.Message && (field.IsMap ? field.MessageType.FindFieldByName("value") is { FieldType: FieldType.Message } value && TakesTensors(value) : field.MessageType.FullName == Tensor.Descriptor.FullName);

    private static Tensor Of(DataType type, long[] shape, int bytes) => new() { Dtype = type, Shape = { shape }, Data = ByteString.CopyFrom(new byte[bytes]) };

    private static void Put(IMessage message, FieldDescriptor field, Tensor tensor)
    {
        var value = field.Accessor.GetValue(message);
        switch (value)
        {
            case System.Collections.IDictionary map:
                map["input"] = tensor;
                if (message.Descriptor.FindFieldByName("inputs") is { } positional)
                {
                    positional.Accessor.Clear(message);
                }

                break;
            case System.Collections.IList list:
                list.Clear();
                list.Add(tensor);
                break;
            default:
                field.Accessor.SetValue(message, tensor);
                break;
        }
    }

    /// <summary>What a refused call must have left as it was: the module, and all the memory.</summary>
    private async Task<(ulong Generation, ulong Bytes)> StateAsync() =>
        ((await Server.Modules.GetModuleAsync(new() { Module = "m" })).Module.Generation, (await Server.Host.GetHostAsync(new())).Memory.UsedBytes);
}
