using System.Collections.Frozen;
using System.Text.RegularExpressions;

namespace Sconce.Engine.Weights.Script;

/// <summary>
/// Which operators the code of a TorchScript file may use: pure math on tensors, and strings and lists, as Operators.txt marks them (script_operators.py says by what rules), and what the
/// operator adds. Never those that read or write files, share another tensor's memory, show memory that nobody wrote, or change what the whole process does.
/// </summary>
internal sealed partial class ScriptOperators
{
    // Of the compiler's own namespace, what its printer writes for pure code.
    private static readonly string[] Compiler =
    [
        "AutogradZero", "BroadcastSizes", "ChunkSizes", "ConstantChunk", "EnumName", "EnumValue", "ModuleContainerIndex", "NumToTensor", "RaiseException", "TupleIndex", "TupleUnpack", "abs", "data", "device", "dtype",
        "index", "is_cpu", "is_cuda", "is_meta", "is_mkldnn", "is_mps", "is_nested", "is_quantized", "is_sparse", "is_sparse_csr", "is_vulkan", "is_xpu", "itemsize", "layout", "max", "min", "nbytes", "rangelist",
        "requires_grad", "shape", "tolist", "type", "unchecked_cast", "unchecked_unwrap_optional",
    ];

    private static readonly (FrozenSet<string> Known, FrozenSet<string> Allowed) Default = Read();

    private readonly FrozenSet<string> _allowed;
    private readonly FrozenSet<string> _added;

    private ScriptOperators(FrozenSet<string> added) => (_allowed, _added) = (added.Count == 0 ? Default.Allowed : Default.Allowed.Concat(added).ToFrozenSet(StringComparer.Ordinal), added);

    /// <summary>Those of this server alone.</summary>
    public static ScriptOperators Standard { get; } = new(FrozenSet<string>.Empty);

    /// <summary>Those of this server and of its operator.</summary>
    /// <param name="more">Qualified names, e.g. <c>aten::empty</c>.</param>
    /// <exception cref="EngineException">A name is no qualified one.</exception>
    public static ScriptOperators With(IEnumerable<string> more)
    {
        var added = more.Select(name => name.Trim()).ToList();
        return added.Find(name => !Qualified().IsMatch(name)) is { } odd
            ? throw EngineException.Invalid(ScriptErrors.OperatorsSetting, $"names {EngineException.Quote(odd)}; an operator is named as its namespace, two colons and its name without an overload, e.g. \"aten::empty\"", "BAD_OPERATOR_NAME")
            : new ScriptOperators(added.ToFrozenSet(StringComparer.Ordinal));
    }

    /// <summary>The same of a setting.</summary>
    /// <param name="setting">Names with commas between; empty for none.</param>
    public static ScriptOperators With(string setting) => With(setting.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries));

    /// <summary>Whether code may use an operator.</summary>
    /// <param name="space">Its namespace.</param>
    /// <param name="name">Its name, without an overload.</param>
    public bool Allows(string space, string name) => _allowed.Contains($"{space}::{name}");

    /// <summary>Whether the server's operator allows an operator by name, whatever else is said of it.</summary>
    /// <param name="space">Its namespace.</param>
    /// <param name="name">Its name, without an overload.</param>
    public bool Adds(string space, string name) => _added.Contains($"{space}::{name}");

    /// <summary>
    /// Whether a tensor has a method of this name: libtorch looks for an operator of the <c>aten</c> namespace where a type has no method of its own, so that a name
    /// of an operator must never be a module's method or attribute too, unless it is allowed.
    /// </summary>
    /// <param name="name">The method.</param>
    public static bool IsTensorMethod(string name) => Default.Known.Contains(name);

    private static (FrozenSet<string> Known, FrozenSet<string> Allowed) Read()
    {
        using var reader = new StreamReader(typeof(ScriptOperators).Assembly.GetManifestResourceStream("Script.Operators.txt")!);
        var (known, allowed) = (new HashSet<string>(StringComparer.Ordinal), new HashSet<string>(StringComparer.Ordinal));
        while (reader.ReadLine() is { } line)
        {
            var name = line[2..];
            _ = known.Add(name);
            if (line[0] == '+')
            {
                _ = allowed.Add($"aten::{name}");
            }
        }

        allowed.UnionWith(Compiler.Select(name => $"prim::{name}"));
        return (known.ToFrozenSet(StringComparer.Ordinal), allowed.ToFrozenSet(StringComparer.Ordinal));
    }

    [GeneratedRegex(@"^[A-Za-z_][A-Za-z_0-9]*::[A-Za-z_][A-Za-z_0-9]*\z")]
    private static partial Regex Qualified();
}
