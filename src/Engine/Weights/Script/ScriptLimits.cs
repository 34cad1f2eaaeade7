namespace Sconce.Engine.Weights.Script;

/// <summary>
/// What a TorchScript file may make this reader, and libtorch's compiler behind it, hold. Fixed, not settings: far above what <c>torch.jit.save</c> writes.
/// libtorch compiles by recursion, so that what nests or chains deeply enough ends the process with its stack.
/// </summary>
internal static class ScriptLimits
{
    /// <summary>Bytes of one file of code, once unpacked.</summary>
    public const int SourceBytes = 8 << 20;

    /// <summary>Bytes of all code.</summary>
    public const int CodeBytes = 32 << 20;

    /// <summary>Tokens of all code.</summary>
    public const int Tokens = 4 << 20;

    /// <summary>Bytes of <c>data.pkl</c> and of <c>constants.pkl</c>.</summary>
    public const int PickleBytes = 32 << 20;

    /// <summary>Open brackets within one statement, and blocks within blocks.</summary>
    public const int Depth = 64;

    /// <summary>Infix operators, calls of calls and the like within one statement: each takes a level of the compiler's stack.</summary>
    public const int Chain = 256;

    /// <summary>Parts of a qualified name.</summary>
    public const int NameParts = 64;

    /// <summary>Methods of one class.</summary>
    public const int Methods = 256;

    /// <summary>Objects that a pickle holds: the module, its submodules, and others.</summary>
    public const int Objects = 65_536;

    /// <summary>Characters of a type that a pickle names.</summary>
    public const int TypeLength = 4_096;

    /// <summary>Functions and classes that lead to one another.</summary>
    public const int CallDepth = 100;

    /// <summary>Things that one message names.</summary>
    public const int Named = 8;
}
