using System.Runtime.InteropServices;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;

namespace Sconce.Server.Tests.Wire;

/// <summary>Requests, briefly.</summary>
internal static class Make
{
    public static V1.Tensor Floats(long[] shape, params float[] values) => Tensor(V1.DataType.Float32, shape, values);

    public static V1.Tensor Longs(long[] shape, params long[] values) => Tensor(V1.DataType.Int64, shape, values);

    public static V1.Tensor Tensor<T>(V1.DataType type, long[] shape, T[] values)
        where T : unmanaged => new() { Dtype = type, Shape = { shape }, Data = ByteString.CopyFrom(MemoryMarshal.AsBytes<T>(values)) };

    public static float[] Floats(V1.Tensor tensor)
    {
        Assert.Equal(V1.DataType.Float32, tensor.Dtype);
        return MemoryMarshal.Cast<byte, float>(tensor.Data.Span).ToArray();
    }

    public static Struct Args(params (string Name, object Value)[] args)
    {
        var result = new Struct();
        foreach (var (name, value) in args)
        {
            result.Fields.Add(name, value switch
            {
                string text => Value.ForString(text),
                bool flag => Value.ForBool(flag),
                _ => Value.ForNumber(Convert.ToDouble(value, System.Globalization.CultureInfo.InvariantCulture)),
            });
        }

        return result;
    }

    /// <summary>A spec in the JSON form of the contract.</summary>
    public static V1.ModuleSpec Spec(string json) => V1.ModuleSpec.Parser.ParseJson(json);

    public static V1.ModuleSpec Linear(int inputs, int outputs, bool bias = true) =>
        new() { Type = "Linear", Args = Args(("in_features", inputs), ("out_features", outputs), ("bias", bias)) };

    public static V1.ModuleSpec Sequential(params V1.ModuleSpec[] children) =>
        new() { Type = "Sequential", Children = { children.Select(child => new V1.ChildSpec { Spec = child }) } };

    public static V1.ForwardRequest Forward(string module, params V1.Tensor[] inputs) => new() { Module = module, Inputs = { inputs } };

    /// <summary>Makes a module in eval mode.</summary>
    public static async Task ModuleAsync(RunningServer server, string name, V1.ModuleSpec spec)
    {
        await server.Modules.CreateModuleAsync(new V1.CreateModuleRequest { Module = name, Spec = spec, Seed = 1 });
        await server.Modules.TrainAsync(new V1.TrainRequest { Module = name, Mode = false });
    }
}
