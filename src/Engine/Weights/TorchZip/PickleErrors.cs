using System.Globalization;

namespace Sconce.Engine.Weights.TorchZip;

/// <summary>What is wrong with a pickle, and at which byte.</summary>
internal static class PickleErrors
{
    private static readonly Dictionary<byte, string> OpcodeNames = new()
    {
        [(byte)'('] = "MARK", [(byte)'.'] = "STOP", [(byte)'0'] = "POP", [(byte)'1'] = "POP_MARK", [(byte)'2'] = "DUP", [(byte)'F'] = "FLOAT", [(byte)'I'] = "INT",
        [(byte)'J'] = "BININT", [(byte)'K'] = "BININT1", [(byte)'L'] = "LONG", [(byte)'M'] = "BININT2", [(byte)'N'] = "NONE", [(byte)'P'] = "PERSID",
        [(byte)'Q'] = "BINPERSID", [(byte)'R'] = "REDUCE", [(byte)'S'] = "STRING", [(byte)'T'] = "BINSTRING", [(byte)'U'] = "SHORT_BINSTRING", [(byte)'V'] = "UNICODE",
        [(byte)'X'] = "BINUNICODE", [(byte)'a'] = "APPEND", [(byte)'b'] = "BUILD", [(byte)'c'] = "GLOBAL", [(byte)'d'] = "DICT", [(byte)'}'] = "EMPTY_DICT",
        [(byte)'e'] = "APPENDS", [(byte)'g'] = "GET", [(byte)'h'] = "BINGET", [(byte)'i'] = "INST", [(byte)'j'] = "LONG_BINGET", [(byte)'l'] = "LIST",
        [(byte)']'] = "EMPTY_LIST", [(byte)'o'] = "OBJ", [(byte)'p'] = "PUT", [(byte)'q'] = "BINPUT", [(byte)'r'] = "LONG_BINPUT", [(byte)'s'] = "SETITEM",
        [(byte)'t'] = "TUPLE", [(byte)')'] = "EMPTY_TUPLE", [(byte)'u'] = "SETITEMS", [(byte)'G'] = "BINFLOAT", [(byte)'B'] = "BINBYTES", [(byte)'C'] = "SHORT_BINBYTES",
        [0x80] = "PROTO", [0x81] = "NEWOBJ", [0x82] = "EXT1", [0x83] = "EXT2", [0x84] = "EXT4", [0x85] = "TUPLE1", [0x86] = "TUPLE2", [0x87] = "TUPLE3",
        [0x88] = "NEWTRUE", [0x89] = "NEWFALSE", [0x8a] = "LONG1", [0x8b] = "LONG4", [0x8c] = "SHORT_BINUNICODE", [0x8d] = "BINUNICODE8", [0x8e] = "BINBYTES8",
        [0x8f] = "EMPTY_SET", [0x90] = "ADDITEMS", [0x91] = "FROZENSET", [0x92] = "NEWOBJ_EX", [0x93] = "STACK_GLOBAL", [0x94] = "MEMOIZE", [0x95] = "FRAME",
        [0x96] = "BYTEARRAY8", [0x97] = "NEXT_BUFFER", [0x98] = "READONLY_BUFFER",
    };

    /// <summary>PyTorch's writer makes no such thing.</summary>
    /// <param name="at">Byte of the opcode.</param>
    /// <param name="what">What is wrong.</param>
    public static EngineException Malformed(int at, string what) => new(EngineError.InvalidArgument, "PICKLE_MALFORMED", $"the PyTorch file's data.pkl is malformed at byte {at:N0}: {what}");

    /// <summary>More than the reader holds.</summary>
    /// <param name="at">Byte of the opcode.</param>
    /// <param name="what">What, and what the limit is.</param>
    public static EngineException Limit(int at, string what) => TorchZipErrors.Limit($"at byte {at:N0} of data.pkl, {what}");

    /// <summary>Something that a pickle may do, and a state dict need not.</summary>
    /// <param name="at">Byte of the opcode.</param>
    /// <param name="what">What.</param>
    public static EngineException Refused(int at, string what) => new(EngineError.InvalidArgument, "PICKLE_REFUSED",
        $"the PyTorch file's data.pkl is refused at byte {at:N0}: {what}. A pickle is a program: only what a state dict needs is taken; save module.state_dict(), and nothing else with it");

    /// <summary>An opcode that is not on the list.</summary>
    /// <param name="at">Its byte.</param>
    /// <param name="opcode">It.</param>
    public static EngineException Opcode(int at, byte opcode) =>
        Refused(at, OpcodeNames.TryGetValue(opcode, out var name) ? $"opcode {name}" : $"opcode 0x{opcode.ToString("x2", CultureInfo.InvariantCulture)}, which no pickle has");

    /// <summary>A global that is not on the list.</summary>
    /// <param name="at">Byte of the opcode.</param>
    /// <param name="name">Its dotted name.</param>
    public static EngineException Global(int at, string name) => Refused(at, $"global {EngineException.Quote(name)}");
}
