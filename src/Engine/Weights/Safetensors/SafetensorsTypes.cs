using Sconce.Engine.Tensors;

namespace Sconce.Engine.Weights.Safetensors;

/// <summary>The format's names of dtypes.</summary>
internal static class SafetensorsTypes
{
    // Dtypes of the format, up to its version 0.7, for which TorchSharp has none.
    private static readonly HashSet<string> Unsupported = new(StringComparer.Ordinal)
    {
        "U16", "U32", "U64", "F4", "F6_E2M3", "F6_E3M2", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ",
    };

    private static readonly (string Name, ElementType Type)[] Table =
    [
        ("F32", ElementType.Float32), ("F64", ElementType.Float64), ("F16", ElementType.Float16), ("BF16", ElementType.BFloat16), ("U8", ElementType.UInt8), ("I8", ElementType.Int8),
        ("I16", ElementType.Int16), ("I32", ElementType.Int32), ("I64", ElementType.Int64), ("BOOL", ElementType.Bool), ("C64", ElementType.Complex64),
    ];

    /// <summary>The names of those that can be read and written.</summary>
    public static string Names { get; } = string.Join(", ", Table.Select(type => type.Name));

    /// <summary>The format's name of an element type; null where it has none.</summary>
    public static string? NameOf(ElementType type) => Array.Find(Table, known => known.Type == type).Name;

    /// <summary>The element type of a name, which is in upper case; <see cref="ElementType.None"/> for others.</summary>
    public static ElementType Parse(string name) => Array.Find(Table, known => known.Name == name).Type;

    /// <summary>Whether a name is one of the format's that have no element type.</summary>
    public static bool IsUnsupported(string name) => Unsupported.Contains(name);
}
