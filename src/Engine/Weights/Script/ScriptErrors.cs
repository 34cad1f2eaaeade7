namespace Sconce.Engine.Weights.Script;

/// <summary>The errors of this folder. The call that named the file says which one it was.</summary>
internal static class ScriptErrors
{
    /// <summary>A setting that the messages name: what the operator allows beside the list that the server has.</summary>
    public const string OperatorsSetting = "script_operators";

    /// <summary>The file is not as <c>torch.jit.save</c> writes one.</summary>
    /// <param name="what">What was found, and where.</param>
    public static EngineException Malformed(string what) => new(EngineError.InvalidArgument, "SCRIPT_MALFORMED", $"the TorchScript file is not as torch.jit.save writes one: {what}");

    /// <summary>The same, at a place of the code.</summary>
    public static EngineException Malformed(string what, string file, int line) => Malformed($"{what}, {file}:{line}");

    /// <summary>Larger or deeper than is taken.</summary>
    /// <param name="what">What, how much, and what the limit is.</param>
    public static EngineException Limit(string what) => new(EngineError.InvalidArgument, "SCRIPT_LIMIT", $"the TorchScript file is larger than this server takes: {what}");

    /// <summary>Its code uses what the allow-list lacks.</summary>
    /// <param name="uses">What, each with its place.</param>
    public static EngineException Refused(IReadOnlyList<ScriptUse> uses)
    {
        var named = uses.DistinctBy(use => use.What).ToList();
        var shown = string.Join(", ", named.Take(ScriptLimits.Named).Select(use => use.ToString()));
        var more = named.Count > ScriptLimits.Named ? $" and {named.Count - ScriptLimits.Named} more" : "";
        return new EngineException(EngineError.FailedPrecondition, "SCRIPT_OPERATOR_REFUSED",
            $"the code of the TorchScript file uses what this server does not allow: {shown}{more}; the server's operator may add operators to {OperatorsSetting}, e.g. \"aten::empty\"; write the module without the rest");
    }

    /// <summary>Its code calls itself, or may do so.</summary>
    /// <param name="what">How.</param>
    public static EngineException Recursive(string what) => new(EngineError.FailedPrecondition, "SCRIPT_RECURSION",
        $"the code of the TorchScript file may call itself, which ends the process that runs it: {what}; write the module without recursion");
}

/// <summary>Something that the code uses.</summary>
/// <param name="What">It, as a message calls it: <c>aten::from_file</c>, <c>print</c>.</param>
/// <param name="File">The record that holds the code, without the archive's folder.</param>
/// <param name="Line">The line of it, from 1 on.</param>
internal sealed record ScriptUse(string What, string File, int Line)
{
    /// <summary>It with its place.</summary>
    public override string ToString() => $"{What} ({File}:{Line})";
}
