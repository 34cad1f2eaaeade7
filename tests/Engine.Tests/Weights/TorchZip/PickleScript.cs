using System.Buffers.Binary;
using System.Text;

namespace Sconce.Engine.Tests.Weights.TorchZip;

/// <summary>Writes pickles by their opcodes.</summary>
internal sealed class PickleScript
{
    private readonly List<byte> _bytes = [];

    /// <summary>A tensor of PyTorch's, whose numbers may be wrong.</summary>
    public sealed record Given(string Storage = "0", long Count = 4, long Offset = 0, long[]? Sizes = null, long[]? Strides = null, string Type = "FloatStorage");

    /// <summary>The bytes, with the opcodes that every pickle begins and ends with.</summary>
    public byte[] Whole => [0x80, 2, .. _bytes, (byte)'.'];

    /// <summary>The bytes as they are.</summary>
    public byte[] Bytes => [.. _bytes];

    /// <summary>A state dict of one tensor.</summary>
    public static byte[] State(Given tensor) => new PickleScript().Op("}").Text("w").Tensor(tensor).Op("s").Whole;

    /// <summary>A state dict whose one value is what some opcodes make.</summary>
    public static byte[] Value(Func<PickleScript, PickleScript> value) => value(new PickleScript().Op("}").Text("w")).Op("s").Whole;

    public PickleScript Op(string opcodes) => Raw(Encoding.Latin1.GetBytes(opcodes));

    public PickleScript Raw(params byte[] bytes)
    {
        _bytes.AddRange(bytes);
        return this;
    }

    public PickleScript Text(string text)
    {
        var utf8 = Encoding.UTF8.GetBytes(text);
        return Op("X").Raw(ZipScript.U32(utf8.Length)).Raw(utf8);
    }

    public PickleScript Int(long value)
    {
        var bytes = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(bytes, value);
        return Raw([0x8a, 8, .. bytes]);
    }

    public PickleScript Ints(params long[] values)
    {
        Op("(");
        foreach (var value in values)
        {
            Int(value);
        }

        return Op("t");
    }

    public PickleScript Global(string module, string name) => Op($"c{module}\n{name}\n");

    public PickleScript OrderedDict() => Global("collections", "OrderedDict").Op(")R");

    public PickleScript Storage(Given tensor) =>
        Op("(").Text("storage").Global(tensor.Type.Contains('.', StringComparison.Ordinal) ? "torch.storage" : "torch", tensor.Type.Split('.')[^1]).Text(tensor.Storage).Text("cpu").Int(tensor.Count).Op("tQ");

    public PickleScript Tensor(Given tensor) =>
        Global("torch._utils", "_rebuild_tensor_v2").Op("(").Storage(tensor).Int(tensor.Offset).Ints(tensor.Sizes ?? [4]).Ints(tensor.Strides ?? [1]).Raw(0x89).OrderedDict().Op("tR");
}
