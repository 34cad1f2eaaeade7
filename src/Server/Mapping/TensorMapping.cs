using Google.Protobuf.Collections;
using Google.Protobuf.WellKnownTypes;
using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Engine.Tensors;

namespace Sconce.Server.Mapping;

/// <summary>Tensors of the contract to and from those of the engine. Bytes are shared both ways, never copied here.</summary>
internal static class TensorMapping
{
    /// <summary>A tensor of a request, by content or by id; "no tensor" is None.</summary>
    public static TensorInput ToInput(V1.Tensor tensor, string prefix, string name, int index)
    {
        if (tensor.HasData)
        {
            return tensor.HasKeptId
                ? throw Both(Path(prefix, name, index))
                : TensorInput.Of(new TensorPayload((ElementType)tensor.Dtype, tensor.Shape, tensor.Data.Memory));
        }

        if (tensor.HasKeptId)
        {
            return TensorInput.Kept(tensor.KeptId, ToElementType(tensor.Dtype, Path(prefix, name, index) + ".dtype"));
        }

        return tensor.Dtype == V1.DataType.Unspecified && tensor.Shape.Count == 0
            ? TensorInput.None
            : throw EngineException.Invalid(
                Path(prefix, name, index), "has a dtype or a shape but neither data nor kept_id; send one of them, or leave all out for None", "TENSOR_WITHOUT_PAYLOAD");
    }

    /// <summary>An element type, or none where it is unspecified; what is neither is refused.</summary>
    public static ElementType ToElementType(V1.DataType type, string field) => (uint)type <= (uint)V1.DataType.Complex128
        ? (ElementType)type
        : throw EngineException.Invalid(field, $"is {(int)type}, which is no DataType of contract {Interceptors.Handshake.ContractVersion}");

    /// <summary>Tensors by position.</summary>
    public static TensorInput[] ToInputs(RepeatedField<V1.Tensor> tensors, string prefix, string name, bool allowNone = true)
    {
        var inputs = new TensorInput[tensors.Count];
        for (var i = 0; i < inputs.Length; i++)
        {
            inputs[i] = ToInput(tensors[i], prefix, name, i);
            if (!allowNone && inputs[i].IsNone)
            {
                throw Missing(Path(prefix, name, i));
            }
        }

        return inputs;
    }

    /// <summary>Inputs by position and by name. <paramref name="prefix"/> is where they stand in the request, e.g. <c>step.</c>.</summary>
    public static CallInputs ToCallInputs(RepeatedField<V1.Tensor> inputs, MapField<string, V1.Tensor> named, string prefix)
    {
        var positional = ToInputs(inputs, prefix, "inputs");
        if (named.Count == 0)
        {
            return new CallInputs(positional, null, prefix);
        }

        var byName = new List<KeyValuePair<string, TensorInput>>(named.Count);
        foreach (var (name, tensor) in named)
        {
            byName.Add(new(name, ToInput(tensor, prefix, $"inputs[{EngineException.Quote(name)}]", -1)));
        }

        return new CallInputs(positional, byName, prefix);
    }

    /// <summary>A tensor that must come with its content.</summary>
    public static TensorPayload ToPayload(V1.Tensor? tensor, string field)
    {
        if (tensor is null)
        {
            throw Missing(field);
        }

        if (tensor.HasKeptId)
        {
            throw tensor.HasData ? Both(field) : EngineException.Invalid(field, "has a kept_id; only data can be kept");
        }

        return tensor.HasData ? new TensorPayload((ElementType)tensor.Dtype, tensor.Shape, tensor.Data.Memory) : throw Missing(field);
    }

    public static V1.Tensor ToTensor(TensorExport tensor, IResponseMemory memory) =>
        new() { Dtype = (V1.DataType)tensor.Type, Shape = { tensor.Shape }, Data = memory.Bytes(tensor) };

    /// <summary>What a module returned. None, which only an item of a tuple can be, is "no tensor".</summary>
    public static V1.Value ToValue(OutputValue value, IResponseMemory memory)
    {
        if (value.Tensor is { } tensor)
        {
            return new V1.Value { Tensor = ToTensor(tensor, memory) };
        }

        if (value.Items is not { } items)
        {
            return new V1.Value { Tensor = new V1.Tensor() };
        }

        var tuple = new V1.ValueList();
        foreach (var item in items)
        {
            tuple.Items.Add(ToValue(item, memory));
        }

        return new V1.Value { Tuple = tuple };
    }

    public static V1.KeptTensor ToKeptTensor(KeptTensorInfo info) => new()
    {
        Id = info.Id,
        Dtype = (V1.DataType)info.Type,
        Shape = { info.Shape },
        Bytes = (ulong)info.Bytes,
        Session = info.Session,
        Expires = info.Expires.ToTimestamp(),
    };

    /// <summary>A time to live; null where none is given.</summary>
    public static TimeSpan? ToTtl(Duration? duration, string field)
    {
        if (duration is null)
        {
            return null;
        }

        // Duration.ToTimeSpan throws on what it calls not normalized, and would overflow on the rest.
        if (duration.Nanos is <= -1_000_000_000 or >= 1_000_000_000 || Math.Abs((decimal)duration.Seconds) > 315_576_000_000m)
        {
            throw EngineException.Invalid(field, $"has {duration.Seconds} seconds and {duration.Nanos} nanos; a duration has at most 315576000000 seconds and fewer than 1000000000 nanos");
        }

        var ttl = TimeSpan.FromSeconds(duration.Seconds) + TimeSpan.FromTicks(duration.Nanos / TimeSpan.NanosecondsPerTick);
        return ttl > TimeSpan.Zero ? ttl : throw EngineException.Invalid(field, $"is {Configuration.Units.Format(ttl)}; it must be > 0");
    }

    private static string Path(string prefix, string name, int index) => index < 0 ? prefix + name : $"{prefix}{name}[{index}]";

    private static EngineException Both(string field) =>
        EngineException.Invalid(field, "has both data and kept_id; send exactly one of them", "TENSOR_WITH_TWO_PAYLOADS");

    private static EngineException Missing(string field) =>
        EngineException.Invalid(field, "holds no tensor; a tensor with dtype, shape and data is required here", "TENSOR_WITHOUT_PAYLOAD");
}
