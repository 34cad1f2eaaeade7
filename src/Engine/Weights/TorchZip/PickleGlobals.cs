using System.Collections.Frozen;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Weights.TorchZip;

/// <summary>The globals that a state dict needs. Naming any other one ends the reading: nothing is looked up, imported or called by name.</summary>
internal static class PickleGlobals
{
    // With those of element types that this server lacks, so that the error can name the type and the tensor.
    private static readonly (string Storage, string Type, ElementType Element)[] Types =
    [
        ("FloatStorage", "float32", ElementType.Float32),
        ("DoubleStorage", "float64", ElementType.Float64),
        ("HalfStorage", "float16", ElementType.Float16),
        ("BFloat16Storage", "bfloat16", ElementType.BFloat16),
        ("ByteStorage", "uint8", ElementType.UInt8),
        ("CharStorage", "int8", ElementType.Int8),
        ("ShortStorage", "int16", ElementType.Int16),
        ("IntStorage", "int32", ElementType.Int32),
        ("LongStorage", "int64", ElementType.Int64),
        ("BoolStorage", "bool", ElementType.Bool),
        ("ComplexFloatStorage", "complex64", ElementType.Complex64),
        ("ComplexDoubleStorage", "complex128", ElementType.Complex128),
        ("QUInt8Storage", "quint8", ElementType.None),
        ("QInt8Storage", "qint8", ElementType.None),
        ("QInt32Storage", "qint32", ElementType.None),
        ("QUInt4x2Storage", "quint4x2", ElementType.None),
        ("QUInt2x4Storage", "quint2x4", ElementType.None),
        ("", "complex32", ElementType.None),
        ("", "uint16", ElementType.None),
        ("", "uint32", ElementType.None),
        ("", "uint64", ElementType.None),
        ("", "float8_e5m2", ElementType.None),
        ("", "float8_e4m3fn", ElementType.None),
        ("", "float8_e5m2fnuz", ElementType.None),
        ("", "float8_e4m3fnuz", ElementType.None),
        ("", "float8_e8m0fnu", ElementType.None),
        ("", "float4_e2m1fn_x2", ElementType.None),
    ];

    private static readonly FrozenDictionary<string, PickleGlobal> Allowed = All().ToFrozenDictionary(global => global.Name, StringComparer.Ordinal);

    /// <summary>The global of a name; null where it is none of the list.</summary>
    /// <param name="name">Module and name, with a dot between.</param>
    public static PickleGlobal? Find(string name) => Allowed.GetValueOrDefault(name);

    private static IEnumerable<PickleGlobal> All() =>
    [
        new("collections.OrderedDict", GlobalKind.OrderedDict),
        new("torch.Size", GlobalKind.Size),
        new("torch._utils._rebuild_tensor_v2", GlobalKind.Tensor),
        new("torch._utils._rebuild_tensor_v3", GlobalKind.TensorWithType),
        new("torch._utils._rebuild_parameter", GlobalKind.Parameter),
        new("torch._utils._rebuild_parameter_with_state", GlobalKind.ParameterWithState),
        new("torch.storage.UntypedStorage", GlobalKind.UntypedStorage),
        .. Types.Where(type => type.Storage.Length > 0).Select(type => new PickleGlobal($"torch.{type.Storage}", GlobalKind.Storage, type.Element)),
        .. Types.Select(type => new PickleGlobal($"torch.{type.Type}", GlobalKind.Type, type.Element)),
    ];
}
